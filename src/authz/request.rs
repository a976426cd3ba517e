//! What a gateway asks about, read one way only: the one place where a path, a host or a header is normalised.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use http::header::{AUTHORIZATION, HeaderMap, HeaderValue};

use super::certificate::Holder;
use super::gateways::Dialect;
use super::header::worth_folding;
use super::reason::Reason;

/// The longest path, in bytes, still escaped and without its query: what servers take by default for a whole line.
/// A path is read in several ways, so its length is what a caller can make a check cost.
const MAX_PATH: usize = 8 * 1024;

/// Why a request could not be read one way only. Always a [`Reason`] whose status is 400 (or 503 where the gateway hid
/// a part of it).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub Reason);

/// Who asks: the peer of our own connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// A process on this machine, over a unix socket.
    Unix,
    /// A peer by its address.
    Tcp(IpAddr),
}

/// What a peer proves about itself beside the address that it connects from.
#[derive(Clone, Copy, Default)]
pub struct Proof<'r> {
    /// Whom its own certificate names, where our listener verified one.
    pub holder: Option<&'r Holder>,
    /// The metadata of its call, which may carry a token.
    pub metadata: Option<&'r HeaderMap>,
}

impl<'r> Proof<'r> {
    /// The token that the peer sends as `x-portcullis-token`, or as `authorization: Bearer` where that is not its
    /// caller's; none, where it sends two.
    #[must_use]
    pub fn token(&self, dialect: Dialect) -> Option<&'r [u8]> {
        let metadata = self.metadata?;
        let bearer = |value: &'r HeaderValue| {
            let (scheme, token) = value.as_bytes().split_at_checked(7)?;
            scheme.eq_ignore_ascii_case(b"bearer ").then_some(token)
        };
        let own = metadata.get_all("x-portcullis-token").iter().map(HeaderValue::as_bytes);
        let bearers = metadata.get_all(AUTHORIZATION).iter().filter(|_| !dialect.told_in_headers());
        let mut tokens = own.chain(bearers.filter_map(bearer));
        let token = tokens.next()?;
        tokens.next().is_none().then_some(token)
    }
}

/// Metadata may hold a token: only whom the certificate names.
impl fmt::Debug for Proof<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proof").field("holder", &self.holder).finish_non_exhaustive()
    }
}

/// One header line as it was received: the name in lower case, the value's bytes untouched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'r> {
    /// The name.
    pub name: &'r [u8],
    /// The value; lines of one name may arrive joined by commas.
    pub value: &'r [u8],
}

/// A request as a gateway describes it, nothing normalised yet.
#[derive(Clone, Debug)]
pub struct Raw<'r> {
    /// What the gateway speaks.
    pub dialect: Dialect,
    /// Why the question cannot be read, where the gateway's own part of it cannot be. The rest then counts for nothing.
    pub unread: Option<Malformed>,
    /// Who asks.
    pub asker: Asker,
    /// What else it proves about itself.
    pub proof: Proof<'r>,
    /// The downstream peer of the gateway's own connection, where it names one.
    pub source: Option<IpAddr>,
    /// Whom the certificate of that peer names, as the gateway says; empty where it says nothing.
    pub principal: &'r [u8],
    /// That certificate itself, as the gateway sends it: PEM, percent-encoded; empty where it sends none.
    pub certificate: &'r [u8],
    /// The method.
    pub method: &'r [u8],
    /// Path and query, undecoded.
    pub target: &'r [u8],
    /// Host and perhaps port.
    pub host: &'r [u8],
    /// All header lines, pseudo-headers included.
    pub headers: Vec<Header<'r>>,
}

impl<'r> Raw<'r> {
    /// A request of which nothing is told beside: method, target and host, and all header lines.
    #[must_use]
    pub fn new(
        dialect: Dialect,
        asker: Asker,
        [method, target, host]: [&'r [u8]; 3],
        headers: Vec<Header<'r>>,
    ) -> Self {
        let proof = Proof::default();
        Self {
            dialect,
            unread: None,
            asker,
            proof,
            source: None,
            principal: b"",
            certificate: b"",
            method,
            target,
            host,
            headers,
        }
    }
}

/// Single points of path strictness that the policy's `paths:` may relax.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Relaxed {
    /// `%2F` may stand in a segment; it stays escaped and separates nothing.
    pub encoded_slash: bool,
    /// `;` may stand in a segment.
    pub semicolon: bool,
    /// `//` reads as `/`.
    pub empty_segment: bool,
    /// `\` and `%5C` may stand in a segment.
    pub backslash: bool,
    /// `%25` may be followed by what looks like an escape.
    pub double_encoding: bool,
    /// A path may reach another route when its case is folded.
    pub case_variant: bool,
}

