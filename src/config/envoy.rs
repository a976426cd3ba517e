//! An Envoy configuration held against a policy: where a request could pass Envoy without being asked about, or be asked
//! about as another one than the upstream gets. For Envoy 1.40.

mod filter;
mod manager;
mod read;

use self::read::{every, field, names_type, text};
use super::error::{Problem, Problems, Span};
use super::tree::{Node, read as tree};
use crate::authz::policy::Policy;

/// Everything that is found in an Envoy configuration, each with what it means.
pub const ENVOY_LINTS: &[(&str, &str)] = &[
    ("envoy_api_version", "the filter does not speak the version 3 of the protocol"),
    ("envoy_body", "the filter sends bodies, which portcullis does not read"),
    ("envoy_certificate", "the policy believes certificates, and the filter does not send them"),
    ("envoy_client_address", "the policy believes an address that callers can choose here"),
    ("envoy_disabled", "a filter list, virtual host or route turns the check off"),
    ("envoy_elsewhere", "routes or filters come from elsewhere and cannot be looked at"),
    ("envoy_fails_open", "requests pass when portcullis gives no answer"),
    ("envoy_filter_after", "a filter after the check can change what was judged"),
    ("envoy_filter_before", "a filter before the check can answer without it"),
    ("envoy_headers_filtered", "portcullis does not get all headers"),
    ("envoy_http_service", "the filter asks over HTTP, which portcullis does not speak"),
    ("envoy_mutations", "what an answer may change is not limited"),
    ("envoy_no_manager", "there is no HTTP connection manager in the file"),
    ("envoy_paths", "Envoy and the policy do not agree on how paths are read"),
    ("envoy_raw_headers", "header lines are joined and bytes replaced before portcullis sees them"),
    ("envoy_remote_address", "callers choose what Envoy says about where they are"),
    ("envoy_reroutes", "after the check the route is chosen again, and not checked again"),
    ("envoy_sometimes", "only some requests are checked"),
    ("envoy_status_on_error", "no answer looks like a denial"),
    ("envoy_timeout", "a check may take longer than a caller should wait"),
    ("envoy_unchecked", "a connection manager has no filter that asks portcullis"),
    ("envoy_underscores", "header names with `_` pass"),
    ("envoy_xfcc", "the policy believes `x-forwarded-client-cert`, and this Envoy does not set it, or lets callers"),
];

/// Whether a code is of something that is found in an Envoy configuration.
#[must_use]
pub fn is_finding(code: &str) -> bool {
    ENVOY_LINTS.binary_search_by_key(&code, |(name, _)| name).is_ok()
}

/// Looks at the text of an Envoy bootstrap, of one of its parts, or of a config dump, as YAML or JSON. Errors are holes;
/// warnings are what a second wall would stop. Without a policy, one that relaxes nothing and believes nobody is assumed.
#[must_use]
pub fn inspect(name: &str, text: &str, policy: Option<&Policy>) -> Problems {
    let mut problems = Problems::of(name, text);
    let (root, unreadable) = tree(text);
    let Some(root) = root.filter(|_| unreadable.is_empty()) else {
        unreadable.into_iter().for_each(|problem| problems.report(problem));
        return problems;
    };
    let mut inspection = Inspection { policy, found: Vec::new() };
    inspection.file(&root);
    inspection.found.into_iter().for_each(|problem| problems.report(problem));
    problems.sort();
    problems
}

/// One file while it is looked at.
struct Inspection<'p> {
    policy: Option<&'p Policy>,
    found: Vec<Problem>,
}

impl Inspection<'_> {
    fn hole(&mut self, code: &'static str, span: Span, message: impl Into<String>, cure: impl Into<String>) {
        self.found.push(Problem::error(code, span, message).cure(cure));
    }

    fn warn(&mut self, code: &'static str, span: Span, message: impl Into<String>, cure: impl Into<String>) {
        self.found.push(Problem::warning(code, span, message).cure(cure));
    }

    fn file(&mut self, root: &Node) {
        let mut managers = Vec::new();
        every(root, &mut |node| {
            if names_type(node, "HttpConnectionManager") {
                managers.push(node);
            }
        });
        if managers.is_empty() {
            let message = "there is no HTTP connection manager in this file, so that nothing in it asks portcullis";
            self.hole(
                "envoy_no_manager",
                root.span,
                message,
                "the file with the listeners, or the admin's /config_dump",
            );
        }
        let mut has_routes = false;
        every(root, &mut |node| {
            has_routes |= field(node, "virtual_hosts").is_some();
            if let Some(filters) = field(node, "typed_per_filter_config") {
                self.per_route(filters);
            }
        });
        for manager in managers {
            self.manager(manager, has_routes);
        }
    }

    /// What a route, virtual host or route table says to single filters.
    fn per_route(&mut self, filters: &Node) {
        for (key, node) in read::entries(filters) {
            let named = text(key).unwrap_or_default();
            let inner = field(node, "config");
            let is_ours = named.contains("ext_authz")
                || [Some(node), inner].into_iter().flatten().any(|node| names_type(node, "ExtAuthzPerRoute"));
            let off = [Some(node), inner].into_iter().flatten().find_map(|node| read::truth(field(node, "disabled")?));
            if is_ours && off.is_some_and(|(off, _)| off) {
                let span = off.map_or(key.span, |(_, span)| span);
                let message = "requests that take this route are never checked";
                let cure = "remove it, and say in the policy what is public";
                self.hole("envoy_disabled", span, message, cure);
            }
        }
    }
}

#[cfg(test)]
mod tests;
