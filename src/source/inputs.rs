//! What was typed as INPUT, as a format and a sorted list of paths.
//!
//! A file is recognised by its first bytes where they say something, else by its name. A folder is
//! recognised by what lies in it. Nothing is read here beyond first bytes.

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::ffi::OsString;
use std::path::Component;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use walkdir::DirEntry;
use walkdir::WalkDir;

use crate::source::Format;
use crate::source::records::first_bytes;
use crate::source::table;

/// Extensions of image files. Formats that cannot be decoded are in it as well: a picture that is
/// rejected with a reason can be seen, one that was never listed cannot.
pub(super) const IMAGE_EXTENSIONS: [&str; 16] = [
    "jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "jpe", "jfif", "avif", "heic",
    "heif", "jxl", "svg", "ico",
];

/// Where a tar has the word `ustar`.
const TAR_MAGIC_AT: usize = 257;

/// The format of the inputs and their files; for a folder of images, the folder.
pub(super) fn recognise(
    inputs: &[String],
    forced: Option<Format>,
) -> Result<(Format, Vec<PathBuf>)> {
    let mut found = Vec::new();
    for path in expand(inputs)? {
        match path.is_dir() {
            true => found.extend(folder(&path, forced)?),
            false => found.push((file(&path, forced)?, path)),
        }
    }
    found.sort_by(|a, b| a.1.cmp(&b.1));
    let Some((format, first)) = found.first().cloned() else { bail!("no input was named") };
    if let Some((other, path)) = found.iter().find(|(f, _)| *f != format) {
        bail!(
            "inputs of different kinds: {} is {format}, {} is {other}. \
             Refine them in separate runs, or say which to take with --input-format",
            first.display(),
            path.display()
        );
    }
    let mut seen = HashSet::new();
    found.retain(|(_, path)| seen.insert(path.canonicalize().unwrap_or_else(|_| path.clone())));
    Ok((format, found.into_iter().map(|(_, path)| path).collect()))
}

/// Paths for a message.
pub(super) fn names(paths: &[PathBuf]) -> String {
    match paths {
        [] => "no files".to_owned(),
        [path] => path.display().to_string(),
        [path, rest @ ..] => format!("{} and {} more files", path.display(), rest.len()),
    }
}

/// What keys of each file or folder begin with: its name without extension, or its whole path where
/// two have the same name; nothing for a folder that is alone.
pub(super) fn prefixes(paths: &[PathBuf]) -> Vec<String> {
    let names: Vec<String> = paths.iter().map(|path| key("", Path::new(&name(path)))).collect();
    let distinct: HashSet<&String> = names.iter().collect();
    match paths {
        [folder] if folder.is_dir() => vec![String::new()],
        _ if distinct.len() == paths.len() => names,
        _ => paths.iter().map(|path| slashed("", path)).collect(),
    }
}

fn name(path: &Path) -> OsString {
    // `.` and `..` have no name of their own.
    let whole = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    whole.file_name().unwrap_or_default().to_owned()
}

/// A path without its extension as a key.
pub(super) fn key(prefix: &str, path: &Path) -> String {
    slashed(prefix, &path.with_extension(""))
}

/// A path with slashes, whatever the system, and without `.`, `..` and root.
pub(super) fn slashed(prefix: &str, path: &Path) -> String {
    let parts = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
        _ => None,
    });
    let prefix = (!prefix.is_empty()).then(|| prefix.to_owned());
    prefix.into_iter().chain(parts).collect::<Vec<_>>().join("/")
}

/// Whether the name is that of an image file.
pub(super) fn is_image(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
    extension.is_some_and(|e| IMAGE_EXTENSIONS.contains(&e.as_str()))
}

/// Whether the name is that of a Hugging Face ImageFolder's metadata.
pub(super) fn is_metadata(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    matches!(name, Some("metadata.jsonl" | "metadata.csv"))
}

/// Everything below a folder, by name, without hidden files and what Spark leaves (`_SUCCESS`).
/// Links are followed: in a Hub cache every file is one.
pub(super) fn walk(folder: &Path) -> impl Iterator<Item = Result<DirEntry>> {
    let is_shown = |entry: &DirEntry| {
        let name = entry.file_name().to_string_lossy();
        entry.depth() == 0 || !name.starts_with(['.', '_'])
    };
    let walk = WalkDir::new(folder).follow_links(true).sort_by_file_name();
    walk.into_iter().filter_entry(is_shown).map(|e| e.context("cannot list the input folder"))
}

