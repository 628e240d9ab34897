//! Who may answer: dialects, providers, targets and routes.

use std::{borrow::Cow, collections::BTreeSet, fmt, hash::Hash, sync::Arc};

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme, Uri};

use crate::{Capabilities, Credentials, Price, Variant};

/// A wire API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dialect {
    /// OpenAI Chat Completions, and whatever is compatible with it.
    OpenAiChat,
    /// OpenAI Responses.
    OpenAiResponses,
    /// Anthropic Messages.
    AnthropicMessages,
    /// Gemini `generateContent` and `streamGenerateContent`.
    Gemini,
}

impl Dialect {
    /// Every dialect.
    pub const ALL: &'static [Dialect] =
        &[Dialect::OpenAiChat, Dialect::OpenAiResponses, Dialect::AnthropicMessages, Dialect::Gemini];

    /// The dialect's stable name, as in configuration files: `"openai-chat"`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Dialect::OpenAiChat => "openai-chat",
            Dialect::OpenAiResponses => "openai-responses",
            Dialect::AnthropicMessages => "anthropic-messages",
            Dialect::Gemini => "gemini",
        }
    }

    /// The dialect with that [name](Dialect::name).
    #[must_use]
    pub fn from_name(name: &str) -> Option<Dialect> {
        Self::ALL.iter().copied().find(|dialect| dialect.name() == name)
    }

    /// The dialect in which a client speaks that calls this path, if it is one that generates.
    #[must_use]
    pub fn from_path(path: &str) -> Option<Dialect> {
        if path.ends_with("/chat/completions") {
            Some(Dialect::OpenAiChat)
        } else if path.ends_with("/responses") {
            Some(Dialect::OpenAiResponses)
        } else if path.ends_with("/messages") {
            Some(Dialect::AnthropicMessages)
        } else if path.ends_with(":generateContent") || path.ends_with(":streamGenerateContent") {
            Some(Dialect::Gemini)
        } else {
            None
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An upstream account: where it is, what it speaks and how it knows us.
#[derive(Clone, Debug)]
pub struct Provider {
    name: Arc<str>,
    dialect: Dialect,
    base: BaseUrl,
    credentials: Credentials,
    tags: BTreeSet<Box<str>>,
    variant: &'static Variant,
}

impl Provider {
    /// A provider without credentials or tags. `base_url` follows that provider's own SDK
    /// (`"https://api.openai.com/v1"`, but `"https://api.anthropic.com"`). `{model}` in it stands for the target's model:
    /// `"https://NAME.openai.azure.com/openai/deployments/{model}"`.
    ///
    /// # Errors
    ///
    /// When `base_url` is not an absolute `http` or `https` URL, or has a user, query or fragment.
    pub fn new(name: impl Into<Arc<str>>, dialect: Dialect, base_url: &str) -> Result<Self, InvalidBaseUrl> {
        let base = BaseUrl::parse(base_url)?;
        let variant = Variant::of_host(base.authority.host());
        let credentials = Credentials::none();
        Ok(Provider { name: name.into(), dialect, base, credentials, tags: BTreeSet::new(), variant })
    }

    /// Sets what proves to the provider who we are; see [`Credentials::api_key`].
    #[must_use]
    pub fn with_credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = credentials;
        self
    }

    /// Says what is particular about it. Default: what its host is known for.
    #[must_use]
    pub fn with_variant(mut self, variant: &'static Variant) -> Self {
        self.variant = variant;
        self
    }

    /// Adds a query parameter to every request: `api-version` for Azure.
    #[must_use]
    pub fn with_query(mut self, name: &str, value: &str) -> Self {
        let encode =
            |text: &str| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
        let pair = format!("{}={}", encode(name), encode(value));
        let query = match self.base.query.take() {
            Some(query) => format!("{query}&{pair}"),
            None => pair,
        };
        self.base.query = Some(query.into());
        self
    }

    /// Sets tags that every target of the provider carries.
    #[must_use]
    pub fn with_tags<I: IntoIterator<Item = S>, S: Into<Box<str>>>(mut self, tags: I) -> Self {
        self.tags = tags.into_iter().map(Into::into).collect();
        self
    }

    /// The name that the user gave it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it speaks.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// What is particular about it.
    #[must_use]
    pub fn variant(&self) -> &'static Variant {
        self.variant
    }

    /// The host that it is at.
    pub(crate) fn host(&self) -> &str {
        self.base.authority.host()
    }

    /// What proves to it who we are.
    #[must_use]
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Where a client's request for that path and query goes to, if that model is to answer.
    ///
    /// OpenAI's base URLs end in their version (`/v1`), which clients send too: it is there once.
    pub(crate) fn uri(&self, path: &str, query: Option<&str>, model: Option<&str>) -> Result<Uri, http::Error> {
        let base = &self.base;
        let prefix = base.prefix_for(model);
        let both = [base.query.as_deref(), query].into_iter().flatten().collect::<Vec<_>>().join("&");
        let query = Some(&*both).filter(|query| !query.is_empty());
        let endpoint = match self.dialect {
            Dialect::OpenAiChat | Dialect::OpenAiResponses => strip_version(path),
            Dialect::AnthropicMessages | Dialect::Gemini => without_repeated_version(&base.prefix, path),
        };
        let path_and_query = match query {
            None if endpoint == CHAT_COMPLETIONS && !base.names_model => base.chat_completions.clone(),
            None => PathAndQuery::try_from(format!("{prefix}{endpoint}"))?,
            Some(query) => PathAndQuery::try_from(format!("{prefix}{endpoint}?{query}"))?,
        };
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(base.scheme.clone());
        parts.authority = Some(base.authority.clone());
        parts.path_and_query = Some(path_and_query);
        Ok(Uri::from_parts(parts)?)
    }
}

