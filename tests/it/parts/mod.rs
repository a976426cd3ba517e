//! Real programs that the tests start: Redis, and OpenID providers. None outlives the test binary, however that ends.

pub mod keycloak;
pub mod oauth;
pub mod oidc_provider;
pub mod redis;
mod tethered;

use std::ffi::OsStr;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
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

/// Says once what is skipped for want of a part, on a laptop; fails where `CI` is `true`.
pub fn missing(once: &Once, what: &str, cure: &str) {
    assert!(std::env::var_os("CI").as_deref() != Some(OsStr::new("true")), "{what} cannot run: {cure}");
    // Not `eprintln!`, which the test runner swallows when a test passes.
    once.call_once(|| _ = writeln!(std::io::stderr(), "SKIPPED: {what}. {cure}"));
}
