//! What the answers that were used took, in sums from which means and their spread can be had.

use crate::chat::writer::Reply;

/// A sum of many numbers, and of their squares.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sum {
    /// Of the numbers.
    pub total: f64,
    /// Of their squares.
    pub squares: f64,
}

/// The answers that were used, bought now or before.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Used {
    /// How many.
    pub answers: u64,
    /// Tokens of their prompts.
    pub prompt_tokens: Sum,
    /// Their own tokens.
    pub completion_tokens: Sum,
    /// What they cost when they were bought.
    pub cost: Sum,
}

impl Sum {
    /// Adds a number.
    pub fn add(&mut self, number: f64) {
        self.total += number;
        self.squares += number * number;
    }
}

impl Used {
    pub(super) fn add(&mut self, reply: &Reply) {
        self.answers += 1;
        self.prompt_tokens.add(f64::from(reply.prompt_tokens.unwrap_or(0)));
        self.completion_tokens.add(f64::from(reply.tokens.unwrap_or(0)));
        self.cost.add(reply.cost);
    }
}
