//! Which setting of which gateway to change for what got through.

use clap::ValueEnum;
use serde::Serialize;

use crate::dev::wire::Answer;

/// A gateway that there are cures for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Gateway {
    /// Envoy by itself, Envoy Gateway, Contour.
    Envoy,
    /// Istio's gateways and sidecars.
    Istio,
    /// nginx and OpenResty.
    Nginx,
    /// Traefik.
    Traefik,
    /// Caddy.
    Caddy,
    /// HAProxy.
    Haproxy,
    /// Kong.
    Kong,
}

impl Gateway {
    /// All of them.
    pub const ALL: &[Self] =
        &[Self::Envoy, Self::Istio, Self::Nginx, Self::Traefik, Self::Caddy, Self::Haproxy, Self::Kong];

    /// As people write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Envoy => "Envoy",
            Self::Istio => "Istio",
            Self::Nginx => "nginx",
            Self::Traefik => "Traefik",
            Self::Caddy => "Caddy",
            Self::Haproxy => "HAProxy",
            Self::Kong => "Kong",
        }
    }

    /// The gateway that an answer comes from, where it says so.
    pub(super) fn of(answer: &Answer) -> Option<Self> {
        let told = |name: &str| answer.header(name).unwrap_or_default().to_ascii_lowercase();
        let (server, via) = (told("server"), told("via"));
        let has = |start: &str| answer.headers.iter().any(|(name, _)| name.starts_with(start));
        if server.starts_with("istio-envoy") {
            Some(Self::Istio)
        } else if server.starts_with("kong") || via.contains("kong") || has("x-kong-") {
            Some(Self::Kong)
        } else if server.starts_with("envoy") || has("x-envoy-") {
            Some(Self::Envoy)
        } else if server.starts_with("caddy") || via.contains("caddy") {
            Some(Self::Caddy)
        } else if server.starts_with("nginx") || server.starts_with("openresty") {
            Some(Self::Nginx)
        } else if server.starts_with("traefik") {
            Some(Self::Traefik)
        } else {
            None
        }
    }
}

/// What kind of setting cures a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Asked,
    Set,
    Spelt,
    Path,
    Question,
    Origin,
    Framing,
    Nominated,
    Cut,
    Preflight,
    Passed,
    Reach,
    Credential,
}

fn kind(code: &str) -> Kind {
    match code {
        "forged_alias" | "forged_whitespace" | "forged_fold" | "forwarded_alias" => Kind::Spelt,
        "forged_header" | "forged_always" | "forged_trailer" | "identity_forged" | "hop_by_hop_forged" => Kind::Set,
        "hop_by_hop_identity" => Kind::Nominated,
        "hop_by_hop_question" | "override_decision" => Kind::Question,
        "forwarded_for" | "forwarded_proto" | "envoy_headers" => Kind::Origin,
        "framing" | "gateway_gone" | "two_hosts" | "connect" | "old_http" => Kind::Framing,
        "forged_cut_off" | "identity_cut_off" => Kind::Cut,
        "preflight" | "preflight_incomplete" => Kind::Preflight,
        "override_passed" | "trace" => Kind::Passed,
        "upstream_direct" | "portcullis_direct" | "admin_direct" => Kind::Reach,
        "credential_passed_on" | "two_credentials" => Kind::Credential,
        path if path.starts_with("path_") => Kind::Path,
        _ => Kind::Asked,
    }
}

/// What to change for a finding, in one gateway.
pub(super) fn cure(code: &str, gateway: Gateway) -> &'static str {
    match kind(code) {
        Kind::Asked => asked(gateway),
        Kind::Set => set(gateway),
        Kind::Spelt => spelt(gateway),
        Kind::Path => path(gateway),
        Kind::Question => question(gateway),
        Kind::Origin => origin(gateway),
        Kind::Framing => framing(gateway),
        Kind::Nominated => nominated(gateway),
        Kind::Cut => cut(gateway),
        Kind::Preflight => preflight(gateway),
        Kind::Passed => passed(gateway),
        Kind::Reach => {
            "bind it to loopback or to a network that only the gateway reaches (a firewall, a NetworkPolicy), or ask for \
             mutual TLS"
        }
        Kind::Credential => credential(gateway),
    }
}

