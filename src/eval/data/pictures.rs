//! Where the pictures of a data set are, and reading them some at a time.

use std::collections::HashSet;
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

    /// The name of a picture that `other` has too: the same row of a file, however the path to it is
    /// spelled, or one of the same name in a file that both read.
    pub fn shared_with<'a>(&'a self, other: &Pictures) -> Option<&'a str> {
        let (files, other_files) = (self.files(), other.files());
        let theirs = || other.keys.iter().zip(other.rows(&other_files));
        let rows: HashSet<(&Path, u64)> = theirs().map(|(_, row)| row).collect();
        let names: HashSet<(&Path, &str)> =
            theirs().map(|(key, (file, _))| (file, key.as_str())).collect();
        let mut mine = self.keys.iter().zip(self.rows(&files));
        let is_shared =
            |key: &str, row: (&Path, u64)| rows.contains(&row) || names.contains(&(row.0, key));
        mine.find(|(key, row)| is_shared(key, *row)).map(|(key, _)| key.as_str())
    }

    /// The files that pictures are in, by their real paths, and how many rows each has.
    fn files(&self) -> Vec<(PathBuf, u64)> {
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        match &self.place {
            Place::Files(files) => files.iter().map(|file| (real(file), 1)).collect(),
            Place::Rows(source, _) => {
                source.plan().files.iter().map(|file| (real(&file.path), file.rows)).collect()
            }
            Place::Cifar(cifar) => {
                cifar.files().iter().map(|(path, records)| (real(path), *records)).collect()
            }
        }
    }

    /// The file and the row in it of each picture.
    fn rows<'a>(&'a self, files: &'a [(PathBuf, u64)]) -> impl Iterator<Item = (&'a Path, u64)> {
        let all = files.iter().flat_map(|(file, rows)| (0..*rows).map(move |row| (&**file, row)));
        let mut wanted = match &self.place {
            Place::Rows(_, rows) => Some(rows.iter().peekable()),
            _ => None,
        };
        let mut is_wanted =
            move |row| wanted.as_mut().is_none_or(|wanted| wanted.next_if_eq(&&row).is_some());
        (0..).zip(all).filter_map(move |(row, place)| is_wanted(row).then_some(place))
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
