//! All integration tests, in one binary.

mod alarms;
mod audit;
mod chat;
mod clip;
mod curate_diff_card;
mod decode;
mod describe;
mod eval;
mod eval_suite;
mod fetch;
mod instruct;
mod label_studio;
mod llama_server;
mod local;
mod messy;
mod parity;
mod perceive;
mod refine;
mod review;
mod safety;
mod schemas;
mod select;
mod source;
mod tidy;
mod train;
mod train_data;
