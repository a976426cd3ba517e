//! One connection, bounded in time and size, and closed in good order; HTTP/2 with prior knowledge here.

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
use tokio_rustls::TlsAcceptor;

use super::grpc::{self, Answering};
use super::{Protocol, Socket, http};
use crate::authz::certificate::Holder;

/// How every HTTP/2 connection begins (RFC 9113 §3.4).
const PREFACE: [u8; 24] = *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long a peer may take to begin. Neither hyper nor tonic closes a silent connection.
const PREFACE_TIME: Duration = Duration::from_secs(5);
/// How long a TLS handshake may take.
const HANDSHAKE_TIME: Duration = Duration::from_secs(5);
/// How large a stream's headers may be. Envoy hands on what its tracer propagates, and so a caller's `tracestate` of as
/// many bytes as a request may have (60 KiB by default). A stream that is refused for it is an RPC error.
const MAX_HEADERS: u32 = 128 * 1024;
/// After how long a connection is asked to close, so that new replicas get traffic; spread by ± 20 %.
const MAX_AGE: Duration = Duration::from_secs(300);
/// How long what is in flight may take once a connection was asked to close.
pub(super) const GRACE: Duration = Duration::from_secs(10);

/// Serves a connection until the peer closes it, its age is over, or all are told to stop.
pub(super) async fn serve(
    socket: Socket,
    speaks: Protocol,
    mut answering: Answering,
    mut stop: watch::Receiver<bool>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    match socket {
        Socket::Tcp(stream, None) => speak(speaks, TcpStream::from_std(stream)?, answering, stop).await,
        Socket::Tcp(stream, Some(tls)) => {
            let handshake = TlsAcceptor::from(tls).accept(TcpStream::from_std(stream)?);
            let begun = tokio::select! {
                begun = tokio::time::timeout(HANDSHAKE_TIME, handshake) => begun,
                _ = stop.wait_for(|stopped| *stopped) => return Ok(()),
            };
            let stream = begun??;
            let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
            answering.secure = true;
            answering.holder = shown.map(|certificate| Arc::new(Holder::of(certificate)));
            speak(speaks, stream, answering, stop).await
        }
        Socket::Unix(stream) => speak(speaks, UnixStream::from_std(stream)?, answering, stop).await,
    }
}

async fn speak(
    speaks: Protocol,
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    answering: Answering,
    stop: watch::Receiver<bool>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    match speaks {
        Protocol::Grpc => run(io, answering, stop).await,
        Protocol::Http => http::serve(io, answering, stop).await,
    }
}

async fn run(
    mut io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    answering: Answering,
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
        let answer = grpc::answer(request, answering.clone());
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let mut connection = pin!(builder().serve_connection(TokioIo::new(Begun { sent: 0, io }), service));
    tokio::select! {
        ended = connection.as_mut() => return Ok(ended?),
        () = closing(stop) => connection.as_mut().graceful_shutdown(),
    }
    tokio::time::timeout(GRACE, connection).await??;
    Ok(())
}

/// Comes to an end when a connection is to be closed: its age is over, or all are told to stop.
pub(super) async fn closing(mut stop: watch::Receiver<bool>) {
    tokio::select! {
        () = tokio::time::sleep(age()) => {}
        _ = stop.wait_for(|stopped| *stopped) => {}
    }
}

