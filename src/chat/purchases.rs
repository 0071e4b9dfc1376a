//! Buys each answer once: looks into the store, asks only for what is missing, and keeps each reply the
//! moment it arrives, before anything else is done with it.

use std::collections::HashMap;
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use anyhow::Result;

use crate::chat::bill::Bill;
use crate::chat::bill::Budget;
use crate::chat::claims::Owner;
use crate::chat::claims::Renewal;
use crate::chat::flights::Flights;
use crate::chat::store::Key;
use crate::chat::store::Looked;
use crate::chat::store::Paid;
use crate::chat::store::Store;
use crate::chat::writer::Prompted;
use crate::chat::writer::Reply;
use crate::chat::writer::RowError;
use crate::chat::writer::Writer;

/// The memory of a run: what was answered, and what is being asked.
pub struct Purchases {
    store: Arc<Store>,
    flights: Flights,
    /// Absent where no other process can open the store.
    claims: Option<(Owner, Renewal)>,
    run: String,
    bill: Arc<Bill>,
}

/// A question on its way.
#[derive(Clone, Debug)]
pub struct Question {
    /// What is asked.
    pub prompted: Prompted,
    /// 0 for the first question, 1 for the one with a reminder.
    pub attempt: u32,
    /// Its name in the store.
    pub key: Key,
}

/// Says why a reply will not be used, for people who look into the store.
pub type Judge<'a> = dyn Fn(usize, &Reply) -> Option<&'static str> + Sync + 'a;

type Answers = Vec<Result<Reply, RowError>>;

type Bought = HashMap<Key, Result<Reply, RowError>>;

/// The name of a store that only its opener sees.
const IN_MEMORY: &str = ":memory:";

/// How often is looked whether another process has an answer: less and less often.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

impl Purchases {
    /// Opens the store at `path`; what is bought is charged to `run`, and may cost so much, what it has
    /// cost before included.
    ///
    /// # Errors
    /// When the file cannot be used; says what to do.
    pub fn open(path: &Path, run: &str, budget: Budget) -> Result<Purchases> {
        let (store, flights) = (Arc::new(Store::open(path)?), Flights::default());
        let owner = if path == Path::new(IN_MEMORY) { None } else { Owner::new(path) };
        let claims = owner.map(|owner| {
            let renewal = owner.renew(&store);
            (owner, renewal)
        });
        let bill = Arc::new(Bill::new(budget, store.spent(run)?));
        Ok(Purchases { store, flights, claims, run: run.to_owned(), bill })
    }

    /// What the run has spent and may spend; writers are given it, so that all keep to one budget.
    pub fn bill(&self) -> Arc<Bill> {
        Arc::clone(&self.bill)
    }

    /// An answer for each question, in their order: equal questions share one.
    ///
    /// # Errors
    /// When no question can be answered, or no answer kept. What was bought until then is kept.
    pub fn answers(
        &self,
        writer: &dyn Writer,
        questions: &[Question],
        judge: &Judge<'_>,
    ) -> Result<Answers> {
        let mut known = Bought::new();
        let mut pause = FIRST_PAUSE;
        loop {
            let mut missing: HashMap<Key, usize> = HashMap::new();
            for (index, question) in questions.iter().enumerate() {
                if !known.contains_key(&question.key) {
                    missing.entry(question.key).or_insert(index);
                }
            }
            if missing.is_empty() {
                break;
            }
            let mut missing: Vec<usize> = missing.into_values().collect();
            missing.sort_unstable();
            let keys: Vec<Key> = missing.iter().map(|&index| questions[index].key).collect();
            let claim = self.flights.claim(&keys);
            // Claimed before looking: a reply that lands between a look and a claim would be bought
            // twice.
            missing.retain(|&index| claim.has(&questions[index].key));
            let (found, theirs) = self.answers_claimed(writer, questions, &missing, judge)?;
            known.extend(found);
            drop(claim);
            if theirs > 0 {
                writer.ensure_open()?;
                std::thread::sleep(pause);
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            // What somebody else was asking about is in the store now, or it failed there and is
            // ours to ask in the next turn of this loop.
            self.flights.wait(&keys);
        }
        Ok(questions.iter().map(|question| known[&question.key].clone()).collect())
    }

    /// What is in the store of these questions, each once. Asks nothing.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn kept(&self, keys: &[Key]) -> Result<Vec<Reply>> {
        let mut known = HashSet::new();
        let keys: Vec<Key> = keys.iter().copied().filter(|key| known.insert(*key)).collect();
        Ok(self.store.get_batch(&keys)?.into_iter().flatten().collect())
    }

