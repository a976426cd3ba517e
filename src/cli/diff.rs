//! `portcullis diff`: who gains and who loses which routes between two policies.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::json;

use super::{print, tell};
use crate::config::{Compiled, Origin};
use crate::review::{Comparison, RouteChange, Side, Verdict, compare};

/// What the command exits with where a policy does not load.
const CANNOT_TELL: u8 = 2;

/// Exits with 0 where the policies were compared, with 1 where `--fail-on-widening` is given and someone may pass who did
/// not, and with 2 where one of them does not load.
#[derive(Args)]
pub(super) struct Diff {
    /// The policy as it was
    old: PathBuf,
    /// The policy as it is to be
    new: PathBuf,
    /// Exit with 1 where someone may pass who did not: `widened` or `changed`
    #[arg(long)]
    fail_on_widening: bool,
    /// How to say it
    #[arg(long, value_enum, default_value_t = Form::Text)]
    format: Form,
}

#[derive(Clone, Copy, ValueEnum)]
enum Form {
    /// For reading
    Text,
    /// One JSON object
    Json,
}

impl Diff {
    pub fn run(self) -> ExitCode {
        let (Some(old), Some(new)) = (read(&self.old), read(&self.new)) else { return ExitCode::from(CANNOT_TELL) };
        let comparison = compare(&old, &new);
        match self.format {
            Form::Text => print(text(&comparison)),
            Form::Json => print(format_args!("{}\n", json!(comparison))),
        }
        if self.fail_on_widening && comparison.verdict.may_widen() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
}

/// Loads a policy; its warnings are those of `check`, and not told here.
fn read(path: &Path) -> Option<Compiled> {
    Origin::from(vec![path.to_owned()]).load().inspect_err(tell).ok()
}

fn text(comparison: &Comparison) -> String {
    let mut text = String::new();
    for change in &comparison.routes {
        route(change, &mut text);
    }
    for change in &comparison.site {
        let name = if change.name.is_empty() { String::new() } else { format!(" {}", change.name) };
        // Writing to a text does not fail.
        let _ = writeln!(text, "{:8}  {}{name}: {}", change.verdict.word(), change.section, change.text);
    }
    for (what, keys) in [("new keys", &comparison.added), ("removed keys", &comparison.removed)] {
        if !keys.is_empty() {
            let _ = writeln!(text, "{what}: {}", keys.join(", "));
        }
    }
    if comparison.too_large {
        text.push_str("the routes were not compared: there are too many for it\n");
    }
    let all = comparison.routes.iter().map(|change| change.verdict).chain(comparison.site.iter().map(|c| c.verdict));
    let count = |wanted: Verdict| all.clone().filter(|verdict| *verdict == wanted).count();
    let (widened, narrowed, changed) = (count(Verdict::Widened), count(Verdict::Narrowed), count(Verdict::Changed));
    let _ = writeln!(text, "{}: {widened} widened, {narrowed} narrowed, {changed} changed", comparison.verdict.word());
    text
}

fn route(change: &RouteChange, text: &mut String) {
    let key = |side: &Option<Side>| side.as_ref().map_or("denied", |side| &*side.key).to_owned();
    let asks = |side: &Option<Side>| side.as_ref().map_or("denied", |side| &*side.asks).to_owned();
    let (old, new) = (key(&change.old), key(&change.new));
    let keys = if old == new { new } else { format!("{old} → {new}") };
    let _ = writeln!(text, "{:8}  {keys}", change.verdict.word());
    let (old, new) = (asks(&change.old), asks(&change.new));
    let rule = if old == new { new } else { format!("{old} → {new}") };
    for (word, value) in [("rule", &rule), ("gains", &change.gains), ("loses", &change.loses)] {
        let _ = writeln!(text, "          {word:5}  {value}");
    }
    for witness in [&change.passes_now, &change.passed_before].into_iter().flatten() {
        let _ = writeln!(text, "          {witness}");
    }
}
