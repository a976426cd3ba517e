//! `routes:`, `guards:` and `deny:`, and what they must not say against each other.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::Compiler;
use super::browser::sharing;
use super::rule::Stand;
use crate::authz::header::Contract;
use crate::authz::issuer::IssuerId;
use crate::authz::policy::{Named, Route};
use crate::authz::route::{Cover, Pattern, RouteId, Table};
use crate::authz::rule::{Expr, Rule};
use crate::authz::stepup::StepUp;
use crate::config::error::{Problem, Span, Spanned};
use crate::config::file;

/// A line of the route table whose rule is not compiled yet.
pub(super) struct Line {
    /// Its key; `None` where that cannot be read.
    pub pattern: Option<Pattern>,
    /// Where its key stands.
    pub key: Span,
    /// Whose tokens it accepts; nobody's where it is public.
    pub accepted: Vec<usize>,
    /// Whether its rule is `public`.
    pub is_public: bool,
}

/// A guard, or none where its pattern or rule cannot be read.
pub(super) struct Guard {
    /// Its pattern.
    pub pattern: Option<Pattern>,
    /// Its rule.
    pub rule: Option<Expr>,
    /// Where its pattern stands.
    pub key: Span,
}

impl Compiler<'_> {
    /// The keys of the routes, and whose tokens each accepts.
    pub(super) fn lines(&mut self) -> Vec<Line> {
        let mut shapes: HashMap<(String, String), Span> = HashMap::new();
        let mut lines = Vec::with_capacity(self.file.routes.len());
        let mut nobody: Vec<Span> = Vec::new();
        let (mounts, mut told) = (self.mounts(), HashSet::new());
        for route in &self.file.routes {
            let pattern = self.pattern(&route.key);
            if let Some(pattern) = &pattern {
                self.clashes(&mut shapes, route, pattern);
                self.trailing_slash(&route.key);
            }
            self.keeps_to(route, pattern.as_ref(), &mounts);
            let is_public = matches!(&route.rule, file::Rule::Text(text) if text.value.trim() == "public");
            let accepted = if is_public { Vec::new() } else { self.accepted_by(route) };
            if let Some(first) = route.issuers.iter().flatten().next().filter(|_| is_public) {
                let message = "no token is read on a public route, whoever issued it";
                self.report(
                    Problem::warning("issuers_unread", first.span, message)
                        .cure("`anyone` reads one where it is there"),
                );
            }
            if let Some(first) = route.audience.first().filter(|_| is_public) {
                let message = "no token is read on a public route, whomever it is for";
                self.report(
                    Problem::warning("audience_unread", first.span, message)
                        .cure("`anyone` reads one where it is there"),
                );
            }
            self.step_up_asked(route);
            let others = self.file.services.is_empty() && self.file.api_keys.is_none();
            if accepted.is_empty() && !is_public && route.issuers.is_none() && others {
                nobody.push(route.rule.span());
            }
            self.one_to_ask(&accepted, route.key.span, &mut told);
            self.accepted.extend(&accepted);
            lines.push(Line { pattern, key: route.key.span, accepted, is_public });
        }
        self.no_issuer(&nobody);
        lines
    }

    /// Who is let pass without a token cannot be asked how they signed in.
    fn step_up_asked(&mut self, route: &file::Route) {
        let asks = matches!(&route.rule, file::Rule::Text(text) if !matches!(text.value.trim(), "public" | "anyone"));
        let asks = asks || !matches!(&route.rule, file::Rule::Text(_));
        let Some(step_up) = route.step_up.as_ref().filter(|_| !asks) else { return };
        let span = step_up.max_age.as_ref().map(|age| age.span).or(step_up.acr.first().map(|acr| acr.span));
        let message = "`max_age` and `acr` ask how a person signed in, and this route lets pass who did not";
        let problem = Problem::error("step_up_unread", span.unwrap_or(route.key.span), message);
        self.report(problem.cure("`allow: signed-in`, or another rule that asks who calls"));
    }

    fn clashes(&mut self, shapes: &mut HashMap<(String, String), Span>, route: &file::Route, pattern: &Pattern) {
        let methods: Vec<&str> = pattern.methods().collect();
        let methods = if methods.is_empty() { vec![""] } else { methods };
        let mut first = None;
        for shape in pattern.shape_keys() {
            for method in &methods {
                let earlier = *shapes.entry((shape.clone(), (*method).to_owned())).or_insert(route.key.span);
                first = first.or(Some(earlier).filter(|earlier| *earlier != route.key.span));
            }
        }
        if let Some(first) = first {
            let message = "another route has the same key but for the names of its captures, and the same method";
            let problem = Problem::error("route_clash", route.key.span, message).related(first, "first here");
            self.report(problem.cure("make one route of the two, or name different methods"));
        }
    }

    fn trailing_slash(&mut self, key: &Spanned<Box<str>>) {
        let Some(bare) = key.value.strip_suffix('/').filter(|bare| bare.contains('/')) else { return };
        let span = self.within(key, &(bare.len()..key.value.len()));
        let message = "one `/` at the end makes no difference: this route is also for the path without it";
        self.report(Problem::warning("trailing_slash", span, message).cure(format!("write `{bare}`")));
    }

    fn accepted_by(&self, route: &file::Route) -> Vec<usize> {
        match &route.issuers {
            None => self.defaults.clone(),
            Some(names) => names.iter().filter_map(|name| self.issuers.get(&*name.value).copied()).collect(),
        }
    }

    /// One cause, so one problem.
    fn no_issuer(&mut self, routes: &[Span]) {
        let told = !self.partial || (self.file.issuers.is_empty() && !self.file.lost.contains(&"issuers"));
        let Some(first) = routes.first().filter(|_| told) else { return };
        let more = match routes.len() {
            1 => String::new(),
            many => format!(", nor do {} more", many.saturating_sub(1)),
        };
        let (message, cure) = if self.file.issuers.is_empty() {
            ("this route needs to know who calls, and there are no `issuers`".to_owned(), "add `issuers:`, or `public`")
        } else {
            (
                format!("this route accepts no issuer{more}: it names none, and none is the default"),
                "`default: true` at an issuer, or `{allow: …, issuers: […]}` at the route",
            )
        };
        self.report(Problem::error("no_issuer", *first, message).cure(cure));
    }

    /// The routes with their rules; `None` where one cannot be read.
    pub(super) fn routes(
        &mut self,
        lines: &[Line],
        contracts: &[Arc<Contract>],
        derived: &[(Arc<str>, Expr)],
    ) -> Option<Vec<(Pattern, Route)>> {
        let mut routes = Some(Vec::with_capacity(lines.len()));
        for ((at, route), line) in self.file.routes.iter().enumerate().zip(lines) {
            if self.problems.is_full() {
                return None;
            }
            let made = self.made_route(at, route, line, (contracts.get(at), derived));
            routes = routes.zip(made).map(|(mut routes, made)| {
                routes.push(made);
                routes
            });
        }
        routes
    }

    /// One route; every part of it is read whatever the others came to.
    fn made_route(
        &mut self,
        at: usize,
        route: &file::Route,
        line: &Line,
        (contract, derived): (Option<&Arc<Contract>>, &[(Arc<str>, Expr)]),
    ) -> Option<(Pattern, Route)> {
        let captures: Vec<&str> = line.pattern.iter().flat_map(Pattern::captures).collect();
        let stand = Stand {
            what: "a rule with other words",
            captures: line.pattern.is_some().then_some(&*captures),
            per_request: true,
            only: None,
            permits: true,
            accepted: &line.accepted,
        };
        let rule = match &route.rule {
            file::Rule::Text(text) if text.value.trim() == "public" => Some(Rule::Public),
            file::Rule::Text(text) if text.value.trim() == "anyone" => Some(Rule::Anyone),
            // Without a pattern nobody knows what is captured: its own problem is enough.
            _ if line.pattern.is_none() => None,
            rule => self.expr(rule, &stand).map(Rule::Where),
        };
        let from = self.read_from(route, line);
        let condition = route.when.as_ref().map(|when| self.condition(when, line));
        let own = Stand { what: "the forbid of a route", permits: false, ..stand };
        let deny = route.deny.as_ref().filter(|_| line.pattern.is_some()).map(|deny| self.own_forbid(deny, line, &own));
        let (pattern, rule) = (line.pattern.clone()?, rule?);
        let condition = condition.map_or(Some(None), |condition| condition.map(Some))?;
        let key: Arc<str> = Arc::from(pattern.to_string());
        let apps = self.apps(route, &rule, derived);
        let issuers = line.accepted.iter().filter_map(|at| u16::try_from(*at).ok().map(IssuerId));
        let browser = &route.browser;
        let made = Route {
            contract: Arc::clone(contract?),
            id: RouteId(u32::try_from(at).ok()?),
            deny: deny.map_or(Some(None), |rule| Some(Some(Box::new(forbid_of(&key, rule?)))))?,
            audience: route.audience.iter().map(|name| Arc::from(&*name.value)).collect(),
            key,
            text: match &condition {
                Some(condition) => format!("{rule} when {}", condition.text()).into(),
                None => rule.to_string().into(),
            },
            rule,
            condition,
            issuers: issuers.collect(),
            introspects: self.introspects(&line.accepted),
            apps,
            step_up: route.step_up.as_ref().map(|step_up| Box::new(step_up_of(step_up))),
            from,
            strip: browser.credential.as_ref().is_some_and(|credential| credential.strip),
            cors: browser.cors.as_ref().map(sharing),
            sign_in: self.elsewhere(route),
            mint: self.file.mint.as_ref().and_then(|mint| self.audience_of(mint, route)),
            reuse: None,
        };
        Some((pattern, made))
    }

    /// A route's own forbid. On a public route nobody is known, so that only words on the request tell anything there.
    fn own_forbid(&mut self, deny: &file::Rule, line: &Line, stand: &Stand<'_>) -> Option<Expr> {
        let made = self.expr(deny, stand)?;
        if line.is_public && !made.without_identity() {
            let message = "this route is public, and what it denies needs to know who calls";
            let problem = Problem::error("public_under_guard", deny.span(), message).related(line.key, "the route");
            self.report(problem.cure("`anyone` reads a token where one is there"));
        }
        Some(made)
    }

    /// The guards, in the file's order.
    pub(super) fn guards(&mut self, lines: &[Line]) -> Vec<Guard> {
        let all: Vec<usize> = (0..self.file.issuers.len()).collect();
        let mut guards = Vec::with_capacity(self.file.guards.len());
        for (key, rule) in &self.file.guards {
            let pattern = self.pattern(key);
            let accepted = match &pattern {
                Some(pattern) if asks_for_subjects(rule) => reaching(pattern, lines),
                _ => all.clone(),
            };
            let captures: Vec<&str> = pattern.iter().flat_map(Pattern::captures).collect();
            let stand = Stand {
                what: "a guard",
                captures: Some(&captures),
                per_request: true,
                only: None,
                permits: true,
                accepted: &accepted,
            };
            let rule = pattern.is_some().then(|| self.expr(rule, &stand)).flatten();
            guards.push(Guard { pattern, rule, key: key.span });
        }
        guards
    }

    /// The forbids, in the file's order.
    pub(super) fn forbids(&mut self) -> Option<Vec<Named>> {
        let all: Vec<usize> = (0..self.file.issuers.len()).collect();
        let stand =
            Stand { what: "a forbid", captures: None, per_request: true, only: None, permits: false, accepted: &all };
        let forbids = &self.file.deny;
        let named = forbids.iter().map(|(name, rule)| {
            let rule = self.expr(rule, &stand)?;
            let text = format!("deny {}: {rule}", name.value).into();
            Some(Named { name: Arc::from(&*name.value), rule, text })
        });
        let named: Vec<Option<Named>> = named.collect();
        named.into_iter().collect()
    }

    /// No identity is read on a public route, so a guard that needs one would deny everyone there.
    pub(super) fn compare(&mut self, lines: &[Line], guards: &[Guard]) {
        let asking: Vec<(&Pattern, Span)> = guards
            .iter()
            .filter(|guard| guard.rule.as_ref().is_some_and(|rule| !rule.without_identity()))
            .filter_map(|guard| Some((guard.pattern.as_ref()?, guard.key)))
            .collect();
        for line in lines.iter().filter(|line| line.is_public) {
            let Some(pattern) = &line.pattern else { continue };
            if self.problems.is_full() {
                return;
            }
            if let Some((_, guard)) = asking.iter().find(|(guard, _)| guard.may_meet(pattern)) {
                let message = "this route is public, and a guard that may cover it needs to know who calls";
                let problem = Problem::error("public_under_guard", line.key, message).related(*guard, "the guard");
                self.report(problem.cure("`anyone` reads a token where one is there; or narrow the guard"));
            }
        }
    }
}

