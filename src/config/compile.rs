//! The file as it was written into a policy that can decide, and what belongs around it; every problem with its place.

mod advice;
mod api_keys;
mod browser;
mod cache;
mod condition;
mod gateway;
mod grant;
mod hosts;
mod introspection;
mod issuer;
pub mod mint;
mod order;
mod pdp;
mod proof;
mod revocation;
mod route;
mod rule;
mod service;
mod site;
mod team;
mod tell;

use std::collections::{HashMap, HashSet};
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};

use super::error::{Place, Problem, Problems, Span, Spanned};
use super::file::{Audit, File, Listen, Log, Row, Shared, parse_all};
use super::lint::{Silence, lint};
use super::provider::Preset;
pub use super::reference::Secret;
use super::reference::Surroundings;
use crate::authz::gateways::Gateways;
use crate::authz::issuer::{IssuerId, IssuerPolicy, KeyState};
use crate::authz::policy::{Policy, PolicyId};
use crate::authz::route::HostSets;
pub use mint::{MintFolder, begins, name_of};

/// How many issuers a policy may have: each takes its share of the memory for tokens.
const MAX_ISSUERS: usize = 256;
/// How many guards a policy may have: each is looked at in every check.
const MAX_GUARDS: usize = 1_000;
/// How many forbids a policy may have: each is evaluated in every check.
const MAX_FORBIDS: usize = 1_000;
/// How many grants a policy may have.
const MAX_GRANTS: usize = 10_000;
/// How many roles a policy may derive: each is evaluated for every new token.
const MAX_ROLES: usize = 1_000;

/// A policy ready to be published, and what belongs around it.
#[derive(Debug)]
pub struct Compiled {
    /// The policy.
    pub policy: Arc<Policy>,
    /// The keys of those issuers whose keys are in files, by the issuer's name.
    pub fixed: HashMap<Arc<str>, KeyState>,
    /// Where the keys of the other issuers come from.
    pub feeds: Vec<Feed>,
    /// The policy file, then the files that it names: what to watch.
    pub files: Vec<PathBuf>,
    /// Where keys to mint with are made.
    pub mint_folder: Option<MintFolder>,
    /// What is not policy: where to listen, what to record.
    pub settings: Settings,
    /// The issuers that a route accepts which names none.
    pub defaults: Vec<IssuerId>,
    /// Where the keys of the routes stand, by [`crate::authz::route::RouteId`].
    pub places: Vec<Place>,
    /// The policy's own tests.
    pub tests: Vec<Row>,
    /// When each grant ends.
    pub endings: Vec<grant::Ending>,
    /// The references that read as a stub.
    pub stubs: Vec<Box<str>>,
    /// The issuers of named providers, as the policy would say them without.
    pub presets: Vec<(Arc<str>, Preset)>,
    /// What may not do what was meant; never an error.
    pub warnings: Problems,
}

/// Where an issuer's keys are fetched.
#[derive(Clone, Debug)]
pub struct Feed {
    /// The issuer.
    pub issuer: Arc<IssuerPolicy>,
    /// Where.
    pub from: KeySource,
    /// Whether the URLs may be plain http, on this machine only.
    pub allow_http: bool,
    /// How often.
    pub refresh: Duration,
    /// Who vouches for the servers, in place of whom this machine trusts.
    pub ca: Option<Authority>,
}

/// The certificates of who vouches for servers: PEM that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority(pub Arc<[u8]>);

/// Where keys are fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// The issuer's own URL, for OpenID Connect Discovery §4.
    Discovery(Box<str>),
    /// The URL of a JWKS (RFC 7517 §5).
    Jwks(Box<str>),
    /// The URL of each key as PEM, with `{kid}` where its kid stands.
    Pem(Box<str>),
}

