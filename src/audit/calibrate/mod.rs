//! What the doubts weigh, fitted to labelled texts, and how good the score then is.
//!
//! Logistic regression with weights that are at least 0, so that the score stays monotone, and a small
//! ridge that keeps what the labels do not speak of near what it was. Quality is measured on texts that
//! the fit did not see: five parts, groups (all texts of one picture) never divided.

pub mod figure;
mod quality;

use serde::Serialize;
use sha2::Digest;
use sha2::Sha256;

use crate::audit::Config;
use crate::audit::doubts::Doubts;

pub use quality::Bin;
pub use quality::Interval;
pub use quality::Quality;
pub use quality::auc;
pub use quality::average_precision;

/// A text that somebody has judged.
#[derive(Clone, Debug)]
pub struct Labelled {
    /// What speaks against it.
    pub doubts: Doubts,
    /// Whether it says something that is not there.
    pub is_hallucinated: bool,
    /// Texts of one group are never divided between fit and test: of one picture.
    pub group: String,
}

/// A score and the truth about it.
pub type Scored = (f64, bool, String);

const PARTS: u64 = 5;
/// Of the weights, for each text: what no label speaks of stays small.
const RIDGE: f64 = 1e-3;
const SWEEPS: usize = 300;

/// Bias and weights that fit the labels best: Newton's steps, a weight at a time.
pub fn fit(labelled: &[Labelled]) -> (f32, Doubts) {
    let all: Vec<Case> = labelled.iter().map(Case::of).collect();
    let mut weights = vec![0.0; Doubts::NAMES.len() + 1];
    let bias = weights.len() - 1;
    let mut logits = vec![0.0; all.len()];
    for _ in 0..SWEEPS {
        let mut moved = 0.0_f64;
        for (at, weight) in weights.iter_mut().enumerate() {
            let new = improved(&all, &logits, at, *weight, at == bias);
            for (case, logit) in all.iter().zip(&mut logits) {
                *logit += (new - *weight) * case.values[at];
            }
            moved = moved.max((new - *weight).abs());
            *weight = new;
        }
        if moved < 1e-6 {
            break;
        }
    }
    let weights: Vec<f32> = weights.into_iter().map(|weight| weight as f32).collect();
    (-weights[bias], monotone(Doubts::of(&weights)))
}

/// A text as the fit sees it.
struct Case {
    /// The doubts, and 1 for the bias.
    values: Vec<f64>,
    /// 1 if it is hallucinated.
    truth: f64,
}

impl Case {
    fn of(text: &Labelled) -> Case {
        let values = text.doubts.values().into_iter().map(f64::from).chain([1.0]).collect();
        Case { values, truth: f64::from(u8::from(text.is_hallucinated)) }
    }
}

/// One weight, a step nearer to the best. Only the bias may be negative, and no ridge holds it.
fn improved(all: &[Case], logits: &[f64], at: usize, weight: f64, is_bias: bool) -> f64 {
    let (mut slope, mut curve) = (0.0, 1e-9);
    for (case, logit) in all.iter().zip(logits) {
        let (chance, value) = (sigmoid(*logit), case.values[at]);
        slope += (chance - case.truth) * value;
        curve += (chance * (1.0 - chance)).max(1e-6) * value * value;
    }
    let ridge = if is_bias { 0.0 } else { RIDGE * all.len() as f64 };
    let step = ((slope + ridge * weight) / (curve + ridge)).clamp(-1.0, 1.0);
    if is_bias { weight - step } else { (weight - step).max(0.0) }
}

/// An absent object must cost more than anything that it could take back.
fn monotone(mut weights: Doubts) -> Doubts {
    let least = weights.attributes.max(weights.actions).max(weights.others);
    weights.objects = weights.objects.max(least);
    weights
}

/// Scores of texts by weights that were fitted to the other groups.
pub fn cross_validated(labelled: &[Labelled]) -> Vec<Scored> {
    let part = |group: &str| {
        let hash = Sha256::digest(group.as_bytes());
        u64::from(hash[0]) % PARTS
    };
    let mut scored = Vec::with_capacity(labelled.len());
    for held_out in 0..PARTS {
        let (test, seen): (Vec<&Labelled>, Vec<&Labelled>) =
            labelled.iter().partition(|text| part(&text.group) == held_out);
        let seen: Vec<Labelled> = seen.into_iter().cloned().collect();
        let (bias, weights) = fit(&seen);
        scored.extend(test.into_iter().map(|text| {
            (chance(bias, &weights, &text.doubts), !text.is_hallucinated, text.group.clone())
        }));
    }
    scored
}

/// The score before factors.
pub fn chance(bias: f32, weights: &Doubts, doubts: &Doubts) -> f64 {
    let against = weights.values().into_iter().zip(doubts.values());
    let against: f32 = against.map(|(weight, doubt)| weight.max(0.0) * doubt).sum();
    sigmoid(f64::from(bias - against))
}

/// The settings with these weights, as TOML.
///
/// # Errors
/// None in practice.
pub fn settings(bias: f32, weights: &Doubts) -> Result<String, toml::ser::Error> {
    #[derive(Serialize)]
    struct Settings {
        audit: Part,
    }
    #[derive(Serialize)]
    struct Part {
        bias: f32,
        weights: Doubts,
    }
    let rounded = |value: f32| (value * 1000.0).round() / 1000.0;
    let weights: Vec<f32> = weights.values().into_iter().map(rounded).collect();
    let part = Part { bias: rounded(bias), weights: Doubts::of(&weights) };
    toml::to_string(&Settings { audit: part })
}

fn sigmoid(logit: f64) -> f64 {
    1.0 / (1.0 + (-logit).exp())
}

impl Config {
    /// The settings with other weights.
    pub fn with_weights(mut self, bias: f32, weights: Doubts) -> Config {
        self.bias = bias;
        self.weights = weights;
        self
    }
}

#[cfg(test)]
mod tests {
    use rand::Rng;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn made(count: usize) -> Vec<Labelled> {
        let mut random = ChaCha8Rng::seed_from_u64(7);
        (0..count)
            .map(|place| {
                let objects = f32::from(random.random_range(0_u8..4));
                let web = random.random::<f32>();
                let doubts = Doubts { objects, web, ..Doubts::default() };
                let truth = sigmoid(-1.0 + 1.5 * f64::from(objects));
                let is_hallucinated = random.random::<f64>() < truth;
                Labelled { doubts, is_hallucinated, group: (place / 3).to_string() }
            })
            .collect()
    }

    #[test]
    fn the_fit_finds_what_the_labels_were_made_with() {
        let labelled = made(6_000);
        let (bias, weights) = fit(&labelled);
        assert!((bias - 1.0).abs() < 0.15, "{bias}");
        assert!((weights.objects - 1.5).abs() < 0.15, "{weights:?}");
        assert!(weights.web < 0.2, "{weights:?}");
    }

    #[test]
    fn a_calibrated_score_is_reliable() {
        let quality = Quality::of(&cross_validated(&made(6_000)), 1);
        assert_eq!(quality.texts, 6_000);
        assert!(quality.auc.low < quality.auc.value && quality.auc.value < quality.auc.high);
        for bin in &quality.reliability {
            assert!((bin.score - bin.good.value).abs() < 0.08, "{bin:?}");
        }
    }
}
