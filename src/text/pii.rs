//! Addresses in a text: e-mail, telephone numbers, and (separately) urls.
//!
//! Meant for captions, where a number that could be a telephone number but is a year, a size, a
//! price or a model name must stay. So each shape of a telephone number is written down on its own,
//! and a bare run of digits is one only after a word such as "tel".

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

use crate::text::pattern;

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `bob@example.com`, `bob(at)example.com`, `bob [at] example dot com`.
    Email,
    /// `+1 (555) 010-0199`, `0049 30 555 0100`, `555-0199`.
    Phone,
    /// `https://example.com/a`, `www.example.com`, `example.com`.
    Url,
}

/// One address and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What it is.
    pub kind: Kind,
    /// Bytes of the text.
    pub range: Range<usize>,
}

/// E-mail addresses and telephone numbers, in order, none inside another.
pub fn find(text: &str) -> Vec<Found> {
    let mut found = emails(text);
    found.extend(phones(text));
    in_order(found)
}

/// Urls, in order.
pub fn find_urls(text: &str) -> Vec<Found> {
    if !has_inner_stop(text) {
        return Vec::new();
    }
    URL.find_iter(text)
        .map(|hit| hit.start()..hit.start() + hit.as_str().trim_end_matches(AFTER_URL).len())
        .filter(|range| !text[..range.start].ends_with('@'))
        .map(|range| Found { kind: Kind::Url, range })
        .collect()
}

/// The text without e-mail addresses and telephone numbers, and without the label and the
/// punctuation they leave behind. Unchanged, byte for byte, when there are none.
pub fn remove(text: &str) -> String {
    without(text, find)
}

/// The text without urls, tidied in the same way.
pub fn remove_urls(text: &str) -> String {
    without(text, find_urls)
}

/// Taking one address out can join the neighbours to another, so this goes on until none is left;
/// each round takes characters away, which is why it ends.
fn without(text: &str, find: fn(&str) -> Vec<Found>) -> String {
    let mut text = text.to_owned();
    loop {
        let found = find(&text);
        if found.is_empty() {
            return text;
        }
        text = tidy(&blank_out(&text, &found));
    }
}

fn blank_out(text: &str, found: &[Found]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut end = 0;
    for Found { range, .. } in found {
        let before = &text[end..range.start];
        out.push_str(LABEL.find(before).map_or(before, |label| &before[..label.start()]));
        // The mark is no word character, so that the neighbours cannot grow together.
        out.push_str(" \u{fffc} ");
        end = range.end;
    }
    out.push_str(&text[end..]);
    out
}

/// What only announced the address: "mail me:", "by", "Tel.".
static LABEL: LazyLock<Regex> = LazyLock::new(|| {
    pattern(concat!(
        r"(?i)(?:^|[\s(\[,;:–—-])(?:(?:please\s+)?(?:e-?mail|mail|mailto|write|contact|tel|",
        r"telephone|telefon|phone|mobile|mobil|cell|fax|call|text|sms|whatsapp|hotline)",
        r"(?:\s+(?:me|us|him|her))?(?:\s+(?:at|on|via|to))?|by|from|via|at|©|\(c\))\s*[.:=]?\s*[<(\[]?\s*$",
    ))
});

fn tidy(text: &str) -> String {
    let mut text = text.replace('\u{fffc}', " ");
    for (pattern, with) in LEFTOVERS.iter() {
        text = pattern.replace_all(&text, *with).into_owned();
    }
    let edges = |c: char| c.is_whitespace() || ",;:–—-|/&·•@=".contains(c);
    text.trim_end_matches(edges).trim_start_matches(|c| edges(c) || c == '.').to_owned()
}

