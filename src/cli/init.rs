//! `portcullis init`: a policy to start from, or the file of a gateway that asks portcullis, made of what `deploy/` ships.

mod fill;
mod pieces;

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bytes::Bytes;
use clap::Args;

use self::fill::{Address, Addresses, Names, fill};
use self::pieces::{For, Piece};
use super::{fail, load, print};
use crate::authz::header::ALWAYS;
use crate::config::{Compiled, Origin};

/// A policy whose tests pass.
const STARTER: &str = include_str!("../../examples/starter/portcullis.yaml");
const AFTER_STARTER: &str = "\
Next: save it as portcullis.yaml, put your issuer and your routes in, and
  portcullis check      says what each route asks for
  portcullis test       runs the tests at its end
  portcullis dev        tries a policy with a gateway, an issuer and an application on this machine
  portcullis init --for envoy|envoy-http|istio|envoy-gateway|contour|kong|nginx|traefik|caddy|haproxy
                        prints the file of your gateway
  portcullis serve      answers it
";

#[derive(Args)]
pub(super) struct Init {
    /// The gateway; without it a policy to start from is printed
    #[arg(long = "for", value_enum)]
    gateway: Option<For>,
    /// Where portcullis answers that gateway: HOST:PORT
    #[arg(long, value_name = "ADDRESS", requires = "gateway")]
    portcullis: Option<Address>,
    /// Where the application is
    #[arg(long, value_name = "ADDRESS", requires = "gateway")]
    upstream: Option<Address>,
    /// Where the gateway listens for callers
    #[arg(long, value_name = "ADDRESS", requires = "gateway")]
    listen: Option<Address>,
    /// The policy whose headers the gateway's file is to list; those of an example without it
    #[arg(short = 'c', long = "config", value_name = "FILE", requires = "gateway")]
    policy: Vec<PathBuf>,
    /// Write the files there, where none of them is yet
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

impl Init {
    pub fn run(self) -> ExitCode {
        match self.made() {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => fail(format_args!("error: {why}")),
        }
    }

    fn made(self) -> Result<(), String> {
        let Some(gateway) = self.gateway else {
            say(AFTER_STARTER);
            return deliver(self.out.as_deref(), &[("portcullis.yaml", "#", STARTER.to_owned())]);
        };
        let names = match self.policy.is_empty() {
            true => None,
            false => {
                let origin = Origin { stubs: true, lints: false, ..self.policy.into() };
                Some(names(&load(&origin).ok_or("the policy does not load")?)?)
            }
        };
        let addresses = Addresses { portcullis: self.portcullis, upstream: self.upstream, listen: self.listen };
        gateway.takes(&addresses)?;
        let fill = |piece: &Piece| (piece.name, piece.comment, fill(piece.text, &addresses, names.as_ref()));
        let files: Vec<(&str, &str, String)> = gateway.pieces().iter().map(fill).collect();
        say(gateway.next());
        deliver(self.out.as_deref(), &files)
    }
}

/// The headers that a policy's gateway is told on an allow, but for those that the shipped files list anyway.
fn names(compiled: &Compiled) -> Result<Names, String> {
    let contract = compiled.policy.routes.first().map(|route| route.contract.names());
    let text = |name: &Bytes| String::from_utf8_lossy(name).into_owned();
    let mut own: Vec<String> = contract.into_iter().flat_map(|names| names.emitted()).map(text).collect();
    own.retain(|name| !ALWAYS.contains(&&**name));
    own.sort_unstable();
    own.dedup();
    let mut theirs: Vec<String> = compiled.policy.echoed.iter().map(text).collect();
    theirs.retain(|name| !own.contains(name));
    let plain = |name: &&String| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    match own.iter().chain(&theirs).find(|name| !plain(name)) {
        Some(odd) => {
            Err(format!("the header `{odd}` cannot be written in every gateway's file: letters, digits, `-` and `_`"))
        }
        None => Ok(Names { own, theirs }),
    }
}

/// Prints the files, each under a line with its name where there are several, or writes them.
fn deliver(folder: Option<&Path>, files: &[(&str, &str, String)]) -> Result<(), String> {
    let Some(folder) = folder else {
        for (name, comment, text) in files {
            if files.len() > 1 {
                print(format_args!("{comment} ==> {name} <==\n"));
            }
            print(text);
        }
        return Ok(());
    };
    let there = files.iter().map(|(name, ..)| folder.join(name)).find(|path| path.exists());
    if let Some(path) = there {
        return Err(format!("{} is there already, and nothing was written", path.display()));
    }
    for (name, _, text) in files {
        let path = folder.join(name);
        let wrong = |error: std::io::Error| format!("{} cannot be written: {error}", path.display());
        std::fs::create_dir_all(path.parent().unwrap_or(folder)).map_err(wrong)?;
        let mut file = OpenOptions::new().write(true).create_new(true).open(&path).map_err(wrong)?;
        file.write_all(text.as_bytes()).map_err(wrong)?;
        say(&format!("{}\n", path.display()));
    }
    Ok(())
}

/// What is no part of a file goes where it is not saved with it.
fn say(text: &str) {
    // Nobody is left to tell where this fails.
    let _ = write!(std::io::stderr().lock(), "{text}");
}
