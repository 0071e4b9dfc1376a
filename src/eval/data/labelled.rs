//! Pictures with one class each.

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::eval::data::Pictures;
use crate::eval::data::Words;
use crate::eval::data::cifar::Cifar;
use crate::eval::data::cifar::Kind;
use crate::eval::data::folder;
use crate::eval::data::folder::Folders;
use crate::eval::data::labels;
use crate::eval::data::layout;
use crate::eval::data::rows;
use crate::eval::data::rows::Rows;
use crate::eval::data::words;
use crate::eval::templates;
use crate::eval::templates::PLACE;
use crate::eval::templates::Published;
use crate::source;

/// Which data set, and how it is to be read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LabelledConfig {
    /// Its folder or file.
    pub data: PathBuf,
    /// What it is; unset: found out.
    pub format: Option<Format>,
    /// What it is called in results; unset: as the published data set that its classes are named
    /// after, else as its file or folder.
    pub name: Option<String>,
    /// Names of the classes, in the order of their numbers: a list, a text file with one a line, or
    /// the name of a published data set; unset: as the data say.
    pub classes: Option<Words>,
    /// What classes are called in sentences, where a name does not read well there: `good` as
    /// `an intact metal disc`.
    pub called: BTreeMap<String, String>,
    /// Sentences with `{}` for the name of a class: a list, a text file, or the name of a published
    /// data set; unset: as the data say, as published, else `a photo of a {}.`
    pub templates: Option<Words>,
    /// Column of rows with the class; unset: `label`, `class`, `category` or the like.
    pub label_column: Option<String>,
    /// How many parts of a label count, where labels are paths: 1 of `animals/birds` is `animals`;
    /// unset: all.
    pub label_depth: Option<usize>,
    /// Column of rows with the picture; unset: recognised.
    pub image_column: Option<String>,
    /// Which rows count: an expression over their columns, as `split == 'test'`.
    #[serde(rename = "where")]
    pub filter: Option<String>,
    /// Which number stands for the whole; unset: as published, else top-1.
    pub metric: Option<Metric>,
    /// Which part: a folder of that name, or parquet files whose names begin so; of CIFAR and
    /// webdataset unset means `test`.
    pub split: Option<String>,
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
    /// What each class is called in sentences.
    pub called: Vec<String>,
    /// Sentences with `{}` for what a class is called.
    pub templates: Vec<String>,
    /// Which number stands for the whole.
    pub metric: Metric,
    /// What a reader of its scores should know about how it was read.
    pub note: Option<String>,
    targets: Vec<usize>,
    pictures: Pictures,
}

/// What lies in the data themselves.
struct Found {
    classes: Vec<String>,
    targets: Vec<usize>,
    pictures: Pictures,
    templates: Option<Vec<String>>,
    note: Option<String>,
}

impl LabelledConfig {
    /// The same with paths that are found beside the settings.
    pub fn beside(self, folder: &Path) -> LabelledConfig {
        LabelledConfig {
            data: folder.join(self.data),
            classes: self.classes.map(|words| words.beside(folder)),
            templates: self.templates.map(|words| words.beside(folder)),
            ..self
        }
    }

    /// The published data set with as many classes that it is, by what its classes or files are.
    fn identity(&self, format: Format, classes: usize) -> Option<Published> {
        fitting([self.by_classes(), by_files(format)], classes)
    }

    /// The one whose sentences and metric it has, in whatever way it is named.
    fn published(&self, format: Format, classes: usize) -> Option<Published> {
        let by_templates = self.templates.as_ref().and_then(Words::published);
        let by_name = self.name.as_deref().and_then(templates::find);
        fitting([self.by_classes(), by_templates, by_name, by_files(format)], classes)
    }

    fn by_classes(&self) -> Option<Published> {
        self.classes.as_ref().and_then(Words::published)
    }
}

fn by_files(format: Format) -> Option<Published> {
    templates::find(cifar(format)?.name())
}

/// The first with as many classes: a data set of the same name with others is another one.
fn fitting<const N: usize>(sets: [Option<Published>; N], classes: usize) -> Option<Published> {
    sets.into_iter().flatten().find(|set| set.classes.len() == classes)
}

