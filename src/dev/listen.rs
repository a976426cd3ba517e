//! The HTTP/1 and HTTP/2 listener under the dev issuer and the dev upstream: loopback only, closed when dropped.

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

/// What a request is answered with; `None` closes the connection without an answer.
pub(super) type Reply = Option<Response<Full<Bytes>>>;

/// A bound listener that is not answering yet.
#[derive(Debug)]
pub(super) struct Bound {
    listener: TcpListener,
    address: SocketAddr,
}

impl Bound {
    /// Binds a loopback address; port 0 takes a free one.
    ///
    /// # Errors
    /// [`ErrorKind::PermissionDenied`] for an address that others can reach; else what binding says.
    pub(super) async fn to(at: SocketAddr) -> Result<Self> {
        if !at.ip().is_loopback() {
            return Err(Error::new(ErrorKind::PermissionDenied, "dev services listen on loopback only"));
        }
        let listener = TcpListener::bind(at).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// Where it listens.
    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers every request with `respond`.
    pub(super) fn serve<R, F>(self, respond: R) -> Listener
    where
        R: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Reply> + Send + 'static,
    {
        Listener { address: self.address, task: tokio::spawn(accept(self.listener, respond)).abort_handle() }
    }
}

/// A listener and the task that serves it, which ends when this is dropped.
#[derive(Debug)]
pub(super) struct Listener {
    address: SocketAddr,
    task: AbortHandle,
}

impl Listener {
    /// Where it listens.
    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept<R, F>(listener: TcpListener, respond: R)
where
    R: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Reply> + Send + 'static,
{
    // Aborting the accept task drops the set, and with it every connection.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => _ = connections.spawn(serve(stream, respond.clone())),
                // Out of file descriptors, most likely: some come back when connections end.
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve<R, F>(stream: TcpStream, respond: R)
where
    R: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Reply> + Send + 'static,
{
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let reply = respond(request);
        async move { reply.await.ok_or("closed on purpose") }
    });
    // A connection that breaks concerns only its peer, who sees it.
    let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
}

/// A JSON response.
pub(super) fn json(status: u16, body: &serde_json::Value) -> Response<Full<Bytes>> {
    respond(status, "application/json", body.to_string())
}

/// A response of this type and body; 500 for a status that HTTP does not have.
pub(super) fn respond(status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    response
}
