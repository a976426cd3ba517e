//! `portcullis test --openapi`: operations of an API that no route covers, or that one covers otherwise than it says.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::cli::{count, fail, print};
use crate::config::Compiled;
use crate::review::openapi::{Coverage, Finding, Operation, examine};

#[derive(Args)]
pub(super) struct Openapi {
    /// In place of the tests: which operations of this OpenAPI 3 description (YAML or JSON) no route covers. Exits with 1
    /// where there are such, or where a secured one is open
    #[arg(long, value_name = "FILE")]
    openapi: Option<PathBuf>,
    /// How to say it
    #[arg(long, value_enum, default_value_t = Form::Text, requires = "openapi")]
    format: Form,
}

#[derive(Clone, Copy, ValueEnum)]
enum Form {
    /// For reading
    Text,
    /// One JSON object
    Json,
}

impl Openapi {
    /// What the command comes to, where a description was given.
    pub fn run(&self, compiled: &Compiled) -> Option<ExitCode> {
        let file = self.openapi.as_ref()?;
        let name = file.display();
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) => return Some(fail(format_args!("{name}: cannot be read: {}", error.kind()))),
        };
        let description: Value = match serde_saphyr::from_str(&text) {
            Ok(description) => description,
            Err(error) => return Some(fail(format_args!("{name}: {error}"))),
        };
        let public = compiled.settings.public_url.as_deref().and_then(|url| url.split_once("://"));
        let host = public.map(|(_, host)| host.split(':').next().unwrap_or(host));
        let coverage = match examine(&compiled.policy, host, &description) {
            Ok(coverage) => coverage,
            Err(why) => return Some(fail(format_args!("{name}: {why}"))),
        };
        match self.format {
            Form::Text => print(self::text(&coverage)),
            Form::Json => print(format_args!("{}\n", json!(coverage))),
        }
        let failed = coverage.findings.iter().any(|operation| operation.finding.is_failure());
        Some(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

fn text(coverage: &Coverage) -> String {
    let mut text = String::new();
    for operation in &coverage.findings {
        let Operation { finding, method, path, route } = operation;
        let route = route.as_deref().unwrap_or_default();
        let why = match finding {
            Finding::Uncovered => "no route covers it: everyone is denied".to_owned(),
            Finding::OpenButSecured => format!("it has `security`, and {route} lets everyone pass"),
            Finding::ClosedButPublic => format!("it needs no security, and {route} needs an identity"),
            Finding::CatchAll => format!("only {route} covers it"),
            Finding::NotRead => "it stands in another file, which is not read".to_owned(),
        };
        let asked = format!("{method} {path}");
        // Writing to a text does not fail.
        let _ = writeln!(text, "{}: {why}", asked.trim_start());
    }
    let failed = coverage.findings.iter().filter(|operation| operation.finding.is_failure()).count();
    let _ = writeln!(text, "{}, {failed} not covered as they say", count(coverage.operations, "operation"));
    text
}
