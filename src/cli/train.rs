//! `recaption train`: settings, signals, what a person sees of the loop.

use std::collections::VecDeque;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use clap::Args;
use indicatif::HumanCount;
use indicatif::HumanDuration;
use indicatif::ProgressBar;
use indicatif::ProgressStyle;
use serde_json::Value;
use serde_json::json;
use tokio::runtime::Runtime;

use crate::cli::outcome::Outcome;
use crate::cli::progress::Style;
use crate::cli::settings;
use crate::cli::signals;
use crate::train;
use crate::train::Config;
use crate::train::End;
use crate::train::Event;
use crate::train::collective::Launched;
use crate::train::data::TextWeights;
use crate::train::journal::Step;
use crate::train::student::Tower;

#[derive(Args)]
pub(super) struct Train {
    /// The folder of the training; the same command continues it.
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    #[command(flatten)]
    settings: Settings,
    /// Print the settings as they are resolved, as TOML, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Events as JSON, an object a line, on standard output.
    #[arg(long)]
    json: bool,
}

/// What is trained, on what, how: of one training, or of all that are compared.
#[derive(Args)]
pub(super) struct Settings {
    /// Run folders of `recaption refine`, parquet or webdataset files, or folders of pictures.
    input: Vec<String>,
    #[command(flatten)]
    recipe: RecipeFlags,
    #[command(flatten)]
    data: DataFlags,
    /// Configuration file (TOML) with the sections model, data, recipe, teacher, validation, run.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Any setting by its name in the configuration file, as recipe.max_norm=0.5; may be repeated.
    #[arg(long, value_name = "NAME=VALUE")]
    set: Vec<String>,
}

#[derive(Args)]
struct RecipeFlags {
    /// Sizes of the model: tiny, small, b32, b16, or a JSON or TOML file.
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Weights to start from: a file, or the folder of a training or of a checkpoint.
    #[arg(long, value_name = "PATH")]
    start: Option<PathBuf>,
    /// Side of the pictures in pixels, if other than the model's.
    #[arg(long, value_name = "PIXELS")]
    input_size: Option<usize>,
    /// Towers that do not learn.
    #[arg(long, value_name = "TOWER", value_delimiter = ',')]
    freeze: Vec<Tower>,
    /// A larger checkpoint to be followed (distillation), a file or folder.
    #[arg(long, value_name = "PATH")]
    teacher: Option<PathBuf>,
    /// Sizes of the teacher, where it is a file.
    #[arg(long, value_name = "NAME")]
    teacher_model: Option<String>,
    /// Samples of a step.
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// Samples that are run together; the gradient is that of the whole batch all the same.
    #[arg(long, value_name = "N")]
    piece: Option<usize>,
    /// How often every row is seen.
    #[arg(long, value_name = "N", conflicts_with = "steps")]
    epochs: Option<f64>,
    /// Steps of the whole training.
    #[arg(long, value_name = "N")]
    steps: Option<u64>,
    /// The highest learning rate.
    #[arg(long, value_name = "RATE")]
    lr: Option<f64>,
    /// Pairs that fit worse than usual count for less.
    #[arg(long)]
    gate: bool,
    /// Of everything that is drawn at random.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Where the model runs: cpu, cuda, cuda:1.
    #[arg(long, value_name = "NAME")]
    device: Option<String>,
    /// Replicas in this process that share each batch.
    #[arg(long, value_name = "N")]
    ranks: Option<usize>,
    /// Steps between two checkpoints.
    #[arg(long, value_name = "N")]
    checkpoint_every: Option<u64>,
    /// Checkpoints that stay.
    #[arg(long, value_name = "N")]
    keep: Option<usize>,
}

