//! The listeners: one acceptor hands each connection to the core with the fewest open; each core is a thread with a
//! runtime of its own, so that answers batch and nothing is shared on the hot path.

mod connection;
mod grpc;
mod http;
mod idle;
mod json;
mod purse;
pub mod tls;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, watch};

use crate::authorizer::Authorizer;
use crate::authz::request::Asker;

use grpc::Answering;
use purse::{Purse, Treasury};
use tls::{Tls, TlsFault, TlsFiles};

pub use grpc::Health;
pub use http::serve_one;

/// How many connections may be open at once; more are closed as they come.
const MAX_CONNECTIONS: usize = 4_096;
/// How many accepted connections may wait for a core to adopt them.
const WAITING: usize = 256;

/// Where checks are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A TCP address; port 0 lets the system choose.
    Tcp(SocketAddr),
    /// The same, with TLS.
    Tls(SocketAddr, TlsFiles),
    /// The path of a unix socket.
    Unix(PathBuf),
}

impl std::str::FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some("") => Err("`unix:` needs a path".to_owned()),
            Some(path) => Ok(Self::Unix(path.into())),
            None => {
                text.parse().map(Self::Tcp).map_err(|_| "an address is `127.0.0.1:9000` or `unix:/path`".to_owned())
            }
        }
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Tls(address, _) => write!(f, "{address} (TLS)"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// gRPC, over HTTP/2 with prior knowledge.
    Grpc,
    /// HTTP/1.1.
    Http,
}

impl Protocol {
    /// Its name in a TLS handshake (RFC 7301).
    const fn alpn(self) -> &'static [u8] {
        match self {
            Self::Grpc => b"h2",
            Self::Http => b"http/1.1",
        }
    }
}

/// An open listener.
pub struct Listener {
    at: At,
    speaks: Protocol,
}

enum At {
    /// For TCP, perhaps with TLS.
    Tcp(TcpListener, Option<Arc<Tls>>),
    /// For a unix socket, whose file is removed when it closes.
    Unix(UnixListener, SocketFile),
}

/// Why an endpoint cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum Unopened {
    /// What the system says.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// What is wrong with the files of its TLS.
    #[error(transparent)]
    Tls(#[from] TlsFault),
}

/// The file of a unix socket.
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl std::fmt::Display for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.at, self.address()) {
            (At::Unix(_, file), _) => write!(f, "unix:{}", file.0.display()),
            (At::Tcp(_, None), Some(address)) => address.fmt(f),
            (At::Tcp(_, Some(_)), Some(address)) => write!(f, "{address} (TLS)"),
            (At::Tcp(..), None) => f.write_str("a TCP address"),
        }
    }
}

impl Listener {
    /// Opens an endpoint. The file of a unix socket that nothing listens on any more is replaced.
    ///
    /// # Errors
    /// Where the system refuses, or the files of its TLS cannot be used.
    pub async fn open(endpoint: &Endpoint, speaks: Protocol) -> Result<Self, Unopened> {
        let at = match endpoint {
            Endpoint::Tcp(address) => At::Tcp(TcpListener::bind(address).await?, None),
            Endpoint::Tls(address, files) => {
                let tls = Tls::open(files.clone(), speaks)?;
                At::Tcp(TcpListener::bind(address).await?, Some(Arc::new(tls)))
            }
            Endpoint::Unix(path) => {
                remove_dead(path).await?;
                At::Unix(UnixListener::bind(path)?, SocketFile(path.clone()))
            }
        };
        Ok(Self { at, speaks })
    }

    /// The TCP address that it listens on.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        match &self.at {
            At::Tcp(listener, _) => listener.local_addr().ok(),
            At::Unix(..) => None,
        }
    }

    /// What it serves TLS with, where it does.
    #[must_use]
    pub fn tls(&self) -> Option<&Arc<Tls>> {
        match &self.at {
            At::Tcp(_, tls) => tls.as_ref(),
            At::Unix(..) => None,
        }
    }

    async fn accept(&self) -> io::Result<(Socket, Asker)> {
        match &self.at {
            At::Tcp(listener, tls) => {
                let (stream, peer) = listener.accept().await?;
                stream.set_nodelay(true)?;
                let tls = tls.as_ref().map(|tls| tls.current());
                Ok((Socket::Tcp(stream.into_std()?, tls), Asker::Tcp(peer.ip().to_canonical())))
            }
            At::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                Ok((Socket::Unix(stream.into_std()?), Asker::Unix))
            }
        }
    }
}

