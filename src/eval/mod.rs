//! How good a model is: data with answers, embeddings of it, and numbers from them.
//!
//! [`data`] says what is asked, [`features`] embeds it once, [`zero_shot`] and [`retrieval`] judge.
//! [`benchmark`] holds a model to the limits that its user cannot do without.

pub mod benchmark;
pub mod bootstrap;
pub mod compare;
pub mod data;
pub mod features;
pub mod metrics;
pub mod page;
pub mod probe;
pub mod result;
pub mod retrieval;
pub mod suite;
pub mod templates;
pub mod zero_shot;