/// A request that can be read one way only.
#[derive(Clone, Debug)]
pub struct Request<'r> {
    /// What the gateway speaks.
    pub dialect: Dialect,
    /// Who asks.
    pub asker: Asker,
    /// What else it proves about itself.
    pub proof: Proof<'r>,
    /// The downstream peer of the gateway's own connection.
    pub source: Option<IpAddr>,
    /// Whom the certificate of that peer names, as the gateway says.
    pub principal: &'r [u8],
    /// That certificate itself, as the gateway sends it.
    pub certificate: &'r [u8],
    /// The method: upper-case letters.
    pub method: &'r str,
    /// The host: lower case, without port or trailing dot.
    pub host: Cow<'r, str>,
    /// The port after the host, where the caller sent one.
    pub port: Option<u16>,
    /// The path as it was sent, still escaped.
    pub sent: &'r [u8],
    /// The decoded path: begins with `/`, has no empty segment but perhaps the last.
    pub path: Cow<'r, str>,
    /// The query as it was sent, without `?`.
    pub query: Option<&'r str>,
    /// All header lines.
    pub headers: &'r [Header<'r>],
    /// The header lines that decisions read.
    pub seen: Seen<'r>,
}

/// What a browser asks before a request of a page of another origin (Fetch §4.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preflight<'r> {
    /// Whose page.
    pub origin: &'r [u8],
    /// The method of the request that is to follow.
    pub method: &'r str,
}

/// The header lines that decisions read, found in one pass.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen<'r> {
    /// Whether nothing says that the gateway filtered the headers: unless it did, Envoy sends `:method` by gRPC, and
    /// `x-forwarded-proto` by HTTP.
    pub complete: bool,
    /// Whether some name may be an alias of a managed one: it holds a character beyond lower-case letters, digits and
    /// `-`, or belongs to a family of managed headers.
    pub odd_names: bool,
    /// `origin`
    pub origin: Option<&'r [u8]>,
    /// `sec-fetch-site`
    pub fetch_site: Option<&'r [u8]>,
    /// `sec-fetch-mode`
    pub fetch_mode: Option<&'r [u8]>,
    /// `accept`
    pub accept: Option<&'r [u8]>,
    /// `content-type`
    pub content_type: Option<&'r [u8]>,
    /// `upgrade`, or what comes with it in a handshake of WebSocket.
    pub upgrade: bool,
    /// `x-requested-with`
    pub requested_with: bool,
    /// `authorization`
    pub authorization: Option<&'r [u8]>,
    /// `x-request-id`
    pub request_id: Option<&'r [u8]>,
    /// `x-envoy-external-address`
    pub external_address: Option<&'r [u8]>,
}

impl<'r> Request<'r> {
    /// Reads a request, or says why it cannot be read one way only.
    pub fn read(raw: &'r Raw<'r>, relaxed: Relaxed) -> Result<Self, Malformed> {
        let Raw { dialect, unread, asker, proof, source, principal, certificate, method, target, host, ref headers } =
            *raw;
        unread.map_or(Ok(()), Err)?;
        let seen = Seen::in_headers(headers, dialect, method, target, host)?;
        let method = read_method(method)?;
        if method == "CONNECT" || target.is_empty() {
            return Err(Malformed(Reason::PathMissing));
        }
        let (path, query) = match target.iter().position(|&byte| byte == b'?') {
            Some(at) => (target.get(..at), target.get(at.saturating_add(1)..)),
            None => (Some(target), None),
        };
        let sent = path.unwrap_or_default();
        let path = read_path(sent, relaxed)?;
        let query = query.map(read_query).transpose()?;
        let (host, port) = read_host(host)?;
        Ok(Self {
            dialect,
            asker,
            proof,
            source,
            principal,
            certificate,
            method,
            host,
            port,
            sent,
            path,
            query,
            headers,
            seen,
        })
    }

