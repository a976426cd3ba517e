//! `issuers:` each as a wall of its own, with its keys or where they come from.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::rule::Stand;
use super::{Authority, Compiler, KeySource};
use crate::authz::algorithm::{Algorithm, Algorithms};
use crate::authz::api_keys::ApiKeys;
use crate::authz::credential::Source;
use crate::authz::credential::strip::Carriers;
use crate::authz::identity::ClaimPath;
use crate::authz::issuer::{IssuerPolicy, KeyState, MayGrant};
use crate::authz::keys::{KeySet, Origin};
use crate::authz::policy::Route;
use crate::authz::rule::Expr;
use crate::authz::token::{Audience, Tenants, TokenRules, TokenTypes};
use crate::config::error::{Problem, Span, Spanned};
use crate::config::file::{self, Named};
use crate::config::provider::Preset;
use crate::config::reference::STUB_SECRET;

/// How many bytes of verified tokens are remembered where the file does not say.
const MEMORY: u64 = 192 << 20;

/// An issuer, and its keys or where they come from.
pub(super) struct Made {
    pub policy: Arc<IssuerPolicy>,
    pub keys: Keys,
}

/// An issuer's keys.
pub(super) enum Keys {
    /// They are in files.
    Fixed(KeyState),
    /// They are fetched.
    Fed { from: KeySource, allow_http: bool, refresh: Duration, ca: Option<Authority> },
}

/// Where credentials of these issuers, and keys, may stand; and the headers that some upstream gets without them.
pub(super) fn carriers(made: &[Made], keys: Option<&ApiKeys>, routes: &[Route]) -> (Carriers, Box<[Bytes]>) {
    let keys = keys.into_iter().flat_map(ApiKeys::sources);
    let carriers = Carriers::new(made.iter().flat_map(|made| made.policy.sources.iter()).chain(keys));
    let echoed = carriers.headers_changed(routes.iter().any(|route| route.strip));
    (carriers, echoed)
}