/// What stands in a base URL for the model.
const MODEL: &str = "{model}";

const CHAT_COMPLETIONS: &str = "/chat/completions";

/// The path without its version where the base URL has one: Anthropic's and Google's own have none, but those of servers
/// that stand in for them do. Vertex puts a version, a project and a publisher before the models.
fn without_repeated_version<'p>(prefix: &str, path: &'p str) -> &'p str {
    let Some((version, _)) = path.strip_prefix('/').and_then(|path| path.split_once('/')) else { return path };
    let has_one = prefix.rsplit('/').next() == Some(version) || prefix.contains("/publishers/");
    if has_one { &path[1 + version.len()..] } else { path }
}

fn strip_version(path: &str) -> &str {
    match path.strip_prefix("/v1") {
        Some(rest) if rest.starts_with('/') => rest,
        _ => path,
    }
}

#[derive(Clone, Debug)]
struct BaseUrl {
    scheme: Scheme,
    authority: Authority,
    /// The path without its last slash; empty for the root.
    prefix: Box<str>,
    /// Whether the model is to be put into it: Azure's deployments have paths of their own.
    names_model: bool,
    /// What every request's query begins with.
    query: Option<Box<str>>,
    /// The path that nearly every request goes to, so that it need not be put together each time.
    chat_completions: PathAndQuery,
}

impl BaseUrl {
    fn parse(url: &str) -> Result<Self, InvalidBaseUrl> {
        let invalid = |why| InvalidBaseUrl { why };
        if url.contains('#') {
            return Err(invalid("it has a fragment"));
        }
        let parts = url.parse::<Uri>().map_err(|_| invalid("it is not a URL"))?.into_parts();
        let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else {
            return Err(invalid("it does not begin with http:// or https:// and a host"));
        };
        if scheme != Scheme::HTTP && scheme != Scheme::HTTPS {
            return Err(invalid("its scheme is neither http nor https"));
        }
        if authority.as_str().contains('@') {
            return Err(invalid("it has a user name; give the key as api_key"));
        }
        let path = parts.path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/"));
        if path.query().is_some() {
            return Err(invalid("it has a query"));
        }
        let prefix: Box<str> = path.path().trim_end_matches('/').into();
        let chat_completions = PathAndQuery::try_from(format!("{prefix}{CHAT_COMPLETIONS}"))
            .map_err(|_| invalid("its path is not valid"))?;
        let names_model = prefix.contains(MODEL);
        Ok(BaseUrl { scheme, authority, prefix, names_model, query: None, chat_completions })
    }

    fn prefix_for(&self, model: Option<&str>) -> Cow<'_, str> {
        if !self.names_model {
            return Cow::Borrowed(&self.prefix);
        }
        let model =
            percent_encoding::utf8_percent_encode(model.unwrap_or_default(), percent_encoding::NON_ALPHANUMERIC);
        // A dot, a dash or an underscore need not be encoded, and are in most models' names.
        let model = model.to_string().replace("%2E", ".").replace("%2D", "-").replace("%5F", "_");
        Cow::Owned(self.prefix.replace(MODEL, &model))
    }
}

/// Why a base URL cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidBaseUrl {
    why: &'static str,
}

impl fmt::Display for InvalidBaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the base URL cannot be used: {}", self.why)
    }
}

impl std::error::Error for InvalidBaseUrl {}

