//! `portcullis test`: a policy's own tests, with throw-away keys, through the very code that serves traffic.

mod openapi;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use bytes::Bytes;
use clap::Args;
use serde_json::Value;

use super::{PolicyFile, environments, load, print, tell};
use crate::authz::decision::{Decision, Grant, RuleRef, Verdict};
use crate::authz::mint::claims_of;
use crate::authz::policy::Policy;
use crate::config::file::{Expectation, Named, Row, Who};
use crate::config::{Compiled, Origin, Variables};
use crate::dev::rehearsal::{Call, Rehearsal};

#[derive(Args)]
pub(super) struct Test {
    #[command(flatten)]
    policy: PolicyFile,
    /// A file of environment variables (`NAME=value` a line) to run the tests with, in place of those of this process;
    /// given again, another one, and what differs between them is shown
    #[arg(long = "env", value_name = "FILE")]
    environments: Vec<PathBuf>,
    /// Read what `${env:NAME}` and `${file:path}` stand for as stubs where it is not there
    #[arg(long)]
    stub_secrets: bool,
    #[command(flatten)]
    openapi: openapi::Openapi,
}

/// What the tests of a policy came to.
pub(super) struct Report {
    /// A line for each test that failed, and the summary.
    pub(super) text: String,
    pub(super) failed: usize,
}

