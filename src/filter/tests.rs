use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::sample::Extra;
use crate::sample::Picture;
use crate::sample::Reason;

fn item(text: Option<&str>, extra: Value) -> Item {
    let Value::Object(mut extra) = extra else { panic!("an object") };
    // Absent means null.
    extra = extra.into_iter().filter(|(_, value)| !value.is_null()).collect::<Extra>();
    Item {
        key: "row7".to_owned(),
        picture: Picture::Absent { reason: Reason::ImageNull, detail: String::new() },
        url: None,
        text_raw: text.map(str::to_owned),
        extra,
    }
}

fn keeps(filter: &str, item: &Item) -> bool {
    Filter::parse(filter).unwrap().keeps(item).unwrap()
}

fn error(result: Result<impl Sized>) -> String {
    format!("{:#}", result.err().expect("an error"))
}

#[test]
fn expressions_pick_rows_by_their_columns() {
    let row = item(
        Some("A red (or blue) star"),
        json!({"audit": {"score": 0.8, "reasons": ["email"]}, "split": "train", "width": 128,
               "punsafe": 0.1}),
    );
    for (filter, expected) in [
        ("audit.score > 0.6", true),
        ("audit.score > 0.9", false),
        ("split == 'train'", true),
        ("'gramastar' not in text_raw", true),
        ("'red (or' in text_raw", true),
        ("width >= 128 and punsafe < 0.2", true),
        ("width >= 128 and not punsafe < 0.2", false),
        ("(split == 'test' or width == 128) and key == 'row7'", true),
        ("split in ('train', 'val')", true),
        ("not (split in ['train'])", false),
        ("split in ['and', 'or not']", false),
        ("'email' not in audit.reasons", false),
        ("text_raw|lower|length > 100", false),
        ("(width + 2) * 2 == 260", true),
        ("width / 2 > 60", true),
        ("0.5 < audit.score < 0.9", true),
        ("split|upper == \"TRAIN\"", true),
        ("audit['score'] > 0.6", true),
    ] {
        assert_eq!(keeps(filter, &row), expected, "{filter}");
    }
}

#[test]
fn a_comparison_with_null_keeps_no_row() {
    let row = item(
        None,
        json!({"split": "train", "punsafe": null, "audit": {"score": null}, "ratio": "NaN"}),
    );
    for (filter, expected) in [
        ("punsafe < 0.2", false),
        ("punsafe > 0.2", false),
        ("punsafe != 3", false),
        ("punsafe == punsafe", false),
        ("not punsafe < 0.2", false),
        ("not (punsafe < 0.2 and split == 'train')", false),
        ("not (punsafe < 0.2 and split == 'test')", true),
        ("punsafe < 0.2 or split == 'train'", true),
        ("audit.score < 1", false),
        ("'star' not in text_raw", false),
        ("text_raw", false),
        ("punsafe is none", true),
        ("punsafe is not none", false),
        ("punsafe is none or punsafe < 0.2", true),
        ("punsafe is none and split == 'test' or punsafe < 0.2", false),
        ("punsafe|default(0, true) < 0.2", true),
        ("text_raw is none", true),
        ("audit.score is none", true),
        ("ratio > 0 or ratio < 0 or ratio != 0", false),
    ] {
        assert_eq!(keeps(filter, &row), expected, "{filter}");
    }
}

#[test]
fn names_are_held_to_the_columns_of_a_dataset() {
    let column = |name: &str, data_type: Value| ExtraColumn { name: name.to_owned(), data_type };
    let audit = json!({"struct": [{"name": "score", "type": "Float32"}]});
    let columns = [column("split", json!("Utf8")), column("audit", audit)];
    let names = || Names { text: Some("caption".to_owned()), ..Names::default() };
    let over = |filter: &str| Filter::parse(filter).unwrap().over(names(), &columns);
    let filter = over("caption == 'a' and audit.score > 0 and key != 'b' and text_raw == 'a'");
    let filter = filter.unwrap();
    assert_eq!(
        filter.columns().iter().collect::<Vec<_>>(),
        ["audit", "caption", "key", "text_raw"]
    );
    assert!(filter.keeps(&item(Some("a"), json!({"audit": {"score": 1}}))).unwrap());

    let said = error(over("splt == 'train'"));
    assert!(said.contains("splt == 'train'"), "{said}");
    assert!(said.contains("no column splt; there are key, url, text_raw, caption, split, audit"));
    assert!(error(over("audit.scores > 1")).contains("audit has no field scores; it has score"));
    assert!(error(over("text_raw.lower() == 'a'")).contains("column text_raw has no fields"));
    assert!(error(over("split.x > 1")).contains("column split has no fields"));
}

