//! Bytes from a url that a stranger wrote: guarded, polite, bounded in time and size.
//!
//! A fetcher never decodes what it brings and never writes to disk. Each redirect is followed by
//! hand, because each is a new url from a stranger: it passes the guard, waits its turn at its
//! own host and is held to the same limits.

mod address;
mod answer;
mod config;
mod guard;
mod hosts;
mod optout;

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use bytes::Bytes;
use reqwest::Client;
use reqwest::Response;
use reqwest::Url;
use reqwest::dns::Resolve;
use reqwest::header::ACCEPT;
use reqwest::header::ACCEPT_ENCODING;
use reqwest::header::HeaderMap;
use reqwest::header::HeaderValue;
use reqwest::redirect;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio::time::timeout;

pub use crate::fetch::config::Config;

use crate::fetch::answer::Again;
use crate::fetch::answer::BodyLimits;
use crate::fetch::answer::Failure;
use crate::fetch::guard::Guard;
use crate::fetch::guard::GuardedResolver;
use crate::fetch::guard::SystemResolver;
use crate::fetch::hosts::Hosts;
use crate::fetch::optout::OptOut;
use crate::retry::Attempt;
use crate::retry::retry;
use crate::sample::Reason;
use crate::sample::Reject;

/// Idle connections are kept this long: enough for the next rows of the same host, and at a
/// thousand hosts a minute few enough for the usual limit of 1024 open files.
const KEEP_IDLE: Duration = Duration::from_secs(2);

/// Longest time that any setting can mean. Clocks overflow far beyond, and panic when they do.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// Fetches pictures. Clones share connections, limits and what is known about hosts.
#[derive(Clone)]
pub struct Fetcher {
    shared: Arc<Shared>,
}

struct Shared {
    config: Config,
    client: Client,
    guard: Guard,
    opt_out: Option<OptOut>,
    hosts: Hosts,
    /// Bounds the requests under way in the whole run.
    slots: Semaphore,
}

/// What one request brought, if it brought something.
enum Hop {
    Body(Bytes),
    Redirect(Url),
}

impl Fetcher {
    /// A fetcher that resolves names as the system does.
    pub fn new(config: &Config) -> Result<Fetcher> {
        Fetcher::with_resolver(config, Arc::new(SystemResolver))
    }

    /// A fetcher with a resolver of your own. Its answers are checked like the system's.
    pub fn with_resolver(config: &Config, inner: Arc<dyn Resolve>) -> Result<Fetcher> {
        ensure!(config.concurrency > 0, "fetch.concurrency is 0; nothing would ever be fetched");
        ensure!(
            config.per_host_concurrency > 0,
            "fetch.per_host_concurrency is 0; nothing would ever be fetched"
        );
        let guard = Guard::new(config)?;
        let resolver = GuardedResolver { inner, guard: guard.clone() };
        let shared = Shared {
            client: client(config, resolver)?,
            guard,
            opt_out: config.respect_opt_out.then(|| OptOut::new(config)),
            hosts: Hosts::new(config),
            slots: Semaphore::new(config.concurrency.min(Semaphore::MAX_PERMITS)),
            config: config.clone(),
        };
        Ok(Fetcher { shared: Arc::new(shared) })
    }

    /// The bytes behind a url, or why not. Any number of these may be polled at once: the fetcher
    /// itself bounds what is under way.
    pub async fn fetch(&self, url: &str) -> Result<Bytes, Reject> {
        let shared = &*self.shared;
        let url = shared.guard.check_url(url)?;
        let budget = Budget::new(duration(shared.config.total_deadline_ms));
        retry(&shared.config.retry, || shared.attempt(&url, &budget)).await
    }
}

fn client(config: &Config, resolver: GuardedResolver) -> Result<Client> {
    let agent = match &config.contact {
        Some(contact) => format!("{} (+{contact})", config.user_agent),
        None => config.user_agent.clone(),
    };
    let agent = HeaderValue::try_from(agent)
        .context("fetch.user_agent and fetch.contact must be printable ASCII on one line")?;
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("image/*,*/*;q=0.5"));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    Client::builder()
        .user_agent(agent)
        .default_headers(headers)
        .no_gzip()
        // With a proxy the resolver would not be asked, and so nothing would be guarded.
        .no_proxy()
        .redirect(redirect::Policy::none())
        .dns_resolver(resolver)
        .connect_timeout(duration(config.connect_timeout_ms))
        .pool_idle_timeout(KEEP_IDLE)
        .pool_max_idle_per_host(config.per_host_concurrency)
        .build()
        .context("cannot set up the HTTP client; are the system's CA certificates installed?")
}

