//! How a command ended, as exit code and message.

use std::process::ExitCode;

use anyhow::Error;
use comfy_table::Table;

use crate::audit::alarms::Alarm;
use crate::chat::BudgetSpent;
use crate::pipeline::QuotaExceeded;

/// The end of a command that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// All was done.
    Done,
    /// What was examined does not agree.
    Disagreed,
    /// A signal stopped it; the number of the signal.
    Stopped(u8),
}

/// Exit code of a run with too many rejects or bad texts.
const QUOTA: u8 = 3;

/// Exit code of a run that may spend no more.
const BUDGET: u8 = 4;

impl Outcome {
    pub(super) fn exit_code(self) -> ExitCode {
        match self {
            Outcome::Done => ExitCode::SUCCESS,
            Outcome::Disagreed => ExitCode::FAILURE,
            Outcome::Stopped(signal) => ExitCode::from(128 + signal),
        }
    }
}

/// Says what went wrong.
pub(super) fn failed(error: &Error) -> ExitCode {
    if let Some(exceeded) = error.chain().find_map(|e| e.downcast_ref::<QuotaExceeded>()) {
        eprintln!("{}", reasons(exceeded));
        eprintln!("error: {exceeded}");
        return ExitCode::from(QUOTA);
    }
    if let Some(alarm) = error.chain().find_map(|e| e.downcast_ref::<Alarm>()) {
        eprintln!("error: {alarm}\n{}", advice(alarm));
        return ExitCode::from(QUOTA);
    }
    if let Some(spent) = error.chain().find_map(|e| e.downcast_ref::<BudgetSpent>()) {
        eprintln!(
            "stopped: {spent}\nFinished shards and every answer are kept: the same command with a higher \
             --budget or --max-tokens continues"
        );
        return ExitCode::from(BUDGET);
    }
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}

fn reasons(exceeded: &QuotaExceeded) -> Table {
    let mut table = Table::new();
    table.set_header(["reason", "rows", "for example"]);
    for (reason, (rows, detail)) in &exceeded.reasons {
        table.add_row([*reason, &rows.to_string(), detail]);
    }
    table
}

fn advice(alarm: &Alarm) -> String {
    format!(
        "Finished shards are kept. Look at the writer, its prompt and its server. Answers that were \
         paid for are in requests.sqlite and would be taken again: delete it, or use a new -o, to have \
         them asked anew. If the texts are meant so, give the same command with --set {}=1, or with \
         --set alarms.action=warn to be told only",
        alarm.kind.setting()
    )
}