    /// Answers from the store or the writer; no other thread is asking these. And how many another process
    /// is asking.
    fn answers_claimed(
        &self,
        writer: &dyn Writer,
        questions: &[Question],
        claimed: &[usize],
        judge: &Judge<'_>,
    ) -> Result<(Bought, usize)> {
        let keys: Vec<Key> = claimed.iter().map(|&index| questions[index].key).collect();
        let owner = self.claims.as_ref().map(|(owner, _)| owner);
        let mut known = HashMap::new();
        let (mut missing, mut theirs) = (Vec::new(), 0);
        for (&index, looked) in claimed.iter().zip(self.store.look(&keys, owner)?) {
            match looked {
                Looked::Known(reply) => drop(known.insert(questions[index].key, Ok(reply))),
                Looked::Ours => missing.push(index),
                Looked::Theirs => theirs += 1,
            }
        }
        if !missing.is_empty() {
            let bought = self.buy(writer, questions, &missing, judge);
            self.release(questions, &missing, bought.as_ref().ok())?;
            known.extend(bought?);
        }
        Ok((known, theirs))
    }

    /// Lets others ask what was not answered.
    fn release(
        &self,
        questions: &[Question],
        asked: &[usize],
        bought: Option<&Bought>,
    ) -> Result<()> {
        let Some((owner, _)) = &self.claims else { return Ok(()) };
        let is_answered =
            |key: &Key| bought.and_then(|all| all.get(key)).is_some_and(|answer| answer.is_ok());
        let mut left: Vec<Key> = asked.iter().map(|&index| questions[index].key).collect();
        left.retain(|key| !is_answered(key));
        if left.is_empty() { Ok(()) } else { self.store.release(&left, owner) }
    }

    fn buy(
        &self,
        writer: &dyn Writer,
        questions: &[Question],
        missing: &[usize],
        judge: &Judge<'_>,
    ) -> Result<Bought> {
        let bought = Mutex::new(HashMap::new());
        let on_reply = |place: usize, answer: Result<Reply, RowError>| -> Result<()> {
            let index = missing[place];
            let Question { attempt, key, .. } = questions[index];
            let answer = match answer {
                Ok(reply) => {
                    let (run, writer, refused) = (&*self.run, writer.name(), judge(index, &reply));
                    Ok(self
                        .store
                        .put(&key, &Paid { run, writer, attempt, reply: &reply, refused })?)
                }
                Err(error) => Err(error),
            };
            bought.lock().unwrap_or_else(PoisonError::into_inner).insert(key, answer);
            Ok(())
        };
        let batch: Vec<Prompted> =
            missing.iter().map(|&index| questions[index].prompted.clone()).collect();
        writer.write(&batch, &on_reply)?;
        let mut bought = bought.into_inner().unwrap_or_else(PoisonError::into_inner);
        for &index in missing {
            bought.entry(questions[index].key).or_insert_with(|| Err(no_answer()));
        }
        Ok(bought)
    }
}

/// A writer that breaks its promise of one answer for each chat must not take the run down.
fn no_answer() -> RowError {
    RowError { reason: "the writer gave no answer".to_owned(), retryable: true }
}
