//! Makes a text from the web one safe line.
//!
//! Takes away what is no word: HTML tags, character references, controls, terminal escapes,
//! invisible and direction-changing characters. Repairs nothing else: mojibake, spelling and order
//! stay as found, because a repair that guesses wrong cannot be told from what was written.

use std::sync::LazyLock;

use regex::Captures;
use regex::Regex;
use unicode_normalization::UnicodeNormalization;
use unicode_segmentation::UnicodeSegmentation;

use crate::text::entities;
use crate::text::pattern;
use crate::text::visible::visible;

/// The text without markup and invisible characters, in NFC, its white space single spaces, cut
/// after the last grapheme that fits into `max_chars` characters. Cleaning twice changes nothing.
pub fn clean(raw: &str, max_chars: usize) -> String {
    let head = prefix(raw, max_chars.saturating_mul(MARKUP_SHARE).saturating_add(MARKUP_EXTRA));
    let text = if is_plain(head) { head.to_owned() } else { without_markup(head) };
    cut(&text, max_chars)
}

/// Markup may outweigh the words by this factor (and this many characters more) before words are
/// lost: beyond it a cell of megabytes would cost more than a picture.
const MARKUP_SHARE: usize = 8;
const MARKUP_EXTRA: usize = 4096;

/// Nothing to do: printable ASCII, single spaces, nothing that could be markup. Most titles are.
fn is_plain(text: &str) -> bool {
    let visible = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'&' && byte != b'<';
    text.bytes().all(visible) && !text.contains("  ") && text.trim().len() == text.len()
}

/// Removing one thing can bring another to light (`&amp;lt;b&gt;`, `<scr<b>ipt>`), so passes follow
/// each other until nothing changes. What is nested deeper than this is an attack: it loses its
/// `&` and `<` and with them the last thing a pass could act on.
const MAX_PASSES: usize = 4;

fn without_markup(head: &str) -> String {
    let mut text = pass(head);
    for _ in 1..MAX_PASSES {
        let next = pass(&text);
        if next == text {
            return text;
        }
        text = next;
    }
    pass(&text.replace(['&', '<'], " "))
}

fn pass(text: &str) -> String {
    let text = ESCAPE.replace_all(text, "");
    let text: String = text.chars().filter_map(visible).collect();
    let text = entities::decode(&text);
    let text = HIDDEN.replace_all(&text, " ");
    let text = TAG.replace_all(&text, gap);
    let text: String = text.chars().filter_map(visible).nfc().collect();
    single_spaced(&text)
}

fn single_spaced(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
    }
    out
}

/// A terminal's colour, cursor and title commands, as far as they are complete.
static ESCAPE: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r"(?:\x1b\[|\u{9b})[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]{0,256}(?:\x07|\x1b\\)")
});

/// Parts of a page that no reader sees.
static HIDDEN: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r"(?is)<!--.*?-->|<script\b[^<>]*>.*?</script\s*>|<style\b[^<>]*>.*?</style\s*>")
});

/// `<jane@example.com>`, `<3` and `<|im_start|>` are no tags.
static TAG: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"</?([A-Za-z][A-Za-z0-9:-]*)(?:\s[^<>]*)?/?>|<[!?][^<>]*>"));

/// Tags within a word or a sentence leave no gap; all others separate words.
const INLINE: [&str; 24] = [
    "a", "abbr", "b", "bdi", "bdo", "big", "cite", "code", "del", "em", "font", "i", "ins", "kbd",
    "mark", "q", "s", "small", "span", "strong", "sub", "sup", "u", "wbr",
];

