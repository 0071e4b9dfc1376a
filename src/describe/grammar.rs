//! Just enough English: whether a phrase is made of known words, its article, its plural.
//!
//! It knows words by a list (`words.txt`), not by guessing: an article before a name ("an Albania")
//! reads worse than no article before a noun.

use std::collections::HashMap;
use std::sync::LazyLock;

/// The words it knows, also part of the grammar's hash.
pub const WORDS: &str = include_str!("words.txt");

/// What a word can do in a phrase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Thing,
    Stuff,
    Quality,
    Plural,
}

static KNOWN: LazyLock<HashMap<&'static str, Class>> = LazyLock::new(|| {
    let mut known = HashMap::new();
    let mut class = Class::Thing;
    for line in WORDS.lines().filter(|line| !line.starts_with('#')) {
        match line {
            "[things]" => class = Class::Thing,
            "[stuff]" => class = Class::Stuff,
            "[qualities]" => class = Class::Quality,
            "[plural]" => class = Class::Plural,
            words => words.split_whitespace().for_each(|word| {
                // First come, first served: "orange" is a thing before it is a colour.
                known.entry(word).or_insert(class);
            }),
        }
    }
    known
});

/// Words that join; what follows the first of them does not decide article or number.
const JOINS: [&str; 26] = [
    "with", "of", "in", "on", "under", "over", "from", "for", "at", "to", "by", "near", "behind",
    "between", "inside", "above", "below", "around", "against", "and", "or", "without", "into",
    "through", "across", "beside",
];

/// Words that already say which or how many.
const DETERMINERS: [&str; 24] = [
    "a", "an", "the", "my", "your", "his", "her", "its", "our", "their", "this", "that", "these",
    "those", "some", "no", "two", "three", "four", "five", "six", "many", "several", "various",
];

/// Grammatical number, as far as the verbless sentences here need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Number {
    /// Takes `a` or `an`.
    One,
    /// Takes no article.
    Many,
    /// Cannot be counted; takes no article.
    Mass,
}

/// Whether every word is known, so that the phrase may be treated as a common noun.
pub fn is_common(phrase: &str) -> bool {
    let known = |word: &str| {
        class(word).is_some()
            || is_joint(word)
            || is_determiner(word)
            || word.bytes().all(|b| b.is_ascii_digit())
    };
    words_of(phrase).all(known)
        && head(phrase).and_then(class).is_some_and(|class| class != Class::Quality)
}

/// The number of a common phrase, by its head.
pub fn number(phrase: &str) -> Number {
    match head(phrase).and_then(class) {
        Some(Class::Plural) => Number::Many,
        Some(Class::Stuff) => Number::Mass,
        _ => Number::One,
    }
}

/// The phrase with the article it needs, if it needs one.
pub fn with_article(phrase: &str) -> String {
    let first = words_of(phrase).next().unwrap_or_default();
    let counted = first.bytes().all(|b| b.is_ascii_digit());
    if counted || is_determiner(first) || number(phrase) != Number::One {
        return phrase.to_owned();
    }
    let article = if UNIQUE.contains(&phrase) { "the" } else { article(phrase) };
    format!("{article} {phrase}")
}

/// Everybody knows which one.
const UNIQUE: [&str; 5] = ["sun", "moon", "sky", "sea", "earth"];

/// The text with an article if it is a common phrase, unchanged if it is anything else.
pub fn with_article_if_common(text: &str) -> String {
    if is_common(text) { with_article(text) } else { text.to_owned() }
}

/// `a` or `an`, by the sound the phrase begins with.
pub fn article(phrase: &str) -> &'static str {
    let first = phrase.split_whitespace().next().unwrap_or_default();
    let initials = first.len() > 1 && first.chars().all(|c| c.is_uppercase() || c.is_numeric());
    let lower = first.to_lowercase();
    let vowel = if initials {
        // Letters that are said with a vowel first: "an LED", "a PDA".
        first.starts_with(['A', 'E', 'F', 'H', 'I', 'L', 'M', 'N', 'O', 'R', 'S', 'X', '8'])
    } else {
        let silent_h = ["hour", "honest", "heir", "honour", "honor"];
        let said_with_y_or_w = ["uni", "use", "usu", "eu", "ewe", "one", "once", "ufo", "uten"];
        let begins = |list: &[&str]| list.iter().any(|start| lower.starts_with(start));
        begins(&silent_h)
            || (lower.starts_with(['a', 'e', 'i', 'o', 'u', '8'])
                && (!begins(&said_with_y_or_w) || lower.starts_with("unin")))
    };
    if vowel { "an" } else { "a" }
}

