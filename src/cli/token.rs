//! `portcullis token`: a token of the issuer that `portcullis dev` runs.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::{Map, Value};
use url::{Host, Url};

use super::{fail, print};
use crate::clock;
use crate::dev::wire::exchange;

/// It is on this machine, and has nothing to wait for.
const DEADLINE: Duration = Duration::from_secs(5);

#[derive(Args)]
pub(super) struct Token {
    /// Whom the token is for
    #[arg(long, value_name = "SUBJECT", default_value = "u1")]
    sub: String,
    /// The roles, with commas between them
    #[arg(long, value_name = "ROLES", value_delimiter = ',')]
    roles: Vec<String>,
    /// A claim of text; may be given more than once
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = claim)]
    text: Vec<(String, String)>,
    /// More claims, as one JSON object; null leaves one out
    #[arg(long, value_name = "JSON", value_parser = object)]
    claims: Option<Map<String, Value>>,
    /// How long the token is good, such as 30s, 10m or 2h; with a minus it has expired already
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = seconds, allow_hyphen_values = true)]
    expires_in: i64,
    /// The issuer, which must be on this machine
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9002", value_parser = loopback)]
    issuer_url: SocketAddr,
}

impl Token {
    /// Prints the token alone.
    pub fn run(self) -> ExitCode {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let asked = runtime.map_err(|error| error.to_string()).and_then(|runtime| runtime.block_on(self.ask()));
        match asked {
            Ok(token) => {
                print(format_args!("{token}\n"));
                ExitCode::SUCCESS
            }
            Err(why) => fail(why),
        }
    }

    async fn ask(self) -> Result<String, String> {
        let at = self.issuer_url;
        let body = Value::Object(self.into_claims()).to_string();
        let request = format!(
            "POST /token.txt HTTP/1.1\r\nHost: {at}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = exchange(at, request.as_bytes(), DEADLINE)
            .await
            .map_err(|error| format!("no issuer answers on {at} ({error}): start one with `portcullis dev`"))?;
        let token = answer.text();
        let is_token = answer.status == 200 && token.split('.').count() == 3;
        if is_token { Ok(token) } else { Err(format!("what answers on {at} is not the issuer of `portcullis dev`")) }
    }

    fn into_claims(self) -> Map<String, Value> {
        let now = clock::now().as_millis().div_euclid(1_000);
        let mut claims = Map::new();
        claims.insert("sub".to_owned(), self.sub.into());
        claims.insert("exp".to_owned(), now.saturating_add(self.expires_in).into());
        claims.insert("roles".to_owned(), self.roles.into());
        claims.extend(self.text.into_iter().map(|(name, value)| (name, value.into())));
        claims.extend(self.claims.unwrap_or_default());
        claims
    }
}

fn claim(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("a claim is NAME=VALUE, such as tenant=acme")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn object(text: &str) -> Result<Map<String, Value>, String> {
    serde_json::from_str(text).map_err(|error| format!("want a JSON object, such as {{\"tenant\": \"acme\"}}: {error}"))
}

pub(super) fn seconds(text: &str) -> Result<i64, String> {
    let parsed = || {
        let unit = text.chars().next_back()?;
        let number: i64 = text.strip_suffix(unit)?.parse().ok()?;
        let factor = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            _ => return None,
        };
        number.checked_mul(factor)
    };
    parsed().ok_or_else(|| "want a number and its unit: 30s, 10m, 2h, 1d".to_owned())
}

/// Where a URL on this machine leads. A claim set that somebody tries out goes nowhere else.
fn loopback(text: &str) -> Result<SocketAddr, String> {
    let wrong = || "want http://127.0.0.1:PORT: an issuer on this machine, such as `portcullis dev` runs".to_owned();
    let url = Url::parse(text).map_err(|_| wrong())?;
    let plain = url.scheme() == "http" && url.username().is_empty() && url.password().is_none() && url.path() == "/";
    let ip = match url.host() {
        Some(Host::Ipv4(ip)) => IpAddr::V4(ip),
        Some(Host::Ipv6(ip)) => IpAddr::V6(ip),
        Some(Host::Domain("localhost")) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Some(Host::Domain(_)) | None => return Err(wrong()),
    };
    if !plain || !ip.is_loopback() {
        return Err(wrong());
    }
    Ok(SocketAddr::new(ip, url.port_or_known_default().unwrap_or(80)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory as _, FromArgMatches as _};
    use serde_json::json;

    #[derive(clap::Parser)]
    struct Parsed {
        #[command(flatten)]
        token: Token,
    }

    fn parsed(arguments: &[&str]) -> Result<Token, String> {
        let all = std::iter::once(&"token").chain(arguments);
        let matches = Parsed::command().try_get_matches_from(all).map_err(|error| error.to_string())?;
        Parsed::from_arg_matches(&matches).map(|parsed| parsed.token).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_asked_for_becomes_claims() {
        let arguments =
            ["--sub", "u7", "--roles", "a,b", "--claim", "tenant=x=y", "--claims", r#"{"jti": null, "n": 1}"#];
        let mut claims = parsed(&arguments).unwrap().into_claims();
        assert!(claims.remove("exp").unwrap().as_i64().unwrap() > clock::now().as_millis() / 1_000 + 500);
        let expected = json!({"sub": "u7", "roles": ["a", "b"], "tenant": "x=y", "jti": null, "n": 1});
        assert_eq!(Value::Object(claims), expected);
        let expired = parsed(&["--expires-in", "-2m"]).unwrap().into_claims();
        assert!(expired["exp"].as_i64().unwrap() < clock::now().as_millis() / 1_000);
        assert_eq!((&expired["sub"], &expired["roles"]), (&json!("u1"), &json!([])));
    }

    #[test]
    fn a_claim_set_goes_to_this_machine_only() {
        for url in ["http://127.0.0.1:9002", "http://127.0.0.1:9002/", "http://localhost:9002", "http://[::1]:9002"] {
            assert_eq!(loopback(url).unwrap().port(), 9002, "{url}");
        }
        for url in [
            "https://127.0.0.1:9002",
            "http://10.0.0.1:9002",
            "http://id.example.com",
            "http://localhost.example.com",
            "http://0.0.0.0:9002",
            "http://127.0.0.1@10.0.0.1/",
            "http://u@127.0.0.1:9002/",
            "http://127.0.0.1:9002/realms/x",
            "127.0.0.1:9002",
            "",
        ] {
            assert!(loopback(url).is_err(), "{url}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for arguments in [["--claim", "tenant"], ["--claims", "[]"], ["--expires-in", "soon"], ["--expires-in", "10"]] {
            assert!(parsed(&arguments).is_err(), "{arguments:?}");
        }
    }
}
