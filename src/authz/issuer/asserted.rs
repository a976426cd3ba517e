//! An identity of this issuer that is asserted, not proven: within the same walls as one of its tokens.

use std::sync::Arc;

use super::{Issuer, Lists};
use crate::authz::asserted::Subject;
use crate::authz::identity::{Identity, Listed};
use crate::authz::json::{Json, Object};
use crate::authz::reason::Reason;
use crate::authz::time::Timestamp;
use crate::authz::token::Verified;

/// The longest subject that is asserted, in bytes.
const MAX_SUBJECT: usize = 1_024;

impl Issuer {
    /// Who a subject would be whose token says so: what the issuer may not grant does not count, and what it requires of its
    /// tokens is required of this one. Nothing of it is remembered.
    ///
    /// # Errors
    /// [`Reason::SubjectRefused`] where no token could say so, [`Reason::RequirementUnmet`].
    pub(in crate::authz) fn asserted(&self, subject: &Subject, now: Timestamp) -> Result<Arc<Identity>, Reason> {
        let refused = Reason::SubjectRefused;
        let rules = &self.policy.tokens;
        if subject.id.is_empty() || subject.id.len() > MAX_SUBJECT {
            return Err(refused);
        }
        let claim = |name| subject.claims.get(name);
        let agrees = |name, value: &str| claim(name).is_none_or(|claim| claim.as_text() == Some(value));
        let tenant = match &rules.tenants {
            Some(tenants) => {
                let named = claim("iss").and_then(Json::as_text).and_then(|iss| tenants.of(iss));
                Some(Arc::clone(named.ok_or(refused)?))
            }
            None if agrees("iss", &rules.issuer) => None,
            None => return Err(refused),
        };
        if !agrees("sub", &subject.id) {
            return Err(refused);
        }
        let text = |text: &str| Json::Text(text.into());
        let own = [("sub", text(&subject.id)), ("iss", text(&rules.issuer))];
        let own = own.into_iter().filter(|(name, _)| claim(name).is_none());
        let claims = Object::of(subject.claims.iter().map(|(name, value)| (name, value.clone())).chain(own));
        let lists = self.lists(&claims);
        let given = |list: &Option<Box<[Arc<str>]>>, read| list.clone().map_or(read, Listed::Known);
        let lists = Lists {
            roles: given(&subject.lists.roles, lists.roles),
            groups: given(&subject.lists.groups, lists.groups),
            scopes: given(&subject.lists.scopes, lists.scopes),
        };
        let verified = Verified {
            claims,
            subject: Arc::from(&*subject.id),
            tenant,
            token_id: None,
            // It is said now: of what was revoked by when it was issued, only what comes later counts.
            issued: Some(now),
            not_before: None,
            expires: Timestamp::from_millis(i64::MAX),
            kid: None,
        };
        self.of_lists(verified, lists)
    }
}
