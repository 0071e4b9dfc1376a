//! Runs selected from, with the real binary: by columns of the source, by verdicts, by opt-outs; what
//! was selected is a run like any other, and the old one stays as it is.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::LazyLock;
use std::thread;
use std::time::Duration;

use arrow::array::ArrayRef;
use arrow::array::BinaryArray;
use arrow::array::BooleanArray;
use arrow::array::Float32Array;
use arrow::array::Float64Array;
use arrow::array::Int64Array;
use arrow::array::StringArray;
use recaption::audit;
use recaption::audit::Texts;
use recaption::clip::Words;
use recaption::model;
use recaption::review::Line;
use recaption::review::Verdict;
use recaption::review::verdicts::Log;
use recaption::sample::Reject;
use recaption::sample::Sample;
use recaption::shard;
use recaption::train::data::DataConfig;
use recaption::train::data::Dataset;
use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;

use crate::refine::data_files;
use crate::refine::failed;
use crate::refine::kill;
use crate::refine::samples;
use crate::refine::succeeded;
use crate::source::parquet::write_parquet;

const ROWS: usize = 24;
const LICENCES: [&str; 3] = ["cc0", "cc-by-4.0", "?"];
const HOSTS: [&str; 3] = ["a.example", "img.b.example", "c.example"];

fn key(row: usize) -> String {
    format!("{row:09}")
}

fn url(row: usize) -> String {
    format!("https://{}/{}/{row}.jpg", HOSTS[row % 3], row % 2)
}

/// Each seventh row has none.
fn punsafe(row: usize) -> Option<f32> {
    (row % 7 != 6).then(|| row as f32 / ROWS as f32)
}

/// As LAION and its like publish them: capital letters, scores of models, a licence, an opt-out.
fn laion(path: &Path) {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/demo/images");
    let mut pictures: Vec<PathBuf> =
        fs::read_dir(demo).unwrap().map(|entry| entry.unwrap().path()).collect();
    pictures.sort();
    let pictures: Vec<Vec<u8>> =
        pictures.iter().take(ROWS).map(|path| fs::read(path).unwrap()).collect();
    let rows = || 0..ROWS;
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("key", Arc::new(rows().map(key).map(Some).collect::<StringArray>())),
        ("URL", Arc::new(rows().map(url).map(Some).collect::<StringArray>())),
        ("TEXT", Arc::new(rows().map(|row| Some(format!("Frog {row}"))).collect::<StringArray>())),
        ("WIDTH", Arc::new(Int64Array::from_iter_values(rows().map(|row| row as i64)))),
        ("LICENSE", Arc::new(rows().map(|row| Some(LICENCES[row % 3])).collect::<StringArray>())),
        ("NSFW", Arc::new(rows().map(|_| Some("UNLIKELY")).collect::<StringArray>())),
        ("punsafe", Arc::new(rows().map(punsafe).collect::<Float32Array>())),
        (
            "pwatermark",
            Arc::new(Float32Array::from_iter_values(rows().map(|row| (row % 5) as f32 * 0.1))),
        ),
        (
            "aesthetic_score",
            Arc::new(Float64Array::from_iter_values(rows().map(|row| 4.0 + (row % 4) as f64))),
        ),
        ("opt_out", Arc::new(rows().map(|row| Some(row % 8 == 1)).collect::<BooleanArray>())),
        ("jpg", Arc::new(BinaryArray::from_iter_values(&pictures))),
    ];
    write_parquet(path, columns, 10);
}

fn refine(data: &Path, run: &Path, more: &[&str]) {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/models");
    let mut command = Command::new(env!("CARGO_BIN_EXE_recaption"));
    command.args(["refine", "--rows-per-shard", "9"]).arg(data).arg("-o").arg(run).args(more);
    command.arg("--tagger").arg(models.join("tagger"));
    command.arg("--captioner").arg(models.join("captioner"));
    succeeded(&command.output().unwrap());
}

static RUN: LazyLock<TempDir> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    laion(&dir.path().join("laion.parquet"));
    refine(&dir.path().join("laion.parquet"), &dir.path().join("run"), &[]);
    dir
});

/// Old and new run, with a copy that has a log of its own.
pub(super) struct Runs {
    dir: TempDir,
}

