//! Arguments, a command, an exit code.

use std::process::ExitCode;

use clap::Parser;
use portcullis::cli::Cli;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // First of all: without a provider the first token that is minted panics.
    let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
    Cli::parse().run()
}
