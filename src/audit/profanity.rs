//! Swear words and slurs, by the list of the crate `rustrict`, which also reads `$` for `s`.

use rustrict::Censor;
use rustrict::Type;

use crate::text::words::words_of;

/// The first word of a text that is profane or offensive, if there is one. Each word is asked for
/// itself: read together, `grass hopper` and its like would be found too.
pub(super) fn find(text: &str) -> Option<String> {
    let worst = Type::PROFANE | Type::OFFENSIVE;
    let is_meant = |word: &str| {
        let is_bad = Censor::from_str(word).analyze().is(worst & Type::MODERATE_OR_HIGHER);
        is_bad && !ANIMALS.contains(&word.to_lowercase().as_str())
    };
    words_of(text).map(|(_, word)| word).find(|word| is_meant(word)).map(str::to_owned)
}

/// In a description of a picture these are what they were first.
const ANIMALS: [&str; 8] = ["cock", "cocks", "ass", "asses", "tit", "tits", "booby", "boobies"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swear_words_are_found_and_animals_are_not() {
        assert_eq!(find("A fucking dog").as_deref(), Some("fucking"));
        for good in ["A cock crows", "a blue tit", "Scunthorpe", "an ass and a donkey", "grapes"] {
            assert_eq!(find(good), None, "{good}");
        }
    }
}
