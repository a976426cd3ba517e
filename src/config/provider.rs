//! `provider:` an identity provider by its name: what it fixes is filled in, as the policy could have said it itself.

mod aws;
mod code;
mod directory;
mod google;
mod microsoft;
mod portcullis;
mod shown;
mod world;

use super::error::{Problem, Span, Text, nearest};
use super::file::ISSUER;
use super::shape::{Fields, Reader, brief};
use super::tree::{Kind, Node};

pub use world::{World, world};

/// A provider, and what an issuer of it is made of.
pub(super) struct Provider {
    /// How the policy calls it.
    pub name: &'static str,
    /// Its own keys beside `provider`, which say what it does not fix.
    parameters: &'static [&'static str],
    /// Whose its subjects are, where they are the whole world whatever its URL.
    world: Option<&'static World>,
    fill: fn(&mut Filling<'_, '_>) -> Option<()>,
}

/// Every provider there is.
pub(super) const PROVIDERS: &[Provider] = &[
    directory::OKTA,
    directory::AUTH0,
    microsoft::ENTRA,
    aws::COGNITO,
    aws::IAM,
    aws::ALB,
    google::GOOGLE,
    google::IAP,
    directory::KEYCLOAK,
    directory::CLOUDFLARE,
    code::GITHUB,
    code::GITLAB,
    code::KUBERNETES,
    portcullis::PORTCULLIS,
];
/// The keys of an issuer that are parameters of providers, and mean nothing without one.
const PARAMETERS: &[&str] =
    &["domain", "server", "tenant", "version", "client", "pool", "team", "enterprise", "region"];

/// The names of all providers, in the order of the table.
#[must_use]
pub fn names() -> Vec<&'static str> {
    PROVIDERS.iter().map(|provider| provider.name).collect()
}

/// What came of an issuer's provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preset {
    /// Its name.
    pub provider: &'static str,
    /// The keys of the issuer as the policy would say them without it: YAML, each line indented by four spaces.
    pub explained: Box<str>,
    /// Whose its subjects are, where they are the whole world.
    pub world: Option<&'static World>,
}

/// Fills in what the provider of an issuer fixes: the issuer as a map without `provider`, and what came of it. Nothing
/// where a parameter is missing or wrong, which is reported.
pub(super) fn filled(reader: &mut Reader, node: &Node, fields: &Fields<'_>) -> Option<(Node, Preset)> {
    let name = reader.text(fields.get("provider")?, "`provider` of an issuer")?;
    let Some(provider) = PROVIDERS.iter().find(|provider| provider.name == &*name.value) else {
        unknown(reader, &name);
        return None;
    };
    let mut written = Vec::new();
    let mut given = Vec::new();
    for (key, span) in fields.keys().filter(|(key, _)| *key != "provider") {
        let Some(value) = fields.get(key) else { continue };
        if provider.parameters.contains(&key) {
            given.push((key, value));
        } else if PARAMETERS.contains(&key) {
            reader.report(not_of(provider, key, span));
        } else {
            written.push((key, span, value.clone()));
        }
    }
    let mut filling = Filling { reader, provider, name, given, written, failed: false };
    let done = (provider.fill)(&mut filling);
    let Filling { reader, mut written, failed, .. } = filling;
    done.filter(|()| !failed)?;
    let place = |key: &str| ISSUER.accepted.iter().position(|accepted| *accepted == key);
    written.sort_by_key(|(key, ..)| place(key));
    let explained = shown::issuer(&written, reader.fillings()).into();
    let entries = written.into_iter().map(|(key, span, value)| (text_at(key, span), value)).collect();
    let preset = Preset { provider: provider.name, explained, world: provider.world };
    Some((Node { span: node.span, kind: Kind::Map(entries) }, preset))
}

/// Reports the parameters of an issuer that has no provider.
pub(super) fn strays(reader: &mut Reader, fields: &Fields<'_>) {
    for (key, span) in fields.keys().filter(|(key, _)| PARAMETERS.contains(key)) {
        let of = PROVIDERS.iter().filter(|provider| provider.parameters.contains(&key));
        let of: Vec<String> = of.map(|provider| format!("`provider: {}`", provider.name)).collect();
        let message = format!("`{key}` says nothing of an issuer without a `provider`");
        reader.report(Problem::error("provider_missing", span, message).cure(format!("beside it {}", of.join(" or "))));
    }
}

fn unknown(reader: &mut Reader, name: &Text) {
    let cure = match nearest(&name.value, names()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("one of {}; any other provider is an issuer with its `url`", names().join(", ")),
    };
    let message = format!("there is no provider `{}`", brief(&name.value));
    reader.report(Problem::error("unknown_provider", name.span, message).cure(cure));
}

fn not_of(provider: &Provider, key: &str, span: Span) -> Problem {
    let has = match provider.parameters {
        [] => "it has no keys of its own".to_owned(),
        keys => {
            format!("its own keys are {}", keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", "))
        }
    };
    let message = format!("`provider: {}` has no `{key}`", provider.name);
    Problem::error("not_of_provider", span, message).cure(has)
}

fn text_at(text: &str, span: Span) -> Node {
    Node { span, kind: Kind::Text { text: text.into(), plain: false } }
}

