//! What a training makes smaller, of the embeddings of a whole batch: the contrastive loss, gated or
//! not, and what a teacher adds to it.
//!
//! Works on embeddings alone: which model made them, in how many pieces and on how many ranks, is the
//! matter of [`step`](crate::train::step).

use candle_core::D;
use candle_core::DType;
use candle_core::Result;
use candle_core::Tensor;
use candle_nn::ops::log_softmax;
use candle_nn::ops::softmax;

use crate::model;
use crate::train::gate::Gate;

/// How the loss of a batch is made.
#[derive(Clone, Debug, Default)]
pub struct Objective {
    /// Weights of samples; unset: all count alike.
    pub gate: Option<Gate>,
    /// What a teacher counts for.
    pub lessons: Lessons,
}

/// How much the two ways of following a teacher add to the contrastive loss.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Lessons {
    /// Of the divergence of the student's softmax over the batch from the teacher's, both ways.
    pub logits: f64,
    /// Of the squared distance between normalised embeddings of student and teacher.
    pub features: f64,
}

/// What the teacher says about a batch.
#[derive(Clone, Debug)]
pub struct Taught {
    /// (B, D of the teacher)
    pub images: Tensor,
    /// (B, D of the teacher)
    pub texts: Tensor,
    /// The teacher's factor on cosines.
    pub scale: f64,
    /// The student's embeddings times this are compared with the teacher's, (D, D of the teacher);
    /// unset where both have the same D.
    pub projection: Option<Tensor>,
}

/// A loss and its parts.
#[derive(Debug)]
pub struct Losses {
    /// What is made smaller, a scalar.
    pub total: Tensor,
    /// The contrastive part.
    pub contrastive: f64,
    /// The mean weight of the gate.
    pub gate: Option<f64>,
    /// The divergence from the teacher's softmax, nats.
    pub logits: Option<f64>,
    /// The squared distance from the teacher's embeddings.
    pub features: Option<f64>,
}

impl Objective {
    /// The loss of a batch. Moves the gate's running mean.
    ///
    /// # Shapes
    /// `images`, `texts`: (B, D), normalised or not; `scale`: scalar, the factor on cosines
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn of(
        &mut self,
        images: &Tensor,
        texts: &Tensor,
        scale: &Tensor,
        taught: Option<&Taught>,
    ) -> Result<Losses> {
        let (contrastive, gate) = match &mut self.gate {
            None => (model::contrastive(images, texts, scale)?, None),
            Some(gate) => {
                let weights = gate.weights(&images.detach(), &texts.detach())?; // (B)
                let mean = number(&weights.mean_all()?)?;
                (model::contrastive_weighted(images, texts, scale, &weights)?, Some(mean))
            }
        };
        let mut losses = Losses {
            contrastive: number(&contrastive)?,
            total: contrastive,
            gate,
            logits: None,
            features: None,
        };
        if let Some(taught) = taught {
            let logits = taught.divergence(images, texts, scale)?;
            let features = taught.distance(images, texts)?;
            losses.logits = Some(number(&logits)?);
            losses.features = Some(number(&features)?);
            let lessons = ((logits * self.lessons.logits)? + (features * self.lessons.features)?)?;
            losses.total = (losses.total + lessons)?;
        }
        Ok(losses)
    }
}

impl Taught {
    /// Kullback-Leibler divergence of the student's softmax over the batch from the teacher's, the
    /// mean of pictures over texts and texts over pictures. (CLIP-KD, Yang et al., CVPR 2024, calls it
    /// contrastive relational distillation.)
    fn divergence(&self, images: &Tensor, texts: &Tensor, scale: &Tensor) -> Result<Tensor> {
        let student = cosines(images, texts)?.broadcast_mul(scale)?; // (B, B)
        let teacher = (cosines(&self.images, &self.texts)? * self.scale)?; // (B, B)
        let one_way = |student: &Tensor, teacher: &Tensor| -> Result<Tensor> {
            let (p, log_p) = (softmax(teacher, D::Minus1)?, log_softmax(teacher, D::Minus1)?);
            let apart = (log_p - log_softmax(student, D::Minus1)?)?;
            (p * apart)?.sum(1)?.mean_all()
        };
        let (student_t, teacher_t) = (student.t()?.contiguous()?, teacher.t()?.contiguous()?);
        (one_way(&student, &teacher)? + one_way(&student_t, &teacher_t)?)? / 2.0
    }

    /// Squared distance of normalised embeddings, the mean over samples and both towers. (CLIP-KD's
    /// feature distillation.)
    fn distance(&self, images: &Tensor, texts: &Tensor) -> Result<Tensor> {
        let of = |student: &Tensor, teacher: &Tensor| -> Result<Tensor> {
            let student = match &self.projection {
                Some(projection) => student.matmul(projection)?, // (B, D of the teacher)
                None => student.clone(),
            };
            let apart = (model::normalized(&student)? - model::normalized(teacher)?)?;
            apart.sqr()?.sum(1)?.mean_all()
        };
        (of(images, &self.images)? + of(texts, &self.texts)?)? / 2.0
    }
}

fn cosines(images: &Tensor, texts: &Tensor) -> Result<Tensor> {
    model::normalized(images)?.matmul(&model::normalized(texts)?.t()?)
}

fn number(scalar: &Tensor) -> Result<f64> {
    scalar.to_dtype(DType::F64)?.to_scalar()
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn random(rows: usize, columns: usize) -> Tensor {
        Tensor::randn(0f32, 1.0, (rows, columns), &Device::Cpu).unwrap()
    }

    #[test]
    fn a_student_who_knows_all_has_nothing_to_learn_from_the_teacher() {
        let (images, texts) = (random(5, 8), random(5, 8));
        let scale = Tensor::new(7f32, &Device::Cpu).unwrap();
        let taught = |images: &Tensor| Taught {
            images: images.clone(),
            texts: texts.clone(),
            scale: 7.0,
            projection: None,
        };
        let mut objective =
            Objective { lessons: Lessons { logits: 1.0, features: 2.0 }, ..Objective::default() };
        let same = objective.of(&images, &texts, &scale, Some(&taught(&images))).unwrap();
        assert!(same.logits.unwrap().abs() < 1e-5 && same.features.unwrap() < 1e-6);
        let other = objective.of(&images, &texts, &scale, Some(&taught(&random(5, 8)))).unwrap();
        assert!(other.logits.unwrap() > 1e-3 && other.features.unwrap() > 1e-3);
        let sum = other.contrastive + other.logits.unwrap() + 2.0 * other.features.unwrap();
        assert!((number(&other.total).unwrap() - sum).abs() < 1e-4);
    }

    #[test]
    fn a_gate_of_equal_weights_is_a_factor() {
        let (images, texts) = (random(6, 4), random(6, 4));
        let scale = Tensor::new(5f32, &Device::Cpu).unwrap();
        let plain = number(&model::contrastive(&images, &texts, &scale).unwrap()).unwrap();
        let weights = (Tensor::ones(6, DType::F32, &Device::Cpu).unwrap() * 0.25).unwrap();
        let gated = model::contrastive_weighted(&images, &texts, &scale, &weights).unwrap();
        assert!((number(&gated).unwrap() - plain / 4.0).abs() < 1e-5);
    }
}