#[test]
fn what_cannot_be_meant_is_an_error_that_names_the_expression() {
    for (filter, words) in [
        ("audit.score >", "audit.score >"),
        ("(split == 'train'", "bracket is not closed"),
        ("split == 'train')", "was not opened"),
        ("split == 'train' and", "something is missing"),
        ("'train'", "reads no column"),
        ("", "something is missing"),
        (&"(".repeat(9_999), "bracket"),
        (&format!("{}x{}", "(".repeat(999), ")".repeat(999)), "deep"),
    ] {
        let said = error(Filter::parse(filter));
        assert!(said.contains(words), "{filter}: {said}");
    }
    let row = item(None, json!({"width": "128", "count": 3}));
    let said = |filter: &str| error(Filter::parse(filter).unwrap().keeps(&row));
    assert!(said("width > 100").contains("width|float"), "{}", said("width > 100"));
    assert!(said("width > 100").contains("row7"));
    assert!(said("count == '3'").contains("quotes"), "{}", said("count == '3'"));
    assert!(keeps("width|float > 100", &row));
    assert!(said("('a' * 999999999)|length > count").contains("fuel"));
}

/// The truth tables of SQL, as a table and not as a program.
#[test]
fn three_truths_are_those_of_sql() {
    let (t, f, n) = (Some(true), Some(false), None);
    let and = [(t, t, t), (t, f, f), (t, n, n), (f, f, f), (f, n, f), (n, n, n)];
    let or = [(t, t, t), (t, f, t), (t, n, t), (f, f, f), (f, n, n), (n, n, n)];
    let truth = |word: &str, a, b| {
        let tree = logic::parse(&format!("a {word} b"), &mut |leaf| Ok(leaf.to_owned())).unwrap();
        tree.truth(&mut |leaf| Ok(if leaf == "a" { a } else { b })).unwrap()
    };
    for (word, table) in [("and", and), ("or", or)] {
        for (a, b, expected) in table {
            assert_eq!(truth(word, a, b), expected, "{a:?} {word} {b:?}");
            assert_eq!(truth(word, b, a), expected, "{b:?} {word} {a:?}");
        }
    }
}

/// An expression and what Python would make of it, built side by side.
fn expression() -> impl Strategy<Value = (String, bool)> {
    let leaf = (0i64..4, 0i64..4).prop_map(|(a, b)| match a % 2 {
        0 => (format!("n + {a} > {b}"), 1 + a > b),
        _ => (format!("'or' != s and n < {b}"), 1 < b),
    });
    leaf.prop_recursive(4, 24, 2, |part| {
        prop_oneof![
            (part.clone(), part.clone())
                .prop_map(|((a, x), (b, y))| (format!("({a}) and ({b})"), x && y)),
            (part.clone(), part.clone())
                .prop_map(|((a, x), (b, y))| (format!("({a}) or ({b})"), x || y)),
            part.prop_map(|(a, x)| (format!("not ({a})"), !x)),
        ]
    })
}

proptest! {
    #[test]
    fn without_nulls_it_is_plain_jinja((text, expected) in expression()) {
        let row = item(None, json!({"n": 1, "s": "and"}));
        prop_assert_eq!(keeps(&text, &row), expected, "{}", text);
        let twin = JINJA.compile_expression_owned(text.clone()).unwrap();
        let twin = twin.eval(minijinja::context! { n => 1, s => "and" }).unwrap();
        prop_assert_eq!(twin.is_true(), expected, "{}", text);
    }

    #[test]
    fn no_text_is_a_panic(text in "[a-c .'\"()\\[\\]|<>=,&\\\\é]{0,24}|((a|and|or|not|is none|in|\\(|\\)|'x') ){0,9}") {
        if let Ok(filter) = Filter::parse(&text) {
            let _ = filter.keeps(&item(None, json!({"a": 1})));
        }
    }
}
