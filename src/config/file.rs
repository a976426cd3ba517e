//! The tree into the policy file as it was written: every section, every problem, nothing compiled.

mod admin;
mod api_keys;
mod browser;
mod cache;
mod gateway;
mod grant;
mod header;
mod include;
mod issuer;
mod mint;
mod pdp;
mod revocation;
mod row;
mod service;
mod site;
mod stepup;
mod store;

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

pub use super::source::FileId;
pub use api_keys::ApiKeys;
pub(in crate::config) use api_keys::problem as api_key_problem;
pub use browser::{Cors, CredentialUse, OfRoute, Sharing, SignIn};
pub use gateway::{ClientAddress, Gateway, Peer};
pub use grant::Grant;
pub(super) use header::fold as fold_header;
pub use header::{Format, Literal, Source, Tell, Tells};
pub use include::{Include, MAY, Team};
pub(in crate::config) use issuer::ISSUER;
pub use issuer::{
    Audience, ClientProof, Credential, Encoding, Introspection, Issuer, Keys, Location, Logout, MayGrant, Secret,
    Tenants,
};
pub use mint::{Mint, MintFor, MintKeys};
pub use pdp::PdpClient;
pub use revocation::{Listed, Revocation, What};
pub use row::{Ask, Expectation, Row, Who};
pub use site::{Audit, Endpoint, Leniency, Listen, Log, SecretPlace, Tls};
pub use stepup::StepUp;
pub use store::{At, Shared};

use crate::authz::identity::{APPS, WORKLOADS};
use crate::authz::services::Workload;

use super::error::{Problem, Problems, Span, Spanned, Text, nearest};
use super::lint::{LINTS, is_lint};
use super::overlay;
use super::reference::{Surroundings, Taken, fill};
use super::shape::{Fields, Reader, Section};
use super::tree::{Kind, Node, read};

pub(super) const TOP: Section = Section {
    name: "",
    accepted: &[
        "issuers",
        "api_keys",
        "hosts",
        "include",
        "headers",
        "headers_kept",
        "response_headers",
        "query",
        "metadata",
        "routes",
        "guards",
        "deny",
        "roles",
        "grants",
        "revocation",
        "gateways",
        "pdp_clients",
        "services",
        "paths",
        "lints",
        "public_url",
        "sign_in",
        "cors",
        "mint",
        "listen",
        "audit",
        "log",
        "decision_key",
        "admin",
        "key_cache",
        "cache",
        "store",
        "tests",
    ],
    later: &["cel", "limit", "limits", "keys", "certificates"],
    never: &[("revocations", "what is revoked is listed in a file: `revocation: {file: file:revoked.yaml}`")],
};
const ROUTE: Section = Section {
    name: "a route",
    accepted: &[
        "allow",
        "when",
        "issuers",
        "deny",
        "audience",
        "headers",
        "response_headers",
        "query",
        "cors",
        "sign_in",
        "credential",
        "max_age",
        "acr",
        "mint",
        "cache",
    ],
    later: &["limit"],
    never: &[],
};
const RULE: &[&str] = &["any", "all", "not"];

/// Every section and the keys that it has; what `portcullis schema` must say as well.
pub const ACCEPTED_KEYS: &[(&str, &[&str])] = &[
    ("", TOP.accepted),
    ("issuers.*", issuer::ISSUER.accepted),
    ("issuers.*.audience", issuer::AUDIENCE.accepted),
    ("issuers.*.proof", issuer::PROOF.accepted),
    ("issuers.*.secret", issuer::SECRET.accepted),
    ("issuers.*.introspection", issuer::INTROSPECTION.accepted),
    ("issuers.*.introspection.private_key_jwt", issuer::PRIVATE_KEY_JWT.accepted),
    ("issuers.*.logout", issuer::LOGOUT.accepted),
    ("api_keys", api_keys::API_KEYS.accepted),
    ("api_keys.keys.*", api_keys::ENTRY),
    ("include.*", include::INCLUDE.accepted),
    ("headers.*", header::HEADER.accepted),
    ("response_headers.*", header::HEADER.accepted),
    ("query", header::QUERY.accepted),
    ("query.set.*", header::PARAMETER.accepted),
    ("metadata.*", header::METADATA.accepted),
    ("routes.*", ROUTE.accepted),
    ("routes.*.cors", browser::SHARING.accepted),
    ("routes.*.sign_in", browser::SIGN_IN.accepted),
    ("routes.*.credential", browser::CREDENTIAL.accepted),
    ("routes.*.mint", mint::OF_ROUTE.accepted),
    ("mint", mint::MINT.accepted),
    ("mint.claims.*", header::CLAIM.accepted),
    ("rule", RULE),
    ("grants.*", grant::GRANT.accepted),
    ("revocation", revocation::REVOCATION.accepted),
    ("revocation.revoked.*", revocation::REVOKED.accepted),
    ("gateways.*", gateway::GATEWAY.accepted),
    ("gateways.*.by", gateway::BY.accepted),
    ("gateways.*.client_address", gateway::CLIENT_ADDRESS.accepted),
    ("pdp_clients.*", pdp::CLIENT.accepted),
    ("sign_in", browser::SIGN_IN.accepted),
    ("cors", browser::CORS.accepted),
    ("cors.hosts.*", browser::SHARING.accepted),
    ("listen", site::LISTEN.accepted),
    ("listen.grpc.*", site::GRPC.accepted),
    ("listen.grpc.*.tls", site::TLS.accepted),
    ("listen.http.*", site::GRPC.accepted),
    ("listen.http.*.tls", site::TLS.accepted),
    ("admin", admin::ADMIN.accepted),
    ("cache", site::CACHE.accepted),
    ("store", store::STORE.accepted),
    ("tests.*", row::ROW.accepted),
];

