//! The `recaption` command.

use std::process::ExitCode;

use clap::Parser;
use recaption::cli::Cli;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    Cli::parse().run()
}
