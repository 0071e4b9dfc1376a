//! RWKV-CLIP: two towers of RWKV-6 blocks that see a whole picture or text at once, and a scale.
//!
//! Gu et al., "RWKV-CLIP: A Robust Vision-Language Representation Learner", EMNLP 2024
//! (arXiv 2406.06973). Numbers and checkpoints are those of the official implementation; `tests/it/parity`
//! holds this code to tensors that were made with it.
//!
//! The legend of all shapes: B batch, T tokens, C channels, H heads, N = C / H channels of a head,
//! V vocabulary, D embedding.

mod block;
pub mod checkpoint;
pub mod config;
mod image;
pub mod init;
mod kernels;
mod loss;
mod mix;
pub mod names;
mod text;

use anyhow::Context;
use candle_core::DType;
use candle_core::Device;
use candle_core::Result;
use candle_core::Tensor;
use candle_nn::VarBuilder;

pub use config::Config;
pub use image::ImageTower;
pub use image::resize_positions;
pub use kernels::Shift;
pub use kernels::wkv;
pub use kernels::wkv::Direction;
pub use kernels::wkv::Stream;
pub use kernels::wkv::chunked as wkv_chunked;
pub use kernels::wkv::naive;
pub use loss::contrastive;
pub use loss::contrastive_weighted;
pub use loss::normalized;
pub use text::TextTower;

/// The model. Cloning shares the weights.
#[derive(Clone)]
pub struct RwkvClip {
    /// Pictures to embeddings.
    pub image: ImageTower,
    /// Token ids to embeddings.
    pub text: TextTower,
    /// The logarithm of the factor on cosines, a scalar.
    pub logit_scale: Tensor,
}

/// The device of a name: `cpu`, `cuda`, `cuda:1`.
///
/// # Errors
/// When there is no such device, or this build has no CUDA (feature `cuda`).
pub fn device(name: &str) -> anyhow::Result<Device> {
    let number = match name {
        "cpu" => return Ok(Device::Cpu),
        "cuda" => 0,
        other => other
            .strip_prefix("cuda:")
            .and_then(|number| number.parse().ok())
            .with_context(|| format!("{other:?} is no device; there are cpu, cuda, cuda:1 ..."))?,
    };
    Device::new_cuda(number).with_context(|| {
        format!("{name} cannot be used (only builds with the feature cuda have it)")
    })
}

/// Whether and how a forward pass is one of training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    /// Every branch runs.
    Inference,
    /// Residual branches of the image tower are dropped at random, by sample, up to the
    /// configuration's `drop_path_rate`. What is dropped of a sample follows from the seed and the
    /// sample's place alone, so that parts of a batch drop what the whole would.
    Training {
        /// A number that differs from step to step.
        seed: u64,
        /// Place of the first sample in the batch that this is a part of.
        first: usize,
    },
}

impl RwkvClip {
    /// The model over the tensors of `vb`, under the official names.
    ///
    /// # Errors
    /// The first tensor that is missing or has another shape; a dtype other than F32 and F64, since the
    /// operator and the norms need them and mixed precision is not there yet.
    pub fn new(config: &Config, vb: VarBuilder) -> Result<RwkvClip> {
        if !matches!(vb.dtype(), DType::F32 | DType::F64) {
            candle_core::bail!("the model runs in F32 or F64, not in {:?}", vb.dtype());
        }
        Ok(RwkvClip {
            image: ImageTower::new(config, vb.pp("image_model"))?,
            text: TextTower::new(config, vb.pp("text_model"))?,
            logit_scale: vb.get((), "logit_scale")?,
        })
    }

    /// Embeddings of pictures, not normalised.
    ///
    /// # Shapes
    /// `images`: (B, 3, height, width), normalised as CLIP does -> (B, D)
    ///
    /// # Errors
    /// When the shape is another one.
    pub fn encode_image(&self, images: &Tensor) -> Result<Tensor> {
        self.image.encode(images, Mode::Inference)
    }

    /// Embeddings of texts, not normalised.
    ///
    /// # Shapes
    /// `tokens`: (B, T) of ids, padded with 0 to the context length: padding is read and pooled like
    /// any token -> (B, D)
    ///
    /// # Errors
    /// When the shape is another one, T is over the context length, or an id over the vocabulary.
    pub fn encode_text(&self, tokens: &Tensor) -> Result<Tensor> {
        self.text.encode(tokens)
    }

    /// exp(logit_scale), the factor on cosines.
    ///
    /// # Shapes
    /// -> scalar
    ///
    /// # Errors
    /// None of its own.
    pub fn scale(&self) -> Result<Tensor> {
        self.logit_scale.exp()
    }
}

#[cfg(test)]
mod parity;
