//! `recaption eval`: what checkpoints score, by flags or by a suite; and a benchmark of one's own.

use std::cell::RefCell;
use std::io::IsTerminal;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use clap::Args;
use indicatif::HumanDuration;
use indicatif::ProgressBar;
use indicatif::ProgressStyle;

use crate::atomic_file;
use crate::cli::compare;
use crate::cli::outcome::Outcome;
use crate::cli::weights::How;
use crate::clip::Embedder;
use crate::eval::benchmark;
use crate::eval::benchmark::Benchmark;
use crate::eval::compare::Comparison;
use crate::eval::data::CaptionedConfig;
use crate::eval::data::LabelledConfig;
use crate::eval::data::Words;
use crate::eval::page;
use crate::eval::result;
use crate::eval::result::Score;
use crate::eval::result::Task;
use crate::eval::suite;
use crate::eval::suite::Checkpoint;
use crate::eval::suite::LabelledTasks;
use crate::eval::suite::PartConfig;
use crate::eval::suite::ProbeConfig;
use crate::eval::suite::Suite;
use crate::eval::suite::Told;
use crate::eval::zero_shot::Rounding;

#[derive(Args)]
pub(super) struct Eval {
    /// RWKV-CLIP weights: a `.pt` or safetensors file, or the folder of a training or of
    /// one of its checkpoints; may be given several times.
    #[arg(long, value_name = "PATH", required_unless_present = "suite")]
    checkpoint: Vec<PathBuf>,
    /// Their sizes: b32, b16, small, tiny, or a JSON or TOML file; a folder has its own.
    #[arg(long, value_name = "NAME")]
    model_config: Option<String>,
    #[command(flatten)]
    how: How,
    #[command(flatten)]
    data: DataFlags,
    /// Checkpoints, data sets and tasks of a TOML file.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["checkpoint", "model_config", "device",
        "tokenizer", "batch", "Tasks", "benchmark"])]
    suite: Option<PathBuf>,
    /// Pictures with classes and limits of one's own, a TOML file; exit code 1 when a limit is not
    /// kept.
    #[arg(long, value_name = "FILE")]
    benchmark: Vec<PathBuf>,
    /// Where results go; what is there already is not made again.
    #[arg(short, long, value_name = "DIR", default_value = "scores")]
    output: PathBuf,
}

#[derive(Args)]
#[group(id = "Tasks", multiple = true)]
struct DataFlags {
    /// Classify the pictures of this data by the names of their classes: a folder with a folder for
    /// each class, parquet, webdataset, CIFAR files.
    #[arg(long, value_name = "DATA")]
    zero_shot: Vec<PathBuf>,
    /// Fit one linear layer to the pictures of this data, and classify by it.
    #[arg(long, value_name = "DATA")]
    linear_probe: Vec<PathBuf>,
    /// Let pictures and texts of this data find each other.
    #[arg(long, value_name = "DATA")]
    retrieval: Vec<PathBuf>,
    /// Which column has the class.
    #[arg(long, value_name = "NAME")]
    label_column: Option<String>,
    /// Which column has the text, or a list of texts, of a retrieval.
    #[arg(long, value_name = "NAME")]
    text_column: Option<String>,
    /// Which rows count, as "split == 'test'".
    #[arg(long = "where", value_name = "EXPRESSION")]
    filter: Option<String>,
    /// Which rows a linear probe learns from; otherwise a part of those that count.
    #[arg(long, value_name = "EXPRESSION")]
    train_where: Option<String>,
    /// Sentences with {} for the class: the name of a published list, or a file with one a line.
    #[arg(long, value_name = "NAME|FILE")]
    templates: Option<String>,
    /// Names of the classes, in order: the name of a published list, or a file with one a line.
    #[arg(long, value_name = "NAME|FILE")]
    classes: Option<String>,
    /// Cut logits to integers as the released RWKV-CLIP script does, to compare with its numbers.
    #[arg(long)]
    reference_rounding: bool,
}

