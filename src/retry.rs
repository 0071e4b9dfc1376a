//! Bounded repetition: an operation says Done, Again or Fatal, and this file decides when to try
//! again and when to stop.
//!
//! It knows nothing of HTTP, hosts or models and never loops without end. There is no deadline
//! here either: the caller puts its own timeout around the whole, because only the caller knows
//! what it is waiting for.

use std::future::Future;
use std::time::Duration;
use std::time::SystemTime;

use rand::Rng;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

/// What one attempt came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Attempt<T, E> {
    /// It worked.
    Done(T),
    /// It failed in a way that may pass.
    Again {
        /// Returned to the caller if this was the last attempt.
        error: E,
        /// The pause the other side asked for, if it did.
        after: Option<Duration>,
    },
    /// It failed in a way that will not pass.
    Fatal(E),
}

/// How often and how patiently to try.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// Attempts in all, the first included; 0 is read as 1.
    pub attempts: u32,
    /// Pause before the second attempt, in milliseconds; doubles from there.
    pub base_ms: u64,
    /// No pause of our own choosing is longer than this, in milliseconds.
    pub cap_ms: u64,
    /// A pause the other side asks for is cut to this, in milliseconds.
    pub asked_cap_ms: u64,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            // One bad moment and one bad minute are forgiven; a third failure is rarely the last.
            attempts: 3,
            base_ms: 500,
            cap_ms: 10_000,
            // Polite hosts ask for seconds to a minute; "come back tomorrow" is a refusal.
            asked_cap_ms: 60_000,
        }
    }
}

impl Policy {
    /// The pause after `failed` failed attempts (1 after the first), jittered.
    ///
    /// Jitter spreads our own backoff over its upper half, so that rows that failed together do not
    /// return together and yet none returns at once (as "full" jitter allows). A pause that was
    /// asked for is never shortened by jitter, only lengthened by up to `base_ms`.
    pub fn pause(&self, failed: u32, asked: Option<Duration>) -> Duration {
        match asked {
            Some(asked) => {
                asked.min(Duration::from_millis(self.asked_cap_ms)) + jitter(0, self.base_ms)
            }
            None => {
                let whole_ms = self.backoff_ms(failed);
                jitter(whole_ms / 2, whole_ms)
            }
        }
    }

    fn backoff_ms(&self, failed: u32) -> u64 {
        let doublings = failed.saturating_sub(1).min(63);
        self.base_ms.saturating_mul(1 << doublings).min(self.cap_ms)
    }
}

fn jitter(least_ms: u64, most_ms: u64) -> Duration {
    Duration::from_millis(rand::rng().random_range(least_ms..=most_ms.max(least_ms)))
}

/// Calls `attempt` until it is done, fatal, or the policy's attempts are used up; then the last
/// error is the result.
///
/// `FnMut() -> Future` and not `AsyncFnMut`, because the futures made here are spawned: callers
/// need them to be `Send`, which cannot yet be asked of an async closure.
pub async fn retry<T, E, F, Fut>(policy: &Policy, mut attempt: F) -> Result<T, E>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Attempt<T, E>>,
{
    let mut failed = 0;
    loop {
        match attempt().await {
            Attempt::Done(value) => return Ok(value),
            Attempt::Fatal(error) => return Err(error),
            Attempt::Again { error, after } => {
                failed += 1;
                if failed >= policy.attempts {
                    return Err(error);
                }
                tokio::time::sleep(policy.pause(failed, after)).await;
            }
        }
    }
}

/// Reads a `Retry-After` value: whole seconds or an HTTP date. Anything else (negative, fractions,
/// words) is `None`, as if nothing had been asked; a date in the past is a pause of zero.
pub fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than u64 holds is still "very long": the policy's cap cuts it.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quick() -> Policy {
        Policy { attempts: 3, base_ms: 1, cap_ms: 2, asked_cap_ms: 3 }
    }

    fn run(script: &[Attempt<u32, &'static str>]) -> (Result<u32, &'static str>, usize) {
        let mut calls = 0;
        let result =
            tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(
                retry(&quick(), || {
                    calls += 1;
                    std::future::ready(script[calls - 1].clone())
                }),
            );
        (result, calls)
    }

    #[test]
    fn stops_at_the_first_done_or_fatal_and_at_the_last_attempt() {
        let again = |error| Attempt::Again { error, after: None };
        assert_eq!(run(&[Attempt::Done(7)]), (Ok(7), 1));
        assert_eq!(run(&[again("a"), Attempt::Done(7)]), (Ok(7), 2));
        assert_eq!(run(&[again("a"), Attempt::Fatal("b")]), (Err("b"), 2));
        assert_eq!(run(&[again("a"), again("b"), again("c")]), (Err("c"), 3));
    }

    #[test]
    fn an_absurd_request_to_wait_is_cut() {
        let again = Attempt::Again { error: "a", after: Some(Duration::MAX) };
        assert_eq!(run(&[again, Attempt::Done(1)]), (Ok(1), 2));
    }

    #[test]
    fn backoff_doubles_up_to_the_cap_and_jitter_stays_in_the_upper_half() {
        let policy = Policy { attempts: 9, base_ms: 100, cap_ms: 1000, asked_cap_ms: 5000 };
        for (failed, whole_ms) in [(0, 100), (1, 100), (2, 200), (4, 800), (5, 1000), (999, 1000)] {
            for _ in 0..50 {
                let pause = policy.pause(failed, None).as_millis() as u64;
                assert!((whole_ms / 2..=whole_ms).contains(&pause), "{failed}: {pause}");
            }
        }
        let asked = policy.pause(1, Some(Duration::from_secs(2))).as_millis();
        assert!((2000..=2100).contains(&asked), "{asked}");
    }

    #[test]
    fn retry_after_reads_seconds_and_dates_and_nothing_else() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        let seconds = |s| Some(Duration::from_secs(s));
        for (value, expected) in [
            ("0", seconds(0)),
            (" 120 ", seconds(120)),
            ("99999999999999999999999", seconds(u64::MAX)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", seconds(60)),
            ("Sunday, 06-Nov-94 08:50:37 GMT", seconds(60)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", seconds(0)),
            ("-5", None),
            ("+5", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(retry_after(value, now), expected, "{value:?}");
        }
    }
}
