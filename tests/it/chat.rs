//! Many endpoints, their limits and their bill, against scripted servers on loopback; and the promise that
//! nothing is paid twice, with the real binary killed at fifty moments.

use std::collections::HashMap;
use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use base64::Engine;
use image::RgbImage;
use rand::Rng;
use rand::SeedableRng;
use rand::rngs::StdRng;
use recaption::chat::Appetite;
use recaption::chat::Bill;
use recaption::chat::Budget;
use recaption::chat::BudgetSpent;
use recaption::chat::Chat;
use recaption::chat::EndpointConfig;
use recaption::chat::Prompted;
use recaption::chat::Remote;
use recaption::chat::RemoteConfig;
use recaption::chat::Reply;
use recaption::chat::Spent;
use recaption::chat::Writer;
use recaption::retry::Policy;
use secrecy::SecretString;
use serde_json::json;

use crate::describe::Act;
use crate::describe::Server;
use crate::describe::completion;
use crate::describe::status;
use crate::refine::samples;
use crate::refine::succeeded;

fn config(servers: &[&Server]) -> RemoteConfig {
    let endpoint = |server: &&Server| EndpointConfig {
        base_url: server.base_url.clone(),
        weight: 1.0,
        ..EndpointConfig::default()
    };
    RemoteConfig {
        model: "mock".to_owned(),
        endpoints: servers.iter().map(endpoint).collect(),
        timeout_s: 5,
        retry: Policy { attempts: 4, base_ms: 1, cap_ms: 20, asked_cap_ms: 2_000 },
        ..RemoteConfig::default()
    }
}

fn open(config: &RemoteConfig) -> Remote {
    Remote::with_keys(config, |_| Some(SecretString::from("key"))).unwrap()
}

fn prompted(number: usize) -> Prompted {
    // 300 characters, which are estimated as the 100 tokens that the servers here count.
    let chat = Chat { user: format!("{number:<300}"), ..Chat::default() };
    Prompted { chat, ..Prompted::default() }
}

/// What was answered of so many rows, and why it ended if it did.
fn write(remote: &Remote, rows: usize) -> (Vec<Option<Reply>>, anyhow::Result<()>) {
    let batch: Vec<Prompted> = (0..rows).map(prompted).collect();
    let replies = Mutex::new(vec![None; rows]);
    let end = remote.write(&batch, &|index, reply| {
        replies.lock().unwrap()[index] = reply.ok();
        Ok(())
    });
    (replies.into_inner().unwrap(), end)
}

fn answered(remote: &Remote, rows: usize) -> usize {
    let (replies, end) = write(remote, rows);
    end.unwrap();
    replies.iter().flatten().count()
}

/// Takes a moment, so that others are in flight meanwhile.
fn slowly(text: &str) -> Act {
    thread::sleep(Duration::from_millis(10));
    completion(text)
}

#[test]
fn rows_go_where_they_are_answered() {
    type Fault = fn() -> Act;
    let faults: [(&str, Fault); 4] = [
        ("out of memory", || status(500, "", "out of memory")),
        ("wrong key", || status(401, "", "no such key")),
        ("unknown model", || status(404, "", "no such model")),
        ("broken", || Act::BreakOff),
    ];
    for (name, fault) in faults {
        let bad = Server::start(move |_, _| fault());
        let good = Server::start(|_, _| slowly("A dog."));
        let remote = open(&config(&[&bad, &good]));
        assert_eq!(answered(&remote, 100), 100, "{name}");
        assert_eq!(good.count(), 100, "{name}");
        // Its circuit opens, or it is asked no more: the ninety others do not try it.
        assert!(bad.count() < 40, "{name}: {}", bad.count());
        let usage = remote.usage();
        assert_eq!((usage[0].served, usage[1].served), (0, 100), "{name}");
        assert_eq!(usage[0].failed, bad.count() as u64, "{name}");
        assert_eq!(usage[0].out.is_some(), name.starts_with("wrong") || name.starts_with("unk"));
    }
}

