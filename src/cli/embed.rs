//! `recaption embed` and `recaption similarity`: a checkpoint over a dataset, outside of a run.

use std::collections::HashMap;
use std::fs::File;
use std::io::BufRead;
use std::io::BufReader;
use std::path::Path;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use clap::Args;
use comfy_table::Table;
use indicatif::ProgressBar;
use indicatif::ProgressStyle;
use rayon::iter::IntoParallelRefIterator;
use rayon::iter::ParallelIterator;
use serde_json::json;

use crate::clip;
use crate::clip::Embedder;
use crate::clip::Length;
use crate::decode::Limits;
use crate::sample::Item;
use crate::sample::Picture;
use crate::shard;
use crate::shard::Embedding;
use crate::shard::Embeddings;
use crate::shard::Precision;
use crate::source;
use crate::source::Source;

/// Which weights, of which sizes.
#[derive(Args)]
struct Weights {
    /// RWKV-CLIP weights: a `.pt` or safetensors file.
    #[arg(long, value_name = "FILE")]
    checkpoint: PathBuf,
    /// Their sizes: b32, b16, small, tiny, or a JSON or TOML file.
    #[arg(long, value_name = "NAME")]
    model_config: String,
    /// Where the model runs: cpu, cuda, cuda:1.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// A tokenizer.json, for weights that do not speak CLIP's vocabulary.
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    /// Rows that are embedded together.
    #[arg(long, value_name = "N", default_value_t = 32)]
    batch: usize,
}

#[derive(Args)]
pub(super) struct Embed {
    #[command(flatten)]
    weights: Weights,
    /// Pictures: a folder, parquet or webdataset files, or the folder of a run.
    #[arg(long, value_name = "PATH")]
    images: Option<String>,
    /// Texts: the lines of a .txt file, or a dataset as for --images.
    #[arg(long, value_name = "PATH")]
    texts: Option<String>,
    /// Which column of a dataset holds the texts, as text_generated.
    #[arg(long, value_name = "NAME")]
    text_column: Option<String>,
    /// Leave embeddings at the length that the model gives them.
    #[arg(long)]
    no_normalize: bool,
    /// Store two bytes a number instead of four.
    #[arg(long)]
    f16: bool,
    /// The parquet file: key, modality, embedding.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

#[derive(Args)]
pub(super) struct Similarity {
    #[command(flatten)]
    weights: Weights,
    /// Pictures with texts: a folder, parquet or webdataset files, or the folder of a run.
    #[arg(required = true)]
    input: Vec<String>,
    /// Which columns hold the texts; of a run: all three texts, elsewhere the one that is recognised.
    #[arg(long, value_name = "NAME")]
    text_column: Vec<String>,
    /// Read no more rows than this.
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
}

/// Rows of a batch at most: 2.5 GB of pictures of 224 pixels.
const MOST: usize = 4_096;

impl Weights {
    fn open(&self) -> Result<Embedder> {
        let batch = self.batch;
        ensure!((1..=MOST).contains(&batch), "--batch is {batch}; 1 to {MOST} is possible");
        Embedder::open(&clip::Config {
            checkpoint: Some(self.checkpoint.clone()),
            model_config: self.model_config.clone(),
            device: self.device.clone(),
            tokenizer: self.tokenizer.clone(),
            batch: self.batch,
        })
    }
}

impl Embed {
    pub(super) fn run(self) -> Result<()> {
        if self.images.is_none() && self.texts.is_none() {
            bail!("nothing to embed: give --images, --texts or both");
        }
        let embedder = self.weights.open()?;
        let precision = if self.f16 { Precision::F16 } else { Precision::F32 };
        let about = HashMap::from([
            ("recaption.checkpoint".to_owned(), embedder.label().to_string()),
            ("recaption.normalized".to_owned(), (!self.no_normalize).to_string()),
        ]);
        let mut out = Embeddings::create(&self.output, embedder.dimension(), precision, about)?;
        let mut made = (0, 0);
        if let Some(images) = &self.images {
            let source = dataset(std::slice::from_ref(images), None)?;
            for_batches(&source, self.weights.batch, None, |items| {
                let (keys, pictures) = prepared(&embedder, &items);
                let embeddings = embedder.images(&pictures, self.length())?;
                self.push(&mut out, &mut made, rows(keys, "image", embeddings))
            })?;
        }
        if let Some(texts) = &self.texts {
            let mut push = |texts: Vec<(String, Option<String>)>| {
                let (keys, texts): (Vec<_>, Vec<_>) = texts.into_iter().unzip();
                let texts: Vec<Option<&str>> = texts.iter().map(Option::as_deref).collect();
                let embeddings = embedder.texts(&texts, self.length())?;
                self.push(&mut out, &mut made, rows(keys, "text", embeddings))
            };
            match is_lines(texts) {
                true => for_lines(Path::new(texts), self.weights.batch, &mut push)?,
                false => {
                    let source = dataset(std::slice::from_ref(texts), self.text_column.as_deref());
                    let source = source.context(
                        "--texts takes a dataset with pictures, or a .txt file with a text a line",
                    )?;
                    for_batches(&source, self.weights.batch, None, |items| {
                        push(items.into_iter().map(|item| (item.key, item.text_raw)).collect())
                    })?;
                }
            }
        }
        out.publish()?;
        let (made, empty) = made;
        eprintln!("{made} embeddings by {}, {empty} rows without one", embedder.label());
        println!("{}", self.output.display());
        Ok(())
    }

