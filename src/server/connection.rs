//! One connection: HTTP/2 with prior knowledge, bounded in time and size, and closed in good order.

use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;

use super::Socket;
use super::grpc::{self, Health};
use crate::authorizer::Authorizer;
use crate::authz::request::Asker;

/// How every HTTP/2 connection begins (RFC 9113 §3.4).
const PREFACE: [u8; 24] = *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long a peer may take to begin. Neither hyper nor tonic closes a silent connection.
const PREFACE_TIME: Duration = Duration::from_secs(5);
/// After how long a connection is asked to close, so that new replicas get traffic; spread by ± 20 %.
const MAX_AGE: Duration = Duration::from_secs(300);
/// How long what is in flight may take once a connection was asked to close.
const GRACE: Duration = Duration::from_secs(10);

/// Serves a connection until the peer closes it, its age is over, or all are told to stop.
pub(super) async fn serve(
    socket: Socket,
    asker: Asker,
    authorizer: Arc<Authorizer>,
    health: Health,
    stop: watch::Receiver<bool>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    match socket {
        Socket::Tcp(stream) => run(TcpStream::from_std(stream)?, asker, authorizer, health, stop).await,
        Socket::Unix(stream) => run(UnixStream::from_std(stream)?, asker, authorizer, health, stop).await,
    }
}

async fn run(
    mut io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    asker: Asker,
    authorizer: Arc<Authorizer>,
    health: Health,
    mut stop: watch::Receiver<bool>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut preface = [0; PREFACE.len()];
    let begun = tokio::select! {
        begun = tokio::time::timeout(PREFACE_TIME, io.read_exact(&mut preface)) => begun,
        _ = stop.wait_for(|stopped| *stopped) => return Ok(()),
    };
    begun??;
    if preface != PREFACE {
        return Err(io::Error::from(io::ErrorKind::InvalidData).into());
    }
    let service = service_fn(move |request| {
        let answer = grpc::answer(request, asker, Arc::clone(&authorizer), health.clone());
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let mut connection = pin!(builder().serve_connection(TokioIo::new(Begun { sent: 0, io }), service));
    let closing = async {
        tokio::select! {
            () = tokio::time::sleep(age()) => {}
            _ = stop.wait_for(|stopped| *stopped) => {}
        }
    };
    tokio::select! {
        ended = connection.as_mut() => return Ok(ended?),
        () = closing => connection.as_mut().graceful_shutdown(),
    }
    tokio::time::timeout(GRACE, connection).await??;
    Ok(())
}

fn builder() -> http2::Builder<Local> {
    let mut builder = http2::Builder::new(Local);
    builder
        .timer(TokioTimer::new())
        // One connection is one core: a low limit makes a busy gateway open more of them.
        .max_concurrent_streams(256)
        .max_header_list_size(16 * 1024)
        .initial_stream_window_size(1024 * 1024)
        .initial_connection_window_size(4 * 1024 * 1024)
        .max_frame_size(16 * 1024)
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(256)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(10));
    builder
}

fn age() -> Duration {
    let mut byte = [0];
    let _ = aws_lc_rs::rand::fill(&mut byte);
    let [byte] = byte;
    MAX_AGE.mul_f32(0.8).saturating_add(MAX_AGE.mul_f32(0.4 * f32::from(byte) / 255.0))
}

/// Runs streams on the core that owns the connection: its runtime has one thread.
#[derive(Clone, Copy)]
struct Local;

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Local {
    fn execute(&self, stream: F) {
        tokio::spawn(stream);
    }
}

/// A connection whose preface was read already, and is read once more.
struct Begun<I> {
    sent: usize,
    io: I,
}

impl<I: AsyncRead + Unpin> AsyncRead for Begun<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match PREFACE.get(self.sent..) {
            Some(rest @ [_, ..]) => {
                let part = rest.get(..buffer.remaining().min(rest.len())).unwrap_or_default();
                buffer.put_slice(part);
                self.sent = self.sent.saturating_add(part.len());
                Poll::Ready(Ok(()))
            }
            Some([]) | None => Pin::new(&mut self.io).poll_read(context, buffer),
        }
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Begun<I> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, slices)
    }

    // `h2` chains a payload of 256 bytes and more to a vectored writer, and then flushes answer by answer; to any other
    // it copies those of up to 1,024 bytes, so that one write carries many answers.
    fn is_write_vectored(&self) -> bool {
        false
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
