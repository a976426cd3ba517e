//! A curl line as people paste it, read for the request that it would send.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::shell;

/// The request that a curl line would send. Its headers may hold secrets: they are never shown.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Curl {
    pub method: String,
    pub host: String,
    /// Path and query.
    pub target: String,
    /// Names in lower case, in the order in which they are sent.
    pub headers: Vec<(String, String)>,
    /// What curl would change about the line before it sends it.
    pub notes: Vec<String>,
}

/// Why a curl line is not understood. Holds flags, never values: those may be secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CurlError {
    #[error("the line does not begin with `curl`")]
    NotCurl,
    #[error("a quote in the curl line is not closed")]
    OpenQuote,
    #[error("`{0}` is not a flag of curl that explain knows; leave it out if it does not change the request")]
    UnknownFlag(String),
    #[error("`{0}` needs a value")]
    NoValue(String),
    #[error("`{0}` reads a file, and explain reads none: write what is in it")]
    File(String),
    #[error("a header of the curl line has no colon: -H 'Name: value'")]
    Header,
    #[error("the curl line has no URL")]
    NoUrl,
    #[error("the curl line has more than one URL: explain one request at a time; quote a URL that holds `&` or spaces")]
    TwoUrls,
    #[error("the URL is neither http nor https")]
    Scheme,
    #[error("the URL has no host")]
    NoHost,
}

/// What a flag means for the request.
#[derive(Clone, Copy)]
enum Flag {
    /// It changes nothing about the request.
    Ignored,
    /// Nor does this one, which has a value.
    IgnoredValue,
    Method,
    Header,
    Cookie,
    Data,
    DataEncoded,
    Json,
    Form,
    Upload,
    Head,
    Get,
    User,
    Bearer,
    Agent,
    Referer,
    Range,
    Url,
    UrlQuery,
    Target,
    AsIs,
    Compressed,
}

/// Each flag by its short letter, where it has one, and its long name.
const FLAGS: &[(Option<char>, &str, Flag)] = &[
    (Some('X'), "request", Flag::Method),
    (Some('H'), "header", Flag::Header),
    (Some('b'), "cookie", Flag::Cookie),
    (Some('d'), "data", Flag::Data),
    (None, "data-raw", Flag::Data),
    (None, "data-ascii", Flag::Data),
    (None, "data-binary", Flag::Data),
    (None, "data-urlencode", Flag::DataEncoded),
    (None, "json", Flag::Json),
    (Some('F'), "form", Flag::Form),
    (None, "form-string", Flag::Form),
    (Some('T'), "upload-file", Flag::Upload),
    (Some('I'), "head", Flag::Head),
    (Some('G'), "get", Flag::Get),
    (Some('u'), "user", Flag::User),
    (None, "oauth2-bearer", Flag::Bearer),
    (Some('A'), "user-agent", Flag::Agent),
    (Some('e'), "referer", Flag::Referer),
    (Some('r'), "range", Flag::Range),
    (None, "url", Flag::Url),
    (None, "url-query", Flag::UrlQuery),
    (None, "request-target", Flag::Target),
    (None, "path-as-is", Flag::AsIs),
    (None, "compressed", Flag::Compressed),
    (Some('k'), "insecure", Flag::Ignored),
    (Some('s'), "silent", Flag::Ignored),
    (Some('S'), "show-error", Flag::Ignored),
    (Some('i'), "include", Flag::Ignored),
    (None, "show-headers", Flag::Ignored),
    (Some('v'), "verbose", Flag::Ignored),
    (Some('L'), "location", Flag::Ignored),
    (Some('f'), "fail", Flag::Ignored),
    (None, "fail-with-body", Flag::Ignored),
    (Some('g'), "globoff", Flag::Ignored),
    (Some('#'), "progress-bar", Flag::Ignored),
    (None, "no-progress-meter", Flag::Ignored),
    (Some('N'), "no-buffer", Flag::Ignored),
    (Some('O'), "remote-name", Flag::Ignored),
    (Some('J'), "remote-header-name", Flag::Ignored),
    (Some('4'), "ipv4", Flag::Ignored),
    (Some('6'), "ipv6", Flag::Ignored),
    (Some('0'), "http1.0", Flag::Ignored),
    (None, "http1.1", Flag::Ignored),
    (None, "http2", Flag::Ignored),
    (None, "http2-prior-knowledge", Flag::Ignored),
    (None, "http3", Flag::Ignored),
    (None, "basic", Flag::Ignored),
    (None, "tlsv1.2", Flag::Ignored),
    (None, "tlsv1.3", Flag::Ignored),
    (Some('o'), "output", Flag::IgnoredValue),
    (Some('w'), "write-out", Flag::IgnoredValue),
    (Some('D'), "dump-header", Flag::IgnoredValue),
    (Some('c'), "cookie-jar", Flag::IgnoredValue),
    (Some('m'), "max-time", Flag::IgnoredValue),
    (None, "connect-timeout", Flag::IgnoredValue),
    (None, "max-redirs", Flag::IgnoredValue),
    (None, "retry", Flag::IgnoredValue),
    (None, "retry-delay", Flag::IgnoredValue),
    (None, "limit-rate", Flag::IgnoredValue),
    (Some('x'), "proxy", Flag::IgnoredValue),
    (None, "noproxy", Flag::IgnoredValue),
    (None, "resolve", Flag::IgnoredValue),
    (None, "connect-to", Flag::IgnoredValue),
    (None, "unix-socket", Flag::IgnoredValue),
    (None, "interface", Flag::IgnoredValue),
    (None, "cacert", Flag::IgnoredValue),
    (Some('E'), "cert", Flag::IgnoredValue),
    (None, "key", Flag::IgnoredValue),
    (None, "ciphers", Flag::IgnoredValue),
];

