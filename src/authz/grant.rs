//! Grants: roles that the operator gives to single principals, each until a time.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use aws_lc_rs::digest::{SHA256, digest};

use super::identity::{Identity, Principal};
use super::issuer::Issuer;
use super::time::Timestamp;

/// A role that a principal has beside those of its token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The role.
    pub role: Arc<str>,
    /// From when on it has it no more, that instant included.
    pub until: Timestamp,
    /// Where it is written why.
    pub ticket: Option<Arc<str>>,
}

/// All grants of a policy.
#[derive(Debug)]
pub struct Grants {
    /// A hash of all that follows, by which an identity knows for which grants it was raised.
    digest: u64,
    /// Those that last longest first, so that those in force are always the first ones.
    of: HashMap<Principal, Arc<[Grant]>, foldhash::fast::RandomState>,
}

/// An identity with its grants, and for which grants and how many of them it was made.
#[derive(Clone, Debug, Default)]
pub(super) struct RaisedOnce(OnceLock<(u64, usize, Arc<Identity>)>);

impl Grants {
    /// The grants of a policy; `None` where it has none.
    #[must_use]
    pub fn new(grants: Vec<(Principal, Grant)>) -> Option<Self> {
        let text = format!("{grants:?}");
        let digest =
            digest(&SHA256, text.as_bytes()).as_ref().iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        let mut of: HashMap<Principal, Vec<Grant>> = HashMap::new();
        for (principal, grant) in grants {
            of.entry(principal).or_default().push(grant);
        }
        let sorted = of.into_iter().map(|(principal, mut grants)| {
            grants.sort_by_key(|grant| std::cmp::Reverse(grant.until));
            (principal, Arc::from(grants))
        });
        let of: HashMap<_, _, _> = sorted.collect();
        (!of.is_empty()).then_some(Self { digest, of })
    }

    /// Whom they are for, in no order, and each one's grants, those that last longest first.
    pub fn iter(&self) -> impl Iterator<Item = (&Principal, &[Grant])> {
        self.of.iter().map(|(principal, grants)| (principal, &**grants))
    }

    /// Whether somebody of this issuer has the role by one of them.
    #[must_use]
    pub fn has_role(&self, issuer: &str, role: &str) -> bool {
        let of_issuer = self.of.iter().filter(|(principal, _)| *principal.issuer == *issuer);
        of_issuer.flat_map(|(_, grants)| grants.iter()).any(|grant| *grant.role == *role)
    }

