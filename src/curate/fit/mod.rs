//! How well the texts of a run fit its pictures: cosines by an RWKV-CLIP checkpoint.
//!
//! Asked are the three texts of a row, and each noun phrase of the generated one
//! ([`phrases`](crate::audit::phrases)): one wrong thing moves the cosine of a whole caption little, and its own
//! phrase much. After F-CLIPScore (Oh and Hwang, arXiv 2502.20034), which takes the mean of the cosines of
//! the caption and of each of its nouns; here phrases stand for nouns, and cosines below 0 count as they
//! are. All figures are as good as the checkpoint.

mod means;
mod worst;

use std::ops::Range;

use anyhow::Result;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::audit::phrases::phrases;
use crate::audit::place::Place;
use crate::clip::Fitting;
use crate::clip::Judge;
use crate::curate::fit::means::Means;
use crate::curate::fit::worst::Phrases;
use crate::review::statistics::Rate;
use crate::sample::Link;
use crate::sample::Sample;

pub use means::Mean;
pub use worst::PhraseCount;
pub use worst::WorstPhrase;

/// Phrases of a text that are asked; what stands behind so many is beyond CLIP's 77 tokens anyway.
const MOST_PHRASES: usize = 16;

/// Figures with a mean. Of differences, above 0 is better for the generated text.
const FIGURES: [&str; 7] = [
    "raw",
    "synthetic",
    "generated",
    "phrases",
    "generated with phrases",
    "generated - raw",
    "generated - synthetic",
];

/// What a checkpoint says of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Fitness {
    /// The weights: `name@first-8-of-sha256`.
    pub model: String,
    /// Rows whose picture was seen.
    pub rows: u64,
    /// Rows whose picture could not be read.
    pub unseen: u64,
    /// Words of generated texts that no source has, but that are near what one says.
    pub near_words: u64,
    /// Mean cosines, with bootstrap intervals.
    pub means: Vec<Mean>,
    /// Which text fits best, over the rows that have a generated text and another one.
    pub best: Vec<BestShare>,
    /// Phrases of generated texts that fit their picture worst, the worst first.
    pub worst_phrases: Vec<WorstPhrase>,
    /// Phrases of several texts by their mean cosine, the lowest first.
    pub weak_phrases: Vec<PhraseCount>,
    /// Phrases that found no room to be counted.
    pub phrases_beyond: u64,
}

/// How often a text fits best.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BestShare {
    /// `raw`, `synthetic` or `generated`; `tie` where two have the highest cosine.
    pub text: String,
    /// So many rows.
    pub rows: u64,
    /// Of so many.
    pub of: u64,
    /// Their share; none of nothing.
    pub share: Option<f64>,
    /// Lower end of Wilson's 95 % interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// What a checkpoint says of a row.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RowFit {
    /// Cosine of the picture and the raw text.
    pub raw: Option<f32>,
    /// Of the synthetic one.
    pub synthetic: Option<f32>,
    /// Of the generated one.
    pub generated: Option<f32>,
    /// Mean of the generated text's cosine and those of its phrases.
    pub generated_with_phrases: Option<f32>,
    /// The text that fits best: `raw`, `synthetic`, `generated` or `tie`.
    pub best: Option<&'static str>,
    /// Noun phrases of the generated text.
    pub phrases: Vec<PhraseFit>,
}

/// A noun phrase and how well it fits.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PhraseFit {
    /// As written.
    pub text: String,
    /// Where it starts in the text, in characters.
    pub start: u32,
    /// Where it ends.
    pub end: u32,
    /// Cosine of the picture and the phrase.
    pub cosine: f32,
}

/// The figures of any number of rows.
pub(super) struct Fits {
    model: String,
    rows: u64,
    unseen: u64,
    near_words: u64,
    means: Means<{ FIGURES.len() }>,
    best: [u64; BEST.len()],
    phrases: Phrases,
}

const BEST: [&str; 4] = ["raw", "synthetic", "generated", "tie"];

/// Judges samples, sets their `fit`, and says how well their phrases fit; none where a picture cannot
/// be read.
pub(super) fn judge(judge: &Judge, samples: &mut [Sample]) -> Result<Vec<Option<RowFit>>> {
    let mut rows = Vec::with_capacity(samples.len());
    for some in samples.chunks_mut(judge.batch()) {
        let ranges: Vec<Vec<Range<usize>>> = some.iter().map(ranges).collect();
        let pieces = some.iter().zip(&ranges).map(|(sample, ranges)| {
            let text = generated(sample);
            ranges.iter().map(|range| &text[range.clone()]).collect()
        });
        let pieces: Vec<Vec<&str>> = pieces.collect();
        let seen: Vec<&Sample> = some.iter().collect();
        let fittings = judge.fit(&seen, &pieces)?;
        for ((sample, ranges), fitting) in some.iter_mut().zip(&ranges).zip(fittings) {
            rows.push(fitting.as_ref().map(|fitting| RowFit::of(sample, ranges, fitting)));
            sample.fit = fitting.map(|fitting| fitting.fit);
        }
    }
    Ok(rows)
}

