//! Logout tokens: an issuer says that somebody signed out (OpenID Connect Back-Channel Logout 1.0 §2.4, §2.6).

use std::sync::Arc;
use std::time::Duration;

use super::claim::{Audience, media_type, subject_of, text, time, times_hold};
use super::identity::ClaimPath;
use super::issuer::Issuer;
use super::json::Json;
use super::reason::Reason;
use super::revocation::{MAX_IDENTIFIER, Revocation, Revoked};
use super::time::Timestamp;
use super::token::{Refused, Unverified};

/// The member of `events` that makes a token a logout token.
const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";
/// How long a logout token without `exp` is good after `iat`: §2.4 advises two minutes at most.
const LIFE: Duration = Duration::from_secs(120);

/// Whose logout tokens of an issuer count, and what they revoke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogoutPolicy {
    /// The clients that people sign in at: whom a logout token is for.
    pub clients: Box<[Arc<str>]>,
    /// Whether all that the subject was given is revoked, whatever the session.
    pub whole_subject: bool,
}

impl Issuer {
    /// What a logout token revokes: a session, or what a subject was given before it was issued.
    ///
    /// # Errors
    /// The first rule that it breaks; or that there is no key for it, and newer ones may have it.
    pub fn logout(&self, token: &[u8], now: Timestamp) -> Result<Revocation, Refused> {
        let policy = self.policy();
        let rules = &policy.tokens;
        let Some(wanted) = &policy.logout else { return Err(Reason::IssuerRefused.into()) };
        let token = Unverified::read(token)?;
        let plain = |typ: &str| ["logout+jwt", "JWT"].iter().any(|known| media_type(typ).eq_ignore_ascii_case(known));
        if !token.typ().is_none_or(plain) {
            return Err(Reason::TokenTypeRefused.into());
        }
        let claims = token.signed_by(&self.state().keys, rules)?;
        let tenant = match claims.get("iss").and_then(Json::as_text) {
            Some(iss) if rules.tenants.is_some() || *iss == *rules.issuer => rules.tenant(iss, &claims)?,
            Some(_) | None => return Err(Reason::IssuerRefused.into()),
        };
        let meant = ClaimPath::parse("aud").ok_or(Reason::InternalError)?;
        Audience { claim: meant, any_of: Box::default() }.check_for(&wanted.clients, &claims)?;
        let is_logout = match claims.get("events") {
            Some(Json::Object(events)) => matches!(events.get(EVENT), Some(Json::Object(_))),
            _ => false,
        };
        if !is_logout || claims.get("nonce").is_some() {
            return Err(Reason::TokenTypeRefused.into());
        }
        let issued = time(&claims, "iat")?.ok_or(Reason::ClaimsMalformed)?;
        text(&claims, "jti", MAX_IDENTIFIER)?.ok_or(Reason::ClaimsMalformed)?;
        let expires = time(&claims, "exp")?.unwrap_or_else(|| issued.plus(LIFE));
        times_hold(Some(issued), expires, rules.leeway, now)?;
        let (session, subject) = (text(&claims, "sid", MAX_IDENTIFIER)?, text(&claims, "sub", MAX_IDENTIFIER)?);
        let of = match (session.filter(|_| !wanted.whole_subject), subject) {
            (Some(session), _) => Revoked::Session(session),
            (None, Some(subject)) => {
                let subject = subject_of(tenant.as_deref(), subject);
                let subject = format!("{}{subject}", policy.subject_prefix).into();
                // `iat` is in whole seconds: what was issued in the same one was issued before, or may have been.
                Revoked::Subject(subject, Some(issued.plus(Duration::from_secs(1))))
            }
            (None, None) => return Err(Reason::ClaimsMalformed.into()),
        };
        Ok(Revocation { issuer: Arc::clone(&policy.name), of, until: None })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::authz::algorithm::Algorithm;
    use crate::authz::issuer::KeyState;
    use crate::authz::keys::{KeySet, Origin};
    use crate::config::compile;
    use crate::dev::mint::SigningKey;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn key() -> &'static SigningKey {
        SigningKey::shared(Algorithm::Es256)
    }

