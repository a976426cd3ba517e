//! Our hand-written messages against another crate's, both ways and field by field; and what a real Envoy sent.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::service::auth::v3 as auth;
use envoy_types::pb::envoy::r#type::v3 as types;
use envoy_types::pb::google::protobuf::{self, Any, BoolValue, Struct, Timestamp};
use envoy_types::pb::google::rpc::Status;
use portcullis::authz::request::{Asker, Proof};
use portcullis::gateway::envoy::{self, pb};
use prost::Message as _;

use crate::doors::{self, Answer};
use crate::site::Site;

use auth::attribute_context::{HttpRequest, Peer, Request, TlsSession};
use pb::envoy::config::core::v3 as our_core;
use pb::envoy::service::auth::v3 as ours;

fn map(pairs: &[(&str, &str)]) -> std::collections::HashMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
}

fn peer(name: &str, address: core::address::Address) -> Peer {
    Peer {
        address: Some(core::Address { address: Some(address) }),
        service: format!("{name}-service"),
        labels: map(&[("label", name)]),
        principal: format!("spiffe://probe.test/{name}"),
        certificate: format!("certificate of {name}"),
    }
}

fn socket(port: core::socket_address::PortSpecifier) -> core::address::Address {
    core::address::Address::SocketAddress(core::SocketAddress {
        protocol: 1,
        address: "2001:db8::7".into(),
        resolver_name: "resolver".into(),
        ipv4_compat: true,
        network_namespace_filepath: "/run/netns/a".into(),
        port_specifier: Some(port),
    })
}

fn metadata(name: &str) -> core::Metadata {
    core::Metadata {
        filter_metadata: [(name.to_owned(), Struct::default())].into(),
        typed_filter_metadata: [(name.to_owned(), Any::default())].into(),
    }
}

/// A check with every field that there is.
fn theirs() -> auth::CheckRequest {
    auth::CheckRequest {
        attributes: Some(auth::AttributeContext {
            source: Some(peer("source", socket(core::socket_address::PortSpecifier::PortValue(40_754)))),
            destination: Some(peer(
                "destination",
                socket(core::socket_address::PortSpecifier::NamedPort("https".into())),
            )),
            request: Some(Request {
                time: Some(Timestamp { seconds: 1_795_251_573, nanos: 533_056_000 }),
                http: Some(HttpRequest {
                    id: "1931801838038004668".into(),
                    method: "POST".into(),
                    headers: map(&[(":method", "POST")]),
                    header_map: Some(core::HeaderMap {
                        headers: vec![core::HeaderValue {
                            key: "x-a".into(),
                            value: "text".into(),
                            raw_value: b"caf\xe9".to_vec(),
                        }],
                    }),
                    path: "/a?b".into(),
                    host: "app.probe.test".into(),
                    scheme: "https".into(),
                    query: "query".into(),
                    fragment: "fragment".into(),
                    size: -1,
                    protocol: "HTTP/2".into(),
                    body: "body".into(),
                    raw_body: b"raw \xff body".to_vec(),
                }),
            }),
            context_extensions: map(&[("extension", "value")]),
            metadata_context: Some(metadata("metadata")),
            route_metadata_context: Some(metadata("route")),
            tls_session: Some(TlsSession { sni: "app.probe.test".into() }),
        }),
    }
}

fn entries(of: &[ours::attribute_context::Entry]) -> BTreeMap<&str, &str> {
    let text = |bytes| std::str::from_utf8(bytes).unwrap();
    of.iter().map(|entry| (text(&entry.key), text(&entry.value))).collect()
}

