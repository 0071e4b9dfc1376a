//! The promises of a run, with the real binary on real pictures: the ledger, whole or not at all, the
//! same command continues, never pay twice, same bytes.

use std::collections::BTreeMap;
use std::fs;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use rand::Rng;
use rand::SeedableRng;
use rand::rngs::StdRng;
use recaption::sample::Sample;
use recaption::shard;
use recaption::shard::Images;
use recaption::shard::Marker;
use serde_json::Value;
use serde_json::json;

use crate::describe::Server;
use crate::describe::completion;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")
}

fn recaption(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_recaption"));
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The demo with the tagger and the captioner, in shards of 16.
pub(super) fn demo(run: &Path) -> Command {
    let mut command = recaption(&["refine", "--rows-per-shard", "16"]);
    command.arg(root().join("demo")).arg("-o").arg(run);
    command.arg("--tagger").arg(root().join("models/tagger"));
    command.arg("--captioner").arg(root().join("models/captioner"));
    command
}

pub(super) fn succeeded(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?}: {said}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(super) fn failed(output: &Output, code: i32, words: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is not in {said}");
    }
}

/// Hash of every data file that a marker vouches for, after checking that it is what it says.
pub(super) fn data_files(run: &Path) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    for marker in shard::all_finished(run).unwrap() {
        assert_eq!(marker.rows_read, marker.refined + marker.rejected);
        marker.verify(run).unwrap();
        for file in marker.files() {
            files.insert(file.name.clone(), file.sha256.clone());
        }
    }
    files
}

pub(super) fn samples(run: &Path) -> Vec<Sample> {
    let markers = shard::all_finished(run).unwrap();
    let of = |marker: &Marker| shard::refined(run, marker, Images::Read).unwrap();
    markers.iter().flat_map(of).map(Result::unwrap).collect()
}

fn total(run: &Path, of: fn(&Marker) -> u64) -> u64 {
    shard::all_finished(run).unwrap().iter().map(of).sum()
}

pub(super) fn kill(child: &mut Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn two_runs_write_the_same_bytes_and_a_lost_marker_brings_them_back() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    succeeded(&demo(&one).output().unwrap());
    succeeded(&demo(&two).args(["--set", "run.workers=1"]).output().unwrap());
    let files = data_files(&one);
    assert_eq!(files.len(), 8, "{files:?}");
    assert_eq!(data_files(&two), files);
    assert_eq!(total(&one, |marker| marker.rows_read), 64);
    assert!(samples(&one).iter().all(|s| s.generated.is_some() && !s.audit.words.is_empty()));

    let before = fs::metadata(one.join("part-00001.parquet")).unwrap().modified().unwrap();
    fs::remove_file(shard::marker_path(&one, 2)).unwrap();
    succeeded(&demo(&one).output().unwrap());
    assert_eq!(data_files(&one), files);
    let after = fs::metadata(one.join("part-00001.parquet")).unwrap().modified().unwrap();
    assert_eq!(before, after, "a finished shard was written again");
    assert!(fs::read_to_string(one.join("report.html")).unwrap().contains("<h1>one</h1>"));
}

