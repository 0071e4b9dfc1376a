//! Titles as people and cameras give them: which say nothing, and what the others say.
//!
//! Works on one line (see [`clean`](crate::text::clean())). Junk is a verdict about the title only; a
//! picture with a junk title is as good as any other.

use std::collections::HashMap;
use std::sync::LazyLock;

use regex::Regex;

use crate::text::pattern;
use crate::text::pii;
use crate::text::words::words_of;

/// Why a title says nothing about its picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Junk {
    /// Nothing there.
    Empty,
    /// Not a letter in it: emoji, digits, punctuation.
    NoWords,
    /// `NaN`, `null`, `[object Object]`.
    NullWord,
    /// Only an address.
    UrlOnly,
    /// `IMG_20190412_113355.jpg`, `DSC00012`, `untitled-1_final(2).png`.
    FileName,
    /// Stock-site keywords, or the same words over and over.
    KeywordSpam,
    /// JSON or another notation rather than words.
    Notation,
}

/// Why the title is junk; `None` if it may say something.
pub fn junk(title: &str) -> Option<Junk> {
    let title = title.trim();
    if title.is_empty() {
        return Some(Junk::Empty);
    }
    let lower = title.to_lowercase();
    type Verdict = (Junk, fn(&str) -> bool);
    let verdicts: [Verdict; 6] = [
        (Junk::NullWord, is_null_word),
        (Junk::NoWords, |text| !text.chars().any(char::is_alphabetic)),
        (Junk::UrlOnly, is_url_only),
        (Junk::Notation, is_notation),
        (Junk::FileName, is_camera_name),
        (Junk::KeywordSpam, is_spam),
    ];
    verdicts.into_iter().find(|(_, is)| is(&lower)).map(|(junk, _)| junk)
}

/// Whether the title says nothing about its picture.
pub fn is_junk(title: &str) -> bool {
    junk(title).is_some()
}

/// The words of a file name or slug: `red_flower` to `red flower`, `hummer_06.png` to `hummer`,
/// `arrow-up-purple` to `arrow up purple`. A title that is neither stays as it is.
pub fn de_slug(title: &str) -> String {
    let title = title.trim();
    let stem = without_extension(title);
    let is_file = stem.len() < title.len();
    let one_token = !title.contains(char::is_whitespace);
    let hyphens = one_token && is_hyphenated(stem);
    let is_slug = stem.contains('_') || hyphens || (one_token && has_glued_number(stem));
    if !is_file && !is_slug {
        return title.to_owned();
    }
    let spaced = spaced(stem, hyphens);
    let mut words: Vec<&str> = spaced.split_whitespace().collect();
    while words.len() > 1 && is_counter(words[words.len() - 1], is_file) {
        words.pop();
    }
    words.join(" ")
}

/// `Bacon - Bacon` to `Bacon`: the half before the dash, if the other half says nothing new.
pub fn undouble(title: &str) -> &str {
    let Some((first, second)) = title.split_once(" - ") else { return title };
    let known: Vec<String> = words_of(first).map(|(_, word)| word.to_lowercase()).collect();
    let mut news = words_of(second).filter(|(_, word)| !known.contains(&word.to_lowercase()));
    if known.is_empty() || news.next().is_some() { title } else { first.trim_end() }
}

/// Whether the text has a token that can only be a file name: an image extension or a camera's
/// numbering.
pub fn names_a_file(text: &str) -> bool {
    let is_file = |token: &str| {
        let token = token.trim_matches(|c: char| !c.is_alphanumeric());
        without_extension(token).len() < token.len() || CAMERA.is_match(token)
    };
    text.split_whitespace().any(is_file)
}

fn without_extension(token: &str) -> &str {
    EXTENSION.find(token).filter(|hit| hit.start() > 0).map_or(token, |hit| &token[..hit.start()])
}

static EXTENSION: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r"(?i)\.(?:jpe?g|jfif|png|gif|webp|bmp|tiff?|svgz?|eps|heic|avif|psd|raw|cr2|nef)$")
});

/// What cameras, phones and scanners write: a short prefix and a long number.
static CAMERA: LazyLock<Regex> = LazyLock::new(|| {
    pattern(concat!(
        r"(?i)^(?:(?:img|dsc[nf]?|dscf|pict|mvc|gopr|vid|pxl|image|photo|scan|wp|sam|screenshot)",
        r"[_ -]?\d[\d_-]*(?:[_-][a-z]{1,3})?|[a-z]{1,4}\d{5,}|\d{8}[_-]\d{4,6})$",
    ))
});

fn is_hyphenated(stem: &str) -> bool {
    // `t-shirt` and `x-ray` are words.
    stem.contains('-') && stem.split('-').all(|part| part.chars().count() > 1 || is_number(part))
}

fn has_glued_number(stem: &str) -> bool {
    GLUED.is_match(stem)
}

