//! The log of verdicts, `audit/verdicts.jsonl` in the folder of a run: a line a verdict, only ever
//! added to.
//!
//! A later line of the same reviewer about the same row replaces the earlier one; a line without a
//! verdict takes it back. So the log is also its own undo: an undo is a line that says again what held
//! before. Several processes may add lines at once. What a crash left of a line is never glued to the
//! next one, and never read.

use std::collections::BTreeMap;
use std::fs::File;
use std::fs::OpenOptions;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::time::SystemTime;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::atomic_file;

/// Where the log lies in the folder of a run.
pub const LOG: &str = "audit/verdicts.jsonl";

/// What a person thinks of a generated text.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing is wrong.
    Ok,
    /// A small thing is wrong, or it could be said better.
    Minor,
    /// It says something that is not there.
    Hallucinated,
    /// It describes another picture.
    WrongImage,
    /// Not to be used for anything.
    Unusable,
}

impl Verdict {
    /// Every one, from harmless to worst.
    pub const ALL: [Verdict; 5] = [
        Verdict::Ok,
        Verdict::Minor,
        Verdict::Hallucinated,
        Verdict::WrongImage,
        Verdict::Unusable,
    ];

    /// The word used in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Minor => "minor",
            Verdict::Hallucinated => "hallucinated",
            Verdict::WrongImage => "wrong_image",
            Verdict::Unusable => "unusable",
        }
    }
}

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Line {
    /// Key of the row.
    pub key: String,
    /// Shard of the row, since keys are only unique within one.
    pub shard: u32,
    /// What was said; `None` takes an earlier verdict back.
    pub verdict: Option<Verdict>,
    /// The text as the reviewer would have it, where it was edited.
    pub text: Option<String>,
    /// SHA-256 of the generated text that was judged: of a text that changed since, the verdict says
    /// nothing.
    pub text_sha256: String,
    /// Who said it.
    pub reviewer: String,
    /// When, in seconds since 1970.
    pub at: u64,
}

impl Line {
    /// Whether it is about this text, and not about one that stood there before.
    pub fn is_about(&self, text: &str) -> bool {
        self.text_sha256 == atomic_file::sha256(text.as_bytes())
    }

    /// Whether both say the same of the same text, whenever they were said.
    pub(super) fn says_what(&self, other: &Line) -> bool {
        let said = |line: &Line| (line.verdict, line.text.clone(), line.text_sha256.clone());
        said(self) == said(other)
    }
}

/// A log that is added to and read on while others add to it.
pub struct Log {
    path: PathBuf,
    file: File,
    /// Where the first line that was not read yet begins.
    next: u64,
    /// Its number.
    number: usize,
}

impl Log {
    /// The log of a run; made if need be.
    ///
    /// # Errors
    /// When it cannot be made or opened.
    pub fn open(run: &Path) -> Result<Log> {
        let path = run.join(LOG);
        let named = || format!("cannot open {}", path.display());
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(named)?;
        }
        let file = OpenOptions::new().read(true).append(true).create(true).open(&path);
        let file = file.with_context(named)?;
        Ok(Log { path, file, next: 0, number: 1 })
    }

    /// Adds lines, all or none of them acknowledged; they are on the disk when this returns.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn append(&mut self, lines: &[Line]) -> Result<()> {
        let mut bytes = Vec::new();
        for line in lines {
            serde_json::to_writer(&mut bytes, line)?;
            bytes.push(b'\n');
        }
        self.lock();
        let written = self.write(&bytes);
        // Given back with the file at the latest.
        let _ = self.file.unlock();
        written.with_context(|| format!("cannot write {}: is the disk full?", self.path.display()))
    }

    /// The whole lines that came since this was last asked, of this process or others.
    ///
    /// # Errors
    /// Names file and line of what is no verdict.
    pub fn news(&mut self) -> Result<Vec<Line>> {
        let mut bytes = Vec::new();
        let named = || format!("cannot read {}", self.path.display());
        self.file.seek(SeekFrom::Start(self.next)).with_context(named)?;
        self.file.read_to_end(&mut bytes).with_context(named)?;
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
        let lines = parse(&bytes[..whole], &self.path, self.number)?;
        self.next += whole as u64;
        self.number += bytes[..whole].iter().filter(|&&byte| byte == b'\n').count();
        Ok(lines)
    }

    /// Between a look at the end of the file and the write, nobody else is to write.
    fn lock(&self) {
        // Some network file systems have no locks. Lines are whole there too; an empty one may come
        // between two of them, which readers pass over.
        if let Err(error) = self.file.lock() {
            tracing::debug!("{} cannot be locked: {error}", self.path.display());
        }
    }

    /// In one call, since the system never mixes what two calls append.
    fn write(&mut self, lines: &[u8]) -> std::io::Result<()> {
        let mut bytes = Vec::with_capacity(lines.len() + 1);
        if !self.ends_in_newline()? {
            bytes.push(b'\n');
        }
        bytes.extend_from_slice(lines);
        self.file.write_all(&bytes)?;
        self.file.sync_data()
    }

    fn ends_in_newline(&mut self) -> std::io::Result<bool> {
        if self.file.seek(SeekFrom::End(0))? == 0 {
            return Ok(true);
        }
        let mut last = [0];
        self.file.seek(SeekFrom::End(-1))?;
        self.file.read_exact(&mut last)?;
        Ok(last == [b'\n'])
    }
}

/// Every line of a log, oldest first; none where there is no such file.
///
/// # Errors
/// When it cannot be read; names file and line of what is no verdict.
pub fn read(path: &Path) -> Result<Vec<Line>> {
    match std::fs::read(path) {
        Ok(bytes) => parse(&bytes, path, 1),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).context(format!("cannot read {}", path.display())),
    }
}

/// What each reviewer says in the end of each row: the last line of each, without what was taken back.
pub fn latest(lines: impl IntoIterator<Item = Line>) -> Vec<Line> {
    let mut latest = BTreeMap::new();
    for line in lines {
        let whose = (line.shard, line.key.clone(), line.reviewer.clone());
        match line.verdict {
            Some(_) => latest.insert(whose, line),
            None => latest.remove(&whose),
        };
    }
    latest.into_values().collect()
}

/// A name that can stand in a line.
///
/// # Errors
/// When it is empty, has control characters or is too long.
pub fn ensure_name(reviewer: &str) -> Result<()> {
    const LONGEST: usize = 100;
    let is_plain = !reviewer.trim().is_empty() && !reviewer.chars().any(char::is_control);
    ensure!(
        is_plain && reviewer.chars().count() <= LONGEST,
        "{reviewer:?} is no name for a reviewer; give a short one with --reviewer"
    );
    Ok(())
}

/// Seconds since 1970.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

fn parse(bytes: &[u8], path: &Path, first: usize) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for (number, line) in (first..).zip(bytes.split(|&byte| byte == b'\n')) {
        match serde_json::from_slice::<Line>(line) {
            Ok(line) => lines.push(line),
            // Nothing, or what a crash left: it was never acknowledged.
            Err(error) if error.is_eof() => {}
            Err(error) => {
                return Err(error).context(format!("{}:{number} is not a verdict", path.display()));
            }
        }
    }
    Ok(lines)
}

#[cfg(test)]
mod tests;
