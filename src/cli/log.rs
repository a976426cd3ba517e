//! Where the log goes: standard error, as JSON or for reading. What is logged is chosen by `PORTCULLIS_LOG`.

use tracing_subscriber::EnvFilter;

use crate::config::file::Log;

/// Starts the log; `default` is what is logged where `PORTCULLIS_LOG` does not say. A panic is logged by its place only: its message may hold what a caller sent.
pub fn start(format: Log, default: &str) {
    let filter = EnvFilter::try_from_env("PORTCULLIS_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours);
    match format {
        Log::Json => log.json().flatten_event(true).init(),
        Log::Human => log.with_target(false).init(),
    }
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(%place, "a check failed inside portcullis and was denied");
    }));
}
