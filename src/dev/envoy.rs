//! Finds, starts and stops a real Envoy with the configuration that `deploy/envoy/envoy.yaml` ships.

use std::ffi::OsStr;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use std::{env, fs, io};

use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use super::folder::Folder;
use super::wire::{Answer, exchange};

/// `deploy/envoy/envoy.yaml`, as shipped.
pub const TEMPLATE: &str = include_str!("../../deploy/envoy/envoy.yaml");

/// A first start reads a 100 MB binary from a cold disk, perhaps beside a compiler.
const START_DEADLINE: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(20);
const ADMIN_DEADLINE: Duration = Duration::from_secs(5);
const LOG_TAIL_BYTES: usize = 8 * 1024;

/// The four loopback ports of the configuration. `listener` and `admin` may be 0: Envoy then takes free ones, and says which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// Where callers connect.
    pub listener: u16,
    /// Where portcullis answers `Check`.
    pub portcullis: u16,
    /// Where the application listens.
    pub upstream: u16,
    /// Envoy's admin interface.
    pub admin: u16,
}

/// The ports as written in [`TEMPLATE`].
pub const SHIPPED_PORTS: Ports = Ports { listener: 8000, portcullis: 9000, upstream: 8080, admin: 9901 };

/// Why an Envoy could not be started.
#[derive(Debug, thiserror::Error)]
pub enum EnvoyError {
    /// The template does not hold this port exactly once.
    #[error("the configuration has `port_value: {port}` {found} times, not once")]
    Template {
        /// The port as shipped.
        port: u16,
        /// How often it is there.
        found: usize,
    },
    /// A file could not be written or the program not be run.
    #[error("cannot start {program}: {source}")]
    Spawn {
        /// The program or file.
        program: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It ended before it was ready.
    #[error("envoy ended before it was ready ({status}):\n{log}")]
    Ended {
        /// How it ended.
        status: String,
        /// The end of what it printed.
        log: String,
    },
    /// It was not ready in time.
    #[error("envoy was not ready within {} s:\n{log}", START_DEADLINE.as_secs())]
    Late {
        /// The end of what it printed.
        log: String,
    },
}

/// The template with its four port numbers replaced, and nothing else.
///
/// # Errors
/// [`EnvoyError::Template`] where one of [`SHIPPED_PORTS`] is not in it exactly once.
pub fn configure(template: &str, ports: Ports) -> Result<String, EnvoyError> {
    let replacements = [
        (SHIPPED_PORTS.listener, ports.listener),
        (SHIPPED_PORTS.portcullis, ports.portcullis),
        (SHIPPED_PORTS.upstream, ports.upstream),
        (SHIPPED_PORTS.admin, ports.admin),
    ];
    let mut found = [0_usize; 4];
    let mut pieces = template.split("port_value: ");
    let mut configured = pieces.next().unwrap_or_default().to_owned();
    // One pass, so that a new number is never taken for a shipped one.
    for piece in pieces {
        let rest = piece.trim_start_matches(|c: char| c.is_ascii_digit());
        let shipped = piece.strip_suffix(rest).unwrap_or_default();
        let mut number = shipped.to_owned();
        for ((old, new), count) in replacements.iter().zip(&mut found) {
            if shipped == old.to_string() {
                *count = count.saturating_add(1);
                number = new.to_string();
            }
        }
        configured.push_str("port_value: ");
        configured.push_str(&number);
        configured.push_str(rest);
    }
    match replacements.iter().zip(found).find(|(_, count)| *count != 1) {
        Some((&(port, _), found)) => Err(EnvoyError::Template { port, found }),
        None => Ok(configured),
    }
}

/// The Envoy to use: the one asked for, else `$ENVOY`, else `.venv/bin/envoy` below the working directory, else the first on `$PATH`.
///
/// One that is asked for by argument or by `$ENVOY` is returned whether it exists or not, so that a mistyped path is an error at
/// start and not another Envoy.
#[must_use]
pub fn find(asked_for: Option<&Path>) -> Option<PathBuf> {
    let named =
        asked_for.map(Path::to_owned).or_else(|| env::var_os("ENVOY").filter(|v| !v.is_empty()).map(PathBuf::from));
    named.or_else(|| search(Path::new(".venv/bin"), env::var_os("PATH").as_deref()))
}

fn search(first: &Path, path: Option<&OsStr>) -> Option<PathBuf> {
    let on_path = path.into_iter().flat_map(env::split_paths);
    std::iter::once(first.to_owned()).chain(on_path).map(|dir| dir.join("envoy")).find(|program| program.is_file())
}

/// A running Envoy. It is killed, and its files removed, when dropped.
#[derive(Debug)]
pub struct Envoy {
    child: Child,
    files: Files,
    listener: SocketAddr,
    admin: SocketAddr,
}

impl Envoy {
    /// Starts an Envoy with this configuration and waits until it is live and every listener is bound.
    ///
    /// A configured port 0 is resolved: no port is chosen before it is bound, so there is no race for one.
    ///
    /// # Errors
    /// Why it is not running, with the end of its log.
    pub async fn start(program: &Path, config: &str) -> Result<Self, EnvoyError> {
        let spawn = |source| EnvoyError::Spawn { program: program.to_owned(), source };
        let files = Files::create(config).map_err(spawn)?;
        let log = fs::File::create(files.log()).map_err(spawn)?;
        let child = Command::new(program)
            .arg("--config-path")
            .arg(files.config())
            .arg("--admin-address-path")
            .arg(files.admin())
            // Envoys of parallel tests would share the hot-restart socket of one base id.
            .args(["--disable-hot-restart", "--concurrency", "2", "--log-level", "warn"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(spawn)?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .map_err(spawn)?;
        let nowhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        let mut envoy = Self { child, files, listener: nowhere, admin: nowhere };
        envoy.wait_until_live().await?;
        Ok(envoy)
    }

    /// Where it listens for callers.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.listener
    }

    /// Where its admin interface listens.
    #[must_use]
    pub const fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// The end of what it printed: warnings, and a line a request.
    #[must_use]
    pub fn log(&self) -> String {
        self.files.log_tail()
    }

    /// Waits until it ends; a reason to stop where it was meant to run on.
    ///
    /// # Errors
    /// What the system says.
    pub async fn ended(&mut self) -> io::Result<std::process::ExitStatus> {
        self.child.wait().await
    }

    /// Asks it to end and waits until it has; kills it where it does not.
    pub async fn stop(mut self) {
        let request = format!(
            "POST /quitquitquit HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            self.admin
        );
        // Where it cannot be asked it is ending already, or is killed below.
        let _ = exchange(self.admin, request.as_bytes(), ADMIN_DEADLINE).await;
        if timeout(ADMIN_DEADLINE, self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
    }

    async fn wait_until_live(&mut self) -> Result<(), EnvoyError> {
        let deadline = Instant::now().checked_add(START_DEADLINE);
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(EnvoyError::Ended { status: status.to_string(), log: self.log() });
            }
            if let Some((admin, listener)) = self.addresses().await {
                (self.admin, self.listener) = (admin, listener);
                return Ok(());
            }
            if deadline.is_none_or(|deadline| Instant::now() > deadline) {
                return Err(EnvoyError::Late { log: self.log() });
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    /// The admin address and the first listener's, once it is live.
    async fn addresses(&self) -> Option<(SocketAddr, SocketAddr)> {
        let admin = fs::read_to_string(self.files.admin()).ok()?.trim().parse().ok()?;
        let ready = ask(admin, "/ready").await?;
        if ready.status != 200 || ready.text().trim() != "LIVE" {
            return None;
        }
        let listeners = ask(admin, "/listeners?format=json").await?.json().ok()?;
        let socket = listeners.pointer("/listener_statuses/0/local_address/socket_address")?;
        let port = u16::try_from(socket.get("port_value")?.as_u64()?).ok()?;
        let ip = socket.get("address")?.as_str()?.parse().ok()?;
        Some((admin, SocketAddr::new(ip, port)))
    }
}

/// What the admin interface answers to a GET.
async fn ask(admin: SocketAddr, path: &str) -> Option<Answer> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
    timeout(ADMIN_DEADLINE, exchange(admin, request.as_bytes(), ADMIN_DEADLINE)).await.ok()?.ok()
}

/// One Envoy's files.
#[derive(Debug)]
struct Files(Folder);

impl Files {
    fn create(config: &str) -> io::Result<Self> {
        let files = Self(Folder::create("envoy")?);
        fs::write(files.config(), config)?;
        Ok(files)
    }

    fn config(&self) -> PathBuf {
        self.0.path().join("envoy.yaml")
    }

    fn admin(&self) -> PathBuf {
        self.0.path().join("admin.txt")
    }

    fn log(&self) -> PathBuf {
        self.0.path().join("envoy.log")
    }

    fn log_tail(&self) -> String {
        let log = fs::read(self.log()).unwrap_or_default();
        let tail = log.get(log.len().saturating_sub(LOG_TAIL_BYTES)..).unwrap_or_default();
        String::from_utf8_lossy(tail).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORTS: Ports = Ports { listener: 9000, portcullis: 8080, upstream: 9901, admin: 0 };

    #[test]
    fn the_shipped_configuration_keeps_everything_but_its_ports() {
        let configured = configure(TEMPLATE, PORTS).unwrap();
        let changed: Vec<_> = TEMPLATE.lines().zip(configured.lines()).filter(|(old, new)| old != new).collect();
        assert_eq!(changed.len(), 4);
        assert_eq!(TEMPLATE.lines().count(), configured.lines().count());
        assert!(changed.iter().all(|(old, _)| old.contains("port_value: ")));
        assert_eq!(configure(TEMPLATE, SHIPPED_PORTS).unwrap(), TEMPLATE);
    }

    #[test]
    fn ports_may_be_exchanged_for_one_another() {
        let template = "port_value: 8000 }\nport_value: 9000\nport_value: 80801\nport_value: 8080\nport_value: 9901";
        let configured = configure(template, PORTS).unwrap();
        assert_eq!(
            configured,
            "port_value: 9000 }\nport_value: 8080\nport_value: 80801\nport_value: 9901\nport_value: 0"
        );
    }

    #[test]
    fn a_port_that_is_missing_or_repeated_is_an_error() {
        let without = configure("port_value: 9000 port_value: 8080 port_value: 9901", PORTS);
        assert!(matches!(without, Err(EnvoyError::Template { port: 8000, found: 0 })));
        let twice = configure(&format!("{TEMPLATE}port_value: 9901"), PORTS);
        assert!(matches!(twice, Err(EnvoyError::Template { port: 9901, found: 2 })));
    }

    #[test]
    fn the_one_asked_for_is_never_replaced_by_another() {
        assert_eq!(find(Some(Path::new("/nowhere/envoy"))), Some(PathBuf::from("/nowhere/envoy")));
    }

    #[test]
    fn the_virtual_environment_comes_before_the_path() {
        let files = Files::create("").unwrap();
        let (venv, path) = (files.0.path().join("venv"), files.0.path().join("path"));
        for dir in [&venv, &path] {
            fs::create_dir(dir).unwrap();
        }
        fs::write(path.join("envoy"), "").unwrap();
        assert_eq!(search(&venv, Some(path.as_os_str())), Some(path.join("envoy")));
        fs::write(venv.join("envoy"), "").unwrap();
        assert_eq!(search(&venv, Some(path.as_os_str())), Some(venv.join("envoy")));
        assert_eq!(search(&path.join("none"), None), None);
    }

    #[tokio::test]
    async fn an_envoy_that_ends_at_once_is_an_error_with_its_log() {
        let error = Envoy::start(Path::new("/bin/ls"), "").await.unwrap_err();
        assert!(matches!(&error, EnvoyError::Ended { log, .. } if log.contains("--config-path")), "{error}");
    }

    #[tokio::test]
    async fn a_program_that_does_not_exist_is_an_error_that_names_it() {
        let error = Envoy::start(Path::new("/nowhere/envoy"), "").await.unwrap_err();
        assert!(error.to_string().starts_with("cannot start /nowhere/envoy: "));
    }
}
