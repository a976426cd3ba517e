//! Random requests near what a policy says.

use std::net::IpAddr;

use super::model::{Host, Key, Place, Policy, Question, Segment};
use super::random::Dice;

const ADDRESSES: [&str; 6] = ["10.1.2.3", "10.2.0.1", "192.0.2.1", "2001:db8::1", "2001:db9::1", "::ffff:10.1.2.3"];

/// A request near one of the policy's keys.
pub fn question(dice: &mut Dice, policy: &Policy) -> Question {
    let keys: Vec<&Key> =
        policy.routes.iter().map(|route| &route.key).chain(policy.guards.iter().map(|(key, _)| key)).collect();
    let key = keys[dice.below(keys.len())];
    let method = if key.methods.is_empty() || dice.one_in(6) {
        dice.pick(&["GET", "POST", "HEAD", "OPTIONS", "PUT"]).to_owned()
    } else {
        key.methods[dice.below(key.methods.len())].clone()
    };
    let mut question = Question {
        peer: dice.one_in(3).then(|| address(dice, &["10.0.4.1", "10.9.9.9", "192.0.2.9"])),
        source: (!dice.one_in(6)).then(|| address(dice, &ADDRESSES)),
        method,
        host: host(dice, key),
        target: target(dice, key),
        lines: Vec::new(),
    };
    lines(dice, policy, &mut question);
    if dice.one_in(60) {
        match dice.below(5) {
            0 => question.method = dice.pick(&["get", "CONNECT", "", "G T", "FOO", "M-SEARCH"]).into(),
            1 => {
                question.host = dice.pick(&["", "a b", "u@shop.test", "shop.test,b.test", "a..b", "shop.test:x"]).into()
            }
            2 => question.target = dice.pick(&["", "*", "a", "?x", "/%", "http://shop.test/a"]).into(),
            _ => question.lines.push(("bad name".into(), "x".into())),
        }
    }
    let pseudo = [(":method", &question.method), (":path", &question.target), (":authority", &question.host)];
    question.lines.splice(0..0, pseudo.map(|(name, value)| (name.to_owned(), value.clone())));
    if dice.one_in(200) {
        _ = question.lines.remove(0);
    }
    question
}

fn address(dice: &mut Dice, of: &[&str]) -> IpAddr {
    of[dice.below(of.len())].parse().unwrap()
}

fn host(dice: &mut Dice, key: &Key) -> String {
    let label = |dice: &mut Dice| dice.pick(&["a", "b", "acme", "x.y"]);
    let host = match &key.host {
        Some(Host::Name(name)) if !dice.one_in(6) => name.clone(),
        Some(Host::Below(name) | Host::Capture(_, name)) if !dice.one_in(6) => format!("{}.{name}", label(dice)),
        _ => dice.pick(&["shop.test", "a.shop.test", "other.test", "b.a.shop.test", "c.shop.test"]).to_owned(),
    };
    match dice.below(12) {
        0 => host.to_uppercase(),
        1 => format!("{host}:8443"),
        2 => format!("{host}."),
        _ => host,
    }
}

fn target(dice: &mut Dice, key: &Key) -> String {
    let any = ["a", "b", "A", "ab", "orders", "u1", "acme", "abcd", "1", "%C3%A9", "o:a", "m:u1", "u1"];
    let mut segments: Vec<String> = Vec::new();
    for segment in &key.path {
        match segment {
            Segment::Literal(text) => segments.push(text.replace('é', "%c3%a9")),
            Segment::One | Segment::Capture(_) => segments.push(dice.pick(&any).into()),
            Segment::Prefix(text) => segments.push(format!("{text}{}", dice.pick(&["", "b", "c", "bc"]))),
            Segment::Rest | Segment::CaptureRest(_) => segments.extend(dice.some(2, |dice| dice.pick(&any).into())),
        }
    }
    for _ in 0..[0, 0, 0, 0, 1, 1, 2][dice.below(7)] {
        mutate(dice, &mut segments, &any);
    }
    let end = dice.pick(&["", "", "", "", "/", "?x=1", "?../", "/?", "//"]);
    format!("/{}{end}", segments.join("/"))
}

