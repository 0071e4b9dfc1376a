//! Two runs beside each other: whose texts are better, by which figure, and which rows changed most.
//!
//! Rows are joined by key (`row`). Nothing is written; a run that is compared may go on meanwhile.

mod indicators;
mod objects;
mod page;
mod row;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::path::Path;

use anyhow::Result;
use serde::Serialize;

pub use indicators::Better;
pub use indicators::Comparison;
pub use objects::ObjectCount;
pub use page::html;

use crate::curate::diff::indicators::Contest;
use crate::curate::diff::objects::Objects;
use crate::curate::diff::row::Row;
use crate::curate::diff::row::join;
use crate::shard;

/// How much is shown of what there is much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Rows shown of the worst regressions, of the best gains and of rows that only one run has.
    pub examples: usize,
    /// Words for objects shown of those that came and of those that went.
    pub objects: usize,
}

impl Default for Config {
    fn default() -> Config {
        Config { examples: 10, objects: 20 }
    }
}

/// What is different between two runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// The folder of the first.
    pub a: String,
    /// The folder of the second.
    pub b: String,
    /// Rows that both have.
    pub both: u64,
    /// Rows that only the first has.
    pub only_a: Only,
    /// Rows that only the second has.
    pub only_b: Only,
    /// What changed in the rows of both.
    pub changed: Changed,
    /// Who is ahead, by indicator.
    pub indicators: Vec<Comparison>,
    /// Words for objects that texts of the second run have and those of the first have not.
    pub objects_gained: Vec<ObjectCount>,
    /// Those that went.
    pub objects_lost: Vec<ObjectCount>,
    /// Rows whose text changed and whose score fell most, the worst first.
    pub regressions: Vec<Example>,
    /// Rows whose text changed and whose score rose most, the best first.
    pub gains: Vec<Example>,
}

/// Rows that one run has and the other has not.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Only {
    /// So many.
    pub rows: u64,
    /// Why the other rejected them, by reason.
    pub rejected: BTreeMap<String, u64>,
    /// Those that the other run never read, as far as its finished shards say.
    pub unknown: u64,
    /// The first of their keys.
    pub keys: Vec<String>,
}

/// Rows of both runs in which something differs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Changed {
    /// What the web said.
    pub raw: u64,
    /// What the captioner saw.
    pub synthetic: u64,
    /// Labels of tags; their scores may differ.
    pub tags: u64,
    /// What the writer made of it, the next two included.
    pub generated: u64,
    /// Rows that have a generated text in the second run alone.
    pub generated_gained: u64,
    /// Rows that have one in the first run alone.
    pub generated_lost: u64,
}

/// A row whose text changed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Example {
    /// Its key.
    pub key: String,
    /// What the web said, in the second run.
    pub raw: Option<String>,
    /// Text of the first run.
    pub a: Option<String>,
    /// Text of the second.
    pub b: Option<String>,
    /// Score of the first.
    pub score_a: f32,
    /// Score of the second.
    pub score_b: f32,
}

/// Compares two runs.
///
/// # Errors
/// When a folder is no run's, has no finished shard, or a shard cannot be read.
pub fn compare(a: &Path, b: &Path, config: Config) -> Result<Difference> {
    let mut found = Found::new(config);
    let alone = join(a, b, |a, b| found.add(a, b))?;
    let Found { both, changed, contest, objects, regressions, gains } = found;
    let (objects_gained, objects_lost) = objects.finish(config.objects);
    Ok(Difference {
        a: a.display().to_string(),
        b: b.display().to_string(),
        both,
        only_a: only(alone.a, b, config)?,
        only_b: only(alone.b, a, config)?,
        changed,
        indicators: contest.finish(),
        objects_gained,
        objects_lost,
        regressions: regressions.0,
        gains: gains.0,
    })
}

struct Found {
    both: u64,
    changed: Changed,
    contest: Contest,
    objects: Objects,
    regressions: Most,
    gains: Most,
}

impl Found {
    fn new(config: Config) -> Found {
        Found {
            both: 0,
            changed: Changed::default(),
            contest: Contest::default(),
            objects: Objects::default(),
            regressions: Most(Vec::new(), config.examples),
            gains: Most(Vec::new(), config.examples),
        }
    }

    fn add(&mut self, a: &Row, b: &Row) {
        self.both += 1;
        self.changed.add(a, b);
        self.contest.add(a, b);
        if a.generated != b.generated {
            self.objects.add(a, b);
            match b.score.total_cmp(&a.score) {
                Ordering::Less => self.regressions.add(a, b),
                Ordering::Greater => self.gains.add(a, b),
                Ordering::Equal => {}
            }
        }
    }
}

impl Changed {
    fn add(&mut self, a: &Row, b: &Row) {
        self.raw += u64::from(a.raw != b.raw);
        self.synthetic += u64::from(a.synthetic != b.synthetic);
        self.tags += u64::from(a.tags != b.tags);
        self.generated += u64::from(a.generated != b.generated);
        self.generated_gained += u64::from(a.generated.is_none() && b.generated.is_some());
        self.generated_lost += u64::from(a.generated.is_some() && b.generated.is_none());
    }
}

/// So many rows whose scores differ most, in that order; equal ones by key.
struct Most(Vec<Example>, usize);

impl Most {
    fn add(&mut self, a: &Row, b: &Row) {
        let size = (b.score - a.score).abs();
        let order = |other: &Example| {
            let by_size = other.distance().total_cmp(&size).reverse();
            by_size.then_with(|| other.key.as_str().cmp(&b.key))
        };
        let place = self.0.partition_point(|other| order(other) != Ordering::Greater);
        if place < self.1 {
            self.0.insert(place, Example::of(a, b));
            self.0.truncate(self.1);
        }
    }
}

impl Example {
    fn of(a: &Row, b: &Row) -> Example {
        Example {
            key: b.key.clone(),
            raw: b.raw.clone(),
            a: a.generated.clone(),
            b: b.generated.clone(),
            score_a: a.score,
            score_b: b.score,
        }
    }

    fn distance(&self) -> f32 {
        (self.score_b - self.score_a).abs()
    }
}

/// What the other run did with rows that it does not have.
fn only(keys: Vec<String>, other: &Path, config: Config) -> Result<Only> {
    let rows = keys.len() as u64;
    let mut missing = HashMap::<&str, u64>::new();
    for key in &keys {
        *missing.entry(key).or_default() += 1;
    }
    let mut rejected = BTreeMap::<String, u64>::new();
    // Most comparisons are of runs that rejected the same rows: nothing to look for then.
    let markers = if keys.is_empty() { Vec::new() } else { shard::all_finished(other)? };
    for marker in markers {
        for reject in shard::rejects(other, &marker)? {
            let (_, item, reject) = reject?;
            if let Some(left) = missing.get_mut(item.key.as_str()).filter(|left| **left > 0) {
                *left -= 1;
                *rejected.entry(reject.reason.as_str().to_owned()).or_default() += 1;
            }
        }
    }
    let unknown = missing.into_values().sum();
    Ok(Only { rows, rejected, unknown, keys: keys.into_iter().take(config.examples).collect() })
}
