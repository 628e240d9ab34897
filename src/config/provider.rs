//! `[providers.NAME]`: accounts, and where their keys come from.

use std::{collections::BTreeMap, num::NonZeroU32};

use super::{breaker, health, reader::Table, secret::read_credentials, value::Value};
use crate::{
    Credentials, Dialect, KeyHeader, Provider, Variant, circuit_breaker::CircuitSettings, health::HealthCheck,
    rate_limit::Limits,
};

/// A provider, and the circuits' settings that its targets inherit.
pub(super) struct ProviderEntry {
    pub(super) provider: Provider,
    pub(super) breaker: CircuitSettings,
    pub(super) limits: Limits,
    pub(super) health_check: Option<HealthCheck>,
}

/// The providers by name; `None` for one whose table is wrong, so that a target that names it is not wrong too.
pub(super) type Providers = BTreeMap<String, Option<ProviderEntry>>;

pub(super) fn read_all(root: &mut Table<'_>, defaults: CircuitSettings) -> Providers {
    let Some(table) = root.take_required("providers").and_then(Value::table) else { return Providers::new() };
    let spot = table.spot().clone();
    let providers: Providers = table
        .into_entries()
        .map(|(name, value)| {
            let entry = read(&name, value, defaults);
            (name.into_owned(), entry)
        })
        .collect();
    if providers.is_empty() {
        spot.report("there is no provider");
    }
    providers
}

fn read(name: &str, value: Value<'_>, defaults: CircuitSettings) -> Option<ProviderEntry> {
    let spot = value.spot().clone();
    // The name begins the names of targets ("openai/gpt-4o"), which stand in headers and metrics.
    if name.is_empty() || name.contains(|c: char| c == '/' || c.is_control()) {
        spot.report("a provider's name must not be empty, nor have a slash or control characters");
    }
    let mut table = value.table()?;
    let names: Vec<_> = Dialect::ALL.iter().map(|dialect| dialect.name()).collect();
    let dialect = table.take_required("dialect").and_then(|value| value.choice(&names)).and_then(Dialect::from_name);
    let base_url = table.take_required("base_url");
    let key = table.take("api_key");
    let tags = table.take_strings("tags").unwrap_or_default();
    let variants: Vec<_> = Variant::names().collect();
    let variant = table.take("variant").and_then(|value| value.choice(&variants)).and_then(Variant::from_name);
    let headers = ["authorization", "api-key", "x-api-key", "x-goog-api-key"];
    let api_version = table.take("api_version").and_then(|value| value.string().map(str::to_owned));
    let key_header = table.take("key_header").and_then(|value| value.choice(&headers)).map(|name| match name {
        "api-key" => KeyHeader::ApiKey,
        "x-api-key" => KeyHeader::XApiKey,
        "x-goog-api-key" => KeyHeader::XGoogApiKey,
        _ => KeyHeader::Bearer,
    });
    let breaker = breaker::read(&mut table, defaults);
    let health_check = health::read(&mut table, None);
    let mut limit = |name| table.take_u32(name).and_then(NonZeroU32::new);
    let limits = Limits {
        requests_per_minute: limit("requests_per_minute"),
        tokens_per_minute: limit("tokens_per_minute"),
        max_concurrency: limit("max_concurrency"),
    };
    table.finish();

    // Each is read whether or not the others could be: all mistakes at once. What a key or a URL must be like hardly
    // depends on the dialect, so that one that cannot be used is looked over all the same.
    let assumed = dialect.unwrap_or(Dialect::OpenAiChat);
    let provider = base_url.and_then(|url| {
        let provider = Provider::new(name, assumed, url.string()?);
        let provider = provider.map_err(|error| url.spot().report(error)).ok()?;
        let provider = match &api_version {
            Some(version) => provider.with_query("api-version", version),
            None => provider,
        };
        Some(match variant {
            Some(variant) => provider.with_variant(variant),
            None => provider,
        })
    });
    let usual = provider.as_ref().and_then(|provider| provider.variant().key_header());
    let credentials = match key {
        Some(key) => read_credentials(key, key_header.or(usual).unwrap_or(KeyHeader::of(assumed))),
        None => Some(Credentials::none()),
    };
    // Keys that stay keep what is known of them: which of them rest, and whose turn it is.
    let known = spot.reader().known_credentials(name);
    let credentials = credentials.map(|new| known.filter(|known| known.is_same_as(&new)).cloned().unwrap_or(new));
    dialect?;
    let provider = provider?.with_credentials(credentials?).with_tags(tags);
    Some(ProviderEntry { provider, breaker, limits, health_check })
}
