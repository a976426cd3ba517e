//! The admin listener: is it alive, is it ready, what has it counted, how are its issuers; and what an operator may change
//! while it runs, with the token of `admin:`.

mod guard;
mod issuers;
mod metrics;
mod revocations;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::config::Settings;
use crate::feed::config::ReloadStatus;
use crate::feed::folder::Folder;
use crate::feed::revocation::Revoker;
use crate::feed::status::Statuses;
use crate::feed::suspension::Suspender;
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
    /// What the policy in force says beside the policy.
    pub settings: watch::Receiver<Arc<Settings>>,
    /// Who suspends issuers.
    pub suspender: Suspender,
    /// The folder of what outlives the process.
    pub folder: Option<Arc<Folder>>,
    /// Who revokes on every replica; `None` where nothing is shared.
    pub revoker: Option<Revoker>,
    /// Whether the listeners serve the certificates that are on disk.
    pub renewals: watch::Receiver<bool>,
    /// True once the process drains.
    pub draining: watch::Receiver<bool>,
}

/// Serves until `stop` turns true.
pub async fn serve(listener: TcpListener, sources: Sources, mut stop: watch::Receiver<bool>) -> std::io::Result<()> {
    let local = listener.local_addr().is_ok_and(|address| address.ip().is_loopback());
    let routes = routes(Arc::new(sources), local);
    let stopped = async move {
        let _ = stop.wait_for(|stop| *stop).await;
    };
    axum::serve(listener, routes).with_graceful_shutdown(stopped).await
}

/// What everyone may read who reaches the listener, and what needs the token: every change, and beyond this machine
/// whatever tells of the policy.
fn routes(sources: Arc<Sources>, local: bool) -> Router {
    let open = Router::new()
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(scrape));
    let told = Router::new().route("/issuers", get(issuers::list));
    let changes = Router::new()
        .route("/issuers/{name}/suspend", post(issuers::suspend))
        .route("/issuers/{name}/resume", post(issuers::resume))
        .route("/revocations", get(revocations::list).post(revocations::add));
    let with_token = || from_fn_with_state(Arc::clone(&sources), guard::with_token);
    let told = if local { told } else { told.route_layer(with_token()) };
    let routes = open.merge(told).merge(changes.route_layer(with_token())).with_state(Arc::clone(&sources));
    if local { routes.layer(from_fn(guard::named_locally)) } else { routes }
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
