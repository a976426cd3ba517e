//! The listener of HTTP as it is served: who is answered, over which bytes, and how connections end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use portcullis::app::{self, Overrides, Running};
use portcullis::authz::decision_id::SealingKey;
use portcullis::feed::config::PolicyFile;
use portcullis::server::Endpoint;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use crate::parity::{Heard, heard};
use crate::support::{ANY_PORT, DEADLINE, TempDir};
use crate::trust::{Authority, uri};

const TOKEN: &str = "q8Zr3vK1mW6xT0pY9cB4nL7sD2fG5hJ0";
const KEY: &[u8] = b"0123456789abcdef0123456789abcdef";
const WORDS: [&str; 5] = ["envoy", "nginx", "traefik", "caddy", "haproxy"];

struct Site {
    running: Running,
    dir: TempDir,
}

impl Site {
    /// One that knows these gateways, with a listener at any port.
    async fn start(gateways: &str) -> Self {
        Self::listening(TempDir::new(), "127.0.0.1:0", gateways).await
    }

    async fn listening(dir: TempDir, http: &str, gateways: &str) -> Self {
        dir.file("edge.token", TOKEN);
        dir.file("decisions.key", KEY);
        let policy = format!(
            "headers: {{X-User-ID: sub}}\nroutes: {{/public/**: public{}}}\nlisten: {{http: {http}}}\naudit: none\n\
             decision_key: file:{}\n{gateways}\n",
            if gateways.contains("issuers:") { ", /me: signed-in" } else { "" },
            dir.path().join("decisions.key").display()
        );
        let (file, compiled) = PolicyFile::open(dir.file("portcullis.yaml", policy)).unwrap();
        let listen = vec![Endpoint::Tcp(ANY_PORT)];
        let overrides = Overrides { listen, admin: Some(ANY_PORT), cores: Some(1), ..Overrides::default() };
        Self { running: app::start(file, compiled, &overrides).await.unwrap(), dir }
    }

    fn http(&self) -> SocketAddr {
        self.running.http[0]
    }

    /// Everything that bytes are answered with, until the connection ends.
    async fn all(&self, bytes: &str) -> String {
        all(TcpStream::connect(self.http()).await.unwrap(), bytes).await
    }

    async fn ask(&self, bytes: &str) -> Heard {
        heard(self.all(bytes).await.as_bytes())
    }
}

async fn all(mut stream: impl AsyncRead + AsyncWrite + Unpin, bytes: &str) -> String {
    let _ = stream.write_all(bytes.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut answer)).await.expect("the connection ends");
    String::from_utf8(answer).unwrap()
}

/// The code of the reason that an answer's decision id tells.
fn reason(heard: &Heard) -> &'static str {
    let told = SealingKey::new(KEY).unwrap().open(&heard.headers["x-portcullis-decision"]).unwrap();
    told.reason.map_or("allow", |reason| reason.code())
}

/// How a gateway asks about a path.
fn call(word: &str, path: &str, more: &str) -> String {
    let family = if matches!(word, "nginx" | "haproxy") { "original" } else { "forwarded" };
    if word == "envoy" {
        return format!(
            "GET /forward/envoy{path} HTTP/1.1\r\nhost: shop.test\r\nx-forwarded-proto: https\r\n{more}\r\n"
        );
    }
    format!(
        "GET /forward/{word} HTTP/1.1\r\nhost: p\r\nx-{family}-method: GET\r\nx-{family}-uri: {path}\r\n\
         x-{family}-host: shop.test\r\n{more}\r\n"
    )
}

const CLOSE: &str = "connection: close\r\n";

/// Entries for all dialects but this one.
fn all_but(word: &str, by: &str) -> String {
    let entries = WORDS.iter().filter(|other| **other != word).map(|word| {
        let dialect = if *word == "envoy" { "envoy-http" } else { word };
        format!("  {word}: {{by: {by}, dialect: {dialect}}}\n")
    });
    format!("gateways:\n  grpc: {{by: {by}}}\n  json: {{by: {by}, dialect: json}}\n{}", entries.collect::<String>())
}

