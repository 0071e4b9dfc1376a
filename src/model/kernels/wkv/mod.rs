//! WKV6 in both directions: what RWKV has in the place of attention.
//!
//! For every head, with decay a = exp(-exp(w)), state (key x value) zero at first:
//!
//! ```text
//! forth:  y_t  = r_t (S_t + diag(u) k_t v_t);  S_{t+1} = diag(a_t) S_t + k_t v_t     t = 0..T
//! back:   y_t += r_t R_t;                      R_{t-1} = diag(a_t) R_t + k_t v_t     t = T..0
//! ```
//!
//! The decay of a token acts when the state passes that token, never on what the token itself adds,
//! so those of the first and the last token have no influence. Nothing is divided by anything.
//! Source: the operator of RWKV-CLIP (EMNLP 2024) and of Vision-RWKV.
//!
//! Three forms: [`naive`] is the definition; [`scan`] runs on the CPU, a state a head in the first
//! cache and all heads at once; [`mod@chunked`] is made of candle operations for every other device.
//! `cargo bench --bench rwkv_clip -- wkv` measures the last two.

mod chunked;
pub mod naive;
mod scan;

use candle_core::Result;
use candle_core::Shape;
use candle_core::Tensor;
use rayon::iter::IndexedParallelIterator;
use rayon::iter::ParallelIterator;
use rayon::slice::ParallelSliceMut;

use super::Kernel;
use super::ROWS;
use super::Real;
use super::add_all;
use super::apply2;
pub use chunked::chunked;
use scan::Head;

/// The operator, differentiable in all five inputs.
///
/// # Shapes
/// `r`, `k`, `v`, `w`: (B, T, C), `w` raw (decay = exp(-exp(w))); `u`: (H, N) with H N = C
/// -> (B, T, C)
///
/// # Errors
/// When the shapes do not fit.
pub fn wkv(r: &Tensor, k: &Tensor, v: &Tensor, w: &Tensor, u: &Tensor) -> Result<Tensor> {
    let kernel = Wkv::of(r, [k, v, w], u)?;
    let (b, t, c) = r.dims3()?;
    let rkvw = Tensor::cat(&[r, k, v, w], 0)?.reshape((4, b, t, c))?;
    apply2(kernel, &rkvw, u)
}

/// Packed, because candle's custom operations take three tensors at most: r, k, v, w as one
/// (4, B, T, C), and u.
struct Wkv {
    tokens: usize,
    heads: usize,
    width: usize,
}

impl Wkv {
    fn of(r: &Tensor, others: [&Tensor; 3], u: &Tensor) -> Result<Wkv> {
        let (_, tokens, channels) = r.dims3()?;
        let (heads, width) = u.dims2()?;
        if heads * width != channels {
            candle_core::bail!("{channels} channels are not {heads} heads of {width}");
        }
        if tokens == 0 || channels == 0 {
            candle_core::bail!("{tokens} tokens of {channels} channels: there is nothing to mix");
        }
        if let Some(other) = others.into_iter().find(|other| other.shape() != r.shape()) {
            candle_core::bail!("r is {:?}, k, v or w {:?}", r.shape(), other.shape());
        }
        Ok(Wkv { tokens, heads, width })
    }
}

impl Kernel<2> for Wkv {
    const NAME: &'static str = "wkv6";

    fn shape(&self, [rkvw, _]: [&Shape; 2]) -> Shape {
        Shape::from_dims(&rkvw.dims()[1..])
    }

    fn forward<T: Real>(&self, [rkvw, u]: [&[T]; 2], out: &mut [T]) {
        let (t, n) = (self.tokens, self.width);
        // Heads write side by side, (B, H, T, N), so that each has a slice of its own.
        let mut by_head = vec![T::zero(); out.len()];
        by_head.par_chunks_mut(t * n).enumerate().for_each(|(i, y)| {
            let mut head = Head::gather(rkvw, t, self.heads, n, i);
            let mut state = vec![T::zero(); n * n];
            head.decays();
            head.bonus(&u[i % self.heads * n..][..n], y);
            head.read(0..t, &mut state, y);
            state.fill(T::zero());
            head.read((0..t).rev(), &mut state, y);
        });
        self.by_token(&by_head, out);
    }

