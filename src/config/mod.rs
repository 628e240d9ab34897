//! The gateway's configuration file: TOML to providers, routes and policies.
//!
//! ```toml
//! listen = "127.0.0.1:8080"
//!
//! [providers.primary]
//! dialect  = "openai-chat"
//! base_url = "https://api.openai.com/v1"
//! api_key  = { env = "OPENAI_API_KEY" }    # or { file = "…" }, or { command = ["…"], refresh = "5m" }; a list rotates
//!
//! [providers.azure]
//! dialect     = "openai-chat"              # or openai-responses, anthropic-messages, gemini
//! base_url    = "https://NAME.openai.azure.com/openai/deployments/{model}"   # the target's model
//! api_version = "2024-10-21"               # a query parameter of each request
//! key_header  = "api-key"                  # or authorization, x-api-key, x-goog-api-key; default: the dialect's, or the variant's
//! variant     = "azure-openai"             # what is particular about the server; default: by its host; see `Variant`
//! api_key     = { env = "AZURE_API_KEY" }
//!
//! [providers.standby]
//! dialect  = "openai-chat"
//! base_url = "http://10.0.0.7:8000/v1"
//!
//! [defaults]
//! retry = { attempts = 3 }                 # the other keys of `retry` keep their defaults
//!
//! [routes."gpt-4o"]                        # "fb-*" is a pattern; "*" matches the rest
//! targets = [
//!   { provider = "primary", model = "gpt-4o" },
//!   { provider = "standby", breaker = { failures = 2 } },
//! ]
//! ```
//!
//! Who may call, and what is taken of clients:
//!
//! ```toml
//! [auth]                                   # absent: whoever reaches the loopback port
//! keys = [
//!   { env = "GATEWAY_KEY" },               # or { file = "…" }
//!   { sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", name = "team-b",
//!     routes = ["gpt-4o", "fb-*"], requests_per_minute = 60, tokens_per_minute = 100000, max_concurrency = 8 },
//! ]
//! admin_keys = [{ env = "ADMIN_KEY" }]     # for /, /status.json, /metrics and /admin; without it, `keys` open those
//!
//! [limits]                                 # these are the defaults
//! max_body = "32MiB"
//! max_headers = "64KiB"
//! max_connections = 10000
//! max_requests = 10000
//! header_timeout = "75s"
//! body_timeout = "60s"
//! write_timeout = "60s"                    # and shutdown_timeout, which has none
//!
//! [tls]
//! certificate = "cert.pem"
//! key = "key.pem"
//!
//! [log]
//! format = "human"                         # or "json"
//!
//! [shared_state]                           # with other replicas, through Redis or Valkey
//! url = { env = "REDIS_URL" }              # or { file = "…" }, or the URL itself
//!
//! [defaults]
//! keep_alive = "15s"                       # comments in silent streams; off by default
//! ```
//!
//! Everything that is wrong with a file is reported at once: see [`ConfigErrors`]. Reading one does not ask a
//! provider whether its key works. What is read does not change with the file: see [`Config::reload`]. Keys do, while
//! [`Config::keep_keys_fresh`] runs.

mod auth;
mod breaker;
mod cache;
mod error;
mod health;
mod mask;
mod pattern;
mod policy;
mod price;
mod provider;
mod reader;
mod reference;
mod route;
mod secret;
mod server;
mod shared_state;
mod stack;
mod strategy;
#[cfg(test)]
mod tests;
mod value;

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
};

pub use self::{
    auth::{AuthSettings, ClientKey, KeyDigest},
    cache::CacheSettings,
    error::{ConfigError, ConfigErrors},
    pattern::Routes,
    policy::{Policy, RetrySettings, StreamRecovery, TimeoutSettings},
    reference::{json_schema, reference},
    route::RouteConfig,
    server::{LogFormat, ServerLimits, TlsFiles},
    shared_state::SharedStateSettings,
    stack::Shared,
    strategy::{Choice, HedgeSettings, StrategyName},
};
use self::{
    reader::{Reader, Table},
    route::RouteReader,
};
use crate::{Provider, circuit_breaker::CircuitSettings, health::HealthCheck, rate_limit::Limits};

const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
const DEFAULT_MAX_BODY: usize = 32 << 20;

