//! An instruction set out of a refined run: a strong model answers for rows with many tags, and what the
//! audit trusts of it teaches a small writer.
//!
//! The paper does so with 70,000 rows that have many detection tags, ChatGPT as the strong model and
//! LLaMA3-8B as the small one, tuned with LLaMA-Factory (RWKV-CLIP, arXiv 2406.06973, section 3.1). The
//! small one learns to answer without worked examples: its prompt is the system text and the row.

mod choose;
mod files;

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::path::Path;

use anyhow::Result;
use anyhow::ensure;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;

use crate::audit;
use crate::audit::Texts;
use crate::describe::Describer;
use crate::describe::Limits;
use crate::describe::Request;
use crate::describe::Sources;
use crate::instruct::choose::chosen;
use crate::sample::Audit;
use crate::sample::Sample;

/// What is asked of the set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Wish {
    /// Rows to ask about.
    pub rows: usize,
    /// Different tags that a row must have.
    pub min_tags: usize,
    /// Score that an answer must have.
    pub min_score: f32,
    /// Share of the pairs that is kept for validation.
    pub validation: f64,
    /// Chooses among rows with as many tags, and what is validated on.
    pub seed: u64,
}

/// `instruct.json`: what became of the rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Record {
    /// What was asked for.
    pub wish: Wish,
    /// Rows of the run.
    pub rows: u64,
    /// Rows with a raw and a synthetic text and enough tags.
    pub eligible: u64,
    /// Rows that were asked about.
    pub asked: u64,
    /// Tags of the row with the fewest among them.
    pub fewest_tags: u64,
    /// Pairs to train on.
    pub train: u64,
    /// Pairs to validate on.
    pub validation: u64,
    /// Why answers were not taken.
    pub left_out: BTreeMap<String, u64>,
    /// Mean score of the answers that were.
    pub mean_score: f64,
    /// Who answered, from which prompt.
    pub teacher: Value,
}

/// One lesson.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    /// Key of the row.
    pub key: String,
    /// What the small writer will be told always.
    pub system: String,
    /// What it will be told of this row.
    pub user: String,
    /// What it should say.
    pub answer: String,
    /// What the row was called on the web: equal ones are never on both sides of the split.
    pub raw: String,
}

/// Rows that are asked about together.
const TOGETHER: usize = 256;

/// Chooses rows, asks, checks, and writes the files; `done` hears of rows as they are answered.
///
/// # Errors
/// When the run cannot be read, no row can be asked about, nothing acceptable comes back, or the budget is
/// spent: then what was answered is kept, and the same command goes on.
pub fn write(
    run: &Path,
    output: &Path,
    wish: &Wish,
    describer: &Describer,
    config: &audit::Config,
    done: &dyn Fn(u64),
) -> Result<Record> {
    let choice = chosen(run, wish)?;
    ensure!(
        !choice.samples.is_empty(),
        "no row of {} has a raw text, a synthetic one and {} tags; lower --min-tags",
        run.display(),
        wish.min_tags
    );
    let (mut pairs, mut left_out, mut scores) = (Vec::new(), BTreeMap::new(), 0.0);
    for some in choice.samples.chunks(TOGETHER) {
        for (sample, lesson) in some.iter().zip(lessons(describer, config, wish, some)?) {
            match lesson {
                Ok((text, score)) => {
                    scores += f64::from(score);
                    pairs.push(pair(describer, sample, text)?);
                }
                Err(why) => *left_out.entry(why).or_default() += 1,
            }
        }
        done(some.len() as u64);
    }
    let mut known = HashSet::new();
    let taken = pairs.len();
    pairs.retain(|pair: &Pair| known.insert(pair.user.clone()));
    if pairs.len() < taken {
        *left_out.entry("the same lesson as another row".to_owned()).or_default() +=
            (taken - pairs.len()) as u64;
    }
    ensure!(!pairs.is_empty(), "no answer was acceptable: {left_out:?}");
    let (train, validation) = files::split(&pairs, wish);
    let record = Record {
        wish: wish.clone(),
        rows: choice.rows,
        eligible: choice.eligible,
        asked: choice.samples.len() as u64,
        fewest_tags: choice.fewest_tags as u64,
        train: train.len() as u64,
        validation: validation.len() as u64,
        left_out,
        mean_score: scores / taken as f64,
        teacher: describer.provenance(),
    };
    files::write(output, &train, &validation, &record)?;
    Ok(record)
}

/// What a strong model says of each row, with its score; or why that is no lesson.
fn lessons(
    describer: &Describer,
    config: &audit::Config,
    wish: &Wish,
    samples: &[Sample],
) -> Result<Vec<Result<(String, f32), String>>> {
    let requests: Vec<Request<'_>> = samples.iter().map(Request::of).collect();
    let answers = describer.describe(&requests)?.into_iter();
    let lesson = |(sample, answer): (&Sample, crate::describe::Answer)| {
        let refused = || answer.refused.clone().unwrap_or_else(|| "no answer".to_owned());
        let text = answer.generated.as_ref().ok_or_else(refused)?.text.clone();
        let texts = Texts { generated: Some(&text), ..Texts::of(sample) };
        let audit = audit::audit(config, &texts);
        trusted(&audit, wish)?;
        Ok((text, audit.score))
    };
    Ok(samples.iter().zip(answers).map(lesson).collect())
}

fn trusted(audit: &Audit, wish: &Wish) -> Result<(), String> {
    match audit.reasons.first() {
        Some(flag) => Err(format!("audit: {flag}")),
        None if audit.score < wish.min_score => Err("audit: score too low".to_owned()),
        None => Ok(()),
    }
}

fn pair(describer: &Describer, sample: &Sample, answer: String) -> Result<Pair> {
    let chat = describer.chat(&Request::of(sample))?;
    let system = chat.prefix.first().map(|message| message.content.clone()).unwrap_or_default();
    Ok(Pair {
        key: sample.item.key.clone(),
        system,
        user: chat.user,
        answer,
        // As the writer sees it: "Red car" and "Red car www.example.com" are one lesson.
        raw: Sources::new(&Request::of(sample), &Limits::default()).raw.unwrap_or_default(),
    })
}
