//! Where a probe connects, and one request on a connection of its own: raw bytes, with TLS or without.

use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs::default_provider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::Url;

use super::ProbeError;
use crate::dev::wire::{Answer, Connection};

/// Whose certificate a gateway may show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// One of the system's authorities.
    #[default]
    System,
    /// One of the authorities in this PEM file.
    File(PathBuf),
    /// Anybody's: for test certificates.
    Anyone,
}

/// A place that requests are sent to.
#[derive(Clone)]
pub(super) struct Door {
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    deadline: Duration,
}

/// What came of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// An answer.
    Answered(Answer),
    /// The connection was closed without one.
    Closed,
    /// Something that is no HTTP/1 answer.
    Garbled,
    /// Neither within the time.
    Silent,
    /// No connection: why.
    Unreachable(String),
}

impl Door {
    /// Where a URL leads: `http://` or `https://`, a host, perhaps a port, and no path.
    pub(super) fn new(url: &Url, trust: &Trust, deadline: Duration) -> Result<Self, ProbeError> {
        let wrong = || ProbeError::Url(url.as_str().to_owned());
        let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
        if !plain || url.fragment().is_some() || url.path() != "/" {
            return Err(wrong());
        }
        let host = url.host_str().ok_or_else(wrong)?.trim_matches(['[', ']']).to_owned();
        let port = url.port_or_known_default().ok_or_else(wrong)?;
        let tls = match url.scheme() {
            "http" => None,
            "https" => {
                let name = ServerName::try_from(host.clone()).map_err(|_| wrong())?;
                Some((TlsConnector::from(Arc::new(config(trust)?)), name))
            }
            _ => return Err(wrong()),
        };
        Ok(Self { host, port, tls, deadline })
    }

    /// Whether callers are encrypted.
    pub(super) const fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Sends these bytes and reads one answer. `bodiless`: nothing follows the head of the answer.
    pub(super) async fn ask(&self, raw: &[u8], bodiless: bool) -> Outcome {
        let connected = tokio::time::timeout(self.deadline, TcpStream::connect((&*self.host, self.port)));
        let stream = match connected.await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Outcome::Unreachable(error.to_string()),
            Err(_) => return Outcome::Unreachable("no connection within the time".to_owned()),
        };
        let _ = stream.set_nodelay(true);
        let exchanged = async {
            match &self.tls {
                None => exchange(stream, raw, bodiless).await,
                Some((tls, name)) => match tls.connect(name.clone(), stream).await {
                    Ok(stream) => exchange(stream, raw, bodiless).await,
                    Err(error) => Outcome::Unreachable(format!("TLS: {error}")),
                },
            }
        };
        tokio::time::timeout(self.deadline, exchanged).await.unwrap_or(Outcome::Silent)
    }
}

/// Writes and reads at the same time: who refuses a request may say so before it is whole.
async fn exchange<S: AsyncRead + AsyncWrite>(stream: S, raw: &[u8], bodiless: bool) -> Outcome {
    let (read, mut write) = tokio::io::split(stream);
    let sending = async {
        // What cannot be sent any more is answered already, or never.
        let _ = write.write_all(raw).await;
        let _ = write.flush().await;
        std::future::pending::<()>().await;
    };
    let mut connection = Connection::over(read);
    let answered = tokio::select! {
        answered = connection.answer(bodiless) => answered,
        () = sending => return Outcome::Silent,
    };
    match answered {
        Ok(answer) => Outcome::Answered(answer),
        Err(error) if error.kind() == ErrorKind::InvalidData => Outcome::Garbled,
        Err(_) => Outcome::Closed,
    }
}

