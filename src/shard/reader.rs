//! Shards read back: only the files that a marker names, a row group in memory at a time.

use std::collections::HashSet;
use std::path::Path;
use std::sync::mpsc;
use std::thread;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use arrow::datatypes::DataType;
use bytes::Bytes;

use crate::sample::Extra;
use crate::sample::Item;
use crate::sample::Reject;
use crate::sample::Sample;
use crate::sample::StoredImage;
use crate::shard::Format;
use crate::shard::marker::Marker;
use crate::shard::record::Record;
use crate::shard::record::RejectRecord;
use crate::shard::record::refined_columns;
use crate::shard::record::reject_columns;
use crate::shard::record::split;
use crate::shard::table;
use crate::shard::table::ReadRow;
use crate::shard::tar_file;

/// Whether image bytes are wanted; text alone is a hundredth of the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Images {
    /// With their bytes.
    Read,
    /// Empty bytes.
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
/// When the file is gone or is no shard; a damaged row is an error at its place.
pub fn refined(run: &Path, marker: &Marker, images: Images) -> Result<Refined> {
    let path = run.join(&marker.part.name);
    let fixed = names(&refined_columns());
    let sample = move |row: Result<ReadRow>| {
        let (cells, image) = row?;
        sample(cells, image, &fixed)
    };
    match marker.format {
        Format::Parquet => Ok(Box::new(table::read(&path, images == Images::Read)?.map(sample))),
        Format::Webdataset => Ok(Box::new(tar_rows(&path)?.map(sample))),
    }
}

/// These refined rows with their images; `wanted` are places among the refined rows, ascending. Only
/// the row groups that hold them are read.
///
/// # Errors
/// As [`refined`], and when there is no such row.
pub fn refined_rows(run: &Path, marker: &Marker, wanted: &[usize]) -> Result<Vec<Sample>> {
    let path = run.join(&marker.part.name);
    let fixed = names(&refined_columns());
    let rows: Vec<ReadRow> = match marker.format {
        Format::Parquet => table::read_rows(&path, wanted)?.collect::<Result<_>>()?,
        Format::Webdataset => {
            let mut rows = Vec::new();
            for (place, row) in tar_rows(&path)?.enumerate() {
                let row = row?;
                if wanted.contains(&place) {
                    rows.push(row);
                }
            }
            rows
        }
    };
    ensure!(rows.len() == wanted.len(), "{} lacks rows that its marker counts", path.display());
    rows.into_iter().map(|(cells, image)| sample(cells, image, &fixed)).collect()
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
            let json =
                json.map(|(name, data_type)| (format!("json: {name}"), data_type.to_string()));
            let members = [("jpg | png | webp", "image"), ("txt", "the best text")];
            let members = members.map(|(name, what)| (name.to_owned(), what.to_owned()));
            Ok(members.into_iter().chain(json).collect())
        }
    }
}

/// The rejected rows of a shard.
///
/// # Errors
/// As [`refined`].
pub fn rejects(run: &Path, marker: &Marker) -> Result<Rejected> {
    let path = run.join(&marker.rejects.name);
    let fixed = names(&reject_columns());
    Ok(Box::new(table::read(&path, false)?.map(move |row| {
        let (cells, _) = row?;
        let (record, extra) = split::<RejectRecord>(cells, &fixed)?;
        let row = record.row;
        let (item, reject) = record.into_rejected(extra)?;
        Ok((row, item, reject))
    })))
}

fn names(columns: &[(&str, DataType)]) -> HashSet<String> {
    columns.iter().map(|(name, _)| (*name).to_owned()).collect()
}

fn sample(
    mut cells: Extra,
    image: Option<(Bytes, String)>,
    fixed: &HashSet<String>,
) -> Result<Sample> {
    // Absent stands for null, and a list is never null here.
    cells.entry("tags").or_insert_with(|| serde_json::Value::Array(Vec::new()));
    let (record, extra) = split::<Record>(cells, fixed)?;
    let (bytes, path) = image.unwrap_or_default();
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
fn tar_rows(path: &Path) -> Result<impl Iterator<Item = Result<ReadRow>> + Send + use<>> {
    const AHEAD: usize = 16;
    let (rows, read) = mpsc::sync_channel(AHEAD);
    let path = path.to_owned();
    let reading = move || {
        let outcome =
            tar_file::read(&path, |row| rows.send(Ok(row)).context("nobody reads any more"));
        // The error of a reader that went away goes nowhere.
        let _ = outcome.map_err(|error| rows.send(Err(error)));
    };
    thread::Builder::new().spawn(reading).context("cannot start a thread")?;
    Ok(read.into_iter())
}
