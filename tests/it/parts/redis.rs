//! A real Redis (or Valkey) of one's own: with an ACL, over TCP, TLS and a unix socket; stopped, paused, filled, and started again empty.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::{Tethered, missing, port, program};
use crate::support::{DEADLINE, TempDir};

/// Whom portcullis connects as, and with which password.
pub const USER: &str = "portcullis";
pub const PASSWORD: &str = "store-secret-0f3c";

/// What that user may: data and channels below any prefix, nothing that administers.
const RULES: &str = "~* &* +@all -@admin -@dangerous";

/// Who steers the tests' server.
const STEERER: &str = "steerer";

/// A server that keeps its port, its certificate and its users from one start to the next, and no data.
pub struct Redis {
    program: PathBuf,
    dir: TempDir,
    port: u16,
    tls_port: u16,
    running: Option<Tethered>,
}

/// The server to test with: `$REDIS_SERVER`, else the first of `redis-server` and `valkey-server` on `$PATH`. Without one the test
/// is skipped on a laptop, and fails where `CI` is `true`.
pub fn redis_program() -> Option<PathBuf> {
    static ONCE: Once = Once::new();
    let found = program("REDIS_SERVER", &["redis-server", "valkey-server"]);
    if found.is_none() {
        missing(&ONCE, "the tests with Redis", "Install redis-server, or set REDIS_SERVER to one.");
    }
    found
}

impl Redis {
    /// Starts one on free ports and waits until it answers.
    pub fn start(program: &Path) -> Self {
        Self::start_with(program, RULES)
    }

    /// The same with other rules for [`USER`], in the language of `ACL SETUSER`.
    pub fn start_with(program: &Path, rules: &str) -> Self {
        Self::start_configured(program, rules, "")
    }

    /// The same with more lines for its configuration.
    pub fn start_configured(program: &Path, rules: &str, more: &str) -> Self {
        let dir = TempDir::new();
        certify(&dir);
        let (port, tls_port) = (port(), port());
        let path = dir.path().display();
        let config = format!(
            "bind 127.0.0.1\nport {port}\nunixsocket {path}/socket\ndir {path}\nsave \"\"\nappendonly no\nshutdown-timeout 0\n\
             tls-port {tls_port}\ntls-cert-file {path}/cert.pem\ntls-key-file {path}/key.pem\ntls-ca-cert-file {path}/ca.pem\n\
             tls-auth-clients no\nuser default off\nuser {USER} on >{PASSWORD} {rules}\n\
             user {STEERER} on >{PASSWORD} ~* &* +@all\n{more}\n"
        );
        dir.file("redis.conf", config);
        let mut redis = Self { program: program.to_owned(), dir, port, tls_port, running: None };
        redis.restart();
        redis
    }

    /// `redis://` over TCP; without user and password.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// `rediss://` over TLS; the certificate is for `localhost`, signed by [`Self::ca`].
    pub fn tls_url(&self) -> String {
        format!("rediss://localhost:{}", self.tls_port)
    }

    /// Where it listens without TLS.
    pub fn address(&self) -> (&'static str, u16) {
        ("127.0.0.1", self.port)
    }

    /// Where it listens with TLS; see [`Self::tls_url`].
    pub fn tls_address(&self) -> (&'static str, u16) {
        ("localhost", self.tls_port)
    }