static LEFTOVERS: LazyLock<[(Regex, &str); 5]> = LazyLock::new(|| {
    [
        (pattern(r#"\(\s*\)|\[\s*\]|\{\s*\}|<\s*>|"\s*"|“\s*”"#), " "),
        (pattern(r"\s+"), " "),
        (pattern(r"\s+([.,;:!?)\]])"), "$1"),
        (pattern(r"([(\[])\s+"), "$1"),
        (pattern(r"([,;:–—])(?:\s*[,;:–—])+"), "$1"),
    ]
});

fn in_order(mut found: Vec<Found>) -> Vec<Found> {
    found.sort_by_key(|f| (f.range.start, std::cmp::Reverse(f.range.end)));
    let mut end = 0;
    found.retain(|f| {
        let free = f.range.start >= end;
        end = end.max(f.range.end);
        free
    });
    found
}

fn emails(text: &str) -> Vec<Found> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    if text.contains(['@', '＠']) {
        ranges.extend(EMAIL.find_iter(text).map(|hit| hit.range()));
    }
    // Two plain looks save most texts the costlier pattern.
    if has_at_word(text) {
        ranges.extend(DISGUISED.find_iter(text).map(|hit| hit.range()));
    }
    ranges.into_iter().map(|range| Found { kind: Kind::Email, range }).collect()
}

/// An "at" by itself, and a bracket or a "dot" somewhere.
fn has_at_word(text: &str) -> bool {
    let bytes = text.as_bytes();
    let is_edge = |byte: u8| byte.is_ascii_whitespace() || b"()[]{}<>".contains(&byte);
    let is_at = |four: &[u8]| {
        four[1..3].eq_ignore_ascii_case(b"at") && is_edge(four[0]) && is_edge(four[3])
    };
    let has_dot = || bytes.windows(3).any(|three| three.eq_ignore_ascii_case(b"dot"));
    bytes.windows(4).any(is_at) && (text.contains(['(', '[', '{', '<']) || has_dot())
}

/// Whether there is a full stop within a word, or the mark of an address.
fn has_inner_stop(text: &str) -> bool {
    let is_inner = |two: &[u8]| two[0] == b'.' && !two[1].is_ascii_whitespace();
    text.contains("://") || text.as_bytes().windows(2).any(is_inner)
}

static EMAIL: LazyLock<Regex> = LazyLock::new(|| {
    pattern(concat!(
        r"(?i)(?:mailto:\s*)?[\p{L}\p{N}._%+'’-]*[\p{L}\p{N}_%+-]\s?[@＠]\s?",
        r"[\p{L}\p{N}-]+(?:\.[\p{L}\p{N}-]+)*\.[\p{L}]{2,}",
    ))
});

/// The at-sign is a word. In brackets that is sure; a bare "at" needs a bare "dot" and a top-level
/// domain as well, because people look *at* a red *dot*.
static DISGUISED: LazyLock<Regex> = LazyLock::new(|| {
    pattern(concat!(
        r"(?i)[\p{L}\p{N}][\p{L}\p{N}._%+-]*(?:\s*(?:\(dot\)|\[dot\])\s*[\p{L}\p{N}._%+-]+)*",
        r"(?:\s*[(\[{<]\s*at\s*[)\]}>]\s*[\p{L}\p{N}-]+",
        r"(?:(?:\.|\s*[(\[{]\s*dot\s*[)\]}]\s*|\s+dot\s+)[\p{L}\p{N}-]+)+",
        r"|\s+at\s+[\p{L}\p{N}-]+(?:\s+dot\s+[\p{L}\p{N}-]+)*\s*(?:\s+dot\s+|[(\[]dot[)\]]\s*)",
        r"(?:com|org|net|edu|gov|info|biz|io|de|fr|uk|it|es|nl|eu|us|ca|ch|at|jp|cn|ru|br|in)\b)",
    ))
});

static URL: LazyLock<Regex> = LazyLock::new(|| {
    pattern(concat!(
        r#"(?i)\b(?:https?|ftp)://[^\s<>"“”]+|\bwww\.[\p{L}\p{N}-]+\.[^\s<>"“”]+"#,
        r"|\b(?:[a-z0-9-]+\.)+(?:com|org|net|edu|gov|info|biz|io|co\.uk)\b(?:/[^\s<>]*)?",
    ))
});
const AFTER_URL: [char; 11] = ['.', ',', ';', ':', '!', '?', ')', ']', '}', '\'', '»'];

/// Fewest digits of any shape below: most texts have fewer and need no look at all.
const FEWEST_DIGITS: usize = 6;

fn phones(text: &str) -> Vec<Found> {
    if text.bytes().filter(u8::is_ascii_digit).count() < FEWEST_DIGITS {
        return Vec::new();
    }
    let ranges = SHAPES.iter().flat_map(|shape| shape.find(text));
    ranges.map(|range| Found { kind: Kind::Phone, range }).collect()
}

/// One way of writing a telephone number: where it can be, and whether it is.
struct Shape {
    pattern: Regex,
    digits: std::ops::RangeInclusive<usize>,
    is_one: fn(before: &str, number: &str) -> bool,
}

impl Shape {
    /// Looks from each possible start, because a rejected candidate may begin before a real one.
    fn find(&self, text: &str) -> Vec<Range<usize>> {
        let mut found = Vec::new();
        let mut from = 0;
        while let Some(hit) = self.pattern.captures_at(text, from) {
            let number = hit.name("n").unwrap_or_else(|| hit.get_match());
            let fits = self.fits(text, number.range());
            from = if fits { number.end() } else { next_char(text, number.start()) };
            if fits {
                found.push(number.range());
            }
        }
        found
    }

    fn fits(&self, text: &str, range: Range<usize>) -> bool {
        let (before, number, after) =
            (&text[..range.start], &text[range.clone()], &text[range.end..]);
        let glued = |c: char| c.is_alphanumeric() || matches!(c, '+' | '$' | '€' | '£' | '¥' | '#');
        let alone = !before.ends_with(glued)
            && !after.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '%' | '€' | '°'));
        let digits = number.bytes().filter(u8::is_ascii_digit).count();
        alone
            && self.digits.contains(&digits)
            && !DATE.is_match(number)
            && (self.is_one)(before, number)
    }
}

