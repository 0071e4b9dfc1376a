//! The fused operations of the model: one file each, forward and backward, f32 and f64, on all cores.
//!
//! candle's own elementwise operations use one core and allocate a tensor each, and its fused norms
//! have no backward. Every operation here has a slow twin made of plain candle operations: its
//! specification, the path on devices other than the CPU, and one side of its test.

#[macro_use]
mod wide;

mod gate;
mod linear;
mod norm;
mod shift;
pub(crate) mod wkv;

use std::ops::Range;

use candle_core::CpuStorage;
use candle_core::CustomOp1;
use candle_core::CustomOp2;
use candle_core::CustomOp3;
use candle_core::DType;
use candle_core::Error;
use candle_core::Layout;
use candle_core::Result;
use candle_core::Shape;
use candle_core::Storage;
use candle_core::StorageRef;
use candle_core::Tensor;
use candle_core::WithDType;
use candle_core::backend::BackendStorage;

pub(crate) use gate::gated;
pub(crate) use gate::squared_relu;
pub(crate) use gate::tanh;
pub(crate) use linear::linear;
pub(crate) use norm::group_norm_gate;
pub(crate) use norm::layer_norm;
pub use shift::Shift;
pub(crate) use shift::shift_lerp;
pub(crate) use shift::shift_lerp_by_token;
pub use wkv::wkv;

/// One fused operation of `N` tensors into one. Slices are contiguous and row-major; shapes were
/// checked by whoever made the kernel.
pub(crate) trait Kernel<const N: usize>: Send + Sync + 'static {
    const NAME: &'static str;

    /// The result's shape, of the inputs' shapes.
    fn shape(&self, inputs: [&Shape; N]) -> Shape;

    /// `out` comes zeroed.
    fn forward<T: Real>(&self, inputs: [&[T]; N], out: &mut [T]);

    /// `grad` is that of `out`; `grads`, those of the inputs, come zeroed.
    fn backward<T: Real>(&self, inputs: [&[T]; N], out: &[T], grad: &[T], grads: [&mut [T]; N]);

    /// The same in plain candle operations.
    fn twin(&self, inputs: [&Tensor; N]) -> Result<Tensor>;
}

/// Where the fused form can run; elsewhere the twin does.
fn is_fused(tensor: &Tensor) -> bool {
    tensor.device().is_cpu() && matches!(tensor.dtype(), DType::F32 | DType::F64)
}

/// A kernel as candle's custom operations want it.
struct Fused<K>(K);

fn run<const N: usize, K: Kernel<N>>(
    kernel: &K,
    inputs: [(&CpuStorage, &Layout); N],
) -> Result<(CpuStorage, Shape)> {
    match inputs[0].0 {
        CpuStorage::F32(_) => run_as::<f32, N, K>(kernel, inputs),
        CpuStorage::F64(_) => run_as::<f64, N, K>(kernel, inputs),
        other => Err(Error::UnsupportedDTypeForOp(other.dtype(), K::NAME).bt()),
    }
}

fn run_as<T: Real, const N: usize, K: Kernel<N>>(
    kernel: &K,
    inputs: [(&CpuStorage, &Layout); N],
) -> Result<(CpuStorage, Shape)> {
    let shape = kernel.shape(inputs.map(|(_, layout)| layout.shape()));
    let mut slices = [&[][..]; N];
    for (slice, (storage, layout)) in slices.iter_mut().zip(inputs) {
        *slice = &storage.as_slice::<T>()?[contiguous(layout, K::NAME)?];
    }
    let mut out = vec![T::zero(); shape.elem_count()];
    kernel.forward(slices, &mut out);
    Ok((T::to_cpu_storage_owned(out), shape))
}

fn contiguous(layout: &Layout, op: &'static str) -> Result<Range<usize>> {
    let (from, to) = layout.contiguous_offsets().ok_or(Error::RequiresContiguous { op })?;
    Ok(from..to)
}

fn gradients<const N: usize, K: Kernel<N>>(
    kernel: &K,
    inputs: [&Tensor; N],
    out: &Tensor,
    grad: &Tensor,
) -> Result<[Option<Tensor>; N]> {
    let grad = grad.contiguous()?;
    match grad.dtype() {
        DType::F32 => gradients_as::<f32, N, K>(kernel, inputs, out, &grad),
        DType::F64 => gradients_as::<f64, N, K>(kernel, inputs, out, &grad),
        other => Err(Error::UnsupportedDTypeForOp(other, K::NAME).bt()),
    }
}

