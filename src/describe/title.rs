//! What a raw text names, if it names anything: titles come as file names, with credits, twice.
//!
//! Pure text to text. It drops what cannot be about the picture (credits, collections,
//! advertisements, numbers of files, code) and never adds a word.

use std::sync::LazyLock;

use regex::Regex;
use unicode_segmentation::UnicodeSegmentation;

use crate::describe::grammar;
use crate::text;
use crate::text::pattern;

/// A usable title and how it may be used in a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Title {
    /// Made of known English words: takes an article, in lower case.
    Phrase(String),
    /// A name or unknown words: kept as found.
    Name(String),
    /// Another language: quoted, as nobody here can translate.
    Foreign(String),
}

/// More words than this are a paragraph; only its first sentence is looked at.
const MAX_WORDS: usize = 14;

static CREDIT: LazyLock<Regex> = LazyLock::new(|| {
    pattern(concat!(
        r"(?i)^(?:clip ?art|photo(?:graph)?|image|picture|drawing|illustration|created|made|drawn|",
        r"converted|(?:hand[- ])?traced)s? (?:by|with|from|using|in|of the day)\b",
    ))
});
static COLLECTION: LazyLock<Regex> = LazyLock::new(|| {
    pattern(concat!(
        r"(?i)^part of\b|\bconverted from\b",
        r"|\b(?:theme|collection|icon ?sets?|icons|clip ?arts?|wallpapers?|general|submission)$",
    ))
});
static ADVERTISEMENT: LazyLock<Regex> = LazyLock::new(|| {
    pattern(concat!(
        r"(?i)\b(?:buy|order|call|subscribe|click|visit|download)\b.*\b(?:now|here|today|us|for)\b",
        r"|\b(?:free|cheap|best) (?:clip|stock|download|shipping)|\broyalty|\bcasino\b|\bviagra\b",
        r"|\bstock (?:photo|image|vector)|\bclip-?\s?art\b|\ball rights\b|\blorem ipsum\b",
        r"|\b(?:contact|mail me|e-?mail|enjoy it|licen[cs]e|copyright)\b|[$€£%©]|!!",
    ))
});
static CODE: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r#"(?i)[{}\[\]<>=;\\^~`|]|\b0x[0-9a-f]{3,}|\b(?:null|undefined|nan|n/a)\b|--|::"#)
});
static NUMBERING: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?:[\s#_.-]+(?:0\d+|\d)|\s*#\s*\d+|\s*\(\d+\))+\s*$"));
static SENTENCE_END: LazyLock<Regex> = LazyLock::new(|| pattern(r"[.!?…]\s"));
static BLACK_AND_WHITE: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?i)\s*(?:\((?:b ?(?:&|and) ?w|bw|black and white)\)|\bbw$)"));
static BETWEEN_PARTS: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"\s+[-–—|•·]+(?:\s+|$)|\s*[|/]\s+"));

impl Title {
    /// Reads a title out of a clean line.
    pub fn of(raw: &str) -> Option<Title> {
        let mut parts: Vec<String> = Vec::new();
        for part in BETWEEN_PARTS.split(raw).filter_map(part).take(3) {
            keep(&mut parts, part);
        }
        let parts: Vec<String> = parts.into_iter().take(2).collect();
        let title = joined(&parts);
        let words = title.unicode_words().count();
        if words == 0 || words > MAX_WORDS {
            // Rather one good part than a paragraph.
            return parts.first().filter(|p| p.unicode_words().count() <= MAX_WORDS).map(kind);
        }
        Some(kind(&title))
    }

    /// The words, in whatever form.
    pub fn words(&self) -> &str {
        match self {
            Title::Phrase(words) | Title::Name(words) | Title::Foreign(words) => words,
        }
    }
}

/// One part of a title, cleaned; nothing if it cannot be about the picture.
fn part(found: &str) -> Option<String> {
    let found = found.trim();
    let useless = [&CREDIT, &ADVERTISEMENT, &CODE].iter().any(|pattern| pattern.is_match(found));
    if useless || text::title::is_junk(found) {
        return None;
    }
    let sentence = SENTENCE_END.find(found).map_or(found, |end| &found[..end.start()]);
    let text = text::title::de_slug(sentence).replace(" & ", " and ");
    let is_black_and_white = BLACK_AND_WHITE.is_match(&text);
    let coloured = BLACK_AND_WHITE.replace(&text, "");
    let numbered = NUMBERING.replace(&coloured, "");
    let text = calm(&distinct_in_a_row(without_glued_number(&numbered)));
    let text = text.trim_matches(|c: char| !c.is_alphanumeric() && c != ')' && c != '(');
    let text = without_loose_end(text);
    if !has_word(text) || is_remark(text) || COLLECTION.is_match(text) || text::title::is_junk(text)
    {
        return None;
    }
    let colours = if is_black_and_white { " in black and white" } else { "" };
    Some(balanced(text) + colours)
}

