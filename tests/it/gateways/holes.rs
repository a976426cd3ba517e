//! The files without one of their lines: each then has a hole, which the tests beside would see.

use portcullis::dev::upstream::Upstream;
use portcullis::dev::wire::Answer;

use super::{Gateway, POLICY, seen};
use crate::edge::{self, Portcullis, replaced};
use crate::support::{ANY_PORT, deserted_address};

/// A file, a line of it that is left out, what a caller sends, and how the application is then misled.
struct Hole {
    gateway: Gateway,
    line: &'static str,
    sent: &'static str,
    misled: fn(&Answer) -> bool,
}

fn is_root(answer: &Answer) -> bool {
    seen(answer, "x-user-id") == ["root"] || seen(answer, "remote-user") == ["root"]
}

const HOLES: [Hole; 7] = [
    Hole {
        gateway: Gateway::Nginx,
        line: "    proxy_set_header X-User-ID    $portcullis_x_user_id;\n",
        sent: "/health HTTP/1.1\r\nX-User-ID: root\r\n",
        misled: is_root,
    },
    Hole {
        gateway: Gateway::Nginx,
        line: "    proxy_set_header Remote-User                    \"\";\n",
        sent: "/health HTTP/1.1\r\nRemote-User: root\r\n",
        misled: is_root,
    },
    Hole {
        gateway: Gateway::Nginx,
        line: "    auth_request /__portcullis;\n",
        sent: "/nowhere HTTP/1.1\r\n",
        misled: |answer| seen(answer, "x-user-id").is_empty(),
    },
    Hole {
        gateway: Gateway::Caddy,
        line: "\t\trequest_header -Remote-*\n",
        sent: "/health HTTP/1.1\r\nRemote-User: root\r\n",
        misled: is_root,
    },
    Hole {
        gateway: Gateway::Caddy,
        line: "\t\trequest_header @plain -Connection\n",
        sent: "/secret-data HTTP/1.1\r\nConnection: x-user-id\r\n",
        misled: |answer| seen(answer, "x-user-id").is_empty(),
    },
    Hole {
        gateway: Gateway::EnvoyHttp,
        line: "                              - { exact: x-user-id, ignore_case: true }\n",
        sent: "/secret-data HTTP/1.1\r\nX-User-ID: root\r\n",
        misled: is_root,
    },
    Hole {
        gateway: Gateway::Haproxy,
        line: "    http-request del-header Connection\n",
        sent: "/secret-data HTTP/1.1\r\nConnection: x-user-id\r\n",
        misled: |answer| {
            seen(answer, "connection").iter().any(|names| names.to_ascii_lowercase().contains("x-user-id"))
        },
    },
];

#[tokio::test]
async fn a_file_without_one_of_its_lines_misleads_the_application() {
    let policy = POLICY.replace("LISTEN", "127.0.0.1:0");
    let portcullis = Portcullis::with(edge::issuer().await, &policy).await;
    let upstream = Upstream::start(ANY_PORT).await.unwrap();
    for Hole { gateway, line, sent, misled } in HOLES {
        let at = portcullis.running.http[0];
        for (template, holds) in [(gateway.template(), true), (replaced(&gateway.template(), line, ""), false)] {
            let Some(door) = gateway.start_with(&template, at, upstream.address()).await else { continue };
            let premium = if sent.starts_with("/secret-data") { portcullis.premium() } else { String::new() };
            let answer = door.ask(format!("GET {sent}Host: shop.test\r\n{premium}\r\n")).await;
            let is_misled = answer.status == 200 && misled(&answer);
            assert_eq!(is_misled, !holds, "{gateway:?} {line} {}: {}", answer.status, answer.text());
        }
    }
}

#[tokio::test]
async fn haproxy_without_its_last_line_is_open_while_portcullis_is_down() {
    let upstream = Upstream::start(ANY_PORT).await.unwrap();
    let file = Gateway::Haproxy.template();
    let deny = file.lines().find(|line| line.trim_start().starts_with("http-request deny ")).unwrap();
    for (template, status) in [(file.clone(), 503), (replaced(&file, deny, ""), 200)] {
        let Some(door) = Gateway::Haproxy.start_with(&template, deserted_address(), upstream.address()).await else {
            return;
        };
        let answer = door.ask("GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n").await;
        assert_eq!(answer.status, status, "{template}");
    }
}