#[test]
fn every_field_of_a_check_that_others_write_is_the_one_that_we_read() {
    let theirs = theirs();
    let read = ours::CheckRequest::decode(theirs.encode_to_vec().as_slice()).unwrap();
    let (theirs, read) = (theirs.attributes.unwrap(), read.attributes.unwrap());
    let ends =
        [(theirs.source.unwrap(), read.source.unwrap()), (theirs.destination.unwrap(), read.destination.unwrap())];
    for (theirs, read) in ends {
        assert_eq!(read.service, theirs.service.as_bytes());
        assert_eq!(read.principal, theirs.principal.as_bytes());
        assert_eq!(read.certificate, theirs.certificate.as_bytes());
        assert_eq!(entries(&read.labels)["label"], theirs.labels["label"]);
        let Some(our_core::address::Address::SocketAddress(read)) = read.address.unwrap().address else { panic!() };
        let Some(core::address::Address::SocketAddress(theirs)) = theirs.address.unwrap().address else { panic!() };
        assert_eq!(read.protocol, theirs.protocol);
        assert_eq!(read.address, theirs.address.as_bytes());
        assert_eq!(read.resolver_name, theirs.resolver_name.as_bytes());
        assert_eq!(read.ipv4_compat, theirs.ipv4_compat);
        assert_eq!(read.network_namespace_filepath, theirs.network_namespace_filepath.as_bytes());
        match theirs.port_specifier.unwrap() {
            core::socket_address::PortSpecifier::PortValue(port) => assert_eq!(read.port_value, port),
            core::socket_address::PortSpecifier::NamedPort(port) => assert_eq!(read.named_port, port.as_bytes()),
        }
    }
    assert_eq!(entries(&read.context_extensions)["extension"], "value");
    assert_eq!(read.metadata_context, theirs.metadata_context.unwrap().encode_to_vec());
    assert_eq!(read.route_metadata_context, theirs.route_metadata_context.unwrap().encode_to_vec());
    assert_eq!(read.tls_session.unwrap().sni, theirs.tls_session.unwrap().sni.as_bytes());
    let (theirs, read) = (theirs.request.unwrap(), read.request.unwrap());
    assert_eq!(read.time, theirs.time.unwrap().encode_to_vec());
    let (theirs, read) = (theirs.http.unwrap(), read.http.unwrap());
    assert_eq!(read.id, theirs.id.as_bytes());
    assert_eq!(read.method, theirs.method.as_bytes());
    assert_eq!(entries(&read.headers)[":method"], theirs.headers[":method"]);
    assert_eq!(read.path, theirs.path.as_bytes());
    assert_eq!(read.host, theirs.host.as_bytes());
    assert_eq!(read.scheme, theirs.scheme.as_bytes());
    assert_eq!(read.query, theirs.query.as_bytes());
    assert_eq!(read.fragment, theirs.fragment.as_bytes());
    assert_eq!(read.size, theirs.size);
    assert_eq!(read.protocol, theirs.protocol.as_bytes());
    assert_eq!(read.body, theirs.body.as_bytes());
    assert_eq!(read.raw_body, theirs.raw_body);
    let (theirs, read) = (&theirs.header_map.unwrap().headers[0], &read.header_map.unwrap().headers[0]);
    assert_eq!(read.key, theirs.key.as_bytes());
    assert_eq!(read.value, theirs.value.as_bytes());
    assert_eq!(read.raw_value, theirs.raw_value);
}

#[test]
fn a_check_that_we_write_again_is_the_same_to_others() {
    let others = [
        theirs().encode_to_vec(),
        with_source(core::address::Address::Pipe(core::Pipe { path: "/run/a.sock".into(), mode: 0o600 })),
        with_source(core::address::Address::EnvoyInternalAddress(core::EnvoyInternalAddress {
            endpoint_id: "endpoint".into(),
            address_name_specifier: Some(core::envoy_internal_address::AddressNameSpecifier::ServerListenerName(
                "listener".into(),
            )),
        })),
    ];
    for bytes in others {
        let again = ours::CheckRequest::decode(bytes.as_slice()).unwrap().encode_to_vec();
        assert_eq!(again.len(), bytes.len(), "nothing is lost and nothing is added");
        assert_eq!(auth::CheckRequest::decode(again.as_slice()), auth::CheckRequest::decode(bytes.as_slice()));
    }
}

fn with_source(address: core::address::Address) -> Vec<u8> {
    let source = Some(peer("source", address));
    let attributes = auth::AttributeContext { source, ..Default::default() };
    auth::CheckRequest { attributes: Some(attributes) }.encode_to_vec()
}

