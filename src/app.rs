//! The composition root: what is started, in which order, and how it ends. The only file that knows every module.

mod shared;

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tonic_health::ServingStatus;
use tonic_health::server::{HealthReporter, HealthService};

use crate::admin;
use crate::authorizer::{Authorizer, Sealer};
use crate::authz::decision_id::SealingKey;
use crate::config::compile::{Compiled, Settings};
use crate::config::{Spanned, file};
use crate::feed::config::{PolicyFile, ReloadStatus, Reloads};
use crate::feed::fetch::Fetcher;
use crate::feed::folder::Folder;
use crate::feed::jwks::{Beside, Feeds};
use crate::feed::revocation::Revoker;
use crate::feed::saved::SavedKeys;
use crate::feed::suspension::Suspender;
use crate::gateway::envoy;
use crate::live::{Asked, Live, Publisher};
use crate::observe::Recorder;
use crate::observe::audit::{Audit, Writer};
use crate::observe::metrics::Metrics;
use crate::public::{self, logout::Logout};
use crate::server::tls::{Tls, TlsFault, TlsFiles};
use crate::server::{Cores, Endpoint, Health, Listener, Protocol, Unopened};
use crate::store::Store;
use crate::store::redis::TrustFault;

/// Where gateways ask when neither policy nor command line says.
const GRPC: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9000);
/// Where health and metrics are served then.
const ADMIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9001);
/// How long a drain may take.
const DRAIN: Duration = Duration::from_secs(15);

/// What the command line says beside the policy file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Where gateways ask.
    pub listen: Vec<Endpoint>,
    /// Where health and metrics are served.
    pub admin: Option<SocketAddr>,
    /// How many cores answer; all of them, but four at most, where it is not said.
    pub cores: Option<usize>,
    /// Makes what audit lines are written to, in place of what the policy says.
    pub audit: Option<fn() -> Box<dyn Write + Send>>,
    /// How long to go on answering, not ready any more, before connections are closed: until gateways have noticed.
    pub drain_delay: Duration,
}

