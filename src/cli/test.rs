//! `portcullis test`: a policy's own tests, with throw-away keys, through the very code that serves traffic.

mod openapi;

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::{PolicyFile, print};
use crate::authz::decision::{Decision, Grant, RuleRef, Verdict};
use crate::authz::policy::Policy;
use crate::config::Compiled;
use crate::config::file::{Expectation, Row, Who};
use crate::dev::rehearsal::{Call, Rehearsal};

#[derive(Args)]
pub(super) struct Test {
    #[command(flatten)]
    policy: PolicyFile,
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
        let Some(compiled) = self.policy.load() else { return ExitCode::FAILURE };
        if let Some(exit) = self.openapi.run(&compiled) {
            return exit;
        }
        let report = report(&compiled);
        print(&report.text);
        if report.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

pub(super) fn report(compiled: &Compiled) -> Report {
    let mut report = Report { text: String::new(), failed: 0 };
    let name = compiled.files.first().map(|file| file.display().to_string()).unwrap_or_default();
    let rehearsal = Rehearsal::new(compiled);
    for row in &compiled.tests {
        if let Err(why) = try_row(&rehearsal, row) {
            report.failed = report.failed.saturating_add(1);
            let (line, asked) = (row.span.line, asked(row));
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
        browser: expected == Expectation::Redirect,
        headers: &[],
    };
    let decision = rehearsal.ask(&call).map_err(|impossible| format!("cannot be tried: {impossible}"))?;
    if !is_as_expected(expected, decision.verdict()) {
        let why = why(rehearsal.snapshot().policy(), &decision);
        return Err(format!("expected {}, got {}: {why}", wanted(expected), got(decision.verdict())));
    }
    match decision.verdict() {
        Verdict::Allow(grant) => headers(row, grant),
        Verdict::Deny(_) if row.headers.is_empty() => Ok(()),
        Verdict::Deny(_) => Err("headers are expected, and nothing reaches the upstream where it is denied".into()),
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
        Some(RuleRef::Route(id)) => policy.route(id).map(|route| format!("{}: {}", route.key, route.rule)),
        Some(RuleRef::Guard(at)) => named(&policy.guards, at).map(|guard| format!("guard {guard}")),
        Some(RuleRef::Forbid(at)) => named(&policy.forbids, at).map(|forbid| format!("forbid {forbid}")),
        None => basis.route.and_then(|id| policy.route(id)).map(|route| format!("{}: {}", route.key, route.rule)),
    };
    let rule = rule.map(|rule| format!("({rule})")).unwrap_or_default();
    format!("{meaning} {rule}").trim().to_owned()
}

fn named(rules: &[crate::authz::policy::Named], at: u32) -> Option<String> {
    let named = rules.get(usize::try_from(at).ok()?)?;
    Some(format!("{}: {}", named.name, named.rule))
}

fn headers(row: &Row, grant: &Grant) -> Result<(), String> {
    for (name, expected) in &row.headers {
        let lower = name.value.to_ascii_lowercase();
        let set = grant.set().iter().find(|(set, _)| **set == *lower.as_bytes());
        let set = set.map(|(_, value)| String::from_utf8_lossy(value));
        if set.as_deref() != expected.as_deref() {
            let shown = |value: Option<&str>| value.map_or("nothing".to_owned(), |value| format!("`{value}`"));
            let (expected, got) = (shown(expected.as_deref()), shown(set.as_deref()));
            return Err(format!("the upstream gets {got} in {}, expected was {expected}", name.value));
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
        let report = report(&compiled.unwrap_or_else(|| panic!("{}", problems.render(&text, false))));
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
