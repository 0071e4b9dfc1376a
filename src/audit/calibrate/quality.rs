//! How good scores are: average precision, area under the curve, reliability, with the intervals that
//! resampling gives. Groups (all texts of one picture) are drawn as one, because their errors are.

use std::collections::BTreeMap;

use rand::Rng;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::audit::calibrate::Scored;

const RESAMPLES: usize = 500;
const BINS: usize = 10;

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

impl Quality {
    /// Of scores and truths; the same seed gives the same intervals.
    pub fn of(scored: &[Scored], seed: u64) -> Quality {
        let groups: Vec<Vec<&Scored>> = {
            let mut by_name = BTreeMap::<&str, Vec<&Scored>>::new();
            scored.iter().for_each(|one| by_name.entry(&one.2).or_default().push(one));
            by_name.into_values().collect()
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
}
