//! Hygiene of words: what the web wrote, made safe to read, compare and copy.
//!
//! Pure functions over strings that never fail, whatever the bytes. Nothing here knows about
//! samples, models or prompts, and nothing here decides: whether a title is junk or an order to a
//! language model is said here, what follows from it is the caller's business.

pub mod clean;
pub mod entities;
pub mod injection;
pub mod language;
pub mod mojibake;
pub mod pii;
pub mod stem;
pub mod title;
pub mod visible;
pub mod words;

pub use clean::clean;
pub use words::Word;
pub use words::content_words;

use regex::Regex;

/// Text from the web on one line of a terminal or a message: no control characters, nothing that turns
/// the line around, and no more than so many letters.
pub fn printable(text: &str, letters: usize) -> String {
    let shown = |c: char| if c.is_control() { Some(' ') } else { visible::visible(c) };
    let clean: String = text.chars().filter_map(shown).collect();
    shortened(&clean, letters)
}

/// No more than so many letters of a text; what was cut leaves its mark.
pub fn shortened(text: &str, letters: usize) -> String {
    match text.char_indices().nth(letters) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A pattern that is known to be valid; each file's tests run its patterns, which is the proof.
///
/// A boundary of words is that of ASCII letters. With all letters of the world the engine that is fast
/// gives up, and the patterns here are English: an audit took a quarter longer.
pub(crate) fn pattern(source: &str) -> Regex {
    let source = source.replace(r"\b", r"(?-u:\b)");
    Regex::new(&source).expect("a constant that a test compiles")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_moves_no_cursor_and_is_short() {
        assert_eq!(printable("a\x1b[2Jb\nc", 20), "a [2Jb c");
        assert_eq!(printable("a\u{202e}b\u{2028}c", 20), "ab c");
        assert_eq!(
            (printable("été", 3), printable("étés", 3)),
            ("été".to_owned(), "été…".to_owned())
        );
    }
}
