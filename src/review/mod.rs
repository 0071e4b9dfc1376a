//! What people say about the rows of a run, and the local page where they say it.

pub mod queue;
pub mod statistics;
pub mod verdicts;

pub use statistics::Statistics;
pub use verdicts::Line;
pub use verdicts::Verdict;
