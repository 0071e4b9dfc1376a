//! The stages joined: rows are read in order, worked on by all cores, and committed shard by shard.
//!
//! [`run`] is the whole path on one screen. Each stage is an iterator over the one before it, with a
//! bounded number of rows between them; order is kept throughout, so that the first of two equal
//! pictures is always the same one and two runs write the same bytes. A shard that was not finished
//! leaves nothing behind: it is done again from its first row.

mod fetching;
mod ordered;
mod progress;
mod quota;
mod row;
mod spool;
mod stages;
mod stop;
mod writing;

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use anyhow::Result;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;
use tokio::runtime::Handle;

use crate::audit;
use crate::audit::alarms;
use crate::chat::Appetite;
use crate::clip::Judge;
use crate::decode::Limits;
use crate::decode::Store;
use crate::dedup;
use crate::dedup::Copies;
use crate::describe::Describer;
use crate::fetch::Fetcher;
use crate::perceive::Perceiver;
use crate::pipeline::fetching::Fetching;
use crate::pipeline::fetching::fetched;
use crate::pipeline::row::Flow;
use crate::pipeline::row::Left;
use crate::pipeline::row::Row;
use crate::pipeline::spool::Spool;
use crate::pipeline::stages::Batches;
use crate::pipeline::stages::Decoder;
use crate::pipeline::stages::Seen;
use crate::pipeline::writing::Sink;
use crate::sample::Item;
use crate::sample::Sample;
use crate::sample::Stage;
use crate::shard;
use crate::shard::Marker;
use crate::source::Source;
use crate::vision::Captioner;

pub use progress::Progress;
pub use progress::Snapshot;
pub use progress::StageSnapshot;
pub use quota::Quota;
pub use quota::QuotaExceeded;
pub use stop::Stop;

/// Rows between two stages, for each thread of the second: enough that none waits for the other.
const WINDOW: usize = 16;

/// How the rows of a run are divided and worked on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Rows of a shard: the unit of work and of recovery.
    pub rows_per_shard: u64,
    /// Read no more rows than this.
    pub limit: Option<u64>,
    /// Threads that decode, and as many that run models; unset for one a core.
    pub workers: Option<usize>,
}

impl Default for Config {
    fn default() -> Config {
        // img2dataset's and CC12M's habit; some hundred megabytes a shard at 512 pixels.
        Config { rows_per_shard: 10_000, limit: None, workers: None }
    }
}

/// What the stages work with.
pub struct Stages<'a> {
    /// Where rows come from.
    pub source: &'a Source,
    /// For rows with a url, and the runtime its requests run on.
    pub fetcher: Option<(Fetcher, Handle)>,
    /// What a picture must be like.
    pub limits: &'a Limits,
    /// What stored pictures are like.
    pub store: &'a Store,
    /// What counts as a copy.
    pub dedup: &'a dedup::Config,
    /// The models, loaded once for each worker.
    pub perceivers: Vec<Perceiver>,
    /// Pictures shown to the models together.
    pub batch: usize,
    /// Who captions from afar, over what the models in this process say.
    pub captioner: Option<&'a Captioner>,
    /// Who writes.
    pub describer: &'a Describer,
    /// How texts are judged.
    pub audit: &'a audit::Config,
    /// Who says how well texts fit their pictures.
    pub judge: Option<&'a Judge>,
    /// Form of the shards.
    pub format: shard::Format,
    /// When a run has failed.
    pub quota: &'a Quota,
    /// Which texts must not go on.
    pub alarms: &'a alarms::Config,
}

/// A shard that is to be done.
#[derive(Clone, Debug)]
pub struct Todo {
    /// Its number.
    pub shard: u32,
    /// Its rows of the source.
    pub rows: Range<u64>,
    /// The finished shard whose rejects are to be tried again, and which of its rows.
    pub again: Option<Again>,
}

/// A finished shard that is to be mended.
#[derive(Clone, Debug)]
pub struct Again {
    /// Its marker.
    pub marker: Marker,
    /// Positions within the shard of the rows that are to be done again, ascending.
    pub rows: Vec<u64>,
}

