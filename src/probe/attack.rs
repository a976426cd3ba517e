//! The attacks: requests that no well-behaved client sends, each with the rule by which its outcome is judged.

mod framing;
mod headers;
mod limits;
mod paths;
mod tokens;

use super::echo::{NONCE, random_id};

/// Every kind of attack, with the sentence that says what got through where one does.
pub const ATTACKS: &[(&str, &str)] = &[
    ("admin_direct", "portcullis' health and metrics can be reached from here"),
    ("bad_token", "a credential that is none was let in"),
    ("connect", "the gateway opened a tunnel"),
    ("credential_passed_on", "a credential that the policy strips reached the upstream"),
    ("envoy_headers", "the upstream got a caller's `x-envoy-*` header as if the gateway had set it"),
    ("forged_alias", "a managed header reached the upstream under another spelling"),
    ("forged_always", "a header by which proxies tell path, method or caller reached the upstream from outside"),
    ("forged_cut_off", "behind many header lines a forged header reached the upstream"),
    ("forged_fold", "a managed header reached the upstream in a folded or broken line"),
    ("forged_header", "a managed header reached the upstream as the caller sent it"),
    ("forged_trailer", "a managed header reached the upstream out of a trailer"),
    ("forged_whitespace", "a managed header reached the upstream with blanks round its name"),
    ("forwarded_alias", "an alias of a header that the gateway sets reached the upstream from outside"),
    ("forwarded_for", "the caller chooses the address that the upstream is told"),
    ("forwarded_proto", "the caller chooses the scheme that the upstream is told"),
    ("framing", "the upstream got a request whose length can be read in two ways"),
    ("gateway_gone", "the gateway stopped answering"),
    ("hop_by_hop_forged", "`Connection` let a forged header through"),
    ("hop_by_hop_identity", "`Connection` took an identity header away on its way to the upstream"),
    ("hop_by_hop_question", "`Connection` took away what portcullis is asked with, and the request passed"),
    ("identity_cut_off", "behind many header lines an identity header got lost on its way to the upstream"),
    ("identity_forged", "a signed-in caller's forged header reached the upstream"),
    ("many_headers", "many or large headers let a request pass that nobody allowed"),
    ("method", "another method reached a protected path without a credential"),
    ("old_http", "HTTP/1.0 reached a protected path without a credential"),
    ("override_decision", "a header of the caller's changed which path or method was judged, or reached"),
    ("override_passed", "the upstream gets these headers as the caller sends them, and must not believe them"),
    ("path_absolute_form", "an absolute target reached a protected path"),
    ("path_backslash", "a backslash reached a protected path"),
    ("path_case", "another case reached a protected path"),
    ("path_dot_segment", "dot segments reached a protected path"),
    ("path_double_encoding", "a path that is encoded twice reached a protected path"),
    ("path_empty_segment", "doubled slashes reached a protected path"),
    ("path_encoding", "an encoded path reached a protected path"),
    ("path_escaped_slash", "an escaped slash reached a protected path"),
    ("path_fragment", "a fragment, query or asterisk reached a protected path"),
    ("path_null", "a NUL reached a protected path"),
    ("path_semicolon", "a path parameter reached a protected path"),
    ("path_trailing", "something at the end reached a protected path"),
    (
        "path_unread",
        "the gateway leaves paths as they are, so that portcullis alone refuses what can be read in two ways",
    ),
    ("portcullis_direct", "portcullis itself answers questions from here"),
    ("preflight", "a request for permission to ask passed where the policy allows none"),
    ("preflight_incomplete", "OPTIONS reached a protected path without being a preflight"),
    ("protected_open", "a protected path is open"),
    ("trace", "TRACE reaches the upstream, which may answer with the headers that the gateway added"),
    ("two_credentials", "the upstream got two credentials, of which only one can have been judged"),
    ("two_hosts", "the upstream got a request for two hosts"),
    ("unknown_open", "a path that the policy does not allow is open"),
    ("upgrade", "a WebSocket was opened without a credential"),
    ("upstream_direct", "the upstream can be reached from here, past the gateway"),
];

/// The sentence of a code.
pub(super) fn sentence(code: &str) -> &'static str {
    ATTACKS.iter().find(|(name, _)| *name == code).map_or("", |(_, sentence)| sentence)
}

