//! Elementwise operations with more than one step: squared ReLU, the sigmoid gate, tanh.

use candle_core::Result;
use candle_core::Shape;
use candle_core::Tensor;
use rayon::iter::IndexedParallelIterator;
use rayon::iter::ParallelIterator;
use rayon::slice::ParallelSlice;
use rayon::slice::ParallelSliceMut;

use super::Kernel;
use super::Real;
use super::apply1;
use super::apply2;
use super::sigmoid;
use super::wide;

/// Numbers that one piece of work takes.
const PIECE: usize = 8_192;

/// relu(x)², of any shape.
pub(crate) fn squared_relu(x: &Tensor) -> Result<Tensor> {
    apply1(SquaredRelu, x)
}

/// sigmoid(r) ⊙ v, both of one shape.
pub(crate) fn gated(r: &Tensor, v: &Tensor) -> Result<Tensor> {
    apply2(Gated, r, v)
}

/// tanh(x), of any shape.
pub(crate) fn tanh(x: &Tensor) -> Result<Tensor> {
    apply1(Tanh, x)
}

struct SquaredRelu;

impl Kernel<1> for SquaredRelu {
    const NAME: &'static str = "squared-relu";

    fn shape(&self, [x]: [&Shape; 1]) -> Shape {
        x.clone()
    }

    fn forward<T: Real>(&self, [x]: [&[T]; 1], out: &mut [T]) {
        map(x, out, |x| {
            let x = if x > T::zero() { x } else { T::zero() * x };
            x * x
        });
    }

    fn backward<T: Real>(&self, [x]: [&[T]; 1], _: &[T], grad: &[T], [dx]: [&mut [T]; 1]) {
        map2(x, grad, dx, |x, g| if x > T::zero() { (x + x) * g } else { T::zero() });
    }

    fn twin(&self, [x]: [&Tensor; 1]) -> Result<Tensor> {
        x.relu()?.sqr()
    }
}

struct Gated;

impl Kernel<2> for Gated {
    const NAME: &'static str = "gated";

    fn shape(&self, [r, _]: [&Shape; 2]) -> Shape {
        r.clone()
    }

    fn forward<T: Real>(&self, [r, v]: [&[T]; 2], out: &mut [T]) {
        map2(r, v, out, |r, v| sigmoid(r) * v);
    }

    fn backward<T: Real>(&self, [r, v]: [&[T]; 2], out: &[T], grad: &[T], [dr, dv]: [&mut [T]; 2]) {
        let _ = v;
        map2(r, grad, dv, |r, g| sigmoid(r) * g);
        // d sigmoid = sigmoid (1 - sigmoid), and sigmoid ⊙ v is what came out.
        let pieces = dr.par_chunks_mut(PIECE).zip(r.par_chunks(PIECE));
        pieces.zip(out.par_chunks(PIECE)).zip(grad.par_chunks(PIECE)).for_each(
            |(((dr, r), out), grad)| {
                wide(|| {
                    for (((dr, &r), &out), &g) in dr.iter_mut().zip(r).zip(out).zip(grad) {
                        *dr = g * out * (T::one() - sigmoid(r));
                    }
                });
            },
        );
    }

    fn twin(&self, [r, v]: [&Tensor; 2]) -> Result<Tensor> {
        candle_nn::ops::sigmoid(r)?.mul(v)
    }
}

struct Tanh;

impl Kernel<1> for Tanh {
    const NAME: &'static str = "tanh";

    fn shape(&self, [x]: [&Shape; 1]) -> Shape {
        x.clone()
    }

    fn forward<T: Real>(&self, [x]: [&[T]; 1], out: &mut [T]) {
        map(x, out, T::tanh);
    }

    fn backward<T: Real>(&self, _: [&[T]; 1], out: &[T], grad: &[T], [dx]: [&mut [T]; 1]) {
        map2(out, grad, dx, |y, g| g * (T::one() - y * y));
    }

    fn twin(&self, [x]: [&Tensor; 1]) -> Result<Tensor> {
        x.tanh()
    }
}

fn map<T: Real>(x: &[T], out: &mut [T], f: impl Fn(T) -> T + Sync) {
    out.par_chunks_mut(PIECE).zip(x.par_chunks(PIECE)).for_each(|(out, x)| {
        wide(|| {
            for (out, &x) in out.iter_mut().zip(x) {
                *out = f(x);
            }
        });
    });
}

fn map2<T: Real>(x: &[T], y: &[T], out: &mut [T], f: impl Fn(T, T) -> T + Sync) {
    let pieces = out.par_chunks_mut(PIECE).zip(x.par_chunks(PIECE)).zip(y.par_chunks(PIECE));
    pieces.for_each(|((out, x), y)| {
        wide(|| {
            for ((out, &x), &y) in out.iter_mut().zip(x).zip(y) {
                *out = f(x, y);
            }
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::kernels::tests::agrees;
    use crate::model::kernels::tests::numbers;

    #[test]
    fn gates_agree_with_their_twins() {
        let shape = (3, 5, 700);
        agrees(|[x]| squared_relu(x), |[x]| SquaredRelu.twin([x]), [numbers(shape, 1)]);
        agrees(|[x]| tanh(x), |[x]| Tanh.twin([x]), [numbers(shape, 2)]);
        let two = [numbers(shape, 3), numbers(shape, 4)];
        agrees(|[r, v]| gated(r, v), |[r, v]| Gated.twin([r, v]), two);
    }

    #[test]
    fn not_a_number_stays_one() {
        let x = Tensor::new(&[f32::NAN, 1.0], &candle_core::Device::Cpu).unwrap();
        for y in [squared_relu(&x), tanh(&x), gated(&x, &x)] {
            assert!(y.unwrap().to_vec1::<f32>().unwrap()[0].is_nan());
        }
    }
}
