//! `/status.json`: how every route and target is, as `docs/status.md` describes it.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    super::{Live, spending},
    Status,
    feed::{describe_fault, moment, state_name},
};
use crate::{
    CircuitState, RateLimits, Route, Target, TargetStatistics,
    circuit_breaker::CircuitSnapshot,
    config::{Config, RouteConfig, Shared, StrategyName},
    shared_state::FleetHealth,
    statistics::{Account, Period, Quantiles, WINDOW},
};

/// How the gateway's targets are at one moment.
pub(super) struct Report<'a> {
    live: &'a Live,
    config: &'a Config,
    shared: &'a Shared,
    circuits: Vec<CircuitSnapshot>,
    /// What `usage` looks back to.
    window: Period,
}

impl<'a> Report<'a> {
    pub(super) fn new(live: &'a Live, window: Period) -> Self {
        let Live { config, shared, .. } = live;
        Report { live, config, shared, circuits: shared.circuits.snapshot(), window }
    }

    pub(super) fn describe(&self, status: &Status, uptime: Duration) -> Value {
        let routes = self.config.routes.iter().zip(&self.live.accounts);
        let routes: Vec<_> = routes.map(|(route, account)| self.describe_route(route, account)).collect();
        let clients = self.live.clients();
        let clients = clients.map(|(name, account)| json!({ "name": name, "usage": self.usage(Some(account)) }));
        let is_race = |route: &&RouteConfig| route.policy.choice.strategy == StrategyName::Race;
        let races: Vec<_> = self.config.routes.iter().filter(is_race).map(|route| route.route.name()).collect();
        let state = worst(routes.iter().filter_map(|route| route["state"].as_str()));
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "now": moment(SystemTime::now()),
            "started": moment(status.started),
            "uptime_seconds": uptime.as_secs(),
            "window_seconds": WINDOW.as_secs(),
            "usage_window_seconds": self.window.duration().as_secs(),
            "state": state,
            "shared_state": self.shared.fleet().map(|fleet| describe_fleet(&fleet.health())),
            "routes": routes,
            "targets": self.config.targets().map(|target| self.describe_target(target)).collect::<Vec<_>>(),
            "clients": clients.collect::<Vec<_>>(),
            "config": status.changes.describe(),
            "events": status.feed.describe(&races),
        })
    }

    /// What is spent, and what that would have been without a cache.
    fn usage(&self, account: Option<&Account>) -> Value {
        spending::describe(account, self.window)
    }

    fn describe_route(&self, config: &RouteConfig, account: &Account) -> Value {
        let route = &config.route;
        let statistics = self.shared.statistics.route(route.name());
        let count = |of: fn(&crate::RouteStatistics) -> u64| statistics.as_ref().map_or(0, of);
        let available = route.targets().iter().filter(|target| self.is_available(target)).count();
        json!({
            "name": route.name(),
            "strategy": config.policy.choice.strategy.name(),
            "targets": route.targets().iter().map(|target| target.id().as_str()).collect::<Vec<_>>(),
            "state": state_of(available, route),
            "available": available,
            "requests": count(|it| it.requests),
            "requests_per_minute": rounded(statistics.as_ref().map_or(0.0, |it| it.requests_per_minute)),
            "success_rate": statistics.as_ref().and_then(crate::RouteStatistics::success_rate).map(rounded),
            "failovers": count(|it| it.failovers),
            "total": {
                "requests": count(|it| it.all_requests),
                "failures": count(|it| it.all_failures),
                "failovers": count(|it| it.all_failovers),
            },
            "usage": self.usage(Some(account)),
        })
    }

    pub(super) fn describe_target(&self, target: &Target) -> Value {
        let [own, provider] = self.circuits_of(target);
        let state = self.shared.circuits.state(target);
        let statistics = self.shared.statistics.target(target.id());
        let statistics = statistics.as_ref();
        let count = |of: fn(&TargetStatistics) -> u64| statistics.map_or(0, of);
        let drained = own.is_some_and(|circuit| circuit.drained);
        let open_for = [own, provider].into_iter().flatten().filter_map(|circuit| circuit.open_for).max();
        let quantiles =
            |of: fn(&TargetStatistics) -> Quantiles| describe_quantiles(statistics.map(of).unwrap_or_default());
        let last_fault = statistics.and_then(|it| it.last_fault.as_ref()).map(|last| {
            let mut fault = describe_fault(&last.fault);
            fault["at"] = moment(last.at).into();
            fault
        });
        let limits = self.shared.rate_limits.watch(target).and_then(|watch| watch.latest());
        let faults = statistics.map_or(&[][..], |it| &it.faults);
        let history = statistics.map_or(&[][..], |it| &it.history);
        json!({
            "id": target.id().as_str(),
            "provider": target.provider().map(crate::Provider::name),
            "model": target.model(),
            "dialect": target.provider().map(|provider| provider.dialect().name()),
            "tags": target.tags(),
            "state": state_name(state),
            "provider_state": state_name(provider.map_or(CircuitState::Closed, |circuit| circuit.state)),
            "drained": drained,
            "reopens_in_seconds": open_for.filter(|_| state == CircuitState::Open && !drained).map(seconds_up),
            "success_rate": statistics.and_then(TargetStatistics::success_rate).map(rounded),
            "requests": count(|it| it.requests),
            "requests_per_minute": rounded(statistics.map_or(0.0, |it| it.requests_per_minute)),
            "refusals": count(|it| it.refusals),
            "in_flight": count(|it| it.in_flight),
            "faults": faults.iter().map(|(kind, count)| (kind.name(), *count)).collect::<std::collections::BTreeMap<_, _>>(),
            "time_to_first_token": quantiles(|it| it.time_to_first_token),
            "response_time": quantiles(|it| it.response_time),
            "remaining": limits.as_ref().map(describe_limits),
            "last_fault": last_fault,
            "history": history.iter().map(|slice| [slice.successes, slice.failures]).collect::<Vec<_>>(),
            "total": { "requests": count(|it| it.all_requests), "failures": count(|it| it.all_failures) },
            "usage": self.shared.statistics.with_target_account(target.id(), |account| self.usage(account)),
        })
    }

    /// The target's circuit and its provider's, as far as they were called.
    fn circuits_of(&self, target: &Target) -> [Option<&CircuitSnapshot>; 2] {
        let name = target.provider().map(crate::Provider::name);
        let own = self.circuits.iter().find(|circuit| circuit.target.as_deref() == Some(target.id().as_str()));
        let provider = self.circuits.iter().find(|circuit| name.is_some() && circuit.provider.as_deref() == name);
        [own, provider]
    }

    /// Whether calls are let through to it.
    fn is_available(&self, target: &Target) -> bool {
        self.shared.circuits.state(target) != CircuitState::Open
    }
}

