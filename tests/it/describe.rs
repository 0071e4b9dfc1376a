//! The describe stage against a scripted endpoint on loopback: faults, limits, lies and orders.
//!
//! Nothing here leaves the machine. The server counts what it was asked, because the promise under
//! test is about what is paid for.

use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::TcpListener;
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use recaption::chat::Budget;
use recaption::chat::Purchases;
use recaption::chat::Remote;
use recaption::chat::RemoteConfig;
use recaption::chat::Writer;
use recaption::chat::store::Store;
use recaption::describe::Answer;
use recaption::describe::Config;
use recaption::describe::Describer;
use recaption::describe::Limits;
use recaption::describe::Request;
use recaption::retry::Policy;
use recaption::sample::Tag;
use secrecy::SecretString;
use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;

const KEY: &str = "sk-canary-5f1d7e0a";

/// What the server does with one request.
pub(crate) enum Act {
    /// A full response.
    Answer { status: u16, headers: &'static str, body: String },
    /// A header and half of the body, then the end of the connection.
    BreakOff,
    /// Silence for longer than any patience here.
    Hang,
}

/// A server that acts as `script` says, for the number and the body of each request.
pub(crate) struct Server {
    pub(crate) base_url: String,
    pub(crate) asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub(crate) fn start(script: impl Fn(usize, &str) -> Act + Send + Sync + 'static) -> Server {
        let number = AtomicUsize::new(0);
        Server::start_with_paths(move |path, body| match path.ends_with("/chat/completions") {
            true => script(number.fetch_add(1, Ordering::SeqCst), body),
            false if path.ends_with("/models") => script(usize::MAX, body),
            false => status(404, "", "no such page"),
        })
    }

    /// The same with what was asked for; only completions are counted.
    pub(crate) fn start_with_paths(
        script: impl Fn(&str, &str) -> Act + Send + Sync + 'static,
    ) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (log, script) = (Arc::clone(&asked), Arc::new(script));
        // Ends with the test process; a listener cannot be woken without another dependency.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, script) = (Arc::clone(&log), Arc::clone(&script));
                std::thread::spawn(move || serve(stream, &log, &*script));
            }
        });
        Server { base_url, asked }
    }

    /// A server that says the same to everybody.
    fn saying(text: &'static str) -> Server {
        Server::start(move |_, _| completion(text))
    }

    pub(crate) fn count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    fn config(&self) -> Config {
        let remote = RemoteConfig {
            base_url: self.base_url.clone(),
            model: "mock".to_owned(),
            timeout_s: 1,
            retry: Policy { attempts: 3, base_ms: 1, cap_ms: 5, asked_cap_ms: 2_000 },
            ..RemoteConfig::default()
        };
        Config { remote, ..Config::default() }
    }

    fn describer(&self, folder: &Path) -> Describer {
        describer(&self.config(), folder)
    }
}

