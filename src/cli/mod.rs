//! The command line: one file a command.

mod check;
mod dev;
mod diff;
mod echo;
mod environments;
mod explain;
mod import;
mod init;
mod key;
mod log;
mod probe;
mod schema;
mod serve;
mod test;
mod token;

use std::fmt::Display;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::clock;
use crate::config::{Compiled, Origin, Problems};
use crate::feed::config::PolicyFile as Followed;

/// External authorization for any gateway: may this request pass, and as whom?
#[derive(Parser)]
#[command(name = "portcullis", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Answer gateways by a policy until told to stop
    Serve(serve::Serve),
    /// Read a policy, say all that is wrong with it, and show what each route asks for
    Check(check::Check),
    /// Say what a policy decides about one request, and why
    Explain(explain::Explain),
    /// Run a policy's own tests
    Test(test::Test),
    /// Say who gains and who loses which routes between two policies
    Diff(diff::Diff),
    /// Make a policy file of Istio's policies or Envoy's filters, and say what did not map
    Import(import::Import),
    /// Run a gateway, portcullis, an issuer and an application on this machine, with a sample policy and requests to try
    Dev(dev::Dev),
    /// Print a token of the issuer that `dev` runs
    Token(token::Token),
    /// Make, change, revoke and list the API keys of applications
    #[command(subcommand)]
    Key(key::Key),
    /// Print a policy to start from, or the file of a gateway that asks portcullis
    Init(Box<init::Init>),
    /// Attack a running gateway from outside, and say what got through and which setting to change
    Probe(Box<probe::Probe>),
    /// Run an upstream that answers with exactly what reached it, for `probe`
    Echo(echo::Echo),
    /// Print the JSON Schema of the policy file, for editors
    Schema(schema::Schema),
}

/// Where the policy is that no argument names.
const POLICY: &str = "portcullis.yaml";

/// Where the policy is.
#[derive(Args)]
struct PolicyFile {
    /// The policy file; given again, a file that is laid over it with what differs from place to place
    #[arg(short = 'c', long = "config", value_name = "FILE", default_value = POLICY)]
    files: Vec<PathBuf>,
}

/// Runs the command that the arguments name. Exits with 2 where they name none.
#[must_use]
pub fn run() -> ExitCode {
    match Cli::parse().command {
        Command::Serve(command) => command.run(),
        Command::Check(command) => command.run(),
        Command::Explain(command) => command.run(),
        Command::Test(command) => command.run(),
        Command::Diff(command) => command.run(),
        Command::Import(command) => command.run(),
        Command::Dev(command) => command.run(),
        Command::Token(command) => command.run(),
        Command::Key(command) => command.run(),
        Command::Init(command) => command.run(),
        Command::Probe(command) => command.run(),
        Command::Echo(command) => command.run(),
        Command::Schema(command) => command.run(),
    }
}

impl PolicyFile {
    /// Whether there is a policy to read: one that is named counts, be it there or not.
    fn is_there(&self) -> bool {
        self.files != [Path::new(POLICY)] || self.files.iter().any(|file| file.exists())
    }

    /// Where the policy is loaded from.
    fn origin(&self) -> Origin {
        self.files.clone().into()
    }

    /// Loads the policy to follow it, without lints: those are for `check`. Tells what is wrong with it on standard error.
    fn open(&self) -> Option<(Followed, Compiled)> {
        Followed::open(Origin { lints: false, ..self.origin() }).inspect_err(tell).ok()
    }

    /// Loads the policy; tells what is wrong with it on standard error.
    fn load(&self) -> Option<Compiled> {
        load(&self.origin())
    }
}

/// Loads a policy; tells what is wrong with it on standard error, and what was not there.
fn load(origin: &Origin) -> Option<Compiled> {
    match origin.load().map(|compiled| compiled.warned_at(clock::now())) {
        Ok(compiled) => {
            tell(&compiled.warnings);
            if !compiled.stubs.is_empty() {
                let (number, names) = (count(compiled.stubs.len(), "value"), compiled.stubs.join(", "));
                // Nobody is left to tell where this fails.
                let _ = writeln!(std::io::stderr().lock(), "note: {number} not there, read as stubs: {names}");
            }
            Some(compiled)
        }
        Err(problems) => {
            tell(&problems);
            None
        }
    }
}

/// Shows problems with the lines that they are about, on standard error.
fn tell(problems: &Problems) {
    if problems.as_slice().is_empty() {
        return;
    }
    let stderr = std::io::stderr();
    let rendered = problems.render(stderr.is_terminal());
    // Nobody is left to tell where this fails.
    let _ = writeln!(stderr.lock(), "{rendered}");
}

/// Says on standard error why a command failed.
fn fail(why: impl Display) -> ExitCode {
    // Nobody is left to tell where this fails.
    let _ = writeln!(std::io::stderr().lock(), "{why}");
    ExitCode::FAILURE
}

/// Prints on standard output; a reader that went away is no error.
fn print(text: impl Display) {
    let mut stdout = std::io::stdout().lock();
    let _ = write!(stdout, "{text}").and_then(|()| stdout.flush());
}

/// `1 route`, `2 routes`
fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}
