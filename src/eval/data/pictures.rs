//! Where the pictures of a data set are, and reading them some at a time.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Result;

use crate::eval::data::cifar::Cifar;
use crate::sample::Picture;
use crate::sample::Reason;
use crate::source::Source;

/// A picture of a data set.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    /// Its name in the data set.
    pub key: String,
    /// Its bytes, or why there are none.
    pub picture: Picture,
}

/// The pictures of a data set, which stay where they are until they are asked for.
pub struct Pictures {
    keys: Vec<String>,
    place: Place,
}

enum Place {
    /// A file for each key.
    Files(Vec<PathBuf>),
    /// A row of the source for each key, in order.
    Rows(Box<Source>, Vec<u64>),
    /// A record for each key.
    Cifar(Cifar),
}

/// Pictures with their places, or why they have none.
type Stream<'a> = Box<dyn Iterator<Item = Result<Picture>> + 'a>;

impl Pictures {
    pub(super) fn of_files(files: Vec<(String, PathBuf)>) -> Pictures {
        let (keys, files) = files.into_iter().unzip();
        Pictures { keys, place: Place::Files(files) }
    }

    /// `rows` have their keys beside them and are in order.
    pub(super) fn of_rows(source: Source, rows: Vec<(String, u64)>) -> Pictures {
        let (keys, rows) = rows.into_iter().unzip();
        Pictures { keys, place: Place::Rows(Box::new(source), rows) }
    }

    pub(super) fn of_cifar(cifar: Cifar) -> Pictures {
        Pictures { keys: cifar.keys(), place: Place::Cifar(cifar) }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Their names, in order.
    pub fn keys(&self) -> &[String] {
        &self.keys
    }

    /// All of them in order, `at_a_time` in memory (at least one).
    ///
    /// # Errors
    /// When the first file cannot be opened. What goes wrong later is an error at its place.
    pub fn batches(
        &self,
        at_a_time: usize,
    ) -> Result<impl Iterator<Item = Result<Vec<Shown>>> + '_> {
        let at_a_time = at_a_time.max(1);
        let pictures: Stream<'_> = match &self.place {
            Place::Files(files) => Box::new(files.iter().map(|file| Ok(read(file)))),
            Place::Rows(source, rows) => chosen(source, rows)?,
            Place::Cifar(cifar) => Box::new(cifar.pictures()),
        };
        let mut shown = self
            .keys
            .iter()
            .zip(pictures)
            .map(|(key, picture)| picture.map(|picture| Shown { key: key.clone(), picture }));
        Ok(std::iter::from_fn(move || {
            let some: Result<Vec<Shown>> = shown.by_ref().take(at_a_time).collect();
            some.map(|some| (!some.is_empty()).then_some(some)).transpose()
        }))
    }
}

fn read(path: &Path) -> Picture {
    match fs::read(path) {
        Ok(bytes) => {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
            Picture::Bytes { bytes: bytes.into(), name }
        }
        Err(error) => {
            let detail = format!("{}: {error}", path.display());
            Picture::Absent { reason: Reason::FileMissing, detail }
        }
    }
}

/// The pictures of these rows, which are in order.
fn chosen<'a>(source: &'a Source, rows: &'a [u64]) -> Result<Stream<'a>> {
    let Some((&first, &last)) = rows.first().zip(rows.last()) else {
        return Ok(Box::new(std::iter::empty()));
    };
    let mut wanted = rows.iter().peekable();
    let items = (first..).zip(source.items(first..last + 1)?);
    Ok(Box::new(items.filter_map(move |(row, item)| match item {
        Ok(item) => wanted.next_if_eq(&&row).map(|_| Ok(item.picture)),
        Err(error) => Some(Err(error)),
    })))
}
