//! A text as the audit reads it: its content words, what sort of word each is, what the lexicon knows.
//!
//! The sort is a guess from the lexicon's counts and the words beside it. It needs no model, so it is
//! the same everywhere and fast; it is wrong where a sentence is clever.

use std::rc::Rc;
use std::sync::LazyLock;

use hashbrown::HashSet;

use crate::lexicon::Entry;
use crate::lexicon::Part;
use crate::lexicon::entry;
use crate::sample::Kind;
use crate::text::Word;
use crate::text::content_words;
use crate::text::words::is_stop_word;
use crate::text::words::words_of;

/// The content words of a text, in order.
pub(super) struct Reading<'t> {
    pub(super) words: Vec<Token<'t>>,
}

/// A content word.
pub(super) struct Token<'t> {
    pub(super) word: Word<'t>,
    pub(super) entry: Rc<Entry>,
    /// What the lexicon knows of the expression that this word begins, as of `fire_truck`.
    pub(super) expression: Option<Rc<Entry>>,
    pub(super) kind: Kind,
    /// Whether the next content word stands right behind it.
    pub(super) has_next: bool,
}

impl<'t> Reading<'t> {
    pub(super) fn of(text: &'t str) -> Reading<'t> {
        let all: Vec<(usize, &str)> = words_of(text).collect();
        let words = content_words(text);
        let entries: Vec<Rc<Entry>> = words.iter().map(|word| entry(&word.lower)).collect();
        let mut seen = Vec::with_capacity(words.len());
        let mut at = 0;
        for (place, word) in words.iter().enumerate() {
            while all.get(at).is_some_and(|(start, _)| *start < word.range.start) {
                at += 1;
            }
            let next = words.get(place + 1);
            let has_next =
                next.is_some_and(|next| is_beside(&text[word.range.end..next.range.start]));
            let around = Around {
                text,
                before: at.checked_sub(1).map(|before| all[before]),
                after: all.get(at + 1).map(|(_, after)| *after),
                next: has_next.then(|| &*entries[place + 1]),
                next_is_name: has_next && next.is_some_and(|n| is_capital(n.text)),
            };
            let kind = around.kind(word, &entries[place]);
            let expression = next
                .filter(|_| has_next)
                .map(|next| entry(&format!("{}_{}", word.lower, next.lower)))
                .filter(|entry| entry.is_known());
            seen.push((kind, expression, has_next));
        }
        let token = |((word, entry), (kind, expression, has_next))| Token {
            word,
            entry,
            expression,
            kind,
            has_next,
        };
        Reading { words: words.into_iter().zip(entries).zip(seen).map(token).collect() }
    }

    /// Whether the lexicon knows nearly all of its words, and English grammar is between them: sure without
    /// a look at letters, which takes longer than all the rest and says nothing of short captions.
    pub(super) fn is_plainly_english(&self, text: &str) -> bool {
        let known = self.words.iter().filter(|token| token.entry.is_known() || token.is_number());
        let has_grammar = || words_of(text).any(|(_, word)| GRAMMAR.contains(&word));
        text.is_ascii()
            && self.words.len() >= 2
            && known.count() * 5 >= self.words.len() * 4
            && has_grammar()
    }
}

/// What stands between English words; some languages have some of them, none has English words around.
const GRAMMAR: [&str; 16] = [
    "a", "an", "the", "of", "with", "and", "is", "are", "on", "at", "by", "from", "to", "in",
    "The", "A",
];

impl Token<'_> {
    /// Whether both are forms of one word. What the lexicon has is told apart by it (`plan` is not
    /// `plane`); all else by stems.
    pub(super) fn same(&self, other: &Token<'_>) -> bool {
        if self.word.lower == other.word.lower {
            return true;
        }
        let both_known = self.entry.is_known() && other.entry.is_known();
        let inflected = self.word.stem == other.word.stem;
        self.entry.same(&other.entry) || (inflected && (!both_known || self.is_number()))
    }

    /// Whether it can be said of any picture: `background`, `shows`.
    pub(super) fn is_plain(&self) -> bool {
        PLAIN.contains(&*self.word.lower)
    }

    /// Whether it is a number, in digits or as a word.
    pub(super) fn is_number(&self) -> bool {
        self.kind == Kind::Number
    }
}

/// Nothing but a space or a hyphen is between two words.
fn is_beside(between: &str) -> bool {
    matches!(between, " " | "-" | "_" | "  " | "/")
}

fn is_capital(word: &str) -> bool {
    word.starts_with(char::is_uppercase)
}

/// A word's neighbours.
struct Around<'a> {
    text: &'a str,
    before: Option<(usize, &'a str)>,
    after: Option<&'a str>,
    /// The next content word, if it stands right behind.
    next: Option<&'a Entry>,
    next_is_name: bool,
}

