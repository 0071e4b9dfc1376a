//! Rows to Label Studio and its annotations back, with the real binary. What Label Studio itself would
//! write is imitated here; the forms are those of its own export.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::process::Output;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use recaption::review::Line;
use recaption::review::Verdict;
use recaption::review::verdicts;
use recaption::sample::Sample;
use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;

use crate::refine::failed;
use crate::refine::samples;
use crate::refine::succeeded;
use crate::select;

fn recaption(arguments: &[&str], paths: &[&Path]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_recaption")).args(arguments).args(paths).output().unwrap()
}

fn export(run: &Path, file: &Path, more: &[&str]) -> Vec<Value> {
    let arguments = [&["label-studio", "export"], more].concat();
    succeeded(&recaption(&arguments, &[run, Path::new("-o"), file]));
    let tasks: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    tasks.as_array().unwrap().clone()
}

/// A file as Label Studio exports it.
fn annotated(dir: &TempDir, tasks: &[Value], annotations: &[(usize, Value)]) -> std::path::PathBuf {
    let mut tasks = tasks.to_vec();
    for (number, task) in tasks.iter_mut().enumerate() {
        task["id"] = json!(number + 100);
        let of_task = annotations.iter().filter(|(place, _)| *place == number);
        let of_task = of_task.map(|(_, annotation)| annotation.clone()).collect::<Vec<_>>();
        task["annotations"] = of_task.into();
        task["predictions"] = json!([]);
    }
    let file = dir.path().join("annotations.json");
    fs::write(&file, json!(tasks).to_string()).unwrap();
    file
}

fn annotation(who: Value, minute: u32, verdict: &str, text: &[&str]) -> Value {
    let mut result = vec![json!({
        "id": "a", "type": "choices", "from_name": "verdict", "to_name": "picture", "origin": "manual",
        "value": { "choices": [verdict] },
    })];
    if !text.is_empty() {
        result.push(json!({
            "id": "b", "type": "textarea", "from_name": "edited", "to_name": "picture",
            "value": { "text": text },
        }));
    }
    json!({
        "id": 7, "completed_by": who, "result": result, "was_cancelled": false, "ground_truth": false,
        "created_at": "2026-01-01T00:00:00Z",
        "updated_at": format!("2026-01-01T00:{minute:02}:00.123456Z"), "lead_time": 4.5,
    })
}

fn import(run: &Path, file: &Path, more: &[&str]) -> Output {
    recaption(&[&["label-studio", "import"], more].concat(), &[run, file])
}

fn log(run: &Path) -> Vec<Line> {
    verdicts::read(&run.join(verdicts::LOG)).unwrap()
}

fn find<'a>(all: &'a [Sample], task: &Value) -> &'a Sample {
    all.iter().find(|sample| sample.item.key == task["data"]["key"].as_str().unwrap()).unwrap()
}

#[test]
fn tasks_have_picture_texts_and_boxes_of_their_rows() {
    let (run, dir) = (crate::review::run(), tempfile::tempdir().unwrap());
    let all = samples(run.path());
    let file = dir.path().join("tasks.json");
    let tasks = export(run.path(), &file, &["--rows", "12"]);
    assert_eq!(tasks.len(), 12);
    let bytes = fs::read(&file).unwrap();
    let interface = fs::read_to_string(dir.path().join("tasks.xml")).unwrap();
    let mut boxes = 0;
    for task in &tasks {
        let (data, sample) = (&task["data"], find(&all, task));
        let image =
            data["image"].as_str().unwrap().strip_prefix("data:image/jpeg;base64,").unwrap();
        assert_eq!(BASE64.decode(image).unwrap(), sample.image.bytes);
        let generated = sample.generated.as_ref().unwrap();
        assert_eq!(data["text_generated"], json!(generated.text));
        assert_eq!(data["text_raw"], json!(sample.item.text_raw));
        assert_eq!(data["text_synthetic"], json!(sample.synthetic.as_ref().unwrap().text));
        let boxed: Vec<_> = sample.tags.iter().filter(|tag| tag.bbox.is_some()).collect();
        let regions = task["predictions"][0]["result"].as_array().cloned().unwrap_or_default();
        assert_eq!(regions.len(), boxed.len());
        for (region, tag) in regions.iter().zip(boxed) {
            let of = |name: &str| region["value"][name].as_f64().unwrap();
            let [x1, y1, x2, y2] = tag.bbox.unwrap().map(f64::from);
            let [w, h] = [sample.image.original_width, sample.image.original_height].map(f64::from);
            for (percent, expected) in [
                (of("x"), x1 / w),
                (of("y"), y1 / h),
                (of("x") + of("width"), x2 / w),
                (of("y") + of("height"), y2 / h),
            ] {
                assert!((percent / 100.0 - expected.clamp(0.0, 1.0)).abs() < 2e-4, "{region}");
            }
            let label = region["value"]["rectanglelabels"][0].as_str().unwrap();
            assert_eq!(label, tag.label);
            assert!(interface.contains(&format!("<Label value=\"{label}\"/>")), "{interface}");
            boxes += 1;
        }
    }
    assert!(boxes > 5, "{boxes}");
    // The hostile words of the web are in the tasks only.
    assert!(!interface.contains("script") && String::from_utf8_lossy(&bytes).contains("<script>"));
    export(run.path(), &file, &["--rows", "12"]);
    assert_eq!(fs::read(&file).unwrap(), bytes);
}