fn option(name: &str) -> our_core::HeaderValueOption {
    let key = Bytes::copy_from_slice(name.as_bytes());
    our_core::HeaderValueOption {
        header: Some(our_core::HeaderValue { key, value: "value".into(), raw_value: "raw".into() }),
        append: Some(false),
        append_action: 2,
        keep_empty_value: true,
    }
}

fn their_option(name: &str) -> core::HeaderValueOption {
    #[expect(deprecated, reason = "every field that we write")]
    core::HeaderValueOption {
        header: Some(core::HeaderValue { key: name.into(), value: "value".into(), raw_value: b"raw".to_vec() }),
        append: Some(BoolValue { value: false }),
        append_action: core::header_value_option::HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
        keep_empty_value: true,
    }
}

fn their_answer(status: i32, response: auth::check_response::HttpResponse) -> auth::CheckResponse {
    auth::CheckResponse {
        status: Some(Status { code: status, message: "message".into(), details: vec![] }),
        dynamic_metadata: Some(Struct {
            fields: [("key".to_owned(), protobuf::Value { kind: Some(protobuf::value::Kind::NumberValue(1.5)) })]
                .into(),
        }),
        http_response: Some(response),
    }
}

fn our_answer(status: i32, response: ours::check_response::HttpResponse) -> ours::CheckResponse {
    let number = prost_types::Value { kind: Some(prost_types::value::Kind::NumberValue(1.5)) };
    ours::CheckResponse {
        status: Some(pb::google::rpc::Status { code: status, message: "message".into() }),
        dynamic_metadata: Some(prost_types::Struct { fields: [("key".to_owned(), number)].into() }),
        http_response: Some(response),
    }
}

#[test]
fn every_field_of_an_answer_is_the_same_both_ways() {
    let our_parameter = |key: &'static str| our_core::QueryParameter { key: key.into(), value: "parameter".into() };
    let their_parameter = |key: &str| core::QueryParameter { key: key.into(), value: "parameter".into() };
    #[expect(deprecated, reason = "a field that we never write")]
    let allow = (
        our_answer(
            0,
            ours::check_response::HttpResponse::OkResponse(ours::OkHttpResponse {
                headers: vec![option("to-upstream")],
                headers_to_remove: vec!["from-upstream".into()],
                response_headers_to_add: vec![option("to-caller")],
                query_parameters_to_set: vec![our_parameter("set")],
                query_parameters_to_remove: vec!["removed".into()],
            }),
        ),
        their_answer(
            0,
            auth::check_response::HttpResponse::OkResponse(auth::OkHttpResponse {
                headers: vec![their_option("to-upstream")],
                headers_to_remove: vec!["from-upstream".into()],
                dynamic_metadata: None,
                response_headers_to_add: vec![their_option("to-caller")],
                query_parameters_to_set: vec![their_parameter("set")],
                query_parameters_to_remove: vec!["removed".into()],
            }),
        ),
    );
    let deny = (
        our_answer(
            16,
            ours::check_response::HttpResponse::DeniedResponse(ours::DeniedHttpResponse {
                status: Some(pb::envoy::r#type::v3::HttpStatus { code: 431 }),
                headers: vec![option("to-caller")],
                body: "body".into(),
            }),
        ),
        their_answer(
            16,
            auth::check_response::HttpResponse::DeniedResponse(auth::DeniedHttpResponse {
                status: Some(types::HttpStatus { code: types::StatusCode::RequestHeaderFieldsTooLarge.into() }),
                headers: vec![their_option("to-caller")],
                body: "body".into(),
            }),
        ),
    );
    for (ours, theirs) in [allow, deny] {
        assert_eq!(auth::CheckResponse::decode(ours.encode_to_vec().as_slice()), Ok(theirs.clone()));
        assert_eq!(ours::CheckResponse::decode(theirs.encode_to_vec().as_slice()), Ok(ours));
    }
}

/// The checks that a real Envoy sent, by name.
pub fn captures() -> BTreeMap<String, Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let checks = files.filter(|path| path.extension().is_some_and(|extension| extension == "bin"));
    checks.map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap())).collect()
}

