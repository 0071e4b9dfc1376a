//! A real server of language models: `llama_cpp.server` with SmolLM2-135M behind the real binary.
//!
//! What scripted servers cannot show is that a server that others wrote is understood: how it counts tokens,
//! lists models and refuses what it does not know. What the model writes is weak, and no test says otherwise.

use std::fs;
use std::fs::File;
use std::net::TcpListener;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use recaption::chat::Bill;
use recaption::chat::Budget;
use recaption::chat::Chat;
use recaption::chat::Prompted;
use recaption::chat::Remote;
use recaption::chat::RemoteConfig;
use recaption::chat::Spent;
use recaption::chat::Statement;
use recaption::chat::Writer;
use recaption::models::pip;
use recaption::models::pull;
use recaption::sample::Sample;
use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;

use crate::refine::demo;
use crate::refine::samples;
use crate::refine::succeeded;

/// A Python that has `llama-cpp-python[server]`; with it set, anything that is missing is a failure.
const PYTHON: &str = "RECAPTION_LLAMA_SERVER";

/// A prompt of 800 tokens takes a machine with one slow core so long.
const PATIENCE: Duration = Duration::from_secs(300);

/// The server; it ends with the value, also when a test panics.
struct Llama {
    child: Child,
    base_url: String,
    log: PathBuf,
    dir: TempDir,
}

impl Llama {
    /// None where no Python is named.
    fn start() -> Option<Llama> {
        let Some(python) = std::env::var_os(PYTHON) else {
            eprintln!(
                "no real server is asked: name a Python that has llama-cpp-python[server] in {PYTHON}"
            );
            return None;
        };
        let cache = pip::cache_root().unwrap();
        let model = pull::pull("smollm2-135m", &cache, &mut |line| println!("{line}")).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("server.log");
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new(&python);
        command.args(["-m", "llama_cpp.server", "--model_alias", "smollm2", "--model"]).arg(model);
        command.args(["--n_ctx", "2048", "--n_threads", "1", "--host", "127.0.0.1", "--port"]);
        command.arg(port.to_string()).stdout(File::create(&log).unwrap());
        command.stderr(Stdio::from(File::options().append(true).open(&log).unwrap()));
        let child = command.spawn().unwrap_or_else(|error| panic!("{python:?}: {error}"));
        let base_url = format!("http://127.0.0.1:{port}/v1");
        let mut llama = Llama { child, base_url, log, dir };
        llama.wait();
        Some(llama)
    }

    fn wait(&mut self) {
        let begun = Instant::now();
        while !self.said().contains("Application startup complete") {
            let ended = self.child.try_wait().unwrap();
            let in_time = begun.elapsed() < PATIENCE;
            assert!(ended.is_none() && in_time, "{ended:?}: {}", self.said());
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap()).into_owned()
    }

    /// Chats that it answered with this status, by its own log.
    fn chats(&self, status: u16) -> usize {
        let status = format!("\" {status} ");
        let said = self.said();
        let is_chat =
            |line: &&str| line.contains("POST /v1/chat/completions") && line.contains(&status);
        said.lines().filter(is_chat).count()
    }

    /// Some rows of the demo, asked about one at a time, with a store that all runs share.
    fn refine(&self, run: &str, rows: &str, more: &[&str]) -> Command {
        let mut command = demo(&self.dir.path().join(run));
        command.args(["--limit", rows, "--writer", "remote", "--llm", "smollm2"]);
        command.args(["--base-url", &self.base_url]);
        let requests = self.dir.path().join("requests.sqlite");
        command.arg("--set").arg(format!("describe.requests={}", requests.display()));
        let timeout = format!("describe.remote.timeout_s={}", PATIENCE.as_secs());
        for setting in [
            "describe.remote.concurrency=1",
            "describe.remote.max_concurrency=1",
            "alarms.action=warn",
            &timeout,
        ] {
            command.args(["--set", setting]);
        }
        command.args(more);
        command
    }

    fn samples(&self, run: &str) -> Vec<Sample> {
        let samples = samples(&self.dir.path().join(run));
        for Sample { item, generated, .. } in &samples {
            let generated = generated.as_ref().unwrap_or_else(|| panic!("{}: no text", item.key));
            assert!(!generated.text.is_empty());
            match &*generated.writer {
                "remote" => assert_eq!(&*generated.model, "smollm2"),
                writer => assert_eq!(writer, "rules", "{}: no named fallback", item.key),
            }
        }
        samples
    }

    fn bill(&self, run: &str) -> Statement {
        read_bill(&self.dir.path().join(run))
    }
}

