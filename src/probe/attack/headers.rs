//! Forged headers: those that the upstream is to believe, in every spelling, and those that other proxies believe.

use super::super::judge::ADDRESS;
use super::{Attacks, Request, Rule};
use crate::authz::header::ALWAYS;

/// What may stand in a header's name beside letters and digits (RFC 9110 §5.6.2).
const ODD: &str = "!#$%&'*+-.^_`|~";
/// One of each family of the always-list.
const OF_FAMILIES: &[&str] = &[
    "remote-groups",
    "x-remote-groups",
    "x-auth-request-access-token",
    "x-webauth-name",
    "x-authenticated-userid",
    "x-consumer-username",
    "x-credential-identifier",
    "x-goog-authenticated-user-email",
    "x-ms-client-principal",
];
/// Headers with which some gateway asks an authorization service, or says where a request came from.
const QUESTION: &str = "x-original-method, x-original-uri, x-original-url, x-original-host, x-original-address, \
                        x-forwarded-method, x-forwarded-uri, x-forwarded-host, x-forwarded-for, x-forwarded-proto";
/// Headers that name a path.
const PATHS: &[&str] = &[
    "X-Original-URL",
    "X-Original-URI",
    "X-Rewrite-URL",
    "X-Forwarded-Uri",
    "X-Forwarded-Path",
    "X-Forwarded-Prefix",
    "X-Envoy-Original-Path",
    "X-Replaced-Path",
];
/// Headers that name a method.
const METHODS: &[&str] =
    &["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X-Original-Method", "X-Forwarded-Method"];
/// Headers that gateways pass on, and that some applications believe.
const BELIEVED: &[&str] = &[
    "X-Forwarded-Host",
    "X-Forwarded-Uri",
    "X-Forwarded-Method",
    "X-Forwarded-Prefix",
    "X-Forwarded-Server",
    "X-Real-IP",
    "X-Client-IP",
    "True-Client-IP",
    "CF-Connecting-IP",
    "X-Forwarded-Client-Cert",
    "Client-Cert",
    "X-SSL-Client-Verify",
];
const ENVOYS: &[&str] =
    &["X-Envoy-External-Address", "X-Envoy-Internal", "X-Envoy-Downstream-Service-Cluster", "X-Envoy-Original-Path"];

