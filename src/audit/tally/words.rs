//! Content words and texts as they are counted: by origin, by kind, by form.

use std::collections::BTreeMap;

use crate::audit::frequent::Count;
use crate::audit::frequent::Frequent;
use crate::audit::place::Examples;
use crate::audit::tally::KindCount;
use crate::audit::tally::ROOM_FOR_WORDS;
use crate::audit::tally::Row;
use crate::audit::tally::WordCount;
use crate::sample::Kind;
use crate::sample::Origin;
use crate::text::words::words_of;

/// The content words of all texts.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Words {
    origins: BTreeMap<Origin, u64>,
    kinds: BTreeMap<&'static str, (KindCount, Examples)>,
    nowhere: Frequent,
    names: Frequent,
}

impl Default for Words {
    fn default() -> Words {
        Words {
            origins: BTreeMap::new(),
            kinds: BTreeMap::new(),
            nowhere: Frequent::new(ROOM_FOR_WORDS),
            names: Frequent::new(ROOM_FOR_WORDS),
        }
    }
}

impl Words {
    pub(super) fn add(&mut self, row: &Row<'_>, hash: u64) {
        for word in &row.audit.words {
            *self.origins.entry(word.origin).or_default() += 1;
            if word.origin == Origin::Nowhere {
                let key = format!("{}{SEPARATOR}{}", word.word.to_lowercase(), word.kind.as_str());
                self.nowhere.add(&key, hash, row.place);
            }
            if word.kind == Kind::Name {
                self.names.add(&word.word, hash, row.place);
            }
        }
        self.add_kinds(row, hash);
    }

    fn add_kinds(&mut self, row: &Row<'_>, hash: u64) {
        let audit = row.audit;
        for (kind, words, nowhere) in [
            (Kind::Object, audit.objects, audit.objects_nowhere),
            (Kind::Attribute, audit.attributes, audit.attributes_nowhere),
            (Kind::Number, audit.numbers, audit.numbers_nowhere),
            (Kind::Name, audit.names, audit.names_nowhere),
        ] {
            let (count, examples) = self.kinds.entry(kind.as_str()).or_default();
            count.merge(&KindCount {
                kind: kind.as_str().to_owned(),
                words: u64::from(words),
                nowhere: u64::from(nowhere),
                texts: u64::from(words > 0),
                texts_nowhere: u64::from(nowhere > 0),
                examples: Vec::new(),
            });
            if nowhere > 0 {
                examples.add(hash, row.place);
            }
        }
    }

    pub(super) fn merge(&mut self, other: &Words) {
        for (origin, words) in &other.origins {
            *self.origins.entry(*origin).or_default() += words;
        }
        for (kind, theirs) in &other.kinds {
            let ours = self.kinds.entry(kind).or_default();
            ours.0.merge(&theirs.0);
            ours.1.merge(&theirs.1);
        }
        self.nowhere.merge(&other.nowhere);
        self.names.merge(&other.names);
    }

    /// Words of each origin, in the order of [`Origin`].
    pub(super) fn origins(&self) -> Vec<Count> {
        let count = |origin: &Origin| {
            Count::new(origin.as_str(), self.origins.get(origin).copied().unwrap_or(0))
        };
        Origin::ALL.iter().map(count).collect()
    }

    pub(super) fn kinds(&self) -> Vec<KindCount> {
        let kind = |(count, examples): &(KindCount, Examples)| KindCount {
            examples: examples.places(),
            ..count.clone()
        };
        self.kinds.values().map(kind).collect()
    }

    pub(super) fn nowhere(&self, most: usize) -> Vec<WordCount> {
        self.nowhere.top(most).into_iter().map(word_count).collect()
    }

    pub(super) fn names(&self, most: usize) -> Vec<Count> {
        self.names.top(most)
    }
}

impl KindCount {
    fn merge(&mut self, other: &KindCount) {
        self.kind.clone_from(&other.kind);
        self.words += other.words;
        self.nowhere += other.nowhere;
        self.texts += other.texts;
        self.texts_nowhere += other.texts_nowhere;
    }
}

/// Between a word and its kind; no word has it.
const SEPARATOR: char = '\u{1f}';

fn word_count(count: Count) -> WordCount {
    let (word, kind) = count.text.split_once(SEPARATOR).unwrap_or((&count.text, ""));
    WordCount {
        word: word.to_owned(),
        kind: kind.to_owned(),
        rows: count.rows,
        examples: count.examples,
    }
}

/// A text without case and punctuation, every number as 0.
pub(super) fn normalised(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (_, word) in words_of(text) {
        if !out.is_empty() {
            out.push(' ');
        }
        match word.chars().all(|c| c.is_numeric() || matches!(c, '.' | ',')) {
            true => out.push('0'),
            false => out.extend(word.chars().flat_map(char::to_lowercase)),
        }
    }
    out
}
