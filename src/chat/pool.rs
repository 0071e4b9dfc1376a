//! Who is asked next: the least busy endpoint that may be asked, in turn.
//!
//! An endpoint may be asked while it has room (`gate`), its minute is not used up (`limits`), it asked
//! for no pause, and its circuit is closed: after some failures without a success between them it is
//! left alone for a while, ever longer, and then one request finds out whether it is back. Requests wait
//! in line, and those that are tried again in a line of their own, so that they are not last twice. At
//! any time only the first of each line chooses: thousands that all woke up for one place would cost
//! more than the requests.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use anyhow::Result;
use anyhow::anyhow;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;
use tokio::sync::Notify;

use crate::chat::bill::Bill;
use crate::chat::bill::BudgetSpent;
use crate::chat::bill::Spent;
use crate::chat::config::Place;
use crate::chat::endpoint::Endpoint;
use crate::chat::endpoint::Found;
use crate::chat::gate::Ended;
use crate::chat::gate::Gate;
use crate::chat::limits::Limits;
use crate::retry::Policy;

/// Failures without a success between them that open the circuit.
const FAILURES: u32 = 5;

/// How often is looked whether others have left something of the budget.
const BUDGET_PAUSE: Duration = Duration::from_millis(100);

/// How often is asked whether a model is loaded.
const LOADING_PAUSE: Duration = Duration::from_millis(500);

/// All endpoints and what is known of each.
pub(super) struct Pool {
    endpoints: Vec<Endpoint>,
    policy: Policy,
    state: Mutex<State>,
    /// Somebody left, or something may be asked again.
    changed: Notify,
    /// First attempts, and later ones.
    lines: [tokio::sync::Mutex<()>; 2],
    bill: Mutex<Arc<Bill>>,
}

struct State {
    desks: Vec<Desk>,
    /// Requests that wait for a place.
    waiting: usize,
    closed: Option<Closed>,
}

/// Why nobody is asked any more.
#[derive(Clone, Debug)]
pub(super) enum Closed {
    /// There is no money left.
    Budget(BudgetSpent),
    /// As it says.
    Because(String),
}

impl Closed {
    fn error(&self) -> anyhow::Error {
        match self {
            Closed::Budget(spent) => (*spent).into(),
            Closed::Because(why) => anyhow!("{why}"),
        }
    }
}

/// One endpoint, seen from here.
struct Desk {
    gate: Gate,
    limits: Limits,
    /// Not before this moment: it asked for a pause, or its circuit is open.
    closed_until: Option<Instant>,
    /// Failures since the last success.
    failures: u32,
    /// Rows that it refused since the last success.
    rows_refused: u32,
    /// Why it is not asked any more.
    out: Option<String>,
    served: u64,
    failed: u64,
    refused: u64,
}

/// Leave to send one request to one endpoint. Must be given back by [`Pool::leave`].
pub(super) struct Lease {
    pub(super) index: usize,
    epoch: u64,
    reserved: Spent,
    since: Instant,
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
    /// Whether that is where more brought no more answers a second; else it was not looked for long
    /// enough.
    pub is_knee: bool,
    /// Why it was not asked any more.
    pub out: Option<String>,
}

/// Whether some are loading their models, and no other is ready.
fn all_load(found: &[Result<Found>]) -> bool {
    let is_loading = |found: &Found| found.is_loading;
    found.iter().flatten().all(is_loading) && found.iter().flatten().any(is_loading)
}

enum Choice {
    /// This endpoint, in this epoch of its gate.
    One(usize, u64),
    /// Look again then, or when something changes.
    Wait(Option<Instant>),
}

impl Pool {
    pub(super) fn new(endpoints: Vec<Endpoint>, policy: Policy) -> Pool {
        let desk = |endpoint: &Endpoint| {
            let place = &endpoint.place;
            Desk {
                gate: Gate::new(place.concurrency, place.max_concurrency),
                limits: Limits::new(place.requests_per_minute, place.tokens_per_minute),
                closed_until: None,
                failures: 0,
                rows_refused: 0,
                out: None,
                served: 0,
                failed: 0,
                refused: 0,
            }
        };
        let desks = endpoints.iter().map(desk).collect();
        Pool {
            endpoints,
            policy,
            state: Mutex::new(State { desks, waiting: 0, closed: None }),
            changed: Notify::new(),
            lines: Default::default(),
            bill: Mutex::new(Arc::new(Bill::new(Default::default(), Spent::default()))),
        }
    }

    pub(super) fn endpoint(&self, index: usize) -> &Endpoint {
        &self.endpoints[index]
    }

    pub(super) fn places(&self) -> impl Iterator<Item = &Place> {
        self.endpoints.iter().map(|endpoint| &endpoint.place)
    }

