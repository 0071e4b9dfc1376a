//! Batches without end: one thread reads, one has them made, and the trainer takes them.
//!
//! ```text
//! reader: pools of encoded rows -> maker: decoded on many threads -> trainer
//!         one waits, one is used           `prefetch` batches wait
//! ```
//!
//! All of it ends when the loader is dropped.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::SyncSender;
use std::thread;
use std::thread::JoinHandle;

use anyhow::Context;
use anyhow::Result;
use anyhow::anyhow;
use anyhow::ensure;

use crate::train::data::Batch;
use crate::train::data::LoaderPlan;
use crate::train::data::Position;
use crate::train::data::Shared;
use crate::train::data::prepare::Encoded;
use crate::train::data::prepare::Manner;
use crate::train::data::prepare::Preparer;

/// Batches of one rank in order, over all epochs. After an error comes nothing.
pub struct Loader {
    /// Gone when nothing comes any more.
    batches: Option<Receiver<Result<Batch>>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Loader {
    pub(super) fn start(shared: Arc<Shared>, plan: LoaderPlan, from: Position) -> Result<Loader> {
        plan.check(&shared, from)?;
        let manner = Manner::Training { seed: plan.seed };
        let preparer = Preparer::new(Arc::clone(&shared), manner, plan.side)?;
        let stop = Arc::new(AtomicBool::new(false));
        // Handed over hand to hand: the pool that waits is the one in the reader's hand.
        let (pools, read) = mpsc::sync_channel(0);
        let (made, batches) = mpsc::sync_channel(shared.config.prefetch);
        let per_epoch = shared.order.rows() / plan.batch as u64;
        let reader = Reader { shared, plan, from, pools, stop: Arc::clone(&stop) };
        let maker = Maker { preparer, plan, position: from, per_epoch, made };
        let mut loader = Loader { batches: Some(batches), stop, threads: Vec::new() };
        loader.spawn("reader", move || reader.run())?;
        loader.spawn("batches", move || maker.run(read))?;
        Ok(loader)
    }

    fn spawn(&mut self, name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
        let thread = thread::Builder::new().name(name.to_owned()).spawn(work);
        self.threads.push(thread.context("cannot start a thread of the loader")?);
        Ok(())
    }

    /// Waits for the threads; whether one of them panicked.
    fn end(&mut self) -> bool {
        self.stop.store(true, Ordering::Relaxed);
        self.batches = None;
        mem::take(&mut self.threads).into_iter().any(|thread| thread.join().is_err())
    }
}

impl Iterator for Loader {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Result<Batch>> {
        let batch = self.batches.as_ref()?.recv();
        if let Ok(Ok(batch)) = batch {
            return Some(Ok(batch));
        }
        let has_panicked = self.end();
        match batch {
            Ok(error) => Some(error),
            // Its end is not foreseen, so that there is no other cause.
            Err(_) if has_panicked => Some(Err(anyhow!("a thread of the loader panicked"))),
            Err(_) => Some(Err(anyhow!("the loader has ended, which it should not"))),
        }
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.end();
    }
}

impl LoaderPlan {
    fn check(&self, shared: &Shared, from: Position) -> Result<()> {
        let LoaderPlan { batch, rank, world, side, .. } = *self;
        ensure!(batch > 0, "a batch has rows");
        ensure_side(side)?;
        ensure!(rank < world, "rank {rank} of {world} ranks: they count from 0");
        ensure!(
            batch.is_multiple_of(world),
            "a batch of {batch} rows is not to be shared by {world} ranks evenly; make it {}",
            batch.next_multiple_of(world)
        );
        let rows = shared.order.rows();
        let per_epoch = rows / batch as u64;
        ensure!(
            per_epoch > 0,
            "there are {rows} rows to train on, fewer than a batch of {batch}: make the batch \
             smaller, or let more rows pass the filter"
        );
        ensure!(
            from.batch < per_epoch,
            "an epoch has {per_epoch} batches of {batch}, so that none begins at {}",
            from.batch
        );
        Ok(())
    }

    /// Rows of this rank in each batch.
    fn share(&self) -> usize {
        self.batch / self.world
    }

