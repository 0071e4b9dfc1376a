//! Asks a writer about rows and judges what comes back. A refused reply is asked for once more, with a
//! reminder.

use std::sync::Arc;

use anyhow::Result;

use crate::chat::Key;
use crate::chat::Prompted;
use crate::chat::Purchases;
use crate::chat::Question;
use crate::chat::Reply;
use crate::chat::Writer;
use crate::describe::prompt::Marks;
use crate::describe::prompt::Prompt;
use crate::describe::reply;
use crate::describe::sources::Sources;
use crate::sample::Generated;

/// A writer with its prompt, its checks and its memory.
pub struct Asker {
    pub(super) writer: Box<dyn Writer>,
    pub(super) prompt: Prompt,
    pub(super) identity: serde_json::Value,
    checks: reply::Config,
    seed: u64,
    pub(super) purchases: Arc<Purchases>,
}

/// An accepted text, or why there is none.
pub type Verdict = Result<Generated, String>;

/// What is asked about one row.
struct Asked<'a> {
    sources: &'a Sources,
    marks: Marks,
    question: Question,
}

impl Asker {
    /// A writer that pays out of these purchases.
    pub fn new(
        writer: Box<dyn Writer>,
        prompt: Prompt,
        checks: reply::Config,
        seed: u64,
        purchases: Arc<Purchases>,
    ) -> Asker {
        writer.pay_with(purchases.bill());
        let identity = writer.identity();
        Asker { writer, prompt, identity, checks, seed, purchases }
    }

    /// A verdict for each of the sources, in their order.
    pub fn ask(&self, all: &[&Sources]) -> Result<Vec<Verdict>> {
        let first: Vec<Asked<'_>> =
            all.iter().map(|sources| self.question(sources)).collect::<Result<_>>()?;
        let mut verdicts = self.round(&first)?;
        let again: Vec<usize> =
            (0..all.len()).filter(|&i| matches!(verdicts[i], Err(Refused::Reply(_)))).collect();
        let second: Vec<Asked<'_>> = again.iter().map(|&i| self.reminder(&first[i])).collect();
        for (i, verdict) in again.into_iter().zip(self.round(&second)?) {
            verdicts[i] = match (&verdicts[i], verdict) {
                (Err(before), Err(after)) => Err(Refused::Twice(before.words(), after.words())),
                (_, verdict) => verdict,
            };
        }
        Ok(verdicts.into_iter().map(|v| v.map_err(|refused| refused.words())).collect())
    }

    /// Everything that was answered about the sources, reminders included. Asks nothing.
    pub fn kept(&self, all: &[&Sources]) -> Result<Vec<Reply>> {
        let mut keys = Vec::new();
        for sources in all {
            let first = self.question(sources)?;
            keys.extend([first.question.key, self.reminder(&first).question.key]);
        }
        self.purchases.kept(&keys)
    }

    fn question<'a>(&self, sources: &'a Sources) -> Result<Asked<'a>> {
        let rendered = self.prompt.render(sources)?;
        let schema = self.prompt.schema.clone();
        let prompted = Prompted { chat: rendered.chat, seed: self.seed, schema };
        let question = self.named(prompted, 0);
        Ok(Asked { sources, marks: rendered.marks, question })
    }

    fn reminder<'a>(&self, first: &Asked<'a>) -> Asked<'a> {
        let chat = self.prompt.remind(&first.question.prompted.chat);
        let seed = self.seed.wrapping_add(1);
        let prompted = Prompted { chat, seed, ..first.question.prompted.clone() };
        let question = self.named(prompted, 1);
        Asked { sources: first.sources, marks: first.marks.clone(), question }
    }

    fn named(&self, prompted: Prompted, attempt: u32) -> Question {
        Question { key: Key::of(&self.identity, attempt, &prompted), prompted, attempt }
    }

    fn round(&self, asked: &[Asked<'_>]) -> Result<Vec<Result<Generated, Refused>>> {
        let questions: Vec<Question> = asked.iter().map(|asked| asked.question.clone()).collect();
        let judge = |index: usize, reply: &Reply| self.judge(&asked[index], reply).err();
        let answers = self.purchases.answers(&*self.writer, &questions, &judge)?;
        let judged = asked.iter().zip(answers).map(|(asked, answer)| {
            let reply = answer.map_err(|error| Refused::Row(error.reason))?;
            // Judged again although the store has a verdict: checks may have changed since.
            let text = self.judge(asked, &reply).map_err(Refused::Reply)?;
            Ok(self.generated(text, reply))
        });
        Ok(judged.collect())
    }

    fn judge(&self, asked: &Asked<'_>, reply: &Reply) -> Result<String, &'static str> {
        let Asked { sources, marks, .. } = asked;
        reply::accept(&reply.text, &reply.finish_reason, sources, marks, &self.checks)
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
