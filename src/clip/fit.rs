//! How well the texts of a sample fit its picture: cosines of embeddings.

use std::sync::Arc;

use anyhow::Result;
use rayon::iter::IntoParallelRefIterator;
use rayon::iter::ParallelIterator;

use super::Embedder;
use crate::decode::Limits;
use crate::sample::Fit;
use crate::sample::Sample;

/// Judges samples; its threads are those of the model.
pub struct Judge {
    embedder: Embedder,
    batch: usize,
}

impl Judge {
    /// One that embeds so many pictures at once; 0 counts as 1.
    pub fn new(embedder: Embedder, batch: usize) -> Judge {
        Judge { embedder, batch: batch.max(1) }
    }

    /// Pictures that are best given together.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// The model.
    pub fn embedder(&self) -> &Embedder {
        &self.embedder
    }

    /// `file name@first-8-of-sha256` of the weights.
    pub fn label(&self) -> &Arc<str> {
        self.embedder.label()
    }

    /// Sets each sample's `fit`, for the picture as it is stored. A picture or text that is not there
    /// gets no number.
    ///
    /// # Errors
    /// When the model fails: memory.
    pub fn judge(&self, samples: &mut [&mut Sample]) -> Result<()> {
        let seen: Vec<&Sample> = samples.iter().map(|sample| &**sample).collect();
        let fittings = self.fit(&seen, &vec![Vec::new(); seen.len()])?;
        for (sample, fitting) in samples.iter_mut().zip(fittings) {
            if let Some(fitting) = fitting {
                sample.fit = Some(fitting.fit);
            }
        }
        Ok(())
    }

    /// How well each sample's texts fit its picture, and pieces of text beside them; none where the
    /// stored picture cannot be read.
    ///
    /// # Errors
    /// When the model fails: memory.
    pub fn fit(&self, samples: &[&Sample], pieces: &[Vec<&str>]) -> Result<Vec<Option<Fitting>>> {
        let transform = self.embedder.transform();
        // What was stored passed the limits when it came in.
        let limits = Limits { min_side: 1, max_pixels: u64::MAX, max_aspect: f32::INFINITY };
        let prepared: Vec<Option<Vec<f32>>> = samples
            .par_iter()
            .map(|sample| transform.of_bytes(&sample.image.bytes, &limits).ok())
            .collect();
        let words: Vec<Vec<Option<&str>>> = samples
            .iter()
            .zip(pieces)
            .map(|(sample, pieces)| {
                texts(sample).into_iter().chain(pieces.iter().map(|piece| Some(*piece))).collect()
            })
            .collect();
        let fits = self.embedder.fits(&prepared, &words)?;
        let fitting = |(picture, fit): (&Option<Vec<f32>>, Vec<Option<f64>>)| {
            picture.as_ref()?;
            let fit: Vec<Option<f32>> = fit.into_iter().map(|c| c.map(|c| c as f32)).collect();
            let (&[raw, synthetic, generated], pieces) = fit.split_first_chunk::<3>()?;
            let model = self.label().clone();
            Some(Fitting { fit: Fit { raw, synthetic, generated, model }, pieces: pieces.to_vec() })
        };
        Ok(prepared.iter().zip(fits).map(fitting).collect())
    }
}

/// How well the texts of a sample fit its picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Fitting {
    /// Its three texts.
    pub fit: Fit,
    /// Each piece of text that was asked for beside them.
    pub pieces: Vec<Option<f32>>,
}

/// Raw, synthetic, generated; one of blanks is none.
fn texts(sample: &Sample) -> [Option<&str>; 3] {
    let texts = [
        sample.item.text_raw.as_deref(),
        sample.synthetic.as_ref().map(|s| s.text.as_str()),
        sample.generated.as_ref().map(|g| g.text.as_str()),
    ];
    texts.map(|text| text.filter(|text| !text.trim().is_empty()))
}
