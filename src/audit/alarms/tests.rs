//! Watches over made rows.

use super::*;
use crate::audit::Texts;
use crate::sample::testing;
use crate::sample::testing::generated;

fn sample(row: usize, raw: &str, text: &str) -> Sample {
    let mut sample =
        Sample { generated: Some(generated(text)), ..testing::sample(&row.to_string()) };
    sample.item.text_raw = Some(raw.to_owned());
    sample
}

fn first_alarm(rows: impl Iterator<Item = Sample>) -> Option<Alarm> {
    let mut watch = Watch::new(&Config { after_rows: 50, window: 100, ..Config::default() });
    rows.into_iter().find_map(|sample| watch.count(&sample, &Stems::of(&Texts::of(&sample))))
}

fn distinct(row: usize) -> String {
    format!("thing{row} colour{row} place{row}")
}

#[test]
fn honest_rows_raise_nothing() {
    let rows = (0..500).map(|row| sample(row, &distinct(row), &distinct(row)));
    assert_eq!(first_alarm(rows), None);
}

#[test]
fn one_text_for_all_is_an_alarm_soon() {
    let rows = (0..500).map(|row| sample(row, &distinct(row), "A stop sign on a wall."));
    let alarm = first_alarm(rows).unwrap();
    assert_eq!((alarm.kind, alarm.rows, alarm.of), (Kind::Repeated, 50, 50));
    assert!(alarm.to_string().contains("A stop sign on a wall."), "{alarm}");
}

#[test]
fn what_begins_late_is_found_among_recent_rows() {
    let text = |row: usize| if row < 2000 { distinct(row) } else { "A stop sign.".to_owned() };
    let rows = (0..2200).map(|row| sample(row, &distinct(row), &text(row)));
    let alarm = first_alarm(rows).unwrap();
    assert!(alarm.is_recent && alarm.of == 100 && alarm.rows <= 31, "{alarm}");
}

#[test]
fn equal_titles_may_share_a_sentence_but_not_one_from_elsewhere() {
    let same = (0..500).map(|row| sample(row, "gramastar", "Gramastar, a star."));
    assert_eq!(first_alarm(same), None);
    let other = (0..500).map(|row| sample(row, "image", "A stop sign on a brick wall."));
    assert_eq!(first_alarm(other).unwrap().kind, Kind::Repeated);
}

#[test]
fn each_kind_has_its_limit() {
    type Change = fn(&mut Sample);
    let changes: [(Kind, Change); 5] = [
        (Kind::Refused, |s| s.audit.reasons.push("refusal".to_owned())),
        (Kind::Refused, |s| s.generated_refused = Some("model refused, twice".to_owned())),
        (Kind::Leaked, |s| s.audit.reasons.push("leaked_template".to_owned())),
        (Kind::NotTaken, |s| s.generated_refused = Some("500: oops".to_owned())),
        (Kind::WrongLanguage, |s| s.audit.reasons.push("wrong_language".to_owned())),
    ];
    for (kind, change) in changes {
        let rows = (0..200).map(|row| {
            let mut sample = sample(row, &distinct(row), &distinct(row));
            change(&mut sample);
            sample
        });
        assert_eq!(first_alarm(rows).unwrap().kind, kind);
    }
}

#[test]
fn texts_of_neighbours_are_an_alarm() {
    let rows = (0..500).map(|row| sample(row, &distinct(row), &distinct(row ^ 1)));
    let alarm = first_alarm(rows).unwrap();
    assert_eq!(alarm.kind, Kind::MixedUp);
    assert!(alarm.examples[0].text.contains("fits the picture of"), "{alarm}");
}
