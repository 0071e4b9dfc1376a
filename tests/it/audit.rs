//! `recaption audit` on rows of text: the labelled set that `examples/foils.rs` makes by rule.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::process::Output;

use recaption::audit;
use recaption::audit::Config;
use recaption::audit::Texts;
use recaption::audit::calibrate::average_precision;
use recaption::sample::Origin;
use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;

#[path = "../../examples/foils.rs"]
#[allow(dead_code)]
mod foils;

const HELD_OUT: &str = include_str!("../data/audit/held_out.txt");

fn audited(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_recaption")).arg("audit").args(arguments).output().unwrap()
}

fn written(dir: &Path, rows: &[Value]) -> String {
    let path = dir.join("rows.jsonl");
    let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
    fs::write(&path, lines.join("\n")).unwrap();
    path.display().to_string()
}

fn lines(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn list(row: &Value, name: &str) -> Vec<String> {
    let items = row[name].as_array().cloned().unwrap_or_default();
    items.iter().map(|item| item.as_str().unwrap().to_owned()).collect()
}

/// What a rule without a lexicon says: the share of words that no source has in this very form.
fn lexical(row: &Value) -> f64 {
    let words = |text: &str| -> Vec<String> {
        let words = recaption::text::content_words(text).into_iter();
        words.map(|word| word.lower.to_string()).collect()
    };
    let mut known = words(row["raw"].as_str().unwrap_or_default());
    known.extend(list(row, "sources").iter().chain(&list(row, "tags")).flat_map(|t| words(t)));
    let own = words(row["text"].as_str().unwrap());
    let absent = own.iter().filter(|word| !known.contains(word)).count();
    1.0 - absent as f64 / own.len().max(1) as f64
}

#[test]
fn foils_are_found_much_better_than_by_a_plain_lexical_rule() {
    let rows = foils::rows(HELD_OUT);
    let foils = rows.iter().filter(|row| row["hallucinated"] == true).count();
    assert!(foils > 500, "{foils}");
    let dir = TempDir::new().unwrap();
    let judged = lines(&audited(&["--texts", &written(dir.path(), &rows)]));
    assert_eq!(judged.len(), rows.len());
    let good = |row: &Value| row["hallucinated"] == false;
    let ours: Vec<(f64, bool)> = judged
        .iter()
        .zip(&rows)
        .map(|(judged, row)| (judged["score"].as_f64().unwrap(), good(row)))
        .collect();
    let plain: Vec<(f64, bool)> = rows.iter().map(|row| (lexical(row), good(row))).collect();
    let (ours, plain) = (average_precision(&ours), average_precision(&plain));
    // Measured: 0.772 and 0.665; without the rivals 0.761, by the share of words from nowhere 0.698.
    assert!(ours > 0.76, "{ours}");
    assert!(ours > plain + 0.08, "{ours} {plain}");
}

#[test]
fn a_foil_scores_below_its_caption() {
    let rows = foils::rows(HELD_OUT);
    let dir = TempDir::new().unwrap();
    let judged = lines(&audited(&["--texts", &written(dir.path(), &rows)]));
    let scores: HashMap<&str, f64> = judged
        .iter()
        .map(|row| (row["id"].as_str().unwrap(), row["score"].as_f64().unwrap()))
        .collect();
    let (mut below, mut above, mut all) = (0, 0, 0);
    for row in rows.iter().filter(|row| row["hallucinated"] == true) {
        let id = row["id"].as_str().unwrap();
        let (caption, rest) = id.split_once("-foil-").unwrap();
        let mode = rest.rsplit('-').next().unwrap();
        let clean = scores[format!("{caption}-{mode}").as_str()];
        all += 1;
        below += u32::from(scores[id] < clean);
        above += u32::from(scores[id] > clean);
    }
    // Many swapped words had no other source in the first place: there the two are equal.
    assert!(
        below * 100 > all * 60 && above * 100 < all * 8,
        "{below} below, {above} above, of {all}"
    );
}

#[test]
fn weights_are_fitted_to_labels_and_can_be_used() {
    let rows = foils::rows(HELD_OUT);
    let dir = TempDir::new().unwrap();
    let path = written(dir.path(), &rows);
    let figure = dir.path().join("reliability.html");
    let fitted = audited(&["--calibrate", &path, "--figure", figure.to_str().unwrap()]);
    assert!(fitted.status.success(), "{}", String::from_utf8_lossy(&fitted.stderr));
    let said = String::from_utf8_lossy(&fitted.stderr);
    for figure in ["average precision", "ROC AUC", "95 % interval", "good"] {
        assert!(said.contains(figure), "{said}");
    }
    let page = fs::read_to_string(figure).unwrap();
    assert!(page.contains("Calibration by rows.jsonl") && !page.contains("NaN"));
    assert_eq!(page.matches("<figure>").count(), 2);
    let settings = dir.path().join("fitted.toml");
    fs::write(&settings, &fitted.stdout).unwrap();
    let again = audited(&["--texts", &path, "--config", settings.to_str().unwrap()]);
    let mean = |output: &Output| {
        let rows = lines(output);
        rows.iter().map(|row| row["score"].as_f64().unwrap()).sum::<f64>() / rows.len() as f64
    };
    // Fitted to these rows, the mean score is their share of true captions.
    let good = rows.iter().filter(|row| row["hallucinated"] == false).count() as f64;
    assert!((mean(&again) - good / rows.len() as f64).abs() < 0.05);
}

#[test]
fn wrong_rows_are_named_by_their_line() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("wrong.jsonl");
    fs::write(&path, "{\"text\": \"A cat.\"}\n\nnot json\n").unwrap();
    let path = path.display().to_string();
    for (arguments, wanted) in [
        (vec!["--texts", path.as_str()], "line 3 is no row"),
        (vec!["--calibrate", path.as_str()], "hallucinated"),
        (vec!["--texts", "no/such/file"], "no/such/file"),
    ] {
        let output = audited(&arguments);
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(wanted), "{said}");
    }
}

