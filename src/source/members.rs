//! The regular files of a tar, found from header to header, with their places in the file.
//!
//! Nothing is unpacked and no name becomes a path. The `tar` crate's own iterator is not used: it
//! keeps extension headers of any length, borrows its archive (so that a reader cannot be set aside
//! and taken up again), and cannot tell a cut-off end from a whole one. Its header fields are.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use tar::EntryType;
use tar::Header;

const BLOCK: u64 = 512;

/// Long names and PAX records; a real one has some hundred bytes.
const MAX_EXTENSION_BYTES: u64 = 1 << 20;

/// A tar that is read member by member.
pub(super) struct Members {
    file: Arc<File>,
    /// Where the next header is.
    next: u64,
    length: u64,
}

/// What comes next in a tar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A regular file.
    Member(Member),
    /// The end mark, or the end of the file after whole members.
    End,
    /// The file ends within a header.
    CutOff,
}

/// A regular file in a tar; its content may be cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) at: u64,
    pub(super) bytes: u64,
}

/// What extension headers say about the member behind them.
#[derive(Default)]
struct Extension {
    name: Option<Vec<u8>>,
    size: Option<u64>,
}

impl Members {
    /// The members of a tar from its beginning.
    pub(super) fn new(file: File) -> Result<Members> {
        let length = file.metadata()?.len();
        Ok(Members { file: Arc::new(file), next: 0, length })
    }

    /// The file, for reading members.
    pub(super) fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// The next regular file; links, devices and folders are passed over.
    ///
    /// # Errors
    /// When what should be a header is none: from there on nothing can be trusted.
    pub(super) fn step(&mut self) -> Result<Step> {
        let mut extension = Extension::default();
        loop {
            let at = self.next;
            let Some(header) = self.header()? else {
                return Ok(if at == self.length { Step::End } else { Step::CutOff });
            };
            if header.as_bytes().iter().all(|byte| *byte == 0) {
                return Ok(Step::End);
            }
            check(&header).with_context(|| format!("at byte {at}"))?;
            let kind = header.entry_type();
            let size = size_of(&header, kind, &extension)?;
            let start = self.next;
            self.pass(size)?;
            match kind {
                EntryType::GNULongName => match self.content(start, size)? {
                    Some(name) => extension.name = Some(until_nul(name)),
                    None => return Ok(Step::CutOff),
                },
                EntryType::XHeader => match self.content(start, size)? {
                    Some(records) => extension.take(&records)?,
                    None => return Ok(Step::CutOff),
                },
                EntryType::GNULongLink | EntryType::XGlobalHeader => {}
                EntryType::Regular | EntryType::Continuous => {
                    let name = extension.name.unwrap_or_else(|| header.path_bytes().into_owned());
                    let name = String::from_utf8_lossy(&name).into_owned();
                    return Ok(Step::Member(Member { name, at: start, bytes: size }));
                }
                EntryType::GNUSparse => bail!("it has sparse files; write it without --sparse"),
                _ => extension = Extension::default(),
            }
        }
    }

    /// The header that is next, if there is a whole one.
    fn header(&mut self) -> Result<Option<Header>> {
        if self.length.saturating_sub(self.next) < BLOCK {
            return Ok(None);
        }
        let mut header = Header::new_old();
        self.file.read_exact_at(header.as_mut_bytes(), self.next)?;
        self.next += BLOCK;
        Ok(Some(header))
    }

    /// Goes behind the content of a member, which fills whole blocks.
    fn pass(&mut self, size: u64) -> Result<()> {
        let blocks = size.div_ceil(BLOCK);
        let next = blocks.checked_mul(BLOCK).and_then(|bytes| self.next.checked_add(bytes));
        self.next = next.context("a member has more bytes than a file can")?;
        Ok(())
    }

    /// The content of an extension header; nothing if the file ends before.
    fn content(&self, at: u64, size: u64) -> Result<Option<Vec<u8>>> {
        ensure!(
            size <= MAX_EXTENSION_BYTES,
            "a header of {size} bytes, limit {MAX_EXTENSION_BYTES}"
        );
        if at.saturating_add(size) > self.length {
            return Ok(None);
        }
        let mut content = vec![0; size as usize];
        self.file.read_exact_at(&mut content, at)?;
        Ok(Some(content))
    }
}

impl Extension {
    /// PAX records: `LENGTH KEY=VALUE\n`, where LENGTH counts all of it.
    fn take(&mut self, mut records: &[u8]) -> Result<()> {
        while !records.is_empty() {
            let (key, value, rest) = record(records).context("a PAX header is malformed")?;
            match key {
                b"path" => self.name = Some(value.to_vec()),
                // Who believed the header instead would take content for headers.
                b"size" => self.size = Some(std::str::from_utf8(value)?.parse()?),
                _ => {}
            }
            records = rest;
        }
        Ok(())
    }
}

fn record(records: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = records.iter().position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(&records[..space]).ok()?.parse().ok()?;
    let (record, rest) = records.split_at_checked(length)?;
    let pair = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = pair.iter().position(|byte| *byte == b'=')?;
    Some((&pair[..equals], &pair[equals + 1..], rest))
}

/// The sum over a header guards against taking content for one.
fn check(header: &Header) -> Result<()> {
    let bytes = header.as_bytes();
    let sum = |bytes: &[u8]| bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>();
    let found = sum(&bytes[..148]) + 8 * u32::from(b' ') + sum(&bytes[156..]);
    ensure!(header.cksum().ok() == Some(found), "there is no tar header where one should be");
    Ok(())
}

