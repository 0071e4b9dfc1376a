//! The starter models, from picture files to final answers, against what Python said about them.

use std::path::Path;
use std::path::PathBuf;

use fast_image_resize::Resizer;
use recaption::decode;
use recaption::decode::Limits;
use recaption::decode::Pixels;
use recaption::models::folder::Precision;
use recaption::models::runtime;
use recaption::perceive::Config;
use recaption::perceive::Glimpse;
use recaption::perceive::Models;
use recaption::perceive::OnnxRuntime;
use recaption::perceive::Perceiver;
use recaption::perceive::Percept;
use recaption::perceive::doctor;
use recaption::perceive::doctor::Examination;
use recaption::perceive::doctor::Report;
use serde_json::Value;
use serde_json::json;

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn onnx_runtime() -> OnnxRuntime {
    OnnxRuntime::load(&runtime::find_or_install().unwrap()).unwrap()
}

fn examine(folder: &Path) -> Report {
    let examination = Examination {
        folder: folder.to_owned(),
        expected: repository("tests/data/perceive/expected.json"),
        images: repository("examples/demo/images"),
        precision: Precision::Full,
    };
    doctor::examine(&onnx_runtime(), &examination).unwrap()
}

fn all_models() -> Config {
    Config {
        tagger: Some(repository("examples/models/tagger")),
        detector: Some(repository("examples/models/detector")),
        captioner: Some(repository("examples/models/captioner")),
        ..Config::default()
    }
}

fn glimpse(models: &Models, name: &str) -> Glimpse {
    let bytes = std::fs::read(repository("examples/demo/images").join(name)).unwrap();
    let pixels = decode::upright(&bytes, &Limits::default()).unwrap().0;
    let mut resizer = Resizer::new();
    Glimpse {
        original_width: pixels.width,
        original_height: pixels.height,
        views: models.views().iter().map(|v| v.apply(&pixels, &mut resizer).unwrap()).collect(),
    }
}

fn demo_names() -> Vec<String> {
    let folder = std::fs::read_dir(repository("examples/demo/images")).unwrap();
    let mut names: Vec<String> =
        folder.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Our own decoding and resizing move pixels by a level or two, so one picture of 16 may differ;
/// which one and by how much is printed.
#[test]
fn from_picture_files_the_answers_are_those_of_python() {
    for name in ["tagger", "detector", "captioner"] {
        let report = examine(&repository("examples/models").join(name));
        println!("{report}");
        assert_eq!((report.kind, report.compared), (name, 16));
        assert!(report.differing_pictures() <= 1, "{report}");
    }
}

/// The plague that `doctor` is for: everything loads and runs, and the answers are nonsense.
#[test]
fn doctor_finds_a_wrong_normalisation() {
    let good = repository("examples/models/tagger");
    let dir = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.onnx", "preprocessor_config.json"] {
        std::fs::copy(good.join(name), dir.path().join(name)).unwrap();
    }
    let path = dir.path().join("preprocessor_config.json");
    let mut settings: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    settings["image_mean"] = json!([0.485, 0.456, 0.406]);
    settings["image_std"] = json!([0.229, 0.224, 0.225]);
    std::fs::write(&path, settings.to_string()).unwrap();
    let report = examine(dir.path());
    assert!(!report.agrees());
    assert!(report.differing_pictures() > 12, "{report}");
    assert!(report.to_string().contains(", expected 0."), "{report}");
}

#[test]
fn a_batch_says_what_its_pictures_say_one_by_one() {
    for beams in [1, 4] {
        let models = Models::open(&Config { beams, ..all_models() }).unwrap();
        let mut perceiver = Perceiver::load(&onnx_runtime(), &models).unwrap();
        let names = demo_names();
        let glimpses: Vec<Glimpse> = names[..12].iter().map(|n| glimpse(&models, n)).collect();
        let together = perceiver.perceive(&glimpses).unwrap();
        for (glimpse, together) in glimpses.iter().zip(&together) {
            let alone = perceiver.perceive(std::slice::from_ref(glimpse)).unwrap().remove(0);
            assert_same(together.as_ref().unwrap(), &alone.unwrap());
        }
    }
}

/// Sums over a batch may be taken in another order: scores are equal to 1e-5, words are equal.
fn assert_same(a: &Percept, b: &Percept) {
    assert_eq!(a.caption, b.caption);
    let labels = |p: &Percept| p.tags.iter().map(|t| t.label.clone()).collect::<Vec<_>>();
    assert_eq!(labels(a), labels(b));
    for (a, b) in a.tags.iter().zip(&b.tags) {
        assert!((a.score - b.score).abs() < 1e-5);
        let corners = a.bbox.unwrap_or_default().into_iter().zip(b.bbox.unwrap_or_default());
        assert!(corners.into_iter().all(|(a, b)| (a - b).abs() < 1e-2));
    }
}

