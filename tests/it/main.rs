//! All integration tests, in one binary.

mod describe;
mod fetch;
mod perceive;
mod refine;
mod source;
