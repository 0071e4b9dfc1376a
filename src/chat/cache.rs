//! What people do with a request store: look at it, clean it, take what is in it elsewhere.

use std::path::Path;

use anyhow::Result;
use anyhow::bail;
use rusqlite::params;
use serde::Serialize;

use crate::chat::store::Store;

/// What a store holds of one model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelStats {
    /// `local` or `remote`.
    pub writer: String,
    /// As the answers name it.
    pub model: String,
    /// Answers.
    pub answers: u64,
    /// Those of them that were refused by the checks of their day.
    pub refused: u64,
    /// Tokens of their prompts, where they were counted.
    pub prompt_tokens: u64,
    /// Their own tokens, where they were counted.
    pub completion_tokens: u64,
    /// What they cost by the prices of their day.
    pub cost: f64,
    /// When the first and the last came, in seconds since 1970.
    pub between: (u64, u64),
}

/// One answer, as it is exported: a line of JSON.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// SHA-256 of the request, in hexadecimal digits.
    pub key: String,
    /// `local` or `remote`.
    pub writer: String,
    /// As the answer names it.
    pub model: String,
    /// 0 for a first question, 1 for one with a reminder.
    pub attempt: u32,
    /// Exactly as it came.
    pub text: String,
    /// `stop`, `length`, or what the endpoint said.
    pub finish_reason: String,
    /// Tokens of the prompt.
    pub prompt_tokens: Option<u32>,
    /// Tokens of the answer.
    pub tokens: Option<u32>,
    /// By the prices of its day.
    pub cost: f64,
    /// Why it was refused, if it was.
    pub refused: Option<String>,
    /// When it came, in seconds since 1970.
    pub unix_s: u64,
}

/// Which answers go; all that are named must be true of one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Garbage {
    /// Came before this second since 1970.
    pub before: Option<u64>,
    /// Was refused.
    pub refused: bool,
    /// Is of this model.
    pub model: Option<String>,
}

impl Store {
    /// Opens a file that is there.
    ///
    /// # Errors
    /// When it is not, or is no store.
    pub fn open_existing(path: &Path) -> Result<Store> {
        if !path.is_file() {
            bail!("{} is not there; runs with a model as writer make one", path.display());
        }
        Store::open(path)
    }

