//! The figures by which the rows of two runs are compared, and how often either run is ahead.

use serde::Serialize;

use crate::curate::diff::row::Row;
use crate::review::statistics::Rate;
use crate::sample::Audit;
use crate::sample::Sample;

/// Which of two values is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// The greater one.
    Higher,
    /// The smaller one.
    Lower,
    /// Neither: a row counts for the run whose value is greater, which is no praise.
    Neither,
}

/// How two runs compare by one indicator, over the rows of both.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// The indicator.
    pub name: &'static str,
    /// Which value is better.
    pub better: Better,
    /// Rows where both runs have a value.
    pub rows: u64,
    /// Mean of the first run over these rows.
    pub mean_a: Option<f64>,
    /// Mean of the second.
    pub mean_b: Option<f64>,
    /// Rows where the first run is ahead.
    pub wins_a: u64,
    /// Rows where the second is.
    pub wins_b: u64,
    /// Rows where both have the same value; they are in no rate.
    pub ties: u64,
    /// Of the rows that are no ties, those where the second run is ahead.
    pub win_rate: Rate,
}

/// An indicator: its name, which value is better, and where it is.
struct Indicator {
    name: &'static str,
    better: Better,
    /// Whether its values can only be compared where one model gave them.
    is_of_clip: bool,
    value: fn(&Sample) -> Option<f32>,
}

/// The value of each indicator, in the order of the list.
pub(super) type Values = [Option<f32>; INDICATORS.len()];

const INDICATORS: [Indicator; 15] = [
    Indicator::new("score", Better::Higher, |sample| Some(sample.audit.score)),
    Indicator::new("flags", Better::Lower, |sample| {
        sample.generated.as_ref().map(|_| sample.audit.reasons.len() as f32)
    }),
    Indicator::new("objects_nowhere", Better::Lower, |s| count(s, |a| a.objects_nowhere)),
    Indicator::new("attributes_nowhere", Better::Lower, |s| count(s, |a| a.attributes_nowhere)),
    Indicator::new("numbers_nowhere", Better::Lower, |s| count(s, |a| a.numbers_nowhere)),
    Indicator::new("names_nowhere", Better::Lower, |s| count(s, |a| a.names_nowhere)),
    Indicator::new("facts_kept", Better::Higher, facts_kept),
    Indicator::new("raw_generated", Better::Neither, |s| figures(s)?.raw_generated),
    Indicator::new("synthetic_generated", Better::Neither, |s| figures(s)?.synthetic_generated),
    Indicator::new("novelty", Better::Neither, |s| figures(s)?.novelty),
    Indicator::new("longest_copy", Better::Neither, |s| count(s, |a| a.longest_copy)),
    Indicator::new("objects", Better::Neither, |s| count(s, |a| a.objects)),
    Indicator::new("length_words", Better::Neither, |s| count(s, |a| a.length_words)),
    Indicator::new("length_tokens", Better::Neither, |s| count(s, |a| a.length_tokens)),
    Indicator {
        is_of_clip: true,
        ..Indicator::new("clip_generated", Better::Higher, |sample| sample.fit.as_ref()?.generated)
    },
];

impl Indicator {
    const fn new(
        name: &'static str,
        better: Better,
        value: fn(&Sample) -> Option<f32>,
    ) -> Indicator {
        Indicator { name, better, is_of_clip: false, value }
    }
}

/// The values of a row.
pub(super) fn values(sample: &Sample) -> Values {
    INDICATORS.map(|indicator| (indicator.value)(sample).filter(|value| value.is_finite()))
}

/// The figures of a row; none where there is no text, or the run is older than these figures.
fn figures(sample: &Sample) -> Option<&Audit> {
    let is_there = sample.generated.is_some() && sample.audit.length_words > 0;
    is_there.then_some(&sample.audit)
}

fn count(sample: &Sample, of: fn(&Audit) -> u32) -> Option<f32> {
    figures(sample).map(|audit| of(audit) as f32)
}

/// Share of the names, numbers, years and places of the raw text that are in the generated one.
fn facts_kept(sample: &Sample) -> Option<f32> {
    let audit = figures(sample)?;
    let all = audit.kept.len() + audit.lost.len();
    (all > 0).then(|| audit.kept.len() as f32 / all as f32)
}

/// Counts who is ahead, pair by pair.
#[derive(Default)]
pub(super) struct Contest([Score; INDICATORS.len()]);

#[derive(Clone, Copy, Default)]
struct Score {
    rows: u64,
    sum_a: f64,
    sum_b: f64,
    wins_a: u64,
    wins_b: u64,
}

impl Contest {
    pub(super) fn add(&mut self, a: &Row, b: &Row) {
        for (place, (indicator, score)) in INDICATORS.iter().zip(&mut self.0).enumerate() {
            let (Some(of_a), Some(of_b)) = (a.values[place], b.values[place]) else { continue };
            if indicator.is_of_clip && a.clip != b.clip {
                continue;
            }
            score.rows += 1;
            score.sum_a += f64::from(of_a);
            score.sum_b += f64::from(of_b);
            let (higher, lower) = match indicator.better {
                Better::Lower => (&mut score.wins_a, &mut score.wins_b),
                Better::Higher | Better::Neither => (&mut score.wins_b, &mut score.wins_a),
            };
            *higher += u64::from(of_b > of_a);
            *lower += u64::from(of_b < of_a);
        }
    }

    /// Indicators that no pair has are left out.
    pub(super) fn finish(&self) -> Vec<Comparison> {
        let comparison = |(indicator, score): (&Indicator, &Score)| {
            let decided = score.wins_a + score.wins_b;
            let mean = |sum: f64| (score.rows > 0).then(|| sum / score.rows as f64);
            Comparison {
                name: indicator.name,
                better: indicator.better,
                rows: score.rows,
                mean_a: mean(score.sum_a),
                mean_b: mean(score.sum_b),
                wins_a: score.wins_a,
                wins_b: score.wins_b,
                ties: score.rows - decided,
                win_rate: Rate::of(score.wins_b, decided),
            }
        };
        let all = INDICATORS.iter().zip(&self.0).map(comparison);
        all.filter(|comparison| comparison.rows > 0).collect()
    }
}

impl Comparison {
    /// The name in words.
    pub fn words(&self) -> String {
        match self.name {
            "raw_generated" => "likeness to the raw text".to_owned(),
            "synthetic_generated" => "likeness to the caption".to_owned(),
            "facts_kept" => "names and numbers kept".to_owned(),
            name => name.replace('_', " "),
        }
    }

    /// Whether the interval of the rate excludes one half.
    pub fn is_clear(&self) -> bool {
        self.win_rate.low > 0.5 || self.win_rate.high < 0.5
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct() {
        let mut names = INDICATORS.map(|indicator| indicator.name);
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
