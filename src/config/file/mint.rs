//! `mint:` the tokens that upstreams get: at the top, and of a route.

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use crate::authz::algorithm::Algorithm;
use crate::authz::mint::RESERVED;
use crate::config::error::{Problem, Span, Spanned, Text};
use crate::config::shape::{Fields, Reader, Section, brief};
use crate::config::tree::{Kind, Node};

use super::header::{self, Source};
use super::site::SecretPlace;

pub(super) const MINT: Section = Section {
    name: "`mint`",
    accepted: &["issuer", "audience", "header", "keys", "algorithm", "rotate", "lifetime", "claims"],
    later: &[],
    never: &[
        ("key", "`keys`: a file, several of them, or a folder"),
        ("secret", "tokens are signed with key pairs: `keys`"),
    ],
};
pub(super) const OF_ROUTE: Section =
    Section { name: "`mint` of a route", accepted: &["audience"], later: &[], never: &[] };

/// The header that carries tokens where the file does not say.
const HEADER: &str = "x-portcullis-identity";
/// How long a token lives where the file does not say, and how long it may.
const LIFETIME: Duration = Duration::from_secs(60);
const LIFETIMES: std::ops::RangeInclusive<u64> = 10..=600;
/// How often the keys of a folder are changed where the file does not say, and how often they may be.
const ROTATE: Duration = Duration::from_secs(30 * 24 * 60 * 60);
const SHORTEST: Duration = Duration::from_secs(60 * 60);
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);
/// The longest audience, in bytes, and the most claims.
const MAX_AUDIENCE: usize = 256;
const MAX_CLAIMS: usize = 32;

/// What is minted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mint {
    /// Where it was written.
    pub span: Span,
    /// The `iss` of the tokens.
    pub issuer: Text,
    /// Whom they are for where a route does not say; without it, only routes that say so mint.
    pub audience: Option<Text>,
    /// The header that carries them, in lower case.
    pub header: Text,
    /// What they are signed with.
    pub keys: MintKeys,
    /// Which kind of key it is.
    pub algorithm: Option<Spanned<Algorithm>>,
    /// How often keys of a folder are changed.
    pub rotate: Duration,
    /// How long a token lives at most.
    pub lifetime: Duration,
    /// Further claims, and what each holds.
    pub claims: Vec<(Text, Spanned<Source>)>,
}

/// Where private keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MintKeys {
    /// One each: the first one signs, the others are published.
    Each(Vec<Spanned<SecretPlace>>),
    /// In a folder, each in a file that is named by when it begins to sign.
    Folder(Spanned<PathBuf>),
}

/// What a route says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MintFor {
    /// Nothing is minted.
    Nobody(Span),
    /// For this audience.
    Audience(Text),
}

pub(super) fn mint(reader: &mut Reader, top: &Fields<'_>) -> Option<Mint> {
    let node = top.get("mint")?;
    let fields = reader.fields(node, MINT)?;
    for (key, cure) in [
        ("issuer", "issuer: https://edge.example.com"),
        ("keys", "keys: file:mint.pem, or dir:/var/lib/portcullis/mint"),
    ] {
        if !fields.has(key) {
            let problem = Problem::error("missing_key", node.span, format!("`mint` needs `{key}`"));
            reader.report(problem.cure(cure));
        }
    }
    let issuer = fields.get("issuer").and_then(|node| issuer(reader, node));
    let audience = fields.get("audience").map(|node| audience(reader, node));
    let header = match fields.get("header") {
        Some(node) => reader.text(node, &fields.name("header")).filter(|name| header::may_set(reader, name)),
        None => Some(Spanned::new(HEADER.into(), node.span)),
    };
    let keys = fields.get("keys").and_then(|node| keys(reader, node));
    let kinds = [("ES256", Algorithm::Es256), ("EdDSA", Algorithm::EdDsa)];
    let algorithm = fields.get("algorithm").and_then(|node| reader.choice(node, &fields.name("algorithm"), &kinds));
    let lifetime = fields.get("lifetime").map(|node| lifetime(reader, node));
    let rotate = fields.get("rotate").map(|node| rotate(reader, node, keys.as_ref()));
    let claims = fields.get("claims").map(|node| claims(reader, node)).unwrap_or_default();
    Some(Mint {
        span: node.span,
        issuer: issuer?,
        audience: audience.map_or(Some(None), |audience| audience.map(Some))?,
        header: header?.map(|name| name.to_ascii_lowercase().into()),
        keys: keys?,
        algorithm,
        rotate: rotate.unwrap_or(Some(ROTATE))?,
        lifetime: lifetime.unwrap_or(Some(LIFETIME))?,
        claims,
    })
}

/// A URL under which others find the keys: what OpenID Connect Discovery §4 puts after it must be a path.
fn issuer(reader: &mut Reader, node: &Node) -> Option<Text> {
    let text = reader.url(node, "`issuer` of `mint`", true)?;
    let parsed = Url::parse(&text.value).ok()?;
    if parsed.query().is_some() || parsed.fragment().is_some() || text.value.ends_with('/') {
        let problem = Problem::error("bad_url", text.span, "`issuer` of `mint` has no query and no `/` at its end");
        reader.report(problem.cure("https://edge.example.com"));
        return None;
    }
    Some(text)
}