    /// What it holds, by model.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn stats(&self) -> Result<Vec<ModelStats>> {
        const SELECT: &str = "
            SELECT writer, model, count(*), count(refused), coalesce(sum(prompt_tokens), 0),
                   coalesce(sum(tokens), 0), sum(cost), min(unix_s), max(unix_s)
            FROM replies GROUP BY writer, model ORDER BY writer, model";
        self.all(SELECT, |row| {
            let number = |place| row.get::<_, i64>(place).map(i64::unsigned_abs);
            Ok(ModelStats {
                writer: row.get(0)?,
                model: row.get(1)?,
                answers: number(2)?,
                refused: number(3)?,
                prompt_tokens: number(4)?,
                completion_tokens: number(5)?,
                cost: row.get(6)?,
                between: (number(7)?, number(8)?),
            })
        })
    }

    /// Every answer, in the order of their keys.
    ///
    /// # Errors
    /// When it cannot be read, or `each` fails.
    pub fn export(&self, each: &mut dyn FnMut(Line) -> Result<()>) -> Result<()> {
        const SELECT: &str = "
            SELECT lower(hex(key)), writer, model, attempt, text, finish_reason, prompt_tokens, tokens,
                   cost, refused, unix_s
            FROM replies WHERE key > unhex(?1) ORDER BY key LIMIT 1000";
        // A page at a time: the connection is not held while somebody writes a file.
        let mut last = String::new();
        loop {
            let page = self.page(SELECT, &last, |row| {
                Ok(Line {
                    key: row.get(0)?,
                    writer: row.get(1)?,
                    model: row.get(2)?,
                    attempt: row.get(3)?,
                    text: row.get(4)?,
                    finish_reason: row.get(5)?,
                    prompt_tokens: row.get(6)?,
                    tokens: row.get(7)?,
                    cost: row.get(8)?,
                    refused: row.get(9)?,
                    unix_s: row.get::<_, i64>(10)?.unsigned_abs(),
                })
            })?;
            let Some(end) = page.last() else { return Ok(()) };
            last.clone_from(&end.key);
            page.into_iter().try_for_each(&mut *each)?;
        }
    }

    /// How many answers would go.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn garbage(&self, which: &Garbage) -> Result<u64> {
        self.swept("SELECT count(*) FROM replies WHERE ", which)
    }

    /// Drops answers and gives their room on the disk back.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn gc(&self, which: &Garbage) -> Result<u64> {
        let gone = self.garbage(which)?;
        self.swept("DELETE FROM replies WHERE ", which)?;
        self.run("VACUUM; PRAGMA wal_checkpoint(TRUNCATE)")?;
        Ok(gone)
    }

    /// A statement over the answers that are garbage, and its number if it has one.
    fn swept(&self, statement: &str, which: &Garbage) -> Result<u64> {
        const WHERE: &str = "(?1 IS NULL OR unix_s < ?1) AND (NOT ?2 OR refused IS NOT NULL)
                             AND (?3 IS NULL OR model = ?3)";
        let before = which.before.map(|unix_s| i64::try_from(unix_s).unwrap_or(i64::MAX));
        let parameters = params![before, which.refused, which.model];
        self.number(&format!("{statement}{WHERE}"), parameters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::store::Key;
    use crate::chat::store::Paid;
    use crate::chat::writer::Chat;
    use crate::chat::writer::Prompted;
    use crate::chat::writer::Reply;

    /// A store with so many answers of the models `a` and, all refused, `b`.
    fn filled(path: &Path, answers: usize) -> Store {
        let store = Store::open(path).unwrap();
        for number in 0..answers {
            let is_first = number % 2 == 0;
            let reply = Reply {
                text: "A cat.".to_owned(),
                finish_reason: "stop".to_owned(),
                tokens: Some(3),
                prompt_tokens: Some(50),
                estimated: (0, 0),
                cost: 0.5,
                model: if is_first { "a".into() } else { "b".into() },
            };
            let chat = Chat { user: number.to_string(), ..Chat::default() };
            let key = Key::of(&"m".into(), 0, &Prompted { chat, ..Prompted::default() });
            let refused = (!is_first).then_some("empty");
            let paid = Paid { run: "r", writer: "remote", attempt: 0, reply: &reply, refused };
            store.put(&key, &paid).unwrap();
        }
        store
    }

    #[test]
    fn models_are_counted_and_every_answer_is_exported_once() {
        let dir = tempfile::tempdir().unwrap();
        let store = filled(&dir.path().join("requests.sqlite"), 2_500);
        let stats = store.stats().unwrap();
        assert_eq!((stats.len(), stats[0].answers, stats[0].refused), (2, 1_250, 0));
        assert_eq!((&*stats[1].model, stats[1].refused), ("b", 1_250));
        assert_eq!((stats[0].prompt_tokens, stats[0].cost), (50 * 1_250, 0.5 * 1_250.0));
        let mut keys = Vec::new();
        let mut each = |line: Line| {
            keys.push(line.key);
            Ok(())
        };
        store.export(&mut each).unwrap();
        assert_eq!(keys.len(), 2_500);
        assert!(keys.is_sorted_by(|a, b| a < b) && keys[0].len() == 64);
    }

    #[test]
    fn only_what_is_named_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("requests.sqlite");
        let store = filled(&path, 2_000);
        let of = |which: Garbage| store.garbage(&which).unwrap();
        assert_eq!(of(Garbage { before: Some(1), ..Garbage::default() }), 0);
        assert_eq!(of(Garbage { before: Some(u64::MAX), ..Garbage::default() }), 2_000);
        assert_eq!(of(Garbage { model: Some("c".to_owned()), ..Garbage::default() }), 0);
        let refused = Garbage { refused: true, ..Garbage::default() };
        assert_eq!(of(Garbage { model: Some("a".to_owned()), ..refused.clone() }), 0);
        store.run("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
        let before = std::fs::metadata(&path).unwrap().len();
        assert_eq!(store.gc(&refused).unwrap(), 1_000);
        assert_eq!(store.count().unwrap().accepted, 1_000);
        assert!(std::fs::metadata(&path).unwrap().len() < before);
        let missing = Store::open_existing(&dir.path().join("no")).err().unwrap();
        assert!(missing.to_string().contains("is not there"));
    }
}
