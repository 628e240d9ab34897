//! What a drill is told, and what of a configuration it is about.

use std::{fmt, time::Duration};

use super::Drill;
use crate::{
    Dialect, Provider, Route, Target,
    config::{AuthSettings, Config, Policy, RouteConfig},
    fault_injection::InjectedFault,
    simulated::SimulatedProvider,
};

/// How a drill goes. Its defaults are modest, for real tokens cost money.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DrillSettings {
    /// The route, by its name or by a model that it serves. Default: the first one with a fallback.
    pub route: Option<String>,
    /// The model to ask for, where the route is a pattern and passes on what it is asked for.
    pub model: Option<String>,
    /// The most requests of a phase. Default: 20, and 200 on simulated providers, if there is no `duration`.
    pub requests: Option<u64>,
    /// How long a phase lasts at most.
    pub duration: Option<Duration>,
    /// How many requests are asked at a time. Default: 2, and 8 on simulated providers.
    pub concurrency: Option<usize>,
    /// How many of a hundred requests ask for a stream. Default: 80.
    pub streams: u8,
    /// The most tokens that an answer may have. Default: 16.
    pub max_tokens: u32,
    /// What happens to the primary. Default: it cannot be connected to.
    pub fault: InjectedFault,
    /// How many of a hundred requests must be answered, in each phase. Default: 99.9.
    pub slo: f64,
}

impl Default for DrillSettings {
    fn default() -> Self {
        DrillSettings {
            route: None,
            model: None,
            requests: None,
            duration: None,
            concurrency: None,
            streams: 80,
            max_tokens: 16,
            fault: InjectedFault::Down,
            slo: 99.9,
        }
    }
}

/// Why there can be no drill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrillError {
    message: String,
}

impl DrillError {
    pub(super) fn new(message: impl Into<String>) -> Self {
        DrillError { message: message.into() }
    }
}

impl fmt::Display for DrillError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for DrillError {}

impl Drill {
    /// On the providers of a configuration: they are asked in earnest.
    ///
    /// # Errors
    ///
    /// When the settings name a route or model that is not served, or leave open which model is to be asked for.
    pub fn new(config: &Config, settings: DrillSettings) -> Result<Self, DrillError> {
        // It is served to the drill itself, on a loopback port of its own.
        let mut config = config.clone();
        (config.auth, config.tls) = (AuthSettings::default(), None);
        Self::build(config, settings, 20, 2, Vec::new())
    }

    /// On two providers that are simulated for it. They answer after 20 ms, and circuits open for half a second only, so that
    /// nobody is kept waiting.
    ///
    /// # Errors
    ///
    /// When no socket can be had, or the settings are for another route than `gpt-4o`.
    pub async fn on_simulated_providers(settings: DrillSettings) -> Result<Self, DrillError> {
        let mut simulated = Vec::new();
        for name in ["primary", "fallback"] {
            let provider = SimulatedProvider::builder(name)
                .first_output_delay(Duration::from_millis(20))
                .chunk_delay(Duration::from_millis(2))
                .start()
                .await
                .map_err(|error| DrillError::new(format!("cannot start a simulated provider: {error}")))?;
            simulated.push(provider);
        }
        let targets = simulated.iter().filter_map(|simulated| {
            let provider = Provider::new(simulated.name(), Dialect::OpenAiChat, &simulated.base_url()).ok()?;
            Some(Target::new(&provider, "gpt-4o"))
        });
        let mut policy = Policy::default();
        policy.timeout.first_output = Duration::from_secs(1);
        policy.timeout.response = Duration::from_secs(1);
        policy.timeout.idle = Duration::from_secs(1);
        let route = Route::new("gpt-4o", targets).map_err(|error| DrillError::new(error.to_string()))?;
        let mut config = Config::from_parts(vec![(route, policy)]);
        config.default_breaker.open = Duration::from_millis(500);
        config.default_breaker.max_open = Duration::from_secs(1);
        Self::build(config, settings, 200, 8, simulated)
    }

    fn build(
        config: Config,
        mut settings: DrillSettings,
        requests: u64,
        concurrency: usize,
        simulated: Vec<SimulatedProvider>,
    ) -> Result<Self, DrillError> {
        if settings.duration.is_none() {
            settings.requests.get_or_insert(requests);
        }
        settings.concurrency.get_or_insert(concurrency);
        let route = route(&config, &settings)?;
        let name = route.route.name().to_owned();
        let model = model(&config, route, &settings)?;
        let [primary, ..] = route.route.targets() else {
            return Err(DrillError::new(format!("the route {name:?} has no target")));
        };
        let primary = primary.clone();
        Ok(Drill { config, settings, route: name, model, primary, simulated })
    }

