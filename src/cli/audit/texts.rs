//! `recaption audit --texts` and `--calibrate`: rows of JSON without pictures.

use std::collections::HashSet;
use std::fs::File;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use comfy_table::Table;
use rayon::iter::IntoParallelRefIterator;
use rayon::iter::ParallelIterator;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;

use crate::atomic_file;
use crate::audit;
use crate::audit::Config;
use crate::audit::Texts;
use crate::audit::calibrate;
use crate::audit::calibrate::Interval;
use crate::audit::calibrate::Labelled;
use crate::audit::calibrate::Quality;
use crate::audit::calibrate::figure;
use crate::audit::calibrate::figure::Shown;
use crate::audit::doubts::Doubts;
use crate::audit::near::Near;
use crate::clip;
use crate::clip::Embedder;
use crate::curate::near::Nearness;
use crate::sample::Audit;
use crate::sample::Origin;
use crate::sample::Tag;
use crate::text::content_words;

/// A row as it is given.
#[derive(Deserialize)]
struct Row {
    #[serde(default)]
    id: Value,
    #[serde(default)]
    sources: Vec<String>,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    raw: Option<String>,
    text: String,
    #[serde(default)]
    hallucinated: Option<bool>,
    #[serde(default)]
    hallucinated_words: Option<Vec<String>>,
    /// Rows of one picture; each for itself without it.
    #[serde(default)]
    group: Option<String>,
}

/// A row as it is printed.
#[derive(Serialize)]
struct Judged<'a> {
    id: &'a Value,
    #[serde(flatten)]
    audit: &'a Audit,
    doubts: &'a Doubts,
}

/// Its number, itself, and the verdict.
type Scored = (usize, Row, Audit, Doubts);

/// Rows that are judged together; memory holds no more of a file.
const TOGETHER: usize = 4096;

/// Samples of the intervals are drawn with it.
const SEED: u64 = 0;

/// Prints a verdict for each row; where rows have labels, says how well they were met.
/// With a model, words from nowhere that are near a source count as found.
pub(super) fn score(path: &Path, config: &Config, clip: &clip::Config) -> Result<()> {
    let embedder = clip.checkpoint.as_ref().map(|_| Embedder::open(clip)).transpose()?;
    let mut nearness = embedder.as_ref().map(|embedder| Nearness::new(embedder, clip.nearness));
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let (mut scored, mut words) = (Vec::new(), Found::default());
    each(
        path,
        |number, row| {
            let (audit, doubts) = row.judge(config, &[]);
            Ok((number, row, audit, doubts))
        },
        |rows| match &mut nearness {
            Some(nearness) => believe(nearness, config, rows),
            None => Ok(()),
        },
        |(number, row, audit, doubts)| {
            serde_json::to_writer(
                &mut out,
                &Judged { id: &row.id, audit: &audit, doubts: &doubts },
            )?;
            out.write_all(b"\n")?;
            if let Some(hallucinated) = row.hallucinated {
                scored.push((f64::from(audit.score), !hallucinated, row.group(number)));
            }
            if let Some(labels) = &row.hallucinated_words {
                words.count(&audit, labels);
            }
            Ok(())
        },
    )?;
    out.flush()?;
    if scored.iter().any(|(_, good, _)| *good) && scored.iter().any(|(_, good, _)| !*good) {
        eprintln!("{}", quality(&Quality::of(&scored, SEED)));
    }
    if words.labelled > 0 {
        eprintln!("{}", words.table());
    }
    Ok(())
}