fn serve(stream: TcpStream, log: &Mutex<Vec<String>>, script: &dyn Fn(&str, &str) -> Act) {
    let Some((path, body)) = read_request(&stream) else { return };
    if path.ends_with("/chat/completions") {
        log.lock().unwrap().push(body.clone());
    }
    // Any write may fail because the client has given up: that is the client's test.
    let mut stream = stream;
    let _ = match script(&path, &body) {
        Act::Answer { status, headers, body } => write!(
            stream,
            "HTTP/1.1 {status} Scripted\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        ),
        Act::BreakOff => {
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{{\"choices\": [{{\"mess")
        }
        Act::Hang => {
            std::thread::sleep(Duration::from_secs(5));
            Ok(())
        }
    };
}

fn read_request(stream: &TcpStream) -> Option<(String, String)> {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first).ok()?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let line = line.trim().to_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((first.split(' ').nth(1)?.to_owned(), String::from_utf8(body).ok()?))
}

pub(crate) fn completion(text: &str) -> Act {
    let body = json!({
        "model": "mock-1",
        "choices": [{ "message": { "role": "assistant", "content": text }, "finish_reason": "stop" }],
        "usage": { "prompt_tokens": 100, "completion_tokens": 7 },
    });
    Act::Answer { status: 200, headers: "", body: body.to_string() }
}

pub(crate) fn status(status: u16, headers: &'static str, message: &str) -> Act {
    let body = json!({ "error": { "message": message } }).to_string();
    Act::Answer { status, headers, body }
}

fn describer(config: &Config, folder: &Path) -> Describer {
    let remote = Remote::with_keys(&config.remote, key).unwrap();
    let requests = folder.join("requests.sqlite");
    let purchases = Purchases::open(&requests, "run", Budget::default()).unwrap();
    Describer::with_writer(config, Box::new(remote), Arc::new(purchases)).unwrap()
}

fn key(_variable: &str) -> Option<SecretString> {
    Some(SecretString::from(KEY))
}

fn dog() -> [Tag; 1] {
    [Tag { label: "dog".to_owned(), score: 0.9, bbox: None, model: Arc::from("m") }]
}

fn row<'a>(raw: &'a str, tags: &'a [Tag]) -> Request<'a> {
    Request { key: "k", raw: Some(raw), synthetic: Some("a dog on a green sofa"), tags }
}

fn ask(describer: &Describer, raw: &str) -> Answer {
    describer.describe(&[row(raw, &dog())]).unwrap().remove(0)
}

fn text(answer: &Answer) -> &str {
    answer.generated.as_ref().map_or("", |generated| &generated.text)
}

fn writer(answer: &Answer) -> &str {
    answer.generated.as_ref().map_or("", |generated| &generated.writer)
}

pub(crate) fn last_message(body: &str) -> String {
    let body: Value = serde_json::from_str(body).unwrap();
    let messages = body["messages"].as_array().unwrap();
    messages.last().unwrap()["content"].as_str().unwrap().to_owned()
}

#[test]
fn a_good_reply_is_taken_with_its_provenance() {
    let dir = TempDir::new().unwrap();
    let server = Server::saying("Caption: \"A dog on a green sofa.\"");
    let describer = server.describer(dir.path());
    let answer = ask(&describer, "Rex");
    let generated = answer.generated.unwrap();
    assert_eq!(answer.refused, None);
    assert_eq!(generated.text, "A dog on a green sofa.");
    assert_eq!((&*generated.writer, &*generated.model), ("remote", "mock-1"));
    assert_eq!((generated.finish_reason.as_str(), generated.tokens), ("stop", Some(7)));
    let provenance = describer.provenance();
    assert_eq!(provenance["prompt"].as_str(), Some(&*generated.prompt));
    assert_eq!(provenance["prompt_files"].as_array().unwrap().len(), 4);

    let body: Value = serde_json::from_str(&server.asked.lock().unwrap()[0]).unwrap();
    assert_eq!(body["messages"][0]["role"], "system");
    assert_eq!((&body["max_tokens"], &body["temperature"]), (&json!(96), &json!(0.0)));
}

#[test]
fn faults_of_the_moment_are_tried_again() {
    type Fault = fn() -> Act;
    let faults: [(&str, Fault); 7] = [
        ("500", || status(500, "", "oops")),
        ("503", || status(503, "retry-after: 0\r\n", "loading")),
        ("429 seconds", || status(429, "retry-after: 0\r\n", "slow down")),
        ("429 nonsense", || status(429, "retry-after: -7\r\n", "slow down")),
        ("not JSON", || Act::Answer { status: 200, headers: "", body: "<html>".to_owned() }),
        ("broken off", || Act::BreakOff),
        ("hang", || Act::Hang),
    ];
    for (name, fault) in faults {
        let dir = TempDir::new().unwrap();
        let server = Server::start(move |number, _| match number {
            0 => fault(),
            _ => completion("A dog on a green sofa."),
        });
        let answer = ask(&server.describer(dir.path()), "Rex");
        assert_eq!(
            (text(&answer), writer(&answer)),
            ("A dog on a green sofa.", "remote"),
            "{name}"
        );
        assert_eq!(server.count(), 2, "{name}");
    }
}

#[test]
fn a_pause_that_was_asked_for_is_kept_by_everybody() {
    let dir = TempDir::new().unwrap();
    let server = Server::start(|number, _| match number {
        0 => status(429, "retry-after: 1\r\n", "slow down"),
        _ => completion("A dog on a green sofa."),
    });
    let mut config = server.config();
    (config.remote.concurrency, config.remote.max_concurrency) = (1, 1);
    let describer = describer(&config, dir.path());
    let start = Instant::now();
    let tags = dog();
    let answers = describer.describe(&[row("one", &tags), row("two", &tags)]).unwrap();
    assert!(answers.iter().all(|answer| writer(answer) == "remote"));
    assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
}

#[test]
fn a_fault_that_stays_falls_back_with_its_reason() {
    type Fault = fn() -> Act;
    let faults: [(&str, Fault, usize); 4] = [
        ("500: oops", || status(500, "", "oops"), 3),
        ("no answer within 1 s", || Act::Hang, 3),
        (
            "not a chat completion",
            || Act::Answer { status: 200, headers: "", body: "no".into() },
            3,
        ),
        ("400: maximum context length", || status(400, "", "maximum context length"), 1),
    ];
    for (reason, fault, requests) in faults {
        let dir = TempDir::new().unwrap();
        let server = Server::start(move |_, _| fault());
        let answer = ask(&server.describer(dir.path()), "Rex");
        assert_eq!(writer(&answer), "rules", "{reason}");
        assert!(answer.refused.as_deref().unwrap().contains(reason), "{answer:?}");
        assert_eq!(server.count(), requests, "{reason}");
    }
}

#[test]
fn one_row_that_is_too_long_leaves_the_others_alone() {
    let dir = TempDir::new().unwrap();
    let server = Server::start(|_, body| match last_message(body).contains("too long") {
        true => status(400, "", "context length exceeded"),
        false => completion("A dog on a green sofa."),
    });
    let describer = server.describer(dir.path());
    let tags = dog();
    let rows = [row("Rex", &tags), row("too long", &tags), row("Bello", &tags)];
    let answers = describer.describe(&rows).unwrap();
    let writers: Vec<&str> = answers.iter().map(writer).collect();
    assert_eq!(writers, ["remote", "rules", "remote"]);
}

#[test]
fn a_refused_reply_is_asked_again_once_with_a_reminder() {
    let dir = TempDir::new().unwrap();
    let server = Server::start(|number, _| match number {
        0 => completion("I'm sorry, but I cannot help with that."),
        _ => completion("A dog on a green sofa."),
    });
    let answer = ask(&server.describer(dir.path()), "Rex");
    assert_eq!((text(&answer), answer.refused.clone()), ("A dog on a green sofa.", None));
    let asked = server.asked.lock().unwrap();
    let (first, second) = (last_message(&asked[0]), last_message(&asked[1]));
    assert!(second.starts_with(&first) && second.len() > first.len(), "{second}");
}

#[test]
fn a_reply_refused_twice_falls_back_and_both_are_kept() {
    for (body, reason) in [
        (json!({ "choices": [] }), "empty reply, twice"),
        (
            json!({ "choices": [{ "message": { "content": "The image shows a dog." } }] }),
            "reply talks about the picture or its notes, twice",
        ),
    ] {
        let dir = TempDir::new().unwrap();
        let body = body.to_string();
        let server =
            Server::start(move |_, _| Act::Answer { status: 200, headers: "", body: body.clone() });
        let answer = ask(&server.describer(dir.path()), "Rex");
        assert_eq!((writer(&answer), answer.refused.as_deref()), ("rules", Some(reason)));
        assert_eq!(server.count(), 2);

        let mut config = server.config();
        config.fallback_to_rules = false;
        let answer = ask(&describer(&config, dir.path()), "Rex");
        assert_eq!((answer.generated, answer.refused.as_deref()), (None, Some(reason)));
        assert_eq!(server.count(), 2, "refused replies are not bought again either");
        let count = Store::open(&dir.path().join("requests.sqlite")).unwrap().count().unwrap();
        assert_eq!((count.accepted, count.refused), (0, 2));
    }
}

#[test]
fn a_wrong_key_or_model_ends_the_run_with_what_to_do() {
    for (code, says) in [(401, "OPENAI_API_KEY"), (403, "OPENAI_API_KEY"), (404, "`model`")] {
        let dir = TempDir::new().unwrap();
        let server = Server::start(move |_, _| status(code, "", "no"));
        let error = server.describer(dir.path()).describe(&[row("Rex", &dog())]).unwrap_err();
        let message = format!("{error:#}");
        assert!(message.contains(says), "{code}: {message}");
        assert_eq!(server.count(), 1);
    }
}

#[test]
fn a_dead_endpoint_ends_the_run_instead_of_falling_back_for_ever() {
    let dir = TempDir::new().unwrap();
    let server = Server::start(|_, _| status(500, "", "out of memory"));
    let mut config = server.config();
    config.remote.give_up_after = 5;
    config.remote.retry.attempts = 1;
    let describer = describer(&config, dir.path());
    let raws: Vec<String> = (0..50).map(|i| format!("dog {i}")).collect();
    let tags = dog();
    let rows: Vec<Request<'_>> = raws.iter().map(|raw| row(raw, &tags)).collect();
    let message = format!("{:#}", describer.describe(&rows).unwrap_err());
    assert!(message.contains("5 rows in a row") && message.contains("out of memory"), "{message}");
    assert!(server.count() < 50, "{}", server.count());
}

#[test]
fn what_was_paid_for_is_never_paid_again() {
    let dir = TempDir::new().unwrap();
    // The key expires after the fourth answer: the run stops in the middle of its batch.
    let first = Server::start(|number, _| match number {
        0..4 => completion("A dog on a green sofa."),
        _ => status(401, "", "expired"),
    });
    let raws: Vec<String> = (0..10).map(|i| format!("dog {i}")).collect();
    let tags = dog();
    let rows: Vec<Request<'_>> = raws.iter().map(|raw| row(raw, &tags)).collect();
    let mut config = first.config();
    (config.remote.concurrency, config.remote.max_concurrency) = (1, 1);
    describer(&config, dir.path()).describe(&rows).unwrap_err();
    let stored = Store::open(&dir.path().join("requests.sqlite")).unwrap().count().unwrap();
    assert_eq!(stored.accepted, 4);

    // Another port is the same model: only what is missing is asked.
    let second = Server::saying("A dog on a green sofa.");
    let answers = second.describer(dir.path()).describe(&rows).unwrap();
    assert!(answers.iter().all(|answer| writer(answer) == "remote"));
    assert_eq!(second.count(), 6);

    let third = Server::start(|_, _| status(500, "", "nobody should ask"));
    let again = third.describer(dir.path()).describe(&rows).unwrap();
    assert_eq!((again, third.count()), (answers, 0));
}

#[test]
fn changed_checks_judge_stored_replies_again_without_buying() {
    let dir = TempDir::new().unwrap();
    let server = Server::saying("A dog on a green sofa.");
    assert_eq!(writer(&ask(&server.describer(dir.path()), "Rex")), "remote");
    let mut config = server.config();
    config.checks.max_words = 3;
    let answer = ask(&describer(&config, dir.path()), "Rex");
    assert_eq!(answer.refused.as_deref(), Some("reply is too long, twice"));
    // Only the reminder was new.
    assert_eq!(server.count(), 2);
}

#[test]
fn the_same_question_is_asked_once_by_all_threads_together() {
    let dir = TempDir::new().unwrap();
    let server = Server::start(|_, _| {
        std::thread::sleep(Duration::from_millis(50));
        completion("A dog on a green sofa.")
    });
    let describer = server.describer(dir.path());
    let tags = dog();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let rows = [row("Rex", &tags), row("Bello", &tags), row("Rex", &tags)];
                let answers = describer.describe(&rows).unwrap();
                assert!(answers.iter().all(|answer| text(answer) == "A dog on a green sofa."));
            });
        }
    });
    assert_eq!(server.count(), 2);
}

