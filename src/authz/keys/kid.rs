//! A `kid` that may stand in a URL: a UUID, and nothing else.

use std::fmt;

/// A UUID in lower case (RFC 9562 §4), as AWS load balancers name their keys.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UuidKid([u8; 36]);

impl UuidKid {
    /// Reads a kid. `None` where it is anything else: a kid is an attacker's text until its token is verified.
    #[must_use]
    pub fn parse(kid: &str) -> Option<Self> {
        let bytes: [u8; 36] = kid.as_bytes().try_into().ok()?;
        let fits = |(at, byte): (usize, &u8)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        };
        bytes.iter().enumerate().all(fits).then_some(Self(bytes))
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for UuidKid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test] // J04
    fn only_a_uuid_enters_a_url() {
        let kid = "c2f80c8b-c05c-4068-af14-17299f7896b1";
        assert_eq!(UuidKid::parse(kid).unwrap().as_str(), kid);
        for bad in [
            "",
            "../../../../../../../../../../../etc",
            "c2f80c8b-c05c-4068-af14-17299f7896b",
            "c2f80c8b-c05c-4068-af14-17299f7896b12",
            "C2F80C8B-c05c-4068-af14-17299f7896b1",
            "c2f80c8b/c05c-4068-af14-17299f7896b1",
            "c2f80c8b-c05c-4068-af14-17299f7896b?",
            "c2f80c8bc05c4068af1417299f7896b1aaaa",
        ] {
            assert_eq!(UuidKid::parse(bad), None, "{bad}");
        }
    }
}
