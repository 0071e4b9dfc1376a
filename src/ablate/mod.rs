//! Which text to train on: the same model, steps and seeds on raw, synthetic, generated or mixed texts,
//! and one table of what each makes of it, with intervals over the seeds.
//!
//! Every arm sees the rows that have all texts the arms draw from, so that the words alone differ; an arm
//! of another run may have a few other rows, which the table says. Each training is a folder of its own ([`train`]), each score a file
//! ([`eval::suite`](crate::eval::suite)): the same command goes on where it was stopped.

mod interval;
mod table;

use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::atomic_file;
use crate::eval::data::CaptionedConfig;
use crate::eval::result::Score;
use crate::eval::suite;
use crate::eval::suite::Checkpoint;
use crate::eval::suite::LabelledTasks;
use crate::eval::suite::Suite;
use crate::folder;
use crate::page;
use crate::train;
use crate::train::End;
use crate::train::data::Text;
use crate::train::data::TextWeights;
use crate::train::journal;
use crate::train::journal::Line;

pub use interval::Estimate;
pub use table::Table;

/// What is compared, on what, how.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The training that all arms share.
    pub train: train::Config,
    /// What differs; none: raw, synthetic, generated, mixed.
    pub arm: Vec<Arm>,
    /// Each arm is trained once for each.
    pub seeds: Vec<u64>,
    /// Pictures with classes that every model is scored on.
    pub labelled: Vec<LabelledTasks>,
    /// Pictures with texts that every model is scored on.
    pub captioned: Vec<CaptionedConfig>,
}

/// A way to draw texts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Arm {
    /// What it is called.
    pub name: String,
    /// Which texts it draws.
    pub texts: TextWeights,
    /// Another run folder of the same data, as one whose prompts had no tags; unset: the training's
    /// own inputs.
    #[serde(default)]
    pub inputs: Vec<String>,
}

/// What happens, for whoever watches.
#[derive(Debug)]
pub enum Event<'a> {
    /// A training of an arm begins: which of how many.
    Arm {
        /// The arm and its seed.
        name: &'a str,
        /// From 1.
        number: usize,
        /// How many there are.
        of: usize,
    },
    /// Something happens in it.
    Train(train::Event),
    /// Something happens in the scoring.
    Score(suite::Told<'a>),
}

/// A trained model of an arm.
struct Trained {
    arm: usize,
    name: String,
    folder: PathBuf,
}

impl Arm {
    /// Each text alone, and all together.
    pub fn usual() -> Vec<Arm> {
        let arm = |name: &str, raw, synthetic, generated| Arm {
            name: name.to_owned(),
            texts: TextWeights { raw, synthetic, generated },
            inputs: Vec::new(),
        };
        vec![
            arm("raw", 1.0, 0.0, 0.0),
            arm("synthetic", 0.0, 1.0, 0.0),
            arm("generated", 0.0, 0.0, 1.0),
            arm("mixed", 1.0, 1.0, 1.0),
        ]
    }

    /// The two that read generated texts, of a run whose prompts had no tags.
    pub fn without_tags(run: &str) -> Vec<Arm> {
        let arms = Arm::usual().into_iter().skip(2);
        arms.map(|arm| Arm {
            name: format!("{}, no tags", arm.name),
            inputs: vec![run.to_owned()],
            ..arm
        })
        .collect()
    }
}

/// Trains and scores what is missing, then writes `ablation.json`, `.md` and `.html`; none where it was
/// asked to stop.
///
/// # Errors
/// When the settings cannot be used, a training or a score fails, or nothing can be written.
pub fn run(
    folder: &Path,
    config: &Config,
    stop: &AtomicBool,
    watch: &mut (dyn FnMut(Event) + Send),
) -> Result<Option<Table>> {
    config.check()?;
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot create {}", folder.display()))?;
    let Some(trained) = train_all(folder, config, stop, watch)? else { return Ok(None) };
    let scores = score(folder, config, &trained, watch)?;
    let rows = rows(&trained)?;
    let measured = measured(&trained, &scores)?;
    let table = Table::of(config, &rows, &measured);
    folder::write(&folder.join("ablation.json"), &table)?;
    atomic_file::write(&folder.join("ablation.md"), table.markdown().as_bytes())?;
    atomic_file::write(&folder.join("ablation.html"), page::render(&table.page())?.as_bytes())?;
    Ok(Some(table))
}

impl Config {
    fn check(&self) -> Result<()> {
        ensure!(self.arm.len() > 1, "a comparison takes two arms at least");
        ensure!(!self.seeds.is_empty(), "seeds is empty; name one at least");
        let distinct: BTreeSet<u64> = self.seeds.iter().copied().collect();
        ensure!(
            distinct.len() == self.seeds.len(),
            "a seed is there twice; it would train the same model again"
        );
        let mut names: Vec<&str> = self.arm.iter().map(|arm| arm.name.as_str()).collect();
        names.sort_unstable();
        let twice = names.windows(2).find(|pair| pair[0] == pair[1]);
        ensure!(twice.is_none(), "two arms are called {:?}", twice.unwrap_or_default());
        ensure!(
            self.train.validation.is_on()
                || !self.labelled.is_empty()
                || !self.captioned.is_empty(),
            "nothing to compare by: hold rows out with --validation-where, or name data to score on"
        );
        Ok(())
    }

