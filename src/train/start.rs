//! Where a training starts: new weights, or those of another one, for the size of picture that is
//! wanted.

use std::collections::HashMap;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use candle_core::Tensor;
use serde_json::Value;
use serde_json::json;

use crate::atomic_file;
use crate::model;
use crate::model::checkpoint;
use crate::model::init;
use crate::train::config::Model;
use crate::train::student;

/// Sizes of what is trained where nothing says which.
const SIZES: &str = "tiny";

/// What a training starts from.
pub(super) struct Start {
    /// Sizes as they will be.
    pub(super) config: model::Config,
    /// Whose weights: for the identity of the training.
    pub(super) label: Value,
    /// Weights to be taken over, with the sizes that they have now.
    given: Option<(checkpoint::Located, model::Config)>,
}

impl Start {
    /// Looks, and reads no weights but for their hash.
    pub(super) fn find(settings: &Model) -> Result<Start> {
        let located = settings.start.as_deref().map(checkpoint::locate).transpose()?;
        let sizes = match (&settings.sizes, &located) {
            (Some(name), _) => name.clone(),
            (None, Some(checkpoint::Located { config: Some(beside), .. })) => {
                beside.display().to_string()
            }
            (None, Some(located)) => anyhow::bail!(
                "the sizes of {} are not known; say which with --model",
                located.weights.display()
            ),
            (None, None) => SIZES.to_owned(),
        };
        let before = model::Config::find(&sizes)?;
        let mut config = before.clone();
        if let Some(rate) = settings.drop_path_rate {
            ensure!((0.0..1.0).contains(&rate), "model.drop_path_rate is {rate}, not in 0 to 1");
            config.drop_path_rate = rate;
        }
        if let Some(side) = settings.input_size {
            let patch = config.image_patch_size;
            ensure!(
                side >= patch && side <= 4_096,
                "model.input_size is {side}; {patch} (a patch) to 4096 is possible"
            );
            config.input_size = side;
        }
        let label = match &located {
            None => Value::Null,
            Some(located) => json!(atomic_file::sha256_file(&located.weights)?),
        };
        Ok(Start { config, label, given: located.map(|located| (located, before)) })
    }

    /// The weights to start with.
    pub(super) fn weights(&self, seed: u64) -> Result<HashMap<String, Tensor>> {
        let Some((located, before)) = &self.given else {
            return init::initial(&self.config, seed);
        };
        let mut weights = checkpoint::read(&located.weights)?;
        let shown = located.weights.display();
        checkpoint::check(&weights, before).with_context(|| format!("{shown} does not fit"))?;
        if self.config.input_size != before.input_size {
            let mut config = before.clone();
            student::resized(&mut weights, &mut config, self.config.input_size)?;
        }
        Ok(weights)
    }
}
