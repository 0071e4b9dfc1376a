//! `recaption cache`: the answers that were paid for, counted, cleaned and exported.

use std::fs::File;
use std::io::BufWriter;
use std::io::Write;
use std::io::stdout;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use clap::Args;
use clap::Subcommand;
use comfy_table::Table;
use serde_json::json;

use crate::chat::cache::Garbage;
use crate::chat::store::Store;
use crate::review::verdicts::now;

#[derive(Subcommand)]
pub(super) enum Cache {
    /// What is kept, by model: answers, tokens, money.
    Stats {
        /// A run's folder, or the file itself.
        store: PathBuf,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Drop answers; whoever needs one of them again pays again. Says only how many, without --yes.
    Gc(Gc),
    /// Every answer as a line of JSON.
    Export {
        /// A run's folder, or the file itself.
        store: PathBuf,
        /// The file to write; standard output without one.
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

/// With several of them, only answers of which all are true go.
#[derive(Args)]
pub(super) struct Gc {
    /// A run's folder, or the file itself.
    store: PathBuf,
    /// Answers that are older.
    #[arg(long, value_name = "DAYS")]
    older_than: Option<u64>,
    /// Answers that were refused.
    #[arg(long)]
    refused: bool,
    /// Answers of this model, as `stats` names it.
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Do it.
    #[arg(long)]
    yes: bool,
}

const DAY_S: u64 = 86_400;

impl Cache {
    pub(super) fn run(self) -> Result<()> {
        match self {
            Cache::Stats { store, json } => stats(&store, json),
            Cache::Gc(gc) => gc.run(),
            Cache::Export { store, output } => export(&store, output.as_deref()),
        }
    }
}

fn open(path: &Path) -> Result<Store> {
    match path.is_dir() {
        true => Store::open_existing(&path.join("requests.sqlite")),
        false => Store::open_existing(path),
    }
}

fn stats(path: &Path, as_json: bool) -> Result<()> {
    let models = open(path)?.stats()?;
    if as_json {
        println!("{}", json!({ "models": models }));
        return Ok(());
    }
    let mut table = Table::new();
    table.set_header([
        "writer",
        "model",
        "answers",
        "refused",
        "prompt tokens",
        "completion tokens",
        "cost",
        "days old",
    ]);
    let age = |unix_s: u64| now().saturating_sub(unix_s) / DAY_S;
    for of in models {
        table.add_row([
            of.writer,
            of.model,
            of.answers.to_string(),
            of.refused.to_string(),
            of.prompt_tokens.to_string(),
            of.completion_tokens.to_string(),
            format!("{:.2}", of.cost),
            format!("{} to {}", age(of.between.1), age(of.between.0)),
        ]);
    }
    println!("{table}");
    Ok(())
}

impl Gc {
    fn run(self) -> Result<()> {
        let before = self.older_than.map(|days| now().saturating_sub(days.saturating_mul(DAY_S)));
        let which = Garbage { before, refused: self.refused, model: self.model };
        if which == Garbage::default() {
            bail!("say which answers go: --older-than DAYS, --refused, --model NAME");
        }
        let store = open(&self.store)?;
        if !self.yes {
            println!("{} answers would go; --yes drops them", store.garbage(&which)?);
            return Ok(());
        }
        println!("{} answers are gone", store.gc(&which)?);
        Ok(())
    }
}

fn export(path: &Path, output: Option<&Path>) -> Result<()> {
    let store = open(path)?;
    let to: Box<dyn Write> = match output {
        Some(path) => Box::new(
            File::create(path).with_context(|| format!("cannot write {}", path.display()))?,
        ),
        None => Box::new(stdout().lock()),
    };
    let mut to = BufWriter::new(to);
    store.export(&mut |line| {
        serde_json::to_writer(&mut to, &line)?;
        Ok(to.write_all(b"\n")?)
    })?;
    to.flush().context("cannot write all answers")
}