#[test]
fn pictures_can_be_files_or_addresses() {
    let (runs, dir) = (select::Runs::new(), tempfile::tempdir().unwrap());
    let (run, all) = (runs.path("old"), samples(&runs.path("old")));
    let file = dir.path().join("my tasks.json");
    let tasks = export(&run, &file, &["--rows", "3", "--pictures", "files"]);
    for (number, task) in (1..).zip(&tasks) {
        let name = format!("{number:06}.jpg");
        let bytes = fs::read(dir.path().join("my tasks-pictures").join(&name)).unwrap();
        assert_eq!(bytes, find(&all, task).image.bytes);
        let expected = format!("/data/local-files/?d=my+tasks-pictures%2F{name}");
        assert_eq!(task["data"]["image"], json!(expected));
    }
    for task in export(&run, &file, &["--rows", "3", "--pictures", "url"]) {
        assert_eq!(task["data"]["image"], json!(find(&all, &task).item.url));
    }
    let nowhere = crate::review::run();
    let arguments = ["label-studio", "export", "--pictures", "url", "-o"];
    let output = recaption(&arguments, &[&file, nowhere.path()]);
    failed(&output, 1, &["it has no url; take --pictures embedded or files"]);
    let output = recaption(&["label-studio", "export", "-o"], &[Path::new("tasks.xml"), &run]);
    failed(&output, 1, &["call the tasks .json"]);
}

#[test]
fn verdicts_that_are_there_are_suggested_and_others_only_if_asked_for() {
    let (runs, dir) = (select::Runs::new(), tempfile::tempdir().unwrap());
    let (run, all) = (runs.path("old"), samples(&runs.path("old")));
    runs.judge(&[
        (&all[3], "ann", Verdict::WrongImage, None),
        (&all[3], "ben", Verdict::WrongImage, None),
        (&all[3], "eve", Verdict::Ok, None),
    ]);
    let file = dir.path().join("tasks.json");
    let suggested = |task: &Value| -> Option<String> {
        let regions = task["predictions"][0]["result"].as_array()?.clone();
        let choice = regions.into_iter().find(|region| region["from_name"] == "verdict")?;
        Some(choice["value"]["choices"][0].as_str().unwrap().to_owned())
    };
    let judged = |task: &Value| task["data"]["key"] == json!(all[3].item.key);
    for task in export(&run, &file, &[]) {
        assert_eq!(suggested(&task), judged(&task).then(|| "wrong image".to_owned()));
    }
    for task in export(&run, &file, &["--suggest"]) {
        let audit = &find(&all, &task).audit;
        let nowhere =
            audit.words.iter().any(|word| word.origin == recaption::sample::Origin::Nowhere);
        let expected = match (judged(&task), nowhere) {
            (true, _) => "wrong image",
            (false, true) => "hallucinated",
            (false, false) => "ok",
        };
        assert_eq!(suggested(&task).as_deref(), Some(expected));
    }
}

