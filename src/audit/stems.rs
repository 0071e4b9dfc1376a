//! The content words of a row's texts as sorted sets of hashes, for comparing many rows quickly.
//!
//! Two words are one when their stems are: `cats` and `cat`, but not `sofa` and `couch`. What finer
//! matching says of a row is in its own verdict; here thousands of rows are compared.

use crate::audit::Texts;
use crate::audit::place::hash_of;
use crate::text::words::content_words;

/// Words of a text beyond these are not compared.
const MOST: usize = 64;

/// The stems of one row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stems {
    /// Of the generated text, sorted, each once.
    pub text: Vec<u64>,
    /// Of tags, synthetic caption and raw text together, sorted, each once.
    pub sources: Vec<u64>,
    /// Of each tag, in the order of the tags.
    pub tags: Vec<Vec<u64>>,
}

impl Stems {
    /// The stems of a row's texts.
    pub fn of(texts: &Texts<'_>) -> Stems {
        let text = texts.generated.map(set_of).unwrap_or_default();
        let tags: Vec<Vec<u64>> = texts.tags.iter().map(|tag| set_of(&tag.label)).collect();
        let mut sources: Vec<u64> = tags.iter().flatten().copied().collect();
        for other in [texts.raw, texts.synthetic].into_iter().flatten() {
            sources.extend(set_of(other));
        }
        sources.sort_unstable();
        sources.dedup();
        Stems { text, sources, tags }
    }

    /// Whether the text has every word of a tag.
    pub fn mentions(&self, tag: &[u64]) -> bool {
        !tag.is_empty() && tag.iter().all(|stem| has(&self.text, *stem))
    }
}

/// The stems of a text's content words, sorted, each once.
pub fn set_of(text: &str) -> Vec<u64> {
    let words = content_words(text).into_iter().take(MOST);
    let mut stems: Vec<u64> = words.map(|word| hash_of(word.stem.as_bytes())).collect();
    stems.sort_unstable();
    stems.dedup();
    stems
}

/// Whether a sorted set has a stem.
pub(super) fn has(set: &[u64], stem: u64) -> bool {
    set.binary_search(&stem).is_ok()
}

/// What two sets have in common, as a share of all that is in them; 1 when both are empty.
pub fn overlap(one: &[u64], other: &[u64]) -> f32 {
    let both = one.iter().filter(|stem| has(other, **stem)).count();
    let all = one.len() + other.len() - both;
    if all == 0 { 1.0 } else { both as f32 / all as f32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_a_word_are_one_and_grammar_is_none() {
        assert_eq!(set_of("The cats and a cat."), set_of("cat"));
        assert_eq!(overlap(&set_of("a red cat"), &set_of("red dogs")), 1.0 / 3.0);
        assert_eq!(overlap(&set_of(""), &set_of("the")), 1.0);
    }

    #[test]
    fn a_tag_is_mentioned_when_all_its_words_are() {
        let generated = Some("Two teddy bears on a sofa.");
        let stems = Stems::of(&Texts { generated, ..Texts::default() });
        assert!(stems.mentions(&set_of("teddy bear")) && stems.mentions(&set_of("sofas")));
        assert!(!stems.mentions(&set_of("brown bear")) && !stems.mentions(&[]));
    }
}
