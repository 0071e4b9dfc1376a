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
mod listing;
mod members;
mod parked;
mod parquet;
mod places;
mod records;
mod table;
mod webdataset;

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::UNIX_EPOCH;

use anyhow::Context;
use anyhow::Result;
use anyhow::anyhow;
use anyhow::ensure;
use clap::ValueEnum;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::sample::ExtraColumn;
use crate::sample::Item;
use crate::source::columns::Column;
use crate::source::listing::Listings;
use crate::source::parked::Parked;
use crate::source::parquet::Batches;
use crate::source::places::Tar;
use crate::source::table::Table;

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
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    JsonSchema,
    ValueEnum,
)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Image files, described by `metadata.jsonl`, `metadata.csv`, a `.txt` each, or nothing.
    Folder,
    /// Parquet with images or urls.
    Parquet,
    /// csv, tsv or jsonl with urls, plain or gzipped.
    Table,
    /// Tars with an image, a `.txt`, a `.json` and a `.cls` for each key.
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

impl FromStr for Format {
    type Err = anyhow::Error;

    fn from_str(word: &str) -> Result<Format> {
        let all = Format::value_variants();
        let words = all.iter().map(|format| format.as_str()).collect::<Vec<_>>().join(", ");
        let found = all.iter().find(|format| format.as_str() == word);
        found.copied().with_context(|| format!("{word:?} is no input format; there are {words}"))
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
    pub mapping: Mapping,
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
    /// What keys made of names begin with, so that they stay unique over several files.
    pub prefix: String,
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
    parquets: Parked<Batches>,
    tables: Parked<Table>,
    tars: Parked<Tar>,
    listings: Listings,
}

impl Source {
    /// Recognises the inputs (files, folders, globs) and looks them through once.
    ///
    /// # Errors
    /// When an input is missing, of an unknown kind, damaged, empty, or has no column to use.
    pub fn open(inputs: &[String], config: &Config) -> Result<Source> {
        let (format, paths) = inputs::recognise(inputs, config.input_format)?;
        let listings = Listings::default();
        let survey = match format {
            Format::Folder => folder::survey(&paths, config, &listings)?,
            Format::Parquet => parquet::survey(&paths, config)?,
            Format::Table => table::survey(&paths, config)?,
            Format::Webdataset => webdataset::survey(&paths, config)?,
        };
        let Survey { files, columns, mapping } = survey;
        let rows = files.iter().try_fold(0, |rows, file| u64::checked_add(rows, file.rows));
        let rows = rows.context("the files say that they have more rows than can be counted")?;
        ensure!(rows > 0, "{} has no rows", inputs::names(&paths));
        let extra = columns::extra(&columns, &mapping)?;
        Ok(Source { listings, ..Source::of(Plan { format, mapping, extra, files, rows }) })
    }

    /// The inputs of a plan that was made before, not looked through again.
    ///
    /// # Errors
    /// Names the first file that is gone or has changed since.
    pub fn resume(plan: Plan) -> Result<Source> {
        let source = Source::of(plan);
        source.plan.files.iter().try_for_each(|file| source.ensure_unchanged(file))?;
        Ok(source)
    }

    fn of(plan: Plan) -> Source {
        let (parquets, tables, tars) = (Parked::default(), Parked::default(), Parked::default());
        Source { plan, parquets, tables, tars, listings: Listings::default() }
    }

    /// Rows of a changed file must not stand beside rows of the old one.
    fn ensure_unchanged(&self, file: &PlannedFile) -> Result<()> {
        let stamp = match file.path.is_dir() {
            true => self.listings.of(&file.path)?.stamp().to_owned(),
            false => stamp(&file.path)?,
        };
        ensure!(
            stamp == file.stamp,
            "{} has changed since the run began; use a new -o, or bring the old one back",
            file.path.display()
        );
        Ok(())
    }

    /// What is known about the inputs.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What the writer of the first file noted under this name beside the rows: Hugging Face
    /// `datasets` has names of classes there, under `huggingface`. Only parquet has notes.
    ///
    /// # Errors
    /// When the file cannot be read any more.
    pub fn note(&self, name: &str) -> Result<Option<String>> {
        match (self.plan.format, self.plan.files.first()) {
            (Format::Parquet, Some(file)) => parquet::note(&file.path, name),
            _ => Ok(None),
        }
    }

