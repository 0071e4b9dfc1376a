//! Alarms of the real binary: a server that says the same to everybody, or refuses, stops the run.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;

use recaption::shard;

use crate::describe::Server;
use crate::describe::completion;

const SAME: &str = "A small red fish swims in clear water.";

fn refine(run: &Path, server: &Server, more: &[&str]) -> Output {
    let demo = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples/demo");
    let mut command = Command::new(env!("CARGO_BIN_EXE_recaption"));
    command.args(["refine", "--writer", "remote", "--llm", "test", "--rows-per-shard", "16"]);
    command.arg(demo).arg("-o").arg(run).args(["--base-url", &server.base_url]);
    command.args(["--set", "alarms.after_rows=20", "--set", "alarms.window=20"]).args(more);
    command.output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn one_answer_to_everything_stops_the_run_and_finished_shards_stay() {
    let server = Server::start(|_, _| completion(SAME));
    let dir = tempfile::tempdir().unwrap();
    let output = refine(dir.path(), &server, &[]);
    let said = said(&output);
    assert_eq!(output.status.code(), Some(3), "{said}");
    for words in [SAME, "alarms.max_repeated", "requests.sqlite", "alarms.action=warn"] {
        assert!(said.contains(words), "{words} is not in {said}");
    }
    let markers = shard::all_finished(dir.path()).unwrap();
    assert_eq!(markers.iter().map(|marker| marker.rows_read).collect::<Vec<_>>(), [16]);
    markers[0].verify(dir.path()).unwrap();
}

#[test]
fn a_warning_is_said_and_the_run_goes_on() {
    let server = Server::start(|_, _| completion(SAME));
    let dir = tempfile::tempdir().unwrap();
    let stopped = refine(dir.path(), &server, &[]);
    assert_eq!(stopped.status.code(), Some(3));
    // Alarms may differ when the run goes on.
    let output = refine(dir.path(), &server, &["--set", "alarms.action=warn"]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains(SAME), "{}", said(&output));
    assert_eq!(shard::all_finished(dir.path()).unwrap().len(), 4);
}

#[test]
fn refusals_stop_the_run_although_the_grammar_stands_in() {
    let server = Server::start(|_, _| completion("I'm sorry, but I cannot help with that."));
    let dir = tempfile::tempdir().unwrap();
    let output = refine(dir.path(), &server, &[]);
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert!(said(&output).contains("alarms.max_refused"), "{}", said(&output));
    assert!(said(&output).contains("model refused"), "{}", said(&output));
}
