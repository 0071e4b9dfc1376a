//! Rows a second of the training loader alone, against those of a training step of `tiny`.
//!
//! `cargo bench --bench loader -- INPUT [SECONDS] [BATCH]` prints one line of JSON: what the step takes,
//! what the loader gives with one and with two workers at the side of `tiny` and at 224, the ratio of
//! both, and what reading alone gives, in order and in permuted blocks.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use candle_core::DType;
use candle_core::Device;
use candle_core::Tensor;
use candle_core::Var;
use candle_nn::VarBuilder;
use candle_nn::VarMap;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use recaption::clip::Words;
use recaption::model;
use recaption::model::Config;
use recaption::model::RwkvClip;
use recaption::model::init;
use recaption::shard;
use recaption::source::Source;
use recaption::train::data::DataConfig;
use recaption::train::data::Dataset;
use recaption::train::data::LoaderPlan;
use recaption::train::data::Position;
use recaption::train::optim::AdamW;
use recaption::train::optim::AdamWConfig;
use recaption::train::schedule::Rates;
use serde_json::json;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// As in `cli/machine.rs`, which says why.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

const BLOCK: u64 = 100;

fn main() -> Result<()> {
    // SAFETY: sets a number.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, -1) };
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let input = arguments.first().context("give a run's folder or a parquet file")?.clone();
    let seconds = arguments.get(1).map_or(Ok(5.0), |s| s.parse())?;
    let seconds = Duration::from_secs_f64(seconds);
    let batch = arguments.get(2).map_or(Ok(64), |s| s.parse())?;
    let tiny = Config::find("tiny")?;
    let words = Arc::new(Words::open(None, &tiny)?);
    let step = step(&tiny, batch, seconds)?;
    let mut found = Vec::new();
    for side in [tiny.input_size as u32, 224] {
        for workers in [1, 2] {
            let config = DataConfig { inputs: vec![input.clone()], workers, ..Default::default() };
            let started = Instant::now();
            let dataset = Dataset::open(&config, Arc::clone(&words), &mut |_| ())?;
            let opened = started.elapsed().as_secs_f64();
            let rate = loader(&dataset, batch, side, seconds)?;
            found.push(json!({
                "side": side, "workers": workers, "rows_per_second": rate, "of_a_step": rate / step,
                "rows": dataset.rows(), "seconds_to_open": opened,
            }));
        }
    }
    let source = shard::open_source(&[input], &recaption::source::Config::default())?;
    let reading = json!({
        "in_order": reading(&source, seconds, false)?,
        "in_permuted_blocks": reading(&source, seconds, true)?,
    });
    println!(
        "{}",
        json!({
            "batch": batch, "step_rows_per_second": step, "loader": found,
            "reading_rows_per_second": reading,
        })
    );
    Ok(())
}

/// Rows a second after the first pool was read, over whole epochs if they fit in.
fn loader(dataset: &Dataset, batch: usize, side: u32, seconds: Duration) -> Result<f64> {
    let plan = LoaderPlan { batch, rank: 0, world: 1, seed: 1, side };
    let mut batches = dataset.loader(&plan, Position::default())?;
    for _ in 0..4 {
        batches.next().context("endless")??;
    }
    let (started, mut rows) = (Instant::now(), 0);
    while started.elapsed() < seconds {
        rows += batches.next().context("endless")??.keys.len();
    }
    Ok(rows as f64 / started.elapsed().as_secs_f64())
}

/// Rows a second of one thread that only reads.
fn reading(source: &Source, least: Duration, is_permuted: bool) -> Result<f64> {
    let rows = source.plan().rows;
    let mut blocks: Vec<u64> = (0..rows.div_ceil(BLOCK)).collect();
    if is_permuted {
        blocks.shuffle(&mut rand::rngs::StdRng::seed_from_u64(1));
    }
    let (started, mut done) = (Instant::now(), 0);
    for block in blocks {
        for item in source.items(block * BLOCK..rows.min((block + 1) * BLOCK))? {
            std::hint::black_box(item?);
            done += 1;
        }
        if started.elapsed() > least {
            break;
        }
    }
    Ok(f64::from(done) / started.elapsed().as_secs_f64())
}

/// Rows a second of forward, loss, backward, clip and AdamW.
fn step(config: &Config, batch: usize, seconds: Duration) -> Result<f64> {
    let device = Device::Cpu;
    let side = config.input_size;
    let images = Tensor::randn(0f32, 1.0, (batch, 3, side, side), &device)?;
    let ids =
        (0..batch * config.ctx_len).map(|i| (i * i * 31 % config.vocab_size) as u32).collect();
    let tokens = Tensor::from_vec::<_, u32>(ids, (batch, config.ctx_len), &device)?;
    let variables = VarMap::new();
    for (name, tensor) in init::initial(config, 1)? {
        variables.data().lock().expect("one thread").insert(name, Var::from_tensor(&tensor)?);
    }
    let model = RwkvClip::new(config, VarBuilder::from_varmap(&variables, DType::F32, &device))?;
    let named = variables.data().lock().expect("one thread").clone().into_iter();
    let mut optimizer = AdamW::new(named.collect(), AdamWConfig::default())?;
    let mut times = Vec::new();
    let started = Instant::now();
    while started.elapsed() < seconds || times.len() < 4 {
        let now = Instant::now();
        let (images, texts) = (model.encode_image(&images)?, model.encode_text(&tokens)?);
        let loss = model::contrastive(&images, &texts, &model.scale()?)?;
        optimizer.step(&loss.backward()?, Rates { lr: 1e-3, beta1: 0.9 })?;
        times.push(now.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    Ok(batch as f64 / times[times.len() / 2])
}
