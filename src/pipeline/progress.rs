//! Where the rows of a run are, for whoever shows it. Counted by the stages, read by another thread.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use serde::Serialize;

use crate::sample::Stage;

/// Counters of a run. Relaxed atomics: a reader may see one of them a moment before another.
#[derive(Default)]
pub struct Progress {
    stages: [Gauge; Stage::ALL.len()],
    /// Rows that were finished before this process began.
    before: AtomicU64,
    total: AtomicU64,
    refined: AtomicU64,
    rejected: AtomicU64,
}

#[derive(Default)]
struct Gauge {
    entered: AtomicU64,
    left: AtomicU64,
    busy_ns: AtomicU64,
}

/// The counters at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Snapshot {
    /// Rows of the run.
    pub total: u64,
    /// Rows that were finished before this process began.
    pub before: u64,
    /// Rows refined by this process.
    pub refined: u64,
    /// Rows rejected by this process.
    pub rejected: u64,
    /// Each stage, in order.
    pub stages: Vec<StageSnapshot>,
}

/// One stage at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StageSnapshot {
    /// `fetch`, `decode` and so on.
    pub stage: &'static str,
    /// Rows in it.
    pub in_flight: u64,
    /// Rows that went through it.
    pub done: u64,
    /// Seconds its threads worked, added up. Fetching overlaps with itself and is not counted.
    pub busy_s: f64,
}

impl Snapshot {
    /// Rows that are finished, by this process or before.
    pub fn done(&self) -> u64 {
        self.before + self.refined + self.rejected
    }
}

impl Progress {
    /// The counters now.
    pub fn snapshot(&self) -> Snapshot {
        let stage = |stage: &Stage| {
            let gauge = self.gauge(*stage);
            let (left, entered) = (gauge.left.load(Relaxed), gauge.entered.load(Relaxed));
            StageSnapshot {
                stage: stage.as_str(),
                in_flight: entered.saturating_sub(left),
                done: left,
                busy_s: gauge.busy_ns.load(Relaxed) as f64 / 1e9,
            }
        };
        Snapshot {
            total: self.total.load(Relaxed),
            before: self.before.load(Relaxed),
            refined: self.refined.load(Relaxed),
            rejected: self.rejected.load(Relaxed),
            // The stations of a run: selecting comes when it is done.
            stages: Stage::ALL.iter().filter(|at| **at != Stage::Select).map(stage).collect(),
        }
    }

    /// Says how many rows the run has, and how many of them are finished.
    pub fn begin(&self, total: u64, before: u64) {
        self.total.store(total, Relaxed);
        self.before.store(before, Relaxed);
    }

    pub(super) fn finish(&self, is_refined: bool) {
        let counter = if is_refined { &self.refined } else { &self.rejected };
        counter.fetch_add(1, Relaxed);
    }

    pub(super) fn enter(&self, stage: Stage, rows: usize) {
        self.gauge(stage).entered.fetch_add(rows as u64, Relaxed);
    }

    pub(super) fn leave(&self, stage: Stage, rows: usize) {
        self.gauge(stage).left.fetch_add(rows as u64, Relaxed);
    }

    /// Counts `rows` in, works, and counts them out.
    pub(super) fn during<R>(&self, stage: Stage, rows: usize, work: impl FnOnce() -> R) -> R {
        self.enter(stage, rows);
        let started = Instant::now();
        let result = work();
        let busy = started.elapsed().as_nanos().min(u128::from(u64::MAX)) as u64;
        self.gauge(stage).busy_ns.fetch_add(busy, Relaxed);
        self.leave(stage, rows);
        result
    }

    fn gauge(&self, stage: Stage) -> &Gauge {
        // The order of declaration is the order of `ALL`.
        &self.stages[stage as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_where_the_stages_say() {
        let progress = Progress::default();
        progress.begin(10, 4);
        progress.enter(Stage::Fetch, 3);
        progress.leave(Stage::Fetch, 1);
        let inside = progress.during(Stage::Describe, 2, || progress.snapshot());
        progress.finish(true);
        progress.finish(false);
        let after = progress.snapshot();
        let stage = |s: &Snapshot, stage: Stage| s.stages[stage as usize].clone();
        assert_eq!(stage(&inside, Stage::Fetch).in_flight, 2);
        assert_eq!(stage(&inside, Stage::Describe).in_flight, 2);
        assert_eq!(stage(&after, Stage::Describe).in_flight, 0);
        assert_eq!(stage(&after, Stage::Describe).done, 2);
        assert_eq!((after.done(), after.total), (6, 10));
        assert!(Stage::ALL.iter().enumerate().all(|(n, stage)| n == *stage as usize));
    }
}
