//! Rules: text and YAML trees into expressions, and whether each word can be asked where it stands.

use super::Compiler;
use crate::authz::rule::{Expr, Join, RuleFault, Test, Word, WordId};
use crate::config::error::{Problem, Span, Spanned, nearest};
use crate::config::file;

/// Where a rule stands, and so what it may ask.
pub(super) struct Stand<'s> {
    /// How messages call the place.
    pub what: &'static str,
    /// The captures of its own pattern; `None` where it has none.
    pub captures: Option<&'s [&'s str]>,
    /// Whether it is asked for each request, rather than once for a token.
    pub per_request: bool,
    /// The one issuer that it is about.
    pub only: Option<&'s str>,
    /// Whether it lets pass where it holds.
    pub permits: bool,
    /// Whose tokens it is asked about.
    pub accepted: &'s [usize],
}

impl Compiler<'_> {
    /// A rule as an expression.
    pub(super) fn expr(&mut self, rule: &file::Rule, stand: &Stand<'_>) -> Option<Expr> {
        self.part(rule, stand, false)
    }

    fn part(&mut self, rule: &file::Rule, stand: &Stand<'_>, negated: bool) -> Option<Expr> {
        match rule {
            file::Rule::Text(text) => self.words(text, stand, negated),
            file::Rule::Any(span, rules) => self.joined(Join::Any, rules, stand, (*span, negated)),
            file::Rule::All(span, rules) => self.joined(Join::All, rules, stand, (*span, negated)),
            file::Rule::Not(span, rule) => {
                let opposite = self.part(rule, stand, !negated)?.negate();
                self.whole(opposite, *span)
            }
        }
    }

    fn joined(
        &mut self,
        join: Join,
        rules: &[file::Rule],
        stand: &Stand<'_>,
        (span, negated): (Span, bool),
    ) -> Option<Expr> {
        let parts: Vec<Option<Expr>> = rules.iter().map(|rule| self.part(rule, stand, negated)).collect();
        let joined = Expr::join(join, parts.into_iter().collect::<Option<_>>()?);
        self.whole(joined, span)
    }

    fn whole(&mut self, made: Result<Expr, RuleFault>, span: Span) -> Option<Expr> {
        made.map_err(|fault| self.report(worded("bad_rule", span, &fault.to_string()))).ok()
    }

    fn words(&mut self, text: &Spanned<Box<str>>, stand: &Stand<'_>, negated: bool) -> Option<Expr> {
        if matches!(text.value.trim(), "public" | "anyone") {
            let message = format!("`{}` is a rule of its own, and cannot stand in {}", text.value.trim(), stand.what);
            let cure = "say which callers are meant: signed-in, role:x, claim:path=value";
            self.report(Problem::error("word_not_here", text.span, message).cure(cure));
            return None;
        }
        let expr = match Expr::parse(&text.value) {
            Ok(expr) => expr.rename_roles(&|name| self.full_role(text.span.file, name)),
            Err(error) => {
                let span = self.within(text, &error.at);
                self.report(worded("bad_rule", span, &error.to_string()));
                return None;
            }
        };
        let places = Expr::places(&text.value);
        let place = |at: WordId| places.get(usize::from(at.0)).cloned().unwrap_or(0..text.value.len());
        for (at, word) in expr.words() {
            if self.problems.is_full() {
                break;
            }
            let span = self.within(text, &place(at));
            self.word(word, span, stand);
        }
        if !stand.per_request && stand.only.is_none() {
            for (at, word) in barred_services(&expr, negated) {
                let span = self.within(text, &place(at));
                let message =
                    format!("a role is of a token, a workload or a key, so `not {word}` holds for every token");
                let cure = "ask it where requests are: at the route, in `guards:` or in `deny:`";
                self.report(Problem::error("word_not_here", span, message).cure(cure));
            }
        }
        if stand.permits {
            let mut found = Vec::new();
            absent(&expr, negated, &mut found);
            for (at, word) in found {
                let span = self.within(text, &place(at));
                let message = format!("`not {word}` also holds for who has no such claim");
                let cure = "say which values are meant, or forbid the others under `deny:`";
                self.report(Problem::warning("holds_by_absence", span, message).cure(cure));
            }
        }
        Some(expr)
    }

    fn word(&mut self, word: &Word, span: Span, stand: &Stand<'_>) {
        match word {
            Word::SignedIn | Word::Claim { test: Test::Equals(_) | Test::Present, .. } => {}
            Word::Role(name) => {
                self.asked.insert(name.clone());
                if !self.roles.contains_key(&**name) {
                    self.mapped(word, span, stand, |issuer| issuer.roles.is_some());
                }
            }
            Word::Group(_) => self.mapped(word, span, stand, |issuer| issuer.groups.is_some()),
            // Every issuer has a claim for scopes.
            Word::Scope(_) => {}
            Word::Claim { path, test: Test::Capture(name) } => {
                self.capture(name, word, span, stand);
                if path.to_string() == "sub" && self.unprefixed(stand.accepted).len() > 1 {
                    let names = self.names(stand.accepted);
                    let message = format!("{names} may each have a subject of this name, and `claim:sub` tells no two");
                    let cure = format!("owner:{name}, which counts the issuer's `subject_prefix`");
                    self.report(Problem::warning("subject_ambiguous", span, message).cure(cure));
                }
            }
            Word::Owner(name) => {
                self.capture(name, word, span, stand);
                let unprefixed = self.unprefixed(stand.accepted);
                if unprefixed.len() > 1 {
                    let names = self.names(&unprefixed);
                    let message = format!("{names} may each have a subject of this name, and `{word}` tells no two");
                    let cure = "give all but one of them a `subject_prefix`, or accept one issuer only";
                    self.report(Problem::error("subject_ambiguous", span, message).cure(cure));
                }
            }
            Word::Issuer(name) => self.issuer_word(name, span, stand),
            Word::Network(_) => self.network(word, span, stand),
            Word::Service(name) => self.service_word(name, span, stand),
            Word::Key(name) => self.key_word(name, span, stand),
            // Every issuer may say who acts.
            Word::Actor(_) | Word::AnyActor => {}
        }
    }

    /// A list that no accepted issuer has a claim for is never known, so that its words never hold.
    fn mapped(&mut self, word: &Word, span: Span, stand: &Stand<'_>, maps: impl Fn(&file::Issuer) -> bool) {
        let mut issuers = stand.accepted.iter().filter_map(|at| self.file.issuers.get(*at));
        if self.partial || stand.accepted.is_empty() || issuers.any(|(_, issuer)| maps(issuer)) {
            return;
        }
        let (code, key) = match word {
            Word::Group(_) => ("group_unmapped", "groups"),
            _ => ("role_unmapped", "roles"),
        };
        let message = format!("`{word}` can never hold: no issuer that is accepted here says where its {key} are");
        let cure = format!("`{key}: realm_access.{key}`, or whichever claim lists them, at the issuer");
        self.report(Problem::warning(code, span, message).cure(cure));
    }

    fn capture(&mut self, name: &str, word: &Word, span: Span, stand: &Stand<'_>) {
        let Some(captures) = stand.captures else {
            let message = format!("`{word}` compares with what a route key captured, and {} has none", stand.what);
            self.report(Problem::error("word_not_here", span, message).cure("move it to the route's own rule"));
            return;
        };
        if captures.contains(&name) {
            return;
        }
        let cure = match nearest(name, captures.iter().copied()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None if captures.is_empty() => format!("capture it: `/{{{name}}}` in place of one segment of the path"),
            None => format!("what is captured: {}", captures.join(", ")),
        };
        let message = format!("the key of this rule captures no `{name}`");
        self.report(Problem::error("unknown_capture", span, message).cure(cure));
    }

    fn issuer_word(&mut self, name: &str, span: Span, stand: &Stand<'_>) {
        let Some(at) = self.issuers.get(name) else {
            if !self.file.lost.contains(&"issuers") {
                let cure = match nearest(name, self.issuers.keys().copied()) {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => "the name that it has under `issuers:`".into(),
                };
                self.report(Problem::error("unknown_issuer", span, format!("there is no issuer `{name}`")).cure(cure));
            }
            return;
        };
        if stand.only.is_some_and(|only| only != name) {
            let message = format!("{} is about its own issuer's tokens, never about those of `{name}`", stand.what);
            self.report(Problem::error("word_not_here", span, message).cure("remove it"));
        } else if stand.captures.is_some() && !stand.accepted.is_empty() && !stand.accepted.contains(at) {
            let message = format!("`issuer:{name}` can never hold: its tokens are not accepted here");
            let cure = format!("`issuers: [{name}]` in the route's long form, or `default: true` at the issuer");
            self.report(Problem::warning("issuer_not_accepted", span, message).cure(cure));
        }
    }

    fn network(&mut self, word: &Word, span: Span, stand: &Stand<'_>) {
        if !stand.per_request {
            let message = format!("`{word}` is about a request, and {} is about a token", stand.what);
            let cure = "move it to the route, to `guards:` or to `deny:`";
            self.report(Problem::error("word_not_here", span, message).cure(cure));
        } else if self.nobody_believed() {
            let message = format!("`{word}` needs the caller's address, and no gateway is believed about it");
            let cure =
                "gateways: {edge: {by: 10.0.4.0/28, believes: [client_address], client_address: {from: connection}}}";
            self.report(Problem::error("address_not_believed", span, message).cure(cure));
        }
    }

    /// Whether no gateway is believed about the caller's address, as far as the gateways could be read.
    pub(super) fn nobody_believed(&self) -> bool {
        let told = !self.partial || (self.file.gateways.is_empty() && !self.file.lost.contains(&"gateways"));
        told && !self.believes
    }

    /// Those of the issuers whose subjects have no prefix.
    pub(super) fn unprefixed(&self, issuers: &[usize]) -> Vec<usize> {
        let has_prefix = |at: &usize| self.file.issuers.get(*at).is_some_and(|(_, i)| i.subject_prefix.is_some());
        issuers.iter().copied().filter(|at| !has_prefix(at)).collect()
    }
}

