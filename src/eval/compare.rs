//! Results beside each other: what each model scored, how sure that is, and which leads are real.

use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Error;
use anyhow::Result;
use anyhow::ensure;

use crate::eval::bootstrap::Interval;
use crate::eval::result;
use crate::eval::result::Score;
use crate::eval::result::Task;

/// Results in a table: a row for each metric, a column for each model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Comparison {
    /// The models, in the order they came in.
    pub models: Vec<String>,
    /// The metrics.
    pub rows: Vec<Row>,
}

/// One metric of one task on one data set.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The data set.
    pub dataset: String,
    /// The task.
    pub task: Task,
    /// Its name in the files.
    pub metric: String,
    /// Whether it is the one that stands for the whole.
    pub is_headline: bool,
    /// What guessing would score.
    pub chance: Option<f64>,
    /// A cell for each model; none where it has no such result.
    pub cells: Vec<Option<Cell>>,
    /// The model that is ahead of each other one by more than chance: its interval of the difference
    /// at the same samples excludes zero.
    pub clearly_best: Option<usize>,
}

/// What one model scored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cell {
    /// Share, 0 to 1.
    pub value: f64,
    /// Its interval.
    pub interval: Option<Interval>,
    /// How much more than the first model, if it is another one that has this result.
    pub lead: Option<Lead>,
}

/// A difference of two results.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lead {
    /// The difference.
    pub value: f64,
    /// Its interval; none where the two were not asked the same.
    pub interval: Option<Interval>,
}

impl Lead {
    /// Whether the interval excludes zero.
    pub fn is_clear(&self) -> bool {
        self.interval.is_some_and(|interval| interval.low > 0.0 || interval.high < 0.0)
    }
}

impl Row {
    /// What it measures, in words.
    pub fn words(&self) -> String {
        result::words(&self.metric)
    }
}

impl Comparison {
    /// Lays out results; rows are in the order of the first model that has them.
    ///
    /// # Errors
    /// When two results are of the same model, data set and task.
    pub fn of(scores: &[Score]) -> Result<Comparison> {
        let names = names(scores);
        let mut models: Vec<String> = Vec::new();
        for name in &names {
            if !models.contains(name) {
                models.push(name.clone());
            }
        }
        let mut tests: Vec<(&str, Task)> = Vec::new();
        for score in scores {
            let test = (score.dataset.as_str(), score.task);
            if !tests.contains(&test) {
                tests.push(test);
            }
        }
        let mut rows = Vec::new();
        for (dataset, task) in tests {
            let mut of_models: Vec<Option<&Score>> = vec![None; models.len()];
            for (score, name) in scores.iter().zip(&names) {
                if (score.dataset.as_str(), score.task) != (dataset, task) {
                    continue;
                }
                let place = models.iter().position(|model| model == name).unwrap_or(0);
                let before = of_models[place].replace(score);
                ensure!(
                    before.is_none(),
                    "two results of {name} on {dataset}, {}: compare one of them",
                    task.words()
                );
            }
            rows.extend(rows_of(dataset, task, &of_models));
        }
        Ok(Comparison { models, rows })
    }

    /// The rows of a task.
    pub fn of_task(&self, task: Task) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(move |row| row.task == task)
    }
}

/// What was found in files and folders.
#[derive(Debug, Default)]
pub struct Found {
    /// The results.
    pub scores: Vec<Score>,
    /// Why each file of a folder was passed over that ends as a result does and is none.
    pub passed_over: Vec<Error>,
}

/// All results in these files and folders; in a folder, files that are no results are passed over.
///
/// # Errors
/// When a file that was named is no result, or a folder has none.
pub fn read(paths: &[PathBuf]) -> Result<Found> {
    let mut found = Found::default();
    for path in paths {
        if !path.is_dir() {
            found.scores.push(Score::read(path)?);
            continue;
        }
        let before = found.scores.len();
        for file in json_files(path)? {
            match Score::read(&file) {
                Ok(score) => found.scores.push(score),
                Err(why) => found.passed_over.push(why),
            }
        }
        let has_any = found.scores.len() > before;
        ensure!(has_any, "{} has no results of evaluations", path.display());
    }
    Ok(found)
}

