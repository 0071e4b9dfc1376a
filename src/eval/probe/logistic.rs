//! Multinomial logistic regression as scikit-learn states it:
//! C · Σ losses + ½ ‖W‖², the bias not held back.
//!
//! Weights, losses and the search are f64, the two products of a step f32: features are no more than
//! that, sums of losses agree with those of f64 in seven digits, and it takes half the time.

use anyhow::Result;
use anyhow::ensure;
use candle_core::DType;
use candle_core::Device;
use candle_core::Tensor;
use rayon::iter::IndexedParallelIterator;
use rayon::iter::ParallelIterator;
use rayon::slice::ParallelSliceMut;

use crate::eval::probe::lbfgs;
use crate::eval::probe::lbfgs::Stop;

/// A fitted classifier.
#[derive(Clone, Debug)]
pub struct Logistic {
    /// (D + 1, K): a column for each class, its bias last.
    weights: Vec<f64>,
    classes: usize,
    /// C · Σ losses + ½ ‖W‖² of the samples it was fitted to.
    pub objective: f64,
    /// Steps of the search.
    pub steps: usize,
}

/// Steps of a search at most, as in CLIP's protocol.
const STEPS: usize = 1000;
/// Of the gradient where all weights are zero, this share is nothing. scikit-learn's fixed 1e-4 would
/// stop early on features of length 1, whose gradients are small from the start.
const NOTHING: f64 = 1e-4;

impl Logistic {
    /// Fits the classifier, from the weights of another one if it is given.
    ///
    /// # Shapes
    /// - `features`: (n, D)
    /// - `targets`: n classes below `classes`
    ///
    /// # Errors
    /// When there are no samples, lengths differ, a target is no class, or a feature is not finite.
    pub fn fit(
        features: &Tensor,
        targets: &[usize],
        classes: usize,
        c: f64,
        start: Option<&Logistic>,
    ) -> Result<Logistic> {
        let samples = Samples::new(features, targets, classes)?;
        let penalty = 1.0 / (c * targets.len() as f64);
        let zero = vec![0.0; samples.width * classes];
        let slope = samples.loss(&zero, penalty)?.1;
        let slope = slope.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
        let start = match start {
            Some(other) if other.weights.len() == zero.len() => samples.centred(&other.weights),
            _ => zero,
        };
        let stop = Stop { steps: STEPS, gradient: NOTHING * slope };
        let found = lbfgs::minimise(&|weights| samples.loss(weights, penalty), start, stop)?;
        Ok(Logistic {
            weights: samples.given(&found.place),
            classes,
            objective: found.value / penalty,
            steps: found.steps,
        })
    }

    /// How much each class is favoured.
    ///
    /// # Shapes
    /// (n, D) -> (n, K), f32
    ///
    /// # Errors
    /// When D is another than that of the fit.
    pub fn logits(&self, features: &Tensor) -> Result<Tensor> {
        let shape = (self.weights.len() / self.classes, self.classes);
        Ok(with_ones(&features.to_dtype(DType::F32)?)?.matmul(&tensor(&self.weights, shape)?)?)
    }
}

/// What a classifier is fitted to. The features are centred: since nothing holds the bias back, the
/// best weights stay the same, and the search needs a fraction of the steps when the mean (which
/// embeddings have much of) is gone.
struct Samples<'a> {
    /// (n, D + 1), the last column ones.
    features: Tensor,
    /// Its transposed, laid out anew: as a view it is read against the grain at each step.
    across: Tensor,
    mean: Vec<f64>,
    targets: &'a [usize],
    classes: usize,
    width: usize,
}

