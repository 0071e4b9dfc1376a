//! `recaption instruct`: a strong model teaches a small writer.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use clap::Args;
use indicatif::ProgressBar;
use indicatif::ProgressStyle;

use crate::chat::Statement;
use crate::cli::bill;
use crate::cli::settings;
use crate::config::Config;
use crate::describe::Describer;
use crate::describe::WriterKind;
use crate::folder;
use crate::instruct;
use crate::instruct::Wish;

#[derive(Args)]
pub(super) struct Instruct {
    /// The folder of a refined run, whose tags and captions are taken.
    run: PathBuf,
    /// The folder for the files; the same command continues what was stopped.
    #[arg(short, long)]
    output: PathBuf,
    /// Rows to ask about: those with the most different tags. The paper has 70,000.
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    rows: usize,
    /// Different tags that a row must have.
    #[arg(long, value_name = "N", default_value_t = 3)]
    min_tags: usize,
    /// Trust score that an answer must have.
    #[arg(long, value_name = "SCORE", default_value_t = 0.6)]
    min_score: f32,
    /// Share of the pairs that is kept for validation.
    #[arg(long, value_name = "SHARE", default_value_t = 0.05)]
    validation: f64,
    /// Draws other rows.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Configuration file; its `[describe]` and `[audit]` count.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The strong model, as the endpoint names it.
    #[arg(long, value_name = "NAME")]
    llm: Option<String>,
    /// Its endpoint: everything before /chat/completions.
    #[arg(long, value_name = "URL")]
    base_url: Option<String>,
    /// Stop, with every answer kept, before more money than this is spent.
    #[arg(long, value_name = "MONEY")]
    budget: Option<f64>,
    /// Stop, with every answer kept, before more tokens than this are spent.
    #[arg(long, value_name = "N")]
    max_tokens: Option<u64>,
    /// Any setting by its name in the configuration file; may be repeated.
    #[arg(long, value_name = "NAME=VALUE")]
    set: Vec<String>,
}

impl Instruct {
    pub(super) fn run(self) -> Result<()> {
        let config = self.settings()?;
        ensure!((0.0..1.0).contains(&self.validation), "--validation must be from 0 to below 1");
        ensure!(self.rows > 0, "--rows is 0; nothing would be asked");
        let _lock = folder::lock(&self.output)?;
        let purchases = Arc::new(bill::purchases(&self.output, &config.describe)?);
        let describer = Describer::open(&config.describe, Some(Arc::clone(&purchases)))?;
        match describer.probe() {
            Ok(line) => eprintln!("teacher: {line}"),
            Err(error) => tracing::warn!("the teacher is not ready: {error:#}"),
        }
        let wish = Wish {
            rows: self.rows,
            min_tags: self.min_tags,
            min_score: self.min_score,
            validation: self.validation,
            seed: self.seed,
        };
        let bar = ProgressBar::new(self.rows as u64).with_style(ProgressStyle::with_template(
            "{elapsed_precise} {bar:30} {pos}/{len} rows, {per_sec}, {eta} left, {msg}",
        )?);
        let record =
            instruct::write(&self.run, &self.output, &wish, &describer, &config.audit, &|rows| {
                bar.inc(rows);
                bar.set_message(bill::words(&purchases.bill().spent()));
            });
        bar.finish_and_clear();
        let spent = purchases.bill().spent();
        let statement = Statement { run: None, spent, endpoints: describer.usage() };
        bill::write(&self.output, &statement, true)?;
        let record = record?;
        println!(
            "{} rows asked about, {} pairs to train on, {} to validate on; mean score {:.2}",
            record.asked, record.train, record.validation, record.mean_score
        );
        for (why, rows) in &record.left_out {
            println!("  {rows} not taken: {why}");
        }
        println!("{}", self.output.join("README.md").display());
        Ok(())
    }

    fn settings(&self) -> Result<Config> {
        let mut config = self.config.as_deref().map(Config::read).transpose()?.unwrap_or_default();
        for assignment in &self.set {
            config = settings::with(config, assignment)?;
        }
        let describe = &mut config.describe;
        if let Some(url) = &self.base_url {
            describe.remote.base_url.clone_from(url);
        }
        if let Some(name) = &self.llm {
            describe.remote.model.clone_from(name);
        }
        if describe.writer == WriterKind::Rules {
            describe.writer = WriterKind::Remote;
        }
        if describe.structured {
            bail!("pairs teach plain sentences; leave describe.structured off");
        }
        // A sentence of the rules teaches nothing.
        describe.fallback_to_rules = false;
        describe.budget = self.budget.unwrap_or(describe.budget);
        describe.token_budget = self.max_tokens.unwrap_or(describe.token_budget);
        Ok(config)
    }
}
