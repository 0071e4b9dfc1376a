//! Where each content word of a generated text comes from.
//!
//! A word comes from the source that supports it best: by the same word in another form, by a synonym,
//! a compound, a broader or a narrower word, and at last by what a model finds near; among equals the order of [`Origin`] decides (tag,
//! synthetic caption, raw text). What no source supports is from nowhere. What joins different words
//! is in `Sources::find` and nowhere else.

use std::rc::Rc;
use std::sync::Arc;

use hashbrown::HashMap;
use hashbrown::HashSet;

use crate::audit::Texts;
use crate::audit::bindings::Place;
use crate::audit::bindings::bindings;
use crate::audit::bindings::relations;
use crate::audit::near::may_be_near;
use crate::audit::reading::Reading;
use crate::audit::reading::Token;
use crate::lexicon::Entry;
use crate::lexicon::Lemma;
use crate::lexicon::Meaning;
use crate::sample::Kind;
use crate::sample::Link;
use crate::sample::Origin;
use crate::sample::WordOrigin;
use crate::text::clean::clean;
use crate::text::title::de_slug;

/// The words of a row's sources, and which source has them.
#[derive(Default)]
pub struct Sources {
    /// In the order of priority, each form once.
    known: Vec<Known>,
    /// Places in `known` by form, by lemma and by stem.
    by_form: HashMap<Arc<str>, usize>,
    by_lemma: HashMap<Lemma, usize>,
    by_stem: HashMap<Arc<str>, usize>,
    by_meaning: HashMap<Meaning, usize>,
    /// Neighbours written as one word, and those of the forms that are made of others.
    compounds: HashMap<String, Origin>,
    /// Words that a model found near a source.
    near: HashMap<String, Origin>,
    /// Words of the raw text, of each caption, of all tags.
    pub(super) texts: Vec<SourceText>,
}

/// One source: its content words and what it says of them, as places in the list of what is known.
pub(super) struct SourceText {
    pub(super) origin: Origin,
    /// Its text in lower case, for runs that were copied.
    pub(super) lower: String,
    pub(super) words: Vec<usize>,
    /// Modifiers with their things.
    pub(super) bindings: Vec<(usize, usize)>,
    /// Relations with their things.
    pub(super) relations: Vec<(Place, usize)>,
}

/// A form of a word, and the first source that has it.
pub(super) struct Known {
    pub(super) origin: Origin,
    pub(super) lower: Arc<str>,
    pub(super) stem: Arc<str>,
    pub(super) entry: Rc<Entry>,
    pub(super) kind: Kind,
}

/// Where a word was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Found {
    pub(super) origin: Origin,
    pub(super) link: Link,
    /// Place in `known`; none for a compound.
    pub(super) known: Option<usize>,
}

/// Longer sources are read up to here; a generated text quotes nothing from beyond.
const MAX_CHARS: usize = 20_000;

/// A text that says it this much more narrowly than a source is still about the same thing.
const MOST_STEPS_NARROWER: u8 = 2;

impl Sources {
    /// Reads the tags, the captions and the raw text of a row.
    pub fn new(texts: &Texts<'_>) -> Sources {
        let mut sources = Sources::default();
        let labels: Vec<&str> = texts.tags.iter().map(|tag| tag.label.as_str()).collect();
        // One source for all tags: they are one look at the picture.
        sources.add(&labels.join(" , "), Origin::Tag);
        sources.add(texts.synthetic.unwrap_or_default(), Origin::Synthetic);
        texts.references.iter().for_each(|text| sources.add(text, Origin::Synthetic));
        sources.add_raw(texts.raw.unwrap_or_default());
        let near = texts.near.iter().map(|near| (near.word.clone(), near.origin));
        sources.near = near.collect();
        sources
    }

    /// Where each content word of a text comes from, in order of appearance.
    pub fn origins(&self, text: &str) -> Vec<WordOrigin> {
        let reading = Reading::of(text);
        self.origins_of(text, &reading, &self.find_all(&reading))
    }

