//! TLS of a listener: its certificate, which may change while we run, and whom the certificates of its peers name.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig};

use super::Protocol;

/// Where the parts of a listener's TLS are: PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Its certificate, and those that lead to a root, in that order.
    pub certificate: PathBuf,
    /// The key of its certificate.
    pub key: PathBuf,
    /// Whose certificates peers may show, where they may show any.
    pub client_ca: Option<PathBuf>,
    /// Whether a peer without a certificate is let in all the same.
    pub client_optional: bool,
}

/// Why TLS cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsFault {
    /// A file cannot be read.
    #[error("{} cannot be read: {}", path.display(), source.kind())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file holds no certificate, or something else beside.
    #[error("{} does not hold certificates in PEM", .0.display())]
    NoCertificate(PathBuf),
    /// A file holds no private key.
    #[error("{} does not hold a private key in PEM", .0.display())]
    NoKey(PathBuf),
    /// The pair cannot be used.
    #[error("the certificate and the key cannot be used together: {0}")]
    Pair(rustls::Error),
    /// The certificates of peers cannot be checked.
    #[error("{} cannot be used to check the certificates of peers: {why}", path.display())]
    Roots {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

/// What a listener serves TLS with.
pub struct Tls {
    files: TlsFiles,
    speaks: Protocol,
    current: ArcSwap<ServerConfig>,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn open(files: TlsFiles, speaks: Protocol) -> Result<Self, TlsFault> {
        let current = ArcSwap::from_pointee(config(&files, speaks)?);
        Ok(Self { files, speaks, current })
    }

    /// Reads the files anew, for connections that come from now on. Where they cannot be used the old ones stay.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn reload(&self) -> Result<(), TlsFault> {
        self.current.store(Arc::new(config(&self.files, self.speaks)?));
        Ok(())
    }

    /// What the next connection is served with.
    #[must_use]
    pub fn current(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }

    /// The files.
    #[must_use]
    pub fn files(&self) -> &TlsFiles {
        &self.files
    }
}

fn config(files: &TlsFiles, speaks: Protocol) -> Result<ServerConfig, TlsFault> {
    let provider = Arc::new(default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(TlsFault::Pair)?;
    let builder = match &files.client_ca {
        Some(path) => builder.with_client_cert_verifier(verifier(path, files.client_optional, provider)?),
        None => builder.with_no_client_auth(),
    };
    let chain = certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_slice(&read(&files.key)?).map_err(|_| TlsFault::NoKey(files.key.clone()))?;
    let mut config = builder.with_single_cert(chain, key).map_err(TlsFault::Pair)?;
    config.alpn_protocols = vec![speaks.alpn().to_vec()];
    // A session that is resumed is not asked for its certificate again, be it expired meanwhile.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn verifier(
    path: &Path,
    optional: bool,
    provider: Arc<rustls::crypto::CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsFault> {
    let unusable = |why: String| TlsFault::Roots { path: path.to_owned(), why };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = if optional { builder.allow_unauthenticated() } else { builder };
    builder.build().map_err(|error| unusable(error.to_string()))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsFault> {
    let pem = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    found.ok().filter(|found| !found.is_empty()).ok_or_else(|| TlsFault::NoCertificate(path.to_owned()))
}

fn read(path: &Path) -> Result<Vec<u8>, TlsFault> {
    std::fs::read(path).map_err(|source| TlsFault::Read { path: path.to_owned(), source })
}
