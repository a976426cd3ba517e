//! `portcullis check --gateway`: an Envoy configuration held against the policy that it is to ask about.

use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::{Form, told};
use crate::cli::{PolicyFile, count, fail, print, tell};
use crate::config::tree::decode;
use crate::config::{Compiled, Origin, Problems, Severity, envoy};

/// Looks at one file; the policy is left out where none is named and none is in the folder.
pub(super) fn run(file: &Path, policy: &PolicyFile, origin: &Origin, format: Form, deny_warnings: bool) -> ExitCode {
    let bytes = match std::fs::read(file) {
        Ok(bytes) => bytes,
        Err(error) => return fail(format_args!("{} cannot be read: {}", file.display(), error.kind())),
    };
    let text = match decode(&bytes) {
        Ok(text) => text,
        Err(problem) => return fail(format_args!("{}: {}", file.display(), problem.message)),
    };
    let loaded = policy.is_there().then(|| origin.load()).transpose();
    let (compiled, of_policy) = match loaded {
        Ok(compiled) => (compiled, Problems::default()),
        Err(problems) => (None, problems),
    };
    let known = compiled.as_ref().map(|compiled| &*compiled.policy);
    let found = envoy::inspect(&file.display().to_string(), text, known);
    let of_policy = compiled.as_ref().map_or(&of_policy, |compiled| &compiled.warnings);
    match format {
        Form::Text => {
            tell(of_policy);
            tell(&found);
            print(summary(file, compiled.as_ref(), &found));
        }
        Form::Json => print(format_args!("{}\n", told_both(of_policy, &found))),
    }
    let both = [of_policy, &found];
    let fails = both.iter().any(|problems| problems.has_errors() || (deny_warnings && !problems.is_empty()));
    if fails { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn summary(file: &Path, compiled: Option<&Compiled>, found: &Problems) -> String {
    let number = |severity| found.as_slice().iter().filter(|problem| problem.severity == severity).count();
    let (errors, warnings) = (number(Severity::Error), number(Severity::Warning));
    let with =
        compiled.map_or_else(|| "without a policy".into(), |compiled| format!("with policy {}", compiled.policy.id));
    format!("{} {with}: {}, {}\n", file.display(), count(errors, "error"), count(warnings, "warning"))
}

fn told_both(of_policy: &Problems, found: &Problems) -> Value {
    let list =
        |problems: &Problems| told(problems).get("problems").and_then(Value::as_array).cloned().unwrap_or_default();
    let problems: Vec<Value> = list(of_policy).into_iter().chain(list(found)).collect();
    let untold = of_policy.untold().saturating_add(found.untold());
    json!({"ok": !of_policy.has_errors() && !found.has_errors(), "problems": problems, "more_problems": untold})
}
