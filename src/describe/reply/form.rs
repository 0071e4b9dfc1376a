//! What is wrong with the words of a reply: refusals, leaks, markup, loops, length, language.

use std::collections::HashMap;
use std::sync::LazyLock;

use regex::Regex;
use unicode_segmentation::UnicodeSegmentation;

use crate::describe::reply::Config;
use crate::describe::reply::Flaw;
use crate::describe::sources::Sources;
use crate::text;
use crate::text::pattern;

/// What is wrong with the words of a line.
pub(super) fn form_flaw(line: &str, sources: &Sources, fence: &str) -> Option<Flaw> {
    let found = [
        (REFUSAL.is_match(line), Flaw::Refusal),
        (leaks(line, fence), Flaw::LeakedTemplate),
        (leaks_a_score(line, sources), Flaw::LeakedScores),
        (text::title::names_a_file(line), Flaw::FileName),
        (MARKUP.is_match(line), Flaw::Markup),
        (BOILERPLATE.is_match(line), Flaw::Boilerplate),
        (ABOUT_SOURCES.is_match(line), Flaw::TalksAboutSources),
        (repeats(line), Flaw::Repetition),
    ];
    found.into_iter().find_map(|(is, flaw)| is.then_some(flaw))
}

static REFUSAL: LazyLock<Regex> = LazyLock::new(|| {
    pattern(concat!(
        r"(?i)\bI(?:'m| am|’m)\s+(?:sorry|unable|not able|afraid)\b",
        r"|\bI\s+(?:cannot|can't|can’t|can not|won't|will not|do not|don't|don’t)\b",
        r"|\bas an? (?:ai|large|language|assistant)\b|\blanguage model\b",
        r"|\b(?:unable|not possible|impossible) to (?:provide|describe|generate|determine|say|tell)\b",
        r"|\bcannot be (?:determined|described)\b",
        r"|\b(?:no|not enough|insufficient) (?:information|details|context)\b",
        r"|\bpolic(?:y|ies) (?:violation|does not|do not)\b|\bagainst my\b",
    ))
});
static TEMPLATE: LazyLock<Regex> = LazyLock::new(|| {
    pattern(concat!(
        r"(?i)<\||\|>|<｜|</?s>|\[/?INST\]|<</?SYS>>|</?(?:start|end)_of_turn>|</?think>",
        r"|<(?:eos|bos|pad|unk|image|mask)>|#{2,}|\{\{|\}\}|\{%|={3}",
        r"|^\s*(?:system|user|assistant|human|model)\s*:",
        r"|\b(?:raw|tags|caption|synthetic)\s*:|\(none\)",
    ))
});
static SCORE: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?i)(?:^|[^\d.,])[01]?\.\d{2,}\b|\b(?:score|confidence|probability|logit)s?\s*(?:[:=]|of\s+\d)",
    )
});
static MARKUP: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?m)^\s*[{\[]|```|\*\*|</?[a-zA-Z][^>]*>|^\s*(?:[-*•]|\d+[.)])\s|\n|&(?:[a-z]+|#\d+);|\]\(",
    )
});
static BOILERPLATE: LazyLock<Regex> = LazyLock::new(|| {
    pattern(concat!(
        r"(?i)^(?:(?:sure|certainly|absolutely|of course|okay|ok|yes|no|understood|great)\s*[,!.:]",
        r"|here(?:'s|’s| is| are)\b|based on\b|let me\b|i (?:can )?see\b|as requested\b|note:",
        r"|thank(?:s| you)\b|this is an? (?:sentence|caption|description|example)\b|welcome\b)",
    ))
});
static ABOUT_SOURCES: LazyLock<Regex> = LazyLock::new(|| {
    pattern(concat!(
        r"(?i)\b(?:the|this|that|your|given|provided|above) ",
        r"(?:[a-z]+ )?(?:image|picture|photo|photograph|caption|description|note|tag|sentence)s?\b",
        r"|\b(?:image|picture|photo|photograph|caption|description)s? ",
        r"(?:shows?|depicts?|features?|describes?|contains?|captures?|appears?|is about)\b",
        r"|\balt[- ]?text\b|\baccording to\b|\b(?:provided|given) (?:text|information)\b",
    ))
});

/// Where nothing was fenced in, there is no fence to leak.
fn leaks(line: &str, fence: &str) -> bool {
    (!fence.is_empty() && line.contains(fence)) || TEMPLATE.is_match(line)
}

/// A decimal fraction that the raw text does not have: "0.75 l bottle" may be copied.
fn leaks_a_score(line: &str, sources: &Sources) -> bool {
    let raw = sources.raw.as_deref().unwrap_or_default();
    SCORE.find_iter(line).any(|score| !raw.contains(score.as_str().trim()))
}

/// Whether any three words come three times, or one word thrice in a row, or hardly any word is new.
fn repeats(line: &str) -> bool {
    let words = words(line);
    let mut seen: HashMap<&[String], u32> = HashMap::new();
    let thrice = words.windows(3).any(|three| {
        let times = seen.entry(three).or_default();
        *times += 1;
        *times == 3 || three.iter().all(|word| *word == three[0])
    });
    let mut distinct = words.clone();
    distinct.sort_unstable();
    distinct.dedup();
    thrice || (words.len() >= 12 && distinct.len() * 5 < words.len() * 2)
}

/// Too few words or too many.
pub(super) fn size_flaw(text: &str, config: &Config) -> Option<Flaw> {
    let words = text.unicode_words().count();
    if words < config.min_words {
        Some(Flaw::TooShort)
    } else if words > config.max_words || text.chars().count() > config.max_chars {
        Some(Flaw::TooLong)
    } else {
        None
    }
}

/// Foreign letters beyond this share are not those of a name in an English sentence.
const MAX_NON_LATIN: f32 = 0.25;

/// Whether the text is surely not in the language that was asked for.
pub(super) fn in_other_language(text: &str, wanted: &str) -> bool {
    if wanted.is_empty() {
        return false;
    }
    let letters = text.chars().filter(|c| c.is_alphabetic()).count();
    let non_latin = text::language::non_latin_letters(text) as f32;
    (wanted == "eng" && non_latin > letters as f32 * MAX_NON_LATIN)
        || text::language::detect(text).is_some_and(|language| language.code != wanted)
}

fn words(text: &str) -> Vec<String> {
    text.unicode_words().map(str::to_lowercase).collect()
}
