//! Words of a text, and among them those that say what is in the picture.
//!
//! Words are Unicode's (UAX #29), split further where titles glue them (`red_flower`, `v.2`).
//! Content words are what is left without English grammar. Their stems are keys for matching, made
//! by [`stem`]; nothing here knows where a word comes from.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;
use std::sync::LazyLock;

use hashbrown::HashMap;
use hashbrown::HashSet;
use unicode_segmentation::UnicodeSegmentation;

use crate::text::stem;

/// A content word and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word<'t> {
    /// As written.
    pub text: &'t str,
    /// In lower case.
    pub lower: Arc<str>,
    /// The key under which other forms of the word are found.
    pub stem: Arc<str>,
    /// Bytes of the text.
    pub range: Range<usize>,
}

/// The words that carry meaning: no grammar, no single letters; numbers stay.
pub fn content_words(text: &str) -> Vec<Word<'_>> {
    let mut words: Vec<Word<'_>> = Vec::new();
    for (start, piece) in words_of(text) {
        let (word, is_content) = Word::of(piece, start);
        if let Some(tens) = words.last_mut()
            && let Some(sum) = joined_number(text, tens, &word)
        {
            let range = tens.range.start..word.range.end;
            let (whole, _) = Word::of(&text[range.clone()], range.start);
            *tens = Word { stem: sum.into(), ..whole };
        } else if is_content {
            words.push(word);
        }
    }
    words
}

/// Every word and where it starts.
pub fn words_of(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.unicode_word_indices().flat_map(|(start, word)| split(start, word))
}

/// Whether a word in lower case is English grammar, or a name of the medium that says nothing.
pub fn is_stop_word(lower: &str) -> bool {
    STOP_WORDS.contains(lower)
}

impl<'t> Word<'t> {
    /// The word, and whether it carries meaning.
    fn of(text: &'t str, start: usize) -> (Word<'t>, bool) {
        let Form { lower, stem, is_content } = remembered(text);
        (Word { text, lower, stem, range: start..start + text.len() }, is_content)
    }
}

/// What is known of a word, wherever it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Form {
    lower: Arc<str>,
    stem: Arc<str>,
    is_content: bool,
}

impl Form {
    fn of(word: &str) -> Form {
        let lower = word.to_lowercase();
        let bare = stem::without_possessive(&lower);
        let letter = bare.len() == 1 && bare.bytes().all(|b| b.is_ascii_alphabetic());
        let is_content =
            !letter && !bare.is_empty() && !is_stop_word(bare) && !is_stop_word(&lower);
        Form { stem: stem::stem(&lower).into(), lower: lower.into(), is_content }
    }
}

/// [`Form::of`] a word, made once in a thread: a data set has far more words than different ones.
fn remembered(word: &str) -> Form {
    /// The words of nearly all captions; a flood of junk starts anew.
    const ROOM: usize = 50_000;
    /// What is longer is hardly met twice.
    const LONGEST: usize = 64;
    thread_local! {
        static KNOWN: RefCell<HashMap<Box<str>, Form>> = RefCell::default();
    }
    if word.len() > LONGEST {
        return Form::of(word);
    }
    KNOWN.with_borrow_mut(|known| {
        if let Some(form) = known.get(word) {
            return form.clone();
        }
        if known.len() >= ROOM {
            known.clear();
        }
        let form = Form::of(word);
        known.insert(word.into(), form.clone());
        form
    })
}

/// UAX #29 keeps `red_flower` and `pen.nib` whole; only `3.5` and `o'clock` are one word here. It
/// also lets a stray combining mark take the space before it along.
fn split(start: usize, word: &str) -> impl Iterator<Item = (usize, &str)> {
    let decimal = is_decimal(word);
    let glue = move |c: char| match c {
        '.' => !decimal,
        _ => matches!(c, '_' | ':') || c.is_whitespace(),
    };
    let parts = word.split(glue);
    let at = move |part: &str| start + (part.as_ptr() as usize - word.as_ptr() as usize);
    parts.filter(|part| !part.is_empty()).map(move |part| (at(part), part))
}

fn is_decimal(word: &str) -> bool {
    word.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b','))
}

