//! What the rows of a data set are like together: counts that can be added up shard by shard.
//!
//! Memory is bounded whatever the number of rows. Nothing here is a verdict; the figures are for the
//! report, the stats and the alarms built on them.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::Serialize;

use crate::audit::Texts;
use crate::audit::frequent::Count;
use crate::audit::frequent::Frequent;
use crate::sample::Audit;
use crate::sample::Origin;
use crate::text::words::words_of;

/// Equal steps of the score; the last holds 1.0 as well.
pub const SCORE_BINS: usize = 20;
/// Texts of this many words or more share the last bin.
pub const LENGTH_BINS: usize = 64;
/// Different generated texts and tags that are remembered.
const ROOM_FOR_TEXTS: usize = 100_000;
const ROOM_FOR_TAGS: usize = 20_000;
/// Longer texts are remembered by their beginning.
const MAX_TEXT_BYTES: usize = 512;

/// The counts of any number of rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    rows: u64,
    generated: u64,
    score_sum: f64,
    scores: Vec<u64>,
    lengths: Vec<u64>,
    flags: BTreeMap<String, u64>,
    origins: BTreeMap<Origin, u64>,
    texts: Frequent,
    tags: Frequent,
}

/// The figures of a [`Tally`], for stats and report.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Rows counted.
    pub rows: u64,
    /// Rows with a generated text.
    pub generated: u64,
    /// Mean score of all rows, 0..1.
    pub mean_score: f64,
    /// Rows in each of [`SCORE_BINS`] equal steps of the score.
    pub scores: Vec<u64>,
    /// Generated texts by their number of words; the last of [`LENGTH_BINS`] is open.
    pub lengths: Vec<u64>,
    /// Rows with each flag, the most frequent first.
    pub flags: Vec<Count>,
    /// Content words of each origin, in the order of [`Origin`].
    pub origins: Vec<Count>,
    /// Generated texts that came more than once, the most frequent first.
    pub repeated_texts: Vec<Count>,
    /// How much too small those counts may be.
    pub repeated_texts_missed: u64,
    /// Labels of tags by rows, the most frequent first.
    pub tags: Vec<Count>,
}

impl Default for Tally {
    fn default() -> Tally {
        Tally {
            rows: 0,
            generated: 0,
            score_sum: 0.0,
            scores: vec![0; SCORE_BINS],
            lengths: vec![0; LENGTH_BINS],
            flags: BTreeMap::new(),
            origins: BTreeMap::new(),
            texts: Frequent::new(ROOM_FOR_TEXTS),
            tags: Frequent::new(ROOM_FOR_TAGS),
        }
    }
}

impl Tally {
    /// Counts a row and its verdict.
    pub fn add(&mut self, texts: &Texts<'_>, audit: &Audit) {
        self.rows += 1;
        self.score_sum += f64::from(audit.score);
        self.scores[bin_of(audit.score)] += 1;
        for reason in &audit.reasons {
            *self.flags.entry(reason.clone()).or_default() += 1;
        }
        for word in &audit.words {
            *self.origins.entry(word.origin).or_default() += 1;
        }
        for (place, tag) in texts.tags.iter().enumerate() {
            // Several boxes of one label are one row with that label.
            if texts.tags[..place].iter().all(|earlier| earlier.label != tag.label) {
                self.tags.add(&tag.label);
            }
        }
        texts.generated.iter().for_each(|text| self.add_text(text));
    }

    /// Adds the counts of other rows.
    pub fn merge(&mut self, other: &Tally) {
        self.rows += other.rows;
        self.generated += other.generated;
        self.score_sum += other.score_sum;
        add_each(&mut self.scores, &other.scores);
        add_each(&mut self.lengths, &other.lengths);
        for (flag, rows) in &other.flags {
            *self.flags.entry(flag.clone()).or_default() += rows;
        }
        for (origin, words) in &other.origins {
            *self.origins.entry(*origin).or_default() += words;
        }
        self.texts.merge(&other.texts);
        self.tags.merge(&other.tags);
    }

