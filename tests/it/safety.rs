//! Safety classifiers: from a picture to a score, a column, a filter, a reject. CI has a classifier of
//! 440 bytes that says how red a picture is (`tests/data/safety/make_safety.py`); with
//! `RECAPTION_SAFETY_MODEL` set to the folder that `recaption models pull open-nsfw` prints, the real
//! one is held to what its Python package says.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use fast_image_resize::Resizer;
use recaption::decode;
use recaption::decode::Limits;
use recaption::decode::Pixels;
use recaption::filter::Filter;
use recaption::filter::Names;
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
use recaption::sample::Reason;
use recaption::sample::Reject;
use recaption::shard;
use serde_json::Value;
use serde_json::json;

use crate::refine::demo;
use crate::refine::samples;
use crate::refine::succeeded;

const REAL: &str = "RECAPTION_SAFETY_MODEL";

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn tiny() -> PathBuf {
    repository("tests/data/safety/tiny")
}

fn perceiver(config: &Config) -> anyhow::Result<Perceiver> {
    let runtime = OnnxRuntime::load(&runtime::find_or_install().unwrap()).unwrap();
    Perceiver::load(&runtime, &Models::open(config)?)
}

fn with_safety(folder: &Path) -> Config {
    Config { safety: Some(folder.to_owned()), ..Config::default() }
}

/// A picture of one colour as the tiny classifier is to see it.
fn plain(rgb: [u8; 3]) -> Glimpse {
    let view = Pixels { width: 24, height: 24, rgb: rgb.repeat(24 * 24) };
    Glimpse { original_width: 24, original_height: 24, views: vec![view] }
}

fn redness(percept: &Result<Percept, Reject>) -> f32 {
    percept.as_ref().unwrap().safety.as_ref().unwrap().nsfw
}

#[test]
fn the_score_is_that_of_the_unsafe_label_and_a_batch_says_what_its_pictures_say() {
    let mut perceiver = perceiver(&with_safety(&tiny())).unwrap();
    let batch = [plain([200, 100, 100]), plain([0, 90, 10]), plain([255, 0, 0])];
    let together = perceiver.perceive(&batch).unwrap();
    for (percept, wanted) in together.iter().zip([0.5, 0.0, 1.0]) {
        assert!((redness(percept) - wanted).abs() < 1e-5, "{percept:?}");
    }
    for (glimpse, together) in batch.iter().zip(&together) {
        let alone = perceiver.perceive(std::slice::from_ref(glimpse)).unwrap().remove(0);
        assert!((redness(&alone) - redness(together)).abs() < 1e-6);
    }
    let model = &together[0].as_ref().unwrap().safety.as_ref().unwrap().model;
    assert!(model.starts_with("tiny@") && model.len() == 13, "{model}");
}

#[test]
fn what_is_no_number_or_above_the_limit_is_a_reject_of_its_row_alone() {
    let config = Config { max_nsfw: Some(0.6), ..with_safety(&tiny()) };
    let mut perceiver = perceiver(&config).unwrap();
    let batch = [plain([0, 0, 0]), plain([255, 0, 0]), plain([100, 100, 100])];
    let found = perceiver.perceive(&batch).unwrap();
    let reasons: Vec<Option<Reason>> =
        found.iter().map(|percept| percept.as_ref().err().map(|reject| reject.reason)).collect();
    assert_eq!(reasons, [Some(Reason::NanOutput), Some(Reason::Unsafe), None]);
    let reject = found[1].as_ref().unwrap_err().to_string();
    assert!(reject.starts_with("perceive: unsafe (nsfw 1.000, above 0.6 (tiny@"), "{reject}");
}

/// The tiny folder with its description changed.
fn changed(change: impl Fn(&mut Value)) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::copy(tiny().join("model.onnx"), dir.path().join("model.onnx")).unwrap();
    let mut json: Value =
        serde_json::from_slice(&fs::read(tiny().join("recaption.json")).unwrap()).unwrap();
    change(&mut json);
    fs::write(dir.path().join("recaption.json"), json.to_string()).unwrap();
    dir
}

