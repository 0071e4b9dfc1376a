//! Milliseconds of a forward pass of either tower, and of a training step.
//!
//! `cargo bench --bench rwkv_clip -- image|text|step [CONFIG] [BATCH] [SECONDS]` prints one line of
//! JSON; `benches/rwkv_clip.sh` runs it and its peer in turns. `wkv` measures the operator alone, the
//! scan and the chunked form, forward and with gradients.

use std::time::Duration;
use std::time::Instant;

use anyhow::Result;
use anyhow::bail;
use candle_core::DType;
use candle_core::Device;
use candle_core::Tensor;
use candle_core::Var;
use candle_nn::VarBuilder;
use candle_nn::VarMap;
use recaption::model;
use recaption::model::Config;
use recaption::model::RwkvClip;
use recaption::model::init;
use recaption::train::optim::AdamW;
use recaption::train::optim::AdamWConfig;
use recaption::train::schedule::Rates;
use serde_json::json;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// As in `cli/machine.rs`, which says why.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

fn main() -> Result<()> {
    // SAFETY: sets a number.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, -1) };
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let argument =
        |i: usize, default: &str| arguments.get(i).cloned().unwrap_or_else(|| default.to_owned());
    let config = Config::find(&argument(1, "b32"))?;
    let batch: usize = argument(2, "8").parse()?;
    let seconds = Duration::from_secs_f64(argument(3, "3").parse()?);
    let device = Device::Cpu;
    if argument(0, "image") == "wkv" {
        return operator(&config, batch, seconds);
    }
    let images =
        Tensor::randn(0f32, 1.0, (batch, 3, config.input_size, config.input_size), &device)?;
    let ids =
        (0..batch * config.ctx_len).map(|i| (i * i * 31 % config.vocab_size) as u32).collect();
    let tokens = Tensor::from_vec::<_, u32>(ids, (batch, config.ctx_len), &device)?;

    let variables = VarMap::new();
    for (name, tensor) in init::initial(&config, 1)? {
        variables.data().lock().expect("one thread").insert(name, Var::from_tensor(&tensor)?);
    }
    let is_training = argument(0, "image") == "step";
    let model = if is_training {
        RwkvClip::new(&config, VarBuilder::from_varmap(&variables, DType::F32, &device))?
    } else {
        let weights = variables
            .data()
            .lock()
            .expect("one thread")
            .iter()
            .map(|(n, v)| (n.clone(), v.as_detached_tensor()))
            .collect();
        RwkvClip::new(&config, VarBuilder::from_tensors(weights, DType::F32, &device))?
    };
    let mut parts = Parts::default();
    let mut work: Box<dyn FnMut() -> Result<()>> = match argument(0, "image").as_str() {
        "image" => Box::new(|| done(model.encode_image(&images))),
        "text" => Box::new(|| done(model.encode_text(&tokens))),
        "step" => {
            let named = variables.data().lock().expect("one thread").clone().into_iter();
            let mut optimizer = AdamW::new(named.collect(), AdamWConfig::default())?;
            let (model, images, tokens, parts) = (&model, &images, &tokens, &mut parts);
            Box::new(move || step(model, &mut optimizer, images, tokens, parts))
        }
        other => bail!("image, text or step, not {other}"),
    };
    for _ in 0..2 {
        work()?;
    }
    let (started, mut times) = (Instant::now(), Vec::new());
    while started.elapsed() < seconds || times.len() < 3 {
        let now = Instant::now();
        work()?;
        times.push(now.elapsed().as_secs_f64() * 1e3);
    }
    drop(work);
    times.sort_by(f64::total_cmp);
    let median = times[times.len() / 2];
    println!(
        "{}",
        json!({
            "milliseconds": median, "minimum": times[0], "iterations": times.len(),
            "per_second": batch as f64 / median * 1e3, "ms": parts.medians(),
        })
    );
    Ok(())
}

/// Where the time of a step goes, milliseconds each.
#[derive(Default)]
struct Parts {
    forward: Vec<f64>,
    backward: Vec<f64>,
    optimizer: Vec<f64>,
}

impl Parts {
    fn medians(&mut self) -> serde_json::Value {
        let median = |times: &mut Vec<f64>| {
            times.sort_by(f64::total_cmp);
            times.get(times.len() / 2).copied()
        };
        json!({
            "forward": median(&mut self.forward),
            "backward": median(&mut self.backward),
            "optimizer": median(&mut self.optimizer),
        })
    }
}

/// Forward, loss, backward, clip and AdamW: what one step of training is.
fn step(
    model: &RwkvClip,
    optimizer: &mut AdamW,
    images: &Tensor,
    tokens: &Tensor,
    parts: &mut Parts,
) -> Result<()> {
    let milliseconds = |since: Instant| since.elapsed().as_secs_f64() * 1e3;
    let started = Instant::now();
    let (images, texts) = (model.encode_image(images)?, model.encode_text(tokens)?);
    let loss = model::contrastive(&images, &texts, &model.scale()?)?;
    parts.forward.push(milliseconds(started));
    let started = Instant::now();
    let grads = loss.backward()?;
    parts.backward.push(milliseconds(started));
    let started = Instant::now();
    optimizer.step(&grads, Rates { lr: 1e-3, beta1: 0.9 })?;
    parts.optimizer.push(milliseconds(started));
    Ok(())
}

/// A form of the operator.
type Form = fn(&[Tensor; 5]) -> candle_core::Result<Tensor>;

/// Milliseconds of both forms on the image tower's sizes, medians.
fn operator(config: &Config, batch: usize, seconds: Duration) -> Result<()> {
    let (t, c, h) = (config.image_tokens(), config.image_embed_dims, config.image_num_heads);
    let part = || Tensor::randn(0f32, 1.0, (batch, t, c), &Device::Cpu);
    let u = Tensor::randn(0f32, 1.0, (h, c / h), &Device::Cpu)?;
    let inputs = [part()?, part()?, part()?, (part()? - 2.0)?, u];
    let variables: Vec<Var> = inputs.iter().map(Var::from_tensor).collect::<Result<_, _>>()?;
    let tracked: Vec<Tensor> = variables.iter().map(|v| v.as_tensor().clone()).collect();
    let tracked: [Tensor; 5] = tracked.try_into().map_err(|_| anyhow::anyhow!("five inputs"))?;
    let forms: [(&str, Form); 2] = [
        ("scan", |[r, k, v, w, u]| model::wkv(r, k, v, w, u)),
        ("chunked", |[r, k, v, w, u]| model::wkv_chunked(r, k, v, w, u, 7)),
    ];
    let mut found = serde_json::Map::new();
    for (name, form) in forms {
        let forward = median_of(seconds, || done(form(&inputs)))?;
        let both = median_of(seconds, || done(form(&tracked)?.sum_all()?.backward()))?;
        found.insert(name.to_owned(), json!({"forward": forward, "with_gradients": both}));
    }
    println!("{}", json!({"tokens": t, "channels": c, "heads": h, "batch": batch, "ms": found}));
    Ok(())
}

/// What was computed is not looked at.
fn done<T>(result: candle_core::Result<T>) -> Result<()> {
    result?;
    Ok(())
}

/// Milliseconds.
fn median_of(seconds: Duration, mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    work()?;
    let (started, mut times) = (Instant::now(), Vec::new());
    while started.elapsed() < seconds || times.len() < 5 {
        let now = Instant::now();
        work()?;
        times.push(now.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}
