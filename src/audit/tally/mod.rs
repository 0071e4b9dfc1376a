//! What the rows of a data set are like together: counts that can be added up shard by shard.
//!
//! Memory is bounded whatever the number of rows. Nothing here is a verdict; the figures are for the
//! report, the stats and the alarms built on them.

mod distribution;
mod diversity;
mod drift;
mod tags;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::audit::Texts;
use crate::audit::frequent::Count;
use crate::audit::frequent::Frequent;
use crate::audit::place::Place;
use crate::audit::place::hash_of;
use crate::audit::stems::Stems;
use crate::audit::tally::distribution::Spread;
use crate::audit::tally::diversity::Wealth;
use crate::audit::tally::drift::FIGURES;
use crate::audit::tally::drift::Groups;
use crate::audit::tally::tags::Labels;
use crate::audit::tally::tags::Use;
use crate::clip_tokenizer::CONTEXT;
use crate::sample::Audit;
use crate::sample::Fit;
use crate::sample::Kind;
use crate::sample::Origin;
use crate::sample::Sample;
use crate::text::words::words_of;

pub use distribution::Distribution;
pub use diversity::Diversity;
pub use drift::Drift;
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
/// Figures of a row that have a distribution, with their range.
const INDICATORS: [(&str, f64, f64); 10] = [
    ("facts kept", 0.0, 1.0),
    ("novelty", 0.0, 1.0),
    ("tags mentioned", 0.0, 1.0),
    ("raw and synthetic agree", 0.0, 1.0),
    ("raw and generated agree", 0.0, 1.0),
    ("synthetic and generated agree", 0.0, 1.0),
    ("raw fits the picture", -0.2, 0.6),
    ("synthetic fits the picture", -0.2, 0.6),
    ("generated fits the picture", -0.2, 0.6),
    ("nsfw", 0.0, 1.0),
];

/// A row as it is counted.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// Its key.
    pub key: &'a str,
    /// Where it is.
    pub place: Place,
    /// Its texts.
    pub texts: Texts<'a>,
    /// Their stems.
    pub stems: &'a Stems,
    /// The verdict.
    pub audit: &'a Audit,
    /// How well the texts fit the picture, where a model was asked.
    pub fit: Option<&'a Fit>,
    /// How unsafe the picture is, where a model was asked.
    pub nsfw: Option<f32>,
    /// Who wrote, and from which prompt.
    pub model: Option<&'a str>,
    /// See `model`.
    pub prompt: Option<&'a str>,
}

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
    origins: BTreeMap<Origin, u64>,
    kinds: BTreeMap<&'static str, KindCount>,
    texts: Frequent,
    alike: Frequent,
    openings: Frequent,
    nowhere: Frequent,
    names: Frequent,
    languages: Frequent,
    tags: Frequent,
    labels: Labels,
    wealth: Wealth,
    shards: Groups,
    models: Groups,
    prompts: Groups,
}

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

/// The figures of a [`Tally`], for stats and report.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Summary {
    /// Rows counted.
    pub rows: u64,
    /// Rows with a generated text.
    pub generated: u64,
    /// The score, in [`BINS`] equal steps.
    pub score: Distribution,
    /// Words of generated texts; the last of [`LENGTH_BINS`] is open.
    pub words: Distribution,
    /// CLIP tokens of generated texts, where they were counted.
    pub tokens: Distribution,
    /// Generated texts that CLIP cuts.
    pub cut: u64,
    /// Other figures of the rows.
    pub indicators: Vec<Indicator>,
    /// Rows with each flag, the most frequent first.
    pub flags: Vec<Count>,
    /// Content words of each origin, in the order of [`Origin`].
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
            origins: BTreeMap::new(),
            kinds: BTreeMap::new(),
            texts: Frequent::new(ROOM_FOR_TEXTS),
            alike: Frequent::new(ROOM_FOR_TEXTS),
            openings: Frequent::new(ROOM_FOR_WORDS),
            nowhere: Frequent::new(ROOM_FOR_WORDS),
            names: Frequent::new(ROOM_FOR_WORDS),
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

