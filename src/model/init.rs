//! Initial weights, those of the official implementation: deterministic ones exactly, random ones
//! from the same distributions.

use std::collections::HashMap;

use anyhow::Context;
use anyhow::Result;
use candle_core::DType;
use candle_core::Device;
use candle_core::Tensor;
use rand::Rng;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::Config;
use super::kernels::take_out;
use super::names;
use super::names::Named;

/// ln(1 / 0.07), where CLIP's scale starts.
const LOGIT_SCALE: f64 = 2.659_260_036_932_778;

/// All tensors of a new model, f32 on the CPU, under the official names. One seed, one model.
///
/// Where the configuration says precision "bf16", values of the text tower are rounded to it, as the
/// official implementation does. A tower of one block takes its depth ratios as 0 (the official code
/// divides by zero there).
///
/// # Errors
/// None in practice: every official name has its values.
pub fn initial(config: &Config, seed: u64) -> Result<HashMap<String, Tensor>> {
    let mut random = StdRng::seed_from_u64(seed);
    let tensors = names::all(config).into_iter().map(|named| {
        let values = values(config, &named, &mut random)
            .with_context(|| format!("no initial values for {}", named.name))?;
        let values: Vec<f32> = values.into_iter().map(|v| v as f32).collect();
        let mut tensor = Tensor::from_vec(values, named.shape.clone(), &Device::Cpu)?;
        let is_rounded = config.text_initialization && config.precision == "bf16";
        if is_rounded && named.name.starts_with("text_model.") {
            tensor = tensor.to_dtype(DType::BF16)?.to_dtype(DType::F32)?;
        }
        Ok((named.name, tensor))
    });
    tensors.collect()
}

/// Where a tensor stands: which tower, which block of how many.
struct Place<'a> {
    is_text: bool,
    layer: usize,
    layers: usize,
    /// The name below the block, or below the tower.
    name: &'a str,
}

impl Place<'_> {
    fn of<'a>(config: &Config, name: &'a str) -> Option<Place<'a>> {
        let (is_text, rest) = match name.strip_prefix("text_model.") {
            Some(rest) => (true, rest),
            None => (false, name.strip_prefix("image_model.").unwrap_or(name)),
        };
        let layers = if is_text { config.n_layer } else { config.image_depth };
        let Some(inner) = rest.strip_prefix("blocks.").or(rest.strip_prefix("layers.")) else {
            return Some(Place { is_text, layer: 0, layers, name: rest });
        };
        let (layer, name) = inner.split_once('.')?;
        Some(Place { is_text, layer: layer.parse().ok()?, layers, name })
    }

    /// From 0 in the first block to 1 in the last.
    fn rising(&self) -> f64 {
        self.layer as f64 / (self.layers.max(2) - 1) as f64
    }

    /// From 1 in the first block to 1 / layers in the last.
    fn falling(&self) -> f64 {
        1.0 - self.layer as f64 / self.layers as f64
    }
}

