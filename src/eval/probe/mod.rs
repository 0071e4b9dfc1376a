//! Linear probe: how far one linear layer gets on frozen features.
//!
//! The search is that of CLIP (Radford et al. 2021, appendix A.3): multinomial logistic regression by
//! L-BFGS with at most 1000 steps; the strength of the regulariser is searched between 1e-6 and 1e6,
//! first at every second power of ten, then around the best at ever smaller distances down to eight
//! values a power of ten; the classifier that is judged is fitted anew to training and validation
//! pictures together. The features are others: CLIP takes those before the projection into the space
//! of texts as they are, here they are embeddings after it, of length 1, so numbers are not those of
//! CLIP's table.

mod lbfgs;
mod logistic;
mod split;

use std::collections::BTreeMap;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use candle_core::Tensor;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::eval::data::Metric;
use crate::eval::metrics;

pub use logistic::Logistic;
pub use split::stratified;

/// Features with one class each.
#[derive(Clone, Debug)]
pub struct Part {
    /// (n, D)
    pub features: Tensor,
    /// n classes.
    pub targets: Vec<usize>,
}

/// What the probe found.
#[derive(Clone, Debug, PartialEq)]
pub struct Probed {
    /// How many classes come before the right one, of each test picture.
    pub ranks: Vec<usize>,
    /// How the regulariser was chosen.
    pub choice: Choice,
}

/// How the regulariser was chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Choice {
    /// scikit-learn's `C`, of the classifier that was judged.
    pub c: f64,
    /// What it scored on the validation pictures.
    pub validation: f64,
    /// Every `C` that was tried, and what it scored.
    pub tried: Vec<(f64, f64)>,
}

/// Values of C that can be chosen: eight a power of ten from 1e-6 to 1e6.
const VALUES: usize = 97;
/// Between the first values that are tried: two powers of ten.
const FIRST_STEP: usize = 16;

/// Chooses the regulariser on `validation`, fits to `train` and `validation`, judges `test`.
///
/// # Errors
/// When a part is empty or has features of another size, or a feature is not finite.
pub fn score(
    train: &Part,
    validation: &Part,
    test: &Part,
    classes: usize,
    metric: Metric,
) -> Result<Probed> {
    for (part, what) in [(train, "train"), (validation, "choose"), (test, "test")] {
        ensure!(!part.targets.is_empty(), "no pictures to {what} a linear probe with");
    }
    let (place, tried) = sweep(train, validation, classes, metric)?;
    let all = train.with(validation)?;
    let fitted = Logistic::fit(&all.features, &all.targets, classes, value(place), None)?;
    let ranks = metrics::ranks(&fitted.logits(&test.features)?, &test.targets)?;
    let choice = Choice {
        c: value(place),
        validation: tried[&place],
        tried: tried.into_iter().map(|(place, score)| (value(place), score)).collect(),
    };
    Ok(Probed { ranks, choice })
}

fn value(place: usize) -> f64 {
    10f64.powf(place as f64 / 8.0 - 6.0)
}

/// The best place among the values, and what was scored at those that were looked at.
fn sweep(
    train: &Part,
    validation: &Part,
    classes: usize,
    metric: Metric,
) -> Result<(usize, BTreeMap<usize, f64>)> {
    let mut fitted: BTreeMap<usize, Logistic> = BTreeMap::new();
    let mut judge = |place: usize| {
        // The neighbour is most of the way.
        let before = fitted.range(..place).next_back().map(|(_, fitted)| fitted);
        let found = Logistic::fit(&train.features, &train.targets, classes, value(place), before)?;
        let logits = found.logits(&validation.features)?;
        fitted.insert(place, found);
        match metric {
            Metric::Top1 => metrics::accuracy(&logits, &validation.targets),
            Metric::MeanPerClass => metrics::mean_per_class(&logits, &validation.targets),
        }
    };
    peak(&mut judge)
}

/// Looks for the highest score: widely first, then around the best with half the distance, as long as
/// there is one. Of equals the lowest place, which is the strongest regulariser.
fn peak(judge: &mut dyn FnMut(usize) -> Result<f64>) -> Result<(usize, BTreeMap<usize, f64>)> {
    let mut scores = BTreeMap::new();
    for place in (0..VALUES).step_by(FIRST_STEP) {
        scores.insert(place, judge(place)?);
    }
    let mut step = FIRST_STEP / 2;
    while step > 0 {
        let around = best(&scores)?;
        for place in [around.checked_sub(step), Some(around + step)].into_iter().flatten() {
            if place < VALUES && !scores.contains_key(&place) {
                scores.insert(place, judge(place)?);
            }
        }
        step /= 2;
    }
    Ok((best(&scores)?, scores))
}

fn best(scores: &BTreeMap<usize, f64>) -> Result<usize> {
    // From the back, because the last of equals is taken.
    let best = scores.iter().rev().max_by(|a, b| a.1.total_cmp(b.1));
    best.map(|(&place, _)| place).context("no value was tried")
}

impl Part {
    /// These rows of features.
    pub fn of(features: &Tensor, targets: &[usize], rows: &[usize]) -> Result<Part> {
        let index: Vec<u32> = rows.iter().map(|&row| row as u32).collect();
        let index = Tensor::new(index, features.device())?;
        let targets = rows.iter().map(|&row| targets[row]).collect();
        Ok(Part { features: features.index_select(&index, 0)?, targets })
    }

