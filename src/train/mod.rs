//! Training of RWKV-CLIP on refined shards: the recipe of the paper, on one machine.
//!
//! [`run`] is the whole of it. A training's folder holds `train.json` (what it is made from),
//! `metrics.jsonl` (a line a step), `checkpoints/` and `report.html`. The same command continues from
//! the newest checkpoint and takes the same steps as if it had never stopped, to the last bit.

pub mod checkpoint;
pub mod collective;
pub mod config;
pub mod data;
pub mod gate;
pub mod journal;
pub mod objective;
pub mod optim;
pub mod report;
pub mod schedule;
mod start;
pub mod step;
pub mod student;
mod teacher;
mod trainer;
mod validation;

use std::collections::HashMap;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;

use anyhow::Context;
use anyhow::Result;
use anyhow::anyhow;
use anyhow::ensure;
use candle_core::Device;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;
use serde_json::json;

use crate::atomic_file;
use crate::clip::Words;
use crate::folder;
use crate::model;
use crate::model::names;
use crate::train::checkpoint::Checkpoint;
use crate::train::checkpoint::State;
use crate::train::collective::Collective;
use crate::train::collective::Single;
use crate::train::collective::Threads;
use crate::train::data::DataConfig;
use crate::train::data::Dataset;
use crate::train::data::LeftOut;
use crate::train::data::Position;
use crate::train::data::TextWeights;
use crate::train::journal::Journal;
use crate::train::schedule::OneCycle;
use crate::train::start::Start;
use crate::train::teacher::Teacher;
use crate::train::trainer::Desk;
use crate::train::trainer::Shared;
use crate::train::trainer::Trainer;
use crate::train::validation::Validator;

pub use config::Config;
pub use trainer::End;

/// What happens, for whoever watches.
#[derive(Clone, Debug)]
pub enum Event {
    /// A dataset is being looked through: rows so far.
    Reading(u64),
    /// The teacher looks at the rows: rows so far, of how many.
    Teaching(u64, u64),
    /// The steps begin.
    Started(Started),
    /// Pictures that cannot be read: keys and why. Their batch is shorter.
    Unreadable(Vec<(String, String)>),
    /// A step was taken.
    Step(journal::Step),
    /// The model was tried on pictures that it is not trained on.
    Validated(journal::Validation),
    /// A checkpoint was written.
    Saved(PathBuf),
}

/// What is about to be trained, on what.
#[derive(Clone, Debug)]
pub struct Started {
    /// Steps of the whole training.
    pub steps: u64,
    /// Steps that are taken already.
    pub done: u64,
    /// Rows that are trained on.
    pub rows: u64,
    /// Rows that are not, by why.
    pub left_out: LeftOut,
    /// Numbers of the model that learn, and all.
    pub parameters: (u64, u64),
}

/// `train.json`: what a training was made from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Record {
    /// What must be the same when it goes on.
    pub identity: Value,
    /// Every setting, as resolved when it began.
    pub config: Config,
    /// Sizes of the model.
    pub sizes: Value,
    /// Rows that are trained on.
    pub rows: u64,
    /// Steps of the whole training.
    pub steps: u64,
}

/// The name of [`Record`]'s file.
pub const RECORD: &str = "train.json";

/// Trains, or goes on with a training, until its steps are taken or it is asked to stop.
///
/// # Errors
/// When a setting, the data or a checkpoint cannot be used; when the folder was made by another
/// command; when a loss is not finite, with the last good checkpoint; when the disk is full, with
/// what is there untouched.
pub fn run(
    folder: &Path,
    config: &Config,
    stop: &AtomicBool,
    watch: &mut (dyn FnMut(Event) + Send),
) -> Result<End> {
    config.check()?;
    let _lock = folder::lock(folder)?;
    let device = model::device(&config.run.device)?;
    let start = Start::find(&config.model)?;
    let words = Arc::new(Words::open(config.model.tokenizer.as_deref(), &start.config)?);
    let data = training_data(config);
    let dataset = Dataset::open(&data, words.clone(), &mut |rows| watch(Event::Reading(rows)))?;
    let validator = match config.validation.is_on() {
        true => Some(validator(config, words, &device, watch)?),
        false => None,
    };
    let schedule = schedule(config, &dataset)?;
    let teacher = Teacher::hash(config)?;
    claim(folder, config, &start, &dataset, &schedule, teacher.as_deref())?;
    let teacher = Teacher::open(folder, config, teacher, &dataset, &mut |done, of| {
        watch(Event::Teaching(done, of));
    })?;
    let from = from(folder, config, &start, teacher.as_ref())?;
    watch(Event::Started(started(config, &start, &dataset, &schedule, &from)));
    let journal = Journal::open(folder, from.state.step)?;
    let shared = Shared {
        config,
        run: folder,
        dataset: &dataset,
        teacher: teacher.as_ref(),
        device: &device,
        schedule,
        stop,
    };
    let end = on_all_ranks(&shared, from, Desk { journal, validator, watch });
    // A training that went wrong has a curve, too; why it did is what is told.
    let drawn = report::write(folder);
    let end = end?;
    drawn?;
    Ok(end)
}

/// The rows that are trained on: where validation takes some of the same inputs, all others.
fn training_data(config: &Config) -> DataConfig {
    let mut data = config.data.clone();
    if let (true, Some(held_out)) = (config.validation.inputs.is_empty(), &config.validation.filter)
    {
        data.except = Some(match data.except {
            Some(except) => format!("({except}) or ({held_out})"),
            None => held_out.clone(),
        });
    }
    data
}

