//! `recaption eval` and `recaption compare`, with the real binary and the small checkpoint of the
//! parity fixtures.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;
use std::time::SystemTime;

use candle_core::Device;
use candle_core::Tensor;
use image::Rgb;
use image::RgbImage;
use recaption::eval::metrics;
use recaption::eval::result::Score;
use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;
use tempfile::tempdir;

const COLOURS: [(&str, [u8; 3]); 3] =
    [("red", [200, 30, 30]), ("green", [40, 180, 40]), ("blue", [40, 50, 200])];
const OF_EACH: usize = 12;

fn recaption(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_recaption")).args(arguments).output().unwrap()
}

fn error(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{}", error(output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A picture of a colour with its own noise.
fn picture(colour: [u8; 3], number: usize) -> RgbImage {
    let mut state = number as u32 * 7_919 + 1;
    RgbImage::from_fn(24, 24, |_, _| {
        Rgb(colour.map(|value| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            value.saturating_add((state >> 26) as u8)
        }))
    })
}

/// Two checkpoints, pictures in a folder for each class, pictures with texts, and their suite.
fn world() -> TempDir {
    let world = tempdir().unwrap();
    let e2e = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/parity/e2e");
    let tensors = candle_core::safetensors::load(e2e.join("model.safetensors"), &Device::Cpu);
    let tensors = tensors.unwrap();
    for (name, by) in [("first", 0.0), ("second", 0.03)] {
        let folder = world.path().join(name);
        fs::create_dir(&folder).unwrap();
        let moved: HashMap<String, Tensor> = tensors
            .iter()
            .map(|(name, tensor)| (name.clone(), tensor.affine(1.0, by).unwrap()))
            .collect();
        candle_core::safetensors::save(&moved, folder.join("model.safetensors")).unwrap();
        fs::copy(e2e.join("config.json"), folder.join("config.json")).unwrap();
    }
    let mut lines = Vec::new();
    fs::create_dir(world.path().join("pairs")).unwrap();
    for (name, colour) in COLOURS {
        let folder = world.path().join("colours").join(name);
        fs::create_dir_all(&folder).unwrap();
        for number in 0..OF_EACH {
            let file = format!("{name}{number}.png");
            picture(colour, number).save(folder.join(&file)).unwrap();
            picture(colour, number).save(world.path().join("pairs").join(&file)).unwrap();
            let text = format!("a {name} picture, the number {number}");
            lines.push(
                json!({"file_name": file, "text": text, "label": name, "number": number})
                    .to_string(),
            );
        }
    }
    fs::write(world.path().join("pairs/metadata.jsonl"), lines.join("\n")).unwrap();
    fs::write(world.path().join("suite.toml"), SUITE).unwrap();
    world
}

const SUITE: &str = r#"
bootstrap = { resamples = 200 }
[[checkpoint]]
path = "first"
[[checkpoint]]
path = "second"
[[labelled]]
data = "colours"
templates = ["a {} picture"]
[[captioned]]
data = "pairs"
"#;

fn path(world: &TempDir, name: &str) -> String {
    world.path().join(name).display().to_string()
}

fn run_suite(world: &TempDir) -> Output {
    recaption(&["eval", "--suite", &path(world, "suite.toml"), "-o", &path(world, "out")])
}

