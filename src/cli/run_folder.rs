//! A run's folder: who works on it, what it was made from, what of it is done.
//!
//! `run.json` and `plan.json` are written once. The same command finds them and continues; any other
//! input, model, prompt or setting that could change a column is refused, never mixed in.

use std::fs::File;
use std::fs::TryLockError;
use std::ops::Range;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::json;

use crate::atomic_file;
use crate::config;
use crate::config::Config;
use crate::describe::Describer;
use crate::models::folder::ModelFolder;
use crate::perceive::Models;
use crate::pipeline::Again;
use crate::pipeline::Todo;
use crate::sample::Reason;
use crate::shard;
use crate::shard::Marker;
use crate::source::Plan;
use crate::source::Source;

/// The folder of a run.
pub(super) struct RunFolder {
    pub(super) path: PathBuf,
}

/// Which rejects are to be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Retry {
    /// Those whose reason may pass: timeouts, dead hosts, failed models.
    Retryable,
    /// All.
    All,
}

/// What is done and what is not.
pub(super) struct Work {
    pub(super) finished: Vec<Marker>,
    pub(super) todo: Vec<Todo>,
    pub(super) shards: u64,
    pub(super) rows: u64,
}

const RUN: &str = "run.json";
const PLAN: &str = "plan.json";
const LOCK: &str = "run.lock";

impl RunFolder {
    pub(super) fn new(path: &Path) -> RunFolder {
        RunFolder { path: path.to_owned() }
    }

    /// The folder, made if need be, for this process alone until the lock is dropped.
    pub(super) fn lock(&self) -> Result<File> {
        let path = &self.path;
        std::fs::create_dir_all(path)
            .with_context(|| format!("cannot create {}", path.display()))?;
        let lock = path.join(LOCK);
        let file =
            File::create(&lock).with_context(|| format!("cannot create {}", lock.display()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!(
                "another recaption is working on {}; wait for it or name another -o",
                path.display()
            ),
            // Some network file systems have no locks; there the user sees to it.
            Err(TryLockError::Error(error)) => {
                tracing::warn!("{} cannot be locked: {error}", lock.display());
            }
        }
        atomic_file::remove_leftovers(path)?;
        Ok(file)
    }

    /// The inputs as they were when the run began, or as they are now.
    pub(super) fn source(&self, inputs: &[String], config: &Config) -> Result<Source> {
        match self.read::<Plan>(PLAN)? {
            Some(plan) => Source::resume(plan),
            None => Source::open(inputs, &config.source),
        }
    }

    /// Says what the run is made from, or compares with what it was made from.
    pub(super) fn claim(
        &self,
        inputs: &[String],
        config: &Config,
        source: &Source,
        models: &Models,
        describer: &Describer,
    ) -> Result<()> {
        let identity = identity(inputs, config, models, describer)?;
        if self.is_same(&identity)? {
            return Ok(());
        }
        self.write(PLAN, source.plan())?;
        let folders: Vec<Value> = models.folders().map(described).collect();
        let run = json!({
            "identity": identity,
            "config": config,
            "rows": source.plan().rows,
            "columns": source.plan().mapping.to_string(),
            "models": folders,
            "writer": describer.provenance(),
        });
        self.write(RUN, &run)
    }

    /// Whether the folder holds this very run; another one is an error, nothing at all is not.
    pub(super) fn is_same(&self, identity: &Value) -> Result<bool> {
        let Some(run) = self.read::<Value>(RUN)? else { return Ok(false) };
        let differences = config::differences(&run["identity"], identity);
        if differences.is_empty() {
            return Ok(true);
        }
        bail!(
            "{} was made by another command; use a new -o, or give what it was made with:\n  {}",
            self.path.display(),
            differences.join("\n  ")
        )
    }

    /// Every shard of the source: done, or to do.
    pub(super) fn work(
        &self,
        source: &Source,
        config: &Config,
        retry: Option<Retry>,
    ) -> Result<Work> {
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
        let path = self.path.join(name);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).context(format!("cannot read {}", path.display())),
        };
        let value = serde_json::from_str(&text)
            .with_context(|| format!("{} is damaged; use a new -o", path.display()))?;
        Ok(Some(value))
    }

    fn write(&self, name: &str, value: &impl Serialize) -> Result<()> {
        let json = serde_json::to_vec_pretty(value)?;
        atomic_file::write(&self.path.join(name), &json).map(drop)
    }
}

/// What must be the same when a run is continued.
pub(super) fn identity(
    inputs: &[String],
    config: &Config,
    models: &Models,
    describer: &Describer,
) -> Result<Value> {
    let labels: Vec<&str> = models.folders().map(|folder| &*folder.label).collect();
    Ok(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "inputs": inputs,
        "config": config.identity()?,
        "models": labels,
        "writer": describer.provenance(),
    }))
}

fn described(folder: &ModelFolder) -> Value {
    let files: Vec<Value> =
        folder.files.iter().map(|file| json!({"name": file.name, "sha256": file.sha256})).collect();
    json!({
        "kind": folder.kind.as_str(),
        "model": &*folder.label,
        "path": folder.path,
        "files": files,
    })
}
