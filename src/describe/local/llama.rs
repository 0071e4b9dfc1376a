//! The Llama network, run for several rows at once behind one shared prefix.
//!
//! candle-transformers has this network too; its tests-only use here is as the slow twin. It copies
//! the whole past for every token and every query head, and refuses batches of unlike rows. Here the
//! past of the prefix (system text and examples, four fifths of a prompt) exists once and is never
//! copied, each row has a slot of its own, and rows of any lengths are read in one step: all their
//! tokens together go through the weights, each row alone through the attention. No sum is taken in
//! another order because of what the other rows are.
//!
//! Letters in shapes: b rows of a step, l tokens of a row, m tokens of all steps, c width, h query heads,
//! n key heads, g = h / n, d width of a head, p positions of the prefix, t positions of a slot.

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use candle_core::D;
use candle_core::Device;
use candle_core::Module;
use candle_core::Tensor;
use candle_core::quantized::GgmlDType;
use candle_core::quantized::QMatMul;
use candle_core::quantized::QTensor;
use candle_nn::ops::rms_norm;
use candle_nn::ops::softmax_last_dim;
use candle_nn::rotary_emb::rope_i;

use crate::describe::local::gguf::Gguf;
use crate::describe::local::gguf::OUTPUT;
use crate::describe::local::gguf::ROPE_FACTORS;
use crate::describe::local::gguf::Shape;

/// How weights are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weights {
    /// As f32: fastest, four bytes each.
    Unpacked,
    /// As in the file, or as Q8_0 where candle has no fast kernel for what is in the file.
    Packed,
}

impl Weights {
    /// How so many weights are best kept.
    pub(super) fn fitting(weights: usize) -> Weights {
        /// A gigabyte as f32: a machine that holds a run's pictures has that to spare.
        const MOST_UNPACKED: usize = 1 << 28;
        match weights <= MOST_UNPACKED {
            true => Weights::Unpacked,
            false => Weights::Packed,
        }
    }

    /// The word for provenance: replies differ between the two.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Weights::Unpacked => "f32",
            Weights::Packed => "packed",
        }
    }
}

/// The network. Shared by threads; what changes is in [`Past`].
pub(super) struct Llama {
    pub(super) shape: Shape,
    embedding: Tensor,
    blocks: Vec<Block>,
    norm: Tensor,
    output: Linear,
    cos: Tensor,
    sin: Tensor,
}

struct Block {
    attention_norm: Tensor,
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    feed_forward_norm: Tensor,
    gate: Linear,
    up: Linear,
    down: Linear,
}

/// Keys and values of some rows, in slots of one size.
pub(super) struct Past {
    /// For each block, keys and values: (b, n, t, d).
    blocks: Vec<(Tensor, Tensor)>,
    /// Positions of a slot.
    pub(super) capacity: usize,
}

/// Keys and values that all rows see before their own.
pub(super) struct Prefix {
    /// For each block, keys and values: (n, p, d).
    blocks: Vec<(Tensor, Tensor)>,
    /// Its positions.
    pub(super) len: usize,
}

/// What a step reads: the same number of tokens for each of some neighbouring slots.
pub(super) struct Step<'a> {
    /// The first slot.
    pub(super) first_slot: usize,
    /// For each slot, how many of its positions are filled.
    pub(super) filled: &'a [usize],
    /// Tokens of the first slot, then of the second, and so on.
    pub(super) tokens: &'a [u32],
}

impl Past {
    /// Its slots.
    pub(super) fn slots(&self) -> usize {
        self.blocks.first().map_or(0, |(keys, _)| keys.dims()[0])
    }

    /// Copies the first positions of a slot to another one.
    pub(super) fn copy(&self, from: usize, to: usize, filled: usize) -> Result<()> {
        for slots in self.blocks.iter().flat_map(|(keys, values)| [keys, values]) {
            // Copied first: a tensor cannot be read while it is written.
            let held = slots.narrow(0, from, 1)?.narrow(2, 0, filled)?.contiguous()?;
            slots.narrow(0, to, 1)?.slice_set(&held, 2, 0)?;
        }
        Ok(())
    }