/// A configuration, read and found good. No form of printing it shows a secret.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Where the gateway listens: a loopback address, unless clients need a key.
    pub listen: SocketAddr,
    /// Who may call.
    pub auth: AuthSettings,
    /// The longest request body that is accepted, in bytes.
    pub max_body: usize,
    /// What else the server takes of its clients.
    pub limits: ServerLimits,
    /// What TLS is served with; `None` for plain HTTP.
    pub tls: Option<TlsFiles>,
    /// What the log looks like.
    pub log: LogFormat,
    /// What is shared with other replicas, if anything is.
    pub shared_state: Option<SharedStateSettings>,
    /// Which chain serves which model.
    pub routes: Routes,
    /// The providers, by their names.
    pub providers: BTreeMap<String, Provider>,
    /// The settings of each target's circuit, by [target id](crate::TargetId): the target's own `breaker`, over its
    /// provider's, over that of `[defaults]`.
    pub breakers: BTreeMap<String, CircuitSettings>,
    /// The settings of each provider's circuit, by its name: its own `breaker`, over that of `[defaults]`.
    pub provider_breakers: BTreeMap<String, CircuitSettings>,
    /// How targets are asked how they are, besides their calls, by [target id](crate::TargetId); the others are not.
    pub health_checks: BTreeMap<String, HealthCheck>,
    /// What each provider may be asked, by its name.
    pub provider_limits: BTreeMap<String, Limits>,
    /// The settings of `[defaults]`.
    pub default_breaker: CircuitSettings,
    /// What works and should not stay, such as a key that stands in the file itself.
    pub warnings: Vec<String>,
    /// Where it was read, if it was.
    file: Option<ConfigFile>,
}

#[derive(Clone, Debug)]
struct ConfigFile {
    path: Arc<Path>,
    /// Tells its text from others.
    #[cfg(feature = "gateway")]
    digest: u64,
}

/// Without a route: everything at its default.
impl Default for Config {
    fn default() -> Self {
        Config {
            listen: DEFAULT_LISTEN,
            auth: AuthSettings::default(),
            max_body: DEFAULT_MAX_BODY,
            limits: ServerLimits::default(),
            tls: None,
            log: LogFormat::default(),
            shared_state: None,
            routes: Routes::default(),
            providers: BTreeMap::new(),
            breakers: BTreeMap::new(),
            provider_breakers: BTreeMap::new(),
            health_checks: BTreeMap::new(),
            provider_limits: BTreeMap::new(),
            default_breaker: CircuitSettings::default(),
            warnings: Vec::new(),
            file: None,
        }
    }
}

impl Config {
    /// A configuration that comes from no file: these routes, and the defaults of everything else.
    #[cfg(feature = "gateway")]
    pub(crate) fn from_parts(routes: Vec<(crate::Route, Policy)>) -> Config {
        let mut config = Config::default();
        for (route, policy) in routes {
            let name = route.name().to_owned();
            if let Ok(pattern) = pattern::Pattern::parse(&name) {
                config.routes.insert(pattern, RouteConfig { route, policy });
            }
        }
        config
    }

    /// Every target that is on a route, once, in the order of the routes.
    #[cfg(feature = "gateway")]
    pub(crate) fn targets(&self) -> impl Iterator<Item = &crate::Target> {
        let mut seen = std::collections::BTreeSet::new();
        let all = self.routes.iter().flat_map(|route| route.route.targets());
        all.filter(move |target| seen.insert(target.id()))
    }

    /// Whether it is safe to listen there: on a loopback address, or anywhere if clients need a key.
    ///
    /// # Errors
    ///
    /// Why not, in words that follow the address.
    pub fn may_listen(&self, address: SocketAddr) -> Result<(), &'static str> {
        self.auth.may_listen(address)
    }

    /// Reads a file, and the environment variables and key files that it names, and runs the commands.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, and for everything that is wrong with it.
    pub fn load(path: &Path) -> Result<Config, ConfigErrors> {
        Config::load_after(path, None)
    }

    /// Reads the file again that this configuration came from. Of providers that are the same, what is known of their keys
    /// is kept; [`shared_after`](Self::shared_after) keeps the rest. `None` for a configuration that comes from no file.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    pub fn reload(&self) -> Option<Result<Config, ConfigErrors>> {
        let file = self.file.as_ref()?;
        Some(Config::load_after(&file.path, Some(self)))
    }

    /// The file that it came from.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.file.as_ref().map(|file| &*file.path)
    }

    /// Tells the text of the file from others.
    #[cfg(feature = "gateway")]
    pub(crate) fn digest(&self) -> Option<u64> {
        self.file.as_ref().map(|file| file.digest)
    }

    fn load_after(path: &Path, previous: Option<&Config>) -> Result<Config, ConfigErrors> {
        let text = read_text(path)?;
        let config = Config::from_text(&text, path, &|name| std::env::var(name).ok(), previous)?;
        let file = ConfigFile {
            path: path.into(),
            #[cfg(feature = "gateway")]
            digest: digest(text.as_bytes()),
        };
        Ok(Config { file: Some(file), ..config })
    }

    /// Reads a file for somebody who asks no provider and serves nobody: environment variables and key files are not looked
    /// at, and no command is run. Each key is something else that stands in for it.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, and for everything else that is wrong with it.
    #[cfg(feature = "gateway")]
    pub(crate) fn load_without_secrets(path: &Path) -> Result<Config, ConfigErrors> {
        let text = read_text(path)?;
        Config::from_reader(Reader::new(&text, path, &|_| None).without_secrets(), path)
    }

    /// Reads the text of a file. `origin` names it in messages, and its folder is where key files are looked for;
    /// `environment` gives the variables.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the text, every variable and key file that is not there, and every command that fails.
    pub fn from_toml(
        text: &str,
        origin: &Path,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Config, ConfigErrors> {
        Config::from_text(text, origin, environment, None)
    }

    fn from_text(
        text: &str,
        origin: &Path,
        environment: &dyn Fn(&str) -> Option<String>,
        previous: Option<&Config>,
    ) -> Result<Config, ConfigErrors> {
        Config::from_reader(Reader::new(text, origin, environment).after(previous), origin)
    }

    fn from_reader(reader: Reader<'_>, origin: &Path) -> Result<Config, ConfigErrors> {
        let config = reader.root().map(read);
        let (errors, warnings) = reader.into_findings();
        match (errors, config) {
            (None, Some(config)) => Ok(Config { warnings, ..config }),
            (Some(errors), _) => Err(errors),
            (None, None) => Err(ConfigErrors::unusable(origin, None, "is not TOML".into())),
        }
    }

    /// Asks the places that keys come from for them again and again, as long as the configuration's providers are in use.
    /// Nobody need wait for it: spawn it. See [`Credentials::keep_fresh`](crate::Credentials::keep_fresh).
    pub fn keep_keys_fresh(&self) -> impl Iterator<Item = impl Future<Output = ()> + Send + use<>> {
        self.providers.values().map(|provider| provider.credentials().keep_fresh())
    }
}

