//! The step in one pass over memory, on all threads. Sums are made of blocks of a fixed size in a
//! fixed order, so that the number of threads changes no bit.

use std::ops::Add;
use std::ops::Div;
use std::ops::Mul;
use std::ops::Sub;
use std::sync::Mutex;
use std::sync::PoisonError;

use candle_core::CpuStorage;
use candle_core::InplaceOp1;
use candle_core::InplaceOp2;
use candle_core::Layout;
use candle_core::Result;
use candle_core::Storage;
use candle_core::Tensor;
use candle_core::Var;
use candle_core::bail;
use rayon::prelude::*;

use super::Coefficients;

/// Elements that one thread takes at once: four streams of f32 of this length fit the second-level
/// cache of a core, and handing them out costs nothing beside the work on them.
const BLOCK: usize = 1 << 14;

/// Sums that are kept side by side, so that they can be added with vector instructions.
const LANES: usize = 8;

/// L2 norm of all gradients together, summed up in f64.
pub(super) fn norm(grads: &[Tensor]) -> Result<f64> {
    let mut squares = 0.0;
    for grad in grads {
        let (storage, layout) = grad.storage_and_layout();
        let Storage::Cpu(storage) = &*storage else { bail!("a gradient is not on the CPU") };
        squares += match storage {
            CpuStorage::F32(values) => sum_of_squares(in_a_row(values, layout)?),
            CpuStorage::F64(values) => sum_of_squares(in_a_row(values, layout)?),
            _ => bail!("a gradient is neither f32 nor f64"),
        };
    }
    Ok(squares.sqrt())
}

/// Changes the variable and its moments in their places.
///
/// # Shapes
/// - `moments`: (2, elements of the variable)
pub(super) fn update(
    var: &Var,
    moments: &Tensor,
    grad: &Tensor,
    coefficients: Coefficients,
) -> Result<()> {
    moments.inplace_op2(grad, &Outer { var, coefficients })
}

/// candle lends one tensor for writing per operation. Two are changed here, so the operation on the
/// moments runs the one on the variable inside it; the alternative, one after the other, reads both
/// moments twice.
struct Outer<'a> {
    var: &'a Var,
    coefficients: Coefficients,
}

/// What [`Outer`] borrowed, for the operation inside it.
struct Inner<'a, T> {
    /// First moments, then second ones. candle takes operations by shared reference.
    moments: Mutex<&'a mut [T]>,
    grad: &'a [T],
    coefficients: Coefficients,
}

impl InplaceOp2 for Outer<'_> {
    fn name(&self) -> &'static str {
        "adamw-moments"
    }

    fn cpu_fwd(
        &self,
        moments: &mut CpuStorage,
        moments_layout: &Layout,
        grad: &CpuStorage,
        grad_layout: &Layout,
    ) -> Result<()> {
        let coefficients = self.coefficients;
        match (moments, grad) {
            (CpuStorage::F32(moments), CpuStorage::F32(grad)) => {
                let moments = Mutex::new(in_a_row_mut(moments, moments_layout)?);
                let grad = in_a_row(grad, grad_layout)?;
                self.var.inplace_op1(&Inner { moments, grad, coefficients })
            }
            (CpuStorage::F64(moments), CpuStorage::F64(grad)) => {
                let moments = Mutex::new(in_a_row_mut(moments, moments_layout)?);
                let grad = in_a_row(grad, grad_layout)?;
                self.var.inplace_op1(&Inner { moments, grad, coefficients })
            }
            _ => bail!("moments and gradient are not both f32 or both f64"),
        }
    }
}

impl<T: Real> InplaceOp1 for Inner<'_, T> {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn cpu_fwd(&self, var: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let var = in_a_row_mut(T::values_mut(var)?, layout)?;
        let mut moments = self.moments.lock().unwrap_or_else(PoisonError::into_inner);
        if moments.len() != 2 * var.len() || self.grad.len() != var.len() {
            bail!("{} elements, {} of gradient", var.len(), self.grad.len());
        }
        let (m, v) = moments.split_at_mut(var.len());
        adamw(var, m, v, self.grad, self.coefficients);
        Ok(())
    }
}

