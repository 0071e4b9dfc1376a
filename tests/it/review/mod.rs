//! The review of a run with the real binary: the page's API over loopback, who is refused, verdicts that
//! outlive a kill, several reviewers, and the numbers on the terminal.

mod browser;

use std::fs;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::LazyLock;

use recaption::review::verdicts;
use reqwest::Client;
use reqwest::StatusCode;
use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;

use crate::refine::succeeded;

/// Captions that a page must not run, one for each picture in turns.
const HOSTILE: [&str; 4] = [
    "Frog <script>window.pwned = 1</script>",
    "Dog <img src=x onerror=\"window.pwned = 2\">",
    "</p><svg onload=window.pwned=3><iframe src=javascript:alert(4)>",
    "Fish \"><b onmouseover='window.pwned = 5'>bold</b> &amp; &lt;i&gt;",
];

/// A run over pictures of the demo with hostile captions, made once.
static RUN: LazyLock<TempDir> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let (data, run) = (dir.path().join("data"), dir.path().join("run"));
    fs::create_dir_all(&data).unwrap();
    let mut pictures: Vec<PathBuf> = fs::read_dir(examples.join("demo/images"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    pictures.sort();
    let mut lines = String::new();
    for (number, picture) in pictures.iter().take(16).enumerate() {
        let name = picture.file_name().unwrap().to_string_lossy().into_owned();
        fs::copy(picture, data.join(&name)).unwrap();
        let text = HOSTILE[number % HOSTILE.len()];
        lines += &json!({ "file_name": name, "text": text }).to_string();
        lines.push('\n');
    }
    fs::write(data.join("metadata.jsonl"), lines).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_recaption"));
    command.args(["refine", "--rows-per-shard", "7"]).arg(&data).arg("-o").arg(&run);
    for model in ["tagger", "detector", "captioner"] {
        command.arg(format!("--{model}")).arg(examples.join("models").join(model));
    }
    succeeded(&command.output().unwrap());
    dir
});

/// A copy of the run, with a log of its own.
pub(crate) fn run() -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(RUN.path().join("run")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    copy
}

/// A server that ends with its value.
struct Served {
    child: Child,
    /// With the secret and a slash at the end.
    url: String,
    client: Client,
}

