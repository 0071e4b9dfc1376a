//! Asks an OpenAI-compatible endpoint: one request for each chat, within everybody's limits.
//!
//! Errors have three classes. Of the moment (429, 5xx, timeouts, broken bodies): tried again with
//! backoff, then the row's error. Of the row (400, 413, 422: too long, filtered): the row's error at
//! once. Of the run (401, 403, 404; or many rows in a row without one success): the end, because the
//! next million requests would end the same. The key lives in a [`SecretString`] and one header; no
//! redirect is followed, so it goes to one host only, and every text from the server is searched for
//! it before it is used.

use std::env;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::SystemTime;

use anyhow::Context;
use anyhow::Result;
use anyhow::anyhow;
use anyhow::bail;
use governor::DefaultDirectRateLimiter;
use governor::Quota;
use governor::RateLimiter;
use reqwest::Client;
use reqwest::RequestBuilder;
use reqwest::Response;
use reqwest::StatusCode;
use reqwest::Url;
use reqwest::header::AUTHORIZATION;
use reqwest::header::HeaderValue;
use reqwest::header::RETRY_AFTER;
use schemars::JsonSchema;
use secrecy::ExposeSecret;
use secrecy::SecretString;
use serde::Deserialize;
use serde::Serialize;
use serde_json::json;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::describe::wire;
use crate::describe::writer::Appetite;
use crate::describe::writer::OnReply;
use crate::describe::writer::Prompted;
use crate::describe::writer::Reply;
use crate::describe::writer::RowError;
use crate::describe::writer::Writer;
use crate::retry::Attempt;
use crate::retry::Policy;
use crate::retry::retry;
use crate::retry::retry_after;

/// Where to ask and how politely.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RemoteConfig {
    /// Everything before `/chat/completions`, for example `http://127.0.0.1:8000/v1`.
    pub base_url: String,
    /// The model, as the endpoint names it.
    pub model: String,
    /// Environment variable that holds the API key; none is sent if it is not set.
    pub api_key_env: String,
    /// Requests in flight at once.
    pub concurrency: usize,
    /// Requests a minute; 0 for no limit of ours.
    pub requests_per_minute: u32,
    /// Prompt and completion tokens a minute, estimated before sending; 0 for no limit of ours.
    pub tokens_per_minute: u32,
    /// Seconds until one attempt is given up.
    pub timeout_s: u64,
    /// Attempts and pauses when the endpoint fails for the moment.
    pub retry: Policy,
    /// So many rows failing one after another, with no success between them, end the run; 0 never.
    pub give_up_after: u32,
    /// Longest reply, in tokens.
    pub max_tokens: u32,
    /// Sampling temperature.
    pub temperature: f32,
    /// Further fields of the request body, for example `{ top_k = 1 }`.
    pub extra: serde_json::Map<String, serde_json::Value>,
    /// Fields this endpoint does not accept: `seed`, `temperature`, `max_tokens`.
    pub omit: Vec<String>,
}

impl Default for RemoteConfig {
    fn default() -> RemoteConfig {
        RemoteConfig {
            base_url: String::new(),
            model: String::new(),
            api_key_env: "OPENAI_API_KEY".to_owned(),
            // Small local servers have this many slots; big ones want far more and say so.
            concurrency: 8,
            requests_per_minute: 0,
            tokens_per_minute: 0,
            // A queue of a busy server, not the writing of one sentence, is what takes long.
            timeout_s: 120,
            retry: Policy { attempts: 5, base_ms: 1_000, cap_ms: 30_000, asked_cap_ms: 120_000 },
            // More rows than are ever bad by themselves, few enough to lose minutes, not nights.
            give_up_after: 25,
            // One sentence of 60 words; without a limit a looping model is paid by the page.
            max_tokens: 96,
            // The likeliest words: the least invented.
            temperature: 0.0,
            extra: serde_json::Map::new(),
            omit: Vec::new(),
        }
    }
}

/// A larger answer than any sentence can need.
const MAX_BODY_BYTES: usize = 1 << 20;

/// Characters to a token, low enough to rather overestimate what a request costs.
const CHARS_PER_TOKEN: usize = 3;

/// The writer that asks an endpoint.
pub struct Remote {
    // Before the runtime, so that its tasks end with nothing left to share.
    shared: Arc<Shared>,
    runtime: Runtime,
}

struct Shared {
    config: RemoteConfig,
    url: Url,
    client: Client,
    key: Option<SecretString>,
    slots: Semaphore,
    requests: Option<DefaultDirectRateLimiter>,
    tokens: Option<DefaultDirectRateLimiter>,
    /// Nobody sends before this moment: the endpoint asked one of us to wait.
    not_before: Mutex<Option<Instant>>,
    failed_in_a_row: AtomicU32,
}