    /// Makes a slot as it was when new.
    pub(super) fn clear(&self, slot: usize) -> Result<()> {
        for slots in self.blocks.iter().flat_map(|(keys, values)| [keys, values]) {
            let slot = slots.narrow(0, slot, 1)?;
            slot.slice_set(&slot.zeros_like()?, 2, 0)?;
        }
        Ok(())
    }
}

impl Llama {
    /// Reads every weight of the file.
    pub(super) fn load(gguf: &mut Gguf, weights: Weights) -> Result<Llama> {
        let shape = gguf.shape.clone();
        let (width, words) = (shape.width, [shape.vocabulary, shape.width]);
        let embedding = gguf.tensor("token_embd.weight", &words)?;
        let unpacked = embedding.dequantize(&Device::Cpu)?;
        let output = match gguf.has(OUTPUT) {
            true => Linear::new(gguf.tensor(OUTPUT, &words)?, weights)?,
            // Tied: kept twice all the same, since either use wants its own order.
            false => Linear::new(embedding, weights)?,
        };
        let blocks =
            (0..shape.blocks).map(|i| Block::load(gguf, i, weights)).collect::<Result<_>>();
        let (cos, sin) = turns(gguf)?;
        Ok(Llama {
            embedding: unpacked,
            blocks: blocks?,
            norm: vector(gguf, "output_norm.weight", width)?,
            output,
            cos,
            sin,
            shape,
        })
    }

    /// Bytes of a slot.
    pub(super) fn slot_bytes(&self, capacity: usize) -> usize {
        let keys = self.shape.kv_heads * self.shape.head_width * capacity;
        keys * 2 * size_of::<f32>() * self.shape.blocks
    }

    /// Empty slots for so many rows.
    pub(super) fn past(&self, rows: usize, capacity: usize) -> Result<Past> {
        let dims = (rows, self.shape.kv_heads, capacity, self.shape.head_width);
        let empty = || Tensor::zeros(dims, candle_core::DType::F32, &Device::Cpu);
        let pairs = self.blocks.iter().map(|_| Ok((empty()?, empty()?)));
        Ok(Past { blocks: pairs.collect::<Result<_>>()?, capacity })
    }

    /// Reads tokens that every row will begin with.
    pub(super) fn prefix(&self, tokens: &[u32]) -> Result<Prefix> {
        /// Bounds the memory of a step's scores.
        const PIECE: usize = 256;
        let past = self.past(1, tokens.len())?;
        for (i, piece) in tokens.chunks(PIECE).enumerate() {
            let step = Step { first_slot: 0, filled: &[i * PIECE], tokens: piece };
            self.step(&[step], None, &past)?;
        }
        let squeeze = |(k, v): &(Tensor, Tensor)| Ok((k.squeeze(0)?, v.squeeze(0)?));
        let blocks = past.blocks.iter().map(squeeze).collect::<Result<_>>()?;
        Ok(Prefix { blocks, len: tokens.len() })
    }

