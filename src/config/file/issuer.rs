//! `issuers:` who signs tokens, where their keys are, and what they may say.

mod introspection;
mod keys;
mod proof;
mod sources;
mod tenants;

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::authz::algorithm::Algorithm;
use crate::authz::time::Timestamp;
use crate::config::error::{Problem, Span, Spanned, Text};
use crate::config::provider::{self, Preset, World, world};
use crate::config::shape::{Fields, Reader, Section, brief};
use crate::config::tree::{Kind, Node};

pub use introspection::{ClientProof, Introspection};
pub use keys::{Encoding, Keys, Location, Secret};
pub use proof::Proof;
pub use sources::Credential;
pub use tenants::Tenants;

pub(super) use introspection::{INTROSPECTION, PRIVATE_KEY_JWT};
pub(super) use keys::{SECRET, file_path};
pub(super) use proof::PROOF;
pub(super) use sources::credentials;

use super::{Named, Rule, rule};

pub(in crate::config) const ISSUER: Section = Section {
    name: "an issuer",
    accepted: &[
        "provider",
        "domain",
        "server",
        "tenant",
        "version",
        "client",
        "pool",
        "team",
        "enterprise",
        "region",
        "url",
        "jwks",
        "pem",
        "secret",
        "issuer",
        "tenants",
        "signer",
        "audience",
        "algorithms",
        "roles",
        "groups",
        "scopes",
        "missing",
        "default",
        "may_grant",
        "require",
        "from",
        "origins",
        "proof",
        "leeway",
        "max_token_lifetime",
        "types",
        "id_tokens",
        "subject_prefix",
        "allow_http",
        "refresh",
        "cooldown",
        "max_stale",
        "relays",
        "ca",
        "deny_kids",
        "reject_issued_before",
        "logout",
        "introspection",
    ],
    later: &["certificate", "api_keys"],
    never: &[
        ("dpop", CALLED_PROOF),
        ("mtls", CALLED_PROOF),
        ("hmac", CALLED_SECRET),
        ("shared_secret", CALLED_SECRET),
        ("secrets", CALLED_SECRET),
        ("introspect", INTROSPECTED),
        ("client_id", OF_INTROSPECTION),
        ("client_secret", OF_INTROSPECTION),
    ],
};
pub(super) const LOGOUT: Section =
    Section { name: "`logout` of an issuer", accepted: &["clients", "revokes"], later: &[], never: &[] };
pub(super) const AUDIENCE: Section =
    Section { name: "an audience", accepted: &["claim", "any_of"], later: &[], never: &[] };

const CALLED_SECRET: &str = "a shared secret is `secret: env:NAME` or `secret: file:path`";
const INTROSPECTED: &str =
    "only tokens that are no JWTs are introspected, where there is `introspection`; a JWT is verified by keys";
