//! What people say about the rows of a run, and the local page where they say it.

pub mod verdicts;

pub use verdicts::Line;
pub use verdicts::Verdict;