    /// Reads the tokens, keeps their keys and values in the slots, and gives the scores of each
    /// word to come next, for every row of the first step, then of the second, and so on.
    ///
    /// # Shapes
    /// - result: (rows, vocabulary)
    pub(super) fn step(
        &self,
        steps: &[Step<'_>],
        prefix: Option<&Prefix>,
        past: &Past,
    ) -> Result<Tensor> {
        let places = Place::all(self, steps, prefix.map_or(0, |prefix| prefix.len), past)?;
        let tokens: Vec<u32> = steps.iter().flat_map(|step| step.tokens).copied().collect();
        let tokens = Tensor::new(tokens, &Device::Cpu)?;
        let mut x = self.embedding.index_select(&tokens, 0)?; // (m, c)
        for (i, block) in self.blocks.iter().enumerate() {
            let shared = prefix.map(|prefix| &prefix.blocks[i]);
            let normed = rms_norm(&x, &block.attention_norm, self.shape.norm_epsilon)?;
            x = (x + block.attend(&self.shape, &normed, shared, &past.blocks[i], &places)?)?;
            let normed = rms_norm(&x, &block.feed_forward_norm, self.shape.norm_epsilon)?;
            x = (x + block.feed_forward(&normed)?)?;
        }
        let last: Vec<u32> = places
            .iter()
            .flat_map(Place::last_tokens)
            .map(u32::try_from)
            .collect::<Result<_, _>>()?;
        let rows = last.len();
        // A lone row goes twice: for one row gemm adds in another order.
        let last = if rows == 1 { vec![last[0]; 2] } else { last };
        let last = x.index_select(&Tensor::new(last, &Device::Cpu)?, 0)?; // (rows or 2, c)
        let last = rms_norm(&last, &self.norm, self.shape.norm_epsilon)?;
        Ok(self.output.forward(&last)?.narrow(0, 0, rows)?)
    }
}

/// Where the tokens of a step stand, for every block alike.
struct Place<'a> {
    step: &'a Step<'a>,
    /// Its tokens begin here among those of all steps.
    start: usize,
    b: usize,
    l: usize,
    /// Positions of a slot that are looked at. Letter t where a step is meant.
    t: usize,
    /// (b, l, d / 2)
    cos: Tensor,
    sin: Tensor,
    /// 0 where a token sees a position of its slot, else minus infinity: (b, 1, 1, l, t).
    mask: Tensor,
}

impl<'a> Place<'a> {
    fn all(
        llama: &Llama,
        steps: &'a [Step<'a>],
        before: usize,
        past: &Past,
    ) -> Result<Vec<Place<'a>>> {
        let mut start = 0;
        let place = |step: &'a Step<'a>| {
            let place = Place::new(llama, step, start, before, past);
            start += step.tokens.len();
            place
        };
        steps.iter().map(place).collect()
    }

    fn new(
        llama: &Llama,
        step: &'a Step<'a>,
        start: usize,
        before: usize,
        past: &Past,
    ) -> Result<Place<'a>> {
        let b = step.filled.len();
        let l = step.tokens.len() / b.max(1);
        let filled = step.filled.iter().max().map_or(0, |filled| filled + l);
        ensure!(filled <= past.capacity, "a row is too long for its slot");
        let t = match b {
            1 => filled,
            _ => seen_together(before, filled).min(past.capacity),
        };
        let own = || step.filled.iter().flat_map(|filled| (0..l).map(move |i| filled + i));
        let positions: Vec<u32> =
            own().map(|own| u32::try_from(before + own)).collect::<Result<_, _>>()?;
        let positions = Tensor::new(positions, &Device::Cpu)?;
        let at = |table: &Tensor| table.index_select(&positions, 0)?.reshape((b, l, ()));
        let sees = |own: usize| (0..t).map(move |j| if j > own { f32::NEG_INFINITY } else { 0.0 });
        let mask: Vec<f32> = own().flat_map(sees).collect();
        let mask = Tensor::from_vec(mask, (b, 1, 1, l, t), &Device::Cpu)?;
        Ok(Place { step, start, b, l, t, cos: at(&llama.cos)?, sin: at(&llama.sin)?, mask })
    }

    /// The last token of each row, among those of all steps.
    fn last_tokens(&self) -> impl Iterator<Item = usize> {
        (1..=self.b).map(|row| self.start + row * self.l - 1)
    }

    /// The tokens of this step: (b * l, c) of (m, c).
    fn of(&self, all: &Tensor) -> Result<Tensor> {
        Ok(all.narrow(0, self.start, self.b * self.l)?)
    }
}

/// Positions that rows look at together, so that what is beyond a row's own cannot change its sums: what
/// is masked adds zero, and with whole registers nothing before it moves to another lane.
fn seen_together(before: usize, filled: usize) -> usize {
    const LANES: usize = 32;
    (before + filled).next_multiple_of(LANES) - before
}