impl Compiler<'_> {
    /// All issuers; `None` where one cannot be made.
    pub(super) fn made_issuers(&mut self, derived: &[(Arc<str>, Expr)], contracts: usize) -> Option<Vec<Made>> {
        self.prefixes();
        let issuers = self.file.issuers.iter().enumerate();
        let made: Vec<Option<Made>> =
            issuers.map(|(at, (name, issuer))| self.made((at, contracts), name, issuer, derived)).collect();
        made.into_iter().collect()
    }

    /// What the providers of issuers filled in.
    pub(super) fn presets(&self) -> Vec<(Arc<str>, Preset)> {
        let of = |(name, issuer): &Named<file::Issuer>| Some((Arc::from(&*name.value), issuer.preset.clone()?));
        self.file.issuers.iter().filter_map(of).collect()
    }

    /// No prefix may begin another one, or a subject could be read as either issuer's.
    fn prefixes(&mut self) {
        let issuers = self.file.issuers.iter();
        let mut prefixes: Vec<_> = issuers.filter_map(|(_, issuer)| issuer.subject_prefix.as_ref()).collect();
        prefixes.sort_by_key(|prefix| &prefix.value);
        for (shorter, longer) in prefixes.iter().zip(prefixes.iter().skip(1)) {
            if longer.value.starts_with(&*shorter.value) {
                let (first, second) =
                    if shorter.span < longer.span { (shorter.span, longer.span) } else { (longer.span, shorter.span) };
                let message = "one issuer's `subject_prefix` begins another one's: a subject could be either's";
                let problem = Problem::error("subject_prefix_clash", second, message).related(first, "the other");
                self.report(problem.cure("end each with a character that subjects do not have, as in partner:"));
            }
        }
    }

    /// What the subjects of an issuer without a prefix must not begin with, or they would pass for another issuer's.
    fn foreign_prefixes(&self, issuer: &file::Issuer) -> Box<[Box<str>]> {
        if issuer.subject_prefix.is_some() {
            return Box::default();
        }
        let prefixes = self.file.issuers.iter().filter_map(|(_, other)| other.subject_prefix.as_ref());
        prefixes.map(|prefix| prefix.value.clone()).collect()
    }

    fn made(
        &mut self,
        (at, contracts): (usize, usize),
        name: &Spanned<Box<str>>,
        issuer: &file::Issuer,
        derived: &[(Arc<str>, Expr)],
    ) -> Option<Made> {
        self.audience(name, issuer);
        self.times(name, issuer);
        let algorithms = algorithms(issuer);
        let ca = issuer.ca.as_ref().map(|path| self.authority(path, issuer));
        let introspection = self.introspection(issuer, ca.iter().flatten().next());
        // Without those who were meant to vouch, nobody does.
        let keys = ca.map_or(Some(None), |ca| ca.map(Some)).and_then(|ca| self.keys(issuer, algorithms, ca.as_ref()));
        let require = issuer.require.as_ref().map(|rule| {
            let stand = Stand {
                what: "`require` of an issuer",
                captures: None,
                per_request: false,
                only: Some(&name.value),
                permits: true,
                accepted: &[at],
            };
            self.expr(rule, &stand)
        });
        if let Some(Some(require)) = &require {
            self.narrowed(issuer, require);
        }
        let whom = if issuer.signers.is_empty() { "aud" } else { "client" };
        let mut path = |path: &Option<Spanned<Box<str>>>, otherwise| self.path(path.as_ref(), otherwise);
        let (roles, groups) = (path(&issuer.roles, None), path(&issuer.groups, None));
        let scopes = path(&issuer.scopes, Some("scope"));
        let claim = path(&issuer.audience.as_ref().and_then(|audience| audience.claim.clone()), Some(whom));
        let tokens = self.rules(issuer, algorithms, claim??);
        let keys = keys?;
        let mut policy = IssuerPolicy {
            name: Arc::from(&*name.value),
            tokens,
            proof: self.possession(name, issuer),
            sources: issuer.from.iter().map(|source| self::source(&source.value)).collect(),
            origins: issuer.origins.iter().map(|origin| origin.value.clone()).collect(),
            roles: roles?,
            groups: groups?,
            scopes: scopes??,
            missing_is_empty: issuer.missing_is_empty,
            may_grant: may_grant(issuer),
            require: require.map_or(Some(None), |require| require.map(Some))?,
            derived: derived.into(),
            logout: self.logout(issuer),
            subject_prefix: issuer.subject_prefix.as_ref().map(|prefix| prefix.value.clone()).unwrap_or_default(),
            foreign_prefixes: self.foreign_prefixes(issuer),
            relays: issuer.relays,
            fed: matches!(keys, Keys::Fed { .. }),
            by_kid: matches!(keys, Keys::Fed { from: KeySource::Pem(_), .. }),
            cooldown: issuer.cooldown,
            max_stale: issuer.max_stale,
            introspection: introspection?,
            memory: self.memory(),
            contracts: 0,
            digest: [0; 32],
        };
        policy.digest = hash(&policy, &keys);
        // Not a part of what it is told by: a header more changes no identity.
        policy.contracts = contracts;
        Some(Made { policy: Arc::new(policy), keys })
    }

    /// What its tokens must be like; `claim` says whom they are for.
    fn rules(&mut self, issuer: &file::Issuer, algorithms: Algorithms, claim: ClaimPath) -> TokenRules {
        TokenRules {
            issuer: Arc::from(&*issuer.issuer.value),
            tenants: issuer.tenants.as_ref().map(tenants),
            balancers: issuer.signers.iter().map(|signer| Arc::from(&*signer.value)).collect(),
            also: issuer.also.iter().map(|iss| Arc::from(&*iss.value)).collect(),
            audience: Audience {
                claim,
                any_of: issuer.audience.iter().flat_map(|a| &a.any_of).map(|name| Arc::from(&*name.value)).collect(),
            },
            algorithms,
            types: types(issuer),
            leeway: issuer.leeway,
            max_lifetime: issuer.max_token_lifetime,
            denied_kids: self.denied_kids(issuer),
            issued_from: issuer.reject_issued_before,
        }
    }

    /// Where its subjects are the whole world, `require` must tell one's own apart.
    fn narrowed(&mut self, issuer: &file::Issuer, require: &Expr) {
        if let (Some(world), Some(rule)) = (issuer.world(), &issuer.require)
            && !world.is_narrowed_by(require)
        {
            let message =
                format!("{} can meet this `require`: it fixes none of the claims that tell yours apart", world.who);
            let cure = format!("{}; the claims are {}", world.example, world.claims.join(", "));
            self.report(Problem::error("require_too_open", rule.span(), message).cure(cure));
        }
    }

    fn memory(&self) -> u64 {
        let bytes = self.file.token_cache.map_or(MEMORY, |bytes| bytes.value);
        // Tokens that are verified and tokens that are asked about are remembered apart.
        let asked = self.file.issuers.iter().filter(|(_, issuer)| issuer.introspection.is_some()).count();
        let shares = u64::try_from(self.file.issuers.len().saturating_add(asked)).unwrap_or(u64::MAX);
        bytes.checked_div(shares).unwrap_or(bytes)
    }

    fn audience(&mut self, name: &Spanned<Box<str>>, issuer: &file::Issuer) {
        if issuer.audience.is_none() {
            let message = format!("the issuer `{}` needs `audience`: whom its tokens are for", name.value);
            let cure = "audience: shop-api, or audience: {claim: client_id, any_of: [shop-web]}";
            self.report(Problem::error("missing_key", name.span, message).cure(cure));
        }
    }

    fn times(&mut self, name: &Spanned<Box<str>>, issuer: &file::Issuer) {
        if issuer.refresh.is_zero() {
            let message = format!("`refresh` of `{}` must be longer than nothing", name.value);
            self.report(Problem::error("out_of_range", name.span, message).cure("refresh: 5m"));
        }
        if issuer.max_stale < issuer.refresh {
            let message = format!("the keys of `{}` grow stale before they are fetched again", name.value);
            self.report(
                Problem::error("out_of_range", name.span, message).cure("`max_stale` longer than `refresh`, as in 24h"),
            );
        }
    }

    /// A claim's path, or what stands in its place; the outer `None` where it cannot be read.
    #[expect(clippy::option_option, reason = "not written is one thing, not readable another")]
    fn path(&mut self, path: Option<&Spanned<Box<str>>>, otherwise: Option<&str>) -> Option<Option<ClaimPath>> {
        let Some(path) = path else { return Some(otherwise.and_then(ClaimPath::parse)) };
        let read = ClaimPath::parse(&path.value);
        if read.is_none() {
            self.bad_path(path.span);
        }
        read.map(Some)
    }

    pub(super) fn bad_path(&mut self, span: Span) {
        let message = "a claim's path has an empty part";
        self.report(Problem::error("bad_claim_path", span, message).cure("names with `.` between: realm_access.roles"));
    }

    fn keys(&mut self, issuer: &file::Issuer, algorithms: Algorithms, ca: Option<&Authority>) -> Option<Keys> {
        let (allow_http, refresh) = (issuer.allow_http, issuer.refresh);
        let fed = |from| Some(Keys::Fed { from, allow_http, refresh, ca: ca.cloned() });
        let file::Keys { url, jwks, pem, pem_url, secrets } = &issuer.keys;
        if !secrets.is_empty() {
            return self.secrets(secrets, algorithms);
        }
        let pem_span = pem.as_ref().map(|pem| pem.span).or(pem_url.as_ref().map(|url| url.span));
        if let (Some(jwks), Some(span)) = (jwks, pem_span) {
            let message = "an issuer has its keys in one place: `jwks` or `pem`";
            self.report(Problem::error("keys_twice", span, message).related(jwks.span, "the other"));
            return None;
        }
        if let Some(url) = pem_url {
            return fed(KeySource::Pem(url.value.clone()));
        }
        match (pem, jwks, url) {
            (Some(pem), ..) => self.pem(pem, algorithms),
            (_, Some(Spanned { value: file::Location::File(path), span }), _) => {
                self.jwks(&Spanned::new(path.clone(), *span))
            }
            (_, Some(Spanned { value: file::Location::Url(url), .. }), _) => fed(KeySource::Jwks(url.clone())),
            (_, _, Some(url)) => fed(KeySource::Discovery(url.value.clone())),
            (None, None, None) if issuer.introspection.is_some() => Some(Keys::Fixed(KeyState::default())),
            (None, None, None) => None,
        }
    }

    /// The certificates of `ca`, where keys are fetched or the issuer is asked.
    fn authority(&mut self, path: &Spanned<PathBuf>, issuer: &file::Issuer) -> Option<Authority> {
        let file::Keys { url, jwks, pem, pem_url, secrets } = &issuer.keys;
        let in_file = matches!(jwks, Some(Spanned { value: file::Location::File(_), .. }));
        let nowhere = url.is_none() && jwks.is_none() && pem_url.is_none();
        if (in_file || pem.is_some() || !secrets.is_empty() || nowhere) && issuer.introspection.is_none() {
            let message = "`ca` is about the servers of keys, and the keys of this issuer are not fetched";
            self.report(Problem::error("ca_unused", path.span, message).cure("remove `ca`"));
            return None;
        }
        let Ok(pem) = self.key_file(path) else {
            let message = "the certificates of `ca` cannot be read";
            let cure = "the path is relative to the folder of the policy file";
            self.report(Problem::error("file_unreadable", path.span, message).cure(cure));
            return None;
        };
        let mut roots = RootCertStore::empty();
        let found: Option<Vec<_>> = CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().ok();
        let usable = found.is_some_and(|found| {
            !found.is_empty() && found.into_iter().all(|certificate| roots.add(certificate).is_ok())
        });
        if !usable {
            let message = "the file of `ca` does not hold certificates in PEM";
            let cure = "the certificate of whoever signed the server's, between BEGIN CERTIFICATE and END CERTIFICATE";
            self.report(Problem::error("bad_ca", path.span, message).cure(cure));
        }
        usable.then(|| Authority(pem.into()))
    }

    /// The kids of `deny_kids`, where this issuer's keys have names.
    fn denied_kids(&mut self, issuer: &file::Issuer) -> Box<[Box<str>]> {
        let nameless = issuer.keys.pem.is_some() || issuer.keys.secrets.iter().any(|secret| secret.kid.is_none());
        if let Some(first) = issuer.deny_kids.first().filter(|_| nameless) {
            let message = "the keys of this issuer have no kid, so that none can be denied by it";
            self.report(Problem::error("kid_missing", first.span, message).cure("take the key out of its file"));
        }
        issuer.deny_kids.iter().map(|kid| kid.value.clone()).collect()
    }

    fn file_of(&mut self, path: &Spanned<PathBuf>) -> Option<Vec<u8>> {
        let read = self.key_file(path);
        read.map_err(|error| {
            let message = format!("the file of this issuer's keys cannot be read: {}", error.kind());
            let cure = "the path is relative to the folder of the policy file";
            self.report(Problem::error("file_unreadable", path.span, message).cure(cure));
        })
        .ok()
    }

    fn pem(&mut self, path: &Spanned<PathBuf>, algorithms: Algorithms) -> Option<Keys> {
        let bytes = self.file_of(path)?;
        let text = String::from_utf8_lossy(&bytes);
        match KeySet::from_pem(&text, algorithms) {
            Ok(keys) => Some(fixed(keys)),
            Err(error) => {
                self.report(super::rule::worded("bad_keys", path.span, &error.to_string()));
                None
            }
        }
    }

    /// Shared secrets. They are no part of what the policy is named by: a name that is in every line of the audit trail
    /// tells nothing of a secret.
    fn secrets(&mut self, secrets: &[file::Secret], algorithms: Algorithms) -> Option<Keys> {
        let found: Vec<Option<Vec<u8>>> = secrets.iter().map(|secret| self.secret(secret)).collect();
        let found: Vec<Vec<u8>> = found.into_iter().collect::<Option<_>>()?;
        let named = secrets.iter().map(|secret| secret.kid.as_ref().map(|kid| kid.value.clone()));
        let pairs: Vec<(Option<Box<str>>, &[u8])> = named.zip(found.iter().map(|secret| &**secret)).collect();
        match KeySet::from_secrets(&pairs, algorithms) {
            Ok(keys) => Some(fixed(keys)),
            Err((at, fault)) => {
                let span = secrets.get(at).map(|secret| secret.place.span).unwrap_or_default();
                self.report(super::rule::worded("weak_secret", span, &fault.to_string()));
                None
            }
        }
    }

    fn secret(&mut self, secret: &file::Secret) -> Option<Vec<u8>> {
        let missing = "the secret of this issuer is not there: no token of it could be verified";
        let (read, is_stub) = self.secret_at(&secret.place, missing)?;
        if is_stub {
            return Some(read);
        }
        let decoded = decoded(&read, secret.encoding);
        if decoded.is_none() {
            let message = "the secret of this issuer is not written as its `encoding` says";
            self.report(
                Problem::error("secret_malformed", secret.place.span, message)
                    .cure("`raw`, if its characters are the secret"),
            );
        }
        decoded
    }

    /// What stands where a secret is, and whether that is a stub.
    pub(super) fn secret_at(&mut self, place: &Spanned<file::SecretPlace>, missing: &str) -> Option<(Vec<u8>, bool)> {
        if self.problems.fillings().is_stub(place.span) {
            return Some((STUB_SECRET.to_vec(), true));
        }
        let read = match &place.value {
            file::SecretPlace::File(path) => {
                self.read.push(path.clone());
                (self.around.file)(path.to_str().unwrap_or_default()).ok()
            }
            file::SecretPlace::Env(name) => (self.around.variable)(name).map(String::into_bytes),
            file::SecretPlace::Given(secret) => Some(secret.0.clone()),
        };
        if read.is_none() && self.around.stubs {
            self.stubs.push(place.value.to_string().into());
            return Some((STUB_SECRET.to_vec(), true));
        }
        if read.is_none() {
            let cure = match &place.value {
                file::SecretPlace::File(_) => {
                    "a file that can be read; its path is relative to the folder of this file"
                }
                file::SecretPlace::Env(_) | file::SecretPlace::Given(_) => {
                    "set the variable where portcullis is started"
                }
            };
            self.report(Problem::error("secret_missing", place.span, missing).cure(cure));
        }
        read.map(|read| (read, false))
    }

    fn jwks(&mut self, path: &Spanned<PathBuf>) -> Option<Keys> {
        let bytes = self.file_of(path)?;
        let report = match KeySet::from_jwks(&bytes, Origin::Local) {
            Ok(report) => report,
            Err(error) => {
                let cure = "a JWKS is a JSON object with a list of keys: {\"keys\": [...]}";
                self.report(Problem::error("bad_keys", path.span, error.to_string()).cure(cure));
                return None;
            }
        };
        for refused in &report.refused {
            let place = refused.at.saturating_add(1);
            let kid = refused.kid.as_ref().map(|kid| format!(" (`{kid}`)")).unwrap_or_default();
            let message = format!("key {place}{kid} of this set is not used: {}", refused.why);
            self.report(Problem::warning("key_refused", path.span, message));
        }
        if report.keys.is_empty() {
            let message = "this set has no key that can be used, so that every token would be refused";
            self.report(Problem::error("no_usable_key", path.span, message));
            return None;
        }
        Some(fixed(report.keys))
    }
}

