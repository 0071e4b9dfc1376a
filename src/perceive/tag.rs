//! Labels for a whole picture: an image classifier in the layout of transformers.

use std::sync::Arc;

use anyhow::Result;
use anyhow::ensure;

use crate::models::folder;
use crate::models::folder::Activation;
use crate::perceive::network::ImageNetwork;
use crate::perceive::network::Images;
use crate::perceive::network::by_row;
use crate::perceive::network::not_a_number;
use crate::sample::Reject;
use crate::sample::Tag;

/// A classifier with its session; belongs to one worker.
pub(crate) struct Tagger {
    network: ImageNetwork,
    labels: Vec<String>,
    activation: Activation,
    model: Arc<str>,
}

impl Tagger {
    pub(crate) fn new(
        network: ImageNetwork,
        plan: &folder::Tagger,
        model: Arc<str>,
    ) -> Result<Tagger> {
        let dims = network.output_dims();
        let labels = plan.labels.len();
        ensure!(
            dims.len() == 2 && (dims[1] < 0 || dims[1] == labels as i64),
            "{} gives {dims:?}, but its configuration has {labels} labels: the files are not of one \
             export",
            network.path().display()
        );
        Ok(Tagger { network, labels: plan.labels.clone(), activation: plan.activation, model })
    }

    /// The tags above `threshold`, best first, at most `max_tags`.
    pub(crate) fn tag(
        &mut self,
        images: Images<'_>,
        threshold: f32,
        max_tags: usize,
    ) -> Vec<Result<Vec<Tag>, Reject>> {
        let scores = by_row(images.rows, |rows| self.scores(images.slice(rows)));
        let tags = |scores: Vec<f32>| self.best(&scores, threshold, max_tags);
        scores.into_iter().map(|row| row.map(tags)).collect()
    }

    /// The score of each label, by row.
    pub(crate) fn scores(&mut self, images: Images<'_>) -> Result<Vec<Result<Vec<f32>, Reject>>> {
        let (labels, activation, model) = (self.labels.len(), self.activation, self.model.clone());
        self.network.run(images, |_, logits| {
            ensure!(logits.len() == labels, "{} logits for {labels} labels", logits.len());
            Ok(activate(logits, activation).ok_or_else(|| not_a_number(&model)))
        })
    }

    /// The name of each label.
    pub(crate) fn labels(&self) -> &[String] {
        &self.labels
    }

    fn best(&self, scores: &[f32], threshold: f32, max_tags: usize) -> Vec<Tag> {
        let mut ids: Vec<usize> = (0..scores.len()).filter(|&id| scores[id] >= threshold).collect();
        // Stable: equal scores stay in the order of the labels.
        ids.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
        ids.truncate(max_tags);
        ids.into_iter().map(|id| self.as_tag(id, scores[id])).collect()
    }

    fn as_tag(&self, id: usize, score: f32) -> Tag {
        Tag { label: self.labels[id].clone(), score, bbox: None, model: self.model.clone() }
    }
}

/// Scores from logits; `None` where a logit is NaN or infinite.
fn activate(logits: &[f32], activation: Activation) -> Option<Vec<f32>> {
    if !logits.iter().all(|l| l.is_finite()) {
        return None;
    }
    Some(match activation {
        Activation::Sigmoid => logits.iter().map(|l| 1.0 / (1.0 + (-l).exp())).collect(),
        Activation::Softmax => softmax(logits),
        Activation::None => logits.to_vec(),
    })
}

fn softmax(logits: &[f32]) -> Vec<f32> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f32> = logits.iter().map(|l| (l - max).exp()).collect();
    let sum: f32 = weights.iter().sum();
    weights.into_iter().map(|w| w / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_probabilities() {
        let sigmoid = activate(&[0.0, 2.0, -200.0], Activation::Sigmoid).unwrap();
        assert_eq!((sigmoid[0], sigmoid[2]), (0.5, 0.0));
        assert!((sigmoid[1] - 0.880_797).abs() < 1e-6);
        let softmax = activate(&[1000.0, 1000.0], Activation::Softmax).unwrap();
        assert_eq!(softmax, [0.5, 0.5]);
    }

    #[test]
    fn a_logit_that_is_no_number_gives_no_scores() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert_eq!(activate(&[0.0, bad], Activation::Sigmoid), None);
        }
    }
}
