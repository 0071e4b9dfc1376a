//! Refined shards and rejects in parquet, and the marker that makes them exist.
//!
//! Data files appear first; `part-00042.json` comes last, is created only if absent, and names them
//! with rows and hashes. A reader trusts only what a marker names.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use anyhow::Result;
use arrow::array::Array;
use arrow::array::ArrayRef;
use arrow::array::BinaryArray;
use arrow::array::Float32Array;
use arrow::array::Float32Builder;
use arrow::array::ListBuilder;
use arrow::array::RecordBatch;
use arrow::array::StringArray;
use arrow::array::StringBuilder;
use arrow::array::StructArray;
use arrow::array::UInt32Array;
use arrow::array::UInt64Array;
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::DataType;
use arrow::datatypes::Field;
use arrow::datatypes::Schema;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::basic::ZstdLevel;
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;
use serde::Deserialize;
use serde::Serialize;

use crate::atomic_file::AtomicFile;
use crate::sample::Item;
use crate::sample::Reject;
use crate::sample::Sample;
use crate::sample::Tag;

/// The field's habit for images: 1000 rows a group make readers run out of memory.
const ROW_GROUP: usize = 100;

/// Tells Hugging Face `datasets` to decode `image`.
const FEATURES: &str = r#"{"info": {"features": {"image": {"_type": "Image"}}}}"#;

/// What became of one row.
pub type Outcome = Result<Sample, (Item, Reject)>;

/// The marker: written last, created only if absent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Marker {
    /// Number of the shard.
    pub shard: u32,
    /// Rows of the source that went in; always `refined + rejected`.
    pub rows_read: usize,
    /// Rows of the part file.
    pub refined: usize,
    /// Rows of the rejects file.
    pub rejected: usize,
    /// Rejects by reason.
    pub reasons: BTreeMap<String, usize>,
    /// The data files, by name.
    pub files: BTreeMap<String, DataFile>,
}

/// A data file a marker vouches for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataFile {
    /// Rows.
    pub rows: usize,
    /// Bytes.
    pub bytes: u64,
    /// Lower-case hex.
    pub sha256: String,
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
    if !path.exists() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(&path)?;
    let marker = serde_json::from_str(&text)
        .with_context(|| format!("{} is damaged; delete it to redo the shard", path.display()))?;
    Ok(Some(marker))
}

/// Writes a whole shard, in row order, and then its marker.
///
/// # Errors
/// When a file cannot be written; no marker is left behind then.
pub fn commit(run: &Path, shard: u32, outcomes: &[Outcome]) -> Result<Marker> {
    let refined: Vec<&Sample> = outcomes.iter().filter_map(|o| o.as_ref().ok()).collect();
    let rejected: Vec<&(Item, Reject)> = outcomes.iter().filter_map(|o| o.as_ref().err()).collect();
    let mut reasons = BTreeMap::new();
    for (_, reject) in &rejected {
        *reasons.entry(reject.reason.as_str().to_owned()).or_default() += 1;
    }
    let mut files = BTreeMap::new();
    for (name, batch) in [("part", samples(&refined)?), ("rejects", rejects(&rejected)?)] {
        let name = format!("{name}-{shard:05}.parquet");
        files.insert(name.clone(), write(&run.join(name), &batch)?);
    }
    let marker = Marker {
        shard,
        rows_read: outcomes.len(),
        refined: refined.len(),
        rejected: rejected.len(),
        reasons,
        files,
    };
    let mut file = AtomicFile::open(&marker_path(run, shard))?;
    file.write_all(&serde_json::to_vec_pretty(&marker)?)?;
    file.create_new()?.context("another worker finished this shard first")?;
    Ok(marker)
}

fn write(path: &Path, batch: &RecordBatch) -> Result<DataFile> {
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_max_row_group_row_count(Some(ROW_GROUP));
    // Dictionaries of free text and of bytes only cost memory.
    for column in ["image.bytes", "text_raw", "text_synthetic", "text_generated", "detail"] {
        let path = ColumnPath::new(column.split('.').map(str::to_owned).collect());
        properties = properties.set_column_dictionary_enabled(path.clone(), false);
        if column == "image.bytes" {
            properties = properties.set_column_compression(path, Compression::UNCOMPRESSED);
        }
    }
    let file = AtomicFile::open(path)?;
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties.build()))?;
    writer.write(batch).with_context(|| format!("cannot write {}", path.display()))?;
    let written = writer.into_inner()?.publish()?;
    Ok(DataFile { rows: batch.num_rows(), bytes: written.bytes, sha256: written.sha256 })
}

type Text<'a> = Option<&'a str>;

