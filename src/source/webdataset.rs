//! Webdataset tars: members that share a key up to the first dot of their name are one row.
//!
//! Only headers are read to find the rows; members of a row are read where they lie. Nothing is
//! unpacked, no member's name becomes a path, and only regular files count. Members of one key must
//! be neighbours: every loader splits them silently where they are not, so such a tar is refused.

use std::collections::BTreeSet;
use std::collections::HashSet;
use std::hash::DefaultHasher;
use std::hash::Hash;
use std::hash::Hasher;
use std::ops::Range;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use bytes::Bytes;
use serde_json::Value;

use crate::sample::Extra;
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
use crate::source::parked::Parked;
use crate::source::parked::Reader;
use crate::source::parked::Rows;
use crate::source::places::Place;
use crate::source::places::Tar;

/// In the JSON of our own shards, the text of the web.
const OUR_RAW_TEXT: &str = "text_raw";

/// Extensions that are told apart in a message.
const MAX_EXTENSIONS: usize = 40;

/// The member that says the class.
const CLASS: &str = "cls";

/// Looks through tars; the `.json` and `.cls` members say which columns there are.
pub(super) fn survey(paths: &[PathBuf], config: &Config) -> Result<Survey> {
    let (mut columns, mut extensions) = (Columns::default(), BTreeSet::new());
    let mut files = Vec::new();
    for (path, prefix) in paths.iter().zip(inputs::prefixes(paths)) {
        let rows = look_through(path, &mut columns, &mut extensions)?;
        files.push(PlannedFile { prefix, ..PlannedFile::new(path, rows)? });
    }
    let columns = columns.finish();
    let told = config.image_column.as_ref().map(|e| e.trim_start_matches('.').to_ascii_lowercase());
    if files.iter().any(|file| file.rows > 0) {
        ensure_images(&extensions, told.as_deref()).with_context(|| inputs::names(paths))?;
    }
    // A member's extension is no column.
    let of_json = Config { image_column: None, ..config.clone() };
    let mapping = Mapping {
        key: Role::Key.choose(&columns, &of_json)?,
        image: told,
        url: Role::Url.choose(&columns, &of_json)?,
        text: Role::Text.choose(&columns, &of_json)?,
    };
    Ok(Survey { files, columns, mapping })
}

/// Counts the rows of a tar and checks that no key comes twice.
fn look_through(
    path: &Path,
    columns: &mut Columns,
    extensions: &mut BTreeSet<String>,
) -> Result<u64> {
    let mut tar = Tar::open(path)?;
    let mut finished = HashSet::new();
    while let Some(place) = tar.next_row()? {
        if !finished.insert(hash(&place.key)) {
            bail!(
                "{}: the members of {} are not neighbours, so that every loader would split the \
                 row; write the tar again sorted by name, for example with tar --sort=name",
                path.display(),
                place.key
            );
        }
        for part in &place.parts {
            if extensions.len() < MAX_EXTENSIONS || is_image(&part.extension) {
                extensions.insert(part.extension.clone());
            }
        }
        if let Ok(Some(row)) = cells(&place) {
            columns.observe(&row).with_context(|| format!("cannot read {}", path.display()))?;
        }
    }
    Ok(tar.row())
}

/// Eight bytes for each of a million keys, where the keys themselves would be a hundred.
fn hash(key: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

fn ensure_images(extensions: &BTreeSet<String>, told: Option<&str>) -> Result<()> {
    let found = extensions.iter().take(MAX_EXTENSIONS).cloned().collect::<Vec<_>>().join(", ");
    match told {
        Some(told) => ensure!(
            extensions.contains(told) || extensions.len() >= MAX_EXTENSIONS,
            "image_column is {told:?}, but the extensions of the members are: {found}"
        ),
        None => ensure!(
            extensions.iter().any(|extension| is_image(extension)),
            "no member is an image by its extension (found: {found}). Say which one is: \
             --image-column EXTENSION"
        ),
    }
    Ok(())
}

fn is_image(extension: &str) -> bool {
    inputs::IMAGE_EXTENSIONS.contains(&extension)
}

/// Items of these rows of a tar.
pub(super) fn read<'a>(
    plan: &'a Plan,
    parked: &'a Parked<Tar>,
    file: &'a PlannedFile,
    rows: Range<u64>,
    pictures: Pictures,
) -> Result<Items<'a>> {
    let rows = Rows::open(parked, file, rows, || Tar::open(&file.path))?;
    Ok(Box::new(rows.map(move |place| Ok(item(&place?, plan, &file.prefix, pictures)))))
}

fn item(place: &Place, plan: &Plan, prefix: &str, pictures: Pictures) -> Item {
    let (cells, trouble) = match cells(place) {
        Ok(cells) => (cells.unwrap_or_default(), None),
        Err(error) => (Extra::new(), Some((Reason::RowMalformed, format!("{error:#}")))),
    };
    let key = inputs::key(prefix, Path::new(&place.key));
    let mut row = Row::from_object(cells, &plan.mapping, &plan.extra);
    row.key = row.key.filter(|key| !key.is_empty()).or_else(|| Some(key.clone()));
    row.image = match place.trouble.clone().or(trouble) {
        Some((reason, detail)) => Cell::nothing(reason, detail),
        None if pictures == Pictures::Skip => Cell::nothing(Reason::ImageNull, "not read"),
        None => image(place, plan.mapping.image.as_deref()),
    };
    // Of our own shards, the .txt is the best of three texts and no word of the web.
    if plan.mapping.text.as_deref() != Some(OUR_RAW_TEXT) {
        row.text = text(place).or(row.text);
    }
    columns::into_item_at_hand(row, &key)
}

/// The member with the extension that was told, else the first image.
fn image(place: &Place, told: Option<&str>) -> Cell {
    let part = match told {
        Some(extension) => place.part(extension),
        None => place.parts.iter().find(|part| is_image(&part.extension)),
    };
    let Some(part) = part else { return Cell::nothing(Reason::ImageNull, "no image member") };
    match place.read(part) {
        Ok(bytes) => {
            let name = Some(format!("{}.{}", place.key, part.extension));
            Cell::Bytes { bytes: Bytes::from(bytes), name }
        }
        Err((reason, detail)) => Cell::nothing(reason, detail),
    }
}

fn text(place: &Place) -> Option<String> {
    let bytes = place.read(place.part("txt")?).ok()?;
    Some(String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\r']).to_owned())
}

/// The columns of a row: the fields of its `.json`, and its `.cls`, which is the number of a class.
fn cells(place: &Place) -> Result<Option<Extra>> {
    let mut cells = json(place)?;
    if let Some(class) = place.part(CLASS) {
        let bytes = place.read(class).map_err(|(_, detail)| anyhow::Error::msg(detail))?;
        let word = String::from_utf8_lossy(&bytes).trim().to_owned();
        let number = word.parse::<i64>().map(Value::from);
        let cells = cells.get_or_insert_default();
        cells.entry(CLASS).or_insert_with(|| number.unwrap_or(Value::String(word)));
    }
    Ok(cells)
}

fn json(place: &Place) -> Result<Option<Extra>> {
    let Some(part) = place.part("json") else { return Ok(None) };
    let bytes = place.read(part).map_err(|(_, detail)| anyhow::Error::msg(detail))?;
    match serde_json::from_slice(&bytes).context("the .json is no JSON")? {
        Value::Object(row) => Ok(Some(row)),
        _ => bail!("the .json is no object"),
    }
}
