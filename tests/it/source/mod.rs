//! Every input kind from files on disk to items: what they become, and what is refused.

mod folder;
mod inputs;
pub(crate) mod parquet;
mod ranges;
mod table;
mod webdataset;

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use recaption::sample::Item;
use recaption::sample::Picture;
use recaption::source::Config;
use recaption::source::Source;
use tempfile::TempDir;

/// Not an image: sources never look inside.
const PIXELS: &[u8] = b"\xff\xd8 pixels";

fn folder_of(files: &[(&str, &[u8])]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    files.iter().for_each(|(name, bytes)| write(dir.path(), name, bytes));
    dir
}

fn write(dir: &Path, name: &str, bytes: &[u8]) {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn open(paths: &[PathBuf]) -> anyhow::Result<Source> {
    open_with(paths, &Config::default())
}

fn open_with(paths: &[PathBuf], config: &Config) -> anyhow::Result<Source> {
    let inputs: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    Source::open(&inputs, config)
}

fn items(source: &Source) -> Vec<Item> {
    let items = source.items(0..source.plan().rows).unwrap();
    items.collect::<anyhow::Result<_>>().unwrap()
}

/// The items of one input, each as `key|text|picture`.
fn told(path: &Path) -> Vec<String> {
    items(&open(&[path.to_owned()]).unwrap()).iter().map(tell).collect()
}

fn tell(item: &Item) -> String {
    let picture = match &item.picture {
        Picture::Bytes { bytes, name } => {
            format!("{} bytes {}", bytes.len(), name.as_deref().unwrap_or("-"))
        }
        Picture::Url(url) => url.clone(),
        Picture::Absent { reason, .. } => reason.as_str().to_owned(),
    };
    format!("{}|{}|{picture}", item.key, item.text_raw.as_deref().unwrap_or("-"))
}

fn detail(item: &Item) -> &str {
    match &item.picture {
        Picture::Absent { detail, .. } => detail,
        other => panic!("{other:?}"),
    }
}

/// What `open` says about an input that it refuses.
fn refusal(path: &Path) -> String {
    refusal_with(path, &Config::default())
}

fn refusal_with(path: &Path, config: &Config) -> String {
    format!("{:#}", open_with(&[path.to_owned()], config).err().expect("it was taken"))
}
