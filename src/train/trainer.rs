//! The loop of one rank, from one checkpoint to the next: batch, gradients, step, journal.
//!
//! Rank 0 alone writes and shows; every rank makes the same steps on the same gradients, and so has the
//! same model.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use candle_core::DType;
use candle_core::Device;
use candle_core::Tensor;
use candle_core::Var;

use crate::model;
use crate::train::Event;
use crate::train::checkpoint;
use crate::train::checkpoint::Checkpoint;
use crate::train::checkpoint::State;
use crate::train::collective::Collective;
use crate::train::config::Config;
use crate::train::config::Decay;
use crate::train::data::Batch;
use crate::train::data::Dataset;
use crate::train::data::LoaderPlan;
use crate::train::gate::Gate;
use crate::train::journal::Journal;
use crate::train::journal::Line;
use crate::train::journal::Step;
use crate::train::objective::Lessons;
use crate::train::objective::Losses;
use crate::train::objective::Objective;
use crate::train::optim::AdamW;
use crate::train::optim::AdamWConfig;
use crate::train::optim::Group;
use crate::train::schedule::OneCycle;
use crate::train::schedule::Rates;
use crate::train::step;
use crate::train::step::Part;
use crate::train::step::Plan;
use crate::train::student::Student;
use crate::train::teacher::Teacher;
use crate::train::validation::Validator;

/// What all ranks share.
pub(super) struct Shared<'a> {
    pub(super) config: &'a Config,
    pub(super) run: &'a Path,
    pub(super) dataset: &'a Dataset,
    pub(super) teacher: Option<&'a Teacher>,
    pub(super) device: &'a Device,
    pub(super) schedule: OneCycle,
    /// Asks for an orderly end.
    pub(super) stop: &'a AtomicBool,
}

/// What rank 0 has beside.
pub(super) struct Desk<'a> {
    pub(super) journal: Journal,
    pub(super) validator: Option<Validator>,
    pub(super) watch: &'a mut dyn FnMut(Event),
}

/// One rank.
pub(super) struct Trainer<'a> {
    shared: &'a Shared<'a>,
    ranks: Box<dyn Collective>,
    student: Student,
    /// Learned beside the model: the way from its embeddings to the teacher's.
    projection: Option<Var>,
    objective: Objective,
    optimizer: AdamW,
    state: State,
    /// Steps taken at the last checkpoint.
    saved: u64,
}

/// How a loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All steps are taken.
    Finished,
    /// It was asked to stop, and the same command continues.
    Stopped,
}

const PROJECTION: &str = "projection";

