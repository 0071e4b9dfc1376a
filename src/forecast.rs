//! From a pilot of some rows to what all of them will cost: totals with 95 % intervals.
//!
//! The rows of a pilot are drawn in places, one at a random position in each of as many equal parts of the
//! data, because rows next to each other are read together. Tokens and money are means over rows, with
//! the correction for a finite population; shares have Wilson intervals; the time comes from how long
//! each place took after the first, in which servers and limits find their pace.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use rand::Rng;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::chat::Sum;
use crate::interval::Z;
use crate::interval::wilson;

/// Rows that are read together in a pilot, where there are enough of them.
const PLACE: u64 = 10;

/// What a pilot came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pilot {
    /// Rows of the pilot.
    pub rows: u64,
    /// Rows of the data.
    pub of: u64,
    /// Rows that were rejected, by reason.
    pub rejected: BTreeMap<String, u64>,
    /// Answers of the writer that the rows needed.
    pub answers: u64,
    /// Tokens of their prompts, each.
    pub prompt_tokens: Sum,
    /// Their own tokens, each.
    pub completion_tokens: Sum,
    /// Money, each.
    pub cost: Sum,
    /// How long each place took.
    pub places: Vec<Duration>,
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
    /// Answers that the writer will give.
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

/// Where the rows of a pilot are: places of the data, ascending, `rows` rows in all.
pub fn places(rows: u64, of: u64, seed: u64) -> Vec<Range<u64>> {
    let rows = rows.min(of);
    if rows == 0 {
        return Vec::new();
    }
    let count = rows.div_ceil(PLACE);
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let part = |of: u64, index: u64| {
        let at = |index: u64| (u128::from(of) * u128::from(index) / u128::from(count)) as u64;
        at(index)..at(index + 1)
    };
    let place = |index| {
        let (stratum, taken) = (part(of, index), part(rows, index));
        let (length, wanted) = (stratum.end - stratum.start, taken.end - taken.start);
        let start = stratum.start + random.random_range(0..=length.saturating_sub(wanted));
        start..start + wanted
    };
    (0..count).map(place).collect()
}

impl Pilot {
    /// What all rows will come to.
    pub fn forecast(&self) -> Forecast {
        let rejected: u64 = self.rejected.values().sum();
        let share = |rows| self.share(rows);
        let ones = Sum { total: self.answers as f64, squares: self.answers as f64 };
        Forecast {
            rows: self.rows,
            of: self.of,
            refined: share(self.rows.saturating_sub(rejected)),
            rejected: share(rejected),
            reasons: self
                .rejected
                .iter()
                .map(|(name, &rows)| (name.clone(), share(rows)))
                .collect(),
            answers: self.total(&ones),
            prompt_tokens: self.total(&self.prompt_tokens),
            completion_tokens: self.total(&self.completion_tokens),
            cost: self.total(&self.cost),
            seconds: self.seconds(),
        }
    }

    /// Of a share of the rows.
    fn share(&self, rows: u64) -> Expected {
        let (n, of, share) = (self.rows.max(1) as f64, self.of as f64, self.rows_share(rows));
        let (low, high) = match self.is_all() {
            true => (share, share),
            false => wilson(share, n),
        };
        Expected { pilot: rows as f64, all: share * of, low: low * of, high: high * of }
    }

    fn rows_share(&self, rows: u64) -> f64 {
        rows as f64 / self.rows.max(1) as f64
    }

    /// Of something that each row has some of.
    fn total(&self, sum: &Sum) -> Expected {
        let (n, of) = (self.rows.max(1) as f64, self.of as f64);
        let mean = sum.total / n;
        // Rows that are asked about again have several answers: as if all of a row's were alike, which is
        // the most that they can differ between rows.
        let of_a_row = (self.answers as f64 / n).ceil().max(1.0);
        let variance = (of_a_row * sum.squares / n - mean * mean).max(0.0);
        let missing = (1.0 - n / of.max(n)).max(0.0);
        let half = Z * (variance / n * missing).sqrt();
        Expected {
            pilot: sum.total,
            all: mean * of,
            low: ((mean - half) * of).max(sum.total),
            high: (mean + half) * of,
        }
    }

