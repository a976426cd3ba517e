//! `introspection:` of an issuer: where it is asked about opaque tokens, and as whom.

use std::path::PathBuf;
use std::time::Duration;

use super::keys::file_path;
use super::{duration, text};
use crate::authz::introspection::Subject;
use crate::authz::introspection::client::Signing;
use crate::config::error::{Problem, Span, Spanned, Text};
use crate::config::file::site::{SecretPlace, secret_place};
use crate::config::shape::{Fields, Reader, Section, brief};
use crate::config::tree::Node;

pub(in crate::config::file) const INTROSPECTION: Section = Section {
    name: "`introspection`",
    accepted: &["url", "client_id", "client_secret", "auth", "private_key_jwt", "subject", "cache", "timeout"],
    later: &[],
    never: &[],
};
pub(in crate::config::file) const PRIVATE_KEY_JWT: Section =
    Section { name: "`private_key_jwt`", accepted: &["key", "kid", "algorithm", "audience"], later: &[], never: &[] };

/// What only tokens have that an issuer signs.
const OF_SIGNED: &[&str] = &["algorithms", "types", "id_tokens", "refresh", "cooldown", "max_stale"];
/// The longest that an answer may be believed.
const MAX_CACHE: Duration = Duration::from_secs(3_600);
/// The longest that one ask may take.
const MAX_TIMEOUT: Duration = Duration::from_secs(10);

/// How an issuer is asked about opaque tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Introspection {
    /// Where.
    pub url: Text,
    /// As which client.
    pub client: Text,
    /// How that is proved.
    pub proof: ClientProof,
    /// Which member of an answer names the subject.
    pub subject: Subject,
    /// How long an answer is believed; 60 s where the file does not say.
    pub cache: Duration,
    /// How long one ask may take; 2 s where the file does not say.
    pub timeout: Duration,
    /// Where the key `introspection` stands.
    pub key: Span,
}

/// How a client proves who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientProof {
    /// By a secret, in a header or else in the form.
    Secret {
        /// Where it is.
        place: Spanned<SecretPlace>,
        /// Whether it is sent in the form.
        in_form: bool,
    },
    /// By a key.
    Key {
        /// The file of the private key.
        file: Spanned<PathBuf>,
        /// Its name.
        kid: Option<Text>,
        /// What it signs with.
        signing: Signing,
        /// Whom the assertion is for; the issuer where the file does not say.
        audience: Option<Text>,
    },
}

pub(super) fn introspection(
    reader: &mut Reader,
    name: &Text,
    issuer: &Fields<'_>,
    (http, keys): (bool, bool),
) -> Option<Introspection> {
    let node = issuer.get("introspection")?;
    if !keys {
        for key in OF_SIGNED {
            if let Some(span) = issuer.key(key) {
                let message =
                    format!("`{key}` is about tokens that an issuer signs, and `{}` has no keys", brief(&name.value));
                let cure = "remove it; or say where the keys are: `url`, `jwks`, `pem` or `secret`";
                reader.report(Problem::error("introspection_only", span, message).cure(cure));
            }
        }
    }
    let fields = reader.fields(node, INTROSPECTION)?;
    for (key, what) in [("url", "where to ask"), ("client_id", "as whom to ask")] {
        if !fields.has(key) {
            reader.missing(node.span, format!("`introspection` needs `{key}`, {what}"));
        }
    }
    let url = fields.get("url").and_then(|node| reader.url(node, "`url` of `introspection`", http));
    let client = text(reader, &fields, "client_id");
    let subjects = [Subject::Sub, Subject::Username, Subject::ClientId].map(|subject| (subject.member(), subject));
    let subject = fields
        .get("subject")
        .map(|node| reader.choice(node, "`subject` of `introspection`", &subjects).map(|s| s.value));
    let cache = duration(reader, &fields, "cache", MAX_CACHE);
    let timeout = duration(reader, &fields, "timeout", MAX_TIMEOUT);
    if let Some(node) = fields.get("timeout").filter(|_| timeout.is_some_and(|timeout| timeout.is_zero())) {
        let problem =
            Problem::error("out_of_range", node.span, "`timeout` of `introspection` must be longer than nothing");
        reader.report(problem.cure("timeout: 2s"));
    }
    let proof = proof(reader, &fields, node.span);
    Some(Introspection {
        url: url?,
        client: client?,
        proof: proof?,
        subject: subject.map_or(Some(Subject::Sub), |subject| subject)?,
        cache: cache.unwrap_or(Duration::from_secs(60)),
        timeout: timeout.unwrap_or(Duration::from_secs(2)),
        key: issuer.key("introspection").unwrap_or(node.span),
    })
}

fn proof(reader: &mut Reader, fields: &Fields<'_>, span: Span) -> Option<ClientProof> {
    let ways = [("basic", false), ("post", true)];
    let auth = fields.get("auth").map(|node| reader.choice(node, "`auth` of `introspection`", &ways));
    match (fields.get("client_secret"), fields.get("private_key_jwt")) {
        (Some(secret), None) => {
            let place = secret_place(reader, secret, "`client_secret` of `introspection`", "secret")?;
            let in_form = auth.map_or(Some(false), |auth| auth.map(|auth| auth.value))?;
            Some(ClientProof::Secret { place, in_form })
        }
        (None, Some(node)) => {
            if let Some(auth) = fields.key("auth") {
                let message = "`auth` is how a secret is sent, and a private key is never sent";
                reader.report(Problem::error("auth_unread", auth, message).cure("remove it"));
            }
            key(reader, node)
        }
        (Some(secret), Some(other)) => {
            let message = "a client proves who it is in one way: `client_secret` or `private_key_jwt`";
            let problem = Problem::error("client_proof_twice", other.span, message).related(secret.span, "the other");
            reader.report(problem.cure("keep the one that the issuer has for this client"));
            None
        }
        (None, None) => {
            reader.missing(
                span,
                "`introspection` needs `client_secret` or `private_key_jwt`: no endpoint answers everyone",
            );
            None
        }
    }
}

