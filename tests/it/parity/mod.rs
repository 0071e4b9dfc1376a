//! This code against tensors that the official implementation made.
//!
//! The tests read a folder laid out like `tests/data/parity` (its README says what is in it), and the
//! environment variable `RECAPTION_PARITY_DIR` names another one: nothing here depends on our sizes,
//! and of the files that such a folder may lack, those that are there are tested.

mod checkpoint;
mod model;
mod operators;

use std::collections::HashMap;
use std::path::PathBuf;

use candle_core::DType;
use candle_core::Device;
use candle_core::Tensor;

/// The folder of fixtures.
pub fn folder() -> PathBuf {
    match std::env::var_os("RECAPTION_PARITY_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/parity"),
    }
}

/// Whether the folder has this file; only for files that a folder may lack.
pub fn has(name: &str) -> bool {
    folder().join(name).exists()
}

/// A safetensors file of the folder.
pub fn tensors(name: &str) -> HashMap<String, Tensor> {
    let path = folder().join(name);
    candle_core::safetensors::load(&path, &Device::Cpu)
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A JSON file of the folder.
pub fn json(name: &str) -> serde_json::Value {
    let path = folder().join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap()
}

/// Largest difference over the largest expected number.
pub fn distance(found: &Tensor, expected: &Tensor) -> f64 {
    assert_eq!(found.shape(), expected.shape());
    let (found, expected) =
        (found.to_dtype(DType::F64).unwrap(), expected.to_dtype(DType::F64).unwrap());
    let largest = |t: &Tensor| -> f64 {
        t.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap()
    };
    largest(&found.sub(&expected).unwrap()) / largest(&expected).max(f64::MIN_POSITIVE)
}

/// Fails with the figure where the distance is not within `tolerance`.
pub fn assert_close(name: &str, found: &Tensor, expected: &Tensor, tolerance: f64) {
    let distance = distance(found, expected);
    assert!(distance <= tolerance, "{name}: off by {distance:.2e}, {tolerance:.0e} is allowed");
}
