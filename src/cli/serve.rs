//! `portcullis serve`: answers gateways until it is told to stop.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::{PolicyFile, log};
use crate::app::{self, Overrides};
use crate::config::Compiled;
use crate::feed::config::PolicyFile as Followed;
use crate::server::Endpoint;

#[derive(Args)]
pub(super) struct Serve {
    #[command(flatten)]
    policy: PolicyFile,
    /// Where gateways ask: an address, or `unix:/path`; may be given more than once
    #[arg(long, value_name = "ADDRESS")]
    listen: Vec<Endpoint>,
    /// Where health and metrics are served
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<SocketAddr>,
    /// How many cores answer: all by default, but four at most
    #[arg(long, value_name = "N")]
    cores: Option<usize>,
    /// How many seconds to go on answering after SIGTERM, not ready any more, before connections are closed
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    drain_delay: u64,
}

impl Serve {
    /// Runs until SIGTERM or SIGINT, then drains. SIGHUP reloads the policy.
    pub fn run(self) -> ExitCode {
        let Some((file, compiled)) = self.policy.open() else { return ExitCode::FAILURE };
        log::start(compiled.settings.log, "info");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        match runtime {
            Ok(runtime) => runtime.block_on(self.serve(file, compiled)),
            Err(error) => fail(&error),
        }
    }

    async fn serve(self, file: Followed, compiled: Compiled) -> ExitCode {
        let Self { listen, admin, cores, drain_delay, .. } = self;
        let drain_delay = Duration::from_secs(drain_delay);
        let (terminate, interrupt) = match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
            (Ok(terminate), Ok(interrupt)) => (terminate, interrupt),
            (Err(error), _) | (_, Err(error)) => return fail(&error),
        };
        let running =
            match app::start(file, compiled, &Overrides { listen, admin, cores, audit: None, drain_delay }).await {
                Ok(running) => running,
                Err(error) => return fail(&error),
            };
        for address in &running.endpoints {
            tracing::info!(%address, "answering gateways");
        }
        tracing::info!(address = %running.admin, "health and metrics");
        if let Some(address) = running.public {
            tracing::info!(%address, "answering the world");
        }
        let (mut terminate, mut interrupt) = (terminate, interrupt);
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("draining");
        running.drain().await;
        ExitCode::SUCCESS
    }
}

fn fail(error: &dyn std::error::Error) -> ExitCode {
    for line in error.to_string().lines() {
        tracing::error!("{line}");
    }
    ExitCode::FAILURE
}
