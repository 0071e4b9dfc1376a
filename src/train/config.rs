//! The settings of a training, as its TOML file has them. Defaults are those of the paper (the released
//! script of RWKV-CLIP B/32 on YFCC15M), but for the batch, which is that of a machine and not of eight
//! GPUs.

use std::path::PathBuf;

use anyhow::Result;
use anyhow::ensure;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;

use crate::folder;
use crate::train::data::DataConfig;
use crate::train::data::Text;
use crate::train::student::Tower;

/// Everything that can be set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What is trained, and from where it starts.
    pub model: Model,
    /// What it is trained on.
    pub data: DataConfig,
    /// How.
    pub recipe: Recipe,
    /// A larger model that is followed.
    pub teacher: Teacher,
    /// Retrieval on pictures that are not trained on.
    pub validation: Validation,
    /// What can change while the training goes on.
    pub run: Run,
}

/// What is trained, and from where it starts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Model {
    /// Its sizes: `b32`, `b16`, `small`, `tiny`, or an official JSON (or a TOML) file. Unset: those of
    /// the start, else `tiny`.
    pub sizes: Option<String>,
    /// A `tokenizer.json`, for weights that do not speak CLIP's vocabulary.
    pub tokenizer: Option<PathBuf>,
    /// Weights to start from: a file, or the folder of a training or of a checkpoint. Unset: from
    /// scratch.
    pub start: Option<PathBuf>,
    /// Side of the pictures in pixels, where it is to be another one than that of the sizes; learned
    /// positions are resized.
    pub input_size: Option<usize>,
    /// Most dropped residual branches, a share, where it is to be another one than that of the sizes.
    pub drop_path_rate: Option<f64>,
    /// Towers that do not learn: `image`, `text`.
    pub freeze: Vec<Tower>,
}

/// How a model is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Recipe {
    /// How often every row is seen; not used where steps are set.
    pub epochs: f64,
    /// Steps of the whole training.
    pub steps: Option<u64>,
    /// Samples of a step, over all ranks. The paper has 4096.
    pub batch: usize,
    /// The highest learning rate.
    pub lr: f64,
    /// Share of the steps in which the learning rate rises.
    pub pct_start: f64,
    /// The learning rate of a block is this times that of the block above it; 1: all have the same.
    pub layer_decay: f64,
    /// Share of a parameter that is taken off per step and unit of learning rate.
    pub weight_decay: f64,
    /// What is decayed.
    pub decay: Decay,
    /// Decay of the second moment; that of the first follows the schedule.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Greatest norm of all gradients together.
    pub max_norm: f64,
    /// Whether pairs that fit worse than the running mean count for less (the description gate of
    /// ALIP).
    pub gate: bool,
    /// Of initial weights, order, texts, crops and dropped branches.
    pub seed: u64,
}

impl Default for Recipe {
    fn default() -> Recipe {
        Recipe {
            epochs: 32.0,
            steps: None,
            batch: 256,
            lr: 1e-3,
            pct_start: 0.1,
            layer_decay: 1.0,
            weight_decay: 0.2,
            decay: Decay::All,
            beta2: 0.98,
            eps: 1e-8,
            max_norm: 1.0,
            gate: false,
            seed: 1,
        }
    }
}

/// What weight decay is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Decay {
    /// Every parameter, as the official training does.
    All,
    /// Matrices only: no norms, biases, positions, mixes, decays, and not the scale.
    Matrices,
}

/// A larger model that is followed (distillation).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Teacher {
    /// Its weights, a file or folder; unset: there is no teacher.
    pub checkpoint: Option<PathBuf>,
    /// Its sizes, where the checkpoint is a file.
    pub sizes: String,
    /// What following its softmax over the batch counts for, beside 1 for the contrastive loss.
    pub logits: f64,
    /// What following its embeddings counts for.
    pub features: f64,
}

impl Default for Teacher {
    fn default() -> Teacher {
        Teacher { checkpoint: None, sizes: "b32".to_owned(), logits: 1.0, features: 1.0 }
    }
}

/// Retrieval on pictures that are not trained on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Validation {
    /// Datasets or run folders; none, but a filter: those of the training.
    pub inputs: Vec<String>,
    /// Which of their rows, as `split == 'test'`.
    pub filter: Option<String>,
    /// The text that is looked for; unset: of each row the first it has of generated, synthetic, raw.
    pub text: Option<Text>,
    /// Steps between two.
    pub every: u64,
    /// Rows at most: the first ones.
    pub rows: u64,
}

