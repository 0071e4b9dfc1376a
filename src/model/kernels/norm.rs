//! Layer norm, and the group norm over heads together with the gate that follows it.

use candle_core::D;
use candle_core::Result;
use candle_core::Shape;
use candle_core::Tensor;
use rayon::iter::IndexedParallelIterator;
use rayon::iter::ParallelIterator;
use rayon::slice::ParallelSlice;
use rayon::slice::ParallelSliceMut;

use super::Kernel;
use super::ROWS;
use super::Real;
use super::add_all;
use super::apply3;
use super::dot;
use super::sigmoid;
use super::sum;

/// (x - mean) / sqrt(variance + eps) ⊙ gamma + beta over the last dimension, biased variance.
///
/// # Shapes
/// `x`: (.., C), `gamma`, `beta`: (C) -> (.., C)
pub(crate) fn layer_norm(x: &Tensor, gamma: &Tensor, beta: &Tensor, eps: f64) -> Result<Tensor> {
    apply3(LayerNorm { width: gamma.dims1()?, eps }, x, gamma, beta)
}

/// norm(y) ⊙ silu(g): the norm is over the channels of one head of one token.
///
/// # Shapes
/// `y`, `g`: (.., C), `affine`: (2, C), gamma and beta -> (.., C)
pub(crate) fn group_norm_gate(
    y: &Tensor,
    g: &Tensor,
    affine: &Tensor,
    heads: usize,
    eps: f64,
) -> Result<Tensor> {
    let (_, width) = affine.dims2()?;
    apply3(GroupNormGate { width, group: width / heads, eps }, y, g, affine)
}

/// Rows whose share of a parameter's gradient is summed by one thread. Shares are added in the order of
/// the rows: how many threads there are changes no bit.
const BLOCK: usize = 64;

struct LayerNorm {
    width: usize,
    eps: f64,
}

/// Mean and 1 / sqrt(variance + eps); the variance from the differences, not from the squares, which
/// would cancel.
#[inline(always)]
fn moments<T: Real>(x: &[T], eps: f64) -> (T, T) {
    let n = T::from_f64(x.len() as f64);
    let mean = sum(x) / n;
    let mut squares = [T::zero(); super::LANES];
    let (chunks, rest) = x.as_chunks::<{ super::LANES }>();
    for chunk in chunks {
        for (square, &x) in squares.iter_mut().zip(chunk) {
            *square += (x - mean) * (x - mean);
        }
    }
    let rest: T = rest.iter().map(|&x| (x - mean) * (x - mean)).sum();
    let variance = (squares.into_iter().sum::<T>() + rest) / n;
    (mean, T::one() / (variance + T::from_f64(eps)).sqrt())
}

impl Kernel<3> for LayerNorm {
    const NAME: &'static str = "layer-norm";

    fn shape(&self, [x, _, _]: [&Shape; 3]) -> Shape {
        x.clone()
    }

    fn forward<T: Real>(&self, [x, gamma, beta]: [&[T]; 3], out: &mut [T]) {
        let c = self.width;
        let rows = out.par_chunks_mut(c).zip(x.par_chunks(c)).with_min_len(ROWS);
        rows.for_each(|(out, x)| norm_row(x, gamma, beta, self.eps, out));
    }

    fn backward<T: Real>(
        &self,
        [x, gamma, _]: [&[T]; 3],
        _: &[T],
        grad: &[T],
        [dx, dgamma, dbeta]: [&mut [T]; 3],
    ) {
        let c = self.width;
        let blocks = dx.par_chunks_mut(BLOCK * c).zip(x.par_chunks(BLOCK * c));
        let found = blocks.zip(grad.par_chunks(BLOCK * c)).map(|((dx, x), grad)| {
            let (mut dgamma, mut dbeta) = (vec![T::zero(); c], vec![T::zero(); c]);
            let rows = dx.chunks_exact_mut(c).zip(x.chunks_exact(c)).zip(grad.chunks_exact(c));
            for ((dx, x), grad) in rows {
                norm_row_back(x, gamma, grad, self.eps, dx, &mut dgamma, &mut dbeta);
            }
            (dgamma, dbeta)
        });
        let (gammas, betas): (Vec<_>, Vec<_>) = found.unzip();
        add_all(dgamma, gammas);
        add_all(dbeta, betas);
    }