    /// Whether the row at a place of an epoch is this rank's.
    fn is_mine(&self, place: u64) -> bool {
        let within = (place % self.batch as u64) as usize;
        within / self.share() == self.rank
    }
}

/// Pixels of a side at most; more than any model reads, and a size whose square is a number.
const MAX_SIDE: u32 = 4_096;

pub(super) fn ensure_side(side: u32) -> Result<()> {
    ensure!(
        (1..=MAX_SIDE).contains(&side),
        "pictures of {side} pixels; 1 to {MAX_SIDE} is possible"
    );
    Ok(())
}

/// Rows of this rank that are read together, in the order of the epoch.
type Pool = Vec<Encoded>;

/// Reads all blocks whatever the rank: the rows of a batch come from many of them. What is not this
/// rank's is dropped as it is read.
struct Reader {
    shared: Arc<Shared>,
    plan: LoaderPlan,
    from: Position,
    pools: SyncSender<Result<Pool>>,
    stop: Arc<AtomicBool>,
}

impl Reader {
    /// Reads until nobody listens, or until it cannot.
    fn run(self) {
        let mut place = self.from.batch * self.plan.batch as u64;
        for epoch in self.from.epoch.. {
            if self.epoch(epoch, place).is_none() {
                return;
            }
            place = 0;
        }
    }

    /// The rows of an epoch from a place on, but for those that fill no batch.
    fn epoch(&self, number: u64, from: u64) -> Option<()> {
        let order = &self.shared.order;
        let end = order.rows() - order.rows() % self.plan.batch as u64;
        let epoch = order.epoch(self.plan.seed, number, self.shared.config.pool);
        for (first, rows) in epoch.pools_from(from) {
            let places = (first..).zip(rows);
            let wanted = places.filter(|(place, _)| (from..end).contains(place));
            let mine = wanted.filter(|(place, _)| self.plan.is_mine(*place));
            let rows: Vec<u32> = mine.map(|(_, row)| row).collect();
            let pool = self.pool(&rows).transpose()?;
            let has_failed = pool.is_err();
            self.pools.send(pool).ok()?;
            if has_failed {
                return None;
            }
        }
        Some(())
    }

    /// These rows, in their order; nothing if the loader is to stop.
    fn pool(&self, rows: &[u32]) -> Result<Option<Pool>> {
        let mut places: Vec<usize> = (0..rows.len()).collect();
        places.sort_unstable_by_key(|&place| rows[place]);
        let mut pool: Vec<Option<Encoded>> = rows.iter().map(|_| None).collect();
        let block = self.shared.config.block as u32;
        for near in places.chunk_by(|&a, &b| rows[b] - rows[a] < block) {
            let (Some(&first), Some(&last)) = (near.first(), near.last()) else { continue };
            let range = u64::from(rows[first])..u64::from(rows[last]) + 1;
            let mut wanted = near.iter().copied().peekable();
            for (row, item) in (rows[first]..).zip(self.shared.source.items(range)?) {
                let item = item?;
                if self.stop.load(Ordering::Relaxed) {
                    return Ok(None);
                }
                if let Some(place) = wanted.next_if(|&place| rows[place] == row) {
                    pool[place] = Some(Encoded::of(row, item));
                }
            }
        }
        let pool: Option<Pool> = pool.into_iter().collect();
        pool.context("a row was not read that the plan has").map(Some)
    }
}

struct Maker {
    preparer: Preparer,
    plan: LoaderPlan,
    position: Position,
    per_epoch: u64,
    made: SyncSender<Result<Batch>>,
}

impl Maker {
    /// Makes batches until nobody listens, or until none can be made.
    fn run(mut self, pools: Receiver<Result<Pool>>) {
        let mut rows = Vec::with_capacity(self.plan.share());
        for pool in pools {
            let pool = match pool {
                Ok(pool) => pool,
                Err(error) => {
                    // Who went away does not mind.
                    let _ = self.made.send(Err(error));
                    return;
                }
            };
            for row in pool {
                rows.push(row);
                if rows.len() == self.plan.share() && self.make(mem::take(&mut rows)).is_none() {
                    return;
                }
            }
        }
    }

    /// Makes the next batch of these rows; nothing if nobody wants it.
    fn make(&mut self, rows: Vec<Encoded>) -> Option<()> {
        let Position { epoch, batch } = self.position;
        let next = match batch + 1 < self.per_epoch {
            true => Position { epoch, batch: batch + 1 },
            false => Position { epoch: epoch + 1, batch: 0 },
        };
        let first = self.plan.rank * self.plan.share();
        let batch = self.preparer.batch(rows, self.position, next, first);
        self.position = next;
        self.made.send(Ok(batch)).ok()
    }
}