#[tokio::test] // F01
async fn nothing_is_read_of_a_peer_without_an_entry_of_its_dialect() {
    for word in WORDS {
        let site = Site::start(&all_but(word, "127.0.0.0/8")).await;
        let known = WORDS.iter().find(|known| **known != word).unwrap();
        assert_eq!(site.ask(&call(known, "/public/a", CLOSE)).await.status, 200);
        for more in [
            "",
            "x-forwarded-uri: /public/a\r\n",
            "x-forwarded-method: GET\r\n",
            "x-forwarded-proto: https\r\n",
            "x-forwarded-host: shop.test\r\n",
            "x-forwarded-for: 127.0.0.1\r\n",
            "x-forwarded-port: 443\r\n",
            "x-forwarded-prefix: /public\r\n",
            "x-original-url: /public/a\r\n",
            "x-original-uri: /public/a\r\n",
            "x-original-method: GET\r\n",
            "x-original-address: 127.0.0.1\r\n",
            "x-rewrite-url: /public/a\r\n",
            "forwarded: for=127.0.0.1;host=shop.test\r\n",
            "x-envoy-original-path: /public/a\r\n",
            "x-envoy-internal: true\r\n",
            "x-envoy-external-address: 127.0.0.1\r\n",
            "x-portcullis-token: q8Zr3vK1mW6xT0pY9cB4nL7sD2fG5hJ0\r\n",
        ] {
            // Whether or not it could be read otherwise.
            for question in
                [call(word, "/public/a", &format!("{more}{CLOSE}")), call(word, "", &format!("{more}{CLOSE}"))]
            {
                let answer = site.ask(&question).await;
                assert_eq!((answer.status, reason(&answer)), (403, "gateway_unknown"), "{word}: {more}");
            }
        }
    }
}

#[tokio::test] // F08
async fn the_call_itself_may_have_any_method_and_a_body_and_only_the_question_counts() {
    let site = Site::start(&all_but("", "127.0.0.0/8")).await;
    for word in WORDS.into_iter().filter(|word| *word != "envoy") {
        for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "PROPFIND"] {
            for (path, status) in [("/public/a", 200), ("/other", 403)] {
                let question = call(word, path, CLOSE).replacen("GET", method, 1);
                let answer = site.all(&question).await;
                assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{word} {method}: {answer}");
                let body = answer.split_once("\r\n\r\n").unwrap().1;
                assert_eq!(body.is_empty(), status == 200 || method == "HEAD", "{word} {method}: {body}");
                let with_body = call(word, path, &format!("{CLOSE}content-length: 5\r\n")) + "hello";
                assert_eq!(site.ask(&with_body).await.status, status, "{word}");
                let chunked =
                    call(word, path, &format!("{CLOSE}transfer-encoding: chunked\r\n")) + "5\r\nhello\r\n0\r\n\r\n";
                assert_eq!(site.ask(&chunked).await.status, status, "{word}");
            }
        }
        let handshake = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n";
        let mut stream = TcpStream::connect(site.http()).await.unwrap();
        stream.write_all(call(word, "/public/a", handshake).as_bytes()).await.unwrap();
        let mut begin = [0; 12];
        stream.read_exact(&mut begin).await.unwrap();
        assert_eq!(&begin, b"HTTP/1.1 200", "{word}");
    }
}

#[tokio::test]
async fn answers_come_in_order_over_one_connection_and_no_body_is_a_question() {
    let site = Site::start(&all_but("", "127.0.0.0/8")).await;
    let statuses = |answer: &str| -> Vec<u16> {
        answer.split("HTTP/1.1 ").skip(1).map(|part| part[..3].parse().unwrap()).collect()
    };
    for word in WORDS {
        let pipelined = [call(word, "/public/a", ""), call(word, "/b", ""), call(word, "/public/c", CLOSE)].concat();
        assert_eq!(statuses(&site.all(&pipelined).await), [200, 403, 200], "{word}");
        // What stands in a body was never asked.
        let inner = call(word, "/public/a", "");
        let length = format!("content-length: {}\r\n", inner.len());
        let outer = call(word, "/b", &length) + &inner + &call(word, "/b", CLOSE);
        let answers = statuses(&site.all(&outer).await);
        assert!(answers == [403, 403] || answers == [403], "{word}: {answers:?}");
        let chunked = format!("{:x}\r\n{inner}\r\n0\r\n\r\n", inner.len());
        let outer = call(word, "/b", "transfer-encoding: chunked\r\n") + &chunked + &call(word, "/b", CLOSE);
        let answers = statuses(&site.all(&outer).await);
        assert!(answers == [403, 403] || answers == [403], "{word}: {answers:?}");
        // Where two lengths are told, nothing that follows is a question.
        for two in [
            format!("{length}transfer-encoding: chunked\r\n"),
            format!("transfer-encoding: chunked\r\n{length}"),
            format!("{length}content-length: 0\r\n"),
            "content-length: 0\r\ntransfer-encoding: identity\r\n".to_owned(),
            "transfer-encoding: xchunked\r\n".to_owned(),
            "content-length: +5\r\n".to_owned(),
            "content-length: 0, 5\r\n".to_owned(),
        ] {
            let answers = statuses(&site.all(&(call(word, "/b", &two) + "0\r\n\r\n" + &inner)).await);
            assert!(answers.len() == 1 && answers[0] != 200, "{word}: {two}: {answers:?}");
        }
    }
}

