//! WKV6 from candle operations, differentiable on any device: quadratic inside chunks of tokens, a
//! state from chunk to chunk.
//!
//! Decays stay logarithms until they are differences of prefix sums over the tokens between two
//! places, all of them at most zero. r·e^P and k·e^-P apart, one product instead of a tensor of
//! (chunk, chunk, N), overflow where decays are strong.

use candle_core::D;
use candle_core::Result;
use candle_core::Tensor;

use super::Wkv;

/// Tokens of a chunk, unless told otherwise: the length the literature uses for sub-chunks.
pub(crate) const CHUNK: usize = 16;

/// The strongest decay of a token, minus its logarithm: what is left, 4e-18, is nothing beside what the
/// next token adds, while sums of larger numbers would lose the small differences in f32.
const STRONGEST: f64 = 40.0;

/// The operator in chunks of so many tokens; [`wkv`](super::wkv) runs it where there is no kernel.
///
/// # Shapes
/// `r`, `k`, `v`, `w`: (B, T, C), `u`: (H, N) with H N = C -> (B, T, C)
///
/// # Errors
/// When the shapes do not fit.
pub fn chunked(
    r: &Tensor,
    k: &Tensor,
    v: &Tensor,
    w: &Tensor,
    u: &Tensor,
    chunk: usize,
) -> Result<Tensor> {
    let (b, t, c) = r.dims3()?;
    let (h, n) = u.dims2()?;
    Wkv::of(r, [k, v, w], u)?;
    let l = chunk.min(t);
    if l == 0 {
        candle_core::bail!("chunks of no tokens");
    }
    let chunks = t.div_ceil(l);
    // Tokens that fill the last chunk have k = 0 and no decay: they change nothing.
    let split = |x: &Tensor| {
        let x = x.pad_with_zeros(1, 0, chunks * l - t)?;
        x.reshape((b, chunks, l, h, n))?.permute((0, 3, 1, 2, 4))?.contiguous() // (B, H, chunks, L, N)
    };
    let bonus = (r.mul(k)?.reshape((b, t, h, n))?.broadcast_mul(u)?).sum_keepdim(D::Minus1)?;
    let own = bonus.broadcast_mul(&v.reshape((b, t, h, n))?)?.reshape((b, t, c))?;

    let (r, k, v) = (split(r)?, split(k)?, split(v)?);
    // Held before the exponential: behind it the gradient would be zero times infinity.
    let log_decay = split(&w.minimum(STRONGEST.ln())?.exp()?.neg()?)?;
    let upto = prefix_sums(&log_decay)?; // P: this token's decay included
    let before = upto.sub(&log_decay)?; // E: not included
    let all = upto.narrow(3, l - 1, 1)?; // (B, H, chunks, 1, N)

    // Within a chunk: what a token gets of one before it decays by E_t - P_j, of one after by E_j - P_t.
    let (one, other) = ((b, h, chunks, l, 1, n), (b, h, chunks, 1, l, n));
    let from_before = before.reshape(one)?.broadcast_sub(&upto.reshape(other)?)?; // (B, H, chunks, L at, L from, N)
    let from_after = before.reshape(other)?.broadcast_sub(&upto.reshape(one)?)?;
    let (earlier, later) = masks(l, &r)?;
    // On the other side of the diagonal exponents are positive: held at zero, then masked away.
    let decayed = (from_before.minimum(0.0)?.exp()?.broadcast_mul(&earlier)?
        + from_after.minimum(0.0)?.exp()?.broadcast_mul(&later)?)?;
    let pairs = r.reshape(one)?.broadcast_mul(&k.reshape(other)?)?;
    let weights = pairs.mul(&decayed)?.sum(D::Minus1)?; // (B, H, chunks, L, L)
    let within = product(&weights, &v)?; // (B, H, chunks, L, N)

    // Between chunks: the state that comes in from the left, and the one from the right.
    let left_keys = k.mul(&all.broadcast_sub(&upto)?.exp()?)?;
    let right_keys = k.mul(&before.exp()?)?;
    let from_left = r.mul(&before.exp()?)?;
    let from_right = r.mul(&all.broadcast_sub(&upto)?.exp()?)?;
    let forth = carried(&left_keys, &v, &all, (0..chunks).collect())?;
    let back = carried(&right_keys, &v, &all, (0..chunks).rev().collect())?;
    let between = (product(&from_left, &forth)? + product(&from_right, &back)?)?;

    let y = (within + between)?.permute((0, 2, 3, 1, 4))?.contiguous()?;
    let y = y.reshape((b, chunks * l, c))?.narrow(1, 0, t)?;
    y.contiguous()? + own
}

/// Over the tokens of a chunk, as a product with a triangle of ones: candle's `cumsum` transposes
/// for the same.
fn prefix_sums(x: &Tensor) -> Result<Tensor> {
    let (b, h, chunks, l, _) = x.dims5()?;
    let ones = Tensor::tril2(l, x.dtype(), x.device())?;
    product(&ones.broadcast_as((b, h, chunks, l, l))?, x)
}

/// A product of the last two of five dimensions. Of three, for candle: with more, dimensions of
/// length 1 keep it from seeing that the numbers lie in order.
fn product(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (x, y, z, rows, inner) = a.dims5()?;
    let columns = b.dim(D::Minus1)?;
    let a = a.contiguous()?.reshape((x * y * z, rows, inner))?;
    let b = b.contiguous()?.reshape((x * y * z, inner, columns))?;
    a.matmul(&b)?.reshape((x, y, z, rows, columns))
}

/// Ones where `from` is before `at`, and where it is after: (L at, L from, 1).
fn masks(l: usize, like: &Tensor) -> Result<(Tensor, Tensor)> {
    let upto = Tensor::tril2(l, like.dtype(), like.device())?;
    let earlier = upto.sub(&Tensor::eye(l, like.dtype(), like.device())?)?;
    let later = earlier.t()?.contiguous()?;
    Ok((earlier.reshape((l, l, 1))?, later.reshape((l, l, 1))?))
}

/// For every chunk the state (key, value) that it finds, chunks visited in the order given:
/// (B, H, chunks, N, N).
fn carried(keys: &Tensor, values: &Tensor, all: &Tensor, order: Vec<usize>) -> Result<Tensor> {
    let (b, h, chunks, _, n) = keys.dims5()?;
    let added = product(&keys.transpose(3, 4)?, values)?; // (B, H, chunks, N, N)
    let kept = all.exp()?.transpose(3, 4)?; // (B, H, chunks, N, 1)
    let mut state = Tensor::zeros((b, h, n, n), keys.dtype(), keys.device())?;
    let mut states = vec![state.clone(); chunks];
    for chunk in order {
        states[chunk] = state.clone();
        let at = |x: &Tensor| x.narrow(2, chunk, 1)?.squeeze(2);
        state = (state.broadcast_mul(&at(&kept)?)? + at(&added)?)?;
    }
    Tensor::stack(&states, 2)
}
