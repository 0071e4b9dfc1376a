//! The figures of a tally as they are written down and shown.

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::audit::frequent::Count;
use crate::audit::place::Place;
use crate::audit::tally::Distribution;
use crate::audit::tally::Diversity;
use crate::audit::tally::Drift;
use crate::audit::tally::TagCount;

/// Words of one kind and how many of them no source has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KindCount {
    /// `object`, `attribute`, `number` or `name`.
    pub kind: String,
    /// Words of all texts.
    pub words: u64,
    /// Those that no source has: of objects, `nowhere / words` is CHAIR_i.
    pub nowhere: u64,
    /// Texts that have such words.
    pub texts: u64,
    /// Texts with one that no source has: of objects, its share of all texts is CHAIR_s.
    pub texts_nowhere: u64,
    /// A few of those.
    #[serde(default)]
    pub examples: Vec<Place>,
}

/// A word that no source has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WordCount {
    /// The word in lower case.
    pub word: String,
    /// What sort of word it is.
    pub kind: String,
    /// Texts that have it.
    pub rows: u64,
    /// A few of the rows.
    pub examples: Vec<Place>,
}

/// A figure of the rows and how its values are spread.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Indicator {
    /// What it is.
    pub name: String,
    /// Its values.
    pub values: Distribution,
}

/// The figures of a [`Tally`](super::Tally), for stats and report.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Summary {
    /// Rows counted.
    pub rows: u64,
    /// Rows with a generated text.
    pub generated: u64,
    /// The score, in [`BINS`](super::BINS) equal steps.
    pub score: Distribution,
    /// Words of generated texts; the last of [`LENGTH_BINS`](super::LENGTH_BINS) is open.
    pub words: Distribution,
    /// CLIP tokens of generated texts, where they were counted.
    pub tokens: Distribution,
    /// Generated texts that CLIP cuts.
    pub cut: u64,
    /// Other figures of the rows.
    pub indicators: Vec<Indicator>,
    /// Rows with each flag, the most frequent first.
    pub flags: Vec<Count>,
    /// Content words of each origin, in the order of [`Origin`](crate::sample::Origin).
    pub origins: Vec<Count>,
    /// Words of the kinds that can be wrong, and how many are from nowhere.
    pub kinds: Vec<KindCount>,
    /// Words that no source has, the most frequent first.
    pub nowhere_words: Vec<WordCount>,
    /// Names in generated texts, the most frequent first.
    pub names: Vec<Count>,
    /// Generated texts that came more than once, the most frequent first.
    pub repeated_texts: Vec<Count>,
    /// Rows whose generated text came more than once, at least.
    pub repeated_rows: u64,
    /// How much too small those counts may be.
    pub repeated_texts_missed: u64,
    /// The same without case, punctuation and the values of numbers.
    pub repeated_alike: Vec<Count>,
    /// Rows whose text came more than once in that form, at least.
    pub repeated_alike_rows: u64,
    /// The first three words of generated texts, the most frequent first.
    pub openings: Vec<Count>,
    /// How varied the texts are.
    pub diversity: Diversity,
    /// Languages of generated texts, where one is clear (ISO 639-3).
    pub languages: Vec<Count>,
    /// Labels of tags by rows, the most frequent first.
    pub tags: Vec<Count>,
    /// Labels of rows with a text, and what the texts make of them.
    pub labels: Vec<TagCount>,
    /// Labels that no text ever mentions.
    pub never_mentioned: Vec<TagCount>,
    /// How many labels were counted.
    pub labels_counted: u64,
    /// Rows of labels that found no room to be counted.
    pub labels_beyond: u64,
    /// Each figure by shard, model and prompt.
    pub drift: Vec<Drift>,
}