    fn with(&self, other: &Part) -> Result<Part> {
        let features = Tensor::cat(&[&self.features, &other.features], 0)?;
        Ok(Part { features, targets: [self.targets.as_slice(), &other.targets].concat() })
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use serde_json::Value;

    use super::*;

    /// Features and results of scikit-learn; `make_probe.py` beside them made them.
    fn fixture() -> (Part, Part, Value) {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/probe");
        let file = format!("{folder}/probe.safetensors");
        let tensors = candle_core::safetensors::load(file, &Device::Cpu).unwrap();
        let json = std::fs::read_to_string(format!("{folder}/probe.json")).unwrap();
        let part = |name: &str| {
            let targets: Vec<i64> = tensors[&format!("{name}_targets")].to_vec1().unwrap();
            let targets = targets.into_iter().map(|target| target as usize).collect();
            Part { features: tensors[&format!("{name}_features")].clone(), targets }
        };
        (part("train"), part("test"), serde_json::from_str(&json).unwrap())
    }

    fn top1(fitted: &Logistic, part: &Part) -> f64 {
        let logits = fitted.logits(&part.features).unwrap();
        let ranks = metrics::ranks(&logits, &part.targets).unwrap();
        ranks.iter().filter(|&&rank| rank == 0).count() as f64 / ranks.len() as f64
    }

    #[test]
    fn fits_are_those_of_scikit_learn() {
        let (train, test, wanted) = fixture();
        let classes = wanted["classes"].as_u64().unwrap() as usize;
        let mut before: Option<Logistic> = None;
        for fit in wanted["fits"].as_array().unwrap() {
            let c = fit["C"].as_f64().unwrap();
            let cold = Logistic::fit(&train.features, &train.targets, classes, c, None).unwrap();
            let warm = before.as_ref().or(Some(&cold));
            let warm = Logistic::fit(&train.features, &train.targets, classes, c, warm).unwrap();
            for (found, how) in [(&cold, "cold"), (&warm, "warm")] {
                // The loss decides, and it may not be better than the least there is by more than
                // rounding. Weights of a nearly flat valley differ more, which is why only what comes
                // out of them is compared.
                let loss = fit["objective"].as_f64().unwrap();
                assert!(
                    (found.objective / loss - 1.0).abs() < 1e-4,
                    "{how} {c}: {}",
                    found.objective
                );
                let accuracy = fit["accuracy"].as_f64().unwrap();
                assert!((top1(found, &test) - accuracy).abs() < 0.005, "{how} {c}");
            }
            before = Some(cold);
        }
    }

    #[test]
    fn the_probability_of_a_row_is_that_of_scikit_learn() {
        let (train, test, wanted) = fixture();
        let classes = wanted["classes"].as_u64().unwrap() as usize;
        let fit = &wanted["fits"][1];
        let c = fit["C"].as_f64().unwrap();
        let found = Logistic::fit(&train.features, &train.targets, classes, c, None).unwrap();
        let logits = found.logits(&test.features.narrow(0, 0, 1).unwrap()).unwrap();
        let found = candle_nn::ops::softmax(&logits, 1).unwrap().to_vec2::<f32>().unwrap();
        for (found, wanted) in found[0].iter().zip(fit["first_row"].as_array().unwrap()) {
            assert!(
                (f64::from(*found) - wanted.as_f64().unwrap()).abs() < 2e-3,
                "{found} {wanted}"
            );
        }
    }

    #[test]
    fn the_whole_protocol_is_that_of_scikit_learn_within_half_a_point() {
        let (train, test, wanted) = fixture();
        let classes = wanted["classes"].as_u64().unwrap() as usize;
        let held = train.targets.len() * 4 / 5;
        let rows: Vec<usize> = (0..train.targets.len()).collect();
        let part = |rows: &[usize]| Part::of(&train.features, &train.targets, rows).unwrap();
        let (fitted, validation) = (part(&rows[..held]), part(&rows[held..]));
        let probed = score(&fitted, &validation, &test, classes, Metric::Top1).unwrap();
        let top1 = probed.ranks.iter().filter(|&&rank| rank == 0).count() as f64
            / probed.ranks.len() as f64;
        let sweep = &wanted["sweep"];
        assert!((top1 - sweep["accuracy"].as_f64().unwrap()).abs() < 0.005, "{top1} {sweep}");
        assert!((probed.choice.validation - sweep["validation"].as_f64().unwrap()).abs() < 0.005);
        let again = score(&fitted, &validation, &test, classes, Metric::Top1).unwrap();
        assert_eq!(again, probed);
    }

    #[test]
    fn the_search_finds_what_trying_all_values_does() {
        for summit in [0, 3, 31, 48, 77, 95, 96] {
            let curve = |place: usize| 1.0 / (1.0 + (place as f64 - summit as f64).powi(2));
            let (found, scores) = peak(&mut |place| Ok(curve(place))).unwrap();
            let all: BTreeMap<usize, f64> =
                (0..VALUES).map(|place| (place, curve(place))).collect();
            assert_eq!(found, best(&all).unwrap());
            assert!(scores.len() <= 15);
        }
        let (found, _) = peak(&mut |_| Ok(0.5)).unwrap();
        assert_eq!(found, 0);
    }
}
