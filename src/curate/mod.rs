//! What is done with finished shards: rows selected into new ones, two runs compared, a card written.

pub mod card;
pub mod diff;
