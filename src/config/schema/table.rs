//! Every key of the policy file, section by section: the one place to add a line to when the file learns a key.

use super::{Is, Key, Section};
use crate::config::file::MAY;

const URL: Is = Is::Like(r"https?://[^\s#]+");
const FILE: Is = Is::Like(r"file:[^\s].*");
const FORMATS: Is = Is::Word(&["json", "comma", "base64url"]);
const ALGORITHMS: &[&str] = &[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "HS256", "HS384", "HS512",
];
const PROVIDERS: &[&str] = &[
    "okta",
    "auth0",
    "entra",
    "cognito",
    "aws-iam",
    "aws-alb",
    "google",
    "google-iap",
    "keycloak",
    "cloudflare-access",
    "github-actions",
    "gitlab",
    "kubernetes",
    "portcullis",
];
const LENIENCIES: &[&str] =
    &["encoded_slash", "semicolon", "empty_segment", "backslash", "double_encoding", "case_variant"];
const CREDENTIAL: Is = Is::Like(r"bearer|header:[!-9;-~]+|cookie:[!-9;-~]+|query:[A-Za-z0-9_-]+|subprotocol:.+\.");
const MODE: Is = Is::Word(&["none", "dpop", "mtls", "either", "required-if-bound"]);
const THEN: Is = Is::Word(&["strip", "forward"]);
const SECRET: Is = Is::Like(r"(env:|file:)[^\s].*");
const BY: Is = Is::Like(r"unix|spiffe://.+|dns:.+|token:(env|file):.+|[0-9a-fA-F:.]+(/[0-9]+)?");
const ENDPOINT: Is = Is::Like(r"unix:/.+|.+:[0-9]+");
const ROUTE_KEY: &str = r"^([A-Z][A-Z_-]*(,[A-Z][A-Z_-]*)* )?[^ /]*/";
const HEADER_NAME: &str = r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$";

const ORIGIN: Is = Is::Like(r"[Hh][Tt][Tt][Pp][Ss]?://[^\s/?#@]+");
const SHARING: &[Key] = &[
    ("origins", Is::Some(&ORIGIN), "Whose pages may read answers; `*.` stands for one label"),
    ("credentials", Is::Flag, "Whether these pages may send cookies"),
];
const SIGN_IN: &[Key] = &[
    (
        "to",
        URL,
        "Where people sign in; `{url}` is the page that they asked for, `{max_age}` and `{acr}` what the route asks for",
    ),
    ("return_to", Is::Some(&ORIGIN), "The origins of other sites that they may be sent back to"),
];

const TLS: &[Key] = &[
    ("certificate", FILE, "A PEM file: our certificate, then those that it was signed with"),
    ("key", FILE, "A PEM file: its private key"),
    ("client_ca", FILE, "A PEM file: who signs the certificates of gateways"),
    ("client", Is::Word(&["required", "optional"]), "Whether a gateway must have one"),
];

const HEADERS: Is = Is::Keyed(HEADER_NAME, &Is::Either(&[Is::Text, Is::Section("headers.*")]));
const RESPONSES: Is = Is::Keyed(HEADER_NAME, &Is::Either(&[Is::Text, Is::Section("response_headers.*")]));
const TOLD: &[Key] = &[
    (
        "from",
        Is::Text,
        "What it holds: sub, principal, issuer, roles, groups, scopes, app, app_id, actor, actors, route, `capture:name` or a claim",
    ),
    ("value", Is::Text, "What it holds, whoever calls"),
    ("default", Is::Text, "What it holds for an identity that has nothing of the kind"),
    ("format", FORMATS, "How it holds a list, or a value that is not plain text"),
];

