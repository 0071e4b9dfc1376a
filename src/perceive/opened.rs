//! The models of a run, opened and checked but not loaded, and the views of a picture they want.

use std::path::Path;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;

use crate::decode::View;
use crate::models::folder;
use crate::models::folder::Kind;
use crate::models::folder::ModelFolder;
use crate::models::folder::Safety;
use crate::models::pull;
use crate::perceive::Config;
use crate::perceive::input::Input;

/// The models of a run; every worker loads its sessions from this.
#[derive(Clone)]
pub struct Models {
    pub(crate) config: Config,
    pub(crate) tagger: Option<Opened<folder::Tagger>>,
    pub(crate) detector: Option<Opened<folder::Detector>>,
    pub(crate) captioner: Option<Opened<folder::Captioner>>,
    pub(crate) safety: Option<Opened<folder::Safety>>,
    /// Distinct inputs of the networks; models that want the same share one.
    pub(crate) inputs: Vec<Input>,
    /// Distinct views of a picture; inputs that differ only in normalisation share one.
    views: Vec<View>,
}

/// One folder, with what its kind needs.
#[derive(Clone)]
pub(crate) struct Opened<P> {
    pub(crate) folder: ModelFolder,
    pub(crate) plan: P,
    /// Index into [`Models::inputs`].
    pub(crate) input: usize,
}

impl Models {
    /// Opens the folders that the configuration names.
    pub fn open(config: &Config) -> Result<Models> {
        config.check().context("configuration of perceive")?;
        let mut models = Models {
            config: config.clone(),
            tagger: None,
            detector: None,
            captioner: None,
            safety: None,
            inputs: Vec::new(),
            views: Vec::new(),
        };
        if let Some(path) = &config.tagger {
            models.open_tagger(path)?;
        }
        if let Some(path) = &config.detector {
            models.open_detector(path)?;
        }
        if let Some(path) = &config.captioner {
            models.open_captioner(path)?;
        }
        if let Some(path) = &config.safety {
            models.open_safety(path)?;
        }
        Ok(models)
    }

    /// What a [`Glimpse`](crate::perceive::Glimpse) has to hold, in this order.
    pub fn views(&self) -> &[View] {
        &self.views
    }

    /// The opened folders, for provenance.
    pub fn folders(&self) -> impl Iterator<Item = &ModelFolder> {
        let tagger = self.tagger.iter().map(|m| &m.folder);
        let detector = self.detector.iter().map(|m| &m.folder);
        let captioner = self.captioner.iter().map(|m| &m.folder);
        tagger.chain(detector).chain(captioner).chain(self.safety.iter().map(|m| &m.folder))
    }

    fn open_tagger(&mut self, path: &Path) -> Result<()> {
        let folder = ModelFolder::open_as(path, self.config.precision)?;
        let Kind::Tagger(plan) = folder.kind.clone() else { return wrong_kind(&folder, "tagger") };
        let input = self.share(Input::of(&plan.preprocessing));
        self.tagger = Some(Opened { folder, plan, input });
        Ok(())
    }

    fn open_detector(&mut self, path: &Path) -> Result<()> {
        let folder = ModelFolder::open_as(path, self.config.precision)?;
        let Kind::Detector(plan) = folder.kind.clone() else {
            return wrong_kind(&folder, "detector");
        };
        let input = self.share(Input::letterbox(plan.width, plan.height));
        self.detector = Some(Opened { folder, plan, input });
        Ok(())
    }

    fn open_captioner(&mut self, path: &Path) -> Result<()> {
        let folder = ModelFolder::open_as(path, self.config.precision)?;
        let Kind::Captioner(plan) = folder.kind.clone() else {
            return wrong_kind(&folder, "captioner");
        };
        if !plan.generation.ignored.is_empty() {
            let ignored = plan.generation.ignored.join(", ");
            tracing::warn!(
                "{}: generation settings not followed: {ignored}; captions may differ from those \
                 of transformers",
                path.display()
            );
        }
        let input = self.share(Input::of(&plan.preprocessing));
        self.captioner = Some(Opened { folder, plan, input });
        Ok(())
    }

    /// A folder of that kind, or of a tagger that has a label for what is unsafe.
    fn open_safety(&mut self, path: &Path) -> Result<()> {
        let folder = ModelFolder::open_as(&pull::classifier(path)?, self.config.precision)?;
        let plan = match folder.kind.clone() {
            Kind::Safety(plan) => plan,
            Kind::Tagger(tagger) => Safety::of_tagger(tagger)
                .with_context(|| format!("cannot use {} for safety", folder.path.display()))?,
            _ => return wrong_kind(&folder, "safety classifier"),
        };
        let input = self.share(Input::of(&plan.classifier.preprocessing));
        self.safety = Some(Opened { folder, plan, input });
        Ok(())
    }

    /// The index of an input, which is added if no model wanted it before.
    fn share(&mut self, input: Input) -> usize {
        if !self.views.contains(&input.view) {
            self.views.push(input.view.clone());
        }
        self.inputs.iter().position(|known| *known == input).unwrap_or_else(|| {
            self.inputs.push(input);
            self.inputs.len() - 1
        })
    }
}

fn wrong_kind(folder: &ModelFolder, wanted: &str) -> Result<()> {
    let found = folder.kind.as_str();
    bail!(
        "{} holds a {found}, not a {wanted}: give it as the {found}, or name another folder",
        folder.path.display()
    )
}
