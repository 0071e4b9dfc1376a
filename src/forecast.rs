//! From a pilot of some rows to what all of them will cost: totals with 95 % intervals.
//!
//! The rows of a pilot are drawn in places, one at a random position in each of as many equal parts of the
//! data, because rows next to each other are read together. They are also alike: one host fails with all
//! of its pictures. So a place is what was drawn, not a row: intervals come from how places differ (the
//! ratio estimator of a cluster sample, with Student's t for few places and the correction for a finite
//! population), and those of shares are Wilson's, with as many rows as the places are worth.
//!
//! Rows are finished in bursts, as they are asked about. Time is that of the bursts after the first, in which
//! servers and limits find their pace, over the rows that they brought.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use rand::Rng;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::interval::Z;
use crate::interval::wilson_at;

#[cfg(test)]
mod tests;

/// Rows that are read together in a pilot, where there are enough of them.
const PLACE: u64 = 10;

/// Places of a small pilot, so that something can be said of how they differ.
const LEAST_PLACES: u64 = 10;

/// What a pilot came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pilot {
    /// Rows of the data.
    pub of: u64,
    /// What was tried of them, in the order in which it was finished.
    pub places: Vec<Place>,
}

/// What became of rows that are next to each other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Place {
    /// How many.
    pub rows: u64,
    /// Those that were rejected, by reason.
    pub rejected: BTreeMap<String, u64>,
    /// Answers that they needed.
    pub answers: u64,
    /// Tokens of the prompts.
    pub prompt_tokens: u64,
    /// Tokens of the answers.
    pub completion_tokens: u64,
    /// Money.
    pub cost: f64,
    /// When the last of them was finished, since the beginning of the pilot.
    pub finished: Duration,
}

/// A total that is expected.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Expected {
    /// In the pilot.
    pub pilot: f64,
    /// In all.
    pub all: f64,
    /// 95 % interval of the latter.
    pub low: f64,
    /// Its other end.
    pub high: f64,
}

/// What all rows will come to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Forecast {
    /// Rows of the pilot.
    pub rows: u64,
    /// Rows of the data.
    pub of: u64,
    /// Rows that will be refined.
    pub refined: Expected,
    /// Rows that will be rejected.
    pub rejected: Expected,
    /// The same by reason.
    pub reasons: BTreeMap<String, Expected>,
    /// Answers that will be needed.
    pub answers: Expected,
    /// Tokens of prompts.
    pub prompt_tokens: Expected,
    /// Tokens of answers.
    pub completion_tokens: Expected,
    /// Money, by the configured prices.
    pub cost: Expected,
    /// Seconds.
    pub seconds: Expected,
}

/// Where the rows of a pilot are: places of the data, ascending and apart, `rows` rows in all.
pub fn places(rows: u64, of: u64, seed: u64) -> Vec<Range<u64>> {
    let rows = rows.min(of);
    let count = rows.div_ceil(PLACE).max(rows.min(LEAST_PLACES));
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let share = |all: u64, index: u64| {
        let at = |index: u64| (u128::from(all) * u128::from(index) / u128::from(count)) as u64;
        at(index + 1) - at(index)
    };
    let mut part = 0;
    let place = |index| {
        // A part of the data is the place and what is left out around it: it is never shorter.
        let (taken, left_out) = (share(rows, index), share(of - rows, index));
        let start = part + random.random_range(0..=left_out);
        part += taken + left_out;
        start..start + taken
    };
    (0..count).map(place).collect()
}

impl Place {
    fn rejects(&self) -> u64 {
        self.rejected.values().sum()
    }
}

impl Pilot {
    /// Rows that were tried.
    pub fn rows(&self) -> u64 {
        self.places.iter().map(|place| place.rows).sum()
    }

    /// What all rows will come to.
    pub fn forecast(&self) -> Forecast {
        let reasons: BTreeSet<&String> =
            self.places.iter().flat_map(|place| place.rejected.keys()).collect();
        let of_reason = |reason: &String| {
            self.share(|place| place.rejected.get(reason).copied().unwrap_or_default())
        };
        Forecast {
            rows: self.rows(),
            of: self.of,
            refined: self.share(|place| place.rows.saturating_sub(place.rejects())),
            rejected: self.share(Place::rejects),
            reasons: reasons.into_iter().map(|name| (name.clone(), of_reason(name))).collect(),
            answers: self.total(|place| place.answers as f64),
            prompt_tokens: self.total(|place| place.prompt_tokens as f64),
            completion_tokens: self.total(|place| place.completion_tokens as f64),
            cost: self.total(|place| place.cost),
            seconds: self.seconds(),
        }
    }

