//! Asks a writer, once for each different question, and judges what comes back.
//!
//! The order is the promise: look into the store, ask only for what is missing, keep each reply the
//! moment it arrives, use it then. A refused reply is asked for once more, with a reminder.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use anyhow::Result;

use crate::describe::flights::Flights;
use crate::describe::prompt::Prompt;
use crate::describe::reply;
use crate::describe::sources::Sources;
use crate::describe::store::Key;
use crate::describe::store::Paid;
use crate::describe::store::Store;
use crate::describe::writer::Prompted;
use crate::describe::writer::Reply;
use crate::describe::writer::RowError;
use crate::describe::writer::Writer;
use crate::sample::Generated;

/// A writer with its prompt, its checks and its memory.
pub struct Asker {
    pub(super) writer: Box<dyn Writer>,
    pub(super) prompt: Prompt,
    pub(super) identity: serde_json::Value,
    checks: reply::Config,
    seed: u64,
    store: Store,
    flights: Flights,
}

/// An accepted text, or why there is none.
pub type Verdict = Result<Generated, String>;

/// One question on its way.
struct Question<'a> {
    sources: &'a Sources,
    fence: String,
    prompted: Prompted,
    key: Key,
}

/// Replies and errors by the index of their question.
type Answers = Vec<Result<Reply, RowError>>;

impl Asker {
    /// Opens the store at `requests`.
    pub fn open(
        writer: Box<dyn Writer>,
        prompt: Prompt,
        checks: reply::Config,
        seed: u64,
        requests: &Path,
    ) -> Result<Asker> {
        let store = Store::open(requests)?;
        let identity = writer.identity();
        Ok(Asker { writer, prompt, identity, checks, seed, store, flights: Flights::default() })
    }

    /// A verdict for each of the sources, in their order.
    pub fn ask(&self, all: &[&Sources]) -> Result<Vec<Verdict>> {
        let first: Vec<Question<'_>> =
            all.iter().map(|sources| self.question(sources)).collect::<Result<_>>()?;
        let mut verdicts = self.round(&first, 0)?;
        let again: Vec<usize> =
            (0..all.len()).filter(|&i| matches!(verdicts[i], Err(Refused::Reply(_)))).collect();
        let second: Vec<Question<'_>> = again.iter().map(|&i| self.reminder(&first[i])).collect();
        for (i, verdict) in again.into_iter().zip(self.round(&second, 1)?) {
            verdicts[i] = match (&verdicts[i], verdict) {
                (Err(before), Err(after)) => Err(Refused::Twice(before.words(), after.words())),
                (_, verdict) => verdict,
            };
        }
        Ok(verdicts.into_iter().map(|v| v.map_err(|refused| refused.words())).collect())
    }

