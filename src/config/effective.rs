//! The effective table: each route with all that it asks for, from forbids and guards down to its own rule.

use std::sync::Arc;

use super::Compiled;
use super::error::Place;
use crate::authz::api_keys::Apps;
use crate::authz::identity::APPS;
use crate::authz::policy::{Named, Route};
use crate::authz::route::{Pattern, RouteId, Shapes};
use crate::authz::rule::Rule;

/// What every route of a policy comes to, in the file's order. Made for people and comparisons, never for a check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effective {
    /// One for each route.
    pub rows: Vec<Row>,
    /// What no request may meet, whatever its route.
    pub forbids: Vec<Above>,
    /// The guards; a row names those that may cover it.
    pub guards: Vec<Above>,
}

/// One route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its number in the policy.
    pub route: RouteId,
    /// Its key, as canonical text: `GET,PUT shop.example.com/orders/{id}`.
    pub key: Arc<str>,
    /// The methods that it names; empty where it is for all.
    pub methods: Vec<Box<str>>,
    /// The host or host pattern that it names.
    pub host: Option<Box<str>>,
    /// Its path.
    pub path: Box<str>,
    /// Its rule as it comes to: with `signed-in` where no word says that somebody must be.
    pub rule: Box<str>,
    /// What else its own lines ask for, each as a name and canonical text, in the order of evaluation.
    pub also: Vec<(&'static str, Box<str>)>,
    /// The guards that may cover requests of it, by their places in [`Effective::guards`].
    pub guards: Vec<usize>,
    /// Whose tokens it accepts, by name; `api_keys` where it takes everybody's keys, `api_keys/billing` for one owner's.
    pub issuers: Vec<Arc<str>>,
    /// Where its key stands.
    pub at: Place,
}

/// A guard by its pattern, or a forbid by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Above {
    /// The pattern or the name.
    pub name: Arc<str>,
    /// Its rule.
    pub rule: Box<str>,
}

impl Effective {
    /// The table of a policy.
    #[must_use]
    pub fn of(compiled: &Compiled) -> Self {
        let policy = &*compiled.policy;
        let patterns: Vec<Pattern> = policy.guards.iter().filter_map(|guard| policy.pattern(&guard.name)).collect();
        // A guard's name is its canonical pattern, so that it can be read; were one not, places would be off by one.
        let shapes = (patterns.len() == policy.guards.len()).then(|| Shapes::new(&patterns));
        let rows = policy.routes.iter().enumerate().filter_map(|(at, route)| {
            let pattern = policy.pattern(&route.key)?;
            let issuers = route.issuers.iter().filter_map(|id| policy.issuers.get(usize::from(id.0)));
            Some(Row {
                route: route.id,
                key: Arc::clone(&route.key),
                methods: pattern.methods().map(Box::from).collect(),
                host: pattern.host().map(Box::from),
                path: pattern.path().into(),
                rule: rule(&route.rule).into(),
                also: also(route),
                guards: shapes.as_ref().map(|shapes| shapes.meeting(&pattern)).unwrap_or_default(),
                issuers: issuers.map(|issuer| Arc::clone(&issuer.name)).chain(apps(&route.apps)).collect(),
                at: compiled.places.get(at).cloned().unwrap_or_default(),
            })
        });
        Self { rows: rows.collect(), forbids: above(&policy.forbids), guards: above(&policy.guards) }
    }

    /// The guards that may cover requests of a row.
    pub fn guards_of<'t>(&'t self, row: &'t Row) -> impl Iterator<Item = &'t Above> {
        row.guards.iter().filter_map(|at| self.guards.get(*at))
    }

    /// All that a row asks for, on one line and in the order of evaluation; the same for two rows that ask the same.
    #[must_use]
    pub fn summary(&self, row: &Row) -> String {
        let forbids = self.forbids.iter().map(|forbid| format!("never where {}: {}", forbid.name, forbid.rule));
        let guards = self.guards_of(row).map(|guard| format!("guard {}: {}", guard.name, guard.rule));
        let also = row.also.iter().map(|(name, text)| format!("{name} {text}"));
        let issuers = (!row.issuers.is_empty()).then(|| format!("issuers {}", row.issuers.join(", ")));
        let rule = std::iter::once(row.rule.to_string());
        forbids.chain(guards).chain(also).chain(rule).chain(issuers).collect::<Vec<_>>().join("; ")
    }
}

