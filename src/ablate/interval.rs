//! Means over few seeds, with Student's intervals.

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

/// A mean, and how far the true one may be from it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// Half the width of the 95 % interval; none of a single value.
    pub half_width: Option<f64>,
}

/// 97.5 % quantiles of Student's t with 1, 2, .. 30 degrees of freedom.
const STUDENT: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
    2.052, 2.048, 2.045, 2.042,
];

/// With more degrees of freedom than that, a little too wide.
const MANY: f64 = 2.042;

impl Estimate {
    /// Of independent values; none of none.
    pub fn of(values: &[f64]) -> Option<Estimate> {
        let n = values.len() as f64;
        if values.is_empty() {
            return None;
        }
        let mean = values.iter().sum::<f64>() / n;
        let half_width = (values.len() > 1).then(|| {
            let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
            let t = STUDENT.get(values.len() - 2).copied().unwrap_or(MANY);
            t * (squares / (n - 1.0) / n).sqrt()
        });
        Some(Estimate { mean, half_width })
    }

    /// Of the differences of values that belong together: the seeds are the same in both arms.
    pub fn of_differences(values: &[f64], from: &[f64]) -> Option<Estimate> {
        let differences: Vec<f64> = values.iter().zip(from).map(|(a, b)| a - b).collect();
        Estimate::of(&differences)
    }

    /// Whether zero is outside of the interval.
    pub fn is_clear(&self) -> bool {
        self.half_width.is_some_and(|half| self.mean.abs() > half)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_students() {
        // scipy.stats.t.interval(0.95, 3, 2.5, sem([1, 2, 3, 4])) is 0.4457 .. 4.5543.
        let found = Estimate::of(&[1.0, 2.0, 3.0, 4.0]).unwrap();
        assert!((found.mean - 2.5).abs() < 1e-12);
        assert!((found.half_width.unwrap() - 2.0543).abs() < 1e-3);
        assert_eq!(Estimate::of(&[]), None);
        assert_eq!(Estimate::of(&[3.0]).unwrap().half_width, None);
        let difference = Estimate::of_differences(&[0.5, 0.6, 0.7], &[0.4, 0.5, 0.61]).unwrap();
        assert!(difference.is_clear() && (difference.mean - 0.0967).abs() < 1e-3);
        assert!(!Estimate::of(&[-1.0, 2.0]).unwrap().is_clear());
    }
}