impl Block {
    fn load(gguf: &mut Gguf, index: usize, weights: Weights) -> Result<Block> {
        let shape = gguf.shape.clone();
        let (c, keys, wide) = (shape.width, shape.kv_heads * shape.head_width, shape.feed_forward);
        let name = |part: &str| format!("blk.{index}.{part}.weight");
        let mut load = |part: &str, rows: usize, columns: usize| {
            Linear::new(gguf.tensor(&name(part), &[rows, columns])?, weights)
        };
        let (q, k, v) = (load("attn_q", c, c)?, load("attn_k", keys, c)?, load("attn_v", keys, c)?);
        let (o, gate) = (load("attn_output", c, c)?, load("ffn_gate", wide, c)?);
        let (up, down) = (load("ffn_up", wide, c)?, load("ffn_down", c, wide)?);
        let attention_norm = vector(gguf, &name("attn_norm"), c)?;
        let feed_forward_norm = vector(gguf, &name("ffn_norm"), c)?;
        Ok(Block { attention_norm, q, k, v, o, feed_forward_norm, gate, up, down })
    }

    /// # Shapes
    /// - x, result: (m, c)
    /// - shared: (n, p, d) each
    /// - own: (slots, n, capacity, d) each
    fn attend(
        &self,
        shape: &Shape,
        x: &Tensor,
        shared: Option<&(Tensor, Tensor)>,
        own: &(Tensor, Tensor),
        places: &[Place<'_>],
    ) -> Result<Tensor> {
        let (q, k, v) = (self.q.forward(x)?, self.k.forward(x)?, self.v.forward(x)?);
        let one = |place: &Place<'_>| {
            let qkv = [place.of(&q)?, place.of(&k)?, place.of(&v)?];
            attend_place(shape, qkv, shared, own, place)
        };
        let seen = places.iter().map(one).collect::<Result<Vec<_>>>()?;
        self.o.forward(&Tensor::cat(&seen, 0)?)
    }

    fn feed_forward(&self, x: &Tensor) -> Result<Tensor> {
        let gate = self.gate.forward(x)?.silu()?;
        self.down.forward(&(gate * self.up.forward(x)?)?)
    }
}

/// What the rows of one step see.
///
/// # Shapes
/// - q, result: (b * l, h * d)
/// - k, v: (b * l, n * d)
fn attend_place(
    shape: &Shape,
    [q, k, v]: [Tensor; 3],
    shared: Option<&(Tensor, Tensor)>,
    own: &(Tensor, Tensor),
    place: &Place<'_>,
) -> Result<Tensor> {
    let (b, l, h, n, d) = (place.b, place.l, shape.heads, shape.kv_heads, shape.head_width);
    let (g, t) = (h / n, place.t);
    let split = |y: Tensor, heads| y.reshape((b, l, heads, d))?.transpose(1, 2)?.contiguous();
    let q = rope_i(&split(q, h)?, &place.cos, &place.sin)?; // (b, h, l, d)
    let k = rope_i(&split(k, n)?, &place.cos, &place.sin)?; // (b, n, l, d)
    keep(&own.0, &k, place.step)?;
    keep(&own.1, &split(v, n)?, place.step)?;

    // Scaling the query once is cheaper than scaling its score with every position.
    let q = (q / (d as f64).sqrt())?.reshape((b, n, g * l, d))?;
    let scores = rows_of(&own.0, place)?.transpose(2, 3)?;
    let scores = q.matmul(&scores)?.reshape((b, n, g, l, t))?; // own positions
    let scores = scores.broadcast_add(&place.mask)?.reshape((b, n, g * l, t))?;
    let values = rows_of(&own.1, place)?;
    let seen = match shared {
        None => softmax_last_dim(&scores)?.matmul(&values)?,
        Some(shared) => attend_both(&q, shared, &scores, &values)?,
    }; // (b, n, g * l, d)
    Ok(seen.reshape((b, h, l, d))?.transpose(1, 2)?.reshape((b * l, h * d))?)
}

