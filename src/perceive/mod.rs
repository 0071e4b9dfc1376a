//! What vision models see: a batch of pictures in, tags and captions out.
//!
//! [`Models::open`] reads model folders and says which views of a picture they want; a worker calls
//! [`Perceiver::load`] once and owns the sessions, because an ONNX Runtime session is not to be
//! shared between threads. A picture that a model fails on is a reject with a reason, never an
//! error of the batch. Nothing here decodes files, knows the run, or judges what the models say.

use std::path::Path;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;

use crate::decode::Pixels;
use crate::decode::View;
use crate::models::folder;
use crate::perceive::caption::Caption;
use crate::perceive::caption::Captioner;
use crate::perceive::detect::Detector;
use crate::perceive::input::Input;
use crate::perceive::network::ImageNetwork;
use crate::perceive::network::Images;
use crate::perceive::opened::Opened;
use crate::perceive::safety::Classifier;
use crate::perceive::session::Network;
use crate::perceive::tag::Tagger;
use crate::sample::Reject;
use crate::sample::Safety;
use crate::sample::Synthetic;
use crate::sample::Tag;

mod caption;
mod config;
mod decoder;
mod detect;
pub mod doctor;
mod input;
mod network;
mod nms;
mod opened;
mod safety;
mod search;
mod session;
mod tag;

pub use config::Config;
pub use opened::Models;
pub use search::EarlyStopping;
pub use session::ExecutionProvider;
pub use session::OnnxRuntime;

/// A picture as the models are to see it.
#[derive(Clone, Debug)]
pub struct Glimpse {
    /// Pixels of the upright original; boxes are given in these.
    pub original_width: u32,
    /// Pixels of the upright original.
    pub original_height: u32,
    /// One for each of [`Models::views`], in that order.
    pub views: Vec<Pixels>,
}

/// What the models say about a picture.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Percept {
    /// The tagger's, then the detector's; best first within each.
    pub tags: Vec<Tag>,
    /// The caption, unless there is no captioner or it said nothing.
    pub caption: Option<Synthetic>,
    /// How unsafe it is; none without a safety classifier.
    pub safety: Option<Safety>,
}

/// Loaded models; belongs to one worker thread.
pub struct Perceiver {
    models: Models,
    tagger: Option<Tagger>,
    detector: Option<Detector>,
    captioner: Option<Captioner>,
    safety: Option<Classifier>,
    /// One for each of [`Models::inputs`], kept to be filled again.
    tensors: Vec<Vec<f32>>,
}

impl Perceiver {
    /// Loads the networks into sessions of their own.
    pub fn load(runtime: &OnnxRuntime, models: &Models) -> Result<Perceiver> {
        let perceiver = Perceiver {
            tagger: models.tagger.as_ref().map(|m| load_tagger(runtime, models, m)).transpose()?,
            detector: models
                .detector
                .as_ref()
                .map(|m| load_detector(runtime, models, m))
                .transpose()?,
            captioner: models
                .captioner
                .as_ref()
                .map(|m| load_captioner(runtime, models, m))
                .transpose()?,
            safety: models.safety.as_ref().map(|m| load_safety(runtime, models, m)).transpose()?,
            tensors: vec![Vec::new(); models.inputs.len()],
            models: models.clone(),
        };
        Ok(perceiver)
    }

    /// One that sees nothing, for runs without models: it needs no ONNX Runtime.
    pub fn without_models(models: &Models) -> Perceiver {
        Perceiver {
            tagger: None,
            detector: None,
            captioner: None,
            safety: None,
            tensors: vec![Vec::new(); models.inputs.len()],
            models: models.clone(),
        }
    }

    /// What a [`Glimpse`] has to hold, in this order.
    pub fn views(&self) -> &[View] {
        self.models.views()
    }

    /// Looks at a batch. The outer error means that a glimpse has not the views that were asked
    /// for; whatever a model does wrong is the reject of its row.
    pub fn perceive(&mut self, batch: &[Glimpse]) -> Result<Vec<Result<Percept, Reject>>> {
        self.fill(batch)?;
        let mut percepts = vec![Ok(Percept::default()); batch.len()];
        if let (Some(classifier), Some(opened)) = (&mut self.safety, &self.models.safety) {
            let images = images(&self.models, &self.tensors, opened.input, batch.len());
            let rated = classifier.rate(images, self.models.config.max_nsfw);
            merge(&mut percepts, rated, |percept, safety| percept.safety = Some(safety));
        }
        if let (Some(tagger), Some(opened)) = (&mut self.tagger, &self.models.tagger) {
            let images = images(&self.models, &self.tensors, opened.input, batch.len());
            let config = &self.models.config;
            let tags = tagger.tag(images, config.tag_threshold, config.max_tags);
            merge(&mut percepts, tags, |percept, tags| percept.tags.extend(tags));
        }
        if let (Some(detector), Some(opened)) = (&mut self.detector, &self.models.detector) {
            let images = images(&self.models, &self.tensors, opened.input, batch.len());
            let sizes: Vec<_> =
                batch.iter().map(|g| (g.original_width, g.original_height)).collect();
            let tags = detector.detect(images, &sizes, self.models.config.thresholds());
            merge(&mut percepts, tags, |percept, tags| percept.tags.extend(tags));
        }
        if let (Some(captioner), Some(opened)) = (&mut self.captioner, &self.models.captioner) {
            let images = images(&self.models, &self.tensors, opened.input, batch.len());
            let model = &opened.folder.label;
            merge(&mut percepts, captioner.caption(images), |percept, Caption { text, .. }| {
                let said = !text.is_empty();
                percept.caption = said.then(|| Synthetic { text, model: model.clone() });
            });
        }
        Ok(percepts)
    }

