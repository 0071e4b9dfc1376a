//! A row on its way through the stages, and what may have become of it.

use anyhow::Result;

use crate::sample::Item;
use crate::sample::Reject;

/// A row, or the end of the run: an error of the source, of the disk, of the writer's endpoint.
pub(super) type Flow<T> = Result<Row<T>>;

/// A row of a shard.
pub(super) struct Row<T> {
    pub(super) shard: u32,
    /// Still on the path, or not.
    pub(super) state: Result<T, Left>,
}

/// Why a row is not on the path any more; it still has its place in the order.
pub(super) enum Left {
    /// For a reason. Boxed: it is much larger than what most rows are.
    Rejected(Box<(Item, Reject)>),
    /// It is not to be done again: the shard that is being mended has it.
    Kept,
}

impl<T> Row<T> {
    /// The same row after another stage.
    pub(super) fn map<U>(self, work: impl FnOnce(T) -> U) -> Row<U> {
        Row { shard: self.shard, state: self.state.map(work) }
    }

    /// The same row after a stage that may take it off the path.
    pub(super) fn and_then<U>(self, work: impl FnOnce(T) -> Result<U, Left>) -> Row<U> {
        Row { shard: self.shard, state: self.state.and_then(work) }
    }
}