const fn asked(gateway: Gateway) -> &'static str {
    match gateway {
        Gateway::Envoy => {
            "ext_authz for every route: no `ExtAuthzPerRoute: {disabled: true}`, no `filter_enabled`, no `shadow_mode`; \
             `failure_mode_allow: false`; ext_authz before the router and before every filter that answers by itself"
        }
        Gateway::Istio => {
            "an AuthorizationPolicy with `action: CUSTOM` whose rules cover every path (`rules: [{}]`), and an \
             extensionProvider without `failOpen: true`"
        }
        Gateway::Nginx => {
            "`auth_request` at the level of `server`, so that every `location` has it; no `auth_request off`, and no \
             `error_page` that turns a failure into a 200"
        }
        Gateway::Traefik => "the ForwardAuth middleware at the entry point, or in `middlewares` of every router",
        Gateway::Caddy => "`forward_auth` before every `reverse_proxy`, in the same `route` and for every path",
        Gateway::Haproxy => {
            "the Lua action and the `http-request deny` after it without a condition, before any `use_backend`"
        }
        Gateway::Kong => "the plugin as a global one, without `route:` or `service:`, and enabled for every protocol",
    }
}

const fn set(gateway: Gateway) -> &'static str {
    match gateway {
        Gateway::Envoy => {
            "every route through ext_authz, which removes them; no `allowed_headers` or `disallowed_headers`; nothing \
             behind ext_authz (Lua, header_mutation, `request_headers_to_add`) that copies what a caller sent"
        }
        Gateway::Istio => {
            "an AuthorizationPolicy `CUSTOM` for every path, and in the extensionProvider (http) every managed header in \
             `headersToUpstreamOnAllow`; no EnvoyFilter behind it that copies what a caller sent"
        }
        Gateway::Nginx => {
            "`auth_request_set` and `proxy_set_header` for every managed header, in every `location` that has a \
             `proxy_set_header` of its own: it inherits none"
        }
        Gateway::Traefik => "every managed header in `authResponseHeaders`: Traefik deletes the caller's first",
        Gateway::Caddy => {
            "every managed header in `copy_headers`, with Caddy 2.11.2 or later, which deletes the caller's"
        }
        Gateway::Haproxy => {
            "`http-request del-header` for every managed header before the Lua action, and none of the lists left empty"
        }
        Gateway::Kong => {
            "the plugin for every route; another plugin that sets headers runs before it (a higher PRIORITY)"
        }
    }
}

const fn spelt(gateway: Gateway) -> &'static str {
    match gateway {
        Gateway::Envoy | Gateway::Istio => {
            "`common_http_protocol_options: {headers_with_underscores_action: REJECT_REQUEST}`, and every route through \
             ext_authz without `allowed_headers` or `disallowed_headers`: portcullis removes what it sees"
        }
        Gateway::Nginx => "`underscores_in_headers off` and `ignore_invalid_headers on`, as they are by default",
        Gateway::Traefik => {
            "Traefik 3.6.14 or later, and every header passed to portcullis: no `authRequestHeaders`, so that aliases are \
             answered with 400"
        }
        Gateway::Caddy => {
            "`forward_auth` with all headers of the caller (no `header_up -…`): aliases are answered with 400"
        }
        Gateway::Haproxy => {
            "`http-request deny if { req.hdr_names -m reg [^a-zA-Z0-9-] }`, or all headers to the Lua action, which removes \
             the aliases that portcullis names"
        }
        Gateway::Kong => "the plugin with all headers (`max_headers` as shipped): it removes what portcullis names",
    }
}

