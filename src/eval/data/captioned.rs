//! Pictures with any number of texts each.
//!
//! Rows that share their key, or whose pictures have the same bytes, are one picture with several
//! texts. Every text is asked for by itself, as published evaluations do, also where two pictures
//! have the same one, although only one of them will do; such texts can be left out.

use std::collections::HashMap;
use std::fs;
use std::path::Component;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;
use sha2::Digest;
use sha2::Sha256;

use crate::eval::data::Pictures;
use crate::eval::data::labelled::stem;
use crate::eval::data::layout;
use crate::eval::data::rows;
use crate::eval::data::rows::Rows;
use crate::sample::Item;
use crate::sample::Picture;
use crate::source;

/// Columns with lists of texts that are taken without being told.
const LISTS: [&str; 5] = ["caption", "captions", "text", "texts", "sentences"];

/// Which data set, and how it is to be read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CaptionedConfig {
    /// A dataset, the folder of a run, or a JSON list of `image` and `caption`s.
    pub data: PathBuf,
    /// What it is called in results; unset: as its file or folder.
    pub name: Option<String>,
    /// Where the pictures of a JSON list are; unset: beside it.
    pub images: Option<PathBuf>,
    /// Column of rows with the text, or with a list of texts; unset: recognised.
    pub text_column: Option<String>,
    /// Column of rows with the picture; unset: recognised.
    pub image_column: Option<String>,
    /// Which rows count: an expression over their columns, as `split == 'test'`.
    #[serde(rename = "where")]
    pub filter: Option<String>,
    /// Leave out texts that several pictures have: titles as `icon`, which find one of many by chance.
    pub only_unique_texts: bool,
    /// What stands before each text; RWKV-CLIP's own evaluation has `a photo of `.
    pub prefix: String,
    /// Which part: a folder of that name, or parquet files whose names begin so, or what a JSON list
    /// says; of CLIP_benchmark's layout unset means `test`.
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

impl CaptionedConfig {
    /// The same with paths that are found beside the settings.
    pub fn beside(self, folder: &Path) -> CaptionedConfig {
        CaptionedConfig {
            data: folder.join(self.data),
            images: self.images.map(|images| folder.join(images)),
            ..self
        }
    }
}

impl Captioned {
    /// Finds the pictures and their texts.
    ///
    /// # Errors
    /// When the data cannot be read or have no text.
    pub fn open(config: &CaptionedConfig) -> Result<Captioned> {
        let (pictures, captions) =
            open(config).with_context(|| format!("captioned data {}", config.data.display()))?;
        let captions = if config.only_unique_texts { captions.unique() } else { captions };
        let Captions { texts, image_of } = captions;
        let texts: Vec<String> =
            texts.into_iter().map(|text| format!("{}{text}", config.prefix)).collect();
        ensure!(!texts.is_empty(), "captioned data {}: no row has a text", config.data.display());
        let name = config.name.clone().unwrap_or_else(|| stem(&config.data));
        Ok(Captioned { name, texts, image_of, pictures })
    }

    /// How many texts are also those of another picture.
    pub fn shared_texts(&self) -> usize {
        shared(&self.texts, &self.image_of).into_iter().filter(|&shared| shared).count()
    }

    /// The pictures.
    pub fn pictures(&self) -> &Pictures {
        &self.pictures
    }
}

/// Texts without their prefix.
#[derive(Default)]
struct Captions {
    texts: Vec<String>,
    image_of: Vec<usize>,
}

impl Captions {
    fn push(&mut self, image: usize, texts: impl IntoIterator<Item = String>) {
        for text in texts.into_iter().filter(|text| !text.trim().is_empty()) {
            self.texts.push(text);
            self.image_of.push(image);
        }
    }

    /// Those of one picture only. A picture may be left without any, and is still there to be found.
    fn unique(self) -> Captions {
        let shared = shared(&self.texts, &self.image_of);
        let all = self.texts.into_iter().zip(self.image_of).zip(shared);
        let (texts, image_of) =
            all.filter(|(_, is_shared)| !is_shared).map(|(caption, _)| caption).unzip();
        Captions { texts, image_of }
    }
}

/// Whether each text is also that of another picture.
fn shared(texts: &[String], image_of: &[usize]) -> Vec<bool> {
    let mut first = HashMap::new();
    for (text, &image) in texts.iter().zip(image_of) {
        let (first, is_shared) = first.entry(text.trim()).or_insert((image, false));
        *is_shared |= *first != image;
    }
    texts.iter().map(|text| first[text.trim()].1).collect()
}

fn open(config: &CaptionedConfig) -> Result<(Pictures, Captions)> {
    let data = &config.data;
    ensure!(data.exists(), "there is no such file or folder");
    let split = config.split.as_deref();
    match data.extension().is_some_and(|extension| extension == "json") && data.is_file() {
        true => of_json(config),
        false if layout::is_one(data, split) => {
            of_rows(config, &layout::tars(data, split)?, Lines::Several)
        }
        false => of_rows(config, &rows::inputs(data, split)?, Lines::One),
    }
}

/// Whether every line of a text is a text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lines {
    One,
    /// As CLIP_benchmark writes several texts of a picture.
    Several,
}

fn of_rows(
    config: &CaptionedConfig,
    inputs: &[String],
    lines: Lines,
) -> Result<(Pictures, Captions)> {
    let image_column = config.image_column.clone();
    let as_found = source::Config { image_column, ..source::Config::default() };
    let rows = Rows::open(inputs, &as_found, config.filter.as_deref())?;
    let column = text_column(&rows, config.text_column.as_deref())?;
    let (mut images, mut captions) = (Images::default(), Captions::default());
    rows.each(|row, item| {
        let cell = match &column {
            Some(column) => rows.cell(&item, column),
            None => item.text_raw.clone().map(Value::String),
        };
        let texts = texts(cell, lines).with_context(|| format!("row {}", item.key))?;
        captions.push(images.of(&item, row), texts);
        Ok(())
    })?;
    Ok((rows.pictures(images.rows), captions))
}

