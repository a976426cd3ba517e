//! `portcullis check`: all that is wrong with a policy, or what each of its routes asks for.

mod gateway;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::{PolicyFile, count, load, print};
use crate::clock;
use crate::config::effective::Above;
use crate::config::envoy::is_finding;
use crate::config::lint::is_lint;
use crate::config::{Compiled, Effective, Origin, Problem, Problems, Severity};

/// The widest column that others are aligned to.
const WIDEST: usize = 40;

#[derive(Args)]
pub(super) struct Check {
    #[command(flatten)]
    policy: PolicyFile,
    /// An Envoy configuration (YAML, JSON or a config dump) to hold against the policy
    #[arg(long, value_name = "FILE")]
    gateway: Option<PathBuf>,
    /// End with 1 where there is a warning
    #[arg(long)]
    deny_warnings: bool,
    /// Print the issuers that name a provider as the policy would say them without, in place of the routes
    #[arg(long, conflicts_with = "gateway")]
    explain_presets: bool,
    /// How to say it
    #[arg(long, value_enum, default_value_t = Form::Text)]
    format: Form,
    /// Read what `${env:NAME}` and `${file:path}` stand for as stubs where it is not there
    #[arg(long)]
    stub_secrets: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Form {
    /// For reading: problems on standard error, routes on standard output
    Text,
    /// One JSON object on standard output
    Json,
}

impl Check {
    pub fn run(self) -> ExitCode {
        let origin = Origin { stubs: self.stub_secrets, ..self.policy.origin() };
        if let Some(gateway) = &self.gateway {
            return gateway::run(gateway, &self.policy, &origin, self.format, self.deny_warnings);
        }
        let compiled = match self.format {
            Form::Text if self.explain_presets => load(&origin).inspect(|compiled| print(presets(compiled))),
            Form::Text => load(&origin).inspect(|compiled| print(text(compiled))),
            Form::Json => {
                let loaded = origin.load().map(|compiled| compiled.warned_at(clock::now()));
                let told = match &loaded {
                    Ok(compiled) => json(compiled),
                    Err(problems) => told(problems),
                };
                print(format_args!("{told}\n"));
                loaded.ok()
            }
        };
        let passes = compiled.is_some_and(|compiled| !self.deny_warnings || compiled.warnings.is_empty());
        if passes { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// The issuers of named providers, as YAML that loads to the same issuers.
fn presets(compiled: &Compiled) -> String {
    let mut text =
        String::from(if compiled.presets.is_empty() { "# no issuer names a provider\n" } else { "issuers:\n" });
    for (name, preset) in &compiled.presets {
        // Writing to a text does not fail.
        let _ = write!(text, "  {}: # {}\n{}", json!(&**name), preset.provider, preset.explained);
    }
    text
}

fn text(compiled: &Compiled) -> String {
    let policy = &*compiled.policy;
    let table = Effective::of(compiled);
    let width = |texts: &mut dyn Iterator<Item = &str>| {
        texts.map(|text| text.chars().count()).filter(|width| *width <= WIDEST).max().unwrap_or_default()
    };
    let keys = width(&mut table.rows.iter().map(|row| &*row.key));
    let ruled = width(&mut table.rows.iter().map(|row| &*row.rule));
    let mut text = String::new();
    for row in &table.rows {
        let issuers = row.issuers.join(", ");
        let line = format!("{:keys$}  {:ruled$}  {issuers}", row.key, row.rule);
        // Writing to a text does not fail.
        let _ = writeln!(text, "{}", line.trim_end());
        for (name, also) in &row.also {
            let _ = writeln!(text, "{:keys$}  and, by its {name}: {also}", "");
        }
        for Above { name, rule } in table.guards_of(row) {
            let _ = writeln!(text, "{:keys$}  and, by the guard {name}: {rule}", "");
        }
    }
    for Above { name, rule } in &table.forbids {
        let _ = writeln!(text, "every route: never where {name}: {rule}");
    }
    let (routes, issuers) = (count(policy.routes.len(), "route"), count(policy.issuers.len(), "issuer"));
    let tests = count(compiled.tests.len(), "test");
    let _ = writeln!(text, "policy {}: {routes}, {issuers}, {tests}", policy.id);
    text
}

fn told(problems: &Problems) -> Value {
    let told = |problem: &Problem| {
        let mut told = json!(problem);
        let has_page = problem.severity == Severity::Warning && is_lint(problem.code);
        if (has_page || is_finding(problem.code))
            && let Some(members) = told.as_object_mut()
        {
            members.insert("doc".into(), format!("docs/lints.md#{}", problem.code).into());
        }
        told
    };
    let list: Vec<Value> = problems.as_slice().iter().map(told).collect();
    json!({"ok": !problems.has_errors(), "problems": list, "more_problems": problems.untold()})
}

fn json(compiled: &Compiled) -> Value {
    let policy = &*compiled.policy;
    let table = Effective::of(compiled);
    let named = |above: &Above| json!({"name": &*above.name, "rule": &*above.rule});
    let routes = table.rows.iter().map(|row| {
        let also: Vec<Value> = row.also.iter().map(|(name, text)| json!({"name": name, "text": text})).collect();
        json!({
            "key": &*row.key,
            "methods": row.methods,
            "host": row.host,
            "path": row.path,
            "rule": row.rule,
            "also": also,
            "issuers": row.issuers.iter().map(|name| &**name).collect::<Vec<_>>(),
            "guards": table.guards_of(row).map(named).collect::<Vec<_>>(),
            "file": &*row.at.file,
            "line": row.at.span.line,
        })
    });
    let routes: Vec<Value> = routes.collect();
    let forbids: Vec<Value> = table.forbids.iter().map(named).collect();
    let mut told = told(&compiled.warnings);
    if let Some(members) = told.as_object_mut() {
        members.insert("policy".into(), policy.id.to_string().into());
        members.insert("routes".into(), routes.into());
        members.insert("forbids".into(), forbids.into());
        members.insert("stubs".into(), compiled.stubs.iter().map(|name| &**name).collect());
        members.insert("tests".into(), compiled.tests.len().into());
        let presets = compiled.presets.iter().map(
            |(name, preset)| json!({"issuer": &**name, "provider": preset.provider, "explained": &*preset.explained}),
        );
        members.insert("presets".into(), presets.collect());
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::compile;

    fn compiled() -> Compiled {
        let text = "
issuers: {main: {url: https://id.example.com, audience: shop, roles: roles}}
gateways: {edge: {by: unix, believes: [client_address]}}
routes:
  GET /health: public
  /admin/**: role:admin
  /inside: network:10.0.0.0/8
guards: {/admin/**: role:staff or role:admin}
deny: {suspended: claim:suspended=true}
";
        let (compiled, problems) = compile("p.yaml", text, &|_| Err(std::io::ErrorKind::NotFound.into()));
        compiled.unwrap_or_else(|| panic!("{}", problems.render(false)))
    }

    #[test]
    fn what_a_preset_comes_to_is_shown_as_the_documentation_shows_it() {
        let text = "
issuers:
  main: {provider: cognito, pool: eu-west-1_AbCdEfGhI, audience: 4fmvht22tjrgd7d3k3tghttct7}
routes: {/a: signed-in}
";
        let (compiled, _) = compile("p.yaml", text, &|_| Err(std::io::ErrorKind::NotFound.into()));
        let shown = presets(&compiled.unwrap());
        assert!(include_str!("../../docs/providers.md").contains(&format!("--explain-presets\n{shown}```")), "{shown}");
        assert!(presets(&super::tests::compiled()).starts_with("# no issuer"));
    }

    #[test]
    fn each_route_is_shown_with_all_that_it_asks_for() {
        let compiled = compiled();
        let expected = format!(
            "\
GET /health  public
/admin/**    role:admin                          main
             and, by the guard /admin/**: role:staff or role:admin
/inside      signed-in and (network:10.0.0.0/8)  main
every route: never where suspended: claim:suspended=true
policy {}: 3 routes, 1 issuer, 0 tests
",
            compiled.policy.id
        );
        assert_eq!(text(&compiled), expected);
    }

    #[test]
    fn the_same_is_told_to_tools() {
        let told = json(&compiled());
        assert_eq!(told["ok"], true);
        assert_eq!(told["routes"][1]["guards"][0]["rule"], "role:staff or role:admin");
        assert_eq!((&told["routes"][0]["methods"][0], &told["routes"][0]["line"]), (&"GET".into(), &5.into()));
        assert_eq!(told["routes"][2]["rule"], "signed-in and (network:10.0.0.0/8)");
        let (_, problems) = compile("p.yaml", "routes: {/a: rule:x}", &|_| Err(std::io::ErrorKind::NotFound.into()));
        let told = super::told(&problems);
        assert_eq!((&told["ok"], &told["problems"][0]["code"]), (&false.into(), &"bad_rule".into()));
        let (_, problems) = compile("p.yaml", "routes: {/a/: public}", &|_| Err(std::io::ErrorKind::NotFound.into()));
        assert_eq!(super::told(&problems)["problems"][0]["doc"], "docs/lints.md#trailing_slash");
    }
}
