//! Result files: one JSON for each checkpoint, data set and task.
//!
//! The outer keys are those of CLIP_benchmark, so that its tools read our files and we read its. What
//! it has no place for is under `recaption`: where the numbers come from, how sure they are, and what
//! became of each sample, so that two files can be compared sample by sample.

mod answers;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde_json::Value;

use crate::atomic_file;
use crate::eval::bootstrap;
use crate::eval::bootstrap::Interval;
use crate::eval::bootstrap::Values;
use crate::eval::probe::Choice;
use crate::eval::zero_shot::Rounding;

pub use answers::Answers;
pub use answers::Bytes;
pub use answers::Classes;

pub(in crate::eval) use answers::hash_of;

/// What a checkpoint scored at a task on a data set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Score {
    /// Name of the data set.
    pub dataset: String,
    /// Sizes of the model, as `b32`.
    pub model: String,
    /// What its weights are called.
    pub pretrained: String,
    /// What was to be done.
    pub task: Task,
    /// Shares, 0 to 1, by the names that CLIP_benchmark has for them.
    #[serde(deserialize_with = "numbers")]
    pub metrics: BTreeMap<String, f64>,
    /// Language of the texts.
    pub language: String,
    /// What CLIP_benchmark has no place for; absent in its own files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recaption: Option<Details>,
}

/// What is to be done.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum Task {
    /// Each picture to one of the classes, by their names.
    #[serde(rename = "zeroshot_classification", alias = "zero_shot")]
    ZeroShot,
    /// Texts to pictures and pictures to texts.
    #[serde(rename = "zeroshot_retrieval", alias = "retrieval")]
    Retrieval,
    /// Each picture to one of the classes, by one layer that was trained to.
    #[serde(rename = "linear_probe")]
    LinearProbe,
}

/// Where the numbers come from and how sure they are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Details {
    /// Version of this program.
    pub version: String,
    /// SHA-256 of everything that decided the numbers; a file with another one is made anew.
    pub fingerprint: String,
    /// `file name@first-8-of-sha256` of the weights.
    pub checkpoint: String,
    /// The metric that stands for the whole.
    pub headline: String,
    /// Samples: pictures of a classification, pictures of a retrieval.
    pub samples: u64,
    /// Texts of a retrieval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub texts: Option<u64>,
    /// Classes of a classification.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<u64>,
    /// Pictures that could not be read; they count as wrong.
    pub unreadable: u64,
    /// The first few of them: key and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unreadable_examples: Vec<(String, String)>,
    /// What became of logits before they were compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rounding: Option<Rounding>,
    /// How a linear probe was fitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<ProbeDetails>,
    /// What guessing would score on the headline; absent where that is not simple.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chance: Option<f64>,
    /// 95 % intervals of the metrics. Texts of one picture count as if they were of different ones, so
    /// that of a text's search for its picture is too narrow where pictures have several.
    pub intervals: BTreeMap<String, Interval>,
    /// How these were made.
    pub bootstrap: bootstrap::Config,
    /// What became of each sample, by what was asked: `image` of classifications, `image_retrieval`
    /// and `text_retrieval`.
    pub answers: BTreeMap<String, Answers>,
}

/// How a linear probe was fitted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProbeDetails {
    /// Pictures the classifiers of the sweep were fitted to.
    pub train: u64,
    /// Pictures the regulariser was chosen by.
    pub validation: u64,
    /// The regulariser.
    pub choice: Choice,
}

/// `answers` of a classification.
pub const IMAGE: &str = "image";
/// `answers` of texts that look for their picture.
pub const IMAGE_RETRIEVAL: &str = "image_retrieval";
/// `answers` of pictures that look for their texts.
pub const TEXT_RETRIEVAL: &str = "text_retrieval";

impl Task {
    /// As in the files.
    pub fn name(self) -> &'static str {
        match self {
            Task::ZeroShot => "zeroshot_classification",
            Task::Retrieval => "zeroshot_retrieval",
            Task::LinearProbe => "linear_probe",
        }
    }

    /// As in a table.
    pub fn words(self) -> &'static str {
        match self {
            Task::ZeroShot => "zero-shot",
            Task::Retrieval => "retrieval",
            Task::LinearProbe => "linear probe",
        }
    }

    /// Names of the metrics, those that say most first.
    pub fn metrics(self) -> &'static [&'static str] {
        match self {
            Task::ZeroShot => &["acc1", "acc5", "mean_per_class_recall"],
            Task::LinearProbe => &["lp_acc1", "lp_acc5", "lp_mean_per_class_recall"],
            Task::Retrieval => &[
                "image_retrieval_recall@1",
                "image_retrieval_recall@5",
                "image_retrieval_recall@10",
                "text_retrieval_recall@1",
                "text_retrieval_recall@5",
                "text_retrieval_recall@10",
            ],
        }
    }
}

