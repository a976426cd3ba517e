//! What the tests with real programs share: temporary directories, child processes that end with the test, and the Envoy to use.

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use portcullis::dev::envoy::{self, Envoy, Ports};
use tokio::process::{Child, Command};

use portcullis::dev::wire::{Answer, exchange};

/// Longer than anything here takes, so that only a hang reaches it.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// A loopback address whose port the system picks at binding.
pub const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// The Envoy to test with. Without one a test is skipped on a laptop, and fails where `CI` is `true`.
pub fn envoy_program() -> Option<PathBuf> {
    let found = envoy::find(None);
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "no Envoy: run `make setup`, or set ENVOY");
        // Not `eprintln!`, which the test runner swallows when a test passes.
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            _ = std::io::stderr().write_all(b"SKIPPED: the tests with Envoy. Run `make setup`, or set ENVOY to one.\n");
        });
    }
    found
}

/// An Envoy on free ports, with the very file that `deploy/` ships, asking `portcullis` and passing on to `upstream`.
pub async fn start_envoy(program: &Path, portcullis: SocketAddr, upstream: SocketAddr) -> Envoy {
    start_envoy_with(program, envoy::TEMPLATE, portcullis, upstream).await
}

/// The same with a variant of that file.
pub async fn start_envoy_with(program: &Path, template: &str, portcullis: SocketAddr, upstream: SocketAddr) -> Envoy {
    let ports = Ports { listener: 0, portcullis: portcullis.port(), upstream: upstream.port(), admin: 0 };
    let config = envoy::configure(template, ports).unwrap();
    Envoy::start(program, &config).await.unwrap_or_else(|error| panic!("{error}"))
}

/// An address where nobody listens: bound and released, so that another program may in theory take it. Only for "cannot connect".
pub fn deserted_address() -> SocketAddr {
    std::net::TcpListener::bind(ANY_PORT).unwrap().local_addr().unwrap()
}

/// One request on a connection of its own.
pub async fn ask(to: SocketAddr, raw: impl AsRef<[u8]>) -> Answer {
    exchange(to, raw.as_ref(), DEADLINE).await.unwrap_or_else(|error| panic!("{to}: {error}"))
}

/// A directory of its own, removed when dropped.
pub struct TempDir(PathBuf);

impl TempDir {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("portcullis-test-{}-{number}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        Self(dir)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file in it.
    pub fn file(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A child process whose output is kept. It is killed when dropped. `portcullis` itself is at `env!("CARGO_BIN_EXE_portcullis")`.
pub struct Process {
    child: Child,
    dir: TempDir,
}

impl Process {
    /// Starts it, with standard output and standard error in one log.
    pub fn start(command: &mut Command) -> Self {
        let dir = TempDir::new();
        let log = fs::File::create(dir.path().join("log")).unwrap();
        let piped = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).kill_on_drop(true);
        let child = piped.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self { child, dir }
    }

    /// Everything it has printed.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.dir.path().join("log")).unwrap()).into_owned()
    }

    /// Waits until it has printed a line that holds `text`, and returns that line.
    pub async fn line_with(&mut self, text: &str) -> String {
        let found = async {
            loop {
                let ended = self.child.try_wait().unwrap();
                let log = self.log();
                if let Some(line) = log.split_inclusive('\n').find(|line| line.ends_with('\n') && line.contains(text)) {
                    return line.trim_end().to_owned();
                }
                if let Some(status) = ended {
                    panic!("it ended ({status}) without printing {text:?}:\n{log}");
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        match tokio::time::timeout(DEADLINE, found).await {
            Ok(line) => line,
            Err(_) => panic!("it did not print {text:?} in time:\n{}", self.log()),
        }
    }

    /// Sends it a signal, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().expect("it runs").to_string();
        assert!(std::process::Command::new("/bin/kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Waits until it ends by itself.
    pub async fn ended(&mut self) -> std::process::ExitStatus {
        tokio::time::timeout(DEADLINE, self.child.wait()).await.expect("it did not end in time").unwrap()
    }
}

#[tokio::test]
async fn a_childs_lines_are_kept_and_awaited() {
    let dir = TempDir::new();
    let script = dir.file("script.sh", "echo one; echo listening on 7 >&2; echo rest");
    let mut child = Process::start(Command::new("/bin/sh").arg(script));
    assert_eq!(child.line_with("listening").await, "listening on 7");
    assert!(child.ended().await.success());
    assert_eq!(child.log(), "one\nlistening on 7\nrest\n");
}
