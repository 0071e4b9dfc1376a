//! The writer that asks endpoints: one request for each chat, each as often as it takes.
//!
//! What ends a run: no endpoint that accepts the key, the model and the parameters, many rows in a row
//! without one success, or a budget that is spent. Then nothing new is asked, and what is in flight is waited for and
//! kept, because it is paid.

use std::env;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use anyhow::anyhow;
use anyhow::bail;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use secrecy::SecretString;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use tokio::runtime::Handle;
use tokio::runtime::Runtime;

use crate::chat::bill::Bill;
use crate::chat::bill::Spent;
use crate::chat::config::RemoteConfig;
use crate::chat::desk::Usage;
use crate::chat::desk::Wanted;
use crate::chat::endpoint::Answer;
use crate::chat::endpoint::Endpoint;
use crate::chat::endpoint::Found;
use crate::chat::pool::Closed;
use crate::chat::pool::Lease;
use crate::chat::pool::Pool;
use crate::chat::wire;
use crate::chat::writer::Appetite;
use crate::chat::writer::OnReply;
use crate::chat::writer::Prompted;
use crate::chat::writer::Reply;
use crate::chat::writer::RowError;
use crate::chat::writer::Writer;
use crate::retry::Attempt;
use crate::retry::retry;

/// Characters of a token, fewer than in most texts: an estimate should not be too low.
const CHARS_PER_TOKEN: usize = 3;

/// Callers at once: each is a thread that mostly waits.
const MOST_CALLERS: usize = 64;

/// Failed attempts, in multiples of those that one row gets, before time without a success counts: the
/// failures are of several rows then.
const ROWS_THAT_FAIL: u32 = 3;

/// The writer that asks endpoints.
pub struct Remote {
    shared: Arc<Shared>,
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

struct Shared {
    config: RemoteConfig,
    parameters: Map<String, Value>,
    pool: Pool,
    trouble: Mutex<Trouble>,
}

/// Failures since the last success.
struct Trouble {
    since: Instant,
    attempts: u32,
    rows: u32,
}

/// What is known of a question between its attempts.
#[derive(Clone, Copy, Default)]
struct Tries {
    /// Who was asked last.
    last: Option<usize>,
    /// When it is given up.
    until: Option<Instant>,
}

/// A reply, whose place is given back when it is kept.
type Bought = (Lease, Reply, Spent);

/// Why a batch ends before its end.
enum End {
    Store(anyhow::Error),
    Run(anyhow::Error),
}

/// Why a request brought no reply.
#[derive(Debug)]
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
        let shared = Arc::new(Shared {
            pool: Pool::new(endpoints, config.retry.clone()),
            parameters: wire::parameters(config),
            trouble: Mutex::new(Trouble::none()),
            config: config.clone(),
        });
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
        let shared = &*self.shared;
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

impl Shared {
    /// One chat: asks until it is done or hopeless.
    async fn ask(&self, prompted: &Prompted) -> Result<Bought, Failure> {
        let tries = Mutex::new(Tries::default());
        let answer = retry(&self.config.retry, || self.attempt(prompted, &tries)).await;
        match answer {
            Err(Failure::Row(error)) if error.retryable => Err(self.count_row(error)),
            answer => answer,
        }
    }

    /// One request, not to the endpoint that has just failed if there is another.
    async fn attempt(&self, prompted: &Prompted, tries: &Mutex<Tries>) -> Attempt<Bought, Failure> {
        let tries = || tries.lock().unwrap_or_else(PoisonError::into_inner);
        let Tries { last, until } = *tries();
        let wanted = self.wanted(prompted);
        let lease = self.pool.lease(&wanted, last);
        let lease = match within(until, lease).await {
            Some(Ok(lease)) => lease,
            Some(Err(error)) => return Attempt::Fatal(Failure::Run(error)),
            None => return Attempt::Fatal(self.too_late("no endpoint could be asked again")),
        };
        let until = until.or_else(|| Some(Instant::now() + self.config.deadline()?));
        *tries() = Tries { last: Some(lease.index), until };
        let endpoint = self.pool.endpoint(lease.index);
        let seed = wire::is_accepted(&self.config, "seed").then_some(prompted.seed);
        let answer = within(until, endpoint.ask(&self.parameters, seed, prompted)).await;
        let answer = answer.unwrap_or_else(|| Answer::Moment {
            reason: "no answer".to_owned(),
            after: None,
            is_refusal: true,
        });
        match self.settle(lease, answer) {
            Attempt::Again { error: Failure::Row(error), after } if is_over(until, after) => {
                Attempt::Fatal(self.too_late(&error.reason))
            }
            attempt => attempt,
        }
    }

    fn too_late(&self, reason: &str) -> Failure {
        let seconds = self.config.deadline().unwrap_or_default().as_secs();
        let reason =
            format!("{reason}; the question was given up after {seconds} s (`deadline_s`)");
        Failure::Row(RowError { reason, retryable: true })
    }

    fn wanted(&self, prompted: &Prompted) -> Wanted {
        let chars: usize = prompted.chat.messages().map(|(_, text)| text.len()).sum();
        Wanted {
            text_tokens: u32::try_from(chars / CHARS_PER_TOKEN).unwrap_or(u32::MAX),
            has_picture: prompted.chat.picture.is_some(),
            completion_tokens: self.longest_answer(),
        }
    }

