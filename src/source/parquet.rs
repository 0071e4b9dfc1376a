//! Parquet with images (`struct<bytes, path>` or binary) or urls, a few rows in memory at a time.

use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::fs::File;
use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use anyhow::anyhow;
use anyhow::ensure;
use arrow::array::Array;
use arrow::array::ArrayRef;
use arrow::array::AsArray;
use arrow::array::RecordBatch;
use arrow::array::StringArray;
use arrow::compute::cast;
use arrow::datatypes::DataType;
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReader;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::arrow_json::columns_to_rows;
use crate::sample::Extra;
use crate::sample::ExtraColumn;
use crate::sample::Item;
use crate::sample::Reason;
use crate::source::Config;
use crate::source::Items;
use crate::source::Mapping;
use crate::source::Plan;
use crate::source::PlannedFile;
use crate::source::Survey;
use crate::source::columns;
use crate::source::columns::Cell;
use crate::source::columns::Column;
use crate::source::columns::Row;
use crate::source::inputs;
use crate::source::parked::Parked;
use crate::source::parked::Reader;
use crate::source::parked::Rows;

/// Rows decoded at once.
const MAX_BATCH_ROWS: u64 = 64;

/// Bytes decoded at once: pictures of some megabytes each are read a few at a time.
const BATCH_BYTES: u64 = 32 << 20;

/// Rows decoded at once where no pictures are.
const WORDS_AT_ONCE: usize = 1_024;

/// A file that is read row by row.
pub(super) struct Batches {
    path: PathBuf,
    batches: ParquetRecordBatchReader,
    mapping: Mapping,
    extra: Vec<ExtraColumn>,
    /// Decoded already.
    ready: VecDeque<Item>,
    row: u64,
}

/// Looks at the footers.
pub(super) fn survey(paths: &[PathBuf], config: &Config) -> Result<Survey> {
    let (mut all, mut files) = (Vec::new(), Vec::new());
    for path in paths {
        let builder = open(path)?;
        let rows = builder.metadata().file_metadata().num_rows();
        let rows = u64::try_from(rows).with_context(|| damaged(path))?;
        let fields = builder.schema().fields().iter();
        let names: Vec<String> = fields.clone().map(|field| field.name().clone()).collect();
        columns::ensure_distinct(&names).with_context(|| damaged(path))?;
        let found = fields.map(|field| Column {
            name: field.name().clone(),
            data_type: field.data_type().clone(),
        });
        columns::merge(&mut all, found.collect()).with_context(|| damaged(path))?;
        files.push(PlannedFile::new(path, rows)?);
    }
    let mapping = columns::choose(&all, config).with_context(|| inputs::names(paths))?;
    Ok(Survey { files, columns: all, mapping })
}

/// Items of these rows of a file.
pub(super) fn read<'a>(
    plan: &'a Plan,
    parked: &'a Parked<Batches>,
    file: &'a PlannedFile,
    rows: Range<u64>,
) -> Result<Items<'a>> {
    let start = rows.start;
    Ok(Box::new(Rows::open(parked, file, rows, || Batches::open(plan, &file.path, start, None))?))
}

/// Items of these rows of a file, without pictures and with these columns beside the ones that are
/// used. Its reader is not parked: it would be of no use to who reads whole rows.
pub(super) fn words<'a>(
    plan: &'a Plan,
    columns: &BTreeSet<String>,
    file: &'a PlannedFile,
    rows: Range<u64>,
) -> Result<Items<'a>> {
    let Mapping { key, url, text, .. } = &plan.mapping;
    let wanted = [key, url, text].into_iter().flatten().chain(columns).cloned().collect();
    let mut batches = Batches::open(plan, &file.path, rows.start, Some(&wanted))?;
    batches.mapping.image = None;
    let count = usize::try_from(rows.end - rows.start)?;
    Ok(Box::new(std::iter::from_fn(move || batches.next_row().transpose()).take(count)))
}

impl Reader for Batches {
    type Row = Item;

    fn path(&self) -> &Path {
        &self.path
    }

    fn row(&self) -> u64 {
        self.row
    }

    fn next_row(&mut self) -> Result<Option<Item>> {
        let place = || format!("cannot read {} from row {} on", self.path.display(), self.row);
        while self.ready.is_empty() {
            let batch = guarded(|| Ok(self.batches.next().transpose()?)).with_context(place)?;
            let Some(batch) = batch else { return Ok(None) };
            self.ready = self.items(&batch).with_context(place)?;
        }
        self.row += 1;
        Ok(self.ready.pop_front())
    }

    /// Any row can be found by its row group.
    fn reaches(&self, row: u64) -> bool {
        self.row == row
    }
}

