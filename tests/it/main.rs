//! All integration tests, in one binary.

mod describe;
mod fetch;
mod local;
mod perceive;
mod refine;
