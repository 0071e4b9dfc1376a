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
        let transform = self.embedder.transform();
        // What was stored passed the limits when it came in.
        let limits = Limits { min_side: 1, max_pixels: u64::MAX, max_aspect: f32::INFINITY };
        let prepared: Vec<Option<Vec<f32>>> = samples
            .par_iter()
            .map(|sample| transform.of_bytes(&sample.image.bytes, &limits).ok())
            .collect();
        let words: Vec<_> = samples.iter().map(|sample| texts(sample).to_vec()).collect();
        let fits = self.embedder.fits(&prepared, &words)?;
        for ((sample, picture), fit) in samples.iter_mut().zip(&prepared).zip(fits) {
            let (Some(_), &[raw, synthetic, generated]) = (picture, &fit[..]) else { continue };
            let [raw, synthetic, generated] =
                [raw, synthetic, generated].map(|cosine| cosine.map(|cosine| cosine as f32));
            sample.fit = Some(Fit { raw, synthetic, generated, model: self.label().clone() });
        }
        Ok(())
    }
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
