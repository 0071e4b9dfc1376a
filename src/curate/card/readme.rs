//! The card itself: YAML for machines, Markdown for people. Words of the web are escaped.

use std::fmt::Write;

use serde_json::Value;
use serde_json::json;

use crate::curate::card::About;
use crate::curate::card::facts::Facts;
use crate::curate::card::features;
use crate::shard::Format;

/// ISO 639-3 codes and the shorter ones that the Hub prefers.
const SHORT: [(&str, &str); 12] = [
    ("eng", "en"),
    ("fra", "fr"),
    ("deu", "de"),
    ("spa", "es"),
    ("ita", "it"),
    ("por", "pt"),
    ("nld", "nl"),
    ("rus", "ru"),
    ("cmn", "zh"),
    ("jpn", "ja"),
    ("kor", "ko"),
    ("arb", "ar"),
];

pub(super) fn of(facts: &Facts, about: &About) -> String {
    let mut text = String::from("---\n");
    yaml(&front_matter(facts, about), 0, &mut text);
    text += "---\n\n";
    text += &body(facts);
    text
}

fn front_matter(facts: &Facts, about: &About) -> Value {
    let refined = facts.total(|marker| marker.refined);
    let bytes = facts.total(|marker| marker.part.bytes);
    let files: Vec<&str> = facts.markers.iter().map(|marker| &*marker.part.name).collect();
    let mut front = json!({"pretty_name": facts.name});
    if let Some(license) = license(facts, about) {
        front["license"] = license;
    }
    let languages = languages(facts);
    if !languages.is_empty() {
        front["language"] = languages.into();
    }
    front["size_categories"] = json!([size(refined)]);
    front["task_categories"] = json!(["image-to-text", "text-to-image"]);
    front["annotations_creators"] = json!(["machine-generated"]);
    front["tags"] = json!(["recaption", "image-text", "croissant"]);
    let split = json!({"name": "train", "num_bytes": bytes, "num_examples": refined});
    let mut info = json!({});
    // The reader of webdatasets makes its columns of the members, whatever a card says.
    if !facts.columns.is_empty() {
        info["features"] = features::hugging_face(&facts.columns).into();
    }
    info["splits"] = json!([split]);
    info["download_size"] = bytes.into();
    info["dataset_size"] = bytes.into();
    front["dataset_info"] = info;
    let data_files = json!([{"split": "train", "path": files}]);
    front["configs"] = json!([{"config_name": "default", "data_files": data_files}]);
    front
}

/// What was said, or what every row of a licence column says in the Hub's own words.
fn license(facts: &Facts, about: &About) -> Option<Value> {
    if let Some(license) = &about.license {
        return Some(license.clone().into());
    }
    let known = |text: &str| {
        let id = text.to_lowercase().replace([' ', '_'], "-");
        let is_known = ["cc0-", "cc-by-", "apache-2", "mit"].iter().any(|k| id.starts_with(k));
        is_known.then_some(id)
    };
    let rows: u64 = facts.licences.values().sum();
    let is_all = rows == facts.total(|marker| marker.refined);
    let ids: Option<Vec<String>> = facts.licences.keys().map(|text| known(text)).collect();
    match ids {
        Some(ids) if is_all && !ids.is_empty() => Some(ids.into()),
        _ if facts.licences.is_empty() => None,
        _ => Some("other".into()),
    }
}

/// Languages of at least one generated text in a hundred, the most frequent first.
pub(super) fn languages(facts: &Facts) -> Vec<String> {
    let counts = &facts.counts.languages;
    let all: u64 = counts.values().sum();
    let mut counts: Vec<(&String, &u64)> =
        counts.iter().filter(|(_, rows)| **rows * 100 >= all).collect();
    counts.sort_by(|a, b| b.1.cmp(a.1).then_with(|| a.0.cmp(b.0)));
    counts.iter().map(|(code, _)| short(code).to_owned()).collect()
}

fn short(code: &str) -> &str {
    SHORT.iter().find(|(long, _)| *long == code).map_or(code, |(_, short)| *short)
}