/// At least one word of more than a letter; one ideograph is a word.
fn has_word(text: &str) -> bool {
    text.unicode_words().any(|word| {
        word.chars().filter(|c| c.is_alphabetic()).count() > 1 || word.chars().any(is_ideograph)
    })
}

/// "This is a vectorized image of a bulb": about the file, or a whole sentence of its own. "A nice
/// picture" says as little.
fn is_remark(text: &str) -> bool {
    let words: Vec<String> = text.unicode_words().map(str::to_lowercase).collect();
    let first = words.first().map_or("", String::as_str);
    ["this", "it", "these", "here", "i"].contains(&first)
        || words.iter().all(|word| SAYS_NOTHING.contains(&word.as_str()))
}

/// Words that name no subject, alone or together.
const SAYS_NOTHING: [&str; 18] = [
    "a",
    "an",
    "the",
    "my",
    "nice",
    "beautiful",
    "cool",
    "great",
    "good",
    "new",
    "some",
    "picture",
    "image",
    "photo",
    "photograph",
    "drawing",
    "of",
    "pic",
];

/// `smiley111` is a smiley, because there is such a word; `R16` may be anything.
fn without_glued_number(text: &str) -> &str {
    let stem = text.trim_end_matches(|c: char| c.is_ascii_digit());
    let is_word = !text.contains(char::is_whitespace) && stem == stem.to_lowercase();
    if is_word && grammar::is_common(stem) { stem } else { text }
}

/// Adds a part unless an earlier one says it; replaces an earlier one that says less.
fn keep(parts: &mut Vec<String>, new: String) {
    let bag = |text: &str| -> Vec<String> {
        let article = |w: &String| !["a", "an", "the"].contains(&w.as_str());
        grammar::words_of(text).map(str::to_lowercase).filter(article).collect()
    };
    let new_words = bag(&new);
    for known in parts.iter_mut() {
        let known_words = bag(known);
        if new_words.iter().all(|word| known_words.contains(word)) {
            return;
        }
        if known_words.iter().all(|word| new_words.contains(word)) {
            *known = new;
            return;
        }
    }
    parts.push(new);
}

/// "Cake and candle, an iced cake": only the first part keeps its capital article.
fn joined(parts: &[String]) -> String {
    let mut title = String::new();
    for part in parts {
        match (title.is_empty(), part.split_once(' ')) {
            (true, _) => title.push_str(part),
            (false, Some((article @ ("A" | "An" | "The"), rest))) => {
                title.push_str(&format!(", {} {rest}", article.to_lowercase()));
            }
            (false, _) => title.push_str(&format!(", {part}")),
        }
    }
    title
}

/// `cat cat cat` is a cat.
fn distinct_in_a_row(text: &str) -> String {
    let mut words: Vec<&str> = text.split_whitespace().collect();
    words.dedup_by(|a, b| a.to_lowercase() == b.to_lowercase());
    words.join(" ")
}

/// "flower by", after the address of whoever it was by was taken away.
fn without_loose_end(text: &str) -> &str {
    match text.rsplit_once(' ') {
        Some((rest, last)) if grammar::is_joint(last) => without_loose_end(rest.trim_end()),
        _ => text,
    }
}

/// A title in capitals is shouted, not spelled: `A RED APPLE`. One word may be an abbreviation.
fn calm(text: &str) -> String {
    let words = text.split_whitespace().count();
    let shouted =
        words > 1 && text.chars().any(|c| c.is_uppercase()) && text == text.to_uppercase();
    if shouted { text.to_lowercase() } else { text.to_owned() }
}

