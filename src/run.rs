//! A run's folder: who works on it, what it was made from, what of it is done.
//!
//! `run.json` and `plan.json` are written once. The same command finds them and continues; any other
//! input, model, prompt or setting that could change a column is refused, never mixed in.

use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use clap::ValueEnum;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::json;

use crate::clip::Judge;
use crate::config::Config;
use crate::describe::Describer;
use crate::folder;
use crate::models::folder::ModelFile;
use crate::models::folder::ModelFolder;
use crate::perceive::Models;
use crate::pipeline::Again;
use crate::pipeline::Todo;
use crate::sample::Reason;
use crate::shard;
use crate::shard::Marker;
use crate::source::Mapping;
use crate::source::Plan;
use crate::source::Source;
use crate::vision::Captioner;

/// The folder of a run.
pub struct RunFolder {
    /// Where it is.
    pub path: PathBuf,
}

/// `run.json`: what a run was made from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunRecord {
    /// What must be the same when the run is continued.
    pub identity: Value,
    /// Every setting, as resolved when the run began.
    pub config: Config,
    /// Rows of the source.
    pub rows: u64,
    /// Which column of the source is what.
    pub columns: Mapping,
    /// The models that look, with their files.
    pub models: Vec<ModelRecord>,
    /// Who writes: model, parameters and prompt files with their hashes.
    pub writer: Value,
}

/// A model folder of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModelRecord {
    /// `tagger`, `detector`, `captioner` or `safety classifier`.
    pub kind: String,
    /// `name@first-8-of-sha256`, as rows name it.
    pub model: String,
    /// Where it was.
    pub path: PathBuf,
    /// The files that decide what it says.
    pub files: Vec<ModelFile>,
}

/// Which rejects are to be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Retry {
    /// Those whose reason may pass: timeouts, dead hosts, failed models.
    Retryable,
    /// All.
    All,
}

/// What is done and what is not.
pub struct Work {
    /// Markers of the shards that are finished.
    pub finished: Vec<Marker>,
    /// Shards to do, finished ones that are to be mended included.
    pub todo: Vec<Todo>,
    /// Shards of the run.
    pub shards: u64,
    /// Rows of the run.
    pub rows: u64,
}

const RUN: &str = "run.json";
const PLAN: &str = "plan.json";

impl RunFolder {
    /// Nothing is read or made yet.
    pub fn new(path: &Path) -> RunFolder {
        RunFolder { path: path.to_owned() }
    }

    /// Makes the folder if need be; it belongs to this process alone until the lock is dropped.
    ///
    /// # Errors
    /// When it cannot be made, or another process has it.
    pub fn lock(&self) -> Result<File> {
        folder::lock(&self.path)
    }

    /// The inputs as they were when the run began, or as they are now.
    ///
    /// # Errors
    /// When they cannot be used, or have changed since.
    pub fn source(&self, inputs: &[String], config: &Config) -> Result<Source> {
        match self.read::<Plan>(PLAN)? {
            Some(plan) => Source::resume(plan),
            None => Source::open(inputs, &config.source),
        }
    }

    /// Says what the run is made from, or compares with what it was made from.
    ///
    /// # Errors
    /// When it was made from something else, or nothing can be written.
    pub fn claim(
        &self,
        inputs: &[String],
        config: &Config,
        source: &Source,
        models: &Models,
        describer: &Describer,
        (judge, captioner): (Option<&Judge>, Option<&Captioner>),
    ) -> Result<()> {
        let identity = identity(inputs, config, models, describer, judge, captioner)?;
        if self.is_same(&identity)? {
            return Ok(());
        }
        self.write(PLAN, source.plan())?;
        let run = RunRecord {
            identity,
            config: config.clone(),
            rows: source.plan().rows,
            columns: source.plan().mapping.clone(),
            models: models.folders().map(ModelRecord::of).collect(),
            writer: describer.provenance(),
        };
        self.write(RUN, &run)
    }

    /// Whether the folder holds this very run; false when it holds none.
    ///
    /// # Errors
    /// When it holds another run: names each difference.
    pub fn is_same(&self, identity: &Value) -> Result<bool> {
        let Some(run) = self.read::<RunRecord>(RUN)? else { return Ok(false) };
        folder::ensure_same(&self.path, &run.identity, identity)?;
        Ok(true)
    }

    /// Every shard of the source: done, or to do.
    ///
    /// # Errors
    /// When a marker or a file of rejects cannot be read.
    pub fn work(&self, source: &Source, config: &Config, retry: Option<Retry>) -> Result<Work> {
        let rows = source.plan().rows.min(config.run.limit.unwrap_or(u64::MAX));
        let shards = rows.div_ceil(config.run.rows_per_shard);
        let mut work = Work { finished: Vec::new(), todo: Vec::new(), shards, rows };
        for number in 0..shards {
            let start = number * config.run.rows_per_shard;
            let range = start..rows.min(start + config.run.rows_per_shard);
            let number = u32::try_from(number).context("more shards than numbers for them")?;
            match shard::finished(&self.path, number)? {
                None => work.todo.push(Todo { shard: number, rows: range, again: None }),
                Some(marker) => {
                    work.todo.extend(self.again(&marker, range, retry)?);
                    work.finished.push(marker);
                }
            }
        }
        Ok(work)
    }

    fn again(
        &self,
        marker: &Marker,
        rows: Range<u64>,
        retry: Option<Retry>,
    ) -> Result<Option<Todo>> {
        let Some(retry) = retry else { return Ok(None) };
        let mut wanted = Vec::new();
        for reject in shard::rejects(&self.path, marker)? {
            let (row, _, reject) = reject?;
            let is_copy = matches!(reject.reason, Reason::Duplicate | Reason::NearDuplicate);
            if reject.reason.retryable() || (retry == Retry::All && !is_copy) {
                wanted.push(row);
            }
        }
        let again = Again { marker: marker.clone(), rows: wanted };
        let is_empty = again.rows.is_empty();
        Ok((!is_empty).then_some(Todo { shard: marker.shard, rows, again: Some(again) }))
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        folder::read(&self.path.join(name))
    }

    fn write(&self, name: &str, value: &impl Serialize) -> Result<()> {
        folder::write(&self.path.join(name), value)
    }
}

/// What must be the same when a run is continued.
///
/// # Errors
/// Never in practice: every setting has a JSON form.
pub fn identity(
    inputs: &[String],
    config: &Config,
    models: &Models,
    describer: &Describer,
    judge: Option<&Judge>,
    captioner: Option<&Captioner>,
) -> Result<Value> {
    let labels: Vec<&str> = models.folders().map(|folder| &*folder.label).collect();
    Ok(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "inputs": inputs,
        "config": config.identity()?,
        "models": labels,
        "writer": describer.provenance(),
        "clip": judge.map(|judge| judge.label().to_string()),
        "vision": captioner.map(Captioner::provenance),
    }))
}

impl ModelRecord {
    fn of(folder: &ModelFolder) -> ModelRecord {
        ModelRecord {
            kind: folder.kind.as_str().to_owned(),
            model: folder.label.to_string(),
            path: folder.path.clone(),
            files: folder.files.clone(),
        }
    }
}
