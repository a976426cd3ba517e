//! Envoy's ext_authz gRPC v3: `CheckRequest` into a request, a decision into `CheckResponse`.
//!
//! Every answer is a `CheckResponse`, whatever happens: an RPC error hands the verdict to `failure_mode_allow`.

mod wire;

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

use super::denial::Said;
use super::{catch, caught};
use crate::authorizer::{Answered, Authorizer};
use crate::authz::decision::{Decision, Denial, Own, Verdict};
use crate::authz::gateways::Dialect;
use crate::authz::header::Told;
use crate::authz::json::Json;
use crate::authz::reason::Reason;
use crate::authz::request::{Asker, Malformed, Proof, Raw};

use pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use pb::envoy::config::core::v3::{HeaderValue, HeaderValueOption, QueryParameter};
use pb::envoy::service::auth::v3::check_response::HttpResponse;
use pb::envoy::service::auth::v3::{CheckResponse, DeniedHttpResponse, OkHttpResponse};
use pb::envoy::r#type::v3::HttpStatus;
use pb::google::rpc::Status;
use wire::Check;

/// The messages, compiled from `proto/`.
#[expect(missing_docs, reason = "generated; the .proto files say what each is")]
pub mod pb {
    pub mod envoy {
        pub mod config {
            pub mod core {
                pub mod v3 {
                    tonic::include_proto!("envoy.config.core.v3");
                }
            }
        }
        pub mod r#type {
            pub mod v3 {
                tonic::include_proto!("envoy.r#type.v3");
            }
        }
        pub mod service {
            pub mod auth {
                pub mod v3 {
                    tonic::include_proto!("envoy.service.auth.v3");
                }
            }
        }
    }
    pub mod google {
        pub mod rpc {
            tonic::include_proto!("google.rpc");
        }
    }
}

/// The path of the one method.
pub const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";
/// The service, as health checks name it.
pub const SERVICE: &str = "envoy.service.auth.v3.Authorization";

/// `google.rpc.Code`: the two codes for a denial that every version of Envoy reads as one.
const PERMISSION_DENIED: i32 = 7;
const UNAUTHENTICATED: i32 = 16;

/// Answers one message: a `CheckRequest` as it came, or why there is none. The answer is a `CheckResponse`, encoded and
/// framed for gRPC: never compressed, for Envoy says nowhere that it could read that.
pub async fn check(
    authorizer: &Authorizer,
    asker: Asker,
    proof: Proof<'_>,
    message: Result<Bytes, Malformed>,
    deadline: Option<Duration>,
) -> Bytes {
    caught(answer(authorizer, asker, proof, message, deadline))
        .await
        .unwrap_or_else(|| encode(&Answered { decision: Decision::denied(Reason::InternalError), id: None }))
}

async fn answer(
    authorizer: &Authorizer,
    asker: Asker,
    proof: Proof<'_>,
    message: Result<Bytes, Malformed>,
    deadline: Option<Duration>,
) -> Bytes {
    let check = message
        .as_ref()
        .map_err(|malformed| *malformed)
        .and_then(|message| catch(|| wire::read(message)).and_then(Result::ok).ok_or(UNREADABLE));
    let asked = check.and_then(|check| raw(check, asker, proof));
    let answered = authorizer.check(asked, deadline).await;
    catch(|| encode(&answered))
        .unwrap_or_else(|| encode(&Answered { decision: Decision::denied(Reason::InternalError), id: None }))
}

const UNREADABLE: Malformed = Malformed(Reason::CheckUnreadable);

/// The HTTP request of a check.
fn raw<'r>(check: Check<'r>, asker: Asker, proof: Proof<'r>) -> Result<Raw<'r>, Malformed> {
    let Check { attributes, http, source, principal, certificate, method, path: target, host, headers, .. } = check;
    match (attributes, http) {
        (false, _) => Err(UNREADABLE),
        (true, false) => Err(Malformed(Reason::RequestMissing)),
        (true, true) => {
            let raw = Raw::new(Dialect::Envoy, asker, [method, target, host], headers);
            Ok(Raw { proof, source, principal, certificate, ..raw })
        }
    }
}

fn encode(answered: &Answered) -> Bytes {
    match answered.decision.verdict() {
        // The same caller is told the same each time: the answer is made once, and shared.
        Verdict::Allow(grant) => match grant.own() {
            None => grant.told().encoded(|told| frame(&allow(told, &Own::default()))),
            Some(own) => frame(&allow(grant.told(), own)),
        },
        Verdict::Deny(denial) => frame(&deny(denial, answered)),
    }
}

fn frame(response: &CheckResponse) -> Bytes {
    let length = response.encoded_len();
    let mut frame = BytesMut::with_capacity(length.saturating_add(5));
    frame.put_u8(0);
    frame.put_u32(u32::try_from(length).unwrap_or(0));
    // The buffer grows as needed, so the only error there is cannot happen; but an empty answer would be an allow.
    if response.encode(&mut frame).is_err() || frame.len() != length.saturating_add(5) || length == 0 {
        return Bytes::from_static(&DENY_ALL);
    }
    frame.freeze()
}

/// `CheckResponse { status: { code: 7 } }` in its frame, which Envoy answers with a bare 403.
const DENY_ALL: [u8; 9] = [0, 0, 0, 0, 4, 0x0a, 0x02, 0x08, 0x07];

