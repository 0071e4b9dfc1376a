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
        pieces(x, out, relu_squares);
    }

    fn backward<T: Real>(&self, [x]: [&[T]; 1], _: &[T], grad: &[T], [dx]: [&mut [T]; 1]) {
        pieces2(x, grad, dx, relu_squares_back);
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
        pieces2(r, v, out, gate);
    }

    fn backward<T: Real>(&self, [r, _]: [&[T]; 2], out: &[T], grad: &[T], [dr, dv]: [&mut [T]; 2]) {
        // The gradient of v is the gate on what comes back.
        pieces2(r, grad, dv, gate);
        let pieces = dr.par_chunks_mut(PIECE).zip(r.par_chunks(PIECE));
        let pieces = pieces.zip(out.par_chunks(PIECE)).zip(grad.par_chunks(PIECE));
        pieces.for_each(|(((dr, r), out), grad)| gate_back(r, out, grad, dr));
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
        pieces(x, out, tanhs);
    }

    fn backward<T: Real>(&self, _: [&[T]; 1], out: &[T], grad: &[T], [dx]: [&mut [T]; 1]) {
        pieces2(out, grad, dx, tanhs_back);
    }

    fn twin(&self, [x]: [&Tensor; 1]) -> Result<Tensor> {
        x.tanh()
    }
}

wide! {
    fn relu_squares<T: Real>(x: &[T], out: &mut [T]) {
        for (out, &x) in out.iter_mut().zip(x) {
            // Not a maximum, which would make zero of what is not a number.
            let x = if x < T::zero() { T::zero() } else { x };
            *out = x * x;
        }
    }

    fn relu_squares_back<T: Real>(x: &[T], grad: &[T], dx: &mut [T]) {
        for ((dx, &x), &g) in dx.iter_mut().zip(x).zip(grad) {
            *dx = if x > T::zero() { (x + x) * g } else { T::zero() };
        }
    }

    fn gate<T: Real>(r: &[T], v: &[T], out: &mut [T]) {
        for ((out, &r), &v) in out.iter_mut().zip(r).zip(v) {
            *out = sigmoid(r) * v;
        }
    }

    /// d sigmoid = sigmoid (1 - sigmoid), and sigmoid ⊙ v is what came out.
    fn gate_back<T: Real>(r: &[T], out: &[T], grad: &[T], dr: &mut [T]) {
        for (((dr, &r), &out), &g) in dr.iter_mut().zip(r).zip(out).zip(grad) {
            *dr = g * out * (T::one() - sigmoid(r));
        }
    }

    fn tanhs<T: Real>(x: &[T], out: &mut [T]) {
        for (out, &x) in out.iter_mut().zip(x) {
            *out = Real::tanh(x);
        }
    }

    fn tanhs_back<T: Real>(y: &[T], grad: &[T], dx: &mut [T]) {
        for ((dx, &y), &g) in dx.iter_mut().zip(y).zip(grad) {
            *dx = g * (T::one() - y * y);
        }
    }
}

fn pieces<T: Real>(x: &[T], out: &mut [T], loops: fn(&[T], &mut [T])) {
    let pieces = out.par_chunks_mut(PIECE).zip(x.par_chunks(PIECE));
    pieces.for_each(|(out, x)| loops(x, out));
}

fn pieces2<T: Real>(x: &[T], y: &[T], out: &mut [T], loops: fn(&[T], &[T], &mut [T])) {
    let pieces = out.par_chunks_mut(PIECE).zip(x.par_chunks(PIECE)).zip(y.par_chunks(PIECE));
    pieces.for_each(|((out, x), y)| loops(x, y, out));
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
