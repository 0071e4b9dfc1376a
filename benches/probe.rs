//! Seconds of a linear probe: one fit, and the sweep with its last fit.
//!
//! `cargo bench --bench probe` prints one line of JSON; `benches/peers/probe_sklearn.py` is its peer, on
//! the same features.

use std::time::Instant;

use anyhow::Result;
use candle_core::Device;
use candle_core::Tensor;
use recaption::eval::data::Metric;
use recaption::eval::probe;
use recaption::eval::probe::Logistic;
use recaption::eval::probe::Part;
use recaption::eval::probe::stratified;
use serde_json::json;

const N: usize = 8_000;
const WIDTH: usize = 256;
const CLASSES: usize = 30;
const C: f64 = 0.316;

fn main() -> Result<()> {
    let targets: Vec<usize> = (0..N).map(|row| row % CLASSES).collect();
    let features = features(&targets)?; // (N, WIDTH)
    let started = Instant::now();
    let fit = Logistic::fit(&features, &targets, CLASSES, C, None)?;
    let seconds = started.elapsed().as_secs_f64();
    let rows: Vec<usize> = (0..N).collect();
    let (learn, test) = stratified(&targets, &rows, 0.8, 0);
    let (train, validation) = stratified(&targets, &learn, 0.8, 0);
    let part = |rows: &[usize]| Part::of(&features, &targets, rows);
    let (train, validation, test) = (part(&train)?, part(&validation)?, part(&test)?);
    let started = Instant::now();
    let probed = probe::score(&train, &validation, &test, CLASSES, Metric::Top1)?;
    println!(
        "{}",
        json!({
            "seconds": seconds, "steps": fit.steps, "objective": fit.objective,
            "seconds_of_sweep": started.elapsed().as_secs_f64(), "c": probed.choice.c,
        })
    );
    Ok(())
}

/// Classes around random centres, rows of length 1.
fn features(targets: &[usize]) -> Result<Tensor> {
    let (centres, mut values) = (noise(CLASSES * WIDTH, 1), noise(N * WIDTH, 2));
    for (row, &target) in values.chunks_mut(WIDTH).zip(targets) {
        let centre = &centres[target * WIDTH..][..WIDTH];
        for (value, centre) in row.iter_mut().zip(centre) {
            *value = centre + 3.0 * *value + 1.0;
        }
        let length = row.iter().map(|value| value * value).sum::<f32>().sqrt();
        row.iter_mut().for_each(|value| *value /= length);
    }
    Ok(Tensor::from_vec(values, (N, WIDTH), &Device::Cpu)?)
}

/// A linear congruential generator, 24 bits, -1 to 1: the peer has the same.
fn noise(count: usize, mut state: u32) -> Vec<f32> {
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}