fn key(reader: &mut Reader, node: &Node) -> Option<ClientProof> {
    let fields = reader.fields(node, PRIVATE_KEY_JWT)?;
    for (key, what) in [("key", "the file of the private key"), ("algorithm", "RS256, ES256 or EdDSA")] {
        if !fields.has(key) {
            reader.missing(node.span, format!("`private_key_jwt` needs `{key}`: {what}"));
        }
    }
    let (kid, audience) = (text(reader, &fields, "kid"), text(reader, &fields, "audience"));
    let known = [Signing::Rs256, Signing::Es256, Signing::EdDsa].map(|signing| (signing.name(), signing));
    let signing =
        fields.get("algorithm").and_then(|node| reader.choice(node, "`algorithm` of `private_key_jwt`", &known));
    let file = fields.get("key").and_then(|node| file_path(reader, node, "`key` of `private_key_jwt`"));
    Some(ClientProof::Key { file: file?, kid, signing: signing?.value, audience })
}

#[cfg(test)]
mod tests {
    use crate::config::file::parse;

    /// The problems of an issuer with these lines under `introspection`, which begin in line 5 and column 7.
    fn found(lines: &str) -> Vec<(u32, u32, &'static str)> {
        let lines = lines.replace('\n', "\n      ");
        let text =
            format!("issuers:\n  main:\n    issuer: x\n    introspection:\n      {lines}\nroutes: {{/a: role:x}}\n");
        let (_, problems) = parse("portcullis.yaml", &text);
        problems.as_slice().iter().map(|problem| (problem.span.line, problem.span.column, problem.code)).collect()
    }

    const BASE: &str = "url: https://id.example.com/i\nclient_id: edge\n";

    #[test]
    fn an_introspection_says_where_and_as_whom() {
        let with = |more: &str| found(&format!("{BASE}{more}"));
        for good in [
            "client_secret: env:S",
            "client_secret: file:secret\nauth: post\nsubject: client_id\ncache: 0s\ntimeout: 10s",
            "private_key_jwt: {key: file:c.pem, kid: a, algorithm: ES256, audience: https://id.example.com/}",
        ] {
            assert_eq!(with(good), [], "{good}");
        }
        for (bad, line, column, code) in [
            ("client_secret: s3cret", 7, 22, "secret_in_file"),
            ("client_secret: env:S\nauth: none", 8, 13, "unknown_value"),
            ("client_secret: env:S\nsubject: email", 8, 16, "unknown_value"),
            ("client_secret: env:S\ncache: 2h", 8, 14, "out_of_range"),
            ("client_secret: env:S\ntimeout: 11s", 8, 16, "out_of_range"),
            ("client_secret: env:S\ntimeout: 0s", 8, 16, "out_of_range"),
            ("client_secret: env:S\nsecret: x", 8, 7, "unknown_key"),
            ("client_secret: env:S\nprivate_key_jwt: {key: file:c, algorithm: ES256}", 8, 24, "client_proof_twice"),
            ("private_key_jwt: {algorithm: ES256}", 7, 24, "missing_key"),
            ("private_key_jwt: {key: file:c}", 7, 24, "missing_key"),
            ("private_key_jwt: {key: file:c, algorithm: HS256}", 7, 49, "unknown_value"),
            ("private_key_jwt: {key: c.pem, algorithm: ES256}", 7, 30, "bad_path"),
            ("private_key_jwt: {key: file:c, algorithm: ES256}\nauth: post", 8, 7, "auth_unread"),
        ] {
            assert_eq!(with(bad), [(line, column, code)], "{bad}");
        }
        assert_eq!(found("url: https://id.example.com/i\nclient_secret: env:S"), [(5, 7, "missing_key")]);
        assert_eq!(found("client_id: a\nclient_secret: env:S"), [(5, 7, "missing_key")]);
        assert_eq!(found(BASE.trim_end()), [(5, 7, "missing_key")]);
    }

    #[test] // K01
    fn it_is_asked_over_https() {
        for (url, code) in [
            ("http://id.example.com/i", "not_https"),
            ("file:///etc/passwd", "bad_url"),
            ("https://a:b@id.example.com/i", "secret_in_url"),
        ] {
            let found = found(&format!("url: {url}\nclient_id: a\nclient_secret: env:S"));
            assert_eq!(found, [(5, 12, code)], "{url}");
        }
    }

    #[test]
    fn what_is_about_signed_tokens_has_no_place_without_keys() {
        let more = "introspection: {url: https://id.example.com/i, client_id: a, client_secret: env:S}";
        let text = |lines: &str| format!("issuers:\n  main:\n    {lines}\n    {more}\nroutes: {{/a: role:x}}\n");
        let codes = |lines: &str| -> Vec<_> {
            let (_, problems) = parse("p.yaml", &text(lines));
            problems.as_slice().iter().map(|problem| (problem.span.line, problem.code)).collect()
        };
        assert_eq!(codes("issuer: x"), []);
        assert_eq!(codes("url: https://id.example.com\n    refresh: 1m"), []);
        for key in
            ["refresh: 1m", "types: [JWT]", "algorithms: [ES256]", "id_tokens: true", "cooldown: 1s", "max_stale: 1h"]
        {
            assert_eq!(codes(&format!("issuer: x\n    {key}")), [(4, "introspection_only")], "{key}");
        }
    }
}
