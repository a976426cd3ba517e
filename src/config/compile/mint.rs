//! `mint:` into what tokens are made with, and for whom each route has them made.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Compiler;
use super::route::Line;
use super::tell::Kind;
use crate::authz::algorithm::Algorithm;
use crate::authz::header::{Format, Tell};
use crate::authz::mint::{Key, KeyRefused, Keys, Mint};
use crate::authz::time::Timestamp;
use crate::config::error::{Problem, Span};
use crate::config::file;

/// How many keys there may be.
const MAX_KEYS: usize = 32;

impl Compiler<'_> {
    /// What is minted; the inner `None` where nothing is.
    #[expect(clippy::option_option, reason = "not written is one thing, not readable another")]
    pub(super) fn mint(&mut self, lines: &[Line]) -> Option<Option<Mint>> {
        let Some(mint) = &self.file.mint else {
            let own = self.file.routes.iter().find_map(|route| match &route.mint {
                Some(file::MintFor::Audience(audience)) => Some(audience.span),
                Some(file::MintFor::Nobody(_)) | None => None,
            });
            if let Some(span) = own.filter(|_| !self.partial) {
                let problem =
                    Problem::error("missing_key", span, "this route mints, and the policy does not say with what");
                self.report(problem.cure("mint: {issuer: https://edge.example.com, keys: file:mint.pem}"));
            }
            return Some(None);
        };
        self.mint_makes_sense(mint, lines);
        let keys = self.mint_keys(mint);
        let mut claims = Vec::with_capacity(mint.claims.len());
        for (name, source) in &mint.claims {
            let source = self.source(source, Kind::Datum, None, None)?;
            claims.push(Tell {
                name: Bytes::from(name.value.to_string()),
                source,
                default: None,
                format: Format::Json,
            });
        }
        let header = Bytes::from(mint.header.value.to_string());
        Some(Some(Mint::new(Arc::from(&*mint.issuer.value), header, mint.lifetime, claims.into(), keys?)))
    }

    fn mint_makes_sense(&mut self, mint: &file::Mint, lines: &[Line]) {
        if self.file.gateways.is_empty() && !self.file.lost.contains(&"gateways") {
            let message = "nothing is minted for who is not known, and the policy knows no gateway";
            self.report(Problem::error("mint_not_believed", mint.span, message).cure("gateways: {edge: {by: unix}}"));
        }
        let mints = |route: &file::Route| self.audience_of(mint, route).is_some();
        if !self.file.routes.iter().any(mints) && !self.partial {
            let problem = Problem::error("missing_key", mint.span, "no route mints: nobody says whom tokens are for");
            self.report(problem.cure("`audience: orders` here, or `mint: {audience: orders}` at a route"));
        }
        // A subject alone is what an upstream reads first.
        let shared =
            self.file.routes.iter().zip(lines).find(|(route, line)| {
                self.audience_of(mint, route).is_some() && self.unprefixed(&line.accepted).len() > 1
            });
        if let Some((route, line)) = shared {
            let names = self.names(&self.unprefixed(&line.accepted));
            let message =
                format!("{names} may each have a subject of this name, and `sub` of a minted token tells no two");
            let problem =
                Problem::error("subject_ambiguous", mint.span, message).related(route.key.span, "accepts them");
            self.report(problem.cure("give all but one of them a `subject_prefix`, or accept one issuer only"));
        }
        let folded = file::fold_header(&mint.header.value);
        let own = self.file.routes.iter().filter_map(|route| route.tells.as_deref());
        let told = std::iter::once(&self.file.tells).chain(own).flat_map(|tells| &tells.headers).map(|tell| &tell.name);
        let lent = self.file.gateways.iter().flat_map(|(_, gateway)| &gateway.believes_headers);
        let other =
            told.chain(&self.file.headers_kept).chain(lent).find(|name| file::fold_header(&name.value) == folded);
        if let Some(other) = other {
            let message = format!("`{}` carries what is minted, and is named here as well", mint.header.value);
            let problem = Problem::error("header_alias", other.span, message).related(mint.header.span, "minted");
            self.report(problem.cure("another name"));
        }
    }

    /// Whom the tokens of a route are for; nobody's are made where it is public.
    pub(super) fn audience_of(&self, mint: &file::Mint, route: &file::Route) -> Option<Arc<str>> {
        let is_public = matches!(&route.rule, file::Rule::Text(text) if text.value.trim() == "public");
        let audience = match &route.mint {
            Some(file::MintFor::Nobody(_)) => None,
            Some(file::MintFor::Audience(audience)) => Some(audience),
            None => mint.audience.as_ref(),
        };
        audience.filter(|_| !is_public).map(|audience| Arc::from(&*audience.value))
    }

    fn mint_keys(&mut self, mint: &file::Mint) -> Option<Keys> {
        let keys = match &mint.keys {
            file::MintKeys::Each(places) => {
                let keys: Vec<Option<Key>> = places
                    .iter()
                    .enumerate()
                    .map(|(at, place)| {
                        if let file::SecretPlace::File(path) = &place.value {
                            self.read.push(path.clone());
                        }
                        let from = (at == 0).then(Timestamp::default);
                        let Some(pem) = self.read_private(&place.value) else {
                            self.no_key(place.span, "this private key is not there");
                            return None;
                        };
                        self.mint_key(&pem, from, place.span, mint)
                    })
                    .collect();
                // A policy can be checked where its keys are not; nothing is minted there.
                keys.into_iter().flatten().collect()
            }
            file::MintKeys::Folder(folder) => self.folder_keys(&folder.value, folder.span, mint),
        };
        for key in &keys {
            self.digest.update(key.kid.as_bytes());
        }
        Some(Keys::new(keys))
    }

    fn read_private(&self, place: &file::SecretPlace) -> Option<Vec<u8>> {
        match place {
            file::SecretPlace::File(path) => (self.around.file)(path.to_str()?).ok(),
            file::SecretPlace::Env(name) => (self.around.variable)(name).map(String::into_bytes),
            file::SecretPlace::Given(secret) => Some(secret.0.clone()),
        }
    }

    fn no_key(&mut self, span: Span, message: &str) {
        let problem = Problem::warning("mint_key_missing", span, message);
        self.report(
            problem.cure("openssl genpkey -algorithm ed25519 -out mint.pem; without a key each request is 503"),
        );
    }

    fn mint_key(&mut self, pem: &[u8], from: Option<Timestamp>, span: Span, mint: &file::Mint) -> Option<Key> {
        let key = match Key::read(pem, from) {
            Ok(key) => key,
            Err(why @ (KeyRefused::Malformed | KeyRefused::Kind)) => {
                let problem = Problem::error("mint_key_refused", span, format!("this is no key to mint with: {why}"));
                self.report(problem.cure("openssl genpkey -algorithm ed25519 -out mint.pem"));
                return None;
            }
        };
        if let Some(algorithm) = mint.algorithm.filter(|algorithm| algorithm.value != key.algorithm) {
            let message = format!("this is a key for {}, and `algorithm` is {}", key.algorithm, algorithm.value);
            let problem = Problem::error("mint_key_refused", span, message).related(algorithm.span, "here");
            self.report(problem.cure("another key, or remove `algorithm`"));
            return None;
        }
        Some(key)
    }

    /// The keys of a folder: `2027-01-15T08-00-00Z.pem` signs from then on.
    fn folder_keys(&mut self, folder: &Path, span: Span, mint: &file::Mint) -> Vec<Key> {
        self.read.push(folder.to_path_buf());
        let names = folder.to_str().map(|folder| (self.around.names)(folder)).and_then(Result::ok).unwrap_or_default();
        let mut keys = Vec::new();
        for name in names.iter().filter(|name| name.ends_with(".pem")).take(MAX_KEYS) {
            let Some(from) = begins(name) else {
                let message = format!("`{name}` in this folder does not say from when on it signs");
                let problem = Problem::warning("mint_key_name", span, message);
                self.report(problem.cure("2027-01-15T08-00-00Z.pem"));
                continue;
            };
            let path = folder.join(name);
            let pem = path.to_str().and_then(|path| (self.around.file)(path).ok()).unwrap_or_default();
            self.read.push(path);
            keys.extend(self.mint_key(&pem, Some(from), span, mint));
        }
        keys
    }
}