/// A path as it is, else a glob: names may contain the signs of globs.
fn expand(inputs: &[String]) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for input in inputs {
        let path = Path::new(input);
        if path.exists() {
            paths.push(path.to_owned());
            continue;
        }
        ensure!(
            input.contains(['*', '?', '[']),
            "input {input} does not exist; give a file, a folder or a glob"
        );
        let before = paths.len();
        for hit in glob::glob(input).with_context(|| format!("{input} is not a glob"))? {
            paths.push(hit.with_context(|| format!("cannot list {input}"))?);
        }
        ensure!(paths.len() > before, "no file matches {input}");
    }
    Ok(paths)
}

fn file(path: &Path, forced: Option<Format>) -> Result<Format> {
    ensure!(path.is_file(), "{} is neither a file nor a folder", path.display());
    let start = first_bytes(path, TAR_MAGIC_AT + 5)?;
    ensure!(!start.is_empty(), "{} is empty (0 bytes); remove it or get it again", path.display());
    if let Some(format) = forced {
        return Ok(format);
    }
    if start.starts_with(b"PAR1") {
        return Ok(Format::Parquet);
    }
    if start.get(TAR_MAGIC_AT..) == Some(b"ustar") {
        return Ok(Format::Webdataset);
    }
    match by_name(path) {
        Some(Format::Parquet) => bail!(
            "{} is called .parquet but does not begin with PAR1: it is something else, or damaged",
            path.display()
        ),
        Some(format) => Ok(format),
        None if table::kind_of_name(path).as_deref() == Some("json") => Ok(Format::Table),
        None => bail!(
            "{} is not recognised. Read are parquet, csv, tsv, jsonl (also .gz), tar and image \
             files; say which it is with --input-format",
            path.display()
        ),
    }
}

fn by_name(path: &Path) -> Option<Format> {
    match table::kind_of_name(path)?.as_str() {
        "parquet" => Some(Format::Parquet),
        "tar" => Some(Format::Webdataset),
        "csv" | "tsv" | "jsonl" | "ndjson" => Some(Format::Table),
        _ => is_image(path).then_some(Format::Folder),
    }
}

fn folder(root: &Path, forced: Option<Format>) -> Result<Vec<(Format, PathBuf)>> {
    let mut kinds: BTreeMap<&str, Vec<PathBuf>> = BTreeMap::new();
    let mut has_metadata = false;
    for entry in walk(root) {
        let entry = entry?;
        let Some(format) = by_name(entry.path()).filter(|_| entry.file_type().is_file()) else {
            continue;
        };
        has_metadata |= is_metadata(entry.path());
        let files = kinds.entry(format.as_str()).or_default();
        // Pictures are listed when they are read; there may be a million of them.
        if format != Format::Folder && !(forced.is_none() && is_account(entry.path())) {
            files.push(entry.into_path());
        }
    }
    let is_listed = |kind: &str, files: &[PathBuf]| kind == "folder" || !files.is_empty();
    kinds.retain(|kind, files| is_listed(kind, files));
    let format = match forced {
        Some(format) => format,
        None => folder_format(root, &kinds, has_metadata)?,
    };
    if format == Format::Folder {
        return Ok(vec![(format, root.to_owned())]);
    }
    let files = kinds.remove(format.as_str()).unwrap_or_default();
    ensure!(!files.is_empty(), "{} holds no {format} files", root.display());
    files.into_iter().map(|path| Ok((file(&path, Some(format))?, path))).collect()
}

/// Whether this is the account that img2dataset writes beside the tar or folder of a shard.
fn is_account(path: &Path) -> bool {
    let is_parquet = path.extension().is_some_and(|extension| extension == "parquet");
    is_parquet && (path.with_extension("tar").is_file() || path.with_extension("").is_dir())
}

/// The one kind of files in a folder. Metadata decides for images, whatever else lies there.
fn folder_format(
    root: &Path,
    kinds: &BTreeMap<&str, Vec<PathBuf>>,
    has_metadata: bool,
) -> Result<Format> {
    let all = [Format::Folder, Format::Parquet, Format::Table, Format::Webdataset];
    let found: Vec<Format> = all.into_iter().filter(|f| kinds.contains_key(f.as_str())).collect();
    match found[..] {
        _ if has_metadata => Ok(Format::Folder),
        [format] => Ok(format),
        [] => bail!(
            "{} holds nothing that can be read: no images, parquet, csv, tsv, jsonl or tar files",
            root.display()
        ),
        [first, second, ..] => bail!(
            "{} holds files of several kinds ({first}, {second}); say which to take with \
             --input-format",
            root.display()
        ),
    }
}
