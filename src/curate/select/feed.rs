//! The rows of the old runs, in order, and which of them go into which new shard.

use std::ops::Range;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use serde_json::Value;

use crate::atomic_file;
use crate::curate::select::Verdicts;
use crate::curate::select::opinion::Opinions;
use crate::filter::Filter;
use crate::folder;
use crate::review::Line;
use crate::review::rows;
use crate::review::verdicts;
use crate::sample::ExtraColumn;
use crate::shard;
use crate::shard::Format;
use crate::shard::Images;
use crate::shard::Marker;
use crate::shard::Refined;

/// A run that is selected from.
pub(super) struct Input {
    pub(super) run: PathBuf,
    /// Its `run.json`.
    pub(super) about: Value,
    pub(super) markers: Vec<Marker>,
    /// The columns that its source had more.
    pub(super) extra: Vec<ExtraColumn>,
    pub(super) filter: Option<Filter>,
    pub(super) opinions: Opinions,
    pub(super) log_sha256: Option<String>,
}

/// Refined rows of one old shard.
pub(super) struct Part {
    /// Place of the run.
    pub(super) input: usize,
    /// Place of the marker.
    pub(super) marker: usize,
    /// Places of the rows.
    pub(super) rows: Range<u64>,
}

/// Rows that are read at once where a shard is read in parts: a row group.
const AT_ONCE: u64 = 100;

impl Input {
    pub(super) fn open(run: &Path, filter: Option<&str>, whose: &Verdicts) -> Result<Input> {
        let markers = shard::all_finished(run)?;
        ensure!(!markers.is_empty(), "{} has no finished shard yet", run.display());
        let about = folder::read::<Value>(&run.join("run.json"))?;
        let about = about.with_context(|| format!("{} has no run.json", run.display()))?;
        let (lines, log_sha256) = log_of(run, whose)?;
        Ok(Input {
            extra: extra(run, &markers[0])?,
            filter: filter.map(|text| rows::filter_over(run, text)).transpose()?,
            opinions: Opinions::of(lines),
            log_sha256,
            run: run.to_owned(),
            about,
            markers,
        })
    }

    pub(super) fn rows(&self) -> u64 {
        self.markers.iter().map(|marker| marker.refined).sum()
    }

    /// Of everything that its markers vouch for.
    pub(super) fn fingerprint(&self) -> String {
        let parts = self.markers.iter().map(|m| format!("{} {}\n", m.shard, m.part.sha256));
        atomic_file::sha256(parts.collect::<String>().as_bytes())
    }
}

/// What goes into each new shard: the rows of an old one, or so many rows.
pub(super) fn parts(inputs: &[Input], rows_per_shard: Option<u64>) -> Result<Vec<Vec<Part>>> {
    let each = rows_per_shard.unwrap_or(u64::MAX);
    ensure!(each > 0, "a shard of no rows is none; give another --rows-per-shard");
    let mut shards: Vec<Vec<Part>> = Vec::new();
    // A shard that is full has no room.
    let mut room = 0;
    for (input, of) in inputs.iter().enumerate() {
        for (marker, old) in of.markers.iter().enumerate() {
            let mut start = 0;
            if rows_per_shard.is_none() {
                shards.push(vec![Part { input, marker, rows: 0..old.refined }]);
                continue;
            }
            while start < old.refined {
                if room == 0 {
                    shards.push(Vec::new());
                    room = each;
                }
                let end = old.refined.min(start.saturating_add(room));
                room -= end - start;
                let part = Part { input, marker, rows: start..end };
                shards.last_mut().context("one was just made")?.push(part);
                start = end;
            }
        }
    }
    Ok(shards)
}

/// These refined rows of a shard, with their pictures.
pub(super) fn rows(run: &Path, marker: &Marker, rows: Range<u64>) -> Result<Refined> {
    let is_whole = rows == (0..marker.refined);
    if is_whole || marker.format == Format::Webdataset {
        let place = |row: u64| usize::try_from(row).context("more rows than this machine counts");
        let (start, many) = (place(rows.start)?, place(rows.end - rows.start)?);
        let all = shard::refined(run, marker, Images::Read)?.skip(start);
        // A whole shard is read to its end, where its rows are counted.
        return Ok(if is_whole { Box::new(all) } else { Box::new(all.take(many)) });
    }
    let (run, marker) = (run.to_owned(), marker.clone());
    let starts = (rows.start..rows.end).step_by(AT_ONCE as usize);
    Ok(Box::new(starts.flat_map(move |start| {
        let wanted = start..rows.end.min(start + AT_ONCE);
        let wanted: Vec<usize> = wanted.filter_map(|row| usize::try_from(row).ok()).collect();
        match shard::refined_rows(&run, &marker, &wanted) {
            Ok(samples) => samples.into_iter().map(Ok).collect::<Vec<_>>(),
            Err(error) => vec![Err(error)],
        }
    })))
}

/// The log that counts for a run, and its hash; none where there is no such file.
fn log_of(run: &Path, whose: &Verdicts) -> Result<(Vec<Line>, Option<String>)> {
    let path = match whose {
        Verdicts::Nobodys => return Ok((Vec::new(), None)),
        Verdicts::OfRuns => run.join(verdicts::LOG),
        Verdicts::Of(path) => path.clone(),
    };
    if !path.is_file() {
        let is_asked_for = matches!(whose, Verdicts::Of(_));
        ensure!(!is_asked_for, "{} is no log of verdicts", path.display());
        return Ok((Vec::new(), None));
    }
    Ok((verdicts::read(&path)?, Some(atomic_file::sha256_file(&path)?)))
}

/// The columns of a shard that are none of ours.
fn extra(run: &Path, marker: &Marker) -> Result<Vec<ExtraColumn>> {
    let fixed = shard::refined_schema(&[])?;
    let is_extra = |name: &str| fixed.field_with_name(name).is_err();
    let columns = match marker.format {
        Format::Parquet => {
            let types = shard::types_of(&run.join(&marker.part.name))?.into_iter();
            types.map(|(name, data_type)| ExtraColumn { name, data_type }).collect()
        }
        Format::Webdataset => {
            let source = shard::open_source(&[run.display().to_string()], &Default::default())?;
            source.plan().extra.clone()
        }
    };
    Ok(columns.into_iter().filter(|column: &ExtraColumn| is_extra(&column.name)).collect())
}
