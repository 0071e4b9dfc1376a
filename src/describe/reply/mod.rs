//! Checks a reply before anyone may use it: pure verdicts with named reasons.
//!
//! Each reason ([`Flaw`]) traces to something that really reached a published dataset or was seen from a
//! small model. A check never repairs: what is wrong is asked again once, then the grammar writes. Only
//! wrapping that changes no word is taken off first ([`tidy`]), and addresses last. What is looked for
//! in the words alone is in `form`, what in their sources in `echo`. How faithful an accepted text
//! is to its sources is the audit's question, not this file's.

mod echo;
mod flaw;
mod form;
#[cfg(test)]
mod tests;

use std::sync::LazyLock;

use regex::Regex;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::describe::prompt::Caption;
use crate::describe::prompt::Marks;
use crate::describe::reply::echo::is_unrelated;
use crate::describe::reply::echo::obeys;
use crate::describe::reply::form::form_flaw;
use crate::describe::reply::form::in_other_language;
use crate::describe::reply::form::size_flaw;
use crate::describe::sources::Sources;
use crate::text;
use crate::text::pattern;

pub use crate::describe::reply::flaw::Flaw;

/// What a reply must be like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Fewest words.
    pub min_words: usize,
    /// Most words.
    pub max_words: usize,
    /// Most characters.
    pub max_chars: usize,
    /// ISO 639-3 code of the language the prompt asks for (`eng`); empty to accept any.
    pub language: String,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            // One word is a label, and what a model that obeys an injected order most often says.
            min_words: 2,
            // CLIP reads 77 tokens; a sentence that needs more was not what was asked for.
            max_words: 60,
            max_chars: 400,
            language: "eng".to_owned(),
        }
    }
}

/// More characters of a reply than any setting of `max_chars` should ask for are not even read.
const MAX_REPLY_CHARS: usize = 10_000;

/// The text of an acceptable reply: tidied, without addresses, ready to be used.
///
/// `marks` are those of the prompt that was answered.
pub fn accept(
    reply: &str,
    finish_reason: &str,
    sources: &Sources,
    marks: &Marks,
    config: &Config,
) -> Result<String, Flaw> {
    let inside = marks.row.as_ref().map(|row| caption(tidy(reply), row)).transpose();
    let inside = match inside {
        Err(Flaw::NotStructured) if finish_reason == "length" => return Err(Flaw::CutOff),
        inside => inside?,
    };
    let line = tidy(inside.as_deref().unwrap_or(reply));
    if !line.chars().any(char::is_alphanumeric) {
        return Err(Flaw::Empty);
    }
    if finish_reason == "length" {
        return Err(Flaw::CutOff);
    }
    if let Some(flaw) = form_flaw(line, sources, &marks.fence) {
        return Err(flaw);
    }
    if obeys(line, sources) {
        return Err(Flaw::InjectionEcho);
    }
    let text = text::clean(line, MAX_REPLY_CHARS);
    let text = text::pii::remove_urls(&text::pii::remove(&text));
    if let Some(flaw) = size_flaw(&text, config) {
        return Err(flaw);
    }
    if in_other_language(&text, &config.language) {
        return Err(Flaw::WrongLanguage);
    }
    if is_unrelated(&text, sources) {
        return Err(Flaw::Unrelated);
    }
    Ok(text)
}

/// The sentence of a structured reply to this row. A fence of Markdown around it is forgiven.
fn caption(reply: &str, row: &str) -> Result<String, Flaw> {
    let inside = reply.trim_start_matches("```json").trim_matches('`').trim();
    let answer: Caption = serde_json::from_str(inside).map_err(|_| Flaw::NotStructured)?;
    if answer.row == row { Ok(answer.caption) } else { Err(Flaw::Swapped) }
}

/// Takes off what wraps a sentence and is no part of it: thoughts, a label, quotation marks.
pub fn tidy(reply: &str) -> &str {
    let mut text = reply.trim();
    if let Some((_, answer)) = text.strip_prefix("<think>").and_then(|t| t.split_once("</think>")) {
        text = answer.trim();
    }
    if let Some(label) = LABEL.find(text) {
        text = text[label.end()..].trim();
    }
    QUOTES.iter().find_map(|&(open, close)| unquoted(text, open, close)).unwrap_or(text)
}

const QUOTES: [(char, char); 4] = [('"', '"'), ('“', '”'), ('\'', '\''), ('«', '»')];

/// The inside of a text that is one quotation: `"a" and "b"` is not.
fn unquoted(text: &str, open: char, close: char) -> Option<&str> {
    let inside = text.strip_prefix(open)?.strip_suffix(close)?;
    (!inside.contains([open, close]) || open == '\'').then(|| inside.trim())
}

static LABEL: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?i)^\**(?:(?:final |fused |new )?(?:caption|description|answer|output|sentence))\**\s*:\**\s*",
    )
});
