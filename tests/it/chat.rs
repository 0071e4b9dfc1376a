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
use recaption::chat::Picture;
use recaption::chat::Prompted;
use recaption::chat::Remote;
use recaption::chat::RemoteConfig;
use recaption::chat::Reply;
use recaption::chat::RowError;
use recaption::chat::Spent;
use recaption::chat::Statement;
use recaption::chat::Writer;
use recaption::retry::Policy;
use recaption::sample::Sample;
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
fn a_parameter_that_is_always_refused_ends_the_run_and_an_odd_row_does_not() {
    let refusing = || Server::start(|_, _| status(400, "", "unsupported value: 'temperature'"));
    let picky = refusing();
    let mut one = config(&[&picky]);
    (one.concurrency, one.max_concurrency) = (4, 4);
    let (replies, end) = write(&open(&one), 200);
    let error = end.unwrap_err().to_string();
    assert!(error.contains("400: unsupported value") && error.contains("`omit`"), "{error}");
    assert!(error.contains("\"temperature\"") && error.contains("give_up_after"), "{error}");
    assert_eq!(replies.iter().flatten().count(), 0);
    assert!((25..=29).contains(&picky.count()), "{}", picky.count());

    // Half of all rows, but never many without an answer in between.
    let odd = Server::start(|number, _| match number % 2 {
        0 => status(422, "", "this text is too long"),
        _ => completion("A dog."),
    });
    one.endpoints[0].base_url.clone_from(&odd.base_url);
    assert_eq!(answered(&open(&one), 200), 100);

    // Of two servers, one takes the parameter: it gets the rest.
    let (picky, good) = (refusing(), Server::start(|_, _| slowly("A dog.")));
    let remote = open(&config(&[&picky, &good]));
    assert!(answered(&remote, 200) >= 200 - 24);
    assert!(remote.usage()[0].out.as_ref().is_some_and(|why| why.contains("temperature")));
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

/// With a thousand tokens set aside for each picture, three would be all.
#[test]
fn what_pictures_take_is_learnt_from_the_bill() {
    let server = Server::start(|_, _| completion("A dog."));
    let mut config = config(&[&server]);
    (config.concurrency, config.max_concurrency) = (1, 1);
    let remote = open(&config);
    let budget = Budget { cost: 0.0, tokens: 1_500 };
    remote.pay_with(Arc::new(Bill::new(budget, Spent::default())));
    let picture = Picture { bytes: b"no picture".as_slice().into(), media_type: "image/png" };
    let batch: Vec<Prompted> = (0..20)
        .map(|number| {
            let mut prompted = prompted(number);
            prompted.chat.picture = Some(picture.clone());
            prompted
        })
        .collect();
    let end = remote.write(&batch, &|_, _| Ok(())).unwrap_err();
    assert!(end.downcast_ref::<BudgetSpent>().is_some(), "{end}");
    assert!((10..=14).contains(&server.count()), "{}", server.count());
}

#[test]
fn a_question_has_a_deadline_over_all_its_attempts() {
    let silent = Server::start(|_, _| Act::Hang);
    let mut config = config(&[&silent]);
    (config.timeout_s, config.deadline_s) = (1, Some(2));
    config.retry.attempts = 50;
    let reason = |remote: &Remote| {
        let said = Mutex::new(None);
        let keep = |_, answer: Result<Reply, RowError>| {
            *said.lock().unwrap() = answer.err();
            Ok(())
        };
        remote.write(&[prompted(0)], &keep).unwrap();
        said.into_inner().unwrap().expect("there is no answer")
    };
    let started = Instant::now();
    let error = reason(&open(&config));
    let took = started.elapsed();
    assert!(error.reason.contains("after 2 s (`deadline_s`)") && error.retryable, "{error:?}");
    assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(4), "{took:?}");
    assert!((2..=3).contains(&silent.count()), "{}", silent.count());

    // A pause that would end after it is not waited for.
    let busy = Server::start(|_, _| status(429, "retry-after: 60\r\n", "slow down"));
    config.endpoints[0].base_url.clone_from(&busy.base_url);
    let started = Instant::now();
    let error = reason(&open(&config));
    assert!(error.reason.contains("slow down") && error.reason.contains("deadline_s"), "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(1) && busy.count() == 1);
}

#[test]
fn a_server_that_loads_its_model_is_waited_for() {
    let loading = |times: usize| {
        let asked = AtomicUsize::new(0);
        Server::start_with_paths(move |path, _| match path {
            "/health" if asked.fetch_add(1, Ordering::SeqCst) < times => {
                status(503, "", "Loading model")
            }
            path if path.ends_with("/models") => {
                let body = json!({ "data": [{ "id": "mock" }] }).to_string();
                Act::Answer { status: 200, headers: "", body }
            }
            _ => status(404, "", "no such page"),
        })
    };
    let (late, never, ready) = (loading(2), loading(usize::MAX), loading(0));
    let started = Instant::now();
    assert!(open(&config(&[&late])).probe().unwrap().contains("has mock"));
    assert!(started.elapsed() >= Duration::from_secs(1));

    let mut short = config(&[&never]);
    short.give_up_after_s = 1;
    let error = open(&short).probe().unwrap_err().to_string();
    assert!(error.contains("still loading its model"), "{error}");

    // Nobody waits where another is ready.
    let started = Instant::now();
    let line = open(&config(&[&never, &ready])).probe().unwrap();
    assert!(line.contains("not ready: ") && line.contains("has mock"), "{line}");
    assert!(started.elapsed() < Duration::from_secs(1));
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

/// The listener of signals holds a writer, and may be the last to let it go.
#[test]
fn a_writer_may_be_dropped_on_a_thread_of_another_runtime() {
    let server = Server::start(|_, _| completion("A dog."));
    let remote = open(&config(&[&server]));
    assert_eq!(answered(&remote, 3), 3);
    let other = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    other.block_on(other.spawn(async move { drop(remote) })).unwrap();
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

/// A server that counts no tokens, a folder that moves between the sessions, and at last a bill of the days
/// when bills were named after folders: what was spent is known in each session.
#[test]
fn a_budget_of_tokens_holds_over_sessions_and_places() {
    let dir = tempfile::tempdir().unwrap();
    let (data, run) = (dir.path().join("data"), dir.path().join("run"));
    fs::create_dir(&data).unwrap();
    dataset(&data, 60);
    let server = Server::start(|number, body| match number {
        usize::MAX => status(404, "", "no list"),
        _ => {
            let text = format!("A statue of a rider on a horse, {}.", words(body));
            let said =
                json!({ "choices": [{ "message": { "content": text }, "finish_reason": "stop" }] });
            Act::Answer { status: 200, headers: "", body: said.to_string() }
        }
    });
    let session = |run: &Path, tokens: &str| {
        let mut command = refine("refine", &data, run, &server.base_url);
        let end = command.args(["--max-tokens", tokens]).output().unwrap();
        let said = String::from_utf8_lossy(&end.stderr).into_owned();
        assert_eq!(end.status.code(), Some(4), "{said}");
        said
    };
    let said = session(&run, "20000");
    assert!(said.contains("(estimated)"), "{said}");
    let paid = server.count();
    assert!((1..60).contains(&paid), "{paid}");
    let bill = |run: &Path| -> Statement {
        serde_json::from_slice(&fs::read(run.join("bill.json")).unwrap()).unwrap()
    };
    let first = bill(&run);
    assert_eq!(first.spent.estimated_tokens, first.spent.tokens());
    assert_eq!(first.spent.requests, paid as u64);

    let moved = dir.path().join("moved");
    fs::rename(&run, &moved).unwrap();
    session(&moved, "20000");
    assert_eq!((bill(&moved).spent, server.count()), (first.spent, paid));

    let store = rusqlite::Connection::open(moved.join("requests.sqlite")).unwrap();
    store.execute("UPDATE bills SET run = '/the/place/of/old'", []).unwrap();
    drop(store);
    fs::remove_file(moved.join("bill.json")).unwrap();
    session(&moved, "20000");
    let old = bill(&moved);
    assert_eq!((old.spent, server.count()), (first.spent, paid));
    assert_ne!(old.run, first.run);
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

/// Two runs of the same data with one memory, at the same time: between them they buy each answer once, also
/// when a third was killed in the middle.
#[test]
fn two_processes_that_share_a_store_buy_each_answer_once() {
    const ROWS: usize = 200;
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    fs::create_dir(&data).unwrap();
    dataset(&data, ROWS);
    let server = Server::start(|number, body| match number {
        usize::MAX => status(404, "", "no list"),
        _ => {
            thread::sleep(Duration::from_millis(20));
            completion(&format!("A statue of a rider on a horse, {}.", words(body)))
        }
    });
    let store = format!("describe.requests={}", dir.path().join("answers.sqlite").display());
    let start = |name: &str| {
        let mut command = refine("refine", &data, &dir.path().join(name), &server.base_url);
        command.args(["--set", &store]).spawn().unwrap()
    };
    let mut killed = start("killed");
    while server.count() < 30 {
        thread::sleep(Duration::from_millis(1));
    }
    killed.kill().unwrap();
    killed.wait().unwrap();
    let before = server.count();
    let both = [start("one"), start("two")];
    for run in both {
        succeeded(&run.wait_with_output().unwrap());
    }
    for name in ["one", "two"] {
        let samples = samples(&dir.path().join(name));
        let by_model = |s: &&Sample| s.generated.as_ref().is_some_and(|g| &*g.writer == "remote");
        assert_eq!((samples.len(), samples.iter().filter(by_model).count()), (ROWS, ROWS));
    }
    let asked = server.asked.lock().unwrap();
    let distinct: HashSet<&String> = asked.iter().collect();
    assert_eq!(distinct.len(), ROWS);
    let in_flight: HashSet<&String> = asked[..before].iter().collect();
    assert_eq!(in_flight.len(), before);
    let again = asked.len() - ROWS;
    assert!(again <= AT_ONCE, "{again} of {} were sent again", asked.len());
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().flatten().map(|e| e.file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains("-asking-")), "{left:?}");
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