#[test]
fn a_batch_equals_its_singles_and_keeps_its_order() {
    let echo = |_: usize, body: &str| {
        let message = last_message(body);
        let raw = message.lines().find_map(|line| line.strip_prefix("raw: ")).unwrap_or_default();
        std::thread::sleep(Duration::from_millis(raw.len() as u64 * 7 % 30));
        completion(&format!("A dog named {raw} on a sofa."))
    };
    let names = ["Rex", "Bello", "Waldi", "Lassie", "Hasso", "Struppi", "Balu", "Nemo", "Idefix"];
    let tags = dog();
    let rows: Vec<Request<'_>> = names.iter().map(|name| row(name, &tags)).collect();
    let (one, many) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let server = Server::start(echo);
    let batch = server.describer(many.path()).describe(&rows).unwrap();
    let singles = server.describer(one.path());
    for (answer, name) in batch.iter().zip(names) {
        assert_eq!(text(answer), format!("A dog named {name} on a sofa."));
        assert_eq!(*answer, ask(&singles, name));
    }
}

/// What is logged, of every crate, at its most talkative.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn the_key_is_nowhere() {
    let dir = TempDir::new().unwrap();
    let mut seen = String::new();
    let log = Log::default();
    let to = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || to.clone())
        .finish();
    // The threads of the client too: the default of a thread would miss what they say.
    let _ = tracing::subscriber::set_global_default(subscriber);
    let leak = format!("A dog with the key {KEY} on a green sofa.");
    let server = Server::start(move |number, _| match number {
        0 => status(500, "", &format!("bad key {KEY}")),
        1 => completion(&leak),
        2 => status(400, "", &format!("bad key {KEY}")),
        _ => status(401, "", &format!("Incorrect API key provided: {KEY}")),
    });
    let describer = server.describer(dir.path());
    seen += &format!("{:?}", ask(&describer, "Rex"));
    assert!(seen.contains("[key]"), "the reply itself must have been used: {seen}");
    seen += &format!("{:?}", ask(&describer, "Bello"));
    let error = describer.describe(&[row("Waldi", &dog())]).unwrap_err();
    seen += &format!("{error:#} {error:?} {}", describer.provenance());
    let remote = Remote::with_keys(&server.config().remote, key).unwrap();
    seen += &format!("{remote:?} {}", remote.identity());
    seen += &serde_json::to_string(&server.config()).unwrap();
    let logged = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
    assert!(logged.contains("TRACE"), "nothing was logged: {logged}");
    seen += &logged;
    assert!(!seen.contains(KEY), "{seen}");
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let found = bytes.windows(KEY.len()).any(|window| window == KEY.as_bytes());
        assert!(!found, "{}", path.display());
    }
}