/// Why it did not start.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// An endpoint cannot be listened on.
    #[error("cannot listen on {endpoint}: {source}")]
    Listen {
        /// Which.
        endpoint: String,
        /// Why.
        source: io::Error,
    },
    /// A listener of the policy file cannot serve TLS.
    #[error("{place}: TLS cannot be served on {address}: {source}")]
    Tls {
        /// Where the policy says so.
        place: String,
        /// At which address.
        address: SocketAddr,
        /// Why.
        source: TlsFault,
    },
    /// The store that the policy names can never be connected to.
    #[error("{place}: the store cannot be connected to: {source}")]
    Store {
        /// Where the policy says so.
        place: String,
        /// Why.
        source: TrustFault,
    },
    /// The audit file cannot be opened.
    #[error("cannot write audit lines to {}: {source}", path.display())]
    Audit {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A thread or runtime could not be started.
    #[error("cannot start: {0}")]
    Start(#[from] io::Error),
    /// The key of the decision ids cannot be used.
    #[error("the `decision_key` cannot be used")]
    DecisionKey,
}

/// A portcullis that answers.
pub struct Running {
    /// The TCP addresses where gateways ask.
    pub grpc: Vec<SocketAddr>,
    /// The TCP addresses where they ask by HTTP.
    pub http: Vec<SocketAddr>,
    /// Everywhere that gateways ask, for people.
    pub endpoints: Vec<String>,
    /// The address of health and metrics.
    pub admin: SocketAddr,
    /// The address of what the world may ask, where there is one.
    pub public: Option<SocketAddr>,
    /// What is revoked on every replica; `None` where nothing is shared.
    pub revoker: Option<Revoker>,
    /// The feeds of keys.
    pub feeds: Feeds,
    /// The reloading of the policy.
    pub reloads: Reloads,
    cores: Cores,
    health: HealthReporter,
    draining: watch::Sender<bool>,
    ended: watch::Sender<bool>,
    accepting: JoinSet<()>,
    tasks: JoinSet<()>,
    audit: Audit,
    writer: Option<Writer>,
    drain_delay: Duration,
}

/// Starts everything. The runtime that this is called on does the background work.
pub async fn start(file: PolicyFile, compiled: Compiled, overrides: &Overrides) -> Result<Running, Failure> {
    compiled.warnings.as_slice().iter().for_each(|warning| tracing::warn!("{warning}"));
    let settings = &compiled.settings.clone();
    let (listeners, by_http) = listeners(&compiled, overrides).await?;
    let (admin, public) = beside(settings, overrides).await?;
    let running_public = public.as_ref().and_then(|listener| listener.local_addr().ok());
    let (audit, writer) = start_audit(overrides.audit, &settings.audit)?;
    let (sealing, store) = (Arc::new(sealing_key(settings)?), shared::store(&compiled)?);

    let (live, publisher, questions) = Live::new();
    let (metrics, health) = (Metrics::default(), HealthReporter::new());
    let ((draining, drains), (ended, ends)) = (watch::channel(false), watch::channel(false));

    let folder = settings.key_cache.clone().map(|path| Arc::new(Folder::new(path)));
    let (suspender, feeds) = feed(&publisher, questions, folder.as_ref()).await;
    let reloads = file.follow(compiled, feeds.clone()).await;
    // What is revoked is published with a policy: after the first one.
    let revoker = store.is_shared().then(|| Revoker::start(store.clone(), publisher));
    let cores = start_cores(overrides.cores, &health, &live, (&audit, &metrics), &sealing, &store)?;
    serving(&health, ServingStatus::Serving).await;

    let (renewed, renewals) = watch::channel(true);
    let public = public.map(|listener| (listener, public_paths(&live, revoker.as_ref())));
    let sources = admin::Sources {
        live,
        revoker: revoker.clone(),
        settings: reloads.settings(),
        suspender,
        folder,
        renewals,
        metrics,
        audit: audit.clone(),
        store,
        feeds: feeds.status(),
        reloads: reloads.status(),
        draining: drains,
    };
    let running_admin = admin.local_addr()?;
    let (grpc, http, endpoints) = addresses(&listeners, &by_http);
    let mut tasks = serve_beside(public, (admin, sources), ends);
    tasks.spawn(renew(with_tls(&listeners, &by_http), reloads.status(), renewed));
    let accepting = listeners.into_iter().chain(by_http).map(|listener| cores.accept(listener)).collect();
    Ok(Running {
        grpc,
        http,
        endpoints,
        admin: running_admin,
        public: running_public,
        revoker,
        feeds,
        reloads,
        cores,
        health,
        draining,
        ended,
        accepting,
        tasks,
        audit,
        writer,
        drain_delay: overrides.drain_delay,
    })
}

impl Running {
    /// Ends in good order: not ready any more, no new connections, what is in flight answered, every audit line
    /// written.
    pub async fn drain(self) {
        let Self { cores, health, draining, ended, mut accepting, mut tasks, audit, writer, drain_delay, .. } = self;
        let _ = draining.send(true);
        serving(&health, ServingStatus::NotServing).await;
        tokio::time::sleep(drain_delay).await;
        accepting.shutdown().await;
        cores.drain(DRAIN).await;
        let _ = ended.send(true);
        tasks.shutdown().await;
        drop(audit);
        if let Some(writer) = writer {
            let written = tokio::task::spawn_blocking(move || writer.finish());
            if tokio::time::timeout(DRAIN, written).await.is_err() {
                tracing::error!("audit lines were still unwritten when the time to drain was over");
            }
        }
    }
}

fn start_cores(
    cores: Option<usize>,
    health: &HealthReporter,
    live: &Arc<Live>,
    (audit, metrics): (&Audit, &Metrics),
    sealing: &Arc<SealingKey>,
    store: &Store,
) -> io::Result<Cores> {
    let count = cores.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from).min(4));
    let mut replica = [0; 4];
    let _ = aws_lc_rs::rand::fill(&mut replica);
    let replica = u32::from_be_bytes(replica);
    let (live, audit, metrics, sealing) = (Arc::clone(live), audit.clone(), metrics.clone(), Arc::clone(sealing));
    let store = store.clone();
    let service = Health::new(HealthService::from_health_reporter(health.clone()));
    Cores::start(count, &service, move || {
        let recorder = Recorder::new(audit.clone(), metrics.core());
        Authorizer::new(Arc::clone(&live), recorder, Sealer::new(Arc::clone(&sealing), replica), store.clone())
    })
}

