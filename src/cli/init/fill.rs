//! A shipped file with other addresses and other headers in it, and otherwise as it is.

use std::net::IpAddr;
use std::str::FromStr;

/// Where something listens: a host and a port, nothing else, so that no file's syntax can be broken with one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    host: String,
    port: u16,
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{}` is not HOST:PORT, such as 127.0.0.1:9002 or [::1]:9002", text.escape_default());
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|port| digits && *port > 0).ok_or_else(wrong)?;
        let v6 = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let good = match v6 {
            Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
            None => is_name(host),
        };
        if good { Ok(Self { host: v6.unwrap_or(host).to_ascii_lowercase(), port }) } else { Err(wrong()) }
    }
}

/// Whether a text is a DNS name or an IPv4 address (RFC 1123 §2.1).
fn is_name(host: &str) -> bool {
    let label = |label: &str| {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        (1..=63).contains(&label.len()) && label.bytes().all(known) && !label.starts_with('-') && !label.ends_with('-')
    };
    let numeric = host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    host.len() <= 253 && host.split('.').all(label) && (!numeric || host.parse::<IpAddr>().is_ok())
}

impl Address {
    pub(super) fn is_ip(&self) -> bool {
        self.host.parse::<IpAddr>().is_ok()
    }

    /// The name and the namespace of a Service, where the host is one of a cluster: `name.namespace`, perhaps with `.svc…`.
    pub(super) fn service(&self) -> Option<(&str, &str)> {
        let (name, rest) = self.host.split_once('.').filter(|_| !self.is_ip())?;
        let (namespace, zone) = rest.split_once('.').unwrap_or((rest, "svc"));
        (zone == "svc" || zone.starts_with("svc.")).then_some((name, namespace))
    }

    /// `host:port`, with brackets round an IPv6 address.
    fn joined(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// As Envoy's files have it.
    fn envoy(&self) -> String {
        let host = if self.host.contains(':') { format!("\"{}\"", self.host) } else { self.host.clone() };
        format!("address: {host}, port_value: {}", self.port)
    }
}

/// What takes the place of the shipped addresses; `None` leaves them.
#[derive(Clone, Debug, Default)]
pub(super) struct Addresses {
    pub(super) portcullis: Option<Address>,
    pub(super) upstream: Option<Address>,
    pub(super) listen: Option<Address>,
}

/// The headers of a policy, in lower case.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    /// Those that nobody but portcullis may send.
    pub(super) own: Vec<String>,
    /// Those of the caller's out of which it cuts credentials: the answer has what is left of them.
    pub(super) theirs: Vec<String>,
}

/// A shipped file with these addresses, and with these headers between its marks.
pub(super) fn fill(shipped: &str, addresses: &Addresses, names: Option<&Names>) -> String {
    let replacements = replacements(addresses);
    let text = replaced(shipped, &replacements);
    match names {
        Some(names) => listed(&text, names),
        None => text,
    }
}

/// What stands in the files for each address that is given.
fn replacements(addresses: &Addresses) -> Vec<(String, String)> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    for (given, ports, cluster) in [
        (&addresses.portcullis, &[9000, 9002][..], "portcullis"),
        (&addresses.upstream, &[8080][..], "application"),
        (&addresses.listen, &[8000][..], ""),
    ] {
        let Some(given) = given else { continue };
        for port in ports {
            pairs.push((format!("127.0.0.1:{port}"), given.joined()));
            pairs.push((format!("address: 127.0.0.1, port_value: {port}"), given.envoy()));
        }
        if !given.is_ip() && !cluster.is_empty() {
            // Envoy resolves names in clusters of another type only.
            let static_cluster = |kind: &str| format!("- name: {cluster}\n      type: {kind}");
            pairs.push((static_cluster("STATIC"), static_cluster("STRICT_DNS")));
        }
        if cluster.is_empty() {
            let site = |port: u16, host: &str| format!("http://:{port} {{\n\tbind {host}\n");
            pairs.push((site(8000, "127.0.0.1"), site(given.port, &given.host)));
        }
    }
    pairs.extend(addresses.portcullis.iter().flat_map(asked_in_cluster));
    pairs.extend(addresses.upstream.iter().flat_map(application_in_cluster));
    pairs
}

/// What stands for portcullis in the manifests.
fn asked_in_cluster(given: &Address) -> Vec<(String, String)> {
    let Some((name, namespace)) = given.service() else { return Vec::new() };
    let (host, port) = (&given.host, given.port);
    let istio = |host: &str, port: u16| format!("service: {host}\n        port: {port}\n");
    let gateway = |name: &str, namespace: &str, port: u16| {
        format!("- name: {name}\n          namespace: {namespace}\n          port: {port}\n")
    };
    let grant = |name: &str| format!("kind: Service\n      name: {name}\n");
    let contour = |name: &str, port: u16| format!("- name: {name}\n      port: {port}\n");
    vec![
        (istio("portcullis.portcullis.svc.cluster.local", 9000), istio(host, port)),
        (gateway("portcullis", "portcullis", 9000), gateway(name, namespace, port)),
        (grant("portcullis"), grant(name)),
        (contour("portcullis", 9000), contour(name, port)),
        ("namespace: portcullis\n".to_owned(), format!("namespace: {namespace}\n")),
    ]
}

/// What stands for the application in the manifests.
fn application_in_cluster(given: &Address) -> Vec<(String, String)> {
    let Some((name, namespace)) = given.service() else { return Vec::new() };
    let backend = |indent: &str, name: &str, port: u16| format!("- name: {name}\n{indent}port: {port}\n");
    vec![
        (backend("          ", "shop", 8080), backend("          ", name, given.port)),
        ("namespace: shop\n".to_owned(), format!("namespace: {namespace}\n")),
    ]
}

/// One pass, so that a new address is never taken for a shipped one. A port is whole: 8080 is not the beginning of 80801.
fn replaced(text: &str, pairs: &[(String, String)]) -> String {
    let mut done = String::with_capacity(text.len());
    let mut rest = text;
    loop {
        let found = pairs.iter().filter_map(|(from, to)| Some((rest.find(&**from)?, from, to)));
        let Some((at, from, to)) = found.min_by_key(|(at, from, _)| (*at, usize::MAX.saturating_sub(from.len())))
        else {
            done.push_str(rest);
            return done;
        };
        let (before, after) = rest.split_at_checked(at).unwrap_or((rest, ""));
        let after = after.strip_prefix(&**from).unwrap_or_default();
        done.push_str(before);
        let cut = after.starts_with(|c: char| c.is_ascii_digit());
        done.push_str(if cut { from } else { to });
        rest = after;
    }
}

/// With these headers between each pair of marks: the lines about `X-User-ID` stand for all.
fn listed(text: &str, names: &Names) -> String {
    let mut done = String::with_capacity(text.len());
    let mut inside = false;
    for line in text.split_inclusive('\n') {
        let mark = line.trim().trim_start_matches(['#', '-', '/', ' ']);
        if mark == "portcullis: end" {
            inside = false;
        }
        if !inside {
            done.push_str(line);
        } else if ["X-User-ID", "x-user-id", "x_user_id"].iter().any(|own| line.contains(own)) {
            // What is deleted before the question could not be asked about.
            let deletes = ["del-header ", "request_header -"].iter().any(|word| line.contains(word));
            let theirs = if deletes { &[][..] } else { &*names.theirs };
            names.own.iter().chain(theirs).for_each(|name| done.push_str(&for_header(line, name)));
        }
        if mark == "portcullis: headers" {
            inside = true;
        }
    }
    done
}

/// A line about `X-User-ID`, about another header; without the blanks that align it with its neighbours.
fn for_header(line: &str, name: &str) -> String {
    let indent: String = line.chars().take_while(|c| c.is_whitespace()).collect();
    let words: Vec<&str> = line.split_whitespace().collect();
    let line = words.join(" ").replace("X-User-ID", name).replace("x-user-id", name);
    format!("{indent}{}\n", line.replace("x_user_id", &name.replace('-', "_")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        text.parse().unwrap_or_else(|why| panic!("{why}"))
    }

    #[test]
    fn an_address_is_a_host_and_a_port_and_nothing_that_could_end_a_line_or_begin_another() {
        for good in ["127.0.0.1:9002", "[::1]:9002", "portcullis.example.com:443", "portcullis:1", "xn--e1afmkfd:65535"]
        {
            assert_eq!(address(good).joined(), good);
        }
        for bad in [
            "",
            ":",
            ":80",
            "a",
            "a:",
            "a:0",
            "a:65536",
            "a:+80",
            "a:80 ",
            " a:80",
            "a b:80",
            "a;b:80",
            "a\n:80",
            "a:80\n",
            "a}:80",
            "a\":80",
            "a#:80",
            "$a:80",
            "a/b:80",
            "::1:80",
            "[::1:80",
            "[a]:80",
            "[::1]x:80",
            "-a:80",
            "a..b:80",
            "127.0.0.1.1:80",
            "999.1.1.1:80",
            "127.1:80",
            "a_b:80",
            "http://a:80",
            "{a}:80",
            "a,b:80",
            "é:80",
            "%20:80",
        ] {
            assert!(bad.parse::<Address>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn addresses_may_be_exchanged_for_one_another() {
        let addresses = Addresses {
            portcullis: Some(address("127.0.0.1:8080")),
            upstream: Some(address("127.0.0.1:8000")),
            listen: Some(address("[::1]:9002")),
        };
        let text =
            "127.0.0.1:8000 127.0.0.1:9002 127.0.0.1:8080 127.0.0.1:80801 { address: 127.0.0.1, port_value: 8000 }";
        let filled = "[::1]:9002 127.0.0.1:8080 127.0.0.1:8000 127.0.0.1:80801 { address: \"::1\", port_value: 9002 }";
        assert_eq!(fill(text, &addresses, None), filled);
        assert_eq!(fill(text, &Addresses::default(), None), text);
    }

    #[test]
    fn the_list_between_the_marks_is_the_policys() {
        let text = "a\n  # portcullis: headers\n  set $v_x_user_id   $http_x_user_id;\n  set $v_x_tenant y;\n  \
                    del X-User-ID\n  # portcullis: end\nX-User-ID\n";
        let names = Names { own: vec!["x-a".to_owned(), "x-b-c".to_owned()], theirs: Vec::new() };
        let listed = "a\n  # portcullis: headers\n  set $v_x_a $http_x_a;\n  set $v_x_b_c $http_x_b_c;\n  del x-a\n  \
                      del x-b-c\n  # portcullis: end\nX-User-ID\n";
        assert_eq!(fill(text, &Addresses::default(), Some(&names)), listed);
    }

    #[test]
    fn a_callers_credential_is_taken_from_the_answer_and_not_deleted_before_the_question() {
        let text = "# portcullis: headers\nrequest_header -X-User-ID\ndel-header X-User-ID\ncopy X-User-ID\n# portcullis: end\n";
        let names = Names { own: vec!["x-a".to_owned()], theirs: vec!["authorization".to_owned()] };
        let listed = "# portcullis: headers\nrequest_header -x-a\ndel-header x-a\ncopy x-a\ncopy authorization\n# portcullis: end\n";
        assert_eq!(fill(text, &Addresses::default(), Some(&names)), listed);
    }
}
