//! Which column is what, and how a row's cells become an item.

use std::fmt;

use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use arrow::datatypes::DataType;
use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;
use sha2::Digest;
use sha2::Sha256;

use crate::arrow_json::carried_type;
use crate::arrow_json::extra_column;
use crate::sample::Extra;
use crate::sample::ExtraColumn;
use crate::sample::Item;
use crate::sample::Picture;
use crate::sample::Reason;
use crate::source::Config;

/// Which column of the source is used for what; all others are carried through.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Mapping {
    /// Stable keys.
    pub key: Option<String>,
    /// Encoded images (folder: names of image files; webdataset: member extension, if one was set).
    pub image: Option<String>,
    /// Addresses of images.
    pub url: Option<String>,
    /// Text found on the web.
    pub text: Option<String>,
}

/// A column that a source has.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) data_type: DataType,
}

/// What a column can be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Key,
    Image,
    Url,
    Text,
}

/// The cells of a row that is not an item yet.
#[derive(Default)]
pub(super) struct Row {
    pub(super) key: Option<String>,
    pub(super) image: Cell,
    pub(super) url: Option<String>,
    pub(super) text: Option<String>,
    pub(super) extra: Extra,
}

/// What the image column says.
#[derive(Default)]
pub(super) enum Cell {
    /// The source has no image column.
    #[default]
    NoColumn,
    /// The encoded image.
    Bytes { bytes: Bytes, name: Option<String> },
    /// Nothing usable.
    Nothing { reason: Reason, detail: String },
}

impl fmt::Display for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |column: &Option<String>| column.clone().unwrap_or_else(|| "-".to_owned());
        let [key, image, url, text] = [&self.key, &self.image, &self.url, &self.text].map(word);
        write!(f, "key={key} image={image} url={url} text={text}")
    }
}

impl Role {
    /// Names that are taken without being told, best first. Case counts: LAION's `URL` and `TEXT`
    /// stand for what others write small, but `Title` or `Key` is somebody's own column.
    fn names(self) -> &'static [&'static str] {
        match self {
            Role::Key => &["key", "__key__", "uid"],
            Role::Image => &["image", "jpg", "png", "webp", "jpeg", "img", "image_bytes"],
            Role::Url => &["url", "URL"],
            Role::Text => {
                &["text_raw", "raw_text", "caption", "TEXT", "text", "alt", "alt_text", "title"]
            }
        }
    }

    fn setting(self) -> &'static str {
        match self {
            Role::Key => "key_column",
            Role::Image => "image_column",
            Role::Url => "url_column",
            Role::Text => "text_column",
        }
    }

    fn told(self, config: &Config) -> Option<&str> {
        match self {
            Role::Key => config.key_column.as_deref(),
            Role::Image => config.image_column.as_deref(),
            Role::Url => config.url_column.as_deref(),
            Role::Text => config.text_column.as_deref(),
        }
    }

    fn fits(self, data_type: &DataType) -> bool {
        match (self, carried_type(data_type)) {
            (Role::Image, data_type) => holds_image(&data_type),
            (_, DataType::Utf8 | DataType::LargeUtf8) => true,
            (Role::Key, data_type) => data_type.is_integer(),
            _ => false,
        }
    }

    /// The column for this role: the one told, else the first known name of a fitting type.
    pub(super) fn choose(self, columns: &[Column], config: &Config) -> Result<Option<String>> {
        let find = |name: &str| columns.iter().find(|c| c.name == name);
        let Some(name) = self.told(config) else {
            let mut known = self.names().iter().filter_map(|name| find(name));
            return Ok(known.find(|c| self.fits(&c.data_type)).map(|c| c.name.clone()));
        };
        match find(name) {
            Some(c) if self.fits(&c.data_type) => Ok(Some(c.name.clone())),
            Some(c) => {
                bail!("{} is {name:?}, but that column holds {}", self.setting(), c.data_type)
            }
            None => bail!("{} is {name:?}, but there is only {}", self.setting(), list(columns)),
        }
    }
}

