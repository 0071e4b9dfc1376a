//! Many checkpoints on many data sets: one result file for each combination, and a page.
//!
//! Pictures are embedded once for a checkpoint and a data set, whatever is done with them. A
//! combination whose file is there, made of the same things, is not made again, so that the same
//! command continues what was stopped; data count by their settings and their answers, pictures by
//! their names and not by their bytes. What fails is named at the end and takes nothing else with it.

mod config;
mod fingerprint;
mod names;
mod opened;
mod work;

use std::collections::HashSet;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Error;
use anyhow::Result;
use anyhow::ensure;

use crate::clip::Embedder;
use crate::eval::page;
use crate::eval::result::Score;
use crate::eval::result::Task;
use crate::eval::suite::fingerprint::fingerprint;
use crate::eval::suite::opened::Data;
use crate::eval::suite::work::Work;

pub use config::Checkpoint;
pub use config::LabelledTasks;
pub use config::PartConfig;
pub use config::ProbeConfig;
pub use config::Suite;
pub use names::file_name;
pub use names::told_apart;

/// What is told while a suite is worked on.
#[derive(Debug)]
pub enum Told<'a> {
    /// A combination has its file already.
    Kept(&'a Score),
    /// What is to be known about how a data set was read.
    Note(&'a str),
    /// So many pictures or texts are going to be embedded.
    Started {
        /// Checkpoint and data set.
        what: &'a str,
        /// How many.
        total: u64,
    },
    /// So many of them are done.
    Done(u64),
    /// A combination has its file now.
    Made(&'a Score),
    /// Something failed.
    Failed(&'a Failure),
}

/// What became of a suite.
#[derive(Debug, Default)]
pub struct Ended {
    /// All results there are, in the order of the suite.
    pub scores: Vec<Score>,
    /// How many of them were made now.
    pub made: usize,
    /// What has no result, and why.
    pub failures: Vec<Failure>,
    /// The page.
    pub page: PathBuf,
}

/// A part of a suite that failed.
#[derive(Debug)]
pub struct Failure {
    /// Checkpoint, data set, task, as far as it goes.
    pub what: String,
    /// Why.
    pub why: Error,
}

/// A task on a data set, and where its result goes.
struct Job {
    task: Task,
    file: PathBuf,
    fingerprint: String,
}

/// Makes what is missing in `folder`, then its `results.md` and `results.html`.
///
/// # Errors
/// When the settings cannot be meant or the folder cannot be written; what fails for one combination
/// is in the outcome.
pub fn run(suite: &Suite, folder: &Path, tell: &dyn Fn(Told)) -> Result<Ended> {
    suite.check()?;
    let suite = &suite.clone().absolute();
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let mut ended = Ended::default();
    let data = open_all(suite, tell, &mut ended);
    ensure_files_differ(suite, &data)?;
    for checkpoint in &suite.checkpoint {
        if let Err(why) = score(suite, checkpoint, &data, folder, tell, &mut ended) {
            ended.fail(checkpoint.name(), why, tell);
        }
    }
    ended.page = page::write(&ended.scores, folder)?;
    Ok(ended)
}

fn open_all<'a>(suite: &'a Suite, tell: &dyn Fn(Told), ended: &mut Ended) -> Vec<Data<'a>> {
    let labelled = suite.labelled.iter().map(|e| (&e.data.data, Data::labelled(e)));
    let captioned = suite.captioned.iter().map(|e| (&e.data, Data::captioned(e)));
    let mut data = Vec::new();
    for (path, opened) in labelled.chain(captioned) {
        match opened {
            Ok(opened) => {
                if let Some(note) = opened.note() {
                    tell(Told::Note(&note));
                }
                data.push(opened);
            }
            Err(why) => ended.fail(path.display().to_string(), why, tell),
        }
    }
    opened::tell_apart(&mut data);
    data
}

/// Before the long work: a file that two results share would be made anew with every run.
fn ensure_files_differ(suite: &Suite, data: &[Data]) -> Result<()> {
    let (mut asked, mut files) = (HashSet::new(), HashSet::new());
    for (data, &task) in data.iter().flat_map(|data| data.tasks().iter().map(move |t| (data, t))) {
        let name = data.name();
        let is_new = asked.insert((name, task));
        ensure!(is_new, "two data sets for {} are called {name}; give one a name", task.words());
        for checkpoint in &suite.checkpoint {
            let file = result_file(data, checkpoint, task);
            // Some file systems take large letters for small ones.
            ensure!(
                files.insert(file.to_lowercase()),
                "two results would be in {file}; give a data set or a checkpoint another name"
            );
        }
    }
    Ok(())
}

fn result_file(data: &Data, checkpoint: &Checkpoint, task: Task) -> String {
    let name = format!("{}_{}_{}", data.name(), checkpoint.name(), task.name());
    format!("{}.json", file_name(&name))
}

/// All tasks of one checkpoint. It is loaded when the first of them is missing.
fn score(
    suite: &Suite,
    checkpoint: &Checkpoint,
    data: &[Data],
    folder: &Path,
    tell: &dyn Fn(Told),
    ended: &mut Ended,
) -> Result<()> {
    let weights = fingerprint::of_checkpoint(checkpoint)?;
    let (name, model) = (checkpoint.name(), checkpoint.model()?);
    let mut embedder = None;
    for data in data {
        let mut missing = Vec::new();
        for &task in data.tasks() {
            let fingerprint = fingerprint(&weights, suite, data, task);
            let file = folder.join(result_file(data, checkpoint, task));
            match Score::read(&file).ok().filter(|score| score.is_of(&fingerprint)) {
                Some(score) => ended.keep(score, tell),
                None => missing.push(Job { task, file, fingerprint }),
            }
        }
        if missing.is_empty() {
            continue;
        }
        let embedder = match &embedder {
            Some(embedder) => embedder,
            None => embedder.insert(Embedder::open(&checkpoint.clip()?)?),
        };
        let what = format!("{name} · {}", data.name());
        match Work::start(suite, embedder, data, &what, tell) {
            Ok(work) => make(&work, &missing, (&name, &model, data.name()), tell, ended),
            Err(why) => ended.fail(what, why, tell),
        }
    }
    Ok(())
}

/// The results that are missing, of a checkpoint and its sizes on a data set.
fn make(
    work: &Work,
    missing: &[Job],
    (pretrained, model, dataset): (&str, &str, &str),
    tell: &dyn Fn(Told),
    ended: &mut Ended,
) {
    for job in missing {
        let score = work.score(job).map(|(metrics, details)| Score {
            dataset: dataset.to_owned(),
            model: model.to_owned(),
            pretrained: pretrained.to_owned(),
            task: job.task,
            metrics,
            language: "en".to_owned(),
            recaption: Some(details),
        });
        match score.and_then(|score| score.write(&job.file).map(|()| score)) {
            Ok(score) => ended.make(score, tell),
            Err(why) => {
                let what = format!("{pretrained} · {dataset} · {}", job.task.words());
                ended.fail(what, why, tell);
            }
        }
    }
}

impl Score {
    fn is_of(&self, fingerprint: &str) -> bool {
        self.recaption.as_ref().is_some_and(|details| details.fingerprint == fingerprint)
    }
}

impl Ended {
    fn keep(&mut self, score: Score, tell: &dyn Fn(Told)) {
        tell(Told::Kept(&score));
        self.scores.push(score);
    }

    fn make(&mut self, score: Score, tell: &dyn Fn(Told)) {
        tell(Told::Made(&score));
        self.made += 1;
        self.scores.push(score);
    }

    fn fail(&mut self, what: String, why: Error, tell: &dyn Fn(Told)) {
        let failure = Failure { what, why };
        tell(Told::Failed(&failure));
        self.failures.push(failure);
    }
}
