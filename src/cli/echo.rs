//! `portcullis echo`: an upstream that answers with exactly what reached it, for `portcullis probe`.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Args;

use super::{fail, print};
use crate::probe::echo::Echo as Running;

#[derive(Args)]
pub(super) struct Echo {
    /// Where it listens. It tells whoever asks what they sent, and keeps nothing
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
}

impl Echo {
    /// Runs until it is told to stop.
    pub fn run(self) -> ExitCode {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return fail(error),
        };
        runtime.block_on(async {
            match Running::start(self.listen).await {
                Ok(echo) => {
                    print(format_args!("echo {} listens on http://{}; Ctrl-C stops it\n", echo.id(), echo.address()));
                    std::future::pending().await
                }
                Err(error) => fail(format_args!("cannot listen on {}: {error}", self.listen)),
            }
        })
    }
}
