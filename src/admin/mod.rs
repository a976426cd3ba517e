//! The admin listener: is it alive, is it ready, what has it counted. Reads only; nothing here changes a decision.

mod metrics;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::feed::config::ReloadStatus;
use crate::feed::status::Statuses;
use crate::live::Live;
use crate::observe::audit::Audit;
use crate::observe::metrics::Metrics;
use crate::store::Store;

/// What the admin listener tells of.
#[derive(Clone)]
pub struct Sources {
    /// What is published.
    pub live: Arc<Live>,
    /// What was counted.
    pub metrics: Metrics,
    /// Where audit lines go.
    pub audit: Audit,
    /// What replicas share.
    pub store: Store,
    /// How the feeds of keys are doing.
    pub feeds: watch::Receiver<Arc<Statuses>>,
    /// How reloading is doing.
    pub reloads: watch::Receiver<ReloadStatus>,
    /// Whether the listeners serve the certificates that are on disk.
    pub renewals: watch::Receiver<bool>,
    /// True once the process drains.
    pub draining: watch::Receiver<bool>,
}

/// Serves until `stop` turns true.
pub async fn serve(listener: TcpListener, sources: Sources, mut stop: watch::Receiver<bool>) -> std::io::Result<()> {
    let local = listener.local_addr().is_ok_and(|address| address.ip().is_loopback());
    let routes = Router::new()
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(scrape))
        .with_state(Arc::new(sources));
    // A page in a browser on this machine must not read it by a name of its own that resolves to loopback.
    let routes = if local { routes.layer(from_fn(named_locally)) } else { routes };
    let stopped = async move {
        let _ = stop.wait_for(|stop| *stop).await;
    };
    axum::serve(listener, routes).with_graceful_shutdown(stopped).await
}

/// Ready while a snapshot can be served; one issuer without keys does not take a replica out.
async fn readyz(State(sources): State<Arc<Sources>>) -> (StatusCode, &'static str) {
    if *sources.draining.borrow() {
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n")
    } else if sources.live.borrow().is_none() {
        (StatusCode::SERVICE_UNAVAILABLE, "no policy is loaded\n")
    } else {
        (StatusCode::OK, "ready\n")
    }
}

async fn scrape(State(sources): State<Arc<Sources>>) -> Response {
    const TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match metrics::text(&sources) {
        Ok(text) => ([(header::CONTENT_TYPE, TEXT)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn named_locally(headers: HeaderMap, request: Request, next: Next) -> Response {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if is_local_name(host) { next.run(request).await } else { StatusCode::FORBIDDEN.into_response() }
}

fn is_local_name(host: &str) -> bool {
    let name = host
        .rsplit_once(':')
        .filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()))
        .map_or(host, |(name, _)| name);
    name.eq_ignore_ascii_case("localhost")
        || matches!(host.parse::<SocketAddr>(), Ok(address) if address.ip().is_loopback())
        || name.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test] // S04
    fn only_names_of_this_machine_are_local() {
        for host in ["localhost", "localhost:9001", "LOCALHOST:1", "127.0.0.1:9001", "127.0.0.1", "[::1]:9001", "[::1]"]
        {
            assert!(is_local_name(host), "{host}");
        }
        for host in
            ["", "evil.test", "evil.test:9001", "localhost.evil.test", "127.0.0.1.evil.test", "10.0.0.1:9001", ":9001"]
        {
            assert!(!is_local_name(host), "{host}");
        }
    }
}