/// The TCP addresses of each kind, and everywhere for people.
fn addresses(grpc: &[Listener], http: &[Listener]) -> (Vec<SocketAddr>, Vec<SocketAddr>, Vec<String>) {
    let tcp = |all: &[Listener]| all.iter().filter_map(Listener::address).collect();
    let endpoints = grpc.iter().map(ToString::to_string).chain(http.iter().map(|at| format!("{at} (HTTP)")));
    (tcp(grpc), tcp(http), endpoints.collect())
}

/// What listens for gateways by gRPC, and by HTTP.
async fn listeners(compiled: &Compiled, overrides: &Overrides) -> Result<(Vec<Listener>, Vec<Listener>), Failure> {
    let grpc = open(&endpoints(compiled, overrides), Protocol::Grpc).await?;
    Ok((grpc, open(&written(compiled, &compiled.settings.listen.http), Protocol::Http).await?))
}

/// Serves the world and the operator.
fn serve_beside(
    public: Option<(TcpListener, Router)>,
    (admin, sources): (TcpListener, admin::Sources),
    ends: watch::Receiver<bool>,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    if let Some((listener, paths)) = public {
        tasks.spawn(public::serve(listener, paths, ends.clone()));
    }
    tasks.spawn(administer(admin, sources, ends));
    tasks
}

/// Who suspends issuers, and what keeps their keys fresh.
async fn feed(
    publisher: &Publisher,
    questions: mpsc::Receiver<Asked>,
    folder: Option<&Arc<Folder>>,
) -> (Suspender, Feeds) {
    let suspender = Suspender::recall(publisher.clone(), folder.cloned()).await;
    let beside = Beside { saved: folder.cloned().map(SavedKeys::start), ..Beside::default() };
    (suspender, Feeds::start_with(publisher.clone(), questions, Fetcher::new(), beside))
}

/// What the world may ask.
fn public_paths(live: &Arc<Live>, revoker: Option<&Revoker>) -> Router {
    let logout = revoker.map(|revoker| Logout { live: Arc::clone(live), revoker: revoker.clone() });
    logout.map(public::logout::paths).unwrap_or_default().merge(public::keys::paths(Arc::clone(live)))
}

async fn serving(health: &HealthReporter, status: ServingStatus) {
    for service in ["", envoy::SERVICE] {
        health.set_service_status(service, status).await;
    }
}

async fn administer(listener: TcpListener, sources: admin::Sources, ends: watch::Receiver<bool>) {
    if let Err(error) = admin::serve(listener, sources, ends).await {
        tracing::error!(%error, "the admin listener ended");
    }
}

fn with_tls(listeners: &[Listener], by_http: &[Listener]) -> Vec<Arc<Tls>> {
    listeners.iter().chain(by_http).filter_map(Listener::tls).map(Arc::clone).collect()
}

/// Reads the files of TLS anew whenever the policy was loaded, for they are watched together.
async fn renew(tls: Vec<Arc<Tls>>, mut reloads: watch::Receiver<ReloadStatus>, renewed: watch::Sender<bool>) {
    reloads.mark_unchanged();
    while reloads.changed().await.is_ok() {
        let mut all = true;
        for tls in &tls {
            let read = Arc::clone(tls);
            if let Ok(Err(error)) = tokio::task::spawn_blocking(move || read.reload()).await {
                all = false;
                tracing::error!(%error, "the certificate of a listener was not renewed; the one before stays");
            }
        }
        renewed.send_replace(all);
    }
}

/// Where gateways ask, and where the policy file says so.
fn endpoints(compiled: &Compiled, overrides: &Overrides) -> Vec<(Endpoint, String)> {
    if !overrides.listen.is_empty() {
        return overrides.listen.iter().map(|endpoint| (endpoint.clone(), String::new())).collect();
    }
    let written = written(compiled, &compiled.settings.listen.grpc);
    if written.is_empty() { vec![(Endpoint::Tcp(GRPC), String::new())] } else { written }
}