impl Flag {
    fn has_value(self) -> bool {
        !matches!(self, Self::Ignored | Self::Head | Self::Get | Self::AsIs | Self::Compressed)
    }
}

/// What the flags said so far.
#[derive(Default)]
struct Line {
    method: Option<String>,
    url: Option<String>,
    target: Option<String>,
    query: Vec<String>,
    given: Vec<(String, String)>,
    /// Names of headers that curl is told to leave out.
    dropped: Vec<String>,
    cookies: Vec<String>,
    data: Vec<String>,
    own: Vec<(&'static str, String)>,
    body: Option<&'static str>,
    head: bool,
    get: bool,
    as_is: bool,
    compressed: bool,
}

impl Curl {
    /// Reads a whole line, in the quotes of a shell.
    pub fn from_line(line: &str) -> Result<Self, CurlError> {
        Self::from_words(&shell::words(line).ok_or(CurlError::OpenQuote)?)
    }

    /// Reads a line that a shell has cut into words.
    pub fn from_words(words: &[String]) -> Result<Self, CurlError> {
        let mut words = words.iter().map(String::as_str).skip_while(|word| *word == "$");
        if words.next() != Some("curl") {
            return Err(CurlError::NotCurl);
        }
        let mut line = Line::default();
        let mut plain = false;
        while let Some(word) = words.next() {
            match word.strip_prefix('-').filter(|rest| !rest.is_empty() && !plain) {
                None => line.url(word)?,
                Some("-") => plain = true,
                Some(rest) => match rest.strip_prefix('-') {
                    Some(name) => line.long(name, &mut words)?,
                    None => line.short(rest, &mut words)?,
                },
            }
        }
        line.request()
    }
}

impl Line {
    fn url(&mut self, url: &str) -> Result<(), CurlError> {
        match self.url.replace(url.to_owned()) {
            None => Ok(()),
            Some(_) => Err(CurlError::TwoUrls),
        }
    }