impl Default for Validation {
    fn default() -> Validation {
        Validation { inputs: Vec::new(), filter: None, text: None, every: 200, rows: 1_000 }
    }
}

impl Validation {
    /// Whether there is any.
    pub fn is_on(&self) -> bool {
        !self.inputs.is_empty() || self.filter.is_some()
    }
}

/// What can change while a training goes on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Run {
    /// Where the model runs: `cpu`, `cuda`, `cuda:1`.
    pub device: String,
    /// Replicas in this process that share each batch.
    pub ranks: usize,
    /// Samples that are run together: the gradient is that of the whole batch, in the memory of this
    /// many, for one more forward pass.
    pub piece: usize,
    /// Steps between two checkpoints.
    pub checkpoint_every: u64,
    /// Checkpoints that stay.
    pub keep: usize,
}

impl Default for Run {
    fn default() -> Run {
        Run { device: "cpu".to_owned(), ranks: 1, piece: 256, checkpoint_every: 200, keep: 3 }
    }
}

/// Settings that may differ when a training goes on. Ranks and pieces are not among them: they add up
/// in another order, and the curve would not be the same to the last bit.
const FREE: [&str; 6] = [
    "run.device",
    "run.checkpoint_every",
    "run.keep",
    "data.workers",
    "data.prefetch",
    "validation.every",
];

impl Config {
    /// Refuses settings that cannot be meant.
    ///
    /// # Errors
    /// Names the setting.
    pub fn check(&self) -> Result<()> {
        let Config { recipe, run, .. } = self;
        ensure!(
            !self.data.inputs.is_empty(),
            "nothing to train on: name a dataset or a run folder"
        );
        ensure!(recipe.batch > 1, "recipe.batch is {}; a contrast needs two", recipe.batch);
        ensure!(recipe.lr > 0.0 && recipe.lr.is_finite(), "recipe.lr is {}", recipe.lr);
        ensure!((0.0..=1.0).contains(&recipe.pct_start), "recipe.pct_start is no share");
        ensure!(recipe.epochs > 0.0, "recipe.epochs is {}", recipe.epochs);
        ensure!(recipe.steps != Some(0), "recipe.steps is 0");
        let decay = recipe.layer_decay;
        ensure!(decay > 0.0 && decay <= 1.0, "recipe.layer_decay is {decay}, not in 0 to 1");
        ensure!((0.0..1.0).contains(&recipe.beta2), "recipe.beta2 is {}", recipe.beta2);
        ensure!(recipe.eps > 0.0, "recipe.eps is {}", recipe.eps);
        ensure!(recipe.max_norm > 0.0, "recipe.max_norm is {}", recipe.max_norm);
        ensure!(recipe.weight_decay >= 0.0, "recipe.weight_decay is {}", recipe.weight_decay);
        let both = [Tower::Image, Tower::Text];
        ensure!(
            !both.iter().all(|tower| self.model.freeze.contains(tower)),
            "model.freeze names both towers; nothing but the scale would learn"
        );
        ensure!(
            self.teacher.checkpoint.is_none() || self.model.tokenizer.is_none(),
            "a teacher reads the ids of CLIP's tokenizer; it cannot teach a model with another one"
        );
        ensure!(run.ranks > 0 && run.piece > 0, "run.ranks and run.piece are at least 1");
        let (batch, ranks) = (recipe.batch, run.ranks);
        ensure!(batch % ranks == 0, "a batch of {batch} does not divide among {ranks} ranks");
        ensure!(run.checkpoint_every > 0 && run.keep > 0, "a training keeps a checkpoint at least");
        ensure!(self.validation.every > 0, "validation.every is 0");
        ensure!(self.validation.rows > 1, "validation.rows is {}", self.validation.rows);
        Ok(())
    }

    /// What must be the same when a training goes on, as JSON.
    ///
    /// # Errors
    /// Never in practice: every setting has a JSON form.
    pub fn identity(&self) -> Result<Value> {
        let mut json = serde_json::to_value(self)?;
        folder::remove(&mut json, &FREE);
        Ok(json)
    }
}
