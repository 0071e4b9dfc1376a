//! Means with bootstrap intervals, in memory that does not grow with the rows.
//!
//! A resample of the rows takes each of them a number of times that is close to Poisson's law of mean 1,
//! so it can be drawn as the rows pass by, without keeping them (Chamandy et al., "Estimating
//! uncertainty for massive data streams", 2012). The numbers depend on the place of a row alone: all
//! figures are resampled together, so that their differences are paired, and the same rows give the
//! same intervals.

use rand::Rng;
use rand::SeedableRng;
use rand::rngs::StdRng;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::audit::place::Place;

/// Ends of a 95 % interval then move by about a thirtieth of its width from seed to seed.
const RESAMPLES: usize = 1000;
/// Of each side.
const TAIL: f64 = 0.025;
/// Chances that a row is taken at most 0, 1, 2, .. times; it is taken more than 7 times in one of 10^6.
const AT_MOST: [f64; 8] =
    [0.367_879, 0.735_759, 0.919_699, 0.981_012, 0.996_340, 0.999_406, 0.999_917, 0.999_990];

/// A mean over rows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Mean {
    /// Of what.
    pub name: String,
    /// Rows that have a value.
    pub rows: u64,
    /// Their mean; none without rows.
    pub mean: Option<f64>,
    /// Lower end of the 95 % interval.
    pub low: Option<f64>,
    /// Upper end.
    pub high: Option<f64>,
}

/// Sums of some figures, as they are and resampled.
pub(super) struct Means<const N: usize> {
    names: [&'static str; N],
    rows: [u64; N],
    sums: [f64; N],
    /// For each resample: rows and sums.
    resampled: Vec<[(f64, f64); N]>,
}

impl<const N: usize> Means<N> {
    pub(super) fn new(names: [&'static str; N]) -> Means<N> {
        Means { names, rows: [0; N], sums: [0.0; N], resampled: vec![[(0.0, 0.0); N]; RESAMPLES] }
    }

    /// Adds a row; what is not there or no number does not count.
    pub(super) fn add(&mut self, place: Place, values: [Option<f64>; N]) {
        let values = values.map(|value| value.filter(|value| value.is_finite()));
        for (at, value) in values.iter().enumerate() {
            self.rows[at] += u64::from(value.is_some());
            self.sums[at] += value.unwrap_or_default();
        }
        let seed = u64::from(place.shard) << 32 | u64::from(place.row);
        let mut random = StdRng::seed_from_u64(seed);
        for resample in &mut self.resampled {
            let drawn: f64 = random.random();
            let times = AT_MOST.iter().take_while(|at_most| drawn > **at_most).count() as f64;
            for ((rows, sum), value) in resample.iter_mut().zip(&values) {
                if let Some(value) = value {
                    *rows += times;
                    *sum += times * value;
                }
            }
        }
    }

    pub(super) fn finish(self) -> Vec<Mean> {
        (0..N).map(|at| self.of(at)).collect()
    }

    fn of(&self, at: usize) -> Mean {
        let (rows, sum) = (self.rows[at], self.sums[at]);
        let taken = self.resampled.iter().map(|figures| figures[at]);
        let mut means: Vec<f64> =
            taken.filter(|(rows, _)| *rows > 0.0).map(|(rows, sum)| sum / rows).collect();
        means.sort_unstable_by(f64::total_cmp);
        let end = |share: f64| {
            let last = means.len().checked_sub(1)?;
            means.get((share * last as f64).round() as usize).copied()
        };
        Mean {
            name: self.names[at].to_owned(),
            rows,
            mean: (rows > 0).then(|| sum / rows as f64),
            low: end(TAIL),
            high: end(1.0 - TAIL),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// For the mean of many values the bootstrap and the normal law say the same.
    #[test]
    fn an_interval_is_about_that_of_the_normal_law() {
        let mut means = Means::new(["even", "nothing", "holes"]);
        for row in 0..400 {
            let value = f64::from(row % 2);
            let holes = (row < 100).then_some(value);
            means.add(Place { shard: 7, row }, [Some(value), None, holes]);
        }
        let [even, nothing, holes] = &means.finish()[..] else { panic!() };
        let spread = 1.96 * 0.5 / 20.0;
        assert_eq!((even.rows, even.mean), (400, Some(0.5)));
        let near = |found: Option<f64>, wanted: f64| (found.unwrap() - wanted).abs() < 0.008;
        assert!(near(even.low, 0.5 - spread) && near(even.high, 0.5 + spread), "{even:?}");
        assert_eq!((nothing.rows, nothing.mean, nothing.low), (0, None, None));
        let wider = holes.high.unwrap() - holes.low.unwrap();
        assert!(holes.rows == 100 && (wider / (4.0 * spread) - 1.0).abs() < 0.15, "{holes:?}");
    }

    #[test]
    fn what_is_no_number_does_not_count_and_one_row_has_no_width() {
        let mut means = Means::new(["figure"]);
        means.add(Place::default(), [Some(0.25)]);
        means.add(Place { shard: 0, row: 1 }, [Some(f64::NAN)]);
        let mean = means.finish().remove(0);
        assert_eq!((mean.rows, mean.mean), (1, Some(0.25)));
        assert_eq!((mean.low, mean.high), (Some(0.25), Some(0.25)));
    }
}
