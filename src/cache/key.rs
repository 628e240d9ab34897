use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Uri, header, request::Parts};
use percent_encoding::percent_decode_str;
use sha2::{Digest, Sha256};

use super::canonical;
use crate::{Dialect, RequestContext, dialect::json_scan::root_members};

/// Tells which requests are the same: those with the same key, of the same tenant.
///
/// Any `Fn(&KeyedRequest) -> Option<Key>` is one. `None` is for what is not to be kept at all.
///
/// ```
/// use std::time::Duration;
/// use tower_failover::{CacheLayer, cache::{CacheKey, ExactMatch, KeyedRequest}};
///
/// // Only what is asked for with a header of one's own.
/// let exact = ExactMatch::new();
/// let layer = CacheLayer::new(Duration::from_secs(600))
///     .with_key(move |request: &KeyedRequest<'_>| exact.key(request).filter(|_| request.headers().contains_key("x-cache")));
/// ```
pub trait CacheKey: Send + Sync + 'static {
    /// The key of a request; `None` where its answer is neither to be kept nor to be one that was.
    fn key(&self, request: &KeyedRequest<'_>) -> Option<Key>;
}

impl<F> CacheKey for F
where
    F: Fn(&KeyedRequest<'_>) -> Option<Key> + Send + Sync + 'static,
{
    fn key(&self, request: &KeyedRequest<'_>) -> Option<Key> {
        self(request)
    }
}

/// A request whose key is asked for.
#[derive(Clone, Copy)]
pub struct KeyedRequest<'a> {
    pub(super) parts: &'a Parts,
    pub(super) body: &'a Bytes,
    pub(super) context: &'a RequestContext,
    pub(super) dialect: Dialect,
}

impl KeyedRequest<'_> {
    /// Where it goes.
    #[must_use]
    pub fn uri(&self) -> &Uri {
        &self.parts.uri
    }

    /// Its headers.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.parts.headers
    }

    /// Its body.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        self.body
    }

    /// What travels with it.
    #[must_use]
    pub fn context(&self) -> &RequestContext {
        self.context
    }

    /// What its client speaks.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The client's name, if it stays its own; where it has none, what it proves who it is with.
    pub(super) fn add_tenant(&self, mut key: KeyBuilder) -> KeyBuilder {
        if let Some(client) = self.context.tenant() {
            return key.with("client", client.as_bytes());
        }
        const CREDENTIALS: [HeaderName; 5] = [
            header::AUTHORIZATION,
            HeaderName::from_static("x-api-key"),
            HeaderName::from_static("api-key"),
            HeaderName::from_static("x-goog-api-key"),
            header::COOKIE,
        ];
        for name in CREDENTIALS {
            for value in self.parts.headers.get_all(&name) {
                key = key.with(name.as_str(), value.as_bytes());
            }
        }
        for (_, value) in query(&self.parts.uri).filter(|(name, _)| name == "key") {
            key = key.with("?key", value.as_bytes());
        }
        key
    }
}

/// Without its body and its headers, which hold what a user wrote, and keys.
impl fmt::Debug for KeyedRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedRequest")
            .field("dialect", &self.dialect)
            .field("path", &self.parts.uri.path())
            .finish_non_exhaustive()
    }
}

/// A key: what a request was boiled down to. It tells nothing of the request.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key([u8; 32]);

impl Key {
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Makes a [`Key`] of parts, with SHA-256. Their order matters.
#[derive(Clone, Debug, Default)]
pub struct KeyBuilder(Sha256);

impl KeyBuilder {
    /// Of nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a part.
    #[must_use]
    pub fn with(mut self, name: &str, value: &[u8]) -> Self {
        for text in [name.as_bytes(), value] {
            self.0.update((text.len() as u64).to_le_bytes());
            self.0.update(text);
        }
        self
    }

    /// The key.
    #[must_use]
    pub fn finish(self) -> Key {
        Key(self.0.finalize().into())
    }
}

/// All that a request says, but what cannot change its answer.
///
/// Those are whether it streams (`stream`, `stream_options`, the path of Gemini's that says so), and who asks on whose behalf:
/// `user`, `safety_identifier`, `prompt_cache_key`, `metadata`, Gemini's `labels`. What the path and the query say counts, and so do the
/// tags and languages that the request asks for, and the headers that switch features on (`anthropic-beta` and the like). Ids within
/// messages, such as those of tool calls, are parts of the messages.
///
/// No key has a request that changes something at its provider besides: one of OpenAI's Responses that runs in the `background`
/// or is added to a `conversation`.
#[derive(Clone, Debug)]
pub struct ExactMatch {
    ignored: Vec<Box<str>>,
    headers: Vec<HeaderName>,
}

impl ExactMatch {
    /// As is usual.
    #[must_use]
    pub fn new() -> Self {
        let ignored =
            ["stream", "stream_options", "user", "safety_identifier", "prompt_cache_key", "metadata", "labels"];
        let headers = ["anthropic-version", "anthropic-beta", "openai-beta", "openai-organization", "openai-project"];
        ExactMatch { ignored: ignored.map(Into::into).into(), headers: headers.map(HeaderName::from_static).into() }
    }

    /// Ignores another member at the top of the body.
    #[must_use]
    pub fn ignoring(mut self, member: impl Into<Box<str>>) -> Self {
        self.ignored.push(member.into());
        self
    }

    /// Looks at another header, too.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName) -> Self {
        self.headers.push(name);
        self
    }
}

impl Default for ExactMatch {
    fn default() -> Self {
        Self::new()
    }
}