impl Shared {
    async fn attempt(&self, url: &Url, budget: &Budget) -> Attempt<Bytes, Reject> {
        match self.follow(url, budget).await {
            Ok(bytes) => Attempt::Done(bytes),
            Err(Failure { reject, again }) => match again {
                _ if budget.left().is_zero() => Attempt::Fatal(reject),
                Again::Never => Attempt::Fatal(reject),
                Again::Later => Attempt::Again { error: reject, after: None },
                Again::After(pause) => Attempt::Again { error: reject, after: Some(pause) },
            },
        }
    }

    async fn follow(&self, url: &Url, budget: &Budget) -> Result<Bytes, Failure> {
        let mut url = url.clone();
        for hop in 0..=self.config.max_redirects {
            match self.hop(&url, budget).await {
                Ok(Hop::Body(bytes)) => return Ok(bytes),
                Ok(Hop::Redirect(to)) => url = to,
                Err(failure) if hop == 0 => return Err(failure),
                Err(failure) => return Err(behind_a_redirect(failure)),
            }
        }
        let detail = format!("more than {}", self.config.max_redirects);
        Err(Failure::never(Reason::RedirectLoop, detail))
    }

    /// One request, when its turn has come. The seat at the host comes before the slot of the run:
    /// the other way round, the queue of one slow host would hold every slot.
    async fn hop(&self, url: &Url, budget: &Budget) -> Result<Hop, Failure> {
        let host = self.hosts.host(url);
        let _seat = host.turn().await?;
        let _slot = self.slots.acquire().await.expect("the slots are never closed");
        let start = Instant::now();
        let result = self.exchange(url, start + budget.left()).await;
        budget.spend(start.elapsed());
        host.heard(result.as_ref().err());
        result
    }

    async fn exchange(&self, url: &Url, deadline: Instant) -> Result<Hop, Failure> {
        let response = self.head(url, deadline).await?;
        if let Some(peer) = response.remote_addr() {
            // Nothing should get here; a hole in the resolver's guard would show as this.
            self.guard.check_address(peer.ip()).map_err(Reject::from)?;
        }
        let (status, headers) = (response.status(), response.headers());
        if let Some(location) = answer::redirect_target(status, headers) {
            return Ok(Hop::Redirect(self.guard.check_redirect(url, &location)?));
        }
        answer::check_status(status, headers)?;
        if let Some(words) = self.opt_out.as_ref().and_then(|o| o.find(headers)) {
            return Err(Failure::never(Reason::OptedOut, words));
        }
        answer::check_encoding(headers)?;
        let limits = BodyLimits {
            max_bytes: self.config.max_bytes,
            silence: duration(self.config.read_timeout_ms),
            deadline,
        };
        answer::read_body(response, &limits).await.map(Hop::Body)
    }

    async fn head(&self, url: &Url, deadline: Instant) -> Result<Response, Failure> {
        let left = deadline.saturating_duration_since(Instant::now());
        let wait = duration(self.config.header_timeout_ms).min(left);
        match timeout(wait, self.client.get(url.clone()).send()).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(answer::unanswered(&error)),
            Err(_) => {
                let detail = format!("nothing within {} ms", wait.as_millis());
                Err(Failure::later(Reason::TimeoutHeader, detail))
            }
        }
    }
}

/// A name behind a redirect that resolves to a blocked address is the redirect's fault.
fn behind_a_redirect(mut failure: Failure) -> Failure {
    if failure.reject.reason == Reason::AddressBlocked {
        failure.reject.reason = Reason::RedirectBlocked;
    }
    failure
}

/// The time an item may still spend on the wire.
struct Budget {
    left: Mutex<Duration>,
}

impl Budget {
    fn new(whole: Duration) -> Budget {
        Budget { left: Mutex::new(whole) }
    }

    fn left(&self) -> Duration {
        *self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spend(&self, time: Duration) {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        *left = left.saturating_sub(time);
    }
}

fn duration(ms: u64) -> Duration {
    Duration::from_millis(ms).min(LONGEST)
}