const OF_INTROSPECTION: &str = "it stands in `introspection: {url, client_id, client_secret}`";
const CALLED_PROOF: &str = "what callers prove of its tokens is `proof: dpop`, `mtls`, `either` or `required-if-bound`";
const DAY: Duration = Duration::from_secs(86_400);
const MAX_LEEWAY: Duration = Duration::from_secs(300);
/// An issuer of tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Issuer {
    /// Where its keys are; nowhere, where it only introspects.
    pub keys: Keys,
    /// How it is asked about tokens that are no JWTs.
    pub introspection: Option<Introspection>,
    /// What its provider filled in.
    pub preset: Option<Preset>,
    /// The exact `iss` claim: as written, or else the URL.
    pub issuer: Text,
    /// Other spellings of the `iss` claim.
    pub also: Vec<Text>,
    /// The load balancers that may have signed its tokens; empty where they are no load balancers'.
    pub signers: Vec<Text>,
    /// Whose tokens are accepted, where the `iss` is a template.
    pub tenants: Option<Tenants>,
    /// Whom its tokens are for; `None` where the file does not say.
    pub audience: Option<Audience>,
    /// The signature algorithms that are accepted; empty where the file does not say.
    pub algorithms: Vec<Spanned<Algorithm>>,
    /// The claim path of the roles.
    pub roles: Option<Text>,
    /// The claim path of the groups.
    pub groups: Option<Text>,
    /// The claim path of the scopes; `scope` where the file does not say.
    pub scopes: Option<Text>,
    /// Whether roles, groups and scopes that are missing are an empty list, rather than unknown.
    pub missing_is_empty: bool,
    /// Whether routes accept it that name no issuers; `None` where the file does not say.
    pub default: Option<Spanned<bool>>,
    /// The roles that it may speak of; `None` where the file does not say.
    pub may_grant: Option<MayGrant>,
    /// The clients whose logout tokens count, and whether they revoke all of a subject.
    pub logout: Option<Logout>,
    /// What every token of it must fulfil.
    pub require: Option<Rule>,
    /// Where its credentials are read from.
    pub from: Vec<Spanned<Credential>>,
    /// The origins whose pages may send its cookie.
    pub origins: Vec<Text>,
    /// What whoever presents its tokens shows; `None` where the file does not say.
    pub proof: Option<Proof>,
    /// How far clocks may differ; 60 s where the file does not say.
    pub leeway: Duration,
    /// The longest time between `iat` and `exp`.
    pub max_token_lifetime: Option<Duration>,
    /// The `typ` headers that are accepted; empty where the file does not say.
    pub types: Vec<Text>,
    /// Whether its id tokens are accepted.
    pub id_tokens: bool,
    /// What is put before a subject, so that it is one issuer's.
    pub subject_prefix: Option<Text>,
    /// Whether its URLs may be plain http, on this machine only.
    pub allow_http: bool,
    /// How often its keys are fetched; 5 min where the file does not say.
    pub refresh: Duration,
    /// The shortest time between two fetches; 30 s where the file does not say.
    pub cooldown: Duration,
    /// How long keys are used that could not be fetched again; 24 h where the file does not say.
    pub max_stale: Duration,
    /// Whether it is another portcullis, whose tokens say where a principal comes from.
    pub relays: bool,
    /// Who vouches for the servers that its keys are fetched from: a PEM file, in place of whom this machine trusts.
    pub ca: Option<Spanned<PathBuf>>,
    /// The kids of keys that are not believed any more.
    pub deny_kids: Vec<Text>,
    /// Tokens that were issued before are refused.
    pub reject_issued_before: Option<Timestamp>,
}

/// Which logout tokens of an issuer count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logout {
    /// Where it was written.
    pub span: Span,
    /// Whom they are for; empty only where that could not be read.
    pub clients: Vec<Text>,
    /// Whether they revoke all that a subject was given.
    pub whole_subject: bool,
}

/// Whom tokens are for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audience {
    /// The claim that says so; `aud` where the file does not say.
    pub claim: Option<Text>,
    /// One of these; empty only where they could not be read.
    pub any_of: Vec<Text>,
}

/// The roles that an issuer may speak of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MayGrant {
    /// All of them.
    Any,
    /// Those of these names; a `*` may end one.
    Only(Vec<Text>),
}

pub(super) fn issuer(reader: &mut Reader, name: &Text, node: &Node) -> Option<Issuer> {
    let fields = reader.fields(node, ISSUER)?;
    if !fields.has("provider") {
        provider::strays(reader, &fields);
        return explicit(reader, name, &fields);
    }
    let (filled, preset) = provider::filled(reader, node, &fields)?;
    let fields = reader.fields(&filled, ISSUER)?;
    Some(Issuer { preset: Some(preset), ..explicit(reader, name, &fields)? })
}

