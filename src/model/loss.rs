//! The contrastive loss of CLIP.

use candle_core::D;
use candle_core::Result;
use candle_core::Tensor;
use candle_nn::loss::cross_entropy;
use candle_nn::ops::log_softmax;

/// x / max(‖x‖, 1e-12) over the last dimension.
///
/// # Shapes
/// (.., D) -> (.., D)
///
/// # Errors
/// For a scalar.
pub fn normalized(x: &Tensor) -> Result<Tensor> {
    // The bound stands under the root: at zero the root's slope is infinite, and a gradient of zero
    // times infinity is not a number.
    let norm = x.sqr()?.sum_keepdim(D::Minus1)?.maximum(1e-24)?.sqrt()?;
    x.broadcast_div(&norm)
}

/// The mean of the cross entropies of pictures over texts and of texts over pictures, where the i-th
/// picture belongs to the i-th text.
///
/// # Shapes
/// `images`, `texts`: (B, D), normalised or not; `scale`: scalar, exp(logit_scale) -> scalar
///
/// # Errors
/// When the shapes differ.
pub fn contrastive(images: &Tensor, texts: &Tensor, scale: &Tensor) -> Result<Tensor> {
    let cosines = normalized(images)?.matmul(&normalized(texts)?.t()?)?; // (B, B)
    let logits = cosines.broadcast_mul(scale)?;
    let labels = Tensor::arange(0u32, logits.dim(0)? as u32, logits.device())?;
    let of_texts = cross_entropy(&logits, &labels)?;
    let of_images = cross_entropy(&logits.t()?.contiguous()?, &labels)?;
    (of_texts + of_images)? / 2.0
}

/// [`contrastive`] where each pair counts by its weight: the mean over all pairs, whatever the weights
/// sum up to, as ALIP has it.
///
/// # Shapes
/// `images`, `texts`: (B, D), normalised or not; `scale`: scalar; `weights`: (B) -> scalar
///
/// # Errors
/// When the shapes differ.
pub fn contrastive_weighted(
    images: &Tensor,
    texts: &Tensor,
    scale: &Tensor,
    weights: &Tensor,
) -> Result<Tensor> {
    let cosines = normalized(images)?.matmul(&normalized(texts)?.t()?)?; // (B, B)
    let logits = cosines.broadcast_mul(scale)?;
    let labels = Tensor::arange(0u32, logits.dim(0)? as u32, logits.device())?.unsqueeze(1)?;
    let of_pairs = |logits: &Tensor| -> Result<Tensor> {
        log_softmax(logits, D::Minus1)?.gather(&labels, 1)?.squeeze(1)?.neg() // (B)
    };
    let both = (of_pairs(&logits)? + of_pairs(&logits.t()?.contiguous()?)?)?;
    (both * weights)?.mean_all()? / 2.0
}