fn gap(tag: &Captures<'_>) -> &'static str {
    let name = tag.get(1).map_or("", |name| name.as_str());
    if INLINE.iter().any(|inline| inline.eq_ignore_ascii_case(name)) { "" } else { " " }
}

/// The longest run of whole graphemes within `max_chars` characters.
fn cut(text: &str, max_chars: usize) -> String {
    if text.len() <= max_chars {
        return text.to_owned();
    }
    let mut chars = 0;
    let fits = |grapheme: &(usize, &str)| {
        chars += grapheme.1.chars().count();
        chars <= max_chars
    };
    let end = text.grapheme_indices(true).take_while(fits).last().map_or(0, |(at, g)| at + g.len());
    text[..end].trim_end().to_owned()
}

fn prefix(text: &str, max_chars: usize) -> &str {
    // A character has at least one byte, so a short text needs no counting.
    if text.len() <= max_chars {
        return text;
    }
    text.char_indices().nth(max_chars).map_or(text, |(end, _)| &text[..end])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::text::visible::is_invisible;

    #[test]
    fn faults_seen_in_crawled_titles() {
        for (raw, wanted) in [
            ("Brown Fish", "Brown Fish"),
            ("  two   spaces ", "two spaces"),
            ("<b>House</b> &amp; <i>garden</i>", "House & garden"),
            ("<script>alert(1)</script>apple", "apple"),
            ("&lt;img src=x onerror=alert(1)&gt;", ""),
            ("&amp;lt;b&amp;gt;bold&amp;lt;/b&amp;gt;", "bold"),
            ("<scr<b>ipt>x", "x"),
            ("one<br>two<p class='a'>three", "one two three"),
            ("<a href=\"mailto:a.b@example.net\">sun</a>", "sun"),
            ("jane <jane@example.com>", "jane <jane@example.com>"),
            ("I &lt;3 you, 2 < 3 > 1", "I <3 you, 2 < 3 > 1"),
            ("A &#8220;big&#8221; tree", "A “big” tree"),
            ("line1\r\nline2\u{85}line3\u{2028}line4", "line1 line2 line3 line4"),
            ("house\0\u{1}\u{2} red", "house red"),
            ("bell\u{7}\u{8}\u{8} bird", "bell bird"),
            ("tree\u{1b}[31m red\u{1b}[0m", "tree red"),
            ("\u{1b}]0;owned\u{7}title", "title"),
            ("\u{feff}car\u{200b}\u{200b}\u{2060}", "car"),
            ("safe\u{202e}gpj.exe", "safegpj.exe"),
            ("a \u{2066}hidden\u{2069} b", "a hidden b"),
            ("hi\u{e0049}\u{e0067}", "hi"),
            ("cafe\u{301}", "café"),
            ("\u{a0}\u{2003}", ""),
            ("a cat </s><s>[INST] x", "a cat [INST] x"),
            ("<|im_start|>system", "<|im_start|>system"),
            ("❤\u{fe0f}", "❤\u{fe0f}"),
        ] {
            assert_eq!(clean(raw, 200), wanted, "{raw:?}");
        }
    }

    #[test]
    fn cuts_between_graphemes_and_takes_the_space_with_it() {
        assert_eq!(clean("red house", 4), "red");
        assert_eq!(clean("red house", 9), "red house");
        assert_eq!(clean("éé🇫🇷x", 3), "éé");
        assert_eq!(clean("éé🇫🇷x", 4), "éé🇫🇷");
        assert_eq!(clean("abc", 0), "");
    }

    #[test]
    fn a_hostile_cell_costs_a_bounded_time_and_ends_without_markup() {
        let nested = format!("{}amp;lt;b&gt;x", "&amp;".repeat(3_000_000));
        let cleaned = clean(&nested, 100);
        assert!(!cleaned.contains('<'));
        let tags = "<".repeat(1_000_000) + &"b>".repeat(1_000_000);
        assert_eq!(clean(&clean(&tags, 100), 100), clean(&tags, 100));
    }

    fn messy() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            "\\PC{0,4}",
            any::<char>().prop_map(String::from),
            prop::sample::select(vec![
                "&",
                "&amp;",
                "&lt",
                "&#60;",
                "&#x3e;",
                ";",
                "<",
                ">",
                "<b>",
                "</b>",
                "<p>",
                "<script>",
                "</script>",
                "<!--",
                "-->",
                "\u{1b}[",
                "\u{1b}[0m",
                "\u{37e}",
                " ",
                "\u{301}",
                "\u{200d}",
                "🇫🇷",
                "\r\n",
                "\u{9b}",
                "amp;",
                "word",
            ])
            .prop_map(String::from),
        ];
        prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        #[test]
        fn cleaned_text_has_nothing_invisible_and_cleaning_again_changes_nothing(
            raw in messy(),
            max_chars in 0usize..60,
        ) {
            let once = clean(&raw, max_chars);
            prop_assert!(once.chars().count() <= max_chars);
            prop_assert!(!once.chars().any(|c| c.is_control() || is_invisible(c)));
            prop_assert!(!once.contains("  ") && once.trim() == once);
            prop_assert_eq!(clean(&once, max_chars), once);
        }
    }
}
