//! Whether shards, models or prompts differ in a figure by more than chance.
//!
//! Each group is compared with all other rows by Welch's test, with the normal distribution in place of
//! Student's: groups of fewer than 50 rows are not judged. P-values are corrected for the number of
//! comparisons (Holm, 1979), and a difference counts only if it is also at least a fifth of the
//! standard deviation (Cohen's d): among millions of rows everything differs by more than chance.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

/// The figures that are compared, in this order.
pub(super) const FIGURES: [&str; 9] = [
    "score",
    "no generated text",
    "flagged",
    "words from nowhere",
    "objects from nowhere",
    "facts kept",
    "novelty",
    "words",
    "tags mentioned",
];

/// Rows below which a group is not judged.
const LEAST_ROWS: u64 = 50;
/// Largest corrected p-value of a difference.
const MOST_CHANCE: f64 = 0.01;
/// Smallest difference, in standard deviations.
const LEAST_EFFECT: f64 = 0.2;
/// Groups of one kind; what comes later belongs to none.
const ROOM: usize = 10_000;

/// Sums of each figure by group.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Groups(BTreeMap<String, [Moments; FIGURES.len()]>);

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Moments {
    rows: u64,
    sum: f64,
    squares: f64,
}

/// A figure of one group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Drift {
    /// `shard`, `model` or `prompt`.
    pub kind: String,
    /// Which.
    pub group: String,
    /// The figure.
    pub figure: String,
    /// Rows of the group that have it.
    pub rows: u64,
    /// Its mean in the group.
    pub mean: f64,
    /// Its mean in all other rows.
    pub others: f64,
    /// The difference in standard deviations.
    pub effect: f64,
    /// How likely chance alone makes such a difference, corrected for the number of comparisons;
    /// `None` where there is nothing to compare or too little.
    pub p: Option<f64>,
    /// Whether it is more than chance, and large enough to matter.
    pub differs: bool,
}

impl Groups {
    pub(super) fn add(&mut self, group: &str, values: &[Option<f64>; FIGURES.len()]) {
        if !self.0.contains_key(group) {
            if self.0.len() >= ROOM {
                return;
            }
            self.0.insert(group.to_owned(), Default::default());
        }
        let Some(moments) = self.0.get_mut(group) else { return };
        for (moments, value) in moments.iter_mut().zip(values) {
            value.iter().for_each(|value| moments.add(*value));
        }
    }

    pub(super) fn merge(&mut self, other: &Groups) {
        for (group, theirs) in &other.0 {
            if self.0.len() >= ROOM && !self.0.contains_key(group) {
                continue;
            }
            let ours = self.0.entry(group.clone()).or_default();
            ours.iter_mut().zip(theirs).for_each(|(ours, theirs)| ours.merge(theirs));
        }
    }

    /// Every figure of every group, judged.
    pub(super) fn drift(&self, kind: &str) -> Vec<Drift> {
        let mut total = [Moments::default(); FIGURES.len()];
        for moments in self.0.values() {
            total.iter_mut().zip(moments).for_each(|(total, ours)| total.merge(ours));
        }
        let mut all = Vec::new();
        for (group, moments) in &self.0 {
            for (place, figure) in FIGURES.iter().enumerate() {
                all.extend(compared(kind, group, figure, &moments[place], &total[place]));
            }
        }
        judge(&mut all);
        all
    }
}

impl Moments {
    fn add(&mut self, value: f64) {
        self.rows += 1;
        self.sum += value;
        self.squares += value * value;
    }

    fn merge(&mut self, other: &Moments) {
        self.rows += other.rows;
        self.sum += other.sum;
        self.squares += other.squares;
    }

    fn without(&self, part: &Moments) -> Moments {
        Moments {
            rows: self.rows - part.rows,
            sum: self.sum - part.sum,
            squares: self.squares - part.squares,
        }
    }

    fn mean(&self) -> f64 {
        self.sum / self.rows.max(1) as f64
    }

    fn variance(&self) -> f64 {
        (self.squares / self.rows.max(1) as f64 - self.mean().powi(2)).max(0.0)
    }
}

