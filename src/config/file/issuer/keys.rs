//! Where an issuer's keys are: at a URL, in a file, or a secret that is shared with it.

use std::collections::HashMap;
use std::path::PathBuf;

use super::text;
use crate::config::error::{Problem, Span, Spanned, Text};
use crate::config::file::site::{SecretPlace, secret_place};
use crate::config::shape::{Fields, Reader, Section};
use crate::config::tree::{Kind, Node};

pub(in crate::config::file) const SECRET: Section =
    Section { name: "a secret", accepted: &["from", "kid", "encoding"], later: &[], never: &[("value", IN_FILE)] };

const IN_FILE: &str = "a policy file says where a secret is, never what it is";
/// How many secrets an issuer may have: each may be tried for each new token.
const MAX_SECRETS: usize = 8;

/// Where an issuer's keys are; at least one of them is there, or its tokens are introspected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    /// For OIDC discovery.
    pub url: Option<Text>,
    /// A key set.
    pub jwks: Option<Spanned<Location>>,
    /// A PEM file with public keys.
    pub pem: Option<Spanned<PathBuf>>,
    /// The URL of a PEM with one key, with `{kid}` in it.
    pub pem_url: Option<Text>,
    /// Shared secrets.
    pub secrets: Vec<Secret>,
}

/// A shared secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    /// Where it is.
    pub place: Spanned<SecretPlace>,
    /// The kid of its tokens, where the file says so.
    pub kid: Option<Text>,
    /// How it is written there.
    pub encoding: Encoding,
}

/// How a secret is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// As it is; of a text, without blanks and line ends at either end.
    #[default]
    Raw,
    /// In Base64, with padding.
    Base64,
    /// In Base64 for URLs, without padding.
    Base64Url,
    /// In hexadecimal digits.
    Hex,
}

/// Where a key set is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// At a URL.
    Url(Box<str>),
    /// In a file.
    File(PathBuf),
}

pub(super) fn keys(reader: &mut Reader, fields: &Fields<'_>, http: bool) -> Keys {
    let url = fields.get("url").and_then(|node| reader.url(node, "`url` of an issuer", http));
    if let Some(url) = url.as_ref().filter(|url| url.value.contains('?')) {
        let message = "`url` of an issuer has a query, and an issuer has none (OIDC Discovery §3)";
        reader.report(Problem::error("bad_url", url.span, message));
    }
    let jwks = fields.get("jwks").and_then(|node| {
        let is_file = matches!(&node.kind, Kind::Text { text, .. } if text.starts_with("file:"));
        if is_file {
            let path = file_path(reader, node, "`jwks` of an issuer")?;
            return Some(path.map(Location::File));
        }
        Some(reader.url(node, "`jwks` of an issuer", http)?.map(Location::Url))
    });
    let is_url = |node: &&Node| matches!(&node.kind, Kind::Text { text, .. } if text.contains("://"));
    let pem_url = fields.get("pem").filter(is_url).and_then(|node| {
        let url = reader.url(node, "`pem` of an issuer", http)?;
        if url.value.matches(['{', '}', '?']).count() != 2 || !url.value.ends_with("/{kid}") || !fields.has("signer") {
            let message = "a `pem` at a URL is that of a load balancer's key, and ends with /{kid}";
            let cure = "`signer`, and pem: https://public-keys.auth.elb.eu-west-1.amazonaws.com/{kid}; or a file";
            reader.report(Problem::error("bad_url", url.span, message).cure(cure));
            return None;
        }
        Some(url)
    });
    let pem = fields.get("pem").filter(|node| !is_url(node)).and_then(|node| {
        if matches!(&node.kind, Kind::Text { text, .. } if text.contains("-----BEGIN")) {
            let message = "`pem` of an issuer is the path of a file, not its content";
            reader.report(Problem::error("wrong_shape", node.span, message).cure("pem: /etc/portcullis/issuer.pem"));
            return None;
        }
        let text = reader.text(node, "`pem` of an issuer")?;
        Some(text.map(|path| PathBuf::from(path.strip_prefix("file:").unwrap_or(&path))))
    });
    let secrets = fields.get("secret").map(|node| secrets(reader, node)).unwrap_or_default();
    if let Some(secret) = fields.key("secret") {
        for other in ["url", "jwks", "pem"].iter().filter_map(|key| fields.key(key)) {
            let message =
                "an issuer that signs with a shared secret has no public keys, nor a place to fetch them from";
            let problem = Problem::error("keys_twice", other, message).related(secret, "the secret");
            reader.report(problem.cure("`secret` and `issuer`; or make two issuers of it"));
        }
    }
    Keys { url, jwks, pem, pem_url, secrets }
}

