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
pub mod words;

pub use clean::clean;
pub use words::Word;
pub use words::content_words;

use regex::Regex;

/// A pattern that is known to be valid; each file's tests run its patterns, which is the proof.
fn pattern(source: &str) -> Regex {
    Regex::new(source).expect("a constant that a test compiles")
}
