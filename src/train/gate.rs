//! Weights of samples by how well their texts fit, as the model itself sees it at the moment.
//!
//! The description gate of ALIP (Yang et al., ICCV 2023; `train.py` of deepglint/ALIP): a pair whose
//! cosine is below the running mean counts for less. ALIP's language gate, the same over the cosine of
//! raw text and synthetic caption, needs both texts of a sample in one step; here a sample has one.

use candle_core::Result;
use candle_core::Tensor;
use serde::Deserialize;
use serde::Serialize;

use crate::model;

/// The running mean of the cosines of pairs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gate {
    mean: f64,
}

/// How much of the running mean stays in a step.
const MOMENTUM: f64 = 0.99;

impl Default for Gate {
    /// Where ALIP begins: no pair is that good, so that all count for little at first, and equally.
    fn default() -> Gate {
        Gate { mean: 1.0 }
    }
}

impl Gate {
    /// The weight of each pair, min(1, exp(cosine - mean)²), after the mean has moved by this batch.
    ///
    /// # Shapes
    /// `images`, `texts`: (B, D), normalised or not -> (B)
    ///
    /// # Errors
    /// When the shapes differ.
    pub fn weights(&mut self, images: &Tensor, texts: &Tensor) -> Result<Tensor> {
        let products = (model::normalized(images)? * model::normalized(texts)?)?;
        let cosines = products.sum(1)?; // (B)
        let mean = cosines.to_dtype(candle_core::DType::F64)?.mean_all()?.to_scalar::<f64>()?;
        self.mean = MOMENTUM * self.mean + (1.0 - MOMENTUM) * mean;
        ((cosines - self.mean)? * 2.0)?.exp()?.minimum(1.0)
    }

    /// The running mean.
    pub fn mean(&self) -> f64 {
        self.mean
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn pairs_below_the_mean_count_for_less_and_none_for_more_than_one() {
        let mut gate = Gate { mean: 0.5 };
        let images = Tensor::new(&[[1f32, 0.0], [1.0, 0.0]], &Device::Cpu).unwrap();
        let texts = Tensor::new(&[[1f32, 0.0], [0.0, 1.0]], &Device::Cpu).unwrap();
        let weights: Vec<f32> = gate.weights(&images, &texts).unwrap().to_vec1().unwrap();
        assert!((gate.mean() - 0.5).abs() < 1e-12);
        assert_eq!(weights[0], 1.0);
        assert!((weights[1] - (-1f32).exp()).abs() < 1e-6, "{weights:?}");
    }
}
