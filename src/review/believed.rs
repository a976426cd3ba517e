//! What differs in who is believed and named by the operator: gateways, services, grants.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::site::{limit, set};
use super::{SiteChange, Verdict};
use crate::authz::asserted::PdpClient;
use crate::authz::gateways::{CertificateFrom, Dialect, Gateway, Limits};
use crate::authz::policy::Policy;
use crate::authz::revocation::RevocationPolicy;
use crate::authz::rule::{Expr, Word};
use crate::authz::time::Timestamp;

/// Who is believed: what is gone is believed no more, unless another entry then knows the same peer.
pub(super) fn gateways(old: &Policy, new: &Policy, changes: &mut Vec<SiteChange>) {
    let (before, after): (Vec<&Gateway>, Vec<&Gateway>) =
        (old.gateways.iter().collect(), new.gateways.iter().collect());
    if before == after {
        return;
    }
    let known =
        |all: &[&Gateway]| all.iter().map(|one| (one.name.clone(), one.dialect, one.by.clone())).collect::<Vec<_>>();
    let (one, two) = (known(&before), known(&after));
    // Where entries come or go behind all others, no peer is known by another one than before.
    let (grown, shrunk) = (two.starts_with(&one), one.starts_with(&two));
    let names: BTreeSet<&str> = before.iter().chain(&after).map(|gateway| &*gateway.name).collect();
    let find = |of: &[&'_ Gateway], name: &str| of.iter().position(|one| *one.name == *name);
    let mut any = false;
    for name in names {
        let (was, is) = (find(&before, name), find(&after, name));
        let (was, is) = (was.and_then(|at| before.get(at)), is.and_then(|at| after.get(at)));
        let found = match (was, is) {
            (Some(one), Some(two)) if one == two => continue,
            (Some(one), Some(two)) => beliefs(one, two),
            // It is answered now in what it was not answered in before.
            (None, Some(two)) if two.dialect.told_in_headers() => {
                vec![(Verdict::Widened, format!("a new gateway: {}", told(two)))]
            }
            (None, Some(two)) => vec![(edge(two, grown, Verdict::Widened), format!("a new gateway: {}", told(two)))],
            (Some(one), None) => vec![(edge(one, shrunk, Verdict::Narrowed), "the gateway is gone".into())],
            (None, None) => continue,
        };
        any = true;
        for (verdict, text) in found {
            changes.push(SiteChange { section: "gateways", name: name.to_owned(), verdict, text });
        }
    }
    if !any {
        let text = "the order of the entries is another, and the first that knows a peer counts".to_owned();
        changes.push(SiteChange { section: "gateways", name: String::new(), verdict: Verdict::Changed, text });
    }
}

/// Who may ask about subjects that nobody has proven: each more learns what the policy would do.
pub(super) fn pdp_clients(old: &Policy, new: &Policy, changes: &mut Vec<SiteChange>) {
    let names: BTreeSet<&str> = old.pdp_clients.iter().chain(&new.pdp_clients).map(|client| &*client.name).collect();
    let find = |of: &'_ Policy, name: &str| of.pdp_clients.iter().position(|client| *client.name == *name);
    for name in names {
        let was = find(old, name).and_then(|at| old.pdp_clients.get(at));
        let is = find(new, name).and_then(|at| new.pdp_clients.get(at));
        let mut found = Vec::new();
        match (was, is) {
            (None, Some(_)) => found.push((Verdict::Widened, "a new policy decision client".to_owned())),
            (Some(_), None) => found.push((Verdict::Narrowed, "the policy decision client is gone".to_owned())),
            (
                Some(PdpClient { name: _, by: one, issuers: before }),
                Some(PdpClient { name: _, by: two, issuers: after }),
            ) => {
                if one != two {
                    found.push((Verdict::Changed, "it is known otherwise".to_owned()));
                }
                let all = |issuers: &[Arc<str>]| issuers.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
                set("the issuers of whose subjects it may speak", all(before), all(after), &mut found);
            }
            (None, None) => {}
        }
        for (verdict, text) in found {
            changes.push(SiteChange { section: "pdp_clients", name: name.to_owned(), verdict, text });
        }
    }
}

/// What an entry that is only in one of the policies comes to. A header that it may set is one that others may not, and
/// its limits may be lower than those of peers without an entry.
fn edge(gateway: &Gateway, is_last: bool, otherwise: Verdict) -> Verdict {
    let Gateway { name: _, dialect: _, by: _, client_address: _, certificate, headers, filtered_headers: _, limits } =
        gateway;
    let plain = certificate.is_none() && headers.is_empty() && *limits == Limits::default();
    if is_last && plain { otherwise } else { Verdict::Changed }
}

fn told(gateway: &Gateway) -> String {
    let Gateway { name: _, dialect, by, client_address, certificate, headers, filtered_headers, limits: _ } = gateway;
    let mut told = match dialect {
        Dialect::Envoy => String::new(),
        other => format!("it speaks {}, ", other.word()),
    };
    told.push_str(&format!("by {by:?}, believed about the address: "));
    told.push_str(&client_address.as_ref().map_or("nothing".into(), |address| format!("{address:?}")));
    if let Some(from) = certificate {
        told.push_str(&format!(", and about certificates by {}", certificate_by(*from)));
    }
    if !headers.is_empty() {
        let names: Vec<String> = headers.iter().map(super::told::text).collect();
        told.push_str(&format!(", and may set {}", names.join(", ")));
    }
    if *filtered_headers {
        told.push_str(", and may leave headers out");
    }
    told
}

/// Where a gateway tells of certificates, as the policy has it.
fn certificate_by(from: CertificateFrom) -> &'static str {
    match from {
        CertificateFrom::Connection => "certificate",
        CertificateFrom::Xfcc => "xfcc",
    }
}

