//! Webdataset tars: members that share a key up to the first dot of their name are one row.
//!
//! Only headers are read to find the rows; members of a row are read where they lie. Nothing is
//! unpacked, no member's name becomes a path, and only regular files count. Members of one key must
//! be neighbours: every loader splits them silently where they are not, so such a tar is refused.

use std::collections::BTreeSet;
use std::collections::HashSet;
use std::fs::File;
use std::hash::DefaultHasher;
use std::hash::Hash;
use std::hash::Hasher;
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

use crate::sample::Extra;
use crate::sample::Item;
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
use crate::source::infer::Columns;
use crate::source::inputs;
use crate::source::members::Member;
use crate::source::members::Members;
use crate::source::members::Step;
use crate::source::parked::Parked;
use crate::source::parked::Reader;
use crate::source::records::first_bytes;

/// Larger members are not read: no picture that may be kept has so many bytes.
const MAX_MEMBER_BYTES: u64 = 64 << 20;

/// Members of one row; more is no row but a tar without keys.
const MAX_MEMBERS: usize = 256;

/// Extensions that are told apart in a message.
const MAX_EXTENSIONS: usize = 40;

/// A tar that is read row by row.
pub(super) struct Tar {
    path: PathBuf,
    members: Members,
    /// The first member of the next row.
    ahead: Option<Part>,
    row: u64,
}

/// A row of a tar: where its members are.
struct Place {
    key: String,
    parts: Vec<Part>,
    /// Why it cannot be used.
    trouble: Option<(Reason, String)>,
}

/// A member of a row: the extension is all that follows the first dot, in small letters.
struct Part {
    key: String,
    extension: String,
    member: Member,
}

/// Looks through tars; the `.json` members say which columns there are.
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
    while let Some(place) = tar.next_place()? {
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
        if let Ok(Some(row)) = place.json(tar.members.file()) {
            columns.observe(&row).with_context(|| format!("cannot read {}", path.display()))?;
        }
    }
    Ok(tar.row)
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
) -> Result<Items<'a>> {
    let mut tar = match parked.take(&file.path, rows.start) {
        Some(tar) => tar,
        None => Tar::open(&file.path)?,
    };
    while tar.row < rows.start && tar.next_place()?.is_some() {}
    let left = rows.end - rows.start;
    Ok(Box::new(Rows { plan, parked, tar: Some(tar), prefix: &file.prefix, left }))
}

/// Items of a range; parks its reader when it is dropped.
struct Rows<'a> {
    plan: &'a Plan,
    parked: &'a Parked<Tar>,
    /// Gone after an error.
    tar: Option<Tar>,
    prefix: &'a str,
    left: u64,
}

impl Iterator for Rows<'_> {
    type Item = Result<Item>;

    fn next(&mut self) -> Option<Result<Item>> {
        self.left = self.left.checked_sub(1)?;
        let tar = self.tar.as_mut()?;
        match tar.next_place() {
            Ok(place) => Some(Ok(place?.item(tar.members.file(), self.plan, self.prefix))),
            Err(error) => {
                self.tar = None;
                Some(Err(error))
            }
        }
    }
}

impl Drop for Rows<'_> {
    fn drop(&mut self) {
        if let Some(tar) = self.tar.take() {
            self.parked.put(tar);
        }
    }
}

impl Reader for Tar {
    fn path(&self) -> &Path {
        &self.path
    }

    fn row(&self) -> u64 {
        self.row
    }
}

impl Tar {
    fn open(path: &Path) -> Result<Tar> {
        ensure!(
            first_bytes(path, 2)? != [0x1f, 0x8b],
            "{} is compressed, so its members cannot be found without reading all of it; gunzip it \
             first",
            path.display()
        );
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let members = Members::new(file)?;
        Ok(Tar { path: path.to_owned(), members, ahead: None, row: 0 })
    }

    /// The members of the next row; `None` at the end.
    fn next_place(&mut self) -> Result<Option<Place>> {
        let first = match self.ahead.take() {
            Some(part) => part,
            None => match self.next_part()? {
                Ok(part) => part,
                Err(_) => return Ok(None),
            },
        };
        let mut place = Place { key: first.key.clone(), parts: Vec::new(), trouble: None };
        place.push(first);
        loop {
            match self.next_part()? {
                Ok(part) if part.key == place.key => place.push(part),
                Ok(part) => {
                    self.ahead = Some(part);
                    break;
                }
                Err(Step::CutOff) => {
                    place.trouble =
                        Some((Reason::BodyTruncated, "the tar is cut off here".to_owned()));
                    break;
                }
                Err(_) => break,
            }
        }
        self.row += 1;
        Ok(Some(place))
    }