#[test]
fn what_envoy_sent_is_read_without_loss() {
    for (name, bytes) in captures() {
        let theirs = auth::CheckRequest::decode(bytes.as_slice()).unwrap();
        let again = ours::CheckRequest::decode(bytes.as_slice()).unwrap().encode_to_vec();
        // A message that is there and says nothing is two bytes to Envoy, and nothing to us where we do not read it.
        let attributes = theirs.attributes.as_ref().unwrap();
        let silent = [&attributes.metadata_context, &attributes.route_metadata_context];
        let silent = silent.into_iter().flatten().filter(|metadata| metadata.encoded_len() == 0).count();
        assert_eq!(again.len() + 2 * silent, bytes.len(), "{name}");
        let mut again = auth::CheckRequest::decode(again.as_slice()).unwrap();
        let empty = |metadata: &Option<core::Metadata>| metadata.as_ref().is_some_and(|m| m.encoded_len() == 0);
        let ours = again.attributes.as_mut().unwrap();
        for (ours, theirs) in [
            (&mut ours.metadata_context, &attributes.metadata_context),
            (&mut ours.route_metadata_context, &attributes.route_metadata_context),
        ] {
            if empty(theirs) {
                ours.get_or_insert_default();
            }
        }
        assert_eq!(again, theirs, "{name}");
    }
}

pub const PROBE: &str = "
issuers:
  probe:
    issuer: https://issuer.probe.test/
    jwks: file:captures/jwks.json
    audience: api.probe.test
    roles: groups
gateways:
  edge: {by: unix, believes: [client_address], client_address: {from: connection}}
headers:
  X-User-ID: sub
  X-User-Roles: roles
  X-User-Email: email
routes:
  GET app.probe.test/api/v1/items/{id}: role:dev and role:ops
  POST example.test/api/v1/items: role:ops
  127.0.0.1/probe.v1.Items/Get*: scope:read:items
  GET example.test/ws: signed-in
  example.test/ctx/**: public
  example.test/secure: anyone
  example.test/: public
guards:
  example.test/: network:2001:db8::/32
";

#[tokio::test]
async fn what_envoy_sent_is_decided_rightly() {
    let site = Site::open(PROBE, &BTreeMap::new());
    let known = "allow user-1234";
    let expected = BTreeMap::from([
        ("connect_h1", "400 path_missing"),
        ("get_jwt_browser", known),
        ("get_jwt_browser_h2", known),
        ("get_jwt_browser_rawheaders", known),
        ("grpc_unary", known),
        ("l4_plain", "400 request_missing"),
        ("l4_tls_client_cert", "400 request_missing"),
        ("post_body", known),
        ("post_body_partial_bytes", "401 credential_missing"),
        ("proxy_protocol_v6", "allow nobody"),
        ("route_context_metadata", "allow nobody"),
        ("tls_client_cert_dns", "allow nobody"),
        ("tls_client_cert_uri", "allow nobody"),
        ("tls_no_client_cert", "allow nobody"),
        // It names a socket's path, so that nobody knows the caller's address.
        ("uds_listener", "403 fact_unknown"),
        ("websocket_h1", "401 credential_missing"),
    ]);
    let captures = captures();
    assert!(captures.keys().eq(expected.keys()), "{:?}", captures.keys());
    for (name, bytes) in captures {
        let frame = envoy::check(&site.authorizer, Asker::Unix, Proof::default(), Ok(bytes.into()), None).await;
        let answer = match doors::read(&site, &frame) {
            Answer::Deny { status, reason, .. } => format!("{status} {}", reason.code()),
            Answer::Allow { set, removed, .. } => {
                let user = set.get("x-user-id").map_or("nobody", |user| user);
                let told = [("x-user-roles", r#"["dev","ops"]"#), ("x-user-email", "alice@probe.test")];
                for (header, value) in told {
                    let value = (user != "nobody").then_some(value);
                    assert_eq!(set.get(header).map(|value| &**value), value, "{name}");
                    assert_eq!(removed.contains(header), value.is_none(), "{name}");
                }
                format!("allow {user}")
            }
        };
        assert_eq!(answer, expected[&*name], "{name}");
    }
}
