//! Webdataset tars: members that share a key up to the first dot of their name are one row.
//!
//! Only headers are read to find the rows; members of a row are read where they lie. Nothing is
//! unpacked, no member's name becomes a path, and only regular files count. Members of one key must
//! be neighbours: every loader splits them silently where they are not, so such a tar is refused.

use std::collections::HashSet;
use std::fs::File;
use std::io::BufReader;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use bytes::Bytes;
use serde_json::Value;
use tar::Archive;

use crate::sample::Extra;
use crate::sample::Item;
use crate::sample::Reason;
use crate::source::Config;
use crate::source::Items;
use crate::source::Mapping;
use crate::source::Plan;
use crate::source::PlannedFile;
use crate::source::Survey;
use crate::source::columns::Cell;
use crate::source::columns::Role;
use crate::source::columns::Row;
use crate::source::columns::short_hash;
use crate::source::infer::Columns;
use crate::source::inputs;

/// Larger members are not read.
const MAX_MEMBER_BYTES: u64 = 64 << 20;

/// A row of a tar: where its members are.
struct Place {
    key: String,
    members: Vec<Member>,
}

/// A member: the extension is all that follows the first dot, in small letters.
struct Member {
    extension: String,
    at: u64,
    bytes: u64,
}

/// Looks through tars; the `.json` members say which columns there are.
pub(super) fn survey(paths: &[PathBuf], config: &Config) -> Result<Survey> {
    let mut columns = Columns::default();
    let mut files = Vec::new();
    for path in paths {
        let file = open(path)?;
        let mut rows = 0;
        each_row(path, &file, |place| {
            rows += 1;
            if let Ok(Some(row)) = place.json(&file) {
                columns.observe(&row).with_context(|| format!("cannot read {}", path.display()))?;
            }
            Ok(true)
        })?;
        files.push(PlannedFile::new(path, rows)?);
    }
    let columns = columns.finish();
    let of_members = Config { image_column: None, ..config.clone() };
    let mapping = Mapping {
        key: Role::Key.choose(&columns, &of_members)?,
        image: config.image_column.clone(),
        url: Role::Url.choose(&columns, &of_members)?,
        text: Role::Text.choose(&columns, &of_members)?,
    };
    Ok(Survey { files, columns, mapping })
}

/// Items of these rows of a tar.
pub(super) fn read<'a>(plan: &'a Plan, path: &'a Path, rows: Range<u64>) -> Result<Items<'a>> {
    let file = open(path)?;
    let mut places = Vec::new();
    let mut row = 0;
    each_row(path, &file, |place| {
        if rows.contains(&row) {
            places.push(place);
        }
        row += 1;
        Ok(row < rows.end)
    })?;
    let wanted = rows.end - rows.start;
    ensure!(places.len() as u64 == wanted, "{} ends early: it was changed", path.display());
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Box::new(places.into_iter().map(move |place| Ok(place.item(&file, plan, &stem)))))
}

fn open(path: &Path) -> Result<File> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let start = crate::source::records::first_bytes(path, 2)?;
    ensure!(
        start != [0x1f, 0x8b],
        "{} is compressed, so its members cannot be found without reading all of it; gunzip it first",
        path.display()
    );
    Ok(file)
}