fn gradients_as<T: Real, const N: usize, K: Kernel<N>>(
    kernel: &K,
    inputs: [&Tensor; N],
    out: &Tensor,
    grad: &Tensor,
) -> Result<[Option<Tensor>; N]> {
    let mut grads: [Vec<T>; N] = inputs.map(|input| vec![T::zero(); input.elem_count()]);
    {
        let pins = inputs.map(|input| Pin::of(input, K::NAME));
        let (out, grad) = (Pin::of(out, K::NAME)?, Pin::of(grad, K::NAME)?);
        let mut slices = [&[][..]; N];
        for (slice, pin) in slices.iter_mut().zip(&pins) {
            *slice = pin.as_ref().map_err(|e| Error::Msg(e.to_string()))?.slice()?;
        }
        kernel.backward(slices, out.slice()?, grad.slice()?, grads.each_mut().map(|g| &mut g[..]));
    }
    let mut found = [const { None }; N];
    for ((found, grad), input) in found.iter_mut().zip(grads).zip(inputs) {
        *found = Some(Tensor::from_vec(grad, input.shape(), input.device())?);
    }
    Ok(found)
}

/// A tensor on the CPU, held while its numbers are read.
struct Pin<'a> {
    storage: StorageRef<'a>,
    range: Range<usize>,
}

impl<'a> Pin<'a> {
    fn of(tensor: &'a Tensor, op: &'static str) -> Result<Pin<'a>> {
        let (storage, layout) = tensor.storage_and_layout();
        Ok(Pin { range: contiguous(layout, op)?, storage })
    }

    fn slice<T: WithDType>(&self) -> Result<&[T]> {
        match &*self.storage {
            Storage::Cpu(storage) => Ok(&storage.as_slice::<T>()?[self.range.clone()]),
            _ => candle_core::bail!("a tensor of the CPU was expected"),
        }
    }
}

fn apply1<K: Kernel<1>>(kernel: K, a: &Tensor) -> Result<Tensor> {
    match is_fused(a) {
        true => a.contiguous()?.apply_op1(Fused(kernel)),
        false => kernel.twin([a]),
    }
}

fn apply2<K: Kernel<2>>(kernel: K, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    match is_fused(a) {
        true => a.contiguous()?.apply_op2(&b.contiguous()?, Fused(kernel)),
        false => kernel.twin([a, b]),
    }
}

fn apply3<K: Kernel<3>>(kernel: K, a: &Tensor, b: &Tensor, c: &Tensor) -> Result<Tensor> {
    match is_fused(a) {
        true => a.contiguous()?.apply_op3(&b.contiguous()?, &c.contiguous()?, Fused(kernel)),
        false => kernel.twin([a, b, c]),
    }
}

impl<K: Kernel<1>> CustomOp1 for Fused<K> {
    fn name(&self) -> &'static str {
        K::NAME
    }

    fn cpu_fwd(&self, a: &CpuStorage, la: &Layout) -> Result<(CpuStorage, Shape)> {
        run(&self.0, [(a, la)])
    }

    fn bwd(&self, a: &Tensor, out: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let [a] = gradients(&self.0, [a], out, grad)?;
        Ok(a)
    }
}

impl<K: Kernel<2>> CustomOp2 for Fused<K> {
    fn name(&self) -> &'static str {
        K::NAME
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        la: &Layout,
        b: &CpuStorage,
        lb: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        run(&self.0, [(a, la), (b, lb)])
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok(gradients(&self.0, [a, b], out, grad)?.into())
    }
}

impl<K: Kernel<3>> CustomOp3 for Fused<K> {
    fn name(&self) -> &'static str {
        K::NAME
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        la: &Layout,
        b: &CpuStorage,
        lb: &Layout,
        c: &CpuStorage,
        lc: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        run(&self.0, [(a, la), (b, lb), (c, lc)])
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        c: &Tensor,
        out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        Ok(gradients(&self.0, [a, b, c], out, grad)?.into())
    }
}

/// The numbers kernels compute with.
pub(crate) trait Real: WithDType + std::iter::Sum {
    /// e to this; in f32 within 2e-7 relative, and in a form that the compiler vectorises.
    fn exp(self) -> Self;
    fn sqrt(self) -> Self;
    /// Within 3e-7 relative in f32, near zero too.
    fn tanh(self) -> Self;
    /// self · a + b, rounded once: one instruction inside [`wide!`].
    fn mul_add(self, a: Self, b: Self) -> Self;
}