#[test]
fn a_run_killed_at_twenty_moments_ends_like_one_that_was_not() {
    let seed: u64 = rand::rng().random();
    let mut moments = StdRng::seed_from_u64(seed);
    let dir = tempfile::tempdir().unwrap();
    let (whole, torn) = (dir.path().join("whole"), dir.path().join("torn"));
    let command = |run: &Path| {
        let mut command = recaption(&["refine", "--rows-per-shard", "4"]);
        command.arg(root().join("demo")).arg("-o").arg(run);
        command.arg("--captioner").arg(root().join("models/captioner"));
        command
    };
    succeeded(&command(&whole).output().unwrap());
    for _ in 0..20 {
        let mut child = command(&torn).spawn().unwrap();
        thread::sleep(Duration::from_millis(moments.random_range(20..400)));
        kill(&mut child);
        // What a marker names is whole at any moment.
        if torn.exists() {
            data_files(&torn);
        }
    }
    succeeded(&command(&torn).output().unwrap());
    assert_eq!(data_files(&torn), data_files(&whole), "moments of seed {seed}");
    let left: Vec<String> = fs::read_dir(&torn)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".tmp"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn an_answer_that_was_paid_for_is_not_bought_again_after_a_kill() {
    let server = Server::start(|_, _| {
        thread::sleep(Duration::from_millis(30));
        completion("A small red fish swims in clear water.")
    });
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    const IN_FLIGHT: usize = 4;
    let command = || {
        let mut command = recaption(&["refine", "--writer", "remote", "--llm", "test"]);
        command.arg(root().join("demo")).arg("-o").arg(&run);
        command.args(["--base-url", &server.base_url]);
        command.args(["--set", &format!("describe.remote.concurrency={IN_FLIGHT}")]);
        command
    };
    let mut kills = 0;
    for wait in [150, 250, 350] {
        let mut child = command().spawn().unwrap();
        thread::sleep(Duration::from_millis(wait));
        kill(&mut child);
        kills += 1;
    }
    succeeded(&command().output().unwrap());
    let questions = {
        let asked = server.asked.lock().unwrap();
        let distinct: std::collections::BTreeSet<&String> = asked.iter().collect();
        distinct.len()
    };
    assert!(questions > 20, "{questions}");
    let most = questions + kills * 2 * IN_FLIGHT;
    assert!(server.count() <= most, "{} requests for {questions} questions", server.count());

    let before = server.count();
    succeeded(&command().output().unwrap());
    assert_eq!(server.count(), before, "a finished run asked again");
}

#[test]
fn another_command_on_the_same_run_is_refused_with_the_difference() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let refine = |more: &[&str]| {
        let mut command = recaption(&["refine"]);
        command.arg(root().join("demo")).arg("-o").arg(&run).args(more);
        command.output().unwrap()
    };
    succeeded(&refine(&[]));
    failed(&refine(&["--max-side", "64"]), 1, &["store.max_side: 512 there, 64 now", "new -o"]);
    failed(&refine(&["--limit", "3"]), 1, &["run.limit"]);
    succeeded(&refine(&["--set", "run.workers=1"]));
}

#[test]
fn bad_commands_and_inputs_are_said_plainly() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let run = path("run");
    let refine = |input: &str, more: &[&str]| {
        recaption(&["refine", input, "-o", &run]).args(more).output().unwrap()
    };
    fs::write(path("text.parquet"), "not parquet").unwrap();
    fs::write(path("empty.csv"), "").unwrap();
    fs::write(path("nothing.csv"), "a,b\n1,2\n").unwrap();
    fs::write(path("wrong.toml"), "[run]\nrows_per_shart = 1\n").unwrap();
    let demo = root().join("demo").display().to_string();
    failed(&refine("no/such/folder", &[]), 1, &["no/such/folder does not exist"]);
    failed(&refine(&path("text.parquet"), &[]), 1, &["text.parquet", "PAR1"]);
    failed(&refine(&path("empty.csv"), &[]), 1, &["empty.csv", "empty"]);
    failed(&refine(&path("nothing.csv"), &[]), 1, &["a (Utf8)", "--url-column"]);
    failed(&refine(&demo, &["--tagger", "no/such/model"]), 1, &["no/such/model"]);
    failed(&refine(&demo, &["--config", &path("wrong.toml")]), 1, &["line 2", "rows_per_shart"]);
    failed(&refine(&demo, &["--set", "run.rows_per_shard=0"]), 1, &["rows_per_shard is 0"]);
    failed(&refine(&demo, &["--writer", "poet"]), 2, &["poet", "rules"]);
    let captioner = root().join("models/captioner").display().to_string();
    failed(&refine(&demo, &["--tagger", &captioner]), 1, &["captioner, not a tagger"]);
}

#[test]
fn a_dry_run_says_what_would_be_done_and_makes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let said = succeeded(&demo(&run).arg("--dry-run").output().unwrap());
    for words in ["64 folder rows", "4 of at most 16 rows; 0 done, 4 to do", "captioner", "rules"] {
        assert!(said.contains(words), "{words} is not in {said}");
    }
    assert!(!run.exists());
    let said = succeeded(&demo(&run).args(["--dry-run", "--json"]).output().unwrap());
    let plan: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&plan["rows"], &plan["shards_to_do"]), (&json!(64), &json!(4)));
}