#[derive(Args)]
struct DataFlags {
    /// Rows to train on, as "audit.score > 0.6".
    #[arg(long = "where", value_name = "EXPRESSION")]
    filter: Option<String>,
    /// How often each text of a row is taken, as raw=1,synthetic=0,generated=3; one that is not named
    /// is not taken.
    #[arg(long, value_name = "WEIGHTS")]
    texts: Option<String>,
    /// Rows that are held out for retrieval, as "split == 'test'".
    #[arg(long, value_name = "EXPRESSION")]
    validation_where: Option<String>,
    /// Another dataset for retrieval.
    #[arg(long, value_name = "PATH")]
    validation: Vec<String>,
    /// Steps between two retrievals.
    #[arg(long, value_name = "N")]
    validation_every: Option<u64>,
    /// Column with the text from the web, of a dataset that is no run.
    #[arg(long, value_name = "NAME")]
    text_column: Option<String>,
}

impl Train {
    pub(super) fn run(self) -> Result<Outcome> {
        let config = self.settings.resolve()?;
        config.check()?;
        if self.dry_run {
            print!("{}", toml::to_string(&config)?);
            return Ok(Outcome::Done);
        }
        ensure_alone()?;
        let stopping = Stopping::listen()?;
        let mut display = Display::new(Style::of(self.json), config.run.ranks);
        let end =
            train::run(&self.output, &config, &stopping.stop, &mut |event| display.show(event));
        display.end();
        let end = end?;
        eprintln!("{}", self.output.join("report.html").display());
        match self.json {
            true => print(&json!({"event": "ended", "training": self.output})),
            false => println!("{}", self.output.display()),
        }
        Ok(match end {
            End::Finished => Outcome::Done,
            End::Stopped => stopping.outcome(),
        })
    }
}

/// Signals, and what they ask for.
pub(super) struct Stopping {
    pub(super) stop: Arc<AtomicBool>,
    signal: Arc<AtomicU8>,
    /// Its thread hears the signals.
    _runtime: Runtime,
}

impl Stopping {
    pub(super) fn listen() -> Result<Stopping> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .context("cannot listen for signals")?;
        let stop = Arc::new(AtomicBool::new(false));
        let asked = stop.clone();
        let signal = signals::listen(
            runtime.handle(),
            "the step under way is finished and a checkpoint is written",
            move || asked.store(true, Ordering::Relaxed),
        )?;
        Ok(Stopping { stop, signal, _runtime: runtime })
    }

    pub(super) fn outcome(&self) -> Outcome {
        Outcome::Stopped(self.signal.load(Ordering::Relaxed))
    }
}

impl Settings {
    /// The file, then `--set`, then the flags.
    pub(super) fn resolve(&self) -> Result<Config> {
        let mut config = match &self.config {
            None => Config::default(),
            Some(path) => {
                let shown = path.display();
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("cannot read the configuration {shown}"))?;
                toml::from_str(&text).with_context(|| format!("in the configuration {shown}"))?
            }
        };
        for assignment in &self.set {
            config = settings::with(config, assignment)?;
        }
        if !self.input.is_empty() {
            config.data.inputs = self.input.clone();
        }
        self.recipe.over(&mut config);
        self.data.over(&mut config)?;
        Ok(config)
    }
}

/// Puts a flag, where there is one, over a setting.
fn over<T: Clone>(setting: &mut T, flag: &Option<T>) {
    if let Some(flag) = flag {
        *setting = flag.clone();
    }
}

impl RecipeFlags {
    fn over(&self, config: &mut Config) {
        let Config { model, recipe, teacher, run, .. } = config;
        model.sizes = self.model.clone().or(model.sizes.take());
        model.start = self.start.clone().or(model.start.take());
        model.input_size = self.input_size.or(model.input_size);
        if !self.freeze.is_empty() {
            model.freeze = self.freeze.clone();
        }
        teacher.checkpoint = self.teacher.clone().or(teacher.checkpoint.take());
        over(&mut teacher.sizes, &self.teacher_model);
        over(&mut recipe.batch, &self.batch);
        over(&mut run.piece, &self.piece);
        over(&mut recipe.epochs, &self.epochs);
        recipe.steps = match self.epochs {
            Some(_) => None,
            None => self.steps.or(recipe.steps),
        };
        over(&mut recipe.lr, &self.lr);
        recipe.gate |= self.gate;
        over(&mut recipe.seed, &self.seed);
        over(&mut run.device, &self.device);
        over(&mut run.ranks, &self.ranks);
        over(&mut run.checkpoint_every, &self.checkpoint_every);
        over(&mut run.keep, &self.keep);
    }
}

