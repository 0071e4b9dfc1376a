//! Pictures with any number of texts each.

use std::path::PathBuf;

use anyhow::Result;
use anyhow::bail;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::eval::data::Pictures;

/// Which data set, and how it is to be read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CaptionedConfig {
    /// A dataset, the folder of a run, or a JSON list of `image` and `caption`s.
    pub data: PathBuf,
    /// What it is called in results; unset: the name of the file or folder.
    pub name: Option<String>,
    /// Where the pictures of a JSON list are; unset: beside it.
    pub images: Option<PathBuf>,
    /// Column with the text, or with a list of texts; unset: recognised.
    pub text_column: Option<String>,
    /// Which rows count: an expression over their columns, as `split == 'test'`.
    #[serde(rename = "where")]
    pub filter: Option<String>,
    /// What stands before each text; RWKV-CLIP's own evaluation has `a photo of `.
    pub prefix: String,
    /// Which part of CLIP_benchmark's layout; unset: `test`.
    pub split: Option<String>,
}

/// Pictures with texts.
pub struct Captioned {
    /// What it is called.
    pub name: String,
    /// The texts, with their prefix.
    pub texts: Vec<String>,
    /// The picture of each text.
    pub image_of: Vec<usize>,
    pictures: Pictures,
}

impl Captioned {
    /// Finds the pictures and their texts.
    ///
    /// # Errors
    /// When the data cannot be read or have no text.
    pub fn open(_config: &CaptionedConfig) -> Result<Captioned> {
        bail!("captioned data are not read yet")
    }

    /// The pictures.
    pub fn pictures(&self) -> &Pictures {
        &self.pictures
    }
}