    /// All values of a header, by its name in lower case.
    pub fn header<'s>(&'s self, name: &'s [u8]) -> impl Iterator<Item = &'r [u8]> + 's {
        self.headers.iter().filter(move |line| line.name == name).map(|line| line.value)
    }

    /// Whether this is a call of gRPC, whose errors travel in `grpc-status`.
    #[must_use]
    pub fn is_grpc(&self) -> bool {
        self.seen.content_type.is_some_and(|value| {
            value
                .strip_prefix(b"application/grpc")
                .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';' | b' ')))
        })
    }

    /// Whether a browser asks for a page that a person will see: the only caller that a redirect helps.
    #[must_use]
    pub fn is_navigation(&self) -> bool {
        let seen = &self.seen;
        matches!(self.method, "GET" | "HEAD")
            && seen.accept.is_some_and(|accept| contains(accept, b"text/html"))
            && seen.fetch_mode.is_none_or(|mode| mode == b"navigate")
            && !seen.requested_with
            && !seen.upgrade
            && seen.authorization.is_none()
    }

    /// The preflight that this is: OPTIONS, with one `Origin` and one `Access-Control-Request-Method` that is a method.
    /// Any other OPTIONS is a request like all.
    #[must_use]
    pub fn preflight(&self) -> Option<Preflight<'r>> {
        if self.method != "OPTIONS" {
            return None;
        }
        let sole = |name: &'static [u8]| {
            let mut lines = self.headers.iter().filter(|line| line.name == name);
            lines.next().filter(|_| lines.next().is_none()).map(|line| line.value)
        };
        let method = read_method(sole(b"access-control-request-method")?).ok()?;
        Some(Preflight { origin: sole(b"origin")?, method })
    }

    /// Whether the method may change something (RFC 9110 §9.2.1), or the connection is to become another protocol.
    #[must_use]
    pub fn is_unsafe(&self) -> bool {
        self.seen.upgrade || !matches!(self.method, "GET" | "HEAD" | "OPTIONS" | "TRACE")
    }

    /// The values of a cookie. Lines may arrive joined by `; ` (HTTP/2) or by `,` (Envoy, HTTP/1), so both part pairs.
    pub fn cookie<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'r [u8]> + 's {
        self.header(b"cookie")
            .flat_map(|line| line.split(|byte| matches!(byte, b';' | b',')))
            .filter_map(move |pair| pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"="))
    }
}

impl<'r> Seen<'r> {
    fn in_headers(
        headers: &[Header<'r>],
        dialect: Dialect,
        method: &[u8],
        target: &[u8],
        host: &[u8],
    ) -> Result<Self, Malformed> {
        let mut seen = Self { complete: dialect.sends_all(), ..Self::default() };
        for &Header { name, value } in headers {
            let once = |slot: &mut Option<&'r [u8]>| match slot {
                Some(earlier) if *earlier != value => Err(Malformed(Reason::HeaderAmbiguous)),
                _ => {
                    *slot = Some(value);
                    Ok(())
                }
            };
            match name {
                b":method" => {
                    seen.complete |= dialect == Dialect::Envoy;
                    agree(value, method)?;
                }
                b"x-forwarded-proto" => seen.complete |= dialect == Dialect::EnvoyHttp,
                b":path" => agree(value, target)?,
                b":authority" | b"host" if value != host => return Err(Malformed(Reason::HostAmbiguous)),
                b"authorization" => match seen.authorization {
                    Some(earlier) if earlier != value => return Err(Malformed(Reason::CredentialAmbiguous)),
                    _ => seen.authorization = Some(value),
                },
                b"origin" => once(&mut seen.origin)?,
                b"sec-fetch-site" => once(&mut seen.fetch_site)?,
                b"sec-fetch-mode" => once(&mut seen.fetch_mode)?,
                b"content-type" => once(&mut seen.content_type)?,
                b"x-request-id" => once(&mut seen.request_id)?,
                b"x-envoy-external-address" => once(&mut seen.external_address)?,
                b"accept" => seen.accept = Some(value),
                // An extended CONNECT (RFC 8441) that a gateway shows as it came; and what is left of a handshake
                // (RFC 6455 §4.1) where the gateway keeps `upgrade` to itself.
                b"upgrade" | b":protocol" | b"sec-websocket-key" | b"sec-websocket-version" => seen.upgrade = true,
                b"x-requested-with" => seen.requested_with = true,
                [b':', ..] => {}
                _ if is_plain_name(name) => seen.odd_names |= worth_folding(name),
                _ if is_token(name) => seen.odd_names = true,
                _ => return Err(Malformed(Reason::HeaderMalformed)),
            }
        }
        Ok(seen)
    }
}

/// A pseudo-header that says another thing than the gateway's own field leaves two readings.
fn agree(header: &[u8], field: &[u8]) -> Result<(), Malformed> {
    if header == field { Ok(()) } else { Err(Malformed(Reason::HeaderAmbiguous)) }
}