/// A metric in words.
pub fn words(metric: &str) -> String {
    match metric.trim_start_matches("lp_") {
        "acc1" => "top-1".to_owned(),
        "acc5" => "top-5".to_owned(),
        "mean_per_class_recall" => "mean per class".to_owned(),
        other => match other.split_once("_retrieval_recall@") {
            Some(("image", k)) => format!("text to image, R@{k}"),
            Some(("text", k)) => format!("image to text, R@{k}"),
            _ => other.to_owned(),
        },
    }
}

impl Score {
    /// Reads a result, ours or CLIP_benchmark's.
    ///
    /// # Errors
    /// When the file cannot be read or is no result.
    pub fn read(path: &Path) -> Result<Score> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&without_nan(&text))
            .with_context(|| format!("{} is no result of an evaluation", path.display()))
    }

    /// Writes it, whole or not at all.
    ///
    /// # Errors
    /// When a number is not finite, or the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let wrong = self.metrics.iter().find(|(_, value)| !value.is_finite());
        ensure!(wrong.is_none(), "{}: a metric is not finite: {wrong:?}", path.display());
        let mut json = serde_json::to_string_pretty(self)?;
        json.push('\n');
        atomic_file::write(path, json.as_bytes()).map(drop)
    }

    /// The value of each sample that a metric is the mean of; none in files of others.
    pub fn values(&self, metric: &str) -> Option<Values> {
        values(&self.recaption.as_ref()?.answers, metric)
    }

    /// What `other` has less of a metric, and the interval of that; the interval is none where the two
    /// were not asked the same questions.
    pub fn lead_over(&self, other: &Score, metric: &str) -> Option<(f64, Option<Interval>)> {
        let difference = self.metrics.get(metric)? - other.metrics.get(metric)?;
        let interval = || {
            let (mine, its) = (self.recaption.as_ref()?, other.recaption.as_ref()?);
            let asked = asked(metric);
            let (a, b) = (mine.answers.get(asked)?, its.answers.get(asked)?);
            if a.questions != b.questions {
                return None;
            }
            self.values(metric)?.minus(&other.values(metric)?)?.interval(&mine.bootstrap)
        };
        Some((difference, interval()))
    }
}

/// All metrics of a task that these answers give, with their intervals.
///
/// # Errors
/// When there are no samples.
pub fn judged(
    task: Task,
    answers: &BTreeMap<String, Answers>,
    classes: Option<usize>,
    config: &bootstrap::Config,
) -> Result<(BTreeMap<String, f64>, BTreeMap<String, Interval>)> {
    let (mut metrics, mut intervals) = (BTreeMap::new(), BTreeMap::new());
    for &metric in task.metrics() {
        // Among fewer than five everybody is within the first five; CLIP_benchmark has NaN here.
        if metric.ends_with("acc5") && classes.is_some_and(|classes| classes < 5) {
            continue;
        }
        let Some(values) = values(answers, metric) else { continue };
        let score = values.score().with_context(|| format!("no samples for {metric}"))?;
        metrics.insert(metric.to_owned(), score);
        if let Some(interval) = values.interval(config) {
            intervals.insert(metric.to_owned(), interval);
        }
    }
    Ok((metrics, intervals))
}

fn values(answers: &BTreeMap<String, Answers>, metric: &str) -> Option<Values> {
    let answers = answers.get(asked(metric))?;
    let k = match metric.split_once('@') {
        Some((_, k)) => k.parse().ok()?,
        None if metric.ends_with("acc5") => 5,
        None => 1,
    };
    let values = answers.ranks.0.iter().map(|&rank| f64::from(u8::from(rank < k))).collect();
    let classes = match metric.ends_with("mean_per_class_recall") {
        true => Some(answers.classes.as_ref()?.0.iter().map(|&class| class.into()).collect()),
        false => None,
    };
    Some(Values { values, classes })
}

fn asked(metric: &str) -> &str {
    match metric.split_once("_recall@") {
        Some((asked, _)) => asked,
        None => IMAGE,
    }
}

/// What Python's `json` writes for numbers that are none, and no other parser reads.
const NO_NUMBERS: [&str; 3] = ["NaN", "-Infinity", "Infinity"];

/// The same JSON with `null` for what is no number: CLIP_benchmark has such where classes are fewer
/// than five.
fn without_nan(text: &str) -> Cow<'_, str> {
    if !NO_NUMBERS.iter().any(|word| text.contains(word)) {
        return Cow::Borrowed(text);
    }
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    let (mut is_quoted, mut is_escaped) = (false, false);
    while let Some(c) = rest.chars().next() {
        if let (false, Some(after)) = (is_quoted, after_no_number(rest)) {
            out.push_str("null");
            rest = after;
            continue;
        }
        is_quoted ^= c == '"' && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
        out.push(c);
        rest = &rest[c.len_utf8()..];
    }
    Cow::Owned(out)
}

fn after_no_number(text: &str) -> Option<&str> {
    NO_NUMBERS.iter().find_map(|word| text.strip_prefix(word))
}

