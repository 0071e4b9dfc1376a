//! Which endpoints are asked, how politely, and for how much money.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::retry::Policy;

/// Attempts that may take their whole time, before a question takes too long.
const ATTEMPTS: u64 = 4;

/// Where to ask and how politely. With `endpoints`, what stands here is what an endpoint does not say
/// itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RemoteConfig {
    /// Everything before `/chat/completions`, for example `http://127.0.0.1:8000/v1`.
    pub base_url: String,
    /// The model, as the endpoint names it.
    pub model: String,
    /// Environment variable that holds the API key; none is sent if it is not set.
    pub api_key_env: String,
    /// Several servers of the same model, in the place of `base_url`: each request goes to the one that
    /// is least busy for its weight, and to another when one fails. In a file, a section
    /// `[[describe.remote.endpoints]]` for each.
    pub endpoints: Vec<EndpointConfig>,
    /// Requests in flight at the start, for each endpoint. From there the number follows what the
    /// endpoint can take: up while more are done in a second, down when it refuses.
    pub concurrency: usize,
    /// Requests in flight at most, for each endpoint.
    pub max_concurrency: usize,
    /// Requests a minute, for each endpoint; 0 for no limit of ours.
    pub requests_per_minute: u32,
    /// Prompt and completion tokens a minute, for each endpoint, estimated before sending; 0 for no
    /// limit of ours.
    pub tokens_per_minute: u32,
    /// Seconds until one attempt is given up.
    pub timeout_s: u64,
    /// Seconds until a question is given up, from its first attempt on, with all attempts and the pauses
    /// between them; four times `timeout_s` if absent, 0 never.
    pub deadline_s: Option<u64>,
    /// Attempts and pauses when an endpoint fails for the moment.
    pub retry: Policy,
    /// So many rows failing one after another, with no success between them, end the run; 0 never. An
    /// endpoint that refuses so many (400, 422: a parameter that it does not know) is not asked any more.
    pub give_up_after: u32,
    /// Seconds without one success, while attempts fail, that end the run; 0 never. So long is also
    /// waited for a server that says that it still loads its model.
    pub give_up_after_s: u64,
    /// Longest reply, in tokens.
    pub max_tokens: u32,
    /// Sampling temperature.
    pub temperature: f32,
    /// Further fields of the request body, for example `{ top_k = 1 }`.
    pub extra: serde_json::Map<String, serde_json::Value>,
    /// Fields this endpoint does not accept: `seed`, `temperature`, `max_tokens`.
    pub omit: Vec<String>,
    /// Money for a million prompt tokens, in any currency; 0 if it costs nothing or is not known.
    pub prompt_price: f64,
    /// Money for a million completion tokens, in the same currency.
    pub completion_price: f64,
}

impl Default for RemoteConfig {
    fn default() -> RemoteConfig {
        RemoteConfig {
            base_url: String::new(),
            model: String::new(),
            api_key_env: "OPENAI_API_KEY".to_owned(),
            endpoints: Vec::new(),
            // Small local servers have this many slots; big ones are found out to have more.
            concurrency: 8,
            // vLLM with a small model on large cards gains up to here; beyond it requests only wait.
            max_concurrency: 512,
            requests_per_minute: 0,
            tokens_per_minute: 0,
            // A queue of a busy server, not the writing of one sentence, is what takes long.
            timeout_s: 120,
            deadline_s: None,
            retry: Policy { attempts: 5, base_ms: 1_000, cap_ms: 30_000, asked_cap_ms: 120_000 },
            // More rows than are ever bad by themselves, few enough to lose minutes, not nights.
            give_up_after: 25,
            // A server that loads its model again is back by then.
            give_up_after_s: 300,
            // One sentence of 60 words; without a limit a looping model is paid by the page.
            max_tokens: 96,
            // The likeliest words: the least invented.
            temperature: 0.0,
            extra: serde_json::Map::new(),
            omit: Vec::new(),
            prompt_price: 0.0,
            completion_price: 0.0,
        }
    }
}

/// One of several endpoints. What it leaves out is as above.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EndpointConfig {
    /// Everything before `/chat/completions`.
    pub base_url: String,
    /// The model, as this endpoint names it. It must be the same model: answers are kept under the name
    /// above, whoever gave them.
    #[serde(default)]
    pub model: Option<String>,
    /// Environment variable that holds its API key.
    #[serde(default)]
    pub api_key_env: Option<String>,
    /// Its share of the requests, against that of the others.
    #[serde(default = "one")]
    pub weight: f64,
    /// Requests in flight at the start.
    #[serde(default)]
    pub concurrency: Option<usize>,
    /// Requests in flight at most.
    #[serde(default)]
    pub max_concurrency: Option<usize>,
    /// Requests a minute.
    #[serde(default)]
    pub requests_per_minute: Option<u32>,
    /// Tokens a minute.
    #[serde(default)]
    pub tokens_per_minute: Option<u32>,
    /// Money for a million prompt tokens.
    #[serde(default)]
    pub prompt_price: Option<f64>,
    /// Money for a million completion tokens.
    #[serde(default)]
    pub completion_price: Option<f64>,
}

fn one() -> f64 {
    1.0
}

/// What holds for one endpoint, nothing left out.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Place {
    pub(super) base_url: String,
    pub(super) model: String,
    pub(super) api_key_env: String,
    pub(super) weight: f64,
    pub(super) concurrency: usize,
    pub(super) max_concurrency: usize,
    pub(super) requests_per_minute: u32,
    pub(super) tokens_per_minute: u32,
    pub(super) prompt_price: f64,
    pub(super) completion_price: f64,
}

impl RemoteConfig {
    /// How long a question may take, from its first attempt on.
    pub(super) fn deadline(&self) -> Option<Duration> {
        let seconds = self.deadline_s.unwrap_or(self.timeout_s.max(1).saturating_mul(ATTEMPTS));
        (seconds > 0).then_some(Duration::from_secs(seconds))
    }

    /// Every endpoint.
    pub(super) fn places(&self) -> Vec<Place> {
        let lone = EndpointConfig {
            base_url: self.base_url.clone(),
            weight: one(),
            ..EndpointConfig::default()
        };
        let all =
            if self.endpoints.is_empty() { std::slice::from_ref(&lone) } else { &self.endpoints };
        all.iter().map(|endpoint| self.place(endpoint)).collect()
    }

    fn place(&self, endpoint: &EndpointConfig) -> Place {
        let words = |own: &Option<String>, all: &String| own.as_ref().unwrap_or(all).clone();
        let most = endpoint.max_concurrency.unwrap_or(self.max_concurrency).max(1);
        Place {
            base_url: endpoint.base_url.clone(),
            model: words(&endpoint.model, &self.model),
            api_key_env: words(&endpoint.api_key_env, &self.api_key_env),
            weight: endpoint.weight,
            concurrency: endpoint.concurrency.unwrap_or(self.concurrency).clamp(1, most),
            max_concurrency: most,
            requests_per_minute: endpoint.requests_per_minute.unwrap_or(self.requests_per_minute),
            tokens_per_minute: endpoint.tokens_per_minute.unwrap_or(self.tokens_per_minute),
            prompt_price: endpoint.prompt_price.unwrap_or(self.prompt_price),
            completion_price: endpoint.completion_price.unwrap_or(self.completion_price),
        }
    }
}
