//! Ordered items from every kind of input, a few rows in memory at a time.
//!
//! A [`Source`] looks its inputs through once, which gives a [`Plan`]: the files, their rows, which
//! column is what. From then on any range of rows can be read, so that a finished shard costs
//! nothing. Nothing is decoded or fetched here. A row that cannot be used is still a row: its picture
//! is [`Picture::Absent`](crate::sample::Picture) with the reason, so that the ledger adds up.

mod columns;
mod folder;
mod infer;
mod inputs;
mod parquet;
mod records;
mod table;
mod webdataset;

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use clap::ValueEnum;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::sample::ExtraColumn;
use crate::sample::Item;
use crate::source::columns::Column;
use crate::source::table::Parked;

pub use columns::Mapping;

/// How inputs are to be read; unset is found out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What the inputs are; unset: recognised by content and name.
    pub input_format: Option<Format>,
    /// Column with stable keys; unset: `key`, `__key__` or `uid`.
    pub key_column: Option<String>,
    /// Column with encoded images (in a folder's metadata: with file names; in webdataset: the
    /// extension of the member); unset: `image`, `jpg`, `png` and the like.
    pub image_column: Option<String>,
    /// Column with addresses of images; unset: `url` or `URL`.
    pub url_column: Option<String>,
    /// Column with the text from the web; unset: `caption`, `TEXT`, `text`, `alt` and the like.
    pub text_column: Option<String>,
}

/// What inputs can be.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema, ValueEnum,
)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Image files, described by `metadata.jsonl`, `metadata.csv`, a `.txt` each, or nothing.
    Folder,
    /// Parquet with images or urls.
    Parquet,
    /// csv, tsv or jsonl with urls, plain or gzipped.
    Table,
    /// Tars with an image, a `.txt` and a `.json` for each key.
    Webdataset,
}

impl Format {
    /// The word for it in flags and files.
    pub fn as_str(self) -> &'static str {
        match self {
            Format::Folder => "folder",
            Format::Parquet => "parquet",
            Format::Table => "table",
            Format::Webdataset => "webdataset",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Items in a fixed order.
pub type Items<'a> = Box<dyn Iterator<Item = Result<Item>> + Send + 'a>;

/// What is known about the inputs before the first row is used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Plan {
    /// What the inputs are.
    pub format: Format,
    /// Which column is what.
    pub columns: Mapping,
    /// Columns that are carried through.
    pub extra: Vec<ExtraColumn>,
    /// The files, in order.
    pub files: Vec<PlannedFile>,
    /// Rows of all files.
    pub rows: u64,
}

/// A file, or a folder of images without metadata.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its rows.
    pub rows: u64,
    /// Size and time of change, or a hash of the folder's listing: what must not change.
    pub stamp: String,
}

/// What looking through the inputs brings.
struct Survey {
    files: Vec<PlannedFile>,
    columns: Vec<Column>,
    mapping: Mapping,
}

/// Inputs that can be read.
pub struct Source {
    plan: Plan,
    parked: Parked,
    listings: folder::Listings,
}

impl Source {
    /// Recognises the inputs (files, folders, globs) and looks them through once.
    ///
    /// # Errors
    /// When an input is missing, of an unknown kind, damaged, empty, or has no column to use.
    pub fn open(inputs: &[String], config: &Config) -> Result<Source> {
        let (format, paths) = inputs::recognise(inputs, config.input_format)?;
        let survey = match format {
            Format::Folder => folder::survey(&paths, config)?,
            Format::Parquet => parquet::survey(&paths, config)?,
            Format::Table => table::survey(&paths, config)?,
            Format::Webdataset => webdataset::survey(&paths, config)?,
        };
        let rows = survey.files.iter().map(|file| file.rows).sum();
        ensure!(rows > 0, "{} has no rows", inputs::names(&paths));
        let extra = columns::extra(&survey.columns, &survey.mapping)?;
        Ok(Source::of(Plan { format, columns: survey.mapping, extra, files: survey.files, rows }))
    }

    /// The inputs of a plan that was made before, not looked through again.
    ///
    /// # Errors
    /// Names the first file that is gone or has changed since.
    pub fn resume(plan: Plan) -> Result<Source> {
        let source = Source::of(plan);
        for file in &source.plan.files {
            let stamp = match file.path.is_dir() {
                true => source.listings.of(&file.path)?.stamp(),
                false => stamp(&file.path)?,
            };
            if stamp != file.stamp {
                bail!(
                    "{} has changed since the run began; use a new -o, or bring the old file back",
                    file.path.display()
                );
            }
        }
        Ok(source)
    }

    fn of(plan: Plan) -> Source {
        Source { plan, parked: Parked::default(), listings: folder::Listings::default() }
    }

    /// What is known about the inputs.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The items of these rows. Reading all ranges in order costs one pass over the files.
    ///
    /// # Errors
    /// When the first file of the range cannot be read; later files are errors at their place.
    pub fn items(&self, rows: Range<u64>) -> Result<Items<'_>> {
        let mut parts = self.plan.parts(rows).into_iter();
        let Some((first, range)) = parts.next() else { return Ok(Box::new(std::iter::empty())) };
        let first = self.items_of(first, range)?;
        let rest = parts.flat_map(|(file, range)| {
            self.items_of(file, range).unwrap_or_else(|e| Box::new(std::iter::once(Err(e))))
        });
        Ok(Box::new(first.chain(rest)))
    }

    fn items_of<'a>(&'a self, file: &'a PlannedFile, rows: Range<u64>) -> Result<Items<'a>> {
        let (plan, path) = (&self.plan, file.path.as_path());
        match plan.format {
            Format::Folder => folder::read(plan, &self.parked, &self.listings, path, rows),
            Format::Parquet => parquet::read(plan, path, rows),
            Format::Table => table::read(plan, &self.parked, path, rows),
            Format::Webdataset => webdataset::read(plan, path, rows),
        }
    }
}

impl Plan {
    /// Whether rows may have to be fetched.
    pub fn has_urls(&self) -> bool {
        self.columns.url.is_some()
    }

    /// The files that hold these rows, with the rows of each.
    fn parts(&self, rows: Range<u64>) -> Vec<(&PlannedFile, Range<u64>)> {
        let mut parts = Vec::new();
        let mut first = 0;
        for file in &self.files {
            let (start, end) = (rows.start.max(first), rows.end.min(first + file.rows));
            if start < end {
                parts.push((file, start - first..end - first));
            }
            first += file.rows;
        }
        parts
    }
}

impl PlannedFile {
    fn new(path: &Path, rows: u64) -> Result<PlannedFile> {
        Ok(PlannedFile { path: path.to_owned(), rows, stamp: stamp(path)? })
    }
}

/// Size and time of change of a file.
fn stamp(path: &Path) -> Result<String> {
    let gone = || format!("cannot read {}", path.display());
    let metadata = std::fs::metadata(path).with_context(gone)?;
    let changed = metadata.modified().with_context(gone)?;
    let since = changed.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(format!("{} bytes, changed at {}", metadata.len(), since.as_nanos()))
}

#[cfg(test)]
mod tests;