    fn question<'a>(&self, sources: &'a Sources) -> Result<Question<'a>> {
        let rendered = self.prompt.render(sources)?;
        let prompted = Prompted { chat: rendered.chat, seed: self.seed };
        let key = Key::of(&self.identity, 0, &prompted);
        Ok(Question { sources, fence: rendered.fence, prompted, key })
    }

    fn reminder<'a>(&self, question: &Question<'a>) -> Question<'a> {
        let chat = self.prompt.remind(&question.prompted.chat);
        let prompted = Prompted { chat, seed: self.seed.wrapping_add(1) };
        let key = Key::of(&self.identity, 1, &prompted);
        Question { sources: question.sources, fence: question.fence.clone(), prompted, key }
    }

    fn round(
        &self,
        questions: &[Question<'_>],
        attempt: u32,
    ) -> Result<Vec<Result<Generated, Refused>>> {
        let answers = self.answers(questions, attempt)?;
        let judged = questions.iter().zip(answers).map(|(question, answer)| {
            let reply = answer.map_err(|error| Refused::Row(error.reason))?;
            // Judged again although the store has a verdict: checks may have changed since.
            let text = self.judge(question, &reply).map_err(Refused::Reply)?;
            Ok(self.generated(text, reply))
        });
        Ok(judged.collect())
    }

    fn judge(&self, question: &Question<'_>, reply: &Reply) -> Result<String, &'static str> {
        reply::accept(
            &reply.text,
            &reply.finish_reason,
            question.sources,
            &question.fence,
            &self.checks,
        )
        .map_err(reply::Flaw::as_str)
    }

    fn generated(&self, text: String, reply: Reply) -> Generated {
        Generated {
            text,
            writer: Arc::from(self.writer.name()),
            model: reply.model,
            prompt: Arc::clone(&self.prompt.sha256),
            finish_reason: reply.finish_reason,
            tokens: reply.tokens,
        }
    }

    /// An answer for each question: equal questions share one.
    fn answers(&self, questions: &[Question<'_>], attempt: u32) -> Result<Answers> {
        let mut known: HashMap<Key, Result<Reply, RowError>> = HashMap::new();
        loop {
            let mut missing: Vec<&Question<'_>> = Vec::new();
            for question in questions {
                let seen = |other: &&Question<'_>| other.key == question.key;
                if !known.contains_key(&question.key) && !missing.iter().any(seen) {
                    missing.push(question);
                }
            }
            if missing.is_empty() {
                break;
            }
            let keys: Vec<Key> = missing.iter().map(|q| q.key).collect();
            self.answer_unclaimed(&missing, &keys, attempt, &mut known)?;
            // What another thread was asking about is in the store now, or it failed there and is
            // ours to ask in the next turn of this loop.
            self.flights.wait(&keys);
        }
        Ok(questions.iter().map(|question| known[&question.key].clone()).collect())
    }

    /// Answers those questions that no other thread is asking, from the store or the writer.
    fn answer_unclaimed(
        &self,
        questions: &[&Question<'_>],
        keys: &[Key],
        attempt: u32,
        known: &mut HashMap<Key, Result<Reply, RowError>>,
    ) -> Result<()> {
        // Claimed before looking: a reply that lands between a look and a claim would be bought twice.
        let claim = self.flights.claim(keys);
        let mine: Vec<&Question<'_>> =
            questions.iter().copied().filter(|q| claim.has(&q.key)).collect();
        let my_keys: Vec<Key> = mine.iter().map(|q| q.key).collect();
        let mut missing = Vec::new();
        for (question, stored) in mine.iter().zip(self.store.get_batch(&my_keys)?) {
            match stored {
                Some(reply) => drop(known.insert(question.key, Ok(reply))),
                None => missing.push(*question),
            }
        }
        known.extend(self.buy(&missing, attempt)?);
        Ok(())
    }

    /// Asks the writer and keeps each reply before anything else is done with it.
    fn buy(
        &self,
        questions: &[&Question<'_>],
        attempt: u32,
    ) -> Result<HashMap<Key, Result<Reply, RowError>>> {
        if questions.is_empty() {
            return Ok(HashMap::new());
        }
        let bought = Mutex::new(HashMap::new());
        let on_reply = |index: usize, answer: Result<Reply, RowError>| -> Result<()> {
            let question = questions[index];
            let answer = match answer {
                Ok(reply) => Ok(self.keep(question, &reply, attempt)?),
                Err(error) => Err(error),
            };
            let mut bought = bought.lock().unwrap_or_else(PoisonError::into_inner);
            bought.insert(question.key, answer);
            Ok(())
        };
        let batch: Vec<Prompted> = questions.iter().map(|q| q.prompted.clone()).collect();
        self.writer.write(&batch, &on_reply)?;
        let mut bought = bought.into_inner().unwrap_or_else(PoisonError::into_inner);
        for question in questions {
            bought.entry(question.key).or_insert_with(|| Err(no_answer()));
        }
        Ok(bought)
    }

    fn keep(&self, question: &Question<'_>, reply: &Reply, attempt: u32) -> Result<Reply> {
        let refused = self.judge(question, reply).err();
        self.store.put(&question.key, &Paid { writer: self.writer.name(), attempt, reply, refused })
    }
}

/// Why a question has no accepted text.
enum Refused {
    /// The reply has a flaw.
    Reply(&'static str),
    /// There is no reply.
    Row(String),
    /// The reply after the reminder was no better.
    Twice(String, String),
}

impl Refused {
    fn words(&self) -> String {
        match self {
            Refused::Reply(flaw) => (*flaw).to_owned(),
            Refused::Row(reason) => reason.clone(),
            Refused::Twice(before, after) if before == after => format!("{before}, twice"),
            Refused::Twice(before, after) => format!("{before}; asked again: {after}"),
        }
    }
}

/// A writer that breaks its promise of one answer for each chat must not take the run down.
fn no_answer() -> RowError {
    RowError { reason: "the writer gave no answer".to_owned(), retryable: true }
}