/// Calls `each` for every row, in order, until it says that it has enough.
fn each_row(path: &Path, file: &File, mut each: impl FnMut(Place) -> Result<bool>) -> Result<()> {
    let damaged = || format!("{} is no whole tar; get it again", path.display());
    let mut archive = Archive::new(BufReader::new(file.try_clone().with_context(damaged)?));
    // The clone shares its position with the file.
    std::io::Seek::rewind(&mut &*file).with_context(damaged)?;
    let mut finished = HashSet::new();
    let mut current: Option<Place> = None;
    for entry in archive.entries_with_seek().with_context(damaged)? {
        let entry = entry.with_context(damaged)?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let Some((key, extension)) = split(&name) else { continue };
        let member =
            Member { extension, at: entry.raw_file_position(), bytes: entry.size() };
        match &mut current {
            Some(place) if place.key == key => place.members.push(member),
            _ => {
                if finished.contains(&short_hash(key.as_bytes())) {
                    bail!(
                        "{}: the members of {key} are not neighbours ({name} comes after another \
                         key's), so that every loader would split the row; write the tar again \
                         sorted by name, for example with tar --sort=name",
                        path.display()
                    );
                }
                let next = Place { key: key.to_owned(), members: vec![member] };
                if let Some(done) = current.replace(next) {
                    finished.insert(short_hash(done.key.as_bytes()));
                    if !each(done)? {
                        return Ok(());
                    }
                }
            }
        }
    }
    current.map_or(Ok(()), |last| each(last).map(drop))
}

/// `a/b.c.jpg` is the key `a/b` and the extension `c.jpg`; names without a dot or a key are no rows.
fn split(name: &str) -> Option<(&str, String)> {
    let base = name.rfind('/').map_or(0, |slash| slash + 1);
    let dot = base + name[base..].find('.').filter(|dot| *dot > 0)?;
    Some((&name[..dot], name[dot + 1..].to_ascii_lowercase()))
}

impl Place {
    fn item(&self, file: &File, plan: &Plan, stem: &str) -> Item {
        let place = format!("{stem}/{}", self.key);
        let (cells, trouble) = match self.json(file) {
            Ok(cells) => (cells.unwrap_or_default(), None),
            Err(trouble) => (Extra::new(), Some(trouble)),
        };
        let mut row = Row::from_object(cells, &plan.columns, &plan.extra);
        row.key = row.key.or_else(|| Some(place.clone()));
        row.image = match trouble {
            Some(trouble) => Cell::nothing(Reason::RowMalformed, format!("{trouble:#}")),
            None => self.image(file, plan.columns.image.as_deref()),
        };
        if let Some(text) = self.text(file) {
            row.text = Some(text);
        }
        // The picture is here: the url only says where it was.
        let url = row.url.take();
        let mut item = row.into_item(&place);
        item.url = url.filter(|url| !url.trim().is_empty());
        item
    }

    fn image(&self, file: &File, told: Option<&str>) -> Cell {
        let is_image = |member: &&Member| match told {
            Some(extension) => member.extension == extension,
            None => inputs::IMAGE_EXTENSIONS.contains(&member.extension.as_str()),
        };
        let Some(member) = self.members.iter().find(is_image) else {
            return Cell::nothing(Reason::ImageNull, "no image member");
        };
        match member.read(file) {
            Ok(bytes) => Cell::Bytes {
                bytes: Bytes::from(bytes),
                name: Some(format!("{}.{}", self.key, member.extension)),
            },
            Err(error) => Cell::nothing(Reason::FileMissing, format!("{error:#}")),
        }
    }

    fn text(&self, file: &File) -> Option<String> {
        let bytes = self.member("txt")?.read(file).ok()?;
        Some(String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\r']).to_owned())
    }

    fn json(&self, file: &File) -> Result<Option<Extra>> {
        let Some(member) = self.member("json") else { return Ok(None) };
        match serde_json::from_slice(&member.read(file)?).context("the .json is no JSON")? {
            Value::Object(row) => Ok(Some(row)),
            _ => bail!("the .json is no object"),
        }
    }

    fn member(&self, extension: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.extension == extension)
    }
}

impl Member {
    fn read(&self, file: &File) -> Result<Vec<u8>> {
        let (extension, bytes) = (&self.extension, self.bytes);
        ensure!(bytes <= MAX_MEMBER_BYTES, "the .{extension} has {bytes} bytes, too many");
        let mut content = vec![0; bytes as usize];
        file.read_exact_at(&mut content, self.at)
            .with_context(|| format!("the .{extension} is cut off"))?;
        Ok(content)
    }
}
