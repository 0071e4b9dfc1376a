//! HTML character references: the 2,231 names of HTML5 and the numeric ones.
//!
//! Decodes exactly as a browser and Python's `html.unescape` do (names without their semicolon, the
//! longest known prefix, the Windows-1252 numbers), because CLIP's tokenizer is defined with the
//! latter. The table `entities.tsv` is the HTML standard's list: name, then code points in hex.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

/// Replaces each character reference once: `&amp;lt;` becomes `&lt;`.
pub fn decode(text: &str) -> Cow<'_, str> {
    let Some(first) = text.find('&') else { return Cow::Borrowed(text) };
    let mut out = String::with_capacity(text.len());
    out.push_str(&text[..first]);
    let mut rest = &text[first..];
    while let Some(body) = rest.strip_prefix('&') {
        let used = reference(body, &mut out);
        rest = &body[used..];
        let next = rest.find('&').unwrap_or(rest.len());
        out.push_str(&rest[..next]);
        rest = &rest[next..];
    }
    Cow::Owned(out)
}

/// Writes what the reference after an `&` stands for (`&` itself if it is none); bytes used.
fn reference(body: &str, out: &mut String) -> usize {
    match body.strip_prefix('#') {
        Some(number) => numeric(number, out).map_or_else(|| ampersand(out), |used| used + 1),
        None => named(body, out).unwrap_or_else(|| ampersand(out)),
    }
}

fn ampersand(out: &mut String) -> usize {
    out.push('&');
    0
}

fn numeric(body: &str, out: &mut String) -> Option<usize> {
    let (radix, prefix) = if body.starts_with(['x', 'X']) { (16, 1) } else { (10, 0) };
    let digits = &body[prefix..];
    let end = digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len());
    if end == 0 {
        return None;
    }
    // A number too long for 32 bits is beyond Unicode as well, whatever its exact value.
    let code = u32::from_str_radix(&digits[..end], radix).unwrap_or(u32::MAX);
    out.extend(code_point(code));
    let used = prefix + end;
    Some(used + usize::from(body[used..].starts_with(';')))
}

/// What the HTML standard makes of a number; `None` for controls and noncharacters.
fn code_point(code: u32) -> Option<char> {
    match code {
        0 => Some('\u{fffd}'),
        0x80..=0x9f => Some(WINDOWS_1252[code as usize - 0x80]),
        0x01..=0x08 | 0x0b | 0x0e..=0x1f | 0x7f | 0xfdd0..=0xfdef => None,
        _ if code & 0xfffe == 0xfffe && code <= 0x10_ffff => None,
        _ => Some(char::from_u32(code).unwrap_or('\u{fffd}')),
    }
}

/// What pages that say 128 to 159 mean.
const WINDOWS_1252: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}',
    '\u{90}', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

/// Longest name, in characters, without its semicolon.
const LONGEST_NAME: usize = 32;

fn named(body: &str, out: &mut String) -> Option<usize> {
    let is_end = |c: char| matches!(c, '\t' | '\n' | '\x0c' | ' ' | '<' | '&' | '#' | ';');
    let mut ends = body.char_indices().map(|(at, _)| at).chain([body.len()]);
    let longest = body.find(is_end).unwrap_or(body.len());
    let cap = ends.nth(LONGEST_NAME).unwrap_or(body.len());
    let name = &body[..longest.min(cap)];
    let with_semicolon = &body[..name.len() + usize::from(body[name.len()..].starts_with(';'))];
    let prefixes = name.char_indices().rev().map(|(at, _)| &body[..at]).filter(|p| p.len() > 1);
    let known = [with_semicolon, name].into_iter().chain(prefixes).find_map(|n| entry(n));
    let (name, meaning) = known?;
    out.push_str(meaning);
    Some(name.len())
}

fn entry(name: &str) -> Option<(&'static str, &'static str)> {
    NAMES.get_key_value(name).map(|(name, meaning)| (*name, meaning.as_str()))
}

static NAMES: LazyLock<HashMap<&'static str, String>> = LazyLock::new(|| {
    include_str!("entities.tsv").lines().filter_map(|line| line.split_once('\t')).map(row).collect()
});

fn row((name, points): (&'static str, &str)) -> (&'static str, String) {
    let hex = points.split(' ').filter_map(|point| u32::from_str_radix(point, 16).ok());
    (name, hex.filter_map(char::from_u32).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_as_pythons_html_unescape_does() {
        // Each right side was printed by CPython 3.11's html.unescape.
        for (written, meant) in [
            ("Tom &amp; Jerry", "Tom & Jerry"),
            ("&amp;lt;", "&lt;"),
            ("caf&eacute; &eacute", "café é"),
            ("&notit; &notin; &not", "¬it; ∉ ¬"),
            ("&#39;a&#x27;&#X27;", "'a''"),
            ("&#8220;big&#8221;", "“big”"),
            ("&#128; &#150;", "€ –"),
            ("&#0;&#1;&#xFFFF;&#xD800;&#99999999999;", "\u{fffd}\u{fffd}\u{fffd}"),
            ("&#; &#x; & &; &&", "&#; &#x; & &; &&"),
            ("a&b &ampb &ltfoo", "a&b &b <foo"),
            ("&acE; &NotEqualTilde;", "\u{223e}\u{333} \u{2242}\u{338}"),
            ("&CounterClockwiseContourIntegral;", "∳"),
            ("&Ünïcödé;&é", "&Ünïcödé;&é"),
        ] {
            assert_eq!(decode(written), meant, "{written}");
        }
    }

    #[test]
    fn every_name_of_the_table_is_known() {
        assert_eq!(NAMES.len(), 2231);
        assert!(NAMES.values().all(|meaning| !meaning.is_empty()));
    }
}
