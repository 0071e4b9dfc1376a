//! What generated texts make of the tags: how often each label is mentioned, and how often the texts
//! of its rows name objects from nowhere.
//!
//! Models have closed lists of labels, so all labels are counted up to a bound; what comes beyond it
//! is one count of rows. A label is mentioned when the text has all its words, in any form.

use std::collections::HashMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::audit::place::Examples;
use crate::audit::place::Place;

/// The counts of all labels.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Labels {
    room: usize,
    labels: HashMap<String, Label>,
    beyond: u64,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Label {
    rows: u64,
    mentioned: u64,
    suspect: u64,
    examples: Examples,
}

/// A label and what the texts make of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TagCount {
    /// The label.
    pub label: String,
    /// Rows with a generated text that have it.
    pub rows: u64,
    /// Those whose text mentions it.
    pub mentioned: u64,
    /// Those whose text names an object that no source has.
    pub suspect: u64,
    /// A few of the rows, of those that do not mention it where there are some.
    pub examples: Vec<Place>,
}

/// What is counted of a label in one row.
pub(super) struct Use<'a> {
    pub(super) label: &'a str,
    pub(super) is_mentioned: bool,
    pub(super) is_suspect: bool,
}

impl Labels {
    pub(super) fn new(room: usize) -> Labels {
        Labels { room, labels: HashMap::new(), beyond: 0 }
    }

    pub(super) fn add(&mut self, used: &Use<'_>, hash: u64, place: Place) {
        if !self.labels.contains_key(used.label) {
            if self.labels.len() >= self.room {
                self.beyond += 1;
                return;
            }
            self.labels.insert(used.label.to_owned(), Label::default());
        }
        let Some(label) = self.labels.get_mut(used.label) else { return };
        label.rows += 1;
        label.mentioned += u64::from(used.is_mentioned);
        label.suspect += u64::from(used.is_suspect);
        // Half of the hashes: a row that mentions it is an example only where no other is.
        let hash = (hash >> 1) | (u64::from(used.is_mentioned) << 63);
        label.examples.add(hash, place);
    }

    pub(super) fn merge(&mut self, other: &Labels) {
        self.beyond += other.beyond;
        let mut theirs: Vec<_> = other.labels.iter().collect();
        // In an order of their own, so that the same labels find room each time.
        theirs.sort_unstable_by_key(|(label, _)| *label);
        for (name, theirs) in theirs {
            if self.labels.len() >= self.room && !self.labels.contains_key(name) {
                self.beyond += theirs.rows;
                continue;
            }
            let label = self.labels.entry(name.clone()).or_default();
            label.rows += theirs.rows;
            label.mentioned += theirs.mentioned;
            label.suspect += theirs.suspect;
            label.examples.merge(&theirs.examples);
        }
    }

    /// The most frequent labels that `wanted` takes.
    pub(super) fn top(&self, most: usize, wanted: impl Fn(&TagCount) -> bool) -> Vec<TagCount> {
        let count = |(label, counted): (&String, &Label)| TagCount {
            label: label.clone(),
            rows: counted.rows,
            mentioned: counted.mentioned,
            suspect: counted.suspect,
            examples: counted.examples.places(),
        };
        let mut all: Vec<TagCount> = self.labels.iter().map(count).filter(|c| wanted(c)).collect();
        all.sort_unstable_by(|a, b| b.rows.cmp(&a.rows).then_with(|| a.label.cmp(&b.label)));
        all.truncate(most);
        all
    }

    /// How many labels were counted.
    pub(super) fn len(&self) -> u64 {
        self.labels.len() as u64
    }

    /// Rows of labels that found no room.
    pub(super) fn beyond(&self) -> u64 {
        self.beyond
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(label: &str, is_mentioned: bool) -> Use<'_> {
        Use { label, is_mentioned, is_suspect: !is_mentioned }
    }

    #[test]
    fn labels_beyond_the_room_are_one_count() {
        let mut labels = Labels::new(2);
        for (row, label) in ["cat", "dog", "cat", "fish", "cow"].into_iter().enumerate() {
            labels.add(&used(label, row == 0), 7, Place { shard: 0, row: row as u32 });
        }
        let top = labels.top(5, |_| true);
        let counts: Vec<_> = top.iter().map(|c| (&*c.label, c.rows, c.mentioned)).collect();
        assert_eq!(counts, [("cat", 2, 1), ("dog", 1, 0)]);
        assert_eq!(top[0].examples[0].row, 2, "the row that does not mention it comes first");
        assert_eq!(labels.beyond(), 2);
        let never: Vec<String> =
            labels.top(5, |c| c.mentioned == 0).into_iter().map(|c| c.label).collect();
        assert_eq!(never, ["dog"]);
        let mut both = Labels::new(2);
        both.merge(&labels);
        both.merge(&labels);
        assert_eq!((both.top(1, |_| true)[0].rows, both.beyond()), (4, 4));
    }
}
