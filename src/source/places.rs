//! The rows of a tar: which members share a key, and reading them where they lie.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;

use crate::sample::Reason;
use crate::source::members::Member;
use crate::source::members::Members;
use crate::source::members::Step;
use crate::source::parked::Reader;
use crate::source::records::first_bytes;

/// Larger members are not read: no picture that may be kept has so many bytes.
const MAX_MEMBER_BYTES: u64 = 64 << 20;

/// Members of one row; more is no row but a tar without keys.
const MAX_MEMBERS: usize = 256;

/// A tar that is read row by row.
pub(super) struct Tar {
    path: PathBuf,
    members: Members,
    /// The first member of the next row.
    ahead: Option<Part>,
    row: u64,
}

/// A row of a tar: where its members are.
pub(super) struct Place {
    pub(super) key: String,
    pub(super) parts: Vec<Part>,
    /// Why it cannot be used.
    pub(super) trouble: Option<(Reason, String)>,
    file: Arc<File>,
}

/// A member of a row: the extension is all that follows the first dot, in small letters.
pub(super) struct Part {
    pub(super) extension: String,
    key: String,
    member: Member,
}

impl Tar {
    /// Opens a tar.
    pub(super) fn open(path: &Path) -> Result<Tar> {
        ensure!(
            first_bytes(path, 2)? != [0x1f, 0x8b],
            "{} is compressed, so its members cannot be found without reading all of it; gunzip it \
             first",
            path.display()
        );
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        Ok(Tar { path: path.to_owned(), members: Members::new(file)?, ahead: None, row: 0 })
    }

    /// The next member that belongs to a row, or the end.
    fn next_part(&mut self) -> Result<Result<Part, Step>> {
        let damaged = || format!("{} is no whole tar; get it again", self.path.display());
        loop {
            match self.members.step().with_context(damaged)? {
                Step::Member(member) => {
                    if let Some((key, extension)) = split(&member.name) {
                        return Ok(Ok(Part { extension, key, member }));
                    }
                }
                end => return Ok(Err(end)),
            }
        }
    }
}

impl Reader for Tar {
    type Row = Place;

    fn path(&self) -> &Path {
        &self.path
    }

    fn row(&self) -> u64 {
        self.row
    }

    fn next_row(&mut self) -> Result<Option<Place>> {
        let first = match self.ahead.take() {
            Some(part) => Ok(part),
            None => self.next_part()?,
        };
        let Ok(first) = first else { return Ok(None) };
        let mut place = Place::new(first, self.members.file().clone());
        self.row += 1;
        loop {
            match self.next_part()? {
                Ok(part) if part.key == place.key => place.push(part),
                Ok(part) => {
                    self.ahead = Some(part);
                    return Ok(Some(place));
                }
                Err(end) => {
                    if end == Step::CutOff {
                        let detail = "the tar is cut off here".to_owned();
                        place.trouble = Some((Reason::BodyTruncated, detail));
                    }
                    return Ok(Some(place));
                }
            }
        }
    }
}

/// `a/b.c.jpg` is the key `a/b` and the extension `c.jpg`; names without a dot or a key are no rows.
fn split(name: &str) -> Option<(String, String)> {
    let base = name.rfind('/').map_or(0, |slash| slash + 1);
    let dot = base + name[base..].find('.').filter(|dot| *dot > 0)?;
    Some((name[..dot].to_owned(), name[dot + 1..].to_ascii_lowercase()))
}

impl Place {
    fn new(first: Part, file: Arc<File>) -> Place {
        Place { key: first.key.clone(), parts: vec![first], trouble: None, file }
    }

    /// Which of two members of one name was meant cannot be known.
    fn push(&mut self, part: Part) {
        let trouble = match self.part(&part.extension) {
            Some(_) => format!("two members are called {}", part.member.name),
            None if self.parts.len() >= MAX_MEMBERS => format!("more than {MAX_MEMBERS} members"),
            None => return self.parts.push(part),
        };
        self.trouble = Some((Reason::RowMalformed, trouble));
    }

    /// The member with this extension.
    pub(super) fn part(&self, extension: &str) -> Option<&Part> {
        self.parts.iter().find(|part| part.extension == extension)
    }

    /// The content of a member.
    pub(super) fn read(&self, part: &Part) -> Result<Vec<u8>, (Reason, String)> {
        let (extension, bytes) = (&part.extension, part.member.bytes);
        if bytes > MAX_MEMBER_BYTES {
            let detail = format!("the .{extension} has {bytes} bytes, limit {MAX_MEMBER_BYTES}");
            return Err((Reason::BodyTooLarge, detail));
        }
        let mut content = vec![0; bytes as usize];
        match self.file.read_exact_at(&mut content, part.member.at) {
            Ok(()) => Ok(content),
            Err(error) => {
                Err((Reason::BodyTruncated, format!("the .{extension} is cut off: {error}")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_end_at_the_first_dot_of_the_last_part() {
        let split = |name| split(name).map(|(key, extension)| format!("{key} {extension}"));
        assert_eq!(split("a.b/c.seg.PNG").as_deref(), Some("a.b/c seg.png"));
        assert_eq!(split("a.jpg").as_deref(), Some("a jpg"));
        for name in ["README", "a/.hidden", "._a.jpg", "", "a.b/"] {
            assert_eq!(split(name), None, "{name}");
        }
    }
}
