//! Attacks on a running gateway from outside: what got through, and which setting of the gateway to change.

mod attack;
mod cure;
mod door;
pub mod echo;
mod judge;
mod known;
mod reach;
mod report;
mod run;

use std::time::Duration;

use url::Url;

pub use attack::ATTACKS;
pub use cure::Gateway;
pub use door::Trust;
pub use report::{Finding, Report};
pub use run::probe;

/// What to attack, and with what.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where callers reach the gateway: `http://host:port` or `https://host:port`.
    pub url: Url,
    /// What goes into `Host`; the host of the URL where it is `None`.
    pub host: Option<String>,
    /// Paths that pass without a credential; those of the policy where there is none.
    pub public: Vec<String>,
    /// Paths that do not.
    pub protected: Vec<String>,
    /// Headers that no caller may send, beside those of the policy.
    pub headers: Vec<String>,
    /// A bearer token that counts for the protected paths.
    pub token: Option<String>,
    /// Where the upstream is, which nobody here should reach.
    pub upstream: Option<Url>,
    /// Where portcullis is, the same.
    pub portcullis: Option<Url>,
    /// Which gateway it is; recognised where it says so itself.
    pub gateway: Option<Gateway>,
    /// Whose certificate it may show.
    pub trust: Trust,
    /// How long one request may take.
    pub deadline: Duration,
    /// How long all of it may take.
    pub total: Duration,
}

/// Why a probe cannot be carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// It is no place to connect to.
    #[error("`{0}` is not http://HOST:PORT or https://HOST:PORT, without a path")]
    Url(String),
    /// The certificates cannot be checked.
    #[error("TLS: {0}")]
    Tls(String),
    /// Something that would not be one line, or one path.
    #[error("{0} cannot be sent in a request: {1:?}")]
    Text(&'static str, String),
    /// Nothing answers.
    #[error("nothing answers at {0}: {1}")]
    Unreachable(String, String),
    /// Neither a public nor a protected path is known.
    #[error("no path to attack: --public PATH and --protected PATH, or -c policy.yaml, say which there are")]
    NoPath,
    /// No request tells held from got through.
    #[error("there is nothing to compare with:\n  {0}")]
    NoBaseline(String),
}