/// Why a request brought no reply.
enum Failure {
    Row(RowError),
    Run(anyhow::Error),
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("config", &self.shared.config).finish_non_exhaustive()
    }
}

impl Remote {
    /// Prepares to ask; sends nothing yet. The key is read from the environment here, once.
    pub fn open(config: &RemoteConfig) -> Result<Remote> {
        let key = env::var(&config.api_key_env).ok().filter(|key| !key.trim().is_empty());
        Remote::with_key(config, key.map(|key| SecretString::from(key.trim())))
    }

    /// The same with a key from elsewhere.
    pub fn with_key(config: &RemoteConfig, key: Option<SecretString>) -> Result<Remote> {
        let url = base_url(&config.base_url)?;
        if config.model.is_empty() {
            bail!("the remote writer has no model: set `model` to a name the endpoint knows");
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            // Requests wait far more than they compute.
            .worker_threads(2)
            .thread_name("describe-remote")
            .enable_all()
            .build()
            .context("cannot start the threads of the remote writer")?;
        let shared = Arc::new(Shared {
            client: client(config, &url)?,
            slots: Semaphore::new(config.concurrency.clamp(1, Semaphore::MAX_PERMITS)),
            requests: limiter(config.requests_per_minute),
            tokens: limiter(config.tokens_per_minute),
            not_before: Mutex::new(None),
            failed_in_a_row: AtomicU32::new(0),
            config: config.clone(),
            url,
            key,
        });
        Ok(Remote { shared, runtime })
    }
}

impl Writer for Remote {
    fn name(&self) -> &'static str {
        "remote"
    }

    fn identity(&self) -> serde_json::Value {
        // Not the address: the same model behind another port gives the same answers.
        json!({ "writer": "remote", "parameters": wire::parameters(&self.shared.config) })
    }

    fn appetite(&self) -> Appetite {
        // Two callers keep every slot busy while one of them waits for its slowest row.
        Appetite { threads: 2, batch: self.shared.config.concurrency.max(1) * 2 }
    }

    fn probe(&self) -> Result<String> {
        self.runtime.block_on(self.shared.probe())
    }

    fn write(&self, batch: &[Prompted], on_reply: &OnReply<'_>) -> Result<()> {
        self.runtime.block_on(async {
            // Dropping the set, on an error, ends what is still in flight.
            let mut tasks = JoinSet::new();
            for (index, prompted) in batch.iter().enumerate() {
                let (shared, prompted) = (Arc::clone(&self.shared), prompted.clone());
                tasks.spawn(async move { (index, shared.ask(&prompted).await) });
            }
            while let Some(done) = tasks.join_next().await {
                let (index, answer) = done.context("a request of the remote writer panicked")?;
                match answer {
                    Ok(reply) => on_reply(index, Ok(reply))?,
                    Err(Failure::Row(error)) => on_reply(index, Err(error))?,
                    Err(Failure::Run(error)) => return Err(error),
                }
            }
            Ok(())
        })
    }
}

impl Shared {
    /// One chat: waits for its turn, asks until it is done or hopeless.
    async fn ask(&self, prompted: &Prompted) -> Result<Reply, Failure> {
        let _slot = self.slots.acquire().await.map_err(|e| Failure::Run(anyhow!(e)))?;
        let body = wire::request(&self.config, prompted);
        let tokens = self.estimate(prompted);
        let answer = retry(&self.config.retry, || self.attempt(&body, tokens)).await;
        match answer {
            Ok(_) => self.failed_in_a_row.store(0, Ordering::Relaxed),
            Err(Failure::Row(error)) => return Err(self.count_failure(error)),
            Err(Failure::Run(_)) => {}
        }
        answer
    }

    async fn attempt(&self, body: &serde_json::Value, tokens: u32) -> Attempt<Reply, Failure> {
        self.wait_for_turn(tokens).await;
        let response = match self.post().json(body).send().await {
            Ok(response) => response,
            Err(error) => return again(self.describe(error), None),
        };
        let status = response.status();
        let asked = asked_pause(&response);
        let body = match read(response).await {
            Ok(body) => self.without_key(body),
            Err(error) => return again(error, None),
        };
        if status.is_success() {
            return match wire::reply(&body, &self.config.model) {
                Ok(reply) => Attempt::Done(reply),
                Err(error) => again(format!("the answer is not a chat completion: {error}"), None),
            };
        }
        self.judge(status, &wire::error_text(&body), asked)
    }