    /// The next member that belongs to a row, or the end.
    fn next_part(&mut self) -> Result<Result<Part, Step>> {
        let damaged = || format!("{} is no whole tar; get it again", self.path.display());
        loop {
            match self.members.step().with_context(damaged)? {
                Step::Member(member) => {
                    if let Some((key, extension)) = split(&member.name) {
                        return Ok(Ok(Part { key: key.to_owned(), extension, member }));
                    }
                }
                end => return Ok(Err(end)),
            }
        }
    }
}

/// `a/b.c.jpg` is the key `a/b` and the extension `c.jpg`; names without a dot or a key are no rows.
fn split(name: &str) -> Option<(&str, String)> {
    let base = name.rfind('/').map_or(0, |slash| slash + 1);
    let dot = base + name[base..].find('.').filter(|dot| *dot > 0)?;
    Some((&name[..dot], name[dot + 1..].to_ascii_lowercase()))
}

impl Place {
    /// Which of two members of one name was meant cannot be known.
    fn push(&mut self, part: Part) {
        let trouble = match self.part(&part.extension) {
            Some(_) => format!("two members are called {}", part.member.name),
            None if self.parts.len() >= MAX_MEMBERS => format!("more than {MAX_MEMBERS} members"),
            None => return self.parts.push(part),
        };
        self.trouble = Some((Reason::RowMalformed, trouble));
    }

    fn item(self, file: &File, plan: &Plan, prefix: &str) -> Item {
        let (cells, trouble) = match (self.trouble.clone(), self.json(file)) {
            (None, Ok(cells)) => (cells.unwrap_or_default(), None),
            (None, Err(trouble)) => {
                (Extra::new(), Some((Reason::RowMalformed, format!("{trouble:#}"))))
            }
            (trouble, cells) => (cells.ok().flatten().unwrap_or_default(), trouble),
        };
        let key = inputs::key(prefix, Path::new(&self.key));
        let mut row = Row::from_object(cells, &plan.mapping, &plan.extra);
        row.key = row.key.filter(|key| !key.is_empty()).or_else(|| Some(key.clone()));
        row.image = match trouble {
            Some((reason, detail)) => Cell::nothing(reason, detail),
            None => self.image(file, plan.mapping.image.as_deref()),
        };
        row.text = self.text(file).or(row.text);
        columns::into_item_at_hand(row, &key)
    }

    fn image(&self, file: &File, told: Option<&str>) -> Cell {
        let is_meant = |part: &&Part| match told {
            Some(extension) => part.extension == extension,
            None => is_image(&part.extension),
        };
        let Some(part) = self.parts.iter().find(is_meant) else {
            return Cell::nothing(Reason::ImageNull, "no image member");
        };
        match part.read(file) {
            Ok(bytes) => Cell::Bytes {
                bytes: Bytes::from(bytes),
                name: Some(format!("{}.{}", self.key, part.extension)),
            },
            Err((reason, detail)) => Cell::nothing(reason, detail),
        }
    }

    fn text(&self, file: &File) -> Option<String> {
        let bytes = self.part("txt")?.read(file).ok()?;
        Some(String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\r']).to_owned())
    }

    fn json(&self, file: &File) -> Result<Option<Extra>> {
        let Some(part) = self.part("json") else { return Ok(None) };
        let bytes = part.read(file).map_err(|(_, detail)| anyhow::Error::msg(detail))?;
        match serde_json::from_slice(&bytes).context("the .json is no JSON")? {
            Value::Object(row) => Ok(Some(row)),
            _ => bail!("the .json is no object"),
        }
    }

    fn part(&self, extension: &str) -> Option<&Part> {
        self.parts.iter().find(|part| part.extension == extension)
    }
}

impl Part {
    fn read(&self, file: &File) -> Result<Vec<u8>, (Reason, String)> {
        let (extension, bytes) = (&self.extension, self.member.bytes);
        if bytes > MAX_MEMBER_BYTES {
            let detail = format!("the .{extension} has {bytes} bytes, limit {MAX_MEMBER_BYTES}");
            return Err((Reason::BodyTooLarge, detail));
        }
        let mut content = vec![0; bytes as usize];
        match file.read_exact_at(&mut content, self.member.at) {
            Ok(()) => Ok(content),
            Err(error) => {
                Err((Reason::BodyTruncated, format!("the .{extension} is cut off: {error}")))
            }
        }
    }
}