/// What a policy file says beside the policy.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where to listen; empty where the file does not say.
    pub listen: Listen,
    /// Where decisions are recorded; a path is relative to where the process runs.
    pub audit: Audit,
    /// How the log is written.
    pub log: Log,
    /// The key of the decision ids; `None` where there is none, and one of this process's own must do.
    pub decision_key: Option<Secret>,
    /// The token that a change by the admin listener needs; `None` where none is allowed.
    pub admin_token: Option<Secret>,
    /// The folder of what outlives the process.
    pub key_cache: Option<PathBuf>,
    /// The Redis that replicas share, with its password; `None` for memory.
    pub store: Option<(Spanned<Shared>, Option<Secret>)>,
    /// Where browsers find the site, without a slash at its end.
    pub public_url: Option<Box<str>>,
}

/// Compiles the text of a policy file where there are files, and no environment. See [`compile_all`].
pub fn compile(name: &str, text: &str, files: &dyn Fn(&str) -> io::Result<Vec<u8>>) -> (Option<Compiled>, Problems) {
    compile_all(name, text, &Surroundings { file: files, ..Surroundings::NONE })
}

/// Compiles the text of a policy file. There is a policy where no problem is an error; the others are warnings.
pub fn compile_all(name: &str, text: &str, around: &Surroundings<'_>) -> (Option<Compiled>, Problems) {
    let (file, mut problems) = parse_all(name, text, around);
    let Some(file) = file.filter(|_| !problems.is_full()) else {
        problems.forget();
        return (None, problems);
    };
    let mut compiler = Compiler::new(name, text, &file, around, problems);
    let compiled = compiler.compiled();
    let mut problems = compiler.problems;
    let mut silence = Silence::new(&file);
    problems.accept(|problem| silence.accepts(problem));
    if let Some(compiled) = compiled.as_ref().filter(|_| around.lints) {
        let found = lint(&file, &compiled.policy);
        let mut left: Vec<Problem> = found.into_iter().filter(|problem| !silence.accepts(problem)).collect();
        left.extend(silence.unneeded());
        left.into_iter().for_each(|problem| problems.report(problem));
    }
    problems.sort();
    problems.forget();
    let compiled = compiled.filter(|_| !problems.has_errors());
    (compiled.map(|compiled| Compiled { warnings: problems.clone(), ..compiled }), problems)
}

impl Compiled {
    /// Sorts what issuers there are into those with keys and those whose keys are fetched.
    fn take_keys(&mut self, made: Vec<issuer::Made>) {
        for issuer::Made { policy, keys } in made {
            match keys {
                issuer::Keys::Fixed(state) => _ = self.fixed.insert(Arc::clone(&policy.name), state),
                issuer::Keys::Fed { from, allow_http, refresh, ca } => {
                    self.feeds.push(Feed { issuer: policy, from, allow_http, refresh, ca });
                }
            }
        }
    }
}

/// One file while it is compiled.
struct Compiler<'f> {
    name: &'f str,
    file: &'f File,
    around: &'f Surroundings<'f>,
    problems: Problems,
    /// Whether parts of the file could not be read: what is missing then may only have been misspelt.
    partial: bool,
    /// Whether some gateway is believed about the caller's address.
    believes: bool,
    /// The issuers, by name.
    issuers: HashMap<&'f str, usize>,
    /// The issuers that a route accepts which names none.
    defaults: Vec<usize>,
    /// The sets of hosts.
    hosts: HostSets,
    /// Those that some key names.
    used_hosts: HashSet<Box<str>>,
    /// The derived roles, by name.
    roles: HashMap<&'f str, usize>,
    /// The names of roles that rules ask for.
    asked: HashSet<Box<str>>,
    /// Whether some condition reads all roles.
    reads_roles: bool,
    /// The issuers that some route accepts.
    accepted: HashSet<usize>,
    /// The files that were read beside the policy: of keys, and of tokens.
    read: Vec<PathBuf>,
    /// The keys of applications, once they were read.
    api_keys: api_keys::Keys,
    /// What reads as a stub.
    stubs: Vec<Box<str>>,
    /// Everything that was read, to name the policy by.
    digest: Context,
}