fn adamw<T: Real>(p: &mut [T], m: &mut [T], v: &mut [T], g: &[T], coefficients: Coefficients) {
    let step = Step::<T>::new(coefficients);
    if p.len() <= BLOCK {
        // Most variables are a norm's or a bias: waking threads would take longer than the work.
        return step.block(p, m, v, g);
    }
    let moments = m.par_chunks_mut(BLOCK).zip(v.par_chunks_mut(BLOCK));
    let all = p.par_chunks_mut(BLOCK).zip(moments).zip(g.par_chunks(BLOCK));
    all.for_each(|((p, (m, v)), g)| step.block(p, m, v, g));
}

/// [`Coefficients`] in the type of the variable, as torch's operations see them.
#[derive(Clone, Copy)]
struct Step<T> {
    clip: T,
    keep: T,
    weight1: T,
    beta2: T,
    weight2: T,
    step_size: T,
    root_correction: T,
    eps: T,
}

impl<T: Real> Step<T> {
    fn new(coefficients: Coefficients) -> Step<T> {
        let Coefficients { clip, keep, beta1, beta2, step_size, root_correction, eps } =
            coefficients;
        Step {
            clip: T::of(clip),
            keep: T::of(keep),
            weight1: T::of(1.0 - beta1),
            beta2: T::of(beta2),
            weight2: T::of(1.0 - beta2),
            step_size: T::of(step_size),
            root_correction: T::of(root_correction),
            eps: T::of(eps),
        }
    }

    fn block(&self, p: &mut [T], m: &mut [T], v: &mut [T], g: &[T]) {
        for (((p, m), v), &g) in p.iter_mut().zip(m).zip(v).zip(g) {
            let g = g * self.clip;
            *m = *m + (g - *m) * self.weight1;
            *v = *v * self.beta2 + g * g * self.weight2;
            let root = v.root() / self.root_correction + self.eps;
            *p = *p * self.keep - *m / root * self.step_size;
        }
    }
}

fn sum_of_squares<T: Real>(values: &[T]) -> f64 {
    let block = |block: &[T]| {
        let mut lanes = [0.0; LANES];
        let (rows, rest) = block.as_chunks::<LANES>();
        for row in rows {
            for (lane, value) in lanes.iter_mut().zip(row) {
                *lane += value.wide() * value.wide();
            }
        }
        for (lane, value) in lanes.iter_mut().zip(rest) {
            *lane += value.wide() * value.wide();
        }
        lanes.iter().sum::<f64>()
    };
    if values.len() <= BLOCK {
        return block(values);
    }
    values.par_chunks(BLOCK).map(block).collect::<Vec<f64>>().iter().sum()
}

fn in_a_row<'a, T>(values: &'a [T], layout: &Layout) -> Result<&'a [T]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&values[start..end]),
        None => bail!("a tensor does not lie in a row"),
    }
}

fn in_a_row_mut<'a, T>(values: &'a mut [T], layout: &Layout) -> Result<&'a mut [T]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&mut values[start..end]),
        None => bail!("a tensor does not lie in a row"),
    }
}

/// The two types that are trained in.
trait Real:
    Copy
    + Send
    + Sync
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
{
    fn of(value: f64) -> Self;
    fn wide(self) -> f64;
    fn root(self) -> Self;
    fn values_mut(storage: &mut CpuStorage) -> Result<&mut [Self]>;
}

macro_rules! real {
    ($type:ty, $storage:ident) => {
        impl Real for $type {
            fn of(value: f64) -> $type {
                value as $type
            }

            fn wide(self) -> f64 {
                self.into()
            }

            fn root(self) -> $type {
                self.sqrt()
            }

            fn values_mut(storage: &mut CpuStorage) -> Result<&mut [$type]> {
                match storage {
                    CpuStorage::$storage(values) => Ok(values),
                    _ => bail!("the variable is not of its gradient's type"),
                }
            }
        }
    };
}

real!(f32, F32);
real!(f64, F64);