    fn length(&self) -> Length {
        if self.no_normalize { Length::Given } else { Length::One }
    }

    fn push(
        &self,
        out: &mut Embeddings,
        made: &mut (u64, u64),
        rows: Vec<Embedding>,
    ) -> Result<()> {
        let empty = rows.iter().filter(|row| row.numbers.is_none()).count() as u64;
        *made = (made.0 + rows.len() as u64 - empty, made.1 + empty);
        out.push(&rows)
    }
}

/// Rows of the file; those without numbers keep their place.
fn rows(
    keys: Vec<String>,
    modality: &'static str,
    embeddings: Vec<clip::Embedding>,
) -> Vec<Embedding> {
    let rows = keys.into_iter().zip(embeddings);
    rows.map(|(key, numbers)| Embedding { key, modality, numbers }).collect()
}

/// Keys, and the pictures as the model is to see them; why one cannot be seen goes to standard error.
fn prepared(embedder: &Embedder, items: &[Item]) -> (Vec<String>, Vec<Option<Vec<f32>>>) {
    let (transform, limits) = (embedder.transform(), Limits::default());
    // An evaluation counts every picture that it is given, small ones too.
    let limits = Limits { min_side: 1, ..limits };
    let prepare = |item: &Item| match &item.picture {
        Picture::Bytes { bytes, .. } => match transform.of_bytes(bytes, &limits) {
            Ok(picture) => Some(picture),
            Err(reject) => {
                eprintln!("{}: {reject}", item.key);
                None
            }
        },
        Picture::Url(url) => {
            eprintln!("{}: only an address, {url}; `recaption refine` fetches pictures", item.key);
            None
        }
        Picture::Absent { reason, detail } => {
            eprintln!("{}: {} {detail}", item.key, reason.as_str());
            None
        }
    };
    let pictures = items.par_iter().map(prepare).collect();
    (items.iter().map(|item| item.key.clone()).collect(), pictures)
}

/// Whether these are lines and no dataset.
fn is_lines(path: &str) -> bool {
    Path::new(path).extension().is_some_and(|extension| extension == "txt")
}

/// The lines of a file, some at a time; their keys are their numbers, from 1.
fn for_lines(
    path: &Path,
    batch: usize,
    work: &mut dyn FnMut(Vec<(String, Option<String>)>) -> Result<()>,
) -> Result<()> {
    let what = || format!("cannot read {}", path.display());
    let mut lines = BufReader::new(File::open(path).with_context(what)?).lines().enumerate();
    loop {
        let mut texts = Vec::new();
        for (number, line) in lines.by_ref().take(batch) {
            let line = line.with_context(|| format!("line {}", number + 1)).with_context(what)?;
            texts.push(((number + 1).to_string(), Some(line)));
        }
        if texts.is_empty() {
            return Ok(());
        }
        work(texts)?;
    }
}

/// A dataset whose texts are in this column.
fn dataset(inputs: &[String], text_column: Option<&str>) -> Result<Source> {
    let text_column = text_column.map(str::to_owned);
    shard::open_source(inputs, &source::Config { text_column, ..source::Config::default() })
}

/// All items of a source, some at a time, with a bar of progress.
fn for_batches(
    source: &Source,
    batch: usize,
    limit: Option<u64>,
    mut work: impl FnMut(Vec<Item>) -> Result<()>,
) -> Result<()> {
    let rows = source.plan().rows.min(limit.unwrap_or(u64::MAX));
    let style = "{bar:24} {pos}/{len} rows · {per_sec} · {eta} left";
    let bar = ProgressBar::new(rows).with_style(ProgressStyle::with_template(style)?);
    let mut items = source.items(0..rows)?;
    loop {
        let some: Vec<Item> = items.by_ref().take(batch).collect::<Result<_>>()?;
        if some.is_empty() {
            bar.finish_and_clear();
            return Ok(());
        }
        let count = some.len() as u64;
        work(some)?;
        bar.inc(count);
    }
}

/// The texts of one column over a whole dataset. Cosines have four decimals, so counting each value
/// gives exact quantiles in memory that does not grow.
struct Column {
    name: String,
    counts: Vec<u64>,
    missing: u64,
}

/// Values of a cosine on either side of zero.
const STEPS: f64 = 1e4;

impl Column {
    fn new(name: &str) -> Column {
        Column { name: name.to_owned(), counts: vec![0; 2 * STEPS as usize + 1], missing: 0 }
    }

