//! `recaption eval`: what checkpoints score, by flags or by a suite; and a benchmark of one's own.

use std::cell::RefCell;
use std::collections::HashSet;
use std::io::IsTerminal;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use clap::ArgGroup;
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
#[command(group = tasks("Labelled", &["zero_shot", "linear_probe"]))]
#[command(group = tasks("Scored", &["zero_shot", "linear_probe", "retrieval"]))]
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
    #[arg(long, value_name = "NAME", requires = "Labelled")]
    label_column: Option<String>,
    /// Which column has the text, or a list of texts, of a retrieval.
    #[arg(long, value_name = "NAME", requires = "retrieval")]
    text_column: Option<String>,
    /// What stands before each text of a retrieval, nothing by itself; RWKV-CLIP's own evaluation has
    /// "a photo of ".
    #[arg(long, value_name = "TEXT", requires = "retrieval")]
    prefix: Option<String>,
    /// Which rows count, as "split == 'test'".
    #[arg(long = "where", value_name = "EXPRESSION", requires = "Scored")]
    filter: Option<String>,
    /// Which rows a linear probe learns from; otherwise a part of those that count.
    #[arg(long, value_name = "EXPRESSION", requires = "linear_probe")]
    train_where: Option<String>,
    /// Sentences with {} for the class: the name of a published list, or a file with one a line.
    #[arg(long, value_name = "NAME|FILE", requires = "zero_shot")]
    templates: Option<String>,
    /// Names of the classes, in order: the name of a published list, or a file with one a line.
    #[arg(long, value_name = "NAME|FILE", requires = "Labelled")]
    classes: Option<String>,
    /// Cut logits of zero-shot to integers as the released RWKV-CLIP script does, to compare with its
    /// numbers. For ImageNet it also has another transform of pictures and counts rows that only
    /// fill up its buffers, which is not done; of a retrieval its --prefix matters.
    #[arg(long, requires = "zero_shot")]
    reference_rounding: bool,
}