/// Whose keys a route takes, as if they were issuers.
fn apps(apps: &Apps) -> Vec<Arc<str>> {
    match apps {
        Apps::Nobody => Vec::new(),
        Apps::Of(owners) => owners.iter().map(|owner| format!("{APPS}/{owner}").into()).collect(),
        Apps::Every => vec![APPS.into()],
    }
}

/// What a route's own lines ask for beside its rule.
fn also(route: &Route) -> Vec<(&'static str, Box<str>)> {
    let when = route.condition.iter().map(|condition| ("when", condition.text().into()));
    let audience = (!route.audience.is_empty()).then(|| ("audience", route.audience.join(" or ").into()));
    let deny = route.deny.as_ref().map(|deny| ("never where", deny.rule.to_string().into()));
    when.chain(audience).chain(deny).collect()
}

fn above(named: &[Named]) -> Vec<Above> {
    named.iter().map(|named| Above { name: Arc::clone(&named.name), rule: named.rule.to_string().into() }).collect()
}

/// A rule as it comes to: one word more than it says, that somebody must be signed in.
fn rule(rule: &Rule) -> String {
    match rule.expr() {
        Some(expr) if expr.without_identity() => format!("signed-in and ({rule})"),
        Some(_) | None => rule.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::compile;

    fn table(text: &str) -> Effective {
        let (compiled, problems) = compile("p.yaml", text, &|_| Err(std::io::ErrorKind::NotFound.into()));
        Effective::of(&compiled.unwrap_or_else(|| panic!("{}", problems.render(false))))
    }

    const POLICY: &str = "
issuers:
  main: {url: https://id.example.com, audience: shop, roles: roles, default: true, may_grant: any}
  partner: {url: https://id.example.org, audience: shop, may_grant: []}
gateways: {edge: {by: unix, believes: [client_address]}}
routes:
  GET,PUT shop.example.com/admin/{id}: role:admin
  /health: public
  /inside: {allow: network:10.0.0.0/8, issuers: [main, partner]}
guards: {/admin/**: role:staff or role:admin, POST /admin/x: role:y, /inside: signed-in}
deny: {suspended: claim:suspended=true}
";

    #[test]
    fn a_row_tells_where_it_stands_and_all_that_it_asks_for() {
        let table = table(POLICY);
        let row = &table.rows[0];
        assert_eq!(
            (&*row.methods.join(" "), row.host.as_deref(), &*row.path),
            ("GET PUT", Some("shop.example.com"), "/admin/{id}")
        );
        assert_eq!((&*row.at.file, row.at.span.line, row.at.span.column), ("p.yaml", 7, 3));
        assert_eq!(
            table.summary(row),
            "never where suspended: claim:suspended=true; guard /admin/**: role:staff or role:admin; role:admin; issuers main"
        );
        assert_eq!(table.summary(&table.rows[1]), "never where suspended: claim:suspended=true; public");
    }

    #[test]
    fn a_rule_of_networks_alone_also_asks_that_somebody_is_signed_in() {
        let table = table(POLICY);
        let row = &table.rows[2];
        assert_eq!(&*row.rule, "signed-in and (network:10.0.0.0/8)");
        assert_eq!(row.issuers.iter().map(|name| &**name).collect::<Vec<_>>(), ["main", "partner"]);
        assert_eq!(table.guards_of(row).map(|guard| &*guard.name).collect::<Vec<_>>(), ["/inside"]);
    }

    #[expect(clippy::disallowed_types, reason = "no runtime is here, and nothing is paused")]
    #[test]
    fn a_thousand_guards_over_ten_thousand_routes_are_found_without_looking_at_each() {
        let mut text = String::from("issuers: {main: {url: https://id.example.com, audience: a}}\nroutes:\n");
        for at in 0..10_000 {
            text.push_str(&format!("  /s{at}/x: signed-in\n"));
        }
        text.push_str("guards:\n");
        for at in 0..1_000 {
            text.push_str(&format!("  /s{at}/**: claim:a=b\n"));
        }
        let (compiled, _) = compile("p.yaml", &text, &|_| Err(std::io::ErrorKind::NotFound.into()));
        let compiled = compiled.unwrap();
        let started = std::time::Instant::now();
        let table = Effective::of(&compiled);
        assert_eq!(table.rows.iter().map(|row| row.guards.len()).sum::<usize>(), 1_000);
        assert!(started.elapsed() < std::time::Duration::from_secs(20), "{:?}", started.elapsed());
    }
}
