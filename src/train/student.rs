//! The model in training: its variables by name, which of them learn, and two views of the model over
//! the same memory, one that records what it computes and one that does not.

use std::collections::BTreeMap;
use std::collections::HashMap;

use anyhow::Context;
use anyhow::Result;
use candle_core::DType;
use candle_core::Device;
use candle_core::Tensor;
use candle_core::Var;
use candle_nn::VarBuilder;
use clap::ValueEnum;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::model;
use crate::model::RwkvClip;
use crate::model::checkpoint;

/// One of the two.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    JsonSchema,
    ValueEnum,
)]
#[serde(rename_all = "snake_case")]
pub enum Tower {
    /// Pictures to embeddings.
    Image,
    /// Texts to embeddings.
    Text,
}

impl Tower {
    /// What the names of its tensors begin with.
    fn prefix(self) -> &'static str {
        match self {
            Tower::Image => "image_model.",
            Tower::Text => "text_model.",
        }
    }
}

/// The model that learns.
pub struct Student {
    /// Its sizes.
    pub config: model::Config,
    /// Towers that stay as they are.
    frozen: Vec<Tower>,
    /// All variables under the official names, frozen ones too.
    variables: BTreeMap<String, Var>,
    /// Records what it computes with what learns.
    recording: RwkvClip,
    /// Records nothing. Shares the memory of the variables, so that it is always the same model.
    plain: RwkvClip,
}

impl Student {
    /// With these weights, which are copied; `frozen` towers do not learn.
    ///
    /// # Errors
    /// When the weights do not fit the configuration.
    pub fn new(
        config: model::Config,
        weights: &HashMap<String, Tensor>,
        dtype: DType,
        device: &Device,
        frozen: &[Tower],
    ) -> Result<Student> {
        checkpoint::check(weights, &config)?;
        let variable = |(name, tensor): (&String, &Tensor)| -> Result<(String, Var)> {
            let tensor = tensor.to_device(device)?.to_dtype(dtype)?.contiguous()?;
            Ok((name.clone(), Var::from_tensor(&tensor)?))
        };
        let variables: BTreeMap<String, Var> =
            weights.iter().map(variable).collect::<Result<_>>()?;
        let model = |tensor: &dyn Fn(&str, &Var) -> Tensor| -> Result<RwkvClip> {
            let named = variables.iter().map(|(name, var)| (name.clone(), tensor(name, var)));
            let builder = VarBuilder::from_tensors(named.collect(), dtype, device);
            Ok(RwkvClip::new(&config, builder)?)
        };
        let recording = model(&|name, var| match is_of(name, frozen) {
            true => var.as_detached_tensor(),
            false => var.as_tensor().clone(),
        })?;
        let plain = model(&|_, var| var.as_detached_tensor())?;
        Ok(Student { frozen: frozen.to_vec(), recording, plain, variables, config })
    }

    /// The view that records for gradients.
    pub fn recording(&self) -> &RwkvClip {
        &self.recording
    }

    /// The view that records nothing.
    pub fn plain(&self) -> &RwkvClip {
        &self.plain
    }

    /// Whether this tower learns.
    pub fn learns(&self, tower: Tower) -> bool {
        !self.frozen.contains(&tower)
    }

    /// The variables that learn, with their names, in the order of names.
    pub fn learning(&self) -> impl Iterator<Item = (&String, &Var)> {
        self.variables.iter().filter(|(name, _)| !is_of(name, &self.frozen))
    }

    /// Those of the towers, which is all but the scale.
    pub fn learning_in_towers(&self) -> impl Iterator<Item = (&String, &Var)> {
        self.learning().filter(|(name, _)| name.as_str() != SCALE)
    }

    /// All weights as they are now, under the official names; they share the variables' memory.
    pub fn weights(&self) -> HashMap<String, Tensor> {
        let weights = self.variables.iter();
        weights.map(|(name, var)| (name.clone(), var.as_detached_tensor())).collect()
    }

    /// Keeps the logarithm of the scale in 0 to ln 100, as CLIP and the official loop do after each
    /// step, and says what it is.
    ///
    /// # Errors
    /// When the device's memory cannot be read.
    pub fn clamp_scale(&self) -> Result<f64> {
        let scale = self.variables.get(SCALE).context("the model has no scale")?;
        let clamped = scale.as_detached_tensor().clamp(0.0, 100f64.ln())?;
        scale.set(&clamped)?;
        Ok(clamped.to_dtype(DType::F64)?.to_scalar()?)
    }

    /// Where in its tower a variable is, from 0 for what reads the input to 1 for what is behind the
    /// last block, in blocks from the output: those of the embedding are `depth + 1` away, those of the
    /// first block `depth`, the last norm and the scale 0. For learning rates that fall with depth.
    pub fn layers_above(&self, name: &str) -> usize {
        for (tower, blocks, depth) in [
            (Tower::Image, "layers.", self.config.image_depth),
            (Tower::Text, "blocks.", self.config.n_layer),
        ] {
            let Some(rest) = name.strip_prefix(tower.prefix()) else { continue };
            let block = rest.strip_prefix(blocks).and_then(|rest| rest.split('.').next());
            return match block.and_then(|block| block.parse::<usize>().ok()) {
                Some(block) => depth.saturating_sub(block),
                None if rest.starts_with("ln") => 0,
                None => depth + 1,
            };
        }
        0
    }
}

const SCALE: &str = "logit_scale";

/// Whether a variable of this name is of one of these towers.
pub(super) fn is_of(name: &str, towers: &[Tower]) -> bool {
    towers.iter().any(|tower| name.starts_with(tower.prefix()))
}

/// Weights for pictures of another size: the learned positions are resized to its grid.
///
/// # Errors
/// When the positions are missing or are no grid.
pub fn resized(
    weights: &mut HashMap<String, Tensor>,
    config: &mut model::Config,
    input_size: usize,
) -> Result<()> {
    const POSITIONS: &str = "image_model.pos_embed";
    let grid = config.grid();
    config.input_size = input_size;
    let positions = weights.get(POSITIONS).with_context(|| format!("no tensor {POSITIONS}"))?;
    let resized = model::resize_positions(positions, grid, config.grid(), config.grid())?;
    weights.insert(POSITIONS.to_owned(), resized);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::init;

    #[test]
    fn depth_is_counted_from_the_output() {
        let config = model::Config::preset("tiny").unwrap();
        let weights = init::initial(&config, 1).unwrap();
        let student = Student::new(config, &weights, DType::F32, &Device::Cpu, &[]).unwrap();
        for (name, layers) in [
            ("image_model.patch_embed.projection.bias", 5),
            ("image_model.pos_embed", 5),
            ("image_model.layers.0.ln0.weight", 4),
            ("image_model.layers.3.att.key.weight", 1),
            ("image_model.ln1.weight", 0),
            ("text_model.emb.weight", 3),
            ("text_model.blocks.1.ffn.key.weight", 1),
            ("text_model.ln_out.bias", 0),
            ("logit_scale", 0),
        ] {
            assert!(student.weights().contains_key(name), "{name}");
            assert_eq!(student.layers_above(name), layers, "{name}");
        }
    }

    #[test]
    fn weights_fit_another_size_of_picture() {
        let mut config = model::Config::preset("tiny").unwrap();
        let mut weights = init::initial(&config, 1).unwrap();
        resized(&mut weights, &mut config, 96).unwrap();
        checkpoint::check(&weights, &config).unwrap();
        assert_eq!(config.image_tokens(), 144);
    }
}
