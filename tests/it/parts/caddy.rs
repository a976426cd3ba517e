//! A real Caddy, with the very file that `deploy/caddy/` ships.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Once;

use super::{Tethered, here, missing, port, program, readdressed};
use crate::support::{DEADLINE, TempDir};

/// The file, as shipped.
pub const TEMPLATE: &str = include_str!("../../../deploy/caddy/Caddyfile");

/// The Caddy to test with: `$CADDY`, else the one on `$PATH`. Without one the test is skipped on a laptop, and fails where `CI` is
/// `true`.
pub fn caddy_program() -> Option<PathBuf> {
    static ONCE: Once = Once::new();
    let found = program("CADDY", &["caddy"]);
    if found.is_none() {
        missing(&ONCE, "the tests with Caddy", "Install caddy, or set CADDY to one.");
    }
    found
}

/// A running Caddy, killed when dropped.
pub struct Caddy {
    address: SocketAddr,
    _running: Tethered,
    _dir: TempDir,
}

impl Caddy {
    /// Starts one with this variant of [`TEMPLATE`] on a free port, and waits until it takes connections.
    pub fn start(program: &Path, template: &str, portcullis: SocketAddr, upstream: SocketAddr) -> Self {
        let address = here(port());
        let addresses = [
            ("http://:8000", format!("http://:{}", address.port())),
            ("127.0.0.1:9002", portcullis.to_string()),
            ("127.0.0.1:8080", upstream.to_string()),
        ];
        Self::run(program, &readdressed(template, &addresses), address)
    }

    /// Starts one with this file as it is, which listens here.
    pub fn run(program: &Path, file: &str, address: SocketAddr) -> Self {
        let dir = TempDir::new();
        let config = dir.file("Caddyfile", file);
        let mut running = Tethered::start(program, |caddy| {
            caddy.args(["run", "--adapter", "caddyfile", "--config"]).arg(config);
            // It keeps what it last ran in its home.
            caddy.env("HOME", dir.path()).env("XDG_CONFIG_HOME", dir.path()).env("XDG_DATA_HOME", dir.path());
        });
        running.until(DEADLINE, |_| TcpStream::connect(address).ok());
        Self { address, _running: running, _dir: dir }
    }

    /// Where it listens for callers.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}
