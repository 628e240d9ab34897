//! Whom a request tries first, and whom beside one that is slow: `strategy`, `race` and `hedge`.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{Routes, reader::Table, value::Value};
use crate::{
    FailoverLayer, Route, Statistics, Target,
    failover::{Adaptive, Cost, Hedge, Latencies, Latency, Weighted},
};

/// In which order a route's targets are tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum StrategyName {
    /// As listed.
    #[default]
    Ordered,
    /// Spread by the targets' weights.
    Weighted,
    /// By how soon they are expected to answer.
    Latency,
    /// By what the request is expected to cost.
    Cost,
    /// As listed, but for a primary that does much worse than usual.
    Adaptive,
    /// Several at once, in the order listed.
    Race,
}

impl StrategyName {
    const ALL: [(&'static str, StrategyName); 6] = [
        ("ordered", StrategyName::Ordered),
        ("weighted", StrategyName::Weighted),
        ("latency", StrategyName::Latency),
        ("cost", StrategyName::Cost),
        ("adaptive", StrategyName::Adaptive),
        ("race", StrategyName::Race),
    ];

    /// The name in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, strategy)| *strategy == self).map_or("", |(name, _)| name)
    }

    fn read(value: &Value<'_>) -> Option<Self> {
        let known = Self::ALL.map(|(name, _)| name);
        let name = value.choice(&known)?;
        Self::ALL.into_iter().find_map(|(known, strategy)| (known == name).then_some(strategy))
    }
}

/// When another target is tried beside one that is slow.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct HedgeSettings {
    /// How long a target is waited for alone; `None` for its own 95th percentile.
    pub after: Option<Duration>,
    /// How many targets are tried at a time.
    pub width: usize,
    /// Hedges as a share of all requests: 0 to 1.
    pub budget: f64,
}

impl HedgeSettings {
    fn read(value: Value<'_>) -> Option<Self> {
        let mut table = value.table()?;
        let after = table.take_required("after").and_then(|value| match value.is_string("p95") {
            true => Some(None),
            false => value.duration_or_zero().map(Some),
        });
        let width = table.take_u32("width").unwrap_or(2);
        let budget = table.take("budget").and_then(|value| value.ratio()).unwrap_or(0.1);
        table.check(&["width"], width >= 2, || "must be at least 2: the target that is slow, and one beside it".into());
        table.finish();
        Some(HedgeSettings { after: after?, width: width as usize, budget })
    }
}

/// Whom a request tries first, and whom at the same time.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Choice {
    /// In which order.
    pub strategy: StrategyName,
    /// How many a race starts at once.
    pub race: usize,
    /// Whether, and when, another one beside one that is slow.
    pub hedge: Option<HedgeSettings>,
}

impl Default for Choice {
    fn default() -> Self {
        Choice { strategy: StrategyName::Ordered, race: 2, hedge: None }
    }
}

impl Choice {
    pub(super) fn read(table: &mut Table<'_>, base: Choice) -> Self {
        let strategy = table.take("strategy").and_then(|value| StrategyName::read(&value)).unwrap_or(base.strategy);
        let is_race = strategy == StrategyName::Race;
        let race = table.take_u32("race");
        table.check(&["race"], race.is_none() || is_race, || "needs strategy = \"race\"".into());
        table.check(&["race"], race != Some(1), || "must be at least 2: a race of one is none".into());
        let hedge = table.take("hedge");
        table.check(&["hedge"], hedge.is_none() || !is_race, || {
            "has no place beside strategy = \"race\", which starts its targets at once".into()
        });
        let hedge = hedge.and_then(HedgeSettings::read).or(base.hedge);
        Choice { strategy, race: race.map_or(base.race, |race| race as usize), hedge }
    }

    /// Puts it into the layer of a route.
    pub(super) fn apply(
        &self,
        layer: FailoverLayer,
        route: &Route,
        statistics: &Statistics,
        latencies: &Latencies,
        leads: &Leads,
    ) -> FailoverLayer {
        let layer = match self.strategy {
            StrategyName::Weighted => layer.with_strategy(Weighted::new(route)),
            StrategyName::Latency => layer.with_strategy(Latency::new(route, statistics)),
            StrategyName::Cost => layer.with_strategy(Cost::new(route, statistics)),
            StrategyName::Adaptive => layer.with_strategy(leads.of(route, statistics)),
            StrategyName::Ordered => layer,
            StrategyName::Race => return layer.with_hedge(Hedge::race(self.race)),
        };
        match self.hedge {
            None => layer,
            Some(HedgeSettings { after, width, budget }) => {
                let hedge = after.map_or_else(Hedge::after_p95, Hedge::after);
                layer.with_hedge(hedge.with_width(width).with_budget(budget).with_latencies(latencies))
            }
        }
    }
}

/// Who leads on each route whose strategy is [`Adaptive`], by the route's name, so that a configuration that takes the place of
/// another one goes on where that was. Clones share everything.
#[derive(Clone, Default)]
pub(super) struct Leads(Arc<Mutex<HashMap<Box<str>, Lead>>>);

/// A route as it was when its strategy was made, and that.
type Lead = (Route, Adaptive);

