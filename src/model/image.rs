//! The image tower: patches, learned positions, blocks, a norm, the mean over tokens.

use candle_core::Device;
use candle_core::Result;
use candle_core::Tensor;
use candle_nn::VarBuilder;
use rand::Rng;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::Config;
use super::Mode;
use super::block::Block;
use super::block::Norm;
use super::kernels::Shift;
use super::kernels::linear;
use super::mix::ChannelMix;
use super::mix::Speaks;
use super::mix::TimeMix;

/// Of the group norm behind the operator; the text tower has another.
const GROUP_EPS: f64 = 1e-5;

/// Odd, so that no two places of a batch share a seed; its bits are those of the golden ratio.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Pictures to embeddings.
#[derive(Clone)]
pub struct ImageTower {
    patch: usize,
    /// Tokens along a side of the picture that the positions were made for.
    grid: usize,
    head: usize,
    drop_path_rate: f64,
    /// (C, 3 · patch · patch)
    projection: Tensor,
    /// (C)
    bias: Tensor,
    /// (1, grid · grid, C)
    pub(super) pos_embed: Tensor,
    pub(super) layers: Vec<Block>,
    ln1: Norm,
}

impl ImageTower {
    pub(super) fn new(config: &Config, vb: VarBuilder) -> Result<ImageTower> {
        let (c, p) = (config.image_embed_dims, config.image_patch_size);
        let projection = vb.pp("patch_embed").pp("projection");
        let layer = |i: usize| {
            let vb = vb.pp("layers").pp(i);
            let att = TimeMix::new(config.image_num_heads, c, GROUP_EPS, vb.pp("att"))?;
            let hidden = config.image_hidden_rate * c;
            let ffn = ChannelMix::new(c, hidden, Speaks::ForItself, vb.pp("ffn"))?;
            Block::new(i == 0, c, att, ffn, vb)
        };
        Ok(ImageTower {
            patch: p,
            grid: config.grid(),
            head: config.image_head(),
            drop_path_rate: config.drop_path_rate,
            projection: projection.get((c, 3, p, p), "weight")?.reshape((c, 3 * p * p))?,
            bias: projection.get(c, "bias")?,
            pos_embed: vb.get((1, config.image_tokens(), c), "pos_embed")?,
            layers: (0..config.image_depth).map(layer).collect::<Result<_>>()?,
            ln1: Norm::new(c, vb.pp("ln1"))?,
        })
    }

    /// The embedding: the mean of [`ImageTower::tokens`], not normalised.
    ///
    /// # Shapes
    /// `images`: (B, 3, height, width) -> (B, D)
    ///
    /// # Errors
    /// When the shape is another one.
    pub fn encode(&self, images: &Tensor, mode: Mode) -> Result<Tensor> {
        self.tokens(images, mode)?.mean(1) // (B, T, C) -> (B, C)
    }

    /// Every token after the last norm. Any size of picture: it is padded with zeros at the bottom and
    /// the right up to whole patches, and positions are resized to its grid.
    ///
    /// # Shapes
    /// `images`: (B, 3, height, width) -> (B, T, C), T row by row
    ///
    /// # Errors
    /// When the shape is another one.
    pub fn tokens(&self, images: &Tensor, mode: Mode) -> Result<Tensor> {
        let (x, rows, columns) = self.patches(images)?;
        let shift = Shift::Grid { rows, columns, head: self.head };
        let positions = resize_positions(&self.pos_embed, self.grid, rows, columns)?;
        let mut x = x.broadcast_add(&positions)?;
        let keeps = self.drops(x.dim(0)?, mode, x.device())?;
        for (i, layer) in self.layers.iter().enumerate() {
            let keep = keeps.as_ref().map(|keeps| [&keeps[2 * i], &keeps[2 * i + 1]]);
            let keep =
                keep.map(|keep| keep.map(|t| t.to_dtype(x.dtype()))).map(both).transpose()?;
            x = layer.forward(&x, shift, keep.as_ref())?;
        }
        self.ln1.forward(&x)
    }