/// How the outcome of an attack is judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// Nobody is signed in, and the path is protected: it does not reach the upstream.
    Barred,
    /// Nobody is signed in: no path reaches the upstream that some server reads as the protected one.
    Apart,
    /// It may pass: the forged value reaches the upstream under no managed name.
    Forged,
    /// A signed-in caller's: as [`Rule::Forged`], and what the upstream is told of them is all there.
    Kept,
    /// A signed-in caller's: not passed with two credentials.
    OneCredential,
    /// A preflight: passes where the policy shares; the forged value does not.
    Preflight,
    /// It does not reach the upstream with two lengths.
    Framed,
    /// It does not reach the upstream with two hosts.
    OneHost,
    /// It is not answered as a tunnel.
    NoTunnel,
    /// The last address that the upstream is told is not the forged one.
    Address,
    /// The scheme that the upstream is told is not this one.
    Scheme(&'static str),
    /// Where Envoy is the gateway, the upstream does not get this header as it was sent.
    Envoys(&'static str),
    /// The upstream gets no alias of this header.
    Alias(&'static str),
    /// Worth a word where Envoy leaves it to portcullis to refuse this.
    Normal,
    /// Worth a word where the upstream gets this header as it was sent.
    Passed(&'static str),
    /// Worth a word where it reaches the upstream.
    Told,
    /// A signed-in caller's: the upstream does not get the credential.
    Stripped,
}

/// One request to send, and how to judge what comes of it.
#[derive(Clone, Debug)]
pub(super) struct Attack {
    pub(super) code: &'static str,
    /// What it is among those of its code, in a few words.
    pub(super) variant: String,
    pub(super) request: Request,
    pub(super) rule: Rule,
    pub(super) nonce: String,
}

/// What is attacked.
#[derive(Clone, Debug, Default)]
pub(super) struct Site {
    /// What goes into `Host`.
    pub(super) host: String,
    /// A path that passes without a credential.
    pub(super) public: Option<String>,
    /// A path that should, whether it does or not.
    pub(super) claimed: Option<String>,
    /// A path that does not pass.
    pub(super) protected: Option<String>,
    /// The headers that no caller may send, as the policy spells them.
    pub(super) managed: Vec<String>,
    /// Those that the policy lets callers send, in lower case.
    pub(super) kept: Vec<String>,
    /// A credential that counts, as a header line.
    pub(super) token: Option<String>,
    /// Whether the policy strips it.
    pub(super) strips: bool,
    /// The methods, beside GET and HEAD, by which nobody may reach the protected path without a credential.
    pub(super) closed: Vec<&'static str>,
    pub(super) tls: bool,
    /// A value that is found nowhere else.
    pub(super) forged: String,
}

impl Site {
    /// All attacks that can be made here.
    pub(super) fn attacks(&self) -> Vec<Attack> {
        let mut all = Attacks { site: self, list: Vec::new() };
        all.headers();
        all.paths();
        all.tokens();
        all.limits();
        all.framing();
        all.list
    }

    /// A request for a path.
    pub(super) fn get(&self, target: &str) -> Request {
        Request::new("GET", target, &self.host)
    }
}

/// The attacks as they are put together.
struct Attacks<'s> {
    site: &'s Site,
    list: Vec<Attack>,
}

impl Attacks<'_> {
    fn push(&mut self, code: &'static str, variant: impl Into<String>, rule: Rule, request: Request) {
        self.list.push(Attack { code, variant: variant.into(), request, rule, nonce: random_id() });
    }
}

/// A request, its lines as they are sent. One character is one byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) target: String,
    version: &'static str,
    host: Option<String>,
    lines: Vec<String>,
    body: String,
    closes: bool,
}

impl Request {
    pub(super) fn new(method: &str, target: &str, host: &str) -> Self {
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            version: "HTTP/1.1",
            host: Some(host.to_owned()),
            lines: Vec::new(),
            body: String::new(),
            closes: true,
        }
    }

    /// With one more line.
    pub(super) fn with(mut self, line: impl Into<String>) -> Self {
        self.lines.push(line.into());
        self
    }

    fn with_all(mut self, lines: impl IntoIterator<Item = String>) -> Self {
        self.lines.extend(lines);
        self
    }

    fn method(mut self, method: &str) -> Self {
        method.clone_into(&mut self.method);
        self
    }

    fn body(mut self, body: &str) -> Self {
        body.clone_into(&mut self.body);
        self
    }

    /// Without the line that closes the connection: the request has its own.
    fn open(mut self) -> Self {
        self.closes = false;
        self
    }

    /// As HTTP/1.0, with or without `Host`.
    fn old(mut self, host: bool) -> Self {
        self.version = "HTTP/1.0";
        self.host = self.host.filter(|_| host);
        self
    }

    /// Whether the answer has no body.
    pub(super) fn is_bodiless(&self) -> bool {
        matches!(&*self.method, "HEAD" | "CONNECT")
    }

    /// The bytes to send. The nonce is in the first line after `Host`, where nothing is cut off.
    pub(super) fn raw(&self, nonce: &str) -> Vec<u8> {
        let mut text = format!("{} {} {}\r\n", self.method, self.target, self.version);
        if let Some(host) = &self.host {
            text.push_str(&format!("Host: {host}\r\n"));
        }
        text.push_str(&format!("{NONCE}: {nonce}\r\n"));
        if self.closes {
            text.push_str("Connection: close\r\n");
        }
        for line in &self.lines {
            text.push_str(line);
            text.push_str("\r\n");
        }
        text.push_str("\r\n");
        text.push_str(&self.body);
        text.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect()
    }
}
