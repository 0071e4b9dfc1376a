//! `recaption embed`, `recaption similarity` and `refine --clip`, with the real binary and the small
//! checkpoint of the parity fixtures.

use std::collections::HashMap;
use std::fs;
use std::fs::File;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;

use arrow::array::Array;
use arrow::array::AsArray;
use arrow::datatypes::DataType;
use arrow::datatypes::Float16Type;
use arrow::datatypes::Float32Type;
use candle_core::Device;
use candle_core::Tensor;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use recaption::clip;
use recaption::clip::Embedder;
use recaption::clip::Length;
use recaption::shard;
use recaption::shard::Images;
use serde_json::Value;
use serde_json::json;
use tempfile::tempdir;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/parity")
}

fn recaption(verb: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_recaption"));
    command.arg(verb);
    command
}

/// The same, with the checkpoint.
fn with_weights(verb: &str) -> Command {
    let mut command = recaption(verb);
    command.arg("--checkpoint").arg(fixtures().join("e2e/model.safetensors"));
    command.arg("--model-config").arg(fixtures().join("e2e/config.json"));
    command
}

fn succeeded(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?}: {said}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn expected() -> HashMap<String, Tensor> {
    let path = fixtures().join("e2e/expected.safetensors");
    candle_core::safetensors::load(path, &Device::Cpu).unwrap()
}

fn inputs(name: &str) -> Vec<String> {
    let text = fs::read_to_string(fixtures().join("e2e/inputs.json")).unwrap();
    let inputs: Value = serde_json::from_str(&text).unwrap();
    serde_json::from_value(inputs[name].clone()).unwrap()
}

/// Key, modality and numbers of every row.
fn embeddings(path: &Path) -> Vec<(String, String, Option<Vec<f32>>)> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    let mut rows = Vec::new();
    for batch in reader.build().unwrap() {
        let batch = batch.unwrap();
        let text = |i: usize, row: usize| batch.column(i).as_string::<i32>().value(row).to_owned();
        let lists = batch.column(2).as_fixed_size_list();
        for row in 0..batch.num_rows() {
            let numbers = lists.is_valid(row).then(|| {
                let values = lists.value(row);
                match values.data_type() {
                    DataType::Float32 => values.as_primitive::<Float32Type>().values().to_vec(),
                    _ => {
                        let halves = values.as_primitive::<Float16Type>();
                        halves.values().iter().map(|half| half.to_f32()).collect()
                    }
                }
            });
            rows.push((text(0, row), text(1, row), numbers));
        }
    }
    rows
}

fn distance(found: &[f32], expected: &[f32]) -> f32 {
    let largest = expected.iter().fold(0f32, |most, e| most.max(e.abs()));
    found.iter().zip(expected).fold(0f32, |most, (f, e)| most.max((f - e).abs())) / largest
}

/// A folder in the ImageFolder layout: the fixtures' pictures, each with one of the labels.
fn pairs(folder: &Path) {
    let lines: Vec<String> = inputs("images")
        .iter()
        .zip(inputs("labels"))
        .map(|(image, label)| {
            let name = Path::new(image).file_name().unwrap();
            fs::copy(fixtures().join(image), folder.join(name)).unwrap();
            json!({"file_name": name.to_str().unwrap(), "text": label}).to_string()
        })
        .collect();
    fs::write(folder.join("metadata.jsonl"), lines.join("\n")).unwrap();
}

#[test]
fn embeddings_of_pictures_and_lines_are_the_official_ones() {
    let scratch = tempdir().unwrap();
    pairs(scratch.path());
    fs::write(scratch.path().join("broken.png"), b"\x89PNG\r\n\x1a\nnot one").unwrap();
    let text = scratch.path().join("labels.txt");
    fs::write(&text, inputs("labels").join("\n")).unwrap();
    let out = scratch.path().join("embeddings.parquet");
    let embed = |flags: &[&str]| {
        let mut command = with_weights("embed");
        command.arg("--images").arg(scratch.path()).arg("--texts").arg(&text);
        let output = command.args(["--batch", "2", "-o"]).arg(&out).args(flags).output().unwrap();
        succeeded(&output);
        embeddings(&out)
    };
    let plain = embed(&["--no-normalize"]);
    let (images, texts): (Vec<_>, Vec<_>) = plain.iter().partition(|row| row.1 == "image");
    let wanted = expected();
    let wanted_images = wanted["image_features"].to_vec2::<f32>().unwrap();
    let wanted_texts = wanted["text_features"].to_vec2::<f32>().unwrap();
    for (image, wanted) in inputs("images").iter().zip(&wanted_images) {
        let stem = Path::new(image).file_stem().unwrap().to_str().unwrap();
        let row = images.iter().find(|row| row.0.contains(stem)).unwrap();
        let distance = distance(row.2.as_ref().unwrap(), wanted);
        assert!(distance < 1e-4, "{image}: {distance}");
    }
    assert_eq!(texts.iter().map(|row| &row.0[..]).collect::<Vec<_>>(), ["1", "2", "3", "4", "5"]);
    for (row, wanted) in texts.iter().zip(&wanted_texts) {
        assert!(distance(row.2.as_ref().unwrap(), wanted) < 1e-4);
    }

    let halves = embed(&["--f16"]);
    for (half, plain) in halves.iter().zip(&plain) {
        let (Some(half), Some(plain)) = (&half.2, &plain.2) else { continue };
        let norm = plain.iter().map(|x| x * x).sum::<f32>().sqrt();
        let unit: Vec<f32> = plain.iter().map(|x| x / norm).collect();
        assert!(distance(half, &unit) < 2e-3);
    }
}

