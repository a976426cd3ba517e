//! Decisions for reading: one line each, made of the lines of the audit trail.

use std::io::{Result, Write};

use serde_json::Value;

/// Takes the JSON lines of the audit trail and writes a line for reading in place of each.
#[derive(Debug)]
pub struct Narrator<W>(W);

impl<W: Write> Narrator<W> {
    /// One that writes here.
    pub const fn new(to: W) -> Self {
        Self(to)
    }
}

impl<W: Write> Write for Narrator<W> {
    /// Takes whole lines only, as the audit trail writes them.
    fn write(&mut self, lines: &[u8]) -> Result<usize> {
        let mut told = String::new();
        for line in lines.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()) {
            told.push_str(&narrated(&line));
            told.push('\n');
        }
        self.0.write_all(told.as_bytes())?;
        Ok(lines.len())
    }

    fn flush(&mut self) -> Result<()> {
        self.0.flush()
    }
}

/// `deny   GET /secret-data      main/u1      rule_unmet (role:premium)`. The route is the policy's, not the path that
/// was asked for: a path may hold what nobody wants on a screen.
fn narrated(line: &Value) -> String {
    let text = |name: &str, absent: &str| plain(line.get(name).and_then(Value::as_str).unwrap_or(absent));
    let (method, route) = (text("method", "-"), text("route", "(no route)"));
    // A route's key may name its method itself.
    let asked = if route.starts_with(&format!("{method} ")) { route } else { format!("{method} {route}") };
    let rule = text("rule", "");
    let why = match (line.get("reason").and_then(Value::as_str), rule.as_str()) {
        (None, rule) => rule.to_owned(),
        (Some(reason), "") => plain(reason),
        (Some(reason), rule) => format!("{} ({rule})", plain(reason)),
    };
    let (verdict, caller) = (text("verdict", "-"), text("caller", "nobody"));
    format!("{verdict:<5}  {asked:<24}  {caller:<10}  {why}").trim_end().to_owned()
}

/// Text without anything that a terminal would obey.
fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() || ('\u{202a}'..='\u{2069}').contains(&c) { '\u{fffd}' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_decision_is_one_line() {
        let mut told = Vec::new();
        let lines = concat!(
            r#"{"caller":"main/u1","method":"GET","route":"/secret-data","rule":"role:premium","verdict":"allow","reason":null}"#,
            "\n",
            r#"{"caller":null,"method":"GET","route":"GET /a","rule":"role:x","verdict":"deny","reason":"credential_missing"}"#,
            "\n",
            r#"{"caller":null,"method":"PUT","route":null,"rule":null,"verdict":"deny","reason":"no_route"}"#,
            "\n",
        );
        Narrator::new(&mut told).write_all(lines.as_bytes()).unwrap();
        let told = String::from_utf8(told).unwrap();
        let told: Vec<Vec<&str>> = told.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(told[0], ["allow", "GET", "/secret-data", "main/u1", "role:premium"]);
        assert_eq!(told[1], ["deny", "GET", "/a", "nobody", "credential_missing", "(role:x)"]);
        assert_eq!(told[2], ["deny", "PUT", "(no", "route)", "nobody", "no_route"]);
    }

    #[test] // S03
    fn what_a_caller_sends_does_not_command_the_terminal() {
        let line =
            serde_json::json!({"method": "GET\n\u{1b}[2J", "caller": "main/\u{9b}31m\u{202e}", "verdict": "deny"});
        let told = narrated(&line);
        assert!(!told.chars().any(|c| c.is_control() || c == '\u{202e}'), "{told:?}");
    }
}
