//! The figures of a text that are not verdicts: what it kept of the raw text, what it copied, how its
//! sources agree, how long it is.

use hashbrown::HashSet;

use crate::audit::Texts;
use crate::audit::reading::Reading;
use crate::audit::reading::Token;
use crate::audit::words::Sources;
use crate::clip_tokenizer::Tokenizer;
use crate::sample::Audit;
use crate::sample::Kind;
use crate::sample::Origin;
use crate::text::clean::clean;
use crate::text::title;
use crate::text::words::words_of;

/// Raw texts are read up to here for what they know of the world.
const MAX_RAW_CHARS: usize = 2_000;

/// Fills in all figures of an audit whose words are known.
pub(super) fn fill(
    audit: &mut Audit,
    texts: &Texts<'_>,
    text: &str,
    reading: &Reading<'_>,
    sources: &Sources,
) {
    count(audit);
    (audit.kept, audit.lost) = retention(texts.raw.unwrap_or_default(), reading);
    let lower: Vec<String> = words_of(text).map(|(_, word)| word.to_lowercase()).collect();
    let runs = Runs::of(sources);
    audit.novelty = runs.novelty(&lower);
    audit.longest_copy = runs.longest(&lower);
    let own = keys(reading);
    let of = |text: Option<&str>, origin| text.and_then(|_| sources.stems_of(origin));
    let (raw, synthetic) = (of(texts.raw, Origin::Raw), of(texts.synthetic, Origin::Synthetic));
    audit.raw_synthetic = likeness(raw.as_ref(), synthetic.as_ref());
    audit.raw_generated = likeness(raw.as_ref(), Some(&own));
    audit.synthetic_generated = likeness(synthetic.as_ref(), Some(&own));
    audit.length_words = lower.len() as u32;
    let clip = Tokenizer::clip().expect("a test reads the vocabulary that the binary carries");
    audit.length_tokens = clip.len_with_specials(text) as u32;
}

fn count(audit: &mut Audit) {
    let mut said = [0; Kind::ALL.len()];
    let mut nowhere = [0; Kind::ALL.len()];
    for word in &audit.words {
        said[word.kind as usize] += 1;
        nowhere[word.kind as usize] += u32::from(word.origin == Origin::Nowhere);
    }
    let of = |kind: Kind| (said[kind as usize], nowhere[kind as usize]);
    (audit.objects, audit.objects_nowhere) = of(Kind::Object);
    (audit.attributes, audit.attributes_nowhere) = of(Kind::Attribute);
    (audit.numbers, audit.numbers_nowhere) = of(Kind::Number);
    (audit.names, audit.names_nowhere) = of(Kind::Name);
}

/// Names, numbers, years and places of the raw text: those that the text has too, and those that it
/// has not. The name of a file holds none.
fn retention(raw: &str, reading: &Reading<'_>) -> (Vec<String>, Vec<String>) {
    let raw = clean(raw, MAX_RAW_CHARS);
    if title::names_a_file(&raw) || title::is_junk(&raw) {
        return (Vec::new(), Vec::new());
    }
    let of_raw = Reading::of(&raw);
    let known = of_raw.words.iter().filter(|token| matches!(token.kind, Kind::Name | Kind::Number));
    let mut seen = HashSet::new();
    let known = known.filter(|token| seen.insert(token.word.stem.clone()));
    let is_kept = |token: &&Token<'_>| reading.words.iter().any(|own| own.same(token));
    let (kept, lost): (Vec<_>, Vec<_>) = known.partition(is_kept);
    let written = |tokens: Vec<&Token<'_>>| tokens.iter().map(|t| t.word.text.to_owned()).collect();
    (written(kept), written(lost))
}

/// What stands behind each word in each source.
struct Runs<'s> {
    texts: Vec<Vec<&'s str>>,
    pairs: HashSet<(&'s str, &'s str)>,
}

