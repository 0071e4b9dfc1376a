//! Rows set up by hand; runs on disk are compared in `tests/it/curate_diff_card.rs`.

use std::sync::Arc;

use super::*;
use crate::sample::Fit;
use crate::sample::Kind;
use crate::sample::Origin;
use crate::sample::Sample;
use crate::sample::WordOrigin;
use crate::sample::testing;
use crate::sample::testing::generated;

fn sample(key: &str, text: Option<&str>, score: f32) -> Sample {
    let word = |word: &str| WordOrigin {
        kind: Kind::Object,
        ..WordOrigin::new(word, if word == "cat" { Origin::Tag } else { Origin::Nowhere })
    };
    let words: Vec<WordOrigin> = text.unwrap_or_default().split(' ').map(word).collect();
    let nowhere = words.iter().filter(|word| word.origin == Origin::Nowhere).count() as u32;
    let audit = crate::sample::Audit {
        score,
        length_words: words.len() as u32,
        objects_nowhere: nowhere,
        words,
        ..Default::default()
    };
    Sample { generated: text.map(generated), audit, ..testing::sample(key) }
}

fn found(pairs: Vec<(Sample, Sample)>) -> Found {
    let mut found = Found::new(Config { examples: 2, objects: 5 });
    pairs.into_iter().for_each(|(a, b)| found.add(&Row::of(a), &Row::of(b)));
    found
}

fn of(found: &Found, name: &str) -> Option<Comparison> {
    found.contest.finish().into_iter().find(|comparison| comparison.name == name)
}

#[test]
fn wins_go_to_the_better_value_and_ties_to_nobody() {
    let found = found(vec![
        (sample("1", Some("cat"), 0.9), sample("1", Some("cat dog"), 0.5)),
        (sample("2", Some("cat"), 0.5), sample("2", Some("cat"), 0.5)),
        (sample("3", Some("dog"), 0.2), sample("3", Some("cat"), 0.8)),
        (sample("4", Some("dog"), 0.2), sample("4", None, 0.0)),
    ]);
    let score = of(&found, "score").unwrap();
    assert_eq!((score.wins_a, score.ties, score.wins_b, score.rows), (2, 1, 1, 4));
    assert_eq!((score.win_rate.part, score.win_rate.whole), (1, 3));
    let nowhere = of(&found, "objects_nowhere").unwrap();
    assert_eq!((nowhere.wins_a, nowhere.ties, nowhere.wins_b, nowhere.rows), (1, 1, 1, 3));
    assert_eq!((nowhere.mean_a, nowhere.mean_b), (Some(1.0 / 3.0), Some(1.0 / 3.0)));
    let length = of(&found, "length_words").unwrap();
    assert_eq!((length.wins_a, length.wins_b, length.better), (0, 1, Better::Neither));
    assert_eq!(of(&found, "clip_generated"), None);
    assert_eq!((found.changed.generated, found.changed.generated_lost), (3, 1));
}

#[test]
fn cosines_of_other_models_are_not_compared() {
    let with = |model: &str, generated| {
        let fit = Fit { raw: None, synthetic: None, generated, model: Arc::from(model) };
        Sample { fit: Some(fit), ..sample("k", Some("cat"), 1.0) }
    };
    let found = found(vec![
        (with("x@1", Some(0.1)), with("x@1", Some(0.3))),
        (with("x@1", Some(0.1)), with("y@1", Some(0.3))),
        (with("x@1", Some(f32::NAN)), with("x@1", Some(0.3))),
    ]);
    let clip = of(&found, "clip_generated").unwrap();
    assert_eq!((clip.rows, clip.wins_b), (1, 1));
}

#[test]
fn rows_of_an_older_run_have_no_figures_to_compare() {
    let mut old = sample("k", Some("cat dog"), 0.7);
    old.audit.length_words = 0;
    let found = found(vec![(old, sample("k", Some("cat"), 0.9))]);
    assert_eq!(of(&found, "objects_nowhere"), None);
    assert_eq!(of(&found, "score").unwrap().wins_b, 1);
}

#[test]
fn objects_come_and_go_only_with_the_text() {
    let mut retagged = sample("2", Some("cat"), 1.0);
    retagged.audit.words.clear();
    let found = found(vec![
        (sample("1", Some("cat Dog"), 0.5), sample("1", Some("CAT bird bird"), 0.5)),
        (sample("2", Some("cat"), 1.0), retagged),
    ]);
    let (gained, lost) = found.objects.finish(5);
    let count = |word: &str, rows, nowhere| ObjectCount { word: word.to_owned(), rows, nowhere };
    assert_eq!(gained, [count("bird", 1, 1)]);
    assert_eq!(lost, [count("dog", 1, 1)]);
}

#[test]
fn the_examples_are_the_greatest_changes_in_any_order_of_rows() {
    let pairs = |order: [usize; 5]| {
        let pair = |place: usize| {
            let scores = [(0.9, 0.1), (0.5, 0.4), (0.9, 0.3), (0.9, 0.1), (0.1, 0.2)][place];
            let key = ["d", "b", "c", "a", "e"][place];
            (sample(key, Some("cat"), scores.0), sample(key, Some("dog"), scores.1))
        };
        found(order.map(pair).into())
    };
    for order in [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 0, 4, 1, 3]] {
        let found = pairs(order);
        let keys: Vec<&str> = found.regressions.0.iter().map(|e| e.key.as_str()).collect();
        assert_eq!(keys, ["a", "d"]);
        assert_eq!(found.gains.0.len(), 1);
    }
}

#[test]
fn the_page_takes_text_as_text_and_an_empty_difference() {
    let hostile = "<script>alert(1)</script>";
    let example = Example {
        key: hostile.to_owned(),
        raw: Some(hostile.to_owned()),
        a: Some(hostile.to_owned()),
        b: None,
        score_a: 1.0,
        score_b: 0.0,
    };
    let mut difference = Difference {
        a: hostile.to_owned(),
        b: "b".to_owned(),
        both: 1,
        only_a: Only { rows: 1, unknown: 1, keys: vec![hostile.to_owned()], ..Only::default() },
        only_b: Only::default(),
        changed: Changed::default(),
        indicators: found(vec![(sample("1", Some("cat"), 0.9), sample("1", Some("cat"), 0.5))])
            .contest
            .finish(),
        objects_gained: vec![ObjectCount { word: hostile.to_owned(), rows: 2, nowhere: 1 }],
        objects_lost: Vec::new(),
        regressions: vec![example],
        gains: Vec::new(),
    };
    let page = html(&difference).unwrap();
    assert!(!page.contains("<script") && page.contains("Worst regressions"));
    assert!(page.contains("Only in A") && !page.contains("Only in B"));
    difference.indicators.clear();
    difference.regressions.clear();
    assert!(!html(&difference).unwrap().contains("NaN"));
}
