//! Words that no source has, and what the sources say that a text-embedding model may find near them.
//!
//! The lexicon knows what is the same, broader or narrower; it does not know that a `skyline` is near `tall
//! buildings`. What is asked of a model and what becomes of its answer is here; the model itself is asked
//! by the caller, in batches. An answer can only turn a word from nowhere into one that was found.

use std::collections::HashSet;

use crate::audit::Texts;
use crate::audit::phrases::phrases;
use crate::sample::Audit;
use crate::sample::Kind;
use crate::sample::Origin;
use crate::text::content_words;

/// What a model found near a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Near {
    /// A word of the generated text, in lower case.
    pub word: String,
    /// The source it is near to.
    pub origin: Origin,
}

/// Words and phrases of a row's sources that are compared; those of tags and captions come first.
const MOST_PIECES: usize = 128;

/// Whether nearness means anything for such a word: 3 is near 4, and Paris near London.
pub(super) fn may_be_near(kind: Kind) -> bool {
    matches!(kind, Kind::Object | Kind::Attribute | Kind::Action | Kind::Other)
}

/// The words of a generated text that are to be compared: each once, in lower case.
pub fn words_to_compare(audit: &Audit) -> Vec<String> {
    let nowhere = audit.words.iter().filter(|word| word.origin == Origin::Nowhere);
    let mut seen = HashSet::new();
    nowhere
        .filter(|word| may_be_near(word.kind))
        .map(|word| word.word.to_lowercase())
        .filter(|word| seen.insert(word.clone()))
        .collect()
}

/// What they are compared with: content words and noun phrases of the sources, each once, in lower case.
pub fn pieces(texts: &Texts<'_>) -> Vec<(String, Origin)> {
    let tags = texts.tags.iter().map(|tag| (tag.label.as_str(), Origin::Tag));
    let captions = texts.synthetic.into_iter().chain(texts.references.iter().copied());
    let captions = captions.map(|text| (text, Origin::Synthetic));
    let raw = texts.raw.map(|text| (text, Origin::Raw));
    let mut seen = HashSet::new();
    tags.chain(captions)
        .chain(raw)
        .flat_map(|(text, origin)| {
            let words = content_words(text).into_iter().map(|word| word.lower.to_string());
            let phrases = phrases(text).into_iter().map(|range| text[range].to_lowercase());
            words.chain(phrases).map(move |piece| (piece, origin)).collect::<Vec<_>>()
        })
        .filter(|(piece, _)| seen.insert(piece.clone()))
        .take(MOST_PIECES)
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::audit::Config;
    use crate::audit::audit;
    use crate::sample::Link;

    fn texts<'a>(raw: &'a str, generated: &'a str, near: &'a [Near]) -> Texts<'a> {
        Texts { raw: Some(raw), generated: Some(generated), near, ..Texts::default() }
    }

    #[test]
    fn a_near_word_is_found_and_numbers_and_names_never_are() {
        let near = ["boats", "three", "nemo", "red"].map(|word| {
            let (word, origin) = (word.to_owned(), Origin::Raw);
            Near { word, origin }
        });
        let generated = "A skyline with three boats and Nemo.";
        let before = audit(&Config::default(), &texts("tall buildings", generated, &[]));
        let after = audit(&Config::default(), &texts("tall buildings", generated, &near));
        let links: Vec<(&str, Option<Link>)> =
            after.words.iter().map(|word| (word.word.as_str(), word.link)).collect();
        let wanted =
            [("skyline", None), ("three", None), ("boats", Some(Link::Near)), ("Nemo", None)];
        assert_eq!(links, wanted);
        assert_eq!(after.words[2].origin, Origin::Raw);
        assert_eq!((before.objects_nowhere, after.objects_nowhere), (1, 0));
        assert!(after.score > before.score, "{} {}", after.score, before.score);
    }

    #[test]
    fn what_is_compared_is_each_word_and_phrase_once() {
        let generated = "A skyline, a Skyline and 3 cats with Nemo";
        let near = texts("tall buildings and a tall tower", generated, &[]);
        assert_eq!(words_to_compare(&audit(&Config::default(), &near)), ["skyline", "cats"]);
        let pieces = pieces(&near);
        let said: Vec<&str> = pieces.iter().map(|(piece, _)| piece.as_str()).collect();
        assert_eq!(said, ["tall", "buildings", "tower", "tall buildings", "tall tower"]);
        assert!(pieces.iter().all(|(_, origin)| *origin == Origin::Raw));
    }

    proptest! {
        #[test]
        fn nearness_only_turns_nowhere_into_found(
            raw in "([a-z]{2,6}|cat|red|dogs|tall buildings| |, ){0,8}",
            generated in "([a-z]{2,6}|A cat |red |kitten |skyline |three |on |, ){0,8}",
            places in prop::collection::vec(0_usize..8, 0..4),
        ) {
            let config = Config::default();
            let before = audit(&config, &texts(&raw, &generated, &[]));
            let near: Vec<Near> = places
                .iter()
                .filter_map(|place| before.words.get(*place))
                .map(|word| Near { word: word.word.to_lowercase(), origin: Origin::Raw })
                .collect();
            let after = audit(&config, &texts(&raw, &generated, &near));
            prop_assert_eq!(before.words.len(), after.words.len());
            for (one, other) in before.words.iter().zip(&after.words) {
                prop_assert_eq!(&one.word, &other.word);
                if other.link == Some(Link::Near) {
                    prop_assert_eq!(one.origin, Origin::Nowhere);
                    prop_assert!(may_be_near(other.kind));
                } else {
                    prop_assert_eq!(one, other);
                }
            }
            prop_assert!(after.objects_nowhere <= before.objects_nowhere);
        }
    }
}
