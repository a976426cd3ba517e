//! A connection of HTTP/1.1 whose peer may take its time between requests, but not over one that it began.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// How long a peer may take.
#[derive(Clone, Copy)]
pub(super) struct Times {
    /// Over the head of a request, and to begin its first one.
    pub head: Duration,
    /// Between requests.
    pub idle: Duration,
}

impl Times {
    /// Between requests it has longer than gateways keep a connection that they do not use: it is theirs to close, and
    /// none of their requests meets our end of it.
    pub const OURS: Self = Self { head: Duration::from_secs(5), idle: Duration::from_secs(180) };
}

/// Whether what came last was taken whole. Hyper's own limit for a head counts idle time as well.
#[derive(Clone, Default)]
pub(super) struct Heard(Arc<AtomicBool>);

impl Heard {
    /// What came was a whole request.
    pub fn whole(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The bytes of such a connection.
pub(super) struct Timed<I> {
    io: I,
    heard: Heard,
    times: Times,
    /// When the first byte came that no whole request holds, or else the last one that came at all.
    since: Instant,
    alarm: Pin<Box<Sleep>>,
}

impl<I> Timed<I> {
    /// A connection that came just now.
    pub fn new(io: I, heard: Heard, times: Times) -> Self {
        Self { io, heard, times, since: Instant::now(), alarm: Box::pin(tokio::time::sleep(times.head)) }
    }

    /// Ready when its peer took too long.
    fn poll_late(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Times { head, idle } = self.times;
        let allowed = if self.heard.0.load(Ordering::Relaxed) { idle } else { head };
        let Some(deadline) = self.since.checked_add(allowed) else { return Poll::Pending };
        // One that rings too early is set anew then: no request costs a timer.
        if deadline < self.alarm.deadline() {
            self.alarm.as_mut().reset(deadline);
        }
        while self.alarm.as_mut().poll(context).is_ready() {
            if deadline <= Instant::now() {
                return Poll::Ready(());
            }
            self.alarm.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Timed<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Poll::Ready(read) = Pin::new(&mut self.io).poll_read(context, buffer) {
            if self.heard.0.swap(false, Ordering::Relaxed) {
                self.since = Instant::now();
            }
            return Poll::Ready(read);
        }
        match self.poll_late(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Timed<I> {
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

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
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
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const TIMES: Times = Times { head: Duration::from_millis(60), idle: Duration::from_millis(600) };

    async fn late(timed: &mut Timed<tokio::io::DuplexStream>) -> Duration {
        let began = Instant::now();
        assert_eq!(timed.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        began.elapsed()
    }

    #[tokio::test] // D02
    async fn a_peer_may_rest_between_requests_but_not_within_one() {
        let (mut peer, io) = tokio::io::duplex(64);
        let heard = Heard::default();
        let mut timed = Timed::new(io, heard.clone(), TIMES);
        assert!(late(&mut timed).await < TIMES.idle / 2, "nothing came at all");
        peer.write_u8(7).await.unwrap();
        timed.read_u8().await.unwrap();
        heard.whole();
        assert!(late(&mut timed).await > TIMES.idle / 2, "a whole request came");
        peer.write_u8(7).await.unwrap();
        timed.read_u8().await.unwrap();
        assert!(late(&mut timed).await < TIMES.idle / 2, "another one was begun");
    }

    #[tokio::test] // D02
    async fn a_head_that_comes_byte_by_byte_has_no_more_time() {
        let (mut peer, io) = tokio::io::duplex(64);
        let mut timed = Timed::new(io, Heard::default(), TIMES);
        let began = Instant::now();
        let sent = tokio::spawn(async move {
            while peer.write_u8(7).await.is_ok() {
                tokio::time::sleep(TIMES.head / 10).await;
            }
        });
        while timed.read_u8().await.is_ok() {}
        assert!(began.elapsed() < TIMES.idle / 2);
        drop(timed);
        sent.await.unwrap();
    }
}
