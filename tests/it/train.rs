//! `recaption train` with the real binary, on the pictures of examples/demo: the same curve however often
//! it is stopped, and clear words where it cannot go on.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tempfile::tempdir;

fn demo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/demo")
}

/// A model of few parameters (most are the vocabulary), so that a step takes little time.
fn sizes(folder: &Path, changes: &[(&str, u64)]) -> PathBuf {
    let mut config = recaption::model::Config::preset("tiny").unwrap();
    (config.input_size, config.image_depth, config.n_layer) = (32, 2, 2);
    config.drop_path_rate = 0.3;
    let mut json = serde_json::to_value(&config).unwrap();
    for (name, value) in changes {
        json[*name] = (*value).into();
    }
    let path = folder.join("sizes.json");
    fs::write(&path, json.to_string()).unwrap();
    path
}

/// Twelve steps of sixteen pairs, a checkpoint each four.
fn train(run: &Path, sizes: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_recaption"));
    command.arg("train").arg(demo()).arg("-o").arg(run).arg("--model").arg(sizes);
    command.args(["--batch", "16", "--steps", "12", "--checkpoint-every", "4"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn succeeded(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?}: {said}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn failed(output: &Output, words: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is not in {said}");
    }
}

/// The journal without what depends on the clock.
fn journal(run: &Path) -> Vec<Value> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default();
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines
        .map(|mut line| {
            let object = line.as_object_mut().unwrap();
            object.remove("seconds");
            object.remove("waited");
            line
        })
        .collect()
}

fn losses(run: &Path) -> Vec<f64> {
    let lines = journal(run);
    lines.iter().filter_map(|line| line["loss"].as_f64()).collect()
}

fn checkpoints(run: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(run.join("checkpoints")) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The bytes of everything a later training would read.
fn last(run: &Path) -> Vec<Vec<u8>> {
    let folder = run.join("checkpoints/step-0000012");
    let names = ["model.safetensors", "optimizer.safetensors", "state.json", "config.json"];
    names.map(|name| fs::read(folder.join(name)).unwrap()).into()
}

/// Waits until a training has a checkpoint of some steps, and ends it as a power cut would.
fn killed_after(mut command: Command, run: &Path, checkpoint: &str) {
    let mut child = command.spawn().unwrap();
    while !checkpoints(run).iter().any(|name| name == checkpoint) {
        if let Some(status) = child.try_wait().unwrap() {
            panic!("it ended before its checkpoint: {status}");
        }
        thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_training_that_is_killed_goes_on_to_the_same_bits() {
    let scratch = tempdir().unwrap();
    let sizes = sizes(scratch.path(), &[]);
    let (whole, cut) = (scratch.path().join("whole"), scratch.path().join("cut"));
    let options = |mut command: Command| {
        command.args(["--validation-where", "'food' in category or 'animals' in category"]);
        command.args(["--validation-every", "5", "--keep", "2", "--set", "recipe.gate=true"]);
        command.args(["--piece", "6"]);
        command
    };
    succeeded(&options(train(&whole, &sizes)).output().unwrap());
    assert_eq!(losses(&whole).len(), 12);
    assert_eq!(checkpoints(&whole), ["step-0000008", "step-0000012"]);
    let validations = |line: &&Value| line["event"] == "validation";
    assert_eq!(journal(&whole).iter().filter(validations).count(), 3, "steps 5, 10 and 12");

    killed_after(options(train(&cut, &sizes)), &cut, "step-0000004");
    killed_after(options(train(&cut, &sizes)), &cut, "step-0000008");
    succeeded(&options(train(&cut, &sizes)).output().unwrap());
    assert_eq!(journal(&cut), journal(&whole));
    assert_eq!(last(&cut), last(&whole));

    // A training that is over is left as it is.
    let before = fs::read(whole.join("metrics.jsonl")).unwrap();
    succeeded(&options(train(&whole, &sizes)).output().unwrap());
    assert_eq!(fs::read(whole.join("metrics.jsonl")).unwrap(), before);

    let mut other = options(train(&whole, &sizes));
    other.args(["--lr", "0.5"]);
    failed(&other.output().unwrap(), &["made by another command", "config.recipe.lr: 0.001 there"]);

    let page = fs::read_to_string(whole.join("report.html")).unwrap();
    assert!(page.contains("<svg") && page.contains("Retrieval on held-out pairs"), "{page}");
}

#[test]
fn a_signal_ends_a_training_with_a_checkpoint_of_its_last_step() {
    let scratch = tempdir().unwrap();
    let sizes = sizes(scratch.path(), &[]);
    let (whole, stopped) = (scratch.path().join("whole"), scratch.path().join("stopped"));
    succeeded(&train(&whole, &sizes).output().unwrap());
    let mut child = train(&stopped, &sizes).spawn().unwrap();
    while losses(&stopped).is_empty() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before its first step");
        thread::sleep(Duration::from_millis(2));
    }
    // SAFETY: a signal to a process of our own.
    unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
    let code = child.wait().unwrap().code();
    assert!(code == Some(128 + 15), "{code:?}");
    let names = checkpoints(&stopped);
    let last_name = names.last().unwrap();
    assert_eq!(*last_name, format!("step-{:07}", losses(&stopped).len()));
    succeeded(&train(&stopped, &sizes).output().unwrap());
    assert_eq!(journal(&stopped), journal(&whole));
    assert_eq!(last(&stopped), last(&whole));
}

#[test]
fn ranks_that_share_a_batch_take_the_steps_of_one() {
    let scratch = tempdir().unwrap();
    let sizes = sizes(scratch.path(), &[]);
    let (one, two) = (scratch.path().join("one"), scratch.path().join("two"));
    succeeded(&train(&one, &sizes).args(["--steps", "4"]).output().unwrap());
    succeeded(&train(&two, &sizes).args(["--steps", "4", "--ranks", "2"]).output().unwrap());
    let (one, two) = (losses(&one), losses(&two));
    assert_eq!((one.len(), two.len()), (4, 4));
    for (one, two) in one.iter().zip(&two) {
        // f32 sums in another order, through four steps of AdamW; observed 1e-6.
        assert!((one - two).abs() < 1e-4, "{one} {two}");
    }
}

#[test]
fn a_checkpoint_starts_teaches_and_embeds() {
    let scratch = tempdir().unwrap();
    let teacher = scratch.path().join("teacher");
    succeeded(
        &train(&teacher, &sizes(scratch.path(), &[])).args(["--steps", "4"]).output().unwrap(),
    );

    // A narrower student: what it learns from the teacher passes through a projection.
    let narrow = [("image_embed_dims", 32), ("n_embd", 32), ("dim_att", 32)];
    let narrow = sizes(scratch.path(), &narrow);
    let (student, again) = (scratch.path().join("student"), scratch.path().join("again"));
    let distil = |run: &Path| {
        let mut command = train(run, &narrow);
        command.arg("--teacher").arg(&teacher);
        command
    };
    succeeded(&distil(&student).output().unwrap());
    let lines = journal(&student);
    let of = |name: &str| -> Vec<f64> { lines.iter().map(|l| l[name].as_f64().unwrap()).collect() };
    let (total, contrastive) = (of("loss"), of("contrastive"));
    let (logits, features) = (of("teacher_logits"), of("teacher_features"));
    for i in 0..12 {
        let sum = contrastive[i] + logits[i] + features[i];
        assert!((total[i] - sum).abs() < 1e-4, "{} {sum}", total[i]);
    }
    assert!(features[11] < features[0], "{features:?}");
    killed_after(distil(&again), &again, "step-0000004");
    succeeded(&distil(&again).output().unwrap());
    assert_eq!(journal(&again), lines);

    // Larger pictures, the text tower as it was, blocks further down more slowly.
    let tuned = scratch.path().join("tuned");
    let mut command = Command::new(env!("CARGO_BIN_EXE_recaption"));
    command.arg("train").arg(demo()).arg("-o").arg(&tuned).arg("--start").arg(&teacher);
    command.args(["--input-size", "48", "--freeze", "text", "--batch", "16", "--steps", "2"]);
    command.args(["--set", "recipe.layer_decay=0.5"]);
    succeeded(&command.output().unwrap());
    let weights = |run: &Path| {
        let located = recaption::model::checkpoint::locate(run).unwrap();
        recaption::model::checkpoint::read(&located.weights).unwrap()
    };
    let (before, after) = (weights(&teacher), weights(&tuned));
    for (name, tensor) in &before {
        let numbers = |t: &candle_core::Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let is_same = numbers(tensor) == numbers(&after[name]);
        assert_eq!(is_same, name.starts_with("text_model."), "{name}");
    }
    assert_eq!(after["image_model.pos_embed"].dims(), [1, 36, 64]);

    let embeddings = scratch.path().join("embeddings.parquet");
    let mut command = Command::new(env!("CARGO_BIN_EXE_recaption"));
    command.arg("embed").arg("--checkpoint").arg(&tuned).arg("--images").arg(demo());
    succeeded(&command.arg("-o").arg(&embeddings).output().unwrap());
    assert!(embeddings.is_file());
}

#[test]
fn what_cannot_be_trained_is_said() {
    let scratch = tempdir().unwrap();
    let sizes = sizes(scratch.path(), &[]);
    let run = scratch.path().join("run");
    let with = |arguments: &[&str]| {
        let mut command = train(&run, &sizes);
        command.args(arguments).output().unwrap()
    };
    failed(&with(&["--batch", "65"]), &["64 rows", "less than a batch of 65"]);
    failed(&with(&["--set", "recipe.lr=-1"]), &["recipe.lr is -1"]);
    failed(&with(&["--set", "recipe.lrr=1"]), &["recipe.lrr", "unknown field"]);
    failed(&with(&["--texts", "tags=1"]), &["raw, synthetic and generated"]);
    failed(&with(&["--texts", "generated=1"]), &["no row is left"]);
    failed(&with(&["--where", "colour == 'red'"]), &["colour"]);
    failed(&with(&["--freeze", "text,image"]), &["nothing but the scale would learn"]);
    failed(&with(&["--ranks", "3"]), &["does not divide among 3 ranks"]);
    let mut launched = train(&run, &sizes);
    launched.env("RANK", "1").env("WORLD_SIZE", "4");
    failed(&launched.output().unwrap(), &["rank 1", "NCCL"]);
}

#[test]
fn arms_of_an_ablation_see_the_same_rows_and_their_table_is_made_once() {
    let scratch = tempdir().unwrap();
    let (run, out) = (scratch.path().join("run"), scratch.path().join("ablation"));
    succeeded(&crate::refine::demo(&run).output().unwrap());
    let suite = scratch.path().join("suite.toml");
    let data = demo();
    fs::write(&suite, format!("[[captioned]]\ndata = {:?}\nname = \"demo\"\n", data)).unwrap();
    let ablate = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_recaption"));
        command.arg("ablate").arg(&run).arg("-o").arg(&out).arg("--suite").arg(&suite);
        command.arg("--model").arg(sizes(scratch.path(), &[])).arg("--without-tags").arg(&run);
        command.args(["--seeds", "1,2", "--batch", "16", "--steps", "2"]);
        command.args(["--validation-where", "category == 'food' or 'animals' in category"]);
        command.output().unwrap()
    };
    let said = succeeded(&ablate());
    for word in ["raw", "synthetic", "generated", "mixed, no tags", "held-out pairs", "demo"] {
        assert!(said.contains(word), "{word} is not in {said}");
    }
    let read = |name: &str| fs::read_to_string(out.join(name)).unwrap();
    let table: Value = serde_json::from_str(&read("ablation.json")).unwrap();
    let rows: Vec<u64> = serde_json::from_value(table["rows"].clone()).unwrap();
    assert!(rows[0] >= 16 && rows.iter().all(|found| *found == rows[0]), "{rows:?}");
    assert_eq!(table["arms"].as_array().unwrap().len(), 6);
    // The two runs are one: arms that differ in nothing else score the same.
    for number in table["numbers"].as_array().unwrap() {
        assert_eq!(number["arms"][2], number["arms"][4], "{number}");
        assert!(number["arms"][0]["half_width"].is_number(), "{number}");
    }
    assert!(read("ablation.html").contains("<svg") && read("ablation.md").contains("± "));

    // Nothing is left to do, and nothing is done.
    let journals = || -> Vec<String> {
        let trainings = fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().path());
        trainings.filter_map(|path| fs::read_to_string(path.join("metrics.jsonl")).ok()).collect()
    };
    let before = journals();
    assert_eq!(before.len(), 12);
    assert_eq!(succeeded(&ablate()), said);
    assert_eq!(journals(), before);
}

#[test]
fn numbers_that_are_none_end_a_training_with_its_last_good_checkpoint() {
    let scratch = tempdir().unwrap();
    let sizes = sizes(scratch.path(), &[]);
    let run = scratch.path().join("run");
    let mut command = train(&run, &sizes);
    command.args(["--lr", "1e30", "--checkpoint-every", "1"]);
    let output = command.output().unwrap();
    failed(&output, &["in step", "last good checkpoint is", "lower learning rate"]);
    let taken = losses(&run).len();
    assert!(taken < 12 && losses(&run).iter().all(|loss| loss.is_finite()));
}
