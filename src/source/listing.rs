//! The pictures of a folder that no metadata describes, by name.
//!
//! A plan keeps only their number and a hash of their names: a folder may hold a million. So the
//! folder is listed again when a run continues, once.

use std::collections::HashMap;
use std::collections::HashSet;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use anyhow::Result;
use sha2::Digest;
use sha2::Sha256;

use crate::source::inputs;

/// Pictures in order.
pub(super) struct Listing {
    root: PathBuf,
    /// Paths below the root.
    pictures: Vec<PathBuf>,
    /// Paths without extension that several pictures share.
    twins: HashSet<PathBuf>,
    stamp: String,
}

/// Listings made so far, by folder.
#[derive(Default)]
pub(super) struct Listings(Mutex<HashMap<PathBuf, Arc<Listing>>>);

impl Listing {
    fn make(root: &Path) -> Result<Listing> {
        let (mut pictures, mut described) = (Vec::new(), HashSet::new());
        for entry in inputs::walk(root) {
            let entry = entry?;
            let path = entry.path().strip_prefix(root).unwrap_or(entry.path());
            if !entry.file_type().is_file() {
                continue;
            }
            if inputs::is_metadata(path) {
                described.extend(path.parent().map(Path::to_owned));
            } else if inputs::is_image(path) {
                pictures.push(path.to_owned());
            }
        }
        let is_described = |path: &PathBuf| path.ancestors().any(|above| described.contains(above));
        pictures.retain(|path| !is_described(path));
        let (twins, stamp) = (twins(&pictures), stamp(&pictures));
        Ok(Listing { root: root.to_owned(), pictures, twins, stamp })
    }

    /// Number of pictures.
    pub(super) fn len(&self) -> usize {
        self.pictures.len()
    }

    /// A hash of the names.
    pub(super) fn stamp(&self) -> &str {
        &self.stamp
    }

    /// Path and key of a picture. The key has no extension unless that tells it from another.
    pub(super) fn picture(&self, place: usize, prefix: &str) -> Option<(PathBuf, String)> {
        let path = self.pictures.get(place)?;
        let key = match self.twins.contains(&path.with_extension("")) {
            true => inputs::slashed(prefix, path),
            false => inputs::key(prefix, path),
        };
        Some((self.root.join(path), key))
    }
}

impl Listings {
    /// The listing of a folder.
    pub(super) fn of(&self, root: &Path) -> Result<Arc<Listing>> {
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(listing) = made.get(root) {
            return Ok(listing.clone());
        }
        let listing = Arc::new(Listing::make(root)?);
        made.insert(root.to_owned(), listing.clone());
        Ok(listing)
    }
}

fn twins(pictures: &[PathBuf]) -> HashSet<PathBuf> {
    let mut seen = HashSet::new();
    let stems = pictures.iter().map(|path| path.with_extension(""));
    stems.filter(|stem| !seen.insert(stem.clone())).collect()
}

fn stamp(pictures: &[PathBuf]) -> String {
    let mut hash = Sha256::new();
    for path in pictures {
        hash.update(path.as_os_str().as_encoded_bytes());
        hash.update([0]);
    }
    let hash: String = hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("names {hash}")
}