fn audience(reader: &mut Reader, node: &Node) -> Option<Text> {
    let text = reader.text(node, "`audience` of `mint`")?;
    if text.value.is_empty() || text.value.len() > MAX_AUDIENCE || text.value.contains(char::is_control) {
        let problem = Problem::error("bad_value", text.span, "an audience is one name of 1 to 256 bytes");
        reader.report(problem.cure("audience: orders"));
        return None;
    }
    Some(text)
}

fn keys(reader: &mut Reader, node: &Node) -> Option<MintKeys> {
    let items = match &node.kind {
        Kind::Text { .. } => std::slice::from_ref(node),
        _ => reader.list(node, "`keys` of `mint`")?,
    };
    let mut places = Vec::with_capacity(items.len());
    for item in items {
        let text = reader.text(item, "`keys` of `mint`")?;
        let folder = text.value.strip_prefix("dir:").filter(|path| !path.is_empty());
        if let Some(path) = folder.filter(|_| items.len() == 1) {
            return Some(MintKeys::Folder(Spanned::new(path.into(), text.span)));
        }
        let Some(place) = SecretPlace::parse(&text.value) else {
            let problem = Problem::error("bad_value", text.span, "this says nowhere where a private key is");
            reader.report(
                problem.cure("`file:mint.pem`, `env:NAME`, a list of them, or one `dir:/var/lib/portcullis/mint`"),
            );
            return None;
        };
        places.push(Spanned::new(place, text.span));
    }
    (!places.is_empty()).then_some(MintKeys::Each(places))
}

fn lifetime(reader: &mut Reader, node: &Node) -> Option<Duration> {
    let time = reader.duration(node, "`lifetime` of `mint`", Duration::from_secs(*LIFETIMES.end()))?;
    let fits = LIFETIMES.contains(&time.as_secs()) && time.subsec_nanos() == 0 && time.as_secs().is_multiple_of(2);
    if !fits {
        let message = "a token lives 10s to 10m, an even number of seconds";
        reader.report(Problem::error("out_of_range", node.span, message).cure("lifetime: 60s"));
    }
    fits.then_some(time)
}

fn rotate(reader: &mut Reader, node: &Node, keys: Option<&MintKeys>) -> Option<Duration> {
    let time = reader.duration(node, "`rotate` of `mint`", LONGEST)?;
    if time < SHORTEST || time.subsec_nanos() != 0 {
        reader.report(Problem::error("out_of_range", node.span, "`rotate` is 1 hour at least").cure("rotate: 30d"));
        return None;
    }
    if let Some(MintKeys::Each(_)) = keys {
        let message = "keys in files are changed by who wrote them: `rotate` is for a folder";
        reader.report(Problem::error("rotate_unread", node.span, message).cure("keys: dir:/var/lib/portcullis/mint"));
    }
    Some(time)
}

fn claims(reader: &mut Reader, node: &Node) -> Vec<(Text, Spanned<Source>)> {
    let entries = reader.entries(node, "`claims` of `mint`").unwrap_or_default();
    let mut read = Vec::with_capacity(entries.len());
    if entries.len() > MAX_CLAIMS {
        let message = format!("`claims` of `mint` are at most {MAX_CLAIMS}");
        reader.report(Problem::error("too_many", node.span, message));
    }
    for (name, node) in entries {
        let message = if RESERVED.contains(&&*name.value) {
            format!("`{}` says what a token is and whose, and is not the policy's to write", name.value)
        } else if name.value.is_empty() || name.value.len() > 128 || !name.value.bytes().all(|b| b.is_ascii_graphic()) {
            format!("`{}` cannot be the name of a claim: at most 128 visible characters", brief(&name.value))
        } else {
            read.extend(header::source_of(reader, node).map(|source| (name, source)));
            continue;
        };
        let problem = Problem::error("claim_reserved", name.span, message);
        reader.report(problem.cure("another name, such as `roles` or https://example.com/tenant"));
    }
    read
}

/// What a route says: the inner `None` where it says nothing.
#[expect(clippy::option_option, reason = "not written is one thing, not readable another")]
pub(super) fn of_route(reader: &mut Reader, fields: &Fields<'_>) -> Option<Option<MintFor>> {
    let Some(node) = fields.get("mint") else { return Some(None) };
    if matches!(&node.kind, Kind::Text { text, .. } if &**text == "none") {
        return Some(Some(MintFor::Nobody(node.span)));
    }
    let own = reader.fields(node, OF_ROUTE)?;
    if !own.has("audience") {
        let problem =
            Problem::error("missing_key", node.span, "`mint` of a route says whom its tokens are for, or `none`");
        reader.report(problem.cure("mint: {audience: orders}"));
    }
    Some(Some(MintFor::Audience(audience(reader, own.get("audience")?)?)))
}