#[test]
fn an_endpoint_that_asks_for_a_pause_gets_it_and_the_other_works() {
    let times = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&times);
    let limited = Server::start(move |number, _| {
        log.lock().unwrap().push(Instant::now());
        match number {
            0 => status(429, "retry-after: 1\r\n", "slow down"),
            _ => completion("A dog."),
        }
    });
    let free = Server::start(|_, _| slowly("A dog."));
    let mut config = config(&[&limited, &free]);
    config.concurrency = 1;
    config.max_concurrency = 1;
    assert_eq!(answered(&open(&config), 30), 30);
    assert!(free.count() >= 25, "{}", free.count());
    let times = times.lock().unwrap();
    assert!(
        times.windows(2).all(|pair| pair[1] - pair[0] >= Duration::from_secs(1))
            || times.len() == 1
    );
}

#[test]
fn requests_are_shared_by_weight() {
    let servers = [(); 2].map(|()| Server::start(|_, _| slowly("A dog.")));
    let mut config = config(&[&servers[0], &servers[1]]);
    config.endpoints[0].weight = 3.0;
    // More places than requests at once, so that weights decide and not who has room.
    (config.concurrency, config.max_concurrency) = (64, 64);
    let remote = open(&config);
    for _ in 0..10 {
        assert_eq!(answered(&remote, 16), 16);
    }
    let counts = servers.each_ref().map(Server::count);
    assert_eq!(counts, [120, 40]);
}

#[test]
fn a_server_gets_as_many_at_once_as_it_says_or_as_helps() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let props = json!({ "total_slots": 3 }).to_string();
    let (inside, peak) = (Arc::clone(&now), Arc::clone(&most));
    let server = Server::start_with_paths(move |path, _| {
        if path == "/props" {
            return Act::Answer { status: 200, headers: "", body: props.clone() };
        }
        if path.ends_with("/models") {
            let body = json!({ "data": [{ "id": "mock" }] }).to_string();
            return Act::Answer { status: 200, headers: "", body };
        }
        peak.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let act = slowly("A dog.");
        inside.fetch_sub(1, Ordering::SeqCst);
        act
    });
    let remote = open(&config(&[&server]));
    assert_eq!(remote.appetite(), Appetite { threads: 32, batch: 64 });
    assert!(remote.probe().unwrap().contains("has mock, 3 slots"));
    assert_eq!(remote.appetite(), Appetite { threads: 3, batch: 4 });
    assert_eq!(answered(&remote, 60), 60);
    assert_eq!(most.load(Ordering::SeqCst), 3);

    // One that does not say: what it can take is found out.
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (inside, peak) = (now, Arc::clone(&most));
    let server = Server::start(move |_, _| {
        peak.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        thread::sleep(Duration::from_millis(30));
        inside.fetch_sub(1, Ordering::SeqCst);
        completion("A dog.")
    });
    let remote = open(&config(&[&server]));
    assert_eq!(answered(&remote, 400), 400);
    assert_eq!(server.count(), 400);
    assert!(most.load(Ordering::SeqCst) >= 16, "{most:?}");
}

#[test]
fn a_budget_is_never_passed_and_what_was_paid_for_is_kept() {
    // A million tokens cost a million here; each answer takes 100 + 7 of them.
    let server = Server::start(|_, _| slowly("A dog."));
    let mut config = config(&[&server]);
    (config.prompt_price, config.completion_price) = (1e6, 1e6);
    config.max_tokens = 7;
    let remote = open(&config);
    let budget = Budget { cost: 1_100.0, tokens: 0 };
    let bill = Arc::new(Bill::new(budget, Spent { requests: 1, cost: 90.0, ..Spent::default() }));
    remote.pay_with(Arc::clone(&bill));
    let (replies, end) = write(&remote, 50);
    let error = end.unwrap_err();
    let spent = error.downcast_ref::<BudgetSpent>().expect("the budget is the reason");
    assert!(spent.to_string().contains("budget of 1100.00"), "{spent}");
    let kept = replies.iter().flatten().count();
    assert_eq!(kept, server.count());
    assert_eq!(bill.spent().cost, 90.0 + 107.0 * kept as f64);
    assert!(bill.spent().cost <= 1_100.0 && kept >= 8, "{kept}");
}