/// A target's name: `"openai/gpt-4o"`, or `"openai/*"` where the client's model name passes through, so that
/// what clients send never becomes a key or a label.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TargetId(Arc<str>);

impl TargetId {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TargetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TargetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// One entry of a fallback chain. Cheap to clone.
///
/// In the extensions of a request (see [`RequestContext`](crate::RequestContext)) it says whom this attempt is for.
#[derive(Clone, Debug)]
pub struct Target(Arc<TargetInner>);

#[derive(Clone, Debug)]
struct TargetInner {
    id: TargetId,
    provider: Option<Provider>,
    model: Option<Model>,
    capabilities: Capabilities,
    tags: BTreeSet<Box<str>>,
    weight: u32,
    price: Option<Price>,
}

#[derive(Clone, Debug)]
struct Model {
    name: Box<str>,
    /// The name as a JSON string, ready to be put into a request.
    json: Bytes,
}

impl Target {
    /// A model of a provider.
    #[must_use]
    pub fn new(provider: &Provider, model: &str) -> Self {
        let json = serde_json::Value::from(model).to_string().into();
        let model = Model { name: model.into(), json };
        Self::build(format!("{}/{}", provider.name, model.name), Some(provider.clone()), Some(model))
    }

    /// Whatever model of a provider the client asks for: `"openai/*"`.
    #[must_use]
    pub fn passing_model_through(provider: &Provider) -> Self {
        Self::build(format!("{}/*", provider.name), Some(provider.clone()), None)
    }

    /// A target that is only a name: for services that find out themselves what to do with it, such as a set of
    /// gRPC channels.
    #[must_use]
    pub fn named(id: &str) -> Self {
        Self::build(id.to_owned(), None, None)
    }

    fn build(id: String, provider: Option<Provider>, model: Option<Model>) -> Self {
        let tags = provider.as_ref().map(|provider| provider.tags.clone()).unwrap_or_default();
        let capabilities = Capabilities::new();
        Target(Arc::new(TargetInner {
            id: TargetId(id.into()),
            provider,
            model,
            capabilities,
            tags,
            weight: 1,
            price: None,
        }))
    }

    /// Says what the model can do; without it, it is taken as capable of everything.
    #[must_use]
    pub fn with_capabilities(mut self, capabilities: Capabilities) -> Self {
        Arc::make_mut(&mut self.0).capabilities = capabilities;
        self
    }

    /// Adds tags to the provider's.
    #[must_use]
    pub fn with_tags<I: IntoIterator<Item = S>, S: Into<Box<str>>>(mut self, tags: I) -> Self {
        Arc::make_mut(&mut self.0).tags.extend(tags.into_iter().map(Into::into));
        self
    }

    /// Its share of a route's requests, beside the other targets' weights, where they are spread by weight: see
    /// [`Weighted`](crate::failover::Weighted). Default: 1; 0 is for a fallback only.
    #[must_use]
    pub fn with_weight(mut self, weight: u32) -> Self {
        Arc::make_mut(&mut self.0).weight = weight;
        self
    }

    /// Says what it charges: what its answers cost is known only then.
    #[must_use]
    pub fn with_price(mut self, price: Price) -> Self {
        Arc::make_mut(&mut self.0).price = Some(price);
        self
    }

    /// What it charges, where that was said.
    #[must_use]
    pub fn price(&self) -> Option<&Price> {
        self.0.price.as_ref()
    }

    /// Its weight.
    #[must_use]
    pub fn weight(&self) -> u32 {
        self.0.weight
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> &TargetId {
        &self.0.id
    }

    /// The account that it belongs to, if it is more than a name.
    #[must_use]
    pub fn provider(&self) -> Option<&Provider> {
        self.0.provider.as_ref()
    }

    /// The model that it answers with; `None` where the client's passes through.
    #[must_use]
    pub fn model(&self) -> Option<&str> {
        self.0.model.as_ref().map(|model| &*model.name)
    }

    /// The model's name as a JSON string.
    pub(crate) fn model_json(&self) -> Option<&Bytes> {
        self.0.model.as_ref().map(|model| &model.json)
    }

    /// What it can do.
    #[must_use]
    pub fn capabilities(&self) -> &Capabilities {
        &self.0.capabilities
    }

    /// Its own tags and its provider's.
    #[must_use]
    pub fn tags(&self) -> &BTreeSet<Box<str>> {
        &self.0.tags
    }
}

/// What a client asks for, and the targets that may serve it, the preferred one first.
#[derive(Clone, Debug)]
pub struct Route {
    name: Arc<str>,
    targets: Arc<[Target]>,
}

impl Route {
    /// A fallback chain under a name.
    ///
    /// # Errors
    ///
    /// When there is no target, or one is there twice: it would be tried twice for one answer.
    pub fn new(name: impl Into<Arc<str>>, targets: impl IntoIterator<Item = Target>) -> Result<Self, InvalidRoute> {
        let targets: Arc<[Target]> = targets.into_iter().collect();
        if targets.is_empty() {
            return Err(InvalidRoute::Empty);
        }
        let mut seen = BTreeSet::new();
        if let Some(twice) = targets.iter().find(|target| !seen.insert(target.id())) {
            return Err(InvalidRoute::Duplicate(twice.id().clone()));
        }
        Ok(Route { name: name.into(), targets })
    }

