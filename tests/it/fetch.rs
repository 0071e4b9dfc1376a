//! The fetcher against servers that misbehave in each of the ways we know, all on loopback.
//!
//! Every url carries a secret in its query, and every reject is checked not to repeat it.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::join_all;
use futures::stream;
use recaption::fetch::Config;
use recaption::fetch::Fetcher;
use recaption::retry::Policy;
use recaption::sample::Reason;
use recaption::sample::Reject;
use recaption::sample::Stage;
use reqwest::dns::Addrs;
use reqwest::dns::Name;
use reqwest::dns::Resolve;
use reqwest::dns::Resolving;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::time::sleep;
use tokio::time::timeout;

const SECRET: &str = "s3cret";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";

// ---- the other side ----

/// A scripted server; dropped, it stops.
struct Server {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    /// Runs `script` for each connection, with its number from 0, after its request was read.
    async fn start<F, Fut>(script: F) -> Server
    where
        F: Fn(TcpStream, usize, String) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        Server::start_at("127.0.0.1:0", script).await
    }

    async fn start_at<F, Fut>(address: &str, script: F) -> Server
    where
        F: Fn(TcpStream, usize, String) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let counter = accepted.clone();
        let task = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let nth = counter.fetch_add(1, SeqCst);
                let script = script.clone();
                tokio::spawn(async move {
                    let request = read_request(&mut stream).await;
                    script(stream, nth, request).await;
                });
            }
        });
        Server { address, accepted, task }
    }

    /// Gives the n-th answer to the n-th connection, the last one to all further ones.
    async fn answering(answers: Vec<Vec<u8>>) -> Server {
        Server::start(move |mut stream, nth, _| {
            let answer = answers[nth.min(answers.len() - 1)].clone();
            async move {
                let _ = stream.write_all(&answer).await;
            }
        })
        .await
    }

    fn url(&self) -> String {
        format!("http://{}/a.jpg?token={SECRET}", self.address)
    }

    fn connections(&self) -> usize {
        self.accepted.load(SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn read_request(stream: &mut TcpStream) -> String {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte).await {
            Ok(1) => request.push(byte[0]),
            _ => break,
        }
    }
    String::from_utf8_lossy(&request).into_owned()
}

async fn hold(stream: TcpStream) {
    sleep(Duration::from_secs(60)).await;
    drop(stream);
}

fn answer(status: &str, headers: &[&str], body: &[u8]) -> Vec<u8> {
    let mut answer = format!("HTTP/1.1 {status}\r\nConnection: close\r\n").into_bytes();
    for header in headers {
        answer.extend_from_slice(header.as_bytes());
        answer.extend_from_slice(b"\r\n");
    }
    answer.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
    answer.extend_from_slice(body);
    answer
}

fn redirect(to: &str) -> Vec<u8> {
    answer("302 Found", &[&format!("Location: {to}")], b"")
}

// ---- our side ----

/// 127.0.0.1 is the only private address that may be reached. The time limits are long, so that a
/// busy machine changes nothing; tests of a limit set it.
fn config() -> Config {
    Config {
        private_networks: vec!["127.0.0.1/32".into()],
        per_host_requests_per_second: 0,
        connect_timeout_ms: 10_000,
        header_timeout_ms: 20_000,
        read_timeout_ms: 20_000,
        total_deadline_ms: 60_000,
        max_bytes: 1 << 20,
        retry: Policy { attempts: 2, base_ms: 1, cap_ms: 2, asked_cap_ms: 50 },
        ..Config::default()
    }
}

async fn fetch(config: &Config, url: &str) -> Result<Bytes, Reject> {
    checked(Fetcher::new(config).unwrap().fetch(url).await)
}

async fn reason(config: &Config, url: &str) -> Reason {
    fetch(config, url).await.unwrap_err().reason
}

fn checked(result: Result<Bytes, Reject>) -> Result<Bytes, Reject> {
    if let Err(reject) = &result {
        assert_eq!(reject.stage, Stage::Fetch);
        assert!(!reject.to_string().contains(SECRET), "{reject}");
    }
    result
}

/// A resolver with a script: the n-th answer to the n-th question, then the last again.
struct Script {
    answers: Vec<Vec<&'static str>>,
    asked: AtomicUsize,
}

