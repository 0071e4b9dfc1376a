//! One endpoint: what is sent to it, what its answers mean, what it says of itself.
//!
//! Answers have four classes. Of the moment (429, 5xx, timeouts, broken bodies): tried again, here or
//! elsewhere. Of the row (400, 413, 422: too long, filtered): the row's error at once. Of the endpoint
//! (401, 403, 404): nobody asks it any more. The key lives in a [`SecretString`] and one header; no
//! redirect is followed, so it goes to one host only, and every text from the server is searched for it
//! before it is used.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::SystemTime;

use anyhow::Context;
use anyhow::Result;
use anyhow::anyhow;
use anyhow::bail;
use reqwest::Client;
use reqwest::RequestBuilder;
use reqwest::Response;
use reqwest::Url;
use reqwest::header::AUTHORIZATION;
use reqwest::header::CONTENT_TYPE;
use reqwest::header::HeaderValue;
use reqwest::header::RETRY_AFTER;
use secrecy::ExposeSecret;
use secrecy::SecretString;
use serde_json::Map;
use serde_json::Value;

use crate::chat::config::Place;
use crate::chat::wire;
use crate::chat::writer::Prompted;
use crate::chat::writer::Reply;
use crate::retry::retry_after;

/// A larger answer than any sentence can need.
const MAX_BODY_BYTES: usize = 1 << 20;

/// How long an endpoint may take to say what it has.
const PROBE: Duration = Duration::from_secs(10);

/// An endpoint that can be asked.
pub(super) struct Endpoint {
    pub(super) place: Place,
    url: Url,
    client: Client,
    key: Option<SecretString>,
    timeout: Duration,
    /// Whether it can be held to a JSON Schema, as far as is known.
    takes_schema: AtomicBool,
}

/// What came of one request.
pub(super) enum Answer {
    /// A chat completion.
    Reply(Reply),
    /// It may go better in a moment, or elsewhere.
    Moment {
        reason: String,
        /// The pause that was asked for.
        after: Option<Duration>,
        /// Whether it was refused for being one of too many.
        is_refusal: bool,
    },
    /// This row will never go better.
    Row(String),
    /// No row will ever go better here; with what to do.
    Endpoint(String),
}

/// What an endpoint says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) line: String,
    /// Requests that it works on at once, where it says so.
    pub(super) slots: Option<usize>,
    /// Whether it will answer, but not yet.
    pub(super) is_loading: bool,
}

impl Endpoint {
    pub(super) fn new(place: Place, timeout_s: u64, key: Option<SecretString>) -> Result<Endpoint> {
        let url = base_url(&place.base_url)?;
        if place.model.is_empty() {
            bail!("the remote writer has no model: set `model` to a name the endpoint knows");
        }
        if !(place.weight.is_finite() && place.weight > 0.0) {
            bail!("the weight of {} is {}; it must be above 0", place.base_url, place.weight);
        }
        let timeout = Duration::from_secs(timeout_s.max(1));
        let client = client(&url, place.max_concurrency, timeout)?;
        let takes_schema = AtomicBool::new(true);
        Ok(Endpoint { place, url, client, key, timeout, takes_schema })
    }

    /// One chat, one answer. A server that cannot be held to a schema is not, from its first refusal on.
    pub(super) async fn ask(
        &self,
        parameters: &Map<String, Value>,
        seed: Option<u64>,
        prompted: &Prompted,
    ) -> Answer {
        let is_held = prompted.schema.is_some() && self.takes_schema.load(Ordering::Relaxed);
        let body = |is_held| {
            wire::request(parameters, &self.place.model, seed, prompted, is_held)
                .map_err(|error| Answer::Row(error.to_string()))
        };
        let answer = match body(is_held) {
            Ok(body) => self.post(body).await,
            Err(answer) => answer,
        };
        match answer {
            // Also of the moment: llama_cpp.server answers 500 to a field that it does not know.
            Answer::Row(said) | Answer::Moment { reason: said, .. }
                if is_held && wire::is_about_schema(&said) =>
            {
                self.takes_schema.store(false, Ordering::Relaxed);
                match body(false) {
                    Ok(body) => self.post(body).await,
                    Err(answer) => answer,
                }
            }
            answer => answer,
        }
    }

