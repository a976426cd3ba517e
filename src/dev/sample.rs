//! The sample policy of `portcullis dev`, and requests that show what it does, each with the answer to expect.

use std::net::SocketAddr;

/// `examples/shop/portcullis.yaml`, as shipped.
const POLICY: &str = include_str!("../../examples/shop/portcullis.yaml");
/// The issuer that it names.
const ISSUER: &str = "http://127.0.0.1:9002";
/// Where browsers find the site, as it says.
const PUBLIC_URL: &str = "http://127.0.0.1:8000";
/// What its issuer's tokens are for.
pub const AUDIENCE: &str = "shop-api";

/// A request to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// What it shows.
    pub about: &'static str,
    /// The status to expect; then, after a comma, what else.
    pub expected: &'static str,
    /// A line for a shell.
    pub command: String,
}

/// The sample policy for this issuer, behind a gateway at this address.
#[must_use]
pub fn policy(issuer: &str, gateway: SocketAddr) -> String {
    let gateway = format!("http://{gateway}");
    // One pass each, on texts that are in the file once: neither can be taken for the other.
    let with_issuer: Vec<String> = POLICY.split(ISSUER).map(|part| part.replace(PUBLIC_URL, &gateway)).collect();
    with_issuer.join(issuer)
}

/// Requests to the sample policy through a gateway, with tokens of an issuer: one for each thing that it does.
#[must_use]
pub fn trials(gateway: SocketAddr, issuer: &str) -> Vec<Trial> {
    let token = |form: &str| {
        let form: Vec<String> = form.split(' ').map(|field| format!("-d {field}")).collect();
        format!("-H \"Authorization: Bearer $(curl -s {issuer}/token.txt {})\"", form.join(" "))
    };
    let trial = |about, expected, path: &str, more: &str| Trial {
        about,
        expected,
        command: format!("curl -si http://{gateway}{path} {more}").trim_end().to_owned(),
    };
    let premium = token("sub=u1 roles=premium");
    let (u1, tenant) = (token("sub=u1"), token("sub=u1 tenant=acme"));
    let forged = "-H 'X-User-ID: root' -H 'x.user.id: root'";
    vec![
        trial("A public route", "200, no x-user-id", "/health", ""),
        trial("The same with a forged identity, spelled in two ways", "200, no x-user-id", "/health", forged),
        trial("A route that asks for a role, and nobody signed in", "401", "/secret-data", ""),
        trial("Somebody without that role", "403", "/secret-data", &u1),
        trial("Somebody with it: the application is told who", "200, x-user-id: u1", "/secret-data", &premium),
        trial("The same with a forged identity", "200, x-user-id: u1", "/secret-data", &format!("{forged} {premium}")),
        trial("A token that has expired", "401", "/secret-data", &token("sub=u1 roles=premium expires_in=-120")),
        trial("Somebody's own profile", "200, x-user-id: u1", "/profile/u1", &format!("-X PUT {u1}")),
        trial("Somebody else's profile", "403", "/profile/u2", &format!("-X PUT {u1}")),
        trial(
            "The same for an admin",
            "200, x-user-id: a1",
            "/profile/u2",
            &format!("-X PUT {}", token("sub=a1 roles=admin")),
        ),
        trial("The tenant of the token", "200, x-user-id: u1", "/t/acme/orders", &tenant),
        trial("Another tenant", "403", "/t/other/orders", &tenant),
        trial("A path that servers read in two ways", "400", "/health/..%2fadmin", "--path-as-is"),
        trial(
            "A browser without a session is sent to sign in",
            "302, location: https://login.example.com/",
            "/secret-data",
            "-H 'Accept: text/html'",
        ),
        trial("A path that the policy does not name", "403", "/nowhere", &premium),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_is_for_the_issuer_and_the_gateway_that_run() {
        assert_eq!(policy(ISSUER, "127.0.0.1:8000".parse().unwrap()), POLICY);
        let moved = policy("http://127.0.0.1:8000", "127.0.0.1:9002".parse().unwrap());
        assert!(moved.contains("url: http://127.0.0.1:8000 ") && moved.contains("public_url: http://127.0.0.1:9002\n"));
        let changed = POLICY.lines().zip(moved.lines()).filter(|(old, new)| old != new).count();
        assert_eq!((changed, POLICY.lines().count()), (2, moved.lines().count()));
        assert!(POLICY.contains(&format!("audience: {AUDIENCE}\n")));
    }

    #[test]
    fn each_trial_is_one_line_that_says_what_to_expect() {
        let trials = trials("127.0.0.1:8000".parse().unwrap(), ISSUER);
        assert_eq!(
            trials[4].command,
            "curl -si http://127.0.0.1:8000/secret-data -H \"Authorization: Bearer \
             $(curl -s http://127.0.0.1:9002/token.txt -d sub=u1 -d roles=premium)\""
        );
        for trial in &trials {
            assert!(!trial.command.contains('\n'));
            let status = trial.expected.split(',').next().unwrap();
            assert!(["200", "302", "400", "401", "403"].contains(&status), "{}", trial.about);
        }
    }
}