/// The mark of a row in what it was asked with.
fn row_mark(body: &str) -> String {
    let message = last_message(body);
    message.split_once("\"row\": \"").unwrap().1.chars().take(6).collect()
}

fn structured(row: &str, caption: &str) -> Act {
    completion(&json!({ "row": row, "caption": caption }).to_string())
}

#[test]
fn structured_answers_are_held_to_their_row() {
    let dir = TempDir::new().unwrap();
    // Answers each question with the answer to the one before.
    let before = Mutex::new("000000".to_owned());
    let server = Server::start(move |_, body| {
        let mut before = before.lock().unwrap();
        structured(&std::mem::replace(&mut *before, row_mark(body)), "A dog on a green sofa.")
    });
    let mut config = server.config();
    config.structured = true;
    (config.remote.concurrency, config.remote.max_concurrency) = (1, 1);
    let tags = dog();
    let describer = describer(&config, dir.path());
    let answers = describer.describe(&[row("Rex", &tags), row("Bello", &tags)]).unwrap();
    for answer in &answers {
        assert_eq!(writer(answer), "rules");
        assert!(answer.refused.as_deref().unwrap().starts_with("reply answers another row"));
    }
    let body: Value = serde_json::from_str(&server.asked.lock().unwrap()[0]).unwrap();
    let schema = &body["response_format"]["json_schema"]["schema"];
    assert_eq!(schema["required"], json!(["row", "caption"]));
}

