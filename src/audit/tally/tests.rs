//! Tallies of made rows.

use std::sync::Arc;

use super::*;
use crate::audit::Config;
use crate::audit::Texts;
use crate::audit::audit;
use crate::audit::place::Place;
use crate::audit::stems::Stems;
use crate::sample::Tag;

fn tag(label: &str) -> Tag {
    Tag { label: label.to_owned(), score: 0.5, bbox: None, model: Arc::from("t@0") }
}

fn tally_from(first: u32, generated: &[Option<&str>]) -> Tally {
    let tags = [tag("cat"), tag("cat"), tag("red")];
    let mut tally = Tally::default();
    for (row, generated) in (first..).zip(generated) {
        let texts = Texts { generated: *generated, tags: &tags, ..Texts::default() };
        let audit = audit(&Config::default(), &texts);
        let key = row.to_string();
        tally.add(&Row {
            key: &key,
            place: Place { shard: 0, row },
            texts,
            stems: &Stems::of(&texts),
            audit: &audit,
            fit: None,
            nsfw: None,
            model: Some("m"),
            prompt: None,
        });
    }
    tally
}

fn tally_of(generated: &[Option<&str>]) -> Tally {
    tally_from(0, generated)
}

#[test]
fn rows_are_counted_by_score_text_tag_and_length() {
    let summary =
        tally_of(&[Some("A red cat."), Some("A red cat."), Some("A dog."), None]).summary(5);
    assert_eq!((summary.rows, summary.generated), (4, 3));
    assert_eq!((summary.score.rows, summary.words.rows), (4, 3));
    assert_eq!((summary.words.bins[3], summary.words.bins[2]), (2, 1));
    let repeated = &summary.repeated_texts;
    assert_eq!((repeated.len(), &*repeated[0].text, repeated[0].rows), (1, "A red cat.", 2));
    assert_eq!((summary.repeated_rows, repeated[0].examples.len()), (2, 2));
    assert_eq!((&*summary.tags[0].text, summary.tags[0].rows), ("cat", 4));
    assert!(summary.flags.iter().any(|flag| flag.text == "missing" && flag.rows == 1));
    assert_eq!((summary.origins[0].rows, summary.origins[3].rows), (4, 1));
    assert_eq!((&*summary.nowhere_words[0].word, summary.nowhere_words[0].rows), ("dog", 1));
    let labels: Vec<_> = summary.labels.iter().map(|l| (&*l.label, l.rows, l.mentioned)).collect();
    assert_eq!(labels, [("cat", 3, 2), ("red", 3, 2)]);
    assert_eq!(summary.indicators[2].values.mean, Some(2.0 / 3.0));
    assert_eq!(summary.openings[0].text, "a red cat");
}

#[test]
fn texts_that_differ_in_case_numbers_and_punctuation_are_alike() {
    let summary = tally_of(&[Some("A red cat, 17."), Some("a RED cat 3")]).summary(5);
    assert_eq!((summary.repeated_rows, summary.repeated_alike_rows), (0, 2));
    assert_eq!(summary.repeated_alike[0].text, "a red cat 0");
}

#[test]
fn parts_add_up_to_the_whole() {
    let rows = [Some("A red cat."), None, Some("A red cat."), Some("Dog")];
    for split in 0..=rows.len() {
        let mut parts = tally_of(&rows[..split]);
        parts.merge(&tally_from(split as u32, &rows[split..]));
        assert_eq!(parts.summary(9), tally_of(&rows).summary(9));
    }
}

#[test]
fn a_huge_text_is_remembered_by_its_beginning() {
    let huge = "é".repeat(10_000);
    let top = tally_of(&[Some(&huge), Some(&huge)]).summary(1).repeated_texts;
    assert!(top[0].text.len() <= MAX_TEXT_BYTES);
}