fn size(rows: u64) -> &'static str {
    match rows {
        0..1_000 => "n<1K",
        1_000..10_000 => "1K<n<10K",
        10_000..100_000 => "10K<n<100K",
        100_000..1_000_000 => "100K<n<1M",
        1_000_000..10_000_000 => "1M<n<10M",
        10_000_000..100_000_000 => "10M<n<100M",
        100_000_000..1_000_000_000 => "100M<n<1B",
        _ => "n>1B",
    }
}

/// Block style for objects and lists of objects; scalars as JSON, which is YAML.
fn yaml(value: &Value, depth: usize, out: &mut String) {
    let indent = " ".repeat(depth);
    for (name, value) in value.as_object().into_iter().flatten() {
        match value {
            Value::Object(_) => {
                *out += &format!("{indent}{name}:\n");
                yaml(value, depth + 2, out);
            }
            Value::Array(items) => {
                *out += &format!("{indent}{name}:\n");
                items.iter().for_each(|item| list_item(item, depth, out));
            }
            plain => *out += &format!("{indent}{name}: {plain}\n"),
        }
    }
}

fn list_item(item: &Value, depth: usize, out: &mut String) {
    let indent = " ".repeat(depth);
    if !item.is_object() {
        *out += &format!("{indent}- {item}\n");
        return;
    }
    let mut inner = String::new();
    yaml(item, depth + 2, &mut inner);
    *out += &format!("{indent}- {}", inner.trim_start());
}

fn body(facts: &Facts) -> String {
    let total = |of| facts.total(of);
    let (read, refined) = (total(|m| m.rows_read), total(|m| m.refined));
    let mut text = format!(
        "# {}\n\nPictures of the web, each with up to three texts: `text_raw` is what the web said, \
         `text_synthetic` is what a captioning model sees, `text_generated` is what a writer made of \
         both and of detection tags. Made by `recaption`. {refined} rows of {read} that were read; {} \
         were rejected.\n",
        escaped(&facts.name),
        total(|m| m.rejected)
    );
    models(facts, &mut text);
    indicators(facts, &mut text);
    review(facts, &mut text);
    counts(
        "Licences",
        "What the source says of each picture; nobody checked it.",
        facts.licences.iter().map(|(name, rows)| (name.clone(), *rows)),
        &mut text,
    );
    let mut reasons = std::collections::BTreeMap::<String, u64>::new();
    for (stage, reason, rows) in facts.markers.iter().flat_map(|m| m.rejects_by_stage()) {
        *reasons.entry(format!("{stage}: {reason}")).or_default() += rows;
    }
    counts("Rejected rows", "Why rows were left out.", reasons.into_iter(), &mut text);
    text += LIMITS;
    if facts.format() == Format::Webdataset {
        text += "\nThe shards are webdataset; the columns stand in the JSON member of each row.\n";
    }
    text.push('\n');
    text
}

const LIMITS: &str = "\n## Limits\n\n\
- Captions, tags and generated texts are made by models and can be wrong. The score is an estimate \
from words alone: it knows what no source says, not what the picture shows.\n\
- A word from nowhere need not be wrong, and a word with a source need not be right.\n\
- Raw texts, names and addresses come from the web as they were found. Persons may be named or shown.\n\
- Duplicates are looked for within a shard, not between shards.\n\
- Sizes in `dataset_info` are those of the files.\n";

fn models(facts: &Facts, text: &mut String) {
    let models = facts.models();
    if models.is_empty() {
        return;
    }
    *text += "\n## Models and prompts\n\n| role | model | SHA-256 |\n|---|---|---|\n";
    for [role, name, hash] in models {
        let cells = [role, name, hash].map(|cell| escaped(&cell));
        line(text, &cells);
    }
}

