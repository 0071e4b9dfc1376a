//! A folder for each class: the name of a folder is the name of its class.
//!
//! Folders are sorted (numbers as numbers), hidden ones and files beside them do not count, an empty
//! one is a class without pictures. Pictures may lie in folders below. Where classes are told, a folder
//! is found by its name; the order decides only where no name speaks against it, and that is noted.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use walkdir::DirEntry;
use walkdir::WalkDir;

use crate::eval::data::labels::Classes;
use crate::eval::data::labels::shown;
use crate::source;

/// Folders of these names are parts of a data set.
const SPLITS: [&str; 6] = ["train", "test", "val", "valid", "validation", "dev"];

/// Pictures in folders of classes.
pub(super) struct Folders {
    pub(super) classes: Vec<String>,
    pub(super) targets: Vec<usize>,
    /// Key and path.
    pub(super) files: Vec<(String, PathBuf)>,
    /// That the order decided which folder is which class, where it did.
    pub(super) note: Option<String>,
}

/// Lists them; `told` are names of classes instead of those of the folders.
pub(super) fn list(root: &Path, told: Option<Vec<String>>) -> Result<Folders> {
    let names = folders(root)?;
    ensure_no_splits(root, &names)?;
    let (places, note) = match &told {
        None => ((0..names.len()).collect(), None),
        Some(told) => places(&names, told)?,
    };
    let (mut targets, mut files) = (Vec::new(), Vec::new());
    for (name, place) in names.iter().zip(places) {
        files.extend(pictures(root, name)?);
        targets.resize(files.len(), place);
    }
    Ok(Folders { classes: told.unwrap_or(names), targets, files, note })
}

fn folders(root: &Path) -> Result<Vec<String>> {
    let cannot = || format!("cannot list {}", root.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(root).with_context(cannot)? {
        let entry = entry.with_context(cannot)?;
        let name = entry.file_name();
        let name = name.to_str().with_context(|| format!("{name:?} is no name in UTF-8"))?;
        // What a link leads to counts: people collect classes of other folders with links.
        if !name.starts_with('.') && entry.path().is_dir() {
            names.push(name.to_owned());
        }
    }
    ensure!(!names.is_empty(), "{} has no folder, and so no class", root.display());
    names.sort();
    if names.iter().all(|name| name.parse::<u64>().is_ok()) {
        // 10 is no class between 1 and 2.
        names.sort_by_key(|name| name.parse::<u64>().ok());
    }
    Ok(names)
}

fn ensure_no_splits(root: &Path, names: &[String]) -> Result<()> {
    let all = names.iter().all(|name| SPLITS.contains(&name.as_str()));
    ensure!(
        !all,
        "the folders of {} are parts of a data set and no classes: {}. Say which with split",
        root.display(),
        shown(names)
    );
    Ok(())
}

/// The class of each folder: by name where all have one, else by order, and what is to be said of that.
fn places(folders: &[String], told: &[String]) -> Result<(Vec<usize>, Option<String>)> {
    let classes = Classes::new(told);
    let by_name: Vec<Result<usize>> = folders.iter().map(|name| classes.find(name)).collect();
    let Some((odd, error)) =
        by_name.iter().enumerate().find_map(|(at, r)| Some((at, r.as_ref().err()?)))
    else {
        return Ok((by_name.into_iter().collect::<Result<_>>()?, None));
    };
    ensure!(
        folders.len() == told.len(),
        "{} folders, but {} names of classes, and they do not fit by name either: {error:#}",
        folders.len(),
        told.len()
    );
    let moved =
        by_name.iter().enumerate().find(|(at, r)| r.as_ref().is_ok_and(|place| place != at));
    if let Some((at, _)) = moved {
        bail!(
            "folder {:?} has no class by its name ({error:#}), and the order cannot decide: the folder \
             at the place of {:?} is {:?}; name folders and classes alike",
            folders[odd],
            told[at],
            folders[at]
        );
    }
    let note = format!(
        "folders are taken for classes in their order, {:?} for {:?}: not all are called as a class",
        folders[odd], told[odd]
    );
    Ok(((0..told.len()).collect(), Some(note)))
}

fn pictures(root: &Path, class: &str) -> Result<Vec<(String, PathBuf)>> {
    let is_seen = |entry: &DirEntry| {
        entry.depth() == 0 || !entry.file_name().to_string_lossy().starts_with('.')
    };
    let walk = WalkDir::new(root.join(class)).follow_links(true).sort_by_file_name();
    let mut files = Vec::new();
    for entry in walk.into_iter().filter_entry(is_seen) {
        let entry = entry.with_context(|| format!("cannot list {}", root.join(class).display()))?;
        if entry.file_type().is_file() && source::is_image_name(entry.path()) {
            let below = entry.path().strip_prefix(root).unwrap_or(entry.path());
            files.push((below.to_string_lossy().into_owned(), entry.into_path()));
        }
    }
    Ok(files)
}
