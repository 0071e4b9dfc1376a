//! A generated text cut at its content words, so that a page can colour them.

use serde::Serialize;

use crate::sample::Kind;
use crate::sample::Link;
use crate::sample::Origin;
use crate::sample::WordOrigin;

/// A part of a text. All parts in order are the text.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Piece {
    /// The part.
    pub text: String,
    /// Where it comes from, where it is a content word.
    pub origin: Option<Origin>,
    /// What sort of word it is.
    pub kind: Option<Kind>,
    /// How its source has it.
    pub link: Option<Link>,
}

/// Cuts the text at these words, which are in order. Of older runs, which do not say where words stand,
/// they are looked for; a word that is not there is passed over, never misplaced.
pub fn pieces(text: &str, words: &[WordOrigin]) -> Vec<Piece> {
    let mut pieces = Vec::with_capacity(2 * words.len() + 1);
    let mut end = 0;
    for word in words.iter().filter(|word| !word.word.is_empty()) {
        let Some(start) = place(text, end, word) else { continue };
        push(&mut pieces, &text[end..start], None);
        end = start + word.word.len();
        push(&mut pieces, &text[start..end], Some(word));
    }
    push(&mut pieces, &text[end..], None);
    pieces
}

/// Where the word starts, in bytes, at or after `from`.
fn place(text: &str, from: usize, word: &WordOrigin) -> Option<usize> {
    if word.end == 0 {
        return text[from..].find(&word.word).map(|at| from + at);
    }
    let (at, _) = text.char_indices().nth(word.start as usize)?;
    (at >= from && text[at..].starts_with(&word.word)).then_some(at)
}

fn push(pieces: &mut Vec<Piece>, text: &str, word: Option<&WordOrigin>) {
    if text.is_empty() {
        return;
    }
    pieces.push(Piece {
        text: text.to_owned(),
        origin: word.map(|word| word.origin),
        kind: word.map(|word| word.kind),
        link: word.and_then(|word| word.link),
    });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn word(word: &str, start: u32, origin: Origin) -> WordOrigin {
        let end = start + word.chars().count() as u32;
        WordOrigin { start, end, ..WordOrigin::new(word, origin) }
    }

    #[test]
    fn places_are_counted_in_characters() {
        let text = "\u{1f600} \u{c9}t\u{e9}: a cat is no cat.";
        let words = [word("\u{c9}t\u{e9}", 2, Origin::Raw), word("cat", 19, Origin::Nowhere)];
        let found = pieces(text, &words);
        let marked: Vec<_> = found.iter().filter_map(|p| Some((&*p.text, p.origin?))).collect();
        assert_eq!(marked, [("\u{c9}t\u{e9}", Origin::Raw), ("cat", Origin::Nowhere)]);
        assert_eq!(found[2].text, ": a cat is no ");
        // Of another text: passed over.
        assert_eq!(pieces(text, &[word("cat", 8, Origin::Tag)]).len(), 1);
    }

    #[test]
    fn words_of_older_runs_are_looked_for() {
        let words = ["cat", "gone", "cat"].map(|word| WordOrigin::new(word, Origin::Tag));
        let found = pieces("A cat, a cat.", &words);
        let texts: Vec<_> = found.iter().map(|piece| piece.text.as_str()).collect();
        assert_eq!(texts, ["A ", "cat", ", a ", "cat", "."]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_whatever_the_words_say(
            text in "\\PC{0,30}",
            words in proptest::collection::vec(("\\PC{0,3}", 0_u32..40, any::<u32>()), 0..6),
        ) {
            let words: Vec<WordOrigin> = words
                .into_iter()
                .map(|(word, start, end)| WordOrigin {
                    start,
                    end,
                    ..WordOrigin::new(word, Origin::Raw)
                })
                .collect();
            let joined: String = pieces(&text, &words).into_iter().map(|p| p.text).collect();
            prop_assert_eq!(joined, text);
        }
    }
}
