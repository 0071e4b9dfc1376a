//! How unsafe a picture is: the summed scores of a classifier's labels that say so.

use std::sync::Arc;

use anyhow::Result;

use crate::models::folder;
use crate::perceive::network::ImageNetwork;
use crate::perceive::network::Images;
use crate::perceive::network::by_row;
use crate::perceive::tag::Tagger;
use crate::sample::Reason;
use crate::sample::Reject;
use crate::sample::Safety;
use crate::sample::Stage;

/// A softmax of single precision may pass 1 by this much; a network whose "scores" go further gives
/// something else.
const ROUNDING: f32 = 1e-3;

/// A safety classifier with its session; belongs to one worker.
pub(crate) struct Classifier {
    classifier: Tagger,
    unsafe_labels: Vec<usize>,
    model: Arc<str>,
}

impl Classifier {
    pub(crate) fn new(
        network: ImageNetwork,
        plan: &folder::Safety,
        model: Arc<str>,
    ) -> Result<Classifier> {
        let classifier = Tagger::new(network, &plan.classifier, model.clone())?;
        Ok(Classifier { classifier, unsafe_labels: plan.unsafe_labels.clone(), model })
    }

    /// The score of each row; what is above `most` is a reject.
    pub(crate) fn rate(
        &mut self,
        images: Images<'_>,
        most: Option<f32>,
    ) -> Vec<Result<Safety, Reject>> {
        let scores = by_row(images.rows, |rows| self.classifier.scores(images.slice(rows)));
        let rated = scores.into_iter().map(|row| row.and_then(|scores| self.rated(&scores)));
        rated.map(|row| row.and_then(|safety| accepted(safety, most))).collect()
    }

    fn rated(&self, scores: &[f32]) -> Result<Safety, Reject> {
        let is_score = |score: &&f32| (-ROUNDING..=1.0 + ROUNDING).contains(*score);
        if let Some(other) = scores.iter().find(|score| !is_score(score)) {
            let model = &self.model;
            let detail = format!("{model} gives {other}, no score: are its outputs logits?");
            return Err(Reject::new(Stage::Perceive, Reason::ModelFailed, detail));
        }
        // Labels of a sigmoid are not exclusive: together they may pass 1.
        let nsfw: f32 = self.unsafe_labels.iter().map(|&label| scores[label]).sum();
        Ok(Safety { nsfw: nsfw.clamp(0.0, 1.0), model: self.model.clone() })
    }
}

fn accepted(safety: Safety, most: Option<f32>) -> Result<Safety, Reject> {
    match most.filter(|most| safety.nsfw > *most) {
        Some(most) => {
            let detail = format!("nsfw {:.3}, above {most} ({})", safety.nsfw, safety.model);
            Err(Reject::new(Stage::Perceive, Reason::Unsafe, detail))
        }
        None => Ok(safety),
    }
}