    async fn post(&self, body: Vec<u8>) -> Answer {
        let request = self.authorised(self.client.post(endpoint(&self.url, "chat/completions")));
        let request = request.header(CONTENT_TYPE, "application/json").body(body);
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => return self.lost(error),
        };
        let (status, after) = (response.status().as_u16(), asked_pause(&response));
        let body = match read(response).await {
            Ok(body) => self.without_key(body),
            Err(reason) => return moment(reason, None),
        };
        if !(200..300).contains(&status) {
            return self.judge(status, &wire::error_text(&body), after);
        }
        match wire::reply(&body, &self.place.model) {
            Ok(reply) => Answer::Reply(reply),
            Err(error) => moment(format!("the answer is not a chat completion: {error}"), None),
        }
    }

    fn judge(&self, status: u16, said: &str, after: Option<Duration>) -> Answer {
        let Place { base_url, model, api_key_env, .. } = &self.place;
        let reason = format!("endpoint answered {status}: {said}");
        match status {
            401 | 403 => Answer::Endpoint(format!(
                "{reason}\n{base_url} does not accept the key: put a valid one into the environment \
                 variable {api_key_env} and run the same command again"
            )),
            404 | 405 => Answer::Endpoint(format!(
                "{reason}\n{base_url}/chat/completions does not know the model {model:?}, or is no \
                 such endpoint: check `base_url` and `model`"
            )),
            402 => Answer::Endpoint(format!(
                "{reason}\n{base_url} wants to be paid: see to the account of the key in {api_key_env} and \
                 run the same command again"
            )),
            300..=399 => Answer::Endpoint(format!(
                "{reason}\n{base_url} sends elsewhere, and a key is sent to nobody else: put the address \
                 that it names into `base_url`"
            )),
            429 | 503 => Answer::Moment { reason, after, is_refusal: true },
            408 | 409 | 425 | 500..=599 => moment(reason, after),
            _ => Answer::Row(reason),
        }
    }

    /// A server that is given too much answers late.
    fn lost(&self, error: reqwest::Error) -> Answer {
        let is_refusal = error.is_timeout() && !error.is_connect();
        Answer::Moment { reason: self.describe(error), after: None, is_refusal }
    }

    /// Does it answer, has it the model, how many requests does it work on at once?
    ///
    /// # Errors
    /// When no row can be answered, as things are; says what to do.
    pub(super) async fn probe(&self) -> Result<Found> {
        let Place { base_url, model, api_key_env, .. } = &self.place;
        if self.is_loading().await {
            let line = format!("{base_url} is still loading its model");
            return Ok(Found { line, slots: None, is_loading: true });
        }
        let (status, body) = self.get(endpoint(&self.url, "models")).await?;
        if matches!(status, 401 | 403) {
            bail!("{base_url} does not accept the key: put a valid one into {api_key_env}");
        }
        let slots = self.slots().await;
        let of_slots = slots.map_or_else(String::new, |slots| format!(", {slots} slots"));
        let line = match wire::model_names(&body).filter(|_| status == 200) {
            Some(names) if names.contains(model) => {
                format!("{base_url} answers and has {model}{of_slots}")
            }
            Some(names) => {
                bail!("{base_url} does not list the model {model:?}; it has: {}", names.join(", "))
            }
            // Listing is optional in this protocol; the first request will tell.
            None => {
                format!("{base_url} answers ({status}), but does not list its models{of_slots}")
            }
        };
        Ok(Found { line, slots, is_loading: false })
    }

    /// llama.cpp, vLLM and SGLang say 503 beside their API until they can answer; others answer 404.
    async fn is_loading(&self) -> bool {
        let url = endpoint(&self.base_url_without_version(), "health");
        self.get(url).await.is_ok_and(|(status, _)| status == 503)
    }

    /// llama.cpp says beside its API, not within, how many slots it has; others answer 404.
    async fn slots(&self) -> Option<usize> {
        let base = self.base_url_without_version();
        let (status, body) = self.get(endpoint(&base, "props")).await.ok()?;
        (status == 200).then(|| wire::slots(&body))?
    }

    fn base_url_without_version(&self) -> Url {
        let mut url = self.url.clone();
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(path.strip_suffix("/v1").unwrap_or(&path));
        url
    }

    async fn get(&self, url: Url) -> Result<(u16, Vec<u8>)> {
        let base = &self.place.base_url;
        let request = self.authorised(self.client.get(url)).timeout(self.timeout.min(PROBE));
        let sent = request.send().await;
        let response =
            sent.map_err(|error| anyhow!("{base} does not answer: {}", self.describe(error)))?;
        let status = response.status().as_u16();
        Ok((status, self.without_key(read(response).await.map_err(|e| anyhow!(e))?)))
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
            return format!("no answer within {} s", self.timeout.as_secs());
        }
        let mut text = String::new();
        let mut cause: Option<&dyn std::error::Error> = Some(&error.without_url());
        while let Some(error) = cause {
            text = if text.is_empty() { error.to_string() } else { format!("{text}: {error}") };
            cause = error.source();
        }
        text
    }
}

fn moment(reason: String, after: Option<Duration>) -> Answer {
    Answer::Moment { reason, after, is_refusal: false }
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

fn client(url: &Url, connections: usize, timeout: Duration) -> Result<Client> {
    let builder = Client::builder()
        .timeout(timeout)
        .pool_max_idle_per_host(connections)
        // Small requests and answers, one at a time: waiting for more to send only costs.
        .tcp_nodelay(true)
        // A redirect could carry the key elsewhere, and no chat endpoint needs one.
        .redirect(reqwest::redirect::Policy::none());
    let host = url.host_str().unwrap_or_default();
    let local = host == "localhost" || host.starts_with("127.") || host == "[::1]";
    // A proxy cannot reach this machine's own servers.
    let builder = if local { builder.no_proxy() } else { builder };
    builder.build().context("cannot prepare the HTTP client of the remote writer")
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
}