impl Runs {
    pub(super) fn new() -> Runs {
        let dir = tempfile::tempdir().unwrap();
        let old = dir.path().join("old");
        fs::create_dir(&old).unwrap();
        for entry in fs::read_dir(RUN.path().join("run")).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, old.join(path.file_name().unwrap())).unwrap();
        }
        Runs { dir }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> String {
        fs::write(self.path(name), text).unwrap();
        self.path(name).display().to_string()
    }

    fn command(&self, new: &str, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_recaption"));
        command.arg("select").arg(self.path("old")).arg("-o").arg(self.path(new)).args(more);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn select(&self, new: &str, more: &[&str]) -> Output {
        self.command(new, more).output().unwrap()
    }

    pub(super) fn selected(&self, new: &str, more: &[&str]) -> Vec<Sample> {
        succeeded(&self.select(new, more));
        samples(&self.path(new))
    }

    pub(super) fn judge(&self, said: &[(&Sample, &str, Verdict, Option<&str>)]) {
        let lines: Vec<Line> =
            said.iter().map(|(row, who, what, text)| line(row, who, *what, *text)).collect();
        Log::open(&self.path("old")).unwrap().append(&lines).unwrap();
    }
}

fn line(row: &Sample, reviewer: &str, verdict: Verdict, text: Option<&str>) -> Line {
    let old = row.generated.as_ref().unwrap().text.as_bytes();
    Line {
        key: row.item.key.clone(),
        shard: row.item.key.parse::<u32>().unwrap() / 9,
        verdict: Some(verdict),
        text: text.map(str::to_owned),
        text_sha256: recaption::atomic_file::sha256(old),
        reviewer: reviewer.to_owned(),
        at: 1,
    }
}

fn recaption(arguments: &[&str], paths: &[&Path]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_recaption")).args(arguments).args(paths).output().unwrap()
}

fn keys(samples: &[Sample]) -> Vec<&str> {
    samples.iter().map(|sample| sample.item.key.as_str()).collect()
}

fn rejects(run: &Path) -> BTreeMap<String, Reject> {
    let markers = shard::all_finished(run).unwrap();
    let of = |marker| shard::rejects(run, marker).unwrap();
    let rows = markers.iter().flat_map(of).map(Result::unwrap);
    rows.map(|(_, item, reject)| (item.key, reject)).collect()
}

fn record(run: &Path) -> Value {
    serde_json::from_slice(&fs::read(run.join("run.json")).unwrap()).unwrap()
}

/// Rows of this run that training would use.
fn trainable(run: &Path, filter: Option<&str>) -> u64 {
    let config = DataConfig {
        inputs: vec![run.display().to_string()],
        filter: filter.map(str::to_owned),
        ..DataConfig::default()
    };
    let words = Words::open(None, &model::Config::preset("tiny").unwrap()).unwrap();
    Dataset::open(&config, Arc::new(words), &mut |_| ()).unwrap().rows()
}

#[test]
fn safety_columns_of_the_source_are_carried_and_picked_by_and_trained_by() {
    let runs = Runs::new();
    let all = samples(&runs.path("old"));
    assert_eq!(all.len(), ROWS);
    for (row, sample) in all.iter().enumerate() {
        let extra = &sample.item.extra;
        assert_eq!((&sample.item.key, sample.item.url.as_ref()), (&key(row), Some(&url(row))));
        // An f32 of the file is the shortest number that says the same.
        let shortest =
            punsafe(row).map_or(Value::Null, |p| p.to_string().parse::<f64>().unwrap().into());
        assert_eq!(extra.get("punsafe").unwrap_or(&Value::Null), &shortest, "{row}");
        assert_eq!(extra["aesthetic_score"], json!(4.0 + (row % 4) as f64));
        assert_eq!(extra["LICENSE"], json!(LICENCES[row % 3]));
        assert_eq!(extra["opt_out"], json!(row % 8 == 1));
        assert_eq!((&extra["NSFW"], &extra["WIDTH"]), (&json!("UNLIKELY"), &json!(row)));
    }
    let filter = "punsafe < 0.7 and pwatermark <= 0.3 and aesthetic_score >= 5 and \
                  LICENSE in ['cc0', 'cc-by-4.0'] and not opt_out";
    let is_taken = |row: &usize| {
        punsafe(*row).is_some_and(|p| p < 0.7)
            && row % 5 <= 3
            && row % 4 >= 1
            && row % 3 != 2
            && row % 8 != 1
    };
    let expected: Vec<String> = (0..ROWS).filter(is_taken).map(key).collect();
    assert!((3..ROWS / 2).contains(&expected.len()), "{expected:?}");
    let new = runs.selected("new", &["--where", filter]);
    assert_eq!(keys(&new), expected);
    let (old_by_key, rejects) = (by_key(&all), rejects(&runs.path("new")));
    assert!(
        new.iter()
            .all(|sample| format!("{sample:?}") == format!("{:?}", old_by_key[&sample.item.key]))
    );
    assert_eq!(rejects.len(), ROWS - expected.len());
    assert!(rejects.values().all(|reject| reject.to_string().starts_with("select: not selected")));
    assert_eq!(trainable(&runs.path("old"), Some(filter)), expected.len() as u64);
    assert_eq!(trainable(&runs.path("new"), None), expected.len() as u64);
}

