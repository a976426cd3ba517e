//! What a probe found: for reading, and as JSON.

use std::fmt::Write as _;

use serde::Serialize;

use super::attack::sentence;
use super::cure::{Gateway, cure};
use super::judge::Judged;

/// How much of a request is shown.
const MAX_SHOWN: usize = 2_000;
/// How many variants are named.
const MAX_NAMED: usize = 6;

/// What got through, or is worth a word: one for each code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Its stable code.
    pub code: &'static str,
    /// What it means.
    pub sentence: &'static str,
    /// Which variants of the attack.
    pub variants: Vec<String>,
    /// What happened with the first.
    pub happened: String,
    /// The first request, as it was sent.
    pub request: String,
    /// The settings to change: a gateway, and what there.
    pub cures: Vec<(Gateway, &'static str)>,
}

/// All that a probe found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// What was attacked.
    pub url: String,
    /// The gateway, where it was told or recognised.
    pub gateway: Option<Gateway>,
    /// What was asked first, and what was answered.
    pub baseline: Vec<String>,
    /// What got through.
    pub findings: Vec<Finding>,
    /// What is no hole but worth a word.
    pub notes: Vec<Finding>,
    /// What could not be told; `happened` says why.
    pub unjudged: Vec<Finding>,
    /// Not all could be tried: a path that should pass does not, none is refused, or the token does not count.
    pub incomplete: bool,
    /// How many attacks were held.
    pub held: usize,
    /// How many got through.
    pub through: usize,
    /// How many could not be told.
    pub untold: usize,
    #[serde(skip)]
    hidden: Hidden,
}

/// A token in all the parts that a request may show.
#[derive(Clone, Default, PartialEq, Eq)]
struct Hidden(Vec<String>);

impl Hidden {
    fn new(token: &str) -> Self {
        let parts = std::iter::once(token).chain(token.split('.')).filter(|part| part.len() > 8);
        Self(parts.flat_map(|part| [part.to_owned(), part.chars().rev().collect()]).collect())
    }

    fn hide(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, part| text.replace(part, "(token)"))
    }
}

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hidden")
    }
}

impl Report {
    pub(super) fn of(url: &str, secret: Option<&str>) -> Self {
        Self { url: url.to_owned(), hidden: secret.map(Hidden::new).unwrap_or_default(), ..Self::default() }
    }

    pub(super) fn held_one(&mut self) {
        self.held = self.held.saturating_add(1);
    }

    /// Says that something could not be tried.
    pub(super) fn missing(&mut self, code: &'static str, what: &str, why: &str) {
        self.incomplete = true;
        self.add(code, what, "", Judged::Unjudged(why.to_owned()));
    }

    /// Files what one attack came to.
    pub(super) fn add(&mut self, code: &'static str, variant: &str, request: &str, judged: Judged) {
        let (list, counted, happened) = match judged {
            Judged::Held => return self.held_one(),
            Judged::Note(happened) => (&mut self.notes, &mut self.held, happened),
            Judged::Through(happened) => (&mut self.findings, &mut self.through, happened),
            Judged::Unjudged(why) => (&mut self.unjudged, &mut self.untold, why),
        };
        *counted = counted.saturating_add(1);
        if let Some(known) = list.iter_mut().find(|known| known.code == code) {
            known.variants.push(variant.to_owned());
            return;
        }
        let mut shown: String = self.hidden.hide(request).chars().take(MAX_SHOWN).collect();
        if shown.len() < request.len() && shown.chars().count() == MAX_SHOWN {
            shown.push('…');
        }
        list.push(Finding {
            code,
            sentence: sentence(code),
            variants: vec![variant.to_owned()],
            happened: self.hidden.hide(&happened),
            request: shown,
            cures: Vec::new(),
        });
    }

