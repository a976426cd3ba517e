//! What changes while we run: each feed polls or watches, reads, and publishes. It never calls the hot path.

pub mod fetch;
pub mod jwks;
mod reach;
pub mod status;
#[cfg(test)]
mod trial;

/// An issuer whose keys are fetched.
#[derive(Clone, Debug)]
pub struct Feed {
    /// The issuer.
    pub issuer: std::sync::Arc<crate::authz::issuer::IssuerPolicy>,
    /// Where its keys are.
    pub from: From,
    /// Plain http.
    pub allow_http: bool,
    /// How often.
    pub refresh: std::time::Duration,
}

/// Where keys are.
#[derive(Clone, Debug)]
pub enum From {
    /// Discovery.
    Discovery(url::Url),
    /// A key set.
    Jwks(url::Url),
}