/// Without the parenthesis or quotation mark that lost its partner.
fn balanced(text: &str) -> String {
    let opened = text.matches('(').count() == text.matches(')').count();
    let text = if opened { text.to_owned() } else { text.replace(['(', ')'], " ") };
    let text = text.replace(['"', '“', '”', '„', '«', '»'], "");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn kind(title: impl AsRef<str>) -> Title {
    let title = title.as_ref();
    if is_foreign(title) {
        Title::Foreign(title.to_owned())
    } else if grammar::is_common(title) {
        Title::Phrase(lower(title))
    } else {
        Title::Name(title.to_owned())
    }
}

/// Lower case but for abbreviations.
fn lower(phrase: &str) -> String {
    let word = |word: &str| match word.chars().filter(|c| c.is_uppercase()).count() {
        0 => word.to_owned(),
        capitals if capitals > 1 => word.to_owned(),
        _ => word.to_lowercase(),
    };
    phrase.split_whitespace().map(word).collect::<Vec<_>>().join(" ")
}

fn is_foreign(title: &str) -> bool {
    let letters = title.chars().filter(|c| c.is_alphabetic());
    let other_script = letters.clone().filter(|&c| c > '\u{24f}').count();
    if other_script * 2 > letters.count() {
        return true;
    }
    let words: Vec<String> = grammar::words_of(title).map(str::to_lowercase).collect();
    let has = |list: &[&str]| words.iter().any(|word| list.contains(&word.as_str()));
    has(&FOREIGN) && !has(&["the", "of", "with", "and"])
}

/// Small words of other languages with Latin letters that are no English words and rarely part of
/// a name. Trigram detection needs a sentence; a title is four words.
const FOREIGN: [&str; 36] = [
    "di", "della", "dello", "dei", "delle", "del", "il", "gli", "che", "si", "una", "uno", "con",
    "per", "le", "les", "des", "du", "une", "aux", "avec", "pour", "sur", "à", "und", "ein",
    "eine", "der", "mit", "auf", "und", "los", "las", "para", "por", "une",
];

fn is_ideograph(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{ac00}'..='\u{d7af}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phrase(words: &str) -> Option<Title> {
        Some(Title::Phrase(words.to_owned()))
    }

    fn name(words: &str) -> Option<Title> {
        Some(Title::Name(words.to_owned()))
    }

    fn foreign(words: &str) -> Option<Title> {
        Some(Title::Foreign(words.to_owned()))
    }

    #[test]
    fn titles_of_a_real_collection() {
        let mut wrong = Vec::new();
        for (raw, title) in [
            ("Emperor Penguin", phrase("emperor penguin")),
            ("small house - a small house", phrase("small house")),
            ("PDA 2 - PDA With Stylus", phrase("PDA with stylus")),
            ("Lightbulb - This is a vectorized image of a light bulb.", phrase("lightbulb")),
            ("Crawfish (B and W) - Crawfish (B and W)", phrase("crawfish in black and white")),
            ("Clipart by Nicu Buculei - book_01", phrase("book")),
            ("Clipart by Nicu Buculei - smiley111", phrase("smiley")),
            ("shopping_cart", phrase("shopping cart")),
            (
                "Eiffel Tower - An outline of the Eiffel Tower",
                name("An outline of the Eiffel Tower"),
            ),
            ("France - Limousin Alternate", name("France, Limousin Alternate")),
            ("Come si dispongono le posate", foreign("Come si dispongono le posate")),
            ("красный дом", foreign("красный дом")),
            ("一只猫在椅子上", foreign("一只猫在椅子上")),
            ("HOUSE ON A HILL", phrase("house on a hill")),
            ("Cat cat", phrase("cat")),
            ("Nikon Coolpix 4500", name("Nikon Coolpix 4500")),
            ("hummer_06.png", phrase("hummer")),
            ("LED Circle (Grey) -", phrase("LED circle (grey)")),
            ("flower by", phrase("flower")),
            ("Cake - An iced cookie.", phrase("cake, an iced cookie")),
            ("Clipart by Pedro A. Gracia - Spain - Murcia", name("Spain, Murcia")),
            ("glace_06_bw - ", name("glace in black and white")),
            ("a nice picture", None),
            ("NaN", None),
            ("Part of the Flat Icon Collection (Wed Aug 25 23:29:46 2004)", None),
            ("Lemon SVG theme", None),
            ("IMG_20190412_113355.jpg", None),
            ("DSC00012", None),
            ("untitled-1_final(2).png", None),
            ("image001", None),
            ("null", None),
            ("[object Object]", None),
            ("{\"a\": [1, 2", None),
            ("Robert'); DROP TABLE images;--", None),
            ("buy now!!! $$$ casino bonus viagra $$$", None),
            ("clip art, clip-art, clipart, vector, svg, eps, png, free", None),
            ("😀😀😀", None),
            ("", None),
            ("7", None),
        ] {
            let found = Title::of(raw);
            if found != title {
                wrong.push(format!("{raw:?} gave {found:?}"));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn every_pattern_compiles() {
        for pattern in [
            &CREDIT,
            &COLLECTION,
            &ADVERTISEMENT,
            &CODE,
            &NUMBERING,
            &BLACK_AND_WHITE,
            &BETWEEN_PARTS,
            &SENTENCE_END,
        ] {
            assert!(!pattern.as_str().is_empty());
        }
    }
}
