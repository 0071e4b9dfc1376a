//! How good a model is: numbers from its embeddings.

pub mod metrics;