    /// The route's name: what the configuration calls it, never what a client sent.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn shared_name(&self) -> Arc<str> {
        self.name.clone()
    }

    /// The chain.
    #[must_use]
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }
}

/// Why targets do not make a route.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidRoute {
    /// There is no target.
    Empty,
    /// A target is there twice.
    Duplicate(TargetId),
}

impl fmt::Display for InvalidRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InvalidRoute::Empty => f.write_str("a route needs at least one target"),
            InvalidRoute::Duplicate(id) => write!(f, "the target {id} is listed twice"),
        }
    }
}

impl std::error::Error for InvalidRoute {}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider(base_url: &str) -> Provider {
        Provider::new("p", Dialect::OpenAiChat, base_url).unwrap()
    }

    #[test]
    fn the_version_stands_in_the_path_once() {
        for (base, path, query, uri) in [
            ("https://api.test/v1", "/v1/chat/completions", None, "https://api.test/v1/chat/completions"),
            ("https://api.test/v1/", "/chat/completions", None, "https://api.test/v1/chat/completions"),
            ("http://h:8/openai/v1", "/v1/models", Some("a=b"), "http://h:8/openai/v1/models?a=b"),
            ("http://h", "/v1/embeddings", None, "http://h/embeddings"),
            ("http://h", "/v10/embeddings", None, "http://h/v10/embeddings"),
        ] {
            assert_eq!(provider(base).uri(path, query, None).unwrap().to_string(), uri);
        }
        for base in ["https://api.test", "https://api.test/v1"] {
            let anthropic = Provider::new("a", Dialect::AnthropicMessages, base).unwrap();
            let uri = anthropic.uri("/v1/messages", None, None).unwrap();
            assert_eq!(uri.to_string(), "https://api.test/v1/messages");
        }
    }

    #[test]
    fn azure_and_vertex_have_paths_of_their_own() {
        let azure =
            provider("https://x.openai.azure.com/openai/deployments/{model}").with_query("api-version", "2024-10-21");
        let uri = azure.uri("/v1/chat/completions", None, Some("gpt-4o mini")).unwrap();
        let expected =
            "https://x.openai.azure.com/openai/deployments/gpt-4o%20mini/chat/completions?api%2Dversion=2024%2D10%2D21";
        assert_eq!(uri.to_string(), expected);
        let base = "https://aiplatform.googleapis.com/v1/projects/p/locations/global/publishers/google";
        let vertex = Provider::new("v", Dialect::Gemini, base).unwrap();
        let uri = vertex.uri("/v1beta/models/gemini-2.5-pro:generateContent", Some("alt=sse"), None).unwrap();
        assert_eq!(uri.to_string(), format!("{base}/models/gemini-2.5-pro:generateContent?alt=sse"));
    }

    #[test]
    fn a_base_url_that_cannot_work_is_refused() {
        for url in ["", "api.test/v1", "/v1", "ftp://h/", "http://user:pass@h/", "http://h/?key=1", "http://h/#x"] {
            assert!(Provider::new("p", Dialect::OpenAiChat, url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_route_names_what_is_wrong() {
        let provider = provider("http://h");
        let target = Target::new(&provider, "m");
        assert_eq!(Route::new("r", []).unwrap_err(), InvalidRoute::Empty);
        let twice = Route::new("r", [target.clone(), Target::new(&provider, "n"), target]).unwrap_err();
        assert_eq!(twice.to_string(), "the target p/m is listed twice");
    }

    #[test]
    fn targets_are_named_after_what_is_configured() {
        let provider = provider("http://h").with_tags(["eu"]);
        assert_eq!(Target::passing_model_through(&provider).id().as_str(), "p/*");
        let target = Target::new(&provider, "a\"b").with_tags(["zdr"]);
        assert_eq!(target.id().as_str(), "p/a\"b");
        assert_eq!(target.model_json().unwrap(), "\"a\\\"b\"");
        assert!(target.tags().contains("eu") && target.tags().contains("zdr"));
    }
}
