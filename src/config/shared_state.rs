//! `[shared_state]`: what the replicas of a fleet share, and where.

use std::{fmt, time::Duration};

use secrecy::{ExposeSecret, SecretString};

use super::{Config, reader::Table, secret, value::Value};
use crate::shared_state::Fleet;

/// What replicas share, and through which server.
#[derive(Clone)]
#[non_exhaustive]
pub struct SharedStateSettings {
    #[cfg_attr(not(feature = "redis"), allow(dead_code))] // without it, reading the settings says that it is missing
    url: SecretString,
    /// What all keys begin with.
    pub prefix: Box<str>,
    /// How long a request waits for an answer, at most.
    pub timeout: Duration,
    /// Whether open circuits are shared.
    pub circuits: bool,
    /// Whether limits per minute are kept together.
    pub limits: bool,
    /// Whether kept answers are shared.
    pub cache: bool,
}

impl SharedStateSettings {
    /// Takes `[shared_state]`.
    pub(super) fn read(root: &mut Table<'_>) -> Option<Self> {
        let mut table = root.take_table("shared_state")?;
        let url = table.take_required("url").and_then(read_url);
        let prefix = table.take("prefix").and_then(|value| Some(value.string()?.into()));
        let timeout = table.take_duration("timeout");
        let mut flag = |name| table.take_bool(name).unwrap_or(true);
        let (circuits, limits, cache) = (flag("circuits"), flag("limits"), flag("cache"));
        table.finish();
        let (prefix, timeout) =
            (prefix.unwrap_or_else(|| "failover".into()), timeout.unwrap_or(Duration::from_millis(25)));
        Some(SharedStateSettings { url: url?, prefix, timeout, circuits, limits, cache })
    }

    /// Whether a connection that was made by those serves these.
    #[cfg(feature = "redis")]
    fn connects_like(&self, other: &Self) -> bool {
        let [own, others] = [&self.url, &other.url].map(ExposeSecret::expose_secret);
        own == others && self.prefix == other.prefix && self.timeout == other.timeout
    }

    /// The server.
    #[cfg(feature = "redis")]
    pub(crate) fn redis(&self) -> Option<crate::shared_state::Redis> {
        let redis = crate::shared_state::Redis::new(self.url.expose_secret()).ok()?;
        Some(redis.with_prefix(self.prefix.clone()))
    }
}

/// A URL, or where it comes from, for there may be a password in it.
fn read_url(value: Value<'_>) -> Option<SecretString> {
    let spot = value.spot().clone();
    let url = match value.is_table() {
        false => {
            let url = SecretString::from(value.string()?);
            let authority = url.expose_secret().split_once("://").map_or("", |(_, rest)| rest);
            if authority.split('/').next().is_some_and(|authority| authority.contains('@')) {
                spot.warn("a password may stand in the file; outside tests, use { env = \"…\" } or { file = \"…\" }");
            }
            url
        }
        true => {
            let mut table = value.table()?;
            let sources = (table.take("env"), table.take("file"));
            table.finish();
            let found = match sources {
                (Some(variable), None) => secret::from_variable(&variable)?.key,
                (None, Some(file)) => secret::from_file(&file)?.key,
                _ => return spot.fail("needs exactly one of `env` and `file`"),
            };
            match spot.reader().looks_up_secrets() {
                true => found,
                false => "redis://localhost".into(),
            }
        }
    };
    let schemes = ["redis://", "rediss://", "redis+unix://", "unix://"];
    let is_url = schemes.iter().any(|scheme| url.expose_secret().starts_with(scheme));
    #[cfg(feature = "redis")]
    let is_url = is_url && crate::shared_state::Redis::new(url.expose_secret()).is_ok();
    if !is_url {
        return spot.fail("is no URL of a Redis server, such as \"redis://127.0.0.1:6379\"");
    }
    Some(url)
}

impl Config {
    /// This replica's end of what is shared; that of the configuration before, where it stays connected as it was.
    #[cfg(feature = "redis")]
    pub(super) fn fleet(&self, before: Option<&super::Shared>) -> Option<Fleet> {
        let settings = self.shared_state.as_ref()?;
        let same = before.and_then(|before| before.fleet.as_ref()).filter(|(_, old)| old.connects_like(settings));
        same.map(|(fleet, _)| fleet.clone())
            .or_else(|| Some(Fleet::new(settings.redis()?).with_timeout(settings.timeout)))
    }

    #[cfg(not(feature = "redis"))]
    pub(super) fn fleet(&self, _: Option<&super::Shared>) -> Option<Fleet> {
        None
    }
}

/// Without the URL, in which there may be a password.
impl fmt::Debug for SharedStateSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SharedStateSettings { prefix, timeout, circuits, limits, cache, .. } = self;
        f.debug_struct("SharedStateSettings")
            .field("prefix", prefix)
            .field("timeout", timeout)
            .field("circuits", circuits)
            .field("limits", limits)
            .field("cache", cache)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::ConfigErrors;

    fn read(shared_state: &str) -> Result<Config, ConfigErrors> {
        let text = format!(
            "[shared_state]\n{shared_state}\n[providers.p]\ndialect = 'openai-chat'\nbase_url = 'http://h'\n\
             requests_per_minute = 5\n[routes.a]\ntargets = [{{ provider = 'p' }}]\ncache = {{ ttl = '1m' }}\n"
        );
        let environment = |name: &str| (name == "URL").then(|| "redis://:hunter2@h:6379".to_owned());
        Config::from_toml(&text, Path::new("test.toml"), &environment)
    }

    #[test]
    fn a_password_is_printed_nowhere() {
        let config = read("url = 'redis://:hunter2@h:6379'").unwrap();
        assert!(config.warnings.iter().any(|warning| warning.contains("shared_state.url")), "{:?}", config.warnings);
        let from_elsewhere = read("url = { env = 'URL' }").unwrap();
        assert!(from_elsewhere.warnings.is_empty());
        for config in [config, from_elsewhere] {
            let shared = config.shared();
            assert!(!format!("{config:?} {shared:?} {:?}", config.warnings).contains("hunter2"));
        }
        for wrong in ["url = 'http://:hunter2@h'", "url = 'redis://:hunter2@h'\nprefix = 1", "url = redis://:hunter2@h"]
        {
            let errors = read(wrong).unwrap_err();
            let said = format!("{errors} {errors:?} {}", errors.report(false));
            assert!(!said.contains("hunter2"), "{said}");
        }
    }

    #[test]
    fn a_connection_outlives_its_configuration_where_it_stays_the_same() {
        let shared = read("url = 'redis://h'").unwrap().shared();
        let replica = |shared: &crate::config::Shared| shared.fleet().map(Fleet::replica);
        let after = |text: &str| replica(&read(text).unwrap().shared_after(&shared));
        assert!(replica(&shared).is_some());
        assert_eq!(after("url = 'redis://h'\ncircuits = false"), replica(&shared));
        assert_ne!(after("url = 'redis://i'"), replica(&shared));
        assert_ne!(after("url = 'redis://h'\nprefix = 'other'"), replica(&shared));
    }
}