fn values(config: &Config, named: &Named, random: &mut StdRng) -> Option<Vec<f64>> {
    let place = Place::of(config, &named.name)?;
    let dims = named.shape.dims();
    let count = named.shape.elem_count();
    let (rising, falling) = (place.rising(), place.falling());
    let mut uniform = |limit: f64| -> Vec<f64> {
        (0..count).map(|_| random.random_range(-limit..=limit)).collect()
    };
    let per_channel =
        |f: &dyn Fn(f64) -> f64| (0..count).map(|i| f(i as f64 / count as f64)).collect();
    let own = config.text_initialization && place.is_text;
    Some(match place.name {
        "logit_scale" => vec![LOGIT_SCALE],
        "pos_embed" => vec![0.0; count],
        "patch_embed.projection.weight" | "patch_embed.projection.bias" => {
            uniform(1.0 / (3.0 * (config.image_patch_size as f64).powi(2)).sqrt())
        }
        // torch's own default where the recipe's is off.
        "emb.weight" if own => uniform(1e-4),
        "emb.weight" => normal(count, random),
        "att.time_maa_x" | "att.time_maa_w" | "att.time_maa_k" => {
            per_channel(&|d| 1.0 - d.powf(falling))
        }
        "att.time_maa_v" => per_channel(&|d| 1.0 - (d.powf(falling) + 0.3 * rising)),
        "att.time_maa_r" | "att.time_maa_g" => per_channel(&|d| 1.0 - d.powf(0.5 * falling)),
        "att.time_maa_w1" | "att.time_decay_w1" if place.is_text => vec![0.0; count],
        "att.time_maa_w2" | "att.time_decay_w2" if place.is_text => uniform(0.01),
        "att.time_maa_w1" | "att.time_maa_w2" | "att.time_decay_w1" | "att.time_decay_w2" => {
            uniform(1e-4)
        }
        "att.time_decay" => {
            (0..count).map(|i| -6.0 + 5.0 * (along(i, count)).powf(0.7 + 1.3 * rising)).collect()
        }
        "att.time_faaaa" => (0..count)
            .map(|i| rising * (1.0 - along(i, count)) + 0.1 * (((i + 1) % 3) as f64 - 1.0))
            .collect(),
        "ffn.spatial_mix_k" | "ffn.spatial_mix_r" => per_channel(&|d| d.powf(falling)),
        "ffn.time_maa_k" | "ffn.time_maa_r" => per_channel(&|d| 1.0 - d.powf(falling)),
        "att.ln_x.weight" if own => {
            let layer = (1.0 + place.layer as f64) / place.layers as f64;
            vec![layer.powf(0.7); count]
        }
        name if name.ends_with(".bias") => vec![0.0; count],
        name if dims.len() == 1 && name.ends_with(".weight") => vec![1.0; count],
        "att.output.weight" | "ffn.value.weight" | "ffn.receptance.weight" if own => {
            vec![0.0; count]
        }
        name if own => {
            let strength = match name {
                "att.receptance.weight" | "att.value.weight" => 1.0,
                "att.key.weight" | "att.gate.weight" => 0.1,
                "ffn.key.weight" => 0.5,
                _ => return None,
            };
            let (outputs, inputs) = (dims[0], dims[1]);
            let gain = strength * (outputs as f64 / inputs as f64).max(1.0).sqrt();
            orthogonal(outputs, inputs, random).into_iter().map(|v| v * gain).collect()
        }
        _ => uniform(1.0 / (dims[1] as f64).sqrt()),
    })
}

/// From 0 at the first channel to 1 at the last.
fn along(i: usize, count: usize) -> f64 {
    i as f64 / (count.max(2) - 1) as f64
}

fn normal(count: usize, random: &mut StdRng) -> Vec<f64> {
    let mut one = || {
        let (a, b): (f64, f64) = (1.0 - random.random::<f64>(), random.random());
        (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()
    };
    (0..count).map(|_| one()).collect()
}

/// A random matrix whose rows (or, where those are more, columns) are orthogonal and of length 1:
/// normal numbers, orthogonalised twice over, since once leaves what rounding brought in.
fn orthogonal(outputs: usize, inputs: usize, random: &mut StdRng) -> Vec<f64> {
    let (few, long) = (outputs.min(inputs), outputs.max(inputs));
    let mut vectors: Vec<Vec<f64>> = Vec::with_capacity(few);
    for _ in 0..few {
        let mut vector = normal(long, random);
        for _ in 0..2 {
            vectors.iter().for_each(|other| take_out(&mut vector, other));
        }
        let norm = vector.iter().map(|a| a * a).sum::<f64>().sqrt();
        vector.iter_mut().for_each(|a| *a /= norm);
        vectors.push(vector);
    }
    if outputs <= inputs {
        return vectors.concat();
    }
    (0..outputs).flat_map(|row| vectors.iter().map(move |column| column[row])).collect()
}