    fn long<'w>(&mut self, name: &str, words: &mut impl Iterator<Item = &'w str>) -> Result<(), CurlError> {
        let flag = format!("--{}", name.split('=').next().unwrap_or_default());
        let known = FLAGS.iter().find(|(_, long, _)| *long == name).map(|(_, _, known)| *known);
        let known = known.ok_or_else(|| CurlError::UnknownFlag(flag.clone()))?;
        let value = if known.has_value() { words.next().ok_or_else(|| CurlError::NoValue(flag.clone()))? } else { "" };
        self.flag(known, &flag, value)
    }

    /// Short flags may stand together; the first that has a value takes the rest, or else the next word.
    fn short<'w>(&mut self, letters: &str, words: &mut impl Iterator<Item = &'w str>) -> Result<(), CurlError> {
        let mut left = letters.chars();
        while let Some(letter) = left.next() {
            let flag = format!("-{letter}");
            let known = FLAGS.iter().find(|(short, ..)| *short == Some(letter)).map(|(_, _, known)| *known);
            let known = known.ok_or_else(|| CurlError::UnknownFlag(flag.clone()))?;
            if known.has_value() {
                let rest = Some(left.as_str()).filter(|rest| !rest.is_empty());
                let value = rest.or_else(|| words.next()).ok_or_else(|| CurlError::NoValue(flag.clone()))?;
                return self.flag(known, &flag, value);
            }
            self.flag(known, &flag, "")?;
        }
        Ok(())
    }

    fn flag(&mut self, flag: Flag, name: &str, value: &str) -> Result<(), CurlError> {
        let file = || CurlError::File(name.to_owned());
        match flag {
            Flag::Ignored | Flag::IgnoredValue => {}
            Flag::Method => self.method = Some(value.to_owned()),
            Flag::Header => self.header(value).ok_or_else(|| match value.strip_prefix('@') {
                Some(_) => file(),
                None => CurlError::Header,
            })?,
            Flag::Cookie if value.contains('=') => self.cookies.push(value.to_owned()),
            Flag::Cookie if value.is_empty() => {}
            Flag::Cookie => return Err(file()),
            Flag::Data => self.data("application/x-www-form-urlencoded", value.to_owned()),
            Flag::DataEncoded => self.data("application/x-www-form-urlencoded", encoded(value)),
            Flag::Json => self.data("application/json", value.to_owned()),
            Flag::Form => self.body = Some("multipart/form-data; boundary=------------------------explain"),
            Flag::Upload => _ = self.method.get_or_insert_with(|| "PUT".to_owned()),
            Flag::Head => self.head = true,
            Flag::Get => self.get = true,
            Flag::User => self.own.push(("authorization", format!("Basic {}", STANDARD.encode(value)))),
            Flag::Bearer => self.own.push(("authorization", format!("Bearer {value}"))),
            Flag::Agent => self.own.push(("user-agent", value.to_owned())),
            Flag::Referer => self.own.push(("referer", value.to_owned())),
            Flag::Range => self.own.push(("range", format!("bytes={value}"))),
            Flag::Url => self.url(value)?,
            Flag::UrlQuery => self.query.push(value.strip_prefix('+').map_or_else(|| encoded(value), str::to_owned)),
            Flag::Target => self.target = Some(value.to_owned()),
            Flag::AsIs => self.as_is = true,
            Flag::Compressed => self.compressed = true,
        }
        Ok(())
    }

    /// `Name: value`; `Name;` for an empty value; `Name:` to leave out what curl would send.
    fn header(&mut self, text: &str) -> Option<()> {
        match (text.split_once(':'), text.strip_suffix(';')) {
            (Some((name, value)), _) if value.trim().is_empty() => self.dropped.push(name.to_ascii_lowercase()),
            (Some((name, value)), _) => self.given.push((name.to_ascii_lowercase(), value.trim().to_owned())),
            (None, Some(name)) => self.given.push((name.to_ascii_lowercase(), String::new())),
            (None, None) => return None,
        }
        Some(())
    }

    fn data(&mut self, kind: &'static str, data: String) {
        self.body = Some(kind);
        if kind == "application/json" {
            self.own.push(("accept", kind.to_owned()));
        }
        self.data.push(data);
    }

    fn request(mut self) -> Result<Curl, CurlError> {
        let url = self.url.take().ok_or(CurlError::NoUrl)?;
        let mut url = Url::read(&url, self.as_is)?;
        if self.get {
            if self.data.iter().any(|data| data.starts_with('@')) {
                return Err(CurlError::File("-d".to_owned()));
            }
            self.query.append(&mut self.data);
            self.body = None;
        }
        for part in self.query.drain(..) {
            url.target.push(if url.target.contains('?') { '&' } else { '?' });
            url.target.push_str(&part);
        }
        let usual = match (self.head, self.body) {
            (true, _) => "HEAD",
            (_, Some(_)) => "POST",
            (_, None) => "GET",
        };
        let mut headers = std::mem::take(&mut self.given);
        let host = headers.iter().position(|(name, _)| name == "host").map(|at| headers.remove(at).1);
        let mut own = |name: &str, value: String| {
            if !headers.iter().any(|(given, _)| given == name) && !self.dropped.iter().any(|gone| gone == name) {
                headers.push((name.to_owned(), value));
            }
        };
        if let Some(user) = url.user {
            own("authorization", format!("Basic {}", STANDARD.encode(user)));
        }
        for (name, value) in self.own {
            own(name, value);
        }
        own("accept", "*/*".to_owned());
        if let Some(kind) = self.body {
            own("content-type", kind.to_owned());
        }
        if self.compressed {
            own("accept-encoding", "deflate, gzip".to_owned());
        }
        if !self.cookies.is_empty() {
            headers.push(("cookie".to_owned(), self.cookies.join("; ")));
        }
        Ok(Curl {
            method: self.method.unwrap_or_else(|| usual.to_owned()),
            host: host.unwrap_or(url.host),
            target: self.target.unwrap_or(url.target),
            headers,
            notes: url.notes,
        })
    }
}