impl Eval {
    pub(super) fn run(self) -> Result<Outcome> {
        if let Some(path) = &self.suite {
            return score(&Suite::read(path)?, &self.output);
        }
        let (labelled, captioned) = (self.data.labelled(), self.data.captioned());
        ensure!(
            !labelled.is_empty() || !captioned.is_empty() || !self.benchmark.is_empty(),
            "nothing to score on: give --zero-shot, --linear-probe, --retrieval, --benchmark or --suite"
        );
        let checkpoint = self.checkpoints()?;
        let mut outcome = Outcome::Done;
        for file in &self.benchmark {
            let benchmark = Benchmark::read(file)?;
            for checkpoint in &checkpoint {
                if !keeps(&benchmark, checkpoint, &self.output)? {
                    outcome = Outcome::Disagreed;
                }
            }
        }
        if labelled.is_empty() && captioned.is_empty() {
            return Ok(outcome);
        }
        let rounding =
            if self.data.reference_rounding { Rounding::Reference } else { Rounding::Exact };
        let suite = Suite { checkpoint, labelled, captioned, rounding, ..Suite::default() };
        let scored = score(&suite, &self.output)?;
        Ok(if outcome == Outcome::Done { scored } else { outcome })
    }

    fn checkpoints(&self) -> Result<Vec<Checkpoint>> {
        let sizes = self.model_config.as_deref();
        self.checkpoint.iter().map(|path| self.how.checkpoint(path, sizes)).collect()
    }
}

impl DataFlags {
    /// The data sets with classes, each with all that is to be done with it.
    fn labelled(&self) -> Vec<LabelledTasks> {
        let mut entries: Vec<LabelledTasks> = Vec::new();
        let zero_shot = self.zero_shot.iter().map(|data| (data, Task::ZeroShot));
        let probe = self.linear_probe.iter().map(|data| (data, Task::LinearProbe));
        for (data, task) in zero_shot.chain(probe) {
            match entries.iter_mut().find(|entry| entry.data.data == *data) {
                Some(entry) => entry.tasks.push(task),
                None => entries.push(self.entry(data, task)),
            }
        }
        entries
    }

    fn entry(&self, data: &Path, task: Task) -> LabelledTasks {
        let words = |words: &Option<String>| words.clone().map(Words::Named);
        let filter = self.train_where.clone();
        let train =
            filter.map(|filter| PartConfig { filter: Some(filter), ..PartConfig::default() });
        LabelledTasks {
            data: LabelledConfig {
                data: data.to_owned(),
                classes: words(&self.classes),
                templates: words(&self.templates),
                label_column: self.label_column.clone(),
                filter: self.filter.clone(),
                ..LabelledConfig::default()
            },
            tasks: vec![task],
            probe: ProbeConfig { train, ..ProbeConfig::default() },
        }
    }

    fn captioned(&self) -> Vec<CaptionedConfig> {
        let entry = |data: &PathBuf| CaptionedConfig {
            data: data.clone(),
            text_column: self.text_column.clone(),
            filter: self.filter.clone(),
            ..CaptionedConfig::default()
        };
        self.retrieval.iter().map(entry).collect()
    }
}

/// Works on a suite, shows how it goes and what came out.
fn score(suite: &Suite, output: &Path) -> Result<Outcome> {
    let display = Display::default();
    let ended = suite::run(suite, output, &|told| display.show(told))?;
    display.end();
    if !ended.scores.is_empty() {
        println!("{}", compare::table(&Comparison::of(&ended.scores)?));
    }
    let (made, kept) = (ended.made, ended.scores.len() - ended.made);
    eprintln!("{made} results made, {kept} were there");
    for failure in &ended.failures {
        eprintln!("failed: {}: {:#}", failure.what, failure.why);
    }
    println!("{}", ended.page.display());
    Ok(if ended.failures.is_empty() { Outcome::Done } else { Outcome::Disagreed })
}

/// Whether a checkpoint keeps the limits of a benchmark; says so, and writes a page about it.
fn keeps(benchmark: &Benchmark, checkpoint: &Checkpoint, output: &Path) -> Result<bool> {
    let embedder = Embedder::open(&checkpoint.clip()?)?;
    let style = "{spinner} {pos} pictures · {per_sec}";
    let bar = ProgressBar::no_length().with_style(ProgressStyle::with_template(style)?);
    let outcome = benchmark::run(&embedder, benchmark, &|done| bar.set_position(done))?;
    bar.finish_and_clear();
    for table in outcome.tables() {
        println!("{table}");
    }
    std::fs::create_dir_all(output)
        .with_context(|| format!("cannot make the folder {}", output.display()))?;
    let name = suite::file_name(&format!("{}_{}", outcome.name, checkpoint.name()));
    let page = output.join(format!("{name}_benchmark.md"));
    atomic_file::write(&page, outcome.markdown().as_bytes())?;
    let verdict = if outcome.pass { "every limit is kept" } else { "a limit is not kept" };
    println!("{} on {}: {verdict}\n{}", outcome.model, outcome.name, page.display());
    Ok(outcome.pass)
}