fn explicit(reader: &mut Reader, name: &Text, fields: &Fields<'_>) -> Option<Issuer> {
    let allow_http = flag(reader, fields, "allow_http");
    let keys = keys::keys(reader, fields, allow_http);
    let has_keys = ["url", "jwks", "pem", "secret"].iter().any(|key| fields.has(key));
    let introspection = introspection::introspection(reader, name, fields, (allow_http, has_keys));
    if fields.has("introspection") {
        // What it says could not be read, and has been told: without it this would be another issuer.
        introspection.as_ref()?;
    }
    let (issuer, also, tenants) = iss(reader, name, fields, (&keys, has_keys));
    let (from, origins) = sources::sources(reader, name, fields);
    let signers = signers(reader, fields, &from);
    Some(Issuer {
        preset: None,
        signers,
        tenants,
        also,
        audience: audience(reader, fields),
        algorithms: algorithms(reader, fields, fields.has("secret")),
        roles: text(reader, fields, "roles"),
        groups: text(reader, fields, "groups"),
        scopes: text(reader, fields, "scopes"),
        missing_is_empty: fields
            .get("missing")
            .and_then(|node| reader.choice(node, "`missing` of an issuer", &[("empty", true), ("unknown", false)]))
            .is_some_and(|missing| missing.value),
        default: fields
            .get("default")
            .and_then(|node| reader.flag(node, "`default` of an issuer").map(|value| Spanned::new(value, node.span))),
        may_grant: may_grant(reader, fields),
        logout: logout(reader, fields),
        require: fields.get("require").and_then(|node| rule(reader, node)),
        from,
        origins,
        proof: proof::proof(reader, fields),
        leeway: duration(reader, fields, "leeway", MAX_LEEWAY).unwrap_or(Duration::from_secs(60)),
        max_token_lifetime: duration(reader, fields, "max_token_lifetime", DAY.saturating_mul(366)),
        types: fields.get("types").map(|node| reader.texts(node, "`types` of an issuer")).unwrap_or_default(),
        id_tokens: flag(reader, fields, "id_tokens"),
        subject_prefix: text(reader, fields, "subject_prefix"),
        refresh: duration(reader, fields, "refresh", DAY).unwrap_or(Duration::from_secs(300)),
        cooldown: duration(reader, fields, "cooldown", DAY).unwrap_or(Duration::from_secs(30)),
        max_stale: duration(reader, fields, "max_stale", DAY.saturating_mul(30)).unwrap_or(DAY),
        relays: flag(reader, fields, "relays"),
        ca: fields.get("ca").and_then(|node| file_path(reader, node, "`ca` of an issuer")),
        deny_kids: fields
            .get("deny_kids")
            .map(|node| reader.texts(node, "`deny_kids` of an issuer"))
            .unwrap_or_default(),
        reject_issued_before: fields
            .get("reject_issued_before")
            .and_then(|node| reader.time(node, "`reject_issued_before` of an issuer")),
        allow_http,
        keys,
        introspection,
        issuer: issuer?,
    })
}

/// The `iss` of its tokens, other spellings of it, and the tenants that stand in it.
fn iss(
    reader: &mut Reader,
    name: &Text,
    fields: &Fields<'_>,
    (keys, has_keys): (&Keys, bool),
) -> (Option<Text>, Vec<Text>, Option<Tenants>) {
    let mut written = fields.get("issuer").map(|node| reader.texts(node, "`issuer` of an issuer")).unwrap_or_default();
    let also = written.split_off(written.len().min(1));
    let written = written.pop();
    let tenants = tenants::tenants(reader, fields, written.as_ref(), &also);
    let given = has_keys || fields.has("introspection");
    if !given {
        let message = format!(
            "the issuer `{}` has no keys: it needs `url`, `jwks`, `pem` or `secret`; or `introspection` for opaque tokens",
            brief(&name.value)
        );
        reader.missing(name.span, message);
    }
    let issuer = written.or_else(|| keys.url.clone());
    if issuer.is_none() && given && !fields.has("issuer") && !fields.has("url") {
        let message =
            format!("the issuer `{}` needs `issuer`, its exact `iss`, as it has no `url`", brief(&name.value));
        reader.missing(name.span, message);
    }
    (issuer, also, tenants)
}

fn logout(reader: &mut Reader, fields: &Fields<'_>) -> Option<Logout> {
    let node = fields.get("logout")?;
    if !matches!(node.kind, Kind::Map(_)) {
        let clients = reader.texts(node, "`logout` of an issuer");
        return Some(Logout { span: node.span, clients, whole_subject: false });
    }
    let fields = reader.fields(node, LOGOUT)?;
    if !fields.has("clients") {
        reader.missing(node.span, "`logout` needs `clients`, whom logout tokens are for");
    }
    let whole = fields
        .get("revokes")
        .and_then(|node| reader.choice(node, "`revokes` of `logout`", &[("session", false), ("subject", true)]));
    let clients = fields.get("clients").map(|node| reader.texts(node, "`clients` of `logout`")).unwrap_or_default();
    Some(Logout { span: node.span, clients, whole_subject: whole.is_some_and(|whole| whole.value) })
}

