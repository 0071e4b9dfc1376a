//! Buys each answer once: looks into the store, asks only for what is missing, and keeps each reply the
//! moment it arrives, before anything else is done with it.

use std::collections::HashMap;
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use anyhow::Result;

use crate::chat::bill::Bill;
use crate::chat::bill::Budget;
use crate::chat::flights::Flights;
use crate::chat::store::Key;
use crate::chat::store::Paid;
use crate::chat::store::Store;
use crate::chat::writer::Prompted;
use crate::chat::writer::Reply;
use crate::chat::writer::RowError;
use crate::chat::writer::Writer;

/// The memory of a run: what was answered, and what is being asked.
pub struct Purchases {
    store: Store,
    flights: Flights,
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

impl Purchases {
    /// Opens the store at `path`; what is bought is charged to `run`, and may cost so much, what it has
    /// cost before included.
    ///
    /// # Errors
    /// When the file cannot be used; says what to do.
    pub fn open(path: &Path, run: &str, budget: Budget) -> Result<Purchases> {
        let (store, flights) = (Store::open(path)?, Flights::default());
        let bill = Arc::new(Bill::new(budget, store.spent(run)?));
        Ok(Purchases { store, flights, run: run.to_owned(), bill })
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
        let mut known: HashMap<Key, Result<Reply, RowError>> = HashMap::new();
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
            known.extend(self.answers_claimed(writer, questions, &missing, judge)?);
            drop(claim);
            // What another thread was asking about is in the store now, or it failed there and is
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

    /// Answers from the store or the writer; nobody else is asking these.
    fn answers_claimed(
        &self,
        writer: &dyn Writer,
        questions: &[Question],
        claimed: &[usize],
        judge: &Judge<'_>,
    ) -> Result<HashMap<Key, Result<Reply, RowError>>> {
        let keys: Vec<Key> = claimed.iter().map(|&index| questions[index].key).collect();
        let mut known = HashMap::new();
        let mut missing = Vec::new();
        for (&index, stored) in claimed.iter().zip(self.store.get_batch(&keys)?) {
            match stored {
                Some(reply) => drop(known.insert(questions[index].key, Ok(reply))),
                None => missing.push(index),
            }
        }
        if !missing.is_empty() {
            known.extend(self.buy(writer, questions, &missing, judge)?);
        }
        Ok(known)
    }

    fn buy(
        &self,
        writer: &dyn Writer,
        questions: &[Question],
        missing: &[usize],
        judge: &Judge<'_>,
    ) -> Result<HashMap<Key, Result<Reply, RowError>>> {
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