    fn push(&mut self, cosine: Option<f64>) {
        match cosine {
            Some(cosine) => {
                let place = ((cosine + 1.0) * STEPS).round().clamp(0.0, 2.0 * STEPS);
                self.counts[place as usize] += 1;
            }
            None => self.missing += 1,
        }
    }

    fn pairs(&self) -> u64 {
        self.counts.iter().sum()
    }

    fn values(&self) -> impl Iterator<Item = (f64, u64)> {
        self.counts.iter().enumerate().map(|(place, &count)| (place as f64 / STEPS - 1.0, count))
    }

    fn mean(&self) -> Option<f64> {
        let pairs = self.pairs();
        let sum: f64 = self.values().map(|(value, count)| value * count as f64).sum();
        (pairs > 0).then(|| sum / pairs as f64)
    }

    fn quantile(&self, share: f64) -> Option<f64> {
        let before = (self.pairs().checked_sub(1)? as f64 * share).round() as u64;
        let mut seen = 0;
        self.values().find_map(|(value, count)| {
            seen += count;
            (seen > before).then_some(value)
        })
    }
}

impl Similarity {
    /// One line of JSON for each row on standard output, a table of each column at the end.
    pub(super) fn run(self) -> Result<()> {
        let embedder = self.weights.open()?;
        let started = Instant::now();
        let source = dataset(&self.input, None)?;
        let names = self.columns(&source)?;
        let mut columns: Vec<Column> = names.iter().map(|name| Column::new(name)).collect();
        for_batches(&source, self.weights.batch, self.limit, |items| {
            let texts: Vec<Vec<Option<&str>>> =
                items.iter().map(|item| texts_of(item, &source, &names)).collect();
            let (keys, pictures) = prepared(&embedder, &items);
            let fits = embedder.fits(&pictures, &texts)?;
            for (key, row) in keys.iter().zip(fits) {
                let mut line = serde_json::Map::from_iter([("key".to_owned(), json!(key))]);
                for (column, cosine) in columns.iter_mut().zip(row) {
                    column.push(cosine);
                    line.insert(column.name.clone(), json!(cosine));
                }
                println!("{}", serde_json::Value::Object(line));
            }
            Ok(())
        })?;
        eprintln!("{}", table(&columns));
        eprintln!("{} in {:.1} s", embedder.label(), started.elapsed().as_secs_f64());
        Ok(())
    }

    fn columns(&self, source: &Source) -> Result<Vec<String>> {
        let plan = source.plan();
        let recognised = plan.mapping.text.clone();
        let of_run = ["text_raw", "text_synthetic", "text_generated"];
        let is_known = |name: &str| {
            recognised.as_deref() == Some(name) || plan.extra.iter().any(|c| c.name == name)
        };
        if let Some(name) = self.text_column.iter().find(|name| !is_known(name)) {
            let others = plan.extra.iter().map(|column| column.name.clone());
            let names: Vec<String> = recognised.into_iter().chain(others).collect();
            bail!("no column {name}; there are {}", names.join(", "));
        }
        if !self.text_column.is_empty() {
            return Ok(self.text_column.clone());
        }
        if of_run.iter().all(|name| is_known(name)) {
            return Ok(of_run.map(str::to_owned).into());
        }
        Ok(vec![recognised.context("no column with texts; name one with --text-column")?])
    }
}

/// The texts of an item in these columns; blank ones are none.
fn texts_of<'a>(item: &'a Item, source: &Source, names: &[String]) -> Vec<Option<&'a str>> {
    let recognised = source.plan().mapping.text.as_deref();
    let text = |name: &String| match recognised == Some(name.as_str()) {
        true => item.text_raw.as_deref(),
        false => item.extra.get(name).and_then(|v| v.as_str()),
    };
    names.iter().map(|name| text(name).filter(|text| !text.trim().is_empty())).collect()
}

fn table(columns: &[Column]) -> Table {
    let mut table = Table::new();
    table.set_header(["text", "pairs", "mean", "5 %", "median", "95 %", "without"]);
    let shown = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.3}"));
    for column in columns {
        table.add_row([
            column.name.clone(),
            column.pairs().to_string(),
            shown(column.mean()),
            shown(column.quantile(0.05)),
            shown(column.quantile(0.5)),
            shown(column.quantile(0.95)),
            column.missing.to_string(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_counted_cosines_are_those_of_the_sorted_ones() {
        let mut column = Column::new("text");
        assert_eq!((column.mean(), column.quantile(0.5)), (None, None));
        for i in [3, 1, 2, 0, 4] {
            column.push(Some(f64::from(i) / 10.0));
        }
        column.push(None);
        assert_eq!((column.pairs(), column.missing), (5, 1));
        let near = |found: Option<f64>, wanted: f64| (found.unwrap() - wanted).abs() < 1e-9;
        assert!(near(column.mean(), 0.2) && near(column.quantile(0.5), 0.2));
        assert!(near(column.quantile(0.0), 0.0) && near(column.quantile(1.0), 0.4));
        column.push(Some(1.00001));
        assert!(near(column.quantile(1.0), 1.0));
    }
}