    /// Tokens that an answer can have, by what is sent.
    fn longest_answer(&self) -> u32 {
        let sent = |name: &str| self.parameters.get(name).and_then(Value::as_u64).unwrap_or(0);
        let longest = sent("max_tokens").max(sent("max_completion_tokens"));
        let longest = longest.max(u64::from(self.config.max_tokens)) * sent("n").max(1);
        u32::try_from(longest).unwrap_or(u32::MAX)
    }

    fn settle(&self, lease: Lease, answer: Answer) -> Attempt<Bought, Failure> {
        match answer {
            Answer::Reply(mut reply) => {
                let written =
                    || u32::try_from(reply.text.len() / CHARS_PER_TOKEN).unwrap_or(u32::MAX);
                let place = &self.pool.endpoint(lease.index).place;
                let tokens = lease.prompt_tokens;
                reply.estimated = (tokens, written());
                let (prompt, completion) = (reply.prompt_tokens, reply.tokens);
                reply.cost =
                    place.cost(prompt.unwrap_or(tokens), completion.unwrap_or_else(written));
                let spent = reply.spent();
                if let Some(counted) = prompt {
                    self.pool.learn(&lease, counted);
                }
                *self.trouble() = Trouble::none();
                Attempt::Done((lease, reply, spent))
            }
            Answer::Row(reason) => self.refused(&lease, reason),
            Answer::Moment { reason, after, is_refusal } => {
                let goes_elsewhere = self.pool.failed(&lease, is_refusal, after);
                if let Err(error) = self.count_attempt(&reason) {
                    return Attempt::Fatal(Failure::Run(error));
                }
                let after = if goes_elsewhere { Some(Duration::ZERO) } else { after };
                again(reason, after)
            }
            Answer::Endpoint(why) => self.out(&lease, why),
        }
    }

    /// One row that an endpoint refuses may be at fault; where it refuses each, the question is.
    fn refused(&self, lease: &Lease, reason: String) -> Attempt<Bought, Failure> {
        let (refused, limit) = (self.pool.count_refused_row(lease), self.config.give_up_after);
        if limit == 0 || refused < limit {
            self.pool.refused_row(lease);
            return Attempt::Fatal(Failure::Row(RowError { reason, retryable: false }));
        }
        let base_url = &self.pool.endpoint(lease.index).place.base_url;
        let change = wire::advice(&self.parameters, &reason);
        let why = format!(
            "{reason}\n{base_url} refused {refused} rows in this way and answered none in between, so it \
             is the request and not the rows: {change}; or raise `give_up_after`"
        );
        self.out(lease, why)
    }

    fn out(&self, lease: &Lease, why: String) -> Attempt<Bought, Failure> {
        match self.pool.out(lease, &why) {
            Ok(()) => again(why, Some(Duration::ZERO)),
            Err(error) => Attempt::Fatal(Failure::Run(error)),
        }
    }

    /// A long time without any success, in which rows failed: it is not the rows.
    fn count_attempt(&self, reason: &str) -> Result<()> {
        let mut trouble = self.trouble();
        if trouble.attempts == 0 {
            trouble.since = Instant::now();
        }
        trouble.attempts += 1;
        let (limit, seconds) = (self.config.give_up_after_s, trouble.since.elapsed().as_secs());
        let enough = self.config.retry.attempts.max(1).saturating_mul(ROWS_THAT_FAIL);
        if limit == 0 || seconds < limit || trouble.attempts < enough {
            return Ok(());
        }
        Err(anyhow!(
            "nothing was answered for {seconds} s, the last time because: {reason}\n{}",
            self.advice("give_up_after_s")
        ))
    }

    /// Many different rows failing without one success: it is not the rows either.
    fn count_row(&self, error: RowError) -> Failure {
        let mut trouble = self.trouble();
        trouble.rows += 1;
        let (failed, limit) = (trouble.rows, self.config.give_up_after);
        if limit == 0 || failed < limit {
            return Failure::Row(error);
        }
        Failure::Run(anyhow!(
            "{failed} rows in a row had no answer, the last because: {}\n{}",
            error.reason,
            self.advice("give_up_after")
        ))
    }

    fn advice(&self, setting: &str) -> String {
        let places: Vec<&str> = self.pool.places().map(|place| &*place.base_url).collect();
        format!(
            "check {} and run the same command again (stored answers are kept), or raise `{setting}`",
            places.join(", ")
        )
    }

    fn trouble(&self) -> MutexGuard<'_, Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Trouble {
    fn none() -> Trouble {
        Trouble { since: Instant::now(), attempts: 0, rows: 0 }
    }
}

/// What comes before a moment, if there is one.
async fn within<T>(until: Option<Instant>, future: impl Future<Output = T>) -> Option<T> {
    match until {
        Some(until) => tokio::time::timeout_at(until.into(), future).await.ok(),
        None => Some(future.await),
    }
}

/// Whether a pause would end too late for another attempt.
fn is_over(until: Option<Instant>, pause: Option<Duration>) -> bool {
    let again = Instant::now().checked_add(pause.unwrap_or_default());
    until.is_some_and(|until| again.is_none_or(|again| again >= until))
}

fn again(reason: String, after: Option<Duration>) -> Attempt<Bought, Failure> {
    Attempt::Again { error: Failure::Row(RowError { reason, retryable: true }), after }
}