/// Fits weights to labelled rows and prints them as settings.
pub(super) fn calibrate(path: &Path, config: &Config, drawn: Option<&Path>) -> Result<()> {
    let mut labelled = Vec::new();
    let mut before = Vec::new();
    each(
        path,
        |number, row| {
            let label =
                row.hallucinated.with_context(|| format!("line {number} has no `hallucinated`"))?;
            let (audit, doubts) = row.judge(config, &[]);
            Ok((audit.score, Labelled { doubts, is_hallucinated: label, group: row.group(number) }))
        },
        |_| Ok(()),
        |(score, text)| {
            before.push((f64::from(score), !text.is_hallucinated, text.group.clone()));
            labelled.push(text);
            Ok(())
        },
    )?;
    let bad = labelled.iter().filter(|text| text.is_hallucinated).count();
    ensure!(
        bad > 0 && bad < labelled.len(),
        "{} has {} rows, {bad} of them hallucinated: both sorts are needed to fit anything",
        path.display(),
        labelled.len()
    );
    let (bias, weights) = calibrate::fit(&labelled);
    println!("{}", calibrate::settings(bias, &weights)?);
    let fitted = calibrate::cross_validated(&labelled);
    let (now, after) = (Quality::of(&before, SEED), Quality::of(&fitted, SEED));
    eprintln!("With the weights of now:\n{}", quality(&now));
    eprintln!("With fitted weights, on rows that the fit did not see:\n{}", quality(&after));
    let Some(drawn) = drawn else { return Ok(()) };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let page = figure::page(
        &format!("Calibration by {name}"),
        &[
            Shown { name: "weights of now", scored: &before, quality: &now },
            Shown { name: "fitted, on unseen rows", scored: &fitted, quality: &after },
        ],
    )?;
    atomic_file::write(drawn, page.as_bytes())?;
    eprintln!("{}", drawn.display());
    Ok(())
}

/// Judges rows again where a model finds some of their words near a source.
fn believe(nearness: &mut Nearness<'_>, config: &Config, rows: &mut [Scored]) -> Result<()> {
    let tags: Vec<Vec<Tag>> = rows.iter().map(|(_, row, ..)| row.tags()).collect();
    let sources: Vec<Vec<&str>> = rows.iter().map(|(_, row, ..)| row.sources()).collect();
    let parts = rows.iter().zip(&tags).zip(&sources);
    let asked: Vec<(Texts<'_>, &Audit)> = parts
        .map(|(((_, row, audit, _), tags), sources)| (row.texts(tags, sources, &[]), audit))
        .collect();
    let near = nearness.of(&asked)?;
    for ((_, row, audit, doubts), near) in rows.iter_mut().zip(&near) {
        if !near.is_empty() {
            (*audit, *doubts) = row.judge(config, near);
        }
    }
    Ok(())
}

/// Judges the rows of a file on all cores, looks at some of them together, and hands them on in order.
fn each<T: Send>(
    path: &Path,
    judge: impl Fn(usize, Row) -> Result<T> + Sync,
    mut together: impl FnMut(&mut [T]) -> Result<()>,
    mut then: impl FnMut(T) -> Result<()>,
) -> Result<()> {
    let reader: Box<dyn BufRead> = if path == Path::new("-") {
        Box::new(BufReader::new(std::io::stdin()))
    } else {
        let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        Box::new(BufReader::new(file))
    };
    let mut lines = reader.lines().zip(1..);
    loop {
        let mut some = Vec::with_capacity(TOGETHER);
        for (line, number) in lines.by_ref().take(TOGETHER) {
            let line = line.with_context(|| format!("{}, line {number}", path.display()))?;
            some.push((number, line));
        }
        if some.is_empty() {
            return Ok(());
        }
        let judged: Vec<Result<Option<T>>> = some
            .par_iter()
            .map(|(number, line)| {
                if line.trim().is_empty() {
                    return Ok(None);
                }
                let row = serde_json::from_str(line)
                    .with_context(|| format!("{}, line {number} is no row", path.display()))?;
                judge(*number, row).map(Some)
            })
            .collect();
        // What stands before a line that is no row is still handed on.
        let (mut good, mut bad) = (Vec::with_capacity(judged.len()), None);
        for one in judged {
            match one {
                Ok(one) => good.extend(one),
                Err(error) => {
                    bad = Some(error);
                    break;
                }
            }
        }
        together(&mut good)?;
        good.into_iter().try_for_each(&mut then)?;
        if let Some(error) = bad {
            return Err(error);
        }
    }
}

impl Row {
    fn judge(&self, config: &Config, near: &[Near]) -> (Audit, Doubts) {
        audit::judge(config, &self.texts(&self.tags(), &self.sources(), near))
    }

    fn tags(&self) -> Vec<Tag> {
        let model: Arc<str> = Arc::from("");
        let tag = |label: &String| Tag {
            label: label.clone(),
            score: 1.0,
            bbox: None,
            model: model.clone(),
        };
        self.tags.iter().map(tag).collect()
    }

    fn sources(&self) -> Vec<&str> {
        self.sources.iter().map(String::as_str).collect()
    }

    fn texts<'a>(
        &'a self,
        tags: &'a [Tag],
        references: &'a [&'a str],
        near: &'a [Near],
    ) -> Texts<'a> {
        let (raw, generated) = (self.raw.as_deref(), Some(self.text.as_str()));
        Texts { raw, synthetic: None, generated, tags, references, near }
    }

    fn group(&self, number: usize) -> String {
        self.group.clone().unwrap_or_else(|| number.to_string())
    }
}

