//! The instruction set of a real run, from a scripted teacher.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use recaption::instruct::Record;
use serde_json::Value;

use crate::describe::Act;
use crate::describe::Server;
use crate::describe::completion;
use crate::describe::last_message;
use crate::describe::status;
use crate::refine::demo;
use crate::refine::samples;
use crate::refine::succeeded;

fn instruct(run: &Path, output: &Path, base_url: &str, min_tags: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_recaption"));
    command.arg("instruct").arg(run).arg("-o").arg(output);
    command.args(["--rows", "40", "--min-tags", min_tags, "--validation", "0.2"]);
    command.args(["--llm", "teacher", "--base-url", base_url]);
    command
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Says what the notes say, but of every fifth row a lie.
fn teacher(number: usize, body: &str) -> Act {
    if number == usize::MAX {
        return status(404, "", "no list");
    }
    let message = last_message(body);
    let note = |name: &str| message.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("");
    match number % 5 {
        4 => completion("Seven purple elephants juggle umbrellas beside a volcano in Peru."),
        _ => completion(&format!("A drawing of {} with {}.", note("raw: "), note("caption: "))),
    }
}

#[test]
fn rows_with_many_tags_become_lessons_that_the_audit_trusts() {
    let dir = tempfile::tempdir().unwrap();
    let (run, set) = (dir.path().join("run"), dir.path().join("set"));
    succeeded(&demo(&run).output().unwrap());
    let server = Server::start(teacher);
    let said = succeeded(&instruct(&run, &set, &server.base_url, "2").output().unwrap());
    assert!(said.contains("pairs to train on"), "{said}");
    let record: Record =
        serde_json::from_slice(&fs::read(set.join("instruct.json")).unwrap()).unwrap();
    let pairs = record.train + record.validation;
    assert!(record.asked <= 40 && pairs >= 10 && record.mean_score > 0.6, "{record:?}");
    assert_eq!(pairs + record.left_out.values().sum::<u64>(), record.asked);
    assert!(!record.left_out.is_empty(), "lies must not be taught");

    let (train, validation) =
        (lines(&set.join("train.sharegpt.jsonl")), lines(&set.join("validation.sharegpt.jsonl")));
    assert_eq!((train.len() as u64, validation.len() as u64), (record.train, record.validation));
    let keys: BTreeSet<&str> =
        train.iter().chain(&validation).map(|line| line["id"].as_str().unwrap()).collect();
    assert_eq!(keys.len() as u64, pairs);
    let text = fs::read_to_string(set.join("train.sharegpt.jsonl")).unwrap();
    assert!(!text.contains("purple elephants"));
    let turn = &train[0]["conversations"];
    assert_eq!((&turn[0]["from"], &turn[1]["from"]), (&"human".into(), &"gpt".into()));
    assert!(turn[0]["value"].as_str().unwrap().contains("tags: "));
    assert!(train[0]["system"].as_str().unwrap().contains("plain English sentence"));
    for (one, other) in train.iter().zip(lines(&set.join("train.alpaca.jsonl"))) {
        assert_eq!((&one["id"], &one["system"]), (&other["id"], &other["system"]));
        assert_eq!(one["conversations"][0]["value"], other["instruction"]);
        assert_eq!(one["conversations"][1]["value"], other["output"]);
    }
    let info: Value =
        serde_json::from_slice(&fs::read(set.join("dataset_info.json")).unwrap()).unwrap();
    for entry in info.as_object().unwrap().values() {
        assert!(set.join(entry["file_name"].as_str().unwrap()).is_file());
    }
    let card = fs::read_to_string(set.join("README.md")).unwrap();
    assert!(card.contains("teacher") && card.contains("## Limits"), "{card}");

    // Those with the most tags were chosen, and the same command asks nothing again.
    let tags = |key: &str| {
        let all = samples(&run);
        let row = all.iter().find(|sample| sample.item.key == key).unwrap();
        row.tags.iter().map(|tag| tag.label.clone()).collect::<BTreeSet<_>>().len() as u64
    };
    assert!(keys.iter().all(|key| tags(key) >= record.fewest_tags));
    let asked = server.count();
    succeeded(&instruct(&run, &set, &server.base_url, "2").output().unwrap());
    assert_eq!(server.count(), asked);
    assert_eq!(fs::read_to_string(set.join("train.sharegpt.jsonl")).unwrap(), text);

    let none = instruct(&run, &set, &server.base_url, "99").output().unwrap();
    let said = String::from_utf8_lossy(&none.stderr);
    assert!(!none.status.success() && said.contains("lower --min-tags"), "{said}");
}
