//! The composition root: what is started, in which order, and how it ends. The only file that knows every module.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic_health::ServingStatus;
use tonic_health::server::{HealthReporter, HealthService};

use crate::admin;
use crate::authorizer::{Authorizer, Sealer};
use crate::authz::decision_id::SealingKey;
use crate::config::compile::{Compiled, Settings};
use crate::config::file;
use crate::feed::config::{PolicyFile, Reloads};
use crate::feed::fetch::Fetcher;
use crate::feed::jwks::Feeds;
use crate::gateway::envoy;
use crate::live::Live;
use crate::observe::Recorder;
use crate::observe::audit::{Audit, Writer};
use crate::observe::metrics::Metrics;
use crate::server::{Cores, Endpoint, Health, Listener};

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
    /// The address of health and metrics.
    pub admin: SocketAddr,
    /// The feeds of keys.
    pub feeds: Feeds,
    /// The reloading of the policy.
    pub reloads: Reloads,
    cores: Cores,
    health: HealthReporter,
    draining: watch::Sender<bool>,
    ended: watch::Sender<bool>,
    tasks: JoinSet<()>,
    audit: Audit,
    writer: Option<Writer>,
    drain_delay: Duration,
}

/// Starts everything. The runtime that this is called on does the background work.
pub async fn start(file: PolicyFile, compiled: Compiled, overrides: &Overrides) -> Result<Running, Failure> {
    for warning in compiled.warnings.as_slice() {
        tracing::warn!("{warning}");
    }
    let settings = compiled.settings.clone();
    let settings = &settings;
    let listeners = open(&endpoints(settings, overrides)).await?;
    let admin = listen_admin(overrides.admin.or(admin_of(settings)).unwrap_or(ADMIN)).await?;
    let (audit, writer) = start_audit(overrides.audit, &settings.audit)?;
    let sealing = Arc::new(sealing_key(settings)?);

    let (live, publisher, questions) = Live::new();
    let metrics = Metrics::default();
    let health = HealthReporter::new();
    let service = Health::new(HealthService::from_health_reporter(health.clone()));
    let (draining, drains) = watch::channel(false);
    let (ended, ends) = watch::channel(false);

    let feeds = Feeds::start(publisher, questions, Fetcher::new());
    let reloads = file.follow(compiled, feeds.clone()).await;
    let cores = start_cores(overrides.cores, &service, &live, &audit, &metrics, &sealing)?;
    serving(&health, ServingStatus::Serving).await;

    let (feed_status, reload_status) = (feeds.status(), reloads.status());
    let sources = admin::Sources {
        live,
        metrics,
        audit: audit.clone(),
        feeds: feed_status,
        reloads: reload_status,
        draining: drains,
    };
    let running_admin = admin.local_addr()?;
    let grpc = listeners.iter().filter_map(Listener::address).collect();
    let mut tasks = JoinSet::new();
    for listener in listeners {
        tasks.spawn(cores.accept(listener));
    }
    tasks.spawn(async move {
        if let Err(error) = admin::serve(admin, sources, ends).await {
            tracing::error!(%error, "the admin listener ended");
        }
    });
    Ok(Running {
        grpc,
        admin: running_admin,
        feeds,
        reloads,
        cores,
        health,
        draining,
        ended,
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
        let Self { cores, health, draining, ended, mut tasks, audit, writer, drain_delay, .. } = self;
        let _ = draining.send(true);
        serving(&health, ServingStatus::NotServing).await;
        tokio::time::sleep(drain_delay).await;
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
    health: &Health,
    live: &Arc<Live>,
    audit: &Audit,
    metrics: &Metrics,
    sealing: &Arc<SealingKey>,
) -> io::Result<Cores> {
    let count = cores.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from).min(4));
    let mut replica = [0; 4];
    let _ = aws_lc_rs::rand::fill(&mut replica);
    let replica = u32::from_be_bytes(replica);
    let (live, audit, metrics, sealing) = (Arc::clone(live), audit.clone(), metrics.clone(), Arc::clone(sealing));
    Cores::start(count, health, move || {
        let recorder = Recorder::new(audit.clone(), metrics.core());
        Authorizer::new(Arc::clone(&live), recorder, Sealer::new(Arc::clone(&sealing), replica))
    })
}

async fn serving(health: &HealthReporter, status: ServingStatus) {
    for service in ["", envoy::SERVICE] {
        health.set_service_status(service, status).await;
    }
}

fn endpoints(settings: &Settings, overrides: &Overrides) -> Vec<Endpoint> {
    if !overrides.listen.is_empty() {
        return overrides.listen.clone();
    }
    let written = settings.listen.grpc.iter().map(|endpoint| match &endpoint.value {
        file::Endpoint::Tcp(address) => Endpoint::Tcp(*address),
        file::Endpoint::Unix(path) => Endpoint::Unix(path.clone()),
    });
    let written: Vec<_> = written.collect();
    if written.is_empty() { vec![Endpoint::Tcp(GRPC)] } else { written }
}

fn admin_of(settings: &Settings) -> Option<SocketAddr> {
    match settings.listen.admin.as_ref().map(|endpoint| &endpoint.value) {
        Some(file::Endpoint::Tcp(address)) => Some(*address),
        Some(file::Endpoint::Unix(_)) | None => None,
    }
}

async fn open(endpoints: &[Endpoint]) -> Result<Vec<Listener>, Failure> {
    let mut listeners = Vec::new();
    for endpoint in endpoints {
        let listener = Listener::open(endpoint).await;
        listeners.push(listener.map_err(|source| Failure::Listen { endpoint: endpoint.to_string(), source })?);
    }
    Ok(listeners)
}

async fn listen_admin(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address)
        .await
        .map_err(|source| Failure::Listen { endpoint: format!("{address} (admin)"), source })
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
