//! How many different words and runs of words the generated texts have, estimated in 64 kB.
//!
//! Different things are counted by HyperLogLog (Flajolet, Fusy, Gandouet and Meunier, 2007) with
//! 2^14 registers: its standard error is 0.8 %, and for few things it is nearly exact, because
//! then it counts empty registers. Own code, as it is thirty lines and its hash must stay the same.

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::audit::place::hash_of;
use crate::audit::place::mixed;
use crate::text::words::words_of;

/// Bits of the hash that choose a register.
const BITS: u32 = 14;

/// Counts different hashes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Different(Vec<u8>);

/// Counts words and runs of words.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Wealth {
    runs: [u64; 3],
    different: [Different; 3],
    names: Different,
}

/// How varied the generated texts are. Numbers of different things are estimates within about 2 %.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Diversity {
    /// Words of all generated texts.
    pub words: u64,
    /// Different words.
    pub vocabulary: u64,
    /// Different names (words of kind name).
    pub entities: u64,
    /// Share of words that are different, the type-token ratio: falls as a data set grows.
    pub distinct_1: f64,
    /// The same of runs of two words.
    pub distinct_2: f64,
    /// The same of runs of three words.
    pub distinct_3: f64,
}

impl Default for Different {
    fn default() -> Different {
        Different(vec![0; 1 << BITS])
    }
}

impl Different {
    pub(super) fn add(&mut self, hash: u64) {
        let register = (hash >> (64 - BITS)) as usize;
        let rank = ((hash << BITS).leading_zeros() + 1).min(64 - BITS + 1) as u8;
        self.0[register] = self.0[register].max(rank);
    }

    pub(super) fn merge(&mut self, other: &Different) {
        self.0.iter_mut().zip(&other.0).for_each(|(rank, theirs)| *rank = (*rank).max(*theirs));
    }

    pub(super) fn estimate(&self) -> u64 {
        let registers = self.0.len() as f64;
        let empty = self.0.iter().filter(|rank| **rank == 0).count() as f64;
        let sum: f64 = self.0.iter().map(|rank| 0.5f64.powi(i32::from(*rank))).sum();
        let raw = 0.7213 / (1.0 + 1.079 / registers) * registers * registers / sum;
        let few = raw <= 2.5 * registers && empty > 0.0;
        (if few { registers * (registers / empty).ln() } else { raw }).round() as u64
    }
}

impl Wealth {
    /// Counts the words of a generated text.
    pub(super) fn add(&mut self, text: &str) {
        let (mut before, mut earlier) = (None, None);
        for (_, word) in words_of(text) {
            let word = hash_of(word.to_lowercase().as_bytes());
            self.count(0, word);
            if let Some(before) = before {
                let two = mixed(mixed(before).wrapping_add(word));
                self.count(1, two);
                if let Some(earlier) = earlier {
                    self.count(2, mixed(mixed(earlier).wrapping_add(two)));
                }
            }
            (earlier, before) = (before, Some(word));
        }
    }

    /// Counts a name.
    pub(super) fn add_name(&mut self, name: &str) {
        self.names.add(hash_of(name.to_lowercase().as_bytes()));
    }

    pub(super) fn merge(&mut self, other: &Wealth) {
        for place in 0..3 {
            self.runs[place] += other.runs[place];
            self.different[place].merge(&other.different[place]);
        }
        self.names.merge(&other.names);
    }

    pub(super) fn diversity(&self) -> Diversity {
        let share = |place: usize| {
            let share = self.different[place].estimate() as f64 / self.runs[place].max(1) as f64;
            share.min(1.0)
        };
        Diversity {
            words: self.runs[0],
            vocabulary: self.different[0].estimate(),
            entities: self.names.estimate(),
            distinct_1: share(0),
            distinct_2: share(1),
            distinct_3: share(2),
        }
    }

    fn count(&mut self, place: usize, hash: u64) {
        self.runs[place] += 1;
        self.different[place].add(hash);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_are_within_three_standard_errors() {
        for many in [0u64, 1, 100, 5_000, 100_000, 1_000_000] {
            let mut different = Different::default();
            (0..many).for_each(|number| different.add(hash_of(&number.to_le_bytes())));
            let off = (different.estimate() as f64 - many as f64).abs();
            assert!(off <= 0.025 * many as f64, "{} for {many}", different.estimate());
        }
    }

    #[test]
    fn runs_of_words_are_counted_within_a_text_only() {
        let mut wealth = Wealth::default();
        wealth.add("a b a b");
        wealth.add("A");
        wealth.add_name("Tux");
        wealth.add_name("tux");
        let found = wealth.diversity();
        assert_eq!((found.words, found.vocabulary, found.entities), (5, 2, 1));
        let shares = [found.distinct_1, found.distinct_2, found.distinct_3];
        assert_eq!(shares, [2.0 / 5.0, 2.0 / 3.0, 1.0]);
    }
}