const fn path(gateway: Gateway) -> &'static str {
    match gateway {
        Gateway::Envoy => {
            "`normalize_path: true`, `merge_slashes: true`, `path_with_escaped_slashes_action: REJECT_REQUEST`, and no route \
             that turns ext_authz off: a prefix such as `/public` matches `/public/../x` too"
        }
        Gateway::Istio => {
            "`meshConfig.pathNormalization.normalization: DECODE_AND_MERGE_SLASHES`, and one CUSTOM rule for every path \
             without `notPaths`"
        }
        Gateway::Nginx => {
            "`auth_request` at the level of `server`, `X-Original-URI $request_uri`, and `proxy_pass` without a path, so \
             that what is judged is what is passed on; `merge_slashes on`"
        }
        Gateway::Traefik => "the middleware at the entry point, no router without it, and no `replacePath` behind it",
        Gateway::Caddy => "no matcher on `forward_auth`, and no `uri` or `rewrite` between it and `reverse_proxy`",
        Gateway::Haproxy => {
            "`http-request normalize-uri` before the Lua action, no `set-path` behind it, and no condition on it"
        }
        Gateway::Kong => "the plugin as a global one, and routes without `strip_path` that the policy does not know of",
    }
}

const fn question(gateway: Gateway) -> &'static str {
    match gateway {
        Gateway::Envoy | Gateway::Istio => {
            "no filter, and no Lua, that takes path, method or host from a header; `clear_route_cache: false`"
        }
        Gateway::Nginx => {
            "in the location of the question: `proxy_set_header X-Original-Method $request_method`, `X-Original-URI \
             $request_uri`, `X-Original-Host $portcullis_host`, `X-Original-Address $remote_addr`"
        }
        Gateway::Traefik => "`trustForwardHeader: false`, and `forwardedHeaders.insecure: false` at the entry point",
        Gateway::Caddy => {
            "no `trusted_proxies` that callers connect from, and no `header_up X-Forwarded-*` from the request"
        }
        Gateway::Haproxy => "the shipped Lua action, which deletes the caller's `X-Original-*` before it sets its own",
        Gateway::Kong => {
            "the shipped plugin: it asks with Kong's own method, host and path; `trusted_ips` without callers"
        }
    }
}

const fn origin(gateway: Gateway) -> &'static str {
    match gateway {
        Gateway::Envoy => "`use_remote_address: true`; behind another proxy `xff_num_trusted_hops` as well",
        Gateway::Istio => "`meshConfig.defaultConfig.gatewayTopology.numTrustedProxies` as many as there are",
        Gateway::Nginx => {
            "`proxy_set_header X-Forwarded-For $remote_addr` (or `$proxy_add_x_forwarded_for`) and `X-Forwarded-Proto $scheme`"
        }
        Gateway::Traefik => "`forwardedHeaders.insecure: false`, and `trustedIPs` without callers",
        Gateway::Caddy => "`trusted_proxies` without callers, and no `header_up X-Forwarded-For` from the request",
        Gateway::Haproxy => {
            "`http-request del-header X-Forwarded-For`, `option forwardfor`, and `http-request set-header X-Forwarded-Proto`"
        }
        Gateway::Kong => "`trusted_ips` without callers",
    }
}

const fn framing(gateway: Gateway) -> &'static str {
    match gateway {
        Gateway::Envoy | Gateway::Istio => {
            "`http_protocol_options` without `allow_chunked_length` and `accept_http_10`, no `connect_config`, and a \
             supported version"
        }
        Gateway::Nginx => "a supported version, and `ignore_invalid_headers on`",
        Gateway::Traefik | Gateway::Caddy => "a supported version",
        Gateway::Haproxy => "no `option accept-invalid-http-request` (`accept-unsafe-violations-in-http-request`)",
        Gateway::Kong => "a supported version, without `nginx_http_ignore_invalid_headers=off`",
    }
}

const fn nominated(gateway: Gateway) -> &'static str {
    match gateway {
        Gateway::Envoy | Gateway::Istio => {
            "ext_authz in the HTTP filters, where `Connection` has been dealt with already"
        }
        Gateway::Nginx => "`proxy_set_header Connection \"\"` (or the map for WebSockets), never `$http_connection`",
        Gateway::Traefik => "Traefik 3.1.3 or later (CVE-2024-45410)",
        Gateway::Caddy => "`copy_headers` in `forward_auth`, not `header_up` with what the caller sent in `Connection`",
        Gateway::Haproxy => "`http-request del-header Connection` unless it asks for an upgrade",
        Gateway::Kong => "no `request-transformer` that sets `Connection` from the request",
    }
}

