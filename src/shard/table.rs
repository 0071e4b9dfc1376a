//! Parquet files of a shard: rows as JSON in, row groups of a hundred out, and back.

use std::collections::HashMap;
use std::fs::File;
use std::iter;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use arrow::array::Array;
use arrow::array::ArrayRef;
use arrow::array::AsArray;
use arrow::array::BinaryArray;
use arrow::array::RecordBatch;
use arrow::array::StringArray;
use arrow::array::StructArray;
use arrow::datatypes::DataType;
use arrow::datatypes::Field;
use arrow::datatypes::FieldRef;
use arrow::datatypes::Fields;
use arrow::datatypes::Schema;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::arrow_reader::RowSelection;
use parquet::basic::Compression;
use parquet::basic::ZstdLevel;
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;

use crate::arrow_json::columns_to_rows;
use crate::arrow_json::extra_column;
use crate::arrow_json::rows_to_batch;
use crate::atomic_file::AtomicFile;
use crate::sample::Extra;
use crate::sample::ExtraColumn;
use crate::shard::columns::IMAGE;
use crate::shard::columns::Layout;
use crate::shard::marker::DataFile;

/// The field's habit for images: 1000 rows a group make readers run out of memory.
pub(super) const ROW_GROUP: usize = 100;

/// A group of large pictures ends sooner: it is in memory up to three times while it is written, and
/// a column chunk above 2 GB breaks readers. Pictures of the default size come to a tenth of this.
pub(super) const ROW_GROUP_IMAGE_BYTES: usize = 64 << 20;

/// Tells Hugging Face `datasets` to decode `image`; the other features follow from the types.
const FEATURES: &str = r#"{"info": {"features": {"image": {"_type": "Image"}}}}"#;

/// Where the image column is: after `key`.
const IMAGE_AT: usize = 1;

/// Columns whose values hardly repeat: a dictionary would only cost memory.
const DISTINCT: [&str; 9] = [
    "key",
    "url",
    "text_raw",
    "text_synthetic",
    "text_generated",
    "sha256",
    "phash",
    "detail",
    "generated_refused",
];

/// A parquet file that is being written.
pub(super) struct Table {
    writer: ArrowWriter<AtomicFile>,
    name: String,
    columns: Vec<ExtraColumn>,
    schema: SchemaRef,
    rows: Vec<Extra>,
    images: Option<Vec<(Bytes, String)>>,
    image_bytes: usize,
    written: u64,
}

impl Table {
    /// Begins a file with these columns, and an image column if wanted.
    pub(super) fn create(
        run: &Path,
        name: &str,
        layout: &Layout,
        with_image: bool,
    ) -> Result<Table> {
        let schema = schema(layout, with_image)?;
        let file = AtomicFile::open(&run.join(name))?;
        let writer = ArrowWriter::try_new(file, schema.clone(), Some(properties()?))?;
        Ok(Table {
            writer,
            name: name.to_owned(),
            columns: layout.columns()?,
            schema,
            rows: Vec::new(),
            images: with_image.then(Vec::new),
            image_bytes: 0,
            written: 0,
        })
    }

    /// Adds a row; its image must be given if the file has images.
    pub(super) fn push(&mut self, row: Extra, image: Option<(Bytes, String)>) -> Result<()> {
        self.rows.push(row);
        if let (Some(images), Some(image)) = (&mut self.images, image) {
            self.image_bytes += image.0.len();
            images.push(image);
        }
        if self.rows.len() >= ROW_GROUP || self.image_bytes >= ROW_GROUP_IMAGE_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    /// Writes the rest and makes the file visible.
    pub(super) fn publish(mut self) -> Result<DataFile> {
        self.flush()?;
        let failed = || format!("cannot write {}: is the disk full?", self.name);
        let written = self.writer.into_inner().with_context(failed)?.publish()?;
        let (bytes, sha256) = (written.bytes, written.sha256);
        Ok(DataFile { name: self.name, rows: self.written, bytes, sha256 })
    }

    fn flush(&mut self) -> Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let rows: Vec<&Extra> = self.rows.iter().collect();
        let mut arrays = rows_to_batch(&self.columns, &rows)?;
        if let Some(images) = &self.images {
            arrays.insert(IMAGE_AT, image_array(images));
        }
        let batch = RecordBatch::try_new(self.schema.clone(), arrays)?;
        let failed = || format!("cannot write {}: is the disk full?", self.name);
        self.writer.write(&batch).with_context(failed)?;
        self.writer.flush().with_context(failed)?;
        self.written += self.rows.len() as u64;
        self.rows.clear();
        self.image_bytes = 0;
        if let Some(images) = &mut self.images {
            images.clear();
        }
        Ok(())
    }
}

/// The Arrow schema of such a file.
pub(super) fn schema(layout: &Layout, with_image: bool) -> Result<SchemaRef> {
    let mut fields = layout.fields()?;
    let mut metadata = HashMap::new();
    if with_image {
        // Nullable although it never is null: `datasets` decodes only what equals its own feature.
        fields.insert(IMAGE_AT, Field::new(IMAGE, DataType::Struct(image_fields()), true));
        metadata.insert("huggingface".to_owned(), FEATURES.to_owned());
    }
    Ok(Arc::new(Schema::new_with_metadata(fields, metadata)))
}

fn image_fields() -> Fields {
    let fields = [("bytes", DataType::Binary), ("path", DataType::Utf8)];
    fields.into_iter().map(|(name, data_type)| Field::new(name, data_type, true)).collect()
}

