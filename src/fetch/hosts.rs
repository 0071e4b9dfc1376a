//! Politeness, host by host: seats, pace, pauses that were asked for, and a circuit that opens when
//! a host is dead.
//!
//! One host's trouble never holds up another: whoever waits here holds nothing that others need.
//! A host is forgotten when nobody uses it and nothing about it needs remembering, so that memory
//! follows the hosts in use and not the hosts in the list.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use governor::DefaultDirectRateLimiter;
use governor::Quota;
use governor::RateLimiter;
use reqwest::Url;
use tokio::sync::Semaphore;
use tokio::sync::SemaphorePermit;
use tokio::time::Instant;
use tokio::time::sleep_until;

use crate::fetch::answer::Again;
use crate::fetch::answer::Failure;
use crate::fetch::config::Config;
use crate::fetch::duration;
use crate::sample::Reason;

/// Hosts are only swept when there are at least this many: below, a sweep saves nothing.
const SWEEP_AT_LEAST: usize = 1024;

/// All hosts in use.
pub(crate) struct Hosts {
    rules: Rules,
    table: Mutex<Table>,
}

struct Table {
    hosts: HashMap<String, Arc<Host>>,
    sweep_at: usize,
}

/// The part of the configuration that is about hosts.
#[derive(Clone, Copy, Debug)]
struct Rules {
    seats: usize,
    per_second: Option<NonZeroU32>,
    circuit_failures: u32,
    cooldown: Duration,
    longest_pause: Duration,
    default_pause: Duration,
}

impl Hosts {
    pub(crate) fn new(config: &Config) -> Hosts {
        let rules = Rules {
            seats: config.per_host_concurrency.min(Semaphore::MAX_PERMITS),
            per_second: NonZeroU32::new(config.per_host_requests_per_second),
            circuit_failures: config.circuit_failures,
            cooldown: duration(config.circuit_cooldown_ms),
            longest_pause: duration(config.retry.asked_cap_ms),
            default_pause: duration(config.retry.base_ms),
        };
        let table = Table { hosts: HashMap::new(), sweep_at: SWEEP_AT_LEAST };
        Hosts { rules, table: Mutex::new(table) }
    }

    /// The host of a url: name and port, because a dead `https` door says nothing about `http`.
    pub(crate) fn host(&self, url: &Url) -> Arc<Host> {
        let port = url.port_or_known_default().unwrap_or_default();
        let key = format!("{}:{port}", url.host_str().unwrap_or_default());
        let mut table = lock(&self.table);
        if table.hosts.len() >= table.sweep_at {
            table.sweep(&self.rules);
        }
        table.hosts.entry(key).or_insert_with(|| Arc::new(Host::new(self.rules))).clone()
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        lock(&self.table).hosts.len()
    }
}

impl Table {
    /// Waits for twice the survivors before the next sweep: the cost per new host stays constant.
    fn sweep(&mut self, rules: &Rules) {
        let now = Instant::now();
        self.hosts.retain(|_, host| Arc::strong_count(host) > 1 || host.matters(now, rules));
        self.sweep_at = (self.hosts.len() * 2).max(SWEEP_AT_LEAST);
    }
}

/// One host.
pub(crate) struct Host {
    rules: Rules,
    seats: Semaphore,
    pace: Option<DefaultDirectRateLimiter>,
    state: Mutex<State>,
}

struct State {
    /// Failures since the last answer.
    failures: u32,
    /// Told to the rows that are refused, so that each says what is wrong with the host.
    last_failure: String,
    closed_until: Option<Instant>,
    paused_until: Option<Instant>,
    last_heard: Instant,
}

impl Host {
    fn new(rules: Rules) -> Host {
        let state = State {
            failures: 0,
            last_failure: String::new(),
            closed_until: None,
            paused_until: None,
            last_heard: Instant::now(),
        };
        Host {
            rules,
            seats: Semaphore::new(rules.seats),
            // Bursts of more than one would defeat the pace for hosts with a handful of pictures.
            pace: rules
                .per_second
                .map(|n| RateLimiter::direct(Quota::per_second(n).allow_burst(NonZeroU32::MIN))),
            state: Mutex::new(state),
        }
    }

    /// Waits for a seat, the end of any pause, and the pace. Fails at once while the host is given
    /// up, also for those who were already waiting: a dead host's long queue drains in no time.
    pub(crate) async fn turn(&self) -> Result<SemaphorePermit<'_>, Failure> {
        let seat = self.seats.acquire().await.expect("the seats are never closed");
        self.refuse_while_closed()?;
        while let Some(until) = self.pause() {
            sleep_until(until).await;
            self.refuse_while_closed()?;
        }
        if let Some(pace) = &self.pace {
            pace.until_ready().await;
        }
        Ok(seat)
    }

    /// Learns from an exchange: `None` when it went well.
    pub(crate) fn heard(&self, failure: Option<&Failure>) {
        let now = Instant::now();
        let mut state = lock(&self.state);
        state.last_heard = now;
        match failure {
            Some(failure) if failure.reject.reason == Reason::RateLimited => {
                state.pause(now, failure.again, &self.rules);
                state.fail(now, failure, &self.rules);
            }
            Some(failure) if is_silence(failure.reject.reason) => {
                state.fail(now, failure, &self.rules);
            }
            _ => state.answered(),
        }
    }

    fn refuse_while_closed(&self) -> Result<(), Failure> {
        let now = Instant::now();
        let state = lock(&self.state);
        match state.closed_until {
            Some(until) if until > now => Err(Failure::never(
                Reason::HostUnavailable,
                format!(
                    "left alone for {} s after {} failures in a row, the last: {}",
                    (until - now).as_secs() + 1,
                    self.rules.circuit_failures,
                    state.last_failure
                ),
            )),
            _ => Ok(()),
        }
    }

    fn pause(&self) -> Option<Instant> {
        lock(&self.state).paused_until.filter(|&until| until > Instant::now())
    }

    fn matters(&self, now: Instant, rules: &Rules) -> bool {
        let state = lock(&self.state);
        // A second settles the pace; failures are remembered for as long as a circuit would be.
        let memory = if state.failures > 0 { rules.cooldown } else { Duration::from_secs(1) };
        [Some(state.last_heard + memory), state.paused_until, state.closed_until]
            .into_iter()
            .flatten()
            .any(|until| now < until)
    }
}