fn json_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let what = || format!("cannot read the folder {}", folder.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(what)? {
        let path = entry.with_context(what)?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            files.push(path);
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// A name for the model of each result: that of its weights, with its sizes or its file's hash where
/// that would be the name of two.
fn names(scores: &[Score]) -> Vec<String> {
    let weights = |score: &Score| score.recaption.as_ref().map(|own| own.checkpoint.clone());
    let name = |score: &Score| {
        let same = || scores.iter().filter(|other| other.pretrained == score.pretrained);
        if same().any(|other| other.model != score.model) {
            return format!("{} ({})", score.pretrained, score.model);
        }
        match weights(score) {
            Some(own) if same().any(|other| weights(other).as_ref() != Some(&own)) => {
                format!("{} ({own})", score.pretrained)
            }
            _ => score.pretrained.clone(),
        }
    };
    scores.iter().map(name).collect()
}

fn rows_of(dataset: &str, task: Task, scores: &[Option<&Score>]) -> Vec<Row> {
    let metrics = task.metrics().iter();
    let rows = metrics.filter_map(|&metric| {
        let cells: Vec<Option<Cell>> =
            (0..scores.len()).map(|model| cell(scores, model, metric)).collect();
        let details = scores.iter().flatten().find_map(|score| score.recaption.as_ref());
        let is_headline = details.is_some_and(|details| details.headline == metric);
        cells.iter().any(Option::is_some).then(|| Row {
            dataset: dataset.to_owned(),
            task,
            metric: metric.to_owned(),
            is_headline,
            chance: details.and_then(|details| details.chance).filter(|_| is_headline),
            clearly_best: clearly_best(scores, metric, &cells),
            cells,
        })
    });
    rows.collect()
}

fn cell(scores: &[Option<&Score>], model: usize, metric: &str) -> Option<Cell> {
    let score = scores[model]?;
    let value = *score.metrics.get(metric)?;
    let interval = score.recaption.as_ref().and_then(|own| own.intervals.get(metric).copied());
    let first = scores[0].filter(|_| model > 0);
    let lead = first.and_then(|first| score.lead_over(first, metric));
    let lead = lead.map(|(value, interval)| Lead { value, interval });
    Some(Cell { value, interval, lead })
}

fn clearly_best(scores: &[Option<&Score>], metric: &str, cells: &[Option<Cell>]) -> Option<usize> {
    let values =
        cells.iter().enumerate().filter_map(|(model, cell)| Some((model, cell.as_ref()?.value)));
    let (best, _) = values.clone().max_by(|a, b| a.1.total_cmp(&b.1))?;
    let mut others = values.filter(|&(model, _)| model != best).peekable();
    others.peek()?;
    let is_behind = |(other, _)| {
        let lead = scores[best]?.lead_over(scores[other]?, metric)?;
        Some(lead.1?.low > 0.0)
    };
    others.all(|other| is_behind(other) == Some(true)).then_some(best)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::eval::bootstrap;
    use crate::eval::result::Answers;
    use crate::eval::result::Details;
    use crate::eval::result::IMAGE;
    use crate::eval::result::judged;

    pub(in crate::eval) fn score(pretrained: &str, right: usize, of: usize) -> Score {
        let ranks: Vec<usize> = (0..of).map(|i| usize::from(i >= right) * 9).collect();
        let targets: Vec<usize> = (0..of).map(|i| i % 4).collect();
        let answers = Answers::new(format!("{of}"), &ranks, Some(&targets)).unwrap();
        let answers = BTreeMap::from([(IMAGE.to_owned(), answers)]);
        let bootstrap = bootstrap::Config { resamples: 500, seed: 0 };
        let (metrics, intervals) = judged(Task::ZeroShot, &answers, Some(4), &bootstrap).unwrap();
        Score {
            dataset: "set".to_owned(),
            model: "tiny".to_owned(),
            pretrained: pretrained.to_owned(),
            task: Task::ZeroShot,
            metrics,
            language: "en".to_owned(),
            recaption: Some(Details {
                version: "0".to_owned(),
                fingerprint: "f".to_owned(),
                checkpoint: format!("{pretrained}@0"),
                headline: "acc1".to_owned(),
                samples: of as u64,
                texts: None,
                classes: Some(4),
                unreadable: 0,
                unreadable_examples: Vec::new(),
                rounding: None,
                probe: None,
                chance: Some(0.25),
                intervals,
                bootstrap,
                answers,
            }),
        }
    }

    #[test]
    fn only_a_clear_lead_is_the_best() {
        let near = Comparison::of(&[score("a", 200, 400), score("b", 201, 400)]).unwrap();
        let row = &near.rows[0];
        assert_eq!((row.metric.as_str(), row.is_headline, row.chance), ("acc1", true, Some(0.25)));
        assert_eq!(row.clearly_best, None);
        let lead = row.cells[1].unwrap().lead.unwrap();
        assert!((lead.value - 0.0025).abs() < 1e-12 && !lead.is_clear());
        assert_eq!(row.cells[0].unwrap().lead, None);

        let far = Comparison::of(&[score("a", 200, 400), score("b", 260, 400)]).unwrap();
        assert_eq!(far.rows[0].clearly_best, Some(1));
        assert!(far.rows[0].cells[1].unwrap().lead.unwrap().is_clear());
    }

    #[test]
    fn other_samples_have_no_interval_of_the_difference() {
        let found = Comparison::of(&[score("a", 200, 400), score("b", 300, 401)]).unwrap();
        let lead = found.rows[0].cells[1].unwrap().lead.unwrap();
        assert_eq!((lead.interval, found.rows[0].clearly_best), (None, None));
        let alone = Comparison::of(&[score("a", 200, 400)]).unwrap();
        assert_eq!(alone.rows[0].clearly_best, None);
    }

    #[test]
    fn models_of_one_name_are_told_apart_and_twice_the_same_is_refused() {
        let mut other = score("a", 3, 4);
        other.recaption.as_mut().unwrap().checkpoint = "a@1".to_owned();
        let found = Comparison::of(&[score("a", 2, 4), other]).unwrap();
        assert_eq!(found.models, ["a (a@0)", "a (a@1)"]);
        assert!(Comparison::of(&[score("a", 2, 4), score("a", 2, 4)]).is_err());
    }
}
