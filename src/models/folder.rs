//! A model folder as it stands on the Hub after an Optimum or Ultralytics export, nothing renamed.
//!
//! Owns what a folder says about itself: its kind, labels, preprocessing, generation settings and
//! the hashes of the files that matter. The kind comes from `config.json`, from the metadata inside the
//! ONNX file, or from a `recaption.json` written for a network that no exporter described; never from
//! a file name. Nothing is run here: a folder that opens may still
//! hold a network that ONNX Runtime refuses.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use clap::ValueEnum;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::atomic_file;

mod config;
mod onnx;
mod preprocessing;
mod safety;
mod ultralytics;

pub use config::Activation;
pub use config::Captioner;
pub use config::DecoderFiles;
pub use config::Generation;
pub use config::Tagger;
pub use preprocessing::Channels;
pub use preprocessing::Layout;
pub use preprocessing::Preprocessing;
pub use preprocessing::Resample;
pub use preprocessing::Resize;
pub use safety::DESCRIPTION;
pub use safety::Safety;
pub use ultralytics::Detector;

/// No configuration file of a sane model comes near this; it is checked before reading.
const MAX_JSON_BYTES: u64 = 64 << 20;

/// Where Hub repositories that carry several formats keep their ONNX files.
const ONNX_SUBFOLDER: &str = "onnx";

/// An opened model folder: everything that can be known without running it.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelFolder {
    /// The folder.
    pub path: PathBuf,
    /// `name@first-8-of-sha256`, for provenance columns. The hash is that of the list of
    /// [`files`](ModelFolder::files) in the form `sha256sum` prints: a changed label list or
    /// normalisation is another model just as changed weights are.
    pub label: Arc<str>,
    /// What it does, with what that kind needs.
    pub kind: Kind,
    /// Each file that decides what the model says, sorted by name.
    pub files: Vec<ModelFile>,
}

/// What a model does.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// Gives labels to a whole picture.
    Tagger(Tagger),
    /// Gives labelled boxes.
    Detector(Detector),
    /// Gives a sentence.
    Captioner(Captioner),
    /// Says how unsafe a picture is.
    Safety(Safety),
}

impl Kind {
    /// The word for people.
    pub fn as_str(&self) -> &'static str {
        match self {
            Kind::Tagger(_) => "tagger",
            Kind::Detector(_) => "detector",
            Kind::Captioner(_) => "captioner",
            Kind::Safety(_) => "safety classifier",
        }
    }
}

/// One file of a model, as `run.json` keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ModelFile {
    /// Relative to the folder, with `/`.
    pub name: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Lower-case hex.
    pub sha256: String,
}

/// Which of several exports of the same weights to take.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, ValueEnum,
)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// `model.onnx`.
    #[default]
    Full,
    /// `model_quantized.onnx` where the folder has one, else `model.onnx`.
    Quantized,
}

impl ModelFolder {
    /// Opens a folder and takes the full-precision networks.
    pub fn open(path: &Path) -> Result<ModelFolder> {
        ModelFolder::open_as(path, Precision::Full)
    }

    /// Opens a folder and takes the networks of this precision.
    pub fn open_as(path: &Path, precision: Precision) -> Result<ModelFolder> {
        let mut listing = Listing::of(path, precision)?;
        let kind = read_kind(&mut listing)
            .with_context(|| format!("cannot use the model folder {}", path.display()))?;
        let files = listing.hash_used()?;
        Ok(ModelFolder { path: path.to_owned(), label: label(path, &files), kind, files })
    }
}

fn read_kind(listing: &mut Listing) -> Result<Kind> {
    if listing.has(DESCRIPTION) {
        return safety::read(listing).map(Kind::Safety);
    }
    if let Some(kind) = config::read(listing)? {
        return Ok(kind);
    }
    ultralytics::read(listing).map(Kind::Detector)
}

fn label(path: &Path, files: &[ModelFile]) -> Arc<str> {
    let manifest: String = files.iter().map(|f| format!("{}  {}\n", f.sha256, f.name)).collect();
    let hash = atomic_file::sha256(manifest.as_bytes());
    let resolved = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let name = resolved.file_name().map_or("model".into(), |n| n.to_string_lossy());
    format!("{name}@{}", &hash[..8]).into()
}

/// The files of a folder, and which of them were used so far.
struct Listing {
    path: PathBuf,
    names: BTreeSet<String>,
    used: BTreeSet<String>,
    precision: Precision,
}

