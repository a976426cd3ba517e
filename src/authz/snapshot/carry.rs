//! Who asks, and what its gateway can carry: what would be lost on the way is a denial.

use bytes::Bytes;

use super::{Gateway, Grant, Reason, Request, Route, Snapshot};
use crate::authz::gateways::Dialect;

/// How large an answer gateways take whose answers are heads of HTTP: one that is larger is a failure to them, which some
/// are told to let pass. The caller has a hand in it by the names that are removed and by what is left of its cookies.
const MOST_BYTES: usize = 24 * 1024;
const MOST_LINES: usize = 80;

impl Snapshot {
    /// The gateway that asks, where it has an entry. Where it speaks what anybody could, it needs one; and a check that
    /// the gateway filtered may hide aliases of managed headers from us.
    pub(super) fn gateway(&self, request: &Request<'_>) -> Result<Option<&Gateway>, Reason> {
        let gateway = self.policy.gateways.of(request);
        if gateway.is_none() && request.dialect.told_in_headers() {
            return Err(Reason::GatewayUnknown);
        }
        let told = request.seen.complete || gateway.is_some_and(|gateway| gateway.filtered_headers);
        if told { Ok(gateway) } else { Err(Reason::HeadersFiltered) }
    }

    /// What of a grant reaches the upstream by the gateway that asks: all of it, or none.
    pub(super) fn carried(
        &self,
        request: &Request<'_>,
        gateway: Option<&Gateway>,
        route: &Route,
        mut grant: Grant,
    ) -> Result<Grant, Reason> {
        let dialect = request.dialect;
        let edits_query = grant.query().next().is_some() || grant.query_removed().next().is_some();
        let unheard = !dialect.can_hear() && !grant.metadata().is_empty();
        let unsaid = !dialect.can_respond() && grant.responses().next().is_some();
        // By its names alone Envoy tells what is for the upstream from what is for the caller.
        let sets = |line: &(Bytes, Bytes)| grant.set().any(|set| set == line);
        let named = |name: &Bytes| self.lists(route, name);
        let mixed = dialect == Dialect::EnvoyHttp && grant.responses().any(|line| named(&line.0) && !sets(line));
        if mixed || unheard || unsaid || (edits_query && !dialect.can_edit_query()) {
            return Err(Reason::GatewayCannot);
        }
        let mut lines = 0_usize;
        let named = grant.set().chain(grant.responses()).map(|(name, value)| (name, value.len()));
        let bytes = named.inspect(|_| lines = lines.saturating_add(1));
        let bytes = bytes
            .chain(grant.remove().map(|name| (name, 0)))
            .fold(0_usize, |sum, (name, value)| sum.saturating_add(name.len()).saturating_add(value).saturating_add(4));
        if bytes > MOST_BYTES || lines > MOST_LINES {
            return Err(Reason::HeadersTooLarge);
        }
        if dialect.can_remove() {
            return Ok(grant);
        }
        let sends = |name: &Bytes| request.headers.iter().any(|line| line.name == name);
        let changed = grant.set().map(|(name, _)| name).chain(grant.remove());
        if changed.into_iter().any(|name| !self.lists(route, name) && sends(name)) {
            return Err(Reason::HeaderAlias);
        }
        let touched = |name: &Bytes| grant.set().any(|(set, _)| set == name) || grant.remove().any(|gone| gone == name);
        // What passes is written over with itself.
        let lent = gateway.map_or(&[][..], |gateway| &*gateway.headers);
        let kept = self.policy.echoed.iter().chain(lent).filter(|name| !touched(name));
        let kept: Vec<_> = kept.filter_map(|name| Some((name.clone(), as_it_came(request, name)?))).collect();
        if !kept.is_empty() {
            grant.own.get_or_insert_default().stripped.set.extend(kept);
        }
        Ok(grant)
    }

    /// Whether a gateway's file lists this header as one of those that it takes from our answer.
    fn lists(&self, route: &Route, name: &Bytes) -> bool {
        route.contract.names().is_emitted(name) || self.policy.echoed.contains(name)
    }
}

/// The lines of a header as one.
fn as_it_came(request: &Request<'_>, name: &[u8]) -> Option<Bytes> {
    let mut lines = request.header(name);
    let first = lines.next()?;
    let between: &[u8] = if name == b"cookie" { b"; " } else { b", " };
    let mut joined = first.to_vec();
    for line in lines {
        joined.extend_from_slice(between);
        joined.extend_from_slice(line);
    }
    Some(joined.into())
}
