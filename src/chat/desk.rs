//! One endpoint as the pool sees it: whether it may be asked, what a request may take there, how it was used.

use std::time::Duration;
use std::time::Instant;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::chat::bill::Spent;
use crate::chat::config::Place;
use crate::chat::gate::Gate;
use crate::chat::limits::Limits;
use crate::retry::Policy;

/// Failures without a success between them that open the circuit.
const FAILURES: u32 = 5;

/// Tokens of a picture of 512 pixels, more than most models make of it; until one was counted.
const PICTURE_TOKENS: u32 = 1_000;

/// The next picture may be larger than all before it, by one part of this many.
const PICTURE_MARGIN: u32 = 8;

/// An endpoint's state.
pub(super) struct Desk {
    pub(super) gate: Gate,
    pub(super) limits: Limits,
    /// Not before this moment: it asked for a pause, or its circuit is open.
    closed_until: Option<Instant>,
    /// Failures since the last success.
    failures: u32,
    /// Rows that it refused since the last success.
    rows_refused: u32,
    /// Why it is not asked any more.
    pub(super) out: Option<String>,
    /// What a picture is taken for.
    picture_tokens: Option<u32>,
    served: u64,
    failed: u64,
    refused: u64,
}

/// What a request may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// Of the prompt, estimated, without its picture.
    pub(super) text_tokens: u32,
    pub(super) has_picture: bool,
    /// Of the longest answer.
    pub(super) completion_tokens: u32,
}

/// How one endpoint was used, for the report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Usage {
    /// The endpoint.
    pub base_url: String,
    /// Answers.
    pub served: u64,
    /// Attempts without one.
    pub failed: u64,
    /// Those of them that it refused for being too many.
    pub refused: u64,
    /// Requests that were in flight at once in the end.
    pub concurrency: usize,
    /// What that number is.
    #[serde(default)]
    pub reached: Reached,
    /// Why it was not asked any more.
    pub out: Option<String>,
}

/// What the number of requests at once means that an endpoint had in the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reached {
    /// Nothing: too few answers came.
    #[default]
    Unknown,
    /// As many as are allowed or as the server has slots; more might bring more.
    Cap,
    /// More bring no more answers a second.
    Knee,
}

impl Desk {
    pub(super) fn new(place: &Place) -> Desk {
        Desk {
            gate: Gate::new(place.concurrency, place.max_concurrency),
            limits: Limits::new(place.requests_per_minute, place.tokens_per_minute),
            closed_until: None,
            failures: 0,
            rows_refused: 0,
            out: None,
            picture_tokens: None,
            served: 0,
            failed: 0,
            refused: 0,
        }
    }

    /// Of an endpoint whose circuit was open, one request finds out whether it is back.
    pub(super) fn has_room(&self) -> bool {
        match self.failures >= FAILURES {
            true => self.gate.in_flight() == 0,
            false => self.gate.has_room(),
        }
    }

    /// The end of its pause, if it has one.
    pub(super) fn pause(&self, now: Instant) -> Option<Instant> {
        self.closed_until.filter(|until| *until > now)
    }

    pub(super) fn is_open(&self, now: Instant) -> bool {
        self.out.is_none() && self.pause(now).is_none()
    }

    /// Tokens of a prompt, estimated.
    pub(super) fn prompt_tokens(&self, wanted: &Wanted) -> u32 {
        let of_picture = self.picture_tokens.unwrap_or(PICTURE_TOKENS);
        wanted.text_tokens.saturating_add(if wanted.has_picture { of_picture } else { 0 })
    }

    /// The endpoint has counted a prompt: the largest picture is what the next is taken for.
    pub(super) fn learn(&mut self, wanted: &Wanted, prompt_tokens: u32) {
        if wanted.has_picture {
            let picture = prompt_tokens.saturating_sub(wanted.text_tokens);
            let picture = picture.saturating_add(picture / PICTURE_MARGIN);
            self.picture_tokens = self.picture_tokens.max(Some(picture));
        }
    }

    pub(super) fn served(&mut self) {
        self.served += 1;
        (self.failures, self.rows_refused) = (0, 0);
    }

    /// It refused a row; says how many since it last served one.
    pub(super) fn refused_row(&mut self) -> u32 {
        self.rows_refused = self.rows_refused.saturating_add(1);
        self.rows_refused
    }

    /// It answered, though with nothing.
    pub(super) fn answered_nothing(&mut self) {
        (self.failed, self.failures) = (self.failed + 1, 0);
    }

    pub(super) fn failed(
        &mut self,
        policy: &Policy,
        is_refusal: bool,
        after: Option<Duration>,
        now: Instant,
    ) {
        self.failed += 1;
        self.refused += u64::from(is_refusal);
        // Of those in flight when it began, each meets the same trouble.
        self.failures += u32::from(self.pause(now).is_none());
        let opened = self.failures.checked_sub(FAILURES).map(|more| more + 1);
        let rounds = if is_refusal { Some(self.failures) } else { opened };
        if let Some(rounds) = rounds.or(after.map(|_| 1)) {
            let until = Some(now + policy.pause(rounds, after));
            self.closed_until = self.closed_until.max(until);
        }
    }

    /// It is not asked any more; the first reason counts, those in flight only repeat it.
    pub(super) fn shut(&mut self, why: &str) {
        self.failed += 1;
        if self.out.is_none() {
            tracing::warn!("this endpoint is not asked any more: {why}");
            self.out = Some(why.to_owned());
        }
    }

    pub(super) fn usage(&self, place: &Place) -> Usage {
        let (concurrency, reached) = self.gate.reached();
        Usage {
            base_url: place.base_url.clone(),
            served: self.served,
            failed: self.failed,
            refused: self.refused,
            concurrency,
            reached,
            out: self.out.clone(),
        }
    }
}

impl Place {
    /// What so many tokens cost here.
    pub(super) fn spent(&self, prompt_tokens: u32, completion_tokens: u32) -> Spent {
        Spent {
            requests: 1,
            prompt_tokens: u64::from(prompt_tokens),
            completion_tokens: u64::from(completion_tokens),
            estimated_tokens: 0,
            cost: self.cost(prompt_tokens, completion_tokens),
        }
    }

    /// The money alone.
    pub(super) fn cost(&self, prompt_tokens: u32, completion_tokens: u32) -> f64 {
        let (prompt, completion) = (f64::from(prompt_tokens), f64::from(completion_tokens));
        (prompt * self.prompt_price + completion * self.completion_price) / 1e6
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::config::RemoteConfig;

    #[test]
    fn a_picture_is_taken_for_the_largest_that_was_counted() {
        let mut desk = Desk::new(&RemoteConfig::default().places()[0]);
        let words = Wanted { text_tokens: 50, has_picture: false, completion_tokens: 9 };
        let seen = Wanted { has_picture: true, ..words };
        assert_eq!((desk.prompt_tokens(&words), desk.prompt_tokens(&seen)), (50, 1_050));
        desk.learn(&words, 9_000);
        assert_eq!(desk.prompt_tokens(&seen), 1_050);
        desk.learn(&seen, 50 + 256);
        desk.learn(&seen, 50 + 128);
        assert_eq!((desk.prompt_tokens(&words), desk.prompt_tokens(&seen)), (50, 50 + 288));
        desk.learn(&seen, 50 + 2_048);
        assert_eq!(desk.prompt_tokens(&seen), 50 + 2_304);
    }
}