/// A name and what it stands for.
pub type Named<T> = (Text, T);

/// A policy file as it was written. Rules, route keys and patterns are text still.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct File {
    /// Who signs tokens.
    pub issuers: Vec<Named<Issuer>>,
    /// The keys of applications.
    pub api_keys: Option<ApiKeys>,
    /// What is told on all routes.
    pub tells: Tells,
    /// Named sets of hosts.
    pub hosts: Vec<Named<Vec<Text>>>,
    /// What is given to the files of teams.
    pub includes: Vec<Include>,
    /// The files of teams.
    pub teams: HashMap<FileId, Team>,
    /// Headers of well-known families that are not ours to remove.
    pub headers_kept: Vec<Text>,
    /// The route table, in file order.
    pub routes: Vec<Route>,
    /// Rules that must hold as well, by pattern.
    pub guards: Vec<Named<Rule>>,
    /// Forbids for every route, by name.
    pub deny: Vec<Named<Rule>>,
    /// Roles that the policy derives, by name.
    pub roles: Vec<Named<Rule>>,
    /// Roles that single principals are given for a time.
    pub grants: Vec<Grant>,
    /// What is revoked; `None` where the file does not say.
    pub revocation: Option<Revocation>,
    /// Who may ask.
    pub gateways: Vec<Named<Gateway>>,
    /// Who may ask about subjects that nobody has proven.
    pub pdp_clients: Vec<Named<PdpClient>>,
    /// Workloads by name.
    pub services: Vec<Named<Vec<Spanned<Workload>>>>,
    /// What is not refused in a path.
    pub paths: Vec<Spanned<Leniency>>,
    /// The warnings that were accepted, by their codes: the names of the lines that they are about.
    pub lints: Vec<Named<Vec<Text>>>,
    /// The sections that were written, and where.
    pub sections: Vec<(&'static str, Span)>,
    /// Where browsers find the site: scheme, host and port.
    pub public_url: Option<Text>,
    /// Where browsers are sent to sign in.
    pub sign_in: Option<SignIn>,
    /// The pages that may read answers across origins.
    pub cors: Option<Cors>,
    /// The tokens that upstreams get.
    pub mint: Option<Mint>,
    /// Where portcullis listens.
    pub listen: Listen,
    /// Where decisions are recorded.
    pub audit: Audit,
    /// How the log is written.
    pub log: Log,
    /// Where the key of the decision ids is found.
    pub decision_key: Option<Spanned<SecretPlace>>,
    /// Where the token is that a change by the admin listener needs.
    pub admin_token: Option<Spanned<SecretPlace>>,
    /// The folder of what outlives the process: last-good keys, suspensions.
    pub key_cache: Option<Spanned<PathBuf>>,
    /// How much memory verified tokens may take, in bytes.
    pub token_cache: Option<Spanned<u64>>,
    /// Where replicas share what they must all know; `None` where each keeps it for itself.
    pub store: Option<Spanned<Shared>>,
    /// The policy's own tests.
    pub tests: Vec<Row>,
    /// What was taken from outside of the file.
    pub taken: Taken,
    /// The sections of which some entry could not be read, and so is left out.
    pub lost: Vec<&'static str>,
}

/// A line of the route table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// `[METHOD[,METHOD] ][host]/path`
    pub key: Text,
    /// Who may pass.
    pub rule: Rule,
    /// What must hold as well: CEL.
    pub when: Option<Text>,
    /// The issuers that it accepts, where it says so.
    pub issuers: Option<Vec<Text>>,
    /// What it says to browsers.
    pub browser: OfRoute,
    /// What must not hold.
    pub deny: Option<Box<Rule>>,
    /// Whom a token must be for as well; empty where the file does not say.
    pub audience: Vec<Text>,
    /// How a person must have signed in.
    pub step_up: Option<StepUp>,
    /// Whom the tokens of its upstream are for, where it says so.
    pub mint: Option<MintFor>,
    /// For how long gateways may use its answers again, where it says so.
    pub cache: Option<Spanned<Duration>>,
    /// What is told on it alone, beside what is told on all or in its place.
    pub tells: Option<Box<Tells>>,
}

/// A rule as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Rule words.
    Text(Text),
    /// `{any: [...]}`: one of them holds.
    Any(Span, Vec<Self>),
    /// `{all: [...]}`: each of them holds.
    All(Span, Vec<Self>),
    /// `{not: ...}`: it does not hold.
    Not(Span, Box<Self>),
}

impl Rule {
    /// Where it was written.
    #[must_use]
    pub const fn span(&self) -> Span {
        match self {
            Self::Text(text) => text.span,
            Self::Any(span, _) | Self::All(span, _) | Self::Not(span, _) => *span,
        }
    }
}

/// Reads a policy file that refers to nothing outside of it. See [`parse_all`].
#[must_use]
pub fn parse(name: &str, text: &str) -> (Option<File>, Problems) {
    parse_all(name, text, &Surroundings::NONE)
}

