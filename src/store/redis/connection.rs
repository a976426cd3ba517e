//! The one connection that commands go through: what waits is written together, replies come back in order.
//!
//! All that is kept is bounded: what waits, what is under way, and each reply. What waits for a reply for too long ends
//! the connection, so that one that is half open is found out.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::circuit::{Circuit, later};
use super::dial::{Dial, Duplex};
use super::resp::{Reader, Reply};
use crate::store::fault::Fault;

/// How many commands may be under way.
const UNDER_WAY: usize = 512;
/// How much may be written together.
const TOGETHER: usize = 64 * 1_024;
/// How long a reply may take before the connection is given up.
const STALL: Duration = Duration::from_secs(1);
/// How long to wait before the next attempt to connect, at first and at most.
const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(2);
/// What the room for replies shrinks back to.
const ROOM: usize = 64 * 1_024;

/// A command, and where its reply goes.
pub struct Job {
    /// As it is written.
    pub command: Vec<u8>,
    /// The longest reply, in bytes.
    pub limit: usize,
    /// Where the reply goes.
    pub reply: oneshot::Sender<Result<Reply, Fault>>,
}

/// A command that was sent.
struct Sent {
    limit: usize,
    reply: oneshot::Sender<Result<Reply, Fault>>,
    at: Instant,
}

/// Connects, serves and connects anew, until nobody can send a job any more.
pub async fn run(dial: Arc<Dial>, mut jobs: mpsc::Receiver<Job>, circuit: Arc<Circuit>) {
    let mut patience = Patience::default();
    loop {
        let fault = match dial.connect().await {
            Ok(stream) => {
                patience.succeeded();
                circuit.connected(Instant::now());
                match Connection::new(stream).serve(&mut jobs).await {
                    Some(fault) => fault,
                    None => return,
                }
            }
            Err(fault) => fault,
        };
        let again = patience.failed(fault);
        if refuse(&mut jobs, fault, again).await.is_none() {
            return;
        }
    }
}

/// Answers what is asked meanwhile with why there is no connection. `None` when nobody can ask any more.
async fn refuse(jobs: &mut mpsc::Receiver<Job>, fault: Fault, until: Instant) -> Option<()> {
    loop {
        tokio::select! {
            () = sleep_until(until) => return Some(()),
            job = jobs.recv() => {
                let _ = job?.reply.send(Err(fault));
            }
        }
    }
}

/// How long to wait before the next attempt, and what was last said about it.
#[derive(Default)]
pub struct Patience {
    wait: Duration,
    told: Option<Fault>,
}

impl Patience {
    /// An attempt failed, or what it led to ended: when to try again. Says so once.
    pub fn failed(&mut self, fault: Fault) -> Instant {
        if self.told.replace(fault) != Some(fault) {
            tracing::warn!(fault = fault.code(), "no connection to the store: {fault}");
        }
        self.wait = self.wait.saturating_mul(2).clamp(FIRST, LONGEST);
        later(Instant::now(), self.wait)
    }

    /// There is a connection.
    pub fn succeeded(&mut self) {
        // One that is lost at once, again and again, is not tried more often for having been there.
        if self.told.take().is_some() {
            tracing::info!("connected to the store");
        }
        self.wait = self.wait.checked_div(4).unwrap_or_default();
    }
}

struct Connection {
    stream: Box<dyn Duplex>,
    sent: VecDeque<Sent>,
    out: BytesMut,
    flushed: bool,
    reader: Reader,
}

impl Connection {
    fn new(stream: Box<dyn Duplex>) -> Self {
        Self { stream, sent: VecDeque::new(), out: BytesMut::new(), flushed: true, reader: Reader::default() }
    }

    /// Serves until the connection fails, which is told to whoever waits. `None` when nobody can ask any more.
    async fn serve(mut self, jobs: &mut mpsc::Receiver<Job>) -> Option<Fault> {
        let fault = self.exchange(jobs).await?;
        for sent in self.sent {
            let _ = sent.reply.send(Err(fault));
        }
        Some(fault)
    }

    async fn exchange(&mut self, jobs: &mut mpsc::Receiver<Job>) -> Option<Fault> {
        let (mut read, mut write) = tokio::io::split(&mut self.stream);
        loop {
            let stalled = self.sent.front().and_then(|sent| sent.at.checked_add(STALL));
            let room = self.sent.len() < UNDER_WAY && self.out.len() < TOGETHER;
            tokio::select! {
                arrived = read.read_buf(&mut self.reader.arrived) => {
                    if !arrived.is_ok_and(|length| length > 0) {
                        return Some(Fault::Unreachable);
                    }
                    if let Err(fault) = deliver(&mut self.reader, &mut self.sent) {
                        return Some(fault);
                    }
                }
                job = jobs.recv(), if room => send(job?, &mut self.out, &mut self.sent),
                pushed = push(&mut write, &mut self.out, &mut self.flushed), if !(self.out.is_empty() && self.flushed) => {
                    if pushed.is_err() {
                        return Some(Fault::Unreachable);
                    }
                }
                () = sleep_until(stalled.unwrap_or_else(Instant::now)), if stalled.is_some() => {
                    return Some(Fault::Deadline);
                }
            }
            // What waits already is written together.
            while self.sent.len() < UNDER_WAY && self.out.len() < TOGETHER {
                let Ok(job) = jobs.try_recv() else { break };
                send(job, &mut self.out, &mut self.sent);
            }
        }
    }
}

/// Writes some of what is to be written, or flushes when that is done. What has not happened yet when it is dropped
/// happens the next time.
async fn push(write: &mut (impl AsyncWrite + Unpin), out: &mut BytesMut, flushed: &mut bool) -> io::Result<()> {
    if out.is_empty() {
        write.flush().await?;
        *flushed = true;
    } else if write.write_buf(out).await? == 0 {
        return Err(io::ErrorKind::WriteZero.into());
    } else {
        *flushed = false;
    }
    Ok(())
}

/// Nobody waits for some any more: those are not sent.
fn send(job: Job, out: &mut BytesMut, sent: &mut VecDeque<Sent>) {
    if !job.reply.is_closed() {
        out.extend_from_slice(&job.command);
        sent.push_back(Sent { limit: job.limit, reply: job.reply, at: Instant::now() });
    }
}

/// Hands out the replies that have arrived. An error where the connection is of no use any more.
fn deliver(reader: &mut Reader, sent: &mut VecDeque<Sent>) -> Result<(), Fault> {
    while let Some(first) = sent.front() {
        let Some(reply) = reader.take(first.limit)? else { return Ok(()) };
        let Some(first) = sent.pop_front() else { return Ok(()) };
        let reply = reply.good();
        let fault = reply.as_ref().err().copied().filter(|fault| fault.is_of_the_server());
        let _ = first.reply.send(reply);
        fault.map_or(Ok(()), Err)?;
    }
    if reader.arrived.has_remaining() {
        return Err(Fault::Garbled);
    }
    if reader.arrived.capacity() > ROOM {
        reader.arrived = BytesMut::new();
    }
    Ok(())
}
