//! How far a score could have been another one with other pictures: percentile intervals of the
//! bootstrap.
//!
//! A sample is whatever a score is a mean over: pictures of a classification, queries of a retrieval.
//! A mean over classes is resampled within each class, because a class that a resample has lost would
//! change what is measured; where classes have a picture or two, its intervals are too narrow. So are
//! those of texts that look for their picture where pictures have several texts: these are drawn one by
//! one, as if they did not depend on each other. The difference of two models is that of their values
//! at the same samples.

use rand::Rng;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rayon::iter::IntoParallelIterator;
use rayon::iter::ParallelIterator;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

/// How intervals are made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How often the samples are drawn anew.
    pub resamples: u32,
    /// Where the random numbers start.
    pub seed: u64,
}

impl Default for Config {
    fn default() -> Config {
        Config { resamples: 2_000, seed: 0 }
    }
}

/// Between the 2.5th and the 97.5th percentile.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Interval {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

/// A value of each sample, and whether the classes of samples weigh the same.
#[derive(Clone, Debug, PartialEq)]
pub struct Values {
    /// 1 or 0 for found or not, or the difference of two of these.
    pub values: Vec<f64>,
    /// The class of each sample, where the score is the mean over classes of their means.
    pub classes: Option<Vec<usize>>,
}

const TAIL: f64 = 0.025;

impl Values {
    /// The score; none without samples.
    pub fn score(&self) -> Option<f64> {
        let groups = self.groups();
        let mean = |group: &Vec<usize>| {
            group.iter().map(|&at| self.values[at]).sum::<f64>() / group.len() as f64
        };
        (!groups.is_empty()).then(|| groups.iter().map(mean).sum::<f64>() / groups.len() as f64)
    }

    /// The interval of the score; none without samples.
    pub fn interval(&self, config: &Config) -> Option<Interval> {
        let groups = self.groups();
        if groups.is_empty() || config.resamples == 0 {
            return None;
        }
        // Each resample has random numbers of its own, so that any number of threads draws the same.
        let resamples = 0..u64::from(config.resamples);
        let mut scores: Vec<f64> = resamples
            .into_par_iter()
            .map(|number| self.resampled(&groups, config.seed.wrapping_mul(1 << 32) ^ number))
            .collect();
        scores.sort_unstable_by(f64::total_cmp);
        Some(Interval { low: quantile(&scores, TAIL), high: quantile(&scores, 1.0 - TAIL) })
    }

    /// What these have that `other` has not; none where they are not of the same samples.
    pub fn minus(&self, other: &Values) -> Option<Values> {
        if self.classes != other.classes || self.values.len() != other.values.len() {
            return None;
        }
        let values = self.values.iter().zip(&other.values).map(|(a, b)| a - b).collect();
        Some(Values { values, classes: self.classes.clone() })
    }

    fn resampled(&self, groups: &[Vec<usize>], seed: u64) -> f64 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut sum = 0.0;
        for group in groups {
            let draws = (0..group.len()).map(|_| group[random.random_range(0..group.len())]);
            sum += draws.map(|at| self.values[at]).sum::<f64>() / group.len() as f64;
        }
        sum / groups.len() as f64
    }

    /// Samples that weigh as one: all of them, or those of a class.
    fn groups(&self) -> Vec<Vec<usize>> {
        let mut groups = match &self.classes {
            None => vec![(0..self.values.len()).collect()],
            Some(classes) => {
                let mut groups = vec![Vec::new(); classes.iter().max().map_or(0, |most| most + 1)];
                classes.iter().enumerate().for_each(|(at, &class)| groups[class].push(at));
                groups
            }
        };
        groups.retain(|group: &Vec<usize>| !group.is_empty());
        groups
    }
}

/// Between neighbours, as numpy does it.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = (sorted.len() - 1) as f64 * share;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    below + (above - below) * place.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(ones: usize, of: usize) -> Values {
        let values = (0..of).map(|i| f64::from(u8::from(i < ones))).collect();
        Values { values, classes: None }
    }

    #[test]
    fn an_interval_of_a_share_is_about_that_of_the_binomial() {
        let config = Config::default();
        let values = shares(300, 1000);
        assert_eq!(values.score(), Some(0.3));
        let found = values.interval(&config).unwrap();
        let error = 1.96 * (0.3f64 * 0.7 / 1000.0).sqrt();
        assert!(
            (found.low - (0.3 - error)).abs() < 0.004 && (found.high - (0.3 + error)).abs() < 0.004
        );
        assert_eq!(values.interval(&config), Some(found), "the same again");
        assert_ne!(values.interval(&Config { seed: 1, ..config }), Some(found));
    }

    #[test]
    fn classes_weigh_the_same_and_stay_in_every_resample() {
        let mut values = shares(90, 100);
        values.classes = Some((0..100).map(|i| usize::from(i >= 90) * 5).collect());
        assert_eq!(values.score(), Some(0.5));
        // Each class is all right or all wrong: whatever is drawn within it, the mean is the same.
        assert_eq!(values.interval(&Config::default()), Some(Interval { low: 0.5, high: 0.5 }));
    }

    #[test]
    fn a_difference_of_the_same_samples_is_narrower_than_its_parts() {
        let (a, b) = (shares(320, 1000), shares(300, 1000));
        let difference = a.minus(&b).unwrap();
        assert!((difference.score().unwrap() - 0.02).abs() < 1e-12);
        let paired = difference.interval(&Config::default()).unwrap();
        assert!(paired.low > 0.0 && paired.high < 0.04, "{paired:?}");
        assert!(a.minus(&shares(1, 2)).is_none());
        assert_eq!(shares(0, 0).interval(&Config::default()), None);
    }
}