/// Flags of which another one needs at least one.
fn tasks(name: &'static str, flags: &[&'static str]) -> ArgGroup {
    ArgGroup::new(name).args(flags.iter().copied()).multiple(true)
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
        for (benchmark, checkpoint, page) in self.benchmarks(&checkpoint)? {
            if !keeps(&benchmark, checkpoint, &page)? {
                outcome = Outcome::Disagreed;
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
        let one = |path: &PathBuf| self.how.checkpoint(path, sizes);
        let all: Vec<Checkpoint> = self.checkpoint.iter().map(one).collect::<Result<_>>()?;
        let names: Vec<String> = all.iter().map(Checkpoint::name).collect();
        let named = names.iter().zip(&all).map(|(name, c)| (name.as_str(), c.path.as_path()));
        let names = suite::told_apart(&named.collect::<Vec<_>>());
        let all = all.into_iter().zip(names);
        Ok(all.map(|(c, name)| Checkpoint { name: Some(name), ..c }).collect())
    }

    /// Each benchmark with each checkpoint, and where its page goes.
    fn benchmarks<'a>(
        &self,
        checkpoints: &'a [Checkpoint],
    ) -> Result<Vec<(Benchmark, &'a Checkpoint, PathBuf)>> {
        let (mut all, mut pages) = (Vec::new(), HashSet::new());
        for file in &self.benchmark {
            let benchmark = Benchmark::read(file)?;
            let of_file = || file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let name = benchmark.name.clone().unwrap_or_else(of_file);
            for checkpoint in checkpoints {
                let page = suite::file_name(&format!("{name}_{}", checkpoint.name()));
                let page = self.output.join(format!("{page}_benchmark.md"));
                ensure!(
                    pages.insert(page.clone()),
                    "the page {} would be written twice; give benchmarks a `name` of their own",
                    page.display()
                );
                all.push((benchmark.clone(), checkpoint, page));
            }
        }
        Ok(all)
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
                Some(entry) if entry.tasks.contains(&task) => {}
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
            prefix: self.prefix.clone().unwrap_or_default(),
            ..CaptionedConfig::default()
        };
        let mut seen = HashSet::new();
        self.retrieval.iter().filter(|data| seen.insert(*data)).map(entry).collect()
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
fn keeps(benchmark: &Benchmark, checkpoint: &Checkpoint, page: &Path) -> Result<bool> {
    let embedder = Embedder::open(&checkpoint.clip()?)?;
    let style = "{spinner} {pos} pictures · {per_sec}";
    let bar = ProgressBar::no_length().with_style(ProgressStyle::with_template(style)?);
    let outcome = benchmark::run(&embedder, benchmark, &|done| bar.set_position(done))?;
    bar.finish_and_clear();
    for table in outcome.tables() {
        println!("{table}");
    }
    if let Some(note) = &outcome.note {
        eprintln!("{}: {note}", outcome.name);
    }
    let output = page.parent().unwrap_or(Path::new(""));
    std::fs::create_dir_all(output)
        .with_context(|| format!("cannot make the folder {}", output.display()))?;
    atomic_file::write(page, outcome.markdown().as_bytes())?;
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
            Told::Note(note) => self.say(note),
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
        let eval = parsed("--checkpoint c --zero-shot a --zero-shot a --retrieval b --retrieval b")
            .unwrap();
        assert_eq!(eval.data.labelled()[0].tasks, [Task::ZeroShot]);
        assert_eq!(eval.data.captioned().len(), 1);
    }

    #[test]
    fn a_flag_of_a_task_that_is_not_asked_for_is_refused() {
        for (flags, ask) in [
            ("--reference-rounding", "--zero-shot d"),
            ("--templates imagenet", "--zero-shot d"),
            ("--classes imagenet", "--linear-probe d"),
            ("--label-column c", "--linear-probe d"),
            ("--train-where x", "--linear-probe d"),
            ("--text-column t", "--retrieval d"),
            ("--prefix p", "--retrieval d"),
            ("--where x", "--retrieval d"),
        ] {
            let alone = format!("--checkpoint c --benchmark b {flags}");
            assert!(parsed(&alone).is_err(), "{flags}");
            assert!(parsed(&format!("{alone} {ask}")).is_ok(), "{flags} {ask}");
        }
        assert!(parsed("--checkpoint c --zero-shot d --train-where x").is_err());
        assert!(parsed("--checkpoint c --zero-shot d --text-column x").is_err());
        let eval = parsed("--checkpoint c --retrieval d --prefix p").unwrap();
        assert_eq!(eval.data.captioned()[0].prefix, "p");
    }

    #[test]
    fn checkpoints_and_pages_of_one_name_are_told_apart_or_refused() {
        let eval = parsed("--checkpoint a/model.pt --checkpoint b/model.pt --zero-shot d").unwrap();
        let names: Vec<String> = eval.checkpoints().unwrap().iter().map(Checkpoint::name).collect();
        assert_eq!(names, ["a/model", "b/model"]);
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/inspection/benchmark.toml");
        let pages = |flags: String| {
            let eval = parsed(&format!("{flags} -o out")).unwrap();
            let checkpoints = eval.checkpoints().unwrap();
            let found = eval.benchmarks(&checkpoints);
            found.map(|all| all.into_iter().map(|(_, _, page)| page).collect::<Vec<_>>())
        };
        let two = format!("--checkpoint a/model.pt --checkpoint b/model.pt --benchmark {file}");
        let wanted = ["turned-discs_a-model_benchmark.md", "turned-discs_b-model_benchmark.md"];
        assert_eq!(pages(two).unwrap(), wanted.map(|name| Path::new("out").join(name)));
        let twice = pages(format!("--checkpoint c --benchmark {file} --benchmark {file}"));
        assert!(twice.unwrap_err().to_string().contains("written twice"));
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
