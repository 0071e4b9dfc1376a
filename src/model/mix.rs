//! The two halves of a block: time mix, where tokens meet, and channel mix, where channels do.
//!
//! Both towers share the algebra; they differ in the shift, in the epsilon of the group norm, and in
//! the names and the direction of the channel mix's parameters, all of which the callers say.

use candle_core::Result;
use candle_core::Tensor;
use candle_nn::VarBuilder;

use super::kernels::Shift;
use super::kernels::gated;
use super::kernels::group_norm_gate;
use super::kernels::linear;
use super::kernels::shift_lerp;
use super::kernels::shift_lerp_by_token;
use super::kernels::squared_relu;
use super::kernels::tanh;
use super::kernels::wkv;

/// Channels of the low-rank path to each of the five mixes, whatever the model's width.
pub(super) const MIX_RANK: usize = 32;
/// Channels of the low-rank path to the decay.
pub(super) const DECAY_RANK: usize = 64;
/// The five mixes, in the order in which checkpoints stack them.
pub(super) const MIXES: [&str; 5] = ["w", "k", "v", "r", "g"];

/// Data-dependent token mixing around the WKV operator (`att`).
#[derive(Clone)]
pub(super) struct TimeMix {
    heads: usize,
    eps: f64,
    /// (C)
    maa_x: Tensor,
    /// In the order of [`MIXES`], (C) each.
    maa: [Tensor; 5],
    /// (C, 5 · 32), as checkpoints have it: x times this.
    maa_w1: Tensor,
    /// (5, 32, C)
    maa_w2: Tensor,
    /// (C)
    decay: Tensor,
    /// (C, 64) and (64, C)
    decay_w1: Tensor,
    decay_w2: Tensor,
    /// (H, N), called u in the operator.
    pub(super) faaaa: Tensor,
    /// (C, C) each: (out, in).
    receptance: Tensor,
    key: Tensor,
    value: Tensor,
    gate: Tensor,
    output: Tensor,
    /// Gamma and beta of the group norm, (C) each.
    ln_x: [Tensor; 2],
}

impl TimeMix {
    pub(super) fn new(heads: usize, c: usize, eps: f64, vb: VarBuilder) -> Result<TimeMix> {
        let channels = |name: &str| vb.get((1, 1, c), name)?.reshape(c); // (1, 1, C) -> (C)
        let [w, k, v, r, g] = MIXES.map(|mix| channels(&format!("time_maa_{mix}")));
        let square = |name: &str| vb.get((c, c), &format!("{name}.weight"));
        let norm = vb.pp("ln_x");
        Ok(TimeMix {
            heads,
            eps,
            maa_x: channels("time_maa_x")?,
            maa: [w?, k?, v?, r?, g?],
            maa_w1: vb.get((c, 5 * MIX_RANK), "time_maa_w1")?,
            maa_w2: vb.get((5, MIX_RANK, c), "time_maa_w2")?,
            decay: channels("time_decay")?,
            decay_w1: vb.get((c, DECAY_RANK), "time_decay_w1")?,
            decay_w2: vb.get((DECAY_RANK, c), "time_decay_w2")?,
            faaaa: vb.get((heads, c / heads), "time_faaaa")?,
            receptance: square("receptance")?,
            key: square("key")?,
            value: square("value")?,
            gate: square("gate")?,
            output: square("output")?,
            ln_x: [norm.get(c, "weight")?, norm.get(c, "bias")?],
        })
    }

    /// # Shapes
    /// `x`: (B, T, C), after the norm -> (B, T, C)
    pub(super) fn forward(&self, x: &Tensor, shift: Shift) -> Result<Tensor> {
        let [r, k, v, w, g] = self.projections(x, shift)?;
        let y = wkv(&r, &k, &v, &w, &self.faaaa)?;
        // Stacked here and not in `new`: a trainer changes the variables under these tensors.
        let z = group_norm_gate(&y, &g, &Tensor::stack(&self.ln_x, 0)?, self.heads, self.eps)?;
        linear(&z, &self.output)
    }

    /// r, k, v, the raw decay w, and g before its silu: (B, T, C) each.
    pub(super) fn projections(&self, x: &Tensor, shift: Shift) -> Result<[Tensor; 5]> {
        let (b, t, c) = x.dims3()?;
        let mixed = shift_lerp(x, &self.maa_x, shift)?.reshape((b * t, c))?;
        let h = tanh(&mixed.matmul(&self.maa_w1)?)?; // (B T, 5 · 32)
        let mix = |i: usize| -> Result<Tensor> {
            let own = h.narrow(1, i * MIX_RANK, MIX_RANK)?.matmul(&self.maa_w2.get(i)?)?;
            shift_lerp_by_token(x, &own.reshape((b, t, c))?, &self.maa[i], shift)
        };
        let low = tanh(&mix(0)?.reshape((b * t, c))?.matmul(&self.decay_w1)?)?; // (B T, 64)
        let w = low.matmul(&self.decay_w2)?.broadcast_add(&self.decay)?.reshape((b, t, c))?;
        let k = linear(&mix(1)?, &self.key)?;
        let v = linear(&mix(2)?, &self.value)?;
        let r = linear(&mix(3)?, &self.receptance)?;
        let g = linear(&mix(4)?, &self.gate)?;
        Ok([r, k, v, w, g])
    }
}

/// How far a channel mix's parameters speak for the neighbour.
#[derive(Clone, Copy)]
pub(super) enum Speaks {
    /// `ffn.spatial_mix_*` weigh the token itself (image tower).
    ForItself,
    /// `ffn.time_maa_*` weigh the neighbour (text tower).
    ForTheNeighbour,
}

/// Squared ReLU between two projections, behind a gate (`ffn`).
#[derive(Clone)]
pub(super) struct ChannelMix {
    speaks: Speaks,
    /// (C) each.
    mix_k: Tensor,
    mix_r: Tensor,
    /// (hidden, C)
    key: Tensor,
    /// (C, C)
    receptance: Tensor,
    /// (C, hidden)
    value: Tensor,
}

impl ChannelMix {
    pub(super) fn new(
        c: usize,
        hidden: usize,
        speaks: Speaks,
        vb: VarBuilder,
    ) -> Result<ChannelMix> {
        let prefix = match speaks {
            Speaks::ForItself => "spatial_mix",
            Speaks::ForTheNeighbour => "time_maa",
        };
        let mix = |name: &str| vb.get((1, 1, c), &format!("{prefix}_{name}"))?.reshape(c);
        Ok(ChannelMix {
            speaks,
            mix_k: mix("k")?,
            mix_r: mix("r")?,
            key: vb.get((hidden, c), "key.weight")?,
            receptance: vb.get((c, c), "receptance.weight")?,
            value: vb.get((c, hidden), "value.weight")?,
        })
    }

    /// # Shapes
    /// `x`: (B, T, C), after the norm -> (B, T, C)
    pub(super) fn forward(&self, x: &Tensor, shift: Shift) -> Result<Tensor> {
        let neighbours = |mix: &Tensor| match self.speaks {
            Speaks::ForItself => mix.affine(-1.0, 1.0),
            Speaks::ForTheNeighbour => Ok(mix.clone()),
        };
        let k = shift_lerp(x, &neighbours(&self.mix_k)?, shift)?;
        let hidden = squared_relu(&linear(&k, &self.key)?)?; // (B, T, hidden)
        let r = shift_lerp(x, &neighbours(&self.mix_r)?, shift)?;
        gated(&linear(&r, &self.receptance)?, &linear(&hidden, &self.value)?)
    }
}
