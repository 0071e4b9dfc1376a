//! Lists of words: in the settings themselves, in a file, or published.

use std::fs;
use std::path::Path;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::eval::templates;
use crate::eval::templates::Published;

/// Words in the settings themselves, or where they stand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Words {
    /// The words.
    List(Vec<String>),
    /// The name of a published data set, or a text file with one a line.
    Named(String),
}

impl Words {
    /// The published data set of this name, if it is one.
    pub(super) fn published(&self) -> Option<Published> {
        match self {
            Words::List(_) => None,
            Words::Named(name) => templates::find(name),
        }
    }

    /// The words; of a published data set, those that `part` takes.
    pub(super) fn read(&self, part: impl Fn(Published) -> Vec<String>) -> Result<Vec<String>> {
        match (self, self.published()) {
            (_, Some(published)) => Ok(part(published)),
            (Words::List(words), _) => Ok(words.clone()),
            (Words::Named(name), _) => lines(Path::new(name)).with_context(|| {
                format!("{name} is neither a file nor published; there are {}", templates::names())
            }),
        }
    }

    /// The same with a file found beside the settings that name it.
    pub(super) fn beside(self, folder: &Path) -> Words {
        match self {
            Words::Named(name) if templates::find(&name).is_none() => {
                Words::Named(folder.join(name).display().to_string())
            }
            words => words,
        }
    }
}

/// The lines of a text file; empty ones at the end are none.
pub(super) fn lines(path: &Path) -> Result<Vec<String>> {
    let cannot = || format!("cannot read {}", path.display());
    let text = fs::read_to_string(path).with_context(cannot)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text).trim_end();
    ensure!(!text.is_empty(), "{} is empty", path.display());
    Ok(text.lines().map(|line| line.trim().to_owned()).collect())
}