fn generated(sample: &Sample) -> &str {
    sample.generated.as_ref().map_or("", |generated| generated.text.as_str())
}

fn ranges(sample: &Sample) -> Vec<Range<usize>> {
    let mut ranges = phrases(generated(sample));
    ranges.truncate(MOST_PHRASES);
    ranges
}

impl RowFit {
    fn of(sample: &Sample, ranges: &[Range<usize>], fitting: &Fitting) -> RowFit {
        let text = generated(sample);
        let characters = |bytes: usize| text[..bytes].chars().count() as u32;
        let phrases = ranges.iter().zip(&fitting.pieces).filter_map(|(range, cosine)| {
            Some(PhraseFit {
                text: text[range.clone()].to_owned(),
                start: characters(range.start),
                end: characters(range.end),
                cosine: finite(*cosine)?,
            })
        });
        let phrases: Vec<PhraseFit> = phrases.collect();
        let fit = &fitting.fit;
        let [raw, synthetic, generated] = [fit.raw, fit.synthetic, fit.generated].map(finite);
        let all = phrases.iter().map(|phrase| phrase.cosine);
        let with_phrases = generated
            .map(|whole| all.fold(whole, |sum, one| sum + one) / (phrases.len() + 1) as f32);
        let best = best([raw, synthetic, generated]);
        RowFit { raw, synthetic, generated, generated_with_phrases: with_phrases, best, phrases }
    }

    fn mean_of_phrases(&self) -> Option<f64> {
        let sum: f64 = self.phrases.iter().map(|phrase| f64::from(phrase.cosine)).sum();
        (!self.phrases.is_empty()).then(|| sum / self.phrases.len() as f64)
    }
}

/// Weights that went wrong give no numbers.
fn finite(cosine: Option<f32>) -> Option<f32> {
    cosine.filter(|cosine| cosine.is_finite())
}

/// The text with the highest cosine, where there is a generated one and another.
fn best(cosines: [Option<f32>; 3]) -> Option<&'static str> {
    let others = cosines[..2].iter().flatten().count();
    cosines[2].filter(|_| others > 0)?;
    let highest = cosines.iter().flatten().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut with_it = (0..3).filter(|&at| cosines[at] == Some(highest));
    match (with_it.next(), with_it.next()) {
        (Some(at), None) => Some(BEST[at]),
        _ => Some("tie"),
    }
}

impl Fits {
    pub(super) fn new(judge: &Judge) -> Fits {
        Fits {
            model: judge.label().to_string(),
            rows: 0,
            unseen: 0,
            near_words: 0,
            means: Means::new(FIGURES),
            best: [0; BEST.len()],
            phrases: Phrases::default(),
        }
    }

    pub(super) fn add(&mut self, sample: &Sample, place: Place, row: Option<&RowFit>) {
        let near = sample.audit.words.iter().filter(|word| word.link == Some(Link::Near));
        self.near_words += near.count() as u64;
        let Some(row) = row else {
            self.unseen += 1;
            return;
        };
        self.rows += 1;
        let of = |cosine: Option<f32>| cosine.map(f64::from);
        let [raw, synthetic, generated] = [row.raw, row.synthetic, row.generated].map(of);
        let minus = |other: Option<f64>| Some(generated? - other?);
        self.means.add(
            place,
            [
                raw,
                synthetic,
                generated,
                row.mean_of_phrases(),
                of(row.generated_with_phrases),
                minus(raw),
                minus(synthetic),
            ],
        );
        if let Some(at) = BEST.iter().position(|name| row.best == Some(*name)) {
            self.best[at] += 1;
        }
        row.phrases.iter().for_each(|phrase| self.phrases.add(&sample.item.key, place, phrase));
    }

    pub(super) fn finish(self, most: usize) -> Fitness {
        let compared = self.best.iter().sum();
        let share = |(name, rows): (&&str, &u64)| {
            let Rate { part, whole, share, low, high } = Rate::of(*rows, compared);
            BestShare { text: (*name).to_owned(), rows: part, of: whole, share, low, high }
        };
        let best = BEST.iter().zip(&self.best).map(share).collect();
        let beyond = self.phrases.beyond();
        let (worst_phrases, weak_phrases) = self.phrases.finish(most);
        Fitness {
            model: self.model,
            rows: self.rows,
            unseen: self.unseen,
            near_words: self.near_words,
            means: self.means.finish(),
            best,
            worst_phrases,
            weak_phrases,
            phrases_beyond: beyond,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_text_is_named_where_there_is_a_choice() {
        for (cosines, wanted) in [
            ([Some(0.1), Some(0.2), Some(0.3)], Some("generated")),
            ([Some(0.4), Some(0.2), Some(0.3)], Some("raw")),
            ([None, Some(0.2), Some(-0.3)], Some("synthetic")),
            ([None, Some(0.2), Some(0.2)], Some("tie")),
            ([Some(0.3), Some(0.3), Some(0.2)], Some("tie")),
            ([None, None, Some(0.2)], None),
            ([Some(0.2), Some(0.3), None], None),
        ] {
            assert_eq!(best(cosines), wanted, "{cosines:?}");
        }
    }
}