impl Batches {
    /// From a row on: the row groups before it are not even passed through, and columns that are not
    /// wanted are not read.
    fn open(
        plan: &Plan,
        path: &Path,
        row: u64,
        wanted: Option<&BTreeSet<String>>,
    ) -> Result<Batches> {
        let builder = open(path)?;
        let (mut groups, mut offset, mut first, mut row_bytes) = (Vec::new(), 0, 0, 0);
        for (number, group) in builder.metadata().row_groups().iter().enumerate() {
            let [rows, bytes] =
                [group.num_rows(), group.total_byte_size()].map(|n| n.max(0) as u64);
            let end = u64::saturating_add(first, rows);
            if row < end {
                offset = if groups.is_empty() { row - first } else { offset };
                groups.push(number);
                row_bytes = row_bytes.max(bytes / rows.max(1));
            }
            first = end;
        }
        let columns = match wanted {
            None => ProjectionMask::all(),
            Some(wanted) => {
                let fields = builder.schema().fields().iter().enumerate();
                let places = fields.filter(|(_, field)| wanted.contains(field.name()));
                ProjectionMask::roots(builder.parquet_schema(), places.map(|(place, _)| place))
            }
        };
        let batch_rows = if wanted.is_some() { WORDS_AT_ONCE } else { batch_rows(row_bytes) };
        let builder = builder
            .with_projection(columns)
            .with_row_groups(groups)
            .with_batch_size(batch_rows)
            .with_offset(usize::try_from(offset)?);
        let batches = guarded(|| Ok(builder.build()?)).with_context(|| damaged(path))?;
        let (mapping, extra) = (plan.mapping.clone(), plan.extra.clone());
        let ready = VecDeque::new();
        Ok(Batches { path: path.to_owned(), batches, mapping, extra, ready, row })
    }

    fn items(&self, batch: &RecordBatch) -> Result<VecDeque<Item>> {
        let column = |name: &Option<String>| batch.column_by_name(name.as_deref()?);
        let text_of = |name| column(name).map(text_column).transpose();
        let Mapping { key, image, url, text } = &self.mapping;
        let (keys, urls, texts) = (text_of(key)?, text_of(url)?, text_of(text)?);
        let images = match image {
            Some(_) => cells(column(image), batch.num_rows())?,
            None => (0..batch.num_rows()).map(|_| Cell::NoColumn).collect(),
        };
        let word = |column: &Option<StringArray>, row: usize| {
            let column = column.as_ref().filter(|column| column.is_valid(row))?;
            Some(column.value(row).to_owned())
        };
        let rows = images.into_iter().zip(extra(&self.extra, batch)?).enumerate();
        let items = rows.map(|(row, (image, extra))| {
            let place = format!("{}:{}", self.path.display(), self.row + row as u64);
            let (key, url, text) = (word(&keys, row), word(&urls, row), word(&texts, row));
            Row { key, image, url, text, extra }.into_item(&place)
        });
        Ok(items.collect())
    }
}

/// Fewer rows at once where they are large.
fn batch_rows(row_bytes: u64) -> usize {
    (BATCH_BYTES / row_bytes.max(1)).clamp(1, MAX_BATCH_ROWS) as usize
}

/// What the writer of a file noted under this name beside its schema.
pub(super) fn note(path: &Path, name: &str) -> Result<Option<String>> {
    Ok(open(path)?.schema().metadata().get(name).cloned())
}

fn open(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<File>> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    guarded(|| Ok(ParquetRecordBatchReaderBuilder::try_new(file)?)).with_context(|| damaged(path))
}

/// The parquet crate divides by zero on some damaged pages. Nothing is read with a reader that
/// panicked.
fn guarded<T>(read: impl FnOnce() -> Result<T>) -> Result<T> {
    let caught = catch_unwind(AssertUnwindSafe(read));
    caught.unwrap_or_else(|_| Err(anyhow!("the file is damaged: its reader panicked")))
}

fn damaged(path: &Path) -> String {
    format!("{} cannot be used as parquet; is it cut off? Get it again", path.display())
}

/// The columns that are carried through; a file may lack some that others have.
fn extra(columns: &[ExtraColumn], batch: &RecordBatch) -> Result<Vec<Extra>> {
    let present = columns
        .iter()
        .filter_map(|column| Some((column.clone(), batch.column_by_name(&column.name)?.clone())));
    let (columns, arrays): (Vec<ExtraColumn>, Vec<ArrayRef>) = present.unzip();
    columns_to_rows(&columns, &arrays, batch.num_rows())
}

fn text_column(column: &ArrayRef) -> Result<StringArray> {
    Ok(cast(column, &DataType::Utf8)?.as_string::<i32>().clone())
}

/// What the image column says about each row; no column in this file is a null in each.
fn cells(column: Option<&ArrayRef>, rows: usize) -> Result<Vec<Cell>> {
    let Some(column) = column else {
        return Ok((0..rows).map(|_| Cell::nothing(Reason::ImageNull, "")).collect());
    };
    let (bytes, paths) = match column.as_struct_opt() {
        Some(cells) => {
            let bytes = cells.column_by_name("bytes").context("the image struct has no `bytes`")?;
            (bytes.clone(), cells.column_by_name("path").cloned())
        }
        None => (column.clone(), None),
    };
    let bytes = cast(&bytes, &DataType::LargeBinary).context("the image column is not binary")?;
    let bytes = bytes.as_binary::<i64>();
    ensure!(bytes.len() == rows, "the image column has {} rows, not {rows}", bytes.len());
    let paths = paths.map(|paths| text_column(&paths)).transpose()?;
    let name = |row: usize| {
        let paths = paths.as_ref().filter(|paths| paths.is_valid(row))?;
        Some(paths.value(row).to_owned())
    };
    let cell = |row: usize| {
        if column.is_null(row) {
            Cell::nothing(Reason::ImageNull, "")
        } else if bytes.is_null(row) {
            Cell::nothing(Reason::ImageBytesNull, "")
        } else {
            Cell::Bytes { bytes: Bytes::copy_from_slice(bytes.value(row)), name: name(row) }
        }
    };
    Ok((0..rows).map(cell).collect())
}