fn next_char(text: &str, at: usize) -> usize {
    at + text[at..].chars().next().map_or(1, char::len_utf8)
}

static SHAPES: LazyLock<[Shape; 7]> = LazyLock::new(|| {
    let shape = |source: &str, digits, is_one| Shape { pattern: pattern(source), digits, is_one };
    [
        // +1 (555) 010-0199, +44 (0)20 7946 0018
        shape(r"\+ ?\(?[1-9](?:[ \u{a0}.\-‐–/()]{0,3}\d){6,14}", 7..=15, |_, _| true),
        // 0049 30 555 0100
        shape(r"00 ?[1-9](?:[ \u{a0}.\-‐–/()]{0,3}\d){7,13}", 10..=16, |_, _| true),
        // (555) 010-4477, (030) 555 0100, (11) 91234-5678
        shape(
            r"\(\d{2,5}\)[ \u{a0}\-./]{0,2}\d{2,5}(?:[ \u{a0}\-./]?\d{2,4}){1,3}",
            7..=12,
            |_, number| number.starts_with("(0") || is_nanp(number),
        ),
        // 202-555-0143, 1.800.555.0199
        shape(
            r"(?:1[ \u{a0}\-.])?[2-9]\d{2}[ \u{a0}\-.]\d{3}[ \u{a0}\-.]\d{4}",
            10..=11,
            |_, _| true,
        ),
        // 030 5550100, 01 23 45 67 89, 0171 / 1234567
        shape(r"0[1-9]\d{0,4}(?:[ \u{a0}\-./]{1,3}\d{2,8}){1,5}", 9..=12, |_, _| true),
        // 555-0199; but ISO 200-6400 and pages 345-1024 are ranges
        shape(r"[2-9]\d{2}-\d{4}", 7..=7, |before, _| !RANGE_OF.is_match(before)),
        // after a word that says so
        shape(
            concat!(
                r"(?i)\b(?:tel(?:ephone?|efono|éfono)?|phone|ph|mobile?|cell|fax|call|whatsapp|sms|",
                r"handy|hotline)(?:\s+(?:no|nr|number|me|us))?(?:\s+at)?[.:#\s]*",
                r"(?P<n>\(?\d(?:[ \u{a0}.\-/()]{0,2}\d){5,14})",
            ),
            6..=15,
            |_, _| true,
        ),
    ]
});

fn is_nanp(number: &str) -> bool {
    let digits = number.bytes().filter(u8::is_ascii_digit).count();
    digits >= 10 && number.find(')').is_some_and(|end| end <= 4)
}