    /// From now on, this account pays.
    pub(super) fn pay_with(&self, bill: Arc<Bill>) {
        *self.bill.lock().unwrap_or_else(PoisonError::into_inner) = bill;
    }

    pub(super) fn bill(&self) -> Arc<Bill> {
        self.bill.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Requests that can be in flight at most.
    pub(super) fn most(&self) -> usize {
        self.lock().desks.iter().map(|desk| desk.gate.most()).sum()
    }

    /// Nobody is asked any more; who waits hears why.
    pub(super) fn close(&self, why: Closed) {
        self.lock().closed.get_or_insert(why);
        self.changed.notify_waiters();
        self.changed.notify_one();
    }

    /// # Errors
    /// When nobody is asked any more.
    pub(super) fn ensure_open(&self) -> Result<()> {
        self.lock().closed.as_ref().map_or(Ok(()), |why| Err(why.error()))
    }

    /// Leave for one request, as soon as there is any; rather not from `last`, which has just failed.
    ///
    /// # Errors
    /// When there is none any more.
    pub(super) async fn lease(
        &self,
        prompt_tokens: u32,
        completion_tokens: u32,
        last: Option<usize>,
    ) -> Result<Lease> {
        let _waiting = Waiting::of(self);
        let _first = self.lines[usize::from(last.is_some())].lock().await;
        let bill = self.bill();
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let until = match self.choose(prompt_tokens.saturating_add(completion_tokens), last)? {
                Choice::One(index, epoch) => {
                    let place = &self.endpoints[index].place;
                    let reserved = place.spent(prompt_tokens, completion_tokens);
                    match bill.reserve(&reserved) {
                        Ok(true) => {
                            return Ok(Lease { index, epoch, reserved, since: Instant::now() });
                        }
                        // Who settles may do so in another pool, which cannot wake anybody here.
                        Ok(false) => {
                            self.put_back(index);
                            Some(Instant::now() + BUDGET_PAUSE)
                        }
                        Err(spent) => {
                            self.put_back(index);
                            self.close(Closed::Budget(spent));
                            return Err(spent.into());
                        }
                    }
                }
                Choice::Wait(until) => until,
            };
            match until {
                Some(until) => tokio::select! {
                    () = changed => {}
                    () = tokio::time::sleep_until(until.into()) => {}
                },
                None => changed.await,
            }
        }
    }

    fn choose(&self, tokens: u32, last: Option<usize>) -> Result<Choice> {
        let now = Instant::now();
        let mut state = self.lock();
        if let Some(why) = &state.closed {
            return Err(why.error());
        }
        let mut waits: Option<Instant> = None;
        let mut soonest = |at: Instant| waits = Some(waits.map_or(at, |other| other.min(at)));
        let mut open: Vec<usize> = Vec::new();
        for (index, desk) in state.desks.iter().enumerate().filter(|(_, desk)| desk.out.is_none()) {
            match desk.closed_until.filter(|until| *until > now) {
                Some(until) => soonest(until),
                None if desk.has_room() => open.push(index),
                None => {}
            }
        }
        let busy = |index: usize| {
            let in_flight = state.desks[index].gate.in_flight() + 1;
            in_flight as f64 / self.endpoints[index].place.weight
        };
        open.sort_by(|&a, &b| {
            let avoided = |index| last == Some(index);
            avoided(a).cmp(&avoided(b)).then(busy(a).total_cmp(&busy(b)))
        });
        for index in open {
            match state.desks[index].limits.take(tokens) {
                Ok(()) => {
                    let epoch = state.desks[index].gate.enter();
                    return Ok(Choice::One(index, epoch));
                }
                Err(wait) => soonest(now + wait),
            }
        }
        Ok(Choice::Wait(waits))
    }

    /// A lease that was not used.
    fn put_back(&self, index: usize) {
        self.lock().desks[index].gate.leave(0, Ended::Failed, Duration::ZERO, false);
    }

    /// The request brought an answer, for which so much was spent.
    pub(super) fn served(&self, lease: &Lease, spent: &Spent) {
        self.bill().settle(&lease.reserved, spent);
        self.leave(lease, Ended::Served, |desk, _| {
            (desk.served, desk.failures, desk.rows_refused) = (desk.served + 1, 0, 0);
        });
    }

    /// How many rows this endpoint has refused since it last answered one, this row included.
    pub(super) fn count_refused_row(&self, lease: &Lease) -> u32 {
        let mut state = self.lock();
        let desk = &mut state.desks[lease.index];
        desk.rows_refused = desk.rows_refused.saturating_add(1);
        desk.rows_refused
    }

    /// It brought none, for a reason that is the row's and not the endpoint's.
    pub(super) fn refused_row(&self, lease: &Lease) {
        self.bill().settle(&lease.reserved, &Spent::default());
        self.leave(lease, Ended::Failed, |desk, _| {
            (desk.failed, desk.failures) = (desk.failed + 1, 0);
        });
    }

