//! Requests whose end, host or kind can be read in two ways. Each is whole whichever way it is read, so that no other
//! caller's request is touched.

use super::{Attacks, Request, Rule};

/// The end of a chunked body, and five bytes for whom counts them.
const END: &str = "0\r\n\r\n";
const LENGTHS: &[(&str, &str)] = &[
    ("a length, and chunked", "Content-Length: 5\r\nTransfer-Encoding: chunked"),
    ("chunked, and a length", "Transfer-Encoding: chunked\r\nContent-Length: 5"),
    ("a length, and a list of codings", "Content-Length: 5\r\nTransfer-Encoding: identity, chunked"),
    ("a length, and chunked twice", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
    ("a length, and `xchunked`", "Content-Length: 5\r\nTransfer-Encoding: xchunked"),
    ("a length, and a blank before the colon", "Content-Length: 5\r\nTransfer-Encoding : chunked"),
    ("a length, and a vertical tab", "Content-Length: 5\r\nTransfer-Encoding:\u{b}chunked"),
    ("a length, and a folded line", "Content-Length: 5\r\nTransfer-Encoding:\r\n chunked"),
    ("two lengths", "Content-Length: 5\r\nContent-Length: 0"),
    ("two lengths, the other way", "Content-Length: 0\r\nContent-Length: 5"),
    ("two lengths in one line", "Content-Length: 5, 0"),
    ("a length with a sign", "Content-Length: +5"),
];
const OTHER: &str = "other.example";

impl Attacks<'_> {
    pub(super) fn framing(&mut self) {
        let site = self.site;
        if let Some(public) = &site.public {
            let post = Request::new("POST", public, &site.host).body(END);
            let get = Request::new("GET", public, &site.host).body(END);
            for (what, lines) in LENGTHS {
                self.push("framing", *what, Rule::Framed, post.clone().with(*lines));
                self.push("framing", format!("{what}, GET"), Rule::Framed, get.clone().with(*lines));
            }
            self.hosts(public);
            self.push("trace", "TRACE", Rule::Told, Request::new("TRACE", public, &site.host));
        }
        for target in ["127.0.0.1:22", "localhost:80", "other.example:443"] {
            let request = Request::new("CONNECT", target, target).open();
            self.push("connect", format!("`CONNECT {target}`"), Rule::NoTunnel, request);
        }
    }

    fn hosts(&mut self, public: &str) {
        let site = self.site;
        let get = site.get(public);
        for (what, request) in [
            ("the second is another", get.clone().with(format!("Host: {OTHER}"))),
            ("the first is another", Request::new("GET", public, OTHER).with(format!("Host: {}", site.host))),
            ("a target with another", Request::new("GET", &format!("http://{OTHER}{public}"), &site.host)),
            ("in one line", Request::new("GET", public, &format!("{}, {OTHER}", site.host))),
            ("a blank before the colon", get.clone().with(format!("Host : {OTHER}"))),
            ("a folded line", get.with(format!("Host:\r\n {OTHER}"))),
        ] {
            self.push("two_hosts", what, Rule::OneHost, request);
        }
    }
}