    /// # Shapes
    /// (B, 3, height, width) -> (B, T, C), rows of tokens, columns of tokens
    pub(super) fn patches(&self, images: &Tensor) -> Result<(Tensor, usize, usize)> {
        let (b, colours, height, width) = images.dims4()?;
        if colours != 3 || height == 0 || width == 0 {
            candle_core::bail!(
                "pictures of shape (B, 3, height, width) are wanted, not {:?}",
                images.shape()
            );
        }
        let p = self.patch;
        let (rows, columns) = (height.div_ceil(p), width.div_ceil(p));
        let x = images.pad_with_zeros(2, 0, rows * p - height)?;
        let x = x.pad_with_zeros(3, 0, columns * p - width)?;
        // candle has no convolution faster than this product: no pixel is in two patches.
        let x = x.reshape(&[b, 3, rows, p, columns, p][..])?;
        let x = x.permute([0, 2, 4, 1, 3, 5])?.contiguous()?; // (B, rows, columns, 3, p, p)
        let x = x.reshape((b, rows * columns, 3 * p * p))?;
        let x = linear(&x, &self.projection)?.broadcast_add(&self.bias)?;
        Ok((x, rows, columns))
    }

    /// The weight of each sample in each branch, 0 or 1 / (1 - p); p grows evenly from the first block
    /// to the last.
    fn drops(&self, batch: usize, mode: Mode, device: &Device) -> Result<Option<Vec<Tensor>>> {
        let Mode::Training { seed, first } = mode else { return Ok(None) };
        if self.drop_path_rate == 0.0 {
            return Ok(None);
        }
        let last = (self.layers.len() - 1).max(1) as f64;
        let branches = 2 * self.layers.len();
        let mut weights = vec![Vec::with_capacity(batch); branches];
        for sample in first..first + batch {
            // A generator for each sample: the same draws however a batch is cut up.
            let mut random = StdRng::seed_from_u64(seed ^ (sample as u64).wrapping_mul(SPREAD));
            for (branch, weights) in weights.iter_mut().enumerate() {
                let p = self.drop_path_rate * (branch / 2) as f64 / last;
                let is_kept = random.random::<f64>() >= p;
                weights.push(if is_kept { (1.0 / (1.0 - p)) as f32 } else { 0.0 });
            }
        }
        let keep = |weights| Tensor::from_vec(weights, (batch, 1, 1), device);
        Ok(Some(weights.into_iter().map(keep).collect::<Result<_>>()?))
    }
}

fn both([a, b]: [Result<Tensor>; 2]) -> Result<[Tensor; 2]> {
    Ok([a?, b?])
}

/// Positions of a square grid for another one: torch's bicubic without antialias (A = -0.75, corners
/// not aligned, indices clamped), as a product with fixed weights, so that gradients pass.
///
/// # Shapes
/// `positions`: (1, grid · grid, C) -> (1, rows · columns, C)
///
/// # Errors
/// When there are not grid · grid positions.
pub fn resize_positions(
    positions: &Tensor,
    grid: usize,
    rows: usize,
    columns: usize,
) -> Result<Tensor> {
    let (_, there, _) = positions.dims3()?;
    if there != grid * grid || there == 0 {
        candle_core::bail!("{there} positions are not a grid of {grid} x {grid}");
    }
    if (rows, columns) == (grid, grid) {
        return Ok(positions.clone());
    }
    let (vertical, horizontal) = (cubic_weights(grid, rows), cubic_weights(grid, columns));
    let mut weights = Vec::with_capacity(rows * columns * grid * grid);
    for v in &vertical {
        for h in &horizontal {
            weights.extend(v.iter().flat_map(|v| h.iter().map(move |h| v * h)));
        }
    }
    let weights = Tensor::from_vec(weights, (rows * columns, grid * grid), positions.device())?;
    weights.to_dtype(positions.dtype())?.matmul(&positions.squeeze(0)?)?.unsqueeze(0)
}

/// For each of `to` places, the weights of `from` places.
fn cubic_weights(from: usize, to: usize) -> Vec<Vec<f64>> {
    const A: f64 = -0.75;
    let near = |x: f64| ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0;
    let far = |x: f64| ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A;
    let mut all = vec![vec![0.0; from]; to];
    for (i, weights) in all.iter_mut().enumerate() {
        let source = (i as f64 + 0.5) * from as f64 / to as f64 - 0.5;
        let (floor, t) = (source.floor(), source - source.floor());
        for (j, w) in [far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)].into_iter().enumerate() {
            let place = (floor + j as f64 - 1.0).clamp(0.0, from as f64 - 1.0);
            weights[place as usize] += w;
        }
    }
    all
}
