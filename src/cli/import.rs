//! `portcullis import`: Istio's policies, or Envoy's filters, as a policy file; what does not map is denied, and told.

mod area;
mod envoy;
mod formula;
mod istio;
mod say;
mod write;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::{fail, print};
use crate::config::compile;
use write::Read;

/// Exits with 1 where nothing can be made of the file; what did not map is told on standard error, and in the policy file.
#[derive(Args)]
pub(super) struct Import {
    /// Istio's RequestAuthentication and AuthorizationPolicy documents, or an Envoy configuration with jwt_authn and rbac
    file: PathBuf,
    /// Where to write the policy file, which must not be there yet; else standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Istio: the namespace of the workload that the policy file is for
    #[arg(long)]
    namespace: Option<String>,
    /// Istio: the selector of that workload, such as app=httpbin
    #[arg(long)]
    selector: Option<String>,
}

/// A policy file, and what did not map.
#[derive(Debug)]
struct Imported {
    text: String,
    notes: Vec<write::Note>,
}

impl Import {
    pub fn run(self) -> ExitCode {
        let name = self.file.display().to_string();
        let text = match std::fs::read_to_string(&self.file) {
            Ok(text) => text,
            Err(error) => return fail(format_args!("{name}: cannot be read: {}", error.kind())),
        };
        let workload = istio::Workload { namespace: self.namespace, selector: self.selector };
        let imported = match imported(&name, &text, &workload) {
            Ok(imported) => imported,
            Err(why) => return fail(format_args!("{name}: {why}")),
        };
        match &self.output {
            None => print(&imported.text),
            Some(path) => {
                let file = std::fs::File::create_new(path);
                let written = file.and_then(|mut file| std::io::Write::write_all(&mut file, imported.text.as_bytes()));
                if let Err(error) = written {
                    return fail(format_args!("{}: cannot be written: {}", path.display(), error.kind()));
                }
            }
        }
        for note in &imported.notes {
            // Told, though it is no failure: nobody is left to tell where this fails.
            let _ = fail(format_args!("{}: {}", note.place, note.why));
        }
        ExitCode::SUCCESS
    }
}

fn imported(name: &str, text: &str, workload: &istio::Workload) -> Result<Imported, String> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).map_err(|error| error.to_string())?;
    let mut read: Read = if documents.iter().any(istio::is_istio) {
        istio::read(&documents, workload)?
    } else {
        let none = "there is nothing here that is read: Istio's RequestAuthentication and AuthorizationPolicy, or Envoy's jwt_authn and rbac filters";
        envoy::read(&documents).ok_or(none)?
    };
    let text = write::policy(&mut read, name)?;
    let (compiled, problems) = compile(name, &text, &|_| Err(std::io::ErrorKind::NotFound.into()));
    match compiled {
        Some(_) => Ok(Imported { text, notes: read.notes }),
        None => Err(format!("what comes of it does not load, so it is not written:\n{}", problems.render(false))),
    }
}

#[cfg(test)]
mod tests;
