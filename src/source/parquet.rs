//! A parquet file with images (`struct<bytes, path>` or binary), read 64 rows at a time.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use arrow::array::Array;
use arrow::array::ArrayRef;
use arrow::array::AsArray;
use arrow::array::RecordBatch;
use arrow::compute::cast;
use arrow::datatypes::DataType;
use arrow::datatypes::Schema;
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::Items;
use super::absent;
use crate::atomic_file;
use crate::sample::Extra;
use crate::sample::Item;
use crate::sample::Picture;
use crate::sample::Reason;

const IMAGE: [&str; 6] = ["image", "jpg", "png", "webp", "jpeg", "image_bytes"];
const TEXT: [&str; 8] =
    ["text_raw", "raw_text", "caption", "TEXT", "text", "alt", "alt_text", "title"];
const KEY: [&str; 3] = ["key", "__key__", "uid"];
const URL: [&str; 2] = ["url", "URL"];

/// Few enough that images of a few megabytes stay a bounded load.
const BATCH_ROWS: usize = 64;

pub(super) fn open(path: &Path) -> Result<Items> {
    let name = path.display().to_string();
    let file = File::open(path).with_context(|| format!("cannot read {name}"))?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(file)
        .with_context(|| format!("{name} is not a whole parquet file"))?;
    let schema = builder.schema().clone();
    let Some(image) = first(&schema, &IMAGE) else {
        let found: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
        bail!("{name} has no image column ({IMAGE:?}); its columns are {found:?}");
    };
    let mut first_row = 0;
    let batches = builder.with_batch_size(BATCH_ROWS).build()?;
    Ok(Box::new(batches.flat_map(move |batch| {
        let at = first_row;
        let read = batch.with_context(|| format!("cannot read {name} after row {at}"));
        let items = read.and_then(|batch| {
            first_row += batch.num_rows();
            rows(&batch, image, at)
        });
        match items {
            Ok(items) => items.into_iter().map(Ok).collect::<Vec<_>>(),
            Err(e) => vec![Err(e)],
        }
    })))
}

fn first(schema: &Arc<Schema>, names: &[&str]) -> Option<usize> {
    names.iter().find_map(|name| schema.index_of(name).ok())
}

fn rows(batch: &RecordBatch, image: usize, first_row: usize) -> Result<Vec<Item>> {
    let schema = batch.schema();
    let text_column = |names: &[&str]| -> Result<Option<ArrayRef>> {
        let Some(index) = first(&schema, names) else { return Ok(None) };
        Ok(Some(cast(batch.column(index), &DataType::Utf8)?))
    };
    let (texts, keys, urls) = (text_column(&TEXT)?, text_column(&KEY)?, text_column(&URL)?);
    let cell = |column: &Option<ArrayRef>, row: usize| -> Option<String> {
        let column = column.as_ref()?.as_string::<i32>();
        column.is_valid(row).then(|| column.value(row).to_owned())
    };
    let pictures = pictures(batch.column(image))?;
    let items = pictures.into_iter().enumerate().map(|(row, picture)| Item {
        key: cell(&keys, row).unwrap_or_else(|| hashed(&picture, first_row + row)),
        picture,
        url: cell(&urls, row),
        text_raw: cell(&texts, row),
        extra: Extra::new(),
    });
    Ok(items.collect())
}

fn hashed(picture: &Picture, row: usize) -> String {
    match picture {
        Picture::Bytes { bytes, .. } => atomic_file::sha256(bytes)[..16].to_owned(),
        _ => format!("row-{row:08}"),
    }
}

fn pictures(column: &ArrayRef) -> Result<Vec<Picture>> {
    let (bytes, paths) = match column.as_struct_opt() {
        Some(cells) => {
            let bytes = cells.column_by_name("bytes").context("the image struct has no `bytes`")?;
            (bytes.clone(), cells.column_by_name("path").cloned())
        }
        None => (column.clone(), None),
    };
    let bytes = cast(&bytes, &DataType::Binary).context("the image column is not binary")?;
    let bytes = bytes.as_binary::<i32>();
    let paths = paths.map(|p| cast(&p, &DataType::Utf8)).transpose()?;
    let path = |row: usize| {
        let paths = paths.as_ref()?.as_string::<i32>();
        paths.is_valid(row).then(|| paths.value(row).to_owned())
    };
    let picture = |row: usize| {
        if column.is_null(row) {
            absent(Reason::ImageNull, "")
        } else if bytes.is_null(row) {
            absent(Reason::ImageBytesNull, "")
        } else {
            Picture::Bytes { bytes: Bytes::copy_from_slice(bytes.value(row)), name: path(row) }
        }
    };
    Ok((0..column.len()).map(picture).collect())
}
