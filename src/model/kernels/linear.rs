//! y = x·W: a matrix product with the weights as checkpoints hold them, (out, in).
//!
//! As `x.matmul(w.t())` the gradient of W would come out transposed, and candle would add it up one
//! number at a time.

use candle_core::CpuStorage;
use candle_core::CustomOp2;
use candle_core::Layout;
use candle_core::Result;
use candle_core::Shape;
use candle_core::Tensor;
use candle_core::backend::BackendStorage;

use super::is_fused;

/// A linear layer without bias.
///
/// # Shapes
/// `x`: (.., in), `w`: (out, in) -> (.., out)
pub(crate) fn linear(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    let (outputs, inputs) = w.dims2()?;
    let mut dims = x.dims().to_vec();
    let last = dims.pop();
    if last != Some(inputs) {
        candle_core::bail!("{:?} does not fit weights of {outputs} x {inputs}", x.shape());
    }
    let rows = x.contiguous()?.reshape(((), inputs))?; // (rows, in)
    let y = match is_fused(x) {
        true => rows.apply_op2(&w.contiguous()?, Linear)?,
        false => rows.matmul(&w.t()?)?,
    };
    dims.push(outputs);
    y.reshape(dims)
}

struct Linear;

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        w: &CpuStorage,
        lw: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let ((rows, inputs), (outputs, _)) = (lx.shape().dims2()?, lw.shape().dims2()?);
        let y = x.matmul(w, (1, rows, outputs, inputs), lx, &lw.transpose(0, 1)?)?;
        Ok((y, (rows, outputs).into()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((Some(grad.matmul(w)?), Some(grad.t()?.matmul(x)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::kernels::tests::agrees;
    use crate::model::kernels::tests::numbers;

    #[test]
    fn is_a_product_with_the_transposed_weights() {
        agrees(
            |[x, w]| linear(x, w),
            |[x, w]| x.reshape((6, 5))?.matmul(&w.t()?)?.reshape((2, 3, 4)),
            [numbers((2, 3, 5), 1), numbers((4, 5), 2)],
        );
    }
}
