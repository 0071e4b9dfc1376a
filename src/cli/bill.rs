//! What the writer's answers cost and how its endpoints were used, in words and in `bill.json`.

use std::path::Path;

use anyhow::Result;
use rand::Rng;

use crate::chat::Budget;
use crate::chat::Purchases;
use crate::chat::Reached;
use crate::chat::Spent;
use crate::chat::Statement;
use crate::chat::Usage;
use crate::chat::store::Store;
use crate::describe::Config;
use crate::folder;

/// The name of the file in a run's folder.
const BILL: &str = "bill.json";

/// Writes the file, and says it; nothing where no endpoint was asked.
pub(super) fn write(run: &Path, statement: &Statement, is_said: bool) -> Result<()> {
    let Statement { spent, endpoints, .. } = statement;
    if endpoints.is_empty() {
        return Ok(());
    }
    if is_said {
        endpoints.iter().for_each(|usage| eprintln!("{}", endpoint(usage)));
        eprintln!("bill: {}", words(spent));
    }
    let statement = Statement { run: Some(payer(run)?), ..statement.clone() };
    folder::write(&run.join(BILL), &statement)
}

/// The memory of what was bought for a folder, in it or where the configuration says; with the bill that
/// the folder has run up, wherever it was then.
pub(super) fn purchases(folder: &Path, config: &Config) -> Result<Purchases> {
    let own = folder.join("requests.sqlite");
    let requests = config.requests.as_deref().unwrap_or(&own);
    let run = payer(folder)?;
    take_over(&Store::open(requests)?, requests == own, folder, &run)?;
    let budget = Budget { cost: config.budget, tokens: config.token_budget };
    Purchases::open(requests, &run, budget)
}

/// Bills once had the paths of their folders for names. One whose folder has moved since is known by being
/// alone in the folder's own store.
fn take_over(store: &Store, is_own: bool, folder: &Path, run: &str) -> Result<()> {
    let path = folder.canonicalize().unwrap_or_else(|_| folder.to_owned()).display().to_string();
    match &*store.payers()? {
        [alone] if is_own && Path::new(alone).is_absolute() => store.hand_over(alone, run),
        _ => store.hand_over(&path, run),
    }
}

/// The name under which a folder's answers are charged; made when it is first asked for.
fn payer(folder: &Path) -> Result<String> {
    let path = folder.join(BILL);
    let found: Statement = folder::read(&path)?.unwrap_or_default();
    if let Some(run) = found.run {
        return Ok(run);
    }
    let run = format!("{:032x}", rand::rng().random::<u128>());
    folder::write(&path, &Statement { run: Some(run.clone()), ..found })?;
    Ok(run)
}

/// "1,203 answers, 1.2 M tokens, 0.42 spent".
pub(super) fn words(spent: &Spent) -> String {
    let tokens = match spent.tokens() {
        few @ 0..10_000 => format!("{few} tokens"),
        some @ 10_000..10_000_000 => format!("{} k tokens", some / 1_000),
        many => format!("{:.1} M tokens", many as f64 / 1e6),
    };
    let money = if spent.cost > 0.0 { format!(", {:.2} spent", spent.cost) } else { String::new() };
    let estimated = match spent.estimated_tokens {
        0 => "",
        all if all == spent.tokens() => " (estimated)",
        _ => " (some of them estimated)",
    };
    format!("{} answers, {tokens}{estimated}{money}", spent.requests)
}

fn endpoint(usage: &Usage) -> String {
    let Usage { base_url, served, failed, refused, concurrency, reached, out } = usage;
    let knee = match reached {
        Reached::Knee => format!("the knee is at {concurrency} at once"),
        Reached::Cap => format!("{concurrency} at once, which is the most"),
        Reached::Unknown => format!("{concurrency} at once, too few answers to find the knee"),
    };
    // What to do about it was said when it happened.
    let why = out.as_ref().and_then(|why| why.lines().next());
    let out = why.map_or_else(String::new, |why| format!("; given up: {why}"));
    format!(
        "endpoint {base_url}: {served} answers, {failed} attempts failed ({refused} refused); {knee}{out}"
    )
}
