//! What the page says of a run itself: its settings and models, the funnel, why rows were rejected.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use anyhow::Result;
use serde_json::Value;

use crate::audit::place::Place;
use crate::audit::report;
use crate::audit::report::Fact;
use crate::audit::report::Model;
use crate::audit::report::Rejected;
use crate::audit::report::Rejects;
use crate::sample::Stage;
use crate::shard;
use crate::shard::Marker;

/// `run.json`, if the run has one.
pub(super) fn about(run: &Path) -> Result<Value> {
    let path = run.join("run.json");
    match std::fs::read(&path) {
        Ok(json) => {
            serde_json::from_slice(&json).with_context(|| format!("{} is damaged", path.display()))
        }
        Err(_) => Ok(Value::Null),
    }
}

/// The inputs, and by which rules the rows were judged.
pub(super) fn subtitle(about: &Value, markers: &[Marker], is_again: bool) -> String {
    let inputs = about["identity"]["inputs"].as_array();
    let inputs: Vec<&str> = inputs.into_iter().flatten().filter_map(Value::as_str).collect();
    let shards = markers.len();
    let shards = format!("{shards} {}", if shards == 1 { "shard" } else { "shards" });
    let rules = if is_again { " · audited again by today's rules" } else { "" };
    format!("{} · {shards}{rules}", inputs.join(", "))
}

pub(super) fn facts(about: &Value, markers: &[Marker]) -> Vec<Fact> {
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

pub(super) fn models(about: &Value) -> Vec<Model> {
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
        // An endpoint's is among the parameters that it is sent.
        Value::Object(identity) => {
            let said = identity.get("model").or_else(|| identity.get("name"));
            said.map_or_else(|| text(&writer["model"]["parameters"]["model"]), &text)
        }
        _ => String::new(),
    };
    let role = format!("writer ({})", text(&writer["writer"]));
    let writer = writer.is_object().then(|| Model { role, name, sha256: text(&writer["prompt"]) });
    let viewer = &about["identity"]["vision"];
    let viewer = viewer.is_object().then(|| Model {
        role: "captioner (remote)".to_owned(),
        name: text(&viewer["model"]["captioner"]["parameters"]["model"]),
        sha256: text(&viewer["prompt"]),
    });
    folders.chain(viewer).chain(writer).collect()
}

/// The hash of the network, which is listed among labels and settings.
fn network_hash(model: &Value) -> String {
    let mut files = model["files"].as_array().into_iter().flatten();
    let network = files.find(|f| f["name"].as_str().is_some_and(|n| n.ends_with(".onnx")));
    network.and_then(|file| file["sha256"].as_str()).unwrap_or_default().to_owned()
}

pub(super) fn funnel(markers: &[Marker]) -> Vec<report::Stage> {
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

/// Counted by the markers; a few rows of each reason, the same ones each time.
pub(super) fn rejects(run: &Path, markers: &[Marker]) -> Result<Vec<Rejects>> {
    let mut all = BTreeMap::<(String, String), (u64, Kept)>::new();
    for marker in markers {
        for (stage, reason, rows) in marker.rejects_by_stage() {
            all.entry((stage.to_owned(), reason.to_owned())).or_default().0 += rows;
        }
        for rejected in shard::rejects(run, marker)? {
            let (row, item, reject) = rejected?;
            let reason = (reject.stage.as_str().to_owned(), reject.reason.as_str().to_owned());
            let kept = &mut all.entry(reason).or_default().1;
            let place = Place { shard: marker.shard, row: row as u32 };
            kept.add(place, || Rejected {
                key: item.key,
                shard: marker.shard,
                text_raw: item.text_raw,
                detail: reject.detail,
            });
        }
    }
    let mut all: Vec<Rejects> = all
        .into_iter()
        .map(|((stage, reason), (rows, kept))| Rejects {
            stage,
            reason,
            rows,
            examples: kept.0.into_values().collect(),
        })
        .collect();
    all.sort_by(|a, b| b.rows.cmp(&a.rows).then_with(|| a.reason.cmp(&b.reason)));
    Ok(all)
}

/// The rows with the smallest hashes of their places.
#[derive(Default)]
struct Kept(BTreeMap<u64, Rejected>);

impl Kept {
    fn add(&mut self, place: Place, row: impl FnOnce() -> Rejected) {
        let hash = place.hash();
        if self.0.len() < KEPT || self.0.last_key_value().is_some_and(|(last, _)| hash < *last) {
            self.0.insert(hash, row());
        }
        while self.0.len() > KEPT {
            self.0.pop_last();
        }
    }
}

/// Rows of each reason that are shown.
const KEPT: usize = 3;
