//! A folder of images: Hugging Face ImageFolder (`metadata.jsonl`), or pictures with `.txt` beside.

use std::fs;
use std::fs::File;
use std::io::BufRead;
use std::io::BufReader;
use std::path::Path;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use bytes::Bytes;
use serde_json::Value;
use walkdir::WalkDir;

use super::Items;
use super::absent;
use crate::sample::Extra;
use crate::sample::Item;
use crate::sample::Picture;
use crate::sample::Reason;

const EXTENSIONS: [&str; 8] = ["jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff"];

pub(super) fn open(folder: &Path) -> Result<Items> {
    let metadata = folder.join("metadata.jsonl");
    if metadata.is_file() { described(folder, &metadata) } else { bare(folder) }
}

fn described(folder: &Path, metadata: &Path) -> Result<Items> {
    let file =
        File::open(metadata).with_context(|| format!("cannot read {}", metadata.display()))?;
    let (folder, name) = (folder.to_owned(), metadata.display().to_string());
    let lines = BufReader::new(file).lines().enumerate();
    Ok(Box::new(lines.map(move |(number, line)| {
        let line = line.with_context(|| format!("cannot read {name}, line {}", number + 1))?;
        Ok(row(&folder, &line, number))
    })))
}

fn row(folder: &Path, line: &str, number: usize) -> Item {
    let malformed = |why: String| Item {
        key: format!("line-{:06}", number + 1),
        picture: absent(Reason::RowMalformed, format!("line {}: {why}", number + 1)),
        url: None,
        text_raw: None,
        extra: Extra::new(),
    };
    let cells: Extra = match serde_json::from_str(line) {
        Ok(cells) => cells,
        Err(e) => return malformed(e.to_string()),
    };
    let cell = |name: &str| cells.get(name).and_then(Value::as_str).map(str::to_owned);
    let Some(file_name) = cell("file_name") else {
        return malformed("no file_name".to_owned());
    };
    let stem = Path::new(&file_name).with_extension("").to_string_lossy().into_owned();
    Item {
        key: cell("key").unwrap_or(stem),
        picture: read(&folder.join(&file_name)),
        url: cell("url"),
        text_raw: cell("text").or_else(|| cell("caption")),
        extra: Extra::new(),
    }
}

fn bare(folder: &Path) -> Result<Items> {
    let is_picture = |path: &Path| {
        let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
        extension.is_some_and(|e| EXTENSIONS.contains(&e.as_str()))
    };
    let walk = WalkDir::new(folder).sort_by_file_name().into_iter().flatten();
    let mut paths =
        walk.map(|e| e.into_path()).filter(move |p| p.is_file() && is_picture(p)).peekable();
    if paths.peek().is_none() {
        bail!("{} has neither metadata.jsonl nor pictures", folder.display());
    }
    let folder = folder.to_owned();
    Ok(Box::new(paths.map(move |path| {
        let relative = path.strip_prefix(&folder).unwrap_or(&path).with_extension("");
        Ok(Item {
            key: relative.to_string_lossy().into_owned(),
            text_raw: fs::read_to_string(path.with_extension("txt")).ok(),
            picture: read(&path),
            url: None,
            extra: Extra::new(),
        })
    })))
}

fn read(path: &Path) -> Picture {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned());
    match fs::read(path) {
        Ok(bytes) => Picture::Bytes { bytes: Bytes::from(bytes), name },
        Err(e) => absent(Reason::FileMissing, format!("{}: {e}", path.display())),
    }
}
