//! Routes that are more open than what stands around them.

use super::Linter;
use super::implies::Ask;
use crate::authz::route::Pattern;
use crate::config::error::Problem;

/// Methods that are asked after where a key names some of them; HEAD goes with GET.
const METHODS: &[&str] = &["GET", "POST", "PUT", "PATCH", "DELETE"];
/// Those of them that change something.
const CHANGING: &[&str] = &["POST", "PUT", "PATCH", "DELETE"];
/// How many keys a key may take requests from before the rest is not looked at.
const MAX_AROUND: usize = 8;
/// How many pairs of a host's catch-all and a key without a host are looked at.
const MAX_PAIRS: usize = 1_000_000;

impl<'c> Linter<'c> {
    pub(super) fn open(&mut self) {
        let mut pairs = 0_usize;
        for at in 0..self.routes.len() {
            self.more_open(at);
            self.method_left_open(at);
            self.hides(at, &mut pairs);
        }
    }

    /// What a request that matches this key has to meet, where it takes this route.
    fn effective(&self, route: usize, key: &Pattern) -> Ask {
        let mut ask = self.asks.get(route).cloned().unwrap_or_default();
        for guard in self.guard_shapes.around(key).into_iter().flatten() {
            let all = match (key.methods().next(), self.guards.get(*guard)) {
                (Some(_), Some(guard)) => key.methods().all(|method| guard.covers_method(method)),
                (None, Some(guard)) => guard.methods().next().is_none(),
                (_, None) => false,
            };
            if let Some(part) = self.guard_asks.get(*guard).filter(|part| all && !ask.parts.contains(part)) {
                ask.parts.push(*part);
            }
        }
        ask
    }

    /// Whether one is met by everybody who meets the other, and by others too. False where that cannot be told.
    fn is_wider(&mut self, wide: &Ask, narrow: &Ask) -> bool {
        self.logic.implies(narrow, wide) == Some(true) && self.logic.implies(wide, narrow) == Some(false)
    }

    /// The routes that would get what this one gets if it were not there: for each method the next one that holds all
    /// of its paths.
    fn behind(&self, at: usize, key: &Pattern) -> Vec<usize> {
        let mut left: Option<Vec<&str>> = Some(key.methods().collect::<Vec<_>>()).filter(|methods| !methods.is_empty());
        let mut behind = Vec::new();
        for leaf in self.shapes.around(key) {
            let is_own = leaf.contains(&at);
            let named = |other: &usize| self.routes.get(*other).is_some_and(|other| other.methods().next().is_some());
            let (naming, naming_none): (Vec<usize>, Vec<usize>) = leaf.iter().copied().partition(named);
            for other in naming.into_iter().chain(naming_none) {
                let Some(pattern) = self.routes.get(other).filter(|_| other != at) else { continue };
                // Of one path in two lines, each method was thought of.
                if is_own {
                    continue;
                }
                let covers = match &mut left {
                    Some(methods) => {
                        let before = methods.len();
                        methods.retain(|method| !pattern.covers_method(method));
                        methods.len() < before
                    }
                    None => true,
                };
                if covers {
                    behind.push(other);
                }
                let is_done = match &left {
                    Some(methods) => methods.is_empty(),
                    None => pattern.methods().next().is_none(),
                };
                if is_done || behind.len() >= MAX_AROUND {
                    return behind;
                }
            }
        }
        behind
    }

    fn more_open(&mut self, at: usize) {
        let Some((route, key)) = self.route(at) else { return };
        for behind in self.behind(at, key) {
            let Some((other, pattern)) = self.route(behind) else { continue };
            // What holds for a whole host is a default, and routes are there to differ from it.
            if !pattern.names_path() {
                continue;
            }
            let (own, theirs) = (self.effective(at, key), self.effective(behind, key));
            if !self.is_wider(&own, &theirs) {
                continue;
            }
            let (Some((name, span)), Some((_, there))) = (self.key(at), self.key(behind)) else { continue };
            let message =
                format!("`{name}` asks for less (`{}`) than the route that it stands in front of", route.text);
            let problem = Problem::warning("route_more_open", span, message)
                .related(there, format!("without it, this would ask for `{}`", other.text))
                .cure("ask for as much; or accept it: lints: {route_more_open: [the key]}");
            return self.warn(problem);
        }
    }

