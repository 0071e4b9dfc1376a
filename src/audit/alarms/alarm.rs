//! An alarm: what is counted, how much of it there is, some rows; and how it is said.

use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::text::printable;

/// Letters of a text that an alarm quotes.
const QUOTED: usize = 200;

/// What is counted.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// One text on many rows.
    Repeated,
    /// Refusals.
    Refused,
    /// Prompts and scores in texts.
    Leaked,
    /// Replies that were not taken.
    NotTaken,
    /// No text.
    Missing,
    /// Another language.
    WrongLanguage,
    /// Boilerplate.
    Boilerplate,
    /// Texts about a neighbour's picture.
    MixedUp,
}

/// A share that is too large.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Alarm {
    /// What is counted.
    pub kind: Kind,
    /// Rows that have it.
    pub rows: u64,
    /// Of so many rows.
    pub of: u64,
    /// Whether those are the most recent rows, or all.
    pub is_recent: bool,
    /// The share that is allowed.
    pub limit: f64,
    /// Some of the rows.
    pub examples: Vec<Example>,
}

/// A row of an alarm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Example {
    /// Its key.
    pub key: String,
    /// Its text, or why it has none.
    pub text: String,
}

impl Kind {
    fn says(self) -> &'static str {
        match self {
            Kind::Repeated => "have one and the same generated text",
            Kind::Refused => "were refused by the writer",
            Kind::Leaked => "have pieces of the prompt in their text or in the reply",
            Kind::NotTaken => "got a reply that could not be taken",
            Kind::Missing => "have no generated text",
            Kind::WrongLanguage => "are in another language than the wanted one",
            Kind::Boilerplate => "open with boilerplate",
            Kind::MixedUp => "have a text that fits a neighbour's picture better, chance set aside",
        }
    }

    /// The setting that limits it.
    pub fn setting(self) -> &'static str {
        match self {
            Kind::Repeated => "alarms.max_repeated",
            Kind::Refused => "alarms.max_refused",
            Kind::Leaked => "alarms.max_leaked",
            Kind::NotTaken => "alarms.max_not_taken",
            Kind::Missing => "alarms.max_missing",
            Kind::WrongLanguage => "alarms.max_wrong_language",
            Kind::Boilerplate => "alarms.max_boilerplate",
            Kind::MixedUp => "alarms.max_mixed_up",
        }
    }
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rows, of, limit) = (self.rows, self.of, self.limit);
        let which = if self.is_recent { "the last " } else { "all " };
        let (says, setting) = (self.kind.says(), self.kind.setting());
        write!(
            f,
            "{rows} of {which}{of} rows {says}, more than the share of {limit} that {setting} allows"
        )?;
        for Example { key, text } in &self.examples {
            write!(f, "\n  {}: {}", key.escape_debug(), printable(text, QUOTED))?;
        }
        Ok(())
    }
}

impl std::error::Error for Alarm {}
