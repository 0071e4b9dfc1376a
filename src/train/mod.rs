//! Training of RWKV-CLIP on refined shards.

pub mod collective;
pub mod gate;
pub mod objective;
pub mod optim;
pub mod schedule;
pub mod step;
pub mod student;