/// How well single words were found.
#[derive(Default)]
struct Found {
    labelled: usize,
    flagged: usize,
    both: usize,
}

impl Found {
    /// A word counts as flagged if it is from nowhere.
    fn count(&mut self, audit: &Audit, labels: &[String]) {
        let stems = |text: &str| -> Vec<String> {
            content_words(text).into_iter().map(|word| word.stem.to_string()).collect()
        };
        let labels: HashSet<String> = labels
            .iter()
            .flat_map(|label| {
                let stems = stems(label);
                // A relation is grammar, and its own stem.
                if stems.is_empty() { vec![label.to_lowercase()] } else { stems }
            })
            .collect();
        let nowhere = audit.words.iter().filter(|word| word.origin == Origin::Nowhere);
        let flagged: HashSet<String> = nowhere
            .map(|word| stems(&word.word).pop().unwrap_or_else(|| word.word.to_lowercase()))
            .collect();
        self.labelled += labels.len();
        self.flagged += flagged.len();
        self.both += labels.intersection(&flagged).count();
    }

    fn table(&self) -> Table {
        let share = |whole: usize| format!("{:.3}", self.both as f64 / whole.max(1) as f64);
        let mut table = Table::new();
        table.set_header(["words", "", ""]);
        table.add_row(["labelled".to_owned(), self.labelled.to_string(), String::new()]);
        table.add_row(["from nowhere".to_owned(), self.flagged.to_string(), String::new()]);
        table.add_row(["precision".to_owned(), share(self.flagged), String::new()]);
        table.add_row(["recall".to_owned(), share(self.labelled), String::new()]);
        table
    }
}

fn quality(quality: &Quality) -> Table {
    let interval = |i: &Interval| format!("{:.3} to {:.3}", i.low, i.high);
    let mut table = Table::new();
    table.set_header(["texts", &quality.texts.to_string(), "95 % interval"]);
    table.add_row(["hallucinated".to_owned(), quality.hallucinated.to_string(), String::new()]);
    for (name, figure) in
        [("average precision", &quality.average_precision), ("ROC AUC", &quality.auc)]
    {
        table.add_row([name.to_owned(), format!("{:.3}", figure.value), interval(figure)]);
    }
    table.add_row(["Brier score".to_owned(), format!("{:.3}", quality.brier), String::new()]);
    for bin in &quality.reliability {
        let name = format!("score about {:.2} ({} texts)", bin.score, bin.texts);
        table.add_row([name, format!("{:.2} good", bin.good.value), interval(&bin.good)]);
    }
    table
}
