//! What an allowed request brings to the application: its body, its upgrade, its large headers.

use portcullis::dev::upstream::Upstream;
use portcullis::dev::wire::exchange;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::{Gateway, House, POLICY, seen};
use crate::edge::{self, Portcullis, get, replaced, request, upgrade};
use crate::support::{ANY_PORT, DEADLINE};

#[tokio::test] // F08
async fn a_body_reaches_the_application_whole_or_not_at_all() {
    let house = House::start().await;
    let premium = house.premium();
    let body = "x".repeat(300_000);
    let chunked = format!("{:x}\r\n{body}\r\n5\r\nhello\r\n0\r\n\r\n", body.len());
    for door in &house.doors {
        let gateway = door.gateway;
        let length = format!("{premium}Content-Length: {}\r\n", body.len());
        let sized = door.ask(format!("{}{body}", request("POST", "/secret-data", &length))).await;
        assert_eq!((sized.status, sized.json().unwrap()["body_bytes"].as_u64()), (200, Some(300_000)), "{gateway:?}");
        assert_eq!(seen(&sized, "x-user-id"), ["u1"], "{gateway:?}");
        let coded = format!("{premium}Transfer-Encoding: chunked\r\n");
        let coded = door.ask(format!("{}{chunked}", request("POST", "/secret-data", &coded))).await;
        assert_eq!((coded.status, coded.json().unwrap()["body_bytes"].as_u64()), (200, Some(300_005)), "{gateway:?}");
        let before = house.upstream.seen();
        let refused = door.ask(format!("{}hello", request("POST", "/secret-data", "Content-Length: 5\r\n"))).await;
        assert_eq!((refused.status, house.upstream.seen()), (401, before), "{gateway:?}");
    }
}

#[tokio::test] // F08
async fn a_websocket_is_asked_about_and_then_open() {
    let policy = POLICY.replace("LISTEN", "127.0.0.1:0");
    let portcullis = Portcullis::with(edge::issuer().await, &policy).await;
    let listener = TcpListener::bind(ANY_PORT).await.unwrap();
    let upstream = listener.local_addr().unwrap();
    let application = tokio::spawn(echoing(listener));
    for gateway in Gateway::ALL {
        let running = &portcullis.running;
        let at = if gateway == Gateway::EnvoyGrpc { running.grpc[0] } else { running.http[0] };
        let Some(door) = gateway.start(at, upstream).await else { continue };
        let mut stream = TcpStream::connect(door.address()).await.unwrap();
        stream.write_all(upgrade("/chat", &portcullis.premium()).as_bytes()).await.unwrap();
        let head = head(&mut stream).await;
        assert!(head.starts_with("http/1.1 101"), "{gateway:?}: {head}");
        stream.write_all(b"\x81\x04ping").await.unwrap();
        let mut frame = [0; 6];
        stream.read_exact(&mut frame).await.unwrap();
        assert_eq!(&frame, b"\x81\x04ping", "{gateway:?}");
        assert_eq!(door.ask(upgrade("/chat", "")).await.status, 401, "{gateway:?}");
    }
    application.abort();
}

/// An application that takes handshakes which name `u1` and gives back what follows.
async fn echoing(listener: TcpListener) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        tokio::spawn(async move {
            let asked = head(&mut stream).await;
            let known = asked.contains("\r\nx-user-id: u1\r\n") && asked.contains("\r\nupgrade: websocket\r\n");
            assert!(known, "{asked}");
            let accepted = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                            Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
            stream.write_all(accepted.as_bytes()).await.unwrap();
            let (mut read, mut write) = stream.split();
            // It ends when the caller does.
            let _ = tokio::io::copy(&mut read, &mut write).await;
        });
    }
}

/// The head of a message, in lower case.
async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap().to_ascii_lowercase()
}

#[tokio::test] // N11
async fn large_headers_pass_or_are_refused_but_never_open_a_door() {
    let house = House::start().await;
    let premium = house.premium();
    for door in &house.doors {
        let gateway = door.gateway;
        let cookie = format!("Cookie: c={}\r\n", "v".repeat(6 * 1024));
        let usual = door.ask(get("/secret-data", &format!("{premium}{cookie}"))).await;
        assert_eq!((usual.status, seen(&usual, "x-user-id")), (200, vec!["u1".to_owned()]), "{gateway:?}");
        let mut large = vec![format!("X-Large: {}\r\n", "v".repeat(7_900))];
        large.extend([12, 16, 20, 33, 63, 100].map(|kib| format!("X-Large: {}\r\n", "v".repeat(kib * 1024))));
        large.extend([95, 99, 120, 300].map(|count| (0..count).map(|n| format!("X-N{n}: v\r\n")).collect()));
        for headers in large {
            let before = house.upstream.seen();
            // A gateway may close the connection while more is being sent.
            let ask = |more: &str| {
                let raw = get("/secret-data", &format!("{more}{headers}"));
                async move { exchange(door.address(), raw.as_bytes(), DEADLINE).await.ok() }
            };
            assert!(ask("").await.is_none_or(|refused| matches!(refused.status, 400..=599)), "{gateway:?}");
            assert_eq!(house.upstream.seen(), before, "{gateway:?}");
            if let Some(known) = ask(&premium).await {
                assert!(known.status != 200 || seen(&known, "x-user-id") == ["u1"], "{gateway:?}: {}", known.text());
            }
        }
    }
}

/// After which line of whose file stands what hands a header of the response to the caller.
pub const RESPONSE_LINES: [(Gateway, &str, &str); 3] = [
    (
        Gateway::Nginx,
        "    # portcullis: end\n",
        "    auth_request_set $portcullis_response_x_served_for $upstream_http_x_portcullis_response_x_served_for;\n    \
         add_header X-Served-For $portcullis_response_x_served_for always;\n",
    ),
    (
        Gateway::Caddy,
        "\t\t\t\tkeepalive_idle_conns_per_host 64\n\t\t\t}\n\t\t}\n",
        "\t\theader X-Served-For {http.reverse_proxy.header.X-Portcullis-Response-X-Served-For}\n",
    ),
    (
        Gateway::EnvoyHttp,
        "                        authorization_response:\n",
        "                          allowed_client_headers_on_success: { patterns: [{ exact: x-served-for, ignore_case: true }] }\n",
    ),
];

#[tokio::test]
async fn a_header_for_the_caller_arrives_where_the_file_says_so() {
    let policy = POLICY.replace("LISTEN", "127.0.0.1:0");
    let policy = format!("{policy}response_headers: {{X-Served-For: sub}}\n");
    let portcullis = Portcullis::with(edge::issuer().await, &policy).await;
    let upstream = Upstream::start(ANY_PORT).await.unwrap();
    for gateway in Gateway::ALL {
        let running = &portcullis.running;
        let at = if gateway == Gateway::EnvoyGrpc { running.grpc[0] } else { running.http[0] };
        let mut template = gateway.template();
        if let Some((_, after, line)) = RESPONSE_LINES.iter().find(|(of, ..)| *of == gateway) {
            template = replaced(&template, after, &format!("{after}{line}"));
        }
        let Some(door) = gateway.start_with(&template, at, upstream.address()).await else { continue };
        let allowed = door.ask(get("/secret-data", &portcullis.premium())).await;
        assert_eq!((allowed.status, allowed.header("x-served-for")), (200, Some("u1")), "{gateway:?}");
        let refused = door.ask(get("/secret-data", "")).await;
        assert_eq!((refused.status, refused.header("x-served-for")), (401, None), "{gateway:?}");
    }
}
