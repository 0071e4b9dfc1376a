//! Verdicts by way of Label Studio: rows become its tasks, its annotations become lines of the log.
//!
//! A task carries key and shard of its row and the hash of the text that is judged, which is how its
//! annotations find back. Boxes and verdicts that are there already come along as predictions. The
//! labelling interface that names all this is written beside the tasks.

mod config;
mod export;
mod import;
mod task;

pub use export::Export;
pub use export::Exported;
pub use export::Pictures;
pub use export::export;
pub use import::Imported;
pub use import::import;

use crate::review::Verdict;

/// Name of the picture in the interface, which all controls are about.
const PICTURE: &str = "picture";
/// Name of the choice of a verdict.
const VERDICT: &str = "verdict";
/// Name of the field where the text is changed.
const EDITED: &str = "edited";
/// Name of the boxes.
const BOXES: &str = "boxes";

/// A verdict as people read it.
fn shown(verdict: Verdict) -> String {
    verdict.as_str().replace('_', " ")
}

#[cfg(test)]
mod tests;
