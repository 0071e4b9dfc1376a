//! The bills of the runs that pay out of a store.

use anyhow::Result;
use rusqlite::Connection;
use rusqlite::OptionalExtension;
use rusqlite::Row;
use rusqlite::params;

use crate::chat::bill::Spent;
use crate::chat::store::Paid;
use crate::chat::store::Store;
use crate::chat::store::explain;

impl Store {
    /// What a run has spent, by its own account.
    pub fn spent(&self, run: &str) -> Result<Spent> {
        const SELECT: &str = "SELECT requests, prompt_tokens, completion_tokens, cost, estimated_tokens \
                              FROM bills WHERE run = ?1";
        let spent = |row: &Row<'_>| {
            let number = |place| row.get::<_, i64>(place).map(i64::unsigned_abs);
            Ok(Spent {
                requests: number(0)?,
                prompt_tokens: number(1)?,
                completion_tokens: number(2)?,
                cost: row.get(3)?,
                estimated_tokens: number(4)?,
            })
        };
        let found = self.lock().query_row(SELECT, [run], spent).optional();
        Ok(found.map_err(|e| explain(&self.path, e))?.unwrap_or_default())
    }

    /// Who has a bill here.
    pub fn payers(&self) -> Result<Vec<String>> {
        self.all("SELECT run FROM bills ORDER BY run", |row| row.get(0))
    }

    /// Adds the bill of one payer, if there is any, to that of another.
    pub fn hand_over(&self, from: &str, to: &str) -> Result<()> {
        const ADD: &str = "
            INSERT INTO bills (run, requests, prompt_tokens, completion_tokens, cost, estimated_tokens)
            SELECT ?2, requests, prompt_tokens, completion_tokens, cost, estimated_tokens
            FROM bills WHERE run = ?1
            ON CONFLICT (run) DO UPDATE SET
                requests = requests + excluded.requests,
                prompt_tokens = prompt_tokens + excluded.prompt_tokens,
                completion_tokens = completion_tokens + excluded.completion_tokens,
                cost = cost + excluded.cost,
                estimated_tokens = estimated_tokens + excluded.estimated_tokens";
        let move_bill = || {
            let mut db = self.lock();
            let both = db.transaction()?;
            both.execute(ADD, [from, to])?;
            both.execute("DELETE FROM bills WHERE run = ?1", [from])?;
            both.commit()
        };
        if from == to { Ok(()) } else { move_bill().map_err(|e| explain(&self.path, e)) }
    }
}

/// Counts a reply on the bill of its run.
pub(super) fn charge(db: &Connection, Paid { run, reply, .. }: &Paid<'_>) -> rusqlite::Result<()> {
    const CHARGE: &str = "
        INSERT INTO bills (run, requests, prompt_tokens, completion_tokens, cost, estimated_tokens)
        VALUES (?1, 1, ?2, ?3, ?4, ?5)
        ON CONFLICT (run) DO UPDATE SET
            requests = requests + 1,
            prompt_tokens = prompt_tokens + ?2,
            completion_tokens = completion_tokens + ?3,
            cost = cost + ?4,
            estimated_tokens = estimated_tokens + ?5";
    let Spent { prompt_tokens, completion_tokens, estimated_tokens, cost, .. } = reply.spent();
    let number = |tokens: u64| i64::try_from(tokens).unwrap_or(i64::MAX);
    db.prepare_cached(CHARGE)?.execute(params![
        run,
        number(prompt_tokens),
        number(completion_tokens),
        cost,
        number(estimated_tokens),
    ])?;
    Ok(())
}
