//! What a card says, counted: one pass over the rows without their pictures, and the markers.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use serde_json::Value;

use crate::audit::Texts;
use crate::audit::place::Place;
use crate::audit::stems::Stems;
use crate::audit::tally;
use crate::audit::tally::Summary;
use crate::audit::tally::Tally;
use crate::curate::card::About;
use crate::review::Rows;
use crate::review::Statistics;
use crate::review::desk;
use crate::review::verdicts;
use crate::sample::Sample;
use crate::shard;
use crate::shard::Format;
use crate::shard::Images;
use crate::shard::Marker;

/// Columns of the source that say under which licence a picture is.
const LICENCE: [&str; 4] = ["license", "licence", "License", "LICENSE"];
/// Different licences that are counted; the rest share a line.
const LICENCES: usize = 50;
const OTHERS: &str = "(others)";
/// Flags and tags that are listed.
const MOST: usize = 20;

pub(super) struct Facts {
    pub(super) name: String,
    /// `run.json`, or null.
    pub(super) run: Value,
    pub(super) markers: Vec<Marker>,
    /// Columns as Arrow's JSON names them; none where shards are no parquet.
    pub(super) columns: Vec<(String, Value)>,
    pub(super) summary: Summary,
    pub(super) counts: Counts,
    /// Rows by what their licence column says.
    pub(super) licences: BTreeMap<String, u64>,
    pub(super) review: Option<Statistics>,
}

/// Sums over the audits of rows with a generated text.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) texts: u64,
    /// Texts that people wrote.
    pub(super) by_people: u64,
    /// Of objects, attributes, numbers, names: words, words from nowhere, texts with such a word.
    pub(super) kinds: [[u64; 3]; 4],
    pub(super) kept: u64,
    pub(super) lost: u64,
    pub(super) novelty: f64,
    pub(super) with_novelty: u64,
    pub(super) cut: u64,
    /// Texts by ISO 639-3 code.
    pub(super) languages: BTreeMap<String, u64>,
}

impl Facts {
    pub(super) fn read(run: &Path, about: &About) -> Result<Facts> {
        let markers = shard::all_finished(run)?;
        ensure!(!markers.is_empty(), "{} has no finished shard yet", run.display());
        let (mut tally, mut counts, mut licences) =
            (Tally::default(), Counts::default(), BTreeMap::new());
        for marker in &markers {
            for (row, sample) in shard::refined(run, marker, Images::Skip)?.enumerate() {
                let sample = sample.with_context(|| format!("in {}", marker.part.name))?;
                let stems = Stems::of(&Texts::of(&sample));
                let place = Place { shard: marker.shard, row: row as u32 };
                tally.add(&tally::Row::of(&sample, &stems, place));
                counts.add(&sample);
                count_licence(&mut licences, &sample);
            }
        }
        let name = run.canonicalize().unwrap_or_else(|_| run.to_owned());
        let name = name.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Facts {
            name: about.name.clone().unwrap_or(name),
            run: record(run)?,
            columns: columns(run, &markers[0])?,
            summary: tally.summary(MOST),
            counts,
            licences,
            review: review(run)?,
            markers,
        })
    }

    pub(super) fn total(&self, of: fn(&Marker) -> u64) -> u64 {
        self.markers.iter().map(of).sum()
    }

    pub(super) fn format(&self) -> Format {
        self.markers.first().map_or(Format::default(), |marker| marker.format)
    }

    /// Names, roles and hashes of all models of the run.
    pub(super) fn models(&self) -> Vec<[String; 3]> {
        let text = |value: &Value| match value {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let folders = self.run["models"].as_array().into_iter().flatten();
        let mut models: Vec<[String; 3]> = folders
            .map(|model| {
                let files = model["files"].as_array().into_iter().flatten();
                let hashes = files.map(|f| format!("{} {}", text(&f["name"]), text(&f["sha256"])));
                let hashes = hashes.collect::<Vec<_>>().join(", ");
                [text(&model["kind"]), text(&model["model"]), hashes]
            })
            .collect();
        let writer = &self.run["writer"];
        if writer.is_object() {
            let role = format!("writer ({})", text(&writer["writer"]));
            let prompt = format!("prompts {}", text(&writer["prompt"]));
            models.push([role, text(&writer["model"]), prompt]);
        }
        models
    }
}

impl Counts {
    fn add(&mut self, sample: &Sample) {
        let Some(generated) = &sample.generated else { return };
        let audit = &sample.audit;
        self.texts += 1;
        self.by_people += u64::from(&*generated.writer == "human");
        let kinds = [
            (audit.objects, audit.objects_nowhere),
            (audit.attributes, audit.attributes_nowhere),
            (audit.numbers, audit.numbers_nowhere),
            (audit.names, audit.names_nowhere),
        ];
        for (sum, (words, nowhere)) in self.kinds.iter_mut().zip(kinds) {
            sum[0] += u64::from(words);
            sum[1] += u64::from(nowhere);
            sum[2] += u64::from(nowhere > 0);
        }
        self.kept += audit.kept.len() as u64;
        self.lost += audit.lost.len() as u64;
        self.novelty += f64::from(audit.novelty.unwrap_or(0.0));
        self.with_novelty += u64::from(audit.novelty.is_some());
        self.cut += u64::from(audit.length_tokens > 77);
        if let Some(language) = &audit.language {
            *self.languages.entry(language.clone()).or_default() += 1;
        }
    }
}

fn count_licence(licences: &mut BTreeMap<String, u64>, sample: &Sample) {
    let said = LICENCE.iter().find_map(|name| sample.item.extra.get(*name)?.as_str());
    let Some(said) = said.map(str::trim).filter(|said| !said.is_empty()) else { return };
    let is_full = licences.len() >= LICENCES && !licences.contains_key(said);
    let name = if is_full { OTHERS } else { said };
    *licences.entry(name.to_owned()).or_default() += 1;
}

fn record(run: &Path) -> Result<Value> {
    let path = run.join("run.json");
    match std::fs::read(&path) {
        Ok(json) => {
            serde_json::from_slice(&json).with_context(|| format!("{} is damaged", path.display()))
        }
        Err(_) => Ok(Value::Null),
    }
}

fn columns(run: &Path, marker: &Marker) -> Result<Vec<(String, Value)>> {
    match marker.format {
        Format::Parquet => shard::types_of(&run.join(&marker.part.name)),
        Format::Webdataset => Ok(Vec::new()),
    }
}

fn review(run: &Path) -> Result<Option<Statistics>> {
    let log = run.join(verdicts::LOG);
    if !log.is_file() {
        return Ok(None);
    }
    let statistics = desk::statistics_of(&Rows::open(run, None)?, verdicts::read(&log)?);
    Ok((statistics.rows > 0).then_some(statistics))
}
