//! A connection to Redis that is ready for commands: TCP, TLS or a Unix socket, then user, password and database.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::resp::{Reader, Reply, encode};
use crate::store::fault::Fault;

/// How long a connection may take until it is ready.
const PATIENCE: Duration = Duration::from_secs(1);
/// The longest reply on the way there.
const REPLY: usize = 4_096;

/// Where a Redis is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A host's name or address (an IPv6 address without brackets), and its port.
    Tcp(Box<str>, u16),
    /// A socket in the file system.
    Unix(PathBuf),
}

/// Whose certificate is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Roots {
    /// Those whom the system believes.
    System,
    /// Those in this PEM file, and no others.
    File(PathBuf),
}

/// Why a Redis cannot be connected to with TLS, ever.
#[derive(Debug, thiserror::Error)]
pub enum TrustFault {
    /// The file cannot be read.
    #[error("{} cannot be read: {}", path.display(), source.kind())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file holds no certificate.
    #[error("{} does not hold certificates in PEM", .0.display())]
    NoCertificate(PathBuf),
    /// The certificates cannot be used.
    #[error("its certificate cannot be checked: {0}")]
    Unusable(#[from] rustls::Error),
    /// The host cannot stand in a certificate.
    #[error("`{0}` is neither a host's name nor an address")]
    Name(Box<str>),
}

/// How to connect, and as whom.
pub struct Dial {
    address: Address,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    /// What is said first, and how many replies it has.
    greeting: Vec<u8>,
    replies: usize,
}

/// As whom to connect, and to which database.
#[derive(Clone, Default)]
pub struct Account {
    /// The user; Redis's `default` where there is a password only.
    pub user: Option<Box<str>>,
    /// The password.
    pub password: Option<Vec<u8>>,
    /// The number of the database.
    pub database: u32,
}

pub trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

impl Dial {
    pub fn new(address: Address, roots: Option<&Roots>, account: &Account) -> Result<Self, TrustFault> {
        let tls = match (roots, &address) {
            (Some(roots), Address::Tcp(host, _)) => {
                let name = ServerName::try_from(host.to_string()).map_err(|_| TrustFault::Name(host.clone()))?;
                Some((TlsConnector::from(Arc::new(config(roots)?)), name))
            }
            (None, _) | (_, Address::Unix(_)) => None,
        };
        let (greeting, replies) = greeting(account);
        Ok(Self { address, tls, greeting, replies })
    }

    /// Connects. The fault says what stands in the way.
    pub async fn connect(&self) -> Result<Box<dyn Duplex>, Fault> {
        let connected = tokio::time::timeout(PATIENCE, async {
            let mut stream = self.open().await?;
            self.greet(&mut stream).await?;
            Ok(stream)
        });
        connected.await.unwrap_or(Err(Fault::Deadline))
    }

    async fn open(&self) -> Result<Box<dyn Duplex>, Fault> {
        let stream = match &self.address {
            Address::Unix(path) => return Ok(Box::new(UnixStream::connect(path).await.map_err(unreachable)?)),
            Address::Tcp(host, port) => TcpStream::connect((&**host, *port)).await.map_err(unreachable)?,
        };
        stream.set_nodelay(true).map_err(unreachable)?;
        Ok(match &self.tls {
            Some((tls, name)) => Box::new(tls.connect(name.clone(), stream).await.map_err(|_| Fault::Tls)?),
            None => Box::new(stream),
        })
    }

    async fn greet(&self, stream: &mut Box<dyn Duplex>) -> Result<(), Fault> {
        stream.write_all(&self.greeting).await.map_err(unreachable)?;
        stream.flush().await.map_err(unreachable)?;
        let mut reader = Reader::default();
        let mut left = self.replies;
        while left > 0 {
            match reader.take(REPLY)? {
                // Who may not ask whether it lives was heard all the same: PING is the last.
                Some(Reply::Error(error)) if left == 1 && error.starts_with(b"NOPERM") => left = 0,
                Some(reply) => {
                    reply.good()?;
                    left = left.saturating_sub(1);
                }
                None if stream.read_buf(&mut reader.arrived).await.map_err(unreachable)? == 0 => {
                    return Err(Fault::Unreachable);
                }
                None => {}
            }
        }
        if reader.arrived.is_empty() { Ok(()) } else { Err(Fault::Garbled) }
    }
}

fn greeting(account: &Account) -> (Vec<u8>, usize) {
    let (mut greeting, mut replies) = (Vec::new(), 1_usize);
    if let Some(password) = &account.password {
        match &account.user {
            Some(user) => encode(&mut greeting, &[b"AUTH", user.as_bytes(), password]),
            None => encode(&mut greeting, &[b"AUTH", password]),
        }
        replies = replies.saturating_add(1);
    }
    if account.database > 0 {
        encode(&mut greeting, &[b"SELECT", account.database.to_string().as_bytes()]);
        replies = replies.saturating_add(1);
    }
    encode(&mut greeting, &[b"PING"]);
    (greeting, replies)
}

fn config(roots: &Roots) -> Result<ClientConfig, TrustFault> {
    let builder =
        ClientConfig::builder_with_provider(Arc::new(default_provider())).with_protocol_versions(&[&TLS13, &TLS12])?;
    Ok(match roots {
        Roots::System => builder.with_platform_verifier()?.with_no_client_auth(),
        Roots::File(path) => builder.with_root_certificates(read(path)?).with_no_client_auth(),
    })
}

fn read(path: &Path) -> Result<RootCertStore, TrustFault> {
    let text = std::fs::read(path).map_err(|source| TrustFault::Read { path: path.to_owned(), source })?;
    let none = || TrustFault::NoCertificate(path.to_owned());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        roots.add(certificate.map_err(|_| none())?)?;
    }
    if roots.is_empty() { Err(none()) } else { Ok(roots) }
}

fn unreachable(_: io::Error) -> Fault {
    Fault::Unreachable
}
