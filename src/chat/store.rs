//! `requests.sqlite`: every reply ever bought, kept before it is used, so that none is bought twice.
//!
//! The store keeps replies as they came, refused ones included. It never judges them: a verdict is
//! written beside a reply for people to read, but readers judge the text again, so that changed
//! checks cost nothing. It never sees a secret.
//!
//! Write-ahead log with `synchronous = NORMAL`: a reply whose `put` returned survives kill -9 of
//! this process, because the operating system has it. Only a power cut may cost the last moments,
//! never the file. `FULL` would pay one fsync for each reply to save those moments.

mod bills;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::SystemTime;

use anyhow::Result;
use anyhow::anyhow;
use anyhow::bail;
use rusqlite::Connection;
use rusqlite::ErrorCode;
use rusqlite::OptionalExtension;
use rusqlite::Row;
use rusqlite::ToSql;
use rusqlite::TransactionBehavior;
use rusqlite::params;
use sha2::Digest;
use sha2::Sha256;

use crate::chat::claims;
use crate::chat::claims::Owner;
use crate::chat::writer::Prompted;
use crate::chat::writer::Reply;

/// Another process may hold the file for as long as it takes to copy its log back.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// Layout of the tables, in SQLite's `user_version`.
const LAYOUT: i64 = 3;

const CREATE: &str = "
    CREATE TABLE IF NOT EXISTS replies (
        key           BLOB PRIMARY KEY,
        writer        TEXT NOT NULL,
        model         TEXT NOT NULL,
        attempt       INTEGER NOT NULL,
        text          TEXT NOT NULL,
        finish_reason TEXT NOT NULL,
        tokens        INTEGER,
        refused       TEXT,
        unix_s        INTEGER NOT NULL,
        prompt_tokens INTEGER,
        cost          REAL NOT NULL DEFAULT 0
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS bills (
        run               TEXT PRIMARY KEY,
        requests          INTEGER NOT NULL,
        prompt_tokens     INTEGER NOT NULL,
        completion_tokens INTEGER NOT NULL,
        cost              REAL NOT NULL,
        estimated_tokens  INTEGER NOT NULL DEFAULT 0
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS claims (
        key      BLOB PRIMARY KEY,
        owner    TEXT NOT NULL,
        until_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    PRAGMA user_version = 3;
";

/// From the layout that knew no prices.
const FROM_1: &str = "
    ALTER TABLE replies ADD COLUMN prompt_tokens INTEGER;
    ALTER TABLE replies ADD COLUMN cost REAL NOT NULL DEFAULT 0;
";

/// From the layout that did not know what was estimated.
const FROM_2: &str = "ALTER TABLE bills ADD COLUMN estimated_tokens INTEGER NOT NULL DEFAULT 0";

/// The replies already paid for; shared by all threads of a run.
pub struct Store {
    path: PathBuf,
    db: Mutex<Connection>,
}

/// Names a request: SHA-256 of the writer's identity, the attempt with its seed, and every message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key([u8; 32]);

/// A reply to be kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Paid<'a> {
    /// The run that pays.
    pub run: &'a str,
    /// `local` or `remote`.
    pub writer: &'a str,
    /// 0 for the first question, 1 for the one with a reminder.
    pub attempt: u32,
    /// What was said.
    pub reply: &'a Reply,
    /// Why it was not taken, if it was not.
    pub refused: Option<&'a str>,
}

/// What is known of a question.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Looked {
    /// It was answered.
    Known(Reply),
    /// It is to be asked, and nobody else will.
    Ours,
    /// Another process is asking it.
    Theirs,
}

/// How much the store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Replies that passed the checks of their day.
    pub accepted: i64,
    /// Replies that did not.
    pub refused: i64,
}

impl Key {
    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key of one question to one writer.
    pub fn of(identity: &serde_json::Value, attempt: u32, prompted: &Prompted) -> Key {
        let mut hash = Sha256::new();
        // Each part is preceded by its length: no two lists of parts have the same bytes.
        let mut add = |part: &[u8]| {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        };
        add(identity.to_string().as_bytes());
        add(&attempt.to_le_bytes());
        add(&prompted.seed.to_le_bytes());
        for (role, content) in prompted.chat.messages() {
            add(role.as_str().as_bytes());
            add(content.as_bytes());
        }
        if let Some(picture) = &prompted.chat.picture {
            add(picture.media_type.as_bytes());
            add(&picture.bytes);
        }
        Key(hash.finalize().into())
    }
}