impl<'a> Row<'a> {
    /// The row of a sample.
    pub fn of(sample: &'a Sample, stems: &'a Stems, place: Place) -> Row<'a> {
        Row {
            key: &sample.item.key,
            place,
            texts: Texts::of(sample),
            stems,
            audit: &sample.audit,
            fit: sample.fit.as_ref(),
            nsfw: sample.safety.as_ref().map(|safety| safety.nsfw),
            model: sample.generated.as_ref().map(|generated| &*generated.model),
            prompt: sample.generated.as_ref().map(|generated| &*generated.prompt),
        }
    }

    fn length(&self) -> u32 {
        let text = self.texts.generated.unwrap_or_default();
        // Rows of older runs were not counted.
        match self.audit.length_words {
            0 => words_of(text).take(LENGTH_BINS).count() as u32,
            words => words,
        }
    }

    /// Tags of different labels, with their stems.
    fn labels(&self) -> impl Iterator<Item = (&'a str, &'a [u64])> {
        let tags = self.texts.tags;
        let first = move |place: usize| {
            tags[..place].iter().all(|earlier| earlier.label != tags[place].label)
        };
        let stems = &self.stems.tags;
        let places = (0..tags.len().min(stems.len())).filter(move |&place| first(place));
        places.map(move |place| (tags[place].label.as_str(), stems[place].as_slice()))
    }

    fn coverage(&self) -> Option<f64> {
        self.texts.generated?;
        let mentioned = self.labels().map(|(_, stems)| self.stems.mentions(stems));
        let (mut all, mut found) = (0, 0);
        mentioned.for_each(|is_mentioned| {
            all += 1;
            found += u32::from(is_mentioned);
        });
        share(found, all)
    }

    /// In the order of [`INDICATORS`].
    fn indicators(&self) -> [Option<f64>; INDICATORS.len()] {
        let audit = self.audit;
        let (kept, lost) = (audit.kept.len() as u32, audit.lost.len() as u32);
        let of = |value: Option<f32>| value.map(f64::from);
        let fit = |of: fn(&Fit) -> Option<f32>| self.fit.and_then(of).map(f64::from);
        [
            share(kept, kept + lost),
            of(audit.novelty),
            self.coverage(),
            of(audit.raw_synthetic),
            of(audit.raw_generated),
            of(audit.synthetic_generated),
            fit(|fit| fit.raw),
            fit(|fit| fit.synthetic),
            fit(|fit| fit.generated),
            of(self.nsfw),
        ]
    }

    /// In the order of [`FIGURES`].
    fn figures(&self, indicators: &[Option<f64>]) -> [Option<f64>; FIGURES.len()] {
        let audit = self.audit;
        let nowhere = audit.words.iter().filter(|word| word.origin == Origin::Nowhere).count();
        let is = |is: bool| Some(f64::from(u8::from(is)));
        let written = self.texts.generated.is_some();
        [
            Some(f64::from(audit.score)),
            is(!written),
            is(!audit.reasons.is_empty()),
            share(nowhere as u32, audit.words.len() as u32),
            share(audit.objects_nowhere, audit.objects),
            indicators[0],
            indicators[1],
            written.then(|| f64::from(self.length())),
            indicators[2],
        ]
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
        self.add_words(row, hash);
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
        for (origin, words) in &other.origins {
            *self.origins.entry(*origin).or_default() += words;
        }
        for (kind, theirs) in &other.kinds {
            self.kinds.entry(kind).or_default().merge(theirs);
        }
        self.flags.merge(&other.flags);
        self.texts.merge(&other.texts);
        self.alike.merge(&other.alike);
        self.openings.merge(&other.openings);
        self.nowhere.merge(&other.nowhere);
        self.names.merge(&other.names);
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
        let words = |origin: &Origin| {
            Count::new(origin.as_str(), self.origins.get(origin).copied().unwrap_or(0))
        };
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
            origins: Origin::ALL.iter().map(words).collect(),
            kinds: self.kinds.values().cloned().collect(),
            nowhere_words: self.nowhere.top(most).into_iter().map(word_count).collect(),
            names: self.names.top(most),
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

    fn add_words(&mut self, row: &Row<'_>, hash: u64) {
        let audit = row.audit;
        for word in &audit.words {
            *self.origins.entry(word.origin).or_default() += 1;
            let lower = word.word.to_lowercase();
            if word.origin == Origin::Nowhere {
                let key = format!("{lower}{SEPARATOR}{}", word.kind.as_str());
                self.nowhere.add(&key, hash, row.place);
            }
            if word.kind == Kind::Name {
                self.names.add(&word.word, hash, row.place);
                self.wealth.add_name(&lower);
            }
        }
        for (kind, words, nowhere) in [
            (Kind::Object, audit.objects, audit.objects_nowhere),
            (Kind::Attribute, audit.attributes, audit.attributes_nowhere),
            (Kind::Number, audit.numbers, audit.numbers_nowhere),
            (Kind::Name, audit.names, audit.names_nowhere),
        ] {
            self.kinds.entry(kind.as_str()).or_default().merge(&KindCount {
                kind: kind.as_str().to_owned(),
                words: u64::from(words),
                nowhere: u64::from(nowhere),
                texts: u64::from(words > 0),
                texts_nowhere: u64::from(nowhere > 0),
            });
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
fn normalised(text: &str) -> String {
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

fn share(part: u32, whole: u32) -> Option<f64> {
    (whole > 0).then(|| f64::from(part) / f64::from(whole))
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

    fn tally_from(first: u32, generated: &[Option<&str>]) -> Tally {
        let tags = [tag("cat"), tag("cat"), tag("red")];
        let mut tally = Tally::default();
        for (row, generated) in (first..).zip(generated) {
            let texts = Texts { generated: *generated, tags: &tags, ..Texts::default() };
            let audit = audit(&Config::default(), &texts);
            let key = row.to_string();
            tally.add(&Row {
                key: &key,
                place: Place { shard: 0, row },
                texts,
                stems: &Stems::of(&texts),
                audit: &audit,
                fit: None,
                nsfw: None,
                model: Some("m"),
                prompt: None,
            });
        }
        tally
    }

    fn tally_of(generated: &[Option<&str>]) -> Tally {
        tally_from(0, generated)
    }

    #[test]
    fn rows_are_counted_by_score_text_tag_and_length() {
        let summary =
            tally_of(&[Some("A red cat."), Some("A red cat."), Some("A dog."), None]).summary(5);
        assert_eq!((summary.rows, summary.generated), (4, 3));
        assert_eq!((summary.score.rows, summary.words.rows), (4, 3));
        assert_eq!((summary.words.bins[3], summary.words.bins[2]), (2, 1));
        let repeated = &summary.repeated_texts;
        assert_eq!((repeated.len(), &*repeated[0].text, repeated[0].rows), (1, "A red cat.", 2));
        assert_eq!((summary.repeated_rows, repeated[0].examples.len()), (2, 2));
        assert_eq!((&*summary.tags[0].text, summary.tags[0].rows), ("cat", 4));
        assert!(summary.flags.iter().any(|flag| flag.text == "missing" && flag.rows == 1));
        assert_eq!((summary.origins[0].rows, summary.origins[3].rows), (4, 1));
        assert_eq!((&*summary.nowhere_words[0].word, summary.nowhere_words[0].rows), ("dog", 1));
        let labels: Vec<_> =
            summary.labels.iter().map(|l| (&*l.label, l.rows, l.mentioned)).collect();
        assert_eq!(labels, [("cat", 3, 2), ("red", 3, 2)]);
        assert_eq!(summary.indicators[2].values.mean, Some(2.0 / 3.0));
        assert_eq!(summary.openings[0].text, "a red cat");
    }

    #[test]
    fn texts_that_differ_in_case_numbers_and_punctuation_are_alike() {
        let summary = tally_of(&[Some("A red cat, 17."), Some("a RED cat 3")]).summary(5);
        assert_eq!((summary.repeated_rows, summary.repeated_alike_rows), (0, 2));
        assert_eq!(summary.repeated_alike[0].text, "a red cat 0");
    }

    #[test]
    fn parts_add_up_to_the_whole() {
        let rows = [Some("A red cat."), None, Some("A red cat."), Some("Dog")];
        for split in 0..=rows.len() {
            let mut parts = tally_of(&rows[..split]);
            parts.merge(&tally_from(split as u32, &rows[split..]));
            assert_eq!(parts.summary(9), tally_of(&rows).summary(9));
        }
    }

    #[test]
    fn a_huge_text_is_remembered_by_its_beginning() {
        let huge = "é".repeat(10_000);
        let top = tally_of(&[Some(&huge), Some(&huge)]).summary(1).repeated_texts;
        assert!(top[0].text.len() <= MAX_TEXT_BYTES);
    }
}
