//! Requests and tokens a minute of one endpoint.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::DefaultDirectRateLimiter;
use governor::Quota;
use governor::RateLimiter;
use governor::clock::Clock;
use governor::clock::DefaultClock;

/// Two limiters that must both agree.
pub(super) struct Limits {
    requests: Option<DefaultDirectRateLimiter>,
    tokens: Option<Tokens>,
    /// A request that the first has let pass and the second has not yet.
    has_request: bool,
}

struct Tokens {
    limiter: DefaultDirectRateLimiter,
    burst: u32,
}

impl Limits {
    /// No limit where a number is 0.
    pub(super) fn new(requests_per_minute: u32, tokens_per_minute: u32) -> Limits {
        let tokens = quota(tokens_per_minute).map(|quota| Tokens {
            limiter: RateLimiter::direct(quota),
            burst: quota.burst_size().get(),
        });
        let requests = quota(requests_per_minute).map(RateLimiter::direct);
        Limits { requests, tokens, has_request: false }
    }

    /// Takes one request of so many tokens, or says how long to wait.
    pub(super) fn take(&mut self, tokens: u32) -> Result<(), Duration> {
        let now = DefaultClock::default().now();
        if let Some(requests) = self.requests.as_ref().filter(|_| !self.has_request) {
            requests.check().map_err(|not_yet| not_yet.wait_time_from(now))?;
            self.has_request = true;
        }
        if let Some(Tokens { limiter, burst }) = &self.tokens
            && let Some(wanted) = NonZeroU32::new(tokens.min(*burst))
            // More than the burst would never be let pass; it counts as a burst.
            && let Ok(Err(not_yet)) = limiter.check_n(wanted)
        {
            return Err(not_yet.wait_time_from(now));
        }
        self.has_request = false;
        Ok(())
    }
}

/// Spreads its minute: at most ten seconds' worth at once, because servers count in windows and a full
/// burst at the start would be followed by a full minute's trickle.
fn quota(per_minute: u32) -> Option<Quota> {
    const BURSTS_PER_MINUTE: u32 = 6;
    let quota = Quota::per_minute(NonZeroU32::new(per_minute)?);
    Some(quota.allow_burst(NonZeroU32::new(per_minute.div_ceil(BURSTS_PER_MINUTE))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passing(limits: &mut Limits, tokens: u32) -> u32 {
        (0..10_000).take_while(|_| limits.take(tokens).is_ok()).count() as u32
    }

    #[test]
    fn what_is_not_limited_passes_and_the_rest_waits() {
        assert_eq!(passing(&mut Limits::new(0, 0), 1_000), 10_000);
        assert_eq!(passing(&mut Limits::new(60, 0), 1_000), 10);
        // 1,000 tokens at once, then 100 each second.
        let mut limits = Limits::new(0, 6_000);
        assert_eq!(passing(&mut limits, 200), 5);
        let wait = limits.take(200).unwrap_err();
        assert!(wait <= Duration::from_secs(2) && wait > Duration::from_millis(1_500), "{wait:?}");
        assert_eq!(passing(&mut Limits::new(0, 60), 1_000), 1);
    }

    #[test]
    fn waiting_for_tokens_costs_no_request() {
        let mut limits = Limits::new(60, 60);
        assert_eq!(passing(&mut limits, 10), 1);
        assert_eq!(passing(&mut limits, 10), 0);
        assert!(limits.take(10).is_err());
        assert!(limits.has_request);
    }
}
