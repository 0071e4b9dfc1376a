//! Readers that have finished a range, kept with their place for the ranges behind it.
//!
//! So reading all shards in order costs one pass even over a gzip, and no positions are stored.

use std::path::Path;
use std::sync::Mutex;
use std::sync::PoisonError;

/// Readers kept for later ranges: as many as there may be workers on one file.
const MAX_PARKED: usize = 8;

/// A file that is read row by row.
pub(super) trait Reader {
    /// The file.
    fn path(&self) -> &Path;
    /// Number of the next row.
    fn row(&self) -> u64;
}

/// Readers that wait.
pub(super) struct Parked<T>(Mutex<Vec<T>>);

impl<T> Default for Parked<T> {
    fn default() -> Parked<T> {
        Parked(Mutex::default())
    }
}

impl<T: Reader> Parked<T> {
    /// The reader of this file that is nearest before a row.
    pub(super) fn take(&self, path: &Path, row: u64) -> Option<T> {
        let mut parked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fitting = parked.iter().enumerate().filter(|(_, r)| r.path() == path && r.row() <= row);
        let best = fitting.max_by_key(|(_, reader)| reader.row())?.0;
        Some(parked.remove(best))
    }

    /// Keeps a reader, in place of the oldest if there are too many.
    pub(super) fn put(&self, reader: T) {
        let mut parked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if parked.len() >= MAX_PARKED {
            parked.remove(0);
        }
        parked.push(reader);
    }
}