    fn judge(
        &self,
        status: StatusCode,
        said: &str,
        asked: Option<Duration>,
    ) -> Attempt<Reply, Failure> {
        let reason = format!("endpoint answered {}: {said}", status.as_u16());
        match status.as_u16() {
            401 | 403 => Attempt::Fatal(Failure::Run(anyhow!(
                "{reason}\n{} does not accept the key: put a valid one into the environment \
                 variable {} and run the same command again",
                self.config.base_url,
                self.config.api_key_env
            ))),
            404 | 405 => Attempt::Fatal(Failure::Run(anyhow!(
                "{reason}\n{}/chat/completions does not know the model {:?}, or is no such \
                 endpoint: check `base_url` and `model`",
                self.config.base_url,
                self.config.model
            ))),
            408 | 409 | 425 | 429 | 500..=599 => {
                if status == StatusCode::TOO_MANY_REQUESTS || asked.is_some() {
                    self.hold_everyone(asked);
                }
                again(reason, asked)
            }
            _ => Attempt::Fatal(Failure::Row(RowError { reason, retryable: false })),
        }
    }

    /// A limit is the endpoint's, not the row's: the others in flight would only meet it too.
    fn hold_everyone(&self, asked: Option<Duration>) {
        let until = Instant::now() + self.config.retry.pause(1, asked);
        let mut not_before = self.not_before.lock().unwrap_or_else(PoisonError::into_inner);
        *not_before = Some(not_before.map_or(until, |earlier| earlier.max(until)));
    }

    async fn wait_for_turn(&self, tokens: u32) {
        take(self.requests.as_ref(), 1).await;
        take(self.tokens.as_ref(), tokens).await;
        let hold = || *self.not_before.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(until) = hold().filter(|until| *until > Instant::now()) {
            tokio::time::sleep_until(until).await;
        }
    }

    /// Many different rows failing without one success: it is not the rows.
    fn count_failure(&self, error: RowError) -> Failure {
        let failed = self.failed_in_a_row.fetch_add(1, Ordering::Relaxed) + 1;
        let limit = self.config.give_up_after;
        if limit == 0 || failed < limit {
            return Failure::Row(error);
        }
        Failure::Run(anyhow!(
            "{failed} rows in a row had no answer from {}, the last because: {}\ncheck the endpoint \
             and run the same command again (stored answers are kept), or raise `give_up_after`",
            self.config.base_url,
            error.reason
        ))
    }

    async fn probe(&self) -> Result<String> {
        let base = &self.config.base_url;
        let response = self
            .authorised(self.client.get(endpoint(&self.url, "models")))
            .send()
            .await
            .map_err(|error| anyhow!("{base} does not answer: {}", self.describe(error)))?;
        let status = response.status();
        let body = self.without_key(read(response).await.map_err(|e| anyhow!(e))?);
        if matches!(status.as_u16(), 401 | 403) {
            let variable = &self.config.api_key_env;
            bail!("{base} does not accept the key: put a valid one into {variable}");
        }
        let model = &self.config.model;
        match wire::model_names(&body).filter(|_| status.is_success()) {
            Some(names) if names.contains(model) => Ok(format!("{base} answers and has {model}")),
            Some(names) => {
                bail!("{base} does not list the model {model:?}; it has: {}", names.join(", "))
            }
            // Listing is optional in this protocol; the first request will tell.
            None => {
                Ok(format!("{base} answers ({}), but does not list its models", status.as_u16()))
            }
        }
    }

    fn post(&self) -> RequestBuilder {
        self.authorised(self.client.post(endpoint(&self.url, "chat/completions")))
    }

    fn authorised(&self, request: RequestBuilder) -> RequestBuilder {
        let Some(key) = &self.key else { return request };
        match HeaderValue::from_str(&format!("Bearer {}", key.expose_secret())) {
            Ok(mut value) => {
                value.set_sensitive(true);
                request.header(AUTHORIZATION, value)
            }
            // A key with a line break in it: the endpoint will answer 401, which says what to do.
            Err(_) => request,
        }
    }

    /// Servers quote the key they refuse, and a hostile one may put it into a reply.
    fn without_key(&self, body: Vec<u8>) -> Vec<u8> {
        let Some(key) = &self.key else { return body };
        let text = String::from_utf8_lossy(&body);
        match text.contains(key.expose_secret()) {
            true => text.replace(key.expose_secret(), "[key]").into_bytes(),
            false => body,
        }
    }

    fn describe(&self, error: reqwest::Error) -> String {
        if error.is_timeout() {
            return format!("no answer within {} s", self.config.timeout_s);
        }
        let mut text = String::new();
        let mut cause: Option<&dyn std::error::Error> = Some(&error.without_url());
        while let Some(error) = cause {
            text = if text.is_empty() { error.to_string() } else { format!("{text}: {error}") };
            cause = error.source();
        }
        text
    }