/// Endpoints of the policy file, and where it says so.
fn written(compiled: &Compiled, endpoints: &[Spanned<file::Endpoint>]) -> Vec<(Endpoint, String)> {
    let file = compiled.files.first().map(|file| file.display().to_string()).unwrap_or_default();
    let written = endpoints.iter().map(|written| {
        let endpoint = match &written.value {
            file::Endpoint::Tcp(address) => Endpoint::Tcp(*address),
            file::Endpoint::Tls(address, tls) => Endpoint::Tls(*address, files_of(tls)),
            file::Endpoint::Unix(path) => Endpoint::Unix(path.clone()),
        };
        (endpoint, format!("{file}:{}:{}", written.span.line, written.span.column))
    });
    written.collect()
}

fn files_of(tls: &file::Tls) -> TlsFiles {
    TlsFiles {
        certificate: tls.certificate.clone(),
        key: tls.key.clone(),
        client_ca: tls.client_ca.clone(),
        client_optional: tls.client_optional,
    }
}

fn tcp(endpoint: Option<&Spanned<file::Endpoint>>) -> Option<SocketAddr> {
    match endpoint.map(|endpoint| &endpoint.value) {
        Some(file::Endpoint::Tcp(address)) => Some(*address),
        Some(file::Endpoint::Unix(_) | file::Endpoint::Tls(..)) | None => None,
    }
}

/// The admin listener, and the public one where there is one.
async fn beside(settings: &Settings, overrides: &Overrides) -> Result<(TcpListener, Option<TcpListener>), Failure> {
    let admin = bind(overrides.admin.or(tcp(settings.listen.admin.as_ref())).unwrap_or(ADMIN), "admin").await?;
    let public = match tcp(settings.listen.public.as_ref()) {
        Some(address) => Some(bind(address, "public").await?),
        None => None,
    };
    Ok((admin, public))
}

async fn open(endpoints: &[(Endpoint, String)], speaks: Protocol) -> Result<Vec<Listener>, Failure> {
    let mut listeners = Vec::new();
    for (endpoint, place) in endpoints {
        listeners.push(Listener::open(endpoint, speaks).await.map_err(|why| match (why, endpoint) {
            (Unopened::Io(source), _) => Failure::Listen { endpoint: endpoint.to_string(), source },
            (Unopened::Tls(source), Endpoint::Tls(address, _)) => {
                Failure::Tls { place: place.clone(), address: *address, source }
            }
            (Unopened::Tls(source), Endpoint::Tcp(_) | Endpoint::Unix(_)) => {
                Failure::Listen { endpoint: endpoint.to_string(), source: io::Error::other(source) }
            }
        })?);
    }
    Ok(listeners)
}

async fn bind(address: SocketAddr, what: &str) -> Result<TcpListener, Failure> {
    TcpListener::bind(address)
        .await
        .map_err(|source| Failure::Listen { endpoint: format!("{address} ({what})"), source })
}

fn start_audit(
    instead: Option<fn() -> Box<dyn Write + Send>>,
    to: &file::Audit,
) -> Result<(Audit, Option<Writer>), Failure> {
    let to: Box<dyn Write + Send> = match (instead, to) {
        (Some(make), _) => make(),
        (None, file::Audit::None) => return Ok((Audit::off(), None)),
        (None, file::Audit::Stdout) => Box::new(io::stdout()),
        (None, file::Audit::File(path)) => {
            Box::new(append(path).map_err(|source| Failure::Audit { path: path.clone(), source })?)
        }
    };
    let (audit, writer) = Audit::start(to)?;
    Ok((audit, Some(writer)))
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// The operator's key; without one, a random key that dies with the process.
fn sealing_key(settings: &Settings) -> Result<SealingKey, Failure> {
    let random = || {
        let mut secret = vec![0; 32];
        aws_lc_rs::rand::fill(&mut secret).map(|()| secret).map_err(|_| Failure::DecisionKey)
    };
    let secret = settings.decision_key.clone().map_or_else(random, |secret| Ok(secret.0))?;
    SealingKey::new(&secret).ok_or(Failure::DecisionKey)
}