/// The column that is told, or one with lists; otherwise the text that the source recognises.
fn text_column(rows: &Rows, told: Option<&str>) -> Result<Option<String>> {
    if let Some(name) = told {
        rows.ensure_column(name)?;
        return Ok(Some(name.to_owned()));
    }
    let columns = rows.columns();
    let list = LISTS.iter().find(|name| columns.iter().any(|column| column == *name));
    Ok(match rows.source().plan().mapping.text {
        Some(_) => None,
        None => list.map(|name| (*name).to_owned()),
    })
}

fn texts(cell: Option<Value>, lines: Lines) -> Result<Vec<String>> {
    match cell {
        None => Ok(Vec::new()),
        Some(Value::String(text)) if lines == Lines::Several => {
            Ok(text.lines().map(str::to_owned).collect())
        }
        Some(Value::String(text)) => Ok(vec![text]),
        Some(Value::Array(values)) => {
            let texts = values.into_iter().map(|value| match value {
                Value::String(text) => Ok(text),
                other => bail!("{other} is no text"),
            });
            texts.collect()
        }
        Some(other) => bail!("{other} is neither a text nor a list of texts"),
    }
}

/// Pictures by their keys and their bytes.
#[derive(Default)]
struct Images {
    rows: Vec<(String, u64)>,
    keys: HashMap<String, usize>,
    bytes: HashMap<[u8; 32], usize>,
}

impl Images {
    /// The place of the row's picture among the distinct ones.
    fn of(&mut self, item: &Item, row: u64) -> usize {
        let hash = match &item.picture {
            Picture::Bytes { bytes, .. } => Some(<[u8; 32]>::from(Sha256::digest(bytes))),
            _ => None,
        };
        let by_bytes = || self.bytes.get(hash.as_ref()?);
        let known = self.keys.get(&item.key).or_else(by_bytes).copied();
        let place = known.unwrap_or(self.rows.len());
        if known.is_none() {
            self.rows.push((item.key.clone(), row));
        }
        self.keys.entry(item.key.clone()).or_insert(place);
        hash.map(|hash| self.bytes.entry(hash).or_insert(place));
        place
    }
}

/// An entry of the lists that retrieval on COCO and Flickr30k is commonly judged with.
#[derive(Deserialize)]
struct Entry {
    image: String,
    caption: Value,
}

/// The files of Karpathy's splits, of which those lists were made.
#[derive(Deserialize)]
struct Karpathy {
    images: Vec<KarpathyEntry>,
}

#[derive(Deserialize)]
struct KarpathyEntry {
    #[serde(default)]
    filepath: String,
    filename: String,
    #[serde(default)]
    split: String,
    sentences: Vec<Sentence>,
}

#[derive(Deserialize)]
struct Sentence {
    raw: String,
}

fn of_json(config: &CaptionedConfig) -> Result<(Pictures, Captions)> {
    ensure!(config.filter.is_none(), "a JSON list has no columns for a filter");
    let root = match &config.images {
        Some(images) => images.clone(),
        None => config.data.parent().unwrap_or(Path::new("")).to_owned(),
    };
    let (mut places, mut files, mut captions) = (HashMap::new(), Vec::new(), Captions::default());
    for (image, texts) in entries(config)? {
        let place = *places.entry(image.clone()).or_insert(files.len());
        if place == files.len() {
            let path = path(&root, &image)?;
            files.push((image, path));
        }
        captions.push(place, texts);
    }
    ensure!(!files.is_empty(), "no picture is listed");
    Ok((Pictures::of_files(files), captions))
}

fn entries(config: &CaptionedConfig) -> Result<Vec<(String, Vec<String>)>> {
    let value: Value =
        serde_json::from_slice(&fs::read(&config.data)?).context("this is no JSON")?;
    if value.is_array() {
        let entries: Vec<Entry> = serde_json::from_value(value)
            .context("the entries of a list have an image and a caption")?;
        ensure!(config.split.is_none(), "a list of image and caption has no splits");
        let entries = entries.into_iter().map(|entry| {
            let texts = texts(Some(entry.caption), Lines::One);
            Ok((texts.with_context(|| format!("captions of {}", entry.image))?, entry.image))
        });
        return entries.map(|entry| entry.map(|(texts, image)| (image, texts))).collect();
    }
    let all: Karpathy = serde_json::from_value(value)
        .context("this is neither a list of image and caption nor one of Karpathy's splits")?;
    let is_wanted = |entry: &KarpathyEntry| match &config.split {
        Some(split) => entry.split == *split,
        None => true,
    };
    let entries = all.images.into_iter().filter(is_wanted).map(|entry| {
        let image = match entry.filepath.as_str() {
            "" => entry.filename,
            folder => format!("{folder}/{}", entry.filename),
        };
        (image, entry.sentences.into_iter().map(|sentence| sentence.raw).collect())
    });
    Ok(entries.collect())
}

/// Where a listed picture is: below the root, or in it, because lists name folders that people's
/// copies do not have.
fn path(root: &Path, image: &str) -> Result<PathBuf> {
    let image = Path::new(image);
    let is_below = image.components().all(|part| matches!(part, Component::Normal(_)));
    ensure!(is_below, "image {} may lead out of {}", image.display(), root.display());
    let listed = root.join(image);
    let bare = image.file_name().map(|name| root.join(name)).filter(|path| path.is_file());
    Ok(if listed.is_file() { listed } else { bare.unwrap_or(listed) })
}