impl Served {
    fn start(run: &Path, more: &[&str]) -> Served {
        let mut command = Command::new(env!("CARGO_BIN_EXE_recaption"));
        command.arg("review").arg(run).args(more);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut url).unwrap();
        if url.is_empty() {
            let mut said = String::new();
            child.stderr.as_mut().unwrap().read_to_string(&mut said).unwrap();
            panic!("no address: {said}");
        }
        let client = Client::builder().no_proxy().build().unwrap();
        Served { child, url: url.trim().to_owned(), client }
    }

    async fn get(&self, path: &str) -> Value {
        let answer = self.client.get(self.url.clone() + path).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        answer.json().await.unwrap()
    }

    async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        let answer = self.client.post(self.url.clone() + path).json(&body).send().await.unwrap();
        (answer.status(), answer.json().await.unwrap())
    }

    async fn judge(&self, position: usize, verdict: &str) -> Value {
        let body = json!({ "position": position, "verdict": verdict });
        let (status, changed) = self.post("api/verdicts", body).await;
        assert_eq!(status, StatusCode::OK, "{changed}");
        changed
    }

    /// Ends it by a signal, and what it said then.
    fn interrupt(mut self) -> String {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
        assert!(self.child.wait().unwrap().success());
        let mut said = String::new();
        self.child.stderr.as_mut().unwrap().read_to_string(&mut said).unwrap();
        said
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn log(run: &Path) -> Vec<verdicts::Line> {
    verdicts::read(&run.join(verdicts::LOG)).unwrap()
}

fn stats(run: &Path, more: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_recaption"));
    command.arg("review").arg(run).arg("--stats").args(more);
    succeeded(&command.output().unwrap())
}

#[tokio::test]
async fn rows_have_their_texts_their_colours_and_their_picture() {
    let run = run();
    let served = Served::start(run.path(), &["--reviewer", "ann"]);
    let state = served.get("api/state").await;
    assert_eq!((&state["reviewer"], &state["next"]), (&json!("ann"), &json!(0)));
    let count = state["verdicts"].as_array().unwrap().len();
    assert_eq!(count, 16);
    let (mut marked, mut boxes) = (0, 0);
    for position in 0..count {
        let row = served.get(&format!("api/rows/{position}")).await;
        let pieces = row["pieces"].as_array().unwrap();
        let joined: String = pieces.iter().map(|piece| piece["text"].as_str().unwrap()).collect();
        assert_eq!(joined, row["text_generated"].as_str().unwrap());
        assert!(HOSTILE.contains(&row["text_raw"].as_str().unwrap()), "{row}");
        marked += pieces.iter().filter(|piece| piece["origin"].is_string()).count();
        boxes += row["tags"].as_array().unwrap().iter().filter(|tag| tag["box"].is_array()).count();
        let url = format!("{}picture/{position}", served.url);
        let picture = served.client.get(url).send().await.unwrap();
        assert_eq!(picture.headers()["x-content-type-options"], "nosniff");
        let kind = picture.headers()["content-type"].to_str().unwrap().to_owned();
        let bytes = picture.bytes().await.unwrap();
        let format = image::guess_format(&bytes).unwrap();
        assert_eq!(kind, format.to_mime_type());
    }
    assert!(marked > 16 && boxes > 0, "{marked} words, {boxes} boxes");
    let (status, _) = served.post("api/verdicts", json!({ "position": 99, "verdict": "ok" })).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn only_the_page_itself_is_answered() {
    let run = run();
    let served = Served::start(run.path(), &["--reviewer", "ann"]);
    let (client, url) = (&served.client, &served.url);
    let root = url.split('/').take(3).collect::<Vec<_>>().join("/");
    let get = |url: String, name: &'static str, value: String| async move {
        client.get(url).header(name, value).send().await.unwrap().status()
    };
    let state = format!("{url}api/state");
    assert_eq!(get(state.clone(), "host", "evil.example".into()).await, StatusCode::FORBIDDEN);
    let port = root.rsplit(':').next().unwrap();
    let rebound = format!("127.0.0.1.evil.example:{port}");
    assert_eq!(get(state.clone(), "host", rebound).await, StatusCode::FORBIDDEN);
    assert_eq!(get(state.clone(), "host", format!("localhost:{port}")).await, StatusCode::OK);
    for path in ["/", "/api/state", "/0/api/state", "/favicon.ico"] {
        assert_eq!(get(root.clone() + path, "accept", "*/*".into()).await, StatusCode::FORBIDDEN);
    }
    let judge = |origin: &'static str| async move {
        let body = json!({ "position": 0, "verdict": "ok" });
        let post = client.post(format!("{url}api/verdicts")).json(&body);
        post.header("origin", origin).send().await.unwrap().status()
    };
    for origin in ["http://evil.example", "null", "https://127.0.0.1"] {
        assert_eq!(judge(origin).await, StatusCode::FORBIDDEN, "{origin}");
    }
    // Forms of other pages cannot send JSON.
    let form = client.post(format!("{url}api/verdicts")).header("content-type", "text/plain");
    let status = form.body(r#"{"position":0,"verdict":"ok"}"#).send().await.unwrap().status();
    assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let long = json!({ "position": 0, "verdict": "ok", "text": "a".repeat(100_000) });
    let status = client.post(format!("{url}api/verdicts")).json(&long).send().await.unwrap();
    assert_eq!(status.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert!(log(run.path()).is_empty());

    let page = client.get(url).send().await.unwrap();
    let policy = page.headers()["content-security-policy"].to_str().unwrap();
    for word in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"] {
        assert!(policy.contains(word), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(page.headers()["referrer-policy"], "no-referrer");
    assert_eq!(page.headers()["cache-control"], "no-store");
}

#[tokio::test]
async fn an_acknowledged_verdict_outlives_a_kill_and_undo_goes_on_after_it() {
    let run = run();
    let served = Served::start(run.path(), &["--reviewer", "ann"]);
    for (position, verdict) in ["ok", "minor", "hallucinated"].into_iter().enumerate() {
        served.judge(position, verdict).await;
    }
    let edit = json!({ "position": 3, "verdict": "minor", "text": "A frog." });
    served.post("api/verdicts", edit).await;
    served.kill();
    assert_eq!(log(run.path()).len(), 4);

    let served = Served::start(run.path(), &["--reviewer", "ann"]);
    let state = served.get("api/state").await;
    let verdicts = state["verdicts"].as_array().unwrap();
    assert_eq!(
        verdicts[..5],
        json!(["ok", "minor", "hallucinated", "minor", null]).as_array().unwrap()[..]
    );
    assert_eq!(state["next"], 4);
    assert_eq!(served.get("api/rows/3").await["edited"], "A frog.");
    for position in [3, 2] {
        let (_, changed) = served.post("api/undo", json!({})).await;
        assert_eq!((&changed["position"], &changed["verdict"]), (&json!(position), &Value::Null));
    }
    assert_eq!(served.judge(1, "unusable").await["statistics"]["rows"], 2);
    let (_, changed) = served.post("api/undo", json!({})).await;
    assert_eq!((&changed["position"], &changed["verdict"]), (&json!(1), &json!("minor")));
    let said = served.interrupt();
    for words in ["all verdicts are on the disk", "not ok", "1 of 2"] {
        assert!(said.contains(words), "{words:?} is not in {said}");
    }
}

#[tokio::test]
async fn two_reviewers_judge_at_once_and_their_agreement_is_told() {
    let run = run();
    let ann = Served::start(run.path(), &["--reviewer", "ann"]);
    let ben = Served::start(run.path(), &["--reviewer", "ben", "--seed", "0"]);
    for (position, (a, b)) in
        [("ok", "ok"), ("minor", "minor"), ("ok", "hallucinated"), ("minor", "minor")]
            .into_iter()
            .enumerate()
    {
        tokio::join!(ann.judge(position, a), ben.judge(position, b));
    }
    let agreement = ann.get("api/statistics").await["agreement"].clone();
    assert_eq!((&agreement["rows"], &agreement["same"]), (&json!(4), &json!(0.75)));
    // Observed 3/4; by chance 2/4 * 1/4 + 2/4 * 2/4 = 3/8.
    assert!((agreement["kappa"].as_f64().unwrap() - 0.6).abs() < 1e-9, "{agreement}");
    assert_eq!(ben.get("api/state").await["verdicts"][2], "hallucinated");
    assert_eq!(ann.get("api/state").await["verdicts"][2], "ok");

    let said: Value = serde_json::from_str(&stats(run.path(), &["--json"])).unwrap();
    assert_eq!((&said["rows"], &said["verdicts"]), (&json!(4), &json!(8)));
    assert_eq!(said["wrong"]["share"], 0.75);
    let table = stats(run.path(), &[]);
    for words in ["hallucinated", "a word from nowhere", "Cohen's kappa 0.60", "ann 4, ben 4"] {
        assert!(table.contains(words), "{words:?} is not in {table}");
    }
}

#[tokio::test]
async fn rows_are_chosen_by_a_filter_and_by_risk() {
    let run = run();
    let of = async |more: &[&str]| {
        let served = Served::start(run.path(), more);
        let count = served.get("api/state").await["verdicts"].as_array().unwrap().len();
        let mut rows = Vec::new();
        for position in 0..count {
            let row = served.get(&format!("api/rows/{position}")).await;
            rows.push((row["score"].as_f64().unwrap(), row["key"].to_string()));
        }
        rows
    };
    let all = of(&["--by", "risk"]).await;
    assert!(all.is_sorted_by(|a, b| a.0 <= b.0), "{all:?}");
    let most = all.iter().map(|row| row.0).fold(0.0, f64::max);
    let filter = format!("audit.score < {most}");
    let some = of(&["--by", "risk", "--where", &filter]).await;
    let wanted: Vec<_> = all.iter().filter(|row| row.0 < most).cloned().collect();
    assert!(!some.is_empty() && some == wanted, "{some:?}");
    assert_eq!(
        of(&["--rows", "5", "--seed", "3"]).await,
        of(&["--rows", "5", "--seed", "3"]).await
    );
    assert_eq!(of(&["--rows", "5"]).await.len(), 5);

    let mut command = Command::new(env!("CARGO_BIN_EXE_recaption"));
    command.arg("review").arg(run.path()).args(["--where", "no_such > 1"]);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("there is no column no_such"), "{said}");
}

#[test]
fn a_verdict_on_a_text_that_changed_does_not_count() {
    let run = run();
    let markers = recaption::shard::all_finished(run.path()).unwrap();
    let mut rows =
        recaption::shard::refined(run.path(), &markers[0], recaption::shard::Images::Skip).unwrap();
    let row = rows.next().unwrap().unwrap();
    let text = row.generated.unwrap().text;
    let line = |text: &str, reviewer: &str| verdicts::Line {
        key: row.item.key.clone(),
        shard: markers[0].shard,
        verdict: Some(verdicts::Verdict::Ok),
        text: None,
        text_sha256: recaption::atomic_file::sha256(text.as_bytes()),
        reviewer: reviewer.to_owned(),
        at: 1,
    };
    let mut log = verdicts::Log::open(run.path()).unwrap();
    log.append(&[line("what it was before", "ann")]).unwrap();
    assert_eq!(stats(run.path(), &[]), "no row has a verdict yet\n");
    log.append(&[line(&text, "ben")]).unwrap();
    let said: Value = serde_json::from_str(&stats(run.path(), &["--json"])).unwrap();
    assert_eq!((&said["rows"], &said["reviewers"]), (&json!(1), &json!({ "ben": 1 })));
}