#[test]
fn json_lines_can_be_read_by_a_program() {
    let dir = tempfile::tempdir().unwrap();
    let said = succeeded(&demo(&dir.path().join("run")).arg("--json").output().unwrap());
    let events: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |kind: &str| events.iter().filter(|event| event["event"] == kind).count();
    assert_eq!((of("plan"), of("shard"), of("done")), (1, 4, 1));
    assert_eq!(events.last().unwrap()["summary"]["rows_read"], 64);
}

#[test]
fn too_many_rejects_stop_the_run_with_their_reasons() {
    let dir = tempfile::tempdir().unwrap();
    let output = recaption(&["refine", "--set", "quota.max_rejected=0.5"])
        .args(["--set", "quota.after_rows=10", "--set", "decode.min_side=5000"])
        .arg(root().join("demo"))
        .arg("-o")
        .arg(dir.path().join("run"))
        .output()
        .unwrap();
    failed(&output, 3, &["image too small", "10 of 10 rows were rejected", "quota.max_rejected"]);
}

#[test]
fn a_signal_stops_the_run_and_the_same_command_continues() {
    let server = Server::start(|_, _| {
        thread::sleep(Duration::from_millis(100));
        completion("A small red fish swims in clear water.")
    });
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let command = |rows: &str| {
        let mut command = recaption(&["refine", "--writer", "remote", "--llm", "test"]);
        command.arg(root().join("demo")).arg("-o").arg(&run).args(["--rows-per-shard", rows]);
        command.args(["--base-url", &server.base_url, "--set", "describe.remote.concurrency=2"]);
        command.args(["--set", "describe.remote.max_concurrency=2"]);
        command
    };
    let child = command("8").spawn().unwrap();
    thread::sleep(Duration::from_millis(1000));
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    failed(&output, 130, &["stopping"]);
    let done = total(&run, |marker| marker.rows_read);
    assert!(done < 64, "{done} rows were done before the signal");
    succeeded(&command("8").output().unwrap());
    assert_eq!(total(&run, |marker| marker.rows_read), 64);
}

/// Serves the demo's pictures; what `broken` names is not found while it says so.
fn pictures(broken: &'static std::sync::atomic::AtomicBool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                loop {
                    let mut first = String::new();
                    if reader.read_line(&mut first).unwrap_or(0) == 0 {
                        return;
                    }
                    let mut line = String::new();
                    while reader.read_line(&mut line).unwrap_or(0) > 2 {
                        line.clear();
                    }
                    let name = first.split(['/', ' ']).nth(2).unwrap_or_default().to_owned();
                    let is_broken =
                        name.starts_with("0") && broken.load(std::sync::atomic::Ordering::Relaxed);
                    let (status, body) = match fs::read(root().join("demo/images").join(&name)) {
                        Ok(bytes) if !is_broken => ("200 OK", bytes),
                        Ok(_) => ("500 Oops", Vec::new()),
                        Err(_) => ("404 Not Found", Vec::new()),
                    };
                    let head =
                        format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len());
                    if stream.write_all(head.as_bytes()).is_err()
                        || stream.write_all(&body).is_err()
                    {
                        return;
                    }
                }
            });
        }
    });
    format!("http://{address}")
}