fn allow(told: &Told, own: &Own) -> CheckResponse {
    let headers = |all: [&[(Bytes, Bytes)]; 4]| {
        let all = all.into_iter().flatten();
        all.map(|(name, value)| overwrite(name.clone(), value.clone())).collect::<Vec<_>>()
    };
    let stripped = &own.stripped;
    let query = told.query().iter().chain(&own.query);
    let ok = OkHttpResponse {
        headers: headers([told.set(), &own.set, own.minted.as_slice(), &stripped.set]),
        headers_to_remove: [told.unset(), &own.aliases, &stripped.remove].concat(),
        response_headers_to_add: headers([told.responses(), &own.responses, &[], &[]]),
        query_parameters_to_set: query
            .map(|(key, value)| QueryParameter { key: key.clone(), value: value.clone() })
            .collect(),
        query_parameters_to_remove: [&*own.query_removed, &stripped.query].concat(),
    };
    let fields: std::collections::BTreeMap<_, _> =
        told.metadata().iter().map(|(name, datum)| (lossy(name), value(datum))).collect();
    CheckResponse {
        status: Some(Status { code: 0, message: String::new() }),
        http_response: Some(HttpResponse::OkResponse(ok)),
        dynamic_metadata: (!fields.is_empty()).then_some(prost_types::Struct { fields }),
    }
}

/// Sets a header whatever is there. Envoy 1.40 looks at `append` and 1.37.0 looked at `append_action`: both say so.
fn overwrite(name: Bytes, value: Bytes) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue { key: name, value, raw_value: Bytes::new() }),
        append: Some(false),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
        keep_empty_value: true,
    }
}

fn value(datum: &Json) -> prost_types::Value {
    use prost_types::value::Kind;
    let kind = match datum {
        Json::Null => Kind::NullValue(0),
        Json::Bool(value) => Kind::BoolValue(*value),
        Json::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Json::Text(text) => Kind::StringValue(text.to_string()),
        Json::List(items) => Kind::ListValue(prost_types::ListValue { values: items.iter().map(value).collect() }),
        Json::Object(object) => {
            let fields = object.iter().map(|(name, member)| (name.to_owned(), value(member)));
            Kind::StructValue(prost_types::Struct { fields: fields.collect() })
        }
    };
    prost_types::Value { kind: Some(kind) }
}

fn lossy(text: &Bytes) -> String {
    String::from_utf8_lossy(text).into_owned()
}

fn deny(denial: &Denial, answered: &Answered) -> CheckResponse {
    let Said { status, headers, body } = Said::of(denial, answered.id);
    let headers = headers.into_iter().map(|(name, value)| overwrite(Bytes::from_static(name.as_bytes()), value));
    let denied = DeniedHttpResponse {
        status: Some(HttpStatus { code: i32::from(status) }),
        headers: headers.collect(),
        body: body.into(),
    };
    let code = if denial.reason().status() == 401 { UNAUTHENTICATED } else { PERMISSION_DENIED };
    CheckResponse {
        status: Some(Status { code, message: String::new() }),
        http_response: Some(HttpResponse::DeniedResponse(denied)),
        dynamic_metadata: None,
    }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::service::auth::v3 as theirs;

    use super::super::denial::title;
    use super::*;
    use crate::authz::reason::Challenge;

    fn read(frame: &[u8]) -> theirs::CheckResponse {
        let length = u32::from_be_bytes([frame[1], frame[2], frame[3], frame[4]]);
        assert_eq!((frame[0], length as usize), (0, frame.len().saturating_sub(5)));
        theirs::CheckResponse::decode(&frame[5..]).unwrap()
    }

    fn denied(response: theirs::CheckResponse) -> theirs::DeniedHttpResponse {
        match response.http_response {
            Some(theirs::check_response::HttpResponse::DeniedResponse(denied)) => denied,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_reason_is_a_denial_in_all_three_places_and_tells_no_more_than_its_status() {
        for reason in Reason::ALL.iter().copied() {
            let response = read(&encode(&Answered { decision: Decision::denied(reason), id: None }));
            let code = response.status.as_ref().unwrap().code;
            assert!(matches!(code, PERMISSION_DENIED | UNAUTHENTICATED), "{reason:?}");
            let denied = denied(response);
            assert_eq!(denied.status.unwrap().code, i32::from(reason.status()), "{reason:?}");
            let value = |name: &str| {
                let mut headers = denied.headers.iter().filter_map(|option| option.header.as_ref());
                headers.find(|header| header.key == name).map(|header| &*header.value)
            };
            assert_eq!(value("www-authenticate").is_some(), reason.challenge() != Challenge::None, "{reason:?}");
            assert_eq!(value("cache-control"), Some("no-store"), "{reason:?}");
            let body: serde_json::Value = serde_json::from_str(&denied.body).unwrap();
            assert_eq!(body["status"], reason.status(), "{reason:?}");
            assert_eq!(body["title"], title(reason.status()), "{reason:?}");
            assert!(reason.status() == 403 || title(reason.status()) != "Forbidden", "{reason:?} has no title");
            assert!(!denied.body.contains(reason.code()), "{reason:?} is told to the caller");
        }
    }

    #[test]
    fn the_answer_of_last_resort_is_a_denial() {
        assert_eq!(read(&DENY_ALL).status.unwrap().code, PERMISSION_DENIED);
    }

    #[test]
    fn a_panic_is_caught() {
        assert_eq!(catch(|| panic!("of ours")), None::<()>);
    }

    #[tokio::test] // D06
    async fn a_panic_in_a_check_is_caught_wherever_it_waits() {
        assert_eq!(caught(async { 7 }).await, Some(7));
        let late = async {
            tokio::task::yield_now().await;
            assert!(std::hint::black_box(false), "on purpose");
        };
        assert_eq!(caught(late).await, None);
        let denied = encode(&Answered { decision: Decision::denied(Reason::InternalError), id: None });
        let response = CheckResponse::decode(denied.slice(5..)).unwrap();
        assert_eq!(response.status.unwrap().code, PERMISSION_DENIED);
    }
}