/// Compares the issuers of a file with each other.
pub(super) fn compare(reader: &mut Reader, issuers: &[Named<Issuer>]) {
    let mut seen: HashMap<String, Span> = HashMap::new();
    for (name, issuer) in issuers {
        for (iss, span) in issuer.every_iss() {
            if let Some(first) = seen.insert(iss, span) {
                let message = "two issuers have the same `iss`: a token could be either's";
                reader.report(
                    Problem::error("issuer_twice", span, message)
                        .cure("make one issuer of them; `audience` and `algorithms` are lists")
                        .related(first, "first here"),
                );
            }
        }
        if issuers.len() > 1 && issuer.may_grant.is_none() {
            let message = format!("with more than one issuer, `{}` needs `may_grant`", brief(&name.value));
            reader.report(
                Problem::error("missing_key", name.span, message)
                    .cure("may_grant: [the roles that it may speak of, such as partner-*], or may_grant: any"),
            );
        }
        if let Some(world) = issuer.world().filter(|_| issuer.require.is_none()) {
            let message = format!("{} can get a token of `{}`: it needs `require`", world.who, brief(&name.value));
            let cure = format!("require: {}, or another rule that only your tokens fulfil", world.example);
            reader.report(Problem::error("missing_key", name.span, message).cure(cure));
        }
    }
}

impl Issuer {
    /// Each `iss` that its tokens may have, and where it is written.
    fn every_iss(&self) -> Vec<(String, Span)> {
        match &self.tenants {
            Some(tenants) => tenants.any_of.iter().map(|tenant| (tenants.iss(&tenant.value), tenant.span)).collect(),
            None => {
                let all = std::iter::once(&self.issuer).chain(&self.also);
                all.map(|iss| (iss.value.to_string(), iss.span)).collect()
            }
        }
    }

    /// Whose its subjects are, where they are the whole world.
    #[must_use]
    pub fn world(&self) -> Option<&'static World> {
        let of_provider = self.preset.as_ref().and_then(|preset| preset.world);
        let urls = self.keys.url.iter().chain([&self.issuer]).chain(&self.also);
        of_provider.or_else(|| urls.filter_map(|url| world(&url.value)).next())
    }
}

fn audience(reader: &mut Reader, fields: &Fields<'_>) -> Option<Audience> {
    let node = fields.get("audience")?;
    let (claim, any_of) = if matches!(node.kind, Kind::Map(_)) {
        let Some(fields) = reader.fields(node, AUDIENCE) else { return Some(Audience::default()) };
        if !fields.has("any_of") {
            reader.missing(node.span, "an audience needs `any_of`, the values that are accepted");
        }
        let claim = text(reader, &fields, "claim");
        (claim, fields.get("any_of").map(|node| reader.texts(node, "`any_of` of an audience")).unwrap_or_default())
    } else {
        (None, reader.texts(node, "`audience` of an issuer"))
    };
    Some(Audience { claim, any_of })
}

/// The ARNs of load balancers. Their tokens are padded, which no other token may be, and so stand in a header of their own.
fn signers(reader: &mut Reader, fields: &Fields<'_>, from: &[Spanned<Credential>]) -> Vec<Text> {
    let Some(node) = fields.get("signer") else { return Vec::new() };
    let signers = reader.texts(node, "`signer` of an issuer");
    for signer in &signers {
        let parts: Vec<&str> = signer.value.splitn(6, ':').collect();
        let is_arn = matches!(parts.as_slice(), ["arn", partition, "elasticloadbalancing", _, account, resource]
            if partition.starts_with("aws") && account.len() == 12 && resource.starts_with("loadbalancer/app/"));
        if !is_arn || signer.value.contains('*') {
            let problem =
                Problem::error("bad_signer", signer.span, "`signer` is the ARN of an Application Load Balancer");
            let cure = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:loadbalancer/app/name/0123456789abcdef";
            reader.report(problem.cure(cure));
        }
    }
    if let Some(other) = from.iter().find(|from| !matches!(from.value, Credential::Header(_))) {
        let message = "what a load balancer signs stands in a header of its own";
        reader.report(Problem::error("bad_signer", other.span, message).cure("from: [header:X-Amzn-Oidc-Data]"));
    }
    signers
}