impl Around<'_> {
    fn kind(&self, word: &Word<'_>, entry: &Entry) -> Kind {
        let digits = word.stem.bytes().any(|b| b.is_ascii_digit());
        if digits && word.stem.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
            return Kind::Number;
        }
        if self.is_name(word, entry) {
            return Kind::Name;
        }
        if !entry.is_known() {
            // The lexicon has no adverbs.
            let adverb = word.lower.ends_with("ly") || ADVERBS.contains(&&*word.lower);
            let english = !digits && !adverb && word.lower.is_ascii();
            return if english { Kind::Object } else { Kind::Other };
        }
        match self.part(word, entry) {
            Part::Noun if entry.is_seen => Kind::Object,
            Part::Noun => Kind::Other,
            Part::Adjective => Kind::Attribute,
            Part::Verb => Kind::Action,
        }
    }

    /// A capital letter alone says little: titles have them everywhere, sentences at their start.
    fn is_name(&self, word: &Word<'_>, entry: &Entry) -> bool {
        if !is_capital(word.text) || word.text.len() < 2 {
            return false;
        }
        let beside_a_name =
            |name: &str| is_capital(name) && !self::entry(&name.to_lowercase()).is_known();
        let part_of_name = self.next_is_name && self.after.is_some_and(beside_a_name)
            || self.before.is_some_and(|(start, before)| {
                is_beside(&self.text[start + before.len()..word.range.start])
                    && beside_a_name(before)
                    && !is_stop_word(&before.to_lowercase())
            });
        !entry.is_known() || entry.is_place || part_of_name
    }

    fn part(&self, word: &Word<'_>, entry: &Entry) -> Part {
        let before = self.before.map(|(_, word)| word.to_lowercase()).unwrap_or_default();
        let before_is_noun = !is_stop_word(&before) && self::entry(&before).can_be(Part::Noun);
        let next_is_noun = self.next.is_some_and(|next| next.can_be(Part::Noun));
        let determined = DETERMINERS.contains(&before.as_str());
        let ing = word.lower.ends_with("ing");
        let ends = self.after.is_none_or(|after| is_stop_word(&after.to_lowercase()));
        let weight = |part: Part, factors: &[(bool, f32)]| {
            let count = entry.counts[part as usize] as f32;
            factors.iter().filter(|(holds, _)| *holds).fold(count, |count, (_, by)| count * by)
        };
        let be = BE.contains(&before.as_str());
        let noun = weight(
            Part::Noun,
            &[
                (determined && !next_is_noun, 4.0),
                (determined && ends, 3.0),
                (ing && before_is_noun, 0.2),
            ],
        );
        let verb = weight(
            Part::Verb,
            &[
                (determined, 0.1),
                (before == "to", 4.0),
                (ing && (before_is_noun || be || before.is_empty()), 8.0),
                (before_is_noun && !next_is_noun && ends, 1.5),
            ],
        );
        let adjective = weight(
            Part::Adjective,
            &[(next_is_noun, 4.0), (be && ends, 2.0), (determined && ends, 0.2)],
        );
        if noun >= verb && noun >= adjective {
            Part::Noun
        } else if adjective >= verb {
            Part::Adjective
        } else {
            Part::Verb
        }
    }
}

/// Words of captions that say where in the picture or that there is one, and postures and verbs without
/// a picture of their own.
static PLAIN: LazyLock<HashSet<&'static str>> = LazyLock::new(|| {
    let words = concat!(
        "front back background foreground side sides top bottom middle center centre left right edge ",
        "end corner view scene close closeup drawing illustration cartoon sketch photo photograph ",
        "couple pair group set piece pieces part parts lot bunch variety kind type style way area ",
        "place day time thing things object objects item items others number single full various ",
        "different show shows shown showing see seen sees look looks looking stand stands standing sit ",
        "sits sitting hold holds holding wear wears wearing use uses using used feature features ",
        "featuring depict depicts depicting illustrated contain contains filled covered made make makes ",
        "placed set get gets take takes taken come comes go goes going appears leaves visible",
    );
    words.split(' ').collect()
});

const DETERMINERS: [&str; 26] = [
    "a", "an", "the", "this", "that", "these", "those", "his", "her", "its", "their", "my", "our",
    "your", "some", "any", "each", "every", "no", "another", "two", "three", "four", "five",
    "many", "several",
];

const ADVERBS: [&str; 20] = [
    "away",
    "together",
    "apart",
    "ahead",
    "forward",
    "forwards",
    "backwards",
    "upwards",
    "downwards",
    "sideways",
    "nearby",
    "indoors",
    "outdoors",
    "upside",
    "always",
    "often",
    "sometimes",
    "already",
    "almost",
    "however",
];

const BE: [&str; 8] = ["is", "are", "was", "were", "be", "been", "being", "am"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_sorted_by_what_they_are_here() {
        for (text, wanted) in [
            ("A brown dog runs on the beach.", "attribute object action object"),
            ("Three men riding horses", "number object action object"),
            ("The wooden table in 2019", "attribute object number"),
            ("A painting of a red house near Paris", "object attribute object name"),
            ("Nemo catches a frisbee", "name action object"),
            ("The Eiffel Tower at night", "name name other"),
            ("A man is surfing a large wave", "object action attribute other"),
            ("a plate of food with an orange", "object object object"),
            ("an orange cat", "attribute object"),
            ("sometimes quickly, a kxkxk", "other other object"),
        ] {
            let reading = Reading::of(text);
            let kinds: Vec<&str> = reading.words.iter().map(|token| token.kind.as_str()).collect();
            assert_eq!(kinds.join(" "), wanted, "{text}");
        }
    }

    #[test]
    fn expressions_and_neighbours_are_known() {
        let reading = Reading::of("a fire truck, a dog");
        assert!(reading.words[0].expression.is_some() && reading.words[0].has_next);
        assert!(!reading.words[1].has_next);
    }
}