    pub(super) fn origins_of(
        &self,
        text: &str,
        reading: &Reading<'_>,
        found: &[Option<Found>],
    ) -> Vec<WordOrigin> {
        let (mut bytes, mut characters) = (0, 0);
        let mut place = |at: usize| {
            characters += text[bytes..at].chars().count() as u32;
            bytes = at;
            characters
        };
        let word = |(token, found): (&Token<'_>, &Option<Found>)| WordOrigin {
            word: token.word.text.to_owned(),
            origin: found.map_or(Origin::Nowhere, |found| found.origin),
            kind: token.kind,
            link: found.map(|found| found.link),
            start: place(token.word.range.start),
            end: place(token.word.range.end),
        };
        reading.words.iter().zip(found).map(word).collect()
    }

    /// Where each word was found, if it was.
    pub(super) fn find_all(&self, reading: &Reading<'_>) -> Vec<Option<Found>> {
        let mut found: Vec<Option<Found>> =
            reading.words.iter().map(|word| self.find(word)).collect();
        for place in 0..reading.words.len().saturating_sub(1) {
            let (word, next) = (&reading.words[place], &reading.words[place + 1]);
            if !word.has_next || (found[place].is_some() && found[place + 1].is_some()) {
                continue;
            }
            // `fire truck` where a source has `firetruck`, or `automobile` where it has `motor car`.
            let joined = format!("{}{}", word.word.lower, next.word.lower);
            let whole =
                self.by_form.get(joined.as_str()).map(|&known| self.found(known, Link::Compound));
            let whole = whole.or_else(|| self.expression(word.expression.as_deref()?));
            for found in &mut found[place..place + 2] {
                *found = found.or(whole);
            }
        }
        for (found, word) in found.iter_mut().zip(&reading.words) {
            *found = found.or_else(|| self.near(word));
        }
        found
    }

    /// The last thing that is asked: nothing that was found otherwise is changed by it.
    fn near(&self, word: &Token<'_>) -> Option<Found> {
        let origin = self.near.get(&*word.word.lower).filter(|_| may_be_near(word.kind))?;
        Some(Found { origin: *origin, link: Link::Near, known: None })
    }

    /// The source that supports a word best.
    fn find(&self, word: &Token<'_>) -> Option<Found> {
        self.same(word).or_else(|| {
            if word.is_number() {
                return None;
            }
            let compound = self.compounds.get(&*word.word.lower);
            let compound =
                compound.map(|&origin| Found { origin, link: Link::Compound, known: None });
            compound.or_else(|| self.like(&word.entry, word.kind))
        })
    }

    fn same(&self, word: &Token<'_>) -> Option<Found> {
        let form = self.by_form.get(&word.word.lower).copied();
        let lemma = word.entry.lemmas.iter().filter_map(|lemma| self.by_lemma.get(lemma)).min();
        let stem = self.by_stem.get(&word.word.stem).copied().filter(|&known| {
            word.is_number() || !(word.entry.is_known() && self.known[known].entry.is_known())
        });
        let first = [form, lemma.copied(), stem].into_iter().flatten().min()?;
        Some(self.found(first, Link::Same))
    }

    /// The nearest other word.
    fn like(&self, entry: &Entry, kind: Kind) -> Option<Found> {
        if !entry.is_known() || kind == Kind::Name {
            return None;
        }
        let mut best: Option<(u8, usize, Link)> = None;
        for (place, known) in self.known.iter().enumerate().filter(|(_, k)| k.entry.is_known()) {
            let Some((rank, link)) = likeness(entry, &known.entry) else { continue };
            if best.is_none_or(|(before, ..)| rank < before) {
                best = Some((rank, place, link));
            }
        }
        best.map(|(_, place, link)| self.found(place, link))
    }

    fn expression(&self, entry: &Entry) -> Option<Found> {
        self.like(entry, Kind::Object).filter(|found| found.link != Link::Related)
    }

    fn found(&self, known: usize, link: Link) -> Found {
        Found { origin: self.known[known].origin, link, known: Some(known) }
    }

    /// Whether the word is the beginning of a longer word of a source: `umbre` of `umbrella`.
    pub fn has_longer(&self, beginning: &str) -> bool {
        let lower = beginning.to_lowercase();
        let longer = |known: &Known| {
            known.lower.len() > lower.len() && known.lower.starts_with(lower.as_str())
        };
        self.known.iter().any(longer)
    }

