//! What a suite consists of, as its TOML file says.

use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::clip;
use crate::eval::bootstrap;
use crate::eval::data::CaptionedConfig;
use crate::eval::data::LabelledConfig;
use crate::eval::result::Task;
use crate::eval::zero_shot::Rounding;
use crate::model;
use crate::model::checkpoint;

/// Checkpoints and the data that each of them is scored on. Paths are relative to the file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Suite {
    /// What is scored.
    pub checkpoint: Vec<Checkpoint>,
    /// Pictures with classes: zero-shot classification and linear probe.
    pub labelled: Vec<LabelledTasks>,
    /// Pictures with texts: retrieval.
    pub captioned: Vec<CaptionedConfig>,
    /// What becomes of logits of zero-shot before they are compared: `exact`, or `reference` for numbers
    /// that can be compared with published ones. Those of ImageNet cannot be, for which the released
    /// script has another transform and a padded count; those of retrieval need its `prefix`.
    pub rounding: Rounding,
    /// How intervals are made.
    pub bootstrap: bootstrap::Config,
}

/// Weights with their sizes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Checkpoint {
    /// A `.pt` or safetensors file, or the folder of a training or of one of its checkpoints.
    pub path: PathBuf,
    /// What it is called in results; unset: the name of the file or folder.
    pub name: Option<String>,
    /// Its sizes: `b32`, `b16`, `small`, `tiny`, or a JSON or TOML file; not asked of a
    /// folder, which knows its sizes.
    pub model_config: Option<String>,
    /// A `tokenizer.json`, for weights that do not speak CLIP's vocabulary.
    pub tokenizer: Option<PathBuf>,
    /// Where the model runs: `cpu`, `cuda`, `cuda:1`.
    pub device: String,
    /// Pictures that are embedded together.
    pub batch: usize,
}

/// A data set with classes, and what is done with it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "toml::Table")]
#[schemars(!try_from, default)]
pub struct LabelledTasks {
    /// The data.
    #[serde(flatten)]
    pub data: LabelledConfig,
    /// `zero_shot`, `linear_probe`.
    pub tasks: Vec<Task>,
    /// Which pictures a linear probe is fitted to.
    pub probe: ProbeConfig,
}

/// Which pictures a linear probe is fitted to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ProbeConfig {
    /// Those it learns from; unset: a share of the data set itself, and the rest is judged.
    pub train: Option<PartConfig>,
    /// Those its regulariser is chosen by; unset: what the share leaves of the training pictures.
    pub validation: Option<PartConfig>,
    /// Of each class this share, at random, where parts are not named.
    pub share: f64,
    /// Where the random numbers start.
    pub seed: u64,
}

/// Another part of a data set: what differs from the part that is judged.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PartConfig {
    /// Its folder or file; unset: the same.
    pub data: Option<PathBuf>,
    /// Which part, as `train`.
    pub split: Option<String>,
    /// Which rows, as `split == 'train'`.
    #[serde(rename = "where")]
    pub filter: Option<String>,
}

impl Default for Checkpoint {
    fn default() -> Checkpoint {
        let clip::Config { device, batch, .. } = clip::Config::default();
        let (path, name, model_config, tokenizer) = (PathBuf::new(), None, None, None);
        Checkpoint { path, name, model_config, tokenizer, device, batch }
    }
}

impl Default for ProbeConfig {
    fn default() -> ProbeConfig {
        ProbeConfig { train: None, validation: None, share: 0.8, seed: 0 }
    }
}

/// By hand, because a flattened struct takes any misspelt name without a word.
impl TryFrom<toml::Table> for LabelledTasks {
    type Error = toml::de::Error;

    fn try_from(mut table: toml::Table) -> Result<LabelledTasks, toml::de::Error> {
        let tasks = table.remove("tasks").map(toml::Value::try_into).transpose()?;
        let probe = table.remove("probe").map(toml::Value::try_into).transpose()?;
        Ok(LabelledTasks {
            data: table.try_into()?,
            tasks: tasks.unwrap_or_else(|| vec![Task::ZeroShot, Task::LinearProbe]),
            probe: probe.unwrap_or_default(),
        })
    }
}

