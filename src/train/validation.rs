//! Retrieval on pictures that are not trained on, while the training goes on.

use anyhow::Result;
use anyhow::ensure;
use candle_core::Device;
use candle_core::Tensor;

use crate::eval::metrics;
use crate::model;
use crate::train::config;
use crate::train::data::Batch;
use crate::train::data::Dataset;
use crate::train::journal;
use crate::train::student::Student;

/// Ranks that are asked for.
const KS: [usize; 3] = [1, 5, 10];

/// Pictures that are prepared and embedded together.
const TOGETHER: usize = 64;

/// A dataset, and which text of each row is looked for.
pub(super) struct Validator {
    pub(super) dataset: Dataset,
    pub(super) settings: config::Validation,
    pub(super) device: Device,
}

impl Validator {
    /// How the model finds each picture's text among all, and each text's picture. Pictures that cannot
    /// be read are left out.
    pub(super) fn validate(&self, student: &Student, step: u64) -> Result<journal::Validation> {
        let (side, context) = (student.config.input_size, student.config.ctx_len);
        let model = student.plain();
        let (mut images, mut texts, mut rows) = (Vec::new(), Vec::new(), 0);
        for part in self.dataset.evaluation(side as u32, self.settings.text, TOGETHER)? {
            let Batch { pixels, tokens, keys, .. } = part?;
            let n = keys.len().min(self.settings.rows as usize - rows);
            if n > 0 {
                let pixels = Tensor::from_vec(pixels, (keys.len(), 3, side, side), &self.device)?;
                let tokens = Tensor::from_vec(tokens, (keys.len(), context), &self.device)?;
                images.push(model.encode_image(&pixels.narrow(0, 0, n)?)?); // (n, D)
                texts.push(model.encode_text(&tokens.narrow(0, 0, n)?)?); // (n, D)
            }
            rows += n;
            if rows == self.settings.rows as usize {
                break;
            }
        }
        ensure!(rows > 1, "validation has {rows} pictures that can be read; it takes two at least");
        let images = model::normalized(&Tensor::cat(&images, 0)?)?;
        let texts = model::normalized(&Tensor::cat(&texts, 0)?)?;
        let cosines = images.matmul(&texts.t()?)?; // (rows, rows)
        let own: Vec<usize> = (0..rows).collect();
        let recalls = metrics::recalls(&cosines, &own, &KS)?;
        Ok(journal::Validation {
            step,
            pairs: rows,
            image_to_text: recalls.image_to_text,
            text_to_image: recalls.text_to_image,
        })
    }
}
