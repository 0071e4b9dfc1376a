//! Shards read back: only the files that a marker names, a row group in memory at a time.

use std::collections::HashSet;
use std::iter;
use std::path::Path;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;

use anyhow::Context;
use anyhow::Result;
use anyhow::anyhow;
use anyhow::ensure;
use arrow::datatypes::Field;
use bytes::Bytes;

use crate::sample::Extra;
use crate::sample::Item;
use crate::sample::Reject;
use crate::sample::Sample;
use crate::sample::StoredImage;
use crate::shard::Format;
use crate::shard::columns::refined_columns;
use crate::shard::columns::reject_columns;
use crate::shard::marker::DataFile;
use crate::shard::marker::Marker;
use crate::shard::marker::all_finished;
use crate::shard::record::Record;
use crate::shard::record::RejectRecord;
use crate::shard::record::split;
use crate::shard::table;
use crate::shard::table::ReadRow;
use crate::shard::tar_file;
use crate::source;
use crate::source::Source;

/// Whether image bytes are wanted; text alone is a hundredth of the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Images {
    /// With their bytes.
    Read,
    /// Neither bytes nor path.
    Skip,
}

/// Refined rows in order.
pub type Refined = Box<dyn Iterator<Item = Result<Sample>> + Send>;

/// Rejected rows in order, with their position within the shard.
pub type Rejected = Box<dyn Iterator<Item = Result<(u64, Item, Reject)>> + Send>;

/// The refined rows of a shard. Columns of the source are in `item.extra` under the names that
/// they have in the shard.
///
/// # Errors
/// When the file is gone or is no shard; a damaged row is an error at its place, and the last. So is
/// a row more or less than the marker counts.
pub fn refined(run: &Path, marker: &Marker, images: Images) -> Result<Refined> {
    let path = run.join(&marker.part.name);
    let fixed = names(&refined_columns());
    let sample = move |row: Result<ReadRow>| {
        let (cells, image) = row?;
        sample(cells, image, images, &fixed)
    };
    let with_image = images == Images::Read;
    Ok(match marker.format {
        Format::Parquet => whole(table::read(&path, with_image)?.map(sample), path, &marker.part),
        Format::Webdataset => whole(tar_rows(&path, with_image)?.map(sample), path, &marker.part),
    })
}

/// These refined rows with their images; `wanted` are places among the refined rows, ascending. Only
/// the row groups that hold them are read.
///
/// # Errors
/// As [`refined`], and when there is no such row or `wanted` does not ascend.
pub fn refined_rows(run: &Path, marker: &Marker, wanted: &[usize]) -> Result<Vec<Sample>> {
    ensure!(wanted.is_sorted_by(|a, b| a < b), "places of rows must ascend");
    let path = run.join(&marker.part.name);
    let fixed = names(&refined_columns());
    let rows: Vec<ReadRow> = match marker.format {
        Format::Parquet => table::read_rows(&path, wanted)?.collect::<Result<_>>()?,
        Format::Webdataset => {
            let end = wanted.last().map_or(0, |last| last + 1);
            let rows = tar_rows(&path, true)?.take(end).enumerate();
            let rows = rows.filter(|(place, row)| row.is_err() || wanted.contains(place));
            rows.map(|(_, row)| row).collect::<Result<_>>()?
        }
    };
    ensure!(rows.len() == wanted.len(), "{} lacks rows that its marker counts", path.display());
    let sample = |(cells, image)| sample(cells, image, Images::Read, &fixed);
    rows.into_iter().map(sample).collect()
}

/// Any dataset; of the folder of a run, its finished shards.
///
/// # Errors
/// When a run has no finished shard yet; else as [`Source::open`].
pub fn open_source(inputs: &[String], config: &source::Config) -> Result<Source> {
    let mut files = Vec::new();
    for input in inputs {
        let run = Path::new(input);
        if !run.join("run.json").is_file() {
            files.push(input.clone());
            continue;
        }
        let markers = all_finished(run)?;
        ensure!(!markers.is_empty(), "{input} has no finished shard yet");
        files.extend(markers.iter().map(|m| run.join(&m.part.name).display().to_string()));
    }
    Source::open(&files, config)
}