#[test]
fn a_server_that_knows_no_schema_is_asked_in_words() {
    // The second is what llama_cpp.server says.
    for (code, says) in [
        (400, "Unrecognized request argument supplied: response_format"),
        (500, "1 validation error: {'type': 'literal_error', 'loc': ('body', 'response_format')}"),
    ] {
        let dir = TempDir::new().unwrap();
        let server = Server::start(move |_, body| match body.contains("response_format") {
            true => status(code, "", says),
            false => structured(&row_mark(body), "A dog on a green sofa."),
        });
        let mut config = server.config();
        config.structured = true;
        (config.remote.concurrency, config.remote.max_concurrency) = (1, 1);
        let describer = describer(&config, dir.path());
        for name in ["Rex", "Bello", "Waldi"] {
            let answer = ask(&describer, name);
            assert_eq!((text(&answer), writer(&answer)), ("A dog on a green sofa.", "remote"));
        }
        assert_eq!(server.count(), 4, "{code}: the first refusal is enough");
    }
}

#[test]
fn the_probe_says_whether_the_model_is_there() {
    let models = |names: &[&str]| {
        let data: Vec<Value> = names.iter().map(|name| json!({ "id": name })).collect();
        Act::Answer { status: 200, headers: "", body: json!({ "data": data }).to_string() }
    };
    let dir = TempDir::new().unwrap();
    let server = Server::start(move |_, _| models(&["other", "mock"]));
    assert!(server.describer(dir.path()).probe().unwrap().contains("has mock"));
    let server = Server::start(move |_, _| models(&["other"]));
    assert!(format!("{:#}", server.describer(dir.path()).probe().unwrap_err()).contains("other"));
    let server = Server::start(|_, _| status(404, "", "no such page"));
    assert!(server.describer(dir.path()).probe().unwrap().contains("404"));
    let server = Server::start(|_, _| status(401, "", "no"));
    assert!(format!("{:#}", server.describer(dir.path()).probe().unwrap_err()).contains("key"));
    let mut config = server.config();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    config.remote.base_url = format!("http://{free}/v1");
    let error = describer(&config, dir.path()).probe().unwrap_err();
    assert!(format!("{error:#}").contains("does not answer"), "{error:#}");
}