impl Listing {
    fn of(path: &Path, precision: Precision) -> Result<Listing> {
        let mut names = BTreeSet::new();
        list_files(path, "", &mut names).with_context(|| {
            format!(
                "cannot read the model folder {}: give the folder that holds the model's \
                 config.json and .onnx files",
                path.display()
            )
        })?;
        let subfolder = path.join(ONNX_SUBFOLDER);
        if subfolder.is_dir() {
            list_files(&subfolder, "onnx/", &mut names)?;
        }
        Ok(Listing { path: path.to_owned(), names, used: BTreeSet::new(), precision })
    }

    fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// The path of a file that must be there.
    fn require(&mut self, name: &str) -> Result<PathBuf> {
        if !self.has(name) {
            bail!("{name} is missing; {}. {}", self.found(), self.advice(name));
        }
        self.used.insert(name.to_owned());
        Ok(self.path.join(name))
    }

    /// A JSON file that must be there.
    fn json<T: DeserializeOwned>(&mut self, name: &str) -> Result<T> {
        let path = self.require(name)?;
        let bytes = read_capped(&path)?;
        serde_json::from_slice(&bytes).with_context(|| {
            format!("{name} is not the JSON that was expected (truncated download?)")
        })
    }

    /// The name of the network `stem` in the wanted precision, if it is there.
    fn find_network(&self, stem: &str) -> Option<String> {
        let full = [format!("{stem}.onnx"), format!("{ONNX_SUBFOLDER}/{stem}.onnx")];
        let quantized = full.each_ref().map(|n| n.replace(".onnx", "_quantized.onnx"));
        let wanted = match self.precision {
            Precision::Full => full.to_vec(),
            Precision::Quantized => [quantized, full].concat(),
        };
        wanted.into_iter().find(|name| self.has(name))
    }

    /// The network `stem`, which must be there, with the weights it keeps beside itself.
    fn network(&mut self, stem: &str) -> Result<PathBuf> {
        let name = self.find_network(stem).unwrap_or_else(|| format!("{stem}.onnx"));
        let path = self.require(&name)?;
        for weights in [format!("{name}_data"), format!("{name}.data")] {
            if self.has(&weights) {
                self.used.insert(weights);
            }
        }
        Ok(path)
    }

    fn found(&self) -> String {
        let names: Vec<&str> = self.names.iter().map(String::as_str).take(20).collect();
        match names.is_empty() {
            true => "the folder holds no files".to_owned(),
            false => format!("the folder holds {}", names.join(", ")),
        }
    }

    fn advice(&self, name: &str) -> &'static str {
        if name.ends_with(".onnx") {
            "Export the model with Optimum or Ultralytics, or name the folder of the export"
        } else {
            "Copy it from the model's repository: it belongs to the same export"
        }
    }

    fn hash_used(&self) -> Result<Vec<ModelFile>> {
        self.used.iter().map(|name| hash_file(&self.path, name)).collect()
    }
}

fn list_files(folder: &Path, prefix: &str, names: &mut BTreeSet<String>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        // Follows links on purpose: the Hub's own cache is made of links to its blobs.
        if path.is_file() {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            names.insert(format!("{prefix}{name}"));
        }
    }
    Ok(())
}

fn read_capped(path: &Path) -> Result<Vec<u8>> {
    let at = || format!("cannot read {}", path.display());
    let file = File::open(path).with_context(at)?;
    let mut bytes = Vec::new();
    file.take(MAX_JSON_BYTES + 1).read_to_end(&mut bytes).with_context(at)?;
    if bytes.len() as u64 > MAX_JSON_BYTES {
        bail!("{} is larger than {MAX_JSON_BYTES} bytes: not a model's JSON", path.display());
    }
    Ok(bytes)
}

fn hash_file(folder: &Path, name: &str) -> Result<ModelFile> {
    let path = folder.join(name);
    refuse_pointer(&path)?;
    let sha256 = atomic_file::sha256_file(&path)?;
    let bytes = std::fs::metadata(&path)?.len();
    Ok(ModelFile { name: name.to_owned(), bytes, sha256 })
}

/// A clone without Git LFS leaves a small text file in place of each network; ONNX Runtime's
/// message about it ("protobuf parsing failed") sends people the wrong way.
fn refuse_pointer(path: &Path) -> Result<()> {
    let mut head = [0; 24];
    let mut file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    if file.read(&mut head)? == head.len() && head.starts_with(b"version https://git-lfs") {
        bail!(
            "{} is a Git LFS pointer, not the file itself: run `git lfs pull` in the clone it \
             came from",
            path.display()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests;
