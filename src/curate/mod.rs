//! What is done with finished shards: rows selected into new ones, two runs compared, a run described
//! and audited again.

pub mod card;
pub mod diff;
pub mod fit;
pub mod near;
pub mod opt_out;
pub mod reaudit;
pub mod select;