#[test]
fn a_picture_that_cannot_be_embedded_keeps_its_row() {
    let scratch = tempdir().unwrap();
    let images = scratch.path().join("images");
    fs::create_dir(&images).unwrap();
    fs::copy(fixtures().join(&inputs("images")[0]), images.join("a.png")).unwrap();
    fs::write(images.join("b.png"), b"\x89PNG\r\n\x1a\nnot one").unwrap();
    let out = scratch.path().join("embeddings.parquet");
    let output =
        with_weights("embed").arg("--images").arg(&images).arg("-o").arg(&out).output().unwrap();
    succeeded(&output);
    assert!(String::from_utf8_lossy(&output.stderr).contains("1 embeddings by model.safetensors@"));
    let found = embeddings(&out);
    assert_eq!(found.iter().map(|row| row.2.is_some()).collect::<Vec<_>>(), [true, false]);

    fs::remove_file(images.join("a.png")).unwrap();
    let output =
        with_weights("embed").arg("--images").arg(&images).arg("-o").arg(&out).output().unwrap();
    succeeded(&output);
    assert_eq!(embeddings(&out).iter().filter(|row| row.2.is_none()).count(), 1);
    let output = with_weights("similarity").arg(&images).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--text-column"), "{output:?}");
    pairs(&images);
    let mut command = with_weights("similarity");
    let output = command.arg(&images).args(["--text-column", "txet"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("no column txet; there are text"), "{said}");
}

#[test]
fn similarities_are_the_official_cosines() {
    let scratch = tempdir().unwrap();
    pairs(scratch.path());
    let output = with_weights("similarity").arg(scratch.path()).output().unwrap();
    let said = succeeded(&output);
    let wanted = expected()["logits_100"].to_vec2::<f32>().unwrap();
    let mut lines = 0;
    for line in said.lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let key = row["key"].as_str().unwrap();
        let place = inputs("images").iter().position(|image| {
            key.contains(Path::new(image).file_stem().unwrap().to_str().unwrap())
        });
        let place = place.unwrap();
        let found = row["text"].as_f64().unwrap() as f32;
        assert!((found - wanted[place][place] / 100.0).abs() < 1e-4, "{key}: {found}");
        lines += 1;
    }
    assert_eq!(lines, 3);
    assert!(String::from_utf8_lossy(&output.stderr).contains("median"));
}

#[test]
fn refine_writes_how_well_each_text_fits() {
    let scratch = tempdir().unwrap();
    let run = scratch.path().join("run");
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let refine = || {
        let mut command = recaption("refine");
        command.arg(examples.join("demo")).arg("-o").arg(&run).args(["--limit", "12"]);
        command.arg("--captioner").arg(examples.join("models/captioner"));
        command.arg("--clip").arg(fixtures().join("e2e/model.safetensors"));
        command.arg("--model-config").arg(fixtures().join("e2e/config.json"));
        command.args(["--set", "clip.batch=5"]).output().unwrap()
    };
    succeeded(&refine());
    let markers = shard::all_finished(&run).unwrap();
    let samples: Vec<_> =
        shard::refined(&run, &markers[0], Images::Skip).unwrap().map(Result::unwrap).collect();
    assert_eq!(samples.len(), 12);
    let output = with_weights("similarity").arg(&run).output().unwrap();
    let lines: Vec<Value> =
        succeeded(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (sample, line) in samples.iter().zip(&lines) {
        let fit = sample.fit.as_ref().unwrap();
        assert!(fit.model.starts_with("model.safetensors@"));
        assert_eq!(line["key"], sample.item.key.as_str());
        let columns = ["text_raw", "text_synthetic", "text_generated"];
        for (name, cosine) in columns.into_iter().zip([fit.raw, fit.synthetic, fit.generated]) {
            let again = line[name].as_f64().unwrap() as f32;
            assert!((cosine.unwrap() - again).abs() < 2e-4, "{name}: {cosine:?} {again}");
        }
    }
    // Other weights are another run.
    let other = scratch.path().join("other.safetensors");
    let weights = recaption::model::checkpoint::read(&fixtures().join("e2e/model.safetensors"));
    candle_core::safetensors::save(&weights.unwrap(), &other).unwrap();
    succeeded(&refine());
    let mut command = recaption("refine");
    command.arg(examples.join("demo")).arg("-o").arg(&run).args(["--limit", "12"]);
    let without = command.output().unwrap();
    assert_eq!(without.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&without.stderr).contains("clip"), "{without:?}");
}