impl Store {
    /// Opens the file, creating it if it is not there.
    pub fn open(path: &Path) -> Result<Store> {
        let explain = |e| explain(path, e);
        let db = Connection::open(path).map_err(explain)?;
        db.busy_timeout(BUSY_TIMEOUT).map_err(explain)?;
        db.pragma_update(None, "journal_mode", "WAL").map_err(explain)?;
        db.pragma_update(None, "synchronous", "NORMAL").map_err(explain)?;
        // One step for all of it: a crash in between would leave a file that no version knows.
        db.execute_batch("BEGIN IMMEDIATE").map_err(explain)?;
        let layout: i64 =
            db.pragma_query_value(None, "user_version", |r| r.get(0)).map_err(explain)?;
        if layout > LAYOUT {
            bail!(
                "{} was written by a newer version of this program (layout {layout}, this one \
                 knows {LAYOUT}): use that version, or move the file aside and pay again",
                path.display()
            );
        }
        if layout == 1 {
            db.execute_batch(FROM_1).map_err(explain)?;
        }
        if layout == 2 {
            db.execute_batch(FROM_2).map_err(explain)?;
        }
        db.execute_batch(CREATE).map_err(explain)?;
        db.execute_batch("COMMIT").map_err(explain)?;
        Ok(Store { path: path.to_owned(), db: Mutex::new(db) })
    }

    /// The replies kept under these keys, in their order.
    pub fn get_batch(&self, keys: &[Key]) -> Result<Vec<Option<Reply>>> {
        let db = self.lock();
        keys.iter().map(|key| get(&db, key).map_err(|e| explain(&self.path, e))).collect()
    }

    /// The replies kept under these keys, and claims on the others; all are ours where nobody owns claims.
    pub(super) fn look(&self, keys: &[Key], owner: Option<&Owner>) -> Result<Vec<Looked>> {
        let found = self.get_batch(keys)?;
        let known = |reply: Option<Reply>| reply.map_or(Looked::Ours, Looked::Known);
        match owner {
            // Where all are known, nothing is written.
            Some(owner) if found.contains(&None) => {
                self.look_all(keys, owner).map_err(|e| explain(&self.path, e))
            }
            _ => Ok(found.into_iter().map(known).collect()),
        }
    }

    /// Looked at and claimed in one step, in which nobody else can answer or claim.
    fn look_all(&self, keys: &[Key], owner: &Owner) -> rusqlite::Result<Vec<Looked>> {
        let mut db = self.lock();
        let all = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut looked = Vec::with_capacity(keys.len());
        for key in keys {
            looked.push(match get(&all, key)? {
                Some(reply) => Looked::Known(reply),
                None if claims::take(&all, &self.path, key, owner)? => Looked::Ours,
                None => Looked::Theirs,
            });
        }
        all.commit()?;
        Ok(looked)
    }

    /// Lets claims go.
    pub(super) fn release(&self, keys: &[Key], owner: &Owner) -> Result<()> {
        let release = || {
            let mut db = self.lock();
            let all = db.transaction()?;
            keys.iter().try_for_each(|key| claims::release(&all, key, owner))?;
            all.commit()
        };
        release().map_err(|e| explain(&self.path, e))
    }

    /// All claims of an owner hold on.
    pub(super) fn renew_claims(&self, owner: &str) -> Result<()> {
        claims::renew(&self.lock(), owner).map_err(|e| explain(&self.path, e))
    }

    /// Keeps a reply, counts it on its run's bill, and returns the one that counts: the first ever kept
    /// under this key, which is another's when two processes asked the same thing at once.
    pub fn put(&self, key: &Key, paid: &Paid<'_>) -> Result<Reply> {
        self.put_all(key, paid).map_err(|e| explain(&self.path, e))
    }

