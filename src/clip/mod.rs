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
use crate::decode::ClipTransform;
use crate::model;
use crate::model::RwkvClip;
use crate::model::checkpoint;

pub use fit::Fitting;
pub use fit::Judge;
pub use words::Words;

/// Which checkpoint judges how well each text fits its picture; unset: none does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// RWKV-CLIP weights: a `.pt` or safetensors file, or the folder of a training or of one of its
    /// checkpoints.
    pub checkpoint: Option<PathBuf>,
    /// Their sizes: `b32`, `b16`, `small`, `tiny`, or an official JSON (or a TOML) file. Not asked of a
    /// folder, which knows its sizes.
    pub model_config: String,
    /// Where the model runs: `cpu`, `cuda`, `cuda:1`.
    pub device: String,
    /// A `tokenizer.json`, for weights that do not speak CLIP's vocabulary.
    pub tokenizer: Option<PathBuf>,
    /// Pictures that are embedded together.
    pub batch: usize,
    /// From this cosine of their embeddings on, `audit --clip` counts a word that no source has as near
    /// a word or phrase of a source, -1 to 1. What cosines mean differs from checkpoint to checkpoint:
    /// look at what yours finds.
    pub nearness: f32,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            checkpoint: None,
            model_config: "b32".to_owned(),
            device: "cpu".to_owned(),
            tokenizer: None,
            batch: 16,
            // Not fitted: there were no labels for it. High, because what is near is believed.
            nearness: 0.9,
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
    batch: usize,
}

impl Embedder {
    /// Loads the weights, f32, as the settings say.
    ///
    /// # Errors
    /// When no checkpoint is named, the weights cannot be read or do not fit their configuration, the
    /// tokenizer gives ids that the model does not have, or there is no such device.
    pub fn open(config: &Config) -> Result<Embedder> {
        let named = config.checkpoint.as_deref().context("no checkpoint is named")?;
        let located = checkpoint::locate(named)?;
        let weights = located.weights.as_path();
        let sizes = match &located.config {
            Some(beside) => model::Config::find(&beside.display().to_string())?,
            None => model::Config::find(&config.model_config)?,
        };
        let words = Words::open(config.tokenizer.as_deref(), &sizes)?;
        let device = model::device(&config.device)?;
        let model = checkpoint::load(weights, &sizes, DType::F32, &device)?;
        let name = named.file_name().unwrap_or_default().to_string_lossy();
        let hash = atomic_file::sha256_file(weights)?;
        let label = format!("{name}@{}", &hash[..8]).into();
        Ok(Embedder { model, config: sizes, device, label, words, batch: config.batch.max(1) })
    }

    /// `file name@first-8-of-sha256` of the weights.
    pub fn label(&self) -> &Arc<str> {
        &self.label
    }

    /// Numbers of an embedding.
    pub fn dimension(&self) -> usize {
        self.config.embed_dim()
    }

    /// Pictures that are best embedded together.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// How pictures are to be prepared.
    pub fn transform(&self) -> ClipTransform {
        ClipTransform { size: self.config.input_size as u32 }
    }

    /// Embeddings of prepared pictures; what is not there has none.
    ///
    /// # Shapes
    /// Each picture (3, size, size) -> D numbers each
    ///
    /// # Errors
    /// When a picture has another size.
    pub fn images(&self, pictures: &[Option<Vec<f32>>], length: Length) -> Result<Vec<Embedding>> {
        let there: Vec<&[f32]> = pictures.iter().flatten().map(Vec::as_slice).collect();
        if there.is_empty() {
            return Ok(vec![None; pictures.len()]);
        }
        let side = self.config.input_size;
        let pixels = Tensor::from_vec(there.concat(), (there.len(), 3, side, side), &self.device)
            .context("a picture was not prepared for this model")?;
        let made = length.of(self.model.encode_image(&pixels)?)?.to_vec2()?;
        Ok(in_place(pictures, made))
    }

    /// Embeddings of texts; each distinct text is read once, what is not there has none. What is longer
    /// than the model's context is cut, as in training.
    ///
    /// # Shapes
    /// -> D numbers each
    ///
    /// # Errors
    /// When a text cannot be split into ids, which CLIP's tokenizer always can.
    pub fn texts(&self, texts: &[Option<&str>], length: Length) -> Result<Vec<Embedding>> {
        let mut places = HashMap::new();
        let mut distinct = Vec::new();
        let rows: Vec<u32> = texts
            .iter()
            .flatten()
            .map(|text| {
                *places.entry(*text).or_insert_with(|| {
                    distinct.push(*text);
                    distinct.len() as u32 - 1
                })
            })
            .collect();
        if rows.is_empty() {
            return Ok(vec![None; texts.len()]);
        }
        let ids = self.words.ids(&distinct)?;
        let ids = Tensor::from_vec(ids, (distinct.len(), self.config.ctx_len), &self.device)?;
        let rows = Tensor::new(rows, &self.device)?;
        let made = self.model.encode_text(&ids)?.index_select(&rows, 0)?;
        Ok(in_place(texts, length.of(made)?.to_vec2()?))
    }

    /// How well each picture's texts fit it: cosines, with the four decimals that do not depend on how
    /// many others were in the batch (same input is to give the same bytes). None where either is not
    /// there.
    ///
    /// # Errors
    /// As [`Embedder::images`] and [`Embedder::texts`].
    pub fn fits(
        &self,
        pictures: &[Option<Vec<f32>>],
        texts: &[Vec<Option<&str>>],
    ) -> Result<Vec<Vec<Option<f64>>>> {
        let images = self.images(pictures, Length::One)?;
        let mut words = self.texts(&texts.concat(), Length::One)?.into_iter();
        let rows = images.iter().zip(texts).map(|(image, texts)| {
            let words = words.by_ref().take(texts.len());
            words.map(|text| Some(cosine(image.as_ref()?, &text?))).collect()
        });
        Ok(rows.collect())
    }
}

/// The numbers of a picture or text; none where there is no such.
pub type Embedding = Option<Vec<f32>>;

/// How long embeddings are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// As the model gives them.
    Given,
    /// Normalised.
    One,
}

impl Length {
    fn of(self, embeddings: Tensor) -> Result<Tensor> {
        Ok(match self {
            Length::Given => embeddings,
            Length::One => model::normalized(&embeddings)?,
        })
    }
}

/// What was made of those that are there, each in its place.
fn in_place<T>(places: &[Option<T>], made: Vec<Vec<f32>>) -> Vec<Embedding> {
    let mut made = made.into_iter();
    places.iter().map(|place| place.as_ref().and_then(|_| made.next())).collect()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    const DECIMALS: f64 = 1e4;
    let product: f64 = a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
    (product * DECIMALS).round() / DECIMALS
}