/// The metrics that are numbers: CLIP_benchmark has settings and tables of text among them.
fn numbers<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, f64>, D::Error> {
    let all: BTreeMap<String, Value> = BTreeMap::deserialize(from)?;
    Ok(all.into_iter().filter_map(|(name, value)| Some((name, value.as_f64()?))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score() -> Score {
        let ranks = [0, 0, 1, 7, usize::MAX, 0];
        let answers = Answers::new("q".to_owned(), &ranks, Some(&[0, 0, 1, 1, 1, 2])).unwrap();
        let answers = BTreeMap::from([(IMAGE.to_owned(), answers)]);
        let config = bootstrap::Config { resamples: 200, seed: 0 };
        let (metrics, intervals) = judged(Task::ZeroShot, &answers, Some(9), &config).unwrap();
        Score {
            dataset: "d".to_owned(),
            model: "tiny".to_owned(),
            pretrained: "p".to_owned(),
            task: Task::ZeroShot,
            metrics,
            language: "en".to_owned(),
            recaption: Some(Details {
                version: "0".to_owned(),
                fingerprint: "f".to_owned(),
                checkpoint: "c".to_owned(),
                headline: "acc1".to_owned(),
                samples: 6,
                texts: None,
                classes: Some(9),
                unreadable: 1,
                unreadable_examples: vec![("k".to_owned(), "why".to_owned())],
                rounding: Some(Rounding::Exact),
                probe: None,
                chance: None,
                intervals,
                bootstrap: config,
                answers,
            }),
        }
    }

    #[test]
    fn metrics_are_those_of_the_ranks() {
        let score = score();
        assert_eq!(score.metrics["acc1"], 0.5);
        assert!((score.metrics["acc5"] - 4.0 / 6.0).abs() < 1e-12);
        assert!((score.metrics["mean_per_class_recall"] - 2.0 / 3.0).abs() < 1e-12);
        let details = score.recaption.unwrap();
        let interval = details.intervals["acc1"];
        assert!(interval.low < 0.5 && 0.5 < interval.high);
        let few = judged(Task::ZeroShot, &details.answers, Some(4), &details.bootstrap).unwrap();
        assert!(!few.0.contains_key("acc5"));
    }

    #[test]
    fn a_file_comes_back_as_it_went() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("score.json");
        let mut score = score();
        score.write(&path).unwrap();
        assert_eq!(Score::read(&path).unwrap(), score);
        score.metrics.insert("acc1".to_owned(), f64::NAN);
        assert!(score.write(&path).is_err());
        std::fs::write(&path, "{}").unwrap();
        let error = format!("{:#}", Score::read(&path).unwrap_err());
        assert!(error.contains("no result"), "{error}");
    }

    #[test]
    fn files_of_clip_benchmark_are_read() {
        let json = r#"{"dataset": "cifar10", "model": "ViT-B-32", "pretrained": "laion", "task":
            "linear_probe", "metrics": {"lp_acc1": 0.9, "lr": 0.1, "classification_report": "x"},
            "language": "en"}"#;
        let theirs: Score = serde_json::from_str(json).unwrap();
        assert_eq!((theirs.task, theirs.metrics["lp_acc1"]), (Task::LinearProbe, 0.9));
        assert_eq!(theirs.values("lp_acc1"), None);
    }

    #[test]
    fn what_is_no_number_in_python_is_no_metric() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("theirs.json");
        let json = r#"{"dataset": "the \"NaN\" set", "model": "NaN", "pretrained": "\\", "task":
            "zeroshot_classification", "metrics": {"acc1": 0.9, "acc5": NaN, "a": Infinity,
            "b":-Infinity}, "language": "en", "more": [NaN, "Infinity"]}"#;
        std::fs::write(&path, json).unwrap();
        let theirs = Score::read(&path).unwrap();
        assert_eq!((theirs.dataset.as_str(), theirs.model.as_str()), ("the \"NaN\" set", "NaN"));
        assert_eq!(theirs.pretrained, "\\");
        assert_eq!(theirs.metrics, BTreeMap::from([("acc1".to_owned(), 0.9)]));
    }

    #[test]
    fn only_the_same_questions_are_compared_sample_by_sample() {
        let (a, mut b) = (score(), score());
        let (difference, interval) = a.lead_over(&b, "acc1").unwrap();
        assert_eq!((difference, interval), (0.0, Some(Interval { low: 0.0, high: 0.0 })));
        let answers = b.recaption.as_mut().unwrap().answers.get_mut(IMAGE).unwrap();
        answers.questions = "others".to_owned();
        assert_eq!(a.lead_over(&b, "acc1"), Some((0.0, None)));
        assert_eq!(a.lead_over(&b, "none"), None);
    }

    #[test]
    fn metrics_have_words() {
        assert_eq!(words("lp_acc1"), "top-1");
        assert_eq!(words("image_retrieval_recall@5"), "text to image, R@5");
        assert_eq!(words("something"), "something");
    }
}
