//! Writes several rows at once: when some have ended, the next take their slots.
//!
//! New rows are read together, a few at a time, and words are written for all slots in use. Neither
//! changes what a row gets: a batch equals its singles to the last bit.

use anyhow::Result;
use candle_core::Tensor;
use candle_transformers::generation::LogitsProcessor;

use crate::describe::local::llama::Llama;
use crate::describe::local::llama::Past;
use crate::describe::local::llama::Prefix;
use crate::describe::local::llama::Step;

/// Rows written at once, at most. A step mostly fetches the weights, for 32 rows as for 8; each row more
/// costs the memory of its slot.
pub(super) const MOST_SLOTS: usize = 32;

/// Slots are used by multiples of this, and new rows are read when so many slots are free: the weights
/// are fetched once for all of them.
pub(super) const TOGETHER: usize = 8;

/// Tokens that are read together, at most, but for those of one row.
const READ_AT_ONCE: usize = 1024;

/// What every row shares.
pub(super) struct Generation<'a> {
    pub(super) llama: &'a Llama,
    pub(super) prefix: Option<&'a Prefix>,
    pub(super) past: &'a Past,
    pub(super) max_new_tokens: usize,
    pub(super) is_end: &'a dyn Fn(u32) -> bool,
}

/// A row to be written.
pub(super) struct Row {
    pub(super) index: usize,
    /// At least one token, and no more than a slot has room for besides the reply.
    pub(super) question: Vec<u32>,
    pub(super) sampler: LogitsProcessor,
}

impl Row {
    fn first_step(&self, slot: usize) -> Step<'_> {
        Step { first_slot: slot, filled: &[0], tokens: &self.question }
    }
}

/// What was written, without the token that ended it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Said {
    pub(super) tokens: Vec<u32>,
    pub(super) end: End,
}

/// Why no more was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Stop,
    Length,
    NotANumber,
}

/// A row in its slot.
struct Turn {
    index: usize,
    sampler: LogitsProcessor,
    /// Positions of the slot that are filled.
    filled: usize,
    said: Vec<u32>,
}

type NextRow<'a> = dyn FnMut() -> Result<Option<Row>> + 'a;
type OnEnd<'a> = dyn Fn(usize, Said) -> Result<()> + 'a;

impl Generation<'_> {
    /// Writes every row that `next` has, and tells `on_end` about each as soon as it has ended.
    pub(super) fn run(&self, next: &mut NextRow<'_>, on_end: &OnEnd<'_>) -> Result<()> {
        let mut slots: Vec<Option<Turn>> = (0..self.past.slots()).map(|_| None).collect();
        let mut more = true;
        loop {
            let used = slots.iter().flatten().count();
            if more && used + TOGETHER <= slots.len() {
                more = self.fill(&mut slots, next, on_end)?;
            } else if used > 0 {
                let width = self.gather(&mut slots, used)?;
                self.advance(&mut slots[..width], on_end)?;
            } else {
                return Ok(());
            }
        }
    }

    /// Begins rows in empty slots; false when there are no more.
    fn fill(
        &self,
        slots: &mut [Option<Turn>],
        next: &mut NextRow<'_>,
        on_end: &OnEnd<'_>,
    ) -> Result<bool> {
        let (mut rows, mut tokens) = (Vec::new(), 0);
        for slot in (0..slots.len()).filter(|&slot| slots[slot].is_none()) {
            if tokens >= READ_AT_ONCE {
                break;
            }
            let Some(row) = next()? else { break };
            tokens += row.question.len();
            rows.push((slot, row));
        }
        if rows.is_empty() {
            return Ok(false);
        }
        let steps: Vec<Step<'_>> = rows.iter().map(|(slot, row)| row.first_step(*slot)).collect();
        let scores = self.llama.step(&steps, self.prefix, self.past)?;
        for (i, (slot, row)) in rows.into_iter().enumerate() {
            let turn = Turn {
                index: row.index,
                filled: row.question.len(),
                sampler: row.sampler,
                said: Vec::new(),
            };
            slots[slot] = self.hear(slot, turn, &scores.get(i)?, on_end)?;
        }
        Ok(true)
    }

    /// Moves rows to the front where fewer slots will do; gives how many are then to be advanced.
    fn gather(&self, slots: &mut [Option<Turn>], used: usize) -> Result<usize> {
        let width = used.next_multiple_of(TOGETHER).min(slots.len());
        for from in width..slots.len() {
            let free = slots.iter().position(Option::is_none);
            if let (Some(turn), Some(to)) = (slots[from].take(), free) {
                self.past.copy(from, to, turn.filled)?;
                slots[to] = Some(turn);
            }
        }
        Ok(width)
    }

    /// One more token in each of the first slots.
    fn advance(&self, slots: &mut [Option<Turn>], on_end: &OnEnd<'_>) -> Result<()> {
        // An empty slot reads token 0 at its start, where the next row will write over it.
        let last = |turn: &Turn| turn.said.last().copied().unwrap_or_default();
        let tokens: Vec<u32> = slots.iter().map(|turn| turn.as_ref().map_or(0, last)).collect();
        let filled: Vec<usize> =
            slots.iter().map(|turn| turn.as_ref().map_or(0, |turn| turn.filled)).collect();
        let step = Step { first_slot: 0, filled: &filled, tokens: &tokens };
        let scores = self.llama.step(&[step], self.prefix, self.past)?;
        for (slot, place) in slots.iter_mut().enumerate() {
            if let Some(mut turn) = place.take() {
                turn.filled += 1;
                *place = self.hear(slot, turn, &scores.get(slot)?, on_end)?;
            }
        }
        Ok(())
    }

    /// Takes the next token of a row; gives the row back unless it has ended.
    ///
    /// # Shapes
    /// - scores: (vocabulary)
    fn hear(
        &self,
        slot: usize,
        mut turn: Turn,
        scores: &Tensor,
        on_end: &OnEnd<'_>,
    ) -> Result<Option<Turn>> {
        let end = match self.sample(&mut turn, scores)? {
            None => {
                // What is no number would spread to the next row through masked positions.
                self.past.clear(slot)?;
                End::NotANumber
            }
            Some(token) if (self.is_end)(token) => End::Stop,
            Some(token) => {
                turn.said.push(token);
                if turn.said.len() < self.max_new_tokens {
                    return Ok(Some(turn));
                }
                End::Length
            }
        };
        on_end(turn.index, Said { tokens: turn.said, end })?;
        Ok(None)
    }

    fn sample(&self, turn: &mut Turn, scores: &Tensor) -> Result<Option<u32>> {
        match scores.sum_all()?.to_scalar::<f32>()?.is_finite() {
            true => Ok(Some(turn.sampler.sample(scores)?)),
            false => Ok(None),
        }
    }
}
