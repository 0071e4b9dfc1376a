//! Checkpoints of a training: all that is needed to go on exactly, in a folder that appears whole.
//!
//! `RUN/checkpoints/step-0000100/` holds `model.safetensors` (f32) and `config.json`, which every
//! command that takes a checkpoint reads; `optimizer.safetensors` and `state.json`, which only the
//! training reads; and `teacher.safetensors` where a projection is learned. Older ones go when a newer
//! one is there, never before.

use std::collections::HashMap;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use candle_core::Device;
use candle_core::Tensor;
use serde::Deserialize;
use serde::Serialize;

use crate::atomic_file;
use crate::atomic_file::AtomicFolder;
use crate::folder;
use crate::model;
use crate::model::checkpoint;
use crate::model::checkpoint::Dtypes;
use crate::train::data::Position;
use crate::train::gate::Gate;

/// Where a training is, beside its tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Steps taken.
    pub step: u64,
    /// The next batch.
    pub position: Position,
    /// The gate's running mean.
    pub gate: Option<Gate>,
}

/// Everything of a checkpoint.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// Where the training is.
    pub state: State,
    /// Sizes of the model.
    pub config: model::Config,
    /// Weights of the model, under the official names.
    pub weights: HashMap<String, Tensor>,
    /// What [`AdamW::state`](crate::train::optim::AdamW::state) gave.
    pub optimizer: HashMap<String, Tensor>,
    /// What is learned beside the model.
    pub beside: HashMap<String, Tensor>,
}

const OPTIMIZER: &str = "optimizer.safetensors";
const BESIDE: &str = "teacher.safetensors";
const STATE: &str = "state.json";

impl Checkpoint {
    /// Writes it into a run's folder, then deletes all but the newest `keep`.
    ///
    /// # Errors
    /// When it cannot be written; what was there before is still there.
    pub fn save(&self, run: &Path, keep: usize) -> Result<PathBuf> {
        let folder = run.join(checkpoint::FOLDER);
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        let target = folder.join(format!("step-{:07}", self.state.step));
        if target.is_dir() {
            // The same step of the same training.
            return Ok(target);
        }
        let filling = AtomicFolder::create(&target)?;
        let at = |name: &str| filling.path().join(name);
        checkpoint::save(&self.weights, &self.config, Dtypes::F32, &at(checkpoint::WEIGHTS))?;
        write(&self.optimizer, &at(OPTIMIZER))?;
        if !self.beside.is_empty() {
            write(&self.beside, &at(BESIDE))?;
        }
        folder::write(&at(checkpoint::SIZES), &self.config)?;
        folder::write(&at(STATE), &self.state)?;
        filling.publish()?;
        let all = checkpoint::all_in(run)?;
        for old in &all[..all.len().saturating_sub(keep.max(1))] {
            std::fs::remove_dir_all(old)
                .with_context(|| format!("cannot delete {}", old.display()))?;
        }
        Ok(target)
    }

    /// Reads the folder of a checkpoint.
    ///
    /// # Errors
    /// When something of it is missing or damaged.
    pub fn load(folder: &Path) -> Result<Checkpoint> {
        let at = |name: &str| folder.join(name);
        let state = folder::read(&at(STATE))?;
        let sizes = at(checkpoint::SIZES).display().to_string();
        let config = model::Config::find(&sizes)?;
        let weights = checkpoint::read(&at(checkpoint::WEIGHTS))?;
        checkpoint::check(&weights, &config)?;
        Ok(Checkpoint {
            state: state.with_context(|| format!("{} has no {STATE}", folder.display()))?,
            config,
            weights,
            optimizer: checkpoint::read(&at(OPTIMIZER))?,
            beside: match at(BESIDE).is_file() {
                true => checkpoint::read(&at(BESIDE))?,
                false => HashMap::new(),
            },
        })
    }
}

/// The newest checkpoint in a run's folder. What a dead writer left half-made is cleared away.
///
/// # Errors
/// When the folder cannot be read.
pub fn newest(run: &Path) -> Result<Option<PathBuf>> {
    let folder = run.join(checkpoint::FOLDER);
    if folder.is_dir() {
        atomic_file::remove_leftovers(&folder)?;
    }
    Ok(checkpoint::all_in(run)?.pop())
}

fn write(tensors: &HashMap<String, Tensor>, path: &Path) -> Result<()> {
    let here = tensors
        .iter()
        .map(|(name, tensor)| Ok((name.as_str(), tensor.to_device(&Device::Cpu)?.contiguous()?)));
    let here: HashMap<&str, Tensor> = here.collect::<Result<_>>()?;
    atomic_file::write(path, &safetensors::serialize(here, None)?).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::init;

    fn at_step(step: u64) -> Checkpoint {
        let mut config = model::Config::preset("tiny").unwrap();
        config.vocab_size = 10;
        let position = Position { epoch: 1, batch: step };
        Checkpoint {
            state: State { step, position, gate: Some(Gate::default()) },
            weights: init::initial(&config, step).unwrap(),
            optimizer: HashMap::from([(
                "step".to_owned(),
                Tensor::new(step as i64, &Device::Cpu).unwrap(),
            )]),
            beside: HashMap::new(),
            config,
        }
    }

    #[test]
    fn the_newest_are_kept_and_read_back_as_they_were() {
        let run = tempfile::tempdir().unwrap();
        assert_eq!(newest(run.path()).unwrap(), None);
        for step in [5, 10, 15, 15] {
            at_step(step).save(run.path(), 2).unwrap();
        }
        let all = checkpoint::all_in(run.path()).unwrap();
        let names: Vec<_> = all.iter().map(|path| path.file_name().unwrap()).collect();
        assert_eq!(names, ["step-0000010", "step-0000015"]);
        let (wanted, found) = (at_step(15), Checkpoint::load(&all[1]).unwrap());
        assert_eq!((found.state, found.config), (wanted.state, wanted.config));
        for (name, tensor) in &wanted.weights {
            let numbers = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(numbers(tensor), numbers(&found.weights[name]), "{name}");
        }
        let located = checkpoint::locate(run.path()).unwrap();
        assert_eq!(located.weights, all[1].join("model.safetensors"));
        assert_eq!(located, checkpoint::locate(&all[1]).unwrap());
    }

    #[test]
    fn what_cannot_be_written_leaves_the_last_one_whole() {
        let run = tempfile::tempdir().unwrap();
        let first = at_step(5).save(run.path(), 1).unwrap();
        let mut broken = at_step(10);
        broken.weights.remove("logit_scale");
        assert!(broken.save(run.path(), 1).is_err());
        assert_eq!(newest(run.path()).unwrap(), Some(first.clone()));
        Checkpoint::load(&first).unwrap();
        let there = std::fs::read_dir(run.path().join(checkpoint::FOLDER)).unwrap().count();
        assert_eq!(there, 1);
    }
}