#[test]
fn annotations_become_verdicts_once_and_are_selected_by() {
    let (runs, dir) = (select::Runs::new(), tempfile::tempdir().unwrap());
    let (run, all) = (runs.path("old"), samples(&runs.path("old")));
    let tasks = export(&run, &dir.path().join("tasks.json"), &["--rows", "8"]);
    let old_text = tasks[2]["data"]["text_generated"].as_str().unwrap();
    let mut skipped = annotation(json!(1), 9, "ok", &[]);
    skipped["was_cancelled"] = json!(true);
    let file = annotated(
        &dir,
        &tasks,
        &[
            (0, annotation(json!(1), 5, "ok", &[])),
            (1, annotation(json!({"id": 2, "email": "ben@a.example"}), 4, "wrong image", &[])),
            (2, annotation(json!("eve"), 3, "minor", &["A frog on a leaf.", old_text])),
            (3, annotation(json!(1), 2, "unusable", &[])),
            (3, annotation(json!(1), 1, "ok", &[])),
            (4, skipped),
        ],
    );
    let said = succeeded(&import(&run, &file, &["--reviewer", "1=ann"]));
    assert!(said.starts_with("4 verdicts added; 1 known already"), "{said}");
    assert!(said.contains("1 skipped by the annotator, 0 on texts"), "{said}");
    let line = |place: usize, who: &str, verdict, text: Option<&str>, minute: u64| Line {
        key: tasks[place]["data"]["key"].as_str().unwrap().to_owned(),
        shard: tasks[place]["data"]["shard"].as_u64().unwrap() as u32,
        verdict: Some(verdict),
        text: text.map(str::to_owned),
        text_sha256: tasks[place]["data"]["text_sha256"].as_str().unwrap().to_owned(),
        reviewer: who.to_owned(),
        at: 1_767_225_600 + minute * 60,
    };
    let expected = [
        line(3, "ann", Verdict::Unusable, None, 2),
        line(2, "eve", Verdict::Minor, Some("A frog on a leaf."), 3),
        line(1, "ben@a.example", Verdict::WrongImage, None, 4),
        line(0, "ann", Verdict::Ok, None, 5),
    ];
    assert_eq!(log(&run), expected);
    let again = succeeded(&import(&run, &file, &["--reviewer", "1=ann"]));
    assert!(again.starts_with("0 verdicts added; 5 known already"), "{again}");
    assert_eq!(log(&run), expected);

    let stats = succeeded(&recaption(&["review", "--stats", "--json"], &[&run]));
    let stats: Value = serde_json::from_str(&stats).unwrap();
    assert_eq!((&stats["rows"], &stats["wrong"]["part"]), (&json!(4), &json!(3)));
    let new = runs.selected("new", &["--reviewed-only"]);
    let texts: Vec<&str> =
        new.iter().map(|s| s.generated.as_ref().unwrap().text.as_str()).collect();
    let kept = find(&all, &tasks[0]).generated.as_ref().unwrap().text.as_str();
    assert_eq!(texts.len(), 2);
    assert!(texts.contains(&"A frog on a leaf.") && texts.contains(&kept), "{texts:?}");

    // Of another text than that which the row has now.
    let mut other = tasks.clone();
    other[5]["data"]["text_sha256"] = json!("0".repeat(64));
    let file = annotated(&dir, &other, &[(5, annotation(json!(1), 5, "ok", &[]))]);
    assert!(succeeded(&import(&run, &file, &[])).contains("1 on texts that have changed since"));
    assert_eq!(log(&run).len(), 4);
    // A number without a name.
    let file = annotated(&dir, &tasks, &[(5, annotation(json!(31), 5, "ok", &[]))]);
    succeeded(&import(&run, &file, &[]));
    assert_eq!(log(&run)[4].reviewer, "label-studio-31");
}

#[test]
fn a_file_that_cannot_be_meant_is_refused_whole() {
    let (runs, dir) = (select::Runs::new(), tempfile::tempdir().unwrap());
    let run = runs.path("old");
    let tasks = export(&run, &dir.path().join("tasks.json"), &["--rows", "3"]);
    let good = (0, annotation(json!(1), 5, "ok", &[]));
    let refused = |file: &Path, words: &[&str]| {
        failed(&import(&run, file, &[]), 1, words);
        assert!(!run.join(verdicts::LOG).exists());
    };
    let called = "annotations.json: task 3 (id 102)";
    let with = |annotation: Value| annotated(&dir, &tasks, &[good.clone(), (2, annotation)]);
    let fine = annotation(json!(1), 5, "fine", &[]);
    refused(&with(fine), &[called, "annotation (id 7)", "\"fine\" is no verdict; there are ok"]);
    let mut silent = annotation(json!(1), 5, "ok", &["A purple frog."]);
    silent["result"].as_array_mut().unwrap().remove(0);
    refused(&with(silent), &[called, "it has a text and no verdict"]);
    let nameless = annotation(json!("\u{7}"), 5, "ok", &[]);
    refused(&with(nameless), &[called, "is no name for a reviewer"]);
    let mut timeless = annotation(json!(1), 5, "ok", &[]);
    timeless["updated_at"] = json!("soon");
    refused(&with(timeless), &[called, "\"soon\" is no time"]);

    let of_other = |change: &dyn Fn(&mut Value)| {
        let mut tasks = tasks.clone();
        change(&mut tasks[2]);
        annotated(&dir, &tasks, std::slice::from_ref(&good))
    };
    let file = of_other(&|task| task["data"]["key"] = json!("nobody"));
    refused(&file, &[called, "no row \"nobody\"", "was it exported from another?"]);
    let file = of_other(&|task| task["data"] = json!({"image": "x"}));
    refused(&file, &[called, "it is no task of recaption"]);
    refused(&dir.path().join("tasks.json"), &["task 1", "not JSON-MIN"]);
    let file = dir.path().join("min.json");
    fs::write(
        &file,
        json!([{"id": 1, "key": "000000001", "verdict": "ok", "annotator": 1}]).to_string(),
    )
    .unwrap();
    refused(&file, &["min.json: task 1 (id 1)", "not JSON-MIN"]);
    let file = dir.path().join("other.json");
    fs::write(&file, "{\"a\": 1}").unwrap();
    refused(&file, &["other.json is no JSON export of Label Studio"]);
    refused(Path::new("no-such-file"), &["cannot read no-such-file"]);
    let output = import(&run, &file, &["--reviewer", "ann"]);
    failed(&output, 2, &["write ID=NAME"]);
}