    fn twin(&self, [x, gamma, beta]: [&Tensor; 3]) -> Result<Tensor> {
        normed(x, self.eps)?.broadcast_mul(gamma)?.broadcast_add(beta)
    }
}

/// Over the last dimension, without an affine part.
fn normed(x: &Tensor, eps: f64) -> Result<Tensor> {
    let x = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    x.broadcast_div(&(x.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?)
}

struct GroupNormGate {
    width: usize,
    group: usize,
    eps: f64,
}

impl Kernel<3> for GroupNormGate {
    const NAME: &'static str = "group-norm-gate";

    fn shape(&self, [y, _, _]: [&Shape; 3]) -> Shape {
        y.clone()
    }

    fn forward<T: Real>(&self, [y, g, affine]: [&[T]; 3], out: &mut [T]) {
        let (c, n) = (self.width, self.group);
        let (gamma, beta) = affine.split_at(c);
        let rows = out.par_chunks_mut(c).zip(y.par_chunks(c)).zip(g.par_chunks(c));
        rows.with_min_len(ROWS).for_each(|((out, y), g)| {
            for at in (0..c).step_by(n) {
                let head = at..at + n;
                let (y, g, out) = (&y[head.clone()], &g[head.clone()], &mut out[head.clone()]);
                norm_gate_head(y, g, &gamma[head.clone()], &beta[head], self.eps, out);
            }
        });
    }

    fn backward<T: Real>(
        &self,
        [y, g, affine]: [&[T]; 3],
        _: &[T],
        grad: &[T],
        [dy, dg, daffine]: [&mut [T]; 3],
    ) {
        let (c, n) = (self.width, self.group);
        let (gamma, beta) = affine.split_at(c);
        let block = BLOCK * c;
        let blocks = dy.par_chunks_mut(block).zip(dg.par_chunks_mut(block));
        let blocks = blocks.zip(y.par_chunks(block)).zip(g.par_chunks(block));
        let found = blocks.zip(grad.par_chunks(block)).map(|((((dy, dg), y), g), grad)| {
            let mut found = vec![T::zero(); 2 * c];
            let (dgamma, dbeta) = found.split_at_mut(c);
            // Heads of all rows, one after the other.
            for at in (0..y.len()).step_by(n) {
                let (head, of_row) = (at..at + n, at % c..at % c + n);
                let (dy, dg) = (&mut dy[head.clone()], &mut dg[head.clone()]);
                let (y, g, grad) = (&y[head.clone()], &g[head.clone()], &grad[head]);
                let (gamma, beta) = (&gamma[of_row.clone()], &beta[of_row.clone()]);
                let (dgamma, dbeta) = (&mut dgamma[of_row.clone()], &mut dbeta[of_row]);
                norm_gate_head_back(y, g, gamma, beta, grad, self.eps, dy, dg, dgamma, dbeta);
            }
            found
        });
        add_all(daffine, found.collect::<Vec<_>>());
    }

    fn twin(&self, [y, g, affine]: [&Tensor; 3]) -> Result<Tensor> {
        let mut by_head = y.dims().to_vec();
        by_head.pop();
        by_head.extend([self.width / self.group, self.group]);
        let z = normed(&y.reshape(by_head)?, self.eps)?.reshape(y.shape())?; // (.., H, N) -> (.., C)
        let z = z.broadcast_mul(&affine.get(0)?)?.broadcast_add(&affine.get(1)?)?;
        z.mul(&candle_nn::ops::silu(g)?)
    }
}

wide! {
    fn norm_row<T: Real>(x: &[T], gamma: &[T], beta: &[T], eps: f64, out: &mut [T]) {
        let (mean, scale) = moments(x, eps);
        for (((out, &x), &gamma), &beta) in out.iter_mut().zip(x).zip(gamma).zip(beta) {
            *out = ((x - mean) * scale).mul_add(gamma, beta);
        }
    }

    fn norm_row_back<T: Real>(
        x: &[T],
        gamma: &[T],
        grad: &[T],
        eps: f64,
        dx: &mut [T],
        dgamma: &mut [T],
        dbeta: &mut [T],
    ) {
        let c = dx.len();
        let (mean, scale) = moments(x, eps);
        let (x, gamma, grad) = (&x[..c], &gamma[..c], &grad[..c]);
        let (dgamma, dbeta) = (&mut dgamma[..c], &mut dbeta[..c]);
        for i in 0..c {
            dx[i] = grad[i] * gamma[i];
            dgamma[i] = (grad[i] * (x[i] - mean)).mul_add(scale, dgamma[i]);
            dbeta[i] += grad[i];
        }
        of_the_normed(x, mean, scale, dx);
    }

    fn norm_gate_head<T: Real>(
        y: &[T],
        g: &[T],
        gamma: &[T],
        beta: &[T],
        eps: f64,
        out: &mut [T],
    ) {
        let n = out.len();
        let (mean, scale) = moments(y, eps);
        let (y, g, gamma, beta) = (&y[..n], &g[..n], &gamma[..n], &beta[..n]);
        for i in 0..n {
            let z = ((y[i] - mean) * scale).mul_add(gamma[i], beta[i]);
            out[i] = z * g[i] * sigmoid(g[i]);
        }
    }

    fn norm_gate_head_back<T: Real>(
        y: &[T],
        g: &[T],
        gamma: &[T],
        beta: &[T],
        grad: &[T],
        eps: f64,
        dy: &mut [T],
        dg: &mut [T],
        dgamma: &mut [T],
        dbeta: &mut [T],
    ) {
        let n = dy.len();
        let (mean, scale) = moments(y, eps);
        let (y, g, grad, gamma, beta) = (&y[..n], &g[..n], &grad[..n], &gamma[..n], &beta[..n]);
        let (dg, dgamma, dbeta) = (&mut dg[..n], &mut dgamma[..n], &mut dbeta[..n]);
        for i in 0..n {
            let (open, hat) = (sigmoid(g[i]), (y[i] - mean) * scale);
            let dz = grad[i] * g[i] * open;
            let z = hat.mul_add(gamma[i], beta[i]);
            dg[i] = grad[i] * z * open * (T::one() + g[i] * (T::one() - open));
            dgamma[i] = dz.mul_add(hat, dgamma[i]);
            dbeta[i] += dz;
            dy[i] = dz * gamma[i];
        }
        of_the_normed(y, mean, scale, dy);
    }
}

/// `dx` is the gradient of the normed x; what lies along 1 and along x itself is taken out of it.
#[inline(always)]
fn of_the_normed<T: Real>(x: &[T], mean: T, scale: T, dx: &mut [T]) {
    let n = T::from_f64(x.len() as f64);
    let total = sum(dx);
    let along_one = total / n;
    let along_x = (dot(dx, x) - mean * total) * scale * scale / n;
    for (dx, &x) in dx.iter_mut().zip(x) {
        *dx = (*dx - along_one - (x - mean) * along_x) * scale;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::kernels::tests::agrees;
    use crate::model::kernels::tests::numbers;

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        let inputs = [numbers((400, 24), 1), numbers(24, 2), numbers(24, 3)];
        let gradient = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let vars = inputs.each_ref().map(|x| {
                let x = x.to_dtype(candle_core::DType::F32).unwrap();
                candle_core::Var::from_tensor(&x).unwrap()
            });
            pool.install(|| {
                let [x, gamma, beta] = vars.each_ref().map(|v| v.as_tensor());
                let y = layer_norm(x, gamma, beta, 1e-5).unwrap();
                let grads = y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
                grads.get(gamma).unwrap().to_vec1::<f32>().unwrap()
            })
        };
        assert_eq!(gradient(1), gradient(5));
    }

    #[test]
    fn norms_agree_with_their_twins() {
        for width in [7, 48] {
            let kernel = LayerNorm { width, eps: 1e-5 };
            agrees(
                |[x, gamma, beta]| layer_norm(x, gamma, beta, 1e-5),
                |inputs| kernel.twin(inputs),
                [numbers((3, 11, width), 1), numbers(width, 2), numbers(width, 3)],
            );
        }
        for heads in [2, 6] {
            let kernel = GroupNormGate { width: 48, group: 48 / heads, eps: 6.4e-4 };
            agrees(
                |[y, g, affine]| group_norm_gate(y, g, affine, heads, 6.4e-4),
                |inputs| kernel.twin(inputs),
                [numbers((3, 11, 48), 1), numbers((3, 11, 48), 2), numbers((2, 48), 3)],
            );
        }
    }
}
