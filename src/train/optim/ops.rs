//! The step in candle's operations: the specification of the fused one, line for line as torch's
//! single-tensor AdamW.

use candle_core::DType;
use candle_core::Result;
use candle_core::Tensor;
use candle_core::Var;

use super::Coefficients;

/// L2 norm of all gradients together.
pub(super) fn norm(grads: &[Tensor]) -> Result<f64> {
    let mut squares = 0.0;
    for grad in grads {
        squares += grad.to_dtype(DType::F64)?.sqr()?.sum_all()?.to_scalar::<f64>()?;
    }
    Ok(squares.sqrt())
}

/// Changes the variable and returns its new moments.
///
/// # Shapes
/// - `moments`, result: (2, elements of the variable)
pub(super) fn update(
    var: &Var,
    moments: &Tensor,
    grad: &Tensor,
    coefficients: Coefficients,
) -> Result<Tensor> {
    let Coefficients { clip, keep, beta1, beta2, step_size, root_correction, eps } = coefficients;
    let grad = (grad.flatten_all()? * clip)?;
    let (m, v) = (moments.get(0)?, moments.get(1)?);
    let m = (&m + ((&grad - &m)? * (1.0 - beta1))?)?;
    let v = ((v * beta2)? + (grad.sqr()? * (1.0 - beta2))?)?;
    let root = ((v.sqrt()? / root_correction)? + eps)?;
    let change = (m.div(&root)?.reshape(var.shape())? * step_size)?;
    var.set(&((var.as_detached_tensor() * keep)? - change)?)?;
    Tensor::stack(&[m, v], 0)
}
