//! The `recaption` command.

use std::process::ExitCode;

use clap::Parser;
use recaption::cli::Cli;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of mimalloc.h; the crate has no name for it.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

fn main() -> ExitCode {
    let cli = Cli::parse();
    if cli.computes() {
        // Tensors come and go by the gigabyte: what is given back to the system is asked for again at
        // once, page by page, each cleared. A training step took 1.5 times as long.
        // SAFETY: sets a number.
        unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, -1) };
    }
    cli.run()
}