impl Suite {
    /// Reads a suite; its paths become those from here.
    ///
    /// # Errors
    /// When the file cannot be read, is no TOML, or sets something that does not exist.
    pub fn read(path: &Path) -> Result<Suite> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the suite {}", path.display()))?;
        let suite: Suite =
            toml::from_str(&text).with_context(|| format!("in the suite {}", path.display()))?;
        Ok(suite.beside(path.parent().unwrap_or(Path::new(""))))
    }

    /// Refuses what cannot be meant.
    ///
    /// # Errors
    /// Names the setting.
    pub fn check(&self) -> Result<()> {
        ensure!(!self.checkpoint.is_empty(), "no checkpoint is named: a suite has [[checkpoint]]");
        ensure!(
            !self.labelled.is_empty() || !self.captioned.is_empty(),
            "no data are named: a suite has [[labelled]] or [[captioned]]"
        );
        let mut names: Vec<String> = self.checkpoint.iter().map(Checkpoint::name).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            bail!("two checkpoints are called {}; give one a name", twice[0]);
        }
        ensure!(self.bootstrap.resamples >= 100, "bootstrap.resamples is below 100");
        for entry in &self.labelled {
            let (share, data) = (entry.probe.share, entry.data.data.display());
            ensure!((0.1..=0.9).contains(&share), "{data}: probe.share is {share}; 0.1 to 0.9");
            ensure!(
                !entry.tasks.is_empty(),
                "{data}: tasks is empty; there are zero_shot, linear_probe"
            );
            let mut tasks = entry.tasks.clone();
            tasks.sort_unstable();
            let is_repeated = tasks.windows(2).any(|pair| pair[0] == pair[1]);
            ensure!(!is_repeated, "{data}: a task stands in tasks twice");
            let wrong = entry.tasks.contains(&Task::Retrieval);
            ensure!(!wrong, "{data}: retrieval needs pictures with texts: [[captioned]]");
        }
        Ok(())
    }

    /// The same with the real paths of data, so that it does not matter from where they are named.
    pub(super) fn absolute(mut self) -> Suite {
        for entry in &mut self.labelled {
            real(&mut entry.data.data);
            let parts = [&mut entry.probe.train, &mut entry.probe.validation];
            parts.into_iter().flatten().flat_map(|part| &mut part.data).for_each(real);
        }
        for entry in &mut self.captioned {
            real(&mut entry.data);
            entry.images.iter_mut().for_each(real);
        }
        self
    }

    fn beside(self, folder: &Path) -> Suite {
        Suite {
            checkpoint: self.checkpoint.into_iter().map(|entry| entry.beside(folder)).collect(),
            labelled: self.labelled.into_iter().map(|entry| entry.beside(folder)).collect(),
            captioned: self.captioned.into_iter().map(|entry| entry.beside(folder)).collect(),
            ..self
        }
    }
}

/// What is not there keeps its path, and is told by it.
fn real(path: &mut PathBuf) {
    if let Ok(real) = path.canonicalize() {
        *path = real;
    }
}

impl LabelledTasks {
    fn beside(mut self, folder: &Path) -> LabelledTasks {
        for part in [&mut self.probe.train, &mut self.probe.validation].into_iter().flatten() {
            part.data = part.data.take().map(|data| folder.join(data));
        }
        LabelledTasks { data: self.data.beside(folder), ..self }
    }
}

impl Checkpoint {
    fn beside(self, folder: &Path) -> Checkpoint {
        Checkpoint {
            path: folder.join(self.path),
            tokenizer: self.tokenizer.map(|tokenizer| folder.join(tokenizer)),
            // `b32` and its like are names and no files.
            model_config: self.model_config.map(|name| match folder.join(&name) {
                file if file.is_file() => file.display().to_string(),
                _ => name,
            }),
            ..self
        }
    }

    /// What it is called.
    pub fn name(&self) -> String {
        let of_path = || {
            let name =
                if self.path.is_dir() { self.path.file_name() } else { self.path.file_stem() };
            name.unwrap_or_default().to_string_lossy().into_owned()
        };
        self.name.clone().unwrap_or_else(of_path)
    }

    /// The file of weights.
    ///
    /// # Errors
    /// When it is a folder without one.
    pub fn weights(&self) -> Result<PathBuf> {
        Ok(checkpoint::locate(&self.path)?.weights)
    }

    /// How to open it.
    ///
    /// # Errors
    /// When it is a folder without weights, or the sizes of a single file are not named.
    pub fn clip(&self) -> Result<clip::Config> {
        let beside = checkpoint::locate(&self.path)?.config;
        let sizes = beside.map(|file| file.display().to_string()).or(self.model_config.clone());
        Ok(clip::Config {
            checkpoint: Some(self.path.clone()),
            model_config: sizes.with_context(|| {
                let path = self.path.display();
                format!("{path} does not say its sizes; name them with model_config, as b32")
            })?,
            device: self.device.clone(),
            tokenizer: self.tokenizer.clone(),
            batch: self.batch,
            ..clip::Config::default()
        })
    }