/// `Elefante01`, `flower2`; not `mp3`, `a380` or `Cisco4500`.
static GLUED: LazyLock<Regex> = LazyLock::new(|| pattern(r"^(\p{L}{4,})(\d{1,2})$"));
/// `untitled(2)`.
static COPY: LazyLock<Regex> = LazyLock::new(|| pattern(r"\(\d+\)$"));

fn spaced(stem: &str, hyphens: bool) -> String {
    let stem = COPY.replace(stem, "");
    let parts = stem.split(|c: char| matches!(c, '_' | '+') || (c == '-' && hyphens));
    let parts = parts.flat_map(str::split_whitespace).filter(|part| *part != "-");
    parts.map(|part| GLUED.replace(part, "$1").into_owned()).collect::<Vec<_>>().join(" ")
}

/// A running number at the end of a name says nothing; `4500` may be the model.
fn is_counter(word: &str, is_file: bool) -> bool {
    is_number(word) && (word.starts_with('0') || word.len() < 3 || (is_file && word.len() < 4))
}

fn is_number(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit())
}

fn is_null_word(lower: &str) -> bool {
    const NULL_WORDS: [&str; 20] = [
        "nan",
        "null",
        "none",
        "n/a",
        "n.a.",
        "nil",
        "undefined",
        "[object object]",
        "no title",
        "no name",
        "no caption",
        "no description",
        "not available",
        "unknown",
        "untitled",
        "unnamed",
        "no alt text",
        "alt text",
        "missing",
        "<null>",
    ];
    NULL_WORDS.contains(&lower.trim_matches(['"', '\'', '(', ')', ' ']))
}

fn is_url_only(lower: &str) -> bool {
    let rest = pii::remove_urls(lower);
    rest.len() < lower.len() && !rest.chars().any(char::is_alphanumeric)
}

fn is_notation(lower: &str) -> bool {
    let opens = lower.starts_with(['{', '[']) && lower.contains(['"', '\'', ':', '=']);
    opens || lower.starts_with("```") || lower.starts_with("<?") || lower.starts_with("data:")
}

/// Cameras' names, hashes, and names made only of words for files.
fn is_camera_name(lower: &str) -> bool {
    let stem = without_extension(lower);
    if CAMERA.is_match(stem) || is_hash(stem) {
        return true;
    }
    // Words for files alone (`untitled-1_final(2)`, `image`); a lone "new" or "large" is a word.
    let mut parts = stem.split(|c: char| !c.is_alphanumeric()).filter(|part| !part.is_empty());
    let mut names_it = false;
    let all = parts.all(|part| {
        let word = part.trim_end_matches(|c: char| c.is_ascii_digit());
        names_it |= MEDIUM.contains(&word);
        word.is_empty() || MEDIUM.contains(&word) || VERSION.contains(&word)
    });
    all && (names_it || stem.len() < lower.len())
}

const MEDIUM: [&str; 24] = [
    "img",
    "image",
    "images",
    "photo",
    "picture",
    "pic",
    "dsc",
    "dscn",
    "dscf",
    "scan",
    "untitled",
    "unnamed",
    "screenshot",
    "file",
    "bild",
    "foto",
    "imagen",
    "document",
    "download",
    "drawing",
    "thumbnail",
    "thumb",
    "whatsapp",
    "clipboard",
];
const VERSION: [&str; 20] = [
    "final", "copy", "new", "edit", "edited", "version", "v", "test", "tmp", "temp", "large",
    "small", "full", "kopie", "default", "shot", "screen", "at", "of", "a",
];

/// Twelve hexadecimal digits or more with both letters and digits: `a8f3e9c0b1d2`, a UUID.
fn is_hash(stem: &str) -> bool {
    let hex = stem.bytes().filter(u8::is_ascii_hexdigit).count();
    let digits = stem.bytes().filter(u8::is_ascii_digit).count();
    hex >= 12 && digits >= 3 && stem.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')
}

fn is_spam(lower: &str) -> bool {
    let words: Vec<&str> = words_of(lower).map(|(_, word)| word).collect();
    let stock = words.iter().filter(|word| STOCK.contains(word)).count();
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for word in &words {
        *counts.entry(word).or_default() += 1;
    }
    let most = counts.values().copied().max().unwrap_or(0);
    let sells = words.len() >= 4 && stock * 5 >= words.len() * 3;
    let one_word = words.len() >= 4 && most * 5 >= words.len() * 3;
    let loops = words.len() >= 16 && counts.len() * 5 < words.len() * 2;
    sells || one_word || loops
}