#[test]
fn a_wrong_folder_is_an_error_that_says_what_is_wrong() {
    let said =
        |folder: &Path| format!("{:#}", perceiver(&with_safety(folder)).err().expect("an error"));
    let set = |name: &'static str, value: Value| {
        said(changed(move |json| json[name] = value.clone()).path())
    };
    assert!(set("layout", json!("nchw")).contains("not [batch, 3, 24, 24] as its configuration"));
    assert!(set("crop", json!([16, 24])).contains("not [batch, 24, 16, 3]"));
    assert!(set("crop", json!([48, 24])).contains("a crop of 48x24 does not fit 32x32 pixels"));
    assert!(set("resize", json!([40, 32])).contains("give multiples of 16"));
    assert!(set("labels", json!(["sfw", "nsfw", "unsure"])).contains("has 3 labels"));
    assert!(set("unsafe", json!(["porn"])).contains("\"porn\" is not among labels"));
    assert!(set("unsafe", json!([])).contains("no picture could be unsafe"));
    assert!(set("kind", json!("tagger")).contains("kind \"tagger\" is not known"));
    assert!(set("jpeg_quality", json!(0)).contains("jpeg_quality is not 1 to 100"));
    assert!(set("std", json!([1, 0, 1])).contains("cannot be calculated with"));
    assert!(set("maen", json!([1, 1, 1])).contains("recaption.json is not the JSON"));
    let tagger = said(&repository("examples/models/tagger"));
    assert!(tagger.contains("none of its labels is one of nsfw, unsafe"), "{tagger}");
    let captioner = said(&repository("examples/models/captioner"));
    assert!(captioner.contains("holds a captioner, not a safety classifier"), "{captioner}");
    let as_tagger = Config { tagger: Some(tiny()), ..Config::default() };
    let as_tagger = format!("{:#}", Models::open(&as_tagger).err().expect("an error"));
    assert!(as_tagger.contains("holds a safety classifier, not a tagger"), "{as_tagger}");
    let bare = tempfile::tempdir().unwrap();
    fs::copy(tiny().join("model.onnx"), bare.path().join("open_nsfw.onnx")).unwrap();
    assert!(said(bare.path()).contains("recaption models pull open-nsfw"));
    let alone = Config { max_nsfw: Some(0.5), ..Config::default() };
    let alone = format!("{:#}", Models::open(&alone).err().expect("an error"));
    assert!(alone.contains("no safety classifier is named"), "{alone}");
}

