//! Refined rows as a webdataset tar: KEY.jpg, KEY.txt and KEY.json, as open_clip trains from.
//!
//! A member's key is `SHARD` and the row's number, because keys of the web hold slashes and dots,
//! which loaders cut at; the true key is in the JSON.

use std::io::Read;
use std::path::Path;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use bytes::Bytes;
use serde_json::Value;
use tar::Archive;
use tar::Builder;
use tar::EntryType;
use tar::Header;

use crate::atomic_file::AtomicFile;
use crate::sample::Extra;
use crate::shard::marker::DataFile;
use crate::shard::record::IMAGE;
use crate::shard::table::ReadRow;

/// Larger members are not ours.
const MAX_MEMBER_BYTES: u64 = 1 << 30;

/// A tar that is being written.
pub(super) struct TarFile {
    builder: Builder<AtomicFile>,
    name: String,
    shard: u32,
    rows: u64,
}

impl TarFile {
    /// Begins a file.
    pub(super) fn create(run: &Path, name: &str, shard: u32) -> Result<TarFile> {
        let file = AtomicFile::open(&run.join(name))?;
        Ok(TarFile { builder: Builder::new(file), name: name.to_owned(), shard, rows: 0 })
    }

    /// Adds the three members of a row.
    pub(super) fn push(
        &mut self,
        mut row: Extra,
        text: &str,
        image: (Bytes, String),
    ) -> Result<()> {
        let (bytes, path) = image;
        let extension = path.rsplit('.').next().unwrap_or("jpg").to_owned();
        row.insert(IMAGE.to_owned(), Value::from(path));
        let key = format!("{:05}{:06}", self.shard, self.rows);
        let json = serde_json::to_vec(&row)?;
        let members = [(&*extension, &*bytes), ("txt", text.as_bytes()), ("json", &json)];
        for (extension, bytes) in members {
            self.append(&format!("{key}.{extension}"), bytes)
                .with_context(|| format!("cannot write {}: is the disk full?", self.name))?;
        }
        self.rows += 1;
        Ok(())
    }

    /// Writes the end and makes the file visible.
    pub(super) fn publish(self) -> Result<DataFile> {
        let failed = || format!("cannot write {}: is the disk full?", self.name);
        let written = self.builder.into_inner().with_context(failed)?.publish()?;
        let (bytes, sha256) = (written.bytes, written.sha256);
        Ok(DataFile { name: self.name, rows: self.rows, bytes, sha256 })
    }

    /// No owner and no time: the same rows are the same bytes.
    fn append(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o644);
        header.set_size(bytes.len() as u64);
        Ok(self.builder.append_data(&mut header, name, bytes)?)
    }
}

/// Rows of a file; `each` hears of one at a time and may end the reading with an error.
///
/// Not an iterator, because the entries of a tar borrow from the archive.
pub(super) fn read(path: &Path, mut each: impl FnMut(ReadRow) -> Result<()>) -> Result<()> {
    let name = path.display().to_string();
    let file = std::fs::File::open(path).with_context(|| format!("cannot open {name}"))?;
    let mut archive = Archive::new(std::io::BufReader::new(file));
    let mut image = None;
    for entry in archive.entries().with_context(|| format!("cannot read {name}"))? {
        let mut entry = entry.with_context(|| format!("cannot read {name}"))?;
        let member = entry.path()?.to_string_lossy().into_owned();
        ensure!(entry.size() <= MAX_MEMBER_BYTES, "{name}: {member} is too large to be ours");
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).with_context(|| format!("cannot read {name}"))?;
        match member.rsplit('.').next() {
            Some("txt") => {}
            Some("json") => {
                let mut row: Extra = serde_json::from_slice(&bytes)
                    .with_context(|| format!("{name}: {member} is not a row"))?;
                let path = row.remove(IMAGE).and_then(|path| path.as_str().map(str::to_owned));
                let bytes: Option<Bytes> = image.take();
                each((row, bytes.zip(path)))?;
            }
            _ => image = Some(Bytes::from(bytes)),
        }
    }
    Ok(())
}
