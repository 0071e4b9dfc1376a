//! How the values of one figure are spread over the rows: equal bins, with a mean and examples.

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::audit::place::Examples;
use crate::audit::place::Place;

/// Counts a figure.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Spread {
    from: f64,
    to: f64,
    sum: f64,
    bins: Vec<(u64, Examples)>,
}

/// The values of a figure in equal bins; the first and the last take what is beyond.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Distribution {
    /// Where the first bin starts.
    pub from: f64,
    /// Where the last bin ends.
    pub to: f64,
    /// Rows that have a value.
    pub rows: u64,
    /// Mean of the values; `None` where no row has one.
    pub mean: Option<f64>,
    /// Rows in each bin.
    pub bins: Vec<u64>,
    /// A few rows of each bin.
    pub examples: Vec<Vec<Place>>,
}

impl Spread {
    pub(super) fn new(from: f64, to: f64, bins: usize) -> Spread {
        Spread { from, to, sum: 0.0, bins: vec![(0, Examples::default()); bins.max(1)] }
    }

    pub(super) fn add(&mut self, value: f64, hash: u64, place: Place) {
        if value.is_nan() {
            return;
        }
        self.sum += value;
        let share = (value - self.from) / (self.to - self.from);
        // A value below the first bin is in it: `as` saturates.
        let bin = ((share * self.bins.len() as f64 + 1e-6) as usize).min(self.bins.len() - 1);
        self.bins[bin].0 += 1;
        self.bins[bin].1.add(hash, place);
    }

    pub(super) fn merge(&mut self, other: &Spread) {
        self.sum += other.sum;
        for (bin, theirs) in self.bins.iter_mut().zip(&other.bins) {
            bin.0 += theirs.0;
            bin.1.merge(&theirs.1);
        }
    }

    pub(super) fn distribution(&self) -> Distribution {
        let rows = self.bins.iter().map(|bin| bin.0).sum();
        Distribution {
            from: self.from,
            to: self.to,
            rows,
            mean: (rows > 0).then(|| self.sum / rows as f64),
            bins: self.bins.iter().map(|bin| bin.0).collect(),
            examples: self.bins.iter().map(|bin| bin.1.places()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_value_is_in_the_bin_that_starts_with_it() {
        let mut spread = Spread::new(0.0, 1.0, 10);
        for value in [0.0, 0.3, 0.7, 0.999, 1.0, 7.0, -1.0, f64::NAN] {
            spread.add(value, 0, Place::default());
        }
        let spread = spread.distribution();
        assert_eq!(spread.bins, [2, 0, 0, 1, 0, 0, 0, 1, 0, 3]);
        assert_eq!(spread.rows, 7);
    }

    proptest! {
        #[test]
        fn every_value_is_counted_once(values in prop::collection::vec(-2.0f64..3.0, 0..60)) {
            let mut spread = Spread::new(0.0, 1.0, 7);
            values.iter().for_each(|value| spread.add(*value, 0, Place::default()));
            let found = spread.distribution();
            prop_assert_eq!(found.bins.iter().sum::<u64>(), values.len() as u64);
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            prop_assert!(found.mean.is_none_or(|found| (found - mean).abs() < 1e-9));
        }
    }
}