impl CacheKey for ExactMatch {
    fn key(&self, request: &KeyedRequest<'_>) -> Option<Key> {
        if request.dialect == Dialect::OpenAiResponses && changes_something(request.body) {
            return None;
        }
        let path = request.uri().path().replace(":streamGenerateContent", ":generateContent");
        let mut key = KeyBuilder::new().with("path", path.as_bytes());
        for (name, value) in query(request.uri()).filter(|(name, _)| name != "key" && name != "alt") {
            key = key.with("query", name.as_bytes()).with("value", value.as_bytes());
        }
        for name in &self.headers {
            for value in request.headers().get_all(name) {
                key = key.with(name.as_str(), value.as_bytes());
            }
        }
        if let Some(asked) = request.context.asked() {
            key = asked.tags.iter().fold(key, |key, tag| key.with("tag", tag.as_bytes()));
            key = asked.languages.iter().fold(key, |key, language| key.with("language", language.as_bytes()));
        }
        let mut body = Vec::with_capacity(request.body.len() + 256);
        let is_ignored = |name: &str| self.ignored.iter().any(|ignored| **ignored == *name);
        canonical::write(request.body, is_ignored, &mut body).ok()?;
        Some(key.with("body", &body).finish())
    }
}

fn query(uri: &Uri) -> impl Iterator<Item = (String, &str)> {
    let pairs = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (percent_decode_str(name).decode_utf8_lossy().into_owned(), value)
    })
}

fn changes_something(body: &[u8]) -> bool {
    let members = root_members(body).into_iter().flatten().filter_map(Result::ok);
    members.into_iter().any(|(name, value)| match &*name {
        "background" => value.is_true(),
        "conversation" => !value.is_null(),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Requirements;

    fn key_of(dialect: Dialect, request: http::Request<&str>, context: RequestContext) -> Option<Key> {
        let (parts, body) = request.into_parts();
        let body = Bytes::copy_from_slice(body.as_bytes());
        let request = KeyedRequest { parts: &parts, body: &body, context: &context, dialect };
        ExactMatch::new().key(&request)
    }

    fn chat(body: &str) -> Option<Key> {
        let request = http::Request::post("/v1/chat/completions").body(body).unwrap();
        key_of(Dialect::OpenAiChat, request, RequestContext::new())
    }

    #[test]
    fn whether_it_streams_and_for_whom_does_not_matter() {
        let plain = chat(r#"{"model":"m","messages":[{"role":"user","content":"x"}]}"#);
        assert!(plain.is_some());
        let other = r#"{"stream":true,"stream_options":{"include_usage":true},"user":"u","metadata":{"a":"b"},
            "messages":[{"content":"x","role":"user"}],"model":"m"}"#;
        assert_eq!(chat(other), plain);
        let uri = |path: &str| {
            let request = http::Request::post(path).body(r#"{"contents":[]}"#).unwrap();
            key_of(Dialect::Gemini, request, RequestContext::new()).unwrap()
        };
        let whole = uri("/v1beta/models/g:generateContent?key=one");
        assert_eq!(uri("/v1beta/models/g:streamGenerateContent?alt=sse&key=two"), whole);
        assert_ne!(uri("/v1beta/models/h:generateContent"), whole);
        assert_ne!(uri("/v1beta/models/g:generateContent?x=1"), whole);
    }

    #[test]
    fn everything_else_matters() {
        let bodies = [
            r#"{"model":"m","messages":[{"role":"user","content":"x"}]}"#,
            r#"{"model":"n","messages":[{"role":"user","content":"x"}]}"#,
            r#"{"model":"m","messages":[{"role":"user","content":"X"}]}"#,
            r#"{"model":"m","messages":[{"role":"system","content":"x"}]}"#,
            r#"{"model":"m","messages":[{"role":"user","content":"x","user":"y"}]}"#,
            r#"{"model":"m","messages":[{"role":"user","content":"x"}],"temperature":0}"#,
            r#"{"model":"m","messages":[{"role":"user","content":"x"}],"temperature":1}"#,
            r#"{"model":"m","messages":[{"role":"user","content":"x"}],"seed":1}"#,
            r#"{"model":"m","messages":[{"role":"user","content":"x"}],"n":2}"#,
            r#"{"model":"m","messages":[{"role":"user","content":"x"}],"max_tokens":2}"#,
            r#"{"model":"m","messages":[{"role":"user","content":"x"}],"tools":[]}"#,
            r#"{"model":"m","messages":[{"role":"user","content":"x"}],"tools":[{"type":"function"}]}"#,
            r#"{"model":"m","messages":[{"role":"user","content":"x"}],"response_format":{"type":"json_object"}}"#,
        ];
        let mut keys: std::collections::HashSet<_> = bodies.iter().map(|body| chat(body).unwrap()).collect();
        assert_eq!(keys.len(), bodies.len());
        let beta = http::Request::post("/v1/chat/completions").header("openai-beta", "x").body(bodies[0]).unwrap();
        assert!(keys.insert(key_of(Dialect::OpenAiChat, beta, RequestContext::new()).unwrap()));
        let mut asked = Requirements::default();
        asked.tags.insert("eu".into());
        let tagged = http::Request::post("/v1/chat/completions").body(bodies[0]).unwrap();
        let tagged = key_of(Dialect::OpenAiChat, tagged, RequestContext::new().with_requirements(asked));
        assert!(keys.insert(tagged.unwrap()));
    }

    #[test]
    fn what_changes_something_or_is_no_json_has_no_key() {
        let responses = |body| {
            let request = http::Request::post("/v1/responses").body(body).unwrap();
            key_of(Dialect::OpenAiResponses, request, RequestContext::new())
        };
        assert!(responses(r#"{"input":"x","background":false,"conversation":null}"#).is_some());
        assert_eq!(responses(r#"{"input":"x","background":true}"#), None);
        assert_eq!(responses(r#"{"input":"x","conversation":"c"}"#), None);
        assert_eq!(chat("not JSON"), None);
    }
}
