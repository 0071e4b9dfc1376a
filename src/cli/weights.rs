//! The flags of all commands that run a checkpoint.

use std::path::PathBuf;

use anyhow::Result;
use anyhow::ensure;
use clap::Args;

use crate::clip;
use crate::clip::Embedder;
use crate::eval::suite::Checkpoint;

/// Which weights, of which sizes.
#[derive(Args)]
pub(super) struct Weights {
    /// RWKV-CLIP weights: a `.pt` or safetensors file, or the folder of a training or of
    /// one of its checkpoints.
    #[arg(long, value_name = "PATH")]
    pub(super) checkpoint: PathBuf,
    /// Their sizes: b32, b16, small, tiny, or a JSON or TOML file; a folder has its own.
    #[arg(long, value_name = "NAME")]
    pub(super) model_config: Option<String>,
    #[command(flatten)]
    pub(super) how: How,
}

/// How a checkpoint is run.
#[derive(Args)]
pub(super) struct How {
    /// Where the model runs: cpu, cuda, cuda:1.
    #[arg(long, default_value = "cpu")]
    pub(super) device: String,
    /// A tokenizer.json, for weights that do not speak CLIP's vocabulary.
    #[arg(long, value_name = "FILE")]
    pub(super) tokenizer: Option<PathBuf>,
    /// Rows that are embedded together.
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub(super) batch: usize,
}

/// Rows of a batch at most: 2.5 GB of pictures of 224 pixels.
const MOST: usize = 4_096;

impl Weights {
    pub(super) fn open(&self) -> Result<Embedder> {
        Embedder::open(&self.clip()?)
    }

    fn clip(&self) -> Result<clip::Config> {
        self.how.checkpoint(&self.checkpoint, self.model_config.as_deref())?.clip()
    }
}

impl How {
    /// The settings of a checkpoint that is run like this.
    pub(super) fn checkpoint(
        &self,
        path: &std::path::Path,
        model_config: Option<&str>,
    ) -> Result<Checkpoint> {
        let batch = self.batch;
        ensure!((1..=MOST).contains(&batch), "--batch is {batch}; 1 to {MOST} is possible");
        Ok(Checkpoint {
            path: path.to_owned(),
            name: None,
            model_config: model_config.map(str::to_owned),
            tokenizer: self.tokenizer.clone(),
            device: self.device.clone(),
            batch,
        })
    }
}