fn results(folder: &Path) -> Vec<(PathBuf, SystemTime)> {
    let mut files: Vec<(PathBuf, SystemTime)> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| (path.clone(), path.metadata().unwrap().modified().unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn a_suite_is_worked_on_once_and_only_what_changed_again() {
    let world = world();
    let shown = succeeded(&run_suite(&world));
    assert!(shown.contains("zero-shot") && shown.contains("results.html"), "{shown}");
    let folder = world.path().join("out");
    let first = results(&folder);
    assert_eq!(first.len(), 6, "{first:?}");

    let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/schemas/score.schema.json");
    let schema: Value = serde_json::from_str(&fs::read_to_string(schema).unwrap()).unwrap();
    let schema = jsonschema::validator_for(&schema).unwrap();
    for (file, _) in &first {
        let json: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
        let errors: Vec<String> = schema.iter_errors(&json).map(|e| e.to_string()).collect();
        assert_eq!(errors, Vec::<String>::new(), "{}", file.display());
        let score = Score::read(file).unwrap();
        let details = score.recaption.as_ref().unwrap();
        for (metric, value) in &score.metrics {
            let interval = details.intervals[metric];
            assert!(0.0 <= interval.low && interval.low <= *value, "{metric}");
            assert!(*value <= interval.high && interval.high <= 1.0, "{metric}");
        }
    }

    let again = run_suite(&world);
    succeeded(&again);
    assert!(error(&again).contains("0 results made, 6 were there"), "{}", error(&again));
    assert_eq!(results(&folder), first);

    fs::write(world.path().join("suite.toml"), format!("rounding = \"reference\"\n{SUITE}"))
        .unwrap();
    let changed = run_suite(&world);
    succeeded(&changed);
    assert!(error(&changed).contains("2 results made, 4 were there"), "{}", error(&changed));

    // Another picture is other data, whatever the settings say.
    picture(COLOURS[0].1, 99).save(world.path().join("colours/red/new.png")).unwrap();
    let changed = run_suite(&world);
    succeeded(&changed);
    assert!(error(&changed).contains("4 results made, 2 were there"), "{}", error(&changed));
}

#[test]
fn it_does_not_matter_from_where_data_are_named() {
    let world = world();
    succeeded(&run_suite(&world));
    let mut again = Command::new(env!("CARGO_BIN_EXE_recaption"));
    again.args(["eval", "--suite", "suite.toml", "-o", "out"]).current_dir(world.path());
    let again = again.output().unwrap();
    succeeded(&again);
    assert!(error(&again).contains("0 results made, 6 were there"), "{}", error(&again));
}

#[test]
fn pictures_that_cannot_be_read_are_wrong_in_a_drawn_part_too() {
    let world = world();
    for number in 0..OF_EACH {
        fs::write(world.path().join(format!("colours/blue/blue{number}.png")), "none").unwrap();
    }
    succeeded(&run_suite(&world));
    let score = Score::read(&world.path().join("out/colours_first_linear_probe.json")).unwrap();
    // A fifth of twelve of each class is judged.
    let details = score.recaption.unwrap();
    assert_eq!((details.samples, details.unreadable), (6, 2));
    assert!(score.metrics["lp_acc1"] <= 4.0 / 6.0, "{:?}", score.metrics);
}

#[test]
fn parts_of_a_probe_that_share_a_picture_are_refused() {
    let world = world();
    let suite = |train: &str, validation: &str| {
        format!(
            "[[checkpoint]]\npath = 'first'\n[[labelled]]\ndata = 'pairs'\nlabel_column = 'label'\n\
             where = \"number == 0\"\nclasses = ['red', 'green', 'blue']\n\
             tasks = ['linear_probe']\n[labelled.probe]\n{train}\n{validation}\n"
        )
    };
    let of = |part: &str, filter: &str| format!("{part} = {{ {filter} }}");
    let (red, others) = ("where = \"label == 'red'\"", "where = \"number != 0\"");
    let elsewhere = |filter: &str| format!("data = 'colours/../pairs', {filter}");
    for (train, validation, says) in [
        (elsewhere(red), others.to_owned(), "judged and learned from"),
        (others.to_owned(), elsewhere(red), "judged and used for validation"),
        (others.to_owned(), elsewhere(others), "learned from and used for validation"),
    ] {
        let (train, validation) = (of("train", &train), of("validation", &validation));
        fs::write(world.path().join("suite.toml"), suite(&train, &validation)).unwrap();
        let output = run_suite(&world);
        assert_eq!(output.status.code(), Some(1));
        assert!(error(&output).contains(says), "{}", error(&output));
    }
}

#[test]
fn flags_may_name_one_data_set_for_all_tasks_and_several_of_one_name() {
    let world = world();
    let (checkpoint, out) = (path(&world, "first"), path(&world, "out"));
    let pairs = path(&world, "pairs");
    let all = [
        ["--zero-shot", &pairs],
        ["--linear-probe", &pairs],
        ["--retrieval", &pairs],
        ["--label-column", "label"],
    ];
    let run = |flags: &[[&str; 2]]| {
        let flags = flags.iter().flatten().copied();
        let first = ["eval", "--checkpoint", &checkpoint, "-o", &out];
        recaption(&first.into_iter().chain(flags).collect::<Vec<_>>())
    };
    let output = run(&all);
    succeeded(&output);
    assert!(error(&output).contains("3 results made"), "{}", error(&output));

    let colours = path(&world, "colours");
    let other = world.path().join("other/colours");
    for (name, colour) in COLOURS {
        fs::create_dir_all(other.join(name)).unwrap();
        picture(colour, 50).save(other.join(name).join("1.png")).unwrap();
    }
    let classes = path(&world, "classes.txt");
    fs::write(&classes, "azure\nlime\ncrimson\n").unwrap();
    let other = other.display().to_string();
    let output =
        run(&[["--zero-shot", &colours], ["--zero-shot", &other], ["--classes", &classes]]);
    succeeded(&output);
    assert!(error(&output).contains("\"blue\" for \"azure\""), "{}", error(&output));
    let root = world.path().canonicalize().unwrap();
    let root = root.file_name().unwrap().to_string_lossy();
    for name in [format!("{root}-colours"), "other-colours".to_owned()] {
        let file = format!("out/{name}_first_zeroshot_classification.json");
        assert!(world.path().join(&file).is_file(), "{file}");
    }
}

#[test]
fn results_that_would_share_a_file_are_refused_before_any_work() {
    let world = world();
    let suite = SUITE
        .replace("path = \"first\"", "path = \"first\"\nname = \"a b\"")
        .replace("path = \"second\"", "path = \"second\"\nname = \"a-b\"");
    fs::write(world.path().join("suite.toml"), suite).unwrap();
    let output = run_suite(&world);
    assert_eq!(output.status.code(), Some(1));
    assert!(error(&output).contains("two results would be in colours_a-b_"), "{}", error(&output));
    let twice = format!("{SUITE}[[labelled]]\ndata = \"colours\"\n");
    fs::write(world.path().join("suite.toml"), twice).unwrap();
    let said = error(&run_suite(&world));
    assert!(said.contains("two data sets for zero-shot are called colours"), "{said}");
    assert!(results(&world.path().join("out")).is_empty());
}

#[test]
fn colours_are_told_apart_by_a_probe_and_flags_do_what_a_suite_does() {
    let world = world();
    succeeded(&run_suite(&world));
    let file = |name: &str| world.path().join("out").join(name);
    let probe = Score::read(&file("colours_first_linear_probe.json")).unwrap();
    assert!(probe.metrics["lp_acc1"] > 0.8, "{:?}", probe.metrics);
    let details = probe.recaption.unwrap();
    let fitted = details.probe.unwrap();
    let pictures = (COLOURS.len() * OF_EACH) as u64;
    assert_eq!(fitted.train + fitted.validation + details.samples, pictures);

    let (checkpoint, data, out) =
        (path(&world, "first"), path(&world, "colours"), path(&world, "flags"));
    let templates = world.path().join("templates.txt");
    fs::write(&templates, "a {} picture\n").unwrap();
    succeeded(&recaption(&[
        "eval",
        "--checkpoint",
        &checkpoint,
        "--zero-shot",
        &data,
        "--templates",
        &templates.display().to_string(),
        "-o",
        &out,
    ]));
    let by_flags =
        Score::read(&world.path().join("flags/colours_first_zeroshot_classification.json"))
            .unwrap();
    let by_suite = Score::read(&file("colours_first_zeroshot_classification.json")).unwrap();
    assert_eq!(by_flags.metrics, by_suite.metrics);

    // The ranks that were kept are those that the metrics come from.
    let answers = &by_suite.recaption.unwrap().answers["image"];
    let ranks: Vec<usize> = answers.ranks.0.iter().map(|&rank| rank.into()).collect();
    assert_eq!(metrics::within(&ranks, 1), by_suite.metrics["acc1"]);
}

#[test]
fn what_fails_takes_nothing_else_with_it() {
    let world = world();
    let suite =
        format!("{SUITE}\n[[labelled]]\ndata = \"nowhere\"\n[[checkpoint]]\npath = \"gone\"\n");
    fs::write(world.path().join("suite.toml"), suite).unwrap();
    let output = run_suite(&world);
    assert_eq!(output.status.code(), Some(1));
    let said = error(&output);
    assert!(said.contains("failed") && said.contains("nowhere") && said.contains("gone"), "{said}");
    assert_eq!(results(&world.path().join("out")).len(), 6);
    assert!(world.path().join("out/results.md").is_file());
}

#[test]
fn results_are_compared_and_their_page_asks_nobody_for_anything() {
    let world = world();
    succeeded(&run_suite(&world));
    let (out, page) = (path(&world, "out"), path(&world, "page.html"));
    let shown = succeeded(&recaption(&["compare", &out, "--output", &page]));
    assert!(
        shown.contains("first") && shown.contains("second") && shown.contains("top-1"),
        "{shown}"
    );

    let theirs = world.path().join("theirs.json");
    let result = json!({
        "dataset": "colours", "model": "ViT-B-32", "pretrained": "theirs", "language": "en",
        "task": "zeroshot_classification", "metrics": {"acc1": 0.9},
    });
    fs::write(&theirs, result.to_string()).unwrap();
    let ours = world.path().join("out/colours_first_zeroshot_classification.json");
    let shown = succeeded(&recaption(&[
        "compare",
        &ours.display().to_string(),
        &theirs.display().to_string(),
    ]));
    assert!(shown.contains("90.0") && shown.contains("theirs"), "{shown}");

    for page in [PathBuf::from(page), world.path().join("out/results.html")] {
        let html = fs::read_to_string(page).unwrap();
        assert!(html.contains("default-src 'none'") && html.contains("<svg"));
        for forbidden in ["src=", "href=\"http", "url(", "@import", "<script", "style=\"", "NaN"] {
            assert!(!html.contains(forbidden), "{forbidden}");
        }
    }
    fs::write(world.path().join("out/notes.json"), "{}").unwrap();
    let output = recaption(&["compare", &out]);
    succeeded(&output);
    let said = error(&output);
    assert!(said.contains("passed over") && said.contains("notes.json"), "{said}");
    let nothing = recaption(&["compare", &path(&world, "colours")]);
    assert_eq!(nothing.status.code(), Some(1));
    assert!(error(&nothing).contains("no results"), "{}", error(&nothing));
}