fn validator(
    config: &Config,
    words: Arc<Words>,
    device: &Device,
    watch: &mut (dyn FnMut(Event) + Send),
) -> Result<Validator> {
    let settings = config.validation.clone();
    let mut data = config.data.clone();
    if !settings.inputs.is_empty() {
        data.inputs = settings.inputs.clone();
    }
    data.filter = settings.filter.clone();
    data.except = None;
    // Which texts are trained on is no matter here: what is looked for is.
    data.texts = TextWeights::default();
    data.require.extend(settings.text);
    let dataset = Dataset::open(&data, words, &mut |rows| watch(Event::Reading(rows)));
    let dataset = dataset.context("the data of validation cannot be used")?;
    Ok(Validator { dataset, settings, device: device.clone() })
}

fn schedule(config: &Config, dataset: &Dataset) -> Result<OneCycle> {
    let recipe = &config.recipe;
    let per_epoch = dataset.batches_per_epoch(recipe.batch);
    ensure!(
        per_epoch > 0,
        "{} rows can be trained on, which is less than a batch of {}; set a smaller --batch",
        dataset.rows(),
        recipe.batch
    );
    let steps = recipe.steps.unwrap_or((recipe.epochs * per_epoch as f64).round().max(1.0) as u64);
    let total_steps = usize::try_from(steps).context("more steps than can be counted")?;
    Ok(OneCycle { max_lr: recipe.lr, total_steps, pct_start: recipe.pct_start })
}

/// Says what the training is made from, or compares with what it was made from.
fn claim(
    path: &Path,
    config: &Config,
    start: &Start,
    dataset: &Dataset,
    schedule: &OneCycle,
    teacher: Option<&str>,
) -> Result<()> {
    let sizes = serde_json::to_value(&start.config)?;
    let tokenizer = config.model.tokenizer.as_deref().map(atomic_file::sha256_file).transpose()?;
    let identity = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "config": config.identity()?,
        "sizes": sizes,
        "start": start.label,
        "teacher": teacher,
        "tokenizer": tokenizer,
        "data": dataset.fingerprint(),
    });
    let file = path.join(RECORD);
    // A command that failed before its first step has no claim on the folder.
    let has_begun = checkpoint::newest(path)?.is_some() || !journal::lines(path)?.is_empty();
    if let Some(record) = folder::read::<Record>(&file)?.filter(|_| has_begun) {
        return folder::ensure_same(path, &record.identity, &identity);
    }
    let (rows, steps) = (dataset.rows(), schedule.total_steps as u64);
    folder::write(&file, &Record { identity, config: config.clone(), sizes, rows, steps })
}

/// The newest checkpoint, or one of no steps.
fn from(
    folder: &Path,
    config: &Config,
    start: &Start,
    teacher: Option<&Teacher>,
) -> Result<Checkpoint> {
    if let Some(newest) = checkpoint::newest(folder)? {
        return Checkpoint::load(&newest)
            .with_context(|| format!("the checkpoint {} cannot be used", newest.display()));
    }
    let seed = config.recipe.seed;
    let beside = match teacher {
        Some(teacher) => trainer::projection(&start.config, teacher.dimension(), seed)?,
        None => HashMap::new(),
    };
    Ok(Checkpoint {
        state: State { step: 0, position: Position::default(), gate: None },
        config: start.config.clone(),
        weights: start.weights(seed)?,
        optimizer: HashMap::new(),
        beside,
    })
}

fn started(
    config: &Config,
    start: &Start,
    dataset: &Dataset,
    schedule: &OneCycle,
    from: &Checkpoint,
) -> Started {
    let numbers = |learning: bool| -> u64 {
        let named = names::all(&start.config).into_iter();
        let counted =
            named.filter(|named| !learning || !student::is_of(&named.name, &config.model.freeze));
        counted.map(|named| named.shape.elem_count() as u64).sum()
    };
    Started {
        steps: schedule.total_steps as u64,
        done: from.state.step,
        rows: dataset.rows(),
        left_out: dataset.left_out(),
        parameters: (numbers(true), numbers(false)),
    }
}

/// One thread for each rank; rank 0 runs here and has the desk. Where a rank fails the others end, and
/// its error is the one that is told.
fn on_all_ranks(shared: &Shared, from: Checkpoint, desk: Desk) -> Result<End> {
    let world = shared.config.run.ranks;
    if world == 1 {
        return Trainer::new(shared, Box::new(Single), from)?.run(Some(desk));
    }
    let trainer = |ranks: Box<dyn Collective>| Trainer::new(shared, ranks, from.clone());
    thread::scope(|scope| {
        let mut ranks = Threads::new(world).into_iter();
        let first = ranks.next().context("there is a rank at least")?;
        let others: Vec<_> =
            ranks.map(|rank| scope.spawn(move || trainer(Box::new(rank))?.run(None))).collect();
        let end = trainer(Box::new(first)).and_then(|trainer| trainer.run(Some(desk)));
        for other in others {
            let ended = other.join().map_err(|_| anyhow!("a rank has panicked"))?;
            if let (Err(error), Err(of_first)) = (&ended, &end)
                && of_first.is::<collective::Left>()
                && !error.is::<collective::Left>()
            {
                return ended;
            }
        }
        end
    })
}