/// The parts of a URL as curl sends them.
pub(super) struct Url {
    pub host: String,
    pub target: String,
    user: Option<String>,
    pub notes: Vec<String>,
}

impl Url {
    /// Cuts a URL as curl does: no scheme means http, no fragment is sent, and plain dot segments are resolved unless
    /// the path is to be sent as it is.
    pub fn read(url: &str, as_is: bool) -> Result<Self, CurlError> {
        let rest = match url.split_once("://") {
            Some((scheme, rest)) if ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) => rest,
            Some((scheme, _)) if !scheme.contains(['/', '?', '#']) => return Err(CurlError::Scheme),
            _ => url,
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user.to_owned()), host),
            None => (None, authority),
        };
        if host.is_empty() {
            return Err(CurlError::NoHost);
        }
        let mut target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        let mut notes = Vec::new();
        if let Some(resolved) = without_dots(&target).filter(|_| !as_is) {
            notes.push(format!("curl resolves dot segments before it sends them: {resolved} (--path-as-is does not)"));
            target = resolved;
        }
        Ok(Self { host: host.to_owned(), target, user, notes })
    }
}

/// The path without its plain dot segments (RFC 3986 §5.2.4); `None` where it has none.
fn without_dots(target: &str) -> Option<String> {
    let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
    let is_dots = |segment: &str| matches!(segment, "." | "..");
    if !path.split('/').any(is_dots) {
        return None;
    }
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/').skip(1) {
        match segment {
            "." => {}
            ".." => _ = kept.pop(),
            segment => kept.push(segment),
        }
    }
    let mut resolved = format!("/{}", kept.join("/"));
    if path.rsplit('/').next().is_some_and(is_dots) && !resolved.ends_with('/') {
        resolved.push('/');
    }
    Some(format!("{resolved}{query}"))
}

/// `name=value` with the value escaped, as `--data-urlencode` does.
fn encoded(text: &str) -> String {
    let escape = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    match text.split_once('=') {
        Some(("", value)) => escape(value),
        Some((name, value)) => format!("{name}={}", escape(value)),
        None => escape(text),
    }
}
