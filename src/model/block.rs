//! One block of a tower: two residual branches, each behind a layer norm.

use candle_core::Result;
use candle_core::Tensor;
use candle_nn::VarBuilder;

use super::kernels::Shift;
use super::kernels::layer_norm;
use super::mix::ChannelMix;
use super::mix::TimeMix;

/// Of all layer norms.
const EPS: f64 = 1e-5;

/// A layer norm with an affine part.
#[derive(Clone)]
pub(super) struct Norm {
    gamma: Tensor,
    beta: Tensor,
}

impl Norm {
    pub(super) fn new(c: usize, vb: VarBuilder) -> Result<Norm> {
        Ok(Norm { gamma: vb.get(c, "weight")?, beta: vb.get(c, "bias")? })
    }

    /// # Shapes
    /// (.., C) -> (.., C)
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        layer_norm(x, &self.gamma, &self.beta, EPS)
    }
}

#[derive(Clone)]
pub(super) struct Block {
    /// The first block's only; what it gives replaces x, in front of the residual stream.
    pub(super) ln0: Option<Norm>,
    pub(super) ln1: Norm,
    pub(super) ln2: Norm,
    pub(super) att: TimeMix,
    pub(super) ffn: ChannelMix,
}

impl Block {
    pub(super) fn new(
        is_first: bool,
        c: usize,
        att: TimeMix,
        ffn: ChannelMix,
        vb: VarBuilder,
    ) -> Result<Block> {
        let ln0 = is_first.then(|| Norm::new(c, vb.pp("ln0"))).transpose()?;
        let (ln1, ln2) = (Norm::new(c, vb.pp("ln1"))?, Norm::new(c, vb.pp("ln2"))?);
        Ok(Block { ln0, ln1, ln2, att, ffn })
    }

    /// `keep`, where given, weighs each sample's branches: (B, 1, 1) each.
    ///
    /// # Shapes
    /// `x`: (B, T, C) -> (B, T, C)
    pub(super) fn forward(
        &self,
        x: &Tensor,
        shift: Shift,
        keep: Option<&[Tensor; 2]>,
    ) -> Result<Tensor> {
        let weighed = |branch: Tensor, which: usize| match keep {
            Some(keep) => branch.broadcast_mul(&keep[which]),
            None => Ok(branch),
        };
        let x = match &self.ln0 {
            Some(norm) => norm.forward(x)?,
            None => x.clone(),
        };
        let att = self.att.forward(&self.ln1.forward(&x)?, shift)?;
        let x = (x + weighed(att, 0)?)?;
        let ffn = self.ffn.forward(&self.ln2.forward(&x)?, shift)?;
        x + weighed(ffn, 1)?
    }
}