impl DataFlags {
    fn over(&self, config: &mut Config) -> Result<()> {
        config.data.filter = self.filter.clone().or(config.data.filter.take());
        if let Some(weights) = &self.texts {
            config.data.texts = text_weights(weights)?;
        }
        let column = &mut config.data.source.text_column;
        *column = self.text_column.clone().or(column.take());
        let validation = &mut config.validation;
        validation.filter = self.validation_where.clone().or(validation.filter.take());
        if !self.validation.is_empty() {
            validation.inputs = self.validation.clone();
        }
        over(&mut validation.every, &self.validation_every);
        Ok(())
    }
}

/// `raw=1,generated=3`.
fn text_weights(text: &str) -> Result<TextWeights> {
    let mut weights = TextWeights { raw: 0.0, synthetic: 0.0, generated: 0.0 };
    for part in text.split(',') {
        let wrong = || format!("--texts {text}: write it as raw=1,synthetic=1,generated=1");
        let (name, value) = part.split_once('=').with_context(wrong)?;
        let value: f64 = value.trim().parse().with_context(wrong)?;
        match name.trim() {
            "raw" => weights.raw = value,
            "synthetic" => weights.synthetic = value,
            "generated" => weights.generated = value,
            other => bail!("--texts names {other:?}; there are raw, synthetic and generated"),
        }
    }
    Ok(weights)
}

/// Several processes would each write this folder: there is no transport between them yet.
pub(super) fn ensure_alone() -> Result<()> {
    let Launched { rank, world, .. } = Launched::of(|name| std::env::var(name).ok())?;
    ensure!(
        world == 1,
        "a launcher has started {world} processes and this is rank {rank}; training over several \
         processes is not there yet (it needs NCCL). Start one process, with --ranks for replicas in it."
    );
    Ok(())
}

/// What a person or a program sees of the loop.
pub(super) struct Display {
    style: Style,
    bar: ProgressBar,
    ranks: usize,
    /// The last steps, for rates.
    recent: VecDeque<Step>,
    steps: u64,
    shown: Instant,
    /// Pictures that could not be read so far.
    unreadable: usize,
}

/// Steps that "now" is.
const RECENT: usize = 50;

/// Pictures that could not be read and are named.
const NAMED: usize = 10;