    /// Of something that each place has some of.
    fn total(&self, amount: impl Fn(&Place) -> f64) -> Expected {
        let mean = self.mean(amount);
        let half = mean.t * (mean.variance * self.missing()).sqrt();
        let of = self.of as f64;
        Expected {
            pilot: mean.amount,
            all: mean.of_a_row * of,
            low: ((mean.of_a_row - half) * of).max(mean.amount),
            high: (mean.of_a_row + half) * of,
        }
    }

    /// Of rows that are of some kind.
    fn share(&self, amount: impl Fn(&Place) -> u64) -> Expected {
        let mean = self.mean(|place| amount(place) as f64);
        let (share, of) = (mean.of_a_row, self.of as f64);
        // If rows of a place were no more alike than others, the variance would be this one.
        let apart = share * (1.0 - share) / mean.rows;
        let alike = if apart > 0.0 { (mean.variance / apart).max(1.0) } else { 1.0 };
        let (low, high) = wilson_at(mean.t, share, mean.rows / alike / self.missing());
        Expected {
            pilot: mean.amount,
            all: share * of,
            low: (low * of).max(mean.amount),
            high: (high * of).min(of - mean.rows + mean.amount).max(mean.amount),
        }
    }

    fn mean(&self, amount: impl Fn(&Place) -> f64) -> Mean {
        let part = |place: &Place| Part { amount: amount(place), rows: place.rows as f64 };
        Mean::of(&self.places.iter().map(part).collect::<Vec<_>>())
    }

    /// Share of the rows that were not tried.
    fn missing(&self) -> f64 {
        let of = self.of.max(1) as f64;
        1.0 - (self.rows() as f64 / of).min(1.0)
    }

    fn seconds(&self) -> Expected {
        let bursts = self.bursts();
        let all = Mean::of(&bursts);
        let of = self.of as f64;
        let Some((first, later @ [_, _, ..])) = bursts.split_first() else {
            // All were under way at once: how fast more would be is not known, only that the pilot took so
            // long and that its beginning is not needed again for each of its size.
            let most = all.of_a_row * of;
            return Expected { pilot: all.amount, all: most, low: all.amount, high: most };
        };
        let mean = Mean::of(later);
        let rest = (of - first.rows).max(0.0);
        // The bursts to come differ among themselves as those that were seen do.
        let variance = mean.variance * (1.0 + mean.rows / rest.max(1.0));
        let half = mean.t * variance.sqrt();
        let seconds = |of_a_row: f64| first.amount + of_a_row.max(0.0) * rest;
        Expected {
            pilot: all.amount,
            all: seconds(mean.of_a_row),
            low: seconds(mean.of_a_row - half),
            high: seconds(mean.of_a_row + half),
        }
    }

    /// Seconds until some rows were finished about together, and how many those were.
    fn bursts(&self) -> Vec<Part> {
        let took = self.places.last().map_or(0.0, |place| place.finished.as_secs_f64());
        // Below this, two places were finished together: places of one batch are milliseconds apart.
        let together = took / self.places.len().max(1) as f64 / 4.0;
        let (mut bursts, mut before): (Vec<Part>, f64) = (Vec::new(), 0.0);
        for place in &self.places {
            let (now, rows) = (place.finished.as_secs_f64(), place.rows as f64);
            match bursts.last_mut() {
                Some(burst) if now - before < together => {
                    burst.amount += now - before;
                    burst.rows += rows;
                }
                _ => bursts.push(Part { amount: now - before, rows }),
            }
            before = now;
        }
        bursts
    }
}

/// An amount that came with so many rows.
struct Part {
    amount: f64,
    rows: f64,
}

/// What parts say of a row.
struct Mean {
    amount: f64,
    rows: f64,
    of_a_row: f64,
    /// Of the mean, by how parts differ from it.
    variance: f64,
    /// Half the width of a 95 % interval, in standard deviations that so many parts estimate.
    t: f64,
}

impl Mean {
    fn of(parts: &[Part]) -> Mean {
        let amount = parts.iter().map(|part| part.amount).sum::<f64>();
        let rows = parts.iter().map(|part| part.rows).sum::<f64>().max(1.0);
        let of_a_row = amount / rows;
        let squares = parts.iter().map(|part| (part.amount - of_a_row * part.rows).powi(2));
        let k = parts.len() as f64;
        let variance = squares.sum::<f64>() / (rows * rows) * k / (k - 1.0).max(1.0);
        Mean { amount, rows, of_a_row, variance, t: student(parts.len().saturating_sub(1)) }
    }
}

/// Student's t for 95 %. By Fisher's expansion around the normal, within 1 % of the tables from three degrees
/// of freedom on.
fn student(degrees: usize) -> f64 {
    match degrees {
        0 | 1 => 12.706,
        2 => 4.303,
        _ => {
            let (n, z) = (degrees as f64, Z);
            let first = (z.powi(3) + z) / 4.0;
            let second = (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0;
            let third = (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z) / 384.0;
            z + first / n + second / (n * n) + third / n.powi(3)
        }
    }
}
