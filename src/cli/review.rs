//! `recaption review`: a local page for verdicts of people on a run, and what they say together.

use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use clap::Args;
use comfy_table::Table;
use tokio::sync::Notify;

use crate::cli::look::percent;
use crate::cli::outcome::Outcome;
use crate::cli::signals;
use crate::review::Desk;
use crate::review::Rows;
use crate::review::Statistics;
use crate::review::desk;
use crate::review::queue;
use crate::review::queue::By;
use crate::review::server::Server;
use crate::review::statistics::Estimate;
use crate::review::statistics::Rate;
use crate::review::verdicts;

#[derive(Args)]
pub(super) struct Review {
    /// The folder of a run.
    run: PathBuf,
    /// Who says it; the login name by itself.
    #[arg(long, value_name = "NAME")]
    reviewer: Option<String>,
    /// Port on 127.0.0.1; 0 is any that is free.
    #[arg(long, default_value_t = 0)]
    port: u16,
    #[command(flatten)]
    queue: QueueArgs,
    /// Open the page in the browser.
    #[arg(long)]
    open: bool,
    /// Print what the verdicts say so far, and end.
    #[arg(long, conflicts_with_all = ["open", "port", "reviewer"])]
    stats: bool,
    /// Print them as JSON.
    #[arg(long, requires = "stats")]
    json: bool,
}

/// Which rows people are asked about.
#[derive(Args)]
pub(super) struct QueueArgs {
    /// Rows to judge at most.
    #[arg(long, value_name = "N", default_value_t = queue::Config::default().rows)]
    rows: usize,
    /// Of the chance by which rows are drawn.
    #[arg(long, value_name = "N", default_value_t = queue::Config::default().seed)]
    seed: u64,
    /// Which rows come first.
    #[arg(long, value_enum, default_value = "stratified")]
    by: By,
    /// Which rows count, as "audit.score < 0.5".
    #[arg(long = "where", value_name = "EXPRESSION")]
    pub(super) filter: Option<String>,
}

impl QueueArgs {
    pub(super) fn config(&self) -> Result<queue::Config> {
        ensure!(self.rows > 0, "--rows 0 leaves nothing to judge");
        Ok(queue::Config { by: self.by, seed: self.seed, rows: self.rows })
    }
}

impl Review {
    pub(super) fn run(self) -> Result<Outcome> {
        let rows = Rows::open(&self.run, self.queue.filter.as_deref())?;
        if self.stats {
            self.print(&rows)?;
        } else {
            self.serve(rows)?;
        }
        Ok(Outcome::Done)
    }

    fn print(&self, rows: &Rows) -> Result<()> {
        let lines = verdicts::read(&self.run.join(verdicts::LOG))?;
        let statistics = desk::statistics_of(rows, lines);
        match self.json {
            true => println!("{}", serde_json::to_string_pretty(&statistics)?),
            false => println!("{}", words(&statistics)),
        }
        Ok(())
    }

    fn serve(&self, rows: Rows) -> Result<()> {
        let queue = self.queue.config()?;
        ensure!(
            !rows.all().is_empty(),
            "{} has no row with a generated text to judge{}",
            self.run.display(),
            if self.queue.filter.is_some() { " that --where keeps" } else { "" }
        );
        let reviewer = self.reviewer.clone().unwrap_or_else(login_name);
        let desk = Desk::open(&self.run, &rows, &queue, &reviewer)?;
        let (shown, all) = (desk.len(), rows.all().len());
        let network = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let network = network.context("cannot start the threads that answer")?;
        let server = network.block_on(Server::bind(&self.run, rows, desk, queue, self.port))?;
        println!("{}", server.url());
        eprintln!(
            "{reviewer} reviews {shown} of {all} rows. The address is secret. Ctrl-C ends it."
        );
        if self.open {
            open(server.url());
        }
        let end = Arc::new(Notify::new());
        let stop = end.clone();
        let kept = "all verdicts are on the disk";
        signals::listen(network.handle(), kept, move || stop.notify_one())?;
        let statistics = network.block_on(server.run(async move { end.notified().await }))?;
        eprintln!("{}", words(&statistics));
        Ok(())
    }
}

