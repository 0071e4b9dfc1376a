//! Zero-shot, retrieval and a benchmark of one's own, from files to numbers, with the small checkpoint
//! of the parity fixtures and with a `tiny` one of random weights.

use std::cell::Cell;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

use candle_core::Device;
use candle_core::Tensor;
use recaption::clip;
use recaption::clip::Embedder;
use recaption::eval::benchmark;
use recaption::eval::benchmark::Benchmark;
use recaption::eval::data::Captioned;
use recaption::eval::data::CaptionedConfig;
use recaption::eval::data::Labelled;
use recaption::eval::data::LabelledConfig;
use recaption::eval::data::Words;
use recaption::eval::features::features;
use recaption::eval::metrics;
use recaption::eval::retrieval;
use recaption::eval::zero_shot;
use recaption::eval::zero_shot::Rounding;
use recaption::model;
use recaption::model::checkpoint;
use recaption::model::checkpoint::Dtypes;
use recaption::model::init;
use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;
use tempfile::tempdir;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn fixtures() -> PathBuf {
    root().join("tests/data/parity")
}

/// The checkpoint whose embeddings are known.
fn official(batch: usize) -> Embedder {
    Embedder::open(&clip::Config {
        checkpoint: Some(fixtures().join("e2e/model.safetensors")),
        model_config: fixtures().join("e2e/config.json").display().to_string(),
        batch,
        ..clip::Config::default()
    })
    .unwrap()
}

/// A model that has learned nothing.
fn untrained() -> Embedder {
    let folder = tempdir().unwrap();
    let config = model::Config::preset("tiny").unwrap();
    let path = folder.path().join("tiny.safetensors");
    let weights = init::initial(&config, 1).unwrap();
    checkpoint::save(&weights, &config, Dtypes::F32, &path).unwrap();
    let model_config = "tiny".to_owned();
    Embedder::open(&clip::Config {
        checkpoint: Some(path),
        model_config,
        ..clip::Config::default()
    })
    .unwrap()
}

fn inputs(name: &str) -> Vec<String> {
    let text = fs::read_to_string(fixtures().join("e2e/inputs.json")).unwrap();
    let inputs: Value = serde_json::from_str(&text).unwrap();
    serde_json::from_value(inputs[name].clone()).unwrap()
}

/// 100 times the cosines of the three pictures with the five labels.
fn logits() -> Tensor {
    let path = fixtures().join("e2e/expected.safetensors");
    candle_core::safetensors::load(path, &Device::Cpu).unwrap()["logits_100"].clone()
}

/// The pictures of the fixtures in folders `0` to `2`, the labels as the names of classes.
fn labelled() -> (TempDir, LabelledConfig) {
    let folder = tempdir().unwrap();
    let classes = inputs("labels");
    for (image, class) in inputs("images").iter().zip(&classes) {
        fs::create_dir(folder.path().join(class)).unwrap();
        fs::copy(fixtures().join(image), folder.path().join(class).join("a.png")).unwrap();
    }
    let config = LabelledConfig {
        data: folder.path().to_owned(),
        classes: Some(Words::List(classes)),
        templates: Some(Words::List(vec!["{}".to_owned()])),
        ..LabelledConfig::default()
    };
    (folder, config)
}

/// Where the class of each picture of the fixtures stands in the official logits.
fn official_ranks() -> Vec<usize> {
    metrics::ranks(&logits(), &[0, 1, 2]).unwrap()
}

#[test]
fn zero_shot_gives_the_official_logits() {
    let (_folder, config) = labelled();
    let data = Labelled::open(&config).unwrap();
    let wanted = logits().to_vec2::<f32>().unwrap();
    for batch in [1, 2, 16] {
        let embedder = official(batch);
        let done = Cell::new(0);
        let features = features(&embedder, &data, &|pictures| done.set(pictures)).unwrap();
        assert_eq!((done.get(), features.keys.len()), (3, 3));
        let weights = zero_shot::classifier(&embedder, &data).unwrap();
        let found = (&features.numbers * 100.0).unwrap().matmul(&weights).unwrap();
        for (row, &target) in features.targets.iter().enumerate() {
            let found = found.get(row).unwrap().to_vec1::<f32>().unwrap();
            for (found, wanted) in found.iter().zip(&wanted[target]) {
                assert!((found - wanted).abs() < 1e-2, "batch {batch}, picture {target}");
            }
        }
        let scores = zero_shot::score(&embedder, &data, &features, Rounding::Exact).unwrap();
        for (rank, &target) in scores.ranks.iter().zip(&scores.targets) {
            assert_eq!(*rank, official_ranks()[target], "batch {batch}");
        }
        assert_eq!(scores.top5, 1.0);
    }
}