impl Test {
    pub fn run(self) -> ExitCode {
        let origin = Origin { stubs: self.stub_secrets, ..self.policy.origin() };
        if !self.environments.is_empty() {
            return self.everywhere(&origin);
        }
        let Some(compiled) = load(&origin) else { return ExitCode::FAILURE };
        if let Some(exit) = self.openapi.run(&compiled) {
            return exit;
        }
        let report = report(&compiled);
        print(&report.text);
        if report.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    /// Runs the tests in each environment, then shows what differs between them.
    fn everywhere(&self, origin: &Origin) -> ExitCode {
        let mut loaded = Vec::with_capacity(self.environments.len());
        let mut good = true;
        for path in &self.environments {
            let name = path.display().to_string();
            let variables = match environments::variables(path) {
                Ok(variables) => Variables::These(Arc::new(variables)),
                Err(problems) => {
                    tell(&problems);
                    good = false;
                    continue;
                }
            };
            let Some(compiled) = load(&Origin { variables, ..origin.clone() }) else {
                print(format_args!("{name}: the policy does not load\n"));
                good = false;
                continue;
            };
            let report = report(&compiled);
            good &= report.failed == 0;
            let lines: String = report.text.lines().map(|line| format!("{name}: {line}\n")).collect();
            print(lines);
            loaded.push((name, compiled));
        }
        if loaded.len() > 1 {
            print(environments::difference(&loaded));
        }
        if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

pub(super) fn report(compiled: &Compiled) -> Report {
    let mut report = Report { text: String::new(), failed: 0 };
    let rehearsal = Rehearsal::new(compiled);
    for row in &compiled.tests {
        let then = row.at.map(|at| Rehearsal::at(compiled, at));
        if let Err(why) = try_row(then.as_ref().unwrap_or(&rehearsal), row) {
            report.failed = report.failed.saturating_add(1);
            let (line, asked) = (row.span.line, asked(row));
            let name = compiled.warnings.sources().name(row.span.file);
            // Writing to a text does not fail.
            let _ = writeln!(report.text, "{name}:{line}: {asked}: {why}");
        }
    }
    let passed = compiled.tests.len().saturating_sub(report.failed);
    let _ = writeln!(report.text, "{passed} passed, {} failed", report.failed);
    if compiled.tests.is_empty() {
        report.text.push_str("the policy has no tests; the first could be\n");
        report.text.push_str("tests:\n  - [anonymous, GET /, deny]\n");
    }
    report
}

/// Who asks for what, as the row says it.
fn asked(row: &Row) -> String {
    let ask = &row.ask.value;
    let host = ask.host.as_deref().unwrap_or_default();
    let mut asked = format!("{} {host}{} by ", ask.method, ask.target);
    match &row.who.value {
        Who::Anonymous => asked.push_str("anonymous"),
        Who::Token { issuer, roles, claims } => {
            let mut all = claims.clone();
            if let Some(issuer) = issuer {
                all.insert("iss".into(), Value::from(&*issuer.value));
            }
            if let Some(roles) = roles {
                all.insert("roles".into(), roles.iter().map(|role| &**role).collect());
            }
            asked.push_str(&Value::Object(all).to_string());
        }
    }
    asked
}

/// Tries one row; says what is not as expected, and why.
fn try_row(rehearsal: &Rehearsal, row: &Row) -> Result<(), String> {
    let expected = row.expect.value;
    let call = Call {
        who: &row.who.value,
        ask: &row.ask.value,
        from: row.from.as_ref().map(|from| from.value),
        service: row.service.as_ref().map(|service| &*service.value),
        key: row.key.as_ref().map(|key| &*key.value),
        browser: expected == Expectation::Redirect,
        headers: &[],
        dpop: row.dpop,
        certificate: row.certificate,
    };
    let decision = rehearsal.ask(&call).map_err(|impossible| format!("cannot be tried: {impossible}"))?;
    if !is_as_expected(expected, decision.verdict()) {
        let why = why(rehearsal.snapshot().policy(), &decision);
        return Err(format!("expected {}, got {}: {why}", wanted(expected), got(decision.verdict())));
    }
    match decision.verdict() {
        Verdict::Allow(grant) => headers(row, grant).and_then(|()| minted(row, grant)),
        Verdict::Deny(_)
            if row.headers.is_empty() && row.responses.is_empty() && row.query.is_empty() && row.mint.is_none() =>
        {
            Ok(())
        }
        Verdict::Deny(_) => Err("something to be told is expected, and nothing is where it is denied".into()),
    }
}

fn is_as_expected(expected: Expectation, verdict: &Verdict) -> bool {
    match (expected, verdict) {
        (Expectation::Allow, Verdict::Allow(_)) => true,
        (Expectation::Redirect, Verdict::Deny(denial)) => denial.location().is_some(),
        (Expectation::Deny { status, reason }, Verdict::Deny(denial)) => {
            status.is_none_or(|status| status == denial.status()) && reason.is_none_or(|r| r == denial.reason())
        }
        (Expectation::Allow, Verdict::Deny(_))
        | (Expectation::Redirect | Expectation::Deny { .. }, Verdict::Allow(_)) => false,
    }
}

fn wanted(expected: Expectation) -> String {
    match expected {
        Expectation::Allow => "allow".into(),
        Expectation::Redirect => "redirect".into(),
        Expectation::Deny { status, reason } => {
            let status = status.map(|status| format!(" {status}")).unwrap_or_default();
            let reason = reason.map(|reason| format!(" {}", reason.code())).unwrap_or_default();
            format!("deny{status}{reason}")
        }
    }
}

fn got(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Allow(_) => "allow".into(),
        Verdict::Deny(denial) if denial.location().is_some() => "redirect".into(),
        Verdict::Deny(denial) => format!("deny {} {}", denial.status(), denial.reason().code()),
    }
}

/// What the decision rests on: the reason's meaning, and the rule that decided.
fn why(policy: &Policy, decision: &Decision) -> String {
    let basis = decision.basis();
    let meaning = basis.reason.map(|reason| reason.meaning()).unwrap_or_default();
    let rule = match basis.rule {
        Some(RuleRef::Route(id)) => policy.route(id).map(|route| format!("{}: {}", route.key, route.text)),
        Some(RuleRef::RouteForbid(id)) => {
            policy.route(id).and_then(|route| route.deny.as_ref()).map(|deny| deny.text.to_string())
        }
        Some(RuleRef::Guard(at)) => named(&policy.guards, at).map(|guard| format!("guard {guard}")),
        Some(RuleRef::Forbid(at)) => named(&policy.forbids, at).map(|forbid| format!("forbid {forbid}")),
        None => basis.route.and_then(|id| policy.route(id)).map(|route| format!("{}: {}", route.key, route.text)),
    };
    let rule = rule.map(|rule| format!("({rule})")).unwrap_or_default();
    format!("{meaning} {rule}").trim().to_owned()
}

fn named(rules: &[crate::authz::policy::Named], at: u32) -> Option<String> {
    let named = rules.get(usize::try_from(at).ok()?)?;
    Some(format!("{}: {}", named.name, named.rule))
}

fn headers(row: &Row, grant: &Grant) -> Result<(), String> {
    let text = |value: &Bytes| String::from_utf8_lossy(value).into_owned();
    let header = |told: &Bytes, name: &str| told.eq_ignore_ascii_case(name.as_bytes());
    compare("the upstream", &row.headers, |name| {
        grant.set().find(|(set, _)| header(set, name)).map(|(_, value)| text(value))
    })?;
    compare("the caller", &row.responses, |name| {
        grant.responses().find(|(set, _)| header(set, name)).map(|(_, value)| text(value))
    })?;
    compare("the query", &row.query, |name| {
        grant.query().find(|(set, _)| *set == name.as_bytes()).map(|(_, value)| text(value))
    })
}

/// Whether the upstream's token says what is expected of it.
fn minted(row: &Row, grant: &Grant) -> Result<(), String> {
    let Some(expected) = &row.mint else { return Ok(()) };
    let claims = grant.minted().and_then(|(_, token)| serde_json::from_slice::<Value>(&claims_of(token)?).ok());
    let (expected, claims) = match (expected, claims) {
        (None, None) => return Ok(()),
        (None, Some(_)) => return Err("a token is minted, and none is expected".into()),
        (Some(_), None) => return Err("no token is minted, and one is expected".into()),
        (Some(expected), Some(claims)) => (expected, claims),
    };
    for (name, expected) in expected {
        let got = claims.get(name).unwrap_or(&Value::Null);
        if got != expected {
            return Err(format!("the token that is minted has {got} in {name}, expected was {expected}"));
        }
    }
    Ok(())
}

fn compare(
    who: &str,
    expected: &[Named<Option<Box<str>>>],
    told: impl Fn(&str) -> Option<String>,
) -> Result<(), String> {
    for (name, expected) in expected {
        let got = told(&name.value);
        if got.as_deref() != expected.as_deref() {
            let shown = |value: Option<&str>| value.map_or("nothing".to_owned(), |value| format!("`{value}`"));
            let (expected, got) = (shown(expected.as_deref()), shown(got.as_deref()));
            return Err(format!("{who} gets {got} in {}, expected was {expected}", name.value));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::compile;

    const POLICY: &str = "
issuers: {main: {url: https://id.example.com, audience: shop, roles: roles}}
headers: {X-User-ID: sub}
routes:
  GET /health: public
  /admin: role:admin
sign_in: https://login.example.com/
";

    fn run(tests: &str) -> Vec<String> {
        let text = format!("{POLICY}{tests}");
        let (compiled, problems) = compile("p.yaml", &text, &|_| Err(std::io::ErrorKind::NotFound.into()));
        let report = report(&compiled.unwrap_or_else(|| panic!("{}", problems.render(false))));
        report.text.lines().map(Into::into).collect()
    }

    #[test]
    fn rows_that_come_out_as_expected_say_nothing() {
        let tests = "tests:
  - [anonymous, GET /health, allow, {X-User-ID: ~}]
  - [anonymous, GET /admin, deny 401 credential_missing]
  - [anonymous, GET /admin, redirect]
  - [{sub: u, roles: [admin]}, GET /admin, allow, {x-user-id: u}]
  - [{sub: u, roles: []}, GET /admin, deny]
";
        assert_eq!(run(tests), ["5 passed, 0 failed"]);
    }

    #[test]
    fn a_row_tells_what_the_caller_and_the_query_should_get() {
        let tests = "response_headers: {X-For: sub}
query: {set: {user: sub}}
tests:
  - {as: {sub: u1, roles: [admin]}, ask: GET /admin, expect: allow, response_headers: {x-for: u1, x-other: ~}, query: {user: u1, x: ~}}
  - {as: anonymous, ask: GET /health, expect: allow, response_headers: {X-For: x}}
  - {as: anonymous, ask: GET /health, expect: allow, query: {user: x}}
  - {as: anonymous, ask: GET /admin, expect: deny, query: {user: ~}}
";
        let said = run(tests);
        assert!(said[0].ends_with("the caller gets nothing in X-For, expected was `x`"), "{said:?}");
        assert!(said[1].ends_with("the query gets nothing in user, expected was `x`"), "{said:?}");
        assert!(said[2].contains("nothing is where it is denied"), "{said:?}");
        assert_eq!(said[3], "1 passed, 3 failed");
    }

    #[test]
    fn a_row_may_say_what_time_it_is() {
        let tests = "tests:
  - {as: {sub: u, roles: [admin], exp: 1800000300}, ask: GET /admin, expect: allow}
  - {as: {sub: u, roles: [admin], iat: 1800000000, exp: 1800000300}, ask: GET /admin, expect: deny 401 token_expired, at: 2027-01-15T08:06:00Z}
  - {as: {sub: u, roles: [admin]}, ask: GET /admin, expect: allow, at: 2031-01-01T00:00:00Z}
";
        assert_eq!(run(tests), ["3 passed, 0 failed"]);
    }

    #[test]
    fn a_row_that_fails_says_where_what_and_why() {
        let tests = "tests:
  - [anonymous, GET /admin, allow]
  - [{sub: u, roles: [user]}, GET /admin, deny 401]
  - [{sub: u, roles: [admin]}, GET /admin, allow, {X-User-ID: v}]
  - [{sub: u, roles: [admin]}, GET /admin, redirect]
  - [anonymous, POST /health, deny 403 rule_unmet]
";
        let said = run(tests);
        assert_eq!(
            said[0],
            "p.yaml:9: GET /admin by anonymous: expected allow, got deny 401 credential_missing: \
             The route needs an identity and no credential was presented. (/admin: role:admin)"
        );
        assert!(
            said[1].starts_with("p.yaml:10: GET /admin by {\"roles\":[\"user\"],\"sub\":\"u\"}: expected deny 401")
        );
        assert!(said[2].ends_with("the upstream gets `u` in X-User-ID, expected was `v`"), "{}", said[2]);
        assert!(said[3].contains("expected redirect, got allow"), "{}", said[3]);
        assert!(said[4].contains("got deny 403 no_route: No route matches."), "{}", said[4]);
        assert_eq!(said[5], "0 passed, 5 failed");
    }

    #[test]
    fn a_policy_without_tests_is_told_how_to_begin() {
        let said = run("");
        assert_eq!(said[0], "0 passed, 0 failed");
        assert!(said[1].contains("no tests"));
    }
}