    /// Turns the views of a batch into one tensor for each input.
    fn fill(&mut self, batch: &[Glimpse]) -> Result<()> {
        let views = self.models.views().len();
        let all_seen = batch.iter().all(|glimpse| glimpse.views.len() == views);
        ensure!(all_seen, "a glimpse has not the {views} views that were asked for");
        for (input, tensor) in self.models.inputs.iter().zip(&mut self.tensors) {
            let view = self.models.views().iter().position(|v| *v == input.view);
            let view = view.context("an input has no view")?;
            tensor.clear();
            for glimpse in batch {
                input.append(&glimpse.views[view], tensor)?;
            }
        }
        Ok(())
    }
}

fn images<'a>(models: &Models, tensors: &'a [Vec<f32>], input: usize, rows: usize) -> Images<'a> {
    let Input { width, height, .. } = models.inputs[input];
    Images { rows, width, height, data: &tensors[input] }
}

/// Adds what one model found; the first reject of a row stays.
fn merge<T>(
    percepts: &mut [Result<Percept, Reject>],
    found: Vec<Result<T, Reject>>,
    add: impl Fn(&mut Percept, T),
) {
    for (percept, found) in percepts.iter_mut().zip(found) {
        match (percept.as_mut(), found) {
            (Ok(percept), Ok(found)) => add(percept, found),
            (Ok(_), Err(reject)) => *percept = Err(reject),
            (Err(_), _) => {}
        }
    }
}

fn load_tagger(
    runtime: &OnnxRuntime,
    models: &Models,
    opened: &Opened<folder::Tagger>,
) -> Result<Tagger> {
    let network = image_network(runtime, models, &opened.plan.model, opened.input)?;
    Tagger::new(network, &opened.plan, opened.folder.label.clone())
}

fn load_detector(
    runtime: &OnnxRuntime,
    models: &Models,
    opened: &Opened<folder::Detector>,
) -> Result<Detector> {
    let network = image_network(runtime, models, &opened.plan.model, opened.input)?;
    Detector::new(network, &opened.plan, opened.folder.label.clone())
}

fn load_captioner(
    runtime: &OnnxRuntime,
    models: &Models,
    opened: &Opened<folder::Captioner>,
) -> Result<Captioner> {
    let rules = models.config.rules(&opened.plan.generation);
    let options = models.config.session_options();
    Captioner::open(runtime, &opened.plan, rules, options, opened.folder.label.clone())
}

fn load_safety(
    runtime: &OnnxRuntime,
    models: &Models,
    opened: &Opened<folder::Safety>,
) -> Result<Classifier> {
    let network = image_network(runtime, models, &opened.plan.classifier.model, opened.input)?;
    Classifier::new(network, &opened.plan, opened.folder.label.clone())
}

fn image_network(
    runtime: &OnnxRuntime,
    models: &Models,
    path: &Path,
    input: usize,
) -> Result<ImageNetwork> {
    let network = Network::open(runtime, path, models.config.session_options())?;
    ImageNetwork::new(network, models.inputs[input].shape())
}

#[cfg(test)]
mod parity;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_out_of_range_is_refused_by_name() {
        let said = |config: Config| format!("{:#}", Models::open(&config).err().unwrap());
        let config = Config { tag_threshold: 1.5, ..Config::default() };
        assert!(said(config).contains("tag_threshold is 1.5"));
        assert!(said(Config { beams: 0, ..Config::default() }).contains("beams is 0"));
        let config = Config { detection_iou: f32::NAN, ..Config::default() };
        assert!(said(config).contains("detection_iou is NaN"));
    }

    #[test]
    fn without_models_nothing_is_seen_and_nothing_fails() {
        let models = Models::open(&Config::default()).unwrap();
        assert!(models.views().is_empty());
        assert_eq!(models.folders().count(), 0);
    }

    /// Workers are threads: they share the models and take a perceiver each.
    #[test]
    fn workers_can_have_them() {
        fn is_send<T: Send>() {}
        fn is_shared<T: Send + Sync>() {}
        is_send::<Perceiver>();
        is_shared::<(Models, OnnxRuntime)>();
    }
}