fn by_key(samples: &[Sample]) -> BTreeMap<String, Sample> {
    samples.iter().map(|sample| (sample.item.key.clone(), sample.clone())).collect()
}

#[test]
fn verdicts_leave_rows_out_and_an_edited_text_is_a_persons_and_audited_anew() {
    let runs = Runs::new();
    let old = samples(&runs.path("old"));
    let before = data_files(&runs.path("old"));
    runs.judge(&[
        (&old[0], "ann", Verdict::Ok, None),
        (&old[1], "ann", Verdict::Hallucinated, None),
        (&old[2], "ann", Verdict::Hallucinated, Some("A zebra rides 17 purple bicycles.")),
        (&old[10], "ann", Verdict::Ok, None),
        (&old[10], "ben", Verdict::WrongImage, None),
        (&old[20], "ann", Verdict::Unusable, Some("Anything.")),
    ]);
    // About a text that has changed since, and about a row that is not there.
    let gone = Line { text_sha256: "0".into(), ..line(&old[3], "ann", Verdict::Unusable, None) };
    let lost = Line { key: "nowhere".into(), ..line(&old[4], "ann", Verdict::Unusable, None) };
    Log::open(&runs.path("old")).unwrap().append(&[gone, lost]).unwrap();

    let new = runs.selected("new", &[]);
    let left: BTreeSet<&str> = [1, 10, 20].map(|row| old[row].item.key.as_str()).into();
    let expected: Vec<&str> = keys(&old).into_iter().filter(|key| !left.contains(key)).collect();
    assert_eq!(keys(&new), expected);
    let rejects = rejects(&runs.path("new"));
    assert_eq!(rejects.keys().map(String::as_str).collect::<BTreeSet<_>>(), left);
    assert_eq!(
        rejects[&key(10)].to_string(),
        "select: verdict of people (wrong_image (ann: ok, ben: wrong_image))"
    );

    let edited = &by_key(&new)[&key(2)];
    let generated = edited.generated.as_ref().unwrap();
    assert_eq!(generated.text, "A zebra rides 17 purple bicycles.");
    assert_eq!((&*generated.writer, &*generated.model), ("human", "ann"));
    assert_eq!((generated.finish_reason.as_str(), generated.tokens), ("edited", None));
    assert_eq!(edited.audit, audit::audit(&audit::Config::default(), &Texts::of(edited)));
    assert!(edited.audit.score < old[2].audit.score);
    assert!(edited.audit.words.iter().any(|word| word.word == "zebra"));
    // Everything else of it is as it was.
    let with_old_text = Sample {
        generated: old[2].generated.clone(),
        generated_refused: old[2].generated_refused.clone(),
        audit: old[2].audit.clone(),
        ..edited.clone()
    };
    assert_eq!(format!("{with_old_text:?}"), format!("{:?}", old[2]));

    assert_eq!(data_files(&runs.path("old")), before);
    let counts = &record(&runs.path("new"))["counts"];
    assert_eq!((&counts["kept"], &counts["edited"]), (&json!(ROWS - 3), &json!(1)));
    assert_eq!((&counts["verdicts"], &counts["verdicts_ignored"]), (&json!(6), &json!(2)));

    let only = runs.selected("only", &["--reviewed-only", "--accept", "ok,wrong_image"]);
    assert_eq!(keys(&only), [key(0), key(2), key(10)]);
    assert_eq!(runs.selected("deaf", &["--ignore-verdicts"]).len(), ROWS);
    // The log of another folder, as of a reviewer who worked on a copy.
    fs::rename(runs.path("old/audit/verdicts.jsonl"), runs.path("ann.jsonl")).unwrap();
    assert_eq!(runs.selected("unjudged", &[]).len(), ROWS);
    let log = runs.path("ann.jsonl").display().to_string();
    assert_eq!(keys(&runs.selected("told", &["--verdicts", &log])), expected);
}