fn mutate(dice: &mut Dice, segments: &mut Vec<String>, any: &[&str]) {
    let odd = [
        ".",
        "..",
        "%2e%2E",
        ".%20",
        "...",
        "",
        "%2f",
        "%2Fx",
        ";",
        ";x",
        "..;",
        "a;b",
        "%3b",
        "\\",
        "%5c",
        "..%2f",
        "%252e",
        "%25",
        "%2541",
        "%25%34%31",
        "%00",
        "%7f",
        "%ff",
        "%zz",
        "%3f",
        "a%3Fb",
        "a%23",
        "#",
        "%ef%bc%8f",
        "%ef%bc%8e",
        "%e2%80%a4",
        "%ef%bc%bc",
        "%20",
        "a.",
        "A%20",
        "a. .",
        "%c5%bf",
        "%e2%84%aa",
        " ",
        "~",
        "*",
        "%7Bid%7D",
        "\"",
        "%C3%89",
        "%252f",
        "%25252e",
        "..%5c",
        "a%2fb",
    ];
    if segments.is_empty() || dice.one_in(6) {
        let text = if dice.one_in(2) { dice.pick(any) } else { dice.pick(&odd) };
        segments.insert(dice.below(segments.len() + 1), text.into());
        return;
    }
    let at = dice.below(segments.len());
    let segment = &mut segments[at];
    match dice.below(8) {
        0 => _ = segments.remove(at),
        1 => *segment = dice.pick(any).into(),
        2 => *segment = dice.pick(&odd).into(),
        3 => segment.push_str(dice.pick(&odd)),
        4 => segment.push_str(dice.pick(&[".", "%20", "..", ";", ".%20", ";v=1", "%3f", "%23x"])),
        5 => *segment = segment.to_uppercase(),
        6 => *segment = segment.to_lowercase(),
        _ => {
            if let Some(first) = segment.chars().next().filter(char::is_ascii_alphanumeric) {
                *segment = format!("%{:02x}{}", u32::from(first), &segment[1..]);
            }
        }
    }
}

fn lines(dice: &mut Dice, policy: &Policy, question: &mut Question) {
    let mut line = |name: &str, value: &str| question.lines.push((name.to_owned(), value.to_owned()));
    let token = format!("<{}>", dice.below(10));
    for place in [Place::Bearer, Place::Header("x-token".into()), Place::Cookie("session".into())] {
        let is_used = policy.issuers.iter().flat_map(|issuer| &issuer.from).any(|one| match (one, &place) {
            (Place::Header(_), Place::Header(_)) => true,
            (one, place) => one == place,
        });
        if if is_used { dice.one_in(4) } else { !dice.one_in(20) } {
            continue;
        }
        let token = match dice.below(24) {
            0 => format!("<{}>", dice.below(10)),
            1 => "a.b.c".to_owned(),
            _ => token.clone(),
        };
        match place {
            Place::Bearer => {
                line("authorization", &format!("{} {token}", dice.pick(&["Bearer", "Bearer", "bearer", "Basic"])))
            }
            Place::Header(name) => line(&name, &token),
            Place::Cookie(name) => line("cookie", &format!("{}{name}={token}", dice.pick(&["", "a=b; "]))),
        }
    }
    if dice.one_in(3) {
        line("sec-fetch-site", dice.pick(&["same-origin", "none", "cross-site", "same-site"]));
    }
    if dice.one_in(3) {
        line("origin", dice.pick(&["https://app.test", "https://evil.test", "null"]));
    }
    if dice.one_in(30) {
        line("upgrade", "websocket");
    }
    if dice.one_in(3) {
        let names = [
            "x-user-id",
            "x_user_id",
            "x-roles",
            "xroles",
            "x-tenant",
            "x_tenant",
            "x.info",
            "x-info",
            "remote-user",
            "remote_user",
            "remoteuser",
            "remoteness",
            "x-consumer-id",
            "x_consumer_id",
            "x-rewrite-url",
            "x-ms-client-principal",
            "x-ms-client-principal-id",
            "x-forwarded-user",
            "x-other",
        ];
        for _ in 0..=dice.below(2) {
            line(dice.pick(&names), "forged");
        }
    }
    if dice.one_in(3) {
        line("x-envoy-external-address", dice.pick(&["10.1.2.3", "192.0.2.1", "no", "::ffff:10.1.2.3"]));
    }
    if dice.one_in(3) {
        line(
            "x-forwarded-for",
            dice.pick(&["10.1.2.3", "192.0.2.1, 10.2.0.1", "10.2.0.1,192.0.2.1", "x, 10.1.2.3", ""]),
        );
    }
}
