//! Where each content word of a generated text comes from.
//!
//! A word comes from the first source that has a form of it: a tag, the synthetic caption, the raw
//! text (the order of [`Origin`]); else from nowhere. Words are matched by
//! [stem](crate::text::stem). What joins different words (synonyms, hypernyms, compounds) belongs
//! behind [`Sources::origin`] and nowhere else.

use std::collections::HashMap;

use crate::audit::Texts;
use crate::sample::Origin;
use crate::sample::WordOrigin;
use crate::text::Word;
use crate::text::clean::clean;
use crate::text::content_words;
use crate::text::title::de_slug;

/// The words of a row's sources, and which source has them.
#[derive(Debug, Default)]
pub struct Sources {
    by_stem: HashMap<String, Known>,
}

#[derive(Debug)]
struct Known {
    origin: Origin,
    lower: String,
}

/// Longer sources are read up to here; a generated text quotes nothing from beyond.
const MAX_CHARS: usize = 20_000;

impl Sources {
    /// Reads the tags, the synthetic and the raw text of a row.
    pub fn new(texts: &Texts<'_>) -> Sources {
        let mut sources = Sources::default();
        // In the order of priority: a word stays with the first source that has it.
        for tag in texts.tags {
            sources.add(&tag.label, Origin::Tag);
        }
        sources.add(texts.synthetic.unwrap_or_default(), Origin::Synthetic);
        sources.add_raw(texts.raw.unwrap_or_default());
        sources
    }

    /// The origin of each content word of a text, in order of appearance.
    pub fn origins(&self, text: &str) -> Vec<WordOrigin> {
        let place = |bytes: usize| text[..bytes].chars().count() as u32;
        let word = |word: Word<'_>| WordOrigin {
            start: place(word.range.start),
            end: place(word.range.end),
            ..WordOrigin::new(word.text, self.origin(&word))
        };
        content_words(text).into_iter().map(word).collect()
    }

    /// The first source that has a form of the word.
    pub fn origin(&self, word: &Word<'_>) -> Origin {
        self.by_stem.get(&word.stem).map_or(Origin::Nowhere, |known| known.origin)
    }

    /// Whether the word is the beginning of a longer word of a source: `umbre` of `umbrella`.
    pub fn has_longer(&self, beginning: &str) -> bool {
        let lower = beginning.to_lowercase();
        let longer =
            |known: &Known| known.lower.len() > lower.len() && known.lower.starts_with(&lower);
        self.by_stem.values().any(longer)
    }

    fn add(&mut self, text: &str, origin: Origin) {
        for word in content_words(text) {
            self.by_stem.entry(word.stem).or_insert(Known { origin, lower: word.lower });
        }
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::sample::Tag;

    #[test]
    fn words_come_from_the_first_source_that_has_them() {
        let tags = ["cat", "computer icon"].map(|label| Tag {
            label: label.to_owned(),
            score: 0.5,
            bbox: None,
            model: Arc::from("t@0"),
        });
        let texts = Texts {
            raw: Some("Elefante01 &amp; caf&eacute;, geese, Switch_Cisco_4500, cats"),
            synthetic: Some("animal: three sitting cats"),
            generated: None,
            tags: &tags,
        };
        let sources = Sources::new(&texts);
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
    }

    #[test]
    fn a_broken_off_word_is_known_by_its_beginning() {
        let sources = Sources::new(&Texts { raw: Some("red umbrella"), ..Texts::default() });
        assert!(sources.has_longer("Umbre"));
        assert!(!sources.has_longer("umbrella"));
    }
}
