//! What is done with finished shards: two runs compared, a run audited again.

pub mod card;
pub mod diff;
pub mod fit;
pub mod near;
pub mod reaudit;