/// Reads a policy file. There is no file where it cannot be read as YAML, or says nothing; where there is one and the
/// problems hold errors, it is what could be made of it, for tools only.
#[must_use]
pub fn parse_all(name: &str, text: &str, around: &Surroundings<'_>) -> (Option<File>, Problems) {
    let mut problems = Problems::of(name, text);
    let (tree, unreadable) = read(text);
    let broken = tree.is_none() && !unreadable.is_empty();
    for problem in unreadable {
        problems.report(problem);
    }
    let mut root = tree.filter(|root| root.kind != Kind::Null);
    if root.is_none() && !broken {
        let problem = Problem::error("empty_file", Span::START, "the file says nothing");
        problems.report(problem.cure("it needs at least `routes:`"));
    }
    for (name, text) in around.later {
        let later = overlay::tree(name, text, &mut problems);
        if let Some(((_, later), root)) = later.zip(root.as_mut()) {
            overlay::lay(root, later, &mut problems);
        }
    }
    let taken = root.as_mut().map(|root| {
        let (taken, fillings) = fill(root, around, &mut problems);
        problems.hide(fillings);
        taken
    });
    let mut reader = Reader::new(problems);
    let file = root.and_then(|root| {
        reader.fields(&root, TOP).map(|fields| file(&mut reader, &fields, taken.unwrap_or_default(), around))
    });
    (file, reader.into_problems())
}

fn file(reader: &mut Reader, top: &Fields<'_>, taken: Taken, around: &Surroundings<'_>) -> File {
    let issuers = named(reader, top, "issuers", issuer::issuer);
    let names = keys(top, "issuers");
    let mut accepted = names.clone();
    accepted.extend(top.has("api_keys").then_some(APPS));
    let routes = routes(reader, top, &accepted);
    let mut spoken = accepted.clone();
    spoken.extend(top.has("services").then_some(WORKLOADS));
    let tests = row::rows(reader, top, &names);
    issuer::compare(reader, &issuers);
    let public_url = site::public_url(reader, top);
    let mut taken = taken;
    let revocation = revocation::revocation(reader, top, around, &mut taken.files);
    let mut file = File {
        api_keys: api_keys::api_keys(reader, top),
        tells: header::tells(reader, top),
        hosts: named(reader, top, "hosts", |reader, _, node| {
            Some(reader.texts(node, "a set of hosts")).filter(|hosts| !hosts.is_empty())
        }),
        headers_kept: top.get("headers_kept").map(|node| reader.texts(node, "`headers_kept`")).unwrap_or_default(),
        routes,
        guards: named(reader, top, "guards", |reader, _, node| rule(reader, node)),
        deny: named(reader, top, "deny", |reader, _, node| rule(reader, node)),
        roles: named(reader, top, "roles", |reader, _, node| rule(reader, node)),
        grants: grant::grants(reader, top),
        revocation,
        gateways: named(reader, top, "gateways", gateway::gateway),
        pdp_clients: named(reader, top, "pdp_clients", |reader, _, node| pdp::client(reader, node, &spoken)),
        services: named(reader, top, "services", service::service),
        paths: site::paths(reader, top),
        sign_in: browser::sign_in(reader, top),
        cors: browser::cors(reader, top),
        mint: mint::mint(reader, top),
        lints: named(reader, top, "lints", lint),
        sections: top.keys().collect(),
        public_url,
        listen: site::listen(reader, top),
        audit: site::audit(reader, top),
        log: site::log(reader, top),
        decision_key: site::decision_key(reader, top),
        admin_token: admin::token(reader, top),
        key_cache: admin::key_cache(reader, top),
        token_cache: site::token_cache(reader, top),
        store: store::store(reader, top),
        tests,
        issuers,
        taken,
        includes: Vec::new(),
        teams: HashMap::new(),
        lost: Vec::new(),
    };
    header::compare(reader, &file.tells, &file.routes, &file.headers_kept);
    file.lost = reader.lost();
    include::included(reader, top, &mut file, &accepted, around);
    file
}

/// The names in a section, of what can be read and of what cannot.
fn keys<'n>(top: &Fields<'n>, section: &str) -> Vec<&'n str> {
    let Some(Kind::Map(entries)) = top.get(section).map(|node| &node.kind) else { return Vec::new() };
    let text = |key: &'n Node| if let Kind::Text { text, .. } = &key.kind { Some(&**text) } else { None };
    entries.iter().filter_map(|(key, _)| text(key)).collect()
}

/// A map of names to what `one` reads of a value.
fn named<T>(
    reader: &mut Reader,
    top: &Fields<'_>,
    section: &'static str,
    mut one: impl FnMut(&mut Reader, &Text, &Node) -> Option<T>,
) -> Vec<Named<T>> {
    let Some(node) = top.get(section) else { return Vec::new() };
    let entries = reader.entries(node, &top.name(section)).unwrap_or_default();
    let count = entries.len();
    let mut read = Vec::with_capacity(count);
    for (name, node) in entries {
        if let Some(value) = one(reader, &name, node) {
            read.push((name, value));
        }
    }
    if read.len() < count {
        reader.lose(section);
    }
    read
}

/// The lines for which a warning is accepted.
fn lint(reader: &mut Reader, code: &Text, node: &Node) -> Option<Vec<Text>> {
    if !is_lint(&code.value) {
        let cure = match nearest(&code.value, LINTS.iter().map(|(code, _)| *code)) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => "the code that stands in brackets in a warning, as in warning[route_more_open]".into(),
        };
        let message = format!("there is no warning `{}`", super::shape::brief(&code.value));
        reader.report(Problem::error("unknown_lint", code.span, message).cure(cure));
        return None;
    }
    Some(reader.texts(node, "an entry of `lints`"))
}

