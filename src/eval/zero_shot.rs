//! Zero-shot classification: each class is the mean of its sentences, each picture goes to the class
//! that is nearest.

use anyhow::Result;
use anyhow::ensure;
use candle_core::DType;
use candle_core::Tensor;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::clip::Embedder;
use crate::eval::data::Labelled;
use crate::eval::features::Features;
use crate::eval::features::of_texts;
use crate::eval::metrics;
use crate::eval::templates::PLACE;

/// Logits are this times the cosine, whatever scale the model learned: CLIP's own evaluation.
const SCALE: f64 = 100.0;

/// Pictures whose logits are in memory.
const BLOCK: usize = 4096;

/// Sentences whose embeddings are in memory.
const SENTENCES: usize = 4096;

/// What becomes of logits before they are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rounding {
    /// Nothing.
    #[default]
    Exact,
    /// 100 times the cosine, cut to an integer: what the released RWKV-CLIP script does by storing
    /// logits as integers. The lowest class wins a tie, which that script leaves to chance. For
    /// ImageNet that script also has another transform of pictures, and counts rows that only fill up
    /// its buffers as right; neither is done here.
    Reference,
}

/// How well pictures were classified. Shares are of all pictures: one that cannot be read is wrong.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Classified {
    /// Share of pictures whose class comes first.
    pub top1: f64,
    /// Share of pictures whose class is among the first five.
    pub top5: f64,
    /// Mean over the classes with pictures of their recall.
    pub mean_per_class: f64,
    /// How many classes come before the right one; `usize::MAX` for a picture that cannot be read.
    /// Those stand last.
    pub ranks: Vec<usize>,
    /// The right class of each.
    pub targets: Vec<usize>,
    /// The class that each was given; none for a picture that cannot be read.
    pub predicted: Vec<Option<usize>>,
    /// Each class, in order.
    pub classes: Vec<ClassScore>,
}

/// How well one class was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassScore {
    /// Its name.
    pub class: String,
    /// Pictures of it.
    pub pictures: u64,
    /// Pictures of it that were given to it.
    pub right: u64,
    /// Pictures that were given to it.
    pub predicted: u64,
}

impl ClassScore {
    /// Share of its pictures that were given to it; none without pictures.
    pub fn recall(&self) -> Option<f64> {
        (self.pictures > 0).then(|| self.right as f64 / self.pictures as f64)
    }

    /// Share of what was given to it that is of it; none when nothing was.
    pub fn precision(&self) -> Option<f64> {
        (self.predicted > 0).then(|| self.right as f64 / self.predicted as f64)
    }
}

impl Classified {
    /// Counts what was right.
    ///
    /// # Errors
    /// When lists differ in length, there is nothing in them, or a class is not there.
    pub fn of(
        classes: &[String],
        ranks: Vec<usize>,
        targets: Vec<usize>,
        predicted: Vec<Option<usize>>,
    ) -> Result<Classified> {
        ensure!(!targets.is_empty(), "there is no picture to judge");
        ensure!(ranks.len() == targets.len() && predicted.len() == targets.len(), "lists differ");
        let of = |class: &String| ClassScore {
            class: class.clone(),
            pictures: 0,
            right: 0,
            predicted: 0,
        };
        let mut scores: Vec<ClassScore> = classes.iter().map(of).collect();
        for (&target, &predicted) in targets.iter().zip(&predicted) {
            let is_there = target.max(predicted.unwrap_or(0)) < classes.len();
            ensure!(is_there, "a class is none of {}", classes.len());
            scores[target].pictures += 1;
            scores[target].right += u64::from(predicted == Some(target));
            if let Some(predicted) = predicted {
                scores[predicted].predicted += 1;
            }
        }
        let recalls: Vec<f64> = scores.iter().filter_map(ClassScore::recall).collect();
        Ok(Classified {
            top1: metrics::within(&ranks, 1),
            top5: metrics::within(&ranks, 5),
            mean_per_class: recalls.iter().sum::<f64>() / recalls.len() as f64,
            ranks,
            targets,
            predicted,
            classes: scores,
        })
    }

    /// How many pictures of each class (rows) were given to each class (columns).
    pub fn confusion(&self) -> Vec<Vec<u64>> {
        let mut table = vec![vec![0; self.classes.len()]; self.classes.len()];
        for (&target, predicted) in self.targets.iter().zip(&self.predicted) {
            if let Some(predicted) = *predicted {
                table[target][predicted] += 1;
            }
        }
        table
    }
}

/// Classifies the pictures.
///
/// # Errors
/// When the model fails on a sentence, or there is nothing to judge.
pub fn score(
    embedder: &Embedder,
    data: &Labelled,
    features: &Features,
    rounding: Rounding,
) -> Result<Classified> {
    let classifier = classifier(embedder, data)?;
    let (mut ranks, mut predicted) = (Vec::new(), Vec::new());
    let pictures = features.targets.len();
    for start in (0..pictures).step_by(BLOCK) {
        let block = start..pictures.min(start + BLOCK);
        let images = features.numbers.narrow(0, start, block.len())?;
        let logits = rounded(&(images * SCALE)?.matmul(&classifier)?, rounding)?;
        ranks.extend(metrics::ranks(&logits, &features.targets[block])?);
        predicted.extend(metrics::predictions(&logits)?.into_iter().map(Some));
    }
    let mut targets = features.targets.clone();
    for unreadable in &features.unreadable {
        ranks.push(usize::MAX);
        predicted.push(None);
        targets.push(unreadable.target);
    }
    Classified::of(&data.classes, ranks, targets, predicted)
}

/// The weights that turn embeddings of pictures into cosines with each class.
///
/// # Shapes
/// - result: (D, classes)
///
/// # Errors
/// When the model fails on a sentence.
pub fn classifier(embedder: &Embedder, data: &Labelled) -> Result<Tensor> {
    let templates = data.templates.len();
    let at_a_time = (SENTENCES / templates).max(1);
    let mut weights = Vec::new();
    for classes in data.called.chunks(at_a_time) {
        let sentences: Vec<String> = classes
            .iter()
            .flat_map(|class| data.templates.iter().map(|template| template.replace(PLACE, class)))
            .collect();
        let texts = of_texts(embedder, &sentences, &|_| ())?; // (classes * templates, D)
        let texts = texts.reshape((classes.len(), templates, ()))?;
        weights.push(metrics::classifier(&texts)?); // (D, classes)
    }
    Ok(Tensor::cat(&weights, 1)?)
}

/// Logits as they are compared.
///
/// # Errors
/// When one is NaN, which an integer would hide.
pub fn rounded(logits: &Tensor, rounding: Rounding) -> Result<Tensor> {
    metrics::rows(logits, "logit")?;
    Ok(match rounding {
        Rounding::Exact => logits.clone(),
        // A cast of floats to integers cuts towards zero.
        Rounding::Reference => logits.to_dtype(DType::I64)?.to_dtype(DType::F32)?,
    })
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn rounding_cuts_towards_zero_and_hides_no_nan() {
        let logits = Tensor::new(&[[21.9f32, -0.7, -3.2]], &Device::Cpu).unwrap();
        let cut = rounded(&logits, Rounding::Reference).unwrap();
        assert_eq!(cut.to_vec2::<f32>().unwrap(), [[21.0, 0.0, -3.0]]);
        let nan = Tensor::new(&[[f32::NAN, 1.0]], &Device::Cpu).unwrap();
        for rounding in [Rounding::Exact, Rounding::Reference] {
            assert!(rounded(&nan, rounding).is_err());
        }
    }
}