    fn method_left_open(&mut self, at: usize) {
        let Some((route, key)) = self.route(at).filter(|(_, key)| key.methods().next().is_some()) else { return };
        let around = self.shapes.around(key);
        let own = around.iter().position(|leaf| leaf.contains(&at)).unwrap_or_default();
        let leaf = around.get(own).copied().unwrap_or_default();
        let same: Vec<&Pattern> = leaf.iter().filter_map(|other| self.routes.get(*other)).collect();
        if same.iter().any(|other| other.methods().next().is_none()) {
            return;
        }
        let changes = key.methods().any(|method| !matches!(method, "GET" | "HEAD" | "OPTIONS"));
        let asked = if changes { CHANGING } else { METHODS };
        let is_left = |method: &&&str| !same.iter().any(|other| other.covers_method(method));
        let left: Vec<&str> = asked.iter().filter(is_left).copied().collect();
        let beyond: Vec<usize> =
            around.iter().skip(own.saturating_add(1)).flat_map(|leaf| leaf.iter().copied()).collect();
        let ask = self.effective(at, key);
        let mut open: Vec<&str> = Vec::new();
        let mut taker = None;
        for method in left {
            let covers = |other: &&usize| self.routes.get(**other).is_some_and(|other| other.covers_method(method));
            let Some(next) = beyond.iter().find(covers).copied() else { continue };
            // Beside a key that only reads, another that asks for less in the same part of the site is as often meant.
            if !changes && self.routes.get(next).is_some_and(Pattern::names_path) {
                continue;
            }
            let theirs = self.effective(next, key);
            if taker.is_none_or(|taker| taker == next) && self.is_wider(&theirs, &ask) {
                taker = Some(next);
                open.push(method);
            }
        }
        let Some((taker, (other, _))) = taker.and_then(|taker| Some((taker, self.route(taker)?))) else { return };
        let (Some((name, span)), Some((_, there))) = (self.key(at), self.key(taker)) else { return };
        if !self.told.insert(format!("method {}", key.shape_key())) {
            return;
        }
        let message =
            format!("{} of the same path asks for less (`{}`) than `{name}` does", open.join(", "), other.text);
        let problem = Problem::warning("method_left_open", span, message)
            .related(there, "it falls to this route")
            .cure(format!("name the methods too, or `{}: {}` for all others", path_of(key), route.text));
        self.warn(problem);
    }

    /// A host's catch-all takes what keys without a host spell out, though nobody may have thought of that host there.
    fn hides(&mut self, at: usize, pairs: &mut usize) {
        let Some((route, key)) = self.route(at) else { return };
        if !key.names_host() || !key.is_open_ended() || key.names_path() {
            return;
        }
        let mut hidden = Vec::new();
        for other in self.shapes.hostless_within(key) {
            *pairs = pairs.saturating_add(1);
            if *pairs > MAX_PAIRS {
                return;
            }
            let Some((_, pattern)) = self.route(other).filter(|(_, other)| other.names_path()) else { continue };
            let here = pattern.with_host_of(key);
            let (own, theirs) = (self.effective(at, &here), self.effective(other, &here));
            if self.logic.implies(&own, &theirs) != Some(false) {
                continue;
            }
            if self.behind(usize::MAX, &here).contains(&at) {
                hidden.push(other);
            }
        }
        let Some((first, (_, there))) = hidden.first().and_then(|first| Some((*first, self.key(*first)?))) else {
            return;
        };
        let (Some((name, span)), Some((other, _))) = (self.key(at), self.route(first)) else { return };
        let more = match hidden.len() {
            1 => String::new(),
            many => format!(" and {} more", many.saturating_sub(1)),
        };
        let host = key.host().unwrap_or_default();
        let message = format!("for {host}, `{name}` (`{}`) is taken instead of `{}`{more}", route.text, other.key);
        let problem = Problem::warning("host_hides_routes", span, message)
            .related(there, format!("never reached for {host}: a key with a host wins"))
            .cure(format!("{}: {}; or a guard, which holds for every host", with_host(&other.key, &host), other.text));
        self.warn(problem);
    }
}

fn path_of(key: &Pattern) -> String {
    format!("{}{}", key.host().unwrap_or_default(), key.path())
}

fn with_host(key: &str, host: &str) -> String {
    key.replacen('/', &format!("{host}/"), 1)
}