/// The algorithms of an issuer: all of shared secrets where it has one, and otherwise all of public keys.
fn algorithms(reader: &mut Reader, fields: &Fields<'_>, secret: bool) -> Vec<Spanned<Algorithm>> {
    let Some(node) = fields.get("algorithms") else { return Vec::new() };
    let mut read = Vec::new();
    for text in reader.texts(node, "`algorithms` of an issuer") {
        match Algorithm::parse(&text.value) {
            Some(algorithm) if algorithm.is_symmetric() == secret => read.push(Spanned::new(algorithm, text.span)),
            Some(_) => reader.report(other_kind(&text, secret)),
            None if text.value.eq_ignore_ascii_case("none") => {
                let message = "`none` is no signature: everyone could write such a token";
                reader.report(Problem::error("unsigned_algorithm", text.span, message).cure("remove it"));
            }
            None => {
                let fitting = Algorithm::ALL.iter().filter(|algorithm| algorithm.is_symmetric() == secret);
                let names: Vec<&str> = fitting.map(|algorithm| algorithm.name()).collect();
                reader.no_such_choice(&text, "an algorithm", &names);
            }
        }
    }
    read
}

/// Whoever could pass a public key off as a secret would sign what they like.
fn other_kind(text: &Text, secret: bool) -> Problem {
    let name = &text.value;
    if secret {
        let message = format!("`{name}` is for public keys, and this issuer has a secret");
        Problem::error("shared_secret", text.span, message)
            .cure("HS256, HS384 or HS512; or another issuer for the keys")
    } else {
        let message = format!("`{name}` is for shared secrets, and this issuer has public keys, which everyone has");
        Problem::error("shared_secret", text.span, message)
            .cure("ES256, EdDSA, PS256 or RS256; `secret` in place of the keys if there is one")
    }
}

fn may_grant(reader: &mut Reader, fields: &Fields<'_>) -> Option<MayGrant> {
    let node = fields.get("may_grant")?;
    if matches!(&node.kind, Kind::Text { text, .. } if &**text == "any") {
        return Some(MayGrant::Any);
    }
    if matches!(&node.kind, Kind::List(items) if items.is_empty()) {
        return Some(MayGrant::Only(Vec::new()));
    }
    let patterns = reader.texts(node, "`may_grant` of an issuer");
    for pattern in &patterns {
        if pattern.value.strip_suffix('*').unwrap_or(&pattern.value).contains('*') {
            let problem = Problem::error("bad_pattern", pattern.span, "a `*` may only end the name of a role");
            reader.report(problem.cure("partner-*"));
        } else if &*pattern.value == "*" {
            let problem = Problem::error("bad_pattern", pattern.span, "`*` alone would be every role");
            reader.report(problem.cure("may_grant: any"));
        }
    }
    Some(MayGrant::Only(patterns))
}

fn text(reader: &mut Reader, fields: &Fields<'_>, key: &str) -> Option<Text> {
    fields.get(key).and_then(|node| reader.text(node, &fields.name(key)))
}

fn flag(reader: &mut Reader, fields: &Fields<'_>, key: &str) -> bool {
    fields.get(key).and_then(|node| reader.flag(node, &fields.name(key))).unwrap_or(false)
}

fn duration(reader: &mut Reader, fields: &Fields<'_>, key: &str, most: Duration) -> Option<Duration> {
    fields.get(key).and_then(|node| reader.duration(node, &fields.name(key), most))
}

#[cfg(test)]
mod tests {
    use crate::config::file::parse;

    /// The problems of an issuer with these lines, which begin in line 3 and column 5.
    fn found(lines: &str) -> Vec<(u32, u32, &'static str)> {
        let text = format!("issuers:\n  main:\n    {}\nroutes: {{/a: role:x}}\n", lines.replace('\n', "\n    "));
        let (_, problems) = parse("portcullis.yaml", &text);
        problems.as_slice().iter().map(|problem| (problem.span.line, problem.span.column, problem.code)).collect()
    }