/// One softmax over the positions of the prefix and of the slot, without joining their keys: all
/// rows meet the prefix in one product.
///
/// # Shapes
/// - q, result: (b, n, g * l, d)
/// - scores: (b, n, g * l, t), values: (b, n, t, d)
fn attend_both(
    q: &Tensor,
    (keys, shared_values): &(Tensor, Tensor),
    scores: &Tensor,
    values: &Tensor,
) -> Result<Tensor> {
    let (b, n, gl, d) = q.dims4()?;
    let (p, t) = (keys.dim(1)?, scores.dim(3)?);
    let together = |y: &Tensor, last| y.transpose(0, 1)?.reshape((n, b * gl, last));
    let apart = |y: &Tensor, last| y.reshape((n, b, gl, last))?.transpose(0, 1)?.contiguous();
    let before = together(q, d)?.matmul(&keys.transpose(1, 2)?)?; // (n, b * g * l, p)
    let all = softmax_last_dim(&Tensor::cat(&[&before, &together(scores, t)?], D::Minus1)?)?;
    let before = all.narrow(2, 0, p)?.contiguous()?.matmul(shared_values)?;
    let own = apart(&all.narrow(2, p, t)?.contiguous()?, t)?.matmul(values)?;
    Ok((apart(&before, d)? + own)?)
}

/// The slots of this step: (b, n, t, d).
fn rows_of(slots: &Tensor, place: &Place<'_>) -> Result<Tensor> {
    Ok(slots.narrow(0, place.step.first_slot, place.b)?.narrow(2, 0, place.t)?)
}

/// Writes the new (b, n, l, d) behind what is in each slot.
fn keep(slots: &Tensor, new: &Tensor, step: &Step<'_>) -> Result<()> {
    for (i, filled) in step.filled.iter().enumerate() {
        let slot = slots.narrow(0, step.first_slot + i, 1)?;
        slot.slice_set(&new.narrow(0, i, 1)?, 2, *filled)
            .context("a row is too long for its slot")?;
    }
    Ok(())
}

/// A matrix of weights.
enum Linear {
    /// (in, out): in this order gemm reads it as it is, in the file's it is copied for every product.
    Unpacked(Tensor),
    Packed(QMatMul),
}

impl Linear {
    fn new(tensor: QTensor, weights: Weights) -> Result<Linear> {
        if weights == Weights::Unpacked {
            return Ok(Linear::Unpacked(tensor.dequantize(&Device::Cpu)?.t()?.contiguous()?));
        }
        // Measured in candle 0.11: these fall to scalar code, three times slower than Q8_0.
        let slow = matches!(tensor.dtype(), GgmlDType::Q4_1 | GgmlDType::Q5_0 | GgmlDType::Q5_1);
        let tensor = match slow {
            true => QTensor::quantize(&tensor.dequantize(&Device::Cpu)?, GgmlDType::Q8_0)?,
            false => tensor,
        };
        Ok(Linear::Packed(QMatMul::from_qtensor(tensor)?))
    }

    /// # Shapes
    /// - x: (m, in), result: (m, out)
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Linear::Unpacked(weights) => Ok(x.matmul(weights)?),
            Linear::Packed(weights) => Ok(weights.forward(x)?),
        }
    }
}

fn vector(gguf: &mut Gguf, name: &str, len: usize) -> Result<Tensor> {
    Ok(gguf.tensor(name, &[len])?.dequantize(&Device::Cpu)?)
}

/// Cosine and sine of every position and pair of numbers: (positions, d / 2) each.
fn turns(gguf: &mut Gguf) -> Result<(Tensor, Tensor)> {
    let shape = gguf.shape.clone();
    let pairs = shape.head_width / 2;
    let factors = match gguf.has(ROPE_FACTORS) {
        true => vector(gguf, ROPE_FACTORS, pairs)?.to_vec1::<f32>()?,
        false => vec![1.0; pairs],
    };
    let speed = |(i, factor): (usize, &f32)| {
        1.0 / (shape.rope_base.powf(2.0 * i as f32 / shape.head_width as f32) * factor)
    };
    let speeds: Vec<f32> = factors.iter().enumerate().map(speed).collect();
    let positions = Tensor::arange(0_f32, shape.positions as f32, &Device::Cpu)?;
    let angles = positions
        .reshape(((), 1))?
        .matmul(&Tensor::new(speeds, &Device::Cpu)?.reshape((1, ()))?)?;
    Ok((angles.cos()?, angles.sin()?))
}