/// Does every shard of the list; `finished` hears of each one when it is committed.
///
/// # Errors
/// When the source breaks off, a shard cannot be written or no text can be had any more; then
/// finished shards stay. [`QuotaExceeded`] or an [`alarms::Alarm`] is in the error when that was the
/// reason. A bad row is a
/// reject, never an error; a stop is no error: the rest stays to be done.
pub fn run(
    run: &Path,
    stages: Stages<'_>,
    todo: &[Todo],
    progress: &Arc<Progress>,
    stop: &Stop,
    finished: &mut dyn FnMut(&Marker),
) -> Result<()> {
    let fetching = stages.fetching(run, progress, stop);
    let Stages { source, perceivers, batch, describer, audit, .. } = stages;
    let views = perceivers.first().map(|p| p.views().to_vec()).unwrap_or_default();
    let (limits, store, views) = (stages.limits, stages.store, &views[..]);
    let decoders: Vec<_> = perceivers.iter().map(|_| Decoder::new(limits, store, views)).collect();
    let (workers, appetite) = (perceivers.len(), describer.appetite());
    let extra = &source.plan().extra;
    let (quota, alarms) = (stages.quota, stages.alarms);
    let sink = Sink { run, format: stages.format, extra, quota, alarms };
    thread::scope(|scope| {
        let items = read(source, todo, stop);
        // Thousands of rows may have been read ahead: a stop lets go of those that wait here.
        let items = fetched(scope, items, fetching).take_while(|_| !stop.is_stopped());
        let seen = ordered::map(scope, items, decoders, workers * WINDOW, |decoder, flow| {
            flow.map(|row| decode(decoder, row, progress))
        });
        let firsts = first_copies(seen, stages.dedup);
        let batches = Batches::new(firsts, batch);
        let perceived = ordered::map(scope, batches, perceivers, workers * 2, |models, batch| {
            progress.during(Stage::Perceive, batch.len(), || stages::perceive(models, batch))
        });
        let seen: Box<dyn Iterator<Item = Flow<Sample>> + Send> = match stages.captioner {
            None => Box::new(perceived.flatten()),
            Some(captioner) => {
                let Appetite { threads, batch } = captioner.appetite();
                let batches = Batches::new(perceived.flatten(), batch);
                let callers = vec![(); threads];
                let captioned = ordered::map(scope, batches, callers, threads * 2, |(), batch| {
                    let rows = batch.len();
                    progress.during(Stage::Perceive, rows, || stages::caption(captioner, batch))
                });
                Box::new(captioned.flatten())
            }
        };
        let batches = Batches::new(seen, appetite.batch);
        let writers = vec![(); appetite.threads];
        let described = ordered::map(scope, batches, writers, appetite.threads * 2, |(), batch| {
            let rows = batch.len();
            progress.during(Stage::Describe, rows, || stages::describe(describer, audit, batch))
        });
        match stages.judge {
            None => sink.write(described.flatten(), todo, progress, stop, finished),
            Some(judge) => {
                let batches = Batches::new(described.flatten(), judge.batch());
                // Counted as describing: it is the last that is said of a row, and rejects none.
                let judged = batches.map(|batch| {
                    let rows = batch.len();
                    progress.during(Stage::Describe, rows, || stages::judge(judge, batch))
                });
                sink.write(judged.flatten(), todo, progress, stop, finished)
            }
        }
    })
}

impl Stages<'_> {
    fn fetching(&self, run: &Path, progress: &Arc<Progress>, stop: &Stop) -> Option<Fetching> {
        let (fetcher, network) = self.fetcher.clone()?;
        let spool = Arc::new(Spool::new(run));
        Some(Fetching { fetcher, network, spool, progress: progress.clone(), stop: stop.clone() })
    }
}

/// The rows of all shards that are to be done, until somebody says stop.
fn read<'a>(
    source: &'a Source,
    todo: &'a [Todo],
    stop: &'a Stop,
) -> impl Iterator<Item = Flow<Item>> + Send + 'a {
    let rows = todo.iter().flat_map(move |todo| {
        let items = match source.items(todo.rows.clone()) {
            Ok(items) => items,
            Err(error) => Box::new(std::iter::once(Err(error))),
        };
        items.enumerate().map(move |(position, item)| {
            let state = if todo.is_wanted(position as u64) { Ok(item?) } else { Err(Left::Kept) };
            Ok(Row { shard: todo.shard, state })
        })
    });
    rows.take_while(|_| !stop.is_stopped())
}

impl Todo {
    fn is_wanted(&self, position: u64) -> bool {
        self.again.as_ref().is_none_or(|again| again.rows.binary_search(&position).is_ok())
    }
}

fn decode(decoder: &mut Decoder<'_>, row: Row<Item>, progress: &Progress) -> Row<Seen> {
    row.and_then(|item| progress.during(Stage::Decode, 1, || decoder.decode(item)))
}

/// Rows whose picture is no copy of an earlier one of the same shard.
fn first_copies<'a>(
    rows: impl Iterator<Item = Flow<Seen>> + Send + 'a,
    config: &'a dedup::Config,
) -> impl Iterator<Item = Flow<Seen>> + Send + 'a {
    let mut known = (0, Copies::new(config));
    rows.map(move |flow| {
        let row = flow?;
        if row.shard != known.0 {
            known = (row.shard, Copies::new(config));
        }
        Ok(row.and_then(|seen| match known.1.first(&seen.sample.sha256, &seen.print) {
            Ok(()) => Ok(seen),
            Err(reject) => Err(Left::Rejected(Box::new((seen.sample.item, reject)))),
        }))
    })
}
