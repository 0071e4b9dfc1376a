//! Swear words and slurs in English.
//!
//! A list of whole words. The crate `rustrict` was tried: it reads through misspellings, and of the
//! seven texts of openclipart that it raised none was profane (`Niger`, Italian words).

use crate::text::words::words_of;

/// The first word of a text that is on the list, if there is one.
pub(super) fn find(text: &str) -> Option<String> {
    let is_meant = |word: &str| match word.is_ascii() {
        true => LIST.iter().any(|bad| bad.eq_ignore_ascii_case(word)),
        false => LIST.contains(&word.to_lowercase().as_str()),
    };
    words_of(text).map(|(_, word)| word).find(|word| is_meant(word)).map(str::to_owned)
}

const LIST: [&str; 42] = [
    "arsehole",
    "asshole",
    "assholes",
    "bastard",
    "bastards",
    "bitch",
    "bitches",
    "bollocks",
    "bullshit",
    "cunt",
    "cunts",
    "dickhead",
    "fag",
    "faggot",
    "faggots",
    "fuck",
    "fucked",
    "fucker",
    "fuckers",
    "fuckin",
    "fucking",
    "fucks",
    "kike",
    "kikes",
    "motherfucker",
    "motherfuckers",
    "nigga",
    "niggas",
    "nigger",
    "niggers",
    "paki",
    "pakis",
    "prick",
    "retard",
    "shit",
    "shits",
    "shitty",
    "slut",
    "sluts",
    "twat",
    "wanker",
    "whore",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swear_words_are_found_and_others_are_not() {
        assert_eq!(find("A Fucking dog").as_deref(), Some("Fucking"));
        for good in ["A cock crows", "a blue tit", "Scunthorpe", "Niger", "Asso", "Fuoco", "grapes"]
        {
            assert_eq!(find(good), None, "{good}");
        }
    }
}
