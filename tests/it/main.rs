//! All integration tests, in one binary.

mod fetch;
mod perceive;
mod refine;