/// More belief widens.
fn beliefs(old: &Gateway, new: &Gateway) -> Vec<(Verdict, String)> {
    let Gateway { name: _, dialect, by, client_address, certificate, headers, filtered_headers, limits } = new;
    let mut found = Vec::new();
    if old.dialect != *dialect {
        let verdict = if dialect.told_in_headers() { Verdict::Widened } else { Verdict::Changed };
        found.push((verdict, format!("it speaks {}, not {}", dialect.word(), old.dialect.word())));
    }
    if old.by != *by {
        let (one, two) = (format!("{:?}", old.by), format!("{by:?}"));
        // No text shows a token.
        let text = if one == two { "it shows another token".into() } else { format!("by {one} → {two}") };
        found.push((Verdict::Changed, text));
    }
    if old.client_address != *client_address {
        let verdict = match (&old.client_address, client_address) {
            (None, _) => Verdict::Widened,
            (_, None) => Verdict::Narrowed,
            (Some(_), Some(_)) => Verdict::Changed,
        };
        let shown = |gateway: &Gateway| gateway.client_address.map_or("nothing".into(), |it| format!("{it:?}"));
        found.push((verdict, format!("believed about the address: {} → {}", shown(old), shown(new))));
    }
    match (old.certificate, *certificate) {
        (one, two) if one == two => {}
        (None, Some(from)) => {
            found
                .push((Verdict::Widened, format!("it is believed about certificates by {} now", certificate_by(from))));
        }
        // Who shows one that cannot be read was refused, and is nobody's workload now.
        (Some(_), None) => found.push((Verdict::Changed, "it is believed about certificates no more".into())),
        (Some(one), Some(two)) => {
            let (one, two) = (certificate_by(one), certificate_by(two));
            found.push((Verdict::Changed, format!("believed about certificates by {one} → by {two}")));
        }
        (None, None) => {}
    }
    let names = |headers: &[bytes::Bytes]| headers.iter().map(super::told::text).collect::<BTreeSet<_>>();
    let mut set_by_it = Vec::new();
    set("the headers that it may set", names(&old.headers), names(headers), &mut set_by_it);
    // A header that one gateway may set is removed where another one asks.
    found.extend(set_by_it.into_iter().map(|(_, text)| (Verdict::Changed, text)));
    limit("whether it may leave headers out", old.filtered_headers, *filtered_headers, &mut found);
    let Limits { lines, bytes } = *limits;
    limit("how many header lines it lets through", old.limits.lines, lines, &mut found);
    limit("how many bytes of headers it lets through", old.limits.bytes, bytes, &mut found);
    found
}

/// Which workloads have a name: rules may ask for one, and that it is not one.
pub(super) fn services(old: &Policy, new: &Policy, changes: &mut Vec<SiteChange>) {
    let (before, after) = (old.services.workloads(), new.services.workloads());
    let all: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for workload in all {
        let text = match (before.get(workload), after.get(workload)) {
            (Some(one), Some(two)) if one == two => continue,
            (Some(one), Some(two)) => format!("is service:{two}, not service:{one}"),
            (None, Some(two)) => format!("is service:{two} now"),
            (Some(one), None) => format!("is service:{one} no more"),
            (None, None) => continue,
        };
        changes.push(SiteChange { section: "services", name: workload.clone(), verdict: Verdict::Changed, text });
    }
}

