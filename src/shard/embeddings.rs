//! Parquet files of embeddings: key, modality, embedding.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use arrow::array::ArrayRef;
use arrow::array::FixedSizeListArray;
use arrow::array::FixedSizeListBuilder;
use arrow::array::Float16Array;
use arrow::array::Float32Array;
use arrow::array::Float32Builder;
use arrow::array::RecordBatch;
use arrow::array::StringArray;
use arrow::datatypes::DataType;
use arrow::datatypes::Field;
use arrow::datatypes::Schema;
use arrow::datatypes::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;

use crate::atomic_file::AtomicFile;

/// Rows of a group, which are held in memory: 25 MB of 640 numbers each.
const ROW_GROUP: usize = 10_000;

/// How numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// 4 bytes.
    F32,
    /// 2 bytes.
    F16,
}

/// One embedding, or the place of one that could not be made.
pub struct Embedding {
    /// Of the row it was made of.
    pub key: String,
    /// `image` or `text`.
    pub modality: &'static str,
    /// The numbers; `None` where there is no picture or text to embed.
    pub numbers: Option<Vec<f32>>,
}

/// A file of embeddings that is being written; it appears when it is [published](Embeddings::publish).
pub struct Embeddings {
    writer: ArrowWriter<AtomicFile>,
    schema: SchemaRef,
    dimension: usize,
    precision: Precision,
}

impl Embeddings {
    /// Begins a file of embeddings of so many numbers; `about` goes into the metadata of its schema.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn create(
        path: &Path,
        dimension: usize,
        precision: Precision,
        about: HashMap<String, String>,
    ) -> Result<Embeddings> {
        let number = match precision {
            Precision::F32 => DataType::Float32,
            Precision::F16 => DataType::Float16,
        };
        let item = Arc::new(Field::new("item", number, true));
        let size = i32::try_from(dimension).context("an embedding of too many numbers")?;
        let columns = vec![
            Field::new("key", DataType::Utf8, false),
            Field::new("modality", DataType::Utf8, false),
            Field::new("embedding", DataType::FixedSizeList(item, size), true),
        ];
        let schema = Arc::new(Schema::new(columns).with_metadata(about));
        // Embeddings do not compress, and no dictionary fits them.
        let properties = WriterProperties::builder()
            .set_compression(Compression::UNCOMPRESSED)
            .set_dictionary_enabled(false)
            .set_max_row_group_row_count(Some(ROW_GROUP))
            .build();
        let file = AtomicFile::open(path)?;
        let writer = ArrowWriter::try_new(file, schema.clone(), Some(properties))?;
        Ok(Embeddings { writer, schema, dimension, precision })
    }

    /// Adds rows, in order.
    ///
    /// # Errors
    /// When an embedding has another size, or the disk is full.
    pub fn push(&mut self, rows: &[Embedding]) -> Result<()> {
        let keys = StringArray::from_iter_values(rows.iter().map(|row| &row.key));
        let modalities = StringArray::from_iter_values(rows.iter().map(|row| row.modality));
        let columns: Vec<ArrayRef> =
            vec![Arc::new(keys), Arc::new(modalities), self.numbers(rows)?];
        let batch = RecordBatch::try_new(self.schema.clone(), columns)?;
        self.writer.write(&batch).context("cannot write the embeddings; is the disk full?")
    }

    /// Makes the file appear, whole.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn publish(self) -> Result<()> {
        let file = self.writer.into_inner().context("cannot finish the file of embeddings")?;
        file.publish().map(drop)
    }

    fn numbers(&self, rows: &[Embedding]) -> Result<ArrayRef> {
        let mut list = FixedSizeListBuilder::new(Float32Builder::new(), self.dimension as i32);
        for row in rows {
            match &row.numbers {
                Some(numbers) => {
                    ensure!(numbers.len() == self.dimension, "{} has another size", row.key);
                    list.values().append_slice(numbers);
                }
                None => list.values().append_nulls(self.dimension),
            }
            list.append(row.numbers.is_some());
        }
        let list = list.finish();
        if self.precision == Precision::F32 {
            return Ok(Arc::new(list));
        }
        let (field, size, values, nulls) = list.into_parts();
        let values = values.as_any().downcast_ref::<Float32Array>().context("numbers")?;
        let halves: Float16Array =
            values.iter().map(|value| value.map(half::f16::from_f32)).collect();
        let field = Arc::new(field.as_ref().clone().with_data_type(DataType::Float16));
        Ok(Arc::new(FixedSizeListArray::try_new(field, size, Arc::new(halves), nulls)?))
    }
}