fn indicators(facts: &Facts, text: &mut String) {
    let (summary, counts) = (&facts.summary, &facts.counts);
    let of = |part: u64, whole: u64| format!("{part} of {whole} ({})", percent(part, whole));
    *text += "\n## Indicators\n\n| indicator | value |\n|---|---|\n";
    line(
        text,
        &["mean score, 0 to 1".to_owned(), format!("{:.3}", summary.score.mean.unwrap_or(0.0))],
    );
    line(text, &["rows with a generated text".to_owned(), of(counts.texts, summary.rows)]);
    if counts.by_people > 0 {
        line(text, &["texts that people wrote".to_owned(), of(counts.by_people, counts.texts)]);
    }
    for (name, [words, nowhere, texts]) in
        ["objects", "attributes", "numbers", "names"].iter().zip(counts.kinds)
    {
        line(text, &[format!("{name} without a source"), of(nowhere, words)]);
        line(text, &[format!("texts with such {name}"), of(texts, counts.texts)]);
    }
    let known = counts.kept + counts.lost;
    line(text, &["names and numbers of raw texts kept".to_owned(), of(counts.kept, known)]);
    if counts.with_novelty > 0 {
        let novelty = counts.novelty / counts.with_novelty as f64;
        line(text, &["mean share of new pairs of words".to_owned(), format!("{novelty:.3}")]);
    }
    line(text, &["texts that CLIP cuts at 77 tokens".to_owned(), of(counts.cut, counts.texts)]);
    *text += "\nObjects without a source among all objects are CHAIR_i, texts with such an object \
              CHAIR_s, with open words and the sources in place of labelled objects.\n";
    let flags = summary.flags.iter().map(|flag| (flag.text.clone(), flag.rows));
    self::counts("Flags", "Rows by flag of the audit.", flags, text);
}

fn review(facts: &Facts, text: &mut String) {
    let Some(statistics) = &facts.review else {
        *text += "\n## Review\n\nNobody has judged rows of this data set yet.\n";
        if let Some(heard @ 1..) = facts.run["counts"]["verdicts"].as_u64() {
            *text +=
                &format!("It was selected from another one by verdicts of people ({heard}).\n");
        }
        return;
    };
    *text += &format!(
        "\n## Review\n\n{} verdicts of people on {} rows, with Wilson's 95 % intervals.\n\n\
         | verdict | rows | interval |\n|---|---|---|\n",
        statistics.verdicts, statistics.rows
    );
    let rates = [("not ok", &statistics.wrong), ("hallucinated", &statistics.hallucinated)];
    for (name, rate) in rates {
        let interval = format!("{:.1} to {:.1} %", rate.low * 100.0, rate.high * 100.0);
        line(text, &[name.to_owned(), format!("{} of {}", rate.part, rate.whole), interval]);
    }
}

fn counts(heading: &str, note: &str, rows: impl Iterator<Item = (String, u64)>, out: &mut String) {
    let mut rows = rows.peekable();
    if rows.peek().is_none() {
        return;
    }
    *out += &format!("\n## {heading}\n\n{note}\n\n| what | rows |\n|---|---:|\n");
    rows.for_each(|(name, rows)| line(out, &[escaped(&name), rows.to_string()]));
}

fn line(out: &mut String, cells: &[String]) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "| {} |", cells.join(" | "));
}

fn percent(part: u64, whole: u64) -> String {
    format!("{:.1} %", part as f64 / whole.max(1) as f64 * 100.0)
}

/// Somebody's text is no Markdown and no HTML.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '|' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '#' | '&' => {
                out.extend(['\\', c]);
            }
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_is_in_blocks_and_its_texts_are_quoted() {
        let mut out = String::new();
        let value = json!({"a": "x: \"y\"\n", "b": [{"name": "n", "list": [{"k": 1}]}, "s"]});
        yaml(&value, 0, &mut out);
        let wanted = "a: \"x: \\\"y\\\"\\n\"\nb:\n- name: \"n\"\n  list:\n  - k: 1\n- \"s\"\n";
        assert_eq!(out, wanted);
    }

    #[test]
    fn sizes_are_those_of_the_hub() {
        assert_eq!([0, 999, 1_000, 2_000_000].map(size), ["n<1K", "n<1K", "1K<n<10K", "1M<n<10M"]);
    }
}