    /// Where its unix socket is.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("socket")
    }

    /// The file with the certificate that signed the server's, in PEM.
    pub fn ca(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// Ends it at once, as a crash would.
    pub fn kill(&mut self) {
        self.running = None;
    }

    /// Starts it again, empty, where it was; ends it before where it runs.
    pub fn restart(&mut self) {
        self.kill();
        let _ = fs::remove_file(self.socket());
        let config = self.dir.path().join("redis.conf");
        let mut running = Tethered::start(&self.program, |command| _ = command.arg(config));
        // The socket is bound last, and accepted from when everything is loaded.
        running.until(DEADLINE, |_| (Steering::connect(&self.socket())?.command(&["PING"])? == "+PONG").then_some(()));
        self.running = Some(running);
    }

    /// It takes connections and bytes and answers nothing, until [`Self::resume`].
    pub fn pause(&self) {
        self.running.as_ref().expect("it runs").signal("STOP");
    }

    pub fn resume(&self) {
        self.running.as_ref().expect("it runs").signal("CONT");
    }

    /// From now on every write is refused for want of memory; what is there stays.
    pub fn fill(&self) {
        assert_eq!(self.command(&["CONFIG", "SET", "maxmemory", "1"]), "+OK");
    }

    /// Writes are taken again.
    pub fn drain(&self) {
        assert_eq!(self.command(&["CONFIG", "SET", "maxmemory", "0"]), "+OK");
    }

    /// Asks it anything as one who may all: the reply's first line (`+OK`, `:1`, `-ERR …`, `*2`), or a string's text.
    pub fn command(&self, words: &[&str]) -> String {
        Steering::connect(&self.socket()).and_then(|mut steering| steering.command(words)).expect("it runs")
    }
}

/// A connection over the socket.
struct Steering(BufReader<UnixStream>);

impl Steering {
    fn connect(socket: &Path) -> Option<Self> {
        let stream = UnixStream::connect(socket).ok()?;
        stream.set_read_timeout(Some(DEADLINE)).ok()?;
        let mut steering = Self(BufReader::new(stream));
        (steering.command(&["AUTH", STEERER, PASSWORD])? == "+OK").then_some(steering)
    }

    fn command(&mut self, words: &[&str]) -> Option<String> {
        let mut raw = format!("*{}\r\n", words.len());
        for word in words {
            raw.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        self.0.get_mut().write_all(raw.as_bytes()).ok()?;
        let mut line = String::new();
        self.0.read_line(&mut line).ok()?;
        let line = line.strip_suffix("\r\n")?;
        let Some(length) = line.strip_prefix('$').and_then(|length| length.parse().ok()) else {
            return Some(line.to_owned());
        };
        let mut text = vec![0; length];
        self.0.read_exact(&mut text).ok()?;
        String::from_utf8(text).ok()
    }
}

fn certify(dir: &TempDir) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = Issuer::new(params.clone(), KeyPair::generate().unwrap());
    dir.file("ca.pem", params.self_signed(ca.key()).unwrap().pem());
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    dir.file("cert.pem", params.signed_by(&key, &ca).unwrap().pem());
    dir.file("key.pem", key.serialize_pem());
}

#[test]
fn it_is_filled_drained_paused_and_comes_back_empty() {
    let Some(program) = redis_program() else { return };
    let mut redis = Redis::start(&program);
    assert_eq!(redis.command(&["SET", "a", "1"]), "+OK");
    redis.fill();
    assert!(redis.command(&["SET", "b", "1"]).starts_with("-OOM"));
    redis.drain();
    assert_eq!(redis.command(&["GET", "a"]), "1");

    redis.pause();
    let mut silent = UnixStream::connect(redis.socket()).unwrap();
    silent.write_all(b"PING\r\n").unwrap();
    // Only one that is not paused answers within this time.
    silent.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert_eq!(silent.read(&mut [0; 8]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    redis.resume();
    assert_eq!(redis.command(&["GET", "a"]), "1");

    let address = redis.url().split_off("redis://".len());
    redis.kill();
    assert!(TcpStream::connect(&address).is_err());
    redis.restart();
    assert_eq!(redis.command(&["GET", "a"]), "$-1");
    let forbidden = redis.command(&["ACL", "DRYRUN", USER, "CONFIG", "GET", "*"]);
    assert!(forbidden.contains("no permission"), "{forbidden}");

    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(redis.ca()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(builder.with_root_certificates(roots).with_no_client_auth());
    let tls = ClientConnection::new(config, ServerName::try_from("localhost").unwrap()).unwrap();
    let address = redis.tls_url().replace("rediss://localhost", "127.0.0.1");
    let mut stream = StreamOwned::new(tls, TcpStream::connect(address).unwrap());
    stream.write_all(format!("AUTH {USER} {PASSWORD}\r\n").as_bytes()).unwrap();
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"+OK\r\n");
}