    fn estimate(&self, prompted: &Prompted) -> u32 {
        let chars: usize = prompted.chat.messages().map(|(_, text)| text.len()).sum();
        let prompt = u32::try_from(chars / CHARS_PER_TOKEN).unwrap_or(u32::MAX);
        prompt.saturating_add(self.config.max_tokens)
    }
}

fn again(reason: String, after: Option<Duration>) -> Attempt<Reply, Failure> {
    Attempt::Again { error: Failure::Row(RowError { reason, retryable: true }), after }
}

fn asked_pause(response: &Response) -> Option<Duration> {
    let value = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    retry_after(value, SystemTime::now())
}

async fn read(mut response: Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > MAX_BODY_BYTES => {
                return Err(format!("the answer is larger than {MAX_BODY_BYTES} bytes"));
            }
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Ok(body),
            Err(error) if error.is_timeout() => return Err("the answer broke off: timeout".into()),
            Err(error) => return Err(format!("the answer broke off: {}", error.without_url())),
        }
    }
}

fn base_url(text: &str) -> Result<Url> {
    if text.is_empty() {
        bail!(
            "the remote writer has no address: set `base_url` to what stands before \
             /chat/completions, for example http://127.0.0.1:8000/v1"
        );
    }
    // The text is not repeated in the error: a password may stand in it.
    let url = Url::parse(text).context("`base_url` of the remote writer is not a URL")?;
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
        bail!(
            "`base_url` of the remote writer has a user name, password or query in it, which would \
             be written to run.json: put the key into an environment variable instead"
        );
    }
    if !matches!(url.scheme(), "http" | "https") || url.cannot_be_a_base() {
        bail!("`base_url` of the remote writer must begin with http:// or https://");
    }
    Ok(url)
}

fn endpoint(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}/{path}", base.path().trim_end_matches('/')));
    url
}

fn client(config: &RemoteConfig, url: &Url) -> Result<Client> {
    let builder = Client::builder()
        .timeout(Duration::from_secs(config.timeout_s.max(1)))
        .pool_max_idle_per_host(config.concurrency)
        // A redirect could carry the key elsewhere, and no chat endpoint needs one.
        .redirect(reqwest::redirect::Policy::none());
    let host = url.host_str().unwrap_or_default();
    let local = host == "localhost" || host.starts_with("127.") || host == "[::1]";
    // A proxy cannot reach this machine's own servers.
    let builder = if local { builder.no_proxy() } else { builder };
    builder.build().context("cannot prepare the HTTP client of the remote writer")
}

/// A limiter that spreads its minute: at most ten seconds' worth at once, because servers count
/// in windows and a full burst at the start would be followed by a full minute's trickle.
fn limiter(per_minute: u32) -> Option<DefaultDirectRateLimiter> {
    const BURSTS_PER_MINUTE: u32 = 6;
    let quota = Quota::per_minute(NonZeroU32::new(per_minute)?);
    let burst = NonZeroU32::new(per_minute.div_ceil(BURSTS_PER_MINUTE))?;
    Some(RateLimiter::direct(quota.allow_burst(burst)))
}

/// Waits until `amount` may be used, in pieces no larger than the limiter's burst.
async fn take(limiter: Option<&DefaultDirectRateLimiter>, amount: u32) {
    let Some(limiter) = limiter else { return };
    let mut left = amount;
    let mut piece = amount;
    while let Some(n) = NonZeroU32::new(piece.min(left)) {
        match limiter.until_n_ready(n).await {
            Ok(_) => left -= n.get(),
            Err(too_much) => piece = too_much.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked_before_anything_is_sent() {
        for (url, says) in [
            ("", "set `base_url`"),
            ("no url", "not a URL"),
            ("ftp://host/v1", "http://"),
            ("mailto:a@b", "http://"),
            ("http://user:secret@host/v1", "environment variable"),
            ("http://host/v1?api_key=secret", "environment variable"),
        ] {
            let message = format!("{:#}", base_url(url).unwrap_err());
            assert!(message.contains(says) && !message.contains("secret"), "{url}: {message}");
        }
        for base in ["http://h:8000/v1", "http://h:8000/v1/"] {
            let url = endpoint(&base_url(base).unwrap(), "chat/completions");
            assert_eq!(url.as_str(), "http://h:8000/v1/chat/completions");
        }
    }

    #[test]
    fn a_limit_spreads_and_takes_more_than_its_burst_in_pieces() {
        assert!(limiter(0).is_none());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let fast = limiter(60_000).unwrap();
            let start = Instant::now();
            take(Some(&fast), 10_100).await;
            let waited = start.elapsed();
            assert!(waited >= Duration::from_millis(90), "{waited:?}");
            assert!(waited < Duration::from_secs(5), "{waited:?}");
        });
    }
}
