//! UTF-8 that somebody read as Windows-1252: `cafÃ©`, `itâ€™s`, `Â©`.
//!
//! Only what begins with one of five characters is taken for it, those with which broken Latin text,
//! punctuation, symbols and emoji begin, and only where the bytes are whole UTF-8. `ftfy`, which CLIP's
//! tokenizer asks, weighs more encodings against each other; a port of it for Rust (`plsfix`) was looked
//! at and left: it brings two abandoned crates and all of ICU.

use std::borrow::Cow;

/// The text with whole sequences put right; everything else stays.
pub fn repaired(text: &str) -> Cow<'_, str> {
    if !text.contains(LEADS) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let (meant, read) = sequence(rest).unwrap_or((c, c.len_utf8()));
        out.push(meant);
        rest = &rest[read..];
    }
    Cow::Owned(out)
}

/// What the first bytes of longer characters look like.
const LEADS: [char; 5] = ['Â', 'Ã', 'â', 'ï', 'ð'];

/// The character that the text begins with when read as it was meant, and the bytes it takes here.
fn sequence(text: &str) -> Option<(char, usize)> {
    let first = text.chars().next().filter(|c| LEADS.contains(c))?;
    let length = match first {
        'Â' | 'Ã' => 2,
        'â' | 'ï' => 3,
        _ => 4,
    };
    let mut bytes = [0; 4];
    let mut read = 0;
    for (byte, c) in bytes.iter_mut().take(length).zip(text.chars()) {
        *byte = windows_1252(c)?;
        read += c.len_utf8();
    }
    let meant = str::from_utf8(&bytes[..length]).ok()?.chars().next()?;
    Some((meant, read))
}

/// The byte that is read as this character; as Latin-1 where Windows-1252 has a gap.
fn windows_1252(c: char) -> Option<u8> {
    const HIGH: [char; 32] = [
        '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž',
        '\u{8f}', '\u{90}', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}',
        'ž', 'Ÿ',
    ];
    let place = HIGH.iter().position(|&high| high == c);
    place.map(|place| 0x80 + place as u8).or_else(|| u8::try_from(u32::from(c)).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_wrongly_is_read_again() {
        for (broken, meant) in [
            ("cafÃ© con leche", "café con leche"),
            ("itâ€™s Â© 2020", "it’s © 2020"),
            ("âœ” done ðŸ˜€", "✔ done 😀"),
            ("SÃ£o Paulo, Ã\u{a0} la carte", "São Paulo, à la carte"),
        ] {
            assert_eq!(repaired(broken), meant);
        }
    }

    #[test]
    fn what_was_meant_so_stays() {
        for text in ["São Paulo", "SÃO PAULO", "Âge, Â", "l'âme à vue", "naïf ï", "ð", "Ångström"]
        {
            assert_eq!(repaired(text), text);
        }
    }
}
