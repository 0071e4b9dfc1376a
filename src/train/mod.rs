//! What a training step needs beside the model: the schedule and the optimizer.
//!
//! Nothing here knows the model, its loss or its data.

pub mod optim;
pub mod schedule;