fn tenants(tenants: &file::Tenants) -> Tenants {
    let any_of = tenants.any_of.iter().map(|tenant| Arc::from(&*tenant.value)).collect();
    Tenants { claim: tenants.claim.clone(), around: tenants.around.clone(), any_of }
}

fn fixed(keys: KeySet) -> Keys {
    Keys::Fixed(KeyState { keys, ..KeyState::default() })
}

/// Everything that makes the issuer, where its keys come from included: keys of one place are not those of another.
fn hash(policy: &IssuerPolicy, keys: &Keys) -> [u8; 32] {
    let from = match keys {
        Keys::Fixed(_) => None,
        Keys::Fed { from, .. } => Some(from),
    };
    let text = format!("{policy:?} {from:?}");
    // `Debug` does not tell this one.
    let proof = policy.introspection.as_ref().map(|how| how.client.proof.digest()).unwrap_or_default();
    let text = [text.as_bytes(), &proof].concat();
    digest(&SHA256, &text).as_ref().first_chunk().copied().unwrap_or_default()
}

/// A secret's bytes. What ends a line of text, or stands around it, is no part of it.
fn decoded(read: &[u8], encoding: file::Encoding) -> Option<Vec<u8>> {
    let text = if read.is_ascii() { read.trim_ascii() } else { read };
    match encoding {
        file::Encoding::Raw => Some(text.to_vec()),
        file::Encoding::Base64 => STANDARD.decode(text).ok(),
        file::Encoding::Base64Url => URL_SAFE_NO_PAD.decode(text).ok(),
        file::Encoding::Hex => {
            let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            let pairs = text.chunks(2).map(|pair| match pair {
                [high, low] => Some(digit(high)? << 4 | digit(low)?),
                _ => None,
            });
            pairs.collect()
        }
    }
}