    fn backward<T: Real>(
        &self,
        [rkvw, u]: [&[T]; 2],
        _: &[T],
        grad: &[T],
        [drkvw, du]: [&mut [T]; 2],
    ) {
        let (t, n, c) = (self.tokens, self.width, self.heads * self.width);
        let one = t * n;
        // A head's gradients side by side: r, k, v, w (T, N) each, then u (N).
        let mut by_head = vec![T::zero(); drkvw.len() + grad.len() / t * u.len() / c];
        by_head.par_chunks_mut(4 * one + n).enumerate().for_each(|(i, found)| {
            let mut head = Head::gather(rkvw, t, self.heads, n, i);
            head.decays();
            let g = scan::columns(grad, t, self.heads, n, i);
            let (found, du) = found.split_at_mut(4 * one);
            head.gradients(&u[i % self.heads * n..][..n], &g, found, du);
        });
        let plane = grad.len();
        for (j, plane) in drkvw.chunks_exact_mut(plane).enumerate() {
            plane.par_chunks_mut(c).with_min_len(ROWS).enumerate().for_each(|(row, to)| {
                for (h, to) in to.chunks_exact_mut(n).enumerate() {
                    let head = (row / t * self.heads + h) * (4 * one + n);
                    to.copy_from_slice(&by_head[head + j * one + row % t * n..][..n]);
                }
            });
        }
        for (i, head) in by_head.chunks_exact(4 * one + n).enumerate() {
            let du = &mut du[i % self.heads * n..][..n];
            add_all(du, [&head[4 * one..]]);
        }
    }

    fn twin(&self, [rkvw, u]: [&Tensor; 2]) -> Result<Tensor> {
        let part = |i| rkvw.get(i);
        chunked(&part(0)?, &part(1)?, &part(2)?, &part(3)?, u, chunked::CHUNK)
    }
}

impl Wkv {
    /// (B, H, T, N) -> (B, T, H, N)
    fn by_token<T: Real>(&self, by_head: &[T], out: &mut [T]) {
        let (t, n) = (self.tokens, self.width);
        let rows = out.par_chunks_mut(self.heads * n).with_min_len(ROWS).enumerate();
        rows.for_each(|(row, to)| {
            for (h, to) in to.chunks_exact_mut(n).enumerate() {
                let head = (row / t * self.heads + h) * t * n;
                to.copy_from_slice(&by_head[head + row % t * n..][..n]);
            }
        });
    }
}

/// One half of the operator as a stream: tokens may come in pieces of any length, and all that is
/// kept between them is a state of constant size.
///
/// This is the "RNN form", and what it is worth for this model has to be said plainly. Either half
/// alone is exact in this form: [`Direction::Forth`] with the bonus, [`Direction::Back`] fed from the
/// last token to the first. The *operator* is their sum, so its value at a token needs the whole
/// sequence after it; and in the model each layer's input holds the neighbour on the right as well.
/// So no output of the towers can be given before the last token has been read. What the recurrence
/// buys is memory: two passes with a state of H N² numbers, and no T² anywhere.
pub struct Stream {
    direction: Direction,
    state: Tensor,
}

/// Which half of the operator.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Direction {
    /// From the first token on, with the bonus u for the token itself.
    Forth,
    /// From the last token on, without the token itself.
    Back,
}

impl Stream {
    /// A state that has seen nothing.
    ///
    /// # Shapes
    /// `u`: (H, N), of which only the sizes are read; `batch` is B
    ///
    /// # Errors
    /// When `u` is no matrix.
    pub fn new(direction: Direction, batch: usize, u: &Tensor) -> Result<Stream> {
        let (h, n) = u.dims2()?;
        let state = Tensor::zeros((batch, h, n, n), u.dtype(), u.device())?;
        Ok(Stream { direction, state })
    }

    /// The state.
    ///
    /// # Shapes
    /// (B, H, N keys, N values)
    pub fn state(&self) -> &Tensor {
        &self.state
    }