impl State {
    /// One failure short of the limit is where the circuit stays when its time is up: the next
    /// failure closes the host again, the next answer clears it.
    fn fail(&mut self, now: Instant, failure: &Failure, rules: &Rules) {
        self.failures = self.failures.saturating_add(1);
        if rules.circuit_failures > 0 && self.failures >= rules.circuit_failures {
            self.failures = rules.circuit_failures - 1;
            self.closed_until = Some(now + rules.cooldown);
            self.last_failure = failure.reject.to_string();
        }
    }

    fn pause(&mut self, now: Instant, again: Again, rules: &Rules) {
        let asked = match again {
            Again::After(asked) => asked,
            Again::Never | Again::Later => rules.default_pause,
        };
        let until = now + asked.min(rules.longest_pause);
        self.paused_until = self.paused_until.max(Some(until));
    }

    fn answered(&mut self) {
        self.failures = 0;
        self.closed_until = None;
    }
}

/// Whether the host, and not the picture, is what failed.
fn is_silence(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::DnsFailed
            | Reason::ConnectionFailed
            | Reason::TimeoutConnect
            | Reason::TimeoutHeader
            | Reason::TimeoutBody
    )
}

/// The data behind these locks is whole after every statement, so a panic elsewhere spoils nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn silence() -> Failure {
        Failure::later(Reason::ConnectionFailed, "refused")
    }

    fn too_much(pause: Duration) -> Failure {
        Failure { again: Again::After(pause), ..Failure::later(Reason::RateLimited, "429") }
    }

    async fn is_open(host: &Host) -> bool {
        host.turn().await.is_ok()
    }

    #[tokio::test]
    async fn a_host_closes_after_failures_in_a_row_and_gets_one_chance_after_the_cooldown() {
        let config = Config { circuit_failures: 3, circuit_cooldown_ms: 50, ..Config::default() };
        let host = Hosts::new(&config).host(&url("http://a.example/"));
        for heard in [Some(&silence()), Some(&silence()), None, Some(&silence())] {
            host.heard(heard);
        }
        host.heard(Some(&silence()));
        assert!(is_open(&host).await);
        host.heard(Some(&silence()));
        let refused = host.turn().await.unwrap_err().reject.detail;
        assert!(refused.ends_with("connection failed (refused)"), "{refused}");
        tokio::time::sleep(Duration::from_millis(60)).await;
        assert!(is_open(&host).await);
        host.heard(Some(&silence()));
        assert!(!is_open(&host).await);
        host.heard(None);
        assert!(is_open(&host).await);
    }

    #[tokio::test]
    async fn a_pause_holds_its_host_and_no_other() {
        let hosts = Hosts::new(&Config::default());
        let paused = hosts.host(&url("http://a.example/"));
        paused.heard(Some(&too_much(Duration::from_millis(80))));
        let start = Instant::now();
        assert!(hosts.host(&url("http://b.example/")).pause().is_none());
        assert!(is_open(&paused).await);
        assert!(start.elapsed() >= Duration::from_millis(80));
    }

    #[tokio::test]
    async fn pauses_are_cut() {
        let hosts = Hosts::new(&Config::default());
        let host = hosts.host(&url("http://a.example/"));
        host.heard(Some(&too_much(Duration::MAX)));
        let cap = Duration::from_millis(Config::default().retry.asked_cap_ms);
        assert!(host.pause().unwrap() <= Instant::now() + cap);
    }

    #[tokio::test]
    async fn hosts_without_a_story_are_forgotten() {
        let hosts = Hosts::new(&Config { circuit_failures: 2, ..Config::default() });
        let in_use = hosts.host(&url("http://in-use.example/"));
        let failed = hosts.host(&url("http://failed.example/"));
        failed.heard(Some(&silence()));
        drop(failed);
        let closed = hosts.host(&url("http://closed.example/"));
        closed.heard(Some(&silence()));
        closed.heard(Some(&silence()));
        drop(closed);
        for n in 0..10_000 {
            let host = hosts.host(&url(&format!("http://h{n}.example/")));
            // As if a minute had passed; the clock itself cannot be moved on this runtime.
            lock(&host.state).last_heard = Instant::now() - Duration::from_secs(2);
        }
        assert!(hosts.len() <= 2 * SWEEP_AT_LEAST, "{}", hosts.len());
        assert!(Arc::ptr_eq(&in_use, &hosts.host(&url("http://in-use.example/x"))));
        let failed = hosts.host(&url("http://failed.example/"));
        assert_eq!(lock(&failed.state).failures, 1);
        assert!(!is_open(&hosts.host(&url("http://closed.example/"))).await);
    }

    #[test]
    fn a_host_is_a_name_and_a_port() {
        let hosts = Hosts::new(&Config::default());
        let host = hosts.host(&url("http://a.example/x"));
        assert!(Arc::ptr_eq(&host, &hosts.host(&url("http://A.example:80/y"))));
        assert!(!Arc::ptr_eq(&host, &hosts.host(&url("https://a.example/x"))));
    }
}