fn algorithms(issuer: &file::Issuer) -> Algorithms {
    if issuer.algorithms.is_empty() && !issuer.keys.secrets.is_empty() {
        return [Algorithm::Hs256].into_iter().collect();
    }
    if issuer.algorithms.is_empty() {
        return Algorithms::default();
    }
    issuer.algorithms.iter().filter_map(|algorithm| Algorithm::parse(algorithm.value.name())).collect()
}

fn types(issuer: &file::Issuer) -> TokenTypes {
    let id_tokens = issuer.id_tokens;
    if issuer.types.is_empty() {
        return TokenTypes { id_tokens, ..TokenTypes::default() };
    }
    TokenTypes { accepted: issuer.types.iter().map(|typ| typ.value.clone()).collect(), absent: false, id_tokens }
}

pub(super) fn source(credential: &file::Credential) -> Source {
    match credential {
        file::Credential::Bearer => Source::Bearer,
        file::Credential::Header(name) => Source::Header(name.clone()),
        file::Credential::Cookie(name) => Source::Cookie(name.clone()),
        file::Credential::Query(name) => Source::Query(name.clone()),
        file::Credential::Subprotocol(start) => Source::Subprotocol(start.clone()),
    }
}

fn may_grant(issuer: &file::Issuer) -> MayGrant {
    match &issuer.may_grant {
        None | Some(file::MayGrant::Any) => MayGrant::Any,
        Some(file::MayGrant::Only(patterns)) => {
            MayGrant::Only(patterns.iter().map(|pattern| pattern.value.clone()).collect())
        }
    }
}
