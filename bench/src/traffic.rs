//! What is asked: a browser's request as Envoy 1.40.0 described it, with tokens minted here and never written anywhere.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{BufMut, Bytes, BytesMut};
use portcullis::authz::algorithm::Algorithm;
use portcullis::dev::mint::SigningKey;
use prost::Message;
use serde_json::json;

use crate::pb::envoy::service::auth::v3::CheckRequest;

/// A `CheckRequest` that Envoy sent: 22 headers, one of them an RS256 token.
const CAPTURED: &[u8] = include_bytes!("../../tests/captures/get_jwt_browser.bin");
/// The algorithms that tokens are signed with.
const ALGORITHMS: [Algorithm; 3] = [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa];

/// One check to ask.
#[derive(Clone)]
pub struct Ask {
    /// The message in its gRPC frame.
    pub frame: Bytes,
    /// Whose token it holds.
    pub subject: Option<Box<[u8]>>,
}

/// The key set that verifies every token of this process.
#[must_use]
pub fn key_set() -> String {
    let keys = ALGORITHMS.map(|algorithm| SigningKey::shared(algorithm).public_jwk(Some(algorithm.name())));
    json!({"keys": keys}).to_string()
}

/// So many checks, each with a token of its own, signed on all cores.
#[must_use]
pub fn signed(algorithm: Algorithm, count: usize) -> Vec<Ask> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let share = count.div_ceil(threads);
    std::thread::scope(|scope| {
        let starts = (0..count).step_by(share.max(1));
        let workers: Vec<_> = starts
            .map(|start| {
                scope.spawn(move || {
                    (start..count.min(start + share)).map(|user| one(algorithm, user)).collect::<Vec<_>>()
                })
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap_or_default()).collect()
    })
}

/// The same request without a token.
#[must_use]
pub fn anonymous() -> Ask {
    Ask { frame: frame(None), subject: None }
}

fn one(algorithm: Algorithm, user: usize) -> Ask {
    let subject = format!("user-{user:06}");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let header = json!({"alg": algorithm.name(), "kid": algorithm.name(), "typ": "JWT"});
    let claims = json!({
        "iss": "https://issuer.probe.test/", "aud": ["api.probe.test"], "sub": subject,
        "iat": now, "nbf": now, "exp": now + 86_400, "scope": "openid profile read:items",
        "email": "alice@probe.test", "roles": ["dev", "premium"], "jti": format!("{user:08x}"),
    });
    let token = SigningKey::shared(algorithm).sign(&header.to_string(), &claims.to_string());
    Ask { frame: frame(Some(&token)), subject: Some(subject.into_bytes().into()) }
}

fn frame(token: Option<&str>) -> Bytes {
    let mut check = CheckRequest::decode(CAPTURED).expect("a message that Envoy sent");
    let http = check.attributes.as_mut().and_then(|all| all.request.as_mut()).and_then(|request| request.http.as_mut());
    let headers = &mut http.expect("an HTTP request").headers;
    match token {
        Some(token) => {
            let line = headers.iter_mut().find(|line| line.key == "authorization").expect("a token");
            line.value = format!("Bearer {token}").into();
        }
        None => headers.retain(|line| line.key != "authorization"),
    }
    let length = check.encoded_len();
    let mut frame = BytesMut::with_capacity(length + 5);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(length).expect("some kilobytes"));
    check.encode(&mut frame).expect("a buffer that grows");
    frame.freeze()
}
