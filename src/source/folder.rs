//! Folders of images: Hugging Face ImageFolder, pictures with a `.txt` beside, or bare pictures.
//!
//! Metadata may name pictures anywhere below its own folder and nowhere else: it is a stranger's
//! text, and `../../etc/passwd` is a file name, too.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::Component;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use bytes::Bytes;

use crate::sample::Reason;
use crate::source::Config;
use crate::source::Items;
use crate::source::Mapping;
use crate::source::Plan;
use crate::source::PlannedFile;
use crate::source::Survey;
use crate::source::columns;
use crate::source::columns::Cell;
use crate::source::columns::Role;
use crate::source::columns::Row;
use crate::source::columns::short_hash;
use crate::source::infer::Columns;
use crate::source::inputs;
use crate::source::table;
use crate::source::table::Parked;
use crate::source::table::Rows;

/// Larger files are not read: no picture that may be kept has so many bytes.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// Longer texts beside a picture are no captions.
const MAX_TEXT_BYTES: u64 = 1 << 20;

/// The column of ImageFolder metadata that names the picture.
const FILE_NAME: &str = "file_name";

/// The pictures of a folder without metadata, by name.
pub(super) struct Listing {
    paths: Vec<PathBuf>,
}

/// Listings made so far, by folder: a folder of a million pictures is listed once.
#[derive(Default)]
pub(super) struct Listings(Mutex<HashMap<PathBuf, Arc<Listing>>>);

impl Listing {
    fn make(root: &Path) -> Result<Listing> {
        if root.is_file() {
            return Ok(Listing { paths: vec![root.to_owned()] });
        }
        let mut paths = Vec::new();
        for entry in inputs::walk(root) {
            let entry = entry?;
            if entry.file_type().is_file() && inputs::is_image(entry.path()) {
                paths.push(entry.into_path());
            }
        }
        Ok(Listing { paths })
    }

    /// A hash of the names.
    pub(super) fn stamp(&self) -> String {
        let names: Vec<&[u8]> = self.paths.iter().map(|p| p.as_os_str().as_encoded_bytes()).collect();
        format!("listing {}", short_hash(&names.join(&0)))
    }
}

impl Listings {
    /// The listing of a folder.
    pub(super) fn of(&self, root: &Path) -> Result<Arc<Listing>> {
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(listing) = made.get(root) {
            return Ok(listing.clone());
        }
        let listing = Arc::new(Listing::make(root)?);
        made.insert(root.to_owned(), listing.clone());
        Ok(listing)
    }
}

/// Looks through folders and image files.
pub(super) fn survey(roots: &[PathBuf], config: &Config) -> Result<Survey> {
    let mut columns = Columns::default();
    let mut files = Vec::new();
    for root in roots {
        let metadata = metadata_of(root)?;
        if metadata.is_empty() {
            files.push(bare(root)?);
        }
        for path in metadata {
            files.push(table::count(&path, &mut columns)?);
        }
    }
    let columns = columns.finish();
    let is_described = files.iter().any(|file| inputs::is_metadata(&file.path));
    let mapping = if is_described { mapping(&columns, config)? } else { Mapping::default() };
    Ok(Survey { files, columns, mapping })
}

fn metadata_of(root: &Path) -> Result<Vec<PathBuf>> {
    if root.is_file() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in inputs::walk(root) {
        let entry = entry?;
        if entry.file_type().is_file() && inputs::is_metadata(entry.path()) {
            found.push(entry.into_path());
        }
    }
    Ok(found)
}

fn bare(root: &Path) -> Result<PlannedFile> {
    let listing = Listing::make(root)?;
    ensure!(
        !listing.paths.is_empty(),
        "{} has neither metadata.jsonl or metadata.csv nor pictures",
        root.display()
    );
    let rows = listing.paths.len() as u64;
    match root.is_dir() {
        true => Ok(PlannedFile { path: root.to_owned(), rows, stamp: listing.stamp() }),
        false => PlannedFile::new(root, rows),
    }
}

fn mapping(columns: &[columns::Column], config: &Config) -> Result<Mapping> {
    let image = config.image_column.as_deref().unwrap_or(FILE_NAME);
    if !columns.iter().any(|column| column.name == image) {
        bail!(
            "the metadata has no column {image}. Columns found: {}. Say which one names the \
             pictures: --image-column NAME",
            columns::list(columns)
        );
    }
    Ok(Mapping {
        key: Role::Key.choose(columns, config)?,
        image: Some(image.to_owned()),
        url: Role::Url.choose(columns, config)?,
        text: Role::Text.choose(columns, config)?,
    })
}