fn compared(
    kind: &str,
    group: &str,
    figure: &str,
    ours: &Moments,
    total: &Moments,
) -> Option<Drift> {
    if ours.rows == 0 {
        return None;
    }
    let rest = total.without(ours);
    let deviation = total.variance().sqrt();
    let difference = ours.mean() - rest.mean();
    let error =
        (ours.variance() / ours.rows as f64 + rest.variance() / rest.rows.max(1) as f64).sqrt();
    let enough = ours.rows.min(rest.rows) >= LEAST_ROWS && deviation > 1e-9;
    // Both groups without any spread and unlike: no chance at all.
    let z = if error > 0.0 { difference.abs() / error } else { f64::INFINITY };
    Some(Drift {
        kind: kind.to_owned(),
        group: group.to_owned(),
        figure: figure.to_owned(),
        rows: ours.rows,
        mean: ours.mean(),
        others: if rest.rows > 0 { rest.mean() } else { ours.mean() },
        effect: if enough { difference / deviation } else { 0.0 },
        p: enough.then(|| two_sided(z)),
        differs: false,
    })
}

/// Corrects the p-values of all comparisons (Holm) and says which differ.
fn judge(all: &mut [Drift]) {
    let mut order: Vec<usize> = (0..all.len()).filter(|&place| all[place].p.is_some()).collect();
    let p = |all: &[Drift], place: usize| all[place].p.unwrap_or(1.0);
    order.sort_by(|&a, &b| p(all, a).total_cmp(&p(all, b)));
    let (many, mut least) = (order.len(), 0f64);
    for (rank, place) in order.into_iter().enumerate() {
        least = least.max((p(all, place) * (many - rank) as f64).min(1.0));
        all[place].p = Some(least);
        all[place].differs = least <= MOST_CHANCE && all[place].effect.abs() >= LEAST_EFFECT;
    }
}

/// How likely a standard normal value is at least this far from 0. Up to 5 by Abramowitz and Stegun's
/// 26.2.17: off by at most 1.5e-7, which is 2 in 1000 of the value at 5. Beyond 5 by the first term of
/// the asymptotic series: too large by less than 1 part in z squared (4 % at 5, and falling).
fn two_sided(z: f64) -> f64 {
    let density = (-z * z / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    if z > 5.0 {
        return (2.0 * density / z).min(1.0);
    }
    let t = 1.0 / (1.0 + 0.231_641_9 * z);
    let terms = [0.319_381_53, -0.356_563_782, 1.781_477_937, -1.821_255_978, 1.330_274_429];
    let sum = terms.iter().rev().fold(0.0, |sum, term| (sum + term) * t);
    (2.0 * density * sum).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::place::mixed;

    fn noise(seed: u64) -> f64 {
        mixed(seed) as f64 / u64::MAX as f64
    }

    fn groups(of: impl Fn(u64, u64) -> f64) -> Vec<Drift> {
        let mut groups = Groups::default();
        for group in 0..10 {
            for row in 0..400 {
                let mut values = [None; FIGURES.len()];
                values[0] = Some(of(group, row));
                groups.add(&group.to_string(), &values);
            }
        }
        groups.drift("shard")
    }

    #[test]
    fn a_group_that_differs_is_found_and_chance_is_not() {
        let same = groups(|group, row| noise(group * 1000 + row));
        assert_eq!(same.len(), 10);
        assert!(same.iter().all(|drift| !drift.differs && drift.p.is_some()), "{same:?}");
        let one =
            groups(|group, row| noise(group * 1000 + row) + if group == 3 { 0.2 } else { 0.0 });
        let found: Vec<&str> =
            one.iter().filter(|drift| drift.differs).map(|drift| &*drift.group).collect();
        assert_eq!(found, ["3"]);
    }

    #[test]
    fn a_difference_that_is_small_is_none_however_sure() {
        let tiny = groups(|group, row| noise(row) + if group == 3 { 0.03 } else { 0.0 });
        assert!(tiny.iter().all(|drift| !drift.differs), "{tiny:?}");
    }

    #[test]
    fn tails_are_those_of_the_normal_distribution() {
        for (z, p) in [(0.0, 1.0), (1.0, 0.317_310_5), (1.96, 0.049_995_8), (4.0, 6.334e-5)] {
            assert!((two_sided(z) - p).abs() < 1e-6, "{z}: {}", two_sided(z));
        }
        assert!(two_sided(f64::INFINITY) == 0.0 && two_sided(8.0) < 1e-14);
    }
}
