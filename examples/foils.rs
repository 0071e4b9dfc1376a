//! A labelled set for the audit: true captions of `tests/data/audit/scenes.txt` (or, with `--held-out`,
//! of `held_out.txt` by another writer), and the same with one
//! object, number, colour, relation or action swapped by rule.
//!
//! ```text
//! cargo run --example foils > foils.jsonl
//! recaption audit --texts foils.jsonl
//! ```
//!
//! The swaps are lists written for this purpose; they know nothing of the lexicon that is tested. No
//! word is put in that any caption or tag of the scene has. Each line is a row of `--texts` with its
//! label: `sources` are the other captions of the scene, or one of them with tags and the raw text, as
//! a row of a run has them.

use std::fmt::Write as _;

use serde_json::json;

/// Words that may stand for each other, and may not both be true. Things are what writers invent most:
/// of the last four sorts, only every third is swapped.
const SWAPS: &[(&str, &str)] = &[
    ("animal", "dog cat horse cow sheep bear elephant zebra giraffe lion parrot penguin monkey"),
    ("animals", "dogs cats horses cows elephants zebras giraffes penguins monkeys birds"),
    ("vehicle", "car bus truck train bicycle motorcycle airplane boat taxi helicopter rocket"),
    ("vehicles", "boats cars trains buses bicycles trucks"),
    ("fruit", "oranges apples bananas lemons cherries"),
    ("dish", "pizza soup cake bread salad hamburger sandwich"),
    ("furniture", "table chair bed couch sofa bench shelf desk"),
    ("tool", "hammer spoon knife fork saw brush"),
    ("sport", "skateboard surfboard racket frisbee ball kite"),
    ("wear", "hat scarf helmet crown umbrella apron shirt jacket"),
    ("building", "house church castle bakery kitchen bathroom office station"),
    ("man", "man woman boy girl baby"),
    ("nature", "tree flower river mountain beach field"),
    ("thing", "laptop guitar violin vase mirror lamp clock camera"),
    ("color", "red blue green yellow orange purple pink brown black white gray"),
    ("number", "two three four five six seven"),
    ("place", "under on behind"),
    ("action", "sleeps runs jumps sits stands swims eats dances"),
];

fn main() {
    let held_out = std::env::args().any(|argument| argument == "--held-out");
    let scenes = match held_out {
        true => include_str!("../tests/data/audit/held_out.txt"),
        false => include_str!("../tests/data/audit/scenes.txt"),
    };
    for row in rows(scenes) {
        println!("{row}");
    }
}

/// The rows of the labelled set, each true one before its foils.
pub fn rows(scenes: &str) -> Vec<serde_json::Value> {
    scenes.split("\n\n").flat_map(rows_of_scene).collect()
}

fn rows_of_scene(scene: &str) -> Vec<serde_json::Value> {
    let mut lines = scene.lines();
    let name = lines.next().unwrap_or_default().trim_start_matches("# ");
    let tags = lines.next().unwrap_or_default().trim_start_matches("tags: ");
    let raw = lines.next().unwrap_or_default().trim_start_matches("raw: ");
    let captions: Vec<&str> = lines.collect();
    let all = scene.to_lowercase();
    let mut rows = Vec::new();
    for (place, caption) in captions.iter().enumerate() {
        let others: Vec<&str> =
            captions.iter().enumerate().filter(|(p, _)| *p != place).map(|(_, c)| *c).collect();
        // A row of a run: what a captioner saw is one of them.
        let seen = others[(place * 7 + name.len()) % others.len()];
        let mut texts = vec![(format!("{name}-{place}"), (*caption).to_owned(), None)];
        for (number, (foil, said)) in
            foils(caption, &all, name.len() + place).into_iter().enumerate()
        {
            texts.push((format!("{name}-{place}-foil-{number}"), foil, Some(said)));
        }
        for (id, text, said) in texts {
            let (hallucinated, words) = (said.is_some(), said.into_iter().collect::<Vec<_>>());
            let label = json!({"group": name, "text": text, "hallucinated": hallucinated, "hallucinated_words": words});
            let mut captions = label.clone();
            captions["id"] = json!(format!("{id}-captions"));
            captions["sources"] = json!(others);
            let mut run = label;
            run["id"] = json!(format!("{id}-run"));
            run["sources"] = json!([seen]);
            run["tags"] = json!(tags.split(", ").collect::<Vec<_>>());
            run["raw"] = json!(raw);
            rows.extend([captions, run]);
        }
    }
    rows
}

/// The caption with one word swapped, for each word that can be, and what was put in.
fn foils(caption: &str, all: &str, seed: usize) -> Vec<(String, String)> {
    let mut foils = Vec::new();
    let words: Vec<&str> = caption.split(' ').collect();
    for (place, word) in words.iter().enumerate() {
        let bare = word.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
        for (sort, list) in SWAPS {
            let list: Vec<&str> = list.split(' ').collect();
            let Some(at) = list.iter().position(|other| *other == bare) else { continue };
            let fits = |other: &&&str| **other != bare && !has_word(all, other);
            if ["color", "number", "place", "action"].contains(sort)
                && !(seed + place).is_multiple_of(3)
            {
                continue;
            }
            let step = 1 + (seed + place) % (list.len() - 1);
            let turned = list.iter().cycle().skip(at + step).take(list.len());
            let Some(other) = turned.into_iter().find(fits) else { continue };
            foils.push((with_word(&words, place, other), (*other).to_owned()));
        }
    }
    foils
}

fn has_word(text: &str, word: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric()).any(|other| other == word)
}

/// The words with another one in this place, which keeps its capital letter and its comma.
fn with_word(words: &[&str], place: usize, other: &str) -> String {
    let mut text = String::new();
    for (at, word) in words.iter().enumerate() {
        let space = if at > 0 { " " } else { "" };
        if at != place {
            write!(text, "{space}{word}").expect("a string takes everything");
            continue;
        }
        let end = word.trim_start_matches(char::is_alphanumeric);
        let mut letters = other.chars();
        let first = letters.next().unwrap_or_default();
        let first =
            if word.starts_with(char::is_uppercase) { first.to_ascii_uppercase() } else { first };
        write!(text, "{space}{first}{}{end}", letters.as_str()).expect("a string takes everything");
    }
    text
}