    /// Whether only simulated providers are asked, which costs nothing.
    #[must_use]
    pub fn is_simulated(&self) -> bool {
        !self.simulated.is_empty()
    }

    pub(super) fn settings(&self) -> &DrillSettings {
        &self.settings
    }
}

fn route<'c>(config: &'c Config, settings: &DrillSettings) -> Result<&'c RouteConfig, DrillError> {
    let names = || config.routes.iter().map(|route| route.route.name()).collect::<Vec<_>>().join(", ");
    match &settings.route {
        Some(name) => {
            let by_name = config.routes.iter().find(|route| route.route.name() == name);
            by_name
                .or_else(|| config.routes.find(name))
                .ok_or_else(|| DrillError::new(format!("there is no route {name:?}; there are: {}", names())))
        }
        None => {
            let with_fallback = config.routes.iter().find(|route| route.route.targets().len() > 1);
            with_fallback
                .or_else(|| config.routes.iter().next())
                .ok_or_else(|| DrillError::new("the configuration has no route"))
        }
    }
}

/// The model that is asked for: one that the route serves and its targets know.
fn model(config: &Config, route: &RouteConfig, settings: &DrillSettings) -> Result<String, DrillError> {
    let name = route.route.name();
    let prefix = name.strip_suffix('*');
    let asked_for_route = settings.route.as_ref().filter(|asked| *asked != name);
    let model = match (settings.model.as_ref().or(asked_for_route), prefix) {
        (Some(model), _) => model.clone(),
        (None, None) => name.to_owned(),
        (None, Some(prefix)) => {
            let models = route.route.targets().iter().map(Target::model).collect::<Option<Vec<_>>>();
            let Some(models) = models else {
                let message =
                    format!("the route {name:?} passes on the model that it is asked for: name one (--model)");
                return Err(DrillError::new(message));
            };
            // Whatever it is called, the targets are asked for models of their own.
            let own = models.into_iter().find(|model| model.starts_with(prefix));
            own.map_or_else(|| format!("{prefix}drill"), str::to_owned)
        }
    };
    match config.routes.find(&model) {
        Some(found) if found.route.name() == name => Ok(model),
        _ => Err(DrillError::new(format!("the model {model:?} is not served by the route {name:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn drill(routes: &str, change: impl FnOnce(&mut DrillSettings)) -> Result<(String, String, String), String> {
        let text = format!(
            "[providers.a]\ndialect = \"openai-chat\"\nbase_url = \"http://a.test/v1\"\n\
             [providers.b]\ndialect = \"openai-chat\"\nbase_url = \"http://b.test/v1\"\n[routes]\n{routes}"
        );
        let config = Config::from_toml(&text, Path::new("t.toml"), &|_| None).unwrap();
        let mut settings = DrillSettings::default();
        change(&mut settings);
        let drill = Drill::new(&config, settings).map_err(|error| error.to_string())?;
        Ok((drill.route, drill.model, drill.primary.id().to_string()))
    }

    const ROUTES: &str = r#"
        alone.targets = [{ provider = "a", model = "m" }]
        both.targets = [{ provider = "b", model = "m" }, { provider = "a", model = "m" }]
        "fb-*".targets = [{ provider = "a", model = "m" }, { provider = "b", model = "fb-b" }]
        "any-*".targets = [{ provider = "a" }, { provider = "b" }]
    "#;

    fn named(route: &str, model: &str, primary: &str) -> Result<(String, String, String), String> {
        Ok((route.to_owned(), model.to_owned(), primary.to_owned()))
    }

    #[test]
    fn the_first_route_with_a_fallback_is_taken_unless_one_is_named() {
        let first = drill(ROUTES, |_| {}).unwrap();
        assert_ne!(first.0, "alone");
        assert_eq!(drill(ROUTES, |it| it.route = Some("both".into())), named("both", "both", "b/m"));
        assert_eq!(drill(ROUTES, |it| it.route = Some("alone".into())), named("alone", "alone", "a/m"));
        let unknown = drill(ROUTES, |it| it.route = Some("none".into())).unwrap_err();
        assert!(unknown.contains("alone") && unknown.contains("fb-*"), "{unknown}");
    }

    #[test]
    fn a_pattern_needs_a_model_where_it_passes_on_what_it_is_asked_for() {
        assert_eq!(drill(ROUTES, |it| it.route = Some("fb-*".into())), named("fb-*", "fb-b", "a/m"));
        assert_eq!(drill(ROUTES, |it| it.route = Some("any-1".into())), named("any-*", "any-1", "a/*"));
        assert!(drill(ROUTES, |it| it.route = Some("any-*".into())).unwrap_err().contains("--model"));
        let other = drill(ROUTES, |it| (it.route, it.model) = (Some("any-*".into()), Some("both".into())));
        assert!(other.unwrap_err().contains("not served by the route"));
    }
}
