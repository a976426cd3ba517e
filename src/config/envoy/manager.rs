//! The HTTP connection manager: which filters a request passes in which order, and what Envoy makes of its path,
//! headers and address first.

use super::Inspection;
use super::read::{field, is_one_of, is_true, items, names_type, number, path, place, text};
use crate::authz::gateways::{CertificateFrom, ClientAddress, Gateway};
use crate::authz::request::Relaxed;
use crate::config::tree::Node;

/// Filters that can answer a request themselves, by the end of their names.
const ANSWERS: &[(&str, &str)] = &[
    ("cache", "answers from what another caller was allowed to get"),
    ("cors", "answers preflights"),
    ("health_check", "answers what looks like a health check"),
    ("lua", "can answer by itself"),
    ("wasm", "can answer by itself"),
    ("ext_proc", "can answer by itself"),
];
/// Filters that can change the path, host or headers that were judged.
const CHANGES: &[&str] = &["lua", "wasm", "ext_proc", "header_mutation", "grpc_json_transcoder", "mutation"];

impl Inspection<'_> {
    pub(super) fn manager(&mut self, manager: &Node, has_routes: bool) {
        self.filters(manager);
        self.paths(manager);
        self.headers(manager);
        self.address(manager);
        self.certificate(manager);
        if let Some(rds) = field(manager, "rds").or_else(|| field(manager, "scoped_routes")).filter(|_| !has_routes) {
            let message = "the routes come from elsewhere: whether one turns the check off cannot be seen here";
            let cure = "the admin's /config_dump has them too: portcullis check --gateway dump.json";
            self.warn("envoy_elsewhere", rds.span, message, cure);
        }
    }

    fn filters(&mut self, manager: &Node) {
        let filters = items(field(manager, "http_filters"));
        let is_ours = |filter: &&Node| {
            let config = field(filter, "typed_config");
            config.is_some_and(|config| names_type(config, "ExtAuthz"))
                || path(filter, &["config_discovery", "type_urls"])
                    .is_some_and(|urls| items(Some(urls)).iter().filter_map(text).any(|url| url.ends_with(".ExtAuthz")))
        };
        let named = |filter: &Node| field(filter, "name").and_then(text).unwrap_or_default().to_owned();
        let Some(at) = filters.iter().position(|filter| is_ours(&filter)) else {
            if let Some(filter) = filters.iter().find(|filter| field(filter, "config_discovery").is_some()) {
                let message = "a filter comes from elsewhere, and none of the others asks portcullis";
                let cure = "the admin's /config_dump has it too: portcullis check --gateway dump.json";
                self.warn("envoy_elsewhere", filter.span, message, cure);
            } else {
                let message = "no request that comes this way is checked: there is no ext_authz filter";
                let cure = "envoy.filters.http.ext_authz before the router, as in deploy/envoy/envoy.yaml";
                self.hole("envoy_unchecked", place(manager, "http_filters"), message, cure);
            }
            return;
        };
        for filter in filters.iter().take(at) {
            let name = named(filter);
            if field(filter, "typed_config").is_some_and(|config| names_type(config, "Router")) {
                let message = "the router is before ext_authz, and nothing comes after it";
                self.hole("envoy_unchecked", filter.span, message, "the router is the last filter");
            }
            let kind = name.rsplit('.').next().unwrap_or_default();
            if let Some((_, what)) = ANSWERS.iter().find(|(answers, _)| *answers == kind) {
                let message = format!("`{kind}` is before ext_authz and {what}: portcullis never sees such a request");
                self.warn("envoy_filter_before", place(filter, "name"), message, "move it behind ext_authz");
            }
        }
        for filter in filters.iter().skip(at.saturating_add(1)) {
            let name = named(filter);
            let kind = name.rsplit('.').next().unwrap_or_default();
            if CHANGES.contains(&kind) {
                let message =
                    format!("`{kind}` is behind ext_authz and can change the path or headers that were judged");
                self.warn("envoy_filter_after", place(filter, "name"), message, "move it before ext_authz");
            }
        }
        for filter in filters.iter().filter(is_ours) {
            if is_true(filter, "disabled") {
                let message = "the filter is off unless a route turns it on";
                self.hole("envoy_disabled", place(filter, "disabled"), message, "remove `disabled`");
            }
            match field(filter, "typed_config") {
                Some(config) => self.filter(config),
                None => {
                    let message = "how the filter is configured comes from elsewhere, and cannot be seen here";
                    let cure = "the admin's /config_dump has it too: portcullis check --gateway dump.json";
                    self.warn("envoy_elsewhere", filter.span, message, cure);
                }
            }
        }
    }

    fn paths(&mut self, manager: &Node) {
        let relaxed = self.policy.map_or(Relaxed::default(), |policy| policy.relaxed);
        if !is_true(manager, "normalize_path") {
            let message = "paths are not normalised: a route of Envoy's can be chosen by `/a/../b`, which the upstream \
                           may read as `/b`";
            self.warn("envoy_paths", place(manager, "normalize_path"), message, "normalize_path: true");
        }
        if !is_true(manager, "merge_slashes") && !relaxed.empty_segment {
            let message =
                "`//` is not merged: such a path is a 400, and a route of Envoy's for `/a/b` is not for `/a//b`";
            self.warn("envoy_paths", place(manager, "merge_slashes"), message, "merge_slashes: true");
        }
        let action = field(manager, "path_with_escaped_slashes_action");
        let (reject, unescape) = (
            is_one_of(action, &[("REJECT_REQUEST", "2")]),
            is_one_of(action, &[("UNESCAPE_AND_REDIRECT", "3"), ("UNESCAPE_AND_FORWARD", "4")]),
        );
        let span = place(manager, "path_with_escaped_slashes_action");
        if relaxed.encoded_slash && (reject || unescape) {
            let message = "the policy lets `%2F` stand in a path (`paths: [encoded_slash]`), and Envoy does not";
            self.warn("envoy_paths", span, message, "KEEP_UNCHANGED; or remove `encoded_slash` from the policy");
        } else if !relaxed.encoded_slash && !reject && !unescape {
            let message = "`%2F` and `%5C` are not refused here: a route of Envoy's can be chosen by `/a%2F..%2Fb`";
            self.warn("envoy_paths", span, message, "path_with_escaped_slashes_action: REJECT_REQUEST");
        }
    }

    fn headers(&mut self, manager: &Node) {
        let action = path(manager, &["common_http_protocol_options", "headers_with_underscores_action"]);
        if !is_one_of(action, &[("REJECT_REQUEST", "1"), ("DROP_HEADER", "2")]) {
            let span = place(manager, "common_http_protocol_options");
            let message = "`x_user_id` passes, which CGI, WSGI and PHP read as `x-user-id`; portcullis removes the \
                           spellings of managed headers only";
            let cure = "common_http_protocol_options: {headers_with_underscores_action: REJECT_REQUEST}";
            self.warn("envoy_underscores", span, message, cure);
        }
    }

    /// Whether `x-forwarded-client-cert` ends with what this Envoy itself says, where the policy believes it.
    fn certificate(&mut self, manager: &Node) {
        let believes = |gateway: &Gateway| gateway.certificate == Some(CertificateFrom::Xfcc);
        if !self.policy.is_some_and(|policy| policy.gateways.iter().any(believes)) {
            return;
        }
        let (details, set) = ("forward_client_cert_details", "set_current_client_cert_details");
        let (how, span) = (field(manager, details), place(manager, details));
        let cure = "forward_client_cert_details: SANITIZE_SET, set_current_client_cert_details: {uri: true}";
        if is_one_of(how, &[("FORWARD_ONLY", "1"), ("ALWAYS_FORWARD_ONLY", "4")]) {
            let message = "the policy believes `x-forwarded-client-cert`, which is what the caller sent here";
            self.hole("envoy_xfcc", span, message, cure);
        } else if !is_one_of(how, &[("APPEND_FORWARD", "2"), ("SANITIZE_SET", "3")]) {
            let message = "the policy believes `x-forwarded-client-cert`, and it is removed here";
            self.warn("envoy_xfcc", span, message, cure);
        } else if !field(manager, set).is_some_and(|details| is_true(details, "uri")) {
            let message = "the policy believes `x-forwarded-client-cert`, and no URI is told in it here";
            self.warn("envoy_xfcc", place(manager, set), message, cure);
        }
    }

    fn address(&mut self, manager: &Node) {
        let remote = is_true(manager, "use_remote_address");
        let hops = number(manager, "xff_num_trusted_hops").unwrap_or_default();
        let (at, trusted) = (place(manager, "use_remote_address"), place(manager, "xff_num_trusted_hops"));
        let believed: Vec<ClientAddress> = self
            .policy
            .into_iter()
            .flat_map(|policy| policy.gateways.iter())
            .filter_map(|g| g.client_address)
            .collect();
        if !remote {
            let message = "callers claim any address (X-Forwarded-For), claim `https` in clear text, and send X-Envoy-* \
                           headers";
            self.warn("envoy_remote_address", at, message, "use_remote_address: true at the edge");
        }
        for address in believed {
            match address {
                ClientAddress::ExternalAddress if !remote => {
                    let message = "the policy believes X-Envoy-External-Address, which callers set as they like here";
                    self.hole("envoy_client_address", at, message, "use_remote_address: true");
                }
                ClientAddress::Forwarded { .. } if !remote => {
                    let message = "the policy believes X-Forwarded-For, to which Envoy adds nothing here: every address \
                                   in it may be the caller's own";
                    self.hole("envoy_client_address", at, message, "use_remote_address: true");
                }
                ClientAddress::Connection if hops > 0 => {
                    let message = format!(
                        "Envoy trusts {hops} proxies before it, and the policy takes the address of the nearest one \
                         (`from: connection`) for the caller's"
                    );
                    let cure = "client_address: {from: x-envoy-external-address}";
                    self.warn("envoy_client_address", trusted, message, cure);
                }
                ClientAddress::ExternalAddress | ClientAddress::Forwarded { .. } | ClientAddress::Connection => {}
            }
        }
    }
}
