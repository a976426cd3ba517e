//! The client's side of OAuth, as far as the tests need it: forms, basic authentication, redirects and cookies.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, LOCATION, SET_COOKIE};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::Value;
use url::Url;
use url::form_urlencoded::Serializer;

use crate::support::DEADLINE;

/// A user agent: it keeps cookies and follows no redirect by itself.
pub struct Agent {
    http: Client,
    cookies: BTreeMap<String, String>,
}

/// What a token endpoint gave.
#[derive(Clone, Debug)]
pub struct Tokens {
    pub access: String,
    pub refresh: Option<String>,
    pub id: Option<String>,
    pub kind: String,
}

impl Agent {
    pub fn new() -> Self {
        let http = Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .pool_max_idle_per_host(0)
            .timeout(DEADLINE)
            .build()
            .unwrap();
        Self { http, cookies: BTreeMap::new() }
    }

    /// Posts a form.
    pub async fn form(&self, url: &str, client: Option<(&str, &str)>, fields: &[(&str, &str)]) -> Response {
        let request = self.http.post(url).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        let request = match client {
            Some((id, secret)) => {
                request.header(AUTHORIZATION, format!("Basic {}", STANDARD.encode(format!("{id}:{secret}"))))
            }
            None => request,
        };
        request.body(encoded(fields)).send().await.unwrap()
    }

    /// Posts a form and reads the JSON that comes with 200.
    pub async fn json(&self, url: &str, client: Option<(&str, &str)>, fields: &[(&str, &str)]) -> Value {
        read(self.form(url, client, fields).await).await
    }

    /// A token by this grant; `proof` is sent as `DPoP`.
    pub async fn tokens(
        &self,
        url: &str,
        client: Option<(&str, &str)>,
        fields: &[(&str, &str)],
        proof: Option<&str>,
    ) -> Tokens {
        let mut request = self.http.post(url).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        if let Some((id, secret)) = client {
            request = request.header(AUTHORIZATION, format!("Basic {}", STANDARD.encode(format!("{id}:{secret}"))));
        }
        if let Some(proof) = proof {
            request = request.header("DPoP", proof);
        }
        let answer = read(request.body(encoded(fields)).send().await.unwrap()).await;
        let text = |name: &str| answer[name].as_str().map(str::to_owned);
        Tokens {
            access: text("access_token").unwrap_or_else(|| panic!("{answer}")),
            refresh: text("refresh_token"),
            id: text("id_token"),
            kind: text("token_type").unwrap(),
        }
    }

    /// Posts JSON and reads JSON.
    pub async fn post_json(&self, url: &str, body: &Value) -> Value {
        let request = self.http.post(url).header(CONTENT_TYPE, "application/json").body(body.to_string());
        read(request.send().await.unwrap()).await
    }

    /// Gets JSON.
    pub async fn get_json(&self, url: &str) -> Value {
        read(self.http.get(url).send().await.unwrap()).await
    }

    /// Calls an API with a token; no answer is `null`.
    pub async fn call(&self, method: Method, url: &str, token: &str, body: Option<&Value>) -> Value {
        let mut request = self.http.request(method, url).bearer_auth(token);
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.to_string());
        }
        read(request.send().await.unwrap()).await
    }

    /// A page with the cookies, and after it those to which it leads, until one is for `end` or leads nowhere.
    pub async fn follow(&mut self, url: Url, end: &str) -> (Url, String) {
        let mut url = url;
        for _ in 0..20 {
            if url.as_str().starts_with(end) {
                return (url, String::new());
            }
            let request = self.http.request(Method::GET, url.clone());
            let response = self.with_cookies(request).send().await.unwrap();
            self.keep_cookies(&response);
            let Some(next) = response.headers().get(LOCATION).map(|next| next.to_str().unwrap().to_owned()) else {
                let status = response.status();
                let text = response.text().await.unwrap();
                assert!(status.is_success(), "{url}: {status} {text}");
                return (url, text);
            };
            url = url.join(&next).unwrap();
        }
        panic!("it leads on and on: {url}");
    }

    /// Posts a form with the cookies.
    pub async fn submit(&mut self, url: &str, fields: &[(&str, &str)]) -> Response {
        let request = self.http.post(url).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        let response = self.with_cookies(request).body(encoded(fields)).send().await.unwrap();
        self.keep_cookies(&response);
        response
    }

    fn with_cookies(&self, request: RequestBuilder) -> RequestBuilder {
        let pairs: Vec<_> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        if pairs.is_empty() { request } else { request.header(COOKIE, pairs.join("; ")) }
    }

    fn keep_cookies(&mut self, response: &Response) {
        for cookie in response.headers().get_all(SET_COOKIE) {
            let pair = cookie.to_str().unwrap().split(';').next().unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            if value.is_empty() {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
    }
}

impl Tokens {
    /// The claims of the access token, unverified.
    pub fn claims(&self) -> Value {
        part(&self.access, 1)
    }

    /// The key that signed the access token.
    pub fn kid(&self) -> String {
        part(&self.access, 0)["kid"].as_str().unwrap().to_owned()
    }
}

/// The part of a JWT as JSON: 0 is its header, 1 its claims.
fn part(token: &str, at: usize) -> Value {
    let part = token.split('.').nth(at).unwrap_or_else(|| panic!("not a JWT: {token}"));
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

fn encoded(fields: &[(&str, &str)]) -> String {
    Serializer::new(String::new()).extend_pairs(fields).finish()
}

async fn read(response: Response) -> Value {
    let (status, url) = (response.status(), response.url().clone());
    let text = response.text().await.unwrap();
    assert!(status.is_success(), "{url}: {status} {text}");
    if text.is_empty() {
        return Value::Null;
    }
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("{url}: {text}"))
}
