//! Pictures and texts to embeddings with an RWKV-CLIP checkpoint, and how well they fit.
//!
//! Pictures pass through the transform of CLIP's evaluation, texts through its tokenizer; batches of
//! any size go in. Nothing here reads a dataset: that is the callers' matter.

mod fit;
mod words;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use anyhow::Result;
use candle_core::DType;
use candle_core::Device;
use candle_core::Tensor;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::atomic_file;
use crate::clip::words::Words;
use crate::decode::ClipTransform;
use crate::model;
use crate::model::RwkvClip;
use crate::model::checkpoint;

pub use fit::Judge;

/// Which checkpoint judges how well each text fits its picture; unset: none does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// A `.pt` or safetensors file of RWKV-CLIP weights.
    pub checkpoint: Option<PathBuf>,
    /// Its sizes: `b32`, `b16`, `small`, `tiny`, or an official JSON (or a TOML) file.
    pub model_config: String,
    /// Where the model runs: `cpu`, `cuda`, `cuda:1`.
    pub device: String,
    /// A `tokenizer.json`, for weights that do not speak CLIP's vocabulary.
    pub tokenizer: Option<PathBuf>,
    /// Pictures that are embedded together.
    pub batch: usize,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            checkpoint: None,
            model_config: "b32".to_owned(),
            device: "cpu".to_owned(),
            tokenizer: None,
            batch: 16,
        }
    }
}

/// A loaded checkpoint.
pub struct Embedder {
    model: RwkvClip,
    config: model::Config,
    device: Device,
    label: Arc<str>,
    words: Words,
}

impl Embedder {
    /// Loads the weights, f32, as the settings say.
    ///
    /// # Errors
    /// When no checkpoint is named, the weights cannot be read or do not fit their configuration, the
    /// tokenizer gives ids that the model does not have, or there is no such device.
    pub fn open(config: &Config) -> Result<Embedder> {
        let weights = config.checkpoint.as_deref().context("no checkpoint is named")?;
        let sizes = model::Config::find(&config.model_config)?;
        let words = Words::open(config.tokenizer.as_deref(), &sizes)?;
        let device = model::device(&config.device)?;
        let model = checkpoint::load(weights, &sizes, DType::F32, &device)?;
        let name = weights.file_name().unwrap_or_default().to_string_lossy();
        let hash = atomic_file::sha256_file(weights)?;
        let label = format!("{name}@{}", &hash[..8]).into();
        Ok(Embedder { model, config: sizes, device, label, words })
    }

    /// `file name@first-8-of-sha256` of the weights.
    pub fn label(&self) -> &Arc<str> {
        &self.label
    }

    /// Numbers of an embedding.
    pub fn dimension(&self) -> usize {
        self.config.embed_dim()
    }

    /// How pictures are to be prepared.
    pub fn transform(&self) -> ClipTransform {
        ClipTransform { size: self.config.input_size as u32 }
    }

    /// Embeddings of prepared pictures, not normalised.
    ///
    /// # Shapes
    /// Each picture (3, size, size) -> (B, D)
    ///
    /// # Errors
    /// When a picture has another size.
    pub fn images(&self, pictures: &[Vec<f32>]) -> Result<Tensor> {
        if pictures.is_empty() {
            return self.nothing();
        }
        let side = self.config.input_size;
        let shape = (pictures.len(), 3, side, side);
        let pixels = Tensor::from_vec(pictures.concat(), shape, &self.device)
            .context("a picture was not prepared for this model")?;
        Ok(self.model.encode_image(&pixels)?)
    }

    /// Embeddings of texts, not normalised; each distinct text is read once. What is longer than the
    /// model's context is cut, as in training.
    ///
    /// # Shapes
    /// -> (B, D)
    ///
    /// # Errors
    /// When a text cannot be split into ids, which CLIP's tokenizer always can.
    pub fn texts(&self, texts: &[&str]) -> Result<Tensor> {
        if texts.is_empty() {
            return self.nothing();
        }
        let mut places = HashMap::new();
        let mut distinct = Vec::new();
        let rows: Vec<u32> = texts
            .iter()
            .map(|text| {
                *places.entry(*text).or_insert_with(|| {
                    distinct.push(*text);
                    distinct.len() as u32 - 1
                })
            })
            .collect();
        let ids = self.words.ids(&distinct)?;
        let ids = Tensor::from_vec(ids, (distinct.len(), self.config.ctx_len), &self.device)?;
        let rows = Tensor::from_vec(rows, texts.len(), &self.device)?;
        Ok(self.model.encode_text(&ids)?.index_select(&rows, 0)?)
    }

    /// (0, D)
    fn nothing(&self) -> Result<Tensor> {
        Ok(Tensor::zeros((0, self.dimension()), DType::F32, &self.device)?)
    }
}

/// The cosine of two embeddings of length 1 (D numbers each), with the four decimals that do not depend on how many
/// others were in their batch: same input is to give the same bytes.
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    const DECIMALS: f64 = 1e4;
    let product: f64 = a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
    (product * DECIMALS).round() / DECIMALS
}

/// The embeddings one by one, of length 1 each where `normalize` says so.
///
/// # Shapes
/// (B, D) -> B times D numbers
///
/// # Errors
/// When there is no such shape.
pub fn rows(embeddings: &Tensor, normalize: bool) -> Result<Vec<Vec<f32>>> {
    if embeddings.elem_count() == 0 {
        return Ok(Vec::new());
    }
    let embeddings = match normalize {
        true => model::normalized(embeddings)?,
        false => embeddings.clone(),
    };
    Ok(embeddings.to_vec2()?)
}
