//! The marker that makes a shard exist: what was read, what became of it, and which files hold it.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::atomic_file;
use crate::atomic_file::AtomicFile;
use crate::sample::Reject;
use crate::shard::Format;

/// `part-00042.json`: stats and marker, written last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Marker {
    /// Number of the shard.
    pub shard: u32,
    /// How often its rejects were tried again.
    pub revision: u32,
    /// Form of the refined rows.
    pub format: Format,
    /// Rows of the source that went in; always `refined + rejected`.
    pub rows_read: u64,
    /// Rows that came out as samples.
    pub refined: u64,
    /// Rows that came out as rejects.
    pub rejected: u64,
    /// Rejects by reason.
    pub reasons: BTreeMap<String, u64>,
    /// Rejects by stage, then by reason.
    pub stages: BTreeMap<String, BTreeMap<String, u64>>,
    /// The file of refined rows.
    pub part: DataFile,
    /// The file of rejected rows.
    pub rejects: DataFile,
    /// How it went; the only thing that differs between two runs of the same input.
    pub stats: Stats,
}

/// A data file that a marker vouches for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DataFile {
    /// Name within the run's folder.
    pub name: String,
    /// Rows.
    pub rows: u64,
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256, lower-case hex.
    pub sha256: String,
}

/// How the making of a shard went.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Stats {
    /// Seconds between the first row of this shard and its last.
    pub seconds: f64,
    /// Rows done in that time, by the second.
    pub rows_per_second: f64,
}

impl Stats {
    /// The stats of so many rows.
    pub fn of(rows: u64, elapsed: Duration) -> Stats {
        let seconds = elapsed.as_secs_f64();
        let rows_per_second = if seconds > 0.0 { rows as f64 / seconds } else { 0.0 };
        Stats { seconds, rows_per_second }
    }
}

/// Rejects counted for a marker.
#[derive(Default)]
pub(super) struct Rejects {
    pub(super) reasons: BTreeMap<String, u64>,
    pub(super) stages: BTreeMap<String, BTreeMap<String, u64>>,
}

impl Rejects {
    pub(super) fn count(&mut self, reject: &Reject) {
        *self.reasons.entry(reject.reason.as_str().to_owned()).or_default() += 1;
        let stage = self.stages.entry(reject.stage.as_str().to_owned()).or_default();
        *stage.entry(reject.reason.as_str().to_owned()).or_default() += 1;
    }
}

/// The marker's path.
pub fn marker_path(run: &Path, shard: u32) -> PathBuf {
    run.join(format!("part-{shard:05}.json"))
}

/// The marker of a finished shard, if it is finished.
///
/// # Errors
/// When the marker is there but cannot be read.
pub fn finished(run: &Path, shard: u32) -> Result<Option<Marker>> {
    let path = marker_path(run, shard);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).context(format!("cannot read {}", path.display())),
    };
    let marker = serde_json::from_str(&text)
        .with_context(|| format!("{} is damaged; delete it to redo the shard", path.display()))?;
    Ok(Some(marker))
}

/// The markers of all finished shards of a run, by number.
///
/// # Errors
/// When the folder or a marker cannot be read.
pub fn all_finished(run: &Path) -> Result<Vec<Marker>> {
    let entries = std::fs::read_dir(run)
        .with_context(|| format!("{} is not a folder of a run", run.display()))?;
    let mut numbers = Vec::new();
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let number = name.strip_prefix("part-").and_then(|rest| rest.strip_suffix(".json"));
        numbers.extend(number.and_then(|number| number.parse::<u32>().ok()));
    }
    numbers.sort_unstable();
    let markers = numbers.into_iter().map(|number| finished(run, number));
    markers.filter_map(Result::transpose).collect()
}

impl Marker {
    /// Both data files.
    pub fn files(&self) -> [&DataFile; 2] {
        [&self.part, &self.rejects]
    }

    /// Stage, reason and number of rejects.
    pub fn rejects_by_stage(&self) -> impl Iterator<Item = (&str, &str, u64)> {
        self.stages.iter().flat_map(|(stage, reasons)| {
            reasons.iter().map(move |(reason, rows)| (stage.as_str(), reason.as_str(), *rows))
        })
    }

    /// Reads every byte of the data files and compares with what is vouched for.
    ///
    /// # Errors
    /// Names the first file that is gone or has changed.
    pub fn verify(&self, run: &Path) -> Result<()> {
        for file in self.files() {
            let path = run.join(&file.name);
            let sha256 = atomic_file::sha256_file(&path)?;
            ensure!(
                sha256 == file.sha256,
                "{} is not what its marker vouches for; delete {} to redo the shard",
                path.display(),
                marker_path(run, self.shard).display()
            );
        }
        Ok(())
    }

    /// The one way in which a shard comes to exist; false when another worker was first.
    pub(super) fn create(&self, run: &Path) -> Result<bool> {
        let file = self.open(run)?;
        Ok(file.create_new()?.is_some())
    }

    /// The one way in which a shard is replaced by a later revision of itself.
    pub(super) fn replace(&self, run: &Path) -> Result<()> {
        self.open(run)?.publish().map(drop)
    }

    fn open(&self, run: &Path) -> Result<AtomicFile> {
        let mut file = AtomicFile::open(&marker_path(run, self.shard))?;
        let json = serde_json::to_vec_pretty(self)?;
        file.write_all(&json).context("cannot write the marker: is the disk full?")?;
        Ok(file)
    }
}
