//! An explanation as plain text for a terminal. What came with the request can draw nothing on it.

use serde_json::Value;

use super::explanation::{Asking, Detail, Explanation, Gate, Told};
use super::told::Opened;

/// The widest column of words.
const WIDEST: usize = 32;

#[derive(Clone, Copy)]
enum Ink {
    None,
    Green,
    Red,
    Faint,
}

/// Lines of text.
struct Page {
    text: String,
    colours: bool,
}

impl Page {
    fn new(colours: bool) -> Self {
        Self { text: String::new(), colours }
    }

    fn line(&mut self, ink: Ink, text: &str) {
        let code = match ink {
            Ink::None => "",
            Ink::Green => "32",
            Ink::Red => "31",
            Ink::Faint => "2",
        };
        let text = visible(text.trim_end());
        if code.is_empty() || !self.colours || text.is_empty() {
            self.text.push_str(&text);
        } else {
            self.text.extend(["\u{1b}[", code, "m", &text, "\u{1b}[0m"]);
        }
        self.text.push('\n');
    }

    /// Names and values, aligned.
    fn details(&mut self, details: &[Detail]) {
        let width = widest(details.iter().map(|detail| detail.what.as_str()));
        for Detail { what, is } in details {
            self.line(Ink::None, &format!("              {what:width$}  {}", plain(is)));
        }
    }

    fn gate(&mut self, gate: &Gate) {
        let (ink, sign) = match gate.passed {
            Some(true) => (Ink::Green, "✓"),
            Some(false) => (Ink::Red, "✗"),
            None => (Ink::Faint, "·"),
        };
        let says = if gate.passed.is_none() { "not reached" } else { &gate.says };
        self.line(ink, &format!("{sign} {:10}  {says}", gate.gate));
        self.details(&gate.details);
        for rule in &gate.rules {
            self.rule(rule);
        }
    }

    fn rule(&mut self, asking: &Asking) {
        let Asking { kind, name, rule, holds, passed, words } = asking;
        let outcome = match (*kind, *holds) {
            ("forbid", "true") => "holds: forbidden",
            ("forbid", "unknown") => "cannot be told not to hold: forbidden",
            ("forbid", _) => "does not hold",
            (_, "true") => "holds",
            (_, "unknown") => "cannot be told",
            _ => "does not hold",
        };
        let sign = if *passed { "✓" } else { "✗" };
        let ink = if *passed { Ink::Green } else { Ink::Red };
        self.line(ink, &format!("            {sign} {kind} {name}: {rule}: {outcome}"));
        let width = widest(words.iter().map(|word| word.word.as_str()));
        for word in words {
            self.line(
                Ink::None,
                &format!("                {:width$}  {:7}  {}", word.word, word.answer, word.compared),
            );
        }
    }

    fn verdict(&mut self, told: &Told) {
        if told.allowed {
            self.line(Ink::Green, "ALLOWED");
            for (name, value) in &told.set {
                let replaced = if told.replaced.contains(name) { "  (in place of what the caller sent)" } else { "" };
                self.line(Ink::None, &format!("  sets      {name}: {value}{replaced}"));
            }
            if let Some(claims) = &told.minted {
                self.line(Ink::None, &format!("  mints     {}", plain(claims)));
            }
            for name in &told.removed {
                self.line(Ink::None, &format!("  removes   {name}, which the caller sent"));
            }
            if told.also_removed > 0 {
                let more = format!("  removes   {} more names, none of which the caller sent", told.also_removed);
                self.line(Ink::Faint, &more);
            }
            for (name, value) in &told.query {
                self.line(Ink::None, &format!("  query     {name}={value}"));
            }
            for name in &told.query_removed {
                self.line(Ink::None, &format!("  query     without {name}, which the caller sent"));
            }
            for (name, value) in &told.responses {
                self.line(Ink::None, &format!("  answers   {name}: {value}"));
            }
            for (name, value) in &told.metadata {
                self.line(Ink::None, &format!("  metadata  {name}: {}", plain(value)));
            }
            return;
        }
        let (reason, meaning) = (told.reason.unwrap_or_default(), told.meaning.unwrap_or_default());
        self.line(Ink::Red, &format!("DENIED {} {reason}: {meaning}", told.status));
        for near in &told.nearest {
            self.line(Ink::None, &format!("  would pass {near}"));
        }
        if let Some(location) = &told.location {
            self.line(Ink::None, &format!("  location          {location}"));
        }
        if let Some(challenge) = told.challenge.as_ref().filter(|_| told.location.is_none()) {
            self.line(Ink::None, &format!("  www-authenticate  {challenge}"));
        }
    }
}

/// One explanation.
pub(super) fn text(explanation: &Explanation, colours: bool) -> String {
    let Explanation { policy, time, notes, sent, request, gates, verdict } = explanation;
    let mut page = Page::new(colours);
    for note in notes {
        page.line(if note.starts_with("UNVERIFIED") { Ink::Red } else { Ink::None }, &format!("! {note}"));
    }
    match request {
        Some(asked) => {
            let query = asked.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
            page.line(Ink::None, &format!("{} {}{}{query}", asked.method, asked.host, asked.path));
            if let Some(address) = asked.address {
                page.line(Ink::None, &format!("  from {address}"));
            }
        }
        None => page.line(Ink::None, &format!("{sent}, as it was sent")),
    }
    page.line(Ink::Faint, &format!("  policy {policy}, {time}"));
    page.line(Ink::None, "");
    for gate in gates {
        page.gate(gate);
    }
    page.line(Ink::None, "");
    page.verdict(verdict);
    page.text
}

/// One decision id.
pub(super) fn opened(opened: &Opened, colours: bool) -> String {
    let mut page = Page::new(colours);
    page.line(Ink::None, &format!("decided  {} by the replica {}", opened.time, opened.replica));
    page.line(Ink::None, &format!("policy   {}", opened.policy));
    if !opened.same_policy {
        let warning = format!(
            "         not the policy of this file, which is {}: route and rule are what this file has in their places",
            opened.this_policy
        );
        page.line(Ink::Red, &warning);
    }
    page.line(Ink::None, &format!("route    {}", opened.route.as_deref().unwrap_or("none")));
    page.line(Ink::None, &format!("rule     {}", opened.rule.as_deref().unwrap_or("none was asked")));
    let (reason, meaning) = (opened.reason.unwrap_or_default(), opened.meaning.unwrap_or_default());
    if opened.allowed {
        page.line(Ink::Green, "ALLOWED");
    } else {
        page.line(Ink::Red, &format!("DENIED {} {reason}: {meaning}", opened.status));
    }
    if opened.may_redirect {
        page.line(Ink::None, "  a browser that asked for a page was sent to sign in, with 302");
    }
    page.text
}

fn widest<'t>(texts: impl Iterator<Item = &'t str>) -> usize {
    texts.map(|text| text.chars().count()).filter(|width| *width <= WIDEST).max().unwrap_or_default()
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Text that moves no cursor and turns no line around: controls and what sets a direction are escaped.
fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        let hidden = c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
        if hidden { shown.extend(c.escape_unicode()) } else { shown.push(c) }
    }
    shown
}