fn samples(rows: &[&Sample]) -> Result<RecordBatch> {
    let text = |f: &dyn Fn(&Sample) -> Option<String>| -> ArrayRef {
        Arc::new(rows.iter().map(|s| f(s)).collect::<StringArray>())
    };
    let side = |f: &dyn Fn(&Sample) -> u32| -> ArrayRef {
        Arc::new(rows.iter().map(|s| f(s)).map(Some).collect::<UInt32Array>())
    };
    let tags: Vec<&[Tag]> = rows.iter().map(|s| s.tags.as_slice()).collect();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("key", text(&|s| Some(s.item.key.clone()))),
        ("image", images(rows)?),
        ("url", text(&|s| s.item.url.clone())),
        ("text_raw", text(&|s| s.item.text_raw.clone())),
        ("text_synthetic", text(&|s| s.synthetic.as_ref().map(|t| t.text.clone()))),
        ("text_generated", text(&|s| s.generated.as_ref().map(|t| t.text.clone()))),
        ("tags", tag_lists(&tags)?),
        ("width", side(&|s| s.image.width)),
        ("height", side(&|s| s.image.height)),
        ("original_width", side(&|s| s.image.original_width)),
        ("original_height", side(&|s| s.image.original_height)),
        ("sha256", text(&|s| Some(s.sha256.clone()))),
        ("phash", Arc::new(rows.iter().map(|s| Some(s.phash)).collect::<UInt64Array>())),
        ("synthetic_model", text(&|s| s.synthetic.as_ref().map(|t| t.model.to_string()))),
        ("generated_writer", text(&|s| s.generated.as_ref().map(|t| t.writer.to_string()))),
        ("generated_model", text(&|s| s.generated.as_ref().map(|t| t.model.to_string()))),
        ("generated_prompt", text(&|s| s.generated.as_ref().map(|t| t.prompt.to_string()))),
        ("generated_refused", text(&|s| s.generated_refused.clone())),
    ];
    batch(columns, [("huggingface".to_owned(), FEATURES.to_owned())].into())
}

fn rejects(rows: &[&(Item, Reject)]) -> Result<RecordBatch> {
    let text = |f: fn(&(Item, Reject)) -> Text<'_>| -> ArrayRef {
        Arc::new(rows.iter().map(|r| f(r)).collect::<StringArray>())
    };
    let columns = vec![
        ("key", text(|(item, _)| Some(&item.key))),
        ("url", text(|(item, _)| item.url.as_deref())),
        ("text_raw", text(|(item, _)| item.text_raw.as_deref())),
        ("stage", text(|(_, reject)| Some(reject.stage.as_str()))),
        ("reason", text(|(_, reject)| Some(reject.reason.as_str()))),
        ("detail", text(|(_, reject)| Some(&reject.detail))),
    ];
    batch(columns, Default::default())
}

fn batch(
    columns: Vec<(&str, ArrayRef)>,
    metadata: std::collections::HashMap<String, String>,
) -> Result<RecordBatch> {
    let field =
        |(name, array): &(&str, ArrayRef)| Field::new(*name, array.data_type().clone(), true);
    let fields: Vec<Field> = columns.iter().map(field).collect();
    let arrays = columns.into_iter().map(|(_, array)| array).collect();
    let schema = Arc::new(Schema::new_with_metadata(fields, metadata));
    Ok(RecordBatch::try_new(schema, arrays)?)
}

fn images(rows: &[&Sample]) -> Result<ArrayRef> {
    let bytes: BinaryArray = rows.iter().map(|s| Some(s.image.bytes.as_ref())).collect();
    let paths: StringArray = rows.iter().map(|s| Some(s.image.path.as_str())).collect();
    let columns: Vec<(&str, ArrayRef)> =
        vec![("bytes", Arc::new(bytes)), ("path", Arc::new(paths))];
    Ok(Arc::new(structs(columns)))
}

fn tag_lists(rows: &[&[Tag]]) -> Result<ArrayRef> {
    let mut labels = StringBuilder::new();
    let mut models = StringBuilder::new();
    let mut boxes = ListBuilder::new(Float32Builder::new());
    for tag in rows.iter().copied().flatten() {
        labels.append_value(&tag.label);
        models.append_value(&tag.model);
        boxes.append_option(tag.bbox.map(|b| b.map(Some)));
    }
    let scores: Float32Array = rows.iter().copied().flatten().map(|t| Some(t.score)).collect();
    let tags = structs(vec![
        ("label", Arc::new(labels.finish())),
        ("score", Arc::new(scores)),
        ("box", Arc::new(boxes.finish())),
        ("model", Arc::new(models.finish())),
    ]);
    let field = Arc::new(Field::new("item", tags.data_type().clone(), true));
    let offsets = OffsetBuffer::from_lengths(rows.iter().map(|tags| tags.len()));
    Ok(Arc::new(arrow::array::ListArray::try_new(field, offsets, Arc::new(tags), None)?))
}

fn structs(columns: Vec<(&str, ArrayRef)>) -> StructArray {
    let with_field = |(name, array): (&str, ArrayRef)| {
        let data_type: DataType = array.data_type().clone();
        (Arc::new(Field::new(name, data_type, true)), array)
    };
    StructArray::from(columns.into_iter().map(with_field).collect::<Vec<_>>())
}