    fn put_all(&self, key: &Key, paid: &Paid<'_>) -> rusqlite::Result<Reply> {
        let mut db = self.lock();
        let both = db.transaction()?;
        let is_first = insert(&both, key, paid)?;
        let earlier = if is_first { None } else { get(&both, key)? };
        bills::charge(&both, paid)?;
        claims::settle(&both, key)?;
        both.commit()?;
        Ok(earlier.unwrap_or_else(|| paid.reply.clone()))
    }

    /// Counts what is kept.
    pub fn count(&self) -> Result<Count> {
        const COUNT: &str = "SELECT count(*) - count(refused), count(refused) FROM replies";
        self.lock()
            .query_row(COUNT, [], |row| Ok(Count { accepted: row.get(0)?, refused: row.get(1)? }))
            .map_err(|e| explain(&self.path, e))
    }

    /// All rows of a query.
    pub(super) fn all<T>(
        &self,
        query: &str,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        let db = self.lock();
        let rows = db.prepare(query).and_then(|mut found| found.query_map([], read)?.collect());
        rows.map_err(|e| explain(&self.path, e))
    }

    /// The rows of a query with one text in it.
    pub(super) fn page<T>(
        &self,
        query: &str,
        after: &str,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        let db = self.lock();
        let rows = db
            .prepare_cached(query)
            .and_then(|mut found| found.query_map([after], read)?.collect());
        rows.map_err(|e| explain(&self.path, e))
    }

    /// Runs a statement; the number that it gives, or 0.
    pub(super) fn number(&self, statement: &str, parameters: &[&dyn ToSql]) -> Result<u64> {
        let db = self.lock();
        let found = db.query_row(statement, parameters, |row| row.get::<_, i64>(0)).optional();
        Ok(found.map_err(|e| explain(&self.path, e))?.unwrap_or_default().unsigned_abs())
    }

    /// Runs a statement without a result.
    pub(super) fn run(&self, statement: &str) -> Result<()> {
        self.lock().execute_batch(statement).map_err(|e| explain(&self.path, e))
    }

    /// A thread that panicked inside SQLite left at worst an unfinished transaction, which SQLite
    /// rolls back: the connection stays good.
    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.db.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn get(db: &Connection, key: &Key) -> rusqlite::Result<Option<Reply>> {
    const SELECT: &str = "SELECT text, finish_reason, tokens, model, prompt_tokens, cost \
                          FROM replies WHERE key = ?1";
    db.prepare_cached(SELECT)?.query_row([&key.0], reply).optional()
}

fn reply(row: &Row<'_>) -> rusqlite::Result<Reply> {
    Ok(Reply {
        text: row.get(0)?,
        finish_reason: row.get(1)?,
        tokens: row.get(2)?,
        model: Arc::from(row.get::<_, String>(3)?),
        prompt_tokens: row.get(4)?,
        estimated: (0, 0),
        cost: row.get(5)?,
    })
}

fn insert(db: &Connection, key: &Key, paid: &Paid<'_>) -> rusqlite::Result<bool> {
    const INSERT: &str =
        "INSERT OR IGNORE INTO replies VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
    let Paid { writer, attempt, reply, refused, .. } = paid;
    let inserted = db.prepare_cached(INSERT)?.execute(params![
        key.0,
        writer,
        &*reply.model,
        attempt,
        reply.text,
        reply.finish_reason,
        reply.tokens,
        refused,
        unix_s(),
        reply.prompt_tokens,
        reply.cost,
    ])?;
    Ok(inserted == 1)
}

/// For people who clean up by age; nothing here depends on it.
fn unix_s() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX))
}

fn explain(path: &Path, error: rusqlite::Error) -> anyhow::Error {
    let next = match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            "the file is damaged or is not a request store: restore a copy, or move it aside and \
             run again (the answers in it will be asked for again)"
        }
        Some(ErrorCode::DiskFull) => "the disk is full: free some space and run the same command",
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            "another process holds the file: wait for it or stop it, then run the same command"
        }
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            "the file cannot be written: check that its folder exists and who owns it"
        }
        _ => "answers cannot be kept, and without that none is bought: run the same command again",
    };
    anyhow!(error).context(format!("request store {}: {next}", path.display()))
}