/// Items of these rows of a metadata file, or of a folder without one.
pub(super) fn read<'a>(
    plan: &'a Plan,
    parked: &'a Parked,
    listings: &'a Listings,
    path: &'a Path,
    rows: Range<u64>,
) -> Result<Items<'a>> {
    if inputs::is_metadata(path) {
        return described(plan, parked, path, rows);
    }
    let listing = listings.of(path)?;
    let (start, end) = (rows.start as usize, rows.end as usize);
    ensure!(end <= listing.paths.len(), "{} has fewer pictures than before", path.display());
    Ok(Box::new((start..end).map(move |place| Ok(beside(&listing.paths[place], path).into_item("")))))
}

fn described<'a>(
    plan: &'a Plan,
    parked: &'a Parked,
    metadata: &'a Path,
    rows: Range<u64>,
) -> Result<Items<'a>> {
    let folder = metadata.parent().unwrap_or(Path::new("."));
    let rows = Rows::open(parked, metadata, rows)?;
    Ok(Box::new(rows.map(move |row| {
        let (place, row) = row?;
        let mut cells = match row {
            Ok(cells) => cells,
            Err(detail) => return Ok(columns::malformed(&place, detail)),
        };
        let name = plan.columns.image.as_ref().and_then(|column| cells.remove(column));
        let name = name.and_then(|name| name.as_str().map(str::to_owned));
        let mut row = Row::from_object(cells, &plan.columns, &plan.extra);
        row.image = named(folder, name.as_deref());
        if row.key.is_none() {
            row.key = name.map(|name| key_of(Path::new(&name)));
        }
        // The metadata's url is where the picture was, not where it is: it is only kept.
        let url = row.url.take();
        let mut item = row.into_item(&place);
        item.url = url.filter(|url| !url.trim().is_empty());
        Ok(item)
    })))
}

/// The picture that metadata names.
fn named(folder: &Path, name: Option<&str>) -> Cell {
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        return Cell::nothing(Reason::FileMissing, "the row names no file");
    };
    let path = Path::new(name);
    let stays = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
    if !path.components().all(stays) {
        return Cell::nothing(Reason::FileMissing, format!("{name} is not below the folder"));
    }
    picture(&folder.join(path))
}

/// A picture with the text beside it.
fn beside(path: &Path, root: &Path) -> Row {
    let relative = path.strip_prefix(root).ok().filter(|rest| !rest.as_os_str().is_empty());
    let relative = relative.unwrap_or_else(|| Path::new(path.file_name().unwrap_or_default()));
    let text = read_capped(&path.with_extension("txt"), MAX_TEXT_BYTES).ok();
    Row {
        key: Some(key_of(relative)),
        image: picture(path),
        text: text.map(|text| String::from_utf8_lossy(&text).trim_end_matches(['\n', '\r']).to_owned()),
        ..Row::default()
    }
}

fn picture(path: &Path) -> Cell {
    let name = path.file_name().map(OsStr::to_string_lossy).map(String::from);
    match read_capped(path, MAX_FILE_BYTES) {
        Ok(bytes) => Cell::Bytes { bytes: Bytes::from(bytes), name },
        Err(error) => Cell::nothing(Reason::FileMissing, format!("{}: {error:#}", path.display())),
    }
}

/// The bytes of a regular file; a pipe or a device would never end.
fn read_capped(path: &Path, most: u64) -> Result<Vec<u8>> {
    let metadata = fs::metadata(path)?;
    ensure!(metadata.is_file(), "not a regular file");
    ensure!(metadata.len() <= most, "{} bytes, limit {most}", metadata.len());
    let mut bytes = Vec::with_capacity(metadata.len() as usize);
    File::open(path)?.take(most).read_to_end(&mut bytes).context("cannot be read")?;
    Ok(bytes)
}

/// The path without extension, with slashes.
fn key_of(path: &Path) -> String {
    let path = path.with_extension("");
    let parts = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
        _ => None,
    });
    parts.collect::<Vec<_>>().join("/")
}
