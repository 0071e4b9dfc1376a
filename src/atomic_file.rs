//! Files and folders that appear whole or not at all: temporary name, fsync, rename, fsync of the
//! folder they are in.
//!
//! A file under a temporary name (`.NAME.RANDOM.tmp`) is never read by anyone and may be deleted at any
//! time. `create_new` publishes by hard link, which fails if the name exists: the first of two
//! workers wins, and a torn marker cannot exist.

use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::BufWriter;
use std::io::Read;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use sha2::Digest;
use sha2::Sha256;

/// A file being written under a temporary name. Dropped without [`publish`](AtomicFile::publish) or
/// [`create_new`](AtomicFile::create_new), it leaves nothing behind.
pub struct AtomicFile {
    file: Option<BufWriter<File>>,
    temporary: PathBuf,
    target: PathBuf,
    hash: Sha256,
    bytes: u64,
}

/// What was written: size and hash, for the marker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Size in bytes.
    pub bytes: u64,
    /// Lower-case hex.
    pub sha256: String,
}

impl AtomicFile {
    /// Opens a temporary file beside `target`.
    pub fn open(target: &Path) -> Result<AtomicFile> {
        let temporary = temporary_name(target);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&temporary)
            .with_context(|| format!("cannot create {}", temporary.display()))?;
        Ok(AtomicFile {
            file: Some(BufWriter::with_capacity(1 << 20, file)),
            temporary,
            target: target.to_owned(),
            hash: Sha256::new(),
            bytes: 0,
        })
    }

    /// Makes the file visible under its name, replacing what was there.
    pub fn publish(mut self) -> Result<Written> {
        let written = self.finish()?;
        std::fs::rename(&self.temporary, &self.target)
            .with_context(|| format!("cannot rename to {}", self.target.display()))?;
        sync_folder(&self.target)?;
        Ok(written)
    }

    /// Makes the file visible only if nothing has that name yet; `None` when another was first.
    pub fn create_new(mut self) -> Result<Option<Written>> {
        let written = self.finish()?;
        let linked = std::fs::hard_link(&self.temporary, &self.target);
        let _ = std::fs::remove_file(&self.temporary);
        match linked {
            Ok(()) => {
                sync_folder(&self.target)?;
                Ok(Some(written))
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(None),
            Err(e) => Err(e).with_context(|| format!("cannot create {}", self.target.display())),
        }
    }

    fn finish(&mut self) -> Result<Written> {
        let at = || format!("cannot write {}: is the disk full?", self.target.display());
        let mut buffered = self.file.take().context("the file was finished twice")?;
        buffered.flush().with_context(at)?;
        buffered.get_ref().sync_all().with_context(at)?;
        let sha256 = hex(&std::mem::take(&mut self.hash).finalize());
        Ok(Written { bytes: self.bytes, sha256 })
    }
}

impl Write for AtomicFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let file = self.file.as_mut().ok_or_else(|| io::Error::other("file already finished"))?;
        let n = file.write(buf)?;
        self.hash.update(&buf[..n]);
        self.bytes += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.as_mut().map_or(Ok(()), |f| f.flush())
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        // Fails when the file was renamed or already removed: both are what we want.
        let _ = std::fs::remove_file(&self.temporary);
    }
}

/// A folder being filled under a temporary name. Dropped without
/// [`publish`](AtomicFolder::publish), it leaves nothing behind.
pub struct AtomicFolder {
    temporary: PathBuf,
    target: PathBuf,
}

impl AtomicFolder {
    /// Makes a temporary folder beside `target`.
    pub fn create(target: &Path) -> Result<AtomicFolder> {
        let temporary = temporary_name(target);
        std::fs::create_dir(&temporary)
            .with_context(|| format!("cannot create {}", temporary.display()))?;
        Ok(AtomicFolder { temporary, target: target.to_owned() })
    }

    /// Where its files are to be written, by [`write()`] or [`AtomicFile`], which sync them.
    pub fn path(&self) -> &Path {
        &self.temporary
    }

    /// Makes the folder visible under its name, which must not be there yet.
    pub fn publish(self) -> Result<()> {
        std::fs::rename(&self.temporary, &self.target)
            .with_context(|| format!("cannot rename to {}", self.target.display()))?;
        sync_folder(&self.target)
    }
}

impl Drop for AtomicFolder {
    fn drop(&mut self) {
        // Fails when the folder was renamed, which is what we want.
        let _ = std::fs::remove_dir_all(&self.temporary);
    }
}

/// Writes `contents` to `path` whole or not at all, replacing what was there.
pub fn write(path: &Path, contents: &[u8]) -> Result<Written> {
    let mut file = AtomicFile::open(path)?;
    file.write_all(contents)
        .with_context(|| format!("cannot write {}: is the disk full?", path.display()))?;
    file.publish()
}

/// SHA-256 of some bytes, lower-case hex.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// SHA-256 of a file, lower-case hex, read in pieces.
pub fn sha256_file(path: &Path) -> Result<String> {
    let mut file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let n =
            file.read(&mut buffer).with_context(|| format!("cannot read {}", path.display()))?;
        if n == 0 {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(&buffer[..n]);
    }
}

/// Deletes temporary files and folders of dead writers in `folder`.
pub fn remove_leftovers(folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') && name.ends_with(".tmp") {
            let removed = match entry.file_type()?.is_dir() {
                true => std::fs::remove_dir_all(entry.path()),
                false => std::fs::remove_file(entry.path()),
            };
            removed.with_context(|| format!("cannot delete {}", entry.path().display()))?;
        }
    }
    Ok(())
}

/// Random and not the process's number: two writers in one process, or on two machines that share a
/// folder, must not write into the same file.
fn temporary_name(target: &Path) -> PathBuf {
    let name = target.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    target.with_file_name(format!(".{name}.{:016x}.tmp", rand::random::<u64>()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn sync_folder(target: &Path) -> Result<()> {
    let folder = match target.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    };
    File::open(folder)
        .and_then(|f| f.sync_all())
        .with_context(|| format!("cannot sync the folder {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        let mut dropped = AtomicFile::open(&path).unwrap();
        dropped.write_all(b"half").unwrap();
        drop(dropped);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let written = write(&path, b"abc").unwrap();
        assert_eq!(written.bytes, 3);
        assert_eq!(written.sha256, sha256(b"abc"));
        assert_eq!(sha256_file(&path).unwrap(), written.sha256);
    }

    #[test]
    fn a_folder_appears_with_all_its_files_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("step-1");
        let dropped = AtomicFolder::create(&target).unwrap();
        write(&dropped.path().join("a"), b"half").unwrap();
        drop(dropped);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let folder = AtomicFolder::create(&target).unwrap();
        write(&folder.path().join("a"), b"whole").unwrap();
        folder.publish().unwrap();
        assert_eq!(std::fs::read(target.join("a")).unwrap(), b"whole");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        std::mem::forget(AtomicFolder::create(&target).unwrap());
        remove_leftovers(dir.path()).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_first_of_two_creators_wins() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("marker.json");
        for (text, wins) in [("one", true), ("two", false)] {
            let mut file = AtomicFile::open(&path).unwrap();
            file.write_all(text.as_bytes()).unwrap();
            assert_eq!(file.create_new().unwrap().is_some(), wins);
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
