//! The data sets of a suite, opened: their answers are in memory, their pictures on disk.

use std::collections::HashSet;

use anyhow::Result;
use anyhow::ensure;
use serde_json::Value;
use serde_json::json;

use crate::eval::data::Captioned;
use crate::eval::data::CaptionedConfig;
use crate::eval::data::Labelled;
use crate::eval::result::Task;
use crate::eval::suite::LabelledTasks;
use crate::eval::suite::PartConfig;

/// A data set with its settings.
pub(super) enum Data<'a> {
    Labelled(Box<Parts<'a>>),
    Captioned(&'a CaptionedConfig, Box<Captioned>),
}

/// Pictures with classes, in their parts.
pub(super) struct Parts<'a> {
    pub(super) settings: &'a LabelledTasks,
    pub(super) judged: Labelled,
    pub(super) train: Option<Labelled>,
    pub(super) validation: Option<Labelled>,
}

impl<'a> Data<'a> {
    pub(super) fn labelled(settings: &'a LabelledTasks) -> Result<Data<'a>> {
        let judged = Labelled::open(&settings.data)?;
        let is_probed = settings.tasks.contains(&Task::LinearProbe);
        let part = |part: &Option<PartConfig>| match part {
            Some(part) if is_probed => other(settings, &judged, part).map(Some),
            _ => Ok(None),
        };
        let (train, validation) = (part(&settings.probe.train)?, part(&settings.probe.validation)?);
        Ok(Data::Labelled(Box::new(Parts { settings, judged, train, validation })))
    }

    pub(super) fn captioned(settings: &'a CaptionedConfig) -> Result<Data<'a>> {
        Ok(Data::Captioned(settings, Box::new(Captioned::open(settings)?)))
    }

    pub(super) fn name(&self) -> &str {
        match self {
            Data::Labelled(parts) => &parts.judged.name,
            Data::Captioned(_, data) => &data.name,
        }
    }

    pub(super) fn tasks(&self) -> &[Task] {
        match self {
            Data::Labelled(parts) => &parts.settings.tasks,
            Data::Captioned(..) => &[Task::Retrieval],
        }
    }

    /// What decides the result of a task.
    pub(super) fn settings(&self, task: Task) -> Result<Value> {
        Ok(match self {
            // Files that the settings name count by what stands in them, so what was read is told too.
            Data::Labelled(parts) => match (task, &parts.settings, &parts.judged) {
                (Task::LinearProbe, settings, judged) => {
                    json!([settings.data, judged.classes, judged.metric, settings.probe])
                }
                (_, settings, judged) => {
                    json!([settings.data, judged.classes, judged.metric, judged.templates])
                }
            },
            Data::Captioned(settings, _) => json!(settings),
        })
    }
}

/// Another part of the same data, with the same classes and none of the same pictures.
fn other(settings: &LabelledTasks, judged: &Labelled, part: &PartConfig) -> Result<Labelled> {
    let config = part.of(&settings.data);
    let opened = Labelled::open(&config)?;
    ensure!(
        opened.classes == judged.classes,
        "{}: the parts of a linear probe have other classes; name them with `classes`",
        config.data.display()
    );
    // Folders of two splits may well have files of the same name.
    if config.data == settings.data.data && config.split == settings.data.split {
        let keys: HashSet<&String> = judged.pictures().keys().iter().collect();
        if let Some(key) = opened.pictures().keys().iter().find(|key| keys.contains(key)) {
            anyhow::bail!(
                "{}: picture {key} is in two parts of a linear probe; a `where` or a `split` keeps \
                 them apart",
                config.data.display()
            );
        }
    }
    Ok(opened)
}
