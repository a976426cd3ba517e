//! Why a request was denied: a closed list, each with its stable code, HTTP status and challenge, in one table.

/// What the `WWW-Authenticate` header of a denial says (RFC 6750 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// No challenge: authenticating again would not help.
    None,
    /// `Bearer` alone: no credential was presented (RFC 6750 §3.1, last paragraph).
    Bare,
    /// `error="invalid_token"`.
    InvalidToken,
    /// `error="invalid_request"`.
    InvalidRequest,
    /// `error="insufficient_scope"`.
    InsufficientScope,
    /// `DPoP error="invalid_dpop_proof"` (RFC 9449 §7.1).
    InvalidProof,
    /// `DPoP error="use_dpop_nonce"` (RFC 9449 §9).
    UseNonce,
    /// `error="insufficient_user_authentication"` (RFC 9470 §3).
    StepUp,
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:literal, $status:literal, $challenge:ident;)+) => {
        /// Why a request was denied. The code is spelled the same in audit, metrics, docs and tests.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Reason { $($(#[doc = $doc])+ $name),+ }

        impl Reason {
            /// Every reason there is, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The stable, snake_case code.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => $code),+ }
            }

            /// The HTTP status that the caller sees, unless a sign-in redirect takes its place.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status),+ }
            }

            /// What `WWW-Authenticate` says.
            #[must_use]
            pub const fn challenge(self) -> Challenge {
                match self { $(Self::$name => Challenge::$challenge),+ }
            }

            /// One sentence for the operator: `explain`, docs and the audit reader, never the caller.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+).trim_ascii()),+ }
            }
        }
    };
}