/// Bytes, or the struct of bytes and path that Hugging Face `datasets` writes.
fn holds_image(data_type: &DataType) -> bool {
    let is_binary = |t: &DataType| matches!(t, DataType::Binary | DataType::LargeBinary);
    match data_type {
        DataType::Struct(fields) => {
            fields.iter().any(|f| f.name() == "bytes" && is_binary(f.data_type()))
        }
        other => is_binary(other),
    }
}

/// The mapping of a source whose rows have columns.
pub(super) fn choose(columns: &[Column], config: &Config) -> Result<Mapping> {
    let mapping = Mapping {
        key: Role::Key.choose(columns, config)?,
        image: Role::Image.choose(columns, config)?,
        url: Role::Url.choose(columns, config)?,
        text: Role::Text.choose(columns, config)?,
    };
    if mapping.image.is_none() && mapping.url.is_none() {
        bail!(
            "no column holds images or their urls. Columns found: {}. \
             Say which one does: --image-column NAME or --url-column NAME",
            list(columns)
        );
    }
    Ok(mapping)
}

/// The columns that are carried through.
pub(super) fn extra(columns: &[Column], mapping: &Mapping) -> Result<Vec<ExtraColumn>> {
    let used = [&mapping.key, &mapping.image, &mapping.url, &mapping.text];
    let is_used = |c: &&Column| used.iter().any(|u| u.as_deref() == Some(c.name.as_str()));
    columns.iter().filter(|c| !is_used(c)).map(|c| extra_column(&c.name, &c.data_type)).collect()
}

/// Refuses a header that names a column twice: which one is meant cannot be known.
pub(super) fn ensure_distinct(names: &[String]) -> Result<()> {
    let twice = names.iter().enumerate().find(|(i, name)| names[..*i].contains(name));
    match twice {
        Some((_, name)) => bail!("two columns are called {name:?}; rename one of them"),
        None => Ok(()),
    }
}

/// Columns for a message; a hostile file may have thousands.
pub(super) fn list(columns: &[Column]) -> String {
    const SHOWN: usize = 40;
    let shown = columns.iter().take(SHOWN).map(|c| format!("{} ({})", c.name, c.data_type));
    let rest = columns.len().saturating_sub(SHOWN);
    let rest = (rest > 0).then(|| format!("and {rest} more"));
    let words = shown.chain(rest).collect::<Vec<_>>();
    if words.is_empty() { "none".to_owned() } else { words.join(", ") }
}

/// Merges the columns of a further file; types that differ become a wider one.
pub(super) fn merge(all: &mut Vec<Column>, more: Vec<Column>) -> Result<()> {
    for column in more {
        match all.iter_mut().find(|c| c.name == column.name) {
            Some(known) => known.data_type = wider(known, &column)?,
            None => all.push(column),
        }
    }
    Ok(())
}

fn wider(known: &Column, other: &Column) -> Result<DataType> {
    let (a, b) = (carried_type(&known.data_type), carried_type(&other.data_type));
    let is_text = |t: &DataType| matches!(t, DataType::Utf8 | DataType::LargeUtf8);
    match (&known.data_type, &other.data_type) {
        (old, new) if old == new || *new == DataType::Null => Ok(old.clone()),
        (DataType::Null, new) => Ok(new.clone()),
        _ if a == b => Ok(a),
        _ if a.is_signed_integer() && b.is_signed_integer() => Ok(DataType::Int64),
        _ if a.is_numeric() && b.is_numeric() && !a.is_decimal() && !b.is_decimal() => {
            Ok(DataType::Float64)
        }
        _ if is_text(&a) && is_text(&b) => Ok(DataType::LargeUtf8),
        _ if holds_image(&a) && holds_image(&b) => Ok(a),
        _ => {
            ensure!(
                !a.is_nested() && !b.is_nested(),
                "column {:?} is {a} in one file and {b} in \
                another; make them alike or read the files in two runs",
                known.name
            );
            Ok(DataType::Utf8)
        }
    }
}

