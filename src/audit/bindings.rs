//! What a text says of its things: `red car`, `three dogs`, `under the table`; and where two texts
//! contradict each other in that.

use crate::audit::reading::Reading;
use crate::audit::reading::Token;
use crate::sample::Kind;
use crate::text::words::words_of;

/// A modifier and its thing, as places in the list of content words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Binding {
    pub(super) modifier: usize,
    pub(super) thing: usize,
}

/// A relation and the thing it points to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Relation {
    pub(super) place: Place,
    /// Bytes of the text.
    pub(super) range: std::ops::Range<usize>,
    /// Place in the list of content words.
    pub(super) thing: usize,
}

/// Where a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Above,
    Below,
    Behind,
    Before,
    Left,
    Right,
    Inside,
    Outside,
}

impl Place {
    pub(super) fn opposite(self) -> Place {
        match self {
            Place::Above => Place::Below,
            Place::Below => Place::Above,
            Place::Behind => Place::Before,
            Place::Before => Place::Behind,
            Place::Left => Place::Right,
            Place::Right => Place::Left,
            Place::Inside => Place::Outside,
            Place::Outside => Place::Inside,
        }
    }

    /// The plainest word for it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Place::Above => "on",
            Place::Below => "under",
            Place::Behind => "behind",
            Place::Before => "in front of",
            Place::Left => "left of",
            Place::Right => "right of",
            Place::Inside => "in",
            Place::Outside => "outside",
        }
    }

    fn of(words: &[(usize, &str)], at: usize) -> Option<Place> {
        let next = words.get(at + 1).map(|(_, word)| *word);
        let (_, place) = WORDS.iter().find(|(word, _)| word.eq_ignore_ascii_case(words[at].1))?;
        let fits = match place {
            Place::Before | Place::Left | Place::Right => next == Some("of"),
            Place::Inside => next != Some("front"),
            _ => true,
        };
        fits.then_some(*place)
    }
}

/// The words that begin a relation.
const WORDS: [(&str, Place); 19] = [
    ("on", Place::Above),
    ("upon", Place::Above),
    ("atop", Place::Above),
    ("above", Place::Above),
    ("over", Place::Above),
    ("onto", Place::Above),
    ("under", Place::Below),
    ("underneath", Place::Below),
    ("below", Place::Below),
    ("beneath", Place::Below),
    ("behind", Place::Behind),
    ("front", Place::Before),
    ("left", Place::Left),
    ("right", Place::Right),
    ("in", Place::Inside),
    ("inside", Place::Inside),
    ("into", Place::Inside),
    ("within", Place::Inside),
    ("outside", Place::Outside),
];

/// Adjectives and numbers with the thing they stand before (`two small red cars`, `black and white
/// cat`), or behind with a form of `be` (`the car is red`).
pub(super) fn bindings(text: &str, reading: &Reading<'_>) -> Vec<Binding> {
    let words = &reading.words;
    let mut bindings = Vec::new();
    for thing in 0..words.len() {
        if !is_thing(&words[thing]) {
            continue;
        }
        for modifier in (0..thing).rev() {
            if !modifies(&words[modifier]) || !is_joined(text, reading, modifier) {
                break;
            }
            bindings.push(Binding { modifier, thing });
        }
        let is_said = thing + 1 < words.len()
            && [" is ", " are ", " was ", " were "].contains(&between(text, reading, thing))
            && modifies(&words[thing + 1]);
        if is_said {
            bindings.push(Binding { modifier: thing + 1, thing });
        }
    }
    bindings
}

const JOINTS: [&str; 5] = [" ", ", ", " and ", "-", " or "];

/// Whether the next word goes on about the same thing, as in `red, old` or `black and white`.
pub(super) fn is_joined(text: &str, reading: &Reading<'_>, word: usize) -> bool {
    JOINTS.contains(&between(text, reading, word))
}

/// What is written between a word and the next one.
fn between<'t>(text: &'t str, reading: &Reading<'_>, word: usize) -> &'t str {
    let words = &reading.words;
    &text[words[word].word.range.end..words[word + 1].word.range.start]
}

fn is_thing(token: &Token<'_>) -> bool {
    matches!(token.kind, Kind::Object | Kind::Other) && !is_color(&token.word.lower)
}

/// Whether it can be said of a thing: an attribute, a colour, a number.
pub(super) fn modifies(token: &Token<'_>) -> bool {
    matches!(token.kind, Kind::Attribute | Kind::Number) || is_color(&token.word.lower)
}

/// Where the text says things are.
pub(super) fn relations(text: &str, reading: &Reading<'_>) -> Vec<Relation> {
    /// The thing follows soon: `on the very old table`.
    const NEAR: usize = 4;
    let all: Vec<(usize, &str)> = words_of(text).collect();
    let mut relations = Vec::new();
    for at in 0..all.len() {
        let Some(place) = Place::of(&all, at) else { continue };
        let (start, word) = all[at];
        let after = start + word.len();
        let end = all.get(at + NEAR).map_or(text.len(), |(start, word)| start + word.len());
        let thing = reading.words.iter().enumerate().find(|(_, token)| {
            token.word.range.start >= after && token.word.range.end <= end && is_thing(token)
        });
        if let Some((thing, _)) = thing {
            relations.push(Relation { place, range: start..after, thing });
        }
    }
    relations
}

/// Whether two modifiers of one thing cannot both be true: two colours, two numbers, two opposites.
pub(super) fn conflict(one: &Modifier<'_>, other: &Modifier<'_>) -> bool {
    let numbers = one.is_number && other.is_number;
    let colors = is_color(one.lower) && is_color(other.lower);
    if numbers {
        return one.stem != other.stem;
    }
    (colors && !one.entry.same(other.entry) && !one.entry.synonym(other.entry))
        || one.entry.opposite(other.entry)
}

/// What [`conflict`] asks of a modifier.
pub(super) struct Modifier<'a> {
    pub(super) lower: &'a str,
    pub(super) stem: &'a str,
    pub(super) entry: &'a crate::lexicon::Entry,
    pub(super) is_number: bool,
}

/// The names of colours that exclude each other. Shades are not: what is crimson is red.
pub(super) fn is_color(lower: &str) -> bool {
    matches!(
        lower,
        "red"
            | "blue"
            | "green"
            | "yellow"
            | "orange"
            | "purple"
            | "pink"
            | "brown"
            | "black"
            | "white"
            | "gray"
            | "grey"
            | "violet"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(text: &str) -> String {
        let reading = Reading::of(text);
        let pairs = bindings(text, &reading).into_iter().map(|pair| {
            let word = |place: usize| reading.words[place].word.text;
            format!("{} {}", word(pair.modifier), word(pair.thing))
        });
        pairs.collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn modifiers_are_bound_to_their_things() {
        for (text, wanted) in [
            ("A red car and a blue house", "red car, blue house"),
            ("two small dogs", "small dogs, two dogs"),
            ("a black and white cat", "white cat, black cat"),
            ("The car is red.", "red car"),
            ("a man, red, sits", ""),
        ] {
            assert_eq!(bound(text), wanted, "{text}");
        }
    }

    #[test]
    fn relations_point_to_things() {
        let text = "A cat on the old table in front of a window, to the left of a lamp";
        let reading = Reading::of(text);
        let said: Vec<_> = relations(text, &reading)
            .into_iter()
            .map(|relation| (relation.place, reading.words[relation.thing].word.text))
            .collect();
        let wanted = [(Place::Above, "table"), (Place::Before, "window"), (Place::Left, "lamp")];
        assert_eq!(said, wanted);
    }
}