/// Who is given which role until when.
pub(super) fn grants(old: &Policy, new: &Policy, changes: &mut Vec<SiteChange>) {
    let all = |policy: &Policy| -> BTreeMap<(String, String), Timestamp> {
        let mut all = BTreeMap::new();
        for (principal, grants) in policy.grants.iter().flat_map(|grants| grants.iter()) {
            for grant in grants {
                let until = all.entry((principal.to_string(), grant.role.to_string())).or_insert(grant.until);
                *until = (*until).max(grant.until);
            }
        }
        all
    };
    let (before, after) = (all(old), all(new));
    let names: BTreeSet<&(String, String)> = before.keys().chain(after.keys()).collect();
    for entry in names {
        let (principal, role) = entry;
        let (verdict, text) = match (before.get(entry), after.get(entry)) {
            (Some(one), Some(two)) if one == two => continue,
            (None, Some(until)) => (Verdict::Widened, format!("has role:{role} until {}", time(*until))),
            (Some(until), None) => (Verdict::Narrowed, format!("had role:{role} until {}", time(*until))),
            (Some(one), Some(two)) => {
                let verdict = if two > one { Verdict::Widened } else { Verdict::Narrowed };
                (verdict, format!("has role:{role} until {}, not {}", time(*two), time(*one)))
            }
            (None, None) => continue,
        };
        // Where a rule asks that somebody has not the role, less may be more.
        let verdict = if is_held_against(old, role) || is_held_against(new, role) { Verdict::Changed } else { verdict };
        changes.push(SiteChange { section: "grants", name: principal.clone(), verdict, text });
    }
}

/// What is revoked, and what becomes of requests while that is not known.
pub(super) fn revocation(old: &Policy, new: &Policy, changes: &mut Vec<SiteChange>) {
    let none = RevocationPolicy::default();
    let (before, after) = (old.revocation.as_deref().unwrap_or(&none), new.revocation.as_deref().unwrap_or(&none));
    let mut change = |name: &str, verdict, text: String| {
        changes.push(SiteChange { section: "revocation", name: name.to_owned(), verdict, text });
    };
    for (one, other, verdict, word) in
        [(before, after, Verdict::Widened, "no longer revoked"), (after, before, Verdict::Narrowed, "revoked")]
    {
        for revocation in one.listed.iter().filter(|one| !other.listed.include(one)) {
            change(&revocation.to_string(), verdict, word.to_owned());
        }
    }
    match (before.shared, after.shared) {
        (true, false) => change("store", Verdict::Widened, "what replicas share is asked no more".to_owned()),
        (false, true) => change("store", Verdict::Narrowed, "what replicas share is asked".to_owned()),
        (true, true) | (false, false) => {}
    }
    match (before.shared && before.fail_open, after.shared && after.fail_open) {
        (false, true) => change("unknown", Verdict::Widened, "requests pass while that is not known".to_owned()),
        (true, false) => change("unknown", Verdict::Narrowed, "requests are denied while that is not known".to_owned()),
        (true, true) | (false, false) => {}
    }
}

/// To the second, as the policy has it.
pub(super) fn time(at: Timestamp) -> String {
    at.to_string().replace(".000Z", "Z")
}

/// Whether somebody may be denied for having this role.
pub(super) fn is_held_against(policy: &Policy, role: &str) -> bool {
    let derived: Vec<(&str, &Expr)> =
        policy.issuers.first().into_iter().flat_map(|issuer| issuer.derived.iter()).map(|(n, r)| (&**n, r)).collect();
    // Those that are made of it come after it.
    let mut roles = BTreeSet::from([role]);
    for (name, rule) in &derived {
        if rule.words().any(|(_, word)| is_one(word, &roles)) {
            roles.insert(name);
        }
    }
    let rules = policy.routes.iter().filter_map(|route| route.rule.expr());
    let rules = rules.chain(policy.guards.iter().map(|guard| &guard.rule)).chain(derived.iter().map(|(_, rule)| *rule));
    let forbids = policy.forbids.iter().chain(policy.routes.iter().filter_map(|route| route.deny.as_deref()));
    let mut conditions = policy.routes.iter().filter_map(|route| route.condition.as_ref());
    conditions.any(|condition| condition.is_about_caller())
        || rules.into_iter().any(|rule| asks(rule, false, &roles))
        || forbids.into_iter().any(|forbid| asks(&forbid.rule, true, &roles))
}

fn is_one(word: &Word, roles: &BTreeSet<&str>) -> bool {
    if let Word::Role(name) = word { roles.contains(&**name) } else { false }
}

/// Whether a rule asks that somebody has not one of these roles.
fn asks(rule: &Expr, against: bool, roles: &BTreeSet<&str>) -> bool {
    match rule {
        Expr::Word(_, word) => against && is_one(word, roles),
        Expr::Not(part) => asks(part, !against, roles),
        Expr::All(parts) | Expr::Any(parts) => parts.iter().any(|part| asks(part, against, roles)),
    }
}
