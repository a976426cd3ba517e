//! Routes near a request that reached none: the same path by another method, or the keys that go the longest way with it.

use std::collections::BTreeSet;

use super::explanation::Detail;
use crate::authz::policy::Policy;
use crate::authz::request::Request;
use crate::authz::route::Found;

/// How many near routes are told.
const MOST: usize = 3;

/// The nearest routes.
pub(super) fn routes(policy: &Policy, request: &Request<'_>) -> Vec<Detail> {
    let mut near = other_methods(policy, request);
    if near.is_empty() {
        near = longest(policy, request);
    }
    let near: Vec<Detail> = near.into_iter().take(MOST).map(|key| Detail::new("near it", key)).collect();
    if !near.is_empty() { near } else { vec![Detail::new("near it", "no route")] }
}

/// The keys that the same host and path reach by another method.
fn other_methods(policy: &Policy, request: &Request<'_>) -> Vec<String> {
    let patterns = policy.routes.iter().filter_map(|route| policy.pattern(&route.key));
    let methods: BTreeSet<String> =
        patterns.flat_map(|pattern| pattern.methods().map(str::to_owned).collect::<Vec<_>>()).collect();
    let reached: BTreeSet<_> = methods
        .iter()
        .filter_map(|method| match policy.table.find(&request.host, method, &request.path) {
            Found::Route(id, _) => Some(id),
            Found::NoRoute | Found::UnknownHost => None,
        })
        .collect();
    reached.into_iter().filter_map(|id| policy.route(id)).map(|route| route.key.to_string()).collect()
}

/// The keys that share the most segments with the path, those of the request's own host first.
fn longest(policy: &Policy, request: &Request<'_>) -> Vec<String> {
    let mut near: Vec<(bool, usize, &str)> = Vec::new();
    for route in &policy.routes {
        let (before, path) = route.key.split_at(route.key.find('/').unwrap_or(route.key.len()));
        let host = before.rsplit(' ').next().unwrap_or_default();
        near.push((host.is_empty() || host == request.host, shared(path, &request.path), &*route.key));
    }
    let best = near.iter().map(|(here, shared, _)| (*here, *shared)).max();
    let near = near.into_iter().filter(|(here, shared, _)| Some((*here, *shared)) == best);
    near.map(|(_, _, key)| key.to_owned()).collect()
}

/// How many segments a key's path and a request's path begin with in common, case aside.
fn shared(key: &str, path: &str) -> usize {
    let pairs = key.split('/').zip(path.split('/')).skip(1);
    let fits = |(key, segment): &(&str, &str)| {
        key.eq_ignore_ascii_case(segment) || (!segment.is_empty() && key.starts_with(['{', '*']))
    };
    pairs.take_while(fits).count()
}
