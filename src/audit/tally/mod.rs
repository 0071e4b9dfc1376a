//! What the rows of a data set are like together: counts that can be added up shard by shard.
//!
//! Memory is bounded whatever the number of rows. Nothing here is a verdict; the figures are for the
//! report, the stats and the alarms built on them.

mod distribution;
mod diversity;
mod drift;
mod row;
mod summary;
mod tags;
#[cfg(test)]
mod tests;
mod words;

use crate::audit::frequent::Count;
use crate::audit::frequent::Frequent;
use crate::audit::place::hash_of;
use crate::audit::tally::distribution::Spread;
use crate::audit::tally::diversity::Wealth;
use crate::audit::tally::drift::Groups;
use crate::audit::tally::row::INDICATORS;
use crate::audit::tally::tags::Labels;
use crate::audit::tally::tags::Use;
use crate::audit::tally::words::Words;
use crate::audit::tally::words::normalised;
use crate::clip_tokenizer::CONTEXT;
use crate::sample::Kind;
use crate::text::words::words_of;

pub use distribution::Distribution;
pub use diversity::Diversity;
pub use drift::Drift;
pub use row::Row;
pub use summary::Indicator;
pub use summary::KindCount;
pub use summary::Summary;
pub use summary::WordCount;
pub use tags::TagCount;

/// Equal steps of figures from 0 to 1; the last holds 1.0 as well.
pub const BINS: usize = 20;
/// Texts of this many words or more share the last bin.
pub const LENGTH_BINS: usize = 64;
/// CLIP tokens, in bins of four; what is longer is in the last.
const MOST_TOKENS: usize = 100;
/// Different texts and words that are remembered.
const ROOM_FOR_TEXTS: usize = 100_000;
const ROOM_FOR_WORDS: usize = 20_000;
/// Longer texts are remembered by their beginning.
const MAX_TEXT_BYTES: usize = 512;
/// Words of an opening.
const OPENING: usize = 3;
/// The counts of any number of rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Tally {
    rows: u64,
    generated: u64,
    cut: u64,
    score: Spread,
    words: Spread,
    tokens: Spread,
    indicators: Vec<Spread>,
    flags: Frequent,
    content: Words,
    texts: Frequent,
    alike: Frequent,
    openings: Frequent,
    languages: Frequent,
    tags: Frequent,
    labels: Labels,
    wealth: Wealth,
    shards: Groups,
    models: Groups,
    prompts: Groups,
}

impl Default for Tally {
    fn default() -> Tally {
        let (words, tokens) = (LENGTH_BINS as f64, MOST_TOKENS as f64);
        Tally {
            rows: 0,
            generated: 0,
            cut: 0,
            score: Spread::new(0.0, 1.0, BINS),
            words: Spread::new(0.0, words, LENGTH_BINS),
            tokens: Spread::new(0.0, tokens, MOST_TOKENS / 4),
            indicators: INDICATORS.iter().map(|(_, a, b)| Spread::new(*a, *b, BINS)).collect(),
            flags: Frequent::new(ROOM_FOR_WORDS),
            content: Words::default(),
            texts: Frequent::new(ROOM_FOR_TEXTS),
            alike: Frequent::new(ROOM_FOR_TEXTS),
            openings: Frequent::new(ROOM_FOR_WORDS),
            languages: Frequent::new(ROOM_FOR_WORDS),
            tags: Frequent::new(ROOM_FOR_WORDS),
            labels: Labels::new(ROOM_FOR_WORDS),
            wealth: Wealth::default(),
            shards: Groups::default(),
            models: Groups::default(),
            prompts: Groups::default(),
        }
    }
}