/// Reads one secret or a list of them; all have a kid, or none.
fn secrets(reader: &mut Reader, node: &Node) -> Vec<Secret> {
    let items = match &node.kind {
        Kind::List(_) => reader.list(node, "`secret` of an issuer").unwrap_or_default(),
        _ => std::slice::from_ref(node),
    };
    let read: Vec<Secret> = items.iter().filter_map(|item| secret(reader, item)).collect();
    if read.len() > MAX_SECRETS {
        let message = format!("an issuer has at most {MAX_SECRETS} secrets, this has {}", read.len());
        reader.report(Problem::error("too_many", node.span, message));
    }
    let kids: Vec<&Text> = read.iter().filter_map(|secret| secret.kid.as_ref()).collect();
    if let Some(kid) = kids.first().filter(|_| kids.len() < read.len()) {
        let message = "some secrets of this issuer have a `kid`, and some have none";
        reader.report(Problem::error("kid_missing", kid.span, message).cure("a `kid` for each, or for none"));
    }
    let mut seen: HashMap<&str, Span> = HashMap::new();
    for kid in kids {
        if let Some(first) = seen.insert(&kid.value, kid.span) {
            let problem = Problem::error("kid_twice", kid.span, "two secrets of this issuer have the same `kid`");
            reader.report(problem.cure("a `kid` of its own for each").related(first, "first here"));
        }
    }
    let mut seen: HashMap<&SecretPlace, Span> = HashMap::new();
    for secret in &read {
        if let Some(first) = seen.insert(&secret.place.value, secret.place.span) {
            let problem = Problem::error("secret_twice", secret.place.span, "this secret is in the list twice");
            reader.report(problem.cure("keep one of the two").related(first, "first here"));
        }
    }
    read
}

fn secret(reader: &mut Reader, node: &Node) -> Option<Secret> {
    const WHAT: &str = "`secret` of an issuer";
    if !matches!(node.kind, Kind::Map(_)) {
        let place = secret_place(reader, node, WHAT, "secret")?;
        return Some(Secret { place, kid: None, encoding: Encoding::Raw });
    }
    let fields = reader.fields(node, SECRET)?;
    if !fields.has("from") {
        reader.missing(node.span, "a secret needs `from`, where it is: env:NAME or file:path");
    }
    let kid = text(reader, &fields, "kid");
    let encodings = [
        ("raw", Encoding::Raw),
        ("base64", Encoding::Base64),
        ("base64url", Encoding::Base64Url),
        ("hex", Encoding::Hex),
    ];
    let encoding = match fields.get("encoding") {
        Some(node) => reader.choice(node, "`encoding` of a secret", &encodings)?.value,
        None => Encoding::Raw,
    };
    let place = secret_place(reader, fields.get("from")?, "`from` of a secret", "secret")?;
    Some(Secret { place, kid, encoding })
}

/// Reads `file:path`.
pub(in crate::config::file) fn file_path(reader: &mut Reader, node: &Node, what: &str) -> Option<Spanned<PathBuf>> {
    let text = reader.text(node, what)?;
    let path = text.value.strip_prefix("file:").filter(|path| !path.is_empty() && !path.starts_with("//"));
    if path.is_none() {
        let problem = Problem::error("bad_path", node.span, format!("{what} must be `file:` and a path"));
        reader.report(problem.cure("file:/etc/portcullis/name, or file:name beside this file"));
    }
    path.map(|path| Spanned::new(PathBuf::from(path), text.span))
}
