//! What the tests of all operations share, and the tests of the numbers themselves.

use candle_core::Device;
use candle_core::Var;

use super::*;

/// Numbers of about unit size that differ from each other and never repeat a pattern.
pub(crate) fn numbers(shape: impl Into<Shape>, seed: u32) -> Tensor {
    use rand::Rng;
    use rand::SeedableRng;
    let shape = shape.into();
    let mut random = rand::rngs::StdRng::seed_from_u64(u64::from(seed));
    let values: Vec<f64> =
        (0..shape.elem_count()).map(|_| random.random_range(-1.5..1.5)).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

pub(crate) fn far(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.shape(), b.shape());
    let far = |t: &Tensor| t.abs().unwrap().flatten_all().unwrap().max(0).unwrap();
    let difference =
        far(&a.to_dtype(DType::F64).unwrap().sub(&b.to_dtype(DType::F64).unwrap()).unwrap());
    difference.to_scalar::<f64>().unwrap()
        / far(&b.to_dtype(DType::F64).unwrap()).to_scalar::<f64>().unwrap().max(1e-30)
}

/// Holds a fused operation to its twin: values and every gradient, in f64 and in f32.
pub(crate) fn agrees<const N: usize>(
    fused: impl Fn([&Tensor; N]) -> Result<Tensor>,
    twin: impl Fn([&Tensor; N]) -> Result<Tensor>,
    inputs: [Tensor; N],
) {
    let vars = inputs.map(|input| Var::from_tensor(&input).unwrap());
    let expected = twin(vars.each_ref().map(|v| v.as_tensor())).unwrap();
    let weight = numbers(expected.shape().clone(), 99);
    let wanted = expected.mul(&weight).unwrap().sum_all().unwrap().backward().unwrap();
    for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 3e-6)] {
        let vars32 = vars
            .each_ref()
            .map(|v| Var::from_tensor(&v.as_tensor().to_dtype(dtype).unwrap()).unwrap());
        let found = fused(vars32.each_ref().map(|v| v.as_tensor())).unwrap();
        let distance = far(&found, &expected);
        assert!(distance < tolerance, "{dtype:?}: values differ by {distance:e}");
        let weight = weight.to_dtype(dtype).unwrap();
        let grads = found.mul(&weight).unwrap().sum_all().unwrap().backward().unwrap();
        for (i, (var32, var)) in vars32.iter().zip(&vars).enumerate() {
            let (found, wanted) = (grads.get(var32).unwrap(), wanted.get(var).unwrap());
            let distance = far(found, wanted);
            assert!(
                distance < 3.0 * tolerance,
                "{dtype:?}: gradients of input {i} differ by {distance:e}"
            );
        }
    }
}

#[test]
fn the_exponential_is_within_two_ulps() {
    for i in -8_600..8_700 {
        let x = i as f32 / 100.0;
        let (found, wanted) = (Real::exp(x), f64::from(x).exp());
        assert!((f64::from(found) / wanted - 1.0).abs() < 2.4e-7, "{x}: {found} {wanted}");
    }
    assert!(Real::exp(f32::NAN).is_nan());
    assert!(Real::exp(-1e30_f32) < 2e-38);
    assert!(Real::exp(1e30_f32).is_finite());
}
