//! Unary gRPC over one HTTP/2 stream, for the one method that we answer; health checks go to tonic's service.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::HealthService;
use tower::Service;

use super::purse::{Charge, Purse};
use crate::authorizer::Authorizer;
use crate::authz::certificate::Holder;
use crate::authz::reason::Reason;
use crate::authz::request::{Asker, Malformed, Proof};
use crate::gateway::envoy;

/// The largest message, above what any gateway's `max_request_bytes` lets through.
const MAX_MESSAGE: usize = 16 * 1024 * 1024;
/// How long a message may take to arrive.
const ARRIVAL: Duration = Duration::from_secs(5);

/// `grpc.health.v1`, as tonic serves it.
pub type Health = HealthServer<HealthService>;

const UNREADABLE: Malformed = Malformed(Reason::CheckUnreadable);

/// Who answers the streams of one connection, and whom.
#[derive(Clone)]
pub(super) struct Answering {
    pub authorizer: Arc<Authorizer>,
    pub health: Health,
    pub asker: Asker,
    /// Whom the peer's certificate names, where it showed one.
    pub holder: Option<Arc<Holder>>,
    pub purse: Arc<Purse>,
    /// Whether the connection is TLS.
    pub secure: bool,
}

/// Answers one stream.
pub(super) async fn answer(request: Request<Incoming>, answering: Answering) -> Response<Reply> {
    let Answering { authorizer, mut health, asker, holder, purse, .. } = answering;
    let path = request.uri().path();
    if path == envoy::CHECK && request.method() == Method::POST {
        let (head, body) = request.into_parts();
        let deadline = head.headers.get("grpc-timeout").and_then(timeout);
        let mut charge = Charge::new(purse);
        let message = match tokio::time::timeout(ARRIVAL, message(body, &head.headers, &mut charge)).await {
            Ok(message) => message,
            Err(_) => Err(UNREADABLE),
        };
        let proof = Proof { holder: holder.as_deref(), metadata: Some(&head.headers) };
        return reply(Reply::Message(envoy::check(&authorizer, asker, proof, message, deadline).await));
    }
    let other = if path.starts_with("/grpc.health.v1.Health/") {
        let Ok(response) = health.call(request).await.map_err(|never: Infallible| never);
        response
    } else {
        tonic::Status::unimplemented("").into_http()
    };
    other.map(Reply::Other)
}

fn reply(body: Reply) -> Response<Reply> {
    let mut response = Response::new(body);
    response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// The one message of a unary call. Usually it comes in one piece, which then is not copied, and is charged to nobody.
async fn message(mut body: Incoming, metadata: &HeaderMap, charge: &mut Charge) -> Result<Bytes, Malformed> {
    let mut frame = {
        let mut waiting = pin!(body.frame());
        let first = poll_fn(|context| match waiting.as_mut().poll(context) {
            Poll::Ready(frame) => Poll::Ready(Some(frame)),
            Poll::Pending => Poll::Ready(None),
        });
        match first.await {
            Some(frame) => frame,
            None => {
                keep(charge, weight(metadata))?;
                waiting.await
            }
        }
    };
    let mut whole = Bytes::new();
    let mut pieces = BytesMut::new();
    while let Some(came) = frame {
        if let Ok(piece) = came.map_err(|_| UNREADABLE)?.into_data() {
            if whole.len().saturating_add(pieces.len()).saturating_add(piece.len()) > MAX_MESSAGE.saturating_add(5) {
                return Err(UNREADABLE);
            }
            if !body.is_end_stream() || !pieces.is_empty() {
                keep(charge, piece.len())?;
            }
            if whole.is_empty() && pieces.is_empty() {
                whole = piece;
            } else {
                pieces.put(std::mem::take(&mut whole));
                pieces.put(piece);
            }
        }
        frame = body.frame().await;
    }
    unframe(if pieces.is_empty() { whole } else { pieces.freeze() })
}

fn keep(charge: &mut Charge, bytes: usize) -> Result<(), Malformed> {
    if charge.more(bytes) { Ok(()) } else { Err(Malformed(Reason::Overloaded)) }
}

/// Roughly how many bytes the metadata of a call take.
fn weight(metadata: &HeaderMap) -> usize {
    let line = |(name, value): (&http::HeaderName, &HeaderValue)| name.as_str().len().saturating_add(value.len());
    metadata.iter().map(line).fold(1_024, usize::saturating_add)
}

/// Takes the message out of its frame: uncompressed, and the only one.
fn unframe(mut frame: Bytes) -> Result<Bytes, Malformed> {
    if frame.len() < 5 || frame.get_u8() != 0 || usize::try_from(frame.get_u32()) != Ok(frame.len()) {
        return Err(UNREADABLE);
    }
    Ok(frame)
}

/// The deadline that the gateway names: at most eight digits and a unit.
fn timeout(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let amount: u64 = digits.parse().ok().filter(|_| digits.len() <= 8)?;
    Some(match unit {
        "H" => Duration::from_secs(amount.saturating_mul(3_600)),
        "M" => Duration::from_secs(amount.saturating_mul(60)),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    })
}

/// The body of an answer.
pub(super) enum Reply {
    /// A framed message, and then the trailers.
    Message(Bytes),
    /// The trailers, with which a call ends well.
    Trailers,
    /// Nothing more.
    Done,
    /// What tonic answers.
    Other(tonic::body::Body),
}

impl Body for Reply {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        let this = self.get_mut();
        match this {
            Self::Message(message) => {
                let frame = Frame::data(std::mem::take(message));
                *this = Self::Trailers;
                Poll::Ready(Some(Ok(frame)))
            }
            Self::Trailers => {
                *this = Self::Done;
                let mut trailers = HeaderMap::with_capacity(1);
                trailers.insert("grpc-status", HeaderValue::from_static("0"));
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
            Self::Done => Poll::Ready(None),
            Self::Other(body) => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Message(_) | Self::Trailers => false,
            Self::Done => true,
            Self::Other(body) => body.is_end_stream(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_read_in_every_unit() {
        let read = |text: &str| timeout(&HeaderValue::from_str(text).unwrap());
        assert_eq!(read("200m"), Some(Duration::from_millis(200)));
        assert_eq!(read("1S"), Some(Duration::from_secs(1)));
        assert_eq!(read("2M"), Some(Duration::from_secs(120)));
        assert_eq!(read("1H"), Some(Duration::from_secs(3_600)));
        assert_eq!(read("7u"), Some(Duration::from_micros(7)));
        assert_eq!(read("7n"), Some(Duration::from_nanos(7)));
        for text in ["", "m", "1", "1x", "-1m", "123456789m", "1.5S"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn only_one_plain_message_is_taken_out_of_its_frame() {
        assert_eq!(unframe(Bytes::from_static(&[0, 0, 0, 0, 2, 7, 8])), Ok(Bytes::from_static(&[7, 8])));
        assert_eq!(unframe(Bytes::from_static(&[0, 0, 0, 0, 0])), Ok(Bytes::new()));
        for frame in
            [&[][..], &[0, 0, 0, 0], &[1, 0, 0, 0, 1, 7], &[0, 0, 0, 0, 2, 7], &[0, 0, 0, 0, 1, 7, 0, 0, 0, 0, 0]]
        {
            assert_eq!(unframe(Bytes::copy_from_slice(frame)), Err(UNREADABLE));
        }
    }
}
