//! The gradients of a step, for a batch of any size in memory of one size, on any number of ranks.
//!
//! A contrastive loss compares every picture with every text, so that adding up the losses of parts is
//! not the loss of the whole. As GradCache (Gao et al., "Scaling Deep Contrastive Learning Batch Size
//! under Memory Limited Setup", 2021) shows, it need not be: all embeddings are made first, piece by
//! piece and without a record; the loss of the whole batch gives the gradient of each embedding; then
//! each piece is run again, recorded, and that gradient sent back through it. A batch of one piece is
//! run only once. [`gradients_at_once`] is the same without any of this, and its specification.

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use candle_core::Tensor;
use candle_core::Var;
use candle_core::backprop::GradStore;

use crate::model::Mode;
use crate::model::RwkvClip;
use crate::train::collective::Collective;
use crate::train::objective::Losses;
use crate::train::objective::Objective;
use crate::train::objective::Taught;
use crate::train::student::Student;
use crate::train::student::Tower;

/// The part of a batch that a rank has.
#[derive(Clone, Debug)]
pub struct Part {
    /// (n, 3, side, side)
    pub pixels: Tensor,
    /// (n, T)
    pub tokens: Tensor,
    /// What the teacher says about these samples.
    pub taught: Option<Taught>,
    /// Place of the first sample in the batch of all ranks.
    pub first: usize,
}

/// How a step is computed.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Samples that are run together at most.
    pub piece: usize,
    /// Of what is dropped in this step.
    pub seed: u64,
}

/// The loss over the batch of all ranks, and its gradient for everything that learns; the same on
/// every rank.
///
/// The gradient is the true one. The official loop's is the true one over the number of ranks, which
/// only shows in what counts as a long gradient (spec, section 7).
///
/// # Errors
/// When shapes do not fit, or another rank has stopped.
pub fn gradients(
    student: &Student,
    part: &Part,
    objective: &mut Objective,
    plan: Plan,
    ranks: &dyn Collective,
) -> Result<(Losses, GradStore)> {
    let pieces = part.pieces(plan)?;
    let recorded = pieces.len() == 1;
    let view = if recorded { student.recording() } else { student.plain() };
    let made: Vec<[Tensor; 2]> =
        pieces.iter().map(|piece| piece.embed(view)).collect::<Result<_>>()?;
    let all = Leaves::gather(&made, ranks)?;
    let taught = part.taught.as_ref().map(|taught| taught.gather(ranks)).transpose()?;
    let (images, texts) = (all.images.as_tensor(), all.texts.as_tensor());
    let losses = objective.of(images, texts, &student.recording().scale()?, taught.as_ref())?;
    let mut grads = losses.total.backward()?;
    let [of_images, of_texts] = all.own_gradients(&mut grads)?; // (n, D) each
    let mut first = 0;
    for (piece, made) in pieces.iter().zip(&made) {
        let rows = piece.pixels.dim(0)?;
        let embeddings = if recorded { made.clone() } else { piece.embed(student.recording())? };
        let of_both = [of_images.narrow(0, first, rows)?, of_texts.narrow(0, first, rows)?];
        if let Some(back) = sent_back(student, embeddings, of_both)? {
            add_up(&mut grads, back.backward()?, student)?;
        }
        first += rows;
    }
    sum_over_ranks(&mut grads, student, ranks)?;
    Ok((losses, grads))
}

/// [`gradients`] of a whole batch on one rank as the chain rule says, with everything in memory.
///
/// # Errors
/// When shapes do not fit.
pub fn gradients_at_once(
    student: &Student,
    part: &Part,
    objective: &mut Objective,
    seed: u64,
) -> Result<(Losses, GradStore)> {
    let model = student.recording();
    let mode = Mode::Training { seed, first: part.first };
    let (images, texts) =
        (model.image.encode(&part.pixels, mode)?, model.text.encode(&part.tokens)?);
    let losses = objective.of(&images, &texts, &model.scale()?, part.taught.as_ref())?;
    let grads = losses.total.backward()?;
    Ok((losses, grads))
}

/// Samples that are run together.
struct Piece {
    pixels: Tensor,
    tokens: Tensor,
    mode: Mode,
}

impl Part {
    fn pieces(&self, plan: Plan) -> Result<Vec<Piece>> {
        let rows = self.pixels.dim(0)?;
        let size = plan.piece.max(1);
        ensure!(rows > 0, "no sample of this rank's part of the batch can be used");
        let starts = (0..rows).step_by(size);
        let piece = |start: usize| -> Result<Piece> {
            let rows = size.min(rows - start);
            Ok(Piece {
                pixels: self.pixels.narrow(0, start, rows)?,
                tokens: self.tokens.narrow(0, start, rows)?,
                mode: Mode::Training { seed: plan.seed, first: self.first + start },
            })
        };
        starts.map(piece).collect()
    }
}