/// The keys, in the order of [`ACCEPTED_KEYS`](crate::config::file::ACCEPTED_KEYS).
#[rustfmt::skip]
pub const TABLE: &[Section] = &[
    ("", &[], &[
        ("issuers", Is::Map(&Is::Section("issuers.*")), "Who signs tokens, where their keys are, what they may say; by a name of yours"),
        ("api_keys", Is::Section("api_keys"), "Applications that call with a key of their own"),
        ("hosts", Is::Keyed(r"^[A-Za-z][A-Za-z0-9_-]*$", &Is::Texts), "Sets of hosts, by the name that keys call them: `api:/orders/**`"),
        ("include", Is::List(&Is::Section("include.*"), 1), "The files of teams, and what is given to each"),
        ("headers", HEADERS, "Headers that the upstream trusts: set on every allow, the caller's own removed"),
        ("headers_kept", Is::Texts, "Headers of well-known families that are not to be removed"),
        ("response_headers", RESPONSES, "Headers of the response to the caller, on every allow"),
        ("query", Is::Section("query"), "Parameters of the query that the upstream sees, and those that it does not"),
        ("metadata", Is::Map(&Is::Either(&[Is::Text, Is::Section("metadata.*")])), "What the gateway is told beside the headers"),
        ("routes", Is::Keyed(ROUTE_KEY, &Is::Either(&[Is::Rule, Is::Section("routes.*")])), "Who may pass, by `[METHOD[,METHOD] ][host]/path`; the most specific key wins, nothing matches: denied"),
        ("guards", Is::Keyed(ROUTE_KEY, &Is::Rule), "Rules that must hold as well wherever their pattern covers the request"),
        ("deny", Is::Map(&Is::Rule), "Forbids for every route, by a name of yours; they win over everything"),
        ("roles", Is::Map(&Is::Rule), "Roles that the policy derives from claims"),
        ("grants", Is::List(&Is::Section("grants.*"), 0), "Roles that single principals are given for a time"),
        ("revocation", Is::Section("revocation"), "What is revoked: tokens, sessions, keys, principals"),
        ("gateways", Is::Map(&Is::Section("gateways.*")), "Who may ask, and what is believed of them"),
        ("pdp_clients", Is::Map(&Is::Section("pdp_clients.*")), "Who may ask about subjects that nobody has proven (OpenID AuthZEN)"),
        ("services", Is::Map(&Is::Some(&Is::Like(r"spiffe://.+"))), "Workloads by name: the SPIFFE ID of each"),
        ("paths", Is::Words(LENIENCIES), "What is not refused in a path"),
        ("lints", Is::Map(&Is::Texts), "Warnings that were looked at and accepted: a code, and the lines that it is for"),
        ("public_url", Is::Like(r"https?://[^\s/?#]+/?"), "Where browsers find the site: scheme, host and port"),
        ("sign_in", Is::Either(&[URL, Is::Section("sign_in")]), "Where browsers are sent to sign in; `{url}` is the page that they asked for"),
        ("cors", Is::Section("cors"), "Whose pages may read answers"),
        ("mint", Is::Section("mint"), "The tokens that upstreams get: who calls, through whom, for which route"),
        ("listen", Is::Section("listen"), "Where portcullis listens"),
        ("audit", Is::Like(r"stdout|none|file:.+"), "Where decisions are recorded"),
        ("log", Is::Word(&["json", "human"]), "How the log is written"),
        ("decision_key", Is::Like(r"env:[A-Za-z0-9_]+|file:.+"), "Where the key of the decision ids is found: at least 16 bytes"),
        ("admin", Is::Section("admin"), "Who may change something by the admin listener"),
        ("key_cache", Is::Like("/.*"), "The folder of what outlives the process: last-good keys, suspensions"),
        ("cache", Is::Section("cache"), "How much is remembered"),
        ("store", Is::Either(&[Is::Like(r"memory|rediss?://[^\s@]+|redis\+unix:///[^\s@]+"), Is::Section("store")]), "Where replicas share what they must all know: `memory` or a Redis"),
        ("tests", Is::Tests, "The policy's own tests: `[who, METHOD target, expectation, {header: value}]`"),
    ]),
    ("issuers.*", &[], &[
        ("provider", Is::Word(PROVIDERS), "Whose tokens they are, by name: what the provider fixes is filled in (docs/providers.md)"),
        ("domain", Is::Text, "Okta, Auth0: the host of the tenant"),
        ("server", Is::Text, "Okta: the authorization server; `default`, its id, or `org`"),
        ("tenant", Is::Text, "Entra ID: the id of the tenant; `tenants` in its place lists several"),
        ("version", Is::Word(&["v2.0", "v1.0"]), "Entra ID: which tokens the API's manifest asks for"),
        ("client", Is::Text, "Keycloak: whose roles count, in place of those of the realm"),
        ("pool", Is::Text, "Cognito: the id of the user pool"),
        ("team", Is::Text, "Cloudflare Access: the name of the team"),
        ("region", Is::Text, "AWS load balancers: the region that they are in"),
        ("enterprise", Is::Text, "GitHub Actions: the slug of the enterprise that has an issuer of its own"),
        ("url", URL, "The issuer's URL, for OpenID Connect discovery; also its `iss`"),
        ("jwks", Is::Either(&[URL, FILE]), "A key set: a URL, or `file:path` beside the policy file"),
        ("pem", Is::Text, "A PEM file of public keys"),
        ("secret", Is::Some(&Is::Either(&[SECRET, Is::Section("issuers.*.secret")])), "Where its shared secret is: `env:NAME` or `file:path`; several while it is changed"),
        ("issuer", Is::Texts, "The exact `iss` claim, in all its spellings; needed without `url`"),
        ("signer", Is::Some(&Is::Like("arn:aws.*:loadbalancer/app/.+")), "The AWS load balancers that may have signed, by ARN: its tokens are theirs"),
        ("tenants", Is::Texts, "Whose tokens are accepted, where `issuer` has a `{claim}` in it"),
        ("audience", Is::Either(&[Is::Texts, Is::Section("issuers.*.audience")]), "Whom its tokens are for"),
        ("algorithms", Is::Words(ALGORITHMS), "The signature algorithms that are accepted"),
        ("roles", Is::Text, "The claim that lists roles"),
        ("groups", Is::Text, "The claim that lists groups"),
        ("scopes", Is::Text, "The claim that lists scopes; `scope` where it is not said"),
        ("missing", Is::Word(&["empty", "unknown"]), "What a list is that a token does not have"),
        ("default", Is::Flag, "Whether routes accept it that name no issuers"),
        ("may_grant", Is::Either(&[Is::Word(&["any"]), Is::Text, Is::List(&Is::Text, 0)]), "The roles that it may speak of: names, `name-*`, or `any`"),
        ("require", Is::Rule, "A rule that each of its tokens must meet; 401 otherwise"),
        ("from", Is::Some(&CREDENTIAL), "Where its tokens are: `bearer`, `header:X-Token`, `cookie:name`, `query:access_token`, `subprotocol:bearer.`"),
        ("origins", Is::Some(&URL), "Whose pages may send its cookie"),
        ("proof", Is::Either(&[MODE, Is::Section("issuers.*.proof")]), "What whoever presents its tokens proves; `required-if-bound` where it is not said"),
        ("leeway", Is::Duration, "How far clocks may differ, 5m at most"),
        ("max_token_lifetime", Is::Duration, "The longest time from `iat` to `exp`"),
        ("types", Is::Texts, "The `typ` headers that are accepted"),
        ("id_tokens", Is::Flag, "Whether its ID tokens are accepted"),
        ("subject_prefix", Is::Text, "What goes before each of its subjects"),
        ("allow_http", Is::Flag, "Whether its URLs may be plain http, on this machine only"),
        ("refresh", Is::Duration, "How often its keys are fetched"),
        ("cooldown", Is::Duration, "The shortest time between two fetches"),
        ("max_stale", Is::Duration, "How long keys are used that could not be fetched again"),
        ("relays", Is::Flag, "Whether it is another portcullis, whose tokens say where a principal comes from"),
        ("ca", FILE, "A PEM file: who vouches for the servers of its keys and for where it is asked, in place of whom this machine trusts"),
        ("deny_kids", Is::Texts, "Kids of keys that are not believed any more"),
        ("logout", Is::Either(&[Is::Texts, Is::Section("issuers.*.logout")]), "The clients whose logout tokens count (OpenID Connect Back-Channel Logout)"),
        ("reject_issued_before", Is::Text, "Tokens that were issued before are refused (RFC 3339)"),
        ("introspection", Is::Section("issuers.*.introspection"), "Where it is asked about tokens that are no JWTs (RFC 7662)"),
    ]),
    ("issuers.*.logout", &["clients"], &[
        ("clients", Is::Texts, "Whom logout tokens are for: the clients that people sign in at"),
        ("revokes", Is::Words(&["session", "subject"]), "What a logout token revokes that names both"),
    ]),
    ("issuers.*.introspection", &["url", "client_id"], &[
        ("url", URL, "The introspection endpoint"),
        ("client_id", Is::Text, "The client that portcullis is to the issuer"),
        ("client_secret", SECRET, "Where the secret of this client is: `env:NAME` or `file:path`"),
        ("auth", Is::Word(&["basic", "post"]), "How the secret is sent: in `Authorization: Basic`, or in the form"),
        ("private_key_jwt", Is::Section("issuers.*.introspection.private_key_jwt"), "A key in place of a secret (RFC 7523)"),
        ("subject", Is::Word(&["sub", "username", "client_id"]), "The member of an answer that names the subject"),
        ("cache", Is::Duration, "How long an answer is believed, 1h at most; 60s where it is not said"),
        ("timeout", Is::Duration, "How long one ask may take, 10s at most; 2s where it is not said"),
    ]),
    ("issuers.*.introspection.private_key_jwt", &["key", "algorithm"], &[
        ("key", FILE, "A PEM file: the private key (PKCS #8)"),
        ("kid", Is::Text, "Its name, where the issuer knows several"),
        ("algorithm", Is::Word(&["RS256", "ES256", "EdDSA"]), "What it signs with"),
        ("audience", Is::Text, "Whom the assertion is for; the issuer's `iss` where it is not said"),
    ]),
    ("issuers.*.secret", &["from"], &[
        ("from", SECRET, "Where it is: `env:NAME` or `file:path`"),
        ("kid", Is::Text, "The `kid` of the tokens that it signs; needed with two secrets or more"),
        ("encoding", Is::Word(&["raw", "base64url", "base64", "hex"]), "How it is written there"),
    ]),
    ("issuers.*.audience", &["any_of"], &[
        ("claim", Is::Text, "The claim that says whom a token is for"),
        ("any_of", Is::Texts, "What it may be"),
    ]),
    ("api_keys", &[], &[
        ("file", Is::Text, "The file that lists the keys' hashes, beside the policy file: what `portcullis key` writes"),
        ("keys", Is::List(&Is::Section("api_keys.keys.*"), 1), "The hashes themselves, in place of a file"),
        ("from", Is::Some(&CREDENTIAL), "Where keys are shown: `header:x-api-key`, `query:api_key`, `bearer`"),
        ("prefix", Is::Like(r"[a-z][a-z0-9_]*[a-z0-9]"), "What each key begins with; `pk_live` where it is not said"),
        ("default", Is::Flag, "Whether routes take keys that name no issuers"),
    ]),
    ("api_keys.keys.*", &["owner", "hash"], &[
        ("id", Is::Text, "What the key is called; the owner and part of the hash where it is not said"),
        ("owner", Is::Text, "Whose it is: `key:billing` in rules"),
        ("hash", Is::Like(r"sha256:[0-9a-f]{64}"), "The SHA-256 of the key; never the key"),
        ("not_before", Is::Text, "From when on it is good, in UTC"),
        ("expires", Is::Text, "From when on it is good no more, in UTC"),
        ("roles", Is::Texts, "The roles that it gives"),
        ("groups", Is::Texts, "The groups that it gives"),
        ("scopes", Is::Texts, "The scopes that it gives"),
        ("routes", Is::Texts, "The requests that it is for, as keys of routes are written; all where it is not said"),
        ("disabled", Is::Flag, "Whether it is refused whatever the time"),
    ]),
    ("issuers.*.proof", &["mode"], &[
        ("mode", MODE, "Possession of a key (RFC 9449), of a certificate (RFC 8705), of either, of what the token is bound to, or of nothing"),
        ("window", Is::Duration, "How far the time of a DPoP proof may lie from now, 10m at most"),
        ("nonce", Is::Word(&["none", "offered", "required"]), "Whether DPoP proofs hold a nonce of portcullis"),
        ("algorithms", Is::Words(ALGORITHMS), "What DPoP proofs may be signed with"),
        ("urls", Is::Some(&ORIGIN), "Scheme, host and port by which callers know the site; `public_url` where it is not said"),
    ]),
    ("include.*", &["files", "at"], &[
        ("files", Is::Texts, "The files, from the policy's folder down; `*` in the name of a file only"),
        ("at", Is::Texts, "The patterns that their routes must lie within"),
        ("may", Is::Words(MAY), "What their routes may say beyond what narrows"),
        ("issuers", Is::Texts, "The issuers that their routes may name, beside the defaults"),
        ("as", Is::Text, "What goes before the names of their roles"),
    ]),
    ("headers.*", &[], TOLD),
    ("response_headers.*", &[], TOLD),
    ("query", &[], &[
        ("set", Is::Map(&Is::Either(&[Is::Text, Is::Section("query.set.*")])), "Parameters to set, in place of the caller's"),
        ("remove", Is::Texts, "Parameters that do not reach the upstream"),
    ]),
    ("query.set.*", &[], TOLD),
    ("metadata.*", &[], &[
        ("from", Is::Text, "What it holds: sub, principal, issuer, roles, groups, scopes, actor, actors, or a claim"),
        ("value", Is::Text, "What it holds, whoever calls"),
        ("default", Is::Text, "What it holds for an identity that has nothing of the kind"),
    ]),
    ("routes.*", &["allow"], &[
        ("allow", Is::Rule, "The rule: who may pass"),
        ("when", Is::Text, "A condition in CEL that must be true as well, for what words cannot say"),
        ("issuers", Is::Texts, "Whose tokens it accepts"),
        ("deny", Is::Rule, "What must not hold: true or unknown denies"),
        ("audience", Is::Texts, "Whom a token must be for as well: one of these"),
        ("max_age", Is::Duration, "How long ago a person may have signed in (`auth_time`)"),
        ("acr", Is::Texts, "How a person must have signed in: one of these values of `acr`"),
        ("mint", Is::Either(&[Is::Word(&["none"]), Is::Section("routes.*.mint")]), "Whom the tokens that its upstream gets are for, or `none`"),
        ("cache", Is::Duration, "How long gateways may use its answers again, 30s at most; without it they may not"),
        ("headers", HEADERS, "Headers to the upstream on this route, beside those of the top or in place of one"),
        ("response_headers", RESPONSES, "Headers of the response on this route, beside those of the top or in place of one"),
        ("query", Is::Section("query"), "Parameters of the query on this route, beside those of the top or in place of one"),
        ("cors", Is::Section("routes.*.cors"), "Whose pages may read its answers, in place of what its host says"),
        ("sign_in", Is::Either(&[Is::Word(&["none"]), URL, Is::Section("routes.*.sign_in")]), "Where browsers are sent to sign in, in place of what the top says"),
        ("credential", Is::Either(&[THEN, Is::Section("routes.*.credential")]), "Where tokens are read, and whether the upstream sees them"),
    ]),
    ("routes.*.cors", &["origins"], SHARING),
    ("routes.*.sign_in", &["to"], SIGN_IN),
    ("routes.*.credential", &[], &[
        ("from", Is::Some(&CREDENTIAL), "Where tokens are read: some of the places that its issuers have"),
        ("then", THEN, "Whether the upstream sees the credentials"),
    ]),
    ("routes.*.mint", &["audience"], &[
        ("audience", Is::Text, "Whom the tokens that its upstream gets are for"),
    ]),
    ("mint", &["issuer", "keys"], &[
        ("issuer", URL, "The `iss` of the tokens: the URL under which the keys are published"),
        ("audience", Is::Text, "Whom they are for where a route does not say; without it only routes that say so mint"),
        ("header", Is::Like("[!#$%&'*+.^_`|~0-9A-Za-z-]+"), "The header that carries them; in `authorization` after `Bearer `"),
        ("keys", Is::Some(&Is::Like(r"(file|env|dir):[^\s].*")), "Private keys: files or variables, of which the first one signs, or one folder: `dir:path`"),
        ("algorithm", Is::Word(&["ES256", "EdDSA"]), "Which kind of key it is; ES256 where a folder is filled and it is not said"),
        ("rotate", Is::Duration, "How often the keys of a folder are changed"),
        ("lifetime", Is::Duration, "How long a token lives at most: 10s to 10m"),
        ("claims", Is::Map(&Is::Either(&[Is::Text, Is::Section("mint.claims.*")])), "Further claims, by the same sources as headers"),
    ]),
    ("mint.claims.*", &[], &[
        ("from", Is::Text, "What it holds: sub, principal, issuer, roles, groups, scopes, actor, actors, or a claim"),
        ("value", Is::Text, "What it holds, whoever calls"),
    ]),
    ("rule", &[], &[
        ("any", Is::List(&Is::Rule, 1), "One of these rules holds"),
        ("all", Is::List(&Is::Rule, 1), "Each of these rules holds"),
        ("not", Is::Rule, "This rule does not hold"),
    ]),
    ("revocation", &[], &[
        ("file", Is::Like(r"file:.+"), "A file that lists what is revoked"),
        ("revoked", Is::List(&Is::Section("revocation.revoked.*"), 0), "What is revoked, beside what that file lists"),
        ("store", Is::Flag, "Whether what is added while portcullis runs counts: it is kept in the `store`, which replicas share"),
        ("unknown", Is::Words(&["deny", "allow"]), "What becomes of requests while the store cannot tell what is revoked"),
        ("keep", Is::Duration, "How long what is added is remembered where it does not say itself"),
    ]),
    ("revocation.revoked.*", &[], &[
        ("issuer", Is::Text, "An issuer's name in this file"),
        ("token", Is::Text, "The `jti` of a token"),
        ("session", Is::Text, "The `sid` of a session"),
        ("key", Is::Text, "The `kid` of a key"),
        ("principal", Is::Text, "An issuer's name, `/`, and the subject"),
        ("issued_before", Is::Text, "Only what was issued before (RFC 3339)"),
        ("until", Is::Text, "When this may be forgotten (RFC 3339)"),
        ("ticket", Is::Text, "Where it is written why"),
    ]),
    ("grants.*", &["principal", "role", "until"], &[
        ("principal", Is::Text, "Who: an issuer's name in this file, `/`, and the subject"),
        ("role", Is::Text, "The role that it has until then"),
        ("until", Is::Text, "When it ends (RFC 3339)"),
        ("ticket", Is::Text, "Why: what the audit trail tells with it"),
    ]),
    ("gateways.*", &["by"], &[
        ("by", Is::Either(&[Is::Some(&BY), Is::Section("gateways.*.by")]), "How it is recognised: `unix`, a network, `spiffe://…`, `dns:…`, `token:env:NAME`; any one of a list"),
        ("dialect", Is::Word(&["envoy", "envoy-http", "nginx", "traefik", "caddy", "haproxy", "json"]), "What it speaks: the entry counts for such questions only"),
        ("client_address", Is::Section("gateways.*.client_address"), "Where the caller's address is found"),
        ("believes", Is::Some(&Is::Like(r"client_address|certificate|xfcc|header:.+")), "What is believed of it"),
        ("filtered_headers", Is::Flag, "Whether it leaves headers out on purpose, and removes the managed ones itself"),
        ("max_headers", Is::Number(1, 10_000), "How many header lines it lets through (Envoy's `max_headers_count`)"),
        ("max_header_bytes", Is::Number(1_024, 8_388_608), "How many bytes of header lines it lets through (Envoy's `max_request_headers_kb`)"),
    ]),
    ("gateways.*.by", &["all"], &[
        ("all", Is::List(&BY, 1), "What must hold together"),
    ]),
    ("gateways.*.client_address", &["from"], &[
        ("from", Is::Word(&["connection", "x-envoy-external-address", "xff"]), "Where the address is found"),
        ("hops", Is::Number(1, 16), "Which address of `x-forwarded-for`, from the right"),
    ]),
    ("pdp_clients.*", &["by", "issuers"], &[
        ("by", Is::Either(&[Is::Some(&BY), Is::Section("gateways.*.by")]), "How it is recognised, as a gateway is"),
        ("issuers", Is::Texts, "Of whose subjects it may speak: issuers of this file, `api_keys`, `services`"),
    ]),
    ("sign_in", &["to"], SIGN_IN),
    ("cors", &[], &[
        ("origins", Is::Some(&ORIGIN), "Whose pages may read answers, for every host without an entry of its own"),
        ("credentials", Is::Flag, "Whether these pages may send cookies"),
        ("hosts", Is::Map(&Is::Section("cors.hosts.*")), "Whose pages may read answers, by host: a name, `*.name` or `{x}.name`"),
    ]),
    ("cors.hosts.*", &["origins"], SHARING),
    ("listen", &[], &[
        ("grpc", Is::Some(&Is::Either(&[ENDPOINT, Is::Section("listen.grpc.*")])), "For gateways that ask by gRPC: `127.0.0.1:9000`, `unix:/run/portcullis.sock`"),
        ("http", Is::Some(&Is::Either(&[ENDPOINT, Is::Section("listen.http.*")])), "For gateways that ask by HTTP: `127.0.0.1:9002`; nothing where it is not said"),
        ("admin", ENDPOINT, "For health, metrics and administration"),
        ("public", ENDPOINT, "For what the world may ask of portcullis itself; nothing where it is not said"),
    ]),
    ("listen.grpc.*", &["address"], &[
        ("address", ENDPOINT, "Where to listen: `0.0.0.0:9443`"),
        ("tls", Is::Section("listen.grpc.*.tls"), "What is shown to gateways, and asked of them"),
    ]),
    ("listen.grpc.*.tls", &["certificate", "key"], TLS),
    ("listen.http.*", &["address"], &[
        ("address", ENDPOINT, "Where to listen: `0.0.0.0:9444`"),
        ("tls", Is::Section("listen.http.*.tls"), "What is shown to gateways, and asked of them"),
    ]),
    ("listen.http.*.tls", &["certificate", "key"], TLS),
    ("admin", &["token"], &[
        ("token", SECRET, "Where the bearer token is that every change needs: `env:NAME` or `file:path`, 16 bytes at least"),
    ]),
    ("cache", &[], &[
        ("tokens", Is::Like("[0-9]+(KiB|MiB|GiB)"), "How much memory verified tokens may take"),
    ]),
    ("store", &["url"], &[
        ("url", Is::Like(r"rediss?://[^\s@]+|redis\+unix:///[^\s@]+"), "Where the Redis is: `redis://host:6379/0`, `rediss://…` with TLS, `redis+unix:///path`"),
        ("username", Is::Text, "The user, as in Redis's ACL"),
        ("password", SECRET, "Where the user's password is: `env:NAME` or `file:path`"),
        ("ca", FILE, "A PEM file: who signs its certificate, in place of those whom the system believes"),
        ("deadline", Is::Duration, "How long an operation may take, 50ms at most"),
        ("prefix", Is::Like("[A-Za-z0-9._:/-]{1,64}"), "What every key begins with"),
    ]),
    ("tests.*", &["as", "ask", "expect"], &[
        ("as", Is::Any, "Who asks: `anonymous`, or the claims of a token"),
        ("ask", Is::Text, "`METHOD /path`, or `METHOD host/path`"),
        ("expect", Is::Like("allow|redirect|deny( [45][0-9]{2}( [a-z_]+)?)?"), "What should come of it"),
        ("mint", Is::Any, "The claims that the upstream's token should have, null for one that it should not; `none` for no token"),
        ("headers", Is::Map(&Is::Any), "What the upstream should see; null for a header that should not be there"),
        ("response_headers", Is::Map(&Is::Any), "What the caller should see; null for a header that should not be set"),
        ("query", Is::Map(&Is::Any), "What the upstream's query should have set; null for a parameter that should not be set"),
        ("from", Is::Text, "The address that the caller asks from"),
        ("service", Is::Text, "The service that the caller's certificate names"),
        ("key", Is::Text, "The owner of the API key that is shown, or the key's id"),
        ("dpop", Is::Flag, "Whether a DPoP proof comes with the token; as its issuer wants it where it is not said"),
        ("certificate", Is::Flag, "Whether the caller has the certificate that the token is bound to"),
        ("at", Is::Text, "What time it is (RFC 3339); 2027-01-15T08:00:00Z where it is not said"),
    ]),
];