    /// This half of the operator for the next tokens, in the order of the text: going back, pieces are
    /// given from the last to the first. No gradients.
    ///
    /// # Shapes
    /// `r`, `k`, `v`, `w`: (B, t, C), `u`: (H, N) -> (B, t, C)
    ///
    /// # Errors
    /// When the shapes do not fit each other or the state, or the tensors are not f32 on the CPU.
    pub fn next(
        &mut self,
        r: &Tensor,
        k: &Tensor,
        v: &Tensor,
        w: &Tensor,
        u: &Tensor,
    ) -> Result<Tensor> {
        let kernel = Wkv::of(r, [k, v, w], u)?;
        let (b, t, c) = r.dims3()?;
        let (heads, n) = (kernel.heads, kernel.width);
        if self.state.dims() != [b, heads, n, n] {
            candle_core::bail!("a state of {:?} for a batch of {b}", self.state.shape());
        }
        let rkvw = Tensor::cat(&[r, k, v, w], 0)?.flatten_all()?.to_vec1::<f32>()?;
        let u = u.flatten_all()?.to_vec1::<f32>()?;
        let mut state = self.state.flatten_all()?.to_vec1::<f32>()?;
        let mut by_head = vec![0.0; b * t * c];
        let heads_of_all = by_head.par_chunks_mut(t * n).zip(state.par_chunks_mut(n * n));
        heads_of_all.enumerate().for_each(|(i, (y, state))| {
            let mut head = Head::gather(&rkvw, t, heads, n, i);
            head.decays();
            match self.direction {
                Direction::Forth => {
                    head.bonus(&u[i % heads * n..][..n], y);
                    head.read(0..t, state, y);
                }
                Direction::Back => head.read((0..t).rev(), state, y),
            }
        });
        self.state = Tensor::from_vec(state, self.state.shape(), r.device())?;
        let mut out = vec![0.0; by_head.len()];
        kernel.by_token(&by_head, &mut out);
        Tensor::from_vec(out, (b, t, c), r.device())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::DType;
    use candle_core::Device;

    use super::*;
    use crate::model::kernels::tests::agrees;
    use crate::model::kernels::tests::far;
    use crate::model::kernels::tests::numbers;

    /// r, k, v, w, u; w about `decay`.
    fn inputs(b: usize, t: usize, h: usize, n: usize, decay: f64) -> [Tensor; 5] {
        let part = |seed| numbers((b, t, h * n), seed);
        [part(1), part(2), part(3), (part(4) + decay).unwrap(), numbers((h, n), 5)]
    }

    fn naive_tensor(x: &[Tensor; 5]) -> Tensor {
        let (b, t, c) = x[0].dims3().unwrap();
        let (h, n) = x[4].dims2().unwrap();
        let [r, k, v, w, u] =
            x.each_ref().map(|x| x.flatten_all().unwrap().to_vec1::<f64>().unwrap());
        let y = naive::wkv(&r, &k, &v, &w, &u, [b, t, h, n]);
        Tensor::from_vec(y, (b, t, c), &Device::Cpu).unwrap()
    }

    const SIZES: [[usize; 4]; 5] =
        [[2, 9, 2, 8], [1, 1, 3, 4], [1, 2, 1, 6], [2, 49, 2, 20], [1, 77, 2, 16]];
    /// Almost no decay, the usual, almost nothing left after one token, nothing at all.
    const DECAYS: [f64; 5] = [-12.0, -2.0, 1.0, 6.0, 95.0];

    #[test]
    fn every_form_computes_the_definition() {
        for [b, t, h, n] in SIZES {
            for decay in DECAYS {
                let x = inputs(b, t, h, n, decay);
                let wanted = naive_tensor(&x);
                let [r, k, v, w, u] = &x;
                let distance = far(&wkv(r, k, v, w, u).unwrap(), &wanted);
                assert!(distance < 1e-12, "scan, T {t}, decay {decay}: {distance:e}");
                for chunk in [1, 7, 16] {
                    let distance = far(&chunked(r, k, v, w, u, chunk).unwrap(), &wanted);
                    assert!(distance < 1e-9, "chunks of {chunk}, T {t}, {decay}: {distance:e}");
                }
                let [r, k, v, w, u] = x.each_ref().map(|x| x.to_dtype(DType::F32).unwrap());
                for found in [wkv(&r, &k, &v, &w, &u), chunked(&r, &k, &v, &w, &u, 16)] {
                    let distance = far(&found.unwrap(), &wanted);
                    assert!(distance < 1e-4, "f32, T {t}, decay {decay}: {distance:e}");
                }
            }
        }
    }

    #[test]
    fn gradients_are_those_of_the_chunked_form() {
        for [b, t, h, n] in SIZES {
            for decay in DECAYS {
                let [r, k, v, w, u] = inputs(b, t, h, n, decay);
                let rkvw = Tensor::stack(&[r, k, v, w], 0).unwrap();
                let kernel = || Wkv { tokens: t, heads: h, width: n };
                agrees(
                    |[rkvw, u]| apply2(kernel(), rkvw, u),
                    |[rkvw, u]| kernel().twin([rkvw, u]),
                    [rkvw, u],
                );
            }
        }
    }

    #[test]
    fn gradients_are_those_of_finite_differences_of_the_definition() {
        let (b, t, h, n) = (1, 5, 2, 4);
        let x = inputs(b, t, h, n, -0.5);
        let vars = x.each_ref().map(|x| candle_core::Var::from_tensor(x).unwrap());
        let weight = numbers((b, t, h * n), 7);
        let [r, k, v, w, u] = vars.each_ref().map(|v| v.as_tensor());
        let loss = wkv(r, k, v, w, u).unwrap().mul(&weight).unwrap().sum_all().unwrap();
        let grads = loss.backward().unwrap();
        let value = |x: &[Tensor; 5]| -> f64 {
            naive_tensor(x).mul(&weight).unwrap().sum_all().unwrap().to_scalar().unwrap()
        };
        for (i, var) in vars.iter().enumerate() {
            let found = grads.get(var).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
            for (j, found) in found.iter().enumerate() {
                let moved = |by: f64| {
                    let mut x = x.clone();
                    let mut numbers = x[i].flatten_all().unwrap().to_vec1::<f64>().unwrap();
                    numbers[j] += by;
                    x[i] = Tensor::from_vec(numbers, x[i].shape(), &Device::Cpu).unwrap();
                    value(&x)
                };
                let wanted = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                assert!((found - wanted).abs() < 1e-7, "input {i}, {j}: {found} {wanted}");
            }
        }
    }

    #[test]
    fn the_first_and_the_last_decay_have_no_influence() {
        let [r, k, v, w, u] = inputs(1, 6, 2, 4, -1.0);
        let w = candle_core::Var::from_tensor(&w).unwrap();
        let loss = wkv(&r, &k, &v, &w, &u).unwrap().sqr().unwrap().sum_all().unwrap();
        let grad = loss.backward().unwrap().get(&w).unwrap().to_vec3::<f64>().unwrap();
        assert!(grad[0][0].iter().chain(&grad[0][5]).all(|&g| g == 0.0));
        assert!(grad[0][1].iter().all(|&g| g != 0.0));
    }

    #[test]
    fn streams_in_pieces_of_any_length_add_up_to_the_whole() {
        let x = inputs(2, 11, 2, 6, -1.0).map(|x| x.to_dtype(DType::F32).unwrap());
        let [r, k, v, w, u] = &x;
        let whole = wkv(r, k, v, w, u).unwrap();
        let mut halves = Vec::new();
        for direction in [Direction::Forth, Direction::Back] {
            let mut stream = Stream::new(direction, 2, u).unwrap();
            let mut pieces = vec![(0, 1), (1, 1), (2, 5), (7, 4)];
            if direction == Direction::Back {
                pieces.reverse();
            }
            let mut found = Vec::new();
            for (from, len) in pieces {
                let part = |x: &Tensor| x.narrow(1, from, len).unwrap();
                found.push(stream.next(&part(r), &part(k), &part(v), &part(w), u).unwrap());
            }
            if direction == Direction::Back {
                found.reverse();
            }
            halves.push(Tensor::cat(&found, 1).unwrap());
        }
        let distance = far(&(&halves[0] + &halves[1]).unwrap(), &whole);
        assert!(distance < 1e-6, "{distance:e}");
        // And alone, a half is not the operator: what comes later matters.
        assert!(far(&halves[0], &whole) > 1e-2);
    }

    #[test]
    fn heads_that_do_not_fit_are_an_error() {
        let [r, k, v, w, _] = inputs(2, 3, 2, 4, 0.0);
        let error = wkv(&r, &k, &v, &w, &numbers((2, 5), 1)).unwrap_err();
        assert!(error.to_string().contains("8 channels are not 2 heads of 5"), "{error}");
        let u = numbers((2, 4), 1);
        let error = wkv(&r, &k.narrow(0, 0, 1).unwrap(), &v, &numbers((2, 3, 8), 1), &u);
        assert!(error.unwrap_err().to_string().contains("k, v or w"));
        let none = r.narrow(1, 0, 0).unwrap();
        assert!(wkv(&none, &none, &none, &none, &u).is_err());
        assert!(chunked(&none, &none, &none, &none, &u, 4).is_err());
        assert!(chunked(&r, &k, &v, &w, &u, 0).is_err());
    }
}