#[test]
fn the_words_of_a_row_can_be_cut_out_of_its_text() {
    let dir = TempDir::new().unwrap();
    let text = "Zoë’s poodle – under a Café-table – jumps.";
    let row =
        json!({"id": 7, "sources": ["A dog lies on a table."], "tags": ["dog"], "text": text});
    let judged = lines(&audited(&["--texts", &written(dir.path(), &[row])]));
    assert_eq!(judged[0]["id"], 7);
    let words = judged[0]["words"].as_array().unwrap();
    assert!(words.iter().any(|word| word["link"] == "narrower" && word["word"] == "poodle"));
    assert!(words.iter().any(|word| word["kind"] == "relation" && word["word"] == "under"));
    for word in words {
        let (start, end) = (word["start"].as_u64().unwrap(), word["end"].as_u64().unwrap());
        let cut: String = text.chars().skip(start as usize).take((end - start) as usize).collect();
        assert_eq!(cut, word["word"].as_str().unwrap());
    }
}

#[test]
fn a_caption_among_its_own_sources_has_no_word_from_nowhere() {
    for row in foils::rows(HELD_OUT).iter().filter(|row| row["hallucinated"] == false) {
        let (text, mut sources) = (row["text"].as_str().unwrap(), list(row, "sources"));
        sources.push(text.to_owned());
        let references: Vec<&str> = sources.iter().map(String::as_str).collect();
        let texts = Texts { generated: Some(text), references: &references, ..Texts::default() };
        let audit = audit::audit(&Config::default(), &texts);
        assert!(audit.words.iter().all(|word| word.origin != Origin::Nowhere), "{text}");
        assert!(!audit.reasons.contains(&"contradiction".to_owned()), "{text}: {audit:?}");
    }
}

#[test]
fn a_run_is_audited_again_and_its_shards_stay() {
    let dir = TempDir::new().unwrap();
    let run = dir.path().join("run");
    let output = crate::refine::demo(&run).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let before = fs::read(run.join("part-00001.parquet")).unwrap();
    let path = run.display().to_string();
    let output = audited(&[&path, "--rows", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["summary"]["rows"], 64);
    assert!(said["worst"].as_array().unwrap().len() > 5);
    let written: Value =
        serde_json::from_slice(&fs::read(run.join("audit/summary.json")).unwrap()).unwrap();
    assert_eq!(written, said);
    let page = fs::read_to_string(run.join("audit/report.html")).unwrap();
    assert!(page.contains("audited again by today's rules") || page.contains("today&#x27;s rules"));
    assert!(page.len() < 3_000_000 && page.matches("class=\"panel\"").count() > 50);
    let rows = fs::read_to_string(run.join("audit/rows.jsonl")).unwrap();
    assert_eq!(rows.lines().count(), 64);
    assert_eq!(fs::read(run.join("part-00001.parquet")).unwrap(), before);
    let table = audited(&[&path]);
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    for words in ["mean score", "objects from nowhere", "worst rows", "mixed up"] {
        assert!(table.contains(words), "{table}");
    }
    let nothing = audited(&["no/such/run"]);
    assert_eq!(nothing.status.code(), Some(1));
}

/// Two files that hold one picture, in two shards: one of the titles is wrong. A third is another picture.
#[test]
fn a_picture_with_two_titles_is_found_across_shards() {
    let dir = TempDir::new().unwrap();
    let (data, run) = (dir.path().join("data"), dir.path().join("run"));
    fs::create_dir(&data).unwrap();
    let images = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/demo/images");
    let mut rows = String::new();
    for (name, image, text) in [
        ("a", "01_emperor_penguin_ralf_ste_01.jpg", "An emperor penguin on the ice"),
        ("b", "00_rana_architetto_francesc_01.jpg", "A green frog in the grass"),
        ("c", "01_emperor_penguin_ralf_ste_01.jpg", "A wooden chair beside a table"),
    ] {
        fs::copy(images.join(image), data.join(format!("{name}.jpg"))).unwrap();
        let row = json!({"file_name": format!("{name}.jpg"), "text": text, "key": name});
        rows.push_str(&format!("{row}\n"));
    }
    fs::write(data.join("metadata.jsonl"), rows).unwrap();
    let mut refine = Command::new(env!("CARGO_BIN_EXE_recaption"));
    refine.args(["refine", "--rows-per-shard", "1"]).arg(&data).arg("-o").arg(&run);
    let output = refine.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let findings = audited(&[run.to_str().unwrap(), "--json"]);
    let alike = serde_json::from_slice::<Value>(&findings.stdout).unwrap()["alike"].clone();
    assert_eq!(
        (&alike["compared"], &alike["differ"], &alike["confirmed"]),
        (&json!(3), &json!(1), &json!(1))
    );
    let pair = &alike["pairs"][0];
    assert_eq!((&pair["key"], &pair["other_key"]), (&json!("c"), &json!("a")));
    let page = fs::read_to_string(run.join("report.html")).unwrap();
    let (_, section) = page.split_once("id=\"alike\"").unwrap();
    let (section, _) = section.split_once("</section>").unwrap();
    for words in ["The same file.", "wooden", "penguin", "href=\"#i"] {
        assert!(section.contains(words), "{words}: {section}");
    }
}
