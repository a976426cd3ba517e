//! The commands, one file each.
#![expect(clippy::print_stderr, reason = "a command speaks to the person who runs it")]

mod log;
mod serve;

use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::Problems;

/// May this request pass, and as whom? External authorization for any gateway.
#[derive(Parser)]
#[command(name = "portcullis", version, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Serve(serve::Serve),
}

impl Cli {
    /// Runs the command.
    #[must_use]
    pub fn run(self) -> ExitCode {
        match self.command {
            Command::Serve(serve) => serve.run(),
        }
    }
}

/// Says what is wrong with a policy file.
fn refused(policy: &Path, problems: &Problems) -> ExitCode {
    let source = std::fs::read_to_string(policy).unwrap_or_default();
    eprint!("{}", problems.render(&source, std::io::IsTerminal::is_terminal(&std::io::stderr())));
    ExitCode::FAILURE
}