/// Orders as they are found in alt texts, and what a model that obeys would say: `order => answer`, a line
/// each, with `\n` and `\u{..}` for what a line cannot hold.
fn orders() -> Vec<(String, String)> {
    let lines = include_str!("../data/injections.txt").lines();
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let orders: Vec<_> = lines.map(|line| line.split_once(" => ").expect(line)).collect();
    orders.into_iter().map(|(order, answer)| (unescaped(order), unescaped(answer))).collect()
}

fn unescaped(text: &str) -> String {
    let mut out = text.replace("\\n", "\n");
    while let Some((start, rest)) = out.clone().split_once("\\u{") {
        let (hex, rest) = rest.split_once('}').unwrap();
        let c = char::from_u32(u32::from_str_radix(hex, 16).unwrap()).unwrap();
        out = format!("{start}{c}{rest}");
    }
    out
}

#[test]
fn orders_in_alt_text_are_neither_followed_nor_copied() {
    let mut slipped = Vec::new();
    let orders = Arc::new(orders());
    assert!(orders.len() >= 100, "{}", orders.len());
    for hide in [true, false] {
        let dir = TempDir::new().unwrap();
        // Gullible: says for each row what its alt text orders, whatever the prompt is.
        let obeyed = Arc::clone(&orders);
        let server = Server::start(move |_, body| {
            let message = last_message(body);
            let row = message.lines().find_map(|line| line.strip_prefix("caption: a dog on sofa "));
            completion(&obeyed[row.unwrap().parse::<usize>().unwrap()].1)
        });
        let mut config = server.config();
        config.sources = Limits { hide_suspected_injection: hide, ..Limits::default() };
        let describer = describer(&config, dir.path());
        let captions: Vec<String> =
            (0..orders.len()).map(|i| format!("a dog on sofa {i}")).collect();
        let tags = dog();
        let rows: Vec<Request<'_>> = std::iter::zip(&*orders, &captions)
            .map(|((raw, _), caption)| Request {
                key: "k",
                raw: Some(raw),
                synthetic: Some(caption),
                tags: &tags,
            })
            .collect();
        let answers = describer.describe(&rows).unwrap();
        for ((raw, obeyed), answer) in orders.iter().zip(&answers) {
            let copied = |order: &str| {
                let words = order.split_whitespace().filter(|word| word.len() > 4);
                words.filter(|word| text(answer).contains(word)).count()
            };
            let refused = writer(answer) == "rules" && answer.refused.is_some();
            if !refused || copied(raw) + copied(obeyed) > 0 {
                slipped.push(format!("{raw:?} got {:?}, hidden {hide}", text(answer)));
            }
        }
        let asked = server.asked.lock().unwrap();
        let shown = asked.iter().filter(|body| last_message(body).contains("BANANA")).count();
        assert_eq!(shown > 0, !hide);
    }
    assert!(slipped.is_empty(), "{slipped:#?}");
}
