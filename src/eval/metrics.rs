//! Zero-shot classification and retrieval, from logits and similarities.
//!
//! All results are shares, 0 to 1. Logits are compared as the floats they are; the released
//! RWKV-CLIP script stores them as integers first, which cuts off what is behind the point and makes
//! ties of near misses, so that its numbers differ from these by a point or so.
//!
//! Ties: whoever comes first (the lower class, image or caption) is before the others, as in a
//! stable sort. A model that finds all things equal then scores what guessing does, and not 1.
//! A number that is none (NaN) is an error: it has no place in an order.

use anyhow::Result;
use anyhow::ensure;
use candle_core::DType;
use candle_core::Tensor;
use serde::Serialize;

use crate::model;

/// Share of samples whose target has the highest logit.
///
/// # Shapes
/// - `logits`: (samples, classes)
/// - `targets`: one class of each sample
///
/// # Errors
/// When there are no samples, lengths differ, a target is no class, or a logit is NaN.
pub fn accuracy(logits: &Tensor, targets: &[usize]) -> Result<f64> {
    Ok(within(&ranks(logits, targets)?, 1))
}

/// Mean over the classes of the share of a class's samples whose target has the highest logit.
/// Classes without a sample are left out.
///
/// # Shapes
/// - `logits`: (samples, classes)
/// - `targets`: one class of each sample
///
/// # Errors
/// As [`accuracy`].
pub fn mean_per_class(logits: &Tensor, targets: &[usize]) -> Result<f64> {
    let mut classes = vec![(0, 0); logits.dim(1)?];
    for (rank, &target) in ranks(logits, targets)?.into_iter().zip(targets) {
        let (rights, samples) = &mut classes[target];
        *rights += usize::from(rank == 0);
        *samples += 1;
    }
    let seen = classes.into_iter().filter(|&(_, samples)| samples > 0);
    let shares: Vec<f64> = seen.map(|(rights, samples)| share(rights, samples)).collect();
    Ok(shares.iter().sum::<f64>() / shares.len() as f64)
}

/// How many classes come before the target of each sample.
///
/// # Shapes
/// - `logits`: (samples, classes)
/// - `targets`: one class of each sample
///
/// # Errors
/// As [`accuracy`].
pub fn ranks(logits: &Tensor, targets: &[usize]) -> Result<Vec<usize>> {
    let (samples, classes) = logits.dims2()?;
    ensure!(samples > 0 && classes > 0, "{samples} samples of {classes} classes: nothing to judge");
    ensure!(samples == targets.len(), "{samples} rows of logits, {} targets", targets.len());
    let logits = rows(logits, "logit")?;
    let mut ranks = Vec::with_capacity(samples);
    for (row, &target) in logits.chunks_exact(classes).zip(targets) {
        ensure!(target < classes, "target {target} is not one of {classes} classes");
        ranks.push(rank(row, target));
    }
    Ok(ranks)
}

/// The class of each sample that comes before all others.
///
/// # Shapes
/// - `logits`: (samples, classes)
///
/// # Errors
/// When there are no classes, or a logit is NaN.
pub fn predictions(logits: &Tensor) -> Result<Vec<usize>> {
    let (samples, classes) = logits.dims2()?;
    ensure!(classes > 0, "{samples} samples of no classes: nothing to judge");
    let logits = rows(logits, "logit")?;
    Ok(logits.chunks_exact(classes).map(|row| first(row, 0..classes).unwrap_or(0)).collect())
}

/// Share of ranks below `k`: right among the first `k`.
pub fn within(ranks: &[usize], k: usize) -> f64 {
    share(ranks.iter().filter(|&&rank| rank < k).count(), ranks.len())
}

/// Share of queries whose answer is among the first `k`, for each `k` that was asked for.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Recalls {
    /// An image asks for texts; any of its own will do. ("Text retrieval".)
    pub image_to_text: Vec<f64>,
    /// A text asks for its image. ("Image retrieval".)
    pub text_to_image: Vec<f64>,
}

/// Recall at each of `ks` in both directions.
///
/// Any number of captions per image, in any order; images without one are only found, never asked.
///
/// # Shapes
/// - `similarity`: (images, texts)
/// - `image_of`: the image of each text
///
/// # Errors
/// When there are no texts, lengths differ, an image is not there, or a similarity is NaN.
pub fn recalls(similarity: &Tensor, image_of: &[usize], ks: &[usize]) -> Result<Recalls> {
    let (images, texts) = similarity.dims2()?;
    ensure!(texts > 0, "there are no texts to look for");
    ensure!(texts == image_of.len(), "{texts} columns, but {} texts", image_of.len());
    if let Some(image) = image_of.iter().find(|&&image| image >= images) {
        anyhow::bail!("image {image} of a text is not one of {images} images");
    }
    let similarity = rows(similarity, "similarity")?;
    Ok(Recalls::at(
        ks,
        &ranks_of_texts(&similarity, image_of),
        &ranks_of_images(&similarity, image_of),
    ))
}

impl Recalls {
    /// Recall at each of `ks`, from the ranks of each image's first own text and of each text's image.
    pub fn at(ks: &[usize], text_ranks: &[usize], image_ranks: &[usize]) -> Recalls {
        let at_each = |ranks| ks.iter().map(|&k| within(ranks, k)).collect();
        Recalls { image_to_text: at_each(text_ranks), text_to_image: at_each(image_ranks) }
    }
}