impl Row {
    /// The cells of a row given as a JSON object, without an image.
    pub(super) fn from_object(mut object: Extra, mapping: &Mapping, extra: &[ExtraColumn]) -> Row {
        let mut take = |column: &Option<String>| object.remove(column.as_ref()?);
        let key = take(&mapping.key).and_then(into_text);
        let url = take(&mapping.url).and_then(into_text);
        let text = take(&mapping.text).and_then(into_text);
        let carried = extra.iter().filter_map(|c| Some((c, object.remove(&c.name)?)));
        let carried = carried.filter(|(_, value)| !value.is_null());
        let extra = carried.map(|(c, value)| (c.name.clone(), fitting(c, value))).collect();
        Row { key, image: Cell::NoColumn, url, text, extra }
    }

    /// The item; `place` says where the row is, for the key of a row that has nothing else.
    pub(super) fn into_item(self, place: &str) -> Item {
        let url = self.url.map(|u| u.trim().to_owned()).filter(|u| !u.is_empty());
        let key = match (self.key.filter(|k| !k.is_empty()), &url, &self.image) {
            (Some(key), _, _) => key,
            (None, Some(url), _) => short_hash(url.as_bytes()),
            (None, None, Cell::Bytes { bytes, .. }) if !bytes.is_empty() => short_hash(bytes),
            (None, None, _) => short_hash(place.as_bytes()),
        };
        let picture = self.image.into_picture(url.as_deref());
        Item { key, picture, url, text_raw: self.text, extra: self.extra }
    }
}

impl Cell {
    /// Nothing usable, and why.
    pub(super) fn nothing(reason: Reason, detail: impl Into<String>) -> Cell {
        Cell::Nothing { reason, detail: detail.into() }
    }

    fn into_picture(self, url: Option<&str>) -> Picture {
        let absent = |reason, detail: &str| Picture::Absent { reason, detail: detail.to_owned() };
        let is_null = |reason| matches!(reason, Reason::ImageNull | Reason::ImageBytesNull);
        match (self, url) {
            (Cell::Bytes { bytes, .. }, _) if bytes.is_empty() => absent(Reason::ImageEmpty, ""),
            (Cell::Bytes { bytes, name }, _) => Picture::Bytes { bytes, name },
            (Cell::NoColumn, Some(url)) => Picture::Url(url.to_owned()),
            (Cell::Nothing { reason, .. }, Some(url)) if is_null(reason) => {
                Picture::Url(url.to_owned())
            }
            (Cell::Nothing { reason, detail }, _) => absent(reason, &detail),
            (Cell::NoColumn, None) => absent(Reason::UrlMissing, ""),
        }
    }
}

/// The item of a row whose picture is in the source itself: a url only says where it was, and is no
/// second place to look.
pub(super) fn into_item_at_hand(mut row: Row, place: &str) -> Item {
    let url = row.url.take().map(|url| url.trim().to_owned()).filter(|url| !url.is_empty());
    Item { url, ..row.into_item(place) }
}

/// The item of a row that cannot be read; it keeps its place in the ledger.
pub(super) fn malformed(place: &str, detail: impl Into<String>) -> Item {
    let image = Cell::nothing(Reason::RowMalformed, detail);
    Row { image, ..Row::default() }.into_item(place)
}

/// Text as it is, anything else in JSON's spelling, null as nothing.
fn into_text(value: Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text),
        other => Some(other.to_string()),
    }
}

/// A column whose rows disagree about its type is a text column.
fn fitting(column: &ExtraColumn, value: Value) -> Value {
    let is_text = column.data_type == "Utf8";
    if is_text && !value.is_string() { Value::String(value.to_string()) } else { value }
}

/// 64 bits: in a shard of 10,000 rows, two hashes meet once in some 10^11 shards.
pub(super) fn short_hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