/// The plural of a label.
pub fn plural(label: &str) -> String {
    const IRREGULAR: [(&str, &str); 9] = [
        ("person", "people"),
        ("man", "men"),
        ("child", "children"),
        ("leaf", "leaves"),
        ("foot", "feet"),
        ("tooth", "teeth"),
        ("mouse", "mice"),
        ("fish", "fish"),
        ("sheep", "sheep"),
    ];
    if let Some((one, many)) = IRREGULAR.iter().find(|(one, _)| label.ends_with(one)) {
        return format!("{}{many}", &label[..label.len() - one.len()]);
    }
    if label.ends_with(['s', 'x', 'z']) || label.ends_with("ch") || label.ends_with("sh") {
        return format!("{label}es");
    }
    match label.strip_suffix('y') {
        Some(stem) if !stem.ends_with(['a', 'e', 'i', 'o', 'u']) => format!("{stem}ies"),
        _ => format!("{label}s"),
    }
}

/// Whether the word only joins others.
pub fn is_joint(word: &str) -> bool {
    JOINS.contains(&word.to_lowercase().as_str())
}

fn is_determiner(word: &str) -> bool {
    DETERMINERS.contains(&word.to_lowercase().as_str())
}

/// `LED`, `PDA`, `3D`: used like nouns, and too many to list.
fn is_abbreviation(word: &str) -> bool {
    const MOST_CHARS: usize = 4;
    let of_capitals = word.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
    of_capitals && (2..=MOST_CHARS).contains(&word.len()) && word.contains(char::is_alphabetic)
}

/// The word that decides, as written: the last one before the first joint.
pub fn head(phrase: &str) -> Option<&str> {
    let end = phrase.find([',', '(', ':', ';']).unwrap_or(phrase.len());
    words_of(&phrase[..end]).take_while(|word| !is_joint(word)).last()
}

/// Words without the punctuation around them, as written.
pub fn words_of(phrase: &str) -> impl Iterator<Item = &str> {
    phrase
        .split(|c: char| c.is_whitespace() || matches!(c, ',' | '(' | ')' | ':' | ';' | '/'))
        .map(|word| word.trim_matches(|c: char| !c.is_alphanumeric()))
        .filter(|word| !word.is_empty())
}

fn class(word: &str) -> Option<Class> {
    if is_abbreviation(word) {
        return Some(Class::Thing);
    }
    let word = word.to_lowercase();
    if let Some(class) = KNOWN.get(word.as_str()) {
        return Some(*class);
    }
    if singulars(&word).any(|one| KNOWN.get(one.as_str()) == Some(&Class::Thing)) {
        return Some(Class::Plural);
    }
    // "candied", "sailing": made from verbs, they can only describe.
    let verbal = word.len() >= 5 && (word.ends_with("ed") || word.ends_with("ing"));
    verbal.then_some(Class::Quality)
}

fn singulars(word: &str) -> impl Iterator<Item = String> {
    let stem = |ending: &str, one: &str| word.strip_suffix(ending).map(|s| format!("{s}{one}"));
    [stem("s", ""), stem("es", ""), stem("ies", "y")].into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn articles_follow_sound_and_number() {
        for (phrase, expected) in [
            ("emperor penguin", "an emperor penguin"),
            ("house on a hill", "a house on a hill"),
            ("candied apples", "candied apples"),
            ("two dogs", "two dogs"),
            ("the moon", "the moon"),
            ("3 faces", "3 faces"),
            ("orange juice box", "an orange juice box"),
            ("bread", "bread"),
            ("bread knife", "a bread knife"),
            ("unicorn", "a unicorn"),
            ("umbrella", "an umbrella"),
            ("hourglass", "an hourglass"),
            ("LED circle", "an LED circle"),
            ("PDA with stylus", "a PDA with stylus"),
            ("knives", "knives"),
            ("glass", "a glass"),
        ] {
            assert_eq!(with_article(phrase), expected);
        }
    }

    #[test]
    fn only_phrases_of_known_words_are_common() {
        for phrase in ["closed box", "note with paperclip", "Ice Cream Cone (3 scoop)", "red cars"]
        {
            assert!(is_common(phrase), "{phrase}");
        }
        for phrase in ["Eiffel Tower", "albania", "red", "", "farfalla semplice", "gramastar"] {
            assert!(!is_common(phrase), "{phrase}");
        }
    }

    #[test]
    fn plurals_of_labels() {
        for (one, many) in [
            ("bird", "birds"),
            ("box", "boxes"),
            ("body", "bodies"),
            ("toy", "toys"),
            ("playing card", "playing cards"),
            ("person", "people"),
            ("fish", "fish"),
        ] {
            assert_eq!(plural(one), many);
        }
    }
}