    /// The words of each look at the picture: all tags, each caption; and those of the raw text.
    pub(super) fn looks(&self) -> Vec<Vec<usize>> {
        let (raw, looks): (Vec<_>, Vec<_>) =
            self.texts.iter().partition(|text| text.origin == Origin::Raw);
        let mut looks: Vec<Vec<usize>> = looks.into_iter().map(|text| text.words.clone()).collect();
        if !raw.is_empty() {
            looks.push(raw.into_iter().flat_map(|text| text.words.clone()).collect());
        }
        looks
    }

    /// The stems of the first text of an origin, as it was given.
    pub(super) fn stems_of(&self, origin: Origin) -> Option<HashSet<&str>> {
        let text = self.texts.iter().find(|text| text.origin == origin)?;
        Some(text.words.iter().map(|&known| &*self.known[known].stem).collect())
    }

    /// The first known form of the same lemma, or of a word that means the same.
    pub(super) fn first_of(&self, known: usize) -> usize {
        let entry = &self.known[known].entry;
        let lemma = entry.lemmas.iter().filter_map(|lemma| self.by_lemma.get(lemma)).min();
        let meaning = entry.meanings.first().and_then(|meaning| self.by_meaning.get(meaning));
        [Some(known), lemma.copied(), meaning.copied()].into_iter().flatten().min().unwrap_or(known)
    }

    /// The forms that the sources have, the best sources first.
    pub(super) fn known(&self) -> &[Known] {
        &self.known
    }

    fn add(&mut self, text: &str, origin: Origin) {
        if text.is_empty() {
            return;
        }
        let reading = Reading::of(text);
        let mut words = Vec::with_capacity(reading.words.len());
        for (place, token) in reading.words.iter().enumerate() {
            words.push(self.know(token, origin));
            if let Some(root) = without_number(&token.word.lower) {
                self.compounds.entry(root.to_owned()).or_insert(origin);
            }
            if let Some(next) = reading.words.get(place + 1).filter(|_| token.has_next) {
                let joined = format!("{}{}", token.word.lower, next.word.lower);
                self.compounds.entry(joined).or_insert(origin);
            }
            if let Some(expression) = &token.expression {
                let (lower, stem): (Arc<str>, Arc<str>) = Default::default();
                let (entry, kind) = (expression.clone(), Kind::Object);
                self.known.push(Known { origin, lower, stem, entry, kind });
            }
        }
        let bindings = bindings(text, &reading).into_iter();
        let bindings = bindings.map(|pair| (words[pair.modifier], words[pair.thing])).collect();
        let relations = relations(text, &reading).into_iter();
        let relations = relations.map(|said| (said.place, words[said.thing])).collect();
        self.texts.push(SourceText {
            origin,
            lower: text.to_lowercase(),
            words,
            bindings,
            relations,
        });
    }

    fn know(&mut self, token: &Token<'_>, origin: Origin) -> usize {
        if let Some(&known) = self.by_form.get(&token.word.lower) {
            return known;
        }
        let place = self.known.len();
        self.known.push(Known {
            origin,
            lower: token.word.lower.clone(),
            stem: token.word.stem.clone(),
            entry: token.entry.clone(),
            kind: token.kind,
        });
        self.by_form.insert(token.word.lower.clone(), place);
        self.by_stem.entry(token.word.stem.clone()).or_insert(place);
        if let Some(meaning) = token.entry.meanings.first() {
            self.by_meaning.entry(*meaning).or_insert(place);
        }
        for lemma in &token.entry.lemmas {
            self.by_lemma.entry(*lemma).or_insert(place);
        }
        place
    }

    /// Raw texts come with markup and as file names; the writer saw them cleaned, so both forms are
    /// sources.
    fn add_raw(&mut self, raw: &str) {
        self.add(raw, Origin::Raw);
        let cleaned = clean(raw, MAX_CHARS);
        if cleaned != raw {
            self.add(&cleaned, Origin::Raw);
        }
        let words = de_slug(&cleaned);
        if words != cleaned {
            self.add(&words, Origin::Raw);
        }
    }
}

