//! AdamW with torch's arithmetic, and the clipping of the gradient's norm in front of it.
//!
//! On the CPU a variable is read and written once per step, gradient and both moments with it, and the
//! variable's own memory is changed; [`Path::Ops`] is the same in candle's operations, the
//! specification of the fused one and the way of other devices. Nothing here knows a schedule:
//! whoever calls gives the rates.

mod fused;
mod ops;

use std::collections::HashMap;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use candle_core::DType;
use candle_core::Device;
use candle_core::Tensor;
use candle_core::Var;
use candle_core::backprop::GradStore;

use crate::train::schedule::Rates;

/// What stays the same during a training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWConfig {
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Share of a parameter that is taken off per step and unit of learning rate. From every one,
    /// biases and norms too, as the official training does.
    pub weight_decay: f64,
    /// Greatest L2 norm of all gradients together; a larger gradient is made shorter.
    pub max_norm: f64,
}

impl Default for AdamWConfig {
    fn default() -> AdamWConfig {
        AdamWConfig { beta2: 0.98, eps: 1e-8, weight_decay: 0.2, max_norm: 1.0 }
    }
}

/// What is particular to a variable.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Group {
    /// The learning rate is multiplied by this.
    pub lr_scale: f64,
    /// In place of [`AdamWConfig::weight_decay`].
    pub weight_decay: f64,
}

/// How a step is computed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Path {
    /// One pass over memory; variables on the CPU only.
    Fused,
    /// candle's operations; any device.
    Ops,
}

/// The optimizer, with its variables and their moments.
#[derive(Debug)]
pub struct AdamW {
    config: AdamWConfig,
    path: Path,
    slots: Vec<Slot>,
    /// Steps taken.
    step: u32,
}

/// A variable with what the optimizer knows of it.
#[derive(Debug)]
struct Slot {
    name: String,
    var: Var,
    group: Group,
    /// First and second moment, one after the other: (2, elements).
    moments: Tensor,
}

/// The numbers of one step for one variable.
#[derive(Clone, Copy, Debug)]
struct Coefficients {
    /// What gradients are multiplied by.
    clip: f64,
    /// What parameters are multiplied by.
    keep: f64,
    beta1: f64,
    beta2: f64,
    /// Learning rate over the correction of the first moment.
    step_size: f64,
    /// Root of the correction of the second moment.
    root_correction: f64,
    eps: f64,
}

/// Under which key of the state the number of steps is.
const STEP: &str = "step";

impl AdamW {
    /// For these variables, in this order, by the fused path where all are on the CPU.
    ///
    /// # Errors
    /// When a name is there twice, or a variable is neither f32 nor f64.
    pub fn new(vars: Vec<(String, Var)>, config: AdamWConfig) -> Result<AdamW> {
        let on_cpu = vars.iter().all(|(_, var)| var.device().is_cpu());
        let path = if on_cpu { Path::Fused } else { Path::Ops };
        AdamW::with_path(vars, config, path)
    }

    /// [`AdamW::new`] by the given path.
    ///
    /// # Errors
    /// As [`AdamW::new`]; and when the fused path is asked for on another device than the CPU.
    pub fn with_path(vars: Vec<(String, Var)>, config: AdamWConfig, path: Path) -> Result<AdamW> {
        let group = Group { lr_scale: 1.0, weight_decay: config.weight_decay };
        let mut slots: Vec<Slot> = Vec::with_capacity(vars.len());
        for (name, var) in vars {
            ensure!(slots.iter().all(|slot| slot.name != name), "two variables are named {name}");
            ensure!(
                matches!(var.dtype(), DType::F32 | DType::F64),
                "{name} is {:?}: the optimizer takes f32 and f64 only",
                var.dtype()
            );
            ensure!(
                path == Path::Ops || (var.device().is_cpu() && var.is_contiguous()),
                "{name} does not lie in a row in the memory of the CPU"
            );
            let moments = Tensor::zeros((2, var.elem_count()), var.dtype(), var.device())?;
            slots.push(Slot { name, var, group, moments });
        }
        Ok(AdamW { config, path, slots, step: 0 })
    }

    /// Gives each variable, by its name, a group of its own.
    #[must_use]
    pub fn with_groups(mut self, group: impl Fn(&str, &Var) -> Group) -> AdamW {
        for slot in &mut self.slots {
            slot.group = group(&slot.name, &slot.var);
        }
        self
    }

    /// The variables, in order.
    pub fn variables(&self) -> impl Iterator<Item = &Var> {
        self.slots.iter().map(|slot| &slot.var)
    }

    /// Steps taken so far.
    pub fn steps(&self) -> u32 {
        self.step
    }