/// From best to worst.
const STATES: [&str; 3] = ["ok", "degraded", "down"];

fn state_of(available: usize, route: &Route) -> &'static str {
    match available {
        0 => STATES[2],
        some if some < route.targets().len() => STATES[1],
        _ => STATES[0],
    }
}

fn worst<'a>(states: impl Iterator<Item = &'a str>) -> &'static str {
    let rank = |state: &str| STATES.iter().position(|known| *known == state);
    STATES[states.filter_map(rank).max().unwrap_or(0)]
}

/// To four places: nobody reads more.
fn rounded(number: f64) -> f64 {
    (number * 10_000.0).round() / 10_000.0
}

fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1_000.0).round() / 1_000.0
}

fn seconds_up(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

fn describe_quantiles(quantiles: Quantiles) -> Value {
    json!({ "p50": quantiles.p50.map(seconds), "p95": quantiles.p95.map(seconds) })
}

fn describe_fleet(health: &FleetHealth) -> Value {
    json!({
        "answers": health.answers,
        "answered": health.answered,
        "late": health.late,
        "failed": health.failed,
        "skipped": health.skipped,
    })
}

/// What is left now: past its reset, a window is full again, and nothing is known of how much that is without its limit.
fn describe_limits(limits: &RateLimits) -> Value {
    let now = Instant::now();
    let is_over = |window: &crate::RateWindow| window.resets_at <= now;
    let left = |window: Option<crate::RateWindow>| {
        window.and_then(|window| if is_over(&window) { window.limit } else { Some(window.remaining) })
    };
    let resets = [limits.requests, limits.tokens].into_iter().flatten();
    let reset = resets.map(|window| window.resets_at.saturating_duration_since(now)).max();
    json!({
        "requests": left(limits.requests),
        "requests_limit": limits.requests.and_then(|window| window.limit),
        "tokens": left(limits.tokens),
        "tokens_limit": limits.tokens.and_then(|window| window.limit),
        "reset": reset.map(seconds),
    })
}
