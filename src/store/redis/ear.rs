//! The ear: a connection of its own that hears which revocations are added, and says when it hears nothing any more.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout};

use super::connection::Patience;
use super::dial::Duplex;
use super::resp::{Reader, Reply, encode};
use super::{Redis, entry};
use crate::store::fault::Fault;
use crate::store::subscription::{Event, Subscriber};
use crate::store::{MAX_KEY, MAX_VALUE};

/// How often it is asked whether it is there, and for the epoch: an addition that was missed is noticed that soon.
const PULSE: Duration = Duration::from_secs(1);
/// How often in a row the epoch may not be told before nothing is sure any more.
const UNTOLD: u8 = 3;
/// The longest message.
const MESSAGE: usize = MAX_KEY + MAX_VALUE + 4_096;

/// Listens until nobody wants to hear.
pub async fn listen(redis: Arc<Redis>, subscriber: Subscriber) {
    let mut patience = Patience::default();
    loop {
        let fault = match redis.dial.connect().await {
            Ok(stream) => {
                patience.succeeded();
                match hear(&redis, stream, &subscriber).await {
                    Ok(()) => return,
                    Err(fault) => fault,
                }
            }
            Err(fault) => fault,
        };
        if !subscriber.tell(&Event::Lost) {
            return;
        }
        sleep_until(patience.failed(fault)).await;
    }
}

/// One connection's life. `Ok` when nobody wants to hear any more.
async fn hear(redis: &Redis, mut stream: Box<dyn Duplex>, subscriber: &Subscriber) -> Result<(), Fault> {
    say(&mut stream, &[b"SUBSCRIBE", redis.keys.channel.as_bytes()]).await?;
    let mut reader = Reader::default();
    let mut pulse = interval_at(Instant::now(), PULSE);
    pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut awaited, mut untold, mut subscribed) = (0_u8, 0_u8, false);
    loop {
        tokio::select! {
            arrived = stream.read_buf(&mut reader.arrived) => {
                if !arrived.is_ok_and(|length| length > 0) {
                    return Err(Fault::Unreachable);
                }
                while let Some(reply) = reader.take(MESSAGE)? {
                    let Some(event) = event(reply.good()?)? else { awaited = 0; continue };
                    subscribed = true;
                    if !subscriber.tell(&event) {
                        return Ok(());
                    }
                }
            }
            _ = pulse.tick() => {
                // The first pulse asks, the second wants the answer.
                awaited = awaited.saturating_add(1);
                if awaited > 2 {
                    return Err(Fault::Deadline);
                }
                say(&mut stream, &[b"PING"]).await?;
                if !subscribed {
                    // Before that everything is to be loaded anyway.
                    continue;
                }
                match redis.epoch().await {
                    Ok(epoch) if !subscriber.tell(&Event::Epoch(epoch)) => return Ok(()),
                    Ok(_) => untold = 0,
                    Err(fault) => {
                        untold = untold.saturating_add(1);
                        if untold >= UNTOLD {
                            return Err(fault);
                        }
                    }
                }
            }
        }
    }
}

/// What a reply on a subscribed connection tells; `None` for the answer to a ping.
fn event(reply: Reply) -> Result<Option<Event>, Fault> {
    let Reply::List(parts) = reply else { return Err(Fault::Garbled) };
    match parts.as_slice() {
        [Reply::Bytes(kind), Reply::Bytes(_), Reply::Number(_)] if kind == b"subscribe" => Ok(Some(Event::Resync)),
        [Reply::Bytes(kind), Reply::Bytes(_)] if kind == b"pong" => Ok(None),
        // What another wrote there is none of ours; what it was meant to say is loaded.
        [Reply::Bytes(kind), Reply::Bytes(_), Reply::Bytes(message)] if kind == b"message" => {
            Ok(Some(match entry::published(message) {
                Ok((epoch, Some(entry))) => Event::Added(epoch, entry),
                Ok((epoch, None)) => Event::Epoch(epoch),
                Err(_) => Event::Resync,
            }))
        }
        _ => Err(Fault::Garbled),
    }
}

async fn say(stream: &mut Box<dyn Duplex>, words: &[&[u8]]) -> Result<(), Fault> {
    let mut command = Vec::new();
    encode(&mut command, words);
    let said = timeout(PULSE, async {
        stream.write_all(&command).await?;
        stream.flush().await
    });
    match said.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(Fault::Unreachable),
        Err(_) => Err(Fault::Deadline),
    }
}