    /// With the cures, now that the gateway is known.
    pub(super) fn finished(mut self, gateway: Option<Gateway>) -> Self {
        self.gateway = gateway;
        let named = gateway.as_slice();
        let gateways = if named.is_empty() { Gateway::ALL } else { named };
        for finding in self.findings.iter_mut().chain(&mut self.notes) {
            finding.cures = gateways.iter().map(|gateway| (*gateway, cure(finding.code, *gateway))).collect();
        }
        self
    }

    /// For reading.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("{}: {}\n", self.url, self.gateway.map_or("an unknown gateway", Gateway::name));
        for line in &self.baseline {
            line_of(&mut text, &format!("  {line}"));
        }
        for finding in &self.findings {
            finding.tell(&mut text, "THROUGH");
        }
        for note in &self.notes {
            note.tell(&mut text, "note");
        }
        for unjudged in &self.unjudged {
            let (code, variants) = (unjudged.code, unjudged.named());
            line_of(&mut text, &format!("not judged  {code}: {} ({variants})", unjudged.happened));
        }
        let verdict = match (self.through, self.incomplete) {
            (0, false) => "nothing got through",
            (0, true) => "nothing got through, but not all could be tried",
            _ => "something got through",
        };
        let counts = format!("{} held, {} got through, {} not judged", self.held, self.through, self.untold);
        line_of(&mut text, &format!("{verdict}: {counts}"));
        text
    }
}

impl Finding {
    fn tell(&self, text: &mut String, mark: &str) {
        let first = self.request.lines().next().unwrap_or_default();
        let is_note = mark == "note";
        let what = if is_note { &self.happened } else { self.sentence };
        line_of(text, &format!("{mark}  {}: {what} ({})", self.code, self.named()));
        if !is_note {
            line_of(text, &format!("    {}; the request begins `{}`", self.happened, first.escape_default()));
        }
        for (gateway, cure) in &self.cures {
            line_of(text, &format!("    {}: {cure}", gateway.name()));
        }
    }

    fn named(&self) -> String {
        let named: Vec<&str> = self.variants.iter().take(MAX_NAMED).map(String::as_str).collect();
        let more = self.variants.len().saturating_sub(named.len());
        let more = if more == 0 { String::new() } else { format!(", and {more} more") };
        format!("{}{more}", named.join(", "))
    }
}

fn line_of(text: &mut String, line: &str) {
    // Writing to a text does not fail. What a peer said must not write on the terminal.
    let _ = writeln!(text, "{}", line.replace(|c: char| c.is_control(), "?"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_part_of_the_token_is_shown_whichever_way_it_was_sent() {
        let token = "aaaaaaaaaaaa.bbbbbbbbbbbb.ccccccccdddd";
        let mut report = Report::of("http://x/", Some(token));
        for (code, request) in [("bad_token", "bbbbbbbbbbbb."), ("method", "ddddcccccccc"), ("trace", token)] {
            report.add(code, "v", request, Judged::Through(format!("it was `{token}`")));
        }
        let said = format!("{report:?}{}{}", report.text(), serde_json::json!(report));
        for part in token.split('.').chain(["ddddcccccccc"]) {
            assert!(!said.contains(part), "{said}");
        }
    }

    #[test]
    fn variants_of_one_code_are_one_finding_and_what_a_peer_said_cannot_write_on_the_terminal() {
        let mut report = Report::of("http://x/", None);
        for at in 0..8 {
            report.add("framing", &format!("v{at}"), "GET / HTTP/1.1", Judged::Through("\u{1b}[2J".into()));
        }
        report.add("trace", "TRACE", "", Judged::Unjudged("a limit".into()));
        let report = report.finished(Some(Gateway::Caddy));
        assert_eq!((report.findings.len(), report.through, report.untold), (1, 8, 1));
        let text = report.text();
        assert!(text.contains("v0, v1, v2, v3, v4, v5, and 2 more") && text.contains("    Caddy: "), "{text}");
        assert!(text.contains("not judged  trace: a limit") && !text.contains('\u{1b}'), "{text}");
        assert!(text.ends_with("something got through: 0 held, 8 got through, 1 not judged\n"), "{text}");
    }
}
