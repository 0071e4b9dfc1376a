//! Retrieval: pictures find their texts, texts their picture.
//!
//! Similarities are made a block of rows at a time, so that 25,000 texts and 5,000 pictures never
//! stand in one matrix.

use std::ops::Range;

use anyhow::Result;
use anyhow::ensure;
use candle_core::Tensor;
use serde::Serialize;

use crate::clip::Embedder;
use crate::eval::data::Captioned;
use crate::eval::features::Embedded;
use crate::eval::features::embedded;
use crate::eval::features::of_texts;
use crate::eval::metrics;
use crate::eval::metrics::Recalls;

/// At how many answers recall is told.
pub const AT: [usize; 3] = [1, 5, 10];

/// Similarities in memory: 64 MB of them.
const SIMILARITIES: usize = 16 << 20;

/// How well pictures and texts find each other. What cannot be read is never found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Retrieved {
    /// Recall at 1, 5 and 10.
    pub recalls: Recalls,
    /// Of each picture with a text: how many texts come before the first of its own; `usize::MAX`
    /// for a picture that cannot be read.
    pub text_ranks: Vec<usize>,
    /// Of each text: how many pictures come before its own.
    pub image_ranks: Vec<usize>,
    /// Pictures.
    pub images: usize,
    /// Texts.
    pub texts: usize,
    /// How many of them are also those of another picture, so that finding their own is partly luck.
    pub shared_texts: usize,
    /// Name of each picture that could not be read, and why.
    pub unreadable: Vec<(String, String)>,
}

/// Embeds pictures and texts and lets them find each other; `progress` is told how many pictures and
/// texts are done.
///
/// # Errors
/// When the data cannot be read to their end, or the model fails.
pub fn score(embedder: &Embedder, data: &Captioned, progress: &dyn Fn(u64)) -> Result<Retrieved> {
    let images = data.pictures().len();
    let Embedded { numbers, places, unreadable } = embedded(embedder, data.pictures(), progress)?;
    let texts = of_texts(embedder, &data.texts, &|done| progress(images as u64 + done))?;
    // Equal texts were embedded once; now they are all done.
    progress((images + data.texts.len()) as u64);
    let mut row_of = vec![None; images];
    places.iter().enumerate().for_each(|(row, &place)| row_of[place] = Some(row));
    let (text_ranks, image_ranks) = ranks(&numbers, &texts, &row_of, &data.image_of, SIMILARITIES)?;
    let name = |(place, why): (usize, String)| (data.pictures().keys()[place].clone(), why);
    Ok(Retrieved {
        recalls: Recalls::at(&AT, &text_ranks, &image_ranks),
        text_ranks,
        image_ranks,
        images,
        texts: data.texts.len(),
        shared_texts: data.shared_texts(),
        unreadable: unreadable.into_iter().map(name).collect(),
    })
}

/// The rank of the first own text of each picture that has one, and of each text's picture.
/// [`metrics::recalls`] over one whole matrix is the specification.
///
/// # Shapes
/// - `images`: (n, D), `texts`: (m, D)
/// - `row_of`: for each picture its row of `images`, if it could be read
/// - `image_of`: for each text its picture
fn ranks(
    images: &Tensor,
    texts: &Tensor,
    row_of: &[Option<usize>],
    image_of: &[usize],
    at_once: usize,
) -> Result<(Vec<usize>, Vec<usize>)> {
    let mut texts_of = vec![Vec::new(); row_of.len()];
    for (text, &image) in image_of.iter().enumerate() {
        ensure!(image < row_of.len(), "picture {image} of a text is none of {}", row_of.len());
        texts_of[image].push(text);
    }
    let mut of_rows = vec![usize::MAX; images.dim(0)?];
    let mut own: Vec<&[usize]> = vec![&[]; of_rows.len()];
    for (row, texts) in row_of.iter().zip(&texts_of) {
        if let Some(row) = *row {
            own[row] = texts;
        }
    }
    each_row(images, texts, at_once, |row, similarities| {
        if let Some(best) = metrics::first(similarities, own[row].iter().copied()) {
            of_rows[row] = metrics::rank(similarities, best);
        }
    })?;
    let mut image_ranks = vec![usize::MAX; image_of.len()];
    each_row(texts, images, at_once, |text, similarities| {
        if let Some(row) = row_of[image_of[text]] {
            image_ranks[text] = metrics::rank(similarities, row);
        }
    })?;
    let asked = row_of.iter().zip(&texts_of).filter(|(_, texts)| !texts.is_empty());
    let text_ranks = asked.map(|(row, _)| row.map_or(usize::MAX, |row| of_rows[row])).collect();
    Ok((text_ranks, image_ranks))
}

/// The similarities of each row of `asking` with all rows of `asked`.
fn each_row(
    asking: &Tensor,
    asked: &Tensor,
    at_once: usize,
    mut work: impl FnMut(usize, &[f32]),
) -> Result<()> {
    let (rows, columns) = (asking.dim(0)?, asked.dim(0)?);
    if columns == 0 {
        return Ok(());
    }
    let asked = asked.t()?;
    let block = (at_once / columns).max(1);
    for start in (0..rows).step_by(block) {
        let Range { start, end } = start..rows.min(start + block);
        let similarities = asking.narrow(0, start, end - start)?.matmul(&asked)?;
        let similarities = metrics::rows(&similarities, "similarity")?;
        for (row, similarities) in (start..).zip(similarities.chunks_exact(columns)) {
            work(row, similarities);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn random(rows: usize) -> Tensor {
        Tensor::randn(0f32, 1.0, (rows, 8), &Device::Cpu).unwrap()
    }

    #[test]
    fn blocks_find_what_one_matrix_finds() {
        let image_of = [3, 0, 0, 1, 3, 3, 5, 1, 2, 2, 5];
        let (images, texts) = (random(6), random(image_of.len()));
        let whole = images.matmul(&texts.t().unwrap()).unwrap();
        let wanted = metrics::recalls(&whole, &image_of, &AT).unwrap();
        let row_of: Vec<Option<usize>> = (0..6).map(Some).collect();
        for at_once in [1, 14, 10_000] {
            let (text, image) = ranks(&images, &texts, &row_of, &image_of, at_once).unwrap();
            // Picture 4 has no text and is never asked.
            assert_eq!((text.len(), image.len()), (5, 11));
            assert_eq!(Recalls::at(&AT, &text, &image), wanted);
        }
    }

    #[test]
    fn an_unreadable_picture_is_never_found_and_finds_nothing() {
        // Three pictures with a text each; the second one has no embedding.
        let axes = Tensor::eye(8, candle_core::DType::F32, &Device::Cpu).unwrap();
        let (images, texts) = (axes.narrow(0, 0, 2).unwrap(), axes.narrow(0, 0, 3).unwrap());
        let row_of = [Some(0), None, Some(1)];
        let (text, image) = ranks(&images, &texts, &row_of, &[0, 1, 2], 1000).unwrap();
        // The row of picture 2 lies on text 1, and its own text 2 is second to that and to none.
        assert_eq!(text, [0, usize::MAX, 2]);
        assert_eq!(image, [0, usize::MAX, 1]);
        assert!(ranks(&images, &texts, &row_of, &[0, 1, 3], 1000).is_err());
    }

    #[test]
    fn a_similarity_that_is_no_number_is_an_error() {
        let nan = Tensor::zeros((2, 8), candle_core::DType::F32, &Device::Cpu).unwrap() / 0.0;
        let row_of = [Some(0), Some(1)];
        assert!(ranks(&nan.unwrap(), &random(2), &row_of, &[0, 1], 1000).is_err());
    }
}
