//! Tables in text files: csv, tsv and jsonl, plain or gzipped.
//!
//! A row that cannot be read is a row with a reason. An empty CSV cell is null.

use std::ops::Range;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use serde_json::Value;

use crate::sample::Extra;
use crate::source::Config;
use crate::source::Items;
use crate::source::Plan;
use crate::source::PlannedFile;
use crate::source::Survey;
use crate::source::columns;
use crate::source::columns::Row;
use crate::source::infer::Columns;
use crate::source::parked::Parked;
use crate::source::parked::Reader;
use crate::source::parked::Rows;
use crate::source::records::MAX_RECORD_BYTES;
use crate::source::records::Record;
use crate::source::records::Records;
use crate::source::records::Splitter;
use crate::source::records::fields;

/// A table that is read row by row.
pub(super) struct Table {
    records: Records,
    shape: Shape,
    path: PathBuf,
    /// Number of the next row.
    row: u64,
}

enum Shape {
    Csv { delimiter: u8, header: Vec<String> },
    Jsonl,
}

/// A row, or what is wrong with it.
pub(super) type TableRow = Result<Extra, String>;

/// Looks through tables.
pub(super) fn survey(paths: &[PathBuf], config: &Config) -> Result<Survey> {
    let mut columns = Columns::default();
    let files = paths.iter().map(|path| count(path, &mut columns)).collect::<Result<Vec<_>>>()?;
    let columns = columns.finish();
    let mapping = columns::choose(&columns, config).with_context(|| super::inputs::names(paths))?;
    Ok(Survey { files, columns, mapping })
}

/// Counts the rows of a table and takes its columns into account.
pub(super) fn count(path: &Path, columns: &mut Columns) -> Result<PlannedFile> {
    let mut table = Table::open(path)?;
    if let Shape::Csv { header, .. } = &table.shape {
        header.iter().try_for_each(|name| columns.add_text(name))?;
    }
    while let Some((_, row)) = table.next_row()? {
        if let (Shape::Jsonl, Ok(row)) = (&table.shape, row) {
            columns.observe(&row).with_context(|| format!("cannot read {}", path.display()))?;
        }
    }
    PlannedFile::new(path, table.row)
}

/// Items of these rows of a file.
pub(super) fn read<'a>(
    plan: &'a Plan,
    parked: &'a Parked<Table>,
    file: &'a PlannedFile,
    rows: Range<u64>,
) -> Result<Items<'a>> {
    let rows = Rows::open(parked, file, rows, || Table::open(&file.path))?;
    Ok(Box::new(rows.map(|row| {
        let (place, row) = row?;
        Ok(match row {
            Ok(row) => Row::from_object(row, &plan.mapping, &plan.extra).into_item(&place),
            Err(detail) => columns::malformed(&place, detail),
        })
    })))
}

impl Reader for Table {
    /// Where it is, and the cells or what is wrong with them.
    type Row = (String, TableRow);

    fn path(&self) -> &Path {
        &self.path
    }

    fn row(&self) -> u64 {
        self.row
    }

    fn next_row(&mut self) -> Result<Option<Self::Row>> {
        let Some((line, record)) = self.records.next_record()? else { return Ok(None) };
        let place = format!("{}:{}", self.path.display(), self.row);
        self.row += 1;
        let row = match (record, &self.shape) {
            (Record::TooLong, _) => Err(format!("longer than {} MiB", MAX_RECORD_BYTES >> 20)),
            (Record::Whole(bytes), Shape::Jsonl) => object(bytes),
            (Record::Whole(bytes), Shape::Csv { delimiter, header }) => {
                cells(bytes, *delimiter, header)
            }
        };
        Ok(Some((place, row.map_err(|detail| format!("line {line}: {detail}")))))
    }

    fn skip_row(&mut self) -> Result<bool> {
        let is_there = self.records.next_record()?.is_some();
        self.row += u64::from(is_there);
        Ok(is_there)
    }
}

impl Table {
    /// Opens a table, whose name says which of the three it is.
    pub(super) fn open(path: &Path) -> Result<Table> {
        let delimiter = delimiter(path)?;
        let splitter = delimiter.map_or(Splitter::Lines, Splitter::csv);
        let mut records = Records::open(path, splitter)?;
        let shape = match delimiter {
            Some(delimiter) => {
                Shape::Csv { delimiter, header: header(&mut records, delimiter, path)? }
            }
            None if records.peek()?.starts_with(b"[") => bail!(
                "{} is one JSON array, not a line for each row; convert it first, for example with \
                 jq -c '.[]'",
                path.display()
            ),
            None => Shape::Jsonl,
        };
        Ok(Table { records, shape, path: path.to_owned(), row: 0 })
    }
}

/// The delimiter of a csv or tsv file; `None` for lines of JSON.
fn delimiter(path: &Path) -> Result<Option<u8>> {
    match kind_of_name(path).as_deref() {
        Some("csv") => Ok(Some(b',')),
        Some("tsv") => Ok(Some(b'\t')),
        Some("jsonl" | "ndjson" | "json") => Ok(None),
        _ => bail!(
            "{} is no table by its name: call it .csv, .tsv or .jsonl (and .gz if compressed)",
            path.display()
        ),
    }
}

/// `csv` for `x.csv` and for `x.CSV.gz`.
pub(super) fn kind_of_name(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?.to_ascii_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    Some(name.rsplit_once('.')?.1.to_owned())
}

fn header(records: &mut Records, delimiter: u8, path: &Path) -> Result<Vec<String>> {
    let broken = || format!("the header of {} cannot be read", path.display());
    let Some((_, Record::Whole(record))) = records.next_record()? else {
        bail!("{} has no header line", path.display());
    };
    let names = fields(record, delimiter).with_context(broken)?;
    let names = names.into_iter().map(String::from_utf8).collect::<Result<Vec<_>, _>>();
    let names = names.with_context(broken)?;
    if names.iter().any(|name| name.contains('\0')) {
        bail!("{} is not text", path.display());
    }
    columns::ensure_distinct(&names).with_context(broken)?;
    Ok(names)
}

fn object(line: &[u8]) -> TableRow {
    match serde_json::from_slice(line) {
        Ok(Value::Object(row)) => Ok(row),
        Ok(_) => Err("not a JSON object".to_owned()),
        Err(error) => Err(format!("not JSON: {error}")),
    }
}

fn cells(record: &[u8], delimiter: u8, header: &[String]) -> TableRow {
    let cells = fields(record, delimiter).map_err(|error| error.to_string())?;
    if cells.len() != header.len() {
        return Err(format!("{} fields where the header has {}", cells.len(), header.len()));
    }
    let pairs = header.iter().zip(cells).filter(|(_, cell)| !cell.is_empty());
    let text = |cell| String::from_utf8(cell).map_err(|_| "not UTF-8".to_owned());
    pairs.map(|(name, cell)| Ok((name.clone(), Value::String(text(cell)?)))).collect()
}
