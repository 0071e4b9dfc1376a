//! The client of endpoints against a loopback server that serves N at once, each in a + b * active.
//!
//! `endpoint serve PORT N A_MS B_MS` is the server, `endpoint ask URL ROWS` our client; both print a line
//! of JSON. `benches/endpoint.sh` runs them and a peer in turns and prints ratios.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use axum::Json;
use axum::Router;
use axum::routing::get;
use axum::routing::post;
use recaption::chat::Chat;
use recaption::chat::Message;
use recaption::chat::Prompted;
use recaption::chat::Remote;
use recaption::chat::RemoteConfig;
use recaption::chat::Role;
use recaption::chat::Writer;
use serde_json::Value;
use serde_json::json;
use tokio::sync::Semaphore;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["serve", port, slots, a_ms, b_ms] => {
            let number = |text: &str| text.parse::<f64>().expect("a number");
            let port = port.parse().expect("a port");
            let slots = slots.parse().expect("a number of slots");
            serve(port, slots, number(a_ms) / 1e3, number(b_ms) / 1e3);
        }
        ["ask", url, rows] => ask(url, rows.parse().expect("a number of rows")),
        // As `cargo bench` calls it: a small run of both, to see that it works.
        _ => {
            std::thread::spawn(|| serve(18_455, 32, 0.02, 0.0005));
            std::thread::sleep(Duration::from_millis(300));
            ask("http://127.0.0.1:18455/v1", 2_000);
        }
    }
}

struct Server {
    slots: Semaphore,
    active: AtomicUsize,
    started: Instant,
    served: AtomicU64,
    first_us: AtomicU64,
    last_us: AtomicU64,
    a: f64,
    b: f64,
}

impl Server {
    async fn complete(&self) {
        let now = || self.started.elapsed().as_micros() as u64;
        self.first_us.fetch_min(now(), Ordering::Relaxed);
        let slot = self.slots.acquire().await.expect("the slots stay open");
        let active = self.active.fetch_add(1, Ordering::SeqCst) + 1;
        let takes = self.a + self.b * active as f64;
        tokio::time::sleep(Duration::from_secs_f64(takes)).await;
        self.active.fetch_sub(1, Ordering::SeqCst);
        drop(slot);
        self.served.fetch_add(1, Ordering::SeqCst);
        self.last_us.fetch_max(now(), Ordering::Relaxed);
    }

    /// What was served since the last time, and at which rate.
    fn stats(&self) -> Value {
        let served = self.served.swap(0, Ordering::SeqCst);
        let first = self.first_us.swap(u64::MAX, Ordering::SeqCst);
        let last = self.last_us.swap(0, Ordering::SeqCst);
        json!({ "served": served, "seconds": last.saturating_sub(first) as f64 / 1e6 })
    }
}

fn serve(port: u16, slots: usize, a: f64, b: f64) {
    let server = Arc::new(Server {
        slots: Semaphore::new(slots),
        active: AtomicUsize::new(0),
        started: Instant::now(),
        served: AtomicU64::new(0),
        first_us: AtomicU64::new(u64::MAX),
        last_us: AtomicU64::new(0),
        a,
        b,
    });
    let (complete, stats) = (Arc::clone(&server), server);
    let answer = json!({
        "id": "x", "object": "chat.completion", "created": 0, "model": "mock",
        "choices": [{
            "index": 0, "finish_reason": "stop",
            "message": { "role": "assistant", "content": "A brown dog sleeps on a green sofa." },
        }],
        "usage": { "prompt_tokens": 700, "completion_tokens": 9, "total_tokens": 709 },
    });
    let completions = move |_: Json<Value>| {
        let (server, answer) = (Arc::clone(&complete), answer.clone());
        async move {
            server.complete().await;
            Json(answer)
        }
    };
    let router = Router::new()
        .route("/v1/chat/completions", post(completions))
        .route("/stats", get(move || async move { Json(stats.stats()) }));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let listener = tokio::net::TcpListener::bind(address).await.expect("the port is free");
        axum::serve(listener, router).await.expect("the server serves");
    });
}

/// Asks as the pipeline does: some callers, each with batches, all rows in the end.
fn ask(url: &str, rows: usize) {
    let config = RemoteConfig {
        base_url: url.to_owned(),
        model: "mock".to_owned(),
        ..RemoteConfig::default()
    };
    let remote = Remote::open(&config).expect("the settings can be meant");
    let system = Message { role: Role::System, content: "You write one sentence. ".repeat(100) };
    let prefix: Arc<[Message]> = Arc::from([system]);
    let chat = |row: usize| Chat { prefix: Arc::clone(&prefix), user: format!("row {row}: a dog") };
    let all: Vec<Prompted> = (0..rows).map(|row| Prompted { chat: chat(row), seed: 0 }).collect();
    let appetite = remote.appetite();
    let batches: Vec<&[Prompted]> = all.chunks(appetite.batch).collect();
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let (started, cpu) = (Instant::now(), cpu_s());
    std::thread::scope(|scope| {
        for _ in 0..appetite.threads {
            scope.spawn(|| {
                while let Some(batch) = batches.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let on_reply = |_: usize, reply: Result<_, _>| {
                        done.fetch_add(usize::from(reply.is_ok()), Ordering::SeqCst);
                        Ok(())
                    };
                    remote.write(batch, &on_reply).expect("the server answers");
                }
            });
        }
    });
    let seconds = started.elapsed().as_secs_f64();
    let report = json!({
        "client": "recaption",
        "answered": done.load(Ordering::SeqCst),
        "seconds": seconds,
        "cpu_ms_per_request": (cpu_s() - cpu) * 1e3 / rows as f64,
        "usage": remote.usage(),
    });
    println!("{report}");
}

/// Seconds of processor time that this process has used.
fn cpu_s() -> f64 {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::uninit();
    // SAFETY: the call fills the struct that it is given.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
        usage.assume_init()
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}
