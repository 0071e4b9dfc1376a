//! One question: as many attempts as it takes, within its deadline, at whichever endpoint has a place; and
//! when failures say something of the run and not of the row.

use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use anyhow::Result;
use anyhow::anyhow;
use serde_json::Map;
use serde_json::Value;

use crate::chat::bill::Spent;
use crate::chat::config::RemoteConfig;
use crate::chat::desk::Wanted;
use crate::chat::endpoint::Answer;
use crate::chat::pool::Lease;
use crate::chat::pool::Pool;
use crate::chat::wire;
use crate::chat::writer::Prompted;
use crate::chat::writer::Reply;
use crate::chat::writer::RowError;
use crate::retry::Attempt;
use crate::retry::retry;

/// Characters of a token, fewer than in most texts: an estimate should not be too low.
const CHARS_PER_TOKEN: usize = 3;

/// Failed attempts, in multiples of those that one row gets, before time without a success counts: the
/// failures are of several rows then.
const ROWS_THAT_FAIL: u32 = 3;

/// What all questions share.
pub(super) struct Asking {
    pub(super) config: RemoteConfig,
    pub(super) parameters: Map<String, Value>,
    pub(super) pool: Pool,
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
pub(super) type Bought = (Lease, Reply, Spent);

/// Why a request brought no reply.
#[derive(Debug)]
pub(super) enum Failure {
    Row(RowError),
    Run(anyhow::Error),
}

impl Asking {
    pub(super) fn new(config: &RemoteConfig, pool: Pool) -> Asking {
        let parameters = wire::parameters(config);
        Asking { pool, parameters, trouble: Mutex::new(Trouble::none()), config: config.clone() }
    }

    /// One chat: asks until it is done or hopeless.
    pub(super) async fn ask(&self, prompted: &Prompted) -> Result<Bought, Failure> {
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
