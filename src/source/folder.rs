//! Folders of images: Hugging Face ImageFolder, pictures with a `.txt` beside, or bare pictures.
//!
//! Metadata may name pictures anywhere below its own folder and nowhere else: it is a stranger's
//! text, and `../../etc/passwd` is a file name, too. As with Hugging Face, pictures below metadata
//! that it does not name are no rows; pictures that have no metadata above them are.

use std::ffi::OsStr;
use std::fs;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::Component;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use bytes::Bytes;

use crate::sample::Item;
use crate::sample::Reason;
use crate::source::Config;
use crate::source::Items;
use crate::source::Mapping;
use crate::source::Pictures;
use crate::source::Plan;
use crate::source::PlannedFile;
use crate::source::Survey;
use crate::source::columns;
use crate::source::columns::Cell;
use crate::source::columns::Role;
use crate::source::columns::Row;
use crate::source::infer::Columns;
use crate::source::inputs;
use crate::source::listing::Listings;
use crate::source::parked::Parked;
use crate::source::parked::Rows;
use crate::source::table;
use crate::source::table::Table;

/// Larger files are not read: no picture that may be kept has so many bytes.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// Longer texts beside a picture are no captions.
const MAX_TEXT_BYTES: u64 = 1 << 20;

/// The column of ImageFolder metadata that names the picture.
const FILE_NAME: &str = "file_name";

/// Looks through folders and image files.
pub(super) fn survey(roots: &[PathBuf], config: &Config, listings: &Listings) -> Result<Survey> {
    let mut columns = Columns::default();
    let mut files = Vec::new();
    for (root, prefix) in roots.iter().zip(inputs::prefixes(roots)) {
        for path in metadata_of(root)? {
            let folder = path.parent().and_then(|folder| folder.strip_prefix(root).ok());
            let prefix = inputs::slashed(&prefix, folder.unwrap_or(Path::new("")));
            files.push(PlannedFile { prefix, ..table::count(&path, &mut columns)? });
        }
        files.extend(bare(root, prefix, listings)?);
    }
    let columns = columns.finish();
    let is_described = files.iter().any(|file| inputs::is_metadata(&file.path));
    let mapping = if is_described { mapping(&columns, config)? } else { Mapping::default() };
    Ok(Survey { files, columns, mapping })
}

fn metadata_of(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found: Vec<PathBuf> = Vec::new();
    for path in inputs::walk(root) {
        let path = path?;
        if root.is_dir() && inputs::is_metadata(&path) {
            ensure!(
                !found.iter().any(|other| other.parent() == path.parent()),
                "{} lies beside another metadata file, and each picture may be a row only once; \
                 remove one of them",
                path.display()
            );
            found.push(path);
        }
    }
    Ok(found)
}

/// The pictures that no metadata describes, if there are any.
fn bare(root: &Path, prefix: String, listings: &Listings) -> Result<Option<PlannedFile>> {
    if root.is_file() {
        return Ok(Some(PlannedFile { prefix, ..PlannedFile::new(root, 1)? }));
    }
    let listing = listings.of(root)?;
    let (rows, stamp) = (listing.len() as u64, listing.stamp().to_owned());
    Ok((rows > 0).then(|| PlannedFile { path: root.to_owned(), rows, prefix, stamp }))
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

/// Items of these rows of a metadata file, of a folder without one, or of an image file.
pub(super) fn read<'a>(
    plan: &'a Plan,
    parked: &'a Parked<Table>,
    listings: &'a Listings,
    file: &'a PlannedFile,
    rows: Range<u64>,
    pictures: Pictures,
) -> Result<Items<'a>> {
    if inputs::is_metadata(&file.path) {
        return described(plan, parked, file, rows, pictures);
    }
    if file.path.is_file() {
        let item = beside(&file.path, file.prefix.clone(), pictures);
        return Ok(Box::new(std::iter::once(Ok(item))));
    }
    let listing = listings.of(&file.path)?;
    Ok(Box::new((rows.start..rows.end).map_while(move |row| {
        let (path, key) = listing.picture(usize::try_from(row).ok()?, &file.prefix)?;
        Some(Ok(beside(&path, key, pictures)))
    })))
}

fn described<'a>(
    plan: &'a Plan,
    parked: &'a Parked<Table>,
    metadata: &'a PlannedFile,
    rows: Range<u64>,
    pictures: Pictures,
) -> Result<Items<'a>> {
    let folder = metadata.path.parent().unwrap_or(Path::new("."));
    let rows = Rows::open(parked, metadata, rows, || Table::open(&metadata.path))?;
    Ok(Box::new(rows.map(move |row| {
        let (place, row) = row?;
        let mut cells = match row {
            Ok(cells) => cells,
            Err(detail) => return Ok(columns::malformed(&place, detail)),
        };
        let name = plan.mapping.image.as_ref().and_then(|column| cells.remove(column));
        let name = name.and_then(|name| name.as_str().map(str::to_owned));
        let mut row = Row::from_object(cells, &plan.mapping, &plan.extra);
        row.image = named(folder, name.as_deref(), pictures);
        let key = name.map(|name| inputs::key(&metadata.prefix, Path::new(&name)));
        row.key = row.key.filter(|key| !key.is_empty()).or(key);
        Ok(columns::into_item_at_hand(row, &place))
    })))
}

/// The picture that metadata names.
fn named(folder: &Path, name: Option<&str>, pictures: Pictures) -> Cell {
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        return Cell::nothing(Reason::FileMissing, "the row names no file");
    };
    let path = Path::new(name);
    let stays = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
    if !path.components().all(stays) {
        return Cell::nothing(Reason::RowMalformed, format!("{name} is not below the folder"));
    }
    picture(&folder.join(path), pictures)
}

/// A picture with the text beside it.
fn beside(path: &Path, key: String, pictures: Pictures) -> Item {
    let text = read_capped(&path.with_extension("txt"), MAX_TEXT_BYTES).ok();
    let text = text.map(|text| String::from_utf8_lossy(&text).into_owned());
    let text = text.map(|text| text.trim_end_matches(['\n', '\r']).to_owned());
    Row { key: Some(key), image: picture(path, pictures), text, ..Row::default() }.into_item("")
}

fn picture(path: &Path, pictures: Pictures) -> Cell {
    if pictures == Pictures::Skip {
        return Cell::nothing(Reason::ImageNull, "not read");
    }
    let name = path.file_name().map(OsStr::to_string_lossy).map(String::from);
    match read_capped(path, MAX_FILE_BYTES) {
        Ok(bytes) => Cell::Bytes { bytes: Bytes::from(bytes), name },
        Err((reason, detail)) => Cell::nothing(reason, format!("{}: {detail}", path.display())),
    }
}

/// The bytes of a regular file; a pipe or a device would never end.
fn read_capped(path: &Path, most: u64) -> Result<Vec<u8>, (Reason, String)> {
    let missing = |error: std::io::Error| (Reason::FileMissing, error.to_string());
    let metadata = fs::metadata(path).map_err(missing)?;
    if !metadata.is_file() {
        return Err((Reason::FileMissing, "not a regular file".to_owned()));
    }
    if metadata.len() > most {
        return Err((Reason::BodyTooLarge, format!("{} bytes, limit {most}", metadata.len())));
    }
    let mut bytes = Vec::with_capacity(metadata.len() as usize);
    let file = File::open(path).map_err(missing)?;
    file.take(most).read_to_end(&mut bytes).map_err(missing)?;
    Ok(bytes)
}