/// 04.12.2019, whatever follows it.
static DATE: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"^\(?[0-3]?\d[-./ ][01]?\d[-./ ](?:19|20)\d{2}(?:\D|$)"));
static RANGE_OF: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r"(?i)\b(?:iso|pp?|pages?|years?|nos?|numbers?|model|part|sku|item|size)\.?:?\s*$")
});

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_go_and_leave_a_clean_line() {
        for (text, wanted) in [
            ("flower by jane.doe@example.com", "flower"),
            ("flower by jane.doe@example.com.", "flower."),
            ("tree, JOHN_SMITH@EXAMPLE.COM", "tree"),
            ("house – mail me: bob(at)example.com", "house"),
            ("house, bob [at] example dot com, red", "house, red"),
            ("bob at example dot com", ""),
            ("bob (at) mail (dot) example (dot) org x", "x"),
            ("Jane <jane@example.com> drew it", "Jane drew it"),
            ("Chat Icon - contact: hermann@example.de", "Chat Icon"),
            ("mailto:a.b@example.net", ""),
            ("zoë@exämple.de ok", "ok"),
            ("phone 0049 30 555 0100 fish", "fish"),
            ("order now 555-0199!!!", "order now!!!"),
            ("Tel: (555) 010-4477 red car", "red car"),
            ("call +1 202-555-0143 for prints", "for prints"),
            ("WhatsApp +44 20 7946 0018 star", "star"),
            ("+1 (555) 010-0199", ""),
            ("+44 (0)20 7946 0018 tea", "tea"),
            ("cake 030 5550100", "cake"),
            ("boat 01 23 45 67 89", "boat"),
            ("202.555.0143 or 1-800-555-0199 shop", "or shop"),
            ("Paris 2019 0049 30 555 0100", "Paris 2019"),
            ("Tel. 612345678 paella", "paella"),
            ("a (b@example.com) c", "a c"),
        ] {
            assert_eq!(remove(text), wanted, "{text}");
        }
    }

    #[test]
    fn numbers_that_are_no_telephone_numbers_stay() {
        for text in [
            "105",
            "4500",
            "Switch Cisco 4500",
            "in 1914-1918",
            "2019-04-12",
            "04.12.2019",
            "04-12-2019 10:33:55",
            "IMG_20190412_113355.jpg",
            "1920x1080",
            "$1,299.00",
            "12 000 000",
            "ISO 200-6400",
            "pages 345-1024",
            "3.14159265",
            "48.8584, 2.2945",
            "10:30-12:45",
            "192.168.0.10",
            "978-3-16-148410-0",
            "Boeing 747-400",
            "1 / 250 s at f 2.8",
            "5550104477",
            "Nokia phone 3310",
            "20 x 30 cm, 105 g",
            "version 10.2.3",
            "1,234,567 stars",
            "(1990)",
            "looks at the red dot here",
            "shot at night",
            "people at a bus stop dot the street",
            "look @ this",
            "€200-3000",
            "50-100 %",
            "9 to 5",
            "Route 66",
            "1984",
        ] {
            assert_eq!(find(text), vec![], "{text}");
            assert_eq!(remove(text), text);
        }
    }

    #[test]
    fn urls_are_found_whole_and_removed_on_request_only() {
        for (text, url) in [
            ("see http://example.com/a?b=1&c=2.", "http://example.com/a?b=1&c=2"),
            ("(www.example.org)", "www.example.org"),
            ("from openclipart.org today", "openclipart.org"),
            ("EPS from  http://aiga.org lorem", "http://aiga.org"),
        ] {
            let found = find_urls(text);
            assert_eq!(found.len(), 1, "{text}");
            assert_eq!(&text[found[0].range.clone()], url);
            assert_eq!(remove(text), text);
        }
        assert_eq!(remove_urls("cat from http://a.example/b, red"), "cat, red");
        for text in ["node.js", "3.5 mm", "jean.victor", "bob@example.com", "end.It was"] {
            assert_eq!(find_urls(text), vec![], "{text}");
        }
    }

    fn cluttered() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            "[0-9 ()+./-]{0,9}",
            "[a-z@. ]{0,8}",
            "\\PC{0,3}",
            prop::sample::select(vec![
                "bob@example.com",
                "(at)",
                " dot com",
                "+49 ",
                "0049",
                "555-0199",
                "tel ",
                "<",
                ">",
                " at ",
                "mailto:",
                "(555) ",
                "by ",
                ". ",
                "－",
                "\u{a0}",
            ])
            .prop_map(String::from),
        ];
        prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        #[test]
        fn nothing_is_found_in_what_remove_leaves(text in cluttered()) {
            prop_assert_eq!(find(&remove(&text)), vec![]);
            prop_assert_eq!(find_urls(&remove_urls(&text)), vec![]);
        }
    }
}
