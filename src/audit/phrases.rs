//! The noun phrases of a text: each thing that it names, with what it says of it just before.
//!
//! A thing is a word for an object or a name; such words side by side, and expressions that the lexicon
//! knows, are one thing (`Eiffel Tower`, `fire truck`). Its phrase begins at the first of the attributes, colours and numbers that stand right before
//! it, with nothing but blanks, commas, hyphens, `and` or `or` in between. What is said behind a thing
//! (`the car is red`) is not part of it, and words that fit any picture (`view`, `background`) are no
//! things. Kinds are guesses, see `reading`.

use std::ops::Range;

use crate::audit::bindings::is_color;
use crate::audit::bindings::is_joined;
use crate::audit::bindings::modifies;
use crate::audit::reading::Reading;
use crate::sample::Kind;

/// Bytes of each noun phrase, in order; none overlaps another.
pub fn phrases(text: &str) -> Vec<Range<usize>> {
    let reading = Reading::of(text);
    let words = &reading.words;
    let start = |place: usize| words[place].word.range.start;
    let mut phrases: Vec<Range<usize>> = Vec::new();
    for thing in (0..words.len()).filter(|&place| is_thing(&reading, place)) {
        let is_last = !(words[thing].has_next && is_thing(&reading, thing + 1));
        if !is_last {
            continue;
        }
        let mut first = thing;
        while first > 0 && belongs_to_next(&reading, first - 1) {
            first -= 1;
        }
        while first > 0 && modifies(&words[first - 1]) && is_joined(text, &reading, first - 1) {
            first -= 1;
        }
        let range = start(first)..words[thing].word.range.end;
        // `an orange and white cat`: what stands before another thing belongs to that one.
        if phrases.last().is_none_or(|before| before.end <= range.start) {
            phrases.push(range);
        }
    }
    phrases
}

/// Whether it and the next word are one thing: two things side by side, or `fire` before `truck`.
fn belongs_to_next(reading: &Reading<'_>, place: usize) -> bool {
    let token = &reading.words[place];
    token.has_next && (token.expression.is_some() || is_thing(reading, place))
}

/// An orange is a thing where no other follows, as in `an orange on a plate`.
fn is_thing(reading: &Reading<'_>, place: usize) -> bool {
    let Some(token) = reading.words.get(place) else { return false };
    let names_a_thing = matches!(token.kind, Kind::Object | Kind::Name) && !token.is_plain();
    names_a_thing && !(is_color(&token.word.lower) && token.has_next)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn things_come_with_what_is_said_just_before() {
        for (text, wanted) in [
            ("A small red car and a blue house near Paris.", "small red car|blue house|Paris"),
            ("two small dogs under a fire truck", "two small dogs|fire truck"),
            ("a black and white cat", "black and white cat"),
            ("A plate of food with an orange", "plate|food|orange"),
            ("an orange cat", "orange cat"),
            ("The Eiffel Tower at night", "Eiffel Tower"),
            ("The car is red.", "car"),
            ("a man, tall, with a hat", "man|hat"),
            ("A drawing of a brown dog in the background", "brown dog"),
            ("He runs quickly.", ""),
            ("", ""),
            ("Ein grüner Hund", "Ein|Hund"),
        ] {
            let found: Vec<&str> = phrases(text).into_iter().map(|range| &text[range]).collect();
            assert_eq!(found.join("|"), wanted, "{text}");
        }
    }

    proptest! {
        #[test]
        fn phrases_are_pieces_of_the_text_one_after_the_other(text in "(\\PC{0,6}| red| cat| and|, ){0,12}") {
            let mut end = 0;
            for range in phrases(&text) {
                prop_assert!(range.start >= end && range.start < range.end);
                prop_assert!(!text[range.clone()].trim().is_empty());
                end = range.end;
            }
        }
    }
}