fn is_plain_name(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

/// Whether this is a host, with a port or without, as callers send it.
#[must_use]
pub fn is_host(host: &[u8]) -> bool {
    read_host(host).is_ok()
}

/// Whether a name is a token (RFC 9110 §5.6.2).
#[must_use]
pub fn is_token(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window.eq_ignore_ascii_case(part))
}

fn read_method(method: &[u8]) -> Result<&str, Malformed> {
    let fits = !method.is_empty()
        && method.len() <= 32
        && method.iter().all(|byte| byte.is_ascii_uppercase() || matches!(byte, b'-' | b'_'));
    std::str::from_utf8(method).ok().filter(|_| fits).ok_or(Malformed(Reason::MethodMalformed))
}

fn read_query(query: &[u8]) -> Result<&str, Malformed> {
    let fits = query.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#');
    std::str::from_utf8(query).ok().filter(|_| fits).ok_or(Malformed(Reason::PathMalformed))
}

/// A host in lower case, without port and trailing dot, or an address, an IPv6 one in brackets; and the port.
pub(super) fn read_host(host: &[u8]) -> Result<(Cow<'_, str>, Option<u16>), Malformed> {
    let malformed = Malformed(Reason::HostMalformed);
    let text = std::str::from_utf8(host).map_err(|_| malformed)?;
    if text.contains(',') {
        return Err(Malformed(Reason::HostAmbiguous));
    }
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']').ok_or(malformed)?;
            let address: std::net::Ipv6Addr = address.parse().map_err(|_| malformed)?;
            let port = read_port(port.strip_prefix(':'), port.is_empty())?;
            return Ok((Cow::Owned(format!("[{address}]")), port));
        }
        None => match text.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (text, None),
        },
    };
    let port = read_port(port, port.is_none())?;
    let name = name.strip_suffix('.').unwrap_or(name);
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    if name.len() > 253 || !name.split('.').all(label) {
        return Err(malformed);
    }
    let name = if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    };
    Ok((name, port))
}

fn read_port(port: Option<&str>, absent: bool) -> Result<Option<u16>, Malformed> {
    if absent {
        return Ok(None);
    }
    let digits = port.filter(|port| port.len() <= 5 && !port.starts_with('+'));
    digits.and_then(|port| port.parse().ok()).map(Some).ok_or(Malformed(Reason::HostMalformed))
}

/// Decodes a path once and refuses what an upstream could read another way.
fn read_path(path: &[u8], relaxed: Relaxed) -> Result<Cow<'_, str>, Malformed> {
    if path.first() != Some(&b'/') || path.len() > MAX_PATH {
        return Err(Malformed(Reason::PathMalformed));
    }
    let plain = path.iter().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'%' | b'\\' | b';' | b'#'));
    let decoded = if plain {
        Cow::Borrowed(std::str::from_utf8(path).map_err(|_| Malformed(Reason::PathMalformed))?)
    } else {
        Cow::Owned(decode(path, relaxed)?)
    };
    let decoded =
        if relaxed.empty_segment && decoded.contains("//") { Cow::Owned(merge_slashes(&decoded)) } else { decoded };
    let mut segments = decoded.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        if segment.is_empty() && segments.peek().is_some() {
            return Err(Malformed(Reason::PathEmptySegment));
        }
        if is_dot_segment(segment) || (!plain && hides_dot_segment(segment)) {
            return Err(Malformed(Reason::PathDotSegment));
        }
    }
    Ok(decoded)
}

/// Whether a part of a segment is a dot segment to an upstream that separates at what `paths:` lets stand in it: an
/// escaped slash, a backslash, a `;`; or to one that decodes once more. No relaxation is about dots.
fn hides_dot_segment(segment: &str) -> bool {
    let separated = |text: &str| text.split(['/', '\\', ';']).any(|part| is_dot_segment(part.trim()));
    separated(segment) || (segment.contains('%') && separated(&decoded_again(segment)))
}