#[test]
fn a_list_of_urls_becomes_what_the_folder_becomes_and_rejects_can_be_tried_again() {
    static BROKEN: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(true);
    let base = pictures(&BROKEN);
    let dir = tempfile::tempdir().unwrap();
    let (list, run) = (dir.path().join("list.jsonl"), dir.path().join("run"));
    let metadata = fs::read_to_string(root().join("demo/metadata.jsonl")).unwrap();
    let mut lines = String::new();
    for line in metadata.lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let name = row["file_name"].as_str().unwrap().rsplit('/').next().unwrap();
        let url = format!("{base}/{name}");
        lines += &format!("{}\n", json!({"key": row["key"], "URL": url, "TEXT": row["text"]}));
    }
    lines += &format!("{}\n", json!({"key": "gone", "URL": format!("{base}/gone.jpg")}));
    lines += &format!("{}\n", json!({"key": "local", "URL": "http://127.0.0.1:1/x.jpg"}));
    fs::write(&list, lines).unwrap();

    let refine = |more: &[&str]| {
        let mut command = recaption(&["refine", "--rows-per-shard", "30"]);
        command.arg(&list).arg("-o").arg(&run).args(more);
        command.args(["--set", "fetch.retry.attempts=1", "--set", "fetch.connect_timeout_ms=2000"]);
        command.args(["--set", "fetch.per_host_requests_per_second=0"]);
        command.args(["--set", "fetch.circuit_failures=0", "--allow-private-hosts", "127.0.0.0/8"]);
        command.output().unwrap()
    };
    succeeded(&refine(&[]));
    let reasons = |run: &Path| {
        let mut all = BTreeMap::<String, u64>::new();
        for (reason, rows) in shard::all_finished(run).unwrap().iter().flat_map(|m| &m.reasons) {
            *all.entry(reason.clone()).or_default() += rows;
        }
        all
    };
    let first = reasons(&run);
    assert_eq!((first["http error"], first["not found"], first["connection failed"]), (10, 1, 1));

    BROKEN.store(false, std::sync::atomic::Ordering::Relaxed);
    succeeded(&refine(&["--retry-rejects"]));
    let second = reasons(&run);
    assert_eq!(second, BTreeMap::from([("not found".into(), 1), ("connection failed".into(), 1)]));
    data_files(&run);

    let folder = dir.path().join("folder");
    let mut command = recaption(&["refine", "--rows-per-shard", "30"]);
    succeeded(&command.arg(root().join("demo")).arg("-o").arg(&folder).output().unwrap());
    let of =
        |sample: Sample| (sample.item.key, sample.sha256, sample.item.text_raw, sample.generated);
    let ours: Vec<_> = samples(&run).into_iter().map(of).collect();
    let theirs: Vec<_> = samples(&folder).into_iter().map(of).collect();
    assert_eq!(ours, theirs);

    failed(
        &recaption(&["why", &run.display().to_string(), "no-such-key"]).output().unwrap(),
        1,
        &["no-such-key"],
    );
    let said =
        succeeded(&recaption(&["why", &run.display().to_string(), "gone"]).output().unwrap());
    assert!(said.contains("\"reason\": \"not found\""), "{said}");
}

#[test]
fn webdataset_comes_out_and_goes_in_again() {
    let dir = tempfile::tempdir().unwrap();
    let (tars, again) = (dir.path().join("tars"), dir.path().join("again"));
    succeeded(&demo(&tars).args(["--format", "webdataset"]).output().unwrap());
    let parquet = dir.path().join("parquet");
    succeeded(&demo(&parquet).output().unwrap());
    assert_eq!(samples(&tars), samples(&parquet));

    let glob = tars.join("part-*.tar").display().to_string();
    let mut command = recaption(&["refine", &glob, "--text-column", "text_raw"]);
    succeeded(&command.arg("-o").arg(&again).output().unwrap());
    assert_eq!(total(&again, |marker| marker.rows_read), samples(&tars).len() as u64);
    let said = succeeded(&recaption(&["inspect", &tars.display().to_string()]).output().unwrap());
    assert!(said.contains("text_generated") && said.contains("00003"), "{said}");
}

#[test]
fn the_written_configuration_is_one_that_can_be_given() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("recaption.toml").display().to_string();
    succeeded(&recaption(&["init", &file]).output().unwrap());
    failed(&recaption(&["init", &file]).output().unwrap(), 1, &["is there already"]);
    let mut command = recaption(&["refine", "--config", &file, "--limit", "3"]);
    command.arg(root().join("demo")).arg("-o").arg(dir.path().join("run"));
    succeeded(&command.output().unwrap());
    assert_eq!(total(&dir.path().join("run"), |marker| marker.rows_read), 3);
}

#[test]
fn the_doctor_agrees_with_the_recorded_answers_and_not_with_others() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/perceive");
    let doctor = |expected: &Path| {
        let mut command = recaption(&["models", "doctor"]);
        command.arg(root().join("models/captioner")).arg("--expected").arg(expected);
        command.arg("--images").arg(root().join("demo/images")).output().unwrap()
    };
    let expected = data.join("expected.json");
    succeeded(&doctor(&expected));
    let dir = tempfile::tempdir().unwrap();
    let wrong = dir.path().join("wrong.json");
    let text = fs::read_to_string(&expected).unwrap();
    fs::write(&wrong, text.replace("animal", "mineral")).unwrap();
    let output = doctor(&wrong);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("mineral"));
}
