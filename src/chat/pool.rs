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
use tokio::sync::Notify;

use crate::chat::bill::Bill;
use crate::chat::bill::BudgetSpent;
use crate::chat::bill::Spent;
use crate::chat::config::Place;
use crate::chat::desk::Desk;
use crate::chat::desk::Usage;
use crate::chat::desk::Wanted;
use crate::chat::endpoint::Endpoint;
use crate::chat::endpoint::Found;
use crate::chat::gate::Ended;
use crate::retry::Policy;

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

/// Leave to send one request to one endpoint. Must be given back by [`Pool::leave`].
pub(super) struct Lease {
    pub(super) index: usize,
    /// Tokens that the prompt is taken for there.
    pub(super) prompt_tokens: u32,
    wanted: Wanted,
    /// Of its gate.
    epoch: u64,
    reserved: Spent,
    since: Instant,
}

/// Whether some are loading their models, and no other is ready.
fn all_load(found: &[Result<Found>]) -> bool {
    let is_loading = |found: &Found| found.is_loading;
    found.iter().flatten().all(is_loading) && found.iter().flatten().any(is_loading)
}

enum Choice {
    /// This is the leave.
    One(Lease),
    /// Look again then, or when something changes.
    Wait(Option<Instant>),
    /// There is no money for another.
    Spent(BudgetSpent),
}