/// A text with the escapes decoded that still are in it.
fn decoded_again(text: &str) -> String {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let escaped = match after {
            [high, low, after @ ..] if *first == b'%' => hex(high).zip(hex(low)).map(|digits| (digits, after)),
            _ => None,
        };
        let (byte, after) = escaped.map_or((*first, after), |((high, low), after)| (high << 4 | low, after));
        decoded.push(byte);
        rest = after;
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// What compatibility normalisation (NFKC) makes dots of, and nothing else.
const DOTS: [char; 8] = ['.', '\u{2024}', '\u{2025}', '\u{2026}', '\u{fe19}', '\u{fe30}', '\u{fe52}', '\u{ff0e}'];

/// `.` and `..`, also in look-alikes.
fn is_dot_segment(segment: &str) -> bool {
    matches!(segment, "." | "..") || (!segment.is_ascii() && segment.chars().all(|c| DOTS.contains(&c)))
}

fn decode(path: &[u8], relaxed: Relaxed) -> Result<String, Malformed> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut percents = Vec::new();
    let mut rest = path.iter();
    while let Some(&byte) = rest.next() {
        let (byte, escaped) = if byte == b'%' {
            let digits = (rest.next().and_then(hex), rest.next().and_then(hex));
            let (Some(high), Some(low)) = digits else { return Err(Malformed(Reason::PathMalformed)) };
            (high << 4 | low, true)
        } else {
            (byte, false)
        };
        match byte {
            b'/' if escaped && relaxed.encoded_slash => decoded.extend_from_slice(b"%2F"),
            b'/' if escaped => return Err(Malformed(Reason::PathEncodedSlash)),
            b'\\' if !relaxed.backslash => return Err(Malformed(Reason::PathBackslash)),
            b';' if !relaxed.semicolon => return Err(Malformed(Reason::PathParameter)),
            b'%' => {
                decoded.push(byte);
                percents.push(decoded.len());
            }
            0..=0x1f | 0x7f => return Err(Malformed(Reason::PathMalformed)),
            b'#' | b' ' | 0x80.. if !escaped => return Err(Malformed(Reason::PathMalformed)),
            other => decoded.push(other),
        }
    }
    let again = |after: &usize| decoded.get(*after..).is_some_and(looks_escaped);
    if !relaxed.double_encoding && percents.iter().any(again) {
        return Err(Malformed(Reason::PathDoubleEncoded));
    }
    let decoded = String::from_utf8(decoded).map_err(|_| Malformed(Reason::PathMalformed))?;
    // The same look-alikes of `/` and `\` that compatibility normalisation makes real.
    if decoded.contains(['\u{ff0f}', '\u{2044}', '\u{2215}']) {
        return Err(Malformed(Reason::PathEncodedSlash));
    }
    if decoded.contains(['\u{ff3c}', '\u{fe68}']) {
        return Err(Malformed(Reason::PathBackslash));
    }
    Ok(decoded)
}

/// Whether what follows a decoded `%` makes it an escape again: two hex digits, or `u` and four (IIS).
fn looks_escaped(rest: &[u8]) -> bool {
    match rest {
        [b'u' | b'U', a, ..] => a.is_ascii_hexdigit(),
        [a, b, ..] => a.is_ascii_hexdigit() && b.is_ascii_hexdigit(),
        _ => false,
    }
}