impl Attacks<'_> {
    pub(super) fn headers(&mut self) {
        let site = self.site;
        if let Some(public) = &site.public {
            let get = site.get(public);
            self.spellings(&get, &Rule::Forged, ["forged_header", "forged_alias", "forged_whitespace", "forged_fold"]);
            self.always(&get);
            self.nominated(&get);
            self.trailers(public);
            self.believed(&get);
        }
        if let (Some(protected), Some(token)) = (&site.protected, &site.token) {
            let get = site.get(protected).with(token);
            self.spellings(&get, &Rule::Kept, ["identity_forged"; 4]);
            self.identity_taken(&get);
            if site.strips {
                self.push("credential_passed_on", "the credential", Rule::Stripped, get);
            }
        }
        self.hidden_question();
        self.override_headers();
    }

    /// The managed headers in every spelling, one request a spelling with all of them.
    fn spellings(&mut self, get: &Request, rule: &Rule, codes: [&'static str; 4]) {
        let [exact, alias, whitespace, fold] = codes;
        let forged = &self.site.forged;
        let names = &self.site.managed;
        if names.is_empty() {
            return;
        }
        let all = |spell: &dyn Fn(&str) -> String| get.clone().with_all(names.iter().map(|name| spell(name)));
        let mut made: Vec<(&'static str, String, Request)> = vec![
            (exact, "as it is".into(), all(&|name| format!("{name}: {forged}"))),
            (exact, "in capitals".into(), all(&|name| format!("{}: {forged}", name.to_ascii_uppercase()))),
            (exact, "in lower case".into(), all(&|name| format!("{}: {forged}", name.to_ascii_lowercase()))),
            (exact, "twice".into(), all(&|name| format!("{name}: {forged}\r\n{name}: {forged}"))),
            (exact, "twice, the first empty".into(), all(&|name| format!("{name}:\r\n{name}: {forged}"))),
            (exact, "in a list".into(), all(&|name| format!("{name}: , {forged}"))),
        ];
        if *rule == Rule::Kept {
            made.push((exact, "empty".into(), all(&|name| format!("{name}:"))));
        }
        for c in ODD.chars().filter(|c| *c != '-').map(String::from) {
            let every = all(&|name| format!("{}: {forged}", name.replace('-', &c)));
            made.push((alias, format!("`{c}` for `-`"), every));
            let first = all(&|name| format!("{}: {forged}", name.replacen('-', &c, 1).to_ascii_lowercase()));
            made.push((alias, format!("`{c}` for the first `-`"), first));
        }
        for (what, before, after) in [
            ("a blank before the colon", "", " "),
            ("a tab before the colon", "", "\t"),
            ("a vertical tab before the colon", "", "\u{b}"),
            ("a NUL before the colon", "", "\0"),
            ("a blank before the name", " ", ""),
            ("a tab before the name", "\t", ""),
        ] {
            made.push((whitespace, what.into(), all(&|name| format!("{before}{name}{after}: {forged}"))));
        }
        for (what, before, after) in [
            ("a line folded before the name", "x-harmless: a\r\n ", ": "),
            ("a line folded after the name", "", ":\r\n "),
            ("a bare line feed", "x-harmless: a\n", ": "),
            ("a bare carriage return", "x-harmless: a\r", ": "),
        ] {
            made.push((fold, what.into(), all(&|name| format!("{before}{name}{after}{forged}"))));
        }
        for (code, variant, request) in made {
            self.push(code, variant, rule.clone(), request);
        }
    }

    fn always(&mut self, get: &Request) {
        let is_kept = |name: &&&str| self.site.kept.iter().any(|kept| kept == **name);
        let names: Vec<&str> = ALWAYS.iter().chain(OF_FAMILIES).filter(|name| !is_kept(name)).copied().collect();
        for name in names {
            for name in [name.to_owned(), name.replace('-', "_")] {
                let request = get.clone().with(format!("{name}: {}", self.site.forged));
                self.push("forged_always", format!("`{name}`"), Rule::Forged, request);
            }
        }
    }

    fn forged(&self) -> Vec<String> {
        self.site.managed.iter().map(|name| format!("{name}: {}", self.site.forged)).collect()
    }

    /// A forged header that `Connection` names: one that is dropped early must not be missed and kept.
    fn nominated(&mut self, get: &Request) {
        let names = self.site.managed.join(", ");
        if names.is_empty() {
            return;
        }
        let forged = get.clone().open().with_all(self.forged());
        for line in [format!("Connection: close, {names}"), format!("Connection: close\r\nKeep-Alive: {names}")] {
            self.push("hop_by_hop_forged", quoted(&line), Rule::Forged, forged.clone().with(line));
        }
    }

    fn trailers(&mut self, public: &str) {
        let site = self.site;
        let Some(name) = site.managed.first() else { return };
        let body = format!("1\r\nx\r\n0\r\n{name}: {}\r\n\r\n", site.forged);
        for method in ["POST", "GET"] {
            let request = Request::new(method, public, &site.host).with("Transfer-Encoding: chunked").body(&body);
            let announced = request.clone().with(format!("Trailer: {name}")).with("TE: trailers");
            self.push("forged_trailer", format!("{method}, not announced"), Rule::Forged, request);
            self.push("forged_trailer", format!("{method}, announced"), Rule::Forged, announced);
        }
    }

    /// What says where a request came from, or how.
    fn believed(&mut self, get: &Request) {
        let site = self.site;
        let request = get.clone().with(format!("X-Forwarded-For: {ADDRESS}"));
        self.push("forwarded_for", "`X-Forwarded-For`", Rule::Address, request);
        let scheme = if site.tls { "http" } else { "https" };
        let request = get.clone().with(format!("X-Forwarded-Proto: {scheme}"));
        self.push("forwarded_proto", "`X-Forwarded-Proto`", Rule::Scheme(scheme), request);
        for name in ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-real-ip"] {
            let alias = name.replace('-', "_");
            let request = get.clone().with(format!("{alias}: {}", site.forged));
            self.push("forwarded_alias", format!("`{alias}`"), Rule::Alias(name), request);
        }
        for name in ENVOYS {
            let request = get.clone().with(format!("{name}: {}", site.forged));
            self.push("envoy_headers", format!("`{name}`"), Rule::Envoys(name), request);
        }
        for name in BELIEVED {
            let request = get.clone().with(format!("{name}: {}", site.forged));
            self.push("override_passed", format!("`{name}`"), Rule::Passed(name), request);
        }
        let request = get.clone().with(format!("Forwarded: for={0};host={0}", site.forged));
        self.push("override_passed", "`Forwarded`", Rule::Passed("Forwarded"), request);
    }

    /// A caller who has what the gateway added dropped again.
    fn identity_taken(&mut self, get: &Request) {
        let names = self.site.managed.join(", ");
        if names.is_empty() {
            return;
        }
        for lines in [
            format!("Connection: close, {names}"),
            format!("Connection: close\r\nConnection: {names}"),
            format!("Connection: close\r\nKeep-Alive: {names}"),
            format!("Connection: close\r\nProxy-Connection: {names}"),
            format!("Connection: close, TE\r\nTE: trailers, {names}"),
            format!("Connection: close\r\nTrailer: {names}"),
        ] {
            self.push("hop_by_hop_identity", quoted(&lines), Rule::Kept, get.clone().open().with(lines));
        }
    }

    /// A caller who has dropped what portcullis is asked with.
    fn hidden_question(&mut self) {
        let site = self.site;
        let Some(protected) = &site.protected else { return };
        for line in [format!("Connection: close, {QUESTION}"), "Connection: close, authorization".to_owned()] {
            let request = site.get(protected).open().with("Authorization: Bearer a.b.c").with(line.clone());
            self.push("hop_by_hop_question", quoted(&line), Rule::Barred, request);
        }
    }

    /// Headers that say which path, method or host is meant: judged, or reached, must not be another.
    fn override_headers(&mut self) {
        const CODE: &str = "override_decision";
        let site = self.site;
        let Some(protected) = &site.protected else { return };
        let get = site.get(protected);
        let mut lines: Vec<String> =
            METHODS.iter().flat_map(|name| ["OPTIONS", "HEAD"].map(|method| format!("{name}: {method}"))).collect();
        lines.extend(["X-Forwarded-Host", "X-Host", "X-Original-Host"].map(|name| format!("{name}: localhost")));
        lines.push("Forwarded: for=127.0.0.1;host=localhost;proto=https".to_owned());
        let addresses = ["X-Forwarded-For", "X-Real-IP", "X-Original-Address", "X-Envoy-External-Address"];
        lines.extend(addresses.map(|name| format!("{name}: 127.0.0.1")));
        lines.push("X-Envoy-Internal: true".to_owned());
        if let Some(claimed) = &site.claimed {
            let whole = format!("http://{}{claimed}", site.host);
            lines.extend(PATHS.iter().flat_map(|name| [format!("{name}: {claimed}"), format!("{name}: {whole}")]));
            lines.push(format!(
                "X-Forwarded-Method: GET\r\nX-Original-Method: GET\r\nX-Forwarded-Host: {}\r\nX-Forwarded-Proto: http\r\n\
                 X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Uri: {claimed}\r\nX-Original-URI: {claimed}\r\n\
                 X-Original-URL: {claimed}",
                site.host
            ));
        }
        if let Some(public) = &site.public {
            for name in PATHS {
                let line = format!("{name}: {protected}");
                self.push(CODE, quoted(&line), Rule::Apart, site.get(public).with(line));
            }
        }
        for line in lines {
            self.push(CODE, quoted(&line), Rule::Barred, get.clone().with(line));
        }
    }
}

/// Lines as part of a sentence.
fn quoted(lines: &str) -> String {
    format!("`{}`", lines.replace("\r\n", "` `"))
}