    /// The items of these rows. Reading all ranges in order costs one pass over the files.
    ///
    /// # Errors
    /// When the first file of the range cannot be read. What goes wrong later is an error at its
    /// place, and nothing comes after it.
    pub fn items(&self, rows: Range<u64>) -> Result<Items<'_>> {
        self.read(rows, Wanted::All)
    }

    /// The items of these rows without their pictures, and of the columns that are carried through
    /// only these: where the format allows it, nothing else is read. A parquet row without a key gets
    /// that of its place here, and not that of its picture.
    ///
    /// # Errors
    /// As [`Source::items`].
    pub fn words<'a>(
        &'a self,
        rows: Range<u64>,
        columns: &'a BTreeSet<String>,
    ) -> Result<Items<'a>> {
        self.read(rows, Wanted::Words(columns))
    }

    fn read<'a>(&'a self, rows: Range<u64>, wanted: Wanted<'a>) -> Result<Items<'a>> {
        let mut parts = self.plan.parts(rows).into_iter();
        let Some((first, range)) = parts.next() else { return Ok(Box::new(std::iter::empty())) };
        let first = self.items_of(first, range, wanted)?;
        let rest = parts.flat_map(move |(file, range)| {
            let items = self.items_of(file, range, wanted);
            items.unwrap_or_else(|e| Box::new(std::iter::once(Err(e))))
        });
        let mut has_failed = false;
        let is_wanted = move |item: &_| !std::mem::replace(&mut has_failed, Result::is_err(item));
        Ok(Box::new(first.chain(rest).take_while(is_wanted)))
    }

    fn items_of<'a>(
        &'a self,
        file: &'a PlannedFile,
        rows: Range<u64>,
        wanted: Wanted<'a>,
    ) -> Result<Items<'a>> {
        self.ensure_unchanged(file)?;
        let left = rows.end - rows.start;
        let items = match self.plan.format {
            Format::Folder => {
                let pictures = wanted.pictures();
                folder::read(&self.plan, &self.tables, &self.listings, file, rows, pictures)?
            }
            Format::Parquet => match wanted {
                Wanted::All => parquet::read(&self.plan, &self.parquets, file, rows)?,
                Wanted::Words(columns) => parquet::words(&self.plan, columns, file, rows)?,
            },
            Format::Table => table::read(&self.plan, &self.tables, file, rows)?,
            Format::Webdataset => {
                webdataset::read(&self.plan, &self.tars, file, rows, wanted.pictures())?
            }
        };
        Ok(Box::new(Counted { items, left, path: &file.path }))
    }
}

/// What is read of each row.
#[derive(Clone, Copy)]
enum Wanted<'a> {
    All,
    /// No pictures, and these of the other columns at least.
    Words(&'a BTreeSet<String>),
}

/// Whether pictures are read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pictures {
    Read,
    Skip,
}

impl Wanted<'_> {
    fn pictures(self) -> Pictures {
        match self {
            Wanted::All => Pictures::Read,
            Wanted::Words(_) => Pictures::Skip,
        }
    }
}

/// As many items as the plan says, or an error: a file that ends early would leave rows out of the
/// ledger.
struct Counted<'a> {
    items: Items<'a>,
    left: u64,
    path: &'a Path,
}

impl Iterator for Counted<'_> {
    type Item = Result<Item>;

    fn next(&mut self) -> Option<Result<Item>> {
        self.left = self.left.checked_sub(1)?;
        let item = self.items.next();
        Some(item.unwrap_or_else(|| Err(anyhow!("{} ends early", self.path.display()))))
    }
}

impl Plan {
    /// Whether rows may have to be fetched. The pictures of folders and tars are at hand: their urls
    /// only say where they were.
    pub fn has_urls(&self) -> bool {
        let may_lack_pictures = matches!(self.format, Format::Parquet | Format::Table);
        may_lack_pictures && self.mapping.url.is_some()
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
        Ok(PlannedFile { path: path.to_owned(), rows, prefix: String::new(), stamp: stamp(path)? })
    }
}

/// Whether a file is an image by its name.
pub fn is_image_name(path: &Path) -> bool {
    inputs::is_image(path)
}

/// Size and time of change of a file.
fn stamp(path: &Path) -> Result<String> {
    let gone = || format!("cannot read {}", path.display());
    let metadata = std::fs::metadata(path).with_context(gone)?;
    let changed = metadata.modified().with_context(gone)?;
    let since = changed.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(format!("{} bytes, changed at {}", metadata.len(), since.as_nanos()))
}
