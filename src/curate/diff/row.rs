//! What is remembered of a row while it waits for its partner, and how the rows of two runs are joined.
//!
//! # Memory
//! Pictures are never read. Both runs are read side by side, the one that is behind first, and only a
//! row without a partner is kept: about 1 kB each. Runs of one input in one order hold the rows that
//! one of them rejected and nothing else; with other orders it is at most all rows of the shorter run
//! and those that only one has.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::vec;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;

use crate::curate::diff::indicators;
use crate::curate::diff::indicators::Values;
use crate::sample::Kind;
use crate::sample::Origin;
use crate::sample::Sample;
use crate::shard;
use crate::shard::Images;
use crate::shard::Marker;
use crate::shard::Refined;

/// What is compared of a row.
pub(super) struct Row {
    pub(super) key: String,
    pub(super) raw: Option<String>,
    pub(super) synthetic: Option<String>,
    pub(super) generated: Option<String>,
    pub(super) score: f32,
    /// Labels without scores, in order of the alphabet, each once.
    pub(super) tags: Vec<String>,
    /// Words for objects in small letters, in order of the alphabet, each once.
    pub(super) objects: Vec<Object>,
    pub(super) values: Values,
    /// The model that gave the cosines, which can be compared with its own alone.
    pub(super) clip: Option<Arc<str>>,
}

/// A word for an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Object {
    pub(super) word: String,
    pub(super) nowhere: bool,
}

/// Rows that have no partner, of the first run and of the second, in order of their keys.
pub(super) struct Alone {
    pub(super) a: Vec<String>,
    pub(super) b: Vec<String>,
}

/// Joins two runs by key. A key that a run has in several shards is joined in their order.
///
/// # Errors
/// When a folder is no run's or a shard cannot be read.
pub(super) fn join(a: &Path, b: &Path, mut pair: impl FnMut(&Row, &Row)) -> Result<Alone> {
    let (mut of_a, mut of_b) = (Stream::open(a)?, Stream::open(b)?);
    let (mut waiting_a, mut waiting_b) = (Waiting::default(), Waiting::default());
    loop {
        let is_a_next = of_b.is_done() || (!of_a.is_done() && of_a.position() <= of_b.position());
        let stream = if is_a_next { &mut of_a } else { &mut of_b };
        let Some(row) = stream.next()? else {
            if of_a.is_done() && of_b.is_done() {
                return Ok(Alone { a: waiting_a.keys(), b: waiting_b.keys() });
            }
            continue;
        };
        let (own, others) = match is_a_next {
            true => (&mut waiting_a, &mut waiting_b),
            false => (&mut waiting_b, &mut waiting_a),
        };
        match others.take(&row.key) {
            Some(other) if is_a_next => pair(&row, &other),
            Some(other) => pair(&other, &row),
            None => own.put(row),
        }
    }
}

impl Row {
    pub(super) fn of(sample: Sample) -> Row {
        let values = indicators::values(&sample);
        let mut tags: Vec<String> = sample.tags.into_iter().map(|tag| tag.label).collect();
        tags.sort_unstable();
        tags.dedup();
        let words = sample.audit.words.iter().filter(|word| word.kind == Kind::Object);
        let mut objects: Vec<Object> = words
            .map(|word| Object {
                word: word.word.to_lowercase(),
                nowhere: word.origin == Origin::Nowhere,
            })
            .collect();
        objects.sort_unstable();
        objects.dedup_by(|later, earlier| later.word == earlier.word);
        Row {
            key: sample.item.key,
            raw: sample.item.text_raw,
            synthetic: sample.synthetic.map(|synthetic| synthetic.text),
            generated: sample.generated.map(|generated| generated.text),
            score: sample.audit.score,
            tags,
            objects,
            values,
            clip: sample.fit.map(|fit| fit.model),
        }
    }
}

/// Rows that wait, by key.
#[derive(Default)]
struct Waiting(HashMap<String, VecDeque<Row>>);

impl Waiting {
    fn put(&mut self, row: Row) {
        self.0.entry(row.key.clone()).or_default().push_back(row);
    }

    fn take(&mut self, key: &str) -> Option<Row> {
        let rows = self.0.get_mut(key)?;
        let row = rows.pop_front();
        if rows.is_empty() {
            self.0.remove(key);
        }
        row
    }

    fn keys(self) -> Vec<String> {
        let mut keys: Vec<String> = self.0.into_values().flatten().map(|row| row.key).collect();
        keys.sort_unstable();
        keys
    }
}

/// The refined rows of a run in order.
struct Stream {
    run: PathBuf,
    markers: vec::IntoIter<Marker>,
    open: Option<Open>,
    /// Rows of the source in the shards that are behind.
    before: u64,
}

struct Open {
    rows: Refined,
    marker: Marker,
    taken: u64,
}

impl Stream {
    fn open(run: &Path) -> Result<Stream> {
        let markers = shard::all_finished(run)?;
        ensure!(!markers.is_empty(), "{} has no finished shard yet", run.display());
        let mut stream =
            Stream { run: run.to_owned(), markers: markers.into_iter(), open: None, before: 0 };
        stream.turn()?;
        Ok(stream)
    }

    fn is_done(&self) -> bool {
        self.open.is_none()
    }

    /// About how many rows of the source were passed.
    fn position(&self) -> f64 {
        let within = self.open.as_ref().map_or(0.0, |open| {
            let share = open.taken as f64 / open.marker.refined.max(1) as f64;
            share * open.marker.rows_read as f64
        });
        self.before as f64 + within
    }

    /// The next row; none at the end of a shard.
    fn next(&mut self) -> Result<Option<Row>> {
        let Some(open) = &mut self.open else { return Ok(None) };
        let Some(sample) = open.rows.next() else {
            self.before += open.marker.rows_read;
            self.turn()?;
            return Ok(None);
        };
        open.taken += 1;
        let at = || format!("in {}", self.run.join(&open.marker.part.name).display());
        Ok(Some(Row::of(sample.with_context(at)?)))
    }

    /// Goes to the next shard.
    fn turn(&mut self) -> Result<()> {
        self.open = None;
        if let Some(marker) = self.markers.next() {
            let rows = shard::refined(&self.run, &marker, Images::Skip)?;
            self.open = Some(Open { rows, marker, taken: 0 });
        }
        Ok(())
    }
}
