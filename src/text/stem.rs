//! A light English stemmer, for matching only: `stem` is a key, not a word.
//!
//! Joins what a caption and a tag write differently (plural, possessive, -ing, -ed, irregular
//! forms, number words, accents) and keeps apart what a picture tells apart (`paint` / `painter`).
//! Porter's stemmer was not taken: it also joins `organ` and `organization`, which would hide an
//! invention, and it knows neither `geese` nor `three`.

use std::sync::LazyLock;

use hashbrown::HashMap;
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// The key of a word that is already in lower case.
pub fn stem(lower: &str) -> String {
    let key = key_of(lower);
    // A lone combining mark has no letter left to be a key.
    if key.is_empty() { without_possessive(lower).to_owned() } else { key }
}

fn key_of(lower: &str) -> String {
    let word = without_possessive(lower);
    if !word.is_ascii() {
        return folded(word);
    }
    if let Some(number) = number(word) {
        return number;
    }
    let word = IRREGULAR.get(word).copied().unwrap_or(word);
    normal_ending(regular(word))
}

/// `dog's`, `dogs'` and their typographic twins.
pub(super) fn without_possessive(lower: &str) -> &str {
    let endings = ["'s", "’s", "'", "’"];
    endings.iter().find_map(|ending| lower.strip_suffix(ending)).unwrap_or(lower)
}

/// Latin letters lose their accents (`café` is tagged `cafe`); other scripts stay as they are.
fn folded(word: &str) -> String {
    let plain: String = word.nfkd().filter(|c| !is_combining_mark(*c)).collect();
    if plain.is_ascii() && !plain.is_empty() { stem(&plain) } else { word.to_owned() }
}

/// Digits without leading zeros and group commas; number words as digits.
fn number(word: &str) -> Option<String> {
    if let Some(digits) = NUMBERS.get(word) {
        return Some((*digits).to_owned());
    }
    let figures = word.bytes().all(|b| b.is_ascii_digit() || b == b',');
    if !figures || !word.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let digits: String = word.chars().filter(char::is_ascii_digit).collect();
    let significant = digits.trim_start_matches('0');
    Some(if significant.is_empty() { "0".to_owned() } else { significant.to_owned() })
}

/// Takes one regular ending off.
fn regular(word: &str) -> &str {
    let stripped = [
        strip(word, "ies", "s", 4),
        strip(word, "ied", "d", 4),
        plural(word),
        verbal(word, "ing").or_else(|| verbal(word, "ed")),
    ];
    stripped.into_iter().flatten().next().unwrap_or(word)
}

/// Takes `cut` off a word of at least `least` letters that ends in `ending`.
fn strip<'w>(word: &'w str, ending: &str, cut: &str, least: usize) -> Option<&'w str> {
    let fits = word.len() >= least && word.ends_with(ending);
    if fits { word.strip_suffix(cut) } else { None }
}

fn plural(word: &str) -> Option<&str> {
    let singular = ["ss", "us", "is"].iter().any(|ending| word.ends_with(ending));
    if word.len() < 4 || singular {
        return None;
    }
    let one = word.strip_suffix('s')?;
    let hissing = ["se", "xe", "ze", "che", "she", "oe"].iter().any(|e| one.ends_with(e));
    Some(if hissing { one.strip_suffix('e').unwrap_or(one) } else { one })
}

/// `sitting` to `sit`, `painted` to `paint`; not `king`, `red` or `seed`.
fn verbal<'w>(word: &'w str, ending: &str) -> Option<&'w str> {
    let root = word.strip_suffix(ending)?;
    let whole = NO_VERBS.contains(&word) || (ending == "ed" && root.ends_with('e'));
    if whole || root.len() < 2 || !root.contains(['a', 'e', 'i', 'o', 'u', 'y']) {
        return None;
    }
    Some(undoubled(root))
}

/// `runn` to `run`; `fall`, `pass` and `buzz` keep both letters.
fn undoubled(root: &str) -> &str {
    let bytes = root.as_bytes();
    let [.., before, last] = bytes else { return root };
    let doubled = before == last && root.len() > 3 && !b"aeioulsz".contains(last);
    if doubled { &root[..root.len() - 1] } else { root }
}

/// One spelling for what endings left over: `making` and `make`, `flying` and `fly`.
fn normal_ending(word: &str) -> String {
    if word.len() < 3 {
        return word.to_owned();
    }
    let bare = word.strip_suffix('e').unwrap_or(word);
    match bare.strip_suffix('y') {
        Some(root) if !root.ends_with(['a', 'e', 'i', 'o', 'u']) => format!("{root}i"),
        _ => bare.to_owned(),
    }
}

const NO_VERBS: [&str; 14] = [
    "evening", "morning", "ceiling", "wedding", "during", "herring", "pudding", "sibling",
    "viking", "starling", "duckling", "sterling", "hundred", "wicked",
];

