//! Which characters nobody sees: the one list that cleaning, prompts and the search for orders share.
//!
//! Unicode's default ignorable characters but the two variation selectors of emoji, private use, the
//! marks of annotations, and controls. Joiners change how Persian and some emoji look, yet nobody can
//! see where else they hide; without them words stay readable.

/// The character, a space for anything that separates words or lines, nothing for what nobody sees.
pub fn visible(c: char) -> Option<char> {
    match c {
        ' '..='~' => Some(c),
        _ if is_gap(c) => Some(' '),
        _ if is_invisible(c) => None,
        _ => Some(c),
    }
}

/// Whether a reader sees neither the character nor a gap: format characters, fillers, direction
/// marks, tag characters, private use, controls.
pub fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{e000}'..='\u{f8ff}'
        | '\u{fe00}'..='\u{fe0d}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}'
        | '\u{f0000}'..='\u{10ffff}')
        || (c.is_control() && !is_gap(c))
}

/// The letter that a tag character stands for. Nobody sees it, and language models read it.
pub fn letter_of_tag(c: char) -> Option<char> {
    const FIRST: u32 = 0xe0000;
    matches!(c, '\u{e0020}'..='\u{e007e}').then(|| char::from_u32(c as u32 - FIRST)).flatten()
}

/// White space, and the controls that separate files, groups, records and units.
fn is_gap(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\x1c'..='\x1f')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_sees() {
        for (what, first, last) in [
            ("controls", '\0', '\u{8}'),
            ("controls before the escape", '\u{e}', '\u{1b}'),
            ("delete and the first of C1", '\u{7f}', '\u{84}'),
            ("the rest of C1", '\u{86}', '\u{9f}'),
            ("soft hyphen", '\u{ad}', '\u{ad}'),
            ("grapheme joiner", '\u{34f}', '\u{34f}'),
            ("Arabic letter mark", '\u{61c}', '\u{61c}'),
            ("Hangul fillers", '\u{115f}', '\u{1160}'),
            ("Khmer vowels without a shape", '\u{17b4}', '\u{17b5}'),
            ("Mongolian selectors", '\u{180b}', '\u{180f}'),
            ("zero width, direction marks", '\u{200b}', '\u{200f}'),
            ("embeddings and overrides", '\u{202a}', '\u{202e}'),
            ("joiners, isolates, invisible operators", '\u{2060}', '\u{206f}'),
            ("Hangul filler", '\u{3164}', '\u{3164}'),
            ("private use", '\u{e000}', '\u{f8ff}'),
            ("variation selectors", '\u{fe00}', '\u{fe0d}'),
            ("byte order mark", '\u{feff}', '\u{feff}'),
            ("half-width filler", '\u{ffa0}', '\u{ffa0}'),
            ("annotations", '\u{fff9}', '\u{fffb}'),
            ("shorthand", '\u{1bca0}', '\u{1bca3}'),
            ("musical format", '\u{1d173}', '\u{1d17a}'),
            ("tags and more selectors", '\u{e0000}', '\u{e0fff}'),
            ("private planes", '\u{f0000}', '\u{10ffff}'),
        ] {
            for c in first..=last {
                assert!(is_invisible(c) && visible(c).is_none(), "{what}: {c:?}");
            }
        }
    }

    #[test]
    fn what_is_seen_or_separates() {
        for c in "aZ~éß字ㅏנकم\u{301}\u{fe0e}\u{fe0f}\u{fffc}\u{fffd}❤🇫🇷👍🏽♀￠".chars()
        {
            assert_eq!(visible(c), Some(c), "{c:?}");
            assert!(!is_invisible(c), "{c:?}");
        }
        for c in "\t\n\u{b}\u{c}\r\u{1c}\u{1f} \u{85}\u{a0}\u{1680}\u{2003}\u{2028}\u{3000}".chars()
        {
            assert_eq!(visible(c), Some(' '), "{c:?}");
            assert!(!is_invisible(c), "{c:?}");
        }
    }

    #[test]
    fn tags_stand_for_letters() {
        let hidden = "\u{e0049}\u{e0067}\u{e0020}\u{e007e}";
        assert_eq!(hidden.chars().filter_map(letter_of_tag).collect::<String>(), "Ig ~");
        let others = "I\u{e0001}\u{e001f}\u{e007f}\u{e0100}";
        assert_eq!(others.chars().find_map(letter_of_tag), None);
    }
}