    /// The identity with the grants that are in force now: asked in every check, for a token is remembered longer than a
    /// grant may last. Made once for as long as they are the same.
    pub(super) fn raise(&self, identity: Arc<Identity>, issuer: &Issuer, now: Timestamp) -> Arc<Identity> {
        let Some(grants) = self.of.get(identity.principal()) else { return identity };
        let count = grants.iter().take_while(|grant| now < grant.until).count();
        let Some(in_force @ [_, ..]) = grants.get(..count) else { return identity };
        let made = identity.raised().0.get_or_init(|| (self.digest, count, issuer.raised(&identity, in_force)));
        match made {
            (digest, made, raised) if (*digest, *made) == (self.digest, count) => Arc::clone(raised),
            _ => issuer.raised(&identity, in_force),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::decision::Verdict;
    use super::super::snapshot::{Facts, Snapshot, Step};
    use crate::authz::time::Timestamp;
    use crate::config::compile;
    use crate::config::file::Row;
    use crate::dev::rehearsal::{Call, NOW, Rehearsal};

    const HOUR: i64 = 3_600_000;

    fn policy(grants: &str) -> String {
        format!(
            "
issuers: {{main: {{url: https://id.example.com, audience: shop, roles: roles, missing: empty, may_grant: [user, auditor, guest]}}}}
headers: {{X-Roles: roles}}
roles:
  auditor: role:admin and scope:audit
  outside: role:admin
  guest:   not role:admin
routes: {{/admin: role:admin, /audit: role:auditor, /outside: role:outside, /guest: role:guest}}
grants: {grants}
tests:
  - [{{sub: u1, roles: [user, admin], scope: audit, exp: 1900000000}}, GET /admin, allow]
  - [{{sub: u1, scope: audit, exp: 1900000000}}, GET /audit, allow]
  - [{{sub: u1, exp: 1900000000}}, GET /outside, allow]
  - [{{sub: u1, exp: 1900000000}}, GET /guest, allow]
  - [{{sub: u2, exp: 1900000000}}, GET /admin, allow]
"
        )
    }

    /// Whether each row passes, and what roles the upstream is told, at so many hours after the rehearsal's time.
    fn outcomes(rehearsal: &Rehearsal, snapshot: &Snapshot, rows: &[Row], hours: i64) -> Vec<String> {
        let now = Timestamp::from_millis(NOW.as_millis().saturating_add(hours.saturating_mul(HOUR)));
        let decided = |row: &Row| {
            let call = Call {
                who: &row.who.value,
                ask: &row.ask.value,
                from: None,
                service: None,
                key: None,
                browser: false,
                headers: &[],
                dpop: None,
                certificate: None,
            };
            let step = rehearsal.stage(&call, |request| snapshot.decide(request, &Facts::default(), now)).unwrap();
            let Step::Decided(decision) = step else { panic!("a question") };
            match decision.verdict() {
                Verdict::Allow(grant) => {
                    let mut set = grant.set().filter(|(name, _)| name == "x-roles");
                    String::from_utf8(set.next().unwrap().1.to_vec()).unwrap()
                }
                Verdict::Deny(denial) => denial.reason().code().to_owned(),
            }
        };
        rows.iter().map(decided).collect()
    }

    const UNMET: &str = "rule_unmet";

    #[test]
    fn a_grant_ends_on_time_though_the_token_is_remembered() {
        let text = policy("[{principal: main/u1, role: admin, until: 2027-01-15T10:00:00Z}]");
        let compiled = compile("p", &text, &|_| Err(std::io::ErrorKind::NotFound.into())).0.unwrap();
        let rehearsal = Rehearsal::new(&compiled);
        let at = |hours| outcomes(&rehearsal, rehearsal.snapshot(), &compiled.tests, hours);
        // `may_grant` does not limit the grant, and limits what follows from it.
        let during = [r#"["user","auditor","admin"]"#, r#"["auditor","admin"]"#, UNMET, UNMET, UNMET];
        let after = [UNMET, UNMET, UNMET, r#"["guest"]"#, UNMET];
        assert_eq!(at(0), during);
        assert_eq!(at(1), during);
        assert_eq!(at(2), after, "the very second counts as after");
        assert_eq!(at(9), after);
        assert_eq!(at(1), during, "a clock that was set back");
    }

    #[test]
    fn a_grant_is_there_and_gone_with_the_reload_that_says_so() {
        let of = |grants: &str| compile("p", &policy(grants), &|_| Err(std::io::ErrorKind::NotFound.into())).0.unwrap();
        let none = of("[{principal: main/other, role: admin, until: 2027-01-16T00:00:00Z}]");
        let rehearsal = Rehearsal::new(&none);
        let first = |snapshot: &Snapshot| outcomes(&rehearsal, snapshot, &none.tests, 0)[0].clone();
        assert_eq!(first(rehearsal.snapshot()), UNMET);
        let reloaded = |grants: &str| {
            let issuers = rehearsal.snapshot().issuers().to_vec().into();
            Snapshot::new(2, of(grants).policy, issuers)
        };
        let given = reloaded("[{principal: main/u1, role: admin, until: 2027-01-16T00:00:00Z, ticket: OPS-1}]");
        assert_eq!(first(&given), r#"["user","auditor","admin"]"#);
        let less = reloaded("[{principal: main/u1, role: user, until: 2027-01-16T00:00:00Z}]");
        assert_eq!(first(&less), UNMET);
        let taken = reloaded("[{principal: main/u2, role: admin, until: 2027-01-16T00:00:00Z}]");
        assert_eq!(outcomes(&rehearsal, &taken, &none.tests, 0)[0], UNMET);
        assert_eq!(outcomes(&rehearsal, &taken, &none.tests, 0)[4], r#"["admin"]"#);
    }

    #[test]
    fn the_grants_in_force_are_those_that_have_not_ended() {
        let text = policy(
            "[{principal: main/u1, role: user, until: 2027-01-15T09:00:00Z},
              {principal: main/u1, role: admin, until: 2027-01-15T11:00:00Z},
              {principal: main/u1, role: clerk, until: 2027-01-15T10:00:00Z}]",
        );
        let compiled = compile("p", &text, &|_| Err(std::io::ErrorKind::NotFound.into())).0.unwrap();
        let rehearsal = Rehearsal::new(&compiled);
        let second = |hours| outcomes(&rehearsal, rehearsal.snapshot(), &compiled.tests, hours)[1].clone();
        assert_eq!(second(0), r#"["auditor","admin","clerk","user"]"#);
        assert_eq!(second(1), r#"["auditor","admin","clerk"]"#);
        assert_eq!(second(2), r#"["auditor","admin"]"#);
        assert_eq!(second(3), UNMET);
    }
}