fn login_name() -> String {
    let named = ["USER", "LOGNAME"].into_iter().filter_map(|name| std::env::var(name).ok());
    named.into_iter().find(|name| !name.trim().is_empty()).unwrap_or_else(|| "reviewer".to_owned())
}

/// The address is printed anyway, so that a browser that does not open is no error.
fn open(url: &str) {
    let program = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let silent = || Stdio::null();
    let opened = Command::new(program).arg(url).stdout(silent()).stderr(silent()).spawn();
    if let Err(error) = opened {
        eprintln!("{program} does not run ({error}): open the address by hand");
    }
}

fn words(statistics: &Statistics) -> String {
    if statistics.rows == 0 {
        return "no row has a verdict yet".to_owned();
    }
    let mut parts = vec![rates(statistics).to_string(), flags(statistics).to_string()];
    parts.extend(agreement(statistics));
    parts.join("\n")
}

fn rates(statistics: &Statistics) -> Table {
    let mut table = Table::new();
    table.set_header(["", "rows", "share", "95 % interval"]);
    for count in &statistics.counts {
        let rate = Rate::of(count.rows, statistics.rows);
        table.add_row(row(count.verdict.as_str(), &rate));
    }
    table.add_row(row("not ok", &statistics.wrong));
    if let Some(weighted) = &statistics.weighted {
        let of = |name: &str, of: &Estimate| {
            [name.to_owned(), String::new(), percent(of.share), interval(of.low, of.high)]
        };
        table.add_row(of("not ok in the whole run", &weighted.wrong));
        table.add_row(of("hallucinated in the whole run", &weighted.hallucinated));
    }
    table
}

fn row(name: &str, rate: &Rate) -> [String; 4] {
    let rows = format!("{} of {}", rate.part, rate.whole);
    [name.replace('_', " "), rows, share(rate), interval(rate.low, rate.high)]
}

fn flags(statistics: &Statistics) -> Table {
    let mut table = Table::new();
    table.set_header(["flag", "right", "precision", "95 % interval", "found", "recall"]);
    for flag in &statistics.flags {
        let (precision, recall) = (&flag.precision, &flag.recall);
        table.add_row([
            flag.name.clone(),
            format!("{} of {}", precision.part, precision.whole),
            share(precision),
            interval(precision.low, precision.high),
            format!("{} of {}", recall.part, recall.whole),
            share(recall),
        ]);
    }
    table
}

fn agreement(statistics: &Statistics) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(weighted) = statistics.weighted.filter(|weighted| weighted.covered < 1.0) {
        let unknown = percent(1.0 - weighted.covered);
        lines.push(format!("{unknown} of the run are in bands of scores without a verdict."));
    }
    let names = statistics.reviewers.iter().map(|(name, rows)| format!("{name} {rows}"));
    lines.push(format!("Rows by reviewer: {}.", names.collect::<Vec<_>>().join(", ")));
    if let Some(agreement) = &statistics.agreement {
        let kappa = agreement.kappa.map_or("none".to_owned(), |kappa| format!("{kappa:.2}"));
        let what = if agreement.pairs > 1 { "mean of Cohen's kappas" } else { "Cohen's kappa" };
        lines.push(format!(
            "Agreement on {} rows: {} the same, {what} {kappa}.",
            agreement.rows,
            percent(agreement.same)
        ));
    }
    lines
}

fn share(rate: &Rate) -> String {
    rate.share.map(percent).unwrap_or_default()
}

fn interval(low: f64, high: f64) -> String {
    format!("{:.1} to {:.1} %", low * 100.0, high * 100.0)
}