/// A problem whose message says after a semicolon what would be right.
pub(super) fn worded(code: &'static str, span: Span, text: &str) -> Problem {
    match text.split_once("; ") {
        Some((message, cure)) => Problem::error(code, span, message).cure(cure),
        None => Problem::error(code, span, text),
    }
}

/// The words on a claim that let pass where the claim is missing.
fn absent<'e>(expr: &'e Expr, negated: bool, found: &mut Vec<(WordId, &'e Word)>) {
    match expr {
        Expr::Word(at, word @ Word::Claim { .. }) if negated => found.push((*at, word)),
        Expr::Word(..) => {}
        Expr::Not(part) => absent(part, !negated, found),
        Expr::All(parts) | Expr::Any(parts) => parts.iter().for_each(|part| absent(part, negated, found)),
    }
}

/// The words on services and keys that a role would hold by the absence of.
fn barred_services(expr: &Expr, negated: bool) -> Vec<(WordId, &Word)> {
    match expr {
        Expr::Word(at, word @ (Word::Service(_) | Word::Key(_))) if negated => vec![(*at, word)],
        Expr::Word(..) => Vec::new(),
        Expr::Not(part) => barred_services(part, !negated),
        Expr::All(parts) | Expr::Any(parts) => parts.iter().flat_map(|part| barred_services(part, negated)).collect(),
    }
}