fn read_text(path: &Path) -> Result<String, ConfigErrors> {
    let bytes =
        std::fs::read(path).map_err(|error| ConfigErrors::unusable(path, None, format!("cannot be read: {error}")))?;
    String::from_utf8(bytes).map_err(|error| {
        let position = error::position(error.as_bytes(), error.utf8_error().valid_up_to());
        ConfigErrors::unusable(path, Some(position), "is not UTF-8".into())
    })
}

/// Tells a text from others. In another process it is another number, so that it says nothing of the secrets in the text.
#[cfg(feature = "gateway")]
pub(crate) fn digest(text: &[u8]) -> u64 {
    use std::hash::{BuildHasher, RandomState};
    static STATE: std::sync::OnceLock<RandomState> = std::sync::OnceLock::new();
    STATE.get_or_init(RandomState::new).hash_one(text)
}

fn read(mut root: Table<'_>) -> Config {
    let (limits, max_body) = ServerLimits::read(&mut root);
    let max_body = max_body.unwrap_or(DEFAULT_MAX_BODY);
    let tls = TlsFiles::read(&mut root);
    let log = LogFormat::read(&mut root).unwrap_or_default();
    let shared_state = SharedStateSettings::read(&mut root);
    let (policy, default_breaker) = read_defaults(&mut root);
    let providers = provider::read_all(&mut root, default_breaker);
    let (breakers, checks, names) = Default::default();
    let mut route_reader = RouteReader { providers: &providers, defaults: &policy, breakers, checks, names };
    let routes = route_reader.read_all(&mut root);
    let RouteReader { breakers, checks, names, .. } = route_reader;
    let health_checks = checks.into_iter().filter_map(|(target, check)| Some((target, check?))).collect();
    let auth = auth::read(&mut root, &names);
    let listen = read_listen(&mut root, &auth).unwrap_or(DEFAULT_LISTEN);
    root.finish();
    let mut config =
        Config { listen, auth, max_body, limits, tls, log, routes, breakers, default_breaker, ..Config::default() };
    config.health_checks = health_checks;
    config.shared_state = shared_state;
    for (name, entry) in providers.into_iter().filter_map(|(name, entry)| Some((name, entry?))) {
        config.provider_breakers.insert(name.clone(), entry.breaker);
        config.providers.insert(name.clone(), entry.provider);
        config.provider_limits.insert(name, entry.limits);
    }
    config
}

fn read_listen(root: &mut Table<'_>, auth: &AuthSettings) -> Option<SocketAddr> {
    let value = root.take("listen")?;
    match value.string()?.parse::<SocketAddr>() {
        Err(_) => value.spot().fail("is not an address and port such as \"127.0.0.1:8080\""),
        Ok(address) => match auth.may_listen(address) {
            Ok(()) => Some(address),
            Err(why) => value.spot().fail(why),
        },
    }
}

fn read_defaults(root: &mut Table<'_>) -> (Policy, CircuitSettings) {
    let (policy, breaker) = Default::default();
    let Some(mut table) = root.take_table("defaults") else { return (policy, breaker) };
    let policy = Policy::read(&mut table, &policy);
    let inherited = CircuitSettings { max_retry_after: policy.retry.max_retry_after, ..breaker };
    let breaker = breaker::read(&mut table, inherited);
    table.finish();
    (policy, breaker)
}
