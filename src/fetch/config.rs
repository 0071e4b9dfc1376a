//! What can be set about fetching, and why the defaults are what they are.

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::retry::Policy;

/// Settings of a [`Fetcher`](crate::fetch::Fetcher).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Requests under way at once, over all hosts.
    pub concurrency: usize,
    /// Requests under way at once to one host (name and port).
    pub per_host_concurrency: usize,
    /// Requests started per second to one host; 0 is no limit.
    pub per_host_requests_per_second: u32,
    /// Limit for resolving, connecting and the TLS handshake, in milliseconds.
    pub connect_timeout_ms: u64,
    /// Limit from sending a request (connecting included) to the head of the answer, in
    /// milliseconds.
    pub header_timeout_ms: u64,
    /// Longest silence while reading a body, in milliseconds.
    pub read_timeout_ms: u64,
    /// Time one item may spend on the wire over all attempts and redirects, in milliseconds.
    /// Waiting for its turn does not count: that is our politeness, not the host's slowness.
    pub total_deadline_ms: u64,
    /// Largest body, in bytes.
    pub max_bytes: u64,
    /// Redirects followed for one attempt.
    pub max_redirects: usize,
    /// When and how often to try again.
    pub retry: Policy,
    /// Who we say we are. Browsers are not impersonated.
    pub user_agent: String,
    /// A page or address where a site's owner reaches you; appended to the user agent.
    pub contact: Option<String>,
    /// The name by which an `X-Robots-Tag` header addresses us (`recaption: noai`).
    pub user_agent_token: String,
    /// Whether `X-Robots-Tag` opt-outs are honoured.
    pub respect_opt_out: bool,
    /// The `X-Robots-Tag` directives that count as an opt-out.
    pub opt_out_directives: Vec<String>,
    /// Networks that may be reached although they are private, as CIDR (`10.1.0.0/16`). With any
    /// of them set, every port may be asked for.
    pub private_networks: Vec<String>,
    /// Ports that may be asked for; an empty list allows all.
    pub allowed_ports: Vec<u16>,
    /// Failures in a row (no connection, silence, "too many requests") after which a host is left
    /// alone; 0 never gives up.
    pub circuit_failures: u32,
    /// How long such a host is left alone, in milliseconds.
    pub circuit_cooldown_ms: u64,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            // Enough to keep a gigabit busy with pictures of 100 kB, few enough for 1024 sockets.
            concurrency: 64,
            // A browser opens six connections to a host; a crawled list names CDNs over and over.
            per_host_concurrency: 6,
            per_host_requests_per_second: 20,
            connect_timeout_ms: 10_000,
            // Longer than connecting, so that a dead host is named as such.
            header_timeout_ms: 20_000,
            read_timeout_ms: 15_000,
            total_deadline_ms: 60_000,
            // The decoder's limit of 50 megapixels is rarely more than this in JPEG.
            max_bytes: 20 << 20,
            max_redirects: 5,
            retry: Policy::default(),
            user_agent: concat!("recaption/", env!("CARGO_PKG_VERSION")).into(),
            contact: None,
            user_agent_token: "recaption".into(),
            respect_opt_out: true,
            // The first four are what img2dataset honours; `noml` is the newer word for the same.
            opt_out_directives: ["noai", "noimageai", "noindex", "noimageindex", "noml"]
                .map(String::from)
                .into(),
            private_networks: Vec::new(),
            allowed_ports: vec![80, 443],
            // More than one host's seats, so that one bad second does not close it.
            circuit_failures: 10,
            circuit_cooldown_ms: 60_000,
        }
    }
}