fn image_array(images: &[(Bytes, String)]) -> ArrayRef {
    let bytes: BinaryArray = images.iter().map(|(bytes, _)| Some(bytes.as_ref())).collect();
    let paths: StringArray = images.iter().map(|(_, path)| Some(path.as_str())).collect();
    Arc::new(StructArray::new(image_fields(), vec![Arc::new(bytes), Arc::new(paths)], None))
}

fn properties() -> Result<WriterProperties> {
    let mut properties = WriterProperties::builder()
        // Level 3 is twice as slow for two points of size.
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_max_row_group_row_count(Some(ROW_GROUP));
    for name in DISTINCT {
        properties = properties.set_column_dictionary_enabled(ColumnPath::from(name), false);
    }
    let image = |field: &str| ColumnPath::new(vec![IMAGE.to_owned(), field.to_owned()]);
    properties = properties
        .set_column_dictionary_enabled(image("path"), false)
        .set_column_dictionary_enabled(image("bytes"), false)
        // JPEG and PNG do not compress further.
        .set_column_compression(image("bytes"), Compression::UNCOMPRESSED);
    Ok(properties.build())
}

/// A row as it is read: its cells, and its image if the file has one and it was asked for.
pub(super) type ReadRow = (Extra, Option<(Bytes, String)>);

/// Rows of a file, a row group in memory at a time.
pub(super) fn read(
    path: &Path,
    with_image: bool,
) -> Result<impl Iterator<Item = Result<ReadRow>> + Send + use<>> {
    rows_from(path, open(path)?, with_image)
}

/// These rows of a file, ascending; other row groups are not read.
pub(super) fn read_rows(
    path: &Path,
    wanted: &[usize],
) -> Result<impl Iterator<Item = Result<ReadRow>> + Send + use<>> {
    let builder = open(path)?;
    let all = usize::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(0);
    let ranges = wanted.iter().filter(|&&row| row < all).map(|&row| row..row + 1);
    let selection = RowSelection::from_consecutive_ranges(ranges, all);
    rows_from(path, builder.with_row_selection(selection), true)
}

/// Names and types of the columns.
pub(super) fn columns(path: &Path) -> Result<Vec<(String, String)>> {
    let schema = open(path)?.schema().clone();
    let column = |field: &FieldRef| (field.name().clone(), field.data_type().to_string());
    Ok(schema.fields().iter().map(column).collect())
}

/// Names of the columns, and their types as JSON.
pub(super) fn types(path: &Path) -> Result<Vec<(String, serde_json::Value)>> {
    let schema = open(path)?.schema().clone();
    let column = |field: &FieldRef| {
        Ok((field.name().clone(), extra_column(field.name(), field.data_type())?.data_type))
    };
    schema.fields().iter().map(column).collect()
}

fn open(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<File>> {
    let name = path.display();
    let file = File::open(path).with_context(|| format!("cannot open {name}"))?;
    guarded(|| Ok(ParquetRecordBatchReaderBuilder::try_new(file)?))
        .with_context(|| format!("{name} is not a whole parquet file"))
}

/// The parquet crate panics on some damaged files; for us that is a file like any other.
fn guarded<T>(read: impl FnOnce() -> Result<T>) -> Result<T> {
    // What was half done is dropped unread, so nobody sees it in pieces.
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| bail!("the parquet reader panicked"))
}

fn rows_from(
    path: &Path,
    builder: ParquetRecordBatchReaderBuilder<File>,
    with_image: bool,
) -> Result<impl Iterator<Item = Result<ReadRow>> + Send + use<>> {
    let name = path.display().to_string();
    let wanted = builder.schema().fields().iter().enumerate();
    let wanted = wanted.filter(|(_, field)| with_image || field.name() != IMAGE);
    let roots: Vec<usize> = wanted.map(|(place, _)| place).collect();
    let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
    let builder = builder.with_projection(mask).with_batch_size(ROW_GROUP);
    let mut batches = guarded(|| Ok(builder.build()?))?;
    let batches = iter::from_fn(move || guarded(|| Ok(batches.next().transpose()?)).transpose());
    Ok(batches.flat_map(move |batch| {
        let rows = batch.and_then(|batch| rows_of(&batch));
        match rows.with_context(|| format!("cannot read {name}")) {
            Ok(rows) => rows.into_iter().map(Ok).collect::<Vec<_>>(),
            Err(error) => vec![Err(error)],
        }
    }))
}

fn rows_of(batch: &RecordBatch) -> Result<Vec<ReadRow>> {
    let schema = batch.schema();
    let mut images = None;
    let (mut columns, mut arrays) = (Vec::new(), Vec::new());
    for (field, array) in schema.fields().iter().zip(batch.columns()) {
        if field.name() == IMAGE {
            images = Some(array);
        } else {
            columns.push(extra_column(field.name(), field.data_type())?);
            arrays.push(array.clone());
        }
    }
    let rows = columns_to_rows(&columns, &arrays, batch.num_rows())?;
    let image = |row| images.map(|images| image(images, row)).transpose();
    rows.into_iter().enumerate().map(|(row, cells)| Ok((cells, image(row)?))).collect()
}

fn image(images: &ArrayRef, row: usize) -> Result<(Bytes, String)> {
    let images = images.as_struct_opt().context("the image column is not a struct")?;
    let column = |name| images.column_by_name(name).context("the image struct lacks a field");
    let bytes = column("bytes")?.as_binary_opt::<i32>().context("image.bytes is not binary")?;
    let paths = column("path")?.as_string_opt::<i32>().context("image.path is not text")?;
    ensure!(bytes.is_valid(row), "the image of a row is null");
    let path = if paths.is_null(row) { "" } else { paths.value(row) };
    Ok((Bytes::copy_from_slice(bytes.value(row)), path.to_owned()))
}