/// Whether a rule may compare subjects with captures, as far as its text tells.
fn asks_for_subjects(rule: &file::Rule) -> bool {
    match rule {
        file::Rule::Text(text) => text.value.contains("owner:") || text.value.contains("sub"),
        file::Rule::Any(_, rules) | file::Rule::All(_, rules) => rules.iter().any(asks_for_subjects),
        file::Rule::Not(_, rule) => asks_for_subjects(rule),
    }
}

/// What a route asks of a sign-in.
fn step_up_of(asked: &file::StepUp) -> StepUp {
    StepUp::new(asked.max_age.as_ref().map(|age| age.value), asked.acr.iter().map(|acr| acr.value.clone()).collect())
}

/// The forbid of the route of this key.
fn forbid_of(key: &Arc<str>, rule: Expr) -> Named {
    let text = format!("deny {key}: {rule}").into();
    Named { name: Arc::clone(key), rule, text }
}

/// Whose tokens may come under a guard.
fn reaching(guard: &Pattern, lines: &[Line]) -> Vec<usize> {
    let mut reaching = Vec::new();
    for line in lines {
        let fresh: Vec<usize> = line.accepted.iter().copied().filter(|at| !reaching.contains(at)).collect();
        if !fresh.is_empty() && line.pattern.as_ref().is_some_and(|pattern| pattern.may_meet(guard)) {
            reaching.extend(fresh);
        }
    }
    reaching
}

/// The route table. Keys that clash were reported before, so there are none.
pub(super) fn table(routes: Vec<(Pattern, Route)>) -> Option<(Table, Box<[Route]>)> {
    let (patterns, routes): (Vec<_>, Vec<_>) =
        routes.into_iter().map(|(pattern, route)| ((route.id, pattern), route)).unzip();
    Some((Table::build(patterns).ok()?, routes.into()))
}

/// What the guards cover, and the guards.
pub(super) fn covers(guards: Vec<Guard>) -> Option<(Cover, Box<[Named]>)> {
    let mut patterns = Vec::with_capacity(guards.len());
    let mut named = Vec::with_capacity(guards.len());
    for (at, guard) in guards.into_iter().enumerate() {
        let pattern = guard.pattern?;
        let (name, rule) = (pattern.to_string(), guard.rule?);
        let text = format!("guard {name}: {rule}").into();
        named.push(Named { name: name.into(), rule, text });
        patterns.push((at, pattern));
    }
    Some((Cover::build(patterns), named.into()))
}