    fn seconds(&self) -> Expected {
        let spent: f64 = self.places.iter().map(Duration::as_secs_f64).sum();
        let warm = if self.places.len() > 2 { &self.places[1..] } else { &self.places[..] };
        let each: Vec<f64> = warm.iter().map(Duration::as_secs_f64).collect();
        let n = each.len().max(1) as f64;
        let mean = each.iter().sum::<f64>() / n;
        let variance =
            each.iter().map(|took| (took - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
        let half = Z * (variance / n).sqrt();
        // A place has as many rows as the others, but for one row.
        let places = self.of as f64 * self.places.len() as f64 / self.rows.max(1) as f64;
        Expected {
            pilot: spent,
            all: mean * places,
            low: (mean - half).max(0.0) * places,
            high: (mean + half) * places,
        }
    }

    fn is_all(&self) -> bool {
        self.rows >= self.of
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::prop_assert;
    use proptest::prelude::prop_assert_eq;
    use proptest::proptest;

    proptest! {
        #[test]
        fn places_are_apart_in_order_and_have_the_rows(
            rows in 0u64..500, of in 0u64..5_000, seed: u64,
        ) {
            let places = places(rows, of, seed);
            prop_assert_eq!(places.iter().map(|p| p.end - p.start).sum::<u64>(), rows.min(of));
            prop_assert!(places.windows(2).all(|pair| pair[0].end <= pair[1].start));
            prop_assert!(places.iter().all(|place| place.end <= of && place.start < place.end));
        }
    }

    #[test]
    fn seeds_choose_other_places() {
        assert_eq!(places(200, 100_000, 1), places(200, 100_000, 1));
        assert_ne!(places(200, 100_000, 1), places(200, 100_000, 2));
        assert_eq!(places(200, 100_000, 1).len(), 20);
    }

    /// 95 of 100 intervals hold what is true, for costs that differ much from row to row.
    #[test]
    fn intervals_hold_what_comes() {
        let of = 10_000u64;
        let mut random = ChaCha8Rng::seed_from_u64(3);
        // A fifth of the rows is rejected and costs nothing, the others cost 1 to 9.
        let costs: Vec<Option<f64>> = (0..of)
            .map(|_| random.random_bool(0.8).then(|| random.random_range(1.0..9.0)))
            .collect();
        let truth: f64 = costs.iter().flatten().sum();
        let refined = costs.iter().flatten().count() as f64;
        let (mut held_cost, mut held_rows) = (0, 0);
        for seed in 0..400 {
            let mut pilot = Pilot { of, ..Pilot::default() };
            for row in places(200, of, seed).into_iter().flatten() {
                pilot.rows += 1;
                match costs[row as usize] {
                    Some(cost) => {
                        pilot.answers += 1;
                        pilot.cost.add(cost);
                    }
                    None => *pilot.rejected.entry("blank".to_owned()).or_default() += 1,
                }
            }
            let Forecast { cost, refined: rows, .. } = pilot.forecast();
            held_cost += usize::from(cost.low <= truth && truth <= cost.high);
            held_rows += usize::from(rows.low <= refined && refined <= rows.high);
        }
        for held in [held_cost, held_rows] {
            assert!((368..=392).contains(&held), "{held_cost} and {held_rows} of 400");
        }
    }

    #[test]
    fn a_pilot_of_everything_is_certain() {
        let mut pilot = Pilot { rows: 50, of: 50, answers: 40, ..Pilot::default() };
        pilot.rejected.insert("blank".to_owned(), 10);
        (0..40).for_each(|_| pilot.cost.add(0.5));
        let forecast = pilot.forecast();
        let certain = |all: f64| Expected { pilot: all, all, low: all, high: all };
        assert_eq!((forecast.refined, forecast.cost), (certain(40.0), certain(20.0)));
        assert_eq!(forecast.reasons["blank"], certain(10.0));
    }

    #[test]
    fn rows_with_several_answers_widen_the_interval() {
        let mut pilot = Pilot { rows: 200, of: 8_000, answers: 323, ..Pilot::default() };
        (0..323).for_each(|_| pilot.cost.add(1.0));
        let cost = pilot.forecast().cost;
        assert_eq!(cost.all, 12_920.0);
        // 123 of 200 rows have two: a binomial share says 1.96 * sqrt(0.615 * 0.385 / 200) = 6.7 %.
        assert!(cost.high - cost.all > 0.067 * 8_000.0 && cost.high < 1.1 * cost.all, "{cost:?}");
    }

    #[test]
    fn time_is_that_of_places_after_the_first() {
        let places = [9, 2, 2, 2].map(Duration::from_secs).to_vec();
        let pilot = Pilot { rows: 40, of: 400, places, ..Pilot::default() };
        let seconds = pilot.forecast().seconds;
        assert_eq!(
            (seconds.pilot, seconds.all, seconds.low, seconds.high),
            (15.0, 80.0, 80.0, 80.0)
        );
        let empty = Pilot::default().forecast();
        assert_eq!((empty.seconds.all, empty.cost.all), (0.0, 0.0));
    }
}
