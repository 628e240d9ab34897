//! Whether a route's answers are kept: `cache`.

use std::time::Duration;

use super::{Config, reader::Table, stack::Shared};
use crate::{CacheLayer, cache::CacheStore, config::RouteConfig};

/// How a route's answers are kept, to be given again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheSettings {
    /// How long an answer is given again.
    pub ttl: Duration,
    /// How many bytes are kept. All routes share one store, of the largest size that any of them says.
    pub max_size: usize,
    /// How many bytes an answer may have that is kept.
    pub max_entry: usize,
    /// How much longer an answer is kept, to be given where no target can answer.
    pub stale_if_error: Duration,
    /// Whether answers are kept that call tools.
    pub tool_calls: bool,
}

impl Default for CacheSettings {
    fn default() -> Self {
        CacheSettings {
            ttl: Duration::from_secs(10 * 60),
            max_size: 256 << 20,
            max_entry: 4 << 20,
            stale_if_error: Duration::ZERO,
            tool_calls: false,
        }
    }
}

impl CacheSettings {
    /// No time at all turns off what `[defaults]` turned on.
    pub(super) fn read(parent: &mut Table<'_>, base: Option<Self>) -> Option<Self> {
        let Some(mut table) = parent.take_table("cache") else { return base };
        let base = base.unwrap_or_default();
        let settings = CacheSettings {
            ttl: table.take_duration_or_zero("ttl").unwrap_or(base.ttl),
            max_size: table.take("max_size").and_then(|value| value.size()).unwrap_or(base.max_size),
            max_entry: table.take("max_entry").and_then(|value| value.size()).unwrap_or(base.max_entry),
            stale_if_error: table.take_duration_or_zero("stale_if_error").unwrap_or(base.stale_if_error),
            tool_calls: table.take_bool("tool_calls").unwrap_or(base.tool_calls),
        };
        let CacheSettings { max_size, max_entry, .. } = settings;
        table.check(&["max_entry"], max_entry <= max_size, || {
            format!("an answer of max_entry ({max_entry} bytes) has no room in max_size ({max_size} bytes)")
        });
        table.finish();
        Some(settings).filter(|settings| !settings.ttl.is_zero())
    }
}

impl Config {
    /// What the routes keep answers in that do so; what is kept in the one before, if that has the same size.
    pub(super) fn cache_store(&self, before: Option<&CacheStore>) -> Option<CacheStore> {
        let sizes = self.routes.iter().filter_map(|route| Some(route.policy.cache.as_ref()?.max_size as u64));
        let size = sizes.max()?;
        let same = before.filter(|before| before.max_size() == size).cloned();
        Some(same.unwrap_or_else(|| CacheStore::new(size)))
    }
}

impl RouteConfig {
    /// The layer that keeps answers, to be put around everything else, where the route says so. `max_body` is
    /// [`Config::max_body`].
    #[must_use]
    pub fn cache(&self, shared: &Shared, max_body: usize) -> Option<CacheLayer> {
        let CacheSettings { ttl, max_entry, stale_if_error, tool_calls, .. } = self.policy.cache?;
        let layer = CacheLayer::new(ttl)
            .with_store(shared.cache.as_ref()?)
            .with_scope(self.route.name())
            .with_max_entry(max_entry)
            .with_stale_if_error(stale_if_error)
            .with_tool_calls(tool_calls)
            .with_max_body(max_body)
            .with_total(self.policy.timeout.total);
        Some(layer)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn read(defaults: &str, route: &str) -> Result<Config, crate::config::ConfigErrors> {
        let text = format!(
            "[providers.p]\ndialect = 'openai-chat'\nbase_url = 'http://h/v1'\n[defaults]\n{defaults}\n\
             [routes.a]\ntargets = [{{ provider = 'p' }}]\n[routes.b]\n{route}\ntargets = [{{ provider = 'p' }}]\n"
        );
        Config::from_toml(&text, Path::new("test.toml"), &|_| None)
    }

    fn settings(config: &Config, route: &str) -> Option<CacheSettings> {
        config.routes.find(route).unwrap().policy.cache
    }

    #[test]
    fn a_route_changes_what_the_defaults_say_or_turns_it_off() {
        let config = read("", "").unwrap();
        assert_eq!(settings(&config, "a"), None);
        assert!(config.shared().cache.is_none());
        let config = read("cache = { ttl = '1m' }", "cache = { tool_calls = true, max_size = '1GiB' }").unwrap();
        let ttl = Duration::from_secs(60);
        assert_eq!(settings(&config, "a"), Some(CacheSettings { ttl, ..CacheSettings::default() }));
        let changed = CacheSettings { ttl, tool_calls: true, max_size: 1 << 30, ..CacheSettings::default() };
        assert_eq!(settings(&config, "b"), Some(changed));
        assert_eq!(config.shared().cache.unwrap().max_size(), 1 << 30);
        let config = read("cache = {}", "cache = { ttl = '0s' }").unwrap();
        assert_eq!((settings(&config, "a"), settings(&config, "b")), (Some(CacheSettings::default()), None));
        assert!(read("cache = { max_size = '1MiB', max_entry = '2MiB' }", "").is_err());
    }

    #[test]
    fn a_store_of_the_same_size_outlives_its_configuration() {
        let shared = read("cache = {}", "").unwrap().shared();
        let after = |defaults: &str| read(defaults, "").unwrap().shared_after(&shared).cache;
        shared.cache.as_ref().unwrap().clear();
        assert!(after("cache = { ttl = '1s' }").unwrap().is(shared.cache.as_ref().unwrap()));
        assert!(!after("cache = { max_size = '8MiB' }").unwrap().is(shared.cache.as_ref().unwrap()));
        assert!(after("").is_none());
    }
}
