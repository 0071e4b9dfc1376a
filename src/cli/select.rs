//! `recaption select`: a new run out of the rows of finished ones.

use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use clap::Args;

use crate::cli::look;
use crate::curate::select;
use crate::curate::select::Counts;
use crate::curate::select::Request;
use crate::curate::select::Verdicts;
use crate::report;
use crate::review::Verdict;
use crate::shard::Format;

#[derive(Args)]
pub(super) struct Select {
    /// Folders of runs; what they hold stays as it is.
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// The folder of the new run; the same command continues what was stopped.
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Which rows are taken, as "audit.score > 0.6 and punsafe < 0.2 and not opt_out"; columns that
    /// the source had can be named too.
    #[arg(long = "where", value_name = "EXPRESSION")]
    filter: Option<String>,
    /// A log of verdicts; by itself audit/verdicts.jsonl of each run, where there is one.
    #[arg(long, value_name = "FILE")]
    verdicts: Option<PathBuf>,
    /// Hear no verdicts.
    #[arg(long, conflicts_with_all = ["verdicts", "reviewed_only"])]
    ignore_verdicts: bool,
    /// Verdicts with which a row is taken: of several people that of most, of as many the worst. An
    /// edited text takes the place of the old one and mends every verdict but "unusable".
    #[arg(long, value_name = "VERDICTS", value_delimiter = ',', default_value = "ok,minor", value_parser = verdict)]
    accept: Vec<Verdict>,
    /// Leave out what nobody judged.
    #[arg(long)]
    reviewed_only: bool,
    /// A list of rows that are not to be used, a line each: a key or url, `domain:example.com`,
    /// `prefix:https://...`, `sha256:...`, `key:...`, `url:...`; # begins a comment. Of such a row, key
    /// and url are kept among the rejects, and nothing else.
    #[arg(long, value_name = "FILE")]
    opt_out: Vec<PathBuf>,
    /// Rows of the old runs that go into a new shard; by itself those of an old shard.
    #[arg(long, value_name = "N")]
    rows_per_shard: Option<u64>,
    /// Form of the new shards; by itself that of the old ones.
    #[arg(long, value_enum)]
    format: Option<Format>,
}

impl Select {
    pub(super) fn run(self) -> Result<()> {
        let verdicts = match self.verdicts {
            _ if self.ignore_verdicts => Verdicts::Nobodys,
            Some(path) => Verdicts::Of(path),
            None => Verdicts::OfRuns,
        };
        let request = Request {
            runs: self.runs,
            filter: self.filter,
            verdicts,
            accept: self.accept,
            reviewed_only: self.reviewed_only,
            opt_out: self.opt_out,
            rows_per_shard: self.rows_per_shard,
            format: self.format,
        };
        let record = select::run(&request, &self.output, &mut |marker| {
            eprintln!("{}: {} of {} rows", marker.part.name, marker.refined, marker.rows_read);
        })?;
        println!("{}", look::reasons(&self.output)?);
        say(&record.counts);
        println!("{}", report::write(&self.output)?.display());
        Ok(())
    }
}

fn say(counts: &Counts) {
    if counts.edited > 0 {
        eprintln!("texts of people in the place of others: {}", counts.edited);
    }
    if counts.verdicts + counts.verdicts_ignored > 0 {
        let (heard, ignored) = (counts.verdicts, counts.verdicts_ignored);
        eprintln!("verdicts: {heard} heard, {ignored} passed over (other text, or no such row)");
    }
    if counts.opt_outs > 0 {
        let (all, lone) = (counts.opt_outs, counts.opt_outs_unmatched);
        eprintln!("lines of opt-outs: {all}, of which {lone} name no row");
        for line in counts.unmatched.iter().take(5) {
            eprintln!("  {}", look::printable(line));
        }
    }
}

fn verdict(word: &str) -> Result<Verdict> {
    let words = Verdict::ALL.map(Verdict::as_str).join(", ");
    let found = Verdict::ALL.into_iter().find(|verdict| verdict.as_str() == word);
    found.with_context(|| format!("{word:?} is no verdict; there are {words}"))
}
