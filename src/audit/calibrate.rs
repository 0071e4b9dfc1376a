//! What the doubts weigh, fitted to labelled texts, and how good the score then is.
//!
//! Logistic regression with weights that are at least 0, so that the score stays monotone, and a small
//! ridge that keeps what the labels do not speak of near what it was. Quality is measured on texts that
//! the fit did not see: five parts, groups (all texts of one picture) never divided.

use std::collections::BTreeSet;

use rand::Rng;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use sha2::Digest;
use sha2::Sha256;

use crate::audit::Config;
use crate::audit::doubts::Doubts;

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

/// How well scores tell bad texts from good ones.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Quality {
    /// Texts.
    pub texts: usize,
    /// Those that are hallucinated.
    pub hallucinated: usize,
    /// Average precision of finding them, lowest scores first, with its 95 % interval.
    pub average_precision: Interval,
    /// Area under the ROC curve.
    pub auc: Interval,
    /// Mean of (score - truth)^2.
    pub brier: f64,
    /// Mean score and share of good texts of ten bins with equally many texts.
    pub reliability: Vec<Bin>,
}

/// A figure with the interval that resampled groups give.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Interval {
    /// The figure itself.
    pub value: f64,
    /// 2.5 % of resamples are below.
    pub low: f64,
    /// 2.5 % are above.
    pub high: f64,
}

/// Texts with scores beside each other.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Bin {
    /// Texts in it.
    pub texts: usize,
    /// Their mean score.
    pub score: f64,
    /// Share of them that is not hallucinated.
    pub good: Interval,
}

/// A score and the truth about it.
pub type Scored = (f64, bool, String);

const PARTS: u64 = 5;
const RESAMPLES: usize = 500;
const BINS: usize = 10;
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

impl Quality {
    /// Of scores and truths; the same seed gives the same intervals.
    pub fn of(scored: &[Scored], seed: u64) -> Quality {
        let groups: Vec<Vec<&Scored>> = {
            let names: BTreeSet<&str> = scored.iter().map(|(_, _, group)| group.as_str()).collect();
            let mut by_name: std::collections::HashMap<&str, Vec<&Scored>> =
                std::collections::HashMap::new();
            scored.iter().for_each(|one| by_name.entry(&one.2).or_default().push(one));
            names.into_iter().filter_map(|name| by_name.remove(name)).collect()
        };
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let resampled: Vec<Vec<(f64, bool)>> = (0..RESAMPLES)
            .map(|_| {
                let drawn =
                    (0..groups.len()).map(|_| &groups[random.random_range(0..groups.len())]);
                drawn.flatten().map(|(score, good, _)| (*score, *good)).collect()
            })
            .collect();
        let plain: Vec<(f64, bool)> =
            scored.iter().map(|(score, good, _)| (*score, *good)).collect();
        let interval = |of: fn(&[(f64, bool)]) -> f64| {
            let mut values: Vec<f64> = resampled.iter().map(|texts| of(texts)).collect();
            between(of(&plain), &mut values)
        };
        let truth = |good: bool| f64::from(u8::from(good));
        let squares = plain.iter().map(|(score, good)| (score - truth(*good)).powi(2));
        Quality {
            texts: plain.len(),
            hallucinated: plain.iter().filter(|(_, good)| !good).count(),
            average_precision: interval(average_precision),
            auc: interval(auc),
            brier: squares.sum::<f64>() / plain.len().max(1) as f64,
            reliability: reliability(&plain, &resampled),
        }
    }
}

fn reliability(plain: &[(f64, bool)], resampled: &[Vec<(f64, bool)>]) -> Vec<Bin> {
    let mut sorted = plain.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let share = |texts: &[(f64, bool)]| {
        texts.iter().filter(|(_, good)| *good).count() as f64 / texts.len().max(1) as f64
    };
    let size = sorted.len().div_ceil(BINS).max(1);
    let bins = sorted.chunks(size).map(|bin| {
        let (from, to) = (bin[0].0, bin[bin.len() - 1].0);
        let mut values: Vec<f64> = resampled
            .iter()
            .map(|texts| {
                let inside = texts.iter().filter(|(score, _)| (from..=to).contains(score));
                share(&inside.copied().collect::<Vec<_>>())
            })
            .collect();
        let score = bin.iter().map(|(score, _)| score).sum::<f64>() / bin.len() as f64;
        Bin { texts: bin.len(), score, good: between(share(bin), &mut values) }
    });
    bins.collect()
}

fn between(value: f64, values: &mut [f64]) -> Interval {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let place = (share * values.len().saturating_sub(1) as f64).round() as usize;
        values.get(place).copied().unwrap_or(value)
    };
    Interval { value, low: at(0.025), high: at(0.975) }
}

/// Mean precision at each bad text, the lowest scores first. Texts of one score come together: their
/// order is chance, so each counts with the precision behind all of them.
pub fn average_precision(scored: &[(f64, bool)]) -> f64 {
    let mut sorted = scored.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut seen, mut bad, mut sum) = (0, 0, 0.0);
    for equal in sorted.chunk_by(|a, b| a.0 == b.0) {
        let new = equal.iter().filter(|(_, good)| !good).count();
        seen += equal.len();
        bad += new;
        sum += new as f64 * bad as f64 / seen as f64;
    }
    sum / bad.max(1) as f64
}

/// The chance that a good text scores above a bad one; a tie counts half.
pub fn auc(scored: &[(f64, bool)]) -> f64 {
    let mut sorted = scored.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut bad_below, mut won, mut good_all) = (0.0, 0.0, 0.0);
    for equal in sorted.chunk_by(|a, b| a.0 == b.0) {
        let good = equal.iter().filter(|(_, good)| *good).count() as f64;
        let bad = equal.len() as f64 - good;
        won += good * (bad_below + bad / 2.0);
        bad_below += bad;
        good_all += good;
    }
    let pairs = good_all * bad_below;
    if pairs > 0.0 { won / pairs } else { 0.5 }
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
    use super::*;

    #[test]
    fn figures_are_those_of_the_books() {
        // Bad texts at places 1, 3 and 4 of 5: precisions 1, 2/3, 3/4.
        let scored = [(0.1, false), (0.2, true), (0.3, false), (0.4, false), (0.5, true)];
        assert!((average_precision(&scored) - (1.0 + 2.0 / 3.0 + 0.75) / 3.0).abs() < 1e-12);
        // Of 2 * 3 pairs, 4 are in order.
        assert!((auc(&scored) - 4.0 / 6.0).abs() < 1e-12);
        let tied = [(0.5, false), (0.5, true)];
        assert_eq!((average_precision(&tied), auc(&tied)), (0.5, 0.5));
    }

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