fn routes(reader: &mut Reader, top: &Fields<'_>, issuers: &[&str]) -> Vec<Route> {
    let routes = named(reader, top, "routes", |reader, key, node| {
        let Some(long) = long_form(node) else {
            let rule = rule(reader, node)?;
            return Some(Route {
                key: key.clone(),
                rule,
                when: None,
                issuers: None,
                browser: OfRoute::default(),
                deny: None,
                audience: Vec::new(),
                step_up: None,
                mint: None,
                cache: None,
                tells: None,
            });
        };
        let fields = reader.fields(long, ROUTE)?;
        let accepted = fields.get("issuers").map(|node| reader.texts(node, &fields.name("issuers")));
        for name in accepted.iter().flatten() {
            known_issuer(reader, name, issuers);
        }
        let when = fields.get("when").map(|node| reader.literal(node, "`when`"));
        if !fields.has("allow") {
            reader.missing(node.span, "a route needs `allow`, the rule that says who may pass");
        }
        let browser = browser::of_route(reader, &fields, top);
        let deny = fields.get("deny").map(|node| rule(reader, node).map(Box::new));
        let audience = fields.get("audience").map(|node| reader.texts(node, &fields.name("audience")));
        let step_up = stepup::of_route(reader, &fields);
        let mint = mint::of_route(reader, &fields);
        let cache = cache::of_route(reader, &fields);
        let telling = ["headers", "response_headers", "query"].iter().any(|key| fields.has(key));
        let tells = telling.then(|| Box::new(header::of_route(reader, &fields)));
        let rule = rule(reader, fields.get("allow")?)?;
        // What narrows and cannot be read takes the route with it.
        let deny = deny.map_or(Some(None), |deny| deny.map(Some))?;
        let (step_up, mint) = (step_up?, mint?);
        // A condition that cannot be read is no condition less.
        let when = when.map_or(Some(None), |when| when.map(Some))?;
        Some(Route {
            key: key.clone(),
            rule,
            when,
            issuers: accepted,
            browser,
            deny,
            audience: audience.unwrap_or_default(),
            step_up,
            mint,
            cache,
            tells,
        })
    });
    if !top.has("routes") && !top.has("include") && top.is_policy() {
        reader.report(Problem::warning("no_routes", Span::START, "there are no `routes`: every request is denied"));
    }
    routes.into_iter().map(|(_, route)| route).collect()
}

/// A map that is not one of the rule forms.
fn long_form(node: &Node) -> Option<&Node> {
    let Kind::Map(entries) = &node.kind else { return None };
    let is_rule = |key: &Node| matches!(&key.kind, Kind::Text { text, .. } if RULE.contains(&&**text));
    (!entries.iter().any(|(key, _)| is_rule(key))).then_some(node)
}

/// Reads a rule: words, or the same tree in YAML.
fn rule(reader: &mut Reader, node: &Node) -> Option<Rule> {
    match &node.kind {
        Kind::Text { .. } => reader.literal(node, "a rule").map(Rule::Text),
        Kind::Map(_) => {
            let mut entries = reader.entries(node, "a rule")?.into_iter();
            let (Some((word, value)), None) = (entries.next(), entries.next()) else {
                let problem = Problem::error("wrong_shape", node.span, "a rule in YAML has exactly one key");
                reader.report(problem.cure("one of `any`, `all`, `not`"));
                return None;
            };
            match &*word.value {
                "any" => rules(reader, value, "`any`").map(|rules| Rule::Any(node.span, rules)),
                "all" => rules(reader, value, "`all`").map(|rules| Rule::All(node.span, rules)),
                "not" => rule(reader, value).map(|rule| Rule::Not(node.span, Box::new(rule))),
                _ => {
                    reader.no_such_choice(&word, "the key of a rule", RULE);
                    None
                }
            }
        }
        Kind::Null => {
            let problem = Problem::error("missing_value", node.span, "there is no rule here");
            reader.report(problem.cure("`public`, `signed-in`, `role:x`: say who may pass"));
            None
        }
        Kind::Bool(_) | Kind::List(_) => {
            let message = format!("a rule must be a text, this is {}", node.kind.noun());
            reader.report(
                Problem::error("wrong_shape", node.span, message).cure("`{any: [...]}` or `{all: [...]}` lists rules"),
            );
            None
        }
    }
}

fn rules(reader: &mut Reader, node: &Node, what: &str) -> Option<Vec<Rule>> {
    let items = reader.list(node, what)?;
    let rules: Vec<Rule> = items.iter().filter_map(|item| rule(reader, item)).collect();
    (!items.is_empty() && rules.len() == items.len()).then_some(rules)
}

/// Reports a name that no issuer has.
fn known_issuer(reader: &mut Reader, name: &Text, issuers: &[&str]) {
    if issuers.contains(&&*name.value) {
        return;
    }
    let cure = match nearest(&name.value, issuers.iter().copied()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None if issuers.is_empty() => "the file has no `issuers`".into(),
        None => format!("one of {}", issuers.join(", ")),
    };
    let message = format!("there is no issuer `{}`", super::shape::brief(&name.value));
    reader.report(Problem::error("unknown_issuer", name.span, message).cure(cure));
}

