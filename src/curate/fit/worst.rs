//! The noun phrases that fit worst: one by one, and those of several texts by their mean.

use std::collections::BinaryHeap;
use std::collections::HashMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::audit::place::Place;
use crate::curate::fit::PhraseFit;

/// Single phrases that are kept.
const WORST: usize = 20;
/// Different phrases that are counted; the first ones, so that memory has an end.
const ROOM: usize = 50_000;
/// Longer ones are remembered by their beginning.
const MAX_CHARS: usize = 80;
/// A mean of fewer says more about these pictures than about the phrase.
const FEWEST: u64 = 3;

/// A phrase that fits its picture badly.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorstPhrase {
    /// Cosine of the picture and the phrase.
    pub cosine: f32,
    /// Where the row is.
    pub place: Place,
    /// Its key.
    pub key: String,
    /// The phrase as written.
    pub phrase: String,
}

/// A phrase that came in several texts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PhraseCount {
    /// In lower case.
    pub phrase: String,
    /// How often it came.
    pub times: u64,
    /// Mean of its cosines.
    pub mean: f64,
}

/// The phrases of any number of rows.
#[derive(Default)]
pub(super) struct Phrases {
    worst: BinaryHeap<Ranked>,
    counted: HashMap<String, (u64, f64)>,
    beyond: u64,
}

/// Ordered so that the best of the worst is the first to go.
struct Ranked(WorstPhrase);

impl Phrases {
    pub(super) fn add(&mut self, key: &str, place: Place, phrase: &PhraseFit) {
        let is_among = self.worst.len() < WORST
            || self.worst.peek().is_some_and(|best| phrase.cosine < best.0.cosine);
        if is_among {
            self.worst.push(Ranked(WorstPhrase {
                cosine: phrase.cosine,
                place,
                key: key.to_owned(),
                phrase: phrase.text.clone(),
            }));
        }
        if self.worst.len() > WORST {
            self.worst.pop();
        }
        let lower: String = phrase.text.to_lowercase().chars().take(MAX_CHARS).collect();
        let has_room = self.counted.len() < ROOM;
        match self.counted.get_mut(&lower) {
            Some((times, sum)) => {
                *times += 1;
                *sum += f64::from(phrase.cosine);
            }
            None if has_room => drop(self.counted.insert(lower, (1, f64::from(phrase.cosine)))),
            None => self.beyond += 1,
        }
    }

    /// Phrases that found no room.
    pub(super) fn beyond(&self) -> u64 {
        self.beyond
    }

    pub(super) fn finish(self, most: usize) -> (Vec<WorstPhrase>, Vec<PhraseCount>) {
        let worst = self.worst.into_sorted_vec().into_iter().map(|ranked| ranked.0).collect();
        let counted = self.counted.into_iter().filter(|(_, (times, _))| *times >= FEWEST);
        let count =
            |(phrase, (times, sum))| PhraseCount { phrase, times, mean: sum / times as f64 };
        let mut weak: Vec<PhraseCount> = counted.map(count).collect();
        weak.sort_by(|a, b| a.mean.total_cmp(&b.mean).then_with(|| a.phrase.cmp(&b.phrase)));
        weak.truncate(most);
        (worst, weak)
    }
}

impl Ord for Ranked {
    fn cmp(&self, other: &Ranked) -> std::cmp::Ordering {
        let (one, other) = (&self.0, &other.0);
        let by_cosine = one.cosine.total_cmp(&other.cosine);
        by_cosine.then(one.place.cmp(&other.place)).then_with(|| one.phrase.cmp(&other.phrase))
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Ranked) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Ranked) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Ranked {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_come_first_and_means_need_several_texts() {
        let mut phrases = Phrases::default();
        for row in 0..30 {
            let place = Place { shard: 0, row };
            let phrase =
                |text: &str, cosine| PhraseFit { text: text.to_owned(), start: 0, end: 1, cosine };
            phrases.add("key", place, &phrase("Red car", row as f32 / 100.0));
            if row < 3 {
                phrases.add("key", place, &phrase("zebra", -0.2 + row as f32 / 10.0));
            }
            if row == 7 {
                phrases.add("key", place, &phrase("once", -1.0));
            }
        }
        let (worst, weak) = phrases.finish(5);
        assert_eq!(worst.len(), WORST);
        let first: Vec<(&str, f32)> =
            worst[..3].iter().map(|w| (w.phrase.as_str(), w.cosine)).collect();
        assert_eq!(first, [("once", -1.0), ("zebra", -0.2), ("zebra", -0.1)]);
        let weak: Vec<(&str, u64)> = weak.iter().map(|w| (w.phrase.as_str(), w.times)).collect();
        assert_eq!(weak, [("zebra", 3), ("red car", 30)]);
    }
}
