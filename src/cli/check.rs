//! `portcullis check`: all that is wrong with a policy, or what each of its routes asks for.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::{PolicyFile, count, print};
use crate::authz::policy::{Policy, Route};
use crate::authz::route::Pattern;
use crate::authz::rule::Rule;
use crate::config::{Compiled, Problems, load};

/// The widest column that others are aligned to.
const WIDEST: usize = 40;

#[derive(Args)]
pub(super) struct Check {
    #[command(flatten)]
    policy: PolicyFile,
    /// How to say it
    #[arg(long, value_enum, default_value_t = Form::Text)]
    format: Form,
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
        let compiled = match self.format {
            Form::Text => self.policy.load().inspect(|compiled| print(text(compiled))),
            Form::Json => {
                let loaded = load(&self.policy.path);
                let told = match &loaded {
                    Ok(compiled) => json(compiled),
                    Err(problems) => told(problems),
                };
                print(format_args!("{told}\n"));
                loaded.ok()
            }
        };
        if compiled.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// The guards that may cover a route, by their places in the policy.
fn guards_of<'p>(policy: &'p Policy, patterns: &[Option<Pattern>], route: &Route) -> Vec<(&'p str, String)> {
    let Ok(key) = Pattern::parse(&route.key) else { return Vec::new() };
    let guards = policy.guards.iter().zip(patterns);
    let covering = guards.filter(|(_, pattern)| pattern.as_ref().is_some_and(|pattern| pattern.may_meet(&key)));
    covering.map(|(guard, _)| (&*guard.name, guard.rule.to_string())).collect()
}

fn patterns(policy: &Policy) -> Vec<Option<Pattern>> {
    policy.guards.iter().map(|guard| Pattern::parse(&guard.name).ok()).collect()
}

fn issuers_of<'p>(policy: &'p Policy, route: &Route) -> Vec<&'p str> {
    let issuers = route.issuers.iter().filter_map(|id| policy.issuers.get(usize::from(id.0)));
    issuers.map(|issuer| &*issuer.name).collect()
}

/// A rule as it comes to: one word more than it says, that somebody must be signed in.
fn rule_of(rule: &Rule) -> String {
    match rule.expr() {
        Some(expr) if expr.without_identity() => format!("signed-in and ({rule})"),
        Some(_) | None => rule.to_string(),
    }
}

fn text(compiled: &Compiled) -> String {
    let policy = &*compiled.policy;
    let patterns = patterns(policy);
    let rules: Vec<String> = policy.routes.iter().map(|route| rule_of(&route.rule)).collect();
    let width = |texts: &mut dyn Iterator<Item = &str>| {
        texts.map(|text| text.chars().count()).filter(|width| *width <= WIDEST).max().unwrap_or_default()
    };
    let keys = width(&mut policy.routes.iter().map(|route| &*route.key));
    let ruled = width(&mut rules.iter().map(|rule| &**rule));
    let mut text = String::new();
    for (route, rule) in policy.routes.iter().zip(&rules) {
        let issuers = issuers_of(policy, route).join(", ");
        let line = format!("{:keys$}  {rule:ruled$}  {issuers}", route.key);
        // Writing to a text does not fail.
        let _ = writeln!(text, "{}", line.trim_end());
        for (guard, rule) in guards_of(policy, &patterns, route) {
            let _ = writeln!(text, "{:keys$}  and, by the guard {guard}: {rule}", "");
        }
    }
    for forbid in &policy.forbids {
        let _ = writeln!(text, "every route: never where {}: {}", forbid.name, forbid.rule);
    }
    let (routes, issuers) = (count(policy.routes.len(), "route"), count(policy.issuers.len(), "issuer"));
    let tests = count(compiled.tests.len(), "test");
    let _ = writeln!(text, "policy {}: {routes}, {issuers}, {tests}", policy.id);
    text
}

fn told(problems: &Problems) -> Value {
    json!({"ok": !problems.has_errors(), "problems": problems, "more_problems": problems.untold()})
}

fn json(compiled: &Compiled) -> Value {
    let policy = &*compiled.policy;
    let patterns = patterns(policy);
    let named = |(name, rule): (&str, String)| json!({"name": name, "rule": rule});
    let routes = policy.routes.iter().map(|route| {
        let guards: Vec<Value> = guards_of(policy, &patterns, route).into_iter().map(named).collect();
        json!({
            "key": &*route.key,
            "rule": rule_of(&route.rule),
            "issuers": issuers_of(policy, route),
            "guards": guards,
        })
    });
    let routes: Vec<Value> = routes.collect();
    let forbids = policy.forbids.iter().map(|forbid| named((&forbid.name, forbid.rule.to_string())));
    let forbids: Vec<Value> = forbids.collect();
    let mut told = told(&compiled.warnings);
    if let Some(members) = told.as_object_mut() {
        members.insert("policy".into(), policy.id.to_string().into());
        members.insert("routes".into(), routes.into());
        members.insert("forbids".into(), forbids.into());
        members.insert("tests".into(), compiled.tests.len().into());
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
        assert_eq!(told["routes"][2]["rule"], "signed-in and (network:10.0.0.0/8)");
        let (_, problems) = compile("p.yaml", "routes: {/a: rule:x}", &|_| Err(std::io::ErrorKind::NotFound.into()));
        let told = super::told(&problems);
        assert_eq!((&told["ok"], &told["problems"][0]["code"]), (&false.into(), &"bad_rule".into()));
    }
}
