//! The most frequent of many texts, counted in bounded memory (Misra and Gries, 1982).
//!
//! With room for `k` texts, each count is at most `rows / (k + 1)` too small and never too large, so
//! a text that fills a data set cannot hide. The space-saving sketch was not taken: it never forgets
//! a text, but its counts are too large, and an alarm should not be raised by an estimate.

use std::collections::HashMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::audit::place::Examples;
use crate::audit::place::Place;

/// Texts and how often they came, as far as there is room.
#[derive(Clone, Debug, PartialEq)]
pub struct Frequent {
    room: usize,
    counts: HashMap<String, Entry>,
    forgotten: u64,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Entry {
    rows: u64,
    examples: Examples,
}

/// A text and how often it came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Count {
    /// The text.
    pub text: String,
    /// How often; see [`Frequent::missed`].
    pub rows: u64,
    /// A few of the rows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub examples: Vec<Place>,
}

impl Count {
    /// Without examples.
    pub fn new(text: impl Into<String>, rows: u64) -> Count {
        Count { text: text.into(), rows, examples: Vec::new() }
    }
}

impl Frequent {
    /// Remembers up to `room` different texts, at least one.
    pub fn new(room: usize) -> Frequent {
        Frequent { room: room.max(1), counts: HashMap::new(), forgotten: 0 }
    }

    /// Counts a text once.
    pub fn count(&mut self, text: &str) {
        self.counted(text);
    }

    /// Counts a text once, for a row and the hash of its key.
    pub fn add(&mut self, text: &str, hash: u64, place: Place) {
        if let Some(entry) = self.counted(text) {
            entry.examples.add(hash, place);
        }
    }

    /// The text's entry, if there was room for it.
    fn counted(&mut self, text: &str) -> Option<&mut Entry> {
        if !self.counts.contains_key(text) {
            // Each round forgets one of every text at once, so the rounds are paid for by the rows.
            if self.counts.len() >= self.room {
                self.forget(1);
                return None;
            }
            self.counts.insert(text.to_owned(), Entry::default());
        }
        let entry = self.counts.get_mut(text)?;
        entry.rows += 1;
        Some(entry)
    }

    /// Adds what another has counted.
    pub fn merge(&mut self, other: &Frequent) {
        for (text, theirs) in &other.counts {
            let entry = self.counts.entry(text.clone()).or_default();
            entry.rows += theirs.rows;
            entry.examples.merge(&theirs.examples);
        }
        self.forgotten += other.forgotten;
        if self.counts.len() > self.room {
            let mut counts: Vec<u64> = self.counts.values().map(|entry| entry.rows).collect();
            let (_, next, _) = counts.select_nth_unstable_by(self.room, |a, b| b.cmp(a));
            let next = *next;
            self.forget(next);
        }
    }

    /// The `most` most frequent; equal counts in the order of their texts.
    pub fn top(&self, most: usize) -> Vec<Count> {
        let mut all: Vec<(&String, &Entry)> = self.counts.iter().collect();
        all.sort_unstable_by(|a, b| b.1.rows.cmp(&a.1.rows).then_with(|| a.0.cmp(b.0)));
        all.truncate(most);
        let count = |(text, entry): (&String, &Entry)| Count {
            text: text.clone(),
            rows: entry.rows,
            examples: entry.examples.places(),
        };
        all.into_iter().map(count).collect()
    }

    /// How often a text came, at least.
    pub fn rows_of(&self, text: &str) -> u64 {
        self.counts.get(text).map_or(0, |entry| entry.rows)
    }

    /// Rows whose text came more than once, at least.
    pub fn repeated(&self) -> u64 {
        self.counts.values().map(|entry| entry.rows).filter(|&rows| rows > 1).sum()
    }

    /// How much too small each count may be; 0 until more texts came than there is room.
    pub fn missed(&self) -> u64 {
        self.forgotten
    }

    fn forget(&mut self, rows: u64) {
        self.forgotten += rows;
        self.counts.retain(|_, entry| {
            entry.rows = entry.rows.saturating_sub(rows);
            entry.rows > 0
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn counted(room: usize, texts: &[u8]) -> Frequent {
        let mut frequent = Frequent::new(room);
        texts.iter().for_each(|text| frequent.add(&text.to_string(), 0, Place::default()));
        frequent
    }

    proptest! {
        #[test]
        fn counts_are_never_too_large_and_at_most_the_bound_too_small(
            texts in prop::collection::vec(0u8..20, 0..300),
            room in 1usize..25,
            split in 0usize..300,
        ) {
            let (one, other) = texts.split_at(split.min(texts.len()));
            let mut halves = counted(room, one);
            halves.merge(&counted(room, other));
            for frequent in [counted(room, &texts), halves] {
                prop_assert!(frequent.counts.len() <= room);
                prop_assert!(frequent.missed() <= texts.len() as u64 / (room as u64 + 1));
                for text in 0u8..20 {
                    let truth = texts.iter().filter(|t| **t == text).count() as u64;
                    let count = frequent.rows_of(&text.to_string());
                    prop_assert!(count <= truth && truth <= count + frequent.missed());
                }
            }
        }
    }

    #[test]
    fn the_top_is_sorted_and_cut() {
        let top = counted(10, &[3, 1, 1, 2, 2, 5]).top(3);
        let pairs: Vec<(&str, u64)> = top.iter().map(|c| (c.text.as_str(), c.rows)).collect();
        assert_eq!(pairs, [("1", 2), ("2", 2), ("3", 1)]);
    }
}
