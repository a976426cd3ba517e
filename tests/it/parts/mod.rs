//! Real programs that the tests start: Redis, OpenID providers, and gateways. None outlives the test binary, however that ends.

pub mod caddy;
pub mod haproxy;
pub mod keycloak;
pub mod nginx;
pub mod oauth;
pub mod oidc_provider;
pub mod redis;
mod tethered;

use std::ffi::OsStr;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

pub use tethered::Tethered;

/// The first of these programs on `$PATH`; one that a variable names comes first, whether it exists or not.
pub fn program(variable: &str, names: &[&str]) -> Option<PathBuf> {
    let named = std::env::var_os(variable).filter(|path| !path.is_empty()).map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = || {
        let dirs: Vec<_> = std::env::split_paths(&path).collect();
        let mut programs = names.iter().flat_map(|name| dirs.iter().map(move |dir| dir.join(name)));
        programs.find(|program| program.is_file())
    };
    named.or_else(found)
}

/// A port of 127.0.0.1 that stays its program's while that is stopped and started again: the system gives ports of this range to
/// nobody who leaves the choice to it.
pub fn port() -> u16 {
    const FIRST: u16 = 12_000;
    const COUNT: u32 = 18_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Two test binaries at a time begin at different places.
    let start = std::process::id().wrapping_mul(101);
    let ports = std::iter::repeat_with(|| {
        let number = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        FIRST + u16::try_from(number).unwrap()
    });
    let mut free = ports.take(1_000).filter(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok());
    free.next().expect("a port is free")
}

/// This port of 127.0.0.1.
pub const fn here(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// A gateway's file of `deploy/` with these addresses replaced, and nothing else; comments stay. Fails where one of them is not in it
/// exactly once.
fn readdressed(template: &str, addresses: &[(&str, String)]) -> String {
    let mut found = vec![0; addresses.len()];
    let mut lines = template.split_inclusive('\n').map(|line| {
        let comment = line.trim_start().starts_with('#');
        // One to a line at most, so that a new address is never taken for a shipped one.
        match addresses.iter().position(|(shipped, _)| line.contains(shipped)).filter(|_| !comment) {
            Some(index) => {
                found[index] += 1;
                line.replace(addresses[index].0, &addresses[index].1)
            }
            None => line.to_owned(),
        }
    });
    let written: String = lines.by_ref().collect();
    drop(lines);
    assert!(found.iter().all(|&count| count == 1), "{addresses:?} are there {found:?} times:\n{template}");
    written
}

/// Says once what is skipped for want of a part, on a laptop; fails where `CI` is `true`.
pub fn missing(once: &Once, what: &str, cure: &str) {
    assert!(std::env::var_os("CI").as_deref() != Some(OsStr::new("true")), "{what} cannot run: {cure}");
    // Not `eprintln!`, which the test runner swallows when a test passes.
    once.call_once(|| _ = writeln!(std::io::stderr(), "SKIPPED: {what}. {cure}"));
}
