//! What decides a result, as one hash: another hash, another result.
//!
//! Weights count by their bytes. Data count by their settings, the names of their pictures and their
//! answers, but not by the bytes of pictures: reading them all to find out that nothing is to be done
//! would take as long as most of the work.

use std::path::Path;

use anyhow::Result;
use serde_json::Value;
use serde_json::json;

use crate::atomic_file;
use crate::eval::result::Task;
use crate::eval::suite::Checkpoint;
use crate::eval::suite::Suite;
use crate::eval::suite::opened::Data;
use crate::model;

/// Goes up when the same settings give other numbers than before.
const EDITION: u32 = 2;

/// Hashes of a checkpoint's files. The device and the batch are not in it: they change nothing but
/// the last digit.
pub(super) fn of_checkpoint(checkpoint: &Checkpoint) -> Result<Value> {
    let sizes = model::Config::find(&checkpoint.clip()?.model_config)?;
    let tokenizer = checkpoint.tokenizer.as_deref().map(sha256).transpose()?;
    Ok(json!([sha256(&checkpoint.weights()?)?, sizes, tokenizer]))
}

pub(super) fn fingerprint(checkpoint: &Value, suite: &Suite, data: &Data, task: Task) -> String {
    let rounding = (task == Task::ZeroShot).then_some(suite.rounding);
    let settings = data.settings(task);
    let all = json!([EDITION, checkpoint, task, settings, rounding, suite.bootstrap]);
    atomic_file::sha256(all.to_string().as_bytes())
}

fn sha256(path: &Path) -> Result<String> {
    atomic_file::sha256_file(path)
}
