//! All integration tests, in one binary.

mod clip;
mod decode;
mod describe;
mod eval_suite;
mod eval;
mod fetch;
mod local;
mod messy;
mod parity;
mod perceive;
mod refine;
mod schemas;
mod source;
mod tidy;
