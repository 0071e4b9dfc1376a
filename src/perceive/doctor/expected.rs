//! The form of `expected.json`: what the Python stack said about some pictures.
//!
//! Only what is compared is read; the files carry more.

use std::fmt;
use std::path::Path;

use anyhow::Context;
use anyhow::Result;
use serde::Deserialize;

use super::BOX_TOLERANCE_PIXELS;
use super::SCORE_TOLERANCE;
use crate::perceive::Config;
use crate::perceive::search::EarlyStopping;
use crate::sample::Tag;

/// Reads a file of recorded answers.
pub(super) fn read(path: &Path) -> Result<Expected> {
    let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| {
        format!(
            "{} is not in the form of expected.json (meta, images with file and tagger, detector, \
             captioner or safety)",
            path.display()
        )
    })
}

#[derive(Deserialize)]
pub(super) struct Expected {
    #[serde(default)]
    pub(super) meta: Meta,
    pub(super) images: Vec<Picture>,
}

#[derive(Default, Deserialize)]
pub(super) struct Meta {
    pub(super) generation: Option<ExpectedGeneration>,
    #[serde(default)]
    pub(super) nms: ExpectedNms,
}

#[derive(Clone, Deserialize)]
pub(super) struct ExpectedGeneration {
    pub(super) max_new_tokens: usize,
    pub(super) num_beams: usize,
    pub(super) length_penalty: f32,
    /// `false`, `true` or `"never"`, as transformers writes it.
    pub(super) early_stopping: serde_json::Value,
}

impl Default for ExpectedGeneration {
    fn default() -> ExpectedGeneration {
        let early_stopping = serde_json::Value::Bool(false);
        ExpectedGeneration { max_new_tokens: 0, num_beams: 4, length_penalty: 1.0, early_stopping }
    }
}

impl ExpectedGeneration {
    pub(super) fn early_stopping(&self) -> EarlyStopping {
        match &self.early_stopping {
            serde_json::Value::Bool(true) => EarlyStopping::FirstFinished,
            serde_json::Value::String(_) => EarlyStopping::Exhaustive,
            _ => EarlyStopping::Heuristic,
        }
    }
}

#[derive(Deserialize)]
pub(super) struct ExpectedNms {
    pub(super) conf: f32,
    pub(super) iou: f32,
}

impl Default for ExpectedNms {
    fn default() -> ExpectedNms {
        let Config { detection_confidence: conf, detection_iou: iou, .. } = Config::default();
        ExpectedNms { conf, iou }
    }
}

#[derive(Deserialize)]
pub(super) struct Picture {
    pub(super) file: String,
    pub(super) tagger: Option<ExpectedTags>,
    pub(super) detector: Option<ExpectedBoxes>,
    pub(super) captioner: Option<ExpectedCaptions>,
    pub(super) safety: Option<ExpectedSafety>,
}

#[derive(Deserialize)]
pub(super) struct ExpectedSafety {
    pub(super) nsfw: f32,
}

#[derive(Deserialize)]
pub(super) struct ExpectedTags {
    pub(super) top8: Vec<ExpectedTag>,
}

#[derive(Deserialize)]
pub(super) struct ExpectedTag {
    pub(super) label: String,
    pub(super) p: f32,
}

#[derive(Deserialize)]
pub(super) struct ExpectedBoxes {
    pub(super) detections: Vec<Detection>,
}

#[derive(Deserialize)]
pub(super) struct Detection {
    pub(super) box_xyxy: [f32; 4],
    pub(super) score: f32,
    pub(super) name: String,
}

impl Detection {
    /// Whether a tag is this detection, within the tolerances.
    pub(super) fn is(&self, tag: &Tag) -> bool {
        let corners = tag.bbox.unwrap_or_default();
        let near = |(a, b): (&f32, &f32)| (a - b).abs() <= BOX_TOLERANCE_PIXELS;
        tag.label == self.name
            && (tag.score - self.score).abs() <= SCORE_TOLERANCE
            && corners.iter().zip(&self.box_xyxy).all(near)
    }
}

impl fmt::Display for Detection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:.4} at {:?}", self.name, self.score, self.box_xyxy)
    }
}

#[derive(Deserialize)]
pub(super) struct ExpectedCaptions {
    pub(super) greedy: Option<ExpectedCaption>,
    pub(super) beam4: Option<ExpectedCaption>,
}

#[derive(Deserialize)]
pub(super) struct ExpectedCaption {
    pub(super) ids: Vec<i64>,
    pub(super) text: String,
    pub(super) sequence_score: Option<f32>,
}