    /// Which of the published sizes it has, `custom` for others.
    ///
    /// # Errors
    /// When its sizes cannot be read.
    pub fn model(&self) -> Result<String> {
        let sizes = model::Config::find(&self.clip()?.model_config)?;
        let same = |name: &&str| model::Config::find(name).is_ok_and(|known| known == sizes);
        Ok(["b32", "b16", "small", "tiny"].into_iter().find(same).unwrap_or("custom").to_owned())
    }
}

impl PartConfig {
    /// The settings of this part, of those of the part that is judged.
    pub fn of(&self, judged: &LabelledConfig) -> LabelledConfig {
        LabelledConfig {
            data: self.data.clone().unwrap_or_else(|| judged.data.clone()),
            split: self.split.clone().or_else(|| judged.split.clone()),
            filter: self.filter.clone().or_else(|| judged.filter.clone()),
            ..judged.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOML: &str = r#"
        rounding = "reference"
        [[checkpoint]]
        path = "a.pt"
        model_config = "b32"
        [[checkpoint]]
        path = "/runs/b"
        [[labelled]]
        data = "set"
        where = "split == 'test'"
        tasks = ["linear_probe"]
        [labelled.probe]
        train = { where = "split == 'train'" }
        [[captioned]]
        data = "pairs.parquet"
    "#;

    fn read(text: &str) -> Result<Suite> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("suite.toml");
        std::fs::write(&path, text)?;
        let mut suite = Suite::read(&path)?;
        let below = |path: &mut PathBuf| {
            if let Ok(rest) = path.strip_prefix(folder.path()) {
                *path = rest.to_owned();
            }
        };
        suite.checkpoint.iter_mut().for_each(|checkpoint| below(&mut checkpoint.path));
        suite.labelled.iter_mut().for_each(|entry| below(&mut entry.data.data));
        Ok(suite)
    }

    #[test]
    fn a_file_says_what_is_meant() {
        let suite = read(TOML).unwrap();
        suite.check().unwrap();
        assert_eq!(suite.rounding, Rounding::Reference);
        assert_eq!(suite.checkpoint[0].name(), "a");
        assert_eq!(suite.checkpoint[1].path, Path::new("/runs/b"));
        assert_eq!(suite.labelled[0].tasks, [Task::LinearProbe]);
        let judged = &suite.labelled[0].data;
        let train = suite.labelled[0].probe.train.as_ref().unwrap().of(judged);
        assert_eq!(train.filter.as_deref(), Some("split == 'train'"));
        assert_eq!(train.data, judged.data);
    }

    #[test]
    fn the_example_is_a_suite() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/suite.toml");
        let suite = Suite::read(Path::new(path)).unwrap();
        suite.check().unwrap();
        assert_eq!(suite.checkpoint[1].name(), "RWKV-CLIP-B32");
        assert_eq!(suite.labelled[1].tasks, [Task::LinearProbe]);
    }

    #[test]
    fn what_is_misspelt_or_missing_is_refused() {
        for (wrong, says) in [
            (TOML.replace("where =", "were ="), "were"),
            (TOML.replace("tasks =", "task ="), "task"),
            (TOML.replace("train =", "trian ="), "trian"),
            (TOML.replace("linear_probe", "linear"), "linear"),
        ] {
            let error = format!("{:#}", read(&wrong).unwrap_err());
            assert!(error.contains(says), "{error}");
        }
        assert!(Suite::default().check().is_err());
        let mut suite = read(TOML).unwrap();
        suite.checkpoint[1].name = Some("a".to_owned());
        suite.checkpoint.push(Checkpoint { name: Some("0".to_owned()), ..Checkpoint::default() });
        assert!(suite.check().unwrap_err().to_string().contains("called a;"));
        suite.checkpoint[1].name = None;
        for tasks in [&[][..], &[Task::Retrieval], &[Task::LinearProbe, Task::LinearProbe]] {
            suite.labelled[0].tasks = tasks.to_vec();
            assert!(suite.check().unwrap_err().to_string().contains("set: "), "{tasks:?}");
        }
        assert!(suite.checkpoint[0].clip().is_ok());
        suite.checkpoint[0].model_config = None;
        assert!(suite.checkpoint[0].clip().is_err());
    }
}