impl Script {
    fn new(answers: &[&[&'static str]]) -> Arc<Script> {
        let answers = answers.iter().map(|a| a.to_vec()).collect();
        Arc::new(Script { answers, asked: AtomicUsize::new(0) })
    }
}

impl Resolve for Script {
    fn resolve(&self, _: Name) -> Resolving {
        let nth = self.asked.fetch_add(1, SeqCst).min(self.answers.len() - 1);
        let answer = self.answers[nth].clone();
        Box::pin(async move {
            if answer.is_empty() {
                return Err("no such name".into());
            }
            let addresses = answer.into_iter().map(|a| SocketAddr::new(a.parse().unwrap(), 0));
            Ok(Box::new(addresses) as Addrs)
        })
    }
}

// ---- ordinary days ----

#[tokio::test]
async fn a_body_arrives_and_the_request_is_honest() {
    let requests = Arc::new(Mutex::new(String::new()));
    let seen = requests.clone();
    let server = Server::start(move |mut stream, _, request| {
        *seen.lock().unwrap() = request.to_lowercase();
        async move { stream.write_all(OK).await.unwrap() }
    })
    .await;
    let config = Config { contact: Some("mailto:me@example.org".into()), ..config() };
    assert_eq!(fetch(&config, &server.url()).await.unwrap(), "hello");
    let request = requests.lock().unwrap().clone();
    let agent = concat!("user-agent: recaption/", env!("CARGO_PKG_VERSION"));
    assert!(request.contains(&format!("{agent} (+mailto:me@example.org)\r\n")), "{request}");
    assert!(request.contains("accept-encoding: identity\r\n"), "{request}");
    assert!(!request.contains("gzip") && !request.contains("mozilla"), "{request}");
}

#[tokio::test]
async fn statuses_become_reasons_and_only_passing_ones_are_tried_again() {
    for (status, reason, connections) in [
        ("404 Not Found", Reason::NotFound, 1),
        ("410 Gone", Reason::NotFound, 1),
        ("403 Forbidden", Reason::Forbidden, 1),
        ("400 Bad Request", Reason::HttpStatus, 1),
        ("500 Oops", Reason::HttpStatus, 2),
        ("503 Busy", Reason::HttpStatus, 2),
        ("429 Slower", Reason::RateLimited, 2),
    ] {
        let server = Server::answering(vec![answer(status, &[], b"words")]).await;
        let reject = fetch(&config(), &server.url()).await.unwrap_err();
        assert_eq!(reject.reason, reason, "{status}");
        assert!(reject.detail.starts_with(&status[..3]), "{reject}");
        assert_eq!(server.connections(), connections, "{status}");
    }
}

#[tokio::test]
async fn a_second_attempt_may_succeed() {
    let server = Server::answering(vec![answer("502 Bad Gateway", &[], b""), OK.to_vec()]).await;
    assert_eq!(fetch(&config(), &server.url()).await.unwrap(), "hello");
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn an_empty_body_is_an_empty_image() {
    for status in ["200 OK", "204 No Content"] {
        let server = Server::answering(vec![answer(status, &[], b"")]).await;
        assert_eq!(reason(&config(), &server.url()).await, Reason::ImageEmpty);
    }
}

#[tokio::test]
async fn requests_under_way_are_bounded_in_all_and_by_host() {
    for (concurrency, per_host, most) in [(3, 100, 3), (100, 2, 2)] {
        let (now, peak) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (n, p) = (now.clone(), peak.clone());
        let server = Server::start(move |mut stream, _, _| {
            let (n, p) = (n.clone(), p.clone());
            async move {
                p.fetch_max(n.fetch_add(1, SeqCst) + 1, SeqCst);
                sleep(Duration::from_millis(20)).await;
                n.fetch_sub(1, SeqCst);
                stream.write_all(OK).await.unwrap();
            }
        })
        .await;
        let config = Config { concurrency, per_host_concurrency: per_host, ..config() };
        let fetcher = Fetcher::new(&config).unwrap();
        let url = server.url();
        let results = join_all((0..12).map(|_| fetcher.fetch(&url))).await;
        assert!(results.iter().all(Result::is_ok));
        assert_eq!(peak.load(SeqCst), most);
    }
}

#[tokio::test]
async fn the_pace_of_a_host_is_kept() {
    let server = Server::answering(vec![OK.to_vec()]).await;
    let fetcher = Fetcher::new(&Config { per_host_requests_per_second: 50, ..config() }).unwrap();
    let (start, url) = (Instant::now(), server.url());
    let results = join_all((0..11).map(|_| fetcher.fetch(&url))).await;
    assert!(results.iter().all(Result::is_ok));
    // Eleven starts are ten intervals of 20 ms.
    assert!(start.elapsed() >= Duration::from_millis(195), "{:?}", start.elapsed());
}

#[tokio::test]
async fn waiting_for_a_turn_does_not_use_up_the_deadline() {
    let server = Server::start(|mut stream, _, _| async move {
        sleep(Duration::from_millis(50)).await;
        stream.write_all(OK).await.unwrap();
    })
    .await;
    let config = Config { concurrency: 1, total_deadline_ms: 400, ..config() };
    let fetcher = Fetcher::new(&config).unwrap();
    let url = server.url();
    let results = join_all((0..16).map(|_| fetcher.fetch(&url))).await;
    assert!(results.iter().all(Result::is_ok));
}

// ---- fault 1: slow bodies ----

#[tokio::test]
async fn a_dripping_body_ends_at_the_deadline_and_hurts_nobody_else() {
    let dripping = Server::start(|mut stream, _, _| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n").await;
        while stream.write_all(b"x").await.is_ok() {
            sleep(Duration::from_millis(30)).await;
        }
    })
    .await;
    let healthy = Server::answering(vec![OK.to_vec()]).await;
    let fetcher =
        Fetcher::new(&Config { total_deadline_ms: 400, concurrency: 2, ..config() }).unwrap();
    let start = Instant::now();
    let (slow_url, url) = (dripping.url(), healthy.url());
    let neighbours = async {
        for _ in 0..10 {
            assert!(fetcher.fetch(&url).await.is_ok());
        }
        start.elapsed()
    };
    let (slow, neighbours) = tokio::join!(fetcher.fetch(&slow_url), neighbours);
    assert_eq!(checked(slow).unwrap_err().reason, Reason::TimeoutBody);
    assert!(neighbours < start.elapsed(), "the neighbours waited for the slow one");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    // The deadline is for the item, so there was nothing left for a second attempt.
    assert_eq!(dripping.connections(), 1);
}

#[tokio::test]
async fn a_body_that_falls_silent_is_tried_again_and_then_rejected() {
    let server = Server::start(|mut stream, _, _| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc").await;
        hold(stream).await;
    })
    .await;
    let config = Config { read_timeout_ms: 300, ..config() };
    let reject = fetch(&config, &server.url()).await.unwrap_err();
    assert_eq!(reject.reason, Reason::TimeoutBody);
    assert!(reject.detail.starts_with("after 3 bytes"), "{reject}");
    assert_eq!(server.connections(), 2);
}

// ---- fault 2: no answer ----

#[tokio::test]
async fn a_host_that_accepts_and_never_answers_times_out_after_all_attempts() {
    let server = Server::start(|stream, _, _| hold(stream)).await;
    let config = Config { header_timeout_ms: 300, ..config() };
    let start = Instant::now();
    assert_eq!(reason(&config, &server.url()).await, Reason::TimeoutHeader);
    assert_eq!(server.connections(), 2);
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn waiting_for_a_head_ends_at_the_deadline_too() {
    let server = Server::start(|stream, _, _| hold(stream)).await;
    let config = Config { header_timeout_ms: 60_000, total_deadline_ms: 200, ..config() };
    let fetcher = Fetcher::new(&config).unwrap();
    let url = server.url();
    let result = timeout(Duration::from_secs(20), fetcher.fetch(&url)).await.expect("in time");
    assert_eq!(result.unwrap_err().reason, Reason::TimeoutHeader);
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_tls_handshake_that_never_ends_or_is_none_is_no_connection() {
    let config = Config { connect_timeout_ms: 100, ..config() };
    let https = |server: &Server| server.url().replace("http:", "https:");
    let silent = Server::start(|stream, _, _| hold(stream)).await;
    assert_eq!(reason(&config, &https(&silent)).await, Reason::TimeoutConnect);
    assert_eq!(silent.connections(), 2);
    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", plain.local_addr().unwrap());
    let speak = async {
        loop {
            let (mut stream, _) = plain.accept().await.unwrap();
            let _ = stream.write_all(OK).await;
        }
    };
    tokio::select! {
        reason = reason(&config, &url) => assert_eq!(reason, Reason::ConnectionFailed),
        () = speak => {}
    }
}

#[tokio::test]
async fn a_head_that_drips_or_makes_no_sense_is_no_answer() {
    let dripping = Server::start(|mut stream, _, _| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nX-Long: ").await;
        while stream.write_all(b"x").await.is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let impatient = Config { header_timeout_ms: 300, ..config() };
    assert_eq!(reason(&impatient, &dripping.url()).await, Reason::TimeoutHeader);
    for nonsense in [&b"SSH-2.0-OpenSSH_9.2\r\n\r\n"[..], b"", b"HTTP/1.1 2", b"\0\0\0\0\r\n\r\n"] {
        let server = Server::answering(vec![nonsense.to_vec()]).await;
        assert_eq!(reason(&config(), &server.url()).await, Reason::ConnectionFailed);
    }
}

// ---- fault 3: broken bodies ----

#[tokio::test]
async fn a_body_cut_anywhere_is_never_taken_for_a_picture() {
    const BODY: &[u8] = b"twenty bytes of image";
    #[derive(Clone, Copy, Debug)]
    enum End {
        Fin,
        Reset,
    }
    let cuts = (0..BODY.len()).flat_map(|k| [(k, End::Fin), (k, End::Reset)]);
    let sweeps = cuts.flat_map(|(k, end)| [(k, end, false), (k, end, true)]);
    let runs = sweeps.map(|(k, end, chunked)| async move {
        let server = Server::start(move |mut stream, nth, _| async move {
            let head = match chunked {
                true => format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n", BODY.len()),
                false => format!("Content-Length: {}\r\n\r\n", BODY.len()),
            };
            let head = format!("HTTP/1.1 200 OK\r\n{head}");
            let _ = stream.write_all(head.as_bytes()).await;
            if nth == 2 {
                let _ = stream.write_all(BODY).await;
                let _ = stream.write_all(if chunked { b"\r\n0\r\n\r\n" } else { b"" }).await;
                return;
            }
            let _ = stream.write_all(&BODY[..k]).await;
            sleep(Duration::from_millis(20)).await;
            if let End::Reset = end {
                stream.set_zero_linger().unwrap();
            }
        })
        .await;
        let case = format!("{k} {end:?} chunked={chunked}");
        let reject = fetch(&config(), &server.url()).await.expect_err(&case);
        assert_eq!(reject.reason, Reason::BodyTruncated, "{case}: {reject}");
        assert_eq!(server.connections(), 2, "{case}");
        assert_eq!(fetch(&config(), &server.url()).await.expect(&case), BODY, "{case}");
    });
    join_all(runs).await;
}

// ---- fault 4: endless bodies ----

#[tokio::test]
async fn an_endless_body_ends_at_the_cap() {
    for head in ["", "Transfer-Encoding: chunked\r\n"] {
        let sent = Arc::new(AtomicUsize::new(0));
        let counter = sent.clone();
        let server = Server::start(move |mut stream, _, _| {
            let counter = counter.clone();
            async move {
                let _ = stream.write_all(format!("HTTP/1.1 200 OK\r\n{head}\r\n").as_bytes()).await;
                let zeros = vec![b'0'; 1 << 16];
                let piece = match head {
                    "" => zeros,
                    _ => [&b"10000\r\n"[..], &zeros, b"\r\n"].concat(),
                };
                while stream.write_all(&piece).await.is_ok() {
                    counter.fetch_add(piece.len(), SeqCst);
                }
            }
        })
        .await;
        let (config, url) = (config(), server.url());
        let fetched = timeout(Duration::from_secs(20), fetch(&config, &url)).await;
        let reject = fetched.expect("stops by itself").unwrap_err();
        assert_eq!(reject.reason, Reason::BodyTooLarge, "{head:?}");
        assert_eq!(server.connections(), 1, "what is too large stays too large");
        sleep(Duration::from_millis(50)).await;
        // The cap of 1 MiB and what the kernel's buffers hold on both sides.
        assert!(sent.load(SeqCst) < 16 << 20, "{} bytes", sent.load(SeqCst));
    }
}

#[tokio::test]
async fn a_body_that_never_runs_dry_ends_at_the_deadline_when_no_cap_ends_it() {
    let server = Server::start(|mut stream, _, _| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        while stream.write_all(&[0; 512]).await.is_ok() {}
    })
    .await;
    let config = Config { max_bytes: u64::MAX, total_deadline_ms: 100, ..config() };
    let fetcher = Fetcher::new(&config).unwrap();
    let url = server.url();
    let result = timeout(Duration::from_secs(20), fetcher.fetch(&url)).await.expect("in time");
    assert_eq!(result.unwrap_err().reason, Reason::TimeoutBody);
}

#[tokio::test]
async fn a_length_above_the_cap_is_believed_before_any_body_comes() {
    for length in [(1 << 20) + 1, u64::MAX / 2] {
        let server = Server::start(move |mut stream, _, _| async move {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
            let _ = stream.write_all(head.as_bytes()).await;
            hold(stream).await;
        })
        .await;
        assert_eq!(reason(&config(), &server.url()).await, Reason::BodyTooLarge);
    }
    let whole = vec![7; 1 << 20];
    let server = Server::answering(vec![answer("200 OK", &[], &whole)]).await;
    assert_eq!(fetch(&config(), &server.url()).await.unwrap(), whole);
}

// ---- fault 5: compressed bodies ----

#[tokio::test]
async fn a_compressed_body_is_refused_unread() {
    for coding in ["gzip", "GZIP", "br", "deflate", "zstd", "identity, gzip"] {
        let server = Server::start(move |mut stream, _, _| async move {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\n\r\n");
            let _ = stream.write_all(head.as_bytes()).await;
            hold(stream).await;
        })
        .await;
        assert_eq!(reason(&config(), &server.url()).await, Reason::BodyEncoded, "{coding}");
    }
    let server =
        Server::answering(vec![answer("200 OK", &["Content-Encoding: identity"], b"hello")]).await;
    assert_eq!(fetch(&config(), &server.url()).await.unwrap(), "hello");
}

// ---- fault 11: addresses that are nobody's business ----

/// Spellings of places a crawler has no business with. PORT is where the test listens.
const FORBIDDEN: &[(&str, Reason)] = &[
    ("http://127.0.0.1:PORT/", Reason::AddressBlocked),
    ("HTTP://127.0.0.1:PORT/", Reason::AddressBlocked),
    ("http:127.0.0.1:PORT/", Reason::AddressBlocked),
    ("http:\\\\127.0.0.1:PORT/", Reason::AddressBlocked),
    (" http://127.0.0.1:PORT/ ", Reason::AddressBlocked),
    ("ht\ntp://127.0.0\t.1:PORT/", Reason::AddressBlocked),
    ("http://127.0.0.1.:PORT/", Reason::AddressBlocked),
    ("http://127.1:PORT/", Reason::AddressBlocked),
    ("http://127.0.1:PORT/", Reason::AddressBlocked),
    ("http://127.255.255.254:PORT/", Reason::AddressBlocked),
    ("http://2130706433:PORT/", Reason::AddressBlocked),
    ("http://0x7f000001:PORT/", Reason::AddressBlocked),
    ("http://0x7F.1:PORT/", Reason::AddressBlocked),
    ("http://0x7f.0x0.0x0.0x1:PORT/", Reason::AddressBlocked),
    ("http://017700000001:PORT/", Reason::AddressBlocked),
    ("http://0177.0.0.1:PORT/", Reason::AddressBlocked),
    ("http://0177.0x0.0.01:PORT/", Reason::AddressBlocked),
    ("http://00000177.0.0.1:PORT/", Reason::AddressBlocked),
    ("http://%31%32%37.0.0.1:PORT/", Reason::AddressBlocked),
    ("http://127%2e0%2e0%2e1:PORT/", Reason::AddressBlocked),
    ("http://127。0。0。1:PORT/", Reason::AddressBlocked),
    ("http://①②⑦.0.0.1:PORT/", Reason::AddressBlocked),
    ("http://１２７.0.0.1:PORT/", Reason::AddressBlocked),
    ("http://localhost:PORT/", Reason::AddressBlocked),
    ("http://LOCALHOST:PORT/", Reason::AddressBlocked),
    ("http://0:PORT/", Reason::AddressBlocked),
    ("http://0.0.0.0:PORT/", Reason::AddressBlocked),
    ("http://0x0:PORT/", Reason::AddressBlocked),
    ("http://0.1.2.3:PORT/", Reason::AddressBlocked),
    ("http://10.0.0.1:PORT/", Reason::AddressBlocked),
    ("http://10.1:PORT/", Reason::AddressBlocked),
    ("http://167772161:PORT/", Reason::AddressBlocked),
    ("http://100.64.0.1:PORT/", Reason::AddressBlocked),
    ("http://100.100.100.200:PORT/latest/meta-data", Reason::AddressBlocked),
    ("http://169.254.169.254/latest/meta-data/", Reason::AddressBlocked),
    ("http://169.254.43518/", Reason::AddressBlocked),
    ("http://2852039166/", Reason::AddressBlocked),
    ("http://0xA9FEA9FE/", Reason::AddressBlocked),
    ("http://0251.0376.0251.0376/", Reason::AddressBlocked),
    ("http://169.254.170.2/", Reason::AddressBlocked),
    ("http://168.63.129.16/machine", Reason::AddressBlocked),
    ("http://172.16.0.1/", Reason::AddressBlocked),
    ("http://172.31.255.255/", Reason::AddressBlocked),
    ("http://192.0.0.192/", Reason::AddressBlocked),
    ("http://192.0.2.1/", Reason::AddressBlocked),
    ("http://192.88.99.1/", Reason::AddressBlocked),
    ("http://192.168.0.1/", Reason::AddressBlocked),
    ("http://192.168.257/", Reason::AddressBlocked),
    ("http://198.18.0.1/", Reason::AddressBlocked),
    ("http://198.51.100.1/", Reason::AddressBlocked),
    ("http://203.0.113.1/", Reason::AddressBlocked),
    ("http://224.0.0.1/", Reason::AddressBlocked),
    ("http://239.255.255.250/", Reason::AddressBlocked),
    ("http://240.0.0.1/", Reason::AddressBlocked),
    ("http://255.255.255.255/", Reason::AddressBlocked),
    ("http://4294967295/", Reason::AddressBlocked),
    ("http://[::1]:PORT/", Reason::AddressBlocked),
    ("http://[0:0:0:0:0:0:0:1]:PORT/", Reason::AddressBlocked),
    ("http://[::]:PORT/", Reason::AddressBlocked),
    ("http://[::127.0.0.1]:PORT/", Reason::AddressBlocked),
    ("http://[::ffff:127.0.0.1]:PORT/", Reason::AddressBlocked),
    ("http://[::ffff:7f00:1]:PORT/", Reason::AddressBlocked),
    ("http://[0:0:0:0:0:FFFF:7F00:0001]:PORT/", Reason::AddressBlocked),
    ("http://[::ffff:a9fe:a9fe]/", Reason::AddressBlocked),
    ("http://[64:ff9b::127.0.0.1]:PORT/", Reason::AddressBlocked),
    ("http://[64:ff9b::a9fe:a9fe]/", Reason::AddressBlocked),
    ("http://[64:ff9b:1::1]/", Reason::AddressBlocked),
    ("http://[2002:7f00:1::]:PORT/", Reason::AddressBlocked),
    ("http://[2002:c0a8:1::1]/", Reason::AddressBlocked),
    ("http://[2001:0:4136:e378:8000:63bf:3fff:fdd2]/", Reason::AddressBlocked),
    ("http://[2001:db8::1]/", Reason::AddressBlocked),
    ("http://[3fff::1]/", Reason::AddressBlocked),
    ("http://[fc00::1]/", Reason::AddressBlocked),
    ("http://[fd00:ec2::254]/", Reason::AddressBlocked),
    ("http://[fe80::1]/", Reason::AddressBlocked),
    ("http://[fec0::1]/", Reason::AddressBlocked),
    ("http://[ff02::1]/", Reason::AddressBlocked),
    ("http://[fe80::1%25eth0]/", Reason::UrlInvalid),
    ("http://user@127.0.0.1:PORT/", Reason::UrlInvalid),
    ("http://user:s3cret@example.org/", Reason::UrlInvalid),
    ("http://:s3cret@example.org/", Reason::UrlInvalid),
    ("http://example.org@127.0.0.1:PORT/", Reason::UrlInvalid),
    ("http://256.0.0.1/", Reason::UrlInvalid),
    ("http://1.2.3.4.5/", Reason::UrlInvalid),
    ("http://0x7f.1.1.1.1/", Reason::UrlInvalid),
    ("http:///", Reason::UrlInvalid),
    ("http://127.0.0.1:99999/", Reason::UrlInvalid),
    ("//127.0.0.1:PORT/", Reason::UrlInvalid),
    ("127.0.0.1:PORT", Reason::UrlInvalid),
    ("", Reason::UrlInvalid),
    ("file:///etc/passwd", Reason::UrlInvalid),
    ("ftp://127.0.0.1:PORT/", Reason::UrlInvalid),
    ("gopher://127.0.0.1:PORT/_GET", Reason::UrlInvalid),
    ("ws://127.0.0.1:PORT/", Reason::UrlInvalid),
    ("data:image/png;base64,AAAA", Reason::UrlInvalid),
    ("javascript:alert(1)", Reason::UrlInvalid),
];

#[tokio::test]
async fn no_spelling_of_a_private_address_gets_a_connection() {
    let server = Server::answering(vec![OK.to_vec()]).await;
    let port = server.address.port().to_string();
    // All ports are open here, so that it is the address that is refused.
    let config = Config { private_networks: vec![], allowed_ports: vec![], ..config() };
    let fetcher = Fetcher::new(&config).unwrap();
    for (url, reason) in FORBIDDEN {
        let reject = checked(fetcher.fetch(&url.replace("PORT", &port)).await).unwrap_err();
        assert_eq!(reject.reason, *reason, "{url}: {reject}");
    }
    assert!(FORBIDDEN.len() >= 60);
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn only_the_allowed_ports_are_asked() {
    let config = Config { private_networks: vec![], ..config() };
    for port in [1, 22, 25, 8080, 65535] {
        let url = format!("http://example.org:{port}/");
        assert_eq!(reason(&config, &url).await, Reason::AddressBlocked, "{port}");
    }
}

// ---- faults 12 and 18: names ----

#[tokio::test]
async fn a_name_with_any_private_answer_is_blocked() {
    let server = Server::answering(vec![OK.to_vec()]).await;
    let config = Config { private_networks: vec![], allowed_ports: vec![], ..config() };
    for answers in [
        &["127.0.0.1"][..],
        &["8.8.8.8", "127.0.0.1"],
        &["127.0.0.1", "8.8.8.8"],
        &["::ffff:127.0.0.1"],
        &["::1"],
        &["169.254.169.254"],
    ] {
        let script = Script::new(&[answers]);
        let fetcher = Fetcher::with_resolver(&config, script.clone()).unwrap();
        let url = format!("http://pictures.example:{}/?{SECRET}", server.address.port());
        let reject = checked(fetcher.fetch(&url).await).unwrap_err();
        assert_eq!(reject.reason, Reason::AddressBlocked, "{answers:?}");
        assert_eq!(script.asked.load(SeqCst), 1, "a blocked name is not asked again");
    }
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn a_rebinding_name_is_resolved_once_for_each_connection_and_checked_each_time() {
    let server = Server::answering(vec![OK.to_vec()]).await;
    let port = server.address.port();
    let inside = Server::start_at(&format!("127.0.0.2:{port}"), |mut stream, _, _| async move {
        let _ = stream.write_all(OK).await;
    })
    .await;
    let script = Script::new(&[&["127.0.0.1"], &["127.0.0.2"], &["127.0.0.1"]]);
    let fetcher = Fetcher::with_resolver(&config(), script.clone()).unwrap();
    let url = format!("http://pictures.example:{port}/");
    assert_eq!(fetcher.fetch(&url).await.unwrap(), "hello");
    assert_eq!(script.asked.load(SeqCst), 1);
    assert_eq!(fetcher.fetch(&url).await.unwrap_err().reason, Reason::AddressBlocked);
    assert_eq!(script.asked.load(SeqCst), 2);
    assert_eq!(fetcher.fetch(&url).await.unwrap(), "hello");
    assert_eq!((server.connections(), inside.connections()), (2, 0));
}

#[tokio::test]
async fn a_name_that_does_not_resolve_says_so() {
    let script = Script::new(&[&[]]);
    let fetcher = Fetcher::with_resolver(&config(), script.clone()).unwrap();
    let url = format!("http://nowhere.example/?{SECRET}");
    let reject = checked(fetcher.fetch(&url).await).unwrap_err();
    assert_eq!((reject.reason, reject.detail.as_str()), (Reason::DnsFailed, "no such name"));
    assert_eq!(script.asked.load(SeqCst), 1);
}

// ---- fault 13: redirects ----

#[tokio::test]
async fn redirects_are_followed_up_to_the_limit() {
    let server = Server::start(|mut stream, _, request| async move {
        // /5 leads to /4 and so on; /0 is the picture.
        let path = request.split(' ').nth(1).unwrap_or_default();
        let left: usize = path.trim_start_matches('/').parse().unwrap();
        let answer = match left {
            0 => OK.to_vec(),
            n => redirect(&format!("/{}", n - 1)),
        };
        stream.write_all(&answer).await.unwrap();
    })
    .await;
    let url = |hops: usize| format!("http://{}/{hops}", server.address);
    assert_eq!(fetch(&config(), &url(5)).await.unwrap(), "hello");
    let before = server.connections();
    assert_eq!(reason(&config(), &url(20)).await, Reason::RedirectLoop);
    assert_eq!(server.connections() - before, 6);
}

#[tokio::test]
async fn a_redirect_to_itself_is_a_loop() {
    let server = Server::answering(vec![redirect("")]).await;
    assert_eq!(reason(&config(), &server.url()).await, Reason::RedirectLoop);
}

#[tokio::test]
async fn a_redirect_may_not_lead_inside() {
    let inside = Server::start_at("127.0.0.2:0", |mut stream, _, _| async move {
        let _ = stream.write_all(OK).await;
    })
    .await;
    let port = inside.address.port();
    for target in [
        format!("http://127.0.0.2:{port}/{SECRET}"),
        format!("//127.0.0.2:{port}/"),
        format!("http://2130706434:{port}/"),
        format!("http://[::ffff:127.0.0.2]:{port}/"),
        format!("http://inside.example:{port}/"),
        format!("http://u:{SECRET}@127.0.0.1:{port}/"),
        format!("gopher://127.0.0.1:{port}/"),
        "file:///etc/passwd".into(),
        "http://[oops/".into(),
    ] {
        let server = Server::answering(vec![redirect("/again"), redirect(&target)]).await;
        let script = Script::new(&[&["127.0.0.2"]]);
        let fetcher = Fetcher::with_resolver(&config(), script).unwrap();
        let reject = checked(fetcher.fetch(&server.url()).await).unwrap_err();
        assert_eq!(reject.reason, Reason::RedirectBlocked, "{target}: {reject}");
        assert_eq!(server.connections(), 2, "{target}");
    }
    assert_eq!(inside.connections(), 0);
}

#[tokio::test]
async fn a_redirect_without_a_target_is_an_http_error() {
    let server = Server::answering(vec![answer("302 Found", &[], b"")]).await;
    assert_eq!(reason(&config(), &server.url()).await, Reason::HttpStatus);
}

// ---- fault 14: opting out ----

#[tokio::test]
async fn opt_outs_are_honoured_before_the_body_is_read() {
    for headers in [
        &["X-Robots-Tag: noai"][..],
        &["x-robots-tag: NOAI"],
        &["X-ROBOTS-TAG: nofollow, NoImageAI"],
        &["X-Robots-Tag: recaption: noai"],
        &["X-Robots-Tag: nofollow", "X-Robots-Tag: noindex"],
        &["X-Robots-Tag: otherbot: all", "X-Robots-Tag: noml"],
        &["X-Robots-Tag: noai;noindex"],
        &["X-Robots-Tag: no\u{e4}i"],
    ] {
        let head =
            format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n{}\r\n\r\n", headers.join("\r\n"));
        let server = Server::start(move |mut stream, _, _| {
            let head = head.clone();
            async move {
                stream.write_all(head.as_bytes()).await.unwrap();
                hold(stream).await;
            }
        })
        .await;
        assert_eq!(reason(&config(), &server.url()).await, Reason::OptedOut, "{headers:?}");
        assert_eq!(server.connections(), 1, "no is no");
    }
}

#[tokio::test]
async fn other_robots_opt_outs_and_the_switch_let_pass() {
    let scoped = answer("200 OK", &["X-Robots-Tag: otherbot: noai, noindex"], b"hello");
    let server = Server::answering(vec![scoped]).await;
    assert_eq!(fetch(&config(), &server.url()).await.unwrap(), "hello");
    let server = Server::answering(vec![answer("200 OK", &["X-Robots-Tag: noai"], b"hello")]).await;
    let careless = Config { respect_opt_out: false, ..config() };
    assert_eq!(fetch(&careless, &server.url()).await.unwrap(), "hello");
}

#[tokio::test]
async fn an_opt_out_behind_a_redirect_counts() {
    let opted_out = answer("200 OK", &["X-Robots-Tag: noai"], b"hello");
    let server = Server::answering(vec![redirect("/b"), opted_out]).await;
    assert_eq!(reason(&config(), &server.url()).await, Reason::OptedOut);
}

// ---- fault 16: asked to slow down ----

#[tokio::test]
async fn retry_after_is_obeyed_up_to_a_cap() {
    let in_an_hour = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(3600));
    for (status, after, least_ms) in [
        ("429 Slower", "1", 50),
        ("503 Busy", "99999999999999999999", 50),
        ("429 Slower", in_an_hour.as_str(), 50),
        ("429 Slower", "-1", 0),
        ("429 Slower", "tomorrow", 0),
        ("503 Busy", "Sun, 06 Nov 1994 08:49:37 GMT", 0),
    ] {
        let busy = answer(status, &[&format!("Retry-After: {after}")], b"");
        let server = Server::answering(vec![busy, OK.to_vec()]).await;
        let start = Instant::now();
        assert_eq!(fetch(&config(), &server.url()).await.unwrap(), "hello", "{after}");
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(least_ms), "{after}: {took:?}");
        assert!(took < Duration::from_secs(20), "{after}: {took:?}");
        assert_eq!(server.connections(), 2);
    }
}

#[tokio::test]
async fn a_pause_is_for_the_host_that_asked() {
    let busy = answer("429 Slower", &["Retry-After: 9"], b"");
    let paused = Server::answering(vec![busy, OK.to_vec()]).await;
    let other = Server::answering(vec![OK.to_vec()]).await;
    let mut config = Config { concurrency: 1, ..config() };
    config.retry.asked_cap_ms = 600;
    let fetcher = Fetcher::new(&config).unwrap();
    let (first, second, url) = (paused.url(), paused.url(), other.url());
    let start = Instant::now();
    let neighbours = async {
        for _ in 0..10 {
            assert!(fetcher.fetch(&url).await.is_ok());
            sleep(Duration::from_millis(10)).await;
        }
        start.elapsed()
    };
    // The second row of the paused host was not refused itself, and waits all the same.
    let late = async {
        while paused.connections() == 0 {
            sleep(Duration::from_millis(1)).await;
        }
        sleep(Duration::from_millis(30)).await;
        let result = fetcher.fetch(&second).await;
        (result, start.elapsed())
    };
    let (first, (second, waited), neighbours) =
        tokio::join!(fetcher.fetch(&first), late, neighbours);
    assert!(first.is_ok() && second.is_ok());
    assert!(waited >= Duration::from_millis(600), "{waited:?}");
    assert!(neighbours < waited, "{neighbours:?}");
}

// ---- fault 17: dead hosts ----

async fn dead_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn a_hundred_thousand_rows_of_a_dead_host_are_done_in_no_time() {
    const ROWS: usize = 100_000;
    let url = format!("http://127.0.0.1:{}/?{SECRET}", dead_port().await);
    let fetcher = Fetcher::new(&Config { circuit_failures: 10, ..config() }).unwrap();
    let start = Instant::now();
    let rejects: Vec<Reject> = stream::iter(0..ROWS)
        .map(|_| async { checked(fetcher.fetch(&url).await).unwrap_err() })
        .buffer_unordered(256)
        .collect()
        .await;
    assert_eq!(rejects.len(), ROWS);
    // A few rows were the ones to find out; the others are told what those found.
    let refused = rejects.iter().filter(|r| r.reason == Reason::HostUnavailable).count();
    assert!(refused >= ROWS - 10, "{refused}");
    for reject in &rejects {
        assert!(reject.reason.retryable());
        assert!(reject.detail.contains("refused"), "{reject}");
    }
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_host_that_only_holds_connections_is_given_up_too() {
    let server = Server::start(|stream, _, _| hold(stream)).await;
    let config = Config { circuit_failures: 4, header_timeout_ms: 50, ..config() };
    let fetcher = Fetcher::new(&config).unwrap();
    let url = server.url();
    let results = join_all((0..500).map(|_| fetcher.fetch(&url))).await;
    let unavailable = |r: &Result<Bytes, Reject>| {
        r.as_ref().is_err_and(|reject| reject.reason == Reason::HostUnavailable)
    };
    assert!(results.iter().all(Result::is_err));
    assert!(results.iter().filter(|r| unavailable(r)).count() >= 490);
    assert!(server.connections() <= 12, "{}", server.connections());
}

#[tokio::test]
async fn a_host_that_comes_back_is_found_after_the_cooldown() {
    let port = dead_port().await;
    let url = format!("http://127.0.0.1:{port}/");
    let config = Config { circuit_failures: 2, circuit_cooldown_ms: 100, ..config() };
    let fetcher = Fetcher::new(&config).unwrap();
    assert!(fetcher.fetch(&url).await.is_err());
    let refused = fetcher.fetch(&url).await.unwrap_err();
    assert_eq!(refused.reason, Reason::HostUnavailable);
    assert!(refused.reason.retryable());
    let _server = Server::start_at(&format!("127.0.0.1:{port}"), |mut stream, _, _| async move {
        let _ = stream.write_all(OK).await;
    })
    .await;
    sleep(Duration::from_millis(120)).await;
    assert_eq!(fetcher.fetch(&url).await.unwrap(), "hello");
    assert_eq!(fetcher.fetch(&url).await.unwrap(), "hello");
}

// ---- settings ----

#[test]
fn settings_that_cannot_work_are_refused_by_name() {
    for (config, name) in [
        (Config { concurrency: 0, ..config() }, "concurrency"),
        (Config { per_host_concurrency: 0, ..config() }, "per_host_concurrency"),
        (Config { user_agent: "a\nb".into(), ..config() }, "user_agent"),
        (Config { private_networks: vec!["home".into()], ..config() }, "private_networks"),
    ] {
        let error = Fetcher::new(&config).err().expect(name);
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[tokio::test]
async fn absurdly_large_settings_do_not_overflow() {
    let server = Server::answering(vec![OK.to_vec()]).await;
    let config = Config {
        concurrency: usize::MAX,
        per_host_concurrency: usize::MAX,
        per_host_requests_per_second: u32::MAX,
        connect_timeout_ms: u64::MAX,
        header_timeout_ms: u64::MAX,
        read_timeout_ms: u64::MAX,
        total_deadline_ms: u64::MAX,
        max_bytes: u64::MAX,
        circuit_failures: 1,
        circuit_cooldown_ms: u64::MAX,
        retry: Policy { attempts: 2, base_ms: u64::MAX, cap_ms: 1, asked_cap_ms: u64::MAX },
        ..config()
    };
    assert_eq!(fetch(&config, &server.url()).await.unwrap(), "hello");
    let url = format!("http://127.0.0.1:{}/", dead_port().await);
    assert_eq!(reason(&config, &url).await, Reason::HostUnavailable);
}
