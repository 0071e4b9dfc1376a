//! The writer that asks endpoints: one request for each chat, each as often as it takes.
//!
//! What ends a run: no endpoint that accepts the key, the model and the parameters, many rows in a row
//! without one success, or a budget that is spent. Then nothing new is asked, and what is in flight is waited
//! for and kept, because it is paid.

use std::env;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use secrecy::SecretString;
use serde_json::Value;
use serde_json::json;
use tokio::runtime::Handle;
use tokio::runtime::Runtime;

use crate::chat::asking::Asking;
use crate::chat::asking::Failure;
use crate::chat::bill::Bill;
use crate::chat::config::RemoteConfig;
use crate::chat::desk::Usage;
use crate::chat::endpoint::Endpoint;
use crate::chat::endpoint::Found;
use crate::chat::pool::Closed;
use crate::chat::pool::Pool;
use crate::chat::writer::Appetite;
use crate::chat::writer::OnReply;
use crate::chat::writer::Prompted;
use crate::chat::writer::Writer;

/// Callers at once: each is a thread that mostly waits.
const MOST_CALLERS: usize = 64;

/// The writer that asks endpoints.
pub struct Remote {
    shared: Asking,
    threads: Handle,
    /// Absent once this is being dropped.
    runtime: Option<Runtime>,
}

/// Whoever drops a writer last may be a thread of another runtime (the signal's listener holds one), where a
/// runtime that waits for its threads panics.
impl Drop for Remote {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Why a batch ends before its end.
enum End {
    Store(anyhow::Error),
    Run(anyhow::Error),
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("config", &self.shared.config).finish_non_exhaustive()
    }
}

impl Remote {
    /// Prepares to ask; sends nothing yet. Keys are read from the environment here, once.
    ///
    /// # Errors
    /// When an address, a model or a weight cannot be meant.
    pub fn open(config: &RemoteConfig) -> Result<Remote> {
        Remote::with_keys(config, |variable| {
            let key = env::var(variable).ok().filter(|key| !key.trim().is_empty());
            key.map(|key| SecretString::from(key.trim()))
        })
    }

    /// The same with keys from elsewhere, by the name of their variable.
    ///
    /// # Errors
    /// As above.
    pub fn with_keys(
        config: &RemoteConfig,
        key: impl Fn(&str) -> Option<SecretString>,
    ) -> Result<Remote> {
        let places = config.places().into_iter();
        let endpoints = places.map(|place| {
            let key = key(&place.api_key_env);
            Endpoint::new(place, config.timeout_s, key)
        });
        let endpoints = endpoints.collect::<Result<Vec<_>>>()?;
        if config.model.is_empty() {
            bail!("the remote writer has no model: set `model` to a name the endpoint knows");
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            // Requests wait far more than they compute.
            .worker_threads(2)
            .thread_name("chat-remote")
            .enable_all()
            .build()
            .context("cannot start the threads of the remote writer")?;
        let shared = Asking::new(config, Pool::new(endpoints, config.retry.clone()));
        Ok(Remote { shared, threads: runtime.handle().clone(), runtime: Some(runtime) })
    }
}

impl Writer for Remote {
    fn name(&self) -> &'static str {
        "remote"
    }

    fn identity(&self) -> Value {
        // Not the addresses: the same model behind another port gives the same answers.
        json!({ "writer": "remote", "parameters": self.shared.parameters })
    }

    fn appetite(&self) -> Appetite {
        // Together four times what can be in flight: rows leave in order, and behind a slow one others
        // must be there to be asked about. In batches that are small, because a batch leaves as a whole.
        let most = self.shared.pool.most();
        let batch = (most / 8).clamp(4, 64);
        Appetite { threads: (most * 4).div_ceil(batch).min(MOST_CALLERS), batch }
    }

    /// Probes all endpoints; an error only when none can be asked.
    fn probe(&self) -> Result<String> {
        let patience = Duration::from_secs(self.shared.config.give_up_after_s);
        let found = self.threads.block_on(self.shared.pool.probe(patience));
        let ready = |found: Result<Found>| match found {
            Ok(found) if found.is_loading => Err(found.line),
            Ok(found) => Ok(found.line),
            Err(error) => Err(format!("{error:#}")),
        };
        let found: Vec<Result<String, String>> = found.into_iter().map(ready).collect();
        if found.iter().all(Result::is_err) {
            let lines: Vec<String> = found.into_iter().filter_map(Result::err).collect();
            bail!("{}", lines.join("; "));
        }
        let line = |found: Result<String, String>| {
            found.unwrap_or_else(|error| format!("not ready: {error}"))
        };
        Ok(found.into_iter().map(line).collect::<Vec<_>>().join("; "))
    }

    fn write(&self, batch: &[Prompted], on_reply: &OnReply<'_>) -> Result<()> {
        let shared = &self.shared;
        // Polled here and not spawned: a place is free for the next request only when the answer before
        // is kept, and keeping it happens on this thread.
        let asks = batch.iter().enumerate().map(|(index, prompted)| async move {
            match shared.ask(prompted).await {
                Ok((lease, reply, spent)) => {
                    on_reply(index, Ok(reply)).map_err(End::Store)?;
                    shared.pool.served(&lease, &spent);
                    Ok(())
                }
                Err(Failure::Row(error)) => on_reply(index, Err(error)).map_err(End::Store),
                Err(Failure::Run(error)) => {
                    shared.pool.close(Closed::Because(format!("{error:#}")));
                    Err(End::Run(error))
                }
            }
        });
        self.threads.block_on(async {
            let mut asks: FuturesUnordered<_> = asks.collect();
            let mut end = None;
            while let Some(done) = asks.next().await {
                match done {
                    Ok(()) => {}
                    // What cannot be kept must not be bought: those in flight are dropped with the rest.
                    // Their places are never given back, so nobody may wait for one.
                    Err(End::Store(error)) => {
                        shared.pool.close(Closed::Because(format!("{error:#}")));
                        return Err(error);
                    }
                    Err(End::Run(error)) => drop(end.get_or_insert(error)),
                }
            }
            end.map_or(Ok(()), Err)
        })
    }

    fn pay_with(&self, bill: Arc<Bill>) {
        self.shared.pool.pay_with(bill);
    }

    fn halt(&self) {
        self.shared.pool.close(Closed::Because("the run was stopped".to_owned()));
    }

    fn ensure_open(&self) -> Result<()> {
        self.shared.pool.ensure_open()
    }

    fn usage(&self) -> Vec<Usage> {
        self.shared.pool.usage()
    }
}
