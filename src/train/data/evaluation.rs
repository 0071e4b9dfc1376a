//! The rows of a dataset in order, as a trained model is judged by them.

use std::iter::Peekable;
use std::slice;
use std::sync::Arc;

use anyhow::Result;
use anyhow::ensure;

use crate::source::Items;
use crate::train::data::Batch;
use crate::train::data::Position;
use crate::train::data::Shared;
use crate::train::data::Text;
use crate::train::data::loader::ensure_side;
use crate::train::data::prepare::Encoded;
use crate::train::data::prepare::Manner;
use crate::train::data::prepare::Preparer;

/// Some rows at a time, all of them once. `first` of a batch is the place of its first row.
pub struct Evaluation<'a> {
    preparer: Preparer,
    items: Items<'a>,
    /// Number of the next item.
    row: u32,
    wanted: Peekable<slice::Iter<'a, u32>>,
    at_a_time: usize,
    first: usize,
}

impl<'a> Evaluation<'a> {
    pub(super) fn start(
        shared: &'a Arc<Shared>,
        side: u32,
        text: Option<Text>,
        at_a_time: usize,
    ) -> Result<Evaluation<'a>> {
        ensure!(at_a_time > 0, "a batch has rows");
        ensure_side(side)?;
        let preparer = Preparer::new(Arc::clone(shared), Manner::Evaluation { text }, side)?;
        let items = shared.source.items(0..shared.source.plan().rows)?;
        let wanted = shared.order.numbers().iter().peekable();
        Ok(Evaluation { preparer, items, row: 0, wanted, at_a_time, first: 0 })
    }

    fn rows(&mut self) -> Result<Vec<Encoded>> {
        let mut rows = Vec::new();
        while rows.len() < self.at_a_time && self.wanted.peek().is_some() {
            let Some(item) = self.items.next().transpose()? else { break };
            if self.wanted.next_if(|&&row| row == self.row).is_some() {
                rows.push(Encoded::of(self.row, item));
            }
            self.row += 1;
        }
        Ok(rows)
    }

    fn batch(&mut self, rows: Vec<Encoded>) -> Batch {
        let (batch, first) = ((self.first / self.at_a_time) as u64, self.first);
        self.first += rows.len();
        let at = |batch| Position { epoch: 0, batch };
        self.preparer.batch(rows, at(batch), at(batch + 1), first)
    }
}

impl Iterator for Evaluation<'_> {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Result<Batch>> {
        match self.rows() {
            Ok(rows) if rows.is_empty() => None,
            Ok(rows) => Some(Ok(self.batch(rows))),
            Err(error) => {
                self.wanted = [].iter().peekable();
                Some(Err(error))
            }
        }
    }
}
