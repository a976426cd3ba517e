//! What a fetch may reach: which URLs, and which addresses once their names are resolved.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use super::fetch::FetchError;

/// The addresses that a fetch may connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// All: the operator named the host, and may well run it in a private network.
    Any,
    /// Those of the internet: somebody else named the host.
    Public,
    /// Those of this machine: the fetch is not encrypted.
    Loopback,
}

impl Reach {
    /// What a URL of the operator's may reach. Plain http stays on this machine, and only where `allow_http` says so.
    pub(super) fn of_own(url: &Url, allow_http: bool) -> Result<Self, FetchError> {
        let host = host(url)?;
        match url.scheme() {
            "https" => Ok(Self::Any),
            "http" if allow_http && is_this_machine(&host) => Ok(Self::Loopback),
            _ => Err(FetchError::InsecureUrl),
        }
    }

    /// What a URL may reach that was read in a document at `own`. On another host, that is the internet only.
    pub(super) fn of_learnt(url: &Url, own: &Url, allow_http: bool) -> Result<Self, FetchError> {
        let is_downgrade = url.scheme() == "http" && own.scheme() != "http";
        if is_downgrade {
            return Err(FetchError::InsecureUrl);
        }
        let reach = Self::of_own(url, allow_http)?;
        let host = host(url)?;
        if reach != Self::Any || Some(&host) == own.host().as_ref() {
            return Ok(reach);
        }
        let address = match host {
            Host::Domain(_) => return Ok(Self::Public),
            Host::Ipv4(address) => address.into(),
            Host::Ipv6(address) => address.into(),
        };
        if Self::Public.covers(address) { Ok(Self::Public) } else { Err(FetchError::AddressRefused) }
    }

    /// Whether this address may be connected to.
    pub(super) fn covers(self, address: IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::Public => is_public(address),
            Self::Loopback => address.to_canonical().is_loopback(),
        }
    }
}

/// The host of a URL that has one and names nobody (RFC 3986 §3.2.1).
fn host(url: &Url) -> Result<Host<&str>, FetchError> {
    let is_anonymous = url.username().is_empty() && url.password().is_none();
    url.host().filter(|_| is_anonymous).ok_or(FetchError::InsecureUrl)
}

fn is_this_machine(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => *name == "localhost",
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    }
}