fn config(trust: &Trust) -> Result<ClientConfig, ProbeError> {
    let tls = |error: rustls::Error| ProbeError::Tls(error.to_string());
    let provider = Arc::new(default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_protocol_versions(&[&TLS13, &TLS12]).map_err(tls)?;
    let mut config = match trust {
        Trust::System => builder.with_platform_verifier().map_err(tls)?.with_no_client_auth(),
        Trust::File(path) => {
            let wrong = |why: String| ProbeError::Tls(format!("{}: {why}", path.display()));
            let mut roots = RootCertStore::empty();
            let text = std::fs::read(path).map_err(|error: io::Error| wrong(error.kind().to_string()))?;
            for certificate in CertificateDer::pem_slice_iter(&text) {
                let certificate = certificate.map_err(|_| wrong("not certificates in PEM".to_owned()))?;
                roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
            }
            if roots.is_empty() {
                return Err(wrong("no certificate in PEM".to_owned()));
            }
            builder.with_root_certificates(roots).with_no_client_auth()
        }
        Trust::Anyone => {
            let anyone = Arc::new(Anyone(provider));
            builder.dangerous().with_custom_certificate_verifier(anyone).with_no_client_auth()
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Takes any certificate. The probe learns what a gateway does, and tells it no secret but the token that it was given.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use rustls::ServerConfig;
    use rustls::pki_types::PrivateKeyDer;
    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use crate::dev::folder::Folder;

    const SOON: Duration = Duration::from_secs(5);
    const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[tokio::test]
    async fn a_certificate_counts_where_its_authority_is_named_or_anyone_is_taken() {
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let folder = Folder::create("door").unwrap();
        let ca = folder.path().join("ca.pem");
        std::fs::write(&ca, cert.pem()).unwrap();
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
        let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()));
        let builder = builder.with_protocol_versions(&[&TLS13, &TLS12]).unwrap().with_no_client_auth();
        let acceptor = TlsAcceptor::from(Arc::new(builder.with_single_cert(vec![cert.der().clone()], key).unwrap()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = url(&format!("https://localhost:{}", listener.local_addr().unwrap().port()));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let mut read = [0; 16];
                stream.read_exact(&mut read).await.unwrap();
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
                stream.flush().await.unwrap();
            }
        });
        for (trust, good) in [(Trust::File(ca), true), (Trust::Anyone, true), (Trust::System, false)] {
            let outcome = Door::new(&url, &trust, SOON).unwrap().ask(GET, false).await;
            assert_eq!(
                matches!(&outcome, Outcome::Answered(answer) if answer.status == 200),
                good,
                "{trust:?} {outcome:?}"
            );
            assert!(good || matches!(&outcome, Outcome::Unreachable(why) if why.starts_with("TLS: ")), "{outcome:?}");
        }
        let none = Trust::File(folder.path().join("none.pem"));
        assert!(matches!(Door::new(&url, &none, SOON), Err(ProbeError::Tls(_))));
    }

    #[tokio::test]
    async fn closed_silent_and_garbled_are_told_apart() {
        for (reply, expected) in
            [(Some(&b"SSH-2.0\r\n"[..]), Outcome::Garbled), (Some(b""), Outcome::Closed), (None, Outcome::Silent)]
        {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let door = url(&format!("http://{}", listener.local_addr().unwrap()));
            let door = Door::new(&door, &Trust::System, Duration::from_millis(300)).unwrap();
            let peer = tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut read = [0; 16];
                stream.read_exact(&mut read).await.unwrap();
                match reply {
                    Some(reply) => stream.write_all(reply).await.unwrap(),
                    None => std::future::pending().await,
                }
            });
            assert_eq!(door.ask(b"GET / HTTP/1.1\r\n", false).await, expected);
            peer.abort();
        }
    }

    #[test]
    fn a_place_is_a_host_and_a_port_without_a_path() {
        for bad in ["ftp://a", "http://a/b", "http://u:p@a/", "http://a/?x", "https://a/#x"] {
            assert!(matches!(Door::new(&url(bad), &Trust::Anyone, SOON), Err(ProbeError::Url(_))), "{bad}");
        }
    }
}
