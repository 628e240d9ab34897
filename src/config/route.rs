//! `[routes."PATTERN"]`: fallback chains and their targets.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    breaker, health,
    pattern::{Pattern, Routes},
    policy::Policy,
    price,
    provider::Providers,
    reader::Table,
    value::Value,
};
use crate::{Ability, Capabilities, Route, Target, circuit_breaker::CircuitSettings, health::HealthCheck};

/// A fallback chain, and what it does about failures and silence.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RouteConfig {
    /// The chain, named by the pattern as it is written.
    pub route: Route,
    /// `[defaults]`, and what the route says itself.
    pub policy: Policy,
}

/// What routes are read with, and the circuits that reading their targets finds.
pub(super) struct RouteReader<'a> {
    pub(super) providers: &'a Providers,
    pub(super) defaults: &'a Policy,
    /// By the target's id: a target has one circuit, however many routes it serves.
    pub(super) breakers: BTreeMap<String, CircuitSettings>,
    /// In the same way: a target is asked in one way how it is.
    pub(super) checks: BTreeMap<String, Option<HealthCheck>>,
    /// The names of all routes, of those too that are wrong.
    pub(super) names: Vec<String>,
}

impl RouteReader<'_> {
    pub(super) fn read_all(&mut self, root: &mut Table<'_>) -> Routes {
        let mut routes = Routes::default();
        let Some(table) = root.take_required("routes").and_then(Value::table) else { return routes };
        let spot = table.spot().clone();
        let mut is_empty = true;
        for (name, value) in table.into_entries() {
            is_empty = false;
            self.names.push(name.clone().into_owned());
            let pattern = Pattern::parse(&name).map_err(|why| value.spot().report(why)).ok();
            let route = self.read(&name, value);
            if let (Some(pattern), Some(route)) = (pattern, route) {
                routes.insert(pattern, route);
            }
        }
        if is_empty {
            spot.report("there is no route");
        }
        routes
    }

    fn read(&mut self, name: &str, value: Value<'_>) -> Option<RouteConfig> {
        let mut table = value.table()?;
        if let Some(rest) = table.only_table() {
            // `[routes.gpt-4.1]` is the table `1` in `[routes.gpt-4]`.
            let whole = format!("{name}.{rest}");
            return table.spot().fail(format_args!("a name with a dot stands in quotes: [routes.\"{whole}\"]"));
        }
        let targets = table.take_required("targets").and_then(|value| self.read_targets(value));
        let policy = Policy::read(&mut table, self.defaults);
        table.refuse("breaker", "stands in [defaults], on a provider or on a target, not on a route");
        table.finish();
        // What makes targets unfit for a route has been reported where it stands.
        Some(RouteConfig { route: Route::new(name, targets?).ok()?, policy })
    }

    fn read_targets(&mut self, value: Value<'_>) -> Option<Vec<Target>> {
        let spot = value.spot().clone();
        let entries = value.array()?;
        if entries.is_empty() {
            return spot.fail("a route needs at least one target");
        }
        let mut seen = BTreeSet::new();
        let targets = entries.into_iter().filter_map(|entry| self.read_target(entry, &mut seen));
        Some(targets.collect())
    }

    fn read_target(&mut self, value: Value<'_>, seen: &mut BTreeSet<String>) -> Option<Target> {
        let mut table = value.table()?;
        let provider_name = table.take_required("provider");
        let model = table.take("model");
        let tags = table.take_strings("tags").unwrap_or_default();
        let capabilities = table.take_table("capabilities").map(CapabilityChanges::read);
        let entry = provider_name.and_then(|value| {
            let name = value.string()?;
            match self.providers.get(name) {
                Some(entry) => entry.as_ref(),
                None => {
                    let known = self.providers.keys().map(String::as_str);
                    value.spot().report_unknown(format_args!("unknown provider {name:?}"), name, known);
                    None
                }
            }
        });
        let inherited = entry.map(|entry| entry.breaker).unwrap_or_default();
        let breaker = breaker::read(&mut table, inherited);
        let check = health::read(&mut table, entry.and_then(|entry| entry.health_check));
        let weight = table.take("weight").and_then(|value| value.u32_or_zero());
        let price = price::read(&mut table);
        let spot = table.spot().clone();
        table.finish();

        let provider = &entry?.provider;
        let target = match model {
            Some(model) => Target::new(provider, read_model(&model)?),
            None => Target::passing_model_through(provider),
        };
        let id = target.id().as_str();
        if !seen.insert(id.to_owned()) {
            return spot.fail(format_args!("the target {id} is listed twice"));
        }
        if *self.breakers.entry(id.to_owned()).or_insert(breaker) != breaker {
            spot.report(format_args!("the target {id} has another `breaker` in another route, and only one circuit"));
        }
        if *self.checks.entry(id.to_owned()).or_insert(check) != check {
            spot.report(format_args!("the target {id} has another `health_check` in another route"));
        }
        // What is known of the model, and then what the file says.
        let target = target.with_known_capabilities().with_known_price();
        let target = match capabilities {
            Some(changes) => {
                let changed = changes.apply(target.capabilities().clone());
                target.with_capabilities(changed)
            }
            None => target,
        };
        let target = target.with_tags(tags).with_weight(weight.unwrap_or(1));
        Some(match price {
            Some(price) => target.with_price(price),
            None => target,
        })
    }
}

fn read_model<'v>(value: &'v Value<'_>) -> Option<&'v str> {
    match value.string()? {
        "*" => value.spot().fail("leave `model` out to pass on the name that the client sent"),
        model if model.contains(char::is_control) => value.spot().fail("has control characters"),
        model => Some(model),
    }
}

/// What the file says that a target can do; the rest is as it is known.
struct CapabilityChanges {
    context_window: Option<u64>,
    max_output_tokens: Option<u64>,
    abilities: Vec<(Ability, bool)>,
    languages: Option<Vec<Box<str>>>,
}

impl CapabilityChanges {
    fn read(mut table: Table<'_>) -> Self {
        let changes = CapabilityChanges {
            context_window: table.take_u64("context_window"),
            max_output_tokens: table.take_u64("max_output_tokens"),
            abilities: Ability::ALL
                .iter()
                .filter_map(|ability| Some((*ability, table.take_bool(ability.name())?)))
                .collect(),
            languages: table.take_strings("languages"),
        };
        table.finish();
        changes
    }

    fn apply(self, mut capabilities: Capabilities) -> Capabilities {
        if let Some(tokens) = self.context_window {
            capabilities = capabilities.with_context_window(tokens);
        }
        if let Some(tokens) = self.max_output_tokens {
            capabilities = capabilities.with_max_output_tokens(tokens);
        }
        for (ability, offered) in self.abilities {
            capabilities = if offered { capabilities.with(ability) } else { capabilities.without(ability) };
        }
        match self.languages {
            Some(languages) => capabilities.with_languages(languages),
            None => capabilities,
        }
    }
}
