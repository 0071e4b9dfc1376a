//! The data sets of a suite, opened: their answers are in memory, their pictures on disk.

use std::path::Path;

use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use serde_json::Value;
use serde_json::json;

use crate::eval::data::Captioned;
use crate::eval::data::CaptionedConfig;
use crate::eval::data::Labelled;
use crate::eval::data::LabelledConfig;
use crate::eval::result::Task;
use crate::eval::result::hash_of;
use crate::eval::suite::LabelledTasks;
use crate::eval::suite::PartConfig;
use crate::eval::suite::names;

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
        ensure_apart(&judged, [&train, &validation])?;
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

    /// What decides the result of a task: the settings, and the answers that they led to, because data
    /// and the files that settings name may change under the same path.
    pub(super) fn settings(&self, task: Task) -> Value {
        match self {
            Data::Labelled(parts) => {
                let Parts { settings, judged, train, validation } = &**parts;
                let data =
                    LabelledConfig { classes: None, templates: None, ..settings.data.clone() };
                let read = json!([data, judged.classes, judged.metric, answers(judged)]);
                let others = [train, validation].map(|part| part.as_ref().map(answers));
                match task {
                    Task::LinearProbe => json!([read, settings.probe, others]),
                    _ => json!([read, judged.called, judged.templates]),
                }
            }
            Data::Captioned(settings, data) => {
                let images: Vec<String> = data.image_of.iter().map(usize::to_string).collect();
                let words = data.pictures().keys().iter().chain(&data.texts).chain(&images);
                json!([settings, hash_of(words.map(String::as_str))])
            }
        }
    }

    /// What is to be known about how it was read.
    pub(super) fn note(&self) -> Option<String> {
        let Data::Labelled(parts) = self else { return None };
        let note = parts.judged.note.as_ref()?;
        Some(format!("{}: {note}", parts.judged.name))
    }

    fn path(&self) -> &Path {
        match self {
            Data::Labelled(parts) => &parts.settings.data.data,
            Data::Captioned(settings, _) => &settings.data,
        }
    }

    /// The name, where nobody gave it.
    fn name_of_itself(&mut self) -> Option<&mut String> {
        let (told, name) = match self {
            Data::Labelled(parts) => (&parts.settings.data.name, &mut parts.judged.name),
            Data::Captioned(settings, data) => (&settings.name, &mut data.name),
        };
        told.is_none().then_some(name)
    }
}

/// Different data that would be called the same, because nobody gave them a name, get the names of
/// folders before theirs.
pub(super) fn tell_apart(data: &mut [Data]) {
    let told_apart = {
        let places: Vec<(&str, &Path)> =
            data.iter().map(|data| (data.name(), data.path())).collect();
        names::told_apart(&places)
    };
    for (data, name) in data.iter_mut().zip(told_apart) {
        if let Some(own) = data.name_of_itself() {
            *own = name;
        }
    }
}

/// A hash of the names and classes of pictures.
fn answers(data: &Labelled) -> String {
    let targets: Vec<String> = data.targets().iter().map(usize::to_string).collect();
    hash_of(data.pictures().keys().iter().chain(&targets).map(String::as_str))
}

/// Another part of the same data, with the same classes.
fn other(settings: &LabelledTasks, judged: &Labelled, part: &PartConfig) -> Result<Labelled> {
    let config = part.of(&settings.data);
    let opened = Labelled::open(&config)?;
    ensure!(
        opened.classes == judged.classes,
        "{}: the parts of a linear probe have other classes; name them with `classes`",
        config.data.display()
    );
    Ok(opened)
}

/// No picture is in two parts: it would be known when it is judged, or when the regulariser is chosen.
fn ensure_apart(judged: &Labelled, [train, validation]: [&Option<Labelled>; 2]) -> Result<()> {
    let pairs = [
        ("judged and learned from", Some(judged), train.as_ref()),
        ("judged and used for validation", Some(judged), validation.as_ref()),
        ("learned from and used for validation", train.as_ref(), validation.as_ref()),
    ];
    for (what, one, other) in pairs {
        let Some((one, other)) = one.zip(other) else { continue };
        if let Some(key) = one.pictures().shared_with(other.pictures()) {
            bail!(
                "{}: picture {key} is {what}; a `where` or a `split` keeps the parts of a linear probe \
                 apart",
                judged.name
            );
        }
    }
    Ok(())
}