impl<'a> Samples<'a> {
    fn new(features: &Tensor, targets: &'a [usize], classes: usize) -> Result<Samples<'a>> {
        let (n, d) = features.dims2()?;
        ensure!(n > 0 && n == targets.len(), "{n} rows of features, {} targets", targets.len());
        if let Some(target) = targets.iter().find(|&&target| target >= classes) {
            anyhow::bail!("target {target} is not one of {classes} classes");
        }
        let features = features.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
        let mean = features.mean(0)?;
        let centred = features.broadcast_sub(&mean)?.to_dtype(DType::F32)?;
        let centred = with_ones(&centred)?; // (n, D + 1)
        let mean: Vec<f64> = mean.to_vec1()?;
        ensure!(mean.iter().all(|value| value.is_finite()), "a feature is not finite");
        let across = centred.t()?.contiguous()?;
        Ok(Samples { features: centred, across, mean, targets, classes, width: d + 1 })
    }

    /// Mean loss + ½ penalty ‖W‖², and its gradient.
    fn loss(&self, weights: &[f64], penalty: f64) -> Result<(f64, Vec<f64>)> {
        let at = tensor(weights, (self.width, self.classes))?;
        let mut rows: Vec<f32> = self.features.matmul(&at)?.flatten_all()?.to_vec1()?;
        let n = self.targets.len() as f64;
        let losses: Vec<f64> = rows
            .par_chunks_mut(self.classes)
            .zip(self.targets)
            .map(|(row, &target)| surprise(row, target))
            .collect();
        let shape = (self.targets.len(), self.classes);
        let residual = Tensor::from_vec(rows, shape, &Device::Cpu)?;
        let gradient: Vec<f32> = self.across.matmul(&residual)?.flatten_all()?.to_vec1()?;
        let mut gradient: Vec<f64> = gradient.into_iter().map(|sum| f64::from(sum) / n).collect();
        let held = weights.len() - self.classes;
        let mut size = 0.0;
        for (gradient, weight) in gradient.iter_mut().zip(&weights[..held]) {
            *gradient += penalty * weight;
            size += weight * weight;
        }
        // Summed in the order of the samples: the same sum for any number of threads.
        Ok((losses.iter().sum::<f64>() / n + 0.5 * penalty * size, gradient))
    }

    /// Weights for the features as they were given, of those for centred ones.
    fn given(&self, weights: &[f64]) -> Vec<f64> {
        self.moved(weights, -1.0)
    }

    fn centred(&self, weights: &[f64]) -> Vec<f64> {
        self.moved(weights, 1.0)
    }

    fn moved(&self, weights: &[f64], sign: f64) -> Vec<f64> {
        let mut moved = weights.to_vec();
        let (held, biases) = moved.split_at_mut(weights.len() - self.classes);
        for (row, mean) in held.chunks(self.classes).zip(&self.mean) {
            biases.iter_mut().zip(row).for_each(|(bias, weight)| *bias += sign * mean * weight);
        }
        moved
    }
}

/// The loss of a row of logits, which becomes its part of the gradient: probabilities, less one at the
/// target.
fn surprise(row: &mut [f32], target: usize) -> f64 {
    let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let right = f64::from(row[target] - most);
    let mut sum = 0.0;
    for value in row.iter_mut() {
        *value = (*value - most).exp();
        sum += f64::from(*value);
    }
    let scale = (1.0 / sum) as f32;
    row.iter_mut().for_each(|value| *value *= scale);
    row[target] -= 1.0;
    sum.ln() - right
}

fn tensor(weights: &[f64], shape: (usize, usize)) -> Result<Tensor> {
    let weights: Vec<f32> = weights.iter().map(|&weight| weight as f32).collect();
    Ok(Tensor::from_vec(weights, shape, &Device::Cpu)?)
}

fn with_ones(features: &Tensor) -> Result<Tensor> {
    let ones = Tensor::ones((features.dim(0)?, 1), DType::F32, &Device::Cpu)?;
    Ok(Tensor::cat(&[features, &ones], 1)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(values: Vec<f64>, n: usize) -> Tensor {
        let width = values.len() / n;
        Tensor::from_vec(values, (n, width), &Device::Cpu).unwrap()
    }

    #[test]
    fn the_gradient_is_what_the_loss_does() {
        let features = samples(vec![0.3, -1.0, 0.7, 0.2, 2.0, 0.1, -0.4, 0.9], 4);
        let (targets, penalty) = ([0, 2, 1, 2], 0.3);
        let samples = Samples::new(&features, &targets, 3).unwrap();
        let at: Vec<f64> = (0..9).map(|i| (f64::from(i) * 0.7).sin()).collect();
        let (_, gradient) = samples.loss(&at, penalty).unwrap();
        for i in 0..at.len() {
            let near = |by: f64| {
                let mut near = at.clone();
                near[i] += by;
                samples.loss(&near, penalty).unwrap().0
            };
            let slope = (near(1e-2) - near(-1e-2)) / 2e-2;
            assert!((slope - gradient[i]).abs() < 1e-4, "{i}: {slope} {}", gradient[i]);
        }
    }

    #[test]
    fn what_cannot_be_fitted_is_an_error() {
        let features = samples(vec![1.0, f64::NAN], 2);
        assert!(Logistic::fit(&features, &[0, 1], 2, 1.0, None).is_err());
        let features = samples(vec![1.0, 2.0], 2);
        assert!(Logistic::fit(&features, &[0, 2], 2, 1.0, None).is_err());
        assert!(Logistic::fit(&features, &[0], 2, 1.0, None).is_err());
    }
}
