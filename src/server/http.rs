//! One connection of HTTP/1.1, bounded in time and size: which path is answered by which dialect.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderValue, TRANSFER_ENCODING};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tonic_health::server::{HealthReporter, HealthService};

use super::connection::{GRACE, closing};
use super::grpc::{Answering, Health};
use super::idle::{Heard, Timed, Times};
use super::json;
use super::purse::{Purse, Treasury};
use crate::authorizer::Authorizer;
use crate::authz::certificate::Holder;
use crate::authz::request::{Asker, Proof};
use crate::gateway::forward;

/// How large the head of a request may be, in bytes.
const MAX_HEAD: usize = 128 * 1024;
/// How many header lines it may have.
const MAX_LINES: usize = 512;

/// Serves a connection until the peer closes it or rests too long, its age is over, or all are told to stop.
pub(super) async fn serve(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    answering: Answering,
    stop: watch::Receiver<bool>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let heard = Heard::default();
    let io = TokioIo::new(Timed::new(io, heard.clone(), Times::OURS));
    let service = service_fn(move |request| {
        heard.whole();
        let (answer, heard) = (answer(request, answering.clone()), heard.clone());
        async move {
            let answer = answer.await;
            heard.whole();
            Ok::<_, Infallible>(answer)
        }
    });
    let mut builder = http1::Builder::new();
    builder.header_read_timeout(None).max_buf_size(MAX_HEAD).max_headers(MAX_LINES);
    let mut connection = pin!(builder.serve_connection(io, service));
    tokio::select! {
        ended = connection.as_mut() => return Ok(ended?),
        () = closing(stop) => connection.as_mut().graceful_shutdown(),
    }
    tokio::time::timeout(GRACE, connection).await??;
    Ok(())
}

/// Serves one connection of HTTP/1.1 of this peer, as the cores do, for whoever has accepted it.
///
/// # Errors
/// How the connection ended badly.
pub async fn serve_one(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    authorizer: Arc<Authorizer>,
    asker: Asker,
    holder: Option<Arc<Holder>>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let health = Health::new(HealthService::from_health_reporter(HealthReporter::new()));
    let purse = Purse::new(&Treasury::default());
    let (_stop, stopped) = watch::channel(false);
    serve(io, Answering { authorizer, health, asker, holder, purse, secure: false }, stopped).await
}

/// Answers one request. What no dialect answers is 404, which lets nothing pass.
async fn answer(request: Request<Incoming>, answering: Answering) -> Response<Full<Bytes>> {
    // Two lengths of one body: what follows could be a question to us, and a part of it to the gateway.
    if request.headers().contains_key(CONTENT_LENGTH) && request.headers().contains_key(TRANSFER_ENCODING) {
        return hung_up();
    }
    if json::answers(request.uri().path()) {
        return json::answer(request, answering).await.map(Full::new);
    }
    let Answering { authorizer, asker, holder, .. } = answering;
    let (head, _body) = request.into_parts();
    let proof = Proof { holder: holder.as_deref(), metadata: Some(&head.headers) };
    let answer = match head.uri.path() {
        // A question told in the head: its body, if it has one, is not read.
        path if path.starts_with(forward::PATHS) => forward::check(&authorizer, asker, proof, &head).await,
        _ => nothing_here(),
    };
    answer.map(Full::new)
}

fn hung_up() -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::BAD_REQUEST;
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}

fn nothing_here() -> Response<Bytes> {
    let mut answer = Response::new(Bytes::new());
    *answer.status_mut() = StatusCode::NOT_FOUND;
    answer
}
