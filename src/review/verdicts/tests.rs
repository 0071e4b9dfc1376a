//! The log under any sequence of verdicts, undos, crashes and writers.

use std::fs;
use std::io::Write;
use std::thread;

use proptest::prelude::*;

use super::*;

fn line(key: &str, verdict: Option<Verdict>, reviewer: &str) -> Line {
    Line {
        key: key.to_owned(),
        shard: 0,
        verdict,
        text: None,
        text_sha256: atomic_file::sha256(b"A dog."),
        reviewer: reviewer.to_owned(),
        at: 1,
    }
}

proptest! {
    #[test]
    fn a_torn_line_is_passed_over_and_not_glued(whole in 0_usize..4, cut in 0_usize..10_000) {
        let dir = tempfile::tempdir().unwrap();
        let said = line("k\u{e9}y \u{1f600}", Some(Verdict::Minor), "ann");
        let mut log = Log::open(dir.path()).unwrap();
        for _ in 0..whole {
            log.append(std::slice::from_ref(&said)).unwrap();
        }
        let torn = serde_json::to_vec(&said).unwrap();
        let torn = &torn[..cut % torn.len()];
        let path = dir.path().join(LOG);
        OpenOptions::new().append(true).open(&path).unwrap().write_all(torn).unwrap();
        prop_assert_eq!(read(&path).unwrap().len(), whole);
        prop_assert_eq!(log.news().unwrap().len(), whole);
        let mut other = Log::open(dir.path()).unwrap();
        let next = line("next", Some(Verdict::Ok), "ben");
        other.append(std::slice::from_ref(&next)).unwrap();
        prop_assert_eq!(log.news().unwrap(), vec![next.clone()]);
        let all = read(&path).unwrap();
        prop_assert_eq!((all.len(), all.last()), (whole + 1, Some(&next)));
    }
}

#[test]
fn what_is_no_verdict_is_an_error_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.jsonl");
    let good = serde_json::to_string(&line("a", None, "ann")).unwrap();
    for bad in ["{\"a\": 1}", "[]", "word", "{\"key\": \"a\"} more"] {
        fs::write(&path, format!("{good}\n\n{bad}\n{good}\n")).unwrap();
        let error = format!("{:#}", read(&path).unwrap_err());
        assert!(error.contains("log.jsonl:3 is not a verdict"), "{error}");
    }
    let later = good.replace("null", "\"splendid\"");
    fs::write(&path, later).unwrap();
    assert!(format!("{:#}", read(&path).unwrap_err()).contains("splendid"));
}

#[test]
fn many_writers_at_once_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    thread::scope(|scope| {
        for writer in 0..4 {
            let run = dir.path();
            scope.spawn(move || {
                let mut log = Log::open(run).unwrap();
                for row in 0..50 {
                    let said = line(&format!("{row}"), Some(Verdict::Ok), &format!("w{writer}"));
                    log.append(&[said]).unwrap();
                }
            });
        }
    });
    let path = dir.path().join(LOG);
    assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 200);
    assert_eq!(latest(read(&path).unwrap()).len(), 200);
}

#[test]
fn a_log_that_is_not_there_is_empty_and_names_are_plain() {
    assert!(read(Path::new("no/such/log")).unwrap().is_empty());
    assert!(ensure_name("Ann B.").is_ok());
    for name in ["", "  ", "a\nb", &"x".repeat(200)] {
        assert!(ensure_name(name).is_err(), "{name:?}");
    }
}

#[test]
fn a_verdict_is_about_one_text() {
    let said = line("a", Some(Verdict::Ok), "ann");
    assert!(said.is_about("A dog.") && !said.is_about("A cat."));
}
