//! What a training step needs beside the model: the data, the schedule and the optimizer.
//!
//! Nothing here knows the model or its loss.

pub mod data;
pub mod optim;
pub mod schedule;
