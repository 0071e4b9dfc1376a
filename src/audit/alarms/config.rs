//! How large a share of rows may be before somebody should know.

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::audit::alarms::Kind;

/// Largest shares of rows, 0 to 1; a share of 1 switches its alarm off.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What an alarm does: stop the run (exit code 3), or only warn.
    pub action: Action,
    /// No judgement before so many rows.
    pub after_rows: u64,
    /// Judged are the most recent rows, so many of them, and all rows together.
    pub window: usize,
    /// Rows that share one generated text although their sources differ.
    pub max_repeated: f64,
    /// Rows whose writer refused.
    pub max_refused: f64,
    /// Rows whose text, or the reply that was not taken, has pieces of the prompt or its scores.
    pub max_leaked: f64,
    /// Rows whose writer's reply was not taken, for whatever reason.
    pub max_not_taken: f64,
    /// Rows without a generated text.
    pub max_missing: f64,
    /// Rows in another language than the wanted one.
    pub max_wrong_language: f64,
    /// Rows that open with boilerplate.
    pub max_boilerplate: f64,
    /// Rows whose text fits a neighbour better than their own picture, above what chance gives.
    pub max_mixed_up: f64,
}

/// What an alarm does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Stops the run; finished shards stay.
    #[default]
    Stop,
    /// Says so, once for each kind, and goes on.
    Warn,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            action: Action::Stop,
            // Enough that a share is more than an accident, few enough that little was paid for.
            after_rows: 300,
            window: 1000,
            // Small vocabularies repeat: up to 17.9 % of a window of openclipart's drawings share a
            // sentence that rules made, once equal titles are set aside.
            max_repeated: 0.3,
            max_refused: 0.2,
            max_leaked: 0.2,
            // A writer that is not understood half of the time should not be paid for.
            max_not_taken: 0.5,
            // Runs without models and raw texts have no texts at all, and may be meant so.
            max_missing: 1.0,
            max_wrong_language: 0.6,
            max_boilerplate: 0.5,
            max_mixed_up: 0.1,
        }
    }
}

impl Config {
    pub(super) fn limits(&self) -> [(Kind, f64); 8] {
        [
            (Kind::Repeated, self.max_repeated),
            (Kind::Refused, self.max_refused),
            (Kind::Leaked, self.max_leaked),
            (Kind::NotTaken, self.max_not_taken),
            (Kind::Missing, self.max_missing),
            (Kind::WrongLanguage, self.max_wrong_language),
            (Kind::Boilerplate, self.max_boilerplate),
            (Kind::MixedUp, self.max_mixed_up),
        ]
    }
}