fn builder() -> http2::Builder<Local> {
    let mut builder = http2::Builder::new(Local);
    builder
        .timer(TokioTimer::new())
        // One connection is one core: a low limit makes a busy gateway open more of them.
        .max_concurrent_streams(256)
        .max_header_list_size(MAX_HEADERS)
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

#[cfg(test)]
mod tests {
    use bytes::BufMut;
    use tokio::io::AsyncWriteExt;
    use tonic_health::server::{HealthReporter, HealthService};

    use super::super::grpc::Health;
    use super::super::purse::{Purse, Treasury};
    use super::*;
    use crate::authorizer::{Authorizer, Sealer};
    use crate::authz::decision_id::SealingKey;
    use crate::authz::request::Asker;
    use crate::gateway::envoy;
    use crate::live::Live;
    use crate::observe::Recorder;
    use crate::observe::audit::Audit;
    use crate::observe::metrics::Metrics;

    const DATA: u8 = 0;
    const HEADERS: u8 = 1;
    const RESET: u8 = 3;
    const SETTINGS: u8 = 4;
    const GO_AWAY: u8 = 7;
    const CONTINUATION: u8 = 9;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.put_u32(stream);
        frame.extend(payload);
        frame
    }

    /// A header that is not indexed and not compressed (RFC 7541 §6.2.2).
    fn header(name: &str, value: &str) -> Vec<u8> {
        let mut header = vec![0];
        for text in [name, value] {
            match text.len().checked_sub(127) {
                None => header.push(u8::try_from(text.len()).unwrap()),
                Some(mut rest) => {
                    header.push(127);
                    while rest >= 128 {
                        header.push(u8::try_from((rest % 128) | 128).unwrap());
                        rest /= 128;
                    }
                    header.push(u8::try_from(rest).unwrap());
                }
            }
            header.extend(text.as_bytes());
        }
        header
    }

    /// A whole connection that asks with one more header, as bytes.
    fn check(name: &str, value: &str) -> Vec<u8> {
        let headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", envoy::CHECK),
            (":authority", "portcullis"),
            ("content-type", "application/grpc"),
            (name, value),
        ];
        let block: Vec<u8> = headers.iter().flat_map(|(name, value)| header(name, value)).collect();
        let mut sent = [&PREFACE[..], &frame(SETTINGS, 0, 0, &[])].concat();
        let last = block.chunks(16 * 1024).count().saturating_sub(1);
        for (at, piece) in block.chunks(16 * 1024).enumerate() {
            let kind = if at == 0 { HEADERS } else { CONTINUATION };
            sent.extend(frame(kind, if at == last { 4 } else { 0 }, 1, piece));
        }
        sent.extend(frame(DATA, 1, 1, &[0; 5]));
        sent
    }

    /// The kind of frame that ended the wait for an answer on the first stream, and its payload.
    async fn answered(sent: Vec<u8>) -> (u8, Vec<u8>) {
        let (mut peer, io) = tokio::io::duplex(1 << 20);
        let (live, _publisher, _questions) = Live::new();
        let sealer = Sealer::new(Arc::new(SealingKey::new(b"a secret").unwrap()), 0);
        let authorizer = Authorizer::new(
            live,
            Recorder::new(Audit::off(), Metrics::default().core()),
            sealer,
            crate::store::Store::memory(),
        );
        let health = Health::new(HealthService::from_health_reporter(HealthReporter::new()));
        let (_stop, stopped) = watch::channel(false);
        let purse = Purse::new(&Treasury::default());
        let authorizer = Arc::new(authorizer);
        let answering = Answering { authorizer, health, asker: Asker::Unix, holder: None, purse, secure: false };
        tokio::spawn(async move { run(io, answering, stopped).await });
        peer.write_all(&sent).await.unwrap();
        loop {
            let mut head = [0; 9];
            peer.read_exact(&mut head).await.unwrap();
            let [a, b, c, kind, ..] = head;
            let mut payload = vec![0; usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap()];
            peer.read_exact(&mut payload).await.unwrap();
            if [DATA, RESET, GO_AWAY].contains(&kind) {
                return (kind, payload);
            }
        }
    }

    #[tokio::test] // D02
    async fn headers_that_a_caller_made_large_are_still_answered() {
        let (kind, small) = answered(check("tracestate", "a=b")).await;
        assert_eq!((kind, small.first()), (DATA, Some(&0)));
        let (kind, large) = answered(check("tracestate", &"x".repeat(60 * 1024))).await;
        assert_eq!((kind, large.len()), (DATA, small.len()));
        let (kind, _) = answered(check("tracestate", &"x".repeat(1 << 19))).await;
        assert_ne!(kind, DATA, "there is a cap all the same");
    }
}