/// A classifier of the Hub has a `config.json` and channels before pixels.
#[test]
fn a_classifier_with_a_label_that_says_it_needs_no_description() {
    let dir = tempfile::tempdir().unwrap();
    let good = repository("examples/models/tagger");
    for name in ["model.onnx", "preprocessor_config.json"] {
        fs::copy(good.join(name), dir.path().join(name)).unwrap();
    }
    let config = fs::read_to_string(good.join("config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&config).unwrap();
    config["id2label"]["7"] = json!("NSFW");
    fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    let mut perceiver = perceiver(&with_safety(dir.path())).unwrap();
    let view = Pixels { width: 128, height: 128, rgb: vec![200; 3 * 128 * 128] };
    let glimpse = Glimpse { original_width: 128, original_height: 128, views: vec![view] };
    let found = perceiver.perceive(&[glimpse]).unwrap();
    assert!((0.0..=1.0).contains(&redness(&found[0])));
}

/// The network of a tagger, described as if its logits were scores, and as they are.
#[test]
fn logits_that_are_called_scores_are_rejects_and_scores_never_sum_up_beyond_one() {
    let good = repository("examples/models/tagger");
    let config: Value =
        serde_json::from_slice(&fs::read(good.join("config.json")).unwrap()).unwrap();
    let labels = config["id2label"].as_object().unwrap();
    let labels: Vec<Value> = (0..labels.len()).map(|id| labels[&id.to_string()].clone()).collect();
    let rated = |activation: &str| {
        let dir = tempfile::tempdir().unwrap();
        fs::copy(good.join("model.onnx"), dir.path().join("model.onnx")).unwrap();
        let json = json!({
            "kind": "safety", "labels": labels, "unsafe": labels, "activation": activation,
            "resize": [128, 128], "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5],
        });
        fs::write(dir.path().join("recaption.json"), json.to_string()).unwrap();
        let mut perceiver = perceiver(&with_safety(dir.path())).unwrap();
        let view = Pixels { width: 128, height: 128, rgb: vec![200; 3 * 128 * 128] };
        let glimpse = Glimpse { original_width: 128, original_height: 128, views: vec![view] };
        perceiver.perceive(&[glimpse]).unwrap().remove(0)
    };
    let reject = rated("none").unwrap_err();
    assert_eq!(reject.reason, Reason::ModelFailed);
    assert!(reject.detail.contains("are its outputs logits?"), "{reject}");
    assert!((redness(&rated("softmax")) - 1.0).abs() < 1e-4);
    let sum = redness(&rated("sigmoid"));
    assert!(sum > 0.0 && sum <= 1.0, "{sum}");
}

fn refined(run: &Path, more: &[&str]) {
    succeeded(&demo(run).arg("--safety").arg(tiny()).args(more).output().unwrap());
}

#[test]
fn a_run_has_the_score_in_rows_filters_and_figures_in_both_forms() {
    let dir = tempfile::tempdir().unwrap();
    for format in ["parquet", "webdataset"] {
        let run = dir.path().join(format);
        refined(&run, &["--format", format, "--limit", "16"]);
        let rows = samples(&run);
        let scores: Vec<f32> = rows.iter().map(|row| row.safety.as_ref().unwrap().nsfw).collect();
        assert_eq!(scores.len(), 16);
        assert!(scores.iter().all(|score| (0.0..=1.0).contains(score)));
        // The hedgehog among leaves is redder than the penguin on white.
        assert!(scores.iter().any(|score| *score > 0.4) && scores.iter().any(|s| *s < 0.36));

        if format == "parquet" {
            let source = shard::open_source(&[run.display().to_string()], &Default::default());
            let source = source.unwrap();
            let filter = Filter::parse("nsfw < 0.36").unwrap();
            let filter = filter.over(Names::default(), &source.plan().extra).unwrap();
            let items = source.items(0..16).unwrap();
            let kept = items.filter(|item| filter.keeps(item.as_ref().unwrap()).unwrap()).count();
            assert_eq!(kept, scores.iter().filter(|score| f64::from(**score) < 0.36).count());
            assert!(kept > 0 && kept < 16, "{kept}");
        }

        let mut audit = Command::new(env!("CARGO_BIN_EXE_recaption"));
        let found = succeeded(&audit.args(["audit", "--json"]).arg(&run).output().unwrap());
        let found: Value = serde_json::from_str(&found).unwrap();
        let indicators = found["summary"]["indicators"].as_array().unwrap();
        let nsfw = indicators.iter().find(|indicator| indicator["name"] == "nsfw").unwrap();
        assert_eq!(nsfw["values"]["rows"], 16);

        let record: Value =
            serde_json::from_slice(&fs::read(run.join("run.json")).unwrap()).unwrap();
        let models = record["models"].as_array().unwrap();
        let safety = models.iter().find(|model| model["kind"] == "safety classifier").unwrap();
        assert_eq!(safety["model"], json!(*rows[0].safety.as_ref().unwrap().model));
    }
}

#[test]
fn a_limit_rejects_rows_with_the_score_and_without_a_classifier_the_column_is_null() {
    let dir = tempfile::tempdir().unwrap();
    let (strict, without) = (dir.path().join("strict"), dir.path().join("without"));
    refined(&strict, &["--max-nsfw", "0.36", "--limit", "16"]);
    let marker = shard::all_finished(&strict).unwrap().remove(0);
    assert_eq!(marker.rows_read, marker.refined + marker.rejected);
    assert!(samples(&strict).iter().all(|row| row.safety.as_ref().unwrap().nsfw <= 0.36));
    let rejects = shard::rejects(&strict, &marker).unwrap().map(Result::unwrap);
    let details: Vec<String> = rejects
        .filter(|(_, _, reject)| reject.reason == Reason::Unsafe)
        .map(|(_, _, reject)| reject.detail)
        .collect();
    assert!(!details.is_empty() && details.iter().all(|d| d.contains(", above 0.36 (tiny@")));

    succeeded(&demo(&without).args(["--limit", "16"]).output().unwrap());
    assert!(samples(&without).iter().all(|row| row.safety.is_none()));
}

/// One picture as the models of a folder want to see it.
fn glimpse(models: &Models, name: &str) -> Glimpse {
    let bytes = fs::read(repository("examples/demo/images").join(name)).unwrap();
    let pixels = decode::upright(&bytes, &Limits::default()).unwrap().0;
    let mut resizer = Resizer::new();
    Glimpse {
        original_width: pixels.width,
        original_height: pixels.height,
        views: models.views().iter().map(|v| v.apply(&pixels, &mut resizer).unwrap()).collect(),
    }
}

/// From equal pixels on, every step is that of Pillow to the bit: PNG files agree to 1e-6. What is left
/// is the decoder of the picture's own JPEG, which is another one and some levels away: over the 52 JPEG
/// files of the demo the scores differ by 0.0017 in the mean and by 0.048 at most, and the three that
/// differ most are recorded.
#[test]
fn open_nsfw_says_what_its_python_package_says() {
    let Some(folder) = std::env::var_os(REAL).map(PathBuf::from) else {
        println!("not run: {REAL} is not set to the folder of open-nsfw");
        return;
    };
    let expected = repository("tests/data/safety/expected.json");
    let recorded: Value = serde_json::from_slice(&fs::read(&expected).unwrap()).unwrap();
    let config = with_safety(&folder);
    let models = Models::open(&config).unwrap();
    let mut perceiver = perceiver(&config).unwrap();
    for image in recorded["images"].as_array().unwrap() {
        let name = image["file"].as_str().unwrap();
        let wanted = image["safety"]["nsfw"].as_f64().unwrap();
        let found = perceiver.perceive(&[glimpse(&models, name)]).unwrap();
        let found = f64::from(redness(&found[0]));
        println!("{name}: {found:.7}, Python {wanted:.7}, {:+.1e}", found - wanted);
        let tolerance = if name.ends_with(".png") { 1e-6 } else { 6e-2 };
        assert!((found - wanted).abs() < tolerance, "{name}: {found}, not {wanted}");
    }
    let images = repository("examples/demo/images");
    let examination = Examination { folder, expected, images, precision: Precision::Full };
    let runtime = OnnxRuntime::load(&runtime::find_or_install().unwrap()).unwrap();
    let report = doctor::examine(&runtime, &examination).unwrap();
    assert_eq!(report.compared, 6);
    assert!(report.differing_pictures() <= 2, "{report}");
}
