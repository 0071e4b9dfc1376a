//! What the page says of endpoints: the bill, and how many requests at once each of them was good for.

use std::path::Path;

use anyhow::Result;

use crate::audit::report::Bill;
use crate::audit::report::Endpoint;
use crate::chat::Reached;
use crate::chat::Statement;
use crate::chat::Usage;
use crate::folder;

/// `bill.json`, if endpoints were asked.
pub(super) fn bill(run: &Path) -> Result<Option<Bill>> {
    let statement: Option<Statement> = folder::read(&run.join("bill.json"))?;
    Ok(statement
        .filter(|statement| !statement.endpoints.is_empty())
        .map(|statement| shown(&statement)))
}

fn shown(statement: &Statement) -> Bill {
    let spent = &statement.spent;
    Bill {
        answers: spent.requests,
        prompt_tokens: spent.prompt_tokens,
        completion_tokens: spent.completion_tokens,
        // Without prices nothing is known of money.
        money: (spent.cost > 0.0).then(|| format!("{:.2}", spent.cost)),
        endpoints: statement.endpoints.iter().map(endpoint).collect(),
    }
}

fn endpoint(usage: &Usage) -> Endpoint {
    Endpoint {
        base_url: usage.base_url.clone(),
        answers: usage.served,
        failed: usage.failed,
        refused: usage.refused,
        concurrency: usage.concurrency as u64,
        is_knee: usage.reached == Reached::Knee,
        is_cap: usage.reached == Reached::Cap,
        out: usage.out.clone(),
    }
}
