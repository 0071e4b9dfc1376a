//! Zero-shot classification: each class is the mean of its sentences, each picture goes to the class
//! that is nearest.

use anyhow::Result;
use anyhow::bail;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::clip::Embedder;
use crate::eval::data::Labelled;
use crate::eval::features::Features;

/// What becomes of logits before they are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rounding {
    /// Nothing.
    #[default]
    Exact,
    /// 100 times the cosine, cut to an integer: what the released RWKV-CLIP script does by storing
    /// logits as integers. The lowest class wins a tie, which that script leaves to chance.
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
    _embedder: &Embedder,
    _data: &Labelled,
    _features: &Features,
    _rounding: Rounding,
) -> Result<Classified> {
    bail!("pictures are not classified yet")
}