#[test]
fn a_writer_that_is_halted_finishes_what_is_under_way() {
    let server = Server::start(|_, _| {
        thread::sleep(Duration::from_millis(40));
        completion("A dog.")
    });
    let mut config = config(&[&server]);
    (config.concurrency, config.max_concurrency) = (4, 4);
    let remote = open(&config);
    let (replies, end) = thread::scope(|scope| {
        let writing = scope.spawn(|| write(&remote, 1_000));
        while server.count() < 10 {
            thread::sleep(Duration::from_millis(1));
        }
        remote.halt();
        writing.join().unwrap()
    });
    assert!(end.unwrap_err().to_string().contains("stopped"));
    assert_eq!(replies.iter().flatten().count(), server.count());
    assert!(server.count() < 30, "{}", server.count());
}

/// A full disk ends all callers, also those that wait for places of requests that were dropped.
#[test]
fn answers_that_cannot_be_kept_end_everybody() {
    let server = Server::start(|_, _| slowly("A dog."));
    let mut config = config(&[&server]);
    (config.concurrency, config.max_concurrency) = (4, 4);
    let remote = open(&config);
    let batch: Vec<Prompted> = (0..200).map(prompted).collect();
    thread::scope(|scope| {
        let other = scope.spawn(|| write(&remote, 200).1);
        let full = remote.write(&batch, &|_, _| anyhow::bail!("the disk is full"));
        assert!(full.unwrap_err().to_string().contains("disk is full"));
        assert!(other.join().unwrap().unwrap_err().to_string().contains("disk is full"));
    });
    assert!(server.count() < 100, "{}", server.count());
}

#[test]
fn endpoints_that_cannot_be_meant_are_refused() {
    let endpoint = |base_url: &str, weight: f64| EndpointConfig {
        base_url: base_url.to_owned(),
        weight,
        ..EndpointConfig::default()
    };
    for (endpoint, says) in [
        (endpoint("http://127.0.0.1:1/v1", 0.0), "weight"),
        (endpoint("http://127.0.0.1:1/v1", f64::NAN), "weight"),
        (endpoint("", 1.0), "base_url"),
        (endpoint("http://user:secret@h/v1", 1.0), "environment variable"),
    ] {
        let config = RemoteConfig {
            model: "m".to_owned(),
            endpoints: vec![endpoint],
            ..RemoteConfig::default()
        };
        let error = format!("{:#}", Remote::open(&config).unwrap_err());
        assert!(error.contains(says) && !error.contains("secret"), "{error}");
    }
}

const ROWS: usize = 700;
const KILLS: usize = 50;
const AT_ONCE: usize = 4;

/// Small pictures, each with a text of its own.
fn dataset(folder: &Path, rows: usize) {
    let mut lines = String::new();
    for row in 0..rows {
        let picture = RgbImage::from_fn(40, 40, |x, y| {
            let mix = |n: u32| ((x * n + y * (n + 3) + row as u32 * 7919) % 251) as u8;
            image::Rgb([mix(3), mix(7), (row % 251) as u8])
        });
        let name = format!("{row:04}.png");
        picture.save(folder.join(&name)).unwrap();
        let text = format!("Statue number {row} of a rider on a horse");
        lines += &format!("{}\n", json!({ "file_name": name, "text": text }));
    }
    fs::write(folder.join("metadata.jsonl"), lines).unwrap();
}