    #[test] // J26
    fn a_secret_is_never_in_the_file() {
        let secret = |secret: &str| found(&format!("issuer: x\nsecret: {secret}"));
        for good in ["env:SECRET", "file:hmac.key", "[env:NEW, env:OLD]", "{from: env:S, kid: a, encoding: hex}"] {
            assert_eq!(secret(good), [], "{good}");
        }
        for (bad, column, code) in [
            ("\"\"", 13, "missing_value"),
            ("secret", 13, "secret_in_file"),
            ("0123456789012345678901234567890", 13, "secret_in_file"),
            ("'env:'", 13, "secret_in_file"),
            ("'file:'", 13, "secret_in_file"),
            ("[]", 13, "missing_value"),
            ("{kid: a}", 13, "missing_key"),
            ("{value: 0123456789}", 14, "refused_key"),
            ("{from: env:S, encoding: rot13}", 37, "unknown_value"),
            ("[{from: env:A, kid: a}, env:B]", 33, "kid_missing"),
            ("[{from: env:A, kid: a}, {from: env:B, kid: a}]", 56, "kid_twice"),
            ("[env:A, env:A]", 21, "secret_twice"),
            ("[env:A, env:B, env:C, env:D, env:E, env:F, env:G, env:H, env:I]", 13, "too_many"),
        ] {
            let problems = secret(bad);
            assert!(problems.contains(&(4, column, code)), "{bad}: {problems:?}");
        }
        assert_eq!(found("issuer: x\nhmac: env:S"), [(2, 3, "missing_key"), (4, 5, "refused_key")]);
        assert_eq!(found("secret: env:S"), [(2, 3, "missing_key")]);
    }

    #[test] // J02, J03
    fn a_secret_and_public_keys_never_meet_in_one_issuer() {
        for keys in
            ["url: https://a.example.com", "jwks: file:x.json", "jwks: https://a.example.com/jwks", "pem: x.pem"]
        {
            assert_eq!(found(&format!("issuer: x\n{keys}\nsecret: env:S")), [(4, 5, "keys_twice")], "{keys}");
        }
        let algorithms = |names: &str| found(&format!("url: https://a.example.com\nalgorithms: [{names}]"));
        assert_eq!(algorithms("ES256, HS256"), [(4, 25, "shared_secret")]);
        assert_eq!(algorithms("HS512"), [(4, 18, "shared_secret")]);
        assert_eq!(algorithms("none"), [(4, 18, "unsigned_algorithm")]);
        assert_eq!(algorithms("ES265"), [(4, 18, "unknown_value")]);
        assert_eq!(algorithms("ES256, RS512, EdDSA"), []);
        let secret = |names: &str| found(&format!("issuer: x\nsecret: env:S\nalgorithms: [{names}]"));
        assert_eq!(secret("HS256, HS384, HS512"), []);
        assert_eq!(secret("HS256, RS256"), [(5, 25, "shared_secret")]);
        assert_eq!(secret("EdDSA"), [(5, 18, "shared_secret")]);
        assert_eq!(secret("none"), [(5, 18, "unsigned_algorithm")]);
        assert_eq!(secret("hs256"), [(5, 18, "unknown_value")]);
    }

    #[test]
    fn an_issuer_has_keys_and_a_name() {
        assert_eq!(found("audience: x"), [(2, 3, "missing_key")]);
        assert_eq!(found("jwks: file:x.json"), [(2, 3, "missing_key")]);
        assert_eq!(found("jwks: file:x.json\nissuer: x"), []);
        assert_eq!(found("pem: file:x.pem\nissuer: x"), []);
        assert_eq!(found("pem: |\n  -----BEGIN PUBLIC KEY-----\n  x\nissuer: x"), [(4, 7, "wrong_shape")]);
        assert_eq!(found("jwks: 'file:'\nissuer: x"), [(3, 11, "bad_path")]);
    }

    #[test]
    fn keys_come_by_https_or_from_this_machine() {
        assert_eq!(found("url: http://a.example.com"), [(3, 10, "not_https")]);
        assert_eq!(found("url: http://a.example.com\nallow_http: true"), [(3, 10, "not_https")]);
        assert_eq!(found("url: http://127.0.0.1:8080\nallow_http: true"), []);
        assert_eq!(found("url: http://127.0.0.1:8080"), [(3, 10, "not_https")]);
        assert_eq!(found("url: https://a:b@a.example.com"), [(3, 10, "secret_in_url")]);
        assert_eq!(found("url: https://a.example.com/?x=y"), [(3, 10, "bad_url")]);
        assert_eq!(found("url: a.example.com"), [(3, 10, "bad_url")]);
        assert_eq!(found("url: https://${env:HOST}/"), [(3, 18, "variable_missing")]);
    }