impl Pool {
    pub(super) fn new(endpoints: Vec<Endpoint>, policy: Policy) -> Pool {
        let desks = endpoints.iter().map(|endpoint| Desk::new(&endpoint.place)).collect();
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
    pub(super) async fn lease(&self, wanted: &Wanted, last: Option<usize>) -> Result<Lease> {
        let _waiting = Waiting::of(self);
        let _first = self.lines[usize::from(last.is_some())].lock().await;
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let until = match self.choose(wanted, last)? {
                Choice::One(lease) => return Ok(lease),
                Choice::Wait(until) => until,
                Choice::Spent(spent) => {
                    self.close(Closed::Budget(spent));
                    return Err(spent.into());
                }
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

    fn choose(&self, wanted: &Wanted, last: Option<usize>) -> Result<Choice> {
        let (now, bill) = (Instant::now(), self.bill());
        let mut state = self.lock();
        if let Some(why) = &state.closed {
            return Err(why.error());
        }
        let asked = state.desks.iter().filter(|desk| desk.out.is_none());
        let mut wait: Option<Instant> = asked.filter_map(|desk| desk.pause(now)).min();
        let mut soonest = |at: Instant| wait = Some(wait.map_or(at, |other| other.min(at)));
        let mut spent = None;
        for index in self.open(&state.desks, now, last) {
            let desk = &mut state.desks[index];
            let prompt_tokens = desk.prompt_tokens(wanted);
            let tokens = prompt_tokens.saturating_add(wanted.completion_tokens);
            let reserved =
                self.endpoints[index].place.spent(prompt_tokens, wanted.completion_tokens);
            // The bill before the limits: what was set aside can be given back, a limit's permit cannot.
            match bill.reserve(&reserved) {
                Ok(true) => match desk.limits.take(tokens) {
                    Ok(()) => {
                        let (wanted, epoch) = (*wanted, desk.gate.enter());
                        let lease =
                            Lease { index, prompt_tokens, wanted, epoch, reserved, since: now };
                        return Ok(Choice::One(lease));
                    }
                    Err(pause) => {
                        bill.settle(&reserved, &Spent::default());
                        soonest(now + pause);
                    }
                },
                // Who settles may do so in another pool, which cannot wake anybody here.
                Ok(false) => soonest(now + BUDGET_PAUSE),
                Err(error) => spent = Some(error),
            }
        }
        Ok(match (wait, spent) {
            (None, Some(spent)) => Choice::Spent(spent),
            (wait, _) => Choice::Wait(wait),
        })
    }

    /// Endpoints with room, the least busy first; `last` after all others.
    fn open(&self, desks: &[Desk], now: Instant, last: Option<usize>) -> Vec<usize> {
        let is_open = |index: &usize| desks[*index].is_open(now) && desks[*index].has_room();
        let busy = |index: usize| {
            let in_flight = desks[index].gate.in_flight() + 1;
            in_flight as f64 / self.endpoints[index].place.weight
        };
        let mut open: Vec<usize> = (0..desks.len()).filter(is_open).collect();
        open.sort_by(|&a, &b| {
            let avoided = |index| last == Some(index);
            avoided(a).cmp(&avoided(b)).then(busy(a).total_cmp(&busy(b)))
        });
        open
    }

    /// The endpoint has counted the tokens of a prompt.
    pub(super) fn learn(&self, lease: &Lease, prompt_tokens: u32) {
        self.lock().desks[lease.index].learn(&lease.wanted, prompt_tokens);
    }

    /// The request brought an answer, for which so much was spent.
    pub(super) fn served(&self, lease: &Lease, spent: &Spent) {
        self.leave(lease, spent, Ended::Served, |desk, _| desk.served());
    }

    /// How many rows this endpoint has refused since it last answered one, this row included.
    pub(super) fn count_refused_row(&self, lease: &Lease) -> u32 {
        self.lock().desks[lease.index].refused_row()
    }

    /// It brought none, for a reason that is the row's and not the endpoint's.
    pub(super) fn refused_row(&self, lease: &Lease) {
        self.leave(lease, &Spent::default(), Ended::Failed, |desk, _| desk.answered_nothing());
    }

    /// It brought none; says whether another endpoint can be asked meanwhile.
    pub(super) fn failed(&self, lease: &Lease, is_refusal: bool, after: Option<Duration>) -> bool {
        let ended = if is_refusal { Ended::Refused } else { Ended::Failed };
        self.leave(lease, &Spent::default(), ended, |desk, now| {
            desk.failed(&self.policy, is_refusal, after, now);
        });
        let (now, state) = (Instant::now(), self.lock());
        let mut others = state.desks.iter().enumerate().filter(|(other, _)| *other != lease.index);
        others.any(|(_, desk)| desk.is_open(now))
    }

    /// Nobody asks this endpoint any more; an error when it was the last.
    pub(super) fn out(&self, lease: &Lease, why: &str) -> Result<()> {
        self.leave(lease, &Spent::default(), Ended::Failed, |desk, _| desk.shut(why));
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
        let both = self.endpoints.iter().zip(&state.desks);
        both.map(|(endpoint, desk)| desk.usage(&endpoint.place)).collect()
    }

    fn leave(
        &self,
        lease: &Lease,
        spent: &Spent,
        ended: Ended,
        note: impl FnOnce(&mut Desk, Instant),
    ) {
        self.bill().settle(&lease.reserved, spent);
        let now = Instant::now();
        let mut state = self.lock();
        let is_wanted = state.waiting > 0;
        let desk = &mut state.desks[lease.index];
        note(desk, now);
        desk.gate.leave(lease.epoch, ended, now.duration_since(lease.since), is_wanted);
        drop(state);
        self.changed.notify_one();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::Budget;
    use crate::chat::RemoteConfig;

    /// One endpoint that takes one request in ten seconds, and a budget of so many tokens.
    fn pool(tokens: u64) -> (Pool, Arc<Bill>) {
        let config = RemoteConfig {
            base_url: "http://127.0.0.1:1/v1".to_owned(),
            model: "m".to_owned(),
            requests_per_minute: 6,
            ..RemoteConfig::default()
        };
        let endpoint = Endpoint::new(config.places().remove(0), 1, None).unwrap();
        let pool = Pool::new(vec![endpoint], config.retry);
        let bill = Arc::new(Bill::new(Budget { cost: 0.0, tokens }, Spent::default()));
        pool.pay_with(Arc::clone(&bill));
        (pool, bill)
    }

    const WANTED: Wanted = Wanted { text_tokens: 90, has_picture: false, completion_tokens: 10 };

    /// A lease, unless that takes long.
    fn lease(pool: &Pool) -> Option<Result<Lease>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let soon = Duration::from_millis(50);
        runtime.block_on(async { tokio::time::timeout(soon, pool.lease(&WANTED, None)).await.ok() })
    }

    #[test]
    fn an_empty_purse_takes_no_permit_of_the_limits() {
        let (poor, _) = pool(50);
        let error = lease(&poor).unwrap().err().unwrap();
        assert!(error.downcast_ref::<BudgetSpent>().is_some(), "{error}");
        assert_eq!(poor.lock().desks[0].limits.take(100), Ok(()));
    }

    #[test]
    fn what_waits_for_the_limits_sets_nothing_aside() {
        let (rich, bill) = pool(300);
        let first = lease(&rich).unwrap().unwrap();
        assert!(lease(&rich).is_none());
        let rest = Spent { prompt_tokens: 200, ..Spent::default() };
        assert_eq!(bill.reserve(&rest), Ok(true));
        bill.settle(&rest, &Spent::default());
        rich.served(&first, &Spent::default());
    }
}
