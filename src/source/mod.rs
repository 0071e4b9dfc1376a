//! Ordered items from image folders and parquet files, a few rows in memory at a time.
//!
//! Nothing is decoded or fetched here. A row that cannot be used is still a row: its picture is
//! [`Picture::Absent`] with the reason, so that the ledger adds up.

mod folder;
mod parquet;

use std::path::Path;

use anyhow::Result;
use anyhow::bail;

use crate::sample::Item;
use crate::sample::Picture;
use crate::sample::Reason;

/// Items in a fixed order.
pub type Items = Box<dyn Iterator<Item = Result<Item>> + Send>;

/// Opens a folder of images (with `metadata.jsonl`, side-by-side `.txt`, or neither) or a parquet
/// file with images or urls.
///
/// # Errors
/// When the input is missing, of another kind, or has no column to use.
pub fn open(input: &Path) -> Result<Items> {
    if input.is_dir() {
        return folder::open(input);
    }
    if !input.exists() {
        bail!("{} does not exist; name a folder of images or a parquet file", input.display());
    }
    if input.extension().is_some_and(|e| e == "parquet") {
        return parquet::open(input);
    }
    bail!("{} is neither a folder nor a .parquet file", input.display())
}

fn absent(reason: Reason, detail: impl Into<String>) -> Picture {
    Picture::Absent { reason, detail: detail.into() }
}
