//! The log of verdicts, `audit/verdicts.jsonl` in the folder of a run: a line a verdict, only ever
//! added to.
//!
//! A later line of the same reviewer about the same key replaces the earlier one; a line without a
//! verdict takes it back. So the log is also its own undo.

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

/// Where the log lies in the folder of a run.
pub const LOG: &str = "audit/verdicts.jsonl";

/// What a person thinks of a generated text.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing is wrong.
    Ok,
    /// A small thing is wrong, or it could be said better.
    Minor,
    /// It says something that is not there.
    Hallucinated,
    /// It describes another picture.
    WrongImage,
    /// Not to be used for anything.
    Unusable,
}

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Line {
    /// Key of the row.
    pub key: String,
    /// Shard of the row, since keys are only unique within one.
    pub shard: u32,
    /// What was said; `None` takes an earlier verdict back.
    pub verdict: Option<Verdict>,
    /// The text as the reviewer would have it, where it was edited.
    pub text: Option<String>,
    /// SHA-256 of the generated text that was judged: of a text that changed since, the verdict says
    /// nothing.
    pub text_sha256: String,
    /// Who said it.
    pub reviewer: String,
    /// When, in seconds since 1970.
    pub at: u64,
}