/// From when on the key of this file signs: `2027-01-15T08-00-00Z.pem`.
#[must_use]
pub fn begins(name: &str) -> Option<Timestamp> {
    let (date, time) = name.strip_suffix(".pem")?.split_once('T')?;
    Timestamp::parse(&format!("{date}T{}", time.replace('-', ":")))
}

/// The file of a key that signs from this whole second on.
#[must_use]
pub fn name_of(from: Timestamp) -> String {
    format!("{}.pem", from.to_string().replace(".000", "").replace(':', "-"))
}

/// A folder of keys to mint with, which is filled as they are needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MintFolder {
    /// Where it is.
    pub path: PathBuf,
    /// What is made for it.
    pub algorithm: Algorithm,
    /// How often.
    pub rotate: Duration,
    /// How long a token lives at most.
    pub lifetime: Duration,
}

impl MintFolder {
    /// The folder of a policy that has one.
    pub(super) fn of(mint: Option<&file::Mint>) -> Option<Self> {
        let mint = mint?;
        let file::MintKeys::Folder(path) = &mint.keys else { return None };
        let algorithm = mint.algorithm.map_or(Algorithm::Es256, |algorithm| algorithm.value);
        Some(Self { path: path.value.clone(), algorithm, rotate: mint.rotate, lifetime: mint.lifetime })
    }
}