impl Piece {
    /// Both embeddings, (n, D) each.
    fn embed(&self, model: &RwkvClip) -> Result<[Tensor; 2]> {
        Ok([model.image.encode(&self.pixels, self.mode)?, model.text.encode(&self.tokens)?])
    }
}

impl Taught {
    fn gather(&self, ranks: &dyn Collective) -> Result<Taught> {
        let (images, texts) = (ranks.all_gather(&self.images)?, ranks.all_gather(&self.texts)?);
        Ok(Taught { images, texts, ..self.clone() })
    }
}

/// The embeddings of the whole batch, cut off from what made them.
struct Leaves {
    /// (B, D)
    images: Var,
    /// (B, D)
    texts: Var,
    /// Where this rank's rows are.
    own: (usize, usize),
}

impl Leaves {
    fn gather(made: &[[Tensor; 2]], ranks: &dyn Collective) -> Result<Leaves> {
        let of = |tower: usize| -> Result<Tensor> {
            let rows: Vec<Tensor> = made.iter().map(|both| both[tower].detach()).collect();
            Ok(Tensor::cat(&rows, 0)?) // (n, D)
        };
        let (images, texts) = (of(0)?, of(1)?);
        let rows = images.dim(0)?;
        let counts = Tensor::new(&[rows as u32], images.device())?;
        let counts: Vec<u32> = ranks.all_gather(&counts)?.to_vec1()?;
        let before: u32 = counts.iter().take(ranks.rank()).sum();
        Ok(Leaves {
            images: Var::from_tensor(&ranks.all_gather(&images)?)?,
            texts: Var::from_tensor(&ranks.all_gather(&texts)?)?,
            own: (before as usize, rows),
        })
    }

    /// Takes the gradients of this rank's rows out, (n, D) each.
    fn own_gradients(&self, grads: &mut GradStore) -> Result<[Tensor; 2]> {
        let (first, rows) = self.own;
        let mut own = |leaf: &Var| -> Result<Tensor> {
            let all = grads.remove(leaf).context("embeddings without a gradient")?;
            // candle's gradients remember what they were made of, here the loss of the whole batch.
            Ok(all.detach().narrow(0, first, rows)?)
        };
        Ok([own(&self.images)?, own(&self.texts)?])
    }
}

/// A scalar whose gradient is the loss's, of what made these embeddings: the sum of the products of
/// embeddings and their gradients. None where neither tower learns.
fn sent_back(
    student: &Student,
    embeddings: [Tensor; 2],
    gradients: [Tensor; 2],
) -> Result<Option<Tensor>> {
    let mut sum: Option<Tensor> = None;
    let towers = [Tower::Image, Tower::Text].into_iter().zip(embeddings).zip(gradients);
    for ((tower, embeddings), gradients) in towers {
        if student.learns(tower) {
            let of_tower = (embeddings * gradients)?.sum_all()?;
            sum = Some(match sum {
                Some(sum) => (sum + of_tower)?,
                None => of_tower,
            });
        }
    }
    Ok(sum)
}

/// Adds the gradients of a piece to those of the others.
fn add_up(grads: &mut GradStore, mut of_piece: GradStore, student: &Student) -> Result<()> {
    for (_, var) in student.learning_in_towers() {
        if let Some(grad) = of_piece.remove(var) {
            // Not detached, it would keep the record of its piece alive, and all pieces would be in
            // memory at once.
            let grad = grad.detach();
            let sum = match grads.get(var) {
                Some(others) => (others + grad)?,
                None => grad,
            };
            grads.insert(var, sum);
        }
    }
    Ok(())
}

/// Every rank has the gradients of its own samples' embeddings: their sum is that of all. The scale
/// and a projection read all embeddings, and already have the same on every rank.
fn sum_over_ranks(grads: &mut GradStore, student: &Student, ranks: &dyn Collective) -> Result<()> {
    if ranks.world() == 1 {
        return Ok(());
    }
    let variables: Vec<&Var> = student.learning_in_towers().map(|(_, var)| var).collect();
    let own = variables.iter().map(|var| match grads.remove(var) {
        Some(grad) => Ok(grad),
        None => Ok(var.zeros_like()?),
    });
    let sums = ranks.all_reduce_sum(own.collect::<Result<_>>()?)?;
    for (var, sum) in variables.iter().zip(sums) {
        grads.insert(var, sum);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
