//! Credentials that are none, requests without one by other ways than a plain GET, and two credentials at once.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{Attacks, Request, Rule};

const CLAIMS: &str =
    r#"{"iss":"https://id.example.com","sub":"probe","aud":"probe","exp":4102444800,"roles":["admin"]}"#;
const WEBSOCKET: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
const H2C: &str = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA";

impl Attacks<'_> {
    pub(super) fn tokens(&mut self) {
        let Some(protected) = &self.site.protected else { return };
        self.garbage(protected);
        self.methods(protected);
        self.preflights(protected);
        if let Some(token) = &self.site.token {
            self.spoilt(protected, token);
        }
    }

    fn garbage(&mut self, protected: &str) {
        let text = |json: &str| URL_SAFE_NO_PAD.encode(json);
        let plain = ["", "Bearer", "Bearer ", "Bearer a.b.c", "bearer x", "Bearer null", "x", "Basic cHJvYmU6cHJvYmU="];
        let mut lines: Vec<(String, String)> =
            plain.map(|value| format!("Authorization: {value}")).map(|line| (format!("`{line}`"), line)).into();
        for (what, header) in [
            ("`alg: none`", r#"{"alg":"none","typ":"JWT"}"#),
            ("`alg: None`", r#"{"alg":"None","typ":"JWT"}"#),
            ("an empty `alg`", r#"{"alg":"","typ":"JWT"}"#),
            ("no `alg`", r#"{"typ":"JWT"}"#),
            ("HS256 without a signature", r#"{"alg":"HS256","typ":"JWT"}"#),
            ("RS256 without a signature", r#"{"alg":"RS256","typ":"JWT","kid":"1"}"#),
        ] {
            let token = format!("Authorization: Bearer {}.{}.", text(header), text(CLAIMS));
            lines.push((format!("{what}, some bytes"), format!("{token}AAAA")));
            lines.push((what.into(), token));
        }
        lines.push(("two that are none".into(), "Authorization: Bearer a.b.c\r\nAuthorization: Bearer d.e.f".into()));
        lines.push(("other headers".into(), "authorization_: Bearer a.b.c\r\nX-Authorization: Bearer a.b.c".into()));
        lines.push(("a cookie that is none".into(), "Cookie: session=x; token=a.b.c".into()));
        for (what, line) in lines {
            self.push("bad_token", what, Rule::Barred, self.site.get(protected).with(line));
        }
    }

    fn methods(&mut self, protected: &str) {
        let site = self.site;
        for method in &site.closed {
            let request = Request::new(method, protected, &site.host).with("Content-Length: 0");
            self.push("method", *method, Rule::Barred, request);
        }
        for method in ["HEAD", "get", "Get", "PROBE", "TRACE", "TRACK", "PROPFIND", "GET\u{b}"] {
            let request = Request::new(method, protected, &site.host);
            self.push("method", method.escape_default().to_string(), Rule::Barred, request);
        }
        let plain = site.get(protected);
        self.push("old_http", "HTTP/1.0", Rule::Barred, plain.clone().old(true));
        self.push("old_http", "HTTP/1.0 without Host", Rule::Barred, plain.old(false));
        let opened = site.get(protected).open();
        self.push("upgrade", "WebSocket", Rule::Barred, opened.clone().with(WEBSOCKET));
        self.push("upgrade", "h2c", Rule::Barred, opened.with(H2C));
    }

    fn preflights(&mut self, protected: &str) {
        let site = self.site;
        let options = Request::new("OPTIONS", protected, &site.host);
        let origin = options.clone().with("Origin: https://probe.example");
        let whole = origin.clone().with("Access-Control-Request-Method: GET");
        let incomplete = [
            ("OPTIONS", options.clone()),
            ("OPTIONS with `Origin` only", origin.clone()),
            ("OPTIONS without `Origin`", options.with("Access-Control-Request-Method: GET")),
            ("OPTIONS for no method", origin.with("Access-Control-Request-Method:")),
        ];
        if site.closed.contains(&"OPTIONS") {
            for (what, request) in incomplete {
                self.push("preflight_incomplete", what, Rule::Barred, request);
            }
        }
        let as_get = whole.clone().method("GET");
        self.push("preflight_incomplete", "GET that says it is a preflight", Rule::Barred, as_get);
        let forged = site.managed.iter().map(|name| format!("{name}: {}", site.forged));
        let forged = whole.clone().with("Authorization: Bearer a.b.c").with_all(forged);
        self.push("preflight", "whole", Rule::Preflight, whole);
        self.push("preflight", "whole, with a credential and forged headers", Rule::Preflight, forged);
    }

    /// What becomes of a good credential that is tampered with, or shown beside another.
    fn spoilt(&mut self, protected: &str, line: &str) {
        let get = self.site.get(protected);
        let Some(token) = line.strip_prefix("Authorization: Bearer ") else { return };
        let parts: Vec<&str> = token.split('.').collect();
        if let [header, claims, signature] = *parts {
            let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
            let turned: String = signature.chars().rev().collect();
            for (what, spoilt) in [
                ("without its signature", format!("{header}.{claims}.")),
                ("with `alg: none`", format!("{none}.{claims}.")),
                ("with `alg: none` and its signature", format!("{none}.{claims}.{signature}")),
                ("with its signature turned round", format!("{header}.{claims}.{turned}")),
                ("with other claims", format!("{header}.{}.{signature}", URL_SAFE_NO_PAD.encode(CLAIMS))),
            ] {
                let request = get.clone().with(format!("Authorization: Bearer {spoilt}"));
                self.push("bad_token", format!("the token {what}"), Rule::Barred, request);
            }
        }
        for (what, lines) in [
            ("good, then bad", format!("{line}\r\nAuthorization: Bearer a.b.c")),
            ("bad, then good", format!("Authorization: Bearer a.b.c\r\n{line}")),
            ("in one line", format!("{line}, Bearer a.b.c")),
            ("good, then Basic", format!("{line}\r\nAuthorization: Basic cHJvYmU6cHJvYmU=")),
        ] {
            self.push("two_credentials", what, Rule::OneCredential, get.clone().with(lines));
        }
    }
}
