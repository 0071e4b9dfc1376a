//! The interface, boxes in percent, and what an annotation says.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use serde_json::Value;
use serde_json::json;

use super::*;
use crate::atomic_file;
use crate::review::Line;
use crate::review::label_studio::config::can_be_shown;
use crate::review::label_studio::config::interface;
use crate::review::label_studio::import::Region;
use crate::review::label_studio::import::Whose;
use crate::review::label_studio::import::edited;
use crate::review::label_studio::import::news;
use crate::review::label_studio::import::seconds;
use crate::review::label_studio::import::verdict;
use crate::review::label_studio::task::percents;
use crate::review::label_studio::task::tags;
use crate::sample::Tag;

#[test]
fn the_interface_has_a_choice_a_text_and_the_labels() {
    let labels = BTreeSet::from(["cat".to_owned(), "a \"b\" & <c>".to_owned()]);
    let expected = r##"<View style="display: flex; gap: 1em">
  <View style="flex: 1 1 50%">
    <Image name="picture" value="$image" zoom="true"/>
    <RectangleLabels name="boxes" toName="picture">
      <Label value="a &quot;b&quot; &amp; &lt;c&gt;"/>
      <Label value="cat"/>
    </RectangleLabels>
  </View>
  <View style="flex: 1 1 50%">
    <Header value="What the web said" size="5"/>
    <Text name="text_raw" value="$text_raw"/>
    <Header value="What a captioning model sees" size="5"/>
    <Text name="text_synthetic" value="$text_synthetic"/>
    <Header value="Tags" size="5"/>
    <Text name="tags" value="$tags"/>
    <Header value="The text to judge" size="5"/>
    <Text name="text_generated" value="$text_generated"/>
    <Choices name="verdict" toName="picture" choice="single-radio" required="true" showInline="true">
      <Choice value="ok" hotkey="1"/>
      <Choice value="minor" hotkey="2"/>
      <Choice value="hallucinated" hotkey="3"/>
      <Choice value="wrong image" hotkey="4"/>
      <Choice value="unusable" hotkey="5"/>
    </Choices>
    <Header value="Change it where it should say something else" size="5"/>
    <TextArea name="edited" toName="picture" value="$text_generated" rows="3" maxSubmissions="1" editable="true" showSubmitButton="false"/>
  </View>
</View>
"##;
    assert_eq!(interface(&labels), expected);
    assert!(!interface(&BTreeSet::new()).contains("RectangleLabels"));
    for label in ["", " ", "$image", "a\u{0}b", "a\nb"] {
        assert!(!can_be_shown(label), "{label:?}");
    }
    assert!(can_be_shown("5 $ bill") && can_be_shown("K\u{e4}se \u{1f9c0}"));
}

fn tag(label: &str, score: f32) -> Tag {
    Tag { label: label.to_owned(), score, bbox: None, model: "m".into() }
}

#[test]
fn boxes_are_percents_within_the_picture() {
    for (sides, expected) in [
        ([10.0, 20.0, 60.0, 40.0], Some([5.0, 20.0, 25.0, 20.0])),
        ([-10.0, 0.0, 300.0, 100.0], Some([0.0, 0.0, 100.0, 100.0])),
        ([1.0, 1.0, 2.0, 4.0], Some([0.5, 1.0, 0.5, 3.0])),
        ([60.0, 20.0, 10.0, 40.0], None),
        ([250.0, 0.0, 260.0, 10.0], None),
        ([f32::NAN, 0.0, 10.0, 10.0], None),
    ] {
        let value = percents(sides, [200, 100], &tag("cat", 1.0));
        let value = value.map(|value| serde_json::to_value(value).unwrap());
        let sides = value.as_ref().map(|value| ["x", "y", "width", "height"].map(|s| &value[s]));
        let sides = sides.map(|sides| sides.map(|side| side.as_f64().unwrap()));
        assert_eq!(sides, expected);
        assert!(value.is_none_or(|value| value["rectanglelabels"] == json!(["cat"])));
    }
    assert!(percents([0.0; 4], [0, 0], &tag("cat", 1.0)).is_none());
}