/// Names and types of the columns of refined rows, for people.
///
/// # Errors
/// When the file is gone or is no shard.
pub fn columns_of(path: &Path, marker: &Marker) -> Result<Vec<(String, String)>> {
    match marker.format {
        Format::Parquet => table::columns(path),
        Format::Webdataset => {
            let json = refined_columns().into_iter();
            let json = json
                .map(|field| (format!("json: {}", field.name()), field.data_type().to_string()));
            let members = [("jpg | png | webp", "image"), ("txt", "the best text")];
            let members = members.map(|(name, what)| (name.to_owned(), what.to_owned()));
            Ok(members.into_iter().chain(json).collect())
        }
    }
}

/// Names and types of the columns of a parquet shard, types in the form of
/// [`arrow_json`](crate::arrow_json).
///
/// # Errors
/// When the file is gone or is no shard.
pub fn types_of(path: &Path) -> Result<Vec<(String, serde_json::Value)>> {
    table::types(path)
}

/// The rejected rows of a shard.
///
/// # Errors
/// As [`refined`].
pub fn rejects(run: &Path, marker: &Marker) -> Result<Rejected> {
    let path = run.join(&marker.rejects.name);
    let fixed = names(&reject_columns());
    let rejected = move |row: Result<ReadRow>| {
        let (cells, _) = row?;
        let (record, extra) = split::<RejectRecord>(cells, &fixed)?;
        let row = record.row;
        let (item, reject) = record.into_rejected(extra)?;
        Ok((row, item, reject))
    };
    Ok(whole(table::read(&path, false)?.map(rejected), path, &marker.rejects))
}

/// Rows up to the first error; too many or too few are one, so that a cut file is not taken for a
/// short one.
fn whole<T>(
    rows: impl Iterator<Item = Result<T>> + Send + 'static,
    path: PathBuf,
    file: &DataFile,
) -> Box<dyn Iterator<Item = Result<T>> + Send> {
    let (mut rows, mut seen, expected) = (Some(rows), 0, file.rows);
    Box::new(iter::from_fn(move || {
        let row = rows.as_mut()?.next();
        match row {
            Some(Ok(_)) => seen += 1,
            _ => rows = None,
        }
        let wrong = row.is_none() && seen != expected;
        let name = path.display();
        let error = || Err(anyhow!("{name} has {seen} rows, its marker counts {expected}"));
        row.or_else(|| wrong.then(error))
    }))
}

fn names(columns: &[Field]) -> HashSet<String> {
    columns.iter().map(|field| field.name().clone()).collect()
}

fn sample(
    mut cells: Extra,
    image: Option<(Bytes, String)>,
    images: Images,
    fixed: &HashSet<String>,
) -> Result<Sample> {
    // Absent stands for null, and a list is never null here.
    cells.entry("tags").or_insert_with(|| serde_json::Value::Array(Vec::new()));
    let (record, extra) = split::<Record>(cells, fixed)?;
    let (bytes, path) = match images {
        Images::Read => image.with_context(|| format!("row {:?} has no image", record.key))?,
        Images::Skip => Default::default(),
    };
    let image = StoredImage {
        bytes,
        path,
        width: record.width,
        height: record.height,
        original_width: record.original_width,
        original_height: record.original_height,
    };
    Ok(record.into_sample(image, extra))
}

/// Rows of a tar as an iterator: read on a thread of its own, a few rows ahead.
fn tar_rows(
    path: &Path,
    with_image: bool,
) -> Result<impl Iterator<Item = Result<ReadRow>> + Send + use<>> {
    const AHEAD: usize = 16;
    let (rows, read) = mpsc::sync_channel(AHEAD);
    let path = path.to_owned();
    let reading = move || {
        let outcome = tar_file::read(&path, with_image, |row| {
            rows.send(Ok(row)).context("nobody reads any more")
        });
        // The error of a reader that went away goes nowhere.
        if let Err(error) = outcome {
            let _ = rows.send(Err(error));
        }
    };
    thread::Builder::new().spawn(reading).context("cannot start a thread")?;
    Ok(read.into_iter())
}
