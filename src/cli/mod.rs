//! The command line: arguments, messages, exit codes. What is done is in the modules below.

mod ablate;
mod audit;
mod bill;
mod cache;
mod card;
mod compare;
mod diff;
mod embed;
mod eval;
mod instruct;
mod label_studio;
mod look;
mod machine;
mod models;
mod outcome;
mod plan;
mod progress;
mod refine;
mod review;
mod select;
mod settings;
mod signals;
mod train;
mod weights;

use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use anyhow::bail;
use clap::Args;
use clap::Parser;
use clap::Subcommand;
use tracing_subscriber::EnvFilter;

use crate::atomic_file;
use crate::cli::models::ModelsCommand;
use crate::cli::outcome::Outcome;
use crate::cli::refine::Refine;
use crate::config::Config;
use crate::models::runtime;
use crate::report;
use crate::train as training;

/// Polish the words of a crawled image-text dataset.
#[derive(Parser)]
#[command(name = "recaption", version, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 too many rows rejected or bad texts, \
                          130 or 143 stopped by a signal (the same command continues).";

#[derive(Subcommand)]
enum Command {
    /// Find ONNX Runtime, or install it with pip.
    Setup(Setup),
    /// Refine the example dataset with the example models.
    Demo {
        /// The run folder.
        #[arg(short, long, default_value = "runs/demo")]
        output: PathBuf,
    },
    /// Tag, caption, fuse, audit and store a dataset.
    Refine(Box<Refine>),
    /// What `refine` with the same arguments would do; with --pilot, what it would cost.
    Plan(Box<plan::Plan>),
    /// Write a configuration file with every setting and what it means.
    Init {
        /// The file.
        #[arg(default_value = "recaption.toml")]
        path: PathBuf,
    },
    /// How far generated texts can be trusted: every word traced to its source.
    Audit(audit::Audit),
    /// Write report.html of a run or a training again.
    Report {
        /// Its folder.
        run: PathBuf,
    },
    /// Show what a run, a shard or any parquet file of ours holds.
    Inspect(look::Inspect),
    /// Show everything known about one row.
    Why(look::Why),
    /// Judge rows of a run on a local page, and say what the verdicts come to.
    Review(review::Review),
    /// Rows to judge as tasks of Label Studio, and its annotations as verdicts of the run.
    LabelStudio(label_studio::LabelStudio),
    /// Two runs beside each other: rows that changed, win rates by indicator, objects gained and lost.
    Diff(diff::Diff),
    /// A new run out of the rows of finished ones: by an expression, by verdicts, without opt-outs.
    Select(select::Select),
    /// Write README.md (a Hugging Face data set card) and croissant.json into a run's folder.
    Card(card::Card),
    /// Embeddings of pictures and texts by an RWKV-CLIP checkpoint, as parquet.
    Embed(embed::Embed),
    /// How well texts fit their pictures, by an RWKV-CLIP checkpoint: a line of JSON a row.
    Similarity(embed::Similarity),
    /// Train RWKV-CLIP on refined shards or any other dataset.
    #[command(args_override_self = true)]
    Train(Box<train::Train>),
    /// Train the same model on raw, synthetic, generated and mixed texts, and say which is best.
    #[command(args_override_self = true)]
    Ablate(Box<ablate::Ablate>),
    /// What checkpoints score: zero-shot classification, linear probe, retrieval.
    Eval(Box<eval::Eval>),
    /// Results of `eval` beside each other, with the differences that are more than chance.
    Compare(compare::Compare),
    /// Files to tune a small writer with: a strong model answers for rows with many tags.
    Instruct(Box<instruct::Instruct>),
    /// Answers of language models that were paid for: count, clean, export.
    #[command(subcommand)]
    Cache(cache::Cache),
    /// Get models by name, and examine model folders.
    #[command(subcommand)]
    Models(ModelsCommand),
}