static NUMBERS: LazyLock<HashMap<&'static str, &'static str>> = LazyLock::new(|| {
    HashMap::from([
        ("zero", "0"),
        ("one", "1"),
        ("two", "2"),
        ("three", "3"),
        ("four", "4"),
        ("five", "5"),
        ("six", "6"),
        ("seven", "7"),
        ("eight", "8"),
        ("nine", "9"),
        ("ten", "10"),
        ("eleven", "11"),
        ("twelve", "12"),
        ("dozen", "12"),
        ("thirteen", "13"),
        ("fourteen", "14"),
        ("fifteen", "15"),
        ("sixteen", "16"),
        ("seventeen", "17"),
        ("eighteen", "18"),
        ("nineteen", "19"),
        ("twenty", "20"),
        ("thirty", "30"),
        ("forty", "40"),
        ("fifty", "50"),
        ("sixty", "60"),
        ("seventy", "70"),
        ("eighty", "80"),
        ("ninety", "90"),
        ("hundred", "100"),
        ("thousand", "1000"),
        ("million", "1000000"),
        ("first", "1st"),
        ("second", "2nd"),
        ("third", "3rd"),
        ("fourth", "4th"),
        ("fifth", "5th"),
        ("sixth", "6th"),
        ("seventh", "7th"),
        ("eighth", "8th"),
        ("ninth", "9th"),
        ("tenth", "10th"),
    ])
});

/// Irregular form, then the base form whose regular stem it shares.
static IRREGULAR: LazyLock<HashMap<&'static str, &'static str>> = LazyLock::new(|| {
    let table = concat!(
        "men man women woman children child people person feet foot teeth tooth geese goose ",
        "mice mouse lice louse oxen ox dice die leaves leaf wolves wolf knives knife lives life ",
        "wives wife halves half shelves shelf loaves loaf thieves thief calves calf ",
        "scarves scarf elves elf hooves hoof cacti cactus fungi fungus octopi octopus ",
        "lenses lens menus menu buses bus gases gas taxis taxi skis ski bikinis bikini ",
        "axes axe dies die pies pie ties tie lies lie lying lie dying die tying tie ",
        "sat sit ran run stood stand held hold wore wear worn wear flew fly flown fly ate eat ",
        "eaten eat drew draw drawn draw rode ride ridden ride swam swim swum swim lain lie ",
        "wrote write written write broke break broken break made make took take taken take ",
        "gave give given give drove drive driven drive threw throw thrown throw caught catch ",
        "built build bought buy brought bring fought fight grew grow grown grow hung hang ",
        "hid hide hidden hide slept sleep swung swing sang sing sung sing shone shine ",
        "shaken shake shook shake torn tear tore tear woven weave wove weave frozen freeze ",
        "grey gray colour color coloured color colored color colouring color coloring color ",
        "colours color colourful colorful centre center theatre theater jewellery jewelry ",
        "aeroplane airplane aeroplanes airplane tyre tire tyres tire",
    );
    let words: Vec<&'static str> = table.split(' ').collect();
    words.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect()
});

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn forms_of_one_word_share_a_stem() {
        for forms in [
            "cat cats cat's cats' cat’s",
            "box boxes",
            "horse horses horse's",
            "bus buses",
            "city cities",
            "baby babies",
            "movie movies",
            "fly flies flying flew",
            "tree trees",
            "bee bees",
            "shoe shoes",
            "potato potatoes",
            "tomato tomatoes",
            "photo photos",
            "apple apples",
            "watch watches watching watched",
            "brush brushes brushed",
            "glass glasses",
            "leaf leaves",
            "wolf wolves",
            "man men man's",
            "child children",
            "person people",
            "goose geese",
            "sit sits sitting sat",
            "run runs running ran",
            "make makes making made",
            "paint paints painted painting",
            "carry carries carried",
            "tie ties tied tying",
            "stripe stripes striped",
            "smile smiling smiled",
            "3 three 03",
            "twelve dozen 12",
            "1,000 1000 thousand",
            "café cafe cafés",
            "gray grey",
            "color colours coloured",
            "house houses",
            "eye eyes",
            "axe axes",
            "cactus cacti",
            "toy toys",
            "stand standing stood",
            "wear wearing wears worn",
            "lens lenses",
            "stop stopped stopping",
            "second 2nd",
            "maze mazes",
            "tax taxes",
            "lie lying lies",
        ] {
            let stems: Vec<String> = forms.split(' ').map(stem).collect();
            assert!(stems.iter().all(|s| *s == stems[0]), "{forms}: {stems:?}");
        }
    }

    #[test]
    fn different_words_keep_different_stems() {
        for words in [
            "king kin",
            "ring r",
            "red r",
            "seed se",
            "bed b",
            "string str",
            "evening even",
            "organ organization",
            "painter paint",
            "bus bu",
            "cats cat2",
            "sun sunny",
            "3 4",
            "glass glas",
            "princess prince",
            "wing w",
            "king queen",
            "car cart",
        ] {
            let (one, other) = words.split_once(' ').unwrap();
            assert_ne!(stem(one), stem(other), "{words}");
        }
    }

    proptest! {
        #[test]
        fn never_fails_and_never_forgets_a_word(word in "\\PC{1,12}") {
            let lower = word.to_lowercase();
            let bare = without_possessive(&lower);
            prop_assert_eq!(stem(&lower).is_empty(), bare.is_empty());
        }
    }
}