reasons! {
    // Gate 1, read: what cannot be read one way only.
    /// What the gateway sent is no check, or is larger than the cap.
    CheckUnreadable = "check_unreadable", 400, None;
    /// The check describes a connection, not an HTTP request.
    RequestMissing = "request_missing", 400, None;
    /// The request has no path (CONNECT).
    PathMissing = "path_missing", 400, None;
    /// The path has a bad escape, a control character, bytes that are not UTF-8, no leading slash, or over 8 KiB.
    PathMalformed = "path_malformed", 400, None;
    /// The path has a `.` or `..` segment, written plainly or escaped.
    PathDotSegment = "path_dot_segment", 400, None;
    /// The path has an escaped slash.
    PathEncodedSlash = "path_encoded_slash", 400, None;
    /// The path has a backslash, written plainly or escaped.
    PathBackslash = "path_backslash", 400, None;
    /// The path has a semicolon, which some upstreams cut off.
    PathParameter = "path_parameter", 400, None;
    /// The path has an empty segment (`//`).
    PathEmptySegment = "path_empty_segment", 400, None;
    /// The path is escaped twice.
    PathDoubleEncoded = "path_double_encoded", 400, None;
    /// The path reaches another route when its case is folded or a trailing dot or space is cut.
    PathVariant = "path_variant", 400, None;
    /// The method is missing or is not a token of upper-case letters.
    MethodMalformed = "method_malformed", 400, None;
    /// The host is missing, is not a host name or address, or holds user information.
    HostMalformed = "host_malformed", 400, None;
    /// The request names more than one host.
    HostAmbiguous = "host_ambiguous", 400, None;
    /// A header name is not a token, or a header that the decision reads is not text.
    HeaderMalformed = "header_malformed", 400, None;
    /// A header that the decision reads and that may appear once appears twice.
    HeaderAmbiguous = "header_ambiguous", 400, None;
    /// The gateway did not send all of the request's headers.
    HeadersFiltered = "headers_filtered", 503, None;
    /// A header by which the gateway tells method, host or path is missing or empty.
    ForwardedMissing = "forwarded_missing", 400, None;
    /// A header by which the gateway tells method, host or path is there twice or holds a list, or one by which another
    /// kind of gateway tells them is there beside it.
    ForwardedAmbiguous = "forwarded_ambiguous", 400, None;
    /// Who asks is no gateway of `gateways:` that speaks so.
    GatewayUnknown = "gateway_unknown", 403, None;

    // Gate 2, route.
    /// No route of the policy serves this host.
    UnknownHost = "unknown_host", 403, None;
    /// No route matches.
    NoRoute = "no_route", 403, None;

    /// A preflight asks for a method that no route has, or from an origin that its `cors:` does not list.
    PreflightRefused = "preflight_refused", 403, None;

    // Gate 3, identity.
    /// The route needs an identity and no credential was presented.
    CredentialMissing = "credential_missing", 401, Bare;
    /// A policy decision client may not speak of this subject, or no token could say so.
    SubjectRefused = "subject_refused", 403, None;
    /// Two different credentials were presented for one slot.
    CredentialAmbiguous = "credential_ambiguous", 400, InvalidRequest;
    /// The caller's certificate cannot be read, is not valid now, or is not one by which a workload may be named.
    CertificateRefused = "certificate_refused", 401, Bare;
    /// A parameter that carries a credential is there twice or in another spelling, or one that the policy sets or
    /// removes stands behind a `;`, which some upstreams read as `&`.
    QueryAmbiguous = "query_ambiguous", 400, InvalidRequest;
    /// A credential in a cookie came with a request from another site.
    CrossSite = "cross_site", 403, None;
    /// The credential is not a compact JWS, nor an opaque token where the route accepts one.
    TokenMalformed = "token_malformed", 401, InvalidToken;
    /// The token is larger than the cap.
    TokenTooLarge = "token_too_large", 401, InvalidToken;
    /// The token's header names something that is refused, such as `crit`, `b64` or `zip`.
    TokenHeaderRefused = "token_header_refused", 401, InvalidToken;
    /// The token's `typ` is not one that the issuer's tokens have.
    TokenTypeRefused = "token_type_refused", 401, InvalidToken;
    /// The token's algorithm is unknown, or is not one that the issuer uses.
    AlgorithmRefused = "algorithm_refused", 401, InvalidToken;
    /// The route does not accept the token's issuer.
    IssuerRefused = "issuer_refused", 401, InvalidToken;
    /// The token was signed by a load balancer that its issuer does not name.
    SignerRefused = "signer_refused", 401, InvalidToken;
    /// The issuer has no such key.
    KeyUnknown = "key_unknown", 401, InvalidToken;
    /// The operator has suspended the token's issuer.
    IssuerSuspended = "issuer_suspended", 401, InvalidToken;
    /// The token names a key that the issuer's `deny_kids` lists.
    KeyDenied = "key_denied", 401, InvalidToken;
    /// The issuer's keys could not be had.
    KeysUnavailable = "keys_unavailable", 503, None;
    /// The issuer says that the token is not active: it has ended, was revoked, or never was.
    TokenInactive = "token_inactive", 401, InvalidToken;
    /// The issuer could not be asked about the token.
    IntrospectionUnavailable = "introspection_unavailable", 503, None;
    /// What the issuer answered about the token is not an answer of RFC 7662.
    IntrospectionRefused = "introspection_refused", 503, None;
    /// The signature does not verify.
    SignatureInvalid = "signature_invalid", 401, InvalidToken;
    /// A required claim is missing or has the wrong type, or a claim appears twice.
    ClaimsMalformed = "claims_malformed", 401, InvalidToken;
    /// The token is meant for another audience.
    AudienceRefused = "audience_refused", 401, InvalidToken;
    /// The token has expired.
    TokenExpired = "token_expired", 401, InvalidToken;
    /// The token is not valid yet.
    TokenNotYetValid = "token_not_yet_valid", 401, InvalidToken;
    /// The token was issued before the issuer's `reject_issued_before`, or does not say when it was.
    IssuedTooEarly = "issued_too_early", 401, InvalidToken;
    /// The token lives longer than the issuer's `max_token_lifetime`.
    TokenLifetimeRefused = "token_lifetime_refused", 401, InvalidToken;
    /// The token does not meet the issuer's `require` rule, or its subject begins like those of another issuer.
    RequirementUnmet = "requirement_unmet", 401, InvalidToken;
    /// The token is bound to a key, and came without a proof that its bearer has it, or as if it were not bound.
    ProofMissing = "proof_missing", 401, InvalidProof;
    /// The DPoP proof is not one, there are two, or its algorithm or key is not accepted.
    ProofMalformed = "proof_malformed", 401, InvalidProof;
    /// The proof is of another key than the token is bound to.
    ProofKeyMismatch = "proof_key_mismatch", 401, InvalidProof;
    /// The proof is not signed by the key that it holds.
    ProofSignatureInvalid = "proof_signature_invalid", 401, InvalidProof;
    /// The proof was made for another method or URL.
    ProofRequestMismatch = "proof_request_mismatch", 401, InvalidProof;
    /// The proof was made for another token, or for none.
    ProofTokenMismatch = "proof_token_mismatch", 401, InvalidProof;
    /// The proof was made too long ago, or is of the future.
    ProofExpired = "proof_expired", 401, InvalidProof;
    /// The proof holds no nonce that was given out lately.
    ProofNonceRequired = "proof_nonce_required", 401, UseNonce;
    /// The token is bound to a certificate, and no believed gateway says that the caller has it.
    CertificateMismatch = "certificate_mismatch", 401, InvalidToken;
    /// The token is not bound to what the issuer's tokens must be bound to, or not to a key and came as `DPoP`.
    TokenUnbound = "token_unbound", 401, InvalidToken;
    /// The token is bound to something that is not known here, or cannot be read.
    BindingUnknown = "binding_unknown", 401, InvalidToken;

    /// What stands where API keys stand is not written as one: its prefix, its length or its checksum.
    ApiKeyMalformed = "api_key_malformed", 401, Bare;
    /// The policy has no such API key.
    ApiKeyUnknown = "api_key_unknown", 401, Bare;
    /// The API key has expired.
    ApiKeyExpired = "api_key_expired", 401, Bare;
    /// The API key is not valid yet.
    ApiKeyNotYetValid = "api_key_not_yet_valid", 401, Bare;
    /// The API key is disabled: it was revoked.
    ApiKeyDisabled = "api_key_disabled", 401, Bare;
    /// The route does not take keys of this owner.
    ApiKeyRefused = "api_key_refused", 401, Bare;
    /// The API key is good, and is limited to other routes.
    ApiKeyRouteRefused = "api_key_route_refused", 403, None;

    // Gate 4, revocation.
    /// The token, its session, its key, or what its principal or issuer was given before a time is revoked.
    Revoked = "revoked", 401, InvalidToken;
    /// It is not known what is revoked, because the store that tells it cannot be asked.
    RevocationUnknown = "revocation_unknown", 503, None;

    // Gate 5, policy.
    /// A forbid of `deny:`, or of the route, holds, or cannot be told not to hold.
    Forbidden = "forbidden", 403, None;
    /// A guard that covers the request does not hold.
    GuardUnmet = "guard_unmet", 403, None;
    /// The route's rule does not hold.
    RuleUnmet = "rule_unmet", 403, None;
    /// The route's rule does not hold, and a scope would have helped.
    ScopeMissing = "scope_missing", 403, InsufficientScope;
    /// A guard or rule does not hold because one of its words could not be read.
    FactUnknown = "fact_unknown", 403, None;
    /// A guard or rule does not hold because it asks for a list that had no room in the token (groups overage).
    GroupsOverage = "groups_overage", 403, None;
    /// The route's condition is false.
    ConditionUnmet = "condition_unmet", 403, None;
    /// The route's condition is neither true nor false: something that it asks for is missing, or cannot be told.
    ConditionFailed = "condition_failed", 403, None;
    /// All that the policy asks for holds, but the person signed in too long ago, or not well enough, for the route's
    /// `max_age` or `acr`.
    StepUpRequired = "step_up_required", 401, StepUp;
    /// What the upstream, the caller or the gateway is to be told holds what cannot be carried there.
    HeaderValueRefused = "header_value_refused", 403, None;

    /// The upstream is to get a token of ours, and there is no key to sign it with.
    MintUnavailable = "mint_unavailable", 503, None;
    /// The request has a header that would pass for one that the policy sets, and the gateway cannot remove it.
    HeaderAlias = "header_alias", 400, None;
    /// The gateway cannot carry what the upstream, or it itself, is to be told: a change of the query, or metadata.
    GatewayCannot = "gateway_cannot", 503, None;
    /// With the headers that the upstream is to be told, the request would be larger than gateways let through.
    HeadersTooLarge = "headers_too_large", 431, None;

    // What may happen once only.
    /// The same proof was there before.
    ProofReplayed = "proof_replayed", 401, InvalidProof;
    /// Nobody can tell whether the same proof was there before: the store does not answer.
    ReplayUnknown = "replay_unknown", 503, None;

    // The shell.
    /// Peers make portcullis keep too many bytes of messages that are not finished.
    Overloaded = "overloaded", 503, None;
    /// portcullis has no policy loaded.
    NotReady = "not_ready", 503, None;
    /// portcullis itself failed. The log says how.
    InternalError = "internal_error", 503, None;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_snake_case() {
        let mut seen = std::collections::BTreeSet::new();
        for reason in Reason::ALL {
            let code = reason.code();
            assert!(code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{code}");
            assert!(seen.insert(code), "{code} twice");
        }
    }

    #[test]
    fn every_status_is_a_denial_and_401_always_challenges() {
        for reason in Reason::ALL {
            assert!([400, 401, 403, 431, 503].contains(&reason.status()), "{reason:?}");
            assert_eq!(
                reason.status() == 401,
                !matches!(
                    reason.challenge(),
                    Challenge::None | Challenge::InvalidRequest | Challenge::InsufficientScope
                ),
                "{reason:?}"
            );
        }
    }
}
