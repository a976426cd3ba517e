//! Parameters of a query that the policy manages: every spelling that an upstream may read as one of them is removed.
//!
//! Envoy compares names as they are spelt, encoded or not, so each spelling of this very request is removed by itself.

use bytes::Bytes;

use crate::authz::reason::Reason;

/// How often a name may be decoded until nothing is left to decode.
const MAX_ROUNDS: usize = 4;

/// The names that are managed: as they are written, and folded.
#[derive(Clone, Debug, Default)]
pub(super) struct Parameters(Box<[(Bytes, Box<[u8]>)]>);

impl Parameters {
    pub fn new(names: impl Iterator<Item = Bytes>) -> Self {
        Self(names.map(|name| (name.clone(), fold(&name))).collect())
    }

    /// The spellings to remove from this query: all that may be read as a managed name, but for the very names that are
    /// set, which replace what is there.
    ///
    /// # Errors
    /// [`Reason::QueryAmbiguous`] where a managed name stands behind a `;`, which parts parameters for some upstreams.
    pub fn spellings(&self, query: &str, is_set: impl Fn(&[u8]) -> bool) -> Result<Vec<Bytes>, Reason> {
        let mut spellings = Vec::new();
        if self.0.is_empty() {
            return Ok(spellings);
        }
        for part in query.split('&') {
            let name = part.split('=').next().unwrap_or_default();
            if self.has(name) {
                if !is_set(name.as_bytes()) {
                    spellings.push(Bytes::copy_from_slice(name.as_bytes()));
                }
            } else if part.contains(';') {
                let mut names = part.split(';').map(|part| part.split('=').next().unwrap_or_default());
                if names.any(|name| self.has(name)) {
                    return Err(Reason::QueryAmbiguous);
                }
            }
        }
        spellings.sort_unstable();
        spellings.dedup();
        Ok(spellings)
    }

    fn has(&self, name: &str) -> bool {
        let folded = fold(name.as_bytes());
        self.0.iter().any(|(_, managed)| *managed == folded)
    }
}

/// Folds a name as loosely as any upstream may read it: decoded as often as it can be, cut at a NUL and before what makes
/// it a list (`[`), without blanks before it, in lower case, with `-` for everything but letters and digits.
#[must_use]
pub fn fold(name: &[u8]) -> Box<[u8]> {
    let mut name: Vec<u8> = name.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    for _ in 0..MAX_ROUNDS {
        let decoded = decode(&name);
        if decoded == name {
            break;
        }
        name = decoded;
    }
    let start = name.iter().position(|byte| !byte.is_ascii_whitespace()).unwrap_or(name.len());
    let name = name.get(start..).unwrap_or_default();
    let end = name.iter().skip(1).position(|byte| *byte == b'[').map_or(name.len(), |at| at.saturating_add(1));
    let name = name.get(..end).unwrap_or(name).split(|byte| *byte == 0).next().unwrap_or_default();
    name.iter().map(|byte| if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' }).collect()
}

/// Decodes `%41` and `%u0041` once; what is neither stays.
fn decode(text: &[u8]) -> Vec<u8> {
    let hex = |digits: &[u8]| {
        let digits =
            std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        u32::from_str_radix(digits, 16).ok()
    };
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, behind)) = rest.split_first() {
        let short = behind.split_at_checked(2).and_then(|(digits, rest)| Some((hex(digits)?, rest)));
        let long = behind.strip_prefix(b"u").or_else(|| behind.strip_prefix(b"U")).and_then(|digits| {
            let (digits, rest) = digits.split_at_checked(4)?;
            Some((hex(digits)?, rest))
        });
        match short.or(long).filter(|_| *first == b'%').map(|(code, rest)| (u8::try_from(code), rest)) {
            Some((Ok(byte), after)) => {
                decoded.push(byte);
                rest = after;
            }
            Some((Err(_), _)) | None => {
                decoded.push(*first);
                rest = behind;
            }
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spellings(query: &str) -> Result<Vec<String>, Reason> {
        let parameters = Parameters::new([Bytes::from("tenant"), Bytes::from("debug_mode")].into_iter());
        let spellings = parameters.spellings(query, |name| name == b"tenant")?;
        Ok(spellings.iter().map(|name| String::from_utf8(name.to_vec()).unwrap()).collect())
    }

    #[test]
    fn every_spelling_of_a_managed_name_is_found() {
        for name in [
            "%74enant",
            "%74%65%6e%61%6E%74",
            "%2574enant",
            "%25252574enant",
            "%u0074enant",
            "%2574%u0065nant",
            "Tenant",
            "TENANT",
            "+tenant",
            "%20tenant",
            "%09tenant",
            "tenant[]",
            "tenant[0]",
            "tenant%5B%5D",
            "tenant[a][b]",
            "tenant%00x",
            "debug_mode",
            "debug.mode",
            "debug+mode",
            "debug%20mode",
            "debug-mode",
        ] {
            assert_eq!(spellings(&format!("a=1&{name}=x&b=2")).unwrap(), [name], "{name}");
            assert_eq!(spellings(name).unwrap(), [name], "{name}");
        }
        assert_eq!(spellings("tenant=evil&tenant=worse&tenant").unwrap(), [""; 0], "what is set replaces these");
        assert_eq!(spellings("Tenant=1&Tenant=2").unwrap(), ["Tenant"]);
    }

    #[test]
    fn other_parameters_are_let_be() {
        for query in [
            "",
            "&&",
            "=",
            "a=tenant",
            "tenants=1",
            "x%26tenant=1",
            "a=1%26tenant=2",
            "ten%zzant",
            "[tenant]=1",
            "a=1;b=2",
        ] {
            assert_eq!(spellings(query).unwrap(), [""; 0], "{query}");
        }
    }

    #[test] // N04
    fn a_name_that_only_some_upstreams_see_is_refused() {
        for query in ["a=1;tenant=evil", "a;%74enant", "x=1&a=1;b=2;Tenant=evil", "tenant;a=1", ";tenant=1"] {
            assert_eq!(spellings(query), Err(Reason::QueryAmbiguous), "{query}");
        }
    }
}
