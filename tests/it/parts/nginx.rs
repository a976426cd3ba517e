//! A real nginx, with the very file that `deploy/nginx/` ships.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Once;

use super::{Tethered, here, missing, port, program, readdressed};
use crate::support::{DEADLINE, TempDir};

/// The file, as shipped: it belongs in `http { }`.
pub const TEMPLATE: &str = include_str!("../../../deploy/nginx/portcullis.conf");

/// The nginx to test with: `$NGINX`, else the one on `$PATH`. Without one the test is skipped on a laptop, and fails where `CI` is
/// `true`.
pub fn nginx_program() -> Option<PathBuf> {
    static ONCE: Once = Once::new();
    let found = program("NGINX", &["nginx"]);
    if found.is_none() {
        missing(&ONCE, "the tests with nginx", "Install nginx, or set NGINX to one.");
    }
    found
}

/// A running nginx, killed when dropped.
pub struct Nginx {
    address: SocketAddr,
    _running: Tethered,
    _dir: TempDir,
}

impl Nginx {
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

    /// Starts one with this file as it is, which listens here.
    pub fn run(program: &Path, file: &str, address: SocketAddr) -> Self {
        let dir = TempDir::new();
        let server = dir.file("portcullis.conf", file);
        let (dir_path, server) = (dir.path().display(), server.display());
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|kind| format!("    {kind}_temp_path {dir_path}/{kind};\n"))
            .collect();
        let config = dir.file(
            "nginx.conf",
            format!(
                "daemon off;\nmaster_process off;\npid {dir_path}/pid;\nerror_log stderr warn;\nevents {{ }}\n\
                 http {{\n    access_log off;\n{temporary}    include {server};\n}}\n"
            ),
        );
        let mut running = Tethered::start(program, |nginx| _ = nginx.arg("-p").arg(dir.path()).arg("-c").arg(config));
        running.until(DEADLINE, |_| TcpStream::connect(address).ok());
        Self { address, _running: running, _dir: dir }
    }

    /// Where it listens for callers.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}
