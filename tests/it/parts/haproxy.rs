//! A real HAProxy, with the very files that `deploy/haproxy/` ships.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Once;

use super::{Tethered, here, missing, port, program, readdressed};
use crate::support::{DEADLINE, TempDir};

/// The files, as shipped.
pub const TEMPLATE: &str = include_str!("../../../deploy/haproxy/haproxy.cfg");
const ACTION: &str = include_str!("../../../deploy/haproxy/portcullis.lua");

/// Where [`TEMPLATE`] looks for the action.
const ACTION_PATH: &str = "/etc/haproxy/portcullis.lua";

/// The HAProxy to test with: `$HAPROXY`, else the one on `$PATH`. Without one the test is skipped on a laptop, and fails where `CI`
/// is `true`.
pub fn haproxy_program() -> Option<PathBuf> {
    static ONCE: Once = Once::new();
    let found = program("HAPROXY", &["haproxy"]);
    if found.is_none() {
        missing(&ONCE, "the tests with HAProxy", "Install haproxy, or set HAPROXY to one.");
    }
    found
}

/// A running HAProxy, killed when dropped.
pub struct Haproxy {
    address: SocketAddr,
    _running: Tethered,
    _dir: TempDir,
}

impl Haproxy {
    /// Starts one with this variant of [`TEMPLATE`] on a free port, and waits until it takes connections.
    pub fn start(program: &Path, template: &str, portcullis: SocketAddr, upstream: SocketAddr) -> Self {
        let address = here(port());
        let addresses = [
            ("127.0.0.1:8000", address.to_string()),
            ("127.0.0.1:9002", portcullis.to_string()),
            ("127.0.0.1:8080", upstream.to_string()),
        ];
        Self::run(program, &readdressed(template, &addresses), address)
    }

    /// Starts one with this file, in which only the action's path is another, and which listens here.
    pub fn run(program: &Path, template: &str, address: SocketAddr) -> Self {
        let dir = TempDir::new();
        let action = dir.file("portcullis.lua", ACTION);
        assert_eq!(template.matches(ACTION_PATH).count(), 1, "{ACTION_PATH}");
        let template = template.replace(ACTION_PATH, action.to_str().unwrap());
        let config = dir.file("haproxy.cfg", template);
        let mut running = Tethered::start(program, |haproxy| _ = haproxy.args(["-db", "-f"]).arg(config));
        running.until(DEADLINE, |_| TcpStream::connect(address).ok());
        Self { address, _running: running, _dir: dir }
    }

    /// Where it listens for callers.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}