/// How the work goes: a bar on a terminal, elsewhere a line now and then.
#[derive(Default)]
struct Display {
    now: RefCell<Option<Now>>,
}

struct Now {
    what: String,
    bar: ProgressBar,
    said: Instant,
}

/// From one line to the next, where there is no terminal.
const BETWEEN: Duration = Duration::from_secs(10);

impl Display {
    fn show(&self, told: Told) {
        match told {
            Told::Started { what, total } => {
                self.end();
                *self.now.borrow_mut() = Some(Now::start(what, total));
            }
            Told::Done(done) => {
                if let Some(now) = self.now.borrow_mut().as_mut() {
                    now.advance(done);
                }
            }
            Told::Made(score) => self.say(&line(score)),
            Told::Kept(score) => self.say(&format!("{} (was there)", line(score))),
            Told::Failed(failure) => self.say(&format!("failed: {}", failure.what)),
        }
    }

    fn say(&self, line: &str) {
        self.end();
        eprintln!("{line}");
    }

    fn end(&self) {
        if let Some(now) = self.now.borrow_mut().take() {
            now.bar.finish_and_clear();
        }
    }
}

impl Now {
    fn start(what: &str, total: u64) -> Now {
        let bar = ProgressBar::new(total);
        let style = "{prefix} {bar:24} {pos}/{len} · {per_sec} · {eta} left";
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        bar.set_prefix(what.to_owned());
        Now { what: what.to_owned(), bar, said: Instant::now() }
    }

    fn advance(&mut self, done: u64) {
        self.bar.set_position(done);
        if !std::io::stderr().is_terminal() && self.said.elapsed() > BETWEEN {
            self.said = Instant::now();
            let (rate, left) = (self.bar.per_sec(), HumanDuration(self.bar.eta()));
            let total = self.bar.length().unwrap_or(0);
            eprintln!("{}: {done}/{total} · {rate:.1}/s · {left} left", self.what);
        }
    }
}

fn line(score: &Score) -> String {
    let headline = score.recaption.as_ref().map(|own| own.headline.as_str()).unwrap_or_default();
    let value = page::headline(score).unwrap_or_default();
    let (name, dataset, task) = (&score.pretrained, &score.dataset, score.task.words());
    let metric = result::words(headline);
    format!("{name} · {dataset} · {task}: {metric} {value}")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        eval: Eval,
    }

    fn parsed(flags: &str) -> Result<Eval, clap::Error> {
        let flags = std::iter::once("eval").chain(flags.split_whitespace());
        Command::try_parse_from(flags).map(|command| command.eval)
    }

    #[test]
    fn one_data_set_of_two_tasks_is_one_entry() {
        let eval =
            parsed("--checkpoint c --zero-shot a --linear-probe b --linear-probe a").unwrap();
        let entries = eval.data.labelled();
        let tasks: Vec<_> = entries.iter().map(|e| (e.data.data.to_str(), e.tasks.len())).collect();
        assert_eq!(tasks, [(Some("a"), 2), (Some("b"), 1)]);
        assert!(eval.data.captioned().is_empty());
    }

    #[test]
    fn a_suite_is_not_mixed_with_flags() {
        assert!(parsed("--suite s.toml").is_ok());
        assert!(parsed("--suite s.toml --checkpoint c").is_err());
        assert!(parsed("--suite s.toml --zero-shot a").is_err());
        assert!(parsed("--suite s.toml --batch 2").is_err());
        assert!(parsed("--zero-shot a").is_err());
        let nothing = parsed("--checkpoint c").unwrap();
        assert!(nothing.run().unwrap_err().to_string().contains("nothing to score on"));
    }
}