impl<'a> Trainer<'a> {
    /// A rank that goes on from a checkpoint; a new training's has no moments yet.
    pub(super) fn new(
        shared: &'a Shared<'a>,
        ranks: Box<dyn Collective>,
        from: Checkpoint,
    ) -> Result<Trainer<'a>> {
        let (config, device) = (shared.config, shared.device);
        let freeze = &config.model.freeze;
        let student = Student::new(from.config, &from.weights, DType::F32, device, freeze)?;
        let projection = from.beside.get(PROJECTION);
        let projection =
            projection.map(|tensor| Var::from_tensor(&tensor.to_device(device)?)).transpose()?;
        let mut optimizer = optimizer(config, &student, projection.as_ref())?;
        if !from.optimizer.is_empty() {
            optimizer.load_state(&from.optimizer)?;
        }
        let gate = config.recipe.gate.then(|| from.state.gate.unwrap_or_default());
        let lessons = Lessons { logits: config.teacher.logits, features: config.teacher.features };
        let saved = from.state.step;
        Ok(Trainer {
            shared,
            ranks,
            student,
            projection,
            objective: Objective { gate, lessons },
            optimizer,
            state: from.state,
            saved,
        })
    }

    /// Takes the steps that are left.
    pub(super) fn run(mut self, mut desk: Option<Desk>) -> Result<End> {
        let steps = self.shared.schedule.total_steps as u64;
        let mut batches = self.shared.dataset.loader(&self.loader(), self.state.position)?;
        let mut passed_over = 0;
        while self.state.step < steps {
            let started = Instant::now();
            let batch = batches.next().context("the loader has ended")??;
            let waited = started.elapsed();
            if let Some(desk) = desk.as_mut().filter(|_| !batch.unreadable.is_empty()) {
                (desk.watch)(Event::Unreadable(batch.unreadable.clone()));
            }
            if !self.is_usable(&batch)? {
                self.state.position = batch.next;
                passed_over += 1;
                ensure!(
                    passed_over <= self.per_epoch(),
                    "no batch of an epoch can be used: the pictures cannot be read any more"
                );
                continue;
            }
            passed_over = 0;
            let rates = self.shared.schedule.at(self.state.step as usize);
            let (losses, norm) = self.step(&batch, rates)?;
            let logit_scale = self.student.clamp_scale()?;
            self.state.step += 1;
            self.state.position = batch.next;
            if let Some(desk) = &mut desk {
                let line = self.line(&batch, &losses, norm, rates, logit_scale)?;
                let (seconds, waited) = (started.elapsed().as_secs_f64(), waited.as_secs_f64());
                desk.tell(Step { seconds, waited, ..line })?;
            }
            let stopped = self.is_stopped()?;
            let is_last = stopped || self.state.step == steps;
            if let Some(desk) = &mut desk {
                self.look_up(desk, is_last)?;
            }
            if stopped && self.state.step < steps {
                return Ok(End::Stopped);
            }
        }
        Ok(End::Finished)
    }

    fn loader(&self) -> LoaderPlan {
        LoaderPlan {
            batch: self.shared.config.recipe.batch,
            rank: self.ranks.rank(),
            world: self.ranks.world(),
            seed: self.shared.config.recipe.seed,
            side: self.student.config.input_size as u32,
        }
    }

    /// One step of the optimizer, and the norm of the gradient.
    fn step(&mut self, batch: &Batch, rates: Rates) -> Result<(Losses, f64)> {
        let part = self.part(batch)?;
        let plan = Plan {
            piece: self.shared.config.run.piece,
            seed: step_seed(self.shared.config.recipe.seed, self.state.step),
        };
        let ranks = self.ranks.as_ref();
        let (losses, grads) =
            step::gradients(&self.student, &part, &mut self.objective, plan, ranks)?;
        let loss = losses.total.to_dtype(DType::F64)?.to_scalar::<f64>()?;
        if !loss.is_finite() {
            return self.went_wrong("the loss", loss);
        }
        let norm = self.optimizer.step(&grads, rates)?;
        if !norm.is_finite() {
            return self.went_wrong("the norm of the gradient", norm);
        }
        Ok((losses, norm))
    }

    fn went_wrong<T>(&self, what: &str, value: f64) -> Result<T> {
        let good = match checkpoint::newest(self.shared.run)? {
            Some(path) => format!("the last good checkpoint is {}", path.display()),
            None => "there is no checkpoint yet".to_owned(),
        };
        bail!(
            "in step {} {what} is {value}; {good}. Start from it in a new folder with a lower \
             learning rate, or look at the batch's pictures and texts.",
            self.state.step + 1
        )
    }

    /// The batch as tensors.
    fn part(&self, batch: &Batch) -> Result<Part> {
        let device = self.shared.device;
        let (n, side) = (batch.keys.len(), self.student.config.input_size);
        let context = batch.tokens.len() / n.max(1);
        let taught = match self.shared.teacher {
            None => None,
            Some(teacher) => {
                let projection = self.projection.as_ref().map(|var| var.as_tensor().clone());
                Some(teacher.about(batch, projection)?)
            }
        };
        Ok(Part {
            pixels: Tensor::from_slice(&batch.pixels, (n, 3, side, side), device)?,
            tokens: Tensor::from_slice(&batch.tokens, (n, context), device)?,
            taught,
            first: batch.first,
        })
    }

    fn line(
        &self,
        batch: &Batch,
        losses: &Losses,
        grad_norm: f64,
        rates: Rates,
        logit_scale: f64,
    ) -> Result<Step> {
        let part = batch.position.batch as f64 / self.per_epoch().max(1) as f64;
        Ok(Step {
            step: self.state.step,
            epoch: batch.position.epoch as f64 + part,
            loss: losses.total.to_dtype(DType::F64)?.to_scalar()?,
            contrastive: losses.contrastive,
            gate: losses.gate,
            teacher_logits: losses.logits,
            teacher_features: losses.features,
            grad_norm,
            lr: rates.lr,
            beta1: rates.beta1,
            logit_scale,
            samples: batch.keys.len(),
            unreadable: batch.unreadable.len(),
            seconds: 0.0,
            waited: 0.0,
        })
    }

    fn per_epoch(&self) -> u64 {
        self.shared.dataset.batches_per_epoch(self.shared.config.recipe.batch)
    }

    /// Whether every rank has a sample of this batch; where one has none, all pass it over.
    fn is_usable(&self, batch: &Batch) -> Result<bool> {
        Ok(!self.any(batch.keys.is_empty())?)
    }

    /// Whether any rank was asked to stop.
    fn is_stopped(&self) -> Result<bool> {
        self.any(self.shared.stop.load(Ordering::Relaxed))
    }

    /// Whether it is so on any rank; all ranks hear the same.
    fn any(&self, here: bool) -> Result<bool> {
        let here = Tensor::new(&[u32::from(here)], &Device::Cpu)?;
        let all = self.ranks.all_reduce_sum(vec![here])?;
        Ok(all[0].to_vec1::<u32>()?[0] > 0)
    }

    /// Validation and checkpoint, where it is time for them.
    fn look_up(&mut self, desk: &mut Desk, is_last: bool) -> Result<()> {
        let (step, config) = (self.state.step, self.shared.config);
        let ends = step == self.shared.schedule.total_steps as u64;
        if let Some(validator) = &desk.validator
            && (ends || step.is_multiple_of(config.validation.every))
        {
            let line = validator.validate(&self.student, step)?;
            desk.journal.push(&Line::Validation(line.clone()))?;
            (desk.watch)(Event::Validated(line));
        }
        if is_last || step - self.saved >= config.run.checkpoint_every {
            let path = self.checkpoint()?.save(self.shared.run, config.run.keep)?;
            self.saved = step;
            (desk.watch)(Event::Saved(path));
        }
        Ok(())
    }

    fn checkpoint(&self) -> Result<Checkpoint> {
        let gate: Option<Gate> = self.objective.gate;
        let beside = self.projection.iter();
        Ok(Checkpoint {
            state: State { gate, ..self.state.clone() },
            config: self.student.config.clone(),
            weights: self.student.weights(),
            optimizer: self.optimizer.state()?,
            beside: beside.map(|var| (PROJECTION.to_owned(), var.as_detached_tensor())).collect(),
        })
    }
}