#[test]
fn tags_come_once_with_their_best_score() {
    let all = [tag("cat", 0.25), tag("dog", 0.5), tag("cat", 0.875)];
    assert_eq!(tags(&all), "cat 0.88, dog 0.50");
    assert_eq!(tags(&[]), "");
}

fn region(control: &str, value: Value) -> Region {
    Region { from_name: Some(control.to_owned()), value }
}

#[test]
fn a_verdict_is_one_choice_by_either_name() {
    for (word, expected) in [
        ("ok", Verdict::Ok),
        ("wrong image", Verdict::WrongImage),
        ("wrong_image", Verdict::WrongImage),
    ] {
        let said = verdict(&[region("verdict", json!({ "choices": [word] }))]).unwrap();
        assert_eq!(said, Some(expected));
    }
    let boxed = || region("boxes", json!({ "rectanglelabels": ["ok"] }));
    let relation = Region { from_name: None, value: Value::Null };
    assert_eq!(verdict(&[boxed(), relation]).unwrap(), None);
    for (value, words) in [
        (json!({ "choices": ["fine"] }), "\"fine\" is no verdict; there are ok, minor"),
        (json!({ "choices": ["ok", "minor"] }), "it has several verdicts: ok, minor"),
        (json!({ "choices": [3] }), "verdict has no list of choices, but [3]"),
        (json!({}), "verdict has no list of choices, but null"),
    ] {
        let error = format!("{:#}", verdict(&[boxed(), region("verdict", value)]).unwrap_err());
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn the_text_that_differs_is_the_edited_one_wherever_it_stands() {
    let old = atomic_file::sha256(b"A dog.");
    for (texts, expected) in [
        (json!(["A dog."]), None),
        (json!([" A dog. "]), None),
        (json!(["A cat."]), Some("A cat.")),
        (json!("A cat.\n"), Some("A cat.")),
        (json!(["A cat.", "A dog."]), Some("A cat.")),
        (json!(["A dog.", "A cat."]), Some("A cat.")),
        (json!(["A cow.", "A cat.", ""]), Some("A cat.")),
        (json!([]), None),
    ] {
        let found = edited(&[region("edited", json!({ "text": texts }))], &old).unwrap();
        assert_eq!(found.as_deref(), expected, "{texts}");
    }
    assert_eq!(edited(&[], &old).unwrap(), None);
}

#[test]
fn only_what_the_log_does_not_say_or_said_earlier_is_new() {
    let line = |verdict, at| Line {
        key: "k".to_owned(),
        shard: 1,
        verdict,
        text: None,
        text_sha256: "0".to_owned(),
        reviewer: "ann".to_owned(),
        at,
    };
    let (ok, bad) = (Some(Verdict::Ok), Some(Verdict::Unusable));
    let new = line(ok, 10);
    let whose: Whose = (1, "k".to_owned(), "ann".to_owned());
    let of = |log: &[Line]| news(BTreeMap::from([(whose.clone(), new.clone())]), log).len();
    assert_eq!(of(&[]), 1);
    assert_eq!(of(&[line(ok, 5)]), 0);
    assert_eq!(of(&[line(bad, 5)]), 1);
    assert_eq!(of(&[line(ok, 5), line(bad, 6)]), 1);
    // Said or taken back since.
    assert_eq!(of(&[line(ok, 10), line(bad, 20)]), 0);
    assert_eq!(of(&[line(ok, 10), line(None, 20)]), 0);
    let other = Line { reviewer: "ben".to_owned(), ..line(ok, 20) };
    assert_eq!(of(&[other]), 1);
}

#[test]
fn times_are_seconds_since_1970() {
    assert_eq!(seconds("1970-01-02T00:00:00Z").unwrap(), 86_400);
    assert_eq!(seconds("2021-03-09T22:16:08.728353Z").unwrap(), 1_615_328_168);
    assert_eq!(seconds("2021-03-10T00:16:08+02:00").unwrap(), 1_615_328_168);
    assert!(format!("{:#}", seconds("yesterday").unwrap_err()).contains("yesterday"));
}