impl<'f> Compiler<'f> {
    fn new(name: &'f str, text: &str, file: &'f File, around: &'f Surroundings<'f>, problems: Problems) -> Self {
        let mut digest = Context::new(&SHA256);
        digest.update(text.as_bytes());
        for (name, text) in problems.sources().iter().skip(1) {
            for part in [name, text] {
                digest.update(&part.len().to_be_bytes());
                digest.update(part.as_bytes());
            }
        }
        for Secret(value) in &file.taken.values {
            digest.update(&value.len().to_be_bytes());
            digest.update(value);
        }
        let index = |(at, name): (usize, &'f Spanned<Box<str>>)| (&*name.value, at);
        let sole = file.issuers.len() == 1;
        let is_default = |default: Option<bool>| default.unwrap_or(sole);
        let defaults = file.issuers.iter().enumerate();
        Self {
            name,
            file,
            around,
            partial: problems.has_errors(),
            problems,
            believes: file.gateways.iter().any(|(_, gateway)| gateway.believes_address),
            issuers: file.issuers.iter().map(|(name, _)| name).enumerate().map(index).collect(),
            defaults: defaults
                .filter(|(_, (_, issuer))| is_default(issuer.default.as_ref().map(|default| default.value)))
                .map(|(at, _)| at)
                .collect(),
            roles: file.roles.iter().map(|(name, _)| name).enumerate().map(index).collect(),
            hosts: HostSets::default(),
            used_hosts: HashSet::new(),
            asked: HashSet::new(),
            reads_roles: false,
            accepted: HashSet::new(),
            read: file.taken.files.clone(),
            api_keys: api_keys::Keys::default(),
            stubs: file.taken.stubs.clone(),
            digest,
        }
    }

    /// Compiles each part whatever the others came to, so that all problems are told at once.
    fn compiled(&mut self) -> Option<Compiled> {
        self.begin()?;
        let (lines, derived) = (self.lines(), self.derived());
        let contracts = self.contracts(&lines);
        let different = contracts.as_ref().map_or(1, |contracts| contracts.different);
        let issuers = self.made_issuers(derived.as_deref().unwrap_or_default(), different);
        let (guards, forbids) = (self.guards(&lines), self.forbids());
        let contracts = contracts.as_ref().map(|contracts| &*contracts.of).unwrap_or_default();
        let routes = self.routes(&lines, contracts, derived.as_deref().unwrap_or_default());
        self.compare(&lines, &guards);
        let (grants, services, revocation) = (self.grants(), self.services(), self.revocation());
        let (gateways, settings) = (self.gateways(), self.settings());
        let pdp_clients = self.pdp_clients();
        let mint = self.mint(&lines);
        let (cors, sign_in) = (self.cors(), self.file.sign_in.as_ref().map(|sign_in| self.sign_in(sign_in)));
        self.advise();
        (!self.problems.has_errors()).then_some(())?;
        let made = issuers?;
        let ((table, routes), (covers, guards)) = (route::table(routes?)?, route::covers(guards)?);
        let api_keys = self.compiled_keys(derived.as_deref().unwrap_or_default(), different);
        let (carriers, echoed) = issuer::carriers(&made, api_keys.as_deref(), &routes);
        let services = service::compiled(&services, derived.as_deref().unwrap_or_default(), &routes);
        let mut policy = Policy {
            id: self.id(),
            hosts: std::mem::take(&mut self.hosts),
            table,
            routes,
            covers,
            guards,
            forbids: forbids?.into(),
            issuers: made.iter().map(|made| Arc::clone(&made.policy)).collect(),
            grants: grants?,
            nonces: self.nonces(&settings),
            revocation: revocation?,
            gateways: Gateways::new(gateways),
            pdp_clients,
            services,
            relaxed: self.relaxed(),
            echoed,
            carriers,
            api_keys,
            sign_in,
            mint: mint?.map(Box::new),
            cors: cors?,
        };
        self.reuses(&mut policy);
        let mut compiled = self.with_all_around(policy, settings, &lines);
        compiled.take_keys(made);
        Some(compiled)
    }

    /// The policy, and what belongs around it; no key yet.
    fn with_all_around(&mut self, policy: Policy, settings: Settings, lines: &[route::Line]) -> Compiled {
        Compiled {
            policy: Arc::new(policy),
            fixed: HashMap::new(),
            feeds: Vec::new(),
            files: std::iter::once(PathBuf::from(self.name)).chain(self.read.drain(..)).collect(),
            mint_folder: MintFolder::of(self.file.mint.as_ref()),
            settings,
            defaults: self.defaults.iter().filter_map(|at| u16::try_from(*at).ok().map(IssuerId)).collect(),
            places: self.places(lines),
            tests: self.file.tests.clone(),
            endings: self.endings(),
            stubs: std::mem::take(&mut self.stubs),
            presets: self.presets(),
            warnings: Problems::default(),
        }
    }

    /// Reads what everything else refers to; `None` where the file is too large to go on.
    fn begin(&mut self) -> Option<()> {
        self.sizes();
        (!self.problems.is_full()).then_some(())?;
        self.host_sets();
        self.read_api_keys();
        Some(())
    }

    fn places(&self, lines: &[route::Line]) -> Vec<Place> {
        lines.iter().map(|line| Place { file: self.problems.sources().name(line.key.file), span: line.key }).collect()
    }

    fn report(&mut self, problem: Problem) {
        self.problems.report(problem);
    }

    fn sizes(&mut self) {
        self.too_many(self.file.issuers.first(), self.file.issuers.len(), MAX_ISSUERS, "issuers");
        self.too_many(self.file.guards.first(), self.file.guards.len(), MAX_GUARDS, "guards");
        self.too_many(self.file.deny.first(), self.file.deny.len(), MAX_FORBIDS, "forbids");
        self.too_many(self.file.roles.first(), self.file.roles.len(), MAX_ROLES, "roles");
        if let Some(first) = self.file.grants.first().filter(|_| self.file.grants.len() > MAX_GRANTS) {
            let message = format!("a policy has at most {MAX_GRANTS} grants, this has {}", self.file.grants.len());
            self.report(Problem::error("too_many", first.span, message));
        }
    }

    fn too_many<T>(&mut self, first: Option<&(Spanned<Box<str>>, T)>, count: usize, most: usize, what: &str) {
        if let Some((name, _)) = first.filter(|_| count > most) {
            let message = format!("a policy has at most {most} {what}, this has {count}");
            self.report(Problem::error("too_many", name.span, message));
        }
    }

    /// The part of a text that is wrong; all of it where it was not written as it reads.
    fn within(&self, text: &Spanned<Box<str>>, at: &Range<usize>) -> Span {
        self.problems.sources().within(text, at)
    }

    /// Reads a file that the policy names, and takes note of it.
    fn key_file(&mut self, path: &Spanned<PathBuf>) -> io::Result<Vec<u8>> {
        let text = path.value.to_str().ok_or(io::ErrorKind::InvalidInput)?;
        let bytes = (self.around.file)(text)?;
        self.digest.update(&bytes.len().to_be_bytes());
        self.digest.update(&bytes);
        self.read.push(path.value.clone());
        Ok(bytes)
    }

    fn id(&self) -> PolicyId {
        let hash = self.digest.clone().finish();
        PolicyId(hash.as_ref().first_chunk().copied().unwrap_or_default())
    }

    /// Issuers by their names, for messages.
    fn names(&self, issuers: &[usize]) -> String {
        let names = issuers.iter().filter_map(|at| self.file.issuers.get(*at));
        names.map(|(name, _)| format!("`{}`", name.value)).collect::<Vec<_>>().join(" and ")
    }
}

#[cfg(test)]
mod tests;
