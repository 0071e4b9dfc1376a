//! What the writer's answers cost and how its endpoints were used, in words and in `bill.json`.

use std::path::Path;

use anyhow::Result;

use crate::chat::Spent;
use crate::chat::Statement;
use crate::chat::Usage;
use crate::folder;

/// The name of the file in a run's folder.
const BILL: &str = "bill.json";

/// Writes the file, and says it; nothing where no endpoint was asked.
pub(super) fn write(run: &Path, statement: &Statement, is_said: bool) -> Result<()> {
    let Statement { spent, endpoints } = statement;
    if endpoints.is_empty() {
        return Ok(());
    }
    if is_said {
        endpoints.iter().for_each(|usage| eprintln!("{}", endpoint(usage)));
        eprintln!("bill: {}", words(spent));
    }
    folder::write(&run.join(BILL), statement)
}

/// "1,203 answers, 1.2 M tokens, 0.42 spent".
pub(super) fn words(spent: &Spent) -> String {
    let tokens = match spent.tokens() {
        few @ 0..10_000 => format!("{few} tokens"),
        some @ 10_000..10_000_000 => format!("{} k tokens", some / 1_000),
        many => format!("{:.1} M tokens", many as f64 / 1e6),
    };
    let money = if spent.cost > 0.0 { format!(", {:.2} spent", spent.cost) } else { String::new() };
    format!("{} answers, {tokens}{money}", spent.requests)
}

fn endpoint(usage: &Usage) -> String {
    let Usage { base_url, served, failed, refused, concurrency, is_knee, out } = usage;
    let knee = match is_knee {
        true => format!("the knee is at {concurrency} at once"),
        false => format!("{concurrency} at once, too few answers to find the knee"),
    };
    let out = out.as_ref().map_or_else(String::new, |why| format!("; given up: {why}"));
    format!(
        "endpoint {base_url}: {served} answers, {failed} attempts failed ({refused} refused); {knee}{out}"
    )
}
