//! What a run has spent, and when it must stop.
//!
//! Before a request is sent, the most that it can cost is set aside, so that requests in flight cannot
//! pass the budget together. What the answer says it took counts in the end; where a server does not
//! say, the estimate does, in this session and in all later ones. An attempt without an answer counts nothing here, though a provider may bill
//! it.

use std::fmt;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::chat::desk::Usage;

/// Tokens and money.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Spent {
    /// Answers that were paid for.
    pub requests: u64,
    /// Tokens of prompts.
    pub prompt_tokens: u64,
    /// Tokens of answers.
    pub completion_tokens: u64,
    /// Those of both that were estimated, because the server did not count them.
    #[serde(default)]
    pub estimated_tokens: u64,
    /// Money, in the currency of the configured prices.
    pub cost: f64,
}

/// `bill.json` in a run's folder.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Statement {
    /// The name under which the run's answers are charged. It is kept here and nowhere else, so that it
    /// goes wherever the folder goes.
    pub run: Option<String>,
    /// By all sessions of the run.
    pub spent: Spent,
    /// By the last session.
    pub endpoints: Vec<Usage>,
}

/// How much may be spent; no limit where a number is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Budget {
    /// Money.
    pub cost: f64,
    /// Prompt and completion tokens.
    pub tokens: u64,
}

/// The account of a run.
#[derive(Debug)]
pub struct Bill {
    budget: Budget,
    account: Mutex<Account>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Account {
    spent: Spent,
    /// Of requests in flight, at most.
    reserved: Spent,
}

/// The budget does not allow another request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BudgetSpent {
    /// What was spent.
    pub spent: Spent,
    /// What might have been.
    pub budget: Budget,
}

impl Spent {
    /// Prompt and completion.
    pub fn tokens(&self) -> u64 {
        self.prompt_tokens + self.completion_tokens
    }

    pub(crate) fn add(&mut self, other: &Spent) {
        self.requests += other.requests;
        self.prompt_tokens += other.prompt_tokens;
        self.completion_tokens += other.completion_tokens;
        self.estimated_tokens += other.estimated_tokens;
        self.cost += other.cost;
    }

    fn take(&mut self, other: &Spent) {
        self.requests = self.requests.saturating_sub(other.requests);
        self.prompt_tokens = self.prompt_tokens.saturating_sub(other.prompt_tokens);
        self.completion_tokens = self.completion_tokens.saturating_sub(other.completion_tokens);
        self.cost = (self.cost - other.cost).max(0.0);
    }
}

impl Bill {
    /// A run's account, with what it spent before.
    pub fn new(budget: Budget, before: Spent) -> Bill {
        Bill { budget, account: Mutex::new(Account { spent: before, ..Account::default() }) }
    }

    /// What was spent so far.
    pub fn spent(&self) -> Spent {
        self.lock().spent
    }

    /// Sets aside what a request may cost; false where answers in flight must come first, which mostly
    /// cost less than was set aside for them.
    ///
    /// # Errors
    /// When that would pass the budget.
    pub(super) fn reserve(&self, most: &Spent) -> Result<bool, BudgetSpent> {
        let mut account = self.lock();
        let mut all = account.spent;
        all.add(&account.reserved);
        all.add(most);
        let Budget { cost, tokens } = self.budget;
        if (cost > 0.0 && all.cost > cost) || (tokens > 0 && all.tokens() > tokens) {
            return match account.reserved.requests {
                0 => Err(BudgetSpent { spent: account.spent, budget: self.budget }),
                _ => Ok(false),
            };
        }
        account.reserved.add(most);
        Ok(true)
    }

    /// Gives back what was set aside, and counts what was spent instead.
    pub(super) fn settle(&self, reserved: &Spent, spent: &Spent) {
        let mut account = self.lock();
        account.reserved.take(reserved);
        account.spent.add(spent);
    }

    fn lock(&self) -> MutexGuard<'_, Account> {
        // Sums are whole after each step.
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for BudgetSpent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Budget { cost, tokens } = self.budget;
        let of = match (cost > 0.0, tokens > 0) {
            (true, true) => format!("{cost:.2} and {tokens} tokens"),
            (true, false) => format!("{cost:.2}"),
            _ => format!("{tokens} tokens"),
        };
        write!(
            f,
            "the budget of {of} allows no further request: {:.4} and {} tokens were spent on {} answers",
            self.spent.cost,
            self.spent.tokens(),
            self.spent.requests
        )
    }
}

impl std::error::Error for BudgetSpent {}

#[cfg(test)]
mod tests {
    use super::*;

    fn spent(prompt_tokens: u64, completion_tokens: u64, cost: f64) -> Spent {
        Spent { requests: 1, prompt_tokens, completion_tokens, cost, ..Spent::default() }
    }

    #[test]
    fn requests_in_flight_count_until_they_are_settled() {
        let bill = Bill::new(Budget { cost: 1.0, tokens: 0 }, spent(0, 0, 0.5));
        let most = spent(100, 100, 0.25);
        assert_eq!(bill.reserve(&most), Ok(true));
        assert_eq!(bill.reserve(&most), Ok(true));
        assert_eq!(bill.reserve(&most), Ok(false));
        bill.settle(&most, &spent(90, 10, 0.125));
        assert_eq!(bill.reserve(&most), Ok(false));
        bill.settle(&most, &Spent::default());
        assert_eq!(bill.reserve(&most), Ok(true));
        bill.settle(&most, &spent(0, 0, 0.25));
        let refused = bill.reserve(&most).unwrap_err().to_string();
        assert!(refused.contains("budget of 1.00") && refused.contains("0.8750"), "{refused}");
        assert_eq!(bill.spent(), Spent { requests: 3, ..spent(90, 10, 0.875) });
    }

    #[test]
    fn tokens_are_a_budget_too_and_none_is_no_limit() {
        let bill = Bill::new(Budget { cost: 0.0, tokens: 50 }, Spent::default());
        assert!(bill.reserve(&spent(50, 50, 9.0)).unwrap_err().to_string().contains("50 tokens"));
        let free = Bill::new(Budget::default(), Spent::default());
        (0..1_000).for_each(|_| assert_eq!(free.reserve(&spent(1 << 40, 0, 1e9)), Ok(true)));
    }
}
