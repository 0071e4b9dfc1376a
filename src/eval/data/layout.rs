//! The layout of CLIP_benchmark's webdatasets: `test/0.tar` and so on, as many as `test/nshards.txt`
//! says; beside them `classnames.txt` and `zeroshot_classification_templates.txt`.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;

use crate::eval::data::words::lines;
use crate::eval::templates::PLACE;

/// The part that is taken without being told.
pub(super) const SPLIT: &str = "test";

const CLASSES: &str = "classnames.txt";
const TEMPLATES: &str = "zeroshot_classification_templates.txt";
const SHARDS: &str = "nshards.txt";

/// Whether a folder is laid out like this.
pub(super) fn is_one(folder: &Path, split: Option<&str>) -> bool {
    folder.join(CLASSES).is_file() || folder.join(split.unwrap_or(SPLIT)).join(SHARDS).is_file()
}

/// The tars of a part; of a tar itself or a folder without parts, all that is there.
pub(super) fn tars(data: &Path, split: Option<&str>) -> Result<Vec<String>> {
    let part = data.join(split.unwrap_or(SPLIT));
    let folder = match part.is_dir() {
        true => part,
        false => {
            ensure!(split.is_none(), "there is no {}", part.display());
            data.to_owned()
        }
    };
    let paths = match folder.join(SHARDS).is_file() {
        true => numbered(&folder)?,
        false => vec![folder],
    };
    Ok(paths.iter().map(|path| path.display().to_string()).collect())
}

fn numbered(folder: &Path) -> Result<Vec<PathBuf>> {
    let path = folder.join(SHARDS);
    let text = fs::read_to_string(&path);
    let text = text.with_context(|| format!("cannot read {}", path.display()))?;
    let count: u32 =
        text.trim().parse().with_context(|| format!("{} has no number", path.display()))?;
    ensure!(count > 0, "{} says that there are no tars", path.display());
    let tars: Vec<PathBuf> = (0..count).map(|n| folder.join(format!("{n}.tar"))).collect();
    let gone = tars.iter().find(|tar| !tar.is_file());
    ensure!(gone.is_none(), "{} says {count} tars, but {gone:?} is not there", path.display());
    Ok(tars)
}

/// The names of the classes, where they are noted.
pub(super) fn classes(data: &Path) -> Result<Option<Vec<String>>> {
    noted(&data.join(CLASSES))
}

/// The sentences, where they are noted, with `{}` for the name of a class.
pub(super) fn templates(data: &Path) -> Result<Option<Vec<String>>> {
    let templates = noted(&data.join(TEMPLATES))?;
    Ok(templates.map(|all| all.iter().map(|line| line.replace("{c}", PLACE)).collect()))
}

fn noted(path: &Path) -> Result<Option<Vec<String>>> {
    path.is_file().then(|| lines(path)).transpose()
}
