//! Which rows a line names, and that no list is too odd to be read or refused by a message.

use proptest::prelude::*;

use super::*;
use crate::sample::testing::sample;

const SHA256: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

fn row(key: &str, url: Option<&str>) -> Sample {
    let mut sample = Sample { sha256: SHA256.to_owned(), ..sample(key) };
    sample.item.url = url.map(str::to_owned);
    sample
}

fn read(list: impl AsRef<[u8]>) -> Result<OptOut> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("list.txt");
    std::fs::write(&path, list).unwrap();
    OptOut::read(&[path])
}

#[test]
fn a_line_names_rows_by_key_url_prefix_domain_or_hash() {
    let url = "https://img.Example.com/a/cat.jpg?w=1";
    let upper = SHA256.to_uppercase();
    let by_hash = format!("sha256:{upper}");
    for (line, is_named) in [
        ("000123", true),
        ("key:000123", true),
        ("key: 000123", true),
        ("00012", false),
        ("0001234", false),
        (url, true),
        ("https://img.Example.com/a/cat.jpg", false),
        ("url:https://img.Example.com/a/cat.jpg?w=1", true),
        ("url:000123", false),
        ("key:https://img.Example.com/a/cat.jpg?w=1", false),
        ("prefix:https://img.Example.com/a/", true),
        ("prefix:https://img.Example.com/b/", false),
        ("domain:example.com", true),
        ("domain:*.EXAMPLE.com.", true),
        ("domain:img.example.com", true),
        ("domain:mg.example.com", false),
        ("domain:ample.com", false),
        ("domain:a.img.example.com", false),
        ("domain:com", true),
        (&by_hash, true),
        ("# 000123", false),
    ] {
        let named = read(line).unwrap().matches(&row("000123", Some(url)));
        assert_eq!(!named.is_empty(), is_named, "{line}");
    }
}

#[test]
fn domains_are_compared_as_urls_spell_them() {
    let list = read("domain:b\u{fc}cher.example\ndomain:[::1]\ndomain:10.0.0.1").unwrap();
    for (url, line) in [
        ("http://xn--bcher-kva.example/1", Some(0)),
        ("http://www.B\u{dc}CHER.example:8080/1", Some(0)),
        ("http://[::1]/1", Some(1)),
        ("http://10.0.0.1/1", Some(2)),
        ("http://9.10.0.0.1/1", None),
        ("not a url", None),
    ] {
        let found = list.matches(&row("k", Some(url)));
        assert_eq!(found, line.into_iter().collect::<Vec<usize>>(), "{url}");
    }
    assert!(list.matches(&row("k", None)).is_empty());
}

#[test]
fn what_cannot_be_meant_is_an_error_with_its_line() {
    for (list, words) in [
        ("a\n\n#\ndomain:", "list.txt:4: nothing stands after domain:"),
        ("sha256:12ab", "list.txt:1: \"12ab\" is no SHA-256"),
        ("domain:example.com/private", "list.txt:1: \"example.com/private\" is no domain"),
        ("domain:https://example.com", "is no domain"),
        ("domain:example.com:8080", "is no domain"),
        ("domain:ann@example.com", "is no domain"),
        ("domain:*.", "is no domain"),
    ] {
        let error = format!("{:#}", read(list).unwrap_err());
        assert!(error.contains(words), "{words:?} is not in {error}");
    }
    let error = format!("{:#}", OptOut::read(&["no/such/list".into()]).unwrap_err());
    assert!(error.contains("cannot read the list of opt-outs no/such/list"), "{error}");
    assert!(format!("{:#}", read(b"a\n\xff\n").unwrap_err()).contains("list.txt"));
}

#[test]
fn a_line_that_comes_twice_counts_once_and_each_is_known_by_its_place() {
    let list = "\u{feff}one\r\n  one \nprefix:http://a/\nprefix:http://a/\nkey:two\ntwo\n";
    let list = read(list).unwrap();
    assert_eq!(list.lines(), ["one", "prefix:http://a/", "key:two", "two"]);
    assert_eq!(list.matches(&row("one", Some("http://a/1"))), [0, 1]);
    assert_eq!(list.matches(&row("two", Some("two"))), [2, 3]);
}

proptest! {
    /// What a line names it names among any others, and nothing panics.
    #[test]
    fn any_list_is_read_or_refused(lines in prop::collection::vec("\\PC{0,20}|(key|url|prefix|domain|sha256):\\PC{0,12}", 0..12)) {
        let Ok(list) = read(lines.join("\n")) else { return Ok(()) };
        prop_assert!(list.lines().len() <= lines.len());
        let rows = list.lines().iter().map(|line| row(line, Some(line)));
        let named: Vec<Vec<usize>> = rows.map(|row| list.matches(&row)).collect();
        prop_assert!(named.iter().flatten().all(|line| *line < list.lines().len()));
        // A bare line names the row that has it for a key.
        let kinds = ["key:", "url:", "prefix:", "domain:", "sha256:"];
        for (place, line) in list.lines().iter().enumerate() {
            let is_bare = !kinds.iter().any(|kind| line.starts_with(kind));
            prop_assert!(!is_bare || named[place].contains(&place), "{}", line);
        }
    }

    #[test]
    fn a_key_is_named_by_its_line_and_no_other_is(key in "[a-z0-9/_. -]{1,30}", other in "[a-z0-9/_. -]{1,30}") {
        let key = key.trim().to_owned();
        prop_assume!(!key.is_empty() && key != other);
        let list = read(format!("key:{key}\n")).unwrap();
        prop_assert_eq!(list.matches(&row(&key, None)), vec![0]);
        prop_assert!(list.matches(&row(&other, Some(&key))).is_empty());
    }
}
