//! From crawled image-text data to training-ready parquet.
//!
//! The stations of a row, in order: [`source`], [`decode`], [`perceive`], [`describe`], [`shard`];
//! [`pipeline`] joins them. What came out is trained on and scored by [`train`], [`eval`] and
//! [`ablate`]. `ARCHITECTURE.md` says what may import what.
#![warn(missing_docs, unreachable_pub, clippy::dbg_macro, clippy::todo)]
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

pub mod ablate;
pub mod arrow_json;
pub mod atomic_file;
pub mod audit;
pub mod chart;
pub mod chat;
pub mod cli;
pub mod clip;
pub mod clip_tokenizer;
pub mod config;
pub mod curate;
pub mod decode;
pub mod dedup;
pub mod describe;
pub mod eval;
pub mod fetch;
pub mod filter;
pub mod folder;
pub mod forecast;
pub mod instruct;
pub mod interval;
pub mod lexicon;
pub mod model;
pub mod models;
pub mod page;
pub mod perceive;
pub mod pipeline;
pub mod report;
pub mod retry;
pub mod review;
pub mod run;
pub mod sample;
pub mod shard;
pub mod source;
pub mod text;
pub mod train;
pub mod vision;