/// `head` of `head12`: files are numbered.
fn without_number(lower: &str) -> Option<&str> {
    let root = lower.trim_end_matches(|c: char| c.is_ascii_digit());
    (root.len() < lower.len() && root.len() > 2).then_some(root)
}

/// How a word of the text is like one of a source; smaller ranks are nearer.
fn likeness(text: &Entry, source: &Entry) -> Option<(u8, Link)> {
    if text.synonym(source) {
        return Some((0, Link::Synonym));
    }
    if let Some(steps) = text.broader_than(source) {
        return Some((1 + steps.min(15), Link::Broader));
    }
    if let Some(steps) = source.broader_than(text)
        && steps <= MOST_STEPS_NARROWER
    {
        return Some((20 + steps, Link::Narrower));
    }
    (text.derived(source) || source.derived(text)).then_some((30, Link::Related))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::sample::Tag;

    fn sources(labels: &[&str], synthetic: &str, raw: &str) -> Sources {
        let tags: Vec<Tag> = labels
            .iter()
            .map(|label| Tag {
                label: (*label).to_owned(),
                score: 0.5,
                bbox: None,
                model: Arc::from("t@0"),
            })
            .collect();
        let (raw, synthetic) = (Some(raw), Some(synthetic));
        Sources::new(&Texts { raw, synthetic, tags: &tags, ..Texts::default() })
    }

    #[test]
    fn words_come_from_the_first_source_that_has_them() {
        let raw = "Elefante01 &amp; caf&eacute;, geese, Switch_Cisco_4500, cats";
        let sources = sources(&["cat", "computer icon"], "animal: three sitting cats", raw);
        for (word, origin) in [
            ("cat", Origin::Tag),
            ("Cats'", Origin::Tag),
            ("icons", Origin::Tag),
            ("3", Origin::Synthetic),
            ("sat", Origin::Synthetic),
            ("goose", Origin::Raw),
            ("Cafés", Origin::Raw),
            ("cisco", Origin::Raw),
            ("4500", Origin::Raw),
            ("zebra", Origin::Nowhere),
            ("two", Origin::Nowhere),
        ] {
            let origins = sources.origins(word);
            assert_eq!(origins.len(), 1, "{word}");
            assert_eq!(origins[0].origin, origin, "{word}");
        }
        let slug = Texts { raw: Some("Elefante01"), ..Texts::default() };
        assert_eq!(Sources::new(&slug).origins("elefante")[0].origin, Origin::Raw);
        let slug = Texts { raw: Some("head1"), ..Texts::default() };
        assert_eq!(Sources::new(&slug).origins("A head.")[0].origin, Origin::Raw);
    }

    #[test]
    fn other_words_for_the_same_are_found_and_others_are_not() {
        let sources = sources(
            &["dog", "fire truck", "person"],
            "a bicycle beside a couch and a snow man near snowy trees, a planned road",
            "",
        );
        for (text, wanted) in [
            ("bike", "synonym"),
            ("sofa", "synonym"),
            ("animal", "broader"),
            ("vehicle", "broader"),
            ("poodle", "narrower"),
            ("snowman", "compound"),
            ("firetruck", "compound"),
            ("fire engine", "same synonym"),
            ("snow", "same"),
            ("cat", "-"),
            ("plane", "-"),
            ("boat", "-"),
        ] {
            let links: Vec<&str> = sources
                .origins(text)
                .iter()
                .map(|word| word.link.map_or("-", Link::as_str))
                .collect();
            assert_eq!(links.join(" "), wanted, "{text}");
        }
    }

    #[test]
    fn places_are_characters_of_the_text() {
        let sources = sources(&["house"], "", "");
        let text = "Ein Café – ein house";
        let word = sources.origins(text).pop().unwrap();
        let cut: String =
            text.chars().skip(word.start as usize).take((word.end - word.start) as usize).collect();
        assert_eq!((cut.as_str(), word.origin), ("house", Origin::Tag));
    }

    #[test]
    fn a_broken_off_word_is_known_by_its_beginning() {
        let sources = sources(&[], "", "red umbrella");
        assert!(sources.has_longer("Umbre"));
        assert!(!sources.has_longer("umbrella"));
    }
}
