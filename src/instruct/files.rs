//! The pairs as files: ShareGPT and Alpaca, as LLaMA-Factory reads them, with a card.

use std::io::Write;
use std::path::Path;

use anyhow::Result;
use serde_json::Value;
use serde_json::json;

use crate::atomic_file;
use crate::atomic_file::AtomicFile;
use crate::atomic_file::sha256;
use crate::instruct::Pair;
use crate::instruct::Record;
use crate::instruct::Wish;

/// Pairs to train on, and to validate on. Which one a pair is comes from its raw text, so that no picture of
/// a page is on one side while its twin is on the other.
pub(super) fn split<'a>(pairs: &'a [Pair], wish: &Wish) -> (Vec<&'a Pair>, Vec<&'a Pair>) {
    let is_train = |pair: &&Pair| {
        let hash = sha256(format!("validation {} {}", wish.seed, pair.raw).as_bytes());
        let number = u32::from_str_radix(&hash[..8], 16).unwrap_or_default();
        f64::from(number) / f64::from(u32::MAX) >= wish.validation
    };
    pairs.iter().partition(is_train)
}

/// Writes every file; each appears whole.
pub(super) fn write(
    output: &Path,
    train: &[&Pair],
    validation: &[&Pair],
    record: &Record,
) -> Result<()> {
    std::fs::create_dir_all(output)?;
    let mut info = serde_json::Map::new();
    for (part, pairs) in [("train", train), ("validation", validation)] {
        for (form, line) in [("sharegpt", sharegpt as fn(&Pair) -> Value), ("alpaca", alpaca)] {
            let name = format!("{part}.{form}.jsonl");
            let mut file = AtomicFile::open(&output.join(&name))?;
            for pair in pairs {
                serde_json::to_writer(&mut file, &line(pair))?;
                file.write_all(b"\n")?;
            }
            file.publish()?;
            info.insert(format!("recaption_{part}_{form}"), described(form, &name));
        }
    }
    let json = |value: &Value| serde_json::to_vec_pretty(value);
    atomic_file::write(&output.join("dataset_info.json"), &json(&Value::Object(info))?)?;
    atomic_file::write(&output.join("README.md"), card(record).as_bytes())?;
    atomic_file::write(&output.join("instruct.json"), &serde_json::to_vec_pretty(record)?)?;
    Ok(())
}

fn sharegpt(pair: &Pair) -> Value {
    json!({
        "id": pair.key,
        "system": pair.system,
        "conversations": [
            { "from": "human", "value": pair.user },
            { "from": "gpt", "value": pair.answer },
        ],
    })
}

fn alpaca(pair: &Pair) -> Value {
    json!({
        "id": pair.key,
        "system": pair.system,
        "instruction": pair.user,
        "input": "",
        "output": pair.answer,
    })
}

/// An entry of LLaMA-Factory's `dataset_info.json`.
fn described(form: &str, name: &str) -> Value {
    match form {
        "sharegpt" => json!({
            "file_name": name,
            "formatting": "sharegpt",
            "columns": { "messages": "conversations", "system": "system" },
        }),
        _ => json!({
            "file_name": name,
            "formatting": "alpaca",
            "columns": {
                "prompt": "instruction", "query": "input", "response": "output", "system": "system",
            },
        }),
    }
}

fn card(record: &Record) -> String {
    let Record { wish, rows, eligible, asked, fewest_tags, train, validation, .. } = record;
    let teacher = record.teacher["model"]["parameters"]["model"].as_str().unwrap_or("unknown");
    let prompt = record.teacher["prompt"].as_str().unwrap_or_default();
    let left_out: String =
        record.left_out.iter().map(|(why, rows)| format!("| {why} | {rows} |\n")).collect();
    format!(
        "---\nlanguage: en\ntask_categories: [text-generation]\nconfigs:\n\
         - config_name: sharegpt\n  data_files:\n  - split: train\n    path: train.sharegpt.jsonl\n\
         \x20 - split: validation\n    path: validation.sharegpt.jsonl\n\
         - config_name: alpaca\n  data_files:\n  - split: train\n    path: train.alpaca.jsonl\n\
         \x20 - split: validation\n    path: validation.alpaca.jsonl\n---\n\n\
         # Instructions for writing captions\n\n\
         Each pair shows what a page said of a picture, what a captioning model and recognition models saw, \
         and the sentence that {teacher} made of it. It is meant for tuning a small model to do the same, \
         after RWKV-CLIP (arXiv 2406.06973).\n\n\
         - {train} pairs to train on, {validation} to validate on; pairs with one raw text are on one side.\n\
         - Chosen among {rows} rows of a refined run: {eligible} have both texts and at least {} different \
         tags; the {asked} with the most tags were asked about, the fewest of them having {fewest_tags}.\n\
         - Answers passed the checks of replies, have no flag of the audit and a trust score of at least {} \
         (mean {:.2}).\n\
         - Prompt files of the teacher: SHA-256 {prompt}. The pairs have its system text, not its worked \
         examples.\n\n\
         | not taken | rows |\n|---|---|\n{left_out}\n\
         ## Limits\n\n\
         The score says how well an answer is supported by other models' words, not that it is true. Rows \
         with many tags show busy pictures: plain ones are rare here. Texts come from the web and can name \
         people; who tunes a model on them answers for that. The terms of the teacher's provider may forbid \
         to train other models on its answers.\n\n\
         ## Use with LLaMA-Factory\n\n\
         `dataset_info.json` describes the files: name this folder as `dataset_dir`, and \
         `recaption_train_sharegpt` or `recaption_train_alpaca` as `dataset`.\n",
        wish.min_tags, wish.min_score, record.mean_score
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(number: usize, raw: &str) -> Pair {
        Pair {
            key: number.to_string(),
            system: "s".to_owned(),
            user: "u".to_owned(),
            answer: "a".to_owned(),
            raw: raw.to_owned(),
        }
    }

    #[test]
    fn equal_texts_are_on_one_side_and_the_share_is_about_right() {
        let pairs: Vec<Pair> = (0..2_000).map(|n| pair(n, &format!("text {}", n / 2))).collect();
        let wish = Wish { rows: 1, min_tags: 1, min_score: 0.5, validation: 0.1, seed: 0 };
        let (train, validation) = split(&pairs, &wish);
        assert_eq!(train.len() + validation.len(), 2_000);
        assert!((140..260).contains(&validation.len()), "{}", validation.len());
        for pair in &validation {
            assert!(train.iter().all(|other| other.raw != pair.raw));
        }
        let none = Wish { validation: 0.0, ..wish };
        assert_eq!(split(&pairs, &none).1.len(), 0);
    }
}