const fn cut(gateway: Gateway) -> &'static str {
    match gateway {
        Gateway::Envoy | Gateway::Istio => {
            "`max_headers_count` and `max_request_headers_kb` as they are by default, or at the gateway in the policy \
             (`max_headers`, `max_header_bytes`) what they are"
        }
        Gateway::Nginx => {
            "`large_client_header_buffers` as by default; in OpenResty no `ngx.req.get_headers()` with a limit"
        }
        Gateway::Traefik => "`maxHeaderBytes` as by default",
        Gateway::Caddy => "`max_header_size` as by default",
        Gateway::Haproxy => {
            "`tune.http.maxhdr` as by default: more lines are refused, and all of them reach the Lua action"
        }
        Gateway::Kong => "the shipped plugin, which asks for 1,000 lines and refuses what is cut off",
    }
}

const fn preflight(gateway: Gateway) -> &'static str {
    match gateway {
        Gateway::Envoy | Gateway::Istio => "no CORS filter before ext_authz; `cors:` in the policy says who may ask",
        Gateway::Nginx => "no `if ($request_method = OPTIONS)` that answers; `cors:` in the policy says who may ask",
        Gateway::Traefik => {
            "no `headers` middleware with `accessControl…` before ForwardAuth; `cors:` in the policy instead"
        }
        Gateway::Caddy => "no `@options` matcher before `forward_auth`; `cors:` in the policy says who may ask",
        Gateway::Haproxy => {
            "no `http-request return if METH_OPTIONS` before the Lua action; `cors:` in the policy instead"
        }
        Gateway::Kong => "no `cors` plugin beside this one; `cors:` in the policy says who may ask",
    }
}

const fn passed(gateway: Gateway) -> &'static str {
    match gateway {
        Gateway::Envoy | Gateway::Istio => {
            "`request_headers_to_remove` at the route, where the application believes them"
        }
        Gateway::Nginx => "`proxy_set_header NAME \"\"`, where the application believes them",
        Gateway::Traefik => "`headers.customRequestHeaders: {NAME: \"\"}`, where the application believes them",
        Gateway::Caddy => "`header_up -NAME` in `reverse_proxy`, where the application believes them",
        Gateway::Haproxy => "`http-request del-header NAME`, where the application believes them",
        Gateway::Kong => "the `request-transformer` plugin with `remove.headers`, where the application believes them",
    }
}

const fn credential(gateway: Gateway) -> &'static str {
    match gateway {
        Gateway::Envoy | Gateway::Istio => {
            "`encode_raw_headers: true`, and no `disallowed_headers` that hides a credential"
        }
        Gateway::Nginx => "`proxy_set_header Authorization $portcullis_authorization` as in the shipped file",
        Gateway::Traefik => "`Authorization` (and `Cookie`) in `authResponseHeaders`",
        Gateway::Caddy => "`copy_headers Authorization` (and `Cookie`)",
        Gateway::Haproxy | Gateway::Kong => "the shipped file as it is: it removes what portcullis names",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::ATTACKS;

    #[test]
    fn every_finding_has_a_cure_in_every_gateway() {
        for (code, sentence) in ATTACKS {
            assert!(!sentence.ends_with('.'));
            for gateway in Gateway::ALL {
                assert!(cure(code, *gateway).len() > 10, "{code}, {}", gateway.name());
            }
        }
    }

    #[test]
    fn a_gateway_is_known_by_what_it_adds() {
        let answer = |name: &str, value: &str| Answer {
            status: 200,
            headers: vec![(name.to_owned(), value.to_owned())],
            body: Vec::new(),
        };
        for (name, value, expected) in [
            ("server", "envoy", Some(Gateway::Envoy)),
            ("server", "istio-envoy", Some(Gateway::Istio)),
            ("server", "nginx/1.26.3", Some(Gateway::Nginx)),
            ("via", "1.1 Caddy", Some(Gateway::Caddy)),
            ("via", "1.1 kong/3.9.1", Some(Gateway::Kong)),
            ("x-kong-proxy-latency", "1", Some(Gateway::Kong)),
            ("server", "gunicorn", None),
        ] {
            assert_eq!(Gateway::of(&answer(name, value)), expected, "{name}: {value}");
        }
    }
}