    /// The training of an arm: only rows that have every text which any arm draws.
    fn of(&self, arm: &Arm, seed: u64) -> train::Config {
        let mut config = self.train.clone();
        config.recipe.seed = seed;
        config.data.texts = arm.texts;
        if !arm.inputs.is_empty() {
            config.data.inputs = arm.inputs.clone();
            if config.validation.inputs.is_empty() && config.validation.is_on() {
                config.validation.inputs = self.train.data.inputs.clone();
                let both = [config.data.except.take(), config.validation.filter.clone()];
                let both: Vec<String> = both.iter().flatten().map(|e| format!("({e})")).collect();
                config.data.except = (!both.is_empty()).then(|| both.join(" or "));
            }
        }
        // What is looked for is the same in every arm, and written by none of them.
        config.validation.text = config.validation.text.or(Some(Text::Raw));
        let is_drawn = |text: &Text| self.arm.iter().any(|a| a.texts.of()[*text as usize] > 0.0);
        config.data.require = Text::ALL.into_iter().filter(is_drawn).collect();
        config
    }
}

fn train_all(
    folder: &Path,
    config: &Config,
    stop: &AtomicBool,
    watch: &mut (dyn FnMut(Event) + Send),
) -> Result<Option<Vec<Trained>>> {
    let of = config.arm.len() * config.seeds.len();
    let mut trained = Vec::with_capacity(of);
    for &seed in &config.seeds {
        for (arm, settings) in config.arm.iter().enumerate() {
            let name = format!("{} seed {seed}", settings.name);
            watch(Event::Arm { name: &name, number: trained.len() + 1, of });
            let path = folder.join(suite::file_name(&name));
            let settings = config.of(settings, seed);
            let end = train::run(&path, &settings, stop, &mut |event| watch(Event::Train(event)));
            if end.with_context(|| format!("training {name}"))? == End::Stopped {
                return Ok(None);
            }
            trained.push(Trained { arm, name, folder: path });
        }
    }
    Ok(Some(trained))
}

fn score(
    folder: &Path,
    config: &Config,
    trained: &[Trained],
    watch: &mut (dyn FnMut(Event) + Send),
) -> Result<Vec<Score>> {
    if config.labelled.is_empty() && config.captioned.is_empty() {
        return Ok(Vec::new());
    }
    let checkpoint = |trained: &Trained| Checkpoint {
        path: trained.folder.clone(),
        name: Some(trained.name.clone()),
        tokenizer: config.train.model.tokenizer.clone(),
        device: config.train.run.device.clone(),
        batch: 64,
        ..Checkpoint::default()
    };
    let suite = Suite {
        checkpoint: trained.iter().map(checkpoint).collect(),
        labelled: config.labelled.clone(),
        captioned: config.captioned.clone(),
        ..Suite::default()
    };
    let watch = std::cell::RefCell::new(watch);
    let ended = suite::run(&suite, &folder.join("scores"), &|told| {
        (watch.borrow_mut())(Event::Score(told));
    })?;
    match ended.failures.into_iter().next() {
        Some(failure) => Err(failure.why).with_context(|| format!("scoring {}", failure.what)),
        None => Ok(ended.scores),
    }
}

/// Rows that each arm is trained on.
fn rows(trained: &[Trained]) -> Result<Vec<u64>> {
    let arms = trained.iter().map(|trained| trained.arm + 1).max().unwrap_or(0);
    let mut rows = vec![0; arms];
    for trained in trained {
        let record = folder::read::<train::Record>(&trained.folder.join(train::RECORD))?;
        rows[trained.arm] = record.map_or(0, |record| record.rows);
    }
    Ok(rows)
}

/// A number that each model of each arm has.
pub(crate) struct Measured {
    name: String,
    /// What guessing gives.
    chance: Option<f64>,
    /// For each arm, for each seed: shares, 0 to 1.
    values: Vec<Vec<f64>>,
}

impl Measured {
    fn push(all: &mut Vec<Measured>, name: String, chance: Option<f64>, arm: usize, value: f64) {
        let at = all.iter().position(|measured| measured.name == name).unwrap_or_else(|| {
            all.push(Measured { name, chance, values: Vec::new() });
            all.len() - 1
        });
        let values = &mut all[at].values;
        values.resize(values.len().max(arm + 1), Vec::new());
        values[arm].push(value);
    }
}

/// Retrieval on held-out pairs, then the headline of each score and R@1 of each retrieval.
fn measured(trained: &[Trained], scores: &[Score]) -> Result<Vec<Measured>> {
    let mut all = Vec::new();
    for model in trained {
        let lines = journal::lines(&model.folder)?.into_iter().rev();
        let mut validations = lines.filter_map(|line| match line {
            Line::Validation(validation) => Some(validation),
            Line::Step(_) => None,
        });
        if let Some(last) = validations.next() {
            let chance = Some(1.0 / last.pairs as f64);
            let ways =
                [("image to text", last.image_to_text), ("text to image", last.text_to_image)];
            for (way, shares) in ways {
                let name = format!("held-out pairs: {way}, R@1");
                Measured::push(&mut all, name, chance, model.arm, shares[0]);
            }
        }
        for score in scores.iter().filter(|score| score.pretrained == model.name) {
            let headline = score.recaption.as_ref().map(|details| details.headline.clone());
            let chance = score.recaption.as_ref().and_then(|details| details.chance);
            for (metric, &value) in &score.metrics {
                let is_headline = headline.as_ref() == Some(metric);
                if is_headline || metric.ends_with("_retrieval_recall@1") {
                    let words = crate::eval::result::words(metric);
                    let name = format!("{}, {}: {words}", score.dataset, score.task.words());
                    let chance = chance.filter(|_| is_headline);
                    Measured::push(&mut all, name, chance, model.arm, value);
                }
            }
        }
    }
    Ok(all)
}
