//! The loss over the first steps of a fixed task, for comparison with its PyTorch twin.
//!
//! `cargo bench --bench curve -- FOLDER [STEPS] [f64|f32] [RATE] [START]` writes the task into the folder (`task.json`,
//! `config.json`, `weights.safetensors`, `batches.safetensors`: the 64 pictures of examples/demo with
//! their texts, in four batches) and prints a line of JSON for each step. `benches/curve.sh` runs the
//! twin on the same files and compares.
//!
//! From initial weights such a training is chaotic: gradients have norms of thousands, and whatever the
//! two programs are apart doubles with each step. At 1e-3 they agree to the last digit of f64 at first, to
//! 1e-10 after 25 steps and to 1e-3 after 47, and then go their own ways, as either does when a sum is added
//! up in another order. From START, a training's folder, the 200 steps can be compared.

use std::collections::HashMap;
use std::path::Path;

use anyhow::Context;
use anyhow::Result;
use candle_core::DType;
use candle_core::Device;
use candle_core::Tensor;
use recaption::clip_tokenizer::Tokenizer;
use recaption::decode::ClipTransform;
use recaption::decode::Limits;
use recaption::model::Config;
use recaption::model::checkpoint;
use recaption::model::init;
use recaption::sample::Picture;
use recaption::source;
use recaption::source::Source;
use recaption::train::collective::Single;
use recaption::train::objective::Objective;
use recaption::train::optim::AdamW;
use recaption::train::optim::AdamWConfig;
use recaption::train::schedule::OneCycle;
use recaption::train::step;
use recaption::train::step::Part;
use recaption::train::step::Plan;
use recaption::train::student::Student;
use serde_json::json;

const BATCH: usize = 16;
const PCT_START: f64 = 0.1;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let folder = arguments.first().context("name a folder for the task")?;
    let steps: usize = arguments.get(1).map_or(Ok(200), |steps| steps.parse())?;
    let dtype = if arguments.get(2).is_some_and(|d| d == "f32") { DType::F32 } else { DType::F64 };
    let max_lr: f64 = arguments.get(3).map_or(Ok(1e-4), |rate| rate.parse())?;
    let config = Config::preset("tiny")?;
    let weights = match arguments.get(4) {
        Some(start) => checkpoint::read(&checkpoint::locate(Path::new(start))?.weights)?,
        None => init::initial(&config, 1)?,
    };
    let batches = batches(&config)?;
    let schedule = OneCycle { max_lr, total_steps: steps, pct_start: PCT_START };
    write(Path::new(folder), &config, &weights, &batches, &schedule)?;

    let student = Student::new(config, &weights, dtype, &Device::Cpu, &[])?;
    let variables = student.learning().map(|(name, var)| (name.clone(), var.clone())).collect();
    let mut optimizer = AdamW::new(variables, AdamWConfig::default())?;
    let plan = Plan { piece: BATCH, seed: 0 };
    for step in 0..steps {
        let [pixels, tokens] = &batches[step % batches.len()];
        let (pixels, tokens) = (pixels.to_dtype(dtype)?, tokens.clone());
        let part = Part { pixels, tokens, taught: None, first: 0 };
        let (losses, grads) =
            step::gradients(&student, &part, &mut Objective::default(), plan, &Single)?;
        let grad_norm = optimizer.step(&grads, schedule.at(step))?;
        let logit_scale = student.clamp_scale()?;
        let loss = losses.contrastive;
        println!(
            "{}",
            json!({"step": step, "loss": loss, "grad_norm": grad_norm, "logit_scale": logit_scale})
        );
    }
    Ok(())
}

/// Pixels (B, 3, side, side) and tokens (B, 77) of each batch.
fn batches(config: &Config) -> Result<Vec<[Tensor; 2]>> {
    let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/demo").to_owned();
    let source = Source::open(&[demo], &source::Config::default())?;
    let (transform, tokenizer) =
        (ClipTransform { size: config.input_size as u32 }, Tokenizer::clip()?);
    let (mut pixels, mut tokens) = (Vec::new(), Vec::new());
    for item in source.items(0..source.plan().rows)? {
        let item = item?;
        let Picture::Bytes { bytes, .. } = &item.picture else { continue };
        let prepared = transform.of_bytes(bytes, &Limits::default());
        pixels.push(prepared.map_err(|reject| anyhow::anyhow!("{}: {reject}", item.key))?);
        tokens.push(tokenizer.context(item.text_raw.as_deref().unwrap_or_default()));
    }
    let side = config.input_size;
    let batch = |(pixels, tokens): (&[Vec<f32>], &[_])| -> Result<[Tensor; 2]> {
        let n = pixels.len();
        let tokens: Vec<u32> = tokens.concat();
        Ok([
            Tensor::from_vec(pixels.concat(), (n, 3, side, side), &Device::Cpu)?,
            Tensor::from_vec(tokens, (n, config.ctx_len), &Device::Cpu)?,
        ])
    };
    pixels.chunks_exact(BATCH).zip(tokens.chunks_exact(BATCH)).map(batch).collect()
}

fn write(
    folder: &Path,
    config: &Config,
    weights: &HashMap<String, Tensor>,
    batches: &[[Tensor; 2]],
    schedule: &OneCycle,
) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let AdamWConfig { beta2, eps, weight_decay, max_norm } = AdamWConfig::default();
    let task = json!({
        "steps": schedule.total_steps, "max_lr": schedule.max_lr, "pct_start": PCT_START, "beta2": beta2, "eps": eps,
        "weight_decay": weight_decay, "max_norm": max_norm, "batches": batches.len(),
    });
    std::fs::write(folder.join("task.json"), serde_json::to_string_pretty(&task)?)?;
    std::fs::write(folder.join("config.json"), serde_json::to_string_pretty(config)?)?;
    candle_core::safetensors::save(weights, folder.join("weights.safetensors"))?;
    let mut named = HashMap::new();
    for (i, [pixels, tokens]) in batches.iter().enumerate() {
        named.insert(format!("pixels.{i}"), pixels.clone());
        named.insert(format!("tokens.{i}"), tokens.to_dtype(DType::I64)?);
    }
    candle_core::safetensors::save(&named, folder.join("batches.safetensors"))?;
    Ok(())
}