    #[test]
    fn spans_of_time_and_flags_are_bounded() {
        let url = |line: &str| found(&format!("url: https://a.example.com\n{line}"));
        assert_eq!(url("leeway: 5m"), []);
        assert_eq!(url("leeway: 301s"), [(4, 13, "out_of_range")]);
        assert_eq!(url("leeway: 60"), [(4, 13, "bad_duration")]);
        assert_eq!(url("default: yes"), [(4, 14, "wrong_shape")]);
        assert_eq!(url("default: \"true\""), [(4, 14, "wrong_shape")]);
        assert_eq!(url("missing: deny"), [(4, 14, "unknown_value")]);
        assert_eq!(url("audience: []"), [(4, 15, "missing_value")]);
        assert_eq!(url("audience: {claim: azp}"), [(4, 15, "missing_key")]);
        assert_eq!(url("audiense: x"), [(4, 5, "unknown_key")]);
        assert_eq!(url("may_grant: ['*']"), [(4, 17, "bad_pattern")]);
        assert_eq!(url("may_grant: [a*b]"), [(4, 17, "bad_pattern")]);
    }

    #[test]
    fn a_cookie_needs_the_origins_whose_pages_may_send_it() {
        let url = |line: &str| found(&format!("url: https://a.example.com\n{line}"));
        assert_eq!(url("from: [bearer, cookie:s]"), [(4, 20, "missing_key")]);
        assert_eq!(
            url("from: [query:access_token, 'subprotocol:bearer.', 'subprotocol:base64url.bearer.k8s.io.']"),
            []
        );
        assert_eq!(url("from: [cookie:s]\norigins: [https://app.example.com, http://localhost:3000]"), []);
        for origin in [
            "'*'",
            "\"null\"",
            "app.example.com",
            "https://app.example.com/",
            "https://app.example.com:443",
            "HTTPS://app.example.com",
        ] {
            assert_eq!(url(&format!("origins: [{origin}]")), [(4, 15, "bad_origin")], "{origin}");
        }
        for source in [
            "query",
            "'query:'",
            "'query:a b'",
            "'query:access%5Ftoken'",
            "'query:_t'",
            "subprotocol:bearer",
            "'subprotocol:.'",
            "'subprotocol:a b.'",
            "'header:a b'",
            "'cookie:'",
            "Bearer",
        ] {
            assert_eq!(url(&format!("from: [{source}]")), [(4, 12, "unknown_value")], "{source}");
        }
    }

    #[test]
    fn issuers_are_walls() {
        let both = |first: &str, second: &str| {
            let text = format!(
                "issuers:\n  a: {{url: https://a.example.com, {first}}}\n  b: {{url: {second}}}\nroutes: {{/a: role:x}}\n"
            );
            let (_, problems) = parse("portcullis.yaml", &text);
            let places = |p: &crate::config::Problem| (p.span.line, p.span.column, p.code);
            problems.as_slice().iter().map(places).collect::<Vec<_>>()
        };
        assert_eq!(both("may_grant: any", "https://b.example.com, may_grant: [b-*]"), []);
        assert_eq!(both("default: true", "https://b.example.com, may_grant: any"), [(2, 3, "missing_key")]);
        assert_eq!(both("may_grant: any", "https://a.example.com, may_grant: any"), [(3, 12, "issuer_twice")]);
    }

    #[test]
    fn an_issuer_whose_subjects_are_the_whole_world_needs_a_requirement() {
        for world in [
            "https://token.actions.githubusercontent.com",
            "https://accounts.google.com",
            "https://login.microsoftonline.com/common/v2.0",
            "https://kubernetes.default.svc.cluster.local",
        ] {
            assert_eq!(found(&format!("url: {world}")), [(2, 3, "missing_key")], "{world}");
            assert_eq!(found(&format!("url: {world}\nrequire: claim:org=acme")), [], "{world}");
        }
        assert_eq!(found("url: https://login.microsoftonline.com/2f5f-4d6e/v2.0"), []);
    }
}