    /// Clips the gradients, changes every variable, and returns the norm before clipping.
    ///
    /// A norm that is not finite is returned like any other, but nothing is changed and the step
    /// does not count: what to do then is for the caller to say, and the variables are still good.
    ///
    /// # Errors
    /// When a variable has no gradient, or one of another shape or type; nothing is changed then.
    pub fn step(&mut self, grads: &GradStore, rates: Rates) -> Result<f64> {
        let grads: Vec<Tensor> =
            self.slots.iter().map(|slot| slot.gradient(grads)).collect::<Result<_>>()?;
        let norm = match self.path {
            Path::Fused => fused::norm(&grads)?,
            Path::Ops => ops::norm(&grads)?,
        };
        if !norm.is_finite() {
            return Ok(norm);
        }
        self.step += 1;
        let (config, step) = (self.config, self.step);
        for (slot, grad) in self.slots.iter_mut().zip(&grads) {
            let coefficients = coefficients(&config, step, norm, rates, slot.group);
            let result = match self.path {
                Path::Fused => fused::update(&slot.var, &slot.moments, grad, coefficients),
                Path::Ops => ops::update(&slot.var, &slot.moments, grad, coefficients)
                    .map(|moments| slot.moments = moments),
            };
            result.with_context(|| format!("updating {}", slot.name))?;
        }
        Ok(norm)
    }

    /// Everything that a later training needs beside the variables to go on exactly: `m.NAME` and
    /// `v.NAME` in the variable's shape, and `step`. Copies, so that a file can be written from them
    /// while the training goes on.
    ///
    /// # Errors
    /// When memory of a device cannot be read.
    pub fn state(&self) -> Result<HashMap<String, Tensor>> {
        let mut state = HashMap::with_capacity(2 * self.slots.len() + 1);
        for Slot { name, var, moments, .. } in &self.slots {
            for (row, letter) in ["m", "v"].into_iter().enumerate() {
                let moment = moments.get(row)?.reshape(var.shape())?.copy()?;
                state.insert(format!("{letter}.{name}"), moment);
            }
        }
        state.insert(STEP.to_owned(), Tensor::new(i64::from(self.step), &Device::Cpu)?);
        Ok(state)
    }

    /// Puts back what [`AdamW::state`] gave.
    ///
    /// # Errors
    /// When something is missing, too much, or of another shape or type; nothing is changed then.
    pub fn load_state(&mut self, state: &HashMap<String, Tensor>) -> Result<()> {
        let found = |key: &str| state.get(key).with_context(|| format!("the state has no {key}"));
        let step = found(STEP)?.to_scalar::<i64>().context("the state's step")?;
        let step = u32::try_from(step).with_context(|| format!("the state's step is {step}"))?;
        let mut loaded = Vec::with_capacity(self.slots.len());
        for Slot { name, var, .. } in &self.slots {
            let moment = |letter: &str| -> Result<Tensor> {
                let key = format!("{letter}.{name}");
                let moment = found(&key)?;
                same_kind(&key, moment, var)?;
                Ok(moment.to_device(var.device())?.flatten_all()?)
            };
            // A stack is a copy: the state stays what it is when the training goes on.
            loaded.push(Tensor::stack(&[moment("m")?, moment("v")?], 0)?);
        }
        if state.len() != 2 * self.slots.len() + 1 {
            let known = |key: &str| {
                let name = key.strip_prefix("m.").or_else(|| key.strip_prefix("v."));
                key == STEP || self.slots.iter().any(|slot| Some(slot.name.as_str()) == name)
            };
            let mut unknown: Vec<&String> = state.keys().filter(|key| !known(key)).collect();
            unknown.sort();
            bail!("the state has moments of variables that are not trained: {unknown:?}");
        }
        for (slot, moments) in self.slots.iter_mut().zip(loaded) {
            slot.moments = moments;
        }
        self.step = step;
        Ok(())
    }
}

fn coefficients(
    config: &AdamWConfig,
    step: u32,
    norm: f64,
    rates: Rates,
    group: Group,
) -> Coefficients {
    let (step, lr) = (f64::from(step), rates.lr * group.lr_scale);
    // torch corrects with the beta that is in force now, to the power of all steps, although earlier
    // steps had other betas.
    let correction1 = 1.0 - rates.beta1.powf(step);
    let correction2 = 1.0 - config.beta2.powf(step);
    Coefficients {
        clip: (config.max_norm / (norm + 1e-6)).min(1.0),
        keep: 1.0 - lr * group.weight_decay,
        beta1: rates.beta1,
        beta2: config.beta2,
        step_size: lr / correction1,
        root_correction: correction2.sqrt(),
        eps: config.eps,
    }
}

impl Slot {
    fn gradient(&self, grads: &GradStore) -> Result<Tensor> {
        let name = &self.name;
        let grad = grads.get(&self.var).with_context(|| format!("{name} has no gradient"))?;
        same_kind(&format!("the gradient of {name}"), grad, &self.var)?;
        // Moments that remembered how they were made would keep every step since the first.
        Ok(grad.detach().contiguous()?)
    }
}

fn same_kind(what: &str, tensor: &Tensor, var: &Var) -> Result<()> {
    let kind = |tensor: &Tensor| (tensor.dims().to_vec(), tensor.dtype());
    let (found, expected) = (kind(tensor), kind(var));
    ensure!(found == expected, "{what} is {found:?}, its variable is {expected:?}");
    Ok(())
}
