//! `metrics.jsonl`: a line for each step and each validation, for programs, curves and the report.
//!
//! Lines of steps that a stopped training took after its last checkpoint are taken out when it goes
//! on: it takes those steps again.

use std::fs::File;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::atomic_file;

/// A line of the journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Line {
    /// A step was taken.
    Step(Step),
    /// The model was tried on pictures it is not trained on.
    Validation(Validation),
}

/// A step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    /// Its number, from 1.
    pub step: u64,
    /// Epochs before it, with the part of the one under way.
    pub epoch: f64,
    /// What was made smaller.
    pub loss: f64,
    /// The contrastive part of the loss.
    pub contrastive: f64,
    /// Mean weight of the gate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gate: Option<f64>,
    /// Divergence from the teacher's softmax, nats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teacher_logits: Option<f64>,
    /// Squared distance from the teacher's embeddings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teacher_features: Option<f64>,
    /// Norm of all gradients before clipping.
    pub grad_norm: f64,
    /// Learning rate.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Logarithm of the factor on cosines, after the step.
    pub logit_scale: f64,
    /// Samples of rank 0.
    pub samples: usize,
    /// Pictures of rank 0 that could not be read.
    pub unreadable: usize,
    /// Seconds of the step, waiting included. No part of what is the same when a training is repeated.
    pub seconds: f64,
    /// Seconds of it in which the model waited for the loader.
    pub waited: f64,
}

/// How the model finds pictures and texts that it is not trained on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Validation {
    /// Steps taken.
    pub step: u64,
    /// Pictures with a text.
    pub pairs: usize,
    /// Of pictures whose text is among the first 1, 5, 10: the share.
    pub image_to_text: Vec<f64>,
    /// Of texts whose picture is among the first 1, 5, 10: the share.
    pub text_to_image: Vec<f64>,
}

impl Line {
    fn step(&self) -> u64 {
        match self {
            Line::Step(step) => step.step,
            Line::Validation(validation) => validation.step,
        }
    }
}

/// The file, open at its end.
pub struct Journal {
    path: PathBuf,
    file: File,
}

const FILE: &str = "metrics.jsonl";

impl Journal {
    /// Opens it as it was after `step` steps.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn open(run: &Path, step: u64) -> Result<Journal> {
        let path = run.join(FILE);
        let mut kept = String::new();
        for line in lines(run)?.iter().filter(|line| line.step() <= step) {
            kept.push_str(&serde_json::to_string(line)?);
            kept.push('\n');
        }
        atomic_file::write(&path, kept.as_bytes())?;
        let file = OpenOptions::new().append(true).open(&path);
        let file = file.with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Journal { path, file })
    }

    /// Writes a line, at once and in one piece.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn push(&mut self, line: &Line) -> Result<()> {
        let mut text = serde_json::to_string(line)?;
        text.push('\n');
        let written = self.file.write_all(text.as_bytes());
        written.with_context(|| format!("cannot write {}: is the disk full?", self.path.display()))
    }
}

/// All lines of a run's journal; none where there is no journal. A last line that was cut off does not
/// count.
///
/// # Errors
/// When the file cannot be read, or another line is none of ours.
pub fn lines(run: &Path) -> Result<Vec<Line>> {
    let path = run.join(FILE);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).context(format!("cannot read {}", path.display())),
    };
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let parse = |(number, line): (usize, &str)| {
        let what = || format!("line {} of {} is damaged", number + 1, path.display());
        serde_json::from_str(line).with_context(what)
    };
    whole.lines().enumerate().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn validation(step: u64) -> Line {
        let (image_to_text, text_to_image) = (vec![0.1], vec![0.2]);
        Line::Validation(Validation { step, pairs: 3, image_to_text, text_to_image })
    }

    #[test]
    fn steps_that_are_taken_again_are_taken_out() {
        let run = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(run.path(), 0).unwrap();
        for step in [1, 2, 3] {
            journal.push(&validation(step)).unwrap();
        }
        std::fs::OpenOptions::new()
            .append(true)
            .open(run.path().join(FILE))
            .unwrap()
            .write_all(b"{\"event\":\"val")
            .unwrap();
        assert_eq!(lines(run.path()).unwrap().len(), 3);
        let mut journal = Journal::open(run.path(), 2).unwrap();
        journal.push(&validation(3)).unwrap();
        assert_eq!(lines(run.path()).unwrap(), [1, 2, 3].map(validation));
        std::fs::write(run.path().join(FILE), "nonsense\n").unwrap();
        assert!(format!("{:#}", lines(run.path()).unwrap_err()).contains("line 1"));
    }
}