#[derive(Args)]
struct Setup {
    /// The ONNX Runtime library to use.
    #[arg(long)]
    onnxruntime: Option<PathBuf>,
}

impl Cli {
    /// Whether most of the time goes into tensors, and memory had better be kept.
    fn computes(&self) -> bool {
        match &self.command {
            Command::Audit(audit) => audit.computes(),
            Command::Embed(_)
            | Command::Similarity(_)
            | Command::Train(_)
            | Command::Ablate(_)
            | Command::Eval(_) => true,
            _ => false,
        }
    }

    /// Does what was asked and says how it went.
    pub fn run(self) -> ExitCode {
        if self.computes() {
            machine::keep_memory();
        }
        if !matches!(self.command, Command::Refine(_) | Command::Demo { .. } | Command::Train(_)) {
            // `recaption why ... | head` ends with `head`, as other tools do; a run goes on.
            // SAFETY: sets the disposition of a signal, before any other thread is there.
            unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
        }
        show_warnings();
        match self.command.run() {
            Ok(outcome) => outcome.exit_code(),
            Err(error) => outcome::failed(&error),
        }
    }
}

/// Warnings of the library on standard error; `RUST_LOG` asks for more or less.
fn show_warnings() {
    // Not those of libraries below: ONNX Runtime warns of what nobody can change.
    let wanted = std::env::var("RUST_LOG").unwrap_or_else(|_| "recaption=warn".to_owned());
    let wanted = EnvFilter::builder().parse_lossy(wanted);
    let to_stderr = tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(wanted);
    // A program that has a subscriber of its own keeps it.
    let _ = to_stderr.without_time().with_target(false).try_init();
}

impl Command {
    fn run(self) -> Result<Outcome> {
        match self {
            Command::Setup(setup) => set_up(setup.onnxruntime.as_deref()).map(drop)?,
            Command::Demo { output } => return Refine::of_example(output)?.run(),
            Command::Refine(refine) => return refine.run(),
            Command::Plan(plan) => return plan.run(),
            Command::Init { path } => init(&path)?,
            Command::Audit(audit) => audit.run()?,
            Command::Report { run } => println!("{}", draw(&run)?.display()),
            Command::Inspect(inspect) => inspect.run()?,
            Command::Why(why) => why.run()?,
            Command::Review(review) => return review.run(),
            Command::LabelStudio(label_studio) => label_studio.run()?,
            Command::Diff(diff) => diff.run()?,
            Command::Select(select) => select.run()?,
            Command::Card(card) => card.run()?,
            Command::Embed(embed) => embed.run()?,
            Command::Similarity(similarity) => similarity.run()?,
            Command::Train(train) => return train.run(),
            Command::Ablate(ablate) => return ablate.run(),
            Command::Eval(eval) => return eval.run(),
            Command::Compare(compare) => compare.run()?,
            Command::Instruct(instruct) => instruct.run()?,
            Command::Cache(cache) => cache.run()?,
            Command::Models(command) => return command.run(),
        }
        Ok(Outcome::Done)
    }
}

fn draw(run: &Path) -> Result<PathBuf> {
    match run.join(training::RECORD).is_file() {
        true => training::report::write(run),
        false => report::write(run),
    }
}

/// Finds or installs ONNX Runtime and says which.
fn set_up(explicit: Option<&Path>) -> Result<PathBuf> {
    let runtime = runtime::find_or_install_with(explicit, &mut |line| eprintln!("{line}"))?;
    let (version, found) = (&runtime.version, runtime.found.as_str());
    eprintln!("ONNX Runtime {version}: {} ({found})", runtime.library.display());
    Ok(runtime.library)
}

fn init(path: &Path) -> Result<()> {
    if path.exists() {
        bail!("{} is there already; name another file or remove it", path.display());
    }
    atomic_file::write(path, Config::commented()?.as_bytes())?;
    println!("{}: every setting at its default; give it with --config", path.display());
    Ok(())
}