impl Leads {
    /// The route's strategy: the one that it had, as long as it has the same targets in the same order.
    fn of(&self, route: &Route, statistics: &Statistics) -> Adaptive {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ids = |route: &Route| route.targets().iter().map(Target::id).cloned().collect::<Vec<_>>();
        match all.get(route.name()) {
            Some((before, strategy)) if ids(before) == ids(route) => strategy.clone(),
            _ => {
                let strategy = Adaptive::new(route, statistics);
                all.insert(route.name().into(), (route.clone(), strategy.clone()));
                strategy
            }
        }
    }

    /// Those of the routes that still choose so: what led long ago, before something else chose, says nothing any more.
    pub(super) fn kept(&self, routes: &Routes) -> Self {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let stays = |name: &str| {
            let mut own = routes.iter().filter(|route| route.route.name() == name);
            own.any(|route| route.policy.choice.strategy == StrategyName::Adaptive)
        };
        all.retain(|name, _| stays(name));
        Leads(Arc::new(Mutex::new(all)))
    }
}

impl fmt::Debug for Leads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.lock().unwrap_or_else(PoisonError::into_inner).keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, path::Path};

    use bytes::Bytes;
    use http::{Request, Response};
    use http_body_util::Full;
    use tokio::time::{advance, sleep};
    use tower::{Layer, ServiceExt, service_fn};

    use super::*;
    use crate::{
        RequestContext,
        config::{Config, Shared},
    };

    fn config(strategy: &str, targets: [&str; 2]) -> Config {
        let providers = ["a", "b"].map(|name| {
            format!("[providers.{name}]\ndialect = 'openai-chat'\nbase_url = 'http://h'\napi_key = {{ value = 'k' }}\n")
        });
        let targets = targets.map(|name| format!("{{ provider = '{name}', model = 'm' }}")).join(", ");
        let defaults = "[defaults]\nbreaker = { failures = 100000, min_calls = 100000 }\nretry = { attempts = 1 }\n";
        let route = format!("[routes.r]\nstrategy = '{strategy}'\ntargets = [{targets}]");
        let toml = [defaults, &providers.concat(), &route].concat();
        Config::from_toml(&toml, Path::new("x.toml"), &|_| None).unwrap()
    }

    /// Five requests a second while all is well; how many of them tried `a` first, which fails or does not.
    async fn tried_a_first(config: &Config, shared: &Shared, seconds: u64, a_fails: bool) -> usize {
        let stack = config.routes.find("r").unwrap().stack(shared, 1 << 20);
        let service = stack.layer(service_fn(|request: Request<Full<Bytes>>| async move {
            sleep(Duration::from_millis(100)).await;
            let target = RequestContext::of(request.extensions()).unwrap().target().unwrap().clone();
            let status = if a_fails && target.id().as_str() == "a/m" { 500 } else { 200 };
            let body = r#"{"choices":[{"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}]}"#;
            let answer = Response::builder().status(status).header("content-type", "application/json");
            Ok::<_, Infallible>(answer.body(Full::<Bytes>::from(body)).unwrap())
        }));
        let mut firsts = 0;
        for _ in 0..seconds * 5 {
            let asked = Full::from(r#"{"model":"r","messages":[{"role":"user","content":"?"}]}"#);
            let (context, mut request) =
                (RequestContext::new(), Request::post("/v1/chat/completions").body(asked).unwrap());
            request.extensions_mut().insert(context.clone());
            assert_eq!(service.clone().oneshot(request).await.unwrap().status(), 200);
            let first = context.attempts().iter().next().unwrap();
            firsts += usize::from(first.target().unwrap().id().as_str() == "a/m");
            advance(Duration::from_millis(100)).await;
        }
        firsts
    }

    #[tokio::test(start_paused = true)]
    async fn who_leads_outlives_a_reload_that_leaves_the_targets_what_they_are() {
        let before = config("adaptive", ["a", "b"]);
        let shared = before.shared();
        assert_eq!(tried_a_first(&before, &shared, 120, false).await, 600);
        tried_a_first(&before, &shared, 60, true).await;
        // Longer than what is known of how it failed, and not as long as it is away at least.
        let firsts = tried_a_first(&before, &shared, 15, false).await;
        assert!(firsts <= 8, "those that see how it is: {firsts}");

        let same = config("adaptive", ["a", "b"]);
        let after = same.shared_after(&shared);
        let firsts = tried_a_first(&same, &after, 5, false).await;
        assert!(firsts <= 5, "b leads as before: {firsts}");
        let firsts = tried_a_first(&same, &after, 180, false).await;
        assert!(firsts > 100, "until a has been well for a while: {firsts}");

        let other = config("adaptive", ["b", "a"]);
        assert_eq!(tried_a_first(&other, &other.shared_after(&shared), 5, false).await, 0, "others, whose first is b");
    }

    #[tokio::test(start_paused = true)]
    async fn who_led_before_another_strategy_chose_leads_no_more() {
        let (before, ordered) = (config("adaptive", ["a", "b"]), config("ordered", ["a", "b"]));
        let shared = before.shared();
        tried_a_first(&before, &shared, 120, false).await;
        tried_a_first(&before, &shared, 60, true).await;
        let between = ordered.shared_after(&shared);
        tried_a_first(&ordered, &between, 1, false).await;
        advance(Duration::from_secs(120)).await;
        assert_eq!(tried_a_first(&before, &before.shared_after(&between), 5, false).await, 25);
    }
}