    fn issuer(logout: &str) -> Issuer {
        let text = format!(
            "
issuers: {{main: {{url: https://id.test, audience: api, subject_prefix: 'p:', logout: {logout}, deny_kids: [stolen]}}}}
store: redis://127.0.0.1
listen: {{public: 127.0.0.1:9003}}
revocation: {{store: true}}
routes: {{/a: signed-in}}
"
        );
        let (compiled, problems) = compile("p.yaml", &text, &|_| Err(std::io::ErrorKind::NotFound.into()));
        let policy = Arc::clone(&compiled.unwrap_or_else(|| panic!("{problems}")).policy.issuers[0]);
        Issuer::new(policy, KeyState { keys: key().key_set("k"), ..KeyState::default() })
    }

    fn claims(more: &Value) -> Value {
        let mut claims = json!({
            "iss": "https://id.test", "aud": ["shop-web"], "jti": "l1", "iat": 1_799_999_990, "exp": 1_800_000_060,
            "events": {"http://schemas.openid.net/event/backchannel-logout": {}}, "sid": "s1", "sub": "u1",
        });
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        claims
    }

    fn read(logout: &str, more: &Value) -> Result<String, Refused> {
        let token = key().token(Some("k"), &claims(more));
        issuer(logout).logout(token.as_bytes(), NOW).map(|revocation| revocation.to_string())
    }

    #[test]
    fn a_logout_token_ends_its_session_or_what_its_subject_was_given() {
        let before = Timestamp::from_secs(1_799_999_991);
        let subject = format!("main/p:u1 issued before {before}");
        assert_eq!(read("shop-web", &json!({})), Ok("session s1 of main".into()));
        assert_eq!(read("shop-web", &json!({"sub": null})), Ok("session s1 of main".into()));
        assert_eq!(read("shop-web", &json!({"sid": null})), Ok(subject.clone()));
        assert_eq!(read("{clients: [shop-web], revokes: subject}", &json!({})), Ok(subject));
        assert_eq!(read("[a, shop-web]", &json!({"aud": "shop-web", "exp": null})), Ok("session s1 of main".into()));
    }

    #[test] // J13
    fn a_logout_token_of_many_tenants_is_of_one_of_them_and_by_a_key_of_it() {
        let text = "
issuers:
  main: {issuer: 'https://id.test/{tid}/', jwks: https://id.test/keys, tenants: [t1, t2], audience: api, logout: shop-web}
store: redis://127.0.0.1
listen: {public: 127.0.0.1:9003}
revocation: {store: true}
routes: {/a: signed-in}
";
        let (compiled, problems) = compile("p.yaml", text, &|_| Err(std::io::ErrorKind::NotFound.into()));
        let policy = Arc::clone(&compiled.unwrap_or_else(|| panic!("{problems}")).policy.issuers[0]);
        let read = |key_issuer: Value, iss: &str, tid: Value| {
            let mut jwk = key().public_jwk(Some("k"));
            jwk["issuer"] = key_issuer;
            let set = json!({"keys": [jwk]}).to_string();
            let keys = KeySet::from_jwks(set.as_bytes(), Origin::Remote).unwrap().keys;
            let issuer = Issuer::new(Arc::clone(&policy), KeyState { keys, ..KeyState::default() });
            let token = key().token(Some("k"), &claims(&json!({"iss": iss, "tid": tid, "sid": null})));
            issuer.logout(token.as_bytes(), NOW).map(|revocation| revocation.to_string())
        };
        let (t1, every) = (json!("https://id.test/t1/"), json!("https://id.test/{tenantid}/"));
        let ended = Ok(format!("main/t1:u1 issued before {}", Timestamp::from_secs(1_799_999_991)));
        assert_eq!(read(t1.clone(), "https://id.test/t1/", json!("t1")), ended);
        assert_eq!(read(every.clone(), "https://id.test/t1/", json!("t1")), ended);
        let deny = Refused::Deny;
        assert_eq!(read(t1, "https://id.test/t2/", json!("t2")), Err(deny(Reason::KeyUnknown)), "another tenant's key");
        for (iss, tid) in [("t1", json!("t2")), ("t1", json!(null)), ("t3", json!("t3")), ("{tid}", json!("{tid}"))] {
            let refused = read(every.clone(), &format!("https://id.test/{iss}/"), tid);
            assert_eq!(refused, Err(deny(Reason::IssuerRefused)), "{iss}");
        }
    }

    #[test] // J15
    fn what_is_not_exactly_a_logout_token_signs_nobody_out() {
        let deny = Refused::Deny;
        for (more, refused) in [
            (json!({"aud": "api"}), deny(Reason::AudienceRefused)),
            (json!({"aud": null}), deny(Reason::ClaimsMalformed)),
            (json!({"iss": "https://other.test"}), deny(Reason::IssuerRefused)),
            (json!({"iss": ["https://id.test"]}), deny(Reason::IssuerRefused)),
            (json!({"events": null}), deny(Reason::TokenTypeRefused)),
            (
                json!({"events": {"http://schemas.openid.net/event/backchannel-logout": true}}),
                deny(Reason::TokenTypeRefused),
            ),
            (json!({"nonce": "n"}), deny(Reason::TokenTypeRefused)),
            (json!({"iat": null}), deny(Reason::ClaimsMalformed)),
            (json!({"jti": null}), deny(Reason::ClaimsMalformed)),
            (json!({"exp": 1_799_999_000}), deny(Reason::TokenExpired)),
            (json!({"exp": null, "iat": 1_799_999_000}), deny(Reason::TokenExpired)),
            (json!({"iat": 1_800_001_000}), deny(Reason::TokenNotYetValid)),
            (json!({"sid": null, "sub": null}), deny(Reason::ClaimsMalformed)),
            (json!({"sid": ["s1"]}), deny(Reason::ClaimsMalformed)),
        ] {
            assert_eq!(read("shop-web", &more), Err(refused), "{more}");
        }
        let (issuer, text) = (issuer("shop-web"), claims(&json!({})).to_string());
        let with = |header: &str| issuer.logout(key().sign(header, &text).as_bytes(), NOW).map(drop);
        assert_eq!(with(r#"{"alg":"ES256","kid":"k","typ":"logout+jwt"}"#), Ok(()));
        assert_eq!(with(r#"{"alg":"ES256","kid":"k","typ":"at+jwt"}"#), Err(deny(Reason::TokenTypeRefused)));
        assert_eq!(with(r#"{"alg":"ES256","kid":"stolen"}"#), Err(deny(Reason::KeyDenied)));
        assert_eq!(with(r#"{"alg":"ES256","kid":"new"}"#), Err(Refused::KeyUnknown));
        let other = SigningKey::generate(Algorithm::Es256).token(Some("k"), &claims(&json!({})));
        assert_eq!(issuer.logout(other.as_bytes(), NOW).map(drop), Err(deny(Reason::SignatureInvalid)));
    }
}
