//! Refined shards and rejects on disk, and the marker that makes them exist.
//!
//! Data files appear first; `part-00042.json` comes last, is created only if absent, and names them
//! with rows and hashes. A reader trusts only what a marker names. This is the only door to Arrow
//! besides the parquet source.

mod columns;
mod embeddings;
mod marker;
mod reader;
mod record;
mod table;
mod tar_file;
mod writer;

use anyhow::Result;
use arrow::datatypes::SchemaRef;
use clap::ValueEnum;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::sample::ExtraColumn;
use crate::sample::Item;
use crate::sample::Reject;
use crate::sample::Sample;

pub use embeddings::Embedding;
pub use embeddings::Embeddings;
pub use embeddings::Precision;
pub use marker::DataFile;
pub use marker::Marker;
pub use marker::Stats;
pub use marker::all_finished;
pub use marker::finished;
pub use marker::marker_path;
pub use reader::Images;
pub use reader::Refined;
pub use reader::Rejected;
pub use reader::columns_of;
pub use reader::open_source;
pub use reader::refined;
pub use reader::refined_rows;
pub use reader::rejects;
pub use reader::types_of;
pub use record::Record;
pub use record::RejectRecord;
pub use record::TagRecord;
pub use record::json;
pub use writer::Writer;

/// What became of one row.
pub type Outcome = Result<Sample, (Item, Reject)>;

/// Form of the refined rows; rejects are parquet in both.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ValueEnum,
)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// `part-00042.parquet`.
    #[default]
    Parquet,
    /// `part-00042.tar`, with `.jpg`, `.txt` and `.json` for each row.
    Webdataset,
}

/// Settings of the shards.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Form of the refined rows.
    pub format: Format,
}

impl Format {
    fn extension(self) -> &'static str {
        match self {
            Format::Parquet => "parquet",
            Format::Webdataset => "tar",
        }
    }
}

/// The Arrow schema of refined rows, with these columns of the source.
///
/// # Errors
/// When a column has a type that no file of ours can hold.
pub fn refined_schema(extra: &[ExtraColumn]) -> Result<SchemaRef> {
    table::schema(&columns::Layout::refined(extra), true)
}

/// The Arrow schema of rejected rows.
///
/// # Errors
/// As [`refined_schema`].
pub fn rejects_schema(extra: &[ExtraColumn]) -> Result<SchemaRef> {
    table::schema(&columns::Layout::rejects(extra), false)
}

#[cfg(test)]
mod tests;
