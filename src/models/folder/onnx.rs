//! The few lines of metadata at the end of an ONNX file, read without loading the network.
//!
//! An ONNX file is one protobuf message, `ModelProto`. Only its field 14 (`metadata_props`) is read;
//! the graph is stepped over, so this takes microseconds on a file of any size. ONNX Runtime could
//! answer too, but a plan (`--dry-run`) must know a folder's kind before any library is loaded.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::path::Path;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;

const METADATA_FIELD: u64 = 14;
const KEY_FIELD: u64 = 1;
const VALUE_FIELD: u64 = 2;

/// A list of 10,000 class names is about 200 kB.
const MAX_ENTRY_BYTES: u64 = 8 << 20;
const MAX_ENTRIES: usize = 1000;

/// The metadata of an ONNX file by key.
pub(super) fn metadata(path: &Path) -> Result<BTreeMap<String, String>> {
    read(path).with_context(|| {
        format!("{} is not a whole ONNX file (truncated download?)", path.display())
    })
}

fn read(path: &Path) -> Result<BTreeMap<String, String>> {
    let mut file =
        Message { end: std::fs::metadata(path)?.len(), reader: BufReader::new(File::open(path)?) };
    let mut entries = BTreeMap::new();
    let mut fields = 0;
    while let Some((field, wire)) = file.next_field()? {
        fields += 1;
        match (field, wire) {
            (METADATA_FIELD, Wire::Bytes(length)) => {
                ensure!(
                    length <= MAX_ENTRY_BYTES && entries.len() < MAX_ENTRIES,
                    "metadata too large"
                );
                let (key, value) = entry(&file.take(length)?)?;
                entries.insert(key, value);
            }
            (_, Wire::Bytes(length)) => file.skip(length)?,
            (_, Wire::Scalar) => {}
        }
    }
    ensure!(fields > 0, "the file is empty");
    Ok(entries)
}

/// One `StringStringEntryProto`.
fn entry(bytes: &[u8]) -> Result<(String, String)> {
    let mut message = Message { end: bytes.len() as u64, reader: std::io::Cursor::new(bytes) };
    let (mut key, mut value) = (String::new(), String::new());
    while let Some((field, wire)) = message.next_field()? {
        let Wire::Bytes(length) = wire else { continue };
        let text = String::from_utf8_lossy(&message.take(length)?).into_owned();
        match field {
            KEY_FIELD => key = text,
            VALUE_FIELD => value = text,
            _ => {}
        }
    }
    Ok((key, value))
}

/// What follows a field's number.
enum Wire {
    /// A number, already read.
    Scalar,
    /// So many bytes, not read yet.
    Bytes(u64),
}

struct Message<R> {
    reader: R,
    end: u64,
}

impl<R: Read + Seek> Message<R> {
    fn next_field(&mut self) -> Result<Option<(u64, Wire)>> {
        if self.reader.stream_position()? >= self.end {
            return Ok(None);
        }
        let tag = self.varint()?;
        let wire = match tag & 7 {
            0 => self.varint().map(|_| Wire::Scalar)?,
            1 => self.skip(8).map(|()| Wire::Scalar)?,
            2 => Wire::Bytes(self.varint()?),
            5 => self.skip(4).map(|()| Wire::Scalar)?,
            other => bail!("wire type {other} is not one of protobuf's"),
        };
        Ok(Some((tag >> 3, wire)))
    }

    fn varint(&mut self) -> Result<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let mut byte = [0];
            self.reader.read_exact(&mut byte)?;
            value |= u64::from(byte[0] & 0x7f) << shift;
            if byte[0] & 0x80 == 0 {
                return Ok(value);
            }
        }
        bail!("a number runs on for more than ten bytes")
    }

    fn take(&mut self, length: u64) -> Result<Vec<u8>> {
        self.check(length)?;
        let mut bytes = vec![0; length as usize];
        self.reader.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn skip(&mut self, length: u64) -> Result<()> {
        let target = self.check(length)?;
        self.reader.seek(SeekFrom::Start(target))?;
        Ok(())
    }

    /// Seeking past the end of a file succeeds, so a truncated graph has to be noticed here.
    fn check(&mut self, length: u64) -> Result<u64> {
        let target = self.reader.stream_position()?.checked_add(length);
        target.filter(|t| *t <= self.end).context("a field runs past the end of the file")
    }
}