#[test]
fn opt_outs_leave_finished_shards_and_the_ledger_holds() {
    let runs = Runs::new();
    let old = samples(&runs.path("old"));
    let hash = format!("sha256:{}", old[9].sha256);
    let lines = format!(
        "# who asked\n{}\nkey:{}\n{}\nprefix:https://a.example/1/\ndomain:b.example\n{hash}\n\
         no such row\n",
        key(0),
        key(5),
        url(6)
    );
    let list = runs.write("opt-out.txt", &lines);
    let output = runs.select("new", &["--opt-out", &list]);
    succeeded(&output);
    let is_out = |row: &usize| [0, 5, 6, 9].contains(row) || row % 6 == 3 || row % 3 == 1;
    let (out, expected): (Vec<usize>, Vec<usize>) = (0..ROWS).partition(is_out);
    let new = samples(&runs.path("new"));
    assert_eq!(keys(&new), expected.iter().map(|row| key(*row)).collect::<Vec<_>>());
    let rejects = rejects(&runs.path("new"));
    assert_eq!(
        rejects.keys().cloned().collect::<Vec<_>>(),
        out.iter().map(|row| key(*row)).collect::<Vec<_>>()
    );
    assert_eq!(rejects[&key(1)].to_string(), "select: opted out (domain:b.example)");
    assert_eq!(rejects[&key(9)].to_string(), "select: opted out (prefix:https://a.example/1/)");
    // Of what is opted out, key and url are all that is left.
    let markers = shard::all_finished(&runs.path("new")).unwrap();
    for (_, item, _) in shard::rejects(&runs.path("new"), &markers[0]).unwrap().map(Result::unwrap)
    {
        let is_bare = item.text_raw.is_none() && item.extra.is_empty() && item.url.is_some();
        assert!(is_bare, "{item:?}");
    }
    let sum = |of: fn(&shard::Marker) -> u64| markers.iter().map(of).sum::<u64>();
    assert_eq!((sum(|m| m.rows_read), sum(|m| m.rejected)), (ROWS as u64, out.len() as u64));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("lines of opt-outs: 7, of which 1 name no row\n  no such row"), "{said}");
    let report = fs::read_to_string(runs.path("new/report.html")).unwrap();
    assert!(report.contains("opted out"));
}

#[test]
fn the_same_command_gives_the_same_bytes_in_any_form() {
    let runs = Runs::new();
    let old = samples(&runs.path("old"));
    runs.judge(&[(&old[7], "ann", Verdict::Minor, Some("A frog."))]);
    for more in [
        &["--where", "punsafe < 0.9"][..],
        &["--where", "punsafe < 0.9", "--rows-per-shard", "5"],
        &["--where", "punsafe < 0.9", "--rows-per-shard", "100", "--format", "webdataset"],
    ] {
        let name = |which: &str| format!("{which}{}", more.len());
        let one = runs.selected(&name("one"), more);
        let two = runs.selected(&name("two"), more);
        assert_eq!((one.len(), keys(&one)), (two.len(), keys(&two)));
        let files = data_files(&runs.path(&name("one")));
        assert_eq!(files, data_files(&runs.path(&name("two"))));
        let part = files.keys().find(|name| name.starts_with("part-00000")).unwrap();
        let time = |run: &str| fs::metadata(runs.path(run).join(part)).unwrap().modified().unwrap();
        let before = time(&name("one"));
        let again = succeeded(&runs.select(&name("one"), more));
        assert!(again.contains("read (finished shards:"), "{again}");
        assert_eq!((time(&name("one")), data_files(&runs.path(&name("one")))), (before, files));
    }
    let shards = |run: &str| shard::all_finished(&runs.path(run)).unwrap().len();
    assert_eq!((shards("one2"), shards("one4"), shards("one6")), (3, 5, 1));
    // Whatever the shards, the rows are the same.
    let rows = |run: &str| {
        let rows = samples(&runs.path(run)).into_iter();
        rows.map(|row| (row.item.key, row.audit.score, row.image.bytes)).collect::<Vec<_>>()
    };
    assert_eq!(rows("one2"), rows("one4"));
    assert_eq!(rows("one2"), rows("one6"));
    // From tars too.
    let from = [runs.path("one6"), runs.path("back")];
    let more = ["select", "--format", "parquet", "--rows-per-shard", "4"];
    succeeded(&recaption(&more, &[&from[0], Path::new("-o"), &from[1]]));
    assert_eq!(rows("one2"), rows("back"));
}

