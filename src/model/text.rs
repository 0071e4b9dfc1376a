//! The text tower: embeddings, blocks, a norm, the mean over normalised tokens.

use candle_core::D;
use candle_core::Result;
use candle_core::Tensor;
use candle_nn::VarBuilder;

use super::Config;
use super::block::Block;
use super::block::Norm;
use super::kernels::Shift;
use super::loss::normalized;
use super::mix::ChannelMix;
use super::mix::Speaks;
use super::mix::TimeMix;

/// Token ids to embeddings. Nothing in it is causal: the operator and the shift look both ways (see
/// [`super::Stream`] for what that leaves of the "RNN form").
#[derive(Clone)]
pub struct TextTower {
    context: usize,
    head: usize,
    /// (V, C)
    pub(super) emb: Tensor,
    pub(super) blocks: Vec<Block>,
    ln_out: Norm,
}

impl TextTower {
    pub(super) fn new(config: &Config, vb: VarBuilder) -> Result<TextTower> {
        let c = config.n_embd;
        let eps = 1e-5 * (config.head_size_divisor * config.head_size_divisor) as f64;
        let block = |i: usize| {
            let vb = vb.pp("blocks").pp(i);
            let att = TimeMix::new(config.text_heads(), c, eps, vb.pp("att"))?;
            let ffn = ChannelMix::new(c, config.dim_ffn, Speaks::ForTheNeighbour, vb.pp("ffn"))?;
            Block::new(i == 0, c, att, ffn, vb)
        };
        Ok(TextTower {
            context: config.ctx_len,
            head: config.head_size,
            emb: vb.get((config.vocab_size, c), "emb.weight")?,
            blocks: (0..config.n_layer).map(block).collect::<Result<_>>()?,
            ln_out: Norm::new(c, vb.pp("ln_out"))?,
        })
    }

    /// The embedding: each token normalised, then their mean, padding included; not normalised again.
    ///
    /// # Shapes
    /// `tokens`: (B, T) u32 or i64, T up to the context length -> (B, D)
    ///
    /// # Errors
    /// When the shape is another one, or an id is over the vocabulary.
    pub fn encode(&self, tokens: &Tensor) -> Result<Tensor> {
        normalized(&self.tokens(tokens)?)?.mean(1) // (B, T, C) -> (B, C)
    }

    /// Every token after the last norm.
    ///
    /// # Shapes
    /// `tokens`: (B, T) u32 or i64, T up to the context length -> (B, T, C)
    ///
    /// # Errors
    /// When the shape is another one, or an id is over the vocabulary.
    pub fn tokens(&self, tokens: &Tensor) -> Result<Tensor> {
        let (b, t) = tokens.dims2()?;
        if t == 0 || t > self.context {
            candle_core::bail!("texts of {t} tokens; 1 to {} can be read", self.context);
        }
        let ids = tokens.flatten_all()?;
        let mut x = self.emb.index_select(&ids, 0)?.reshape((b, t, self.emb.dim(D::Minus1)?))?;
        for block in &self.blocks {
            x = block.forward(&x, Shift::Line { head: self.head }, None)?;
        }
        self.ln_out.forward(&x)
    }
}
