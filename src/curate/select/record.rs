//! `run.json` of a selection: what it is made from, what becomes of the rows, and what of the old
//! runs' `run.json` goes on.

use std::collections::BTreeMap;

use anyhow::Result;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;
use serde_json::json;

use crate::atomic_file;
use crate::audit;
use crate::curate::select::Request;
use crate::curate::select::Verdicts;
use crate::curate::select::decide::Fate;
use crate::curate::select::feed::Input;
use crate::shard::Format;

/// `run.json` of a selection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Record {
    /// What must be the same when the selection is continued.
    pub identity: Value,
    /// Rows of the old runs.
    pub rows: u64,
    /// What becomes of them.
    pub counts: Counts,
    /// Settings of the first of the old runs; edited texts are audited by them.
    pub config: Value,
    /// Which column of its source was what.
    pub columns: Value,
    /// The models that looked, of all old runs.
    pub models: Vec<Value>,
    /// Who wrote; null where the old runs do not agree.
    pub writer: Value,
    /// `run.json` of each old run.
    pub sources: Vec<Value>,
}

/// What becomes of the rows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Counts {
    /// Rows that are taken.
    pub kept: u64,
    /// Those of them whose text is a person's now.
    pub edited: u64,
    /// Rows that are left out, by reason.
    pub left_out: BTreeMap<String, u64>,
    /// Verdicts that were heard.
    pub verdicts: u64,
    /// Verdicts on rows that are not there, or on texts that have changed since.
    pub verdicts_ignored: u64,
    /// Lines of the lists of opt-outs.
    pub opt_outs: u64,
    /// Those that name no row.
    pub opt_outs_unmatched: u64,
    /// Some of them.
    pub unmatched: Vec<String>,
}

/// Lines without a row that `run.json` lists.
pub(super) const LISTED: usize = 100;

impl Record {
    pub(super) fn of(identity: Value, counts: Counts, inputs: &[Input]) -> Record {
        let first = inputs.first().map(|input| input.about.clone()).unwrap_or_default();
        let all = |name: &str| inputs.iter().map(|i| i.about[name].clone()).collect::<Vec<Value>>();
        Record {
            identity,
            rows: inputs.iter().map(Input::rows).sum(),
            counts,
            config: first["config"].clone(),
            columns: first["columns"].clone(),
            models: models(all("models")),
            writer: agreed(all("writer")),
            sources: inputs.iter().map(|input| input.about.clone()).collect(),
        }
    }
}

impl Counts {
    pub(super) fn add(&mut self, fate: &Fate) {
        match fate {
            Fate::Keep => self.kept += 1,
            Fate::Edit { .. } => {
                self.kept += 1;
                self.edited += 1;
            }
            Fate::Drop(reject) => {
                *self.left_out.entry(reject.reason.as_str().to_owned()).or_default() += 1;
            }
        }
    }

    /// Why rows are left out.
    pub fn words(&self) -> String {
        let words = self.left_out.iter().map(|(reason, rows)| format!("{rows} {reason}"));
        words.collect::<Vec<_>>().join(", ")
    }
}

/// Weights of the old run's audit, so that scores of a selection can be compared with each other.
/// Those of an older version, whose settings had other names, give way to today's.
pub(super) fn audit_of(about: &Value) -> audit::Config {
    serde_json::from_value(about["config"]["audit"].clone()).unwrap_or_default()
}

pub(super) fn identity(
    request: &Request,
    inputs: &[Input],
    format: Format,
    audit: &audit::Config,
) -> Result<Value> {
    let lists = request.opt_out.iter().map(|list| atomic_file::sha256_file(list));
    let accept: Vec<&str> = request.accept.iter().map(|verdict| verdict.as_str()).collect();
    let is_heard = request.verdicts != Verdicts::Nobodys;
    let logs = inputs.iter().map(|input| is_heard.then(|| input.log_sha256.clone()).flatten());
    let data: Vec<String> = inputs.iter().map(Input::fingerprint).collect();
    Ok(json!({
        "command": "select",
        "version": env!("CARGO_PKG_VERSION"),
        "inputs": request.runs.iter().map(|run| run.display().to_string()).collect::<Vec<_>>(),
        "data": data,
        "where": request.filter,
        "verdicts": logs.collect::<Vec<_>>(),
        "accept": accept,
        "reviewed_only": request.reviewed_only,
        "opt_out": lists.collect::<Result<Vec<_>>>()?,
        "rows_per_shard": request.rows_per_shard,
        "format": format,
        "audit": audit,
    }))
}

/// All that any of the runs names, each once.
fn models(lists: Vec<Value>) -> Vec<Value> {
    let mut all = Vec::new();
    for model in lists.iter().flat_map(|list| list.as_array().into_iter().flatten()) {
        if !all.contains(model) {
            all.push(model.clone());
        }
    }
    all
}

fn agreed(values: Vec<Value>) -> Value {
    let mut values = values.into_iter();
    let first = values.next().unwrap_or_default();
    if values.all(|other| other == first) { first } else { Value::Null }
}
