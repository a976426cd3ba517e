//! A server under test: a process on chosen cores, and what the kernel tells about it.

use std::ffi::OsStr;
use std::fs::{File, read_dir, read_to_string};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A running server. It ends when this is dropped.
pub struct Server {
    child: Child,
    /// Where it answers.
    pub address: SocketAddr,
    /// Where it tells its metrics.
    pub admin: Option<SocketAddr>,
    /// Whether it says yes to whatever is asked.
    pub says_yes: bool,
}

impl Server {
    /// Starts a program on these cores (as `taskset -c` writes them). Its log goes to a file.
    pub fn start(
        cores: &str,
        program: &Path,
        arguments: &[impl AsRef<OsStr>],
        address: SocketAddr,
        log: &Path,
        says_yes: bool,
    ) -> io::Result<Self> {
        let log = File::options().create(true).append(true).open(log)?;
        let child = Command::new("taskset")
            .args(["-c", cores])
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        Ok(Self { child, address, admin: None, says_yes })
    }

    /// Tells the CPU time that all its threads have used.
    pub fn cpu_probe(&self) -> impl Fn() -> Duration + use<> {
        let folder = format!("/proc/{}/task", self.child.id());
        move || cpu_of(&folder)
    }

    /// The value of one of its metrics.
    #[must_use]
    pub fn metric(&self, name: &str) -> Option<String> {
        let admin = self.admin?;
        let mut stream = TcpStream::connect(admin).ok()?;
        write!(stream, "GET /metrics HTTP/1.1\r\nhost: {admin}\r\nconnection: close\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let line = text.lines().find(|line| !line.starts_with('#') && line.contains(name))?;
        line.rsplit(' ').next().map(str::to_owned)
    }

    /// The memory that it holds, in MiB.
    #[must_use]
    pub fn resident(&self) -> f64 {
        let text = read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
        kib.unwrap_or(f64::NAN) / 1024.0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The CPU time that the threads in such a folder have used.
#[must_use]
pub fn cpu_of(folder: &str) -> Duration {
    let tasks = read_dir(folder).into_iter().flatten().flatten();
    let used = tasks.filter_map(|task| -> Option<u64> {
        let text = read_to_string(task.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse().ok()
    });
    Duration::from_nanos(used.sum())
}

/// A loopback address that nothing listens on.
pub fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}
