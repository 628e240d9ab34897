//! Whom a request tries first, and whom beside one that is slow: `strategy`, `race` and `hedge`.

use std::time::Duration;

use super::{reader::Table, value::Value};
use crate::{
    FailoverLayer, Route, Statistics,
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
    ) -> FailoverLayer {
        let layer = match self.strategy {
            StrategyName::Weighted => layer.with_strategy(Weighted::new(route)),
            StrategyName::Latency => layer.with_strategy(Latency::new(route, statistics)),
            StrategyName::Cost => layer.with_strategy(Cost::new(route, statistics)),
            StrategyName::Adaptive => layer.with_strategy(Adaptive::new(route, statistics)),
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
