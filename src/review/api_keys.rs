//! What differs in the keys of applications: who has one, what it gives, and where it is shown.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::believed::{self, is_held_against};
use super::site::set;
use super::{SiteChange, Verdict};
use crate::authz::api_keys::{ApiKey, ApiKeys, Rights};
use crate::authz::policy::Policy;
use crate::authz::time::Timestamp;

/// How many keys are told one by one; a file may have 100,000 new ones.
const MOST: usize = 100;

/// All of them, key by key.
pub(super) fn changes(old: &Policy, new: &Policy, changes: &mut Vec<SiteChange>) {
    let mut add = |name: &str, verdict, text| {
        changes.push(SiteChange { section: "api_keys", name: name.to_owned(), verdict, text });
    };
    match (&old.api_keys, &new.api_keys) {
        (None, None) => return,
        (None, Some(_)) => add("", Verdict::Changed, "applications may have keys now".into()),
        (Some(_), None) => add("", Verdict::Changed, "applications have no keys any more".into()),
        (Some(one), Some(two)) => shown(one, two, &mut |text| add("", Verdict::Changed, text)),
    }
    let (before, after) = (by_id(old), by_id(new));
    let names: BTreeSet<&Arc<str>> = before.keys().chain(after.keys()).copied().collect();
    let mut told = 0_usize;
    let mut rest: Option<Verdict> = None;
    for id in names {
        let held = |role: &str| is_held_against(old, role) || is_held_against(new, role);
        for (verdict, text) in compared(before.get(id).copied(), after.get(id).copied(), &held) {
            told = told.saturating_add(1);
            if told <= MOST {
                add(id, verdict, text);
            } else {
                rest = Some(if rest.is_none_or(|rest| rest == verdict) { verdict } else { Verdict::Changed });
            }
        }
    }
    if let Some(verdict) = rest {
        add("", verdict, format!("and {} changes of keys more", told.saturating_sub(MOST)));
    }
}

fn by_id(policy: &Policy) -> BTreeMap<&Arc<str>, &ApiKey> {
    policy.api_keys.iter().flat_map(|keys| keys.iter()).map(|key| (&key.id, key)).collect()
}

/// Where keys are looked for, and what they begin with.
fn shown(old: &ApiKeys, new: &ApiKeys, add: &mut impl FnMut(String)) {
    let places = |keys: &ApiKeys| keys.sources().map(super::route::place).collect::<BTreeSet<_>>();
    let mut found = Vec::new();
    set("where keys are looked for", places(old), places(new), &mut found);
    found.into_iter().for_each(|(_, text)| add(text));
    if old.prefix() != new.prefix() {
        add(format!(
            "keys begin with {}_, not {}_: no earlier one is taken",
            new.prefix().as_str(),
            old.prefix().as_str()
        ));
    }
}

fn compared(old: Option<&ApiKey>, new: Option<&ApiKey>, held: &dyn Fn(&str) -> bool) -> Vec<(Verdict, String)> {
    let (old, new) = match (old, new) {
        (Some(old), Some(new)) => (old, new),
        (None, Some(new)) => {
            let disabled = if new.disabled { ", disabled" } else { "" };
            return vec![(Verdict::Widened, format!("a new key of {}{}{disabled}", new.owner, given(&new.rights)))];
        }
        (Some(old), None) => return vec![(Verdict::Narrowed, format!("the key of {} is gone", old.owner))],
        (None, None) => return Vec::new(),
    };
    let ApiKey { id: _, owner, hash, not_before, expires, disabled, rights } = new;
    let mut found = Vec::new();
    if old.owner != *owner {
        found.push((Verdict::Changed, format!("it is of {owner}, not of {}", old.owner)));
    }
    if old.hash != *hash {
        found.push((Verdict::Changed, "it is another key".into()));
    }
    let time = |at: Option<Timestamp>, none: &str| at.map_or_else(|| none.to_owned(), believed::time);
    if old.not_before != *not_before {
        let verdict = if *not_before < old.not_before { Verdict::Widened } else { Verdict::Narrowed };
        found.push((verdict, format!("good from {}, not {}", time(*not_before, "ever"), time(old.not_before, "ever"))));
    }
    if old.expires != *expires {
        // Without an end is later than any end.
        let longer = expires.is_none() || (old.expires.is_some() && *expires > old.expires);
        let verdict = if longer { Verdict::Widened } else { Verdict::Narrowed };
        found
            .push((verdict, format!("good until {}, not {}", time(*expires, "revoked"), time(old.expires, "revoked"))));
    }
    match (old.disabled, *disabled) {
        (true, false) => found.push((Verdict::Widened, "it is taken again".into())),
        (false, true) => found.push((Verdict::Narrowed, "it is revoked".into())),
        (true, true) | (false, false) => {}
    }
    let Rights { roles, groups, scopes, routes } = &**rights;
    for (what, one, two) in [
        ("roles", &old.rights.roles, roles),
        ("groups", &old.rights.groups, groups),
        ("scopes", &old.rights.scopes, scopes),
    ] {
        let names = |names: &[Arc<str>]| names.iter().cloned().collect::<BTreeSet<_>>();
        let mut differ = Vec::new();
        set(&format!("its {what}"), names(one), names(two), &mut differ);
        // Where a rule asks that somebody has not the role, less may be more.
        let against = what == "roles" && one.iter().chain(two.iter()).any(|role| held(role));
        found
            .extend(differ.into_iter().map(|(verdict, text)| (if against { Verdict::Changed } else { verdict }, text)));
    }
    if old.rights.routes != *routes {
        let text = |rights: &Rights| if rights.routes.is_empty() { "all".to_owned() } else { patterns(rights) };
        let verdict = match (old.rights.routes.is_empty(), routes.is_empty()) {
            (false, true) => Verdict::Widened,
            (true, false) => Verdict::Narrowed,
            _ => Verdict::Changed,
        };
        found.push((verdict, format!("the routes that it is for: {} → {}", text(&old.rights), text(rights))));
    }
    found
}

fn patterns(rights: &Rights) -> String {
    rights.routes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// What a key gives, in words.
fn given(rights: &Rights) -> String {
    let Rights { roles, groups, scopes, routes: _ } = rights;
    let mut told = String::new();
    for (what, names) in [("roles", roles), ("groups", groups), ("scopes", scopes)] {
        if !names.is_empty() {
            told.push_str(&format!(", {what} {}", names.join(" ")));
        }
    }
    if !rights.routes.is_empty() {
        told.push_str(&format!(", for {}", patterns(rights)));
    }
    told
}
