//! What can be wrong with the text of a route key, and what would be right.

use std::fmt;
use std::ops::Range;

/// What is wrong with a route key, and where in its text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind}")]
pub struct PatternError {
    /// The bytes of the text that are wrong.
    pub at: Range<usize>,
    /// What is wrong with them.
    pub kind: PatternFault,
}

/// What is wrong with a route key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternFault {
    /// There is no `/`.
    #[error("a route key is `[METHOD ][host]/path`; the path, with its leading `/`, is missing")]
    NoPath,
    /// Not a method.
    #[error("a method is written in upper case, several with a comma and no space, as in `GET,POST /orders`")]
    BadMethod,
    /// CONNECT.
    #[error("CONNECT is never allowed, so no route can be for it")]
    Connect,
    /// The same method twice.
    #[error("this method is named twice")]
    MethodTwice,
    /// A host with a port.
    #[error("a host is written without a port: every port matches")]
    Port,
    /// `name:/path` of a set that is not there.
    #[error("there is no such set of hosts; sets are named under `hosts:`, and a key has no scheme")]
    UnknownHosts,
    /// Not a host name.
    #[error(
        "not a host name; its labels are letters, digits, `-` and `_`, at most 63 each and 253 in all, as in `api.example.com` (other scripts as `xn--…`)"
    )]
    BadHost,
    /// Not an address.
    #[error("not an IP address; write it as `192.0.2.7` or `[2001:db8::1]`")]
    BadAddress,
    /// A host pattern that is none.
    #[error(
        "a host pattern is `*.example.com` (one or more labels) or `{{name}}.example.com` (one label); leave the host out to match every host"
    )]
    BadHostPattern,
    /// A segment is empty.
    #[error("a segment of the path is empty; such requests are refused, so this matches nothing")]
    EmptySegment,
    /// `.` or `..`.
    #[error("a path with `.` or `..` as a segment is refused, so this matches nothing")]
    DotSegment,
    /// `**` before the end.
    #[error("`**` stands for all the rest, so nothing can follow it; `*` or `{{name}}` is one segment")]
    RestNotLast,
    /// `prefix*` before the end.
    #[error("`prefix*` can only be the last segment")]
    PrefixNotLast,
    /// A `*` elsewhere in a segment.
    #[error(
        "`*` is a whole segment, or ends the last one (`prefix*`), and `**` is a whole segment; write a literal one as `%2A`"
    )]
    Star,
    /// Not the name of a capture.
    #[error("a capture is `{{name}}` or `{{name**}}`, its name a letter or `_`, then letters, digits, `_` and `-`")]
    BadCapture,
    /// Braces within a segment.
    #[error("a capture is a whole segment; write literal braces as `%7B` and `%7D`")]
    Brace,
    /// The same name twice.
    #[error("two captures have this name")]
    CaptureTwice,
    /// Over the cap of captures.
    #[error("a key has at most 8 captures; write `*` for what no rule reads")]
    TooManyCaptures,
    /// Over the cap of segments.
    #[error("a key has at most 64 segments")]
    TooManySegments,
    /// A percent escape that is none.
    #[error("`%` begins two hexadecimal digits, and escapes together are UTF-8; write a literal one as `%25`")]
    BadEscape,
    /// A literal that a loose reading never gives.
    #[error(
        "a literal with a dot or space at its end, or with `?` or `#`, is refused as a variant of another path; write `*`"
    )]
    Loose,
    /// An escaped slash or control character.
    #[error("a request with this in its path is refused, so this matches nothing")]
    Refused,
    /// A character that cannot stand in a path.
    #[error("{}", Misplaced(*.0))]
    BadChar(char),
}

struct Misplaced(char);

impl fmt::Display for Misplaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            '?' | '#' => {
                write!(f, "a route is chosen by method, host and path; leave out `{}` and what follows", self.0)
            }
            ';' | '\\' => write!(
                f,
                "a request with `{}` in its path is refused by default; write a literal one as `%{:02X}`",
                self.0,
                u32::from(self.0)
            ),
            ' ' => {
                f.write_str("a space in a path is written `%20`; a method stands before the key, as in `GET /orders`")
            }
            _ => f.write_str("a control or space character cannot stand in a path"),
        }
    }
}
