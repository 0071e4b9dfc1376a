//! The report of a run, from what lies in its folder: shards, markers, `run.json`.
//!
//! Every finished shard is read once without its images; the fifty rows that are shown are chosen by
//! the hash of their keys, so that the same run always shows the same rows, and only their images are
//! read. The page itself is laid out by [`audit::report`](crate::audit::report).

use std::collections::BTreeMap;
use std::collections::BinaryHeap;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use bytes::Bytes;
use fast_image_resize::Resizer;
use serde_json::Value;

use crate::atomic_file;
use crate::audit::Texts;
use crate::audit::place::Place;
use crate::audit::report;
use crate::audit::report::Fact;
use crate::audit::report::Model;
use crate::audit::report::Rejects;
use crate::audit::report::Report;
use crate::audit::report::Row;
use crate::audit::stems::Stems;
use crate::audit::tally;
use crate::audit::tally::Tally;
use crate::decode;
use crate::decode::Limits;
use crate::decode::Store;
use crate::sample::Sample;
use crate::sample::Stage;
use crate::shard;
use crate::shard::Images;
use crate::shard::Marker;

/// Rows that are shown.
const ROWS: usize = 50;

/// Longer side of their pictures, in pixels.
const THUMBNAIL_SIDE: u32 = 160;

/// Most frequent texts and tags that are listed.
const MOST: usize = 20;

/// Writes `report.html` into the run's folder.
///
/// # Errors
/// When the folder is no run's, a shard cannot be read, or the page cannot be written.
pub fn write(run: &Path) -> Result<PathBuf> {
    let markers = shard::all_finished(run)?;
    let about = about(run)?;
    let (tally, chosen) = read(run, &markers)?;
    let report = Report {
        title: run.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        subtitle: subtitle(&about, &markers),
        facts: facts(&about, &markers),
        models: models(&about),
        funnel: funnel(&markers),
        rejects: rejects(&markers),
        summary: tally.summary(MOST),
        rows: rows(run, &markers, chosen)?,
    };
    let path = run.join("report.html");
    atomic_file::write(&path, report::render(&report)?.as_bytes())?;
    Ok(path)
}

/// `run.json`, if the run has one.
fn about(run: &Path) -> Result<Value> {
    let path = run.join("run.json");
    match std::fs::read(&path) {
        Ok(json) => {
            serde_json::from_slice(&json).with_context(|| format!("{} is damaged", path.display()))
        }
        Err(_) => Ok(Value::Null),
    }
}

/// A row that may be shown; the greatest of the heap is the first to go.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Chosen {
    hash: String,
    /// Place in the list of markers, and in the refined rows of the shard.
    place: (usize, usize),
}

fn read(run: &Path, markers: &[Marker]) -> Result<(Tally, Vec<(usize, usize)>)> {
    let (mut tally, mut chosen) = (Tally::default(), BinaryHeap::new());
    for (number, marker) in markers.iter().enumerate() {
        for (row, sample) in shard::refined(run, marker, Images::Skip)?.enumerate() {
            let sample = sample?;
            let stems = Stems::of(&Texts::of(&sample));
            let place = Place { shard: marker.shard, row: row as u32 };
            tally.add(&tally::Row::of(&sample, &stems, place));
            let hash = atomic_file::sha256(sample.item.key.as_bytes());
            chosen.push(Chosen { hash, place: (number, row) });
            if chosen.len() > ROWS {
                chosen.pop();
            }
        }
    }
    let mut places: Vec<(usize, usize)> = chosen.into_iter().map(|chosen| chosen.place).collect();
    places.sort_unstable();
    Ok((tally, places))
}

fn rows(run: &Path, markers: &[Marker], places: Vec<(usize, usize)>) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for part in places.chunk_by(|a, b| a.0 == b.0) {
        let wanted: Vec<usize> = part.iter().map(|place| place.1).collect();
        for sample in shard::refined_rows(run, &markers[part[0].0], &wanted)? {
            rows.push(row(sample));
        }
    }
    Ok(rows)
}

fn row(sample: Sample) -> Row {
    let (writer, text_generated) = match sample.generated {
        Some(generated) => (generated.writer.to_string(), Some(generated.text)),
        None => (String::new(), None),
    };
    Row {
        key: sample.item.key,
        thumbnail: thumbnail(&sample.image.bytes).ok(),
        text_raw: sample.item.text_raw,
        text_synthetic: sample.synthetic.map(|synthetic| synthetic.text),
        text_generated,
        writer,
        words: sample.audit.words,
        tags: sample.tags,
        score: sample.audit.score,
        flags: sample.audit.reasons,
    }
}

