//! Ranges of rows from files that are read row by row.
//!
//! A reader that has finished a range is parked with its place in the file, and the next range goes
//! on from there. So reading all shards in order costs one pass even over a gzip or a row group of a
//! million rows, and no positions are stored.

use std::ops::Range;
use std::path::Path;
use std::sync::Mutex;
use std::sync::PoisonError;

use anyhow::Result;

use crate::source::PlannedFile;

/// Readers kept for later ranges: as many as there may be workers on one file.
const MAX_PARKED: usize = 8;

/// A file that is read row by row.
pub(super) trait Reader {
    /// What a row is before it is an item.
    type Row;

    /// The file.
    fn path(&self) -> &Path;

    /// Number of the next row.
    fn row(&self) -> u64;

    /// The next row; `None` at the end of the file.
    fn next_row(&mut self) -> Result<Option<Self::Row>>;

    /// Passes over a row; `false` at the end of the file.
    fn skip_row(&mut self) -> Result<bool> {
        Ok(self.next_row()?.is_some())
    }

    /// Whether going on to a later row is cheaper than opening the file there.
    fn reaches(&self, row: u64) -> bool {
        self.row() <= row
    }
}

/// Readers that wait.
pub(super) struct Parked<T>(Mutex<Vec<T>>);

/// Rows of a range; parks its reader when it is dropped.
pub(super) struct Rows<'a, T: Reader> {
    parked: &'a Parked<T>,
    /// Gone after an error.
    reader: Option<T>,
    left: u64,
    rows_of_file: u64,
}

impl<T> Default for Parked<T> {
    fn default() -> Parked<T> {
        Parked(Mutex::default())
    }
}

impl<T: Reader> Parked<T> {
    /// The reader of this file that is nearest before a row.
    fn take(&self, path: &Path, row: u64) -> Option<T> {
        let mut parked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |reader: &T| reader.path() == path && reader.reaches(row);
        let fitting = parked.iter().enumerate().filter(|(_, reader)| fits(reader));
        let best = fitting.max_by_key(|(_, reader)| reader.row())?.0;
        Some(parked.remove(best))
    }

    /// Keeps a reader, in place of the oldest if there are too many.
    fn put(&self, reader: T) {
        let mut parked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if parked.len() >= MAX_PARKED {
            parked.remove(0);
        }
        parked.push(reader);
    }
}

impl<'a, T: Reader> Rows<'a, T> {
    /// Goes to the first of these rows of a file, with a parked reader or one that `open` opens.
    pub(super) fn open(
        parked: &'a Parked<T>,
        file: &PlannedFile,
        rows: Range<u64>,
        open: impl FnOnce() -> Result<T>,
    ) -> Result<Rows<'a, T>> {
        let mut reader = match parked.take(&file.path, rows.start) {
            Some(reader) => reader,
            None => open()?,
        };
        // Where the file ends early, the rows that are missing will be missed by `Counted`.
        while reader.row() < rows.start && reader.skip_row()? {}
        let left = rows.end - rows.start;
        Ok(Rows { parked, reader: Some(reader), left, rows_of_file: file.rows })
    }
}

impl<T: Reader> Iterator for Rows<'_, T> {
    type Item = Result<T::Row>;

    fn next(&mut self) -> Option<Result<T::Row>> {
        self.left = self.left.checked_sub(1)?;
        let row = self.reader.as_mut()?.next_row();
        if row.is_err() {
            self.reader = None;
        }
        row.transpose()
    }
}

impl<T: Reader> Drop for Rows<'_, T> {
    fn drop(&mut self) {
        if let Some(reader) = self.reader.take().filter(|r| r.row() < self.rows_of_file) {
            self.parked.put(reader);
        }
    }
}
