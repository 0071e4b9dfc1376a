//! The part of the configuration file that says which models look, and how.

use std::path::PathBuf;

use anyhow::Result;
use anyhow::ensure;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::models::folder::Generation;
use crate::models::folder::Precision;
use crate::perceive::detect::Thresholds;
use crate::perceive::search::EarlyStopping;
use crate::perceive::search::Rules;
use crate::perceive::session::ExecutionProvider;
use crate::perceive::session::SessionOptions;

/// Which models look at the pictures, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Folder of an image classifier.
    pub tagger: Option<PathBuf>,
    /// Folder of a YOLO detector.
    pub detector: Option<PathBuf>,
    /// Folder of a captioner.
    pub captioner: Option<PathBuf>,
    /// Folder of a classifier that says how unsafe a picture is (column `nsfw`), or the name of one
    /// that `recaption models pull` has brought: `open-nsfw`.
    pub safety: Option<PathBuf>,
    /// Pictures that the safety classifier gives a higher score than this are rejected, 0 to 1; unset:
    /// none is.
    pub max_nsfw: Option<f32>,
    /// A label of the classifier becomes a tag from this score on, 0 to 1.
    pub tag_threshold: f32,
    /// Tags of the classifier for one picture at most.
    pub max_tags: usize,
    /// A box counts above this score, 0 to 1.
    pub detection_confidence: f32,
    /// Of boxes of one class that overlap by more than this (intersection over union), the best
    /// stays.
    pub detection_iou: f32,
    /// Boxes for one picture at most.
    pub max_detections: usize,
    /// Captions under way for each picture; 1 is greedy search.
    pub beams: usize,
    /// Tokens of a caption at most; unset: what the model's own files say.
    pub max_new_tokens: Option<usize>,
    /// Beam search only: scores are divided by length to this power; above 0 favours longer
    /// captions.
    pub length_penalty: f32,
    /// Beam search only: when to stop looking.
    pub early_stopping: EarlyStopping,
    /// Pictures run together.
    pub batch: usize,
    /// Threads of each session.
    pub intra_threads: usize,
    /// What runs the networks.
    pub execution_provider: ExecutionProvider,
    /// Which export of the weights to take where a folder has several.
    pub precision: Precision,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            tagger: None,
            detector: None,
            captioner: None,
            safety: None,
            // Yahoo's own advice is to trust scores below 0.2 and above 0.8; a filter can choose
            // later, a reject is gone.
            max_nsfw: None,
            // Read off the test split of the starter tagger: F1 is flat between 0.2 and 0.3.
            tag_threshold: 0.25,
            // More than a person would name; the writer's prompt has to hold them all.
            max_tags: 20,
            // Ultralytics' own defaults for prediction.
            detection_confidence: 0.25,
            detection_iou: 0.45,
            max_detections: 50,
            // Beams cost their number and help a short caption little.
            beams: 1,
            max_new_tokens: None,
            length_penalty: 1.0,
            early_stopping: EarlyStopping::Heuristic,
            // Taggers and detectors gain nothing from a batch on a processor, but eight captions
            // together take two thirds of the time they take one by one (measured with the
            // starter captioner; sixteen gain another tenth).
            batch: 8,
            // Several workers with one thread each beat one worker with several.
            intra_threads: 1,
            execution_provider: ExecutionProvider::Cpu,
            precision: Precision::Full,
        }
    }
}

/// Tokens of a caption where neither the configuration nor the model says how many.
const DEFAULT_MAX_NEW_TOKENS: usize = 32;

impl Config {
    pub(crate) fn check(&self) -> Result<()> {
        for (name, value) in [
            ("tag_threshold", self.tag_threshold),
            ("detection_confidence", self.detection_confidence),
            ("detection_iou", self.detection_iou),
            ("max_nsfw", self.max_nsfw.unwrap_or_default()),
        ] {
            ensure!((0.0..=1.0).contains(&value), "{name} is {value}, not between 0 and 1");
        }
        ensure!(
            self.max_nsfw.is_none() || self.safety.is_some(),
            "max_nsfw is set, but no safety classifier is named that could give a score"
        );
        for (name, value, most) in [
            ("beams", self.beams, 64),
            ("batch", self.batch, 4096),
            ("intra_threads", self.intra_threads, 1024),
            ("max_new_tokens", self.max_new_tokens.unwrap_or(1), 4096),
        ] {
            ensure!((1..=most).contains(&value), "{name} is {value}, not between 1 and {most}");
        }
        ensure!(self.length_penalty.is_finite(), "length_penalty is not a number");
        Ok(())
    }

    /// How captions are searched for with a model whose own files say `generation`.
    pub(crate) fn rules(&self, generation: &Generation) -> Rules {
        let wanted = self.max_new_tokens.or(generation.max_new_tokens);
        let wanted = wanted.unwrap_or(DEFAULT_MAX_NEW_TOKENS);
        Rules {
            start: generation.start,
            end: generation.end.clone(),
            max_new_tokens: generation.max_positions.map_or(wanted, |most| wanted.min(most)),
            beams: self.beams,
            length_penalty: self.length_penalty,
            early_stopping: self.early_stopping,
        }
    }

    pub(crate) fn session_options(&self) -> SessionOptions {
        SessionOptions {
            intra_threads: self.intra_threads,
            execution_provider: self.execution_provider,
        }
    }

    pub(crate) fn thresholds(&self) -> Thresholds {
        Thresholds {
            confidence: self.detection_confidence,
            iou: self.detection_iou,
            max_detections: self.max_detections,
        }
    }
}
