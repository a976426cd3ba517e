//! The ext_authz filter: whom it asks, what it sends, and what it makes of an answer or of none.

use super::Inspection;
use super::read::{field, is_one_of, is_true, milliseconds, number, path, place};
use crate::authz::gateways::{CertificateFrom, Gateway};
use crate::config::tree::Node;

/// The longest time that a check should take, in milliseconds.
const LONG: u64 = 2_000;
/// The largest message that portcullis reads, with room for headers, in bytes.
const MAX_BODY: u64 = 15 << 20;

impl Inspection<'_> {
    pub(super) fn filter(&mut self, filter: &Node) {
        self.service(filter);
        self.always(filter);
        self.request(filter);
        self.answer(filter);
    }

    fn service(&mut self, filter: &Node) {
        if field(filter, "http_service").is_some() {
            let message = "portcullis speaks gRPC to Envoy: `http_service` gets no answer";
            let cure = "grpc_service: {envoy_grpc: {cluster_name: portcullis}, timeout: 0.2s}";
            return self.hole("envoy_http_service", place(filter, "http_service"), message, cure);
        }
        if !is_one_of(field(filter, "transport_api_version"), &[("V3", "2")]) {
            let message =
                "the filter does not say that it speaks version 3 of the protocol, and Envoy does not start so";
            self.hole(
                "envoy_api_version",
                place(filter, "transport_api_version"),
                message,
                "transport_api_version: V3",
            );
        }
        let Some(service) = field(filter, "grpc_service") else { return };
        let time = field(service, "timeout").and_then(milliseconds);
        if let Some(time) = time.filter(|time| *time == 0 || *time > LONG) {
            let message = match time {
                0 => "a check may take forever".to_owned(),
                time => format!("a check may take {time} ms"),
            };
            self.warn("envoy_timeout", place(service, "timeout"), message, "timeout: 0.2s");
        }
    }

    /// Whether there is a way for a request to pass without an answer.
    fn always(&mut self, filter: &Node) {
        if is_true(filter, "failure_mode_allow") {
            let message = "requests pass unchecked whenever portcullis gives no answer";
            self.hole("envoy_fails_open", place(filter, "failure_mode_allow"), message, "failure_mode_allow: false");
        }
        if is_true(filter, "shadow_mode") {
            let message = "nothing is ever denied: portcullis is asked, and its answer is counted only";
            self.hole("envoy_sometimes", place(filter, "shadow_mode"), message, "remove `shadow_mode`");
        }
        let denied = path(filter, &["deny_at_disable", "default_value"]).and_then(super::read::truth);
        if denied.is_some_and(|(denied, _)| denied) {
            return;
        }
        if let Some(share) = path(filter, &["filter_enabled", "default_value"]) {
            let of = match field(share, "denominator") {
                denominator if is_one_of(denominator, &[("TEN_THOUSAND", "1")]) => 10_000,
                denominator if is_one_of(denominator, &[("MILLION", "2")]) => 1_000_000,
                _ => 100,
            };
            let part = number(share, "numerator").unwrap_or_default();
            if part < of {
                let message = format!("only {part} of {of} requests are checked, the others pass");
                self.hole("envoy_sometimes", place(filter, "filter_enabled"), message, "remove `filter_enabled`");
            }
        } else if field(filter, "filter_enabled").is_some() {
            let message = "whether requests are checked is decided at runtime, the others pass";
            self.hole("envoy_sometimes", place(filter, "filter_enabled"), message, "remove `filter_enabled`");
        }
        if field(filter, "filter_enabled_metadata").is_some() {
            let message = "only requests with this metadata are checked, the others pass";
            let cure = "remove it; or deny_at_disable: {default_value: true, runtime_key: …}";
            self.hole("envoy_sometimes", place(filter, "filter_enabled_metadata"), message, cure);
        }
    }

    /// Whether portcullis is sent what it needs, and no more.
    fn request(&mut self, filter: &Node) {
        let expected = self.policy.is_some_and(|policy| policy.gateways.iter().any(|gateway| gateway.filtered_headers));
        for name in ["allowed_headers", "disallowed_headers"] {
            if field(filter, name).is_some() && !expected {
                let message = format!(
                    "with `{name}` portcullis does not get all headers: a managed one could hide under another spelling, \
                     and without `:method` every check is a 503"
                );
                let cure = format!(
                    "remove `{name}`; or, where Envoy removes managed headers, `filtered_headers: true` at the gateway"
                );
                self.hole("envoy_headers_filtered", place(filter, name), message, cure);
            }
        }
        let sends = |gateway: &Gateway| gateway.certificate == Some(CertificateFrom::Connection);
        let certificate = self.policy.is_some_and(|policy| policy.gateways.iter().any(sends));
        if certificate && !is_true(filter, "include_peer_certificate") {
            let message = "the policy believes a gateway about the caller's certificate, and this one does not send it";
            let span = place(filter, "include_peer_certificate");
            self.warn("envoy_certificate", span, message, "include_peer_certificate: true");
        }
        if !is_true(filter, "encode_raw_headers") {
            let message =
                "lines of one name are joined with commas and bytes replaced: two different requests look the same";
            self.warn("envoy_raw_headers", place(filter, "encode_raw_headers"), message, "encode_raw_headers: true");
        }
        if let Some(body) = field(filter, "with_request_body") {
            let span = place(filter, "with_request_body");
            let most = number(body, "max_request_bytes").unwrap_or_default();
            if most > MAX_BODY {
                let message = format!(
                    "checks may be {most} bytes long, and portcullis reads none of more than 16 MiB: such \
                                       a request is refused, or passes with `failure_mode_allow`"
                );
                self.hole("envoy_body", span, message, "remove `with_request_body`");
            } else {
                let message = "portcullis does not read bodies: they cost memory at both ends";
                self.warn("envoy_body", span, message, "remove `with_request_body`");
            }
        }
    }

    /// Whether an answer, or none, does what was meant and no more.
    fn answer(&mut self, filter: &Node) {
        if is_true(filter, "clear_route_cache") {
            let message = "after the check Envoy chooses the route again by the headers that were set, and does not check \
                           the route that it comes to";
            let cure = "remove it; `metadata:` of the policy tells later filters without touching headers";
            self.warn("envoy_reroutes", place(filter, "clear_route_cache"), message, cure);
        }
        let status = path(filter, &["status_on_error", "code"]);
        if !is_one_of(status, &[("ServiceUnavailable", "503")]) {
            let message = "when portcullis gives no answer, callers get a 403 that looks like a denial";
            let cure = "status_on_error: { code: ServiceUnavailable }";
            self.warn("envoy_status_on_error", place(filter, "status_on_error"), message, cure);
        }
        if !is_true(filter, "validate_mutations") {
            let message = "a line break in an answer's header would be passed on as it is";
            self.warn("envoy_mutations", place(filter, "validate_mutations"), message, "validate_mutations: true");
        }
        if field(filter, "decoder_header_mutation_rules").is_none() {
            let message = "an answer could set headers that frame a request, such as Content-Length";
            let cure = "decoder_header_mutation_rules as in deploy/envoy/envoy.yaml";
            self.warn("envoy_mutations", filter.span, message, cure);
        }
    }
}