impl Labelled {
    /// Finds the pictures and their classes.
    ///
    /// # Errors
    /// When the data cannot be read, have no picture, or a label is none of the classes.
    pub fn open(config: &LabelledConfig) -> Result<Labelled> {
        open(config).with_context(|| format!("labelled data {}", config.data.display()))
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

    /// Classes without a picture.
    pub fn empty_classes(&self) -> Vec<&str> {
        let mut has_any = vec![false; self.classes.len()];
        self.targets.iter().for_each(|&target| has_any[target] = true);
        let empty = self.classes.iter().zip(has_any).filter(|(_, has_any)| !has_any);
        empty.map(|(class, _)| class.as_str()).collect()
    }
}

fn open(config: &LabelledConfig) -> Result<Labelled> {
    let told = config.classes.as_ref().map(|words| words.read(|p| p.classes)).transpose()?;
    let format = config.format.map_or_else(|| recognise(config), Ok)?;
    let has_rows = matches!(format, Format::Rows | Format::Webdataset);
    ensure!(has_rows || config.filter.is_none(), "there are no columns for a filter (where)");
    let Found { classes, targets, pictures, templates, note } = match (format, cifar(format)) {
        (Format::Folder, _) => of_folder(config, told)?,
        (Format::Webdataset, _) => of_tars(config, told)?,
        (_, Some(kind)) => of_cifar(config, kind, told)?,
        _ => of_rows(config, told)?,
    };
    ensure!(!targets.is_empty(), "there is no picture");
    let published = config.published(format, classes.len());
    let told = config.templates.as_ref().map(|words| words.read(|p| p.templates)).transpose()?;
    let templates = told.or(templates).or_else(|| Some(published.as_ref()?.templates.clone()));
    let templates = sentences(templates.unwrap_or_else(|| vec![templates::PLAIN.to_owned()]))?;
    let metric = config.metric.or_else(|| Some(published?.metric)).unwrap_or_default();
    let name = config.name.clone();
    let name = name.or_else(|| Some(config.identity(format, classes.len())?.name));
    let name = name.unwrap_or_else(|| stem(&config.data));
    let called = called(&classes, &config.called)?;
    Ok(Labelled { name, classes, called, templates, metric, note, targets, pictures })
}

/// What each class is called: as told, else its name, of which underscores are read as spaces.
fn called(classes: &[String], told: &BTreeMap<String, String>) -> Result<Vec<String>> {
    if let Some(name) = told.keys().find(|name| !classes.contains(name)) {
        bail!("class {name:?} is called something, but there are {}", labels::shown(classes));
    }
    let one = |class: &String| match told.get(class) {
        Some(words) => words.clone(),
        None => class.replace('_', " "),
    };
    Ok(classes.iter().map(one).collect())
}

/// CLIP_benchmark writes `{c}` where others write `{}`.
fn sentences(templates: Vec<String>) -> Result<Vec<String>> {
    ensure!(!templates.is_empty(), "there is no template");
    let one = |template: String| {
        let template = template.replace("{c}", PLACE);
        ensure!(template.contains(PLACE), "template {template:?} has no {PLACE} for the class");
        Ok(template)
    };
    templates.into_iter().map(one).collect()
}

/// The name of a file or folder without its extension.
pub(super) fn stem(path: &Path) -> String {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn cifar(format: Format) -> Option<Kind> {
    match format {
        Format::Cifar10 => Some(Kind::Ten),
        Format::Cifar100 => Some(Kind::Hundred),
        _ => None,
    }
}

fn recognise(config: &LabelledConfig) -> Result<Format> {
    let data = &config.data;
    ensure!(data.exists(), "there is no such file or folder");
    let has = |name: &str| data.join(name).is_file();
    let is_cifar = |format: &Format| cifar(*format).is_some_and(|kind| has(kind.names_file()));
    if let Some(format) = [Format::Cifar10, Format::Cifar100].into_iter().find(is_cifar) {
        return Ok(format);
    }
    if layout::is_one(data, config.split.as_deref()) {
        return Ok(Format::Webdataset);
    }
    if config.label_column.is_some() || config.filter.is_some() || has("run.json") {
        return Ok(Format::Rows);
    }
    let extensions = extensions(data);
    match () {
        () if extensions.contains("tar") => Ok(Format::Webdataset),
        () if data.is_file() || extensions.contains("parquet") => Ok(Format::Rows),
        () => Ok(Format::Folder),
    }
}

/// The extension of a file, or those of the files in a folder and in its `data`.
fn extensions(data: &Path) -> HashSet<String> {
    let paths = match data.is_dir() {
        false => vec![data.to_owned()],
        true => {
            let inside = [data.to_owned(), data.join("data")];
            let entries = inside.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten();
            entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|p| p.is_file()).collect()
        }
    };
    let extension = |path: &PathBuf| Some(path.extension()?.to_string_lossy().into_owned());
    paths.iter().filter_map(extension).collect()
}

fn of_folder(config: &LabelledConfig, told: Option<Vec<String>>) -> Result<Found> {
    let root = match &config.split {
        Some(split) => config.data.join(split),
        None => config.data.clone(),
    };
    let Folders { classes, targets, files, note } = folder::list(&root, told)?;
    Ok(Found { classes, targets, pictures: Pictures::of_files(files), templates: None, note })
}

fn of_tars(config: &LabelledConfig, told: Option<Vec<String>>) -> Result<Found> {
    let inputs = layout::tars(&config.data, config.split.as_deref())?;
    let classes = told.map_or_else(|| layout::classes(&config.data), |told| Ok(Some(told)))?;
    let column = Some(config.label_column.as_deref().unwrap_or("cls"));
    let found = of_source(config, &inputs, column, classes)?;
    Ok(Found { templates: layout::templates(&config.data)?, ..found })
}

fn of_cifar(config: &LabelledConfig, kind: Kind, told: Option<Vec<String>>) -> Result<Found> {
    let split = config.split.as_deref().unwrap_or(layout::SPLIT);
    let (cifar, numbers) = Cifar::open(&config.data, kind, split)?;
    let noted = config.data.join(kind.names_file());
    let names = match (told, noted.is_file()) {
        (Some(told), _) => told,
        (None, true) => words::lines(&noted)?,
        (None, false) => templates::find(kind.name()).map_or_else(Vec::new, |set| set.classes),
    };
    let pictures = Pictures::of_cifar(cifar);
    let label = |(key, number): (&String, &usize)| (key.clone(), Some((*number).into()));
    let labels: Vec<_> = pictures.keys().iter().zip(&numbers).map(label).collect();
    let (classes, targets) = labels::numbered(&labels, Some(names))?;
    Ok(Found { classes, targets, pictures, templates: None, note: None })
}

fn of_rows(config: &LabelledConfig, told: Option<Vec<String>>) -> Result<Found> {
    let inputs = rows::inputs(&config.data, config.split.as_deref())?;
    of_source(config, &inputs, config.label_column.as_deref(), told)
}

fn of_source(
    config: &LabelledConfig,
    inputs: &[String],
    column: Option<&str>,
    told: Option<Vec<String>>,
) -> Result<Found> {
    let image_column = config.image_column.clone();
    let as_found = source::Config { image_column, ..source::Config::default() };
    let rows = Rows::open(inputs, &as_found, config.filter.as_deref())?;
    let column = rows.label_column(column)?;
    let names = told.map_or_else(|| rows.noted_classes(&column), |told| Ok(Some(told)))?;
    let (mut labels, mut kept) = (Vec::new(), Vec::new());
    rows.each_of_words(&column, |row, item| {
        let label = rows.cell(&item, &column);
        let label = label.map(|label| labels::cut(label, config.label_depth));
        kept.push((item.key.clone(), row));
        labels.push((item.key, label));
        Ok(())
    })?;
    ensure!(!labels.is_empty(), "no row counts");
    let (classes, targets) = labels::numbered(&labels, names)?;
    Ok(Found { classes, targets, pictures: rows.pictures(kept), templates: None, note: None })
}