fn refine(verb: &str, data: &Path, run: &Path, base_url: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_recaption"));
    command.arg(verb).arg(data).arg("-o").arg(run);
    command.args(["--writer", "remote", "--llm", "mock", "--base-url", base_url]);
    command.args(["--rows-per-shard", "100", "--set", "dedup.near=false"]);
    command.args(["--set", &format!("describe.remote.concurrency={AT_ONCE}")]);
    command.args(["--set", &format!("describe.remote.max_concurrency={AT_ONCE}")]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// At most the requests in flight at a kill are sent again, whatever the moment of the kill.
#[test]
fn fifty_kills_cost_no_more_than_what_was_in_flight() {
    let dir = tempfile::tempdir().unwrap();
    let (data, run) = (dir.path().join("data"), dir.path().join("run"));
    fs::create_dir(&data).unwrap();
    dataset(&data, ROWS);
    let (sender, arrivals) = mpsc::channel();
    let sender = Mutex::new(sender);
    let server = Server::start(move |number, body| {
        // Nobody listens any more after the last kill.
        let _ = sender.lock().unwrap().send(());
        thread::sleep(Duration::from_millis(3 + number as u64 % 11 * 7 % 11));
        completion(&format!("A statue of a rider on a horse, {}.", words(body)))
    });
    let mut moments = StdRng::seed_from_u64(50);
    let mut kills = 0;
    while kills < KILLS {
        let mut child = refine("refine", &data, &run, &server.base_url).spawn().unwrap();
        for _ in 0..moments.random_range(1..=20) {
            arrivals.recv_timeout(Duration::from_secs(60)).unwrap();
        }
        thread::sleep(Duration::from_micros(moments.random_range(0..8_000)));
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        while arrivals.try_recv().is_ok() {}
    }
    succeeded(&refine("refine", &data, &run, &server.base_url).output().unwrap());
    let samples = samples(&run);
    assert_eq!(samples.len(), ROWS);
    let remote =
        samples.iter().filter(|s| s.generated.as_ref().is_some_and(|g| &*g.writer == "remote"));
    assert_eq!(remote.count(), ROWS);
    let asked = server.asked.lock().unwrap();
    let distinct: HashSet<&String> = asked.iter().collect();
    assert_eq!(distinct.len(), ROWS);
    let mut times: HashMap<&String, usize> = HashMap::new();
    asked.iter().for_each(|body| *times.entry(body).or_default() += 1);
    let again = asked.len() - ROWS;
    assert!(again <= KILLS * AT_ONCE, "{again} requests were sent again");
    assert!(again > 0, "no kill met a request in flight: the test shows nothing");
}

/// A picture of the demo is captioned by an endpoint: it gets a JPEG made here, within the request, and what
/// it says is the synthetic text. Another run with the same memory pays nothing.
#[test]
fn an_endpoint_captions_pictures_and_is_paid_once() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(|number, _| match number {
        usize::MAX => status(404, "", "no list"),
        // Not every answer is one.
        3 => completion("I'm sorry, I cannot see the picture."),
        _ => completion("A drawing with some lines."),
    });
    let requests = dir.path().join("answers.sqlite");
    let refine = |run: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_recaption"));
        let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/demo");
        command.arg("refine").arg(demo).arg("-o").arg(run).args(["--limit", "20"]);
        command.args(["--captioner-url", &server.base_url, "--captioner-llm", "eyes"]);
        command.arg("--set").arg(format!("describe.requests={}", requests.display()));
        command.args(["--set", "alarms.action=warn"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    succeeded(&refine(&one).output().unwrap());
    let captions: Vec<_> = samples(&one).into_iter().map(|sample| sample.synthetic).collect();
    assert_eq!(captions.iter().filter(|caption| caption.is_none()).count(), 1);
    for caption in captions.iter().flatten() {
        assert_eq!(caption.text, "A drawing with some lines.");
        assert!(caption.model.starts_with("mock-1@"), "{}", caption.model);
    }
    let paid = server.count();
    assert_eq!(paid, captions.len());
    for body in server.asked.lock().unwrap().iter() {
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        let parts = body["messages"][1]["content"].as_array().unwrap();
        let url = parts[0]["image_url"]["url"].as_str().unwrap();
        let data = url.strip_prefix("data:image/jpeg;base64,").expect("no address is sent");
        let jpeg = base64::engine::general_purpose::STANDARD.decode(data).unwrap();
        let picture = image::load_from_memory(&jpeg).unwrap();
        assert!(picture.width().max(picture.height()) <= 448);
    }
    let bill: serde_json::Value =
        serde_json::from_slice(&fs::read(one.join("bill.json")).unwrap()).unwrap();
    assert_eq!(bill["spent"]["requests"], json!(paid));
    let page = fs::read_to_string(one.join("report.html")).unwrap();
    assert!(page.contains("<td>captioner (remote)</td><td class=\"label\">eyes</td>"));
    let base_url = server.base_url.replace('/', "&#x2f;");
    assert!(page.contains(&format!("<strong>{base_url}</strong>")));
    assert!(page.contains(&format!("<span>{paid} answers · ")));
    succeeded(&refine(&two).output().unwrap());
    assert_eq!(server.count(), paid);
    let again: Vec<_> = samples(&two).into_iter().map(|sample| sample.synthetic).collect();
    assert_eq!(again, captions);
}

/// What a pilot says, on the data of the kills.
#[test]
fn a_pilot_says_what_all_would_cost_and_its_answers_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (data, run) = (dir.path().join("data"), dir.path().join("run"));
    fs::create_dir(&data).unwrap();
    dataset(&data, 60);
    let server = Server::start(|number, body| match number {
        usize::MAX => status(404, "", "no list"),
        _ => completion(&format!("A statue of a rider on a horse, {}.", words(body))),
    });
    let with = |verb: &str, more: &[&str]| {
        let mut command = refine(verb, &data, &run, &server.base_url);
        command.args(["--set", "describe.remote.prompt_price=10000"]).args(more);
        command
    };
    let said = succeeded(&with("plan", &["--pilot", "30", "--json"]).output().unwrap());
    let line = said.lines().find(|line| line.contains("forecast")).unwrap();
    let forecast: serde_json::Value = serde_json::from_str(line).unwrap();
    let of = |name: &str, field: &str| forecast["forecast"][name][field].as_f64().unwrap();
    assert_eq!((of("refined", "pilot"), of("refined", "all")), (30.0, 60.0));
    assert_eq!((of("prompt_tokens", "pilot"), of("prompt_tokens", "all")), (3_000.0, 6_000.0));
    // 100 tokens a row at 10,000 a million.
    assert_eq!((of("cost", "all"), of("cost", "low"), of("cost", "high")), (60.0, 60.0, 60.0));
    assert!(!run.join("part-00000.json").exists());
    assert_eq!(server.count(), 30);
    let table = succeeded(&with("plan", &["--pilot", "30"]).output().unwrap());
    assert!(table.contains("pilot of 30 rows") && table.contains("60.00"), "{table}");
    assert_eq!(server.count(), 30, "the same rows are drawn, and their answers are there");
    succeeded(&with("refine", &[]).output().unwrap());
    assert_eq!((server.count(), samples(&run).len()), (60, 60));

    // And a budget that was spent before the run began.
    let other = dir.path().join("other");
    let mut poor = refine("refine", &data, &other, &server.base_url);
    poor.args(["--set", "describe.remote.prompt_price=10000", "--budget", "10.5"]);
    let end = poor.output().unwrap();
    let said = String::from_utf8_lossy(&end.stderr);
    assert_eq!(end.status.code(), Some(4), "{said}");
    assert!(said.contains("budget of 10.50") && said.contains("--budget"), "{said}");
    let spent = server.count() - 60;
    assert!((1..=10).contains(&spent), "{spent}");
}

/// Something that differs from row to row, so that no alarm of repeated texts is raised.
fn words(body: &str) -> String {
    let digits = body.rsplit("number ").next().unwrap_or_default();
    format!("number {}", digits.chars().take_while(char::is_ascii_digit).collect::<String>())
}