impl Tally {
    /// Counts a row and its verdict.
    pub fn add(&mut self, row: &Row<'_>) {
        let (hash, place) = (hash_of(row.key.as_bytes()), row.place);
        self.rows += 1;
        self.score.add(f64::from(row.audit.score), hash, place);
        row.audit.reasons.iter().for_each(|reason| self.flags.add(reason, hash, place));
        let indicators = row.indicators();
        for (spread, value) in self.indicators.iter_mut().zip(indicators) {
            value.iter().for_each(|value| spread.add(*value, hash, place));
        }
        let figures = row.figures(&indicators);
        self.shards.add(&format!("{:05}", place.shard), &figures);
        row.model.iter().for_each(|model| self.models.add(model, &figures));
        row.prompt.iter().for_each(|prompt| self.prompts.add(prompt, &figures));
        self.content.add(row, hash);
        let names = row.audit.words.iter().filter(|word| word.kind == Kind::Name);
        names.for_each(|name| self.wealth.add_name(&name.word));
        for (label, stems) in row.labels() {
            self.tags.add(label, hash, place);
            if row.texts.generated.is_some() {
                let is_mentioned = row.stems.mentions(stems);
                let is_suspect = row.audit.objects_nowhere > 0;
                self.labels.add(&Use { label, is_mentioned, is_suspect }, hash, place);
            }
        }
        row.texts.generated.iter().for_each(|text| self.add_text(row, text, hash));
    }

    /// Adds the counts of other rows.
    pub fn merge(&mut self, other: &Tally) {
        self.rows += other.rows;
        self.generated += other.generated;
        self.cut += other.cut;
        self.score.merge(&other.score);
        self.words.merge(&other.words);
        self.tokens.merge(&other.tokens);
        self.indicators.iter_mut().zip(&other.indicators).for_each(|(a, b)| a.merge(b));
        self.content.merge(&other.content);
        self.flags.merge(&other.flags);
        self.texts.merge(&other.texts);
        self.alike.merge(&other.alike);
        self.openings.merge(&other.openings);
        self.languages.merge(&other.languages);
        self.tags.merge(&other.tags);
        self.labels.merge(&other.labels);
        self.wealth.merge(&other.wealth);
        self.shards.merge(&other.shards);
        self.models.merge(&other.models);
        self.prompts.merge(&other.prompts);
    }

    /// The figures, with the `most` most frequent texts, words and tags.
    pub fn summary(&self, most: usize) -> Summary {
        let repeated = |texts: &Frequent| -> Vec<Count> {
            texts.top(most).into_iter().filter(|count| count.rows > 1).collect()
        };
        let indicator = |(place, spread): (usize, &Spread)| Indicator {
            name: INDICATORS[place].0.to_owned(),
            values: spread.distribution(),
        };
        let groups = [("shard", &self.shards), ("model", &self.models), ("prompt", &self.prompts)];
        Summary {
            rows: self.rows,
            generated: self.generated,
            score: self.score.distribution(),
            words: self.words.distribution(),
            tokens: self.tokens.distribution(),
            cut: self.cut,
            indicators: self.indicators.iter().enumerate().map(indicator).collect(),
            flags: self.flags.top(ROOM_FOR_WORDS),
            origins: self.content.origins(),
            kinds: self.content.kinds(),
            nowhere_words: self.content.nowhere(most),
            names: self.content.names(most),
            repeated_texts: repeated(&self.texts),
            repeated_rows: self.texts.repeated(),
            repeated_texts_missed: self.texts.missed(),
            repeated_alike: repeated(&self.alike),
            repeated_alike_rows: self.alike.repeated(),
            openings: repeated(&self.openings),
            diversity: self.wealth.diversity(),
            languages: self.languages.top(most),
            tags: self.tags.top(most),
            labels: self.labels.top(most, |_| true),
            never_mentioned: self.labels.top(most, |label| label.mentioned == 0),
            labels_counted: self.labels.len(),
            labels_beyond: self.labels.beyond(),
            drift: groups.iter().flat_map(|(kind, groups)| groups.drift(kind)).collect(),
        }
    }

    fn add_text(&mut self, row: &Row<'_>, text: &str, hash: u64) {
        let place = row.place;
        self.generated += 1;
        self.words.add(f64::from(row.length()), hash, place);
        let tokens = row.audit.length_tokens;
        if tokens > 0 {
            self.tokens.add(f64::from(tokens), hash, place);
            self.cut += u64::from(tokens as usize > CONTEXT);
        }
        let start = &text[..text.floor_char_boundary(MAX_TEXT_BYTES)];
        self.texts.add(start, hash, place);
        self.alike.add(&normalised(start), hash, place);
        let opening: Vec<String> =
            words_of(start).take(OPENING).map(|(_, word)| word.to_lowercase()).collect();
        self.openings.add(&opening.join(" "), hash, place);
        self.wealth.add(text);
        row.audit.language.iter().for_each(|code| self.languages.add(code, hash, place));
    }
}