impl Display {
    pub(super) fn new(style: Style, ranks: usize) -> Display {
        let bar = if style == Style::Bar { ProgressBar::new(0) } else { ProgressBar::hidden() };
        if let Ok(line) = ProgressStyle::with_template("{bar:24} {pos}/{len} {msg}") {
            bar.set_style(line);
        }
        let recent = VecDeque::with_capacity(RECENT);
        Display { style, bar, ranks, recent, steps: 0, shown: Instant::now(), unreadable: 0 }
    }

    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }

    pub(super) fn show(&mut self, event: Event) {
        if self.style == Style::Json {
            return print_event(&event);
        }
        match event {
            Event::Reading(rows) => self.bar.set_message(format!("{} rows read", HumanCount(rows))),
            Event::Teaching(done, of) => {
                self.bar.set_length(of);
                self.bar.set_position(done);
                self.bar.set_message("rows seen by the teacher");
            }
            Event::Started(started) => {
                self.steps = started.steps;
                self.bar.set_length(started.steps);
                self.bar.set_position(started.done);
                self.say(&introduced(&started));
            }
            Event::Unreadable(pictures) => self.unreadable(&pictures),
            Event::Step(step) => self.step(step),
            Event::Validated(found) => self.say(&format!(
                "step {}: of {} pairs, text of picture R@1 {:.1} % R@5 {:.1} % R@10 {:.1} %, \
                 picture of text R@1 {:.1} % R@5 {:.1} % R@10 {:.1} %",
                found.step,
                found.pairs,
                100.0 * found.image_to_text[0],
                100.0 * found.image_to_text[1],
                100.0 * found.image_to_text[2],
                100.0 * found.text_to_image[0],
                100.0 * found.text_to_image[1],
                100.0 * found.text_to_image[2],
            )),
            Event::Saved(path) => self.say(&format!("checkpoint {}", path.display())),
        }
    }

    /// The first few are named; the report counts all.
    fn unreadable(&mut self, pictures: &[(String, String)]) {
        for (key, why) in pictures.iter().take(NAMED.saturating_sub(self.unreadable)) {
            self.say(&format!("left out: {key}: {why}"));
        }
        self.unreadable += pictures.len();
    }

    fn step(&mut self, step: Step) {
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        let line = self.line(&step);
        self.bar.set_position(step.step);
        self.bar.set_message(line.clone());
        let is_last = step.step == self.steps;
        if self.style == Style::Lines && (is_last || self.shown.elapsed().as_secs() >= 10) {
            self.shown = Instant::now();
            eprintln!("{}/{} {line}", step.step, self.steps);
        }
        self.recent.push_back(step);
    }

    fn line(&self, step: &Step) -> String {
        let all = || self.recent.iter().chain([step]);
        let seconds: f64 = all().map(|step| step.seconds).sum();
        let samples: usize = all().map(|step| step.samples).sum::<usize>() * self.ranks;
        let a_step = seconds / all().count() as f64;
        let left = a_step * self.steps.saturating_sub(step.step) as f64;
        let left = HumanDuration(Duration::from_secs_f64(left));
        let (loss, lr, scale) = (step.loss, step.lr, step.logit_scale.exp());
        let rate = samples as f64 / seconds.max(1e-9);
        format!(
            "loss {loss:.3} · lr {lr:.1e} · scale {scale:.1} · {rate:.0} samples/s · {left} left"
        )
    }

    pub(super) fn say(&self, line: &str) {
        match self.style {
            Style::Bar => self.bar.println(line),
            _ => eprintln!("{line}"),
        }
    }
}

fn introduced(started: &train::Started) -> String {
    let (learning, all) = started.parameters;
    let train::data::LeftOut { filter, no_text } = started.left_out;
    let goes_on = match started.done {
        0 => String::new(),
        done => format!(", going on after step {done}"),
    };
    format!(
        "{} rows ({} left out by the filter, {} without a text); {} parameters, {} of them learn; {} \
         steps{goes_on}",
        HumanCount(started.rows),
        HumanCount(filter),
        HumanCount(no_text),
        HumanCount(all),
        HumanCount(learning),
        HumanCount(started.steps),
    )
}

fn print_event(event: &Event) {
    let value = match event {
        Event::Reading(rows) => json!({"event": "reading", "rows": rows}),
        Event::Teaching(rows, of) => {
            json!({"event": "teaching", "rows": rows, "of": of})
        }
        Event::Started(started) => json!({
            "event": "started",
            "steps": started.steps,
            "done": started.done,
            "rows": started.rows,
            "left_out": started.left_out,
            "parameters": started.parameters.1,
            "learning": started.parameters.0,
        }),
        Event::Step(step) => json!(train::journal::Line::Step(step.clone())),
        Event::Validated(line) => json!(train::journal::Line::Validation(line.clone())),
        Event::Unreadable(pictures) => json!({"event": "unreadable", "pictures": pictures}),
        Event::Saved(path) => json!({"event": "saved", "checkpoint": path}),
    };
    print(&value);
}

/// A line on standard output. Whoever read it may be gone; the training goes on.
fn print(value: &Value) {
    let _ = writeln!(std::io::stdout(), "{value}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_of_texts_are_read_by_name() {
        let weights = text_weights("raw=1, generated=2.5").unwrap();
        assert_eq!((weights.raw, weights.synthetic, weights.generated), (1.0, 0.0, 2.5));
        for wrong in ["raw", "raw=x", "tags=1", ""] {
            assert!(text_weights(wrong).is_err(), "{wrong}");
        }
    }
}