#[tokio::test]
async fn what_is_not_a_plain_call_is_never_an_allow() {
    let site = Site::start(&all_but("", "127.0.0.0/8")).await;
    for word in WORDS {
        let plain = call(word, "/public/a", CLOSE);
        let path = plain.split(' ').nth(1).unwrap().to_owned();
        assert_eq!(site.ask(&plain).await.status, 200, "{word}");
        for (other, status) in [
            (format!("http://shop.test{path}"), 400),
            (format!("https://p{path}"), 400),
            (format!("/{path}"), 404),
            (path.replace("forward", "Forward"), 404),
            (path.replace("/forward/", "/forward//"), 404),
            (path.replace("/forward/", "/x/../forward/"), 404),
            (path.replace("/forward/", "/forward/%2e/"), 404),
        ] {
            let answer = site.ask(&plain.replacen(&path, &other, 1)).await;
            assert_eq!(answer.status, if word == "nginx" && status == 400 { 403 } else { status }, "{word}: {other}");
        }
        if word != "envoy" {
            // The query of the call is the caller's at most, and says nothing.
            assert_eq!(site.ask(&plain.replacen(&path, &format!("{path}?x=/closed"), 1)).await.status, 200);
            assert_eq!(site.ask(&plain.replacen(&path, &format!("{path}/a"), 1)).await.status, 404);
        }
        assert_eq!(site.ask(&plain.replace("HTTP/1.1", "HTTP/1.0")).await.status, 200, "{word}: HTTP/1.0");
        for broken in [
            plain.replace("HTTP/1.1", "HTTP/2.0"),
            plain.replace("\r\nhost:", "\r\nhost :"),
            plain.replace("\r\nhost:", "\r\n host:"),
            plain.replace("\r\nconnection", "\r\nx-user-id\0: a\r\nconnection"),
            plain.replace("\r\nconnection", "\r\nx-a: a\x01b\r\nconnection"),
            plain.replace("\r\nconnection", "\r\nx-a: b\rx-b: c\r\nconnection"),
        ] {
            let answer = site.ask(&broken).await;
            assert_eq!(answer.status, 400, "{word}: {broken:?}");
        }
        let many = "x-a: b\r\n".repeat(600);
        assert_eq!(site.ask(&plain.replace("connection", &format!("{many}connection"))).await.status, 431, "{word}");
        let large = format!("x-a: {}\r\n", "b".repeat(400 * 1024));
        assert_eq!(site.ask(&plain.replace("connection", &format!("{large}connection"))).await.status, 431, "{word}");
    }
    assert_eq!(site.ask(&format!("GET / HTTP/1.1\r\nhost: p\r\n{CLOSE}\r\n")).await.status, 404);
}

#[tokio::test] // F09, N11
async fn an_answer_is_never_larger_than_its_gateway_takes() {
    let entries = all_but("", "127.0.0.0/8");
    let site = Site::start(&format!(
        "issuers: {{main: {{url: 'https://id.test', audience: a}}}}\nsign_in: 'https://login.test/?to={{url}}'\npublic_url: https://shop.test\n{entries}"
    ))
    .await;
    for word in WORDS {
        // A name of a family that is removed.
        let alias = format!("x-auth-request-{}: a\r\n{CLOSE}", "b".repeat(40_000));
        let answer = site.ask(&call(word, "/public/a", &alias)).await;
        assert_eq!(reason(&answer), "headers_too_large", "{word}");
        assert!(answer.status != 200);
        // A page to come back to after signing in.
        for length in [10, 7_000, 20_000] {
            let page = call(word, &format!("/me?x={}", "%20".repeat(length)), &format!("accept: text/html\r\n{CLOSE}"));
            let answer = site.ask(&page).await;
            let bytes: usize = answer.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
            assert!(answer.status != 200 && bytes < 30 * 1024, "{word}: {bytes}");
            let sent = answer.headers.contains_key("location") || answer.headers.contains_key("x-portcullis-location");
            assert_eq!(sent, length == 10, "{word}: {length}");
        }
    }
}

