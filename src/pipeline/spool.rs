//! Bytes that wait on disk for their turn.
//!
//! Fetched pictures come in any order, and one slow host can hold back the order for a minute. What
//! has arrived meanwhile waits in files without a name, which the system deletes when the last of
//! their bytes was read, or when the process dies.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use anyhow::Context;
use anyhow::Result;
use bytes::Bytes;

/// A file takes so much before the next one is begun: its space is only free again when all of its
/// bytes were read.
const SEGMENT_BYTES: u64 = 64 << 20;

/// The files.
pub(super) struct Spool {
    folder: PathBuf,
    last: Mutex<Option<Segment>>,
}

struct Segment {
    file: Arc<File>,
    bytes: u64,
}

/// Bytes in a spool.
pub(super) struct Spooled {
    file: Arc<File>,
    at: u64,
    bytes: usize,
}

impl Spool {
    /// A spool whose files lie in a folder.
    pub(super) fn new(folder: &Path) -> Spool {
        Spool { folder: folder.to_owned(), last: Mutex::new(None) }
    }

    /// Puts bytes away.
    pub(super) fn put(&self, bytes: &[u8]) -> Result<Spooled> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let full = last.as_ref().is_none_or(|segment| segment.bytes >= SEGMENT_BYTES);
        if full {
            let file = tempfile::tempfile_in(&self.folder).with_context(|| self.failed())?;
            *last = Some(Segment { file: Arc::new(file), bytes: 0 });
        }
        let segment = last.as_mut().context("a segment was just begun")?;
        segment.file.as_ref().write_all(bytes).with_context(|| self.failed())?;
        let at = segment.bytes;
        segment.bytes += bytes.len() as u64;
        Ok(Spooled { file: Arc::clone(&segment.file), at, bytes: bytes.len() })
    }

    fn failed(&self) -> String {
        format!("cannot keep fetched pictures in {}: is the disk full?", self.folder.display())
    }
}

impl Spooled {
    /// Takes the bytes back.
    pub(super) fn take(self) -> Result<Bytes> {
        let mut bytes = vec![0; self.bytes];
        self.file
            .read_exact_at(&mut bytes, self.at)
            .context("cannot read fetched pictures back")?;
        Ok(bytes.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_away_comes_back_and_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::new(dir.path());
        let kept: Vec<Spooled> = (0..5u8).map(|n| spool.put(&vec![n; 1000]).unwrap()).collect();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        for (n, spooled) in kept.into_iter().enumerate().rev() {
            assert_eq!(spooled.take().unwrap(), vec![n as u8; 1000]);
        }
        assert!(spool.put(b"").unwrap().take().unwrap().is_empty());
    }
}