impl<'s> Runs<'s> {
    fn of(sources: &'s Sources) -> Runs<'s> {
        let words = |text: &'s str| words_of(text).map(|(_, word)| word).collect();
        let texts: Vec<Vec<&str>> = sources.texts.iter().map(|text| words(&text.lower)).collect();
        let pairs = texts.iter().flat_map(|words| words.windows(2));
        let pairs = pairs.map(|pair| (pair[0], pair[1])).collect();
        Runs { texts, pairs }
    }

    /// Share of the pairs of neighbours that no source has.
    fn novelty(&self, words: &[String]) -> Option<f32> {
        let all = words.len().checked_sub(1).filter(|&pairs| pairs > 0)?;
        let is_new = |pair: &&[String]| !self.pairs.contains(&(pair[0].as_str(), pair[1].as_str()));
        Some(words.windows(2).filter(is_new).count() as f32 / all as f32)
    }

    /// The longest run of words that one source has as well.
    fn longest(&self, words: &[String]) -> u32 {
        let longest = self.texts.iter().map(|text| longest_common(words, text)).max();
        longest.unwrap_or(0) as u32
    }
}

/// Length of the longest common run: a row of the usual table, each of its places read before it is
/// written.
fn longest_common(one: &[String], other: &[&str]) -> usize {
    let (mut row, mut best) = (vec![0; other.len()], 0);
    for a in one {
        let mut above = 0;
        for (run, b) in row.iter_mut().zip(other) {
            let own = if a == b { above + 1 } else { 0 };
            above = std::mem::replace(run, own);
            best = best.max(own);
        }
    }
    best
}

/// What a text is about: the stems of its content words.
fn keys<'a>(reading: &'a Reading<'_>) -> HashSet<&'a str> {
    reading.words.iter().map(|token| &*token.word.stem).collect()
}

/// Dice's coefficient of two texts that both say something.
fn likeness(one: Option<&HashSet<&str>>, other: Option<&HashSet<&str>>) -> Option<f32> {
    let (one, other) = (one.filter(|one| !one.is_empty())?, other.filter(|o| !o.is_empty())?);
    let common = one.intersection(other).count();
    Some(2.0 * common as f32 / (one.len() + other.len()) as f32)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::audit::Config;
    use crate::audit::audit;

    fn figures(raw: &str, synthetic: &str, generated: &str) -> Audit {
        let texts = Texts {
            raw: Some(raw),
            synthetic: Some(synthetic),
            generated: Some(generated),
            ..Texts::default()
        };
        audit(&Config::default(), &texts)
    }

    #[test]
    fn what_the_web_knows_is_kept_or_lost() {
        let audit =
            figures("Nemo in Paris, 2019, with 3 friends", "a fish", "Nemo and three fish.");
        assert_eq!(audit.kept, ["Nemo", "3"]);
        assert_eq!(audit.lost, ["Paris", "2019"]);
        let file = figures("IMG_2019.jpg", "a fish", "A fish.");
        assert!(file.kept.is_empty() && file.lost.is_empty());
    }

    #[test]
    fn copying_and_novelty_are_counted() {
        let copied = figures("", "a red fish swims", "A red fish swims");
        assert_eq!((copied.novelty, copied.longest_copy), (Some(0.0), 4));
        let mixed = figures("", "a red fish swims", "The red fish sleeps");
        assert_eq!((mixed.novelty, mixed.longest_copy), (Some(2.0 / 3.0), 2));
        assert_eq!(figures("", "a fish", "Fish").novelty, None);
    }

    #[test]
    fn texts_agree_in_their_content() {
        let audit = figures("Two dogs", "a dog runs", "A running dog");
        assert_eq!(audit.synthetic_generated, Some(1.0));
        assert_eq!(audit.raw_synthetic, Some(0.5));
        assert_eq!(figures("", "a dog", "A dog").raw_generated, None);
    }

    #[test]
    fn words_are_counted_by_their_kind() {
        let audit = figures("", "a red car", "Two red cars and a zebra in Paris");
        assert_eq!((audit.objects, audit.objects_nowhere), (2, 1));
        assert_eq!((audit.attributes, audit.attributes_nowhere), (1, 0));
        assert_eq!((audit.numbers, audit.numbers_nowhere), (1, 1));
        assert_eq!((audit.names, audit.names_nowhere), (1, 1));
        assert_eq!((audit.length_words, audit.length_tokens), (8, 10));
    }

    /// What [`longest_common`] is, by trying every run.
    fn longest_of_all(one: &[String], other: &[&str]) -> usize {
        let has = |length: &usize| {
            one.windows(*length).any(|run| other.windows(*length).any(|theirs| run == theirs))
        };
        (1..=one.len()).rev().find(has).unwrap_or(0)
    }

    proptest! {
        #[test]
        fn the_longest_common_run_is_found(one in "[abc]{0,9}", other in "[abc]{0,9}") {
            let one: Vec<String> = one.chars().map(String::from).collect();
            let other: Vec<&str> = other.split_inclusive(|_| true).collect();
            prop_assert_eq!(longest_common(&one, &other), longest_of_all(&one, &other));
        }
    }
}