/// What `refine --clip` wrote into rows, `audit --clip` finds again, and phrases beside it.
#[test]
fn an_audit_says_which_text_and_which_phrases_fit() {
    let scratch = tempdir().unwrap();
    let run = scratch.path().join("run");
    let weights = |command: &mut Command| {
        command.arg("--clip").arg(fixtures().join("e2e/model.safetensors"));
        command.arg("--model-config").arg(fixtures().join("e2e/config.json"));
        succeeded(&command.output().unwrap())
    };
    weights(crate::refine::demo(&run).args(["--limit", "20"]));
    let audit = || {
        let found = weights(recaption("audit").arg(&run).args(["--rows", "--json"]));
        let found: Value = serde_json::from_str(&found).unwrap();
        (found["fit"].clone(), fs::read_to_string(run.join("audit/rows.jsonl")).unwrap())
    };
    let (fit, lines) = audit();
    assert_eq!((fit.clone(), lines.clone()), audit(), "the same again");

    let rows = crate::refine::samples(&run);
    let mut phrases = 0;
    let mut best = std::collections::BTreeMap::<String, u64>::new();
    for (line, sample) in lines.lines().zip(&rows) {
        let line: Value = serde_json::from_str(line).unwrap();
        let written = sample.fit.as_ref().unwrap();
        for (name, cosine) in [
            ("raw", written.raw),
            ("synthetic", written.synthetic),
            ("generated", written.generated),
        ] {
            let found = line["fit"][name].as_f64().map(|cosine| cosine as f32);
            assert!((found.unwrap() - cosine.unwrap()).abs() < 2e-4, "{name}: {line}");
        }
        let text = &sample.generated.as_ref().unwrap().text;
        let mut sum = line["fit"]["generated"].as_f64().unwrap();
        let of_row = line["fit"]["phrases"].as_array().unwrap();
        for phrase in of_row {
            let at = |name: &str| phrase[name].as_u64().unwrap() as usize;
            let there: String = text.chars().take(at("end")).skip(at("start")).collect();
            assert_eq!(phrase["text"], there);
            sum += phrase["cosine"].as_f64().unwrap();
        }
        let mean = line["fit"]["generated_with_phrases"].as_f64().unwrap();
        assert!((mean - sum / (of_row.len() + 1) as f64).abs() < 1e-5, "{line}");
        phrases += of_row.len();
        *best.entry(line["fit"]["best"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    assert!(phrases > 10, "{phrases} phrases in {} rows", rows.len());
    let mean = |name: &str| {
        let means = fit["means"].as_array().unwrap();
        means.iter().find(|mean| mean["name"] == name).unwrap().clone()
    };
    let sum: f32 = rows.iter().map(|row| row.fit.as_ref().unwrap().generated.unwrap()).sum();
    let generated = mean("generated");
    assert_eq!(generated["rows"], rows.len());
    assert!((generated["mean"].as_f64().unwrap() - f64::from(sum) / 20.0).abs() < 2e-4);
    assert!(generated["low"].as_f64() < generated["mean"].as_f64());
    assert!(mean("generated - raw")["high"].is_f64());
    for share in fit["best"].as_array().unwrap() {
        let name = share["text"].as_str().unwrap();
        assert_eq!(share["rows"], *best.get(name).unwrap_or(&0), "{name}");
        assert_eq!(share["of"], 20);
    }
    assert!(!fit["worst_phrases"].as_array().unwrap().is_empty());
    let plain = succeeded(&recaption("audit").arg(&run).arg("--json").output().unwrap());
    assert!(serde_json::from_str::<Value>(&plain).unwrap()["fit"].is_null());
}

/// Which word is near which is the model's matter; what follows from it is ours.
#[test]
fn words_near_a_source_are_found_from_the_threshold_on_and_never_without_a_model() {
    let scratch = tempdir().unwrap();
    let rows = scratch.path().join("rows.jsonl");
    let row = json!({
        "tags": ["airplane"], "sources": ["a red house"], "raw": "dog",
        "text": "A skyline with 7 boats and Nemo.",
    });
    fs::write(&rows, format!("{row}\n{}\n", json!({"text": "A house", "raw": "house"}))).unwrap();
    let audit = |threshold: Option<f32>| -> Vec<Value> {
        let mut command = recaption("audit");
        command.arg("--texts").arg(&rows);
        if let Some(threshold) = threshold {
            let config = scratch.path().join("recaption.toml");
            fs::write(&config, format!("[clip]\nnearness = {threshold:?}\n")).unwrap();
            command.arg("--config").arg(config);
            command.arg("--clip").arg(fixtures().join("e2e/model.safetensors"));
            command.arg("--model-config").arg(fixtures().join("e2e/config.json"));
        }
        let said = succeeded(&command.output().unwrap());
        said.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let words = |row: &Value| -> Vec<String> {
        let words = row["words"].as_array().unwrap().iter();
        words
            .map(|word| {
                let said = |name: &str| word[name].as_str().unwrap_or("-").to_owned();
                format!("{} {} {}", said("word"), said("origin"), said("link"))
            })
            .collect()
    };
    let nowhere = ["skyline nowhere -", "7 nowhere -", "boats nowhere -", "Nemo nowhere -"];
    let without = audit(None);
    assert_eq!(words(&without[0]), nowhere);
    assert_eq!(audit(Some(1.0)), without, "no other word has a cosine of 1");

    let embedder = Embedder::open(&clip::Config {
        checkpoint: Some(fixtures().join("e2e/model.safetensors")),
        model_config: fixtures().join("e2e/config.json").display().to_string(),
        ..clip::Config::default()
    });
    let pieces = ["airplane", "red", "house", "red house", "dog"];
    let asked: Vec<Option<&str>> =
        ["skyline", "boats"].into_iter().chain(pieces).map(Some).collect();
    let made: Vec<Vec<f32>> =
        embedder.unwrap().texts(&asked, Length::One).unwrap().into_iter().flatten().collect();
    let best = |word: usize| {
        let cosine =
            |piece: &Vec<f32>| -> f32 { piece.iter().zip(&made[word]).map(|(a, b)| a * b).sum() };
        let cosines: Vec<f32> = made[2..].iter().map(cosine).collect();
        let at = (0..cosines.len()).max_by(|a, b| cosines[*a].total_cmp(&cosines[*b])).unwrap();
        (cosines[at], ["tag", "synthetic", "synthetic", "synthetic", "raw"][at])
    };
    let (skyline, boats) = (best(0), best(1));
    let all = audit(Some(-1.0));
    let near = |word: &str, origin: &str| format!("{word} {origin} near");
    let wanted = [
        near("skyline", skyline.1),
        "7 nowhere -".to_owned(),
        near("boats", boats.1),
        "Nemo nowhere -".to_owned(),
    ];
    assert_eq!(words(&all[0]), wanted);
    assert!(all[0]["score"].as_f64() > without[0]["score"].as_f64());
    assert_eq!(all[1], without[1], "nothing was lost there");

    let between = (skyline.0 + boats.0) / 2.0;
    let one = words(&audit(Some(between))[0]);
    let is_near = |at: usize| one[at].ends_with("near");
    assert_eq!((is_near(0), is_near(2)), (skyline.0 > boats.0, boats.0 > skyline.0), "{one:?}");
}

#[test]
fn what_cannot_work_is_said_before_anything_is_written() {
    let scratch = tempdir().unwrap();
    let out = scratch.path().join("out.parquet");
    let failed = |command: &mut Command, word: &str| {
        let output = command.arg("-o").arg(&out).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(word), "{said}");
        assert!(!out.exists());
    };
    failed(&mut with_weights("embed"), "give --images, --texts or both");
    let most = usize::MAX.to_string();
    failed(with_weights("embed").args(["--texts", "x.txt", "--batch", &most]), "1 to 4096");
    let table = scratch.path().join("captions.csv");
    fs::write(&table, "id,text\n1,a cat\n").unwrap();
    failed(with_weights("embed").arg("--texts").arg(&table), "a .txt file with a text a line");
    let mut command = recaption("embed");
    command.args(["--checkpoint", "none.pt", "--model-config", "b32", "--texts", "x.txt"]);
    failed(&mut command, "cannot read none.pt");
    let mut command = recaption("embed");
    command.arg("--checkpoint").arg(fixtures().join("model.safetensors"));
    command.arg("--model-config").arg(fixtures().join("config.json")).args(["--texts", "x.txt"]);
    failed(&mut command, "ids; CLIP's tokenizer gives 49408");
    let mut command = recaption("embed");
    command.arg("--checkpoint").arg(fixtures().join("e2e/model.safetensors"));
    command.args(["--model-config", "b32", "--texts", "x.txt"]);
    failed(&mut command, "has shape");
}