impl Drop for Llama {
    fn drop(&mut self) {
        // It may have ended before, which the test has found out.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_bill(run: &Path) -> Statement {
    serde_json::from_slice(&fs::read(run.join("bill.json")).unwrap()).unwrap()
}

fn by_the_model(samples: &[Sample]) -> usize {
    let of_model =
        |sample: &&Sample| sample.generated.as_ref().is_some_and(|g| &*g.writer == "remote");
    samples.iter().filter(of_model).count()
}

/// What the server says that a chat took, asked without our client.
fn usage(base_url: &str, text: &str) -> Value {
    let body = json!({
        "model": "smollm2", "max_tokens": 8, "temperature": 0.0,
        "messages": [{ "role": "user", "content": text }],
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
        let sent = client.post(format!("{base_url}/chat/completions")).json(&body).send().await;
        let answer: Value = sent.unwrap().json().await.unwrap();
        answer["usage"].clone()
    })
}

/// The bill has what the server counted, not what we would estimate.
fn tokens_are_those_of_the_server(llama: &Llama) {
    let text = "Name three animals, please!!! :-) ...";
    let counted = usage(&llama.base_url, text);
    let config = RemoteConfig {
        base_url: llama.base_url.clone(),
        model: "smollm2".to_owned(),
        max_tokens: 8,
        timeout_s: PATIENCE.as_secs(),
        ..RemoteConfig::default()
    };
    let remote = Remote::with_keys(&config, |_| None).unwrap();
    assert!(remote.probe().unwrap().contains("has smollm2"));
    let bill = Arc::new(Bill::new(Budget::default(), Spent::default()));
    remote.pay_with(Arc::clone(&bill));
    let chat = Chat { user: text.to_owned(), ..Chat::default() };
    let replies = Mutex::new(Vec::new());
    let asked = [Prompted { chat, ..Prompted::default() }];
    let keep = |_: usize, reply| {
        replies.lock().unwrap().push(reply);
        Ok(())
    };
    remote.write(&asked, &keep).unwrap();
    let spent = bill.spent();
    assert_eq!(
        (json!(spent.prompt_tokens), json!(spent.completion_tokens)),
        (counted["prompt_tokens"].clone(), counted["completion_tokens"].clone())
    );
    assert!(replies.lock().unwrap()[0].is_ok());
}

/// Killed when two answers were given, the run is finished by the same command, and pays again for nothing
/// but the one request that was in flight.
fn a_kill_costs_what_was_in_flight(llama: &Llama) {
    let before = llama.chats(200);
    let mut child = llama.refine("run", "6", &[]).spawn().unwrap();
    let begun = Instant::now();
    while llama.chats(200) < before + 2 {
        assert!(begun.elapsed() < PATIENCE, "{}", llama.said());
        thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success(), "the kill came too late: the test shows nothing");
    succeeded(&llama.refine("run", "6", &[]).output().unwrap());
    let samples = llama.samples("run");
    assert_eq!(samples.len(), 6);
    assert!(by_the_model(&samples) > 0, "{samples:#?}");

    let (asked, spent) = (llama.chats(200) - before, llama.bill("run").spent);
    assert!(asked as u64 - spent.requests <= 1, "{asked} answers, of which {spent:?} are kept");
    let written = samples.iter().filter_map(|sample| sample.generated.as_ref()?.tokens);
    let written: u64 = written.map(u64::from).sum();
    assert!(written > 0 && spent.completion_tokens >= written, "{spent:?}, {written}");
    assert!(spent.prompt_tokens > 100 * spent.requests, "{spent:?}");
}

fn another_run_sends_nothing(llama: &Llama) {
    let before = llama.chats(200);
    succeeded(&llama.refine("again", "6", &[]).output().unwrap());
    assert_eq!(llama.chats(200), before);
    let texts = |run: &str| -> Vec<_> {
        llama.samples(run).into_iter().map(|sample| sample.generated).collect()
    };
    assert_eq!(texts("again"), texts("run"));
}

/// This server refuses schemas, with a 500 that names the field: once is enough to know it.
fn a_schema_is_obeyed_or_left_out(llama: &Llama) {
    let before = llama.chats(200);
    let structured = ["--set", "describe.structured=true"];
    succeeded(&llama.refine("structured", "2", &structured).output().unwrap());
    assert_eq!(llama.samples("structured").len(), 2);
    assert!(llama.chats(200) >= before + 2, "{}", llama.said());
    assert!(llama.chats(500) <= 1, "{}", llama.said());
    assert_eq!(llama.bill("structured").endpoints[0].failed, 0);
}

#[test]
fn a_real_server_is_understood_and_paid_once() {
    let Some(llama) = Llama::start() else { return };
    tokens_are_those_of_the_server(&llama);
    a_kill_costs_what_was_in_flight(&llama);
    another_run_sends_nothing(&llama);
    a_schema_is_obeyed_or_left_out(&llama);
}
