//! Fed the very tensors that the Python stack fed, the networks must give the very same numbers.
//!
//! The recorded values (tests/data/perceive, made with transformers 4.55.4, optimum-onnx 0.1.0 and
//! onnxruntime 1.32.0) are rounded to 5 or 6 digits; 1e-4 leaves room for that and for another
//! version of ONNX Runtime. That our own decoding and resizing lead to the same answers is tested
//! from outside (tests/it/perceive.rs).

use std::path::Path;
use std::path::PathBuf;

use serde_json::Value;

use super::*;
use crate::models::runtime;

const TOLERANCE: f64 = 1e-4;
const FILES: [&str; 2] =
    ["00_rana_architetto_francesc_01.jpg", "20_istogramma_architetto_fr_01.png"];

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn load(config: Config) -> Perceiver {
    let library = runtime::find_or_install().unwrap();
    let runtime = OnnxRuntime::load(&library).unwrap();
    Perceiver::load(&runtime, &Models::open(&config).unwrap()).unwrap()
}

/// Little-endian float32 of a `.npy` file of version 1.
fn tensor(file: &str, kind: &str) -> Vec<f32> {
    let name = format!("tests/data/perceive/tensors/demo_{file}.{kind}.npy");
    let bytes = std::fs::read(repository(&name)).unwrap();
    let header = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let floats = bytes[header..].chunks_exact(4);
    floats.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

fn recorded(file: &str) -> Value {
    let text = std::fs::read(repository("tests/data/perceive/expected.json")).unwrap();
    let expected: Value = serde_json::from_slice(&text).unwrap();
    let images = expected["images"].as_array().unwrap();
    images.iter().find(|i| i["file"].as_str().unwrap().ends_with(file)).unwrap().clone()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

fn assert_close(found: impl IntoIterator<Item = f32>, expected: &Value, what: &str) {
    let expected = numbers(expected);
    let found: Vec<f64> = found.into_iter().map(f64::from).collect();
    assert_eq!(found.len(), expected.len(), "{what}");
    let far = |(f, e): (&f64, &f64)| (f - e).abs() > TOLERANCE * e.abs().max(1.0);
    let differing = found.iter().zip(&expected).filter(|p| far(*p)).count();
    assert_eq!(differing, 0, "{what}: found {found:?}, expected {expected:?}");
}

#[test]
fn tagger_logits_are_those_of_python() {
    let config = Config { tagger: Some(repository("examples/models/tagger")), ..Config::default() };
    let mut tagger = load(config).tagger.unwrap();
    for file in FILES {
        let data = tensor(file, "vit");
        let images = Images { rows: 1, width: 128, height: 128, data: &data };
        let scores = tagger.scores(images).unwrap().remove(0).unwrap();
        let logits = scores.iter().map(|s| (s / (1.0 - s)).ln());
        assert_close(logits, &recorded(file)["tagger"]["logits"], file);
    }
}

#[test]
fn detector_outputs_are_those_of_python() {
    let plan = repository("examples/models/detector");
    let models = Models::open(&Config { detector: Some(plan), ..Config::default() }).unwrap();
    let library = runtime::find_or_install().unwrap();
    let runtime = OnnxRuntime::load(&library).unwrap();
    let path = &models.detector.as_ref().unwrap().plan.model;
    let mut network = image_network(&runtime, &models, path, 0).unwrap();
    for file in FILES {
        let data = tensor(file, "letterbox");
        let images = Images { rows: 1, width: 160, height: 160, data: &data };
        let (shape, output) =
            network.run(images, |shape, row| Ok((shape.to_vec(), row.to_vec()))).unwrap().remove(0);
        assert_eq!(shape, [33, 525]);
        let recorded = &recorded(file)["detector"]["output0"];
        let columns = numbers(&recorded["anchor_index"]);
        for (anchor, values) in columns.iter().zip(recorded["anchor_values"].as_array().unwrap()) {
            let column = (0..33).map(|row| output[row * 525 + *anchor as usize]);
            assert_close(column, values, &format!("{file}, anchor {anchor}"));
        }
    }
}

#[test]
fn captions_of_tensors_are_those_of_python() {
    let folder = repository("examples/models/captioner");
    for (how, beams) in [("greedy", 1), ("beam4", 4)] {
        let config = Config {
            captioner: Some(folder.clone()),
            beams,
            max_new_tokens: Some(24),
            ..Config::default()
        };
        let mut captioner = load(config).captioner.unwrap();
        for file in FILES {
            let data = tensor(file, "vit");
            let images = Images { rows: 1, width: 128, height: 128, data: &data };
            let caption = captioner.caption(images).remove(0).unwrap();
            let recorded = &recorded(file)["captioner"][how];
            assert_eq!(serde_json::json!(caption.ids), recorded["ids"], "{file}, {how}");
            assert_eq!(caption.text, recorded["text"].as_str().unwrap());
            if let Some(score) = recorded["sequence_score"].as_f64() {
                assert!((f64::from(caption.score.unwrap()) - score).abs() < TOLERANCE, "{file}");
            }
        }
    }
}

#[test]
fn a_picture_that_is_no_number_is_rejected_alone() {
    let data = tensor(FILES[0], "vit");
    let mut three = [data.clone(), vec![f32::NAN; data.len()], data].concat();
    let images = Images { rows: 3, width: 128, height: 128, data: &three };
    let is_nan = |r: &Reject| r.reason == crate::sample::Reason::NanOutput;
    for beams in [1, 4] {
        let config = Config {
            captioner: Some(repository("examples/models/captioner")),
            tagger: Some(repository("examples/models/tagger")),
            beams,
            ..Config::default()
        };
        let mut perceiver = load(config);
        let captions = perceiver.captioner.as_mut().unwrap().caption(images);
        assert_eq!(captions[0].as_ref().unwrap().ids, captions[2].as_ref().unwrap().ids);
        assert!(captions[1].as_ref().is_err_and(is_nan));
        let tags = perceiver.tagger.as_mut().unwrap().tag(images, 0.0, 3);
        assert_eq!(tags[0], tags[2]);
        assert!(tags[1].as_ref().is_err_and(is_nan));
    }
    three.truncate(3 * 160 * 160);
    let config =
        Config { detector: Some(repository("examples/models/detector")), ..Config::default() };
    three.fill(f32::NAN);
    let images = Images { rows: 1, width: 160, height: 160, data: &three };
    let mut perceiver = load(config);
    let thresholds = perceiver.models.config.thresholds();
    let found = perceiver.detector.as_mut().unwrap().detect(images, &[(160, 160)], thresholds);
    assert!(found[0].as_ref().is_err_and(is_nan));
}