/// Whether an address is one of the internet, by the IANA special-purpose registries.
fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    !matches!(
        address.octets(),
        [0 | 10 | 127 | 224..=255, ..]
            | [100, 64..=127, ..]
            | [169, 254, ..]
            | [172, 16..=31, ..]
            | [192, 0, 0 | 2, _]
            | [192, 88, 99, _]
            | [192, 168, ..]
            | [198, 18 | 19, ..]
            | [198, 51, 100, _]
            | [203, 0, 113, _]
    )
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    match address.segments() {
        // NAT64 (RFC 6052 §2.1): an IPv4 address in disguise.
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => match address.octets() {
            [.., a, b, c, d] => is_public_v4(Ipv4Addr::new(a, b, c, d)),
        },
        // Teredo and kin, documentation, 6to4: none of them is where keys are.
        [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x2002, ..] | [0x3fff, 0..=0xfff, ..] => false,
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

/// Resolves names, and leaves out the addresses that may not be connected to. What it gives is what is connected to, so
/// that a second answer cannot differ from the one that was looked at.
pub(super) struct Resolver {
    pub(super) reach: Reach,
    pub(super) names: Names,
}

/// Who tells the addresses of names.
#[derive(Clone, Default)]
pub(super) enum Names {
    /// The system.
    #[default]
    System,
    /// A test, which may tell others each time.
    #[cfg(test)]
    Told(std::sync::Arc<dyn Fn(&str) -> Vec<IpAddr> + Send + Sync>),
}

impl Names {
    async fn of(&self, name: &str) -> Result<Vec<SocketAddr>, NameFault> {
        match self {
            Self::System => Ok(tokio::net::lookup_host((name, 0)).await.map_err(|_| NameFault::NotFound)?.collect()),
            #[cfg(test)]
            Self::Told(tell) => Ok(tell(name).into_iter().map(|address| SocketAddr::new(address, 0)).collect()),
        }
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (reach, names) = (self.reach, self.names.clone());
        Box::pin(async move {
            let mut found = names.of(name.as_str()).await?;
            found.retain(|address| reach.covers(address.ip()));
            if found.is_empty() {
                return Err(NameFault::Refused.into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// Why a name gave no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NameFault {
    /// It has none.
    NotFound,
    /// It has none that may be connected to.
    Refused,
}

impl fmt::Display for NameFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotFound => "the name has no address",
            Self::Refused => "the name has no address that may be connected to",
        })
    }
}

impl std::error::Error for NameFault {}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(text: &str, allow_http: bool) -> Result<Reach, FetchError> {
        Reach::of_own(&Url::parse(text).unwrap(), allow_http)
    }

    fn learnt(text: &str, from: &str, allow_http: bool) -> Result<Reach, FetchError> {
        Reach::of_learnt(&Url::parse(text).unwrap(), &Url::parse(from).unwrap(), allow_http)
    }

    #[test]
    fn a_url_of_the_operators_is_https_or_allowed_http_on_this_machine() {
        // K01
        for refused in [
            "http://id.example.com/",
            "http://10.0.0.1/",
            "http://localhost.example.com/",
            "http://127.0.0.1.example.com/",
            "ftp://id.example.com/",
            "gopher://id.example.com/",
            "file:///etc/passwd",
            "data:,x",
            "https://user@id.example.com/",
            "https://user:password@id.example.com/",
        ] {
            assert_eq!(own(refused, true), Err(FetchError::InsecureUrl), "{refused}");
        }
        for local in ["http://127.0.0.1:8080/", "http://localhost/", "http://[::1]/"] {
            assert_eq!(own(local, true), Ok(Reach::Loopback), "{local}");
            assert_eq!(own(local, false), Err(FetchError::InsecureUrl), "{local}");
        }
        assert_eq!(own("https://10.0.0.1/", false), Ok(Reach::Any));
    }

    #[test]
    fn a_learnt_url_on_another_host_reaches_the_internet_only() {
        // K01, K03
        let from = "https://id.example.com/realm";
        for refused in [
            "https://127.0.0.1/",
            "https://[::1]/",
            "https://[::ffff:169.254.169.254]/",
            "https://0x7f.1/",
            "https://2130706433/",
            "https://169.254.169.254/",
            "https://10.1.2.3/",
            "https://[fd00::1]/",
            "https://[64:ff9b::10.0.0.1]/",
        ] {
            assert_eq!(learnt(refused, from, true), Err(FetchError::AddressRefused), "{refused}");
        }
        for refused in ["http://127.0.0.1/", "http://id.example.com/", "https://u@id.example.com/"] {
            assert_eq!(learnt(refused, from, true), Err(FetchError::InsecureUrl), "{refused}");
        }
        assert_eq!(learnt("https://keys.example.com/", from, false), Ok(Reach::Public));
        assert_eq!(learnt("https://1.1.1.1/", from, false), Ok(Reach::Public));
        assert_eq!(learnt("https://id.example.com:8443/keys", from, false), Ok(Reach::Any));
        assert_eq!(learnt("https://10.0.0.1/keys", "https://10.0.0.1/", false), Ok(Reach::Any));
        assert_eq!(learnt("http://localhost:2/", "http://127.0.0.1:1/", true), Ok(Reach::Loopback));
    }

    #[test]
    fn addresses_of_no_public_network_are_not_public() {
        for private in [
            "0.0.0.0",
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.31.255.255",
            "192.168.0.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:10.0.0.1",
            "fe80::1",
            "fc00::1",
            "ff02::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "64:ff9b::127.0.0.1",
        ] {
            assert!(!Reach::Public.covers(private.parse().unwrap()), "{private}");
        }
        for public in ["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "64:ff9b::1.1.1.1", "::ffff:1.1.1.1"]
        {
            assert!(Reach::Public.covers(public.parse().unwrap()), "{public}");
        }
    }

    #[tokio::test]
    async fn a_name_is_refused_by_what_it_resolves_to() {
        // K02
        async fn resolve(reach: Reach, name: &str) -> Result<usize, Option<NameFault>> {
            let found = Resolver { reach, names: Names::System }.resolve(name.parse().unwrap()).await;
            found.map(Iterator::count).map_err(|error| error.downcast_ref::<NameFault>().copied())
        }
        assert_eq!(resolve(Reach::Public, "localhost").await, Err(Some(NameFault::Refused)));
        // Not every resolver knows the name with a dot at its end.
        assert!(resolve(Reach::Public, "localhost.").await.is_err());
        assert!(resolve(Reach::Loopback, "localhost").await.unwrap() > 0);
        assert!(resolve(Reach::Any, "localhost").await.unwrap() > 0);
    }
}