#[tokio::test] // A01
async fn a_gateways_token_is_its_own_whatever_bearer_the_caller_sends() {
    let site = Site::start(&all_but("", "token:file:edge.token")).await;
    for word in WORDS {
        let with = |more: &str| call(word, "/public/a", &format!("{more}{CLOSE}"));
        let own = format!("x-portcullis-token: {TOKEN}\r\n");
        assert_eq!(site.ask(&with(&own)).await.status, 200, "{word}");
        assert_eq!(site.ask(&with(&format!("{own}authorization: Bearer theirs\r\n"))).await.status, 200, "{word}");
        for not in [
            String::new(),
            format!("authorization: Bearer {TOKEN}\r\n"),
            format!("{own}{own}"),
            format!("{own}x-portcullis-token: theirs\r\n"),
            format!("x-portcullis_token: {TOKEN}\r\n"),
        ] {
            let answer = site.ask(&with(&not)).await;
            assert_eq!((answer.status, reason(&answer)), (403, "gateway_unknown"), "{word}: {not}");
        }
    }
}

#[tokio::test] // F05
async fn over_tls_and_over_a_unix_socket_a_gateway_is_known_as_by_grpc() {
    let (dir, authority) = (TempDir::new(), Authority::new());
    let (certificate, key) = authority.sign(vec![rcgen::SanType::DnsName("p.test".try_into().unwrap())], false);
    dir.file("server.pem", certificate);
    dir.file("server.key", key);
    dir.file("ca.pem", &authority.pem);
    let socket = dir.path().join("http.sock");
    let http = format!(
        "[{{address: '127.0.0.1:0', tls: {{certificate: file:server.pem, key: file:server.key, client_ca: file:ca.pem, client: optional}}}}, 'unix:{}']",
        socket.display()
    );
    let gateways =
        "gateways: {mesh: {by: 'spiffe://td.test/nginx', dialect: nginx}, local: {by: unix, dialect: caddy}}";
    let site = Site::listening(dir, &http, gateways).await;
    let local = UnixStream::connect(&socket).await.unwrap();
    assert_eq!(heard(all(local, &call("caddy", "/public/a", CLOSE)).await.as_bytes()).status, 200);
    let local = UnixStream::connect(&socket).await.unwrap();
    assert_eq!(heard(all(local, &call("nginx", "/public/a", CLOSE)).await.as_bytes()).status, 403);
    for (shown, status) in [
        (Some("spiffe://td.test/nginx"), 200),
        (Some("spiffe://td.test/nginx/b"), 403),
        (Some("spiffe://td.test/caddy"), 403),
        (None, 403),
    ] {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let builder = builder.with_root_certificates(roots);
        let mut config = match shown {
            Some(id) => {
                let (certificate, key) = authority.sign(vec![uri(id)], false);
                let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).map(Result::unwrap).collect();
                builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let stream = TcpStream::connect(site.http()).await.unwrap();
        let name = ServerName::try_from("p.test").unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        assert_eq!(heard(all(stream, &call("nginx", "/public/a", CLOSE)).await.as_bytes()).status, status, "{shown:?}");
    }
    assert!(site.dir.path().exists());
}

#[tokio::test]
async fn a_connection_that_rests_does_not_hold_up_a_drain() {
    let site = Site::start(&all_but("", "127.0.0.0/8")).await;
    let mut stream = TcpStream::connect(site.http()).await.unwrap();
    stream.write_all(call("caddy", "/public/a", "").as_bytes()).await.unwrap();
    let mut begin = [0; 12];
    stream.read_exact(&mut begin).await.unwrap();
    assert_eq!(&begin, b"HTTP/1.1 200");
    tokio::time::timeout(Duration::from_secs(8), site.running.drain()).await.expect("it is closed, not waited for");
    assert!(stream.read_to_end(&mut Vec::new()).await.is_ok());
}