/// For each image with a text: how many texts come before the first of its own.
fn ranks_of_texts(similarity: &[f32], image_of: &[usize]) -> Vec<usize> {
    let rows = similarity.chunks_exact(image_of.len()).enumerate();
    let ranks = rows.filter_map(|(image, row)| {
        Some(rank(row, first(row, (0..row.len()).filter(|&text| image_of[text] == image))?))
    });
    ranks.collect()
}

/// For each text: how many images come before its own. Row by row, because a column of a large
/// matrix is a new piece of memory for every number.
fn ranks_of_images(similarity: &[f32], image_of: &[usize]) -> Vec<usize> {
    let texts = image_of.len();
    let own: Vec<f32> =
        image_of.iter().enumerate().map(|(text, image)| similarity[image * texts + text]).collect();
    let mut ranks = vec![0; texts];
    for (image, row) in similarity.chunks_exact(texts).enumerate() {
        for text in 0..texts {
            ranks[text] += usize::from(before(row[text], image, own[text], image_of[text]));
        }
    }
    ranks
}

/// How many values come before the one at `own`.
pub(super) fn rank(values: &[f32], own: usize) -> usize {
    let value = values[own];
    values.iter().enumerate().filter(|&(at, &other)| before(other, at, value, own)).count()
}

/// Which of these places, given in order, comes first.
pub(super) fn first(values: &[f32], places: impl Iterator<Item = usize>) -> Option<usize> {
    places.reduce(|best, place| if values[place] > values[best] { place } else { best })
}

fn before(other: f32, at: usize, value: f32, own: usize) -> bool {
    other > value || (other == value && at < own)
}

/// The weights of a zero-shot classifier: each text's embedding normalised, their mean over the
/// templates normalised again.
///
/// # Shapes
/// - `text_features`: (classes, templates, dim)
/// - result: (dim, classes), so that normalised image features (n, dim) times it are cosines
///
/// # Errors
/// When the tensor has another number of axes, or no templates.
pub fn classifier(text_features: &Tensor) -> Result<Tensor> {
    let (classes, templates, _) = text_features.dims3()?;
    ensure!(classes > 0 && templates > 0, "{classes} classes with {templates} templates each");
    let mean = model::normalized(text_features)?.mean(1)?; // (classes, dim)
    Ok(model::normalized(&mean)?.t()?.contiguous()?)
}

/// All numbers of a tensor, none of them NaN.
pub(super) fn rows(tensor: &Tensor, what: &str) -> Result<Vec<f32>> {
    let values: Vec<f32> = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
    ensure!(!values.iter().any(|value| value.is_nan()), "a {what} is not a number");
    Ok(values)
}

fn share(part: usize, whole: usize) -> f64 {
    part as f64 / whole as f64
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn tensor(rows: &[&[f32]]) -> Tensor {
        let flat: Vec<f32> = rows.concat();
        Tensor::from_vec(flat, (rows.len(), rows[0].len()), &Device::Cpu).unwrap()
    }

    #[test]
    fn what_finds_all_equal_scores_what_guessing_does() {
        let equal = Tensor::zeros((4, 4), DType::F32, &Device::Cpu).unwrap();
        assert_eq!(accuracy(&equal, &[0, 1, 2, 3]).unwrap(), 0.25);
        let found = recalls(&equal, &[0, 1, 2, 3], &[1, 2, 4]).unwrap();
        assert_eq!(found.image_to_text, [0.25, 0.5, 1.0]);
        assert_eq!(found.text_to_image, [0.25, 0.5, 1.0]);
    }

    #[test]
    fn classes_weigh_the_same_however_many_samples_they_have() {
        let logits =
            tensor(&[&[1.0, 0.0, 0.0], &[1.0, 0.0, 0.0], &[1.0, 0.0, 0.0], &[1.0, 0.0, 0.0]]);
        let targets = [0, 0, 0, 1];
        assert_eq!(accuracy(&logits, &targets).unwrap(), 0.75);
        assert_eq!(mean_per_class(&logits, &targets).unwrap(), 0.5);
    }

    #[test]
    fn an_image_is_found_by_any_of_its_texts_and_may_have_none() {
        // Texts 0 and 2 are of image 1, text 1 of image 0; image 2 has none.
        let similarity = tensor(&[&[0.9, 0.5, 0.1], &[0.2, 0.8, 0.9], &[0.3, 0.9, 0.95]]);
        let found = recalls(&similarity, &[1, 0, 1], &[1, 2, 3]).unwrap();
        assert_eq!(found.image_to_text, [0.5, 1.0, 1.0]);
        assert_eq!(found.text_to_image, [0.0, 1.0 / 3.0, 1.0]);
    }

    #[test]
    fn what_cannot_be_judged_is_an_error() {
        let logits = tensor(&[&[1.0, f32::NAN]]);
        assert!(accuracy(&logits, &[0]).is_err());
        assert!(accuracy(&tensor(&[&[1.0, 2.0]]), &[2]).is_err());
        assert!(accuracy(&tensor(&[&[1.0, 2.0]]), &[0, 1]).is_err());
        assert!(recalls(&tensor(&[&[1.0, 2.0]]), &[0, 1], &[1]).is_err());
        assert!(classifier(&Tensor::zeros((2, 0, 3), DType::F32, &Device::Cpu).unwrap()).is_err());
    }
}