#[test]
fn equal_preprocessing_is_done_once() {
    let models = Models::open(&all_models()).unwrap();
    assert_eq!(models.views().len(), 2, "one for tagger and captioner, one for the detector");
    assert_eq!(models.folders().count(), 3);
    let labels: Vec<&str> = models.folders().map(|f| &*f.label).collect();
    assert!(labels[0].starts_with("tagger@") && labels[0].len() == 15, "{labels:?}");
}

#[test]
fn every_demo_picture_is_perceived() {
    let models = Models::open(&all_models()).unwrap();
    let mut perceiver = Perceiver::load(&onnx_runtime(), &models).unwrap();
    let glimpses: Vec<Glimpse> = demo_names().iter().map(|n| glimpse(&models, n)).collect();
    for part in glimpses.chunks(Config::default().batch) {
        for percept in perceiver.perceive(part).unwrap() {
            let percept = percept.unwrap();
            assert!(percept.caption.is_some_and(|c| !c.text.is_empty()));
            assert!(percept.tags.iter().all(|t| (0.0..=1.0).contains(&t.score)));
        }
    }
}

#[test]
fn a_folder_of_another_kind_is_refused_with_advice() {
    let config = Config { tagger: all_models().captioner, ..Config::default() };
    let said = format!("{:#}", Models::open(&config).err().unwrap());
    assert!(said.contains("holds a captioner, not a tagger"), "{said}");
}

#[test]
fn a_truncated_network_is_an_error_that_names_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let good = repository("examples/models/tagger");
    for name in ["config.json", "preprocessor_config.json"] {
        std::fs::copy(good.join(name), dir.path().join(name)).unwrap();
    }
    let whole = std::fs::read(good.join("model.onnx")).unwrap();
    std::fs::write(dir.path().join("model.onnx"), &whole[..whole.len() / 2]).unwrap();
    let models =
        Models::open(&Config { tagger: Some(dir.path().to_owned()), ..Config::default() }).unwrap();
    let error = Perceiver::load(&onnx_runtime(), &models).err().unwrap();
    let said = format!("{error:#}");
    assert!(said.contains("ONNX Runtime cannot load") && said.contains("model.onnx"), "{said}");
}

#[test]
fn glimpses_without_the_views_asked_for_are_an_error() {
    let models = Models::open(&all_models()).unwrap();
    let mut perceiver = Perceiver::load(&onnx_runtime(), &models).unwrap();
    let mut glimpse = glimpse(&models, "60_ball.jpg");
    assert!(perceiver.perceive(&[]).unwrap().is_empty());
    glimpse.views.pop();
    assert!(perceiver.perceive(&[glimpse]).is_err());
}

/// A network whose two boxes are written into the red values of the picture (see
/// tests/data/perceive/make_end_to_end_detector.py), with a batch frozen at 2.
#[test]
fn end_to_end_detectors_and_frozen_batches_work() {
    let folder = repository("tests/data/perceive/end_to_end_detector");
    let models = Models::open(&Config { detector: Some(folder), ..Config::default() }).unwrap();
    let mut perceiver = Perceiver::load(&onnx_runtime(), &models).unwrap();
    let cat = [0, 51, 102, 255, 204, 0];
    let dog = [51, 51, 255, 255, 230, 255];
    let unsure = [0, 0, 255, 255, 50, 0];
    let batch = [picture_of([cat, unsure]), picture_of([cat, dog]), picture_of([unsure, dog])];
    let found = perceiver.perceive(&batch).unwrap();
    let labels: Vec<Vec<String>> = found
        .iter()
        .map(|p| p.as_ref().unwrap().tags.iter().map(|t| t.label.clone()).collect())
        .collect();
    assert_eq!(labels, [vec!["cat"], vec!["dog", "cat"], vec!["dog"]]);
    let cat = &found[0].as_ref().unwrap().tags[0];
    assert_eq!((cat.score, cat.bbox), (0.8, Some([0.0, 0.2, 0.4, 1.0])));
}

fn picture_of(boxes: [[u8; 6]; 2]) -> Glimpse {
    let mut rgb = vec![0; 3 * 32 * 32];
    for (pixel, value) in boxes.into_iter().flatten().enumerate() {
        rgb[3 * pixel] = value;
    }
    let view = Pixels { width: 32, height: 32, rgb };
    Glimpse { original_width: 32, original_height: 32, views: vec![view] }
}