impl Desk<'_> {
    fn tell(&mut self, step: Step) -> Result<()> {
        self.journal.push(&Line::Step(step.clone()))?;
        (self.watch)(Event::Step(step));
        Ok(())
    }
}

/// AdamW over what learns, in groups: learning rates fall with depth, and some have no decay.
fn optimizer(config: &Config, student: &Student, projection: Option<&Var>) -> Result<AdamW> {
    let recipe = &config.recipe;
    let settings = AdamWConfig {
        beta2: recipe.beta2,
        eps: recipe.eps,
        weight_decay: recipe.weight_decay,
        max_norm: recipe.max_norm,
    };
    let learning = student.learning().map(|(name, var)| (name.clone(), var.clone()));
    let beside = projection.map(|var| (PROJECTION.to_owned(), var.clone()));
    let optimizer = AdamW::new(learning.chain(beside).collect(), settings)?;
    Ok(optimizer.with_groups(|name, var| {
        let wide = var.dims().iter().filter(|&&dim| dim > 1).count();
        let is_matrix =
            wide >= 2 && !["pos_embed", "time_faaaa"].iter().any(|end| name.ends_with(end));
        let is_decayed = recipe.decay == Decay::All || is_matrix;
        Group {
            lr_scale: recipe.layer_decay.powi(student.layers_above(name) as i32),
            weight_decay: if is_decayed { recipe.weight_decay } else { 0.0 },
        }
    }))
}

/// What is learned beside the model at the start: numbers that keep the length of what passes through,
/// the same for one seed.
pub(super) fn projection(
    student: &model::Config,
    teacher: usize,
    seed: u64,
) -> Result<HashMap<String, Tensor>> {
    use rand::Rng;
    use rand::SeedableRng;
    let width = student.embed_dim();
    if width == teacher {
        return Ok(HashMap::new());
    }
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    let bound = (3.0 / width as f32).sqrt();
    let numbers = (0..width * teacher).map(|_| random.random_range(-bound..bound)).collect();
    let tensor = Tensor::from_vec::<_, f32>(numbers, (width, teacher), &Device::Cpu)?;
    Ok(HashMap::from([(PROJECTION.to_owned(), tensor)]))
}

/// Another one for each step (SplitMix64's last lines, which spread neighbours apart).
fn step_seed(seed: u64, step: u64) -> u64 {
    let mut z = seed.wrapping_add(step.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