    /// The figures, with the `most` most frequent texts and tags.
    pub fn summary(&self, most: usize) -> Summary {
        let mut flags: Vec<Count> =
            self.flags.iter().map(|(text, &rows)| Count { text: text.clone(), rows }).collect();
        flags.sort_by(|a, b| b.rows.cmp(&a.rows).then_with(|| a.text.cmp(&b.text)));
        let origins = [Origin::Tag, Origin::Synthetic, Origin::Raw, Origin::Nowhere];
        let words = |origin: Origin| Count {
            text: origin.as_str().to_owned(),
            rows: self.origins.get(&origin).copied().unwrap_or(0),
        };
        Summary {
            rows: self.rows,
            generated: self.generated,
            mean_score: self.score_sum / self.rows.max(1) as f64,
            scores: self.scores.clone(),
            lengths: self.lengths.clone(),
            flags,
            origins: origins.map(words).to_vec(),
            repeated_texts: self.texts.top(most).into_iter().filter(|c| c.rows > 1).collect(),
            repeated_texts_missed: self.texts.missed(),
            tags: self.tags.top(most),
        }
    }

    fn add_text(&mut self, text: &str) {
        self.generated += 1;
        let words = words_of(text).take(LENGTH_BINS - 1).count();
        self.lengths[words] += 1;
        self.texts.add(&text[..text.floor_char_boundary(MAX_TEXT_BYTES)]);
    }
}

fn bin_of(score: f32) -> usize {
    // NaN and negative scores fall into the first bin: `as` saturates.
    ((score * SCORE_BINS as f32) as usize).min(SCORE_BINS - 1)
}

fn add_each(counts: &mut [u64], others: &[u64]) {
    counts.iter_mut().zip(others).for_each(|(count, other)| *count += other);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::audit::Config;
    use crate::audit::audit;
    use crate::sample::Tag;

    fn tag(label: &str) -> Tag {
        Tag { label: label.to_owned(), score: 0.5, bbox: None, model: Arc::from("t@0") }
    }

    fn tally_of(generated: &[Option<&str>]) -> Tally {
        let tags = [tag("cat"), tag("cat"), tag("red")];
        let mut tally = Tally::default();
        for generated in generated {
            let texts = Texts { generated: *generated, tags: &tags, ..Texts::default() };
            tally.add(&texts, &audit(&Config::default(), &texts));
        }
        tally
    }

    #[test]
    fn rows_are_counted_by_score_flag_text_tag_and_length() {
        let summary =
            tally_of(&[Some("A red cat."), Some("A red cat."), Some("A dog."), None]).summary(5);
        assert_eq!((summary.rows, summary.generated), (4, 3));
        assert_eq!(summary.scores.iter().sum::<u64>(), 4);
        assert_eq!(summary.scores[0], 2);
        assert_eq!(summary.scores[SCORE_BINS * 3 / 4..].iter().sum::<u64>(), 2);
        assert!(summary.mean_score > 0.4 && summary.mean_score < 0.5);
        assert_eq!((summary.lengths[3], summary.lengths[2]), (2, 1));
        assert_eq!(summary.repeated_texts, [Count { text: "A red cat.".to_owned(), rows: 2 }]);
        assert_eq!(summary.tags[0], Count { text: "cat".to_owned(), rows: 4 });
        let flags: Vec<&str> = summary.flags.iter().map(|flag| flag.text.as_str()).collect();
        assert_eq!(flags, ["missing", "too_short"]);
        let words: Vec<u64> = summary.origins.iter().map(|origin| origin.rows).collect();
        assert_eq!(words, [4, 0, 0, 1]);
    }

    #[test]
    fn parts_add_up_to_the_whole_and_survive_json() {
        let rows = [Some("A red cat."), None, Some("A red cat."), Some("Dog")];
        let mut parts = tally_of(&rows[..1]);
        parts.merge(&tally_of(&rows[1..]));
        assert_eq!(parts, tally_of(&rows));
        let json = serde_json::to_string(&parts).unwrap();
        assert_eq!(serde_json::from_str::<Tally>(&json).unwrap(), parts);
    }

    #[test]
    fn a_huge_text_is_remembered_by_its_beginning() {
        let huge = "é".repeat(10_000);
        let top = tally_of(&[Some(&huge), Some(&huge)]).summary(1).repeated_texts;
        assert!(top[0].text.len() <= MAX_TEXT_BYTES);
    }
}