/// `twenty-one` is one number.
fn joined_number(text: &str, tens: &Word<'_>, unit: &Word<'_>) -> Option<String> {
    let hyphen = text.get(tens.range.end..unit.range.start) == Some("-");
    let words = !tens.text.starts_with(|c: char| c.is_ascii_digit())
        && !unit.text.starts_with(|c: char| c.is_ascii_digit());
    let (ten, one) = (tens.stem.parse::<u32>().ok()?, unit.stem.parse::<u32>().ok()?);
    let fits = hyphen && words && (20..100).contains(&ten) && ten % 10 == 0;
    (fits && (1..10).contains(&one)).then(|| (ten + one).to_string())
}

static STOP_WORDS: LazyLock<HashSet<&'static str>> = LazyLock::new(|| {
    let words = concat!(
        "a an the this that these those some any each every either neither both all such same ",
        "other another one ones what which who whom whose where when why how there here ",
        "i me my mine myself we us our ours you your yours he him his she her hers it its they ",
        "them their theirs itself himself herself themselves ",
        "and or nor but so yet if then else than as because while although though since until ",
        "of in on at by for with without within from to into onto upon over under above below ",
        "beneath behind beside besides between among amid through throughout across along around ",
        "about against near off out up down toward towards next inside outside before after ",
        "during per via like ",
        "is am are was were be been being has have had having do does did done doing can could ",
        "will would shall should may might must let lets seem seems appear appears ",
        "not no yes very too also just only even still quite rather more most much many few less ",
        "least several again once ever never ",
        // How sure a text is says nothing of what is in the picture, as with `seems`.
        "perhaps maybe possibly probably ",
        "don't doesn't didn't isn't aren't wasn't weren't can't won't i'm it's that's there's ",
        "don’t doesn’t didn’t isn’t aren’t wasn’t weren’t can’t won’t i’m it’s that’s there’s ",
        "image images picture pictures etc eg ie",
    );
    words.split(' ').collect()
});

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stems(text: &str) -> Vec<String> {
        content_words(text).into_iter().map(|word| word.stem.to_string()).collect()
    }

    #[test]
    fn grammar_goes_and_content_stays_in_order() {
        for (text, wanted) in [
            ("A brown fish with the fins.", "brown fish fin"),
            ("red_flower and Switch_Cisco_4500", "red flower switch cisco 4500"),
            ("It's the dog's bone", "dog bon"),
            ("three cats, 3 dogs, 03 birds", "3 cat 3 dog 3 bird"),
            ("twenty-one candles, thirty two", "21 candl 30 2"),
            ("a 3.5 mm jack, v.2", "3.5 mm jack 2"),
            ("Ice Cream Cone (B and W)", "ic cream con"),
            ("an image of the picture", ""),
            ("An animal, perhaps a deer", "animal deer"),
            ("красный дом", "красный дом"),
            ("一只猫", "一 只 猫"),
            ("🍎 ... !!", ""),
            ("x-ray T-shirt", "ray shirt"),
        ] {
            assert_eq!(stems(text).join(" "), wanted, "{text}");
        }
    }

    #[test]
    fn a_words_range_is_its_place() {
        let text = "Zoë’s twenty-one red_flowers";
        let words = content_words(text);
        let written: Vec<&str> = words.iter().map(|word| &text[word.range.clone()]).collect();
        assert_eq!(written, ["Zoë’s", "twenty-one", "red", "flowers"]);
    }

    proptest! {
        #[test]
        fn words_lie_in_order_and_where_they_say(text in "\\PC{0,60}") {
            let mut end = 0;
            for word in content_words(&text) {
                prop_assert!(word.range.start >= end);
                prop_assert_eq!(&text[word.range.clone()], word.text);
                end = word.range.end;
            }
        }

        #[test]
        fn a_word_is_remembered_as_it_is(words in prop::collection::vec("\\PC{0,3}[a-zA-Z’']{0,9}", 1..20)) {
            for word in words.iter().chain(&words) {
                prop_assert_eq!(remembered(word), Form::of(word));
            }
        }

        #[test]
        fn a_text_has_the_words_of_its_halves(one in "[a-z ]{0,20}", other in "[a-z ]{0,20}") {
            let mut halves = stems(&one);
            halves.extend(stems(&other));
            prop_assert_eq!(stems(&format!("{one} {other}")), halves);
        }
    }
}