/// Removes a socket's file that a process left behind when it was killed; one that answers is in use.
async fn remove_dead(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::FileTypeExt;
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => Err(io::Error::from(io::ErrorKind::AlreadyExists)),
        Ok(_) if tokio::net::UnixStream::connect(path).await.is_ok() => Err(io::Error::from(io::ErrorKind::AddrInUse)),
        Ok(_) => std::fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// An accepted connection that belongs to no runtime yet.
enum Socket {
    Tcp(std::net::TcpStream, Option<Arc<ServerConfig>>),
    Unix(std::os::unix::net::UnixStream),
}

/// A connection on its way to a core.
struct Accepted {
    socket: Socket,
    speaks: Protocol,
    asker: Asker,
    open: Open,
}

/// Counts a connection while it lives.
struct Open(Arc<AtomicUsize>);

impl Open {
    fn count(counter: &Arc<AtomicUsize>) -> Self {
        counter.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(counter))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The cores that answer.
pub struct Cores {
    cores: Vec<Core>,
    stop: watch::Sender<bool>,
}

struct Core {
    send: mpsc::Sender<Accepted>,
    open: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

impl Cores {
    /// Starts so many cores. `authorizer` makes one for each, on its own thread.
    pub fn start(
        count: usize,
        health: &Health,
        authorizer: impl Fn() -> Authorizer + Clone + Send + 'static,
    ) -> io::Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let kept = Treasury::default();
        let start = |place| {
            let site = Site { health: health.clone(), kept: kept.clone(), stop: stopped.clone() };
            Core::start(place, site, authorizer.clone())
        };
        let cores = (0..count.max(1)).map(start);
        Ok(Self { cores: cores.collect::<io::Result<_>>()?, stop })
    }

    /// Accepts connections for ever. Ends when dropped.
    pub fn accept(&self, listener: Listener) -> impl Future<Output = ()> + Send + 'static {
        let cores: Vec<_> = self.cores.iter().map(|core| (core.send.clone(), Arc::clone(&core.open))).collect();
        async move {
            loop {
                match listener.accept().await {
                    Ok((socket, asker)) => hand_over(&cores, socket, listener.speaks, asker),
                    Err(error) => {
                        // Out of file descriptors, most likely: the ones that are open go on.
                        tracing::warn!(%error, "a connection could not be accepted");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
            }
        }
    }

    /// Lets what is in flight finish, closes all connections and waits for the cores to end, `patience` at most.
    pub async fn drain(self, patience: Duration) {
        let _ = self.stop.send(true);
        let threads: Vec<_> = self.cores.into_iter().map(|core| core.thread).collect();
        let joined = tokio::task::spawn_blocking(move || {
            for thread in threads {
                let _ = thread.join();
            }
        });
        if tokio::time::timeout(patience, joined).await.is_err() {
            tracing::warn!(seconds = patience.as_secs(), "connections were still open when the time to drain was over");
        }
    }
}

fn hand_over(cores: &[(mpsc::Sender<Accepted>, Arc<AtomicUsize>)], socket: Socket, speaks: Protocol, asker: Asker) {
    let open = |counter: &Arc<AtomicUsize>| counter.load(Ordering::Relaxed);
    let all: usize = cores.iter().map(|(_, counter)| open(counter)).fold(0, usize::saturating_add);
    let Some((send, counter)) = cores.iter().min_by_key(|(_, counter)| open(counter)) else { return };
    if all >= MAX_CONNECTIONS {
        tracing::warn!(open = all, "too many connections are open; one was closed as it came");
        return;
    }
    if send.try_send(Accepted { socket, speaks, asker, open: Open::count(counter) }).is_err() {
        tracing::warn!("a core does not adopt connections fast enough; one was closed as it came");
    }
}

impl Core {
    fn start(place: usize, site: Site, authorizer: impl Fn() -> Authorizer + Send + 'static) -> io::Result<Self> {
        let (send, accepted) = mpsc::channel(WAITING);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new().name(format!("core-{place}")).spawn(move || {
            runtime.block_on(adopt(accepted, Arc::new(authorizer()), site));
        })?;
        Ok(Self { send, open: Arc::default(), thread })
    }
}

/// What the connections of a core share beside its authorizer.
#[derive(Clone)]
struct Site {
    health: Health,
    kept: Treasury,
    stop: watch::Receiver<bool>,
}

/// Serves connections as they come, until told to stop; then waits for the last one to end.
async fn adopt(mut accepted: mpsc::Receiver<Accepted>, authorizer: Arc<Authorizer>, mut site: Site) {
    let mut connections = tokio::task::JoinSet::new();
    let shared = site.clone();
    loop {
        tokio::select! {
            Some(Accepted { socket, speaks, asker, open }) = accepted.recv() => {
                let purse = Purse::new(&shared.kept);
                let answering = Answering {
                    authorizer: Arc::clone(&authorizer),
                    health: shared.health.clone(),
                    asker,
                    holder: None,
                    purse,
                    secure: false,
                };
                let served = connection::serve(socket, speaks, answering, shared.stop.clone());
                connections.spawn(async move {
                    if let Err(error) = served.await {
                        tracing::debug!(%error, "a connection ended badly");
                    }
                    drop(open);
                });
            }
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            _ = site.stop.wait_for(|stopped| *stopped) => break,
        }
    }
    while connections.join_next().await.is_some() {}
}
