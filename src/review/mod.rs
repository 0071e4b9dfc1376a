//! What people say about the rows of a run, and the local page where they say it.

pub mod desk;
pub mod label_studio;
pub mod pictures;
pub mod queue;
pub mod rows;
pub mod server;
pub mod statistics;
pub mod steps;
pub mod verdicts;

pub use desk::Desk;
pub use rows::Rows;
pub use statistics::Statistics;
pub use verdicts::Line;
pub use verdicts::Verdict;