/// A small JPEG; what was stored can be decoded again, unless somebody changed it.
fn thumbnail(bytes: &Bytes) -> Result<Vec<u8>> {
    // Stored pictures were judged before.
    let limits = Limits { min_side: 1, max_aspect: f32::INFINITY, ..Limits::default() };
    let (pixels, mut encoding) =
        decode::upright(bytes, &limits).map_err(|reject| anyhow::anyhow!("{reject}"))?;
    // Encoded again even if it is small, so that the page only holds JPEGs of ours.
    encoding.as_shown = false;
    let store = Store { max_side: THUMBNAIL_SIDE, jpeg_quality: 80 };
    Ok(store.store(bytes, &pixels, encoding, &mut Resizer::new())?.bytes.to_vec())
}

fn subtitle(about: &Value, markers: &[Marker]) -> String {
    let inputs = about["identity"]["inputs"].as_array();
    let inputs: Vec<&str> = inputs.into_iter().flatten().filter_map(Value::as_str).collect();
    let shards = markers.len();
    format!("{} · {shards} {}", inputs.join(", "), if shards == 1 { "shard" } else { "shards" })
}

fn facts(about: &Value, markers: &[Marker]) -> Vec<Fact> {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let seconds: f64 = markers.iter().map(|marker| marker.stats.seconds).sum();
    let rows: u64 = markers.iter().map(|marker| marker.rows_read).sum();
    let mut facts = vec![
        ("rows of the source", text(&about["rows"])),
        ("columns", columns(&about["columns"])),
        ("time", format!("{seconds:.1} s")),
        ("rows per second", format!("{:.1}", rows as f64 / seconds.max(1e-9))),
        ("stored pictures", format!("at most {} px", text(&about["config"]["store"]["max_side"]))),
        ("recaption", text(&about["identity"]["version"])),
    ];
    facts.retain(|(_, value)| value != "null" && !value.is_empty());
    let fact = |(name, value): (&str, String)| Fact { name: name.to_owned(), value };
    facts.into_iter().map(fact).collect()
}

fn columns(mapping: &Value) -> String {
    let named = mapping.as_object().into_iter().flatten();
    let named = named.filter_map(|(role, name)| Some(format!("{role}: {}", name.as_str()?)));
    named.collect::<Vec<_>>().join(", ")
}

fn models(about: &Value) -> Vec<Model> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let of_folder = |model: &Value| Model {
        role: text(&model["kind"]),
        name: text(&model["model"]),
        sha256: network_hash(model),
    };
    let folders = about["models"].as_array().into_iter().flatten().map(of_folder);
    let writer = &about["writer"];
    let name = match &writer["model"] {
        Value::String(name) => name.clone(),
        Value::Object(identity) => {
            let said = identity.get("model").or_else(|| identity.get("name"));
            said.map(&text).unwrap_or_default()
        }
        _ => String::new(),
    };
    let role = format!("writer ({})", text(&writer["writer"]));
    let writer = writer.is_object().then(|| Model { role, name, sha256: text(&writer["prompt"]) });
    folders.chain(writer).collect()
}

/// The hash of the network, which is listed among labels and settings.
fn network_hash(model: &Value) -> String {
    let mut files = model["files"].as_array().into_iter().flatten();
    let network = files.find(|f| f["name"].as_str().is_some_and(|n| n.ends_with(".onnx")));
    network.and_then(|file| file["sha256"].as_str()).unwrap_or_default().to_owned()
}

fn funnel(markers: &[Marker]) -> Vec<report::Stage> {
    let mut entered: u64 = markers.iter().map(|marker| marker.rows_read).sum();
    let mut stages = Vec::new();
    let mut all = markers.iter().flat_map(Marker::rejects_by_stage);
    let is_selection = all.any(|(at, ..)| at == Stage::Select.as_str());
    for stage in Stage::ALL {
        let all = markers.iter().flat_map(Marker::rejects_by_stage);
        let rejected = all.filter(|(at, ..)| *at == stage.as_str()).map(|(_, _, rows)| rows).sum();
        // A run is refined or selected: the stages of the other are none of it.
        if (stage == Stage::Select) != is_selection {
            continue;
        }
        stages.push(report::Stage { name: stage.as_str().to_owned(), entered, rejected });
        entered = entered.saturating_sub(rejected);
    }
    stages
}

fn rejects(markers: &[Marker]) -> Vec<Rejects> {
    let mut all = BTreeMap::<(&str, &str), u64>::new();
    for (stage, reason, rows) in markers.iter().flat_map(Marker::rejects_by_stage) {
        *all.entry((stage, reason)).or_default() += rows;
    }
    let mut all: Vec<Rejects> = all
        .into_iter()
        .map(|((stage, reason), rows)| Rejects {
            stage: stage.to_owned(),
            reason: reason.to_owned(),
            rows,
        })
        .collect();
    all.sort_by(|a, b| b.rows.cmp(&a.rows).then_with(|| a.reason.cmp(&b.reason)));
    all
}
