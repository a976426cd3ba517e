//! `portcullis probe`: attacks a running gateway from outside, and says what got through.
//! Exits with 0 where nothing got through, with 1 where something did, and with 2 where that cannot be told.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use url::Url;

use super::token::seconds;
use super::{fail, load, print};
use crate::config::Origin;
use crate::probe::{Gateway, Options, Report, Trust, probe};

/// The exit code of what cannot be told.
const UNTOLD: u8 = 2;

#[derive(Args)]
#[command(after_help = "Exits with 0 where nothing got through, 1 where something did, 2 where that cannot be told.\n\
                        With `portcullis echo` as the upstream it sees what reaches that; without, only what is answered.")]
pub(super) struct Probe {
    /// Where callers reach the gateway: http://HOST:PORT or https://HOST:PORT
    url: Url,
    /// The policy: which paths are open, which are not, and which headers are its own
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    policy: Vec<PathBuf>,
    /// A path that passes without a credential; may be given more than once
    #[arg(long, value_name = "PATH")]
    public: Vec<String>,
    /// A path that does not; may be given more than once
    #[arg(long, value_name = "PATH")]
    protected: Vec<String>,
    /// A header that no caller may send; may be given more than once
    #[arg(long = "header", value_name = "NAME")]
    headers: Vec<String>,
    /// What goes into Host in place of the URL's
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// A bearer token that counts for the protected path; others on this machine can read it here
    #[arg(long, conflicts_with = "token_file")]
    token: Option<String>,
    /// A file with such a token
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Where the upstream is, which should not be reached from here
    #[arg(long, value_name = "URL")]
    upstream: Option<Url>,
    /// Where portcullis' HTTP or admin listener is, which should not be reached from here
    #[arg(long, value_name = "URL")]
    portcullis: Option<Url>,
    /// Which gateway it is, where it does not say so itself
    #[arg(long, value_enum)]
    gateway: Option<Gateway>,
    /// Whose certificate the gateway shows: a PEM file in place of the system's authorities
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    ca: Option<PathBuf>,
    /// Take any certificate, as of a test
    #[arg(long)]
    insecure: bool,
    /// How long one request may take
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = seconds)]
    timeout: i64,
    /// How long all of it may take
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = seconds)]
    total: i64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Probe {
    pub fn run(self) -> ExitCode {
        let as_json = self.json;
        match self.carried_out() {
            Ok(report) => {
                if as_json {
                    print(format_args!("{}\n", json!(report)));
                } else {
                    print(report.text());
                }
                if report.through > 0 {
                    ExitCode::FAILURE
                } else if report.incomplete {
                    ExitCode::from(UNTOLD)
                } else {
                    ExitCode::SUCCESS
                }
            }
            Err(why) => {
                if as_json {
                    print(format_args!("{}\n", json!({"error": why})));
                } else {
                    fail(format_args!("error: {why}"));
                }
                ExitCode::from(UNTOLD)
            }
        }
    }

    fn carried_out(self) -> Result<Report, String> {
        let compiled = match self.policy.is_empty() {
            true => None,
            false => {
                let origin = Origin { stubs: true, lints: false, ..self.policy.into() };
                Some(load(&origin).ok_or("the policy does not load")?)
            }
        };
        let token = match &self.token_file {
            Some(path) => {
                let read = std::fs::read_to_string(path);
                Some(read.map_err(|error| format!("{} cannot be read: {}", path.display(), error.kind()))?)
            }
            None => self.token,
        };
        let trust = match (self.ca, self.insecure) {
            (Some(path), _) => Trust::File(path),
            (None, true) => Trust::Anyone,
            (None, false) => Trust::System,
        };
        let time = |seconds: i64| Duration::from_secs(u64::try_from(seconds).unwrap_or_default().max(1));
        let options = Options {
            url: self.url,
            host: self.host,
            public: self.public,
            protected: self.protected,
            headers: self.headers,
            token: token.map(|token| token.trim().to_owned()),
            upstream: self.upstream,
            portcullis: self.portcullis,
            gateway: self.gateway,
            trust,
            deadline: time(self.timeout),
            total: time(self.total),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        runtime.block_on(probe(&options, compiled.as_ref())).map_err(|error| error.to_string())
    }
}