/// Reports names that fold to the same one, as gateways and upstreams may fold them.
fn alike(reader: &mut Reader, names: &[(&Text, String)], code: &'static str, message: &str) {
    let mut seen: HashMap<&str, Span> = HashMap::new();
    for (name, folded) in names {
        if let Some(first) = seen.insert(folded, name.span) {
            reader.report(
                Problem::error(code, name.span, message).cure("keep one of the two").related(first, "first here"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::reference::Found;
    use super::*;

    /// The whole of a typical site, as the documentation shows it.
    const SITE: &str = "\
# portcullis.yaml
issuers:
  main:
    url: https://id.example.com/realms/shop      # OIDC discovery
    audience: shop-api
    roles: realm_access.roles                    # a list, or one space-separated string
headers:                                         # ours: always stripped from the caller first
  X-User-ID: sub
  X-User-Roles: roles                            # [\"admin\",\"premium\"]
routes:                                          # most specific wins
  GET /health:        public
  /admin/**:          role:admin
  PUT /profile/{id}:  owner:id or role:admin     # owner:id is claim:sub={id}
  /secret-data:       role:premium
  /t/{tenant}/**:     claim:tenant={tenant}
public_url: https://shop.example.com
sign_in: https://login.example.com/?return_to={url}
tests:
  - [anonymous,                      GET /health,      allow]
  - [{sub: u1},                      PUT /profile/u1,  allow, {X-User-ID: u1}]
  - [{sub: u1},                      PUT /profile/u2,  deny 403]
  - [anonymous,                      GET /secret-data, deny 401]
";

    /// Every key there is.
    const EVERYTHING: &str = "\
issuers:
  main:
    url: https://id.example.com
    issuer: https://id.example.com/
    audience: {claim: client_id, any_of: [shop, cart]}
    algorithms: [ES256, EdDSA]
    roles: realm_access.roles
    groups: groups
    scopes: scp
    missing: empty
    default: true
    may_grant: any
    require: claim:tier=gold
    from: [bearer, 'header:X-Token', cookie:session, 'query:access_token', 'subprotocol:bearer.']
    origins: [https://app.example.com]
    proof: {mode: dpop, window: 30s, nonce: offered, algorithms: [ES256], urls: [https://shop.example.com]}
    leeway: 30s
    max_token_lifetime: 24h
    types: [at+jwt, JWT]
    id_tokens: false
    subject_prefix: main-
    refresh: 10m
    cooldown: 250ms
    max_stale: 7d
    relays: true
    ca: file:ca.pem
    deny_kids: [k1, k2]
    logout: {clients: [shop-web], revokes: subject}
    reject_issued_before: 2026-11-20T00:00:00Z
  partner:
    jwks: file:partner.json
    issuer: partner
    may_grant: [partner-*]
  local:
    jwks: http://127.0.0.1:8080/jwks
    issuer: local
    allow_http: true
    may_grant: []
  pinned:
    pem: /etc/portcullis/pinned.pem
    issuer: pinned
    audience: [a, b]
    may_grant: any
  shared:
    secret: [env:SHARED_NEW, {from: file:shared.key, encoding: hex}]
    algorithms: [HS384]
    issuer: shared
    may_grant: []
  named:
    secret: {from: env:NAMED, kid: a, encoding: base64url}
    issuer: named
    may_grant: []
  opaque:
    issuer: opaque
    introspection: {url: https://opaque.example.com/introspect, client_id: edge, client_secret: env:CLIENT, auth: post, subject: username, cache: 30s, timeout: 1s}
    may_grant: []
  signed:
    url: https://signed.example.com
    introspection:
      url: https://signed.example.com/introspect
      client_id: edge
      private_key_jwt: {key: file:client.pem, kid: c1, algorithm: ES256, audience: https://signed.example.com/token}
    may_grant: []
  okta: {provider: okta, domain: acme.okta.com, server: default, may_grant: any}
  entra: {provider: entra, tenant: 8a2f1c64-3b5d-4e7f-9a10-c2d3e4f50617, version: v2.0, may_grant: any}
  many: {jwks: https://a.example.com/keys, issuer: 'https://a.example.com/{tid}', tenants: [t1], may_grant: any}
  alb: {provider: aws-alb, region: eu-west-1, issuer: y, signer: 'arn:aws:elasticloadbalancing:eu-west-1:123456789012:loadbalancer/app/a/b', may_grant: any}
  balanced: {pem: alb.pem, issuer: x, from: ['header:X-B'], signer: 'arn:aws:elasticloadbalancing:eu-west-1:123456789012:loadbalancer/app/a/b', may_grant: any}
  realm: {provider: keycloak, url: https://id.example.com/realms/shop, client: shop, may_grant: any}
  pool: {provider: cognito, pool: eu-west-1_AbCdEfGhI, audience: web, may_grant: any}
  access: {provider: cloudflare-access, team: acme, may_grant: any}
  ci: {provider: github-actions, enterprise: acme, require: claim:repository_owner=acme, may_grant: any}
api_keys:
  keys: [{id: a, owner: billing, hash: 'sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad', not_before: 2026-12-01T00:00:00Z, expires: 2027-12-01T00:00:00Z, roles: [a], groups: [b], scopes: [c], routes: [GET /long], disabled: false}]
  from: [header:X-API-Key, 'query:api_key', bearer]
  prefix: pk_live
  default: false
include: [{files: teams/*.yaml, at: [/team/**], may: [public], issuers: [main], as: team}]
hosts: {api: [api.example.com, '*.preview.example.com']}
headers:
  X-User-ID: principal
  X-User-Roles: {from: roles, format: comma}
  X-Tenant: {from: https://acme.com/tenant, default: none}
  X-Plan: {value: gold}
response_headers: {X-Served-For: sub, X-Frame-Options: {value: DENY}}
query: {set: {tenant: claim:tenant}, remove: [debug]}
headers_kept: [Remote-User]
metadata: {user: sub, tier: claim:tier}
routes:
  GET,HEAD shop.example.com/items/**: anyone
  /any: {any: [role:a, {not: role:b}]}
  \"*.example.com/all\": {all: [role:a, role:b]}
  /long: {allow: role:a, when: claims.level > 2, issuers: [main, partner], deny: claim:suspended=true, audience: [orders, carts], headers: {X-Route: route}, response_headers: {X-A: {value: b}}, query: {remove: a}}
  /browser:
    allow: role:a
    cors: {origins: [https://app.example.com], credentials: true}
    sign_in: {to: 'https://login.example.com/?to={url}', return_to: [https://admin.example.com]}
    credential: {from: [bearer], then: strip}
    max_age: 10m
    acr: [urn:mfa]
    mint: {audience: orders}
    cache: 10s
  /plain: {allow: role:a, mint: none}
mint: {issuer: https://edge.example.com, audience: shop, header: X-Identity, algorithm: EdDSA, keys: dir:mint, rotate: 30d, lifetime: 60s, claims: {roles: roles, tenant: {from: claim:tenant}, tier: {value: gold}}}
guards: {\"/admin/**\": role:admin}
deny: {suspended: claim:suspended=true}
lints: {holds_by_absence: [/any]}
revocation:
  revoked:
    - {issuer: main, token: t, until: 2026-12-01T00:00:00Z, ticket: OPS-1}
    - {issuer: main, session: s}
    - {issuer: main, key: k}
    - {principal: main/u1, issued_before: 2026-12-01T00:00:00Z}
  store: true
  unknown: allow
  keep: 7d
roles: {admin: group:platform or claim:department=it}
grants: [{principal: main/u1, role: admin, until: 2026-12-01T00:00:00Z, ticket: OPS-1}]
gateways:
  edge: {by: unix}
  far:
    by: [10.0.4.0/28, 192.0.2.7]
    dialect: envoy
    believes: [client_address]
    client_address: {from: xff, hops: 2}
    max_headers: 200
    max_header_bytes: 98304
    filtered_headers: true
  mesh: {by: {all: [unix, spiffe://example.com/envoy]}, believes: [certificate, header:X-FG-User]}
pdp_clients: {portal: {by: 'token:env:PORTAL', issuers: [main, api_keys, services]}}
services: {cart: spiffe://example.com/ns/shop/sa/cart, shop: [spiffe://example.com/a, spiffe://example.com/ns/shop/*]}
paths: [encoded_slash, semicolon, empty_segment, backslash, double_encoding, case_variant]
public_url: https://shop.example.com
sign_in: https://login.example.com/?return_to={url}
cors:
  origins: [https://app.example.com]
  credentials: false
  hosts: {api.example.com: {origins: ['https://*.app.example.com']}}
listen:
  grpc:
    - 127.0.0.1:9000
    - unix:/run/portcullis.sock
    - {address: '[::]:9443', tls: {certificate: file:a.pem, key: file:a.key, client_ca: file:ca.pem, client: optional}}
  http: {address: '[::]:9444', tls: {certificate: file:a.pem, key: file:a.key, client_ca: file:ca.pem, client: required}}
  admin: '[::1]:9001'
  public: 0.0.0.0:9003
audit: file:/var/log/audit.jsonl
log: human
decision_key: env:DECISION_KEY
admin: {token: env:ADMIN_TOKEN}
key_cache: /var/lib/portcullis
cache: {tokens: 64MiB}
store: {url: rediss://redis.example.com:6380/1, username: edge, password: env:STORE, ca: file:ca.pem, deadline: 20ms, prefix: 'edge:'}
tests:
  - {as: {sub: u1, iss: main, roles: [admin], level: 3, vip: true, code: \"007\"}, ask: GET /long, expect: allow, from: 10.0.0.7, service: cart, key: billing, dpop: false, certificate: true, at: 2027-01-15T09:00:00Z, mint: {sub: u1, act: ~}, headers: {X-Tenant: null}, response_headers: {X-A: b}, query: {tenant: ~}}
  - [anonymous, GET shop.example.com/items/1?a=b, deny 403 rule_unmet]
  - [anonymous, GET /, redirect]
";

    fn found(text: &str) -> Vec<(u32, u32, &'static str)> {
        let places = |problem: &Problem| (problem.span.line, problem.span.column, problem.code);
        parse("portcullis.yaml", text).1.as_slice().iter().map(places).collect()
    }

    fn read(text: &str) -> File {
        let found = Found { path: "teams/a.yaml".into(), name: "teams/a.yaml".into(), place: "/teams/a.yaml".into() };
        let around = Surroundings {
            file: &|_| Ok(b"routes: {/team/x: public}".to_vec()),
            list: &|_| Ok(vec![found.clone()]),
            ..Surroundings::NONE
        };
        let (file, problems) = parse_all("portcullis.yaml", text, &around);
        assert_eq!(problems.to_string(), "", "{text}");
        file.unwrap()
    }

    #[test]
    fn a_typical_site_reads_without_problems() {
        let file = read(SITE);
        assert_eq!(file.routes.len(), 5);
        let keys: Vec<&str> = file.routes.iter().map(|route| &*route.key.value).collect();
        assert_eq!(keys, ["GET /health", "/admin/**", "PUT /profile/{id}", "/secret-data", "/t/{tenant}/**"]);
        let Rule::Text(rule) = &file.routes[2].rule else { panic!("not text") };
        assert_eq!((&*rule.value, rule.span.line, rule.span.column), ("owner:id or role:admin", 13, 23));
        let (name, main) = &file.issuers[0];
        assert_eq!((&*name.value, &*main.issuer.value), ("main", "https://id.example.com/realms/shop"));
        assert_eq!(main.leeway.as_secs(), 60);
        assert_eq!(main.from[0].value, Credential::Bearer);
        assert_eq!(file.tells.headers[1].source.value, Source::Roles);
        assert_eq!(file.tests.len(), 4);
        assert_eq!(&*file.tests[1].ask.value.target, "/profile/u1");
        assert_eq!(file.tests[1].headers[0].1.as_deref(), Some("u1"));
        assert_eq!(file.tests[3].expect.value, Expectation::Deny { status: Some(401), reason: None });
    }

    #[test]
    fn every_key_reads_without_problems() {
        let file = read(EVERYTHING);
        let issuer = |at: usize| &file.issuers[at].1;
        assert_eq!(&*issuer(0).issuer.value, "https://id.example.com/");
        assert_eq!(issuer(0).audience.as_ref().unwrap().any_of.len(), 2);
        assert_eq!(issuer(0).from[1].value, Credential::Header("x-token".into()));
        assert!(issuer(0).missing_is_empty && !issuer(1).missing_is_empty);
        assert_eq!((issuer(0).cooldown.as_millis(), issuer(0).max_stale.as_secs()), (250, 604_800));
        assert_eq!(issuer(1).keys.jwks.as_ref().unwrap().value, Location::File("partner.json".into()));
        assert!(matches!(&issuer(2).may_grant, Some(MayGrant::Only(none)) if none.is_empty()));
        let secrets = &issuer(4).keys.secrets;
        assert_eq!(secrets[0].place.value, SecretPlace::Env("SHARED_NEW".into()));
        assert_eq!(
            (&secrets[1].place.value, secrets[1].encoding),
            (&SecretPlace::File("shared.key".into()), Encoding::Hex)
        );
        assert_eq!(issuer(5).keys.secrets[0].kid.as_ref().map(|kid| &*kid.value), Some("a"));
        let opaque = issuer(6).introspection.as_ref().unwrap();
        assert_eq!((opaque.cache.as_secs(), opaque.timeout.as_secs(), opaque.subject.member()), (30, 1, "username"));
        assert!(matches!(&opaque.proof, ClientProof::Secret { in_form: true, .. }));
        let signed = issuer(7).introspection.as_ref().unwrap();
        assert_eq!((signed.cache.as_secs(), signed.timeout.as_secs(), signed.subject.member()), (60, 2, "sub"));
        assert!(matches!(&signed.proof, ClientProof::Key { audience: Some(_), .. }));
        assert_eq!(file.tells.headers[1].format.unwrap().value, Format::Comma);
        assert_eq!(file.tells.headers[2].source.value, Source::Claim("https://acme.com/tenant".into()));
        assert_eq!(file.tells.metadata[1].source.value, Source::Claim("tier".into()));
        assert!(matches!(&file.routes[1].rule, Rule::Any(_, rules) if matches!(rules[1], Rule::Not(..))));
        assert_eq!(file.routes[3].when.as_ref().map(|when| &*when.value), Some("claims.level > 2"));
        assert_eq!(file.routes[3].issuers.as_ref().unwrap().len(), 2);
        assert!(matches!(file.routes[3].deny.as_deref(), Some(Rule::Text(_))));
        assert_eq!(file.routes[3].audience.len(), 2);
        assert_eq!(
            (&*file.grants[0].principal.value, file.grants[0].until.value),
            ("main/u1", crate::authz::time::Timestamp::from_secs(1_796_083_200))
        );
        assert_eq!(file.gateways[1].1.client_address.unwrap().value, ClientAddress::ForwardedFor(2));
        assert_eq!(file.gateways[1].1.by[1].value, Peer::Network("192.0.2.7/32".parse().unwrap()));
        assert_eq!((file.paths.len(), file.listen.grpc.len()), (6, 3));
        assert_eq!((&file.audit, file.log), (&Audit::File("/var/log/audit.jsonl".into()), Log::Human));
        assert_eq!(file.token_cache.unwrap().value, 64 << 20);
        let Who::Token { issuer, roles, claims } = &file.tests[0].who.value else { panic!("anonymous") };
        assert_eq!((&*issuer.as_ref().unwrap().value, roles.as_ref().unwrap().len()), ("main", 1));
        assert_eq!(serde_json::to_string(claims).unwrap(), r#"{"code":"007","level":3,"sub":"u1","vip":true}"#);
        assert_eq!(file.tests[0].headers[0].1, None);
        assert_eq!(file.tests[1].ask.value.host.as_deref(), Some("shop.example.com"));
        let Expectation::Deny { reason, .. } = file.tests[1].expect.value else { panic!("not denied") };
        assert_eq!(reason.map(crate::authz::reason::Reason::code), Some("rule_unmet"));
    }

    #[test]
    fn every_accepted_key_is_in_the_file_that_has_every_key() {
        for (section, keys) in ACCEPTED_KEYS {
            for key in *keys {
                assert!(EVERYTHING.contains(&format!("{key}:")), "{section}: {key}");
            }
        }
    }

    #[test]
    fn a_file_that_says_nothing_is_an_error() {
        // L01
        for text in ["", "\n", "# nothing yet\n", "---\n", "~\n"] {
            assert_eq!(found(text), [(1, 1, "empty_file")], "{text:?}");
            assert_eq!(parse("x", text).0, None);
        }
        assert_eq!(found("- a\n"), [(1, 1, "wrong_shape")]);
        assert_eq!(found("routes\n"), [(1, 1, "wrong_shape")]);
    }

    #[test]
    fn all_problems_are_found_at_once_in_the_order_of_their_places() {
        // L01
        let text = "\
isuers: {}
issuers:
  - main
routes:
  /a: role:x
  /b:
  /a: role:y
limits: {}
limit: 3
";
        let expected = [
            (1, 1, "unknown_key"),
            (3, 3, "wrong_shape"),
            (6, 5, "missing_value"),
            (7, 3, "duplicate_key"),
            (8, 1, "not_there_yet"),
            (9, 1, "not_there_yet"),
        ];
        let (_, problems) = parse("portcullis.yaml", text);
        assert_eq!(found(text), expected, "{problems}");
        let problems = problems.as_slice();
        assert_eq!(problems[0].cure.as_deref(), Some("did you mean `issuers`?"));
        assert_eq!(problems[1].message, "`issuers` must be a map, this is a list");
        assert_eq!((problems[3].related[0].span.line, problems[3].related[0].span.column), (5, 3));
        assert!(problems[4].cure.as_deref().unwrap().contains("`routes`"));
    }

    #[test]
    fn a_key_that_is_there_twice_is_an_error_in_every_map() {
        // L01
        for (text, place) in [
            ("routes: {/a: public}\nroutes: {/b: public}\n", (2, 1, "duplicate_key")),
            ("routes:\n  /a: {allow: role:x, allow: public}\n", (2, 23, "duplicate_key")),
            ("routes: {/a: public}\nheaders: {X-A: sub, X-A: iss}\n", (2, 21, "duplicate_key")),
            ("routes: {/a: public}\ntests: [[{sub: a, sub: b}, GET /a, allow]]\n", (2, 19, "duplicate_key")),
            ("routes: {/a: public}\ntests: [[{x: {y: 1, y: 2}}, GET /a, allow]]\n", (2, 21, "duplicate_key")),
        ] {
            assert_eq!(found(text), [place], "{text}");
        }
    }

    #[test]
    fn a_rule_is_a_text_or_one_of_three_forms() {
        let rule = |rule: &str| found(&format!("routes:\n  /a: {rule}\n"));
        for good in ["public", "not role:x", "{not: role:x}", "{any: [role:a]}", "|-\n    role:a\n    or role:b"] {
            assert_eq!(rule(good), [], "{good}");
        }
        for (bad, column, code) in [
            ("true", 7, "wrong_shape"),
            ("[role:a]", 7, "wrong_shape"),
            ("\"\"", 7, "missing_value"),
            ("{any: []}", 13, "missing_value"),
            ("{any: role:a}", 13, "wrong_shape"),
            ("{any: [role:a], all: [role:b]}", 7, "wrong_shape"),
            ("{any: [role:a], allow: public}", 7, "wrong_shape"),
            ("{any: [true]}", 14, "wrong_shape"),
            ("{}", 7, "missing_key"),
            ("{allow: role:a, limit: 3}", 23, "not_there_yet"),
            ("{alow: role:a}", 8, "unknown_key"),
            ("{allow: role:a, issuers: [main]}", 33, "unknown_issuer"),
            ("\"role:a\\0\"", 7, "control_character"),
        ] {
            assert!(rule(bad).contains(&(2, column, code)), "{bad}: {:?}", rule(bad));
        }
        assert_eq!(found("routes: {\"/a\\nb\": public}\n"), [(1, 10, "control_character")]);
        assert_eq!(found("routes: {/a: public}\naudit: \"none\\n\"\n"), [(2, 8, "control_character")]);
        assert_eq!(rule(&format!("role:{}", "x".repeat(5_000))), [(2, 7, "value_too_long")]);
    }

    #[test]
    fn an_issuer_that_cannot_be_read_is_known_by_its_name_all_the_same() {
        let text = "issuers: {main: {}}\nroutes: {/a: {allow: role:x, issuers: [main]}}\n";
        assert_eq!(found(text), [(1, 11, "missing_key")]);
        let text = "issuers: {main: {}}\nroutes: {/a: {allow: role:x, issuers: [mian]}}\n";
        assert_eq!(found(text), [(1, 11, "missing_key"), (2, 40, "unknown_issuer")]);
    }

    #[test]
    fn a_file_without_routes_is_warned_of_and_a_broken_one_is_no_file() {
        let (file, problems) = parse("x", "log: json\n");
        assert!(file.is_some() && !problems.has_errors());
        assert_eq!(found("log: json\n"), [(1, 1, "no_routes")]);
        let (file, problems) = parse("x", "routes: [\n");
        assert!(file.is_none() && problems.has_errors());
    }

    #[test]
    fn a_hostile_file_is_refused_with_few_problems() {
        // L02
        let unknown: String = (0..60_000).map(|key| format!("issuer{key}: 1\n")).collect();
        let (_, problems) = parse("x", &unknown);
        assert!(problems.has_errors());
        assert_eq!((problems.as_slice().len(), problems.untold()), (101, 59_900));
        let long = format!("routes:\n  /a: {}\n", "x".repeat(1_000_000));
        assert_eq!(found(&long), [(2, 7, "value_too_long")]);
        assert_eq!(found("routes:\n  /a: !!binary cm9sZTp4\n"), [(2, 7, "tag")]);
        assert_eq!(found("routes:\n  <<: {/a: public}\n  /b: public\n")[0], (2, 3, "merge_key"));
    }

    #[test]
    fn a_key_that_yaml_reads_as_another_kind_is_an_error() {
        assert_eq!(found("routes: {true: public}\n"), [(1, 10, "wrong_shape")]);
        assert_eq!(found("routes: {~: public}\n"), [(1, 10, "wrong_shape")]);
        assert_eq!(found("routes: {\"\": public}\n"), [(1, 10, "missing_value")]);
        assert_eq!(found("routes:\n  {x}: public\n"), [(2, 3, "quote_key")]);
    }
}