/// Bytes that follow a header. Links and devices have none, whatever their size says.
fn size_of(header: &Header, kind: EntryType, extension: &Extension) -> Result<u64> {
    let has_content = !matches!(
        kind,
        EntryType::Link
            | EntryType::Symlink
            | EntryType::Char
            | EntryType::Block
            | EntryType::Directory
            | EntryType::Fifo
    );
    let of_header = || header.entry_size().context("a size that is no number");
    match extension.size {
        Some(size) if matches!(kind, EntryType::Regular | EntryType::Continuous) => Ok(size),
        _ if has_content => of_header(),
        _ => Ok(0),
    }
}

fn until_nul(mut name: Vec<u8>) -> Vec<u8> {
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    name.truncate(end);
    name
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    fn members(bytes: &[u8]) -> Result<(Vec<Member>, Step)> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let mut members = Members::new(file)?;
        let mut found = Vec::new();
        loop {
            match members.step()? {
                Step::Member(member) => found.push(member),
                end => return Ok((found, end)),
            }
        }
    }

    fn add(tar: &mut tar::Builder<Vec<u8>>, name: &str, kind: EntryType, content: &[u8]) {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, content).unwrap();
    }

    fn names(found: &[Member]) -> Vec<&str> {
        found.iter().map(|member| member.name.as_str()).collect()
    }

    #[test]
    fn regular_files_are_found_and_nothing_else_is() {
        let mut tar = tar::Builder::new(Vec::new());
        let long = format!("{}/x.jpg", "d".repeat(300));
        add(&mut tar, "dir/", EntryType::Directory, b"");
        add(&mut tar, &long, EntryType::Regular, &[7; 513]);
        add(&mut tar, "fifo.jpg", EntryType::Fifo, b"");
        let mut link = Header::new_gnu();
        link.set_entry_type(EntryType::Symlink);
        link.set_size(0);
        tar.append_link(&mut link, "link.jpg", "/etc/passwd").unwrap();
        add(&mut tar, "b.txt", EntryType::Regular, b"");
        let bytes = tar.into_inner().unwrap();
        let (found, end) = members(&bytes).unwrap();
        assert_eq!((names(&found), end), (vec![long.as_str(), "b.txt"], Step::End));
        let at = found[0].at as usize;
        assert_eq!(bytes[at..at + found[0].bytes as usize], [7; 513]);
    }

    /// A header that says 0 bytes under a PAX record that says more: who believes the header takes
    /// the content, here a tar of its own, for members.
    #[test]
    fn a_hidden_inner_tar_stays_hidden() {
        let mut inner = tar::Builder::new(Vec::new());
        add(&mut inner, "hidden.jpg", EntryType::Regular, b"inner");
        let inner = inner.into_inner().unwrap();
        let mut tar = tar::Builder::new(Vec::new());
        let size = inner.len().to_string();
        tar.append_pax_extensions([("size", size.as_bytes()), ("path", b"caf\xc3\xa9.jpg")])
            .unwrap();
        let mut header = Header::new_ustar();
        header.set_path("outer.jpg").unwrap();
        header.set_size(0);
        header.set_cksum();
        let mut bytes = tar.into_inner().unwrap();
        bytes.truncate(bytes.len() - 1024);
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(&inner);
        bytes.extend_from_slice(&[0; 1024]);
        let (found, end) = members(&bytes).unwrap();
        assert_eq!((names(&found), end), (vec!["café.jpg"], Step::End));
        assert_eq!(found[0].bytes, inner.len() as u64);
    }

    #[test]
    fn a_cut_within_a_header_is_told_from_an_end() {
        let mut tar = tar::Builder::new(Vec::new());
        add(&mut tar, "a.txt", EntryType::Regular, b"a");
        add(&mut tar, "b.txt", EntryType::Regular, b"b");
        let bytes = tar.into_inner().unwrap();
        assert_eq!(members(&bytes[..1024]).unwrap().1, Step::End, "no end mark, but whole");
        let (found, end) = members(&bytes[..1100]).unwrap();
        assert_eq!((names(&found), end), (vec!["a.txt"], Step::CutOff));
    }

    #[test]
    fn what_is_no_header_is_an_error() {
        assert!(members(&[b'x'; 1024]).unwrap_err().to_string().contains("at byte 0"));
    }

    #[test]
    fn sizes_that_no_file_has_are_errors() {
        let mut header = Header::new_gnu();
        header.set_path("a.jpg").unwrap();
        header.set_size(u64::MAX - 5);
        header.set_cksum();
        assert!(members(header.as_bytes()).is_err());
        header.set_entry_type(EntryType::GNULongName);
        header.set_size(1 << 40);
        header.set_cksum();
        assert!(members(header.as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn any_damage_is_an_error_or_an_end(at in 0usize..4096, to: u8, cut in 0usize..4096) {
            let mut tar = tar::Builder::new(Vec::new());
            add(&mut tar, &"long".repeat(60), EntryType::Regular, b"a");
            add(&mut tar, "b.txt", EntryType::Regular, b"b");
            let mut bytes = tar.into_inner().unwrap();
            let last = bytes.len() - 1;
            bytes[at.min(last)] = to;
            bytes.truncate(cut.max(1));
            if let Ok((found, _)) = members(&bytes) {
                prop_assert!(found.len() <= 2);
            }
        }
    }
}
