//! Pictures with one class each.

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
pub struct LabelledConfig {
    /// Its folder or file.
    pub data: PathBuf,
    /// What it is; unset: found out.
    pub format: Option<Format>,
    /// What it is called in results; unset: the published list that names its classes or templates,
    /// else the name of the file or folder.
    pub name: Option<String>,
    /// Names of the classes, in the order of their numbers: a list, a text file with one a line, or
    /// the name of a published data set; unset: as the data say.
    pub classes: Option<Words>,
    /// Sentences with `{}` for the name of a class: a list, a text file, or the name of a published
    /// data set; unset: as the data say, else `a photo of a {}.`
    pub templates: Option<Words>,
    /// Column of rows with the class.
    pub label_column: Option<String>,
    /// Which rows count: an expression over their columns, as `split == 'test'`.
    #[serde(rename = "where")]
    pub filter: Option<String>,
    /// Which number stands for the whole; unset: as published, else top-1.
    pub metric: Option<Metric>,
    /// Which part: a folder of that name, or files whose names begin so; of CIFAR and webdataset
    /// unset means `test`.
    pub split: Option<String>,
}

/// Words in the settings themselves, or where they stand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Words {
    /// The words.
    List(Vec<String>),
    /// A text file with one a line, or the name of a published data set.
    Named(String),
}

/// What labelled data can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// A folder for each class.
    Folder,
    /// Rows with a column for the class: parquet, the folder of a run, a folder with metadata.
    #[serde(alias = "parquet")]
    Rows,
    /// Tars with `.cls` members, as CLIP_benchmark writes them.
    Webdataset,
    /// The binary files of CIFAR-10.
    Cifar10,
    /// The binary files of CIFAR-100.
    Cifar100,
}

/// The number that stands for a whole data set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Share of pictures whose class comes first.
    #[default]
    Top1,
    /// The same of each class, and the mean over classes.
    MeanPerClass,
}

/// A classification data set.
pub struct Labelled {
    /// What it is called.
    pub name: String,
    /// The classes, in the order of their numbers. One may be without a picture.
    pub classes: Vec<String>,
    /// Sentences with `{}` for the name of a class.
    pub templates: Vec<String>,
    /// Which number stands for the whole.
    pub metric: Metric,
    targets: Vec<usize>,
    pictures: Pictures,
}

impl Labelled {
    /// Finds the pictures and their classes.
    ///
    /// # Errors
    /// When the data cannot be read, have no picture, or a label is none of the classes.
    pub fn open(_config: &LabelledConfig) -> Result<Labelled> {
        bail!("labelled data are not read yet")
    }

    /// How many pictures there are.
    pub fn len(&self) -> usize {
        self.targets.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    /// The class of each picture.
    pub fn targets(&self) -> &[usize] {
        &self.targets
    }

    /// The pictures, in the order of the targets.
    pub fn pictures(&self) -> &Pictures {
        &self.pictures
    }
}