#[test]
fn a_selection_that_is_killed_goes_on_where_it_was() {
    let runs = Runs::new();
    let more = ["--rows-per-shard", "1", "--where", "WIDTH != 3"];
    runs.selected("whole", &more);
    for moment in 0..16 {
        let mut child = runs.command("torn", &more).spawn().unwrap();
        thread::sleep(Duration::from_millis(40 + 37 * moment % 300));
        kill(&mut child);
        if runs.path("torn").exists() {
            data_files(&runs.path("torn"));
        }
    }
    runs.selected("torn", &more);
    assert_eq!(data_files(&runs.path("torn")), data_files(&runs.path("whole")));
    let left = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().ends_with(".tmp");
    let entries = fs::read_dir(runs.path("torn")).unwrap().map(Result::unwrap);
    assert_eq!(entries.filter(left).count(), 0);
}

#[test]
fn other_rules_lists_or_verdicts_are_refused() {
    let runs = Runs::new();
    let old = samples(&runs.path("old"));
    let list = runs.write("list", "x\n");
    let more = ["--where", "WIDTH < 20", "--opt-out", &list];
    runs.selected("new", &more);
    let before = data_files(&runs.path("new"));
    let refused = |more: &[&str], words: &[&str]| {
        let words: Vec<&str> =
            [&["was made by another command", "use a new -o"], words].concat().to_vec();
        failed(&runs.select("new", more), 1, &words);
    };
    refused(
        &["--where", "WIDTH < 21", "--opt-out", &list],
        &["where:", "WIDTH < 20", "WIDTH < 21"],
    );
    refused(&["--where", "WIDTH < 20"], &["opt_out:"]);
    refused(&[&more[..], &["--accept", "ok"]].concat(), &["accept:"]);
    refused(&[&more[..], &["--reviewed-only"]].concat(), &["reviewed_only:"]);
    refused(&[&more[..], &["--rows-per-shard", "2"]].concat(), &["rows_per_shard:"]);
    fs::write(&list, "y\n").unwrap();
    refused(&more, &["opt_out:"]);
    fs::write(&list, "x\n").unwrap();
    runs.judge(&[(&old[0], "ann", Verdict::Ok, None)]);
    refused(&more, &["verdicts:"]);
    succeeded(&runs.select("new", &[&more[..], &["--ignore-verdicts"]].concat()));
    assert_eq!(data_files(&runs.path("new")), before);
    // The folder of a run that was refined is none of a selection.
    let other = runs.path("other");
    fs::create_dir(&other).unwrap();
    fs::copy(runs.path("old/run.json"), other.join("run.json")).unwrap();
    failed(&runs.select("other", &[]), 1, &["other is no selection; name another -o"]);
}

