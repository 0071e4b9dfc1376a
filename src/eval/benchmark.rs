//! A user's own pictures, and the limits that a model has to keep on them.
//!
//! A benchmark is a TOML file: a data set with classes and sentences, and limits on the numbers that
//! matter where the model is to be used, for the whole and for single classes or groups of them.
//! ("No more than one scratched part in fifty may pass" is a limit on the recall of `scratch`.)
//!
//! A share over few pictures is uncertain, so a limit may also be held by the worse end of a 95 %
//! interval (Wilson's). The mean over classes has no such interval, being no share of one thing.

mod report;
mod verdict;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::clip::Embedder;
use crate::eval::data::Labelled;
use crate::eval::data::LabelledConfig;
use crate::eval::features::Features;
use crate::eval::features::Unreadable;
use crate::eval::features::features;
use crate::eval::zero_shot;
use crate::eval::zero_shot::Classified;
use crate::eval::zero_shot::Rounding;

pub use verdict::Bound;
pub use verdict::Verdict;

/// A data set and its limits, as a TOML file says them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Benchmark {
    /// What it is called; unset: as the data set.
    #[serde(default)]
    pub name: Option<String>,
    /// The pictures and their classes.
    pub data: LabelledConfig,
    /// Limits over all pictures.
    #[serde(default)]
    pub limits: Limits,
    /// Limits over one class, or several that are taken as one.
    #[serde(default, rename = "class")]
    pub classes: Vec<ClassLimits>,
}

/// Limits over all pictures; those that are unset hold always.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Least share of pictures whose class comes first.
    pub top1: Option<Limit>,
    /// Least share of pictures whose class is among the first five, of six classes or more.
    pub top5: Option<Limit>,
    /// Least mean of the recalls of all classes.
    pub mean_per_class: Option<f64>,
    /// Largest share of pictures that cannot be read.
    pub unreadable: Option<Limit>,
}

/// Limits over one class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClassLimits {
    /// The class, or what the group is called.
    pub name: String,
    /// The classes of a group, which are taken as one: a picture of one that is given to another one
    /// of them is right. Unset: the class of that name.
    #[serde(default)]
    pub classes: Vec<String>,
    /// Least share of its pictures that are found.
    #[serde(default)]
    pub recall: Option<Limit>,
    /// Least share of what is given to it that is of it.
    #[serde(default)]
    pub precision: Option<Limit>,
    /// Largest share of all other pictures that are given to it: false alarms. Pictures that cannot be
    /// read are given to nothing, and so are none of the others.
    #[serde(default)]
    pub false_alarms: Option<Limit>,
}

/// A limit: a number, or one also for the worse end of the interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Limit {
    /// The number that is found has to keep it.
    Share(f64),
    /// Either number that is set has to be kept.
    Both(SureLimit),
}

/// A limit with certainty.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SureLimit {
    /// For the number that is found.
    #[serde(default)]
    pub share: Option<f64>,
    /// For the worse end of its 95 % interval.
    pub surely: f64,
}

impl Limit {
    /// The two numbers: for what is found, and for the worse end of its interval.
    fn numbers(self) -> (Option<f64>, Option<f64>) {
        match self {
            Limit::Share(share) => (Some(share), None),
            Limit::Both(SureLimit { share, surely }) => (share, Some(surely)),
        }
    }
}

/// What a model did on a benchmark.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// What the benchmark is called.
    pub name: String,
    /// The model: `name@first-8-of-sha256`.
    pub model: String,
    /// Whether every limit is kept.
    pub pass: bool,
    /// Each limit.
    pub verdicts: Vec<Verdict>,
    /// The numbers behind them.
    pub classified: Classified,
    /// Pictures that could not be read: they count as wrong.
    pub unreadable: Vec<Unreadable>,
    /// Classes without a picture, of which nothing is known.
    pub empty_classes: Vec<String>,
    /// What a reader of the numbers should know about how the data were read.
    pub note: Option<String>,
}

impl Benchmark {
    /// Reads a TOML file; its paths are found beside it.
    ///
    /// # Errors
    /// When it cannot be read, or has a limit that is no share.
    pub fn read(path: &Path) -> Result<Benchmark> {
        let named = || format!("benchmark {}", path.display());
        let text = fs::read_to_string(path).with_context(named)?;
        let benchmark: Benchmark = toml::from_str(&text).with_context(named)?;
        benchmark.ensure_limits().with_context(named)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        Ok(Benchmark { data: benchmark.data.beside(folder), ..benchmark })
    }

    fn ensure_limits(&self) -> Result<()> {
        for limits in &self.classes {
            let any = limits.recall.or(limits.precision).or(limits.false_alarms);
            ensure!(any.is_some(), "class {} has no limit", limits.name);
        }
        let Limits { top1, top5, mean_per_class, unreadable } = self.limits;
        let mean = mean_per_class.map(Limit::Share);
        let of_classes = self.classes.iter().flat_map(|c| [c.recall, c.precision, c.false_alarms]);
        let all: Vec<Limit> =
            [top1, top5, mean, unreadable].into_iter().chain(of_classes).flatten().collect();
        ensure!(!all.is_empty(), "it has no limit, so that every model would pass");
        for limit in all {
            let (share, surely) = limit.numbers();
            for number in [share, surely].into_iter().flatten() {
                ensure!((0.0..=1.0).contains(&number), "limit {number} is no share, 0 to 1");
            }
        }
        Ok(())
    }

    /// The classes that each of the class limits is about.
    fn groups(&self, classes: &[String]) -> Result<Vec<BTreeSet<usize>>> {
        let place = |name: &String| {
            let place = classes.iter().position(|class| class == name);
            let names =
                || format!("a limit names class {name:?}; there are {}", classes.join(", "));
            place.with_context(names)
        };
        let group = |limits: &ClassLimits| {
            let names = match limits.classes.is_empty() {
                true => std::slice::from_ref(&limits.name),
                false => &limits.classes,
            };
            names.iter().map(place).collect()
        };
        self.classes.iter().map(group).collect()
    }
}

/// Puts a model to the test; `progress` is told how many pictures are done.
///
/// # Errors
/// When the data cannot be read, a limit names a class that is not there, or the model fails.
pub fn run(embedder: &Embedder, benchmark: &Benchmark, progress: &dyn Fn(u64)) -> Result<Outcome> {
    let data = Labelled::open(&benchmark.data)?;
    // Before the long work, so that a name that is none is told at once.
    let groups = benchmark.groups(&data.classes)?;
    let classes = data.classes.len();
    ensure!(
        benchmark.limits.top5.is_none() || classes > 5,
        "limits.top5 says nothing where there are {classes} classes: every model would keep it"
    );
    let features = features(embedder, &data, progress)?;
    let classified = zero_shot::score(embedder, &data, &features, Rounding::Exact)?;
    let mut verdicts = verdict::of_all(&benchmark.limits, &classified);
    for (limits, group) in benchmark.classes.iter().zip(groups) {
        verdicts.extend(verdict::of_class(limits, &group, &classified));
    }
    let Features { unreadable, .. } = features;
    Ok(Outcome {
        name: benchmark.name.clone().unwrap_or_else(|| data.name.clone()),
        model: embedder.label().to_string(),
        pass: verdicts.iter().all(|verdict| verdict.pass),
        verdicts,
        unreadable,
        empty_classes: data.empty_classes().into_iter().map(str::to_owned).collect(),
        note: data.note,
        classified,
    })
}
