//! Against the official RWKV-CLIP: its modules run on a CPU wrote the files in `tests/data/parity`.
//!
//! `RECAPTION_PARITY_DIR` names another folder of the same make; nothing here knows the sizes of ours,
//! and a test whose file another folder does not have says so and passes.

mod checkpoint;
mod eval;
mod model;
mod operators;
mod optim;
mod preprocess;

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

use candle_core::DType;
use candle_core::Device;
use candle_core::Tensor;
use serde_json::Value;

/// Where the expected values are.
pub fn folder() -> PathBuf {
    std::env::var_os("RECAPTION_PARITY_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/parity"),
        PathBuf::from,
    )
}

/// A file of the folder that another folder may lack.
pub fn optional(name: &str) -> Option<PathBuf> {
    let path = folder().join(name);
    let found = path.exists().then_some(path);
    if found.is_none() {
        eprintln!("skipped: {} has no {name}", folder().display());
    }
    found
}

/// All tensors of a safetensors file of the folder, on the CPU, as they are stored.
pub fn tensors(name: &str) -> HashMap<String, Tensor> {
    let path = folder().join(name);
    candle_core::safetensors::load(&path, &Device::Cpu)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A JSON file of the folder.
pub fn json(name: &str) -> Value {
    let path = folder().join(name);
    let text = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All values of a tensor of any type and shape.
pub fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// The largest difference over the largest expected amount; infinite where something is not a number.
pub fn relative_difference(found: &[f64], expected: &[f64]) -> f64 {
    let largest = expected.iter().fold(0.0, |most: f64, value| most.max(value.abs()));
    let differences = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
    let furthest = differences.fold(0.0, |most, difference: f64| {
        if difference.is_nan() { f64::INFINITY } else { difference.max(most) }
    });
    if furthest == 0.0 { 0.0 } else { furthest / largest }
}

/// Holds when shapes are equal and max |found - expected| / max |expected| is within the tolerance.
/// Returns that figure.
#[track_caller]
pub fn assert_close(name: &str, found: &Tensor, expected: &Tensor, tolerance: f64) -> f64 {
    assert_eq!(found.dims(), expected.dims(), "{name}: shapes");
    assert_close_values(name, &values(found), &values(expected), tolerance)
}

/// [`assert_close`] of plain numbers.
#[track_caller]
pub fn assert_close_values(name: &str, found: &[f64], expected: &[f64], tolerance: f64) -> f64 {
    assert_eq!(found.len(), expected.len(), "{name}: how many");
    let difference = relative_difference(found, expected);
    assert!(difference <= tolerance, "{name}: {difference:.3e} away, not within {tolerance:.1e}");
    difference
}