fn hex(digit: &u8) -> Option<u8> {
    char::from(*digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

fn merge_slashes(path: &str) -> String {
    let mut merged = String::with_capacity(path.len());
    for c in path.chars() {
        if c != '/' || !merged.ends_with('/') {
            merged.push(c);
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Result<String, Reason> {
        path_relaxed(text, Relaxed::default())
    }

    fn path_relaxed(text: &str, relaxed: Relaxed) -> Result<String, Reason> {
        read_path(text.as_bytes(), relaxed).map(Cow::into_owned).map_err(|Malformed(reason)| reason)
    }

    fn host(text: &str) -> Result<String, Reason> {
        read_host(text.as_bytes()).map(|(host, _)| host.into_owned()).map_err(|Malformed(reason)| reason)
    }

    fn raw(
        method: &'static str,
        target: &'static str,
        host: &'static str,
        headers: &[(&'static str, &'static str)],
    ) -> Raw<'static> {
        Raw::new(
            Dialect::Envoy,
            Asker::Unix,
            [method.as_bytes(), target.as_bytes(), host.as_bytes()],
            headers.iter().map(|(n, v)| Header { name: n.as_bytes(), value: v.as_bytes() }).collect(),
        )
    }

    fn read(raw: Raw<'static>) -> Result<Request<'static>, Reason> {
        Request::read(Box::leak(Box::new(raw)), Relaxed::default()).map_err(|Malformed(reason)| reason)
    }

    #[test]
    fn what_the_caller_sent_stays_beside_what_was_read_of_it() {
        let sent = |target, host| read(raw("GET", target, host, &[])).map(|r| (r.sent.to_vec(), r.port));
        assert_eq!(sent("/a%2Db?c", "H:8443"), Ok((b"/a%2Db".to_vec(), Some(8443))));
        assert_eq!(sent("/", "h"), Ok((b"/".to_vec(), None)));
        assert_eq!(sent("/", "[::1]:1"), Ok((b"/".to_vec(), Some(1))));
        for host in ["h:", "h:+1", "h:65536", "[::1]:", "h:1:2"] {
            assert_eq!(sent("/", host), Err(Reason::HostMalformed), "{host}");
        }
    }

    #[test] // F08
    fn a_handshake_is_known_without_the_header_that_ends_at_the_gateway() {
        for name in ["upgrade", ":protocol", "sec-websocket-key", "sec-websocket-version"] {
            let request = read(raw("GET", "/", "h", &[("accept", "text/html"), (name, "13")])).unwrap();
            assert!(request.is_unsafe() && !request.is_navigation(), "{name}");
        }
        let request = read(raw("GET", "/", "h", &[("accept", "text/html"), ("sec-websocket-protocol", "a")])).unwrap();
        assert!(!request.is_unsafe() && request.is_navigation());
    }

    #[test] // F08
    fn what_shows_that_no_header_was_left_out_depends_on_the_dialect() {
        let complete = |dialect, name: &'static str| {
            let headers = [name].into_iter().filter(|name| !name.is_empty()).map(|name| (name, "GET"));
            let headers = headers.map(|(n, v)| Header { name: n.as_bytes(), value: v.as_bytes() }).collect();
            read(Raw::new(dialect, Asker::Unix, [b"GET", b"/", b"h"], headers)).unwrap().seen.complete
        };
        for dialect in Dialect::ALL {
            let (envoy, http) = (dialect == Dialect::Envoy, dialect == Dialect::EnvoyHttp);
            assert_eq!(complete(dialect, ""), !envoy && !http, "{dialect:?}");
            assert_eq!(complete(dialect, ":method"), !http, "{dialect:?}");
            assert_eq!(complete(dialect, "x-forwarded-proto"), !envoy, "{dialect:?}");
        }
    }

    #[test] // N01
    fn dot_segments_are_refused_in_every_spelling() {
        for text in [
            "/public/../admin",
            "/public/%2e%2e/admin",
            "/.%2e/",
            "/a/.",
            "/..",
            "/./a",
            "/a/%2E",
            "/%e2%80%a5/x",
            "/%ef%bc%8e/x",
            "/%ef%b9%92%ef%b9%92/x",
            "/%ef%b8%b0/x",
        ] {
            assert_eq!(path(text), Err(Reason::PathDotSegment), "{text}");
        }
        for text in ["/a/...", "/a/.b", "/a/b..", "/.well-known/x"] {
            assert_eq!(path(text).as_deref(), Ok(text));
        }
    }

    #[test] // N01
    fn no_relaxation_lets_a_dot_segment_pass() {
        let all = Relaxed {
            encoded_slash: true,
            semicolon: true,
            empty_segment: true,
            backslash: true,
            double_encoding: true,
            case_variant: true,
        };
        for text in [
            "/public/..;/admin",
            "/public/..;x=1/admin",
            "/public/%2e%2e;/admin",
            "/public/.;/admin",
            "/public/..%2fadmin",
            "/public/x%2f..%2f..%2fadmin",
            "/public/..\\admin",
            "/public/x%5c..%5cadmin",
            "/public/%252e%252e/admin",
            "/public/%252e%252E%252fadmin",
            "/public/..;%2fadmin",
            "/public/..%255cadmin",
            "/public/%252e%252e%255cadmin",
            "/public/..%253bx/admin",
            "/public/%252e%2520/admin",
        ] {
            assert_eq!(path_relaxed(text, all), Err(Reason::PathDotSegment), "{text}");
        }
        for text in ["/a;b=..c", "/a;v=1.2", "/a%2F.b"] {
            assert_eq!(path_relaxed(text, all).as_deref(), Ok(text));
        }
    }

    #[test] // N01
    fn a_dot_segment_with_spaces_round_it_is_refused() {
        for text in
            ["/public/..%20/admin", "/public/%20../admin", "/public/.%20", "/public/..%c2%a0/x", "/a/..%e3%80%80"]
        {
            assert_eq!(path(text), Err(Reason::PathDotSegment), "{text}");
        }
        assert_eq!(path("/a/b..%20c").as_deref(), Ok("/a/b.. c"));
    }

    #[test] // N01
    fn separators_in_disguise_are_refused_each_with_its_reason() {
        for text in ["/public/..%2fadmin", "/a%2Fb", "/a%2f", "/a%ef%bc%8fb"] {
            assert_eq!(path(text), Err(Reason::PathEncodedSlash), "{text}");
        }
        for text in ["/public/..\\admin", "/a%5cb", "/a%5Cb"] {
            assert_eq!(path(text), Err(Reason::PathBackslash), "{text}");
        }
        for text in ["/public/..;/admin", "/public/.;x/admin", "/a;a=b", "/a%3Bb"] {
            assert_eq!(path(text), Err(Reason::PathParameter), "{text}");
        }
    }

    #[test] // N02
    fn empty_segments_and_foreign_forms_are_refused() {
        for text in ["//admin", "//host/admin", "///admin", "/admin//", "/a//b"] {
            assert_eq!(path(text), Err(Reason::PathEmptySegment), "{text}");
        }
        for text in ["http://h/admin", "*", "admin"] {
            assert_eq!(path(text), Err(Reason::PathMalformed), "{text}");
        }
        assert_eq!(read(raw("GET", "", "h", &[])).unwrap_err(), Reason::PathMissing);
        assert_eq!(read(raw("CONNECT", "/x", "h", &[])).unwrap_err(), Reason::PathMissing);
        assert_eq!(path("/").as_deref(), Ok("/"));
        assert_eq!(path("/admin/").as_deref(), Ok("/admin/"));
    }

    #[test] // N03
    fn bad_escapes_and_controls_are_refused() {
        for text in [
            "/a%00",
            "/a%",
            "/a%zz",
            "/a%u002f",
            "/a%c0%ae",
            "/a%ff",
            "/a%09",
            "/a%7f",
            "/a#x",
            "/a b",
            "/a%0d%0aX: 1",
            "/caf\u{e9}",
        ] {
            assert_eq!(path(text), Err(Reason::PathMalformed), "{text}");
        }
        for text in ["/%252e%252e%252f", "/a%2541", "/a%25%32%66", "/a%25u002f"] {
            assert_eq!(path(text), Err(Reason::PathDoubleEncoded), "{text}");
        }
        assert_eq!(path("/100%25").as_deref(), Ok("/100%"));
        assert_eq!(path("/100%25%20off").as_deref(), Ok("/100% off"));
        assert_eq!(path("/%25%25x").as_deref(), Ok("/%%x"));
        assert_eq!(path("/caf%C3%A9/%61dmin%20x").as_deref(), Ok("/caf\u{e9}/admin x"));
    }

    #[test]
    fn each_relaxation_opens_one_point_only() {
        let relaxed = |set: fn(&mut Relaxed)| {
            let mut relaxed = Relaxed::default();
            set(&mut relaxed);
            relaxed
        };
        assert_eq!(path_relaxed("/a%2fb", relaxed(|r| r.encoded_slash = true)).as_deref(), Ok("/a%2Fb"));
        assert_eq!(path_relaxed("/a;b", relaxed(|r| r.semicolon = true)).as_deref(), Ok("/a;b"));
        assert_eq!(path_relaxed("/a//b///", relaxed(|r| r.empty_segment = true)).as_deref(), Ok("/a/b/"));
        assert_eq!(path_relaxed("/a%5Cb", relaxed(|r| r.backslash = true)).as_deref(), Ok("/a\\b"));
        assert_eq!(path_relaxed("/a%252f", relaxed(|r| r.double_encoding = true)).as_deref(), Ok("/a%2f"));
        assert_eq!(path_relaxed("/a;/../b", relaxed(|r| r.semicolon = true)), Err(Reason::PathDotSegment));
    }

    #[test] // N11
    fn a_path_has_a_longest_length_and_its_query_does_not_count() {
        let longest = format!("/{}", "a".repeat(MAX_PATH - 1));
        assert_eq!(path(&longest).as_deref(), Ok(&*longest));
        assert_eq!(path(&format!("{longest}a")), Err(Reason::PathMalformed));
        assert_eq!(
            path(&format!("/{}", "%41".repeat(MAX_PATH.div_ceil(3)))),
            Err(Reason::PathMalformed),
            "as it was sent"
        );
        let target: &'static str = Box::leak(format!("{longest}?{}", "q".repeat(MAX_PATH)).into_boxed_str());
        assert!(read(raw("GET", target, "h", &[])).is_ok());
    }

    #[test] // N05
    fn the_query_is_split_off_at_the_first_question_mark() {
        let request = read(raw("GET", "/public?x=/../admin?y", "h", &[])).unwrap();
        assert_eq!((&*request.path, request.query), ("/public", Some("x=/../admin?y")));
        assert_eq!(read(raw("GET", "/public?a#b", "h", &[])).unwrap_err(), Reason::PathMalformed);
    }

    #[test] // N06
    fn a_host_is_folded_or_refused() {
        assert_eq!(host("API.test").as_deref(), Ok("api.test"));
        assert_eq!(host("api.test.").as_deref(), Ok("api.test"));
        assert_eq!(host("api.test:8443").as_deref(), Ok("api.test"));
        assert_eq!(host("API.test.:443").as_deref(), Ok("api.test"));
        assert_eq!(host("[::1]:80").as_deref(), Ok("[::1]"));
        assert_eq!(host("[0:0::1]").as_deref(), Ok("[::1]"));
        assert_eq!(host("my_host").as_deref(), Ok("my_host"));
        assert_eq!(host("api.test,evil"), Err(Reason::HostAmbiguous));
        let long = "a.".repeat(127) + "bc";
        for text in [
            "",
            ".",
            "api.test@evil",
            "a b",
            "a..b",
            "b\u{fc}cher.de",
            "a/b",
            "a:b",
            "a:99999",
            "a:+80",
            "a:",
            "[::1",
            "[::1]x",
            "%61",
            long.as_str(),
        ] {
            assert_eq!(host(text), Err(Reason::HostMalformed), "{text}");
        }
    }

    #[test] // N07
    fn a_method_is_exact() {
        for method in ["get", "GET ", "", "G\u{c9}T"] {
            assert_eq!(read(raw(method, "/", "h", &[])).unwrap_err(), Reason::MethodMalformed, "{method}");
        }
        assert!(read(raw("FOO", "/", "h", &[])).is_ok());
    }

    #[test] // N08
    fn a_singleton_header_that_comes_twice_is_refused_unless_it_says_the_same() {
        let two = |name: &'static str| read(raw("GET", "/", "h", &[(name, "a"), (name, "b")])).map(|_| ());
        assert_eq!(two("authorization"), Err(Reason::CredentialAmbiguous));
        assert_eq!(two("origin"), Err(Reason::HeaderAmbiguous));
        assert_eq!(two("sec-fetch-site"), Err(Reason::HeaderAmbiguous));
        assert_eq!(two("x-anything"), Ok(()));
        assert!(read(raw("GET", "/", "h", &[("origin", "a"), ("origin", "a")])).is_ok());
    }

    #[test] // N11
    fn a_header_name_that_is_no_token_is_refused() {
        for name in ["", "a b", "a\u{e9}", "a\0", "a(b"] {
            assert_eq!(read(raw("GET", "/", "h", &[(name, "x")])).unwrap_err(), Reason::HeaderMalformed, "{name:?}");
        }
        assert!(read(raw("GET", "/", "h", &[("x_user.id", "x")])).unwrap().seen.odd_names);
    }

    #[test]
    fn a_pseudo_header_must_agree_with_its_field() {
        for name in ["host", ":authority"] {
            assert_eq!(read(raw("GET", "/a", "h", &[(name, "i")])).unwrap_err(), Reason::HostAmbiguous); // N06
            assert!(read(raw("GET", "/a", "h", &[(name, "h")])).is_ok());
        }
        assert_eq!(read(raw("GET", "/a", "h", &[(":path", "/b")])).unwrap_err(), Reason::HeaderAmbiguous);
        assert_eq!(read(raw("GET", "/a", "h", &[(":method", "POST")])).unwrap_err(), Reason::HeaderAmbiguous);
        assert!(read(raw("GET", "/a", "h", &[(":method", "GET"), (":path", "/a")])).unwrap().seen.complete);
    }

    #[test]
    fn cookies_are_found_in_every_join() {
        let request =
            read(raw("GET", "/", "h", &[("cookie", "a=1; session=x,b=2"), ("cookie", "session=y;sessions=z")]))
                .unwrap();
        assert_eq!(request.cookie("session").collect::<Vec<_>>(), [b"x", b"y"]);
    }

    #[test]
    fn only_a_browser_that_opens_a_page_navigates() {
        let navigates = |method, headers: &[(&'static str, &'static str)]| {
            read(raw(method, "/", "h", headers)).unwrap().is_navigation()
        };
        let html = ("accept", "text/html,*/*");
        assert!(navigates("GET", &[html]));
        assert!(navigates("GET", &[html, ("sec-fetch-mode", "navigate")]));
        assert!(!navigates("GET", &[("accept", "*/*")]));
        assert!(!navigates("POST", &[html]));
        assert!(!navigates("GET", &[html, ("sec-fetch-mode", "cors")]));
        assert!(!navigates("GET", &[html, ("authorization", "Bearer x")]));
        assert!(!navigates("GET", &[html, ("x-requested-with", "XMLHttpRequest")]));
    }
}