    /// It brought none; says whether another endpoint can be asked meanwhile.
    pub(super) fn failed(&self, lease: &Lease, is_refusal: bool, after: Option<Duration>) -> bool {
        self.bill().settle(&lease.reserved, &Spent::default());
        let ended = if is_refusal { Ended::Refused } else { Ended::Failed };
        self.leave(lease, ended, |desk, now| {
            desk.failed += 1;
            desk.refused += u64::from(is_refusal);
            // Of those in flight when it began, each meets the same trouble.
            desk.failures += u32::from(desk.closed_until.is_none_or(|until| until <= now));
            let opened = desk.failures.checked_sub(FAILURES).map(|more| more + 1);
            let rounds = if is_refusal { Some(desk.failures) } else { opened };
            if let Some(rounds) = rounds.or(after.map(|_| 1)) {
                let until = Some(now + self.policy.pause(rounds, after));
                desk.closed_until = desk.closed_until.max(until);
            }
        });
        self.is_another_open(lease.index)
    }

    /// Nobody asks this endpoint any more; an error when it was the last.
    pub(super) fn out(&self, lease: &Lease, why: &str) -> Result<()> {
        self.bill().settle(&lease.reserved, &Spent::default());
        self.leave(lease, Ended::Failed, |desk, _| {
            desk.failed += 1;
            if desk.out.is_none() {
                tracing::warn!("this endpoint is not asked any more: {why}");
            }
            desk.out = Some(why.to_owned());
        });
        if self.lock().desks.iter().all(|desk| desk.out.is_some()) {
            self.close(Closed::Because(why.to_owned()));
            return Err(anyhow!("{why}"));
        }
        Ok(())
    }

    /// Asks each endpoint what it has; an endpoint's own limit is kept from now on. While none is ready and
    /// one is loading its model, that is waited for.
    pub(super) async fn probe(&self, patience: Duration) -> Vec<Result<Found>> {
        let until = Instant::now() + patience;
        let mut found = self.look().await;
        let mut is_said = false;
        while all_load(&found) && Instant::now() < until && self.ensure_open().is_ok() {
            if !std::mem::replace(&mut is_said, true) {
                found.iter().flatten().for_each(|found| {
                    tracing::warn!("{}: waiting for at most {} s", found.line, patience.as_secs());
                });
            }
            tokio::time::sleep(LOADING_PAUSE).await;
            found = self.look().await;
        }
        found
    }

    async fn look(&self) -> Vec<Result<Found>> {
        let all = self.endpoints.iter().map(Endpoint::probe);
        let found = futures::future::join_all(all).await;
        let mut state = self.lock();
        for (desk, found) in state.desks.iter_mut().zip(&found) {
            if let Ok(Found { slots: Some(slots), .. }) = found {
                desk.gate.cap(*slots);
            }
        }
        found
    }

    /// How each endpoint was used.
    pub(super) fn usage(&self) -> Vec<Usage> {
        let state = self.lock();
        let usage = |(endpoint, desk): (&Endpoint, &Desk)| Usage {
            base_url: endpoint.place.base_url.clone(),
            served: desk.served,
            failed: desk.failed,
            refused: desk.refused,
            concurrency: desk.gate.knee().unwrap_or(desk.gate.limit()),
            is_knee: desk.gate.knee().is_some(),
            out: desk.out.clone(),
        };
        self.endpoints.iter().zip(&state.desks).map(usage).collect()
    }

    fn leave(&self, lease: &Lease, ended: Ended, note: impl FnOnce(&mut Desk, Instant)) {
        let now = Instant::now();
        let mut state = self.lock();
        let is_wanted = state.waiting > 0;
        let desk = &mut state.desks[lease.index];
        note(desk, now);
        desk.gate.leave(lease.epoch, ended, now.duration_since(lease.since), is_wanted);
        drop(state);
        self.changed.notify_one();
    }

    fn is_another_open(&self, index: usize) -> bool {
        let now = Instant::now();
        let is_open =
            |desk: &Desk| desk.out.is_none() && desk.closed_until.is_none_or(|until| until <= now);
        let state = self.lock();
        state.desks.iter().enumerate().any(|(other, desk)| other != index && is_open(desk))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Counters and moments: each is whole after each step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counted as waiting until it is dropped, also when nobody wants the place any more.
struct Waiting<'a>(&'a Pool);

impl Waiting<'_> {
    fn of(pool: &Pool) -> Waiting<'_> {
        pool.lock().waiting += 1;
        Waiting(pool)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.lock().waiting -= 1;
    }
}

impl Desk {
    /// Of an endpoint whose circuit was open, one request finds out whether it is back.
    fn has_room(&self) -> bool {
        match self.failures >= FAILURES {
            true => self.gate.in_flight() == 0,
            false => self.gate.has_room(),
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