/// An issuer while its provider fills it in.
struct Filling<'n, 'r> {
    reader: &'r mut Reader,
    provider: &'static Provider,
    name: Text,
    given: Vec<(&'static str, &'n Node)>,
    written: Vec<(&'static str, Span, Node)>,
    failed: bool,
}

impl Filling<'_, '_> {
    fn has(&self, key: &str) -> bool {
        self.written.iter().any(|(written, ..)| *written == key)
    }

    fn value(&self, key: &str) -> Option<&Node> {
        self.written.iter().find(|(written, ..)| *written == key).map(|(.., node)| node)
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.value(key).and_then(|node| if let Kind::Text { text, .. } = &node.kind { Some(&**text) } else { None })
    }

    fn fail(&mut self, code: &'static str, span: Span, message: impl Into<String>, cure: &str) {
        self.failed = true;
        self.reader.report(Problem::error(code, span, message).cure(cure));
    }

    /// A parameter, which `fits` where it is well formed.
    fn parameter(&mut self, key: &'static str, fits: fn(&str) -> bool, cure: &str) -> Option<Text> {
        let (_, node) = *self.given.iter().find(|(given, _)| *given == key)?;
        let Some(text) = self.reader.text(node, &format!("`{key}` of an issuer")) else {
            self.failed = true;
            return None;
        };
        if !fits(&text.value) {
            let message = format!("`{key}: {}` is none of `provider: {}`", brief(&text.value), self.provider.name);
            self.fail("bad_parameter", text.span, message, cure);
            return None;
        }
        Some(text)
    }

    /// A parameter that must be there.
    fn needed(&mut self, key: &'static str, fits: fn(&str) -> bool, cure: &str) -> Option<Text> {
        let text = self.parameter(key, fits, cure);
        if text.is_none() && !self.failed {
            let message = format!("`provider: {}` needs `{key}`", self.provider.name);
            self.fail("missing_parameter", self.name.span, message, cure);
        }
        text
    }

    /// Refuses a key that only the provider can say: another value would make the issuer another one.
    fn alone(&mut self, keys: &[&str], cure: &str) {
        for key in keys {
            if let Some((_, span, _)) = self.written.iter().find(|(written, ..)| written == key) {
                let (span, name) = (*span, self.provider.name);
                let message = format!("`{key}` beside `provider: {name}` would make another issuer of it");
                self.fail("preset_fixes", span, message, cure);
            }
        }
    }

    fn put(&mut self, key: &'static str, kind: Kind, span: Span) {
        if !self.has(key) {
            self.written.push((key, span, Node { span, kind }));
        }
    }

    /// A text, where the issuer does not say one itself; `of` is the parameter that it was made of.
    fn say(&mut self, key: &'static str, text: impl Into<Box<str>>, of: Option<&Text>) {
        let span = of.map_or(self.name.span, |of| of.span);
        self.put(key, Kind::Text { text: text.into(), plain: false }, span);
    }

    /// A list of texts, where the issuer does not say one itself.
    fn list(&mut self, key: &'static str, texts: &[&str]) {
        let span = self.name.span;
        self.put(key, Kind::List(texts.iter().map(|text| text_at(text, span)).collect()), span);
    }

    /// `true`, where the issuer does not say otherwise.
    fn flag(&mut self, key: &'static str) {
        self.put(key, Kind::Bool(true), self.name.span);
    }

    /// A rule that must hold as well as the issuer's own `require`.
    fn require(&mut self, rule: &str) {
        let also = text_at(rule, self.name.span);
        let Some((_, _, own)) = self.written.iter_mut().find(|(key, ..)| *key == "require") else {
            return self.put("require", also.kind, also.span);
        };
        let span = own.span;
        let rules = Node { span, kind: Kind::List(vec![also, own.clone()]) };
        *own = Node { span, kind: Kind::Map(vec![(text_at("all", span), rules)]) };
    }

    /// The audience stands in this claim, where the issuer does not say in which.
    fn audience_in(&mut self, claim: &str) {
        let Some((_, _, audience)) = self.written.iter_mut().find(|(key, ..)| *key == "audience") else { return };
        if matches!(audience.kind, Kind::Map(_)) {
            return;
        }
        let span = audience.span;
        let entries = vec![(text_at("claim", span), text_at(claim, span)), (text_at("any_of", span), audience.clone())];
        *audience = Node { span, kind: Kind::Map(entries) };
    }

    /// Each text of a key as it is written, with its place; nothing of one that is not a text.
    fn texts(&self, key: &str) -> Vec<Text> {
        let texts = |node: &Node| {
            if let Kind::Text { text, .. } = &node.kind { vec![Text::new(text.clone(), node.span)] } else { Vec::new() }
        };
        match self.value(key) {
            Some(Node { kind: Kind::List(items), .. }) => items.iter().flat_map(texts).collect(),
            Some(node) => texts(node),
            None => Vec::new(),
        }
    }
}

/// Whether a text is a host's name: letters, digits, `-` and dots between.
fn is_host(text: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    text.len() <= 253 && text.contains('.') && text.split('.').all(label)
}

/// Whether a text is a name that may stand in a URL as it is.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// Whether a text is a UUID, in lower case (RFC 9562 §4).
fn is_uuid(text: &str) -> bool {
    let hex = |part: &str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let parts: Vec<&str> = text.split('-').collect();
    parts.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12]) && parts.iter().all(|part| hex(part))
}

#[cfg(test)]
mod tests;