const STOCK: [&str; 40] = [
    "clip",
    "art",
    "clipart",
    "cliparts",
    "vector",
    "vectors",
    "svg",
    "eps",
    "png",
    "jpg",
    "jpeg",
    "psd",
    "ai",
    "pdf",
    "free",
    "royalty",
    "stock",
    "download",
    "downloads",
    "cheap",
    "best",
    "buy",
    "now",
    "sale",
    "discount",
    "wallpaper",
    "hd",
    "4k",
    "freebie",
    "casino",
    "bonus",
    "viagra",
    "porn",
    "xxx",
    "image",
    "images",
    "photo",
    "photos",
    "graphics",
    "online",
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn titles_that_say_nothing() {
        for (title, wanted) in [
            ("", Junk::Empty),
            ("   ", Junk::Empty),
            ("🍎🍏", Junk::NoWords),
            ("❤️\u{200d}🔥 🇫🇷", Junk::NoWords),
            ("105", Junk::NoWords),
            ("NaN", Junk::NullWord),
            ("None", Junk::NullWord),
            ("n/a", Junk::NullWord),
            ("[object Object]", Junk::NullWord),
            ("https://example.com/?q=cat&x=%20y", Junk::UrlOnly),
            ("www.example.org", Junk::UrlOnly),
            ("IMG_20190412_113355.jpg", Junk::FileName),
            ("DSC00012", Junk::FileName),
            ("P1010023.JPG", Junk::FileName),
            ("image001", Junk::FileName),
            ("untitled-1_final(2).png", Junk::FileName),
            ("a8f3e9c0b1d2f4.png", Junk::FileName),
            ("20190412_113355", Junk::NoWords),
            ("Photo", Junk::FileName),
            (
                "clip art, clip-art, clipart, vector, svg, eps, png, free, royalty free, stock",
                Junk::KeywordSpam,
            ),
            ("cat cat cat cat cat cat cat cat", Junk::KeywordSpam),
            (
                "free clipart cheap clipart best clipart download clipart free clipart",
                Junk::KeywordSpam,
            ),
            ("buy now!!! $$$ casino bonus viagra $$$", Junk::KeywordSpam),
            ("{\"a\": [1, 2", Junk::Notation),
            ("data:image/png;base64,AAAA", Junk::Notation),
        ] {
            assert_eq!(junk(title), Some(wanted), "{title}");
        }
    }

    #[test]
    fn titles_that_say_something() {
        for title in [
            "Brown Fish",
            "hummer_06.png",
            "red_flower",
            "New",
            "Free buttons - free buttons",
            "Mobile",
            "A photo of a cat",
            "NaN bread",
            "gramastar",
            "Vector",
            "Egg on Muffin - Egg on Muffin",
            "Elefante01",
            "Alcatel_4400",
            "Chinese flag",
            "красный дом",
            "Drawing of a dog",
            "A380",
            "Large basic Plate (B and W) - Large basic Plate (B and W)",
            "decade",
            "facade",
            "see www.example.org for cats",
            "[A red house]",
            "Clip on a table",
            "Test tube",
        ] {
            assert_eq!(junk(title), None, "{title}");
        }
    }

    #[test]
    fn slugs_become_words() {
        for (title, words) in [
            ("red_flower", "red flower"),
            ("arrow-up-purple", "arrow up purple"),
            ("Switch_Cisco_4500", "Switch Cisco 4500"),
            ("hummer_06.png", "hummer"),
            ("Elefante01", "Elefante"),
            ("flower2", "flower"),
            ("central_african_republic", "central african republic"),
            ("cat-2.jpg", "cat"),
            ("dog (2).png", "dog"),
            ("Flat_Cake_bw", "Flat Cake bw"),
            ("T-shirt", "T-shirt"),
            ("x-ray", "x-ray"),
            ("Brown Fish", "Brown Fish"),
            ("pin -red", "pin -red"),
            ("A well-known house", "A well-known house"),
            ("mp3", "mp3"),
            ("arki_arrow_right - by jean", "arki arrow right by jean"),
            (".png", ".png"),
            ("", ""),
        ] {
            assert_eq!(de_slug(title), words, "{title}");
        }
    }

    #[test]
    fn doubled_titles_are_said_once() {
        for (title, wanted) in [
            ("Bacon - Bacon", "Bacon"),
            ("Dall Sheep Ram - Dall Sheep Ram.", "Dall Sheep Ram"),
            ("Pan Cakes (B and W) - Pan Cakes", "Pan Cakes (B and W)"),
            ("House - residential suburban", "House - residential suburban"),
            ("Bacon", "Bacon"),
            (" - x", " - x"),
        ] {
            assert_eq!(undouble(title), wanted);
        }
    }

    #[test]
    fn file_names_within_a_sentence_are_seen() {
        assert!(names_a_file("A picture called IMG_2019.jpg."));
        assert!(names_a_file("(DSC00012) Eiffel tower"));
        assert!(!names_a_file("An A380 at 3.5 mm, node.js and mp3"));
    }

    proptest! {
        #[test]
        fn never_fails(title in "\\PC{0,40}") {
            let _ = junk(&title);
            prop_assert!(undouble(&title).len() <= title.len());
            let _ = de_slug(&title);
        }
    }
}