#[test]
fn what_cannot_be_read_is_wrong_and_said() {
    let (folder, config) = labelled();
    let class = &inputs("labels")[0];
    fs::write(folder.path().join(class).join("broken.png"), b"\x89PNG\r\n\x1a\nnot one").unwrap();
    let data = Labelled::open(&config).unwrap();
    let embedder = official(2);
    let features = features(&embedder, &data, &|_| ()).unwrap();
    assert_eq!((features.keys.len(), features.unreadable.len()), (3, 1));
    assert_eq!(features.unreadable[0].key, format!("{class}/broken.png"));
    assert!(features.unreadable[0].why.contains("corrupt image"), "{:?}", features.unreadable);
    let scores = zero_shot::score(&embedder, &data, &features, Rounding::Exact).unwrap();
    assert_eq!((scores.targets.len(), scores.top5), (4, 0.75));
    assert_eq!((scores.predicted[3], scores.ranks[3]), (None, usize::MAX));
    assert_eq!(scores.classes[0].pictures, 2);
    let judged: u64 = scores.confusion().iter().flatten().sum();
    assert_eq!(judged, 3);

    for label in inputs("labels").iter().take(3) {
        fs::write(folder.path().join(label).join("a.png"), b"no picture").unwrap();
    }
    let data = Labelled::open(&config).unwrap();
    let error = recaption::eval::features::features(&embedder, &data, &|_| ()).err().unwrap();
    assert!(error.to_string().contains("no picture can be read"), "{error}");
}

#[test]
fn retrieval_finds_what_the_official_logits_say() {
    let scratch = tempdir().unwrap();
    let list = scratch.path().join("test.json");
    let (images, labels) = (inputs("images"), inputs("labels"));
    // The first picture has three texts, the second one none, the third one two.
    let entries = json!([
        {"image": images[0], "caption": labels[..3]},
        {"image": images[1], "caption": []},
        {"image": images[2], "caption": labels[3..]},
    ]);
    fs::write(&list, entries.to_string()).unwrap();
    let config = CaptionedConfig {
        data: list.clone(),
        images: Some(fixtures()),
        ..CaptionedConfig::default()
    };
    let data = Captioned::open(&config).unwrap();
    assert_eq!(data.image_of, [0, 0, 0, 2, 2]);
    let done = Cell::new(0);
    let found = retrieval::score(&official(2), &data, &|n| done.set(n)).unwrap();
    assert_eq!((found.images, found.texts, done.get()), (3, 5, 8));
    let wanted = metrics::recalls(&logits(), &data.image_of, &retrieval::AT).unwrap();
    assert_eq!(found.recalls, wanted);

    let entries = json!([
        {"image": images[0], "caption": labels[..3]},
        {"image": "gone.png", "caption": labels[3..]},
    ]);
    fs::write(&list, entries.to_string()).unwrap();
    let found =
        retrieval::score(&official(2), &Captioned::open(&config).unwrap(), &|_| ()).unwrap();
    assert_eq!(found.unreadable[0].0, "gone.png");
    assert_eq!((found.text_ranks[1], &found.image_ranks[3..]), (usize::MAX, &[usize::MAX; 2][..]));
    assert_eq!(found.recalls.text_to_image, [0.6, 0.6, 0.6]);
}

#[test]
fn the_inspection_example_is_judged_and_fails_without_learning() {
    let path = root().join("examples/inspection/benchmark.toml");
    let benchmark = Benchmark::read(&path).unwrap();
    let outcome = benchmark::run(&untrained(), &benchmark, &|_| ()).unwrap();
    assert!(!outcome.pass);
    let names: Vec<&str> = outcome.verdicts.iter().map(|verdict| verdict.name.as_str()).collect();
    let wanted = [
        "top1",
        "mean per class",
        "unreadable",
        "recall of any defect",
        "recall of any defect, surely",
        "false alarms of any defect",
        "recall of scratch",
        "precision of scratch",
    ];
    assert_eq!(names, wanted);
    let unreadable = &outcome.verdicts[2];
    assert_eq!(
        (unreadable.found, unreadable.pass, unreadable.pictures),
        (Some(0.0), true, Some(40))
    );
    let page = outcome.markdown();
    assert!(page.starts_with("# turned discs: FAIL\n"), "{page}");
    for part in ["| missing\\_bore | 10 |", "of 8 limits kept", "What was taken for what"] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let [limits, _] = outcome.tables();
    assert!(limits.to_string().contains(">= 98.0 %"), "{limits}");
    let json = serde_json::to_value(&outcome).unwrap();
    assert_eq!(json["verdicts"][0]["bound"], "at_least");
}

#[test]
fn a_benchmark_that_makes_no_sense_is_refused_before_any_work() {
    let scratch = tempdir().unwrap();
    let path = scratch.path().join("benchmark.toml");
    let parts = root().join("examples/inspection/parts");
    let read = |limits: &str| {
        let text = format!("data = {{ data = {:?} }}\n{limits}", parts.display().to_string());
        fs::write(&path, text).unwrap();
        Benchmark::read(&path)
    };
    let error = |limits: &str| format!("{:#}", read(limits).err().unwrap());
    assert!(error("").contains("no limit"));
    assert!(error("limits.top1 = 90").contains("limit 90 is no share"));
    assert!(error("limits.top2 = 0.5").contains("top2"));
    assert!(error("class = [{ name = 'scratch' }]").contains("class scratch has no limit"));
    for (limits, says) in [
        ("class = [{ name = 'scratches', recall = 0.5 }]", "\"scratches\"; there are dent, good"),
        ("limits.top5 = 0.5", "top5 says nothing where there are 4 classes"),
    ] {
        let benchmark = read(limits).unwrap();
        let error = benchmark::run(&untrained(), &benchmark, &|_| panic!("work was done")).err();
        let error = format!("{:#}", error.unwrap());
        assert!(error.contains(says), "{error}");
    }
}