impl Real for f64 {
    fn exp(self) -> f64 {
        f64::exp(self)
    }

    fn sqrt(self) -> f64 {
        f64::sqrt(self)
    }

    fn tanh(self) -> f64 {
        f64::tanh(self)
    }

    #[inline(always)]
    fn mul_add(self, a: f64, b: f64) -> f64 {
        f64::mul_add(self, a, b)
    }
}

impl Real for f32 {
    /// Cephes' expf: reduced by multiples of ln 2, then a polynomial. Below e^-87 it stays there
    /// (1.6e-38) instead of going to zero; a NaN stays one.
    #[inline(always)]
    fn exp(self) -> f32 {
        /// Added and taken away again, it rounds to the nearest integer.
        const ROUND: f32 = 12_582_912.0;
        const LN_2_HIGH: f32 = 0.693_359_4;
        const LN_2_LOW: f32 = -2.121_944_4e-4;
        let x = if self > 88.0 { 88.0 } else { self };
        let x = if x < -87.0 { -87.0 } else { x };
        let n = (x * std::f32::consts::LOG2_E + ROUND) - ROUND;
        let r = x - n * LN_2_HIGH - n * LN_2_LOW;
        let mut y = 1.987_569_1e-4;
        for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_66, 0.5] {
            y = y * r + c;
        }
        let y = y * r * r + r + 1.0;
        y * f32::from_bits((((n as i32) + 127) << 23) as u32)
    }

    #[inline(always)]
    fn sqrt(self) -> f32 {
        f32::sqrt(self)
    }

    /// Cephes' tanhf: near zero, where 1 - 2/(e^2x + 1) cancels, a polynomial.
    #[inline(always)]
    fn tanh(self) -> f32 {
        let z = self * self;
        let mut p = -5.704_988_7e-3;
        for c in [2.063_909e-2, -5.373_971_6e-2, 1.333_144_2e-1, -3.333_328e-1] {
            p = p * z + c;
        }
        let near = self + self * z * p;
        let size = if self < 0.0 { -self } else { self };
        let far = 1.0 - 2.0 / (Real::exp(size + size) + 1.0);
        let far = if self < 0.0 { -far } else { far };
        if size < 0.625 { near } else { far }
    }

    #[inline(always)]
    fn mul_add(self, a: f32, b: f32) -> f32 {
        f32::mul_add(self, a, b)
    }
}

#[inline(always)]
fn sigmoid<T: Real>(x: T) -> T {
    T::one() / (T::one() + (T::zero() - x).exp())
}

/// Sums are kept in so many parts, which is what lets the compiler use wide registers.
const LANES: usize = 16;

#[inline(always)]
fn dot<T: Real>(a: &[T], b: &[T]) -> T {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut parts = [T::zero(); LANES];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            parts[lane] = a[lane].mul_add(b[lane], parts[lane]);
        }
    }
    let rest: T = a_rest.iter().zip(b_rest).map(|(&a, &b)| a * b).sum();
    parts.into_iter().sum::<T>() + rest
}

wide! {
    /// Takes out of `x` what lies along `unit`, a vector of length 1.
    pub(crate) fn take_out<T: Real>(x: &mut [T], unit: &[T]) {
        let along = T::zero() - dot(x, unit);
        for (x, &unit) in x.iter_mut().zip(unit) {
            *x = along.mul_add(unit, *x);
        }
    }
}

#[inline(always)]
fn sum<T: Real>(a: &[T]) -> T {
    let (chunks, rest) = a.as_chunks::<LANES>();
    let mut parts = [T::zero(); LANES];
    for chunk in chunks {
        for lane in 0..LANES {
            parts[lane] += chunk[lane];
        }
    }
    parts.into_iter().sum::<T>() + rest.iter().copied().sum::<T>()
}

/// Adds each of `parts` to `total`, elementwise: what threads found for the same parameters.
fn add_all<T: Real>(total: &mut [T], parts: impl IntoIterator<Item = impl AsRef<[T]>>) {
    for part in parts {
        for (total, &part) in total.iter_mut().zip(part.as_ref()) {
            *total += part;
        }
    }
}

/// Rows that one piece of work takes at least: below it, handing out costs more than it saves.
const ROWS: usize = 8;

#[cfg(test)]
pub(super) mod tests;
