//! Which language and script a text is in, said only when it can be known.
//!
//! Trigram detection (`whatlang`) needs a sentence: on three words it names some language with great
//! confidence. So short texts in scripts that many languages share have no answer here, and English
//! is recognised by its grammar before trigrams are asked, because names of people and places make
//! an English caption look like anything.

use whatlang::Script;

use crate::text::words::words_of;

/// A language and how sure it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Language {
    /// ISO 639-3.
    pub code: &'static str,
    /// 0..1.
    pub confidence: f32,
}

/// Below this many letters, trigrams are a guess.
const MIN_LETTERS: usize = 24;

/// The language of the text; `None` where the text is too short or no language stands out.
pub fn detect(text: &str) -> Option<Language> {
    if is_plainly_english(text) {
        return Some(Language { code: "eng", confidence: 1.0 });
    }
    let script = whatlang::detect_script(text)?;
    let letters = text.chars().filter(|c| c.is_alphabetic()).count();
    if letters < MIN_LETTERS && is_shared(script) {
        return None;
    }
    let info = whatlang::detect(text)?;
    let sure = info.is_reliable() || !is_shared(script);
    sure.then(|| Language { code: info.lang().code(), confidence: info.confidence() as f32 })
}

/// Letters of other scripts than Latin.
pub fn non_latin_letters(text: &str) -> usize {
    if text.is_ascii() {
        return 0;
    }
    text.chars().filter(|c| c.is_alphabetic() && !is_latin(*c)).count()
}

/// Whether a letter is Latin, with or without accents.
pub fn is_latin(c: char) -> bool {
    matches!(c,
        'a'..='z' | 'A'..='Z' | 'ª' | 'º' | '\u{c0}'..='\u{2af}' | '\u{1e00}'..='\u{1eff}'
        | '\u{2c60}'..='\u{2c7f}' | '\u{a720}'..='\u{a7ff}' | '\u{fb00}'..='\u{fb06}'
        | '\u{ff21}'..='\u{ff3a}' | '\u{ff41}'..='\u{ff5a}')
}

/// Scripts that several languages write: there, only a sentence can tell.
fn is_shared(script: Script) -> bool {
    matches!(
        script,
        Script::Latin | Script::Cyrillic | Script::Arabic | Script::Devanagari | Script::Hebrew
    )
}

/// Two of the words that no other language with Latin letters uses as often.
fn is_plainly_english(text: &str) -> bool {
    let english = |word: &str| ENGLISH_ONLY.iter().any(|known| known.eq_ignore_ascii_case(word));
    text.is_ascii() && words_of(text).filter(|(_, word)| english(word)).nth(1).is_some()
}

const ENGLISH_ONLY: [&str; 12] =
    ["the", "with", "of", "and", "from", "is", "are", "by", "this", "that", "its", "their"];

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> Option<&'static str> {
        detect(text).map(|language| language.code)
    }

    #[test]
    fn sentences_have_a_language_and_short_titles_have_none() {
        for (text, wanted) in [
            ("The cat of the house", Some("eng")),
            ("A girl is walking through a forest with her small brown dog", Some("eng")),
            ("Ein rotes Haus steht auf einem Hügel neben einem großen Baum", Some("deu")),
            ("Une maison rouge se trouve sur une colline à côté d'un grand arbre", Some("fra")),
            (
                "Этот красный дом стоит на холме рядом с большим деревом, и всё ещё хорошо виден",
                Some("rus"),
            ),
            ("赤い家があります", Some("jpn")),
            ("빨간 집", Some("kor")),
            ("一只猫在椅子上", Some("cmn")),
            ("ein rotes Haus", None),
            ("une maison rouge", None),
            ("красный дом", None),
            ("Formicona", None),
            ("", None),
            ("12345 !!! 🍎", None),
        ] {
            assert_eq!(code(text), wanted, "{text}");
        }
    }

    #[test]
    fn captions_full_of_names_stay_english() {
        for text in [
            "Coat of arms of the Anglican diocese of Trinidad",
            "Santa Maria del Fiore and the Palazzo Vecchio by Arnolfo di Cambio",
        ] {
            assert_eq!(code(text), Some("eng"), "{text}");
        }
    }

    #[test]
    fn letters_of_other_scripts_are_counted() {
        assert_eq!(non_latin_letters("café Zoë ﬁne"), 0);
        assert_eq!(non_latin_letters("a дом"), 3);
        assert_eq!(non_latin_letters("猫 1 🍎"), 1);
    }
}