#[test]
fn what_was_selected_is_a_run_like_any_other() {
    let runs = Runs::new();
    let old = samples(&runs.path("old"));
    runs.judge(&[(&old[2], "ann", Verdict::Minor, Some("A green frog on a leaf."))]);
    let new = runs.selected("new", &["--where", "WIDTH < 9 or WIDTH >= 18"]);
    // The second of its shards has no row left.
    let markers = shard::all_finished(&runs.path("new")).unwrap();
    assert_eq!(markers.iter().map(|m| m.refined).collect::<Vec<_>>(), [9, 0, 6]);
    let run = runs.path("new");
    let json = |arguments: &[&str]| -> Value {
        serde_json::from_str(&succeeded(&recaption(arguments, &[&run]))).unwrap()
    };
    let audit = json(&["audit", "--json"]);
    assert_eq!(audit["summary"]["rows"], json!(new.len()), "{audit}");
    succeeded(&recaption(&["inspect"], &[&run]));
    succeeded(&recaption(&["card"], &[&run]));
    let card = fs::read_to_string(run.join("README.md")).unwrap();
    assert!(card.contains(&format!("num_examples: {}", new.len())), "{card}");
    for words in [
        "select: not selected | 9 |",
        "texts that people wrote | 1 of 15",
        "by verdicts of people (1)",
    ] {
        assert!(card.contains(words), "{words}: {card}");
    }
    Log::open(&run).unwrap().append(&[line(&new[0], "eve", Verdict::Ok, None)]).unwrap();
    assert_eq!(json(&["review", "--stats", "--json"])["rows"], json!(1));
    assert_eq!(trainable(&run, None), new.len() as u64);
    assert_eq!(trainable(&run, Some("generated_writer == 'human'")), 1);

    let again = runs.path("again");
    let select = ["select", "--where", "generated_writer == 'human'", "-o"];
    succeeded(&recaption(&select, &[&again, &run]));
    let last = samples(&again);
    assert_eq!((keys(&last), &last[0]), (vec![key(2).as_str()], &by_key(&new)[&key(2)]));
    let sources = &record(&again)["sources"];
    assert_eq!(sources[0]["sources"][0], record(&runs.path("old")));
}

#[test]
fn rows_of_several_runs_come_one_after_another_and_keep_apart() {
    let runs = Runs::new();
    refine(&RUN.path().join("laion.parquet"), &runs.path("other"), &["--limit", "7"]);
    let select = ["select", "--rows-per-shard", "20", "-o"];
    let [new, old, other] = ["new", "old", "other"].map(|name| runs.path(name));
    succeeded(&recaption(&select, &[&new, &old, &other]));
    let rows = samples(&new);
    assert_eq!(rows.len(), ROWS + 7);
    let expected: Vec<String> = (0..ROWS).chain(0..7).map(key).collect();
    assert_eq!(keys(&rows), expected);
    // In one shard keys are unique.
    let one = runs.path("one");
    let select = ["select", "--rows-per-shard", "100", "-o"];
    succeeded(&recaption(&select, &[&one, &old, &other]));
    let rows = samples(&one);
    assert_eq!(rows[ROWS].item.key, format!("{}@1.00000", key(0)));
    assert_eq!(keys(&rows).into_iter().collect::<BTreeSet<_>>().len(), ROWS + 7);
}

#[test]
fn messages_say_what_is_wrong() {
    let runs = Runs::new();
    let bad = runs.write("bad", "domain:\n");
    let log = runs.write("log", "{\"key\": 1}\n");
    for (more, words) in [
        (&["--where", "punsave < 1"][..], &["punsave", "punsafe"][..]),
        (&["--where", "punsafe <"], &["punsafe <", "cannot be read"]),
        (&["--where", "punsafe > 2"], &["no row of", "would be left: 24 not selected"]),
        (&["--opt-out", &bad], &["bad:1", "nothing stands after domain:"]),
        (&["--opt-out", "no-such-file"], &["no-such-file"]),
        (&["--verdicts", &log], &["log:1", "is not a verdict"]),
        (&["--verdicts", "no-such-log"], &["no-such-log is no log of verdicts"]),
        (&["--rows-per-shard", "0"], &["--rows-per-shard"]),
    ] {
        failed(&runs.select("new", more), 1, words);
    }
    failed(
        &runs.select("new", &["--accept", "fine"]),
        2,
        &["\"fine\" is no verdict", "wrong_image"],
    );
    failed(&runs.select("old", &[]), 1, &["is selected from; name another -o"]);
    let [empty, new] = ["empty", "new"].map(|name| runs.path(name));
    fs::create_dir(&empty).unwrap();
    let output = recaption(&["select", "-o"], &[&new, &empty]);
    failed(&output, 1, &["empty has no finished shard yet"]);
    failed(&recaption(&["select", "-o"], &[&new, Path::new("no-such-run")]), 1, &["no-such-run"]);
    // A picture that has changed on the disk is not copied on.
    let part = runs.path("old/part-00001.parquet");
    let mut bytes = fs::read(&part).unwrap();
    let middle = bytes.len() / 3;
    bytes[middle] ^= 1;
    fs::write(&part, bytes).unwrap();
    failed(&runs.select("new", &["--ignore-verdicts"]), 1, &["part-00001.parquet"]);
}
