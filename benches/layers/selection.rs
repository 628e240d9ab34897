//! What it costs to choose among eight targets, of which something is known.

use std::{hint::black_box, sync::Arc};

use http::HeaderMap;
use tokio::runtime::Runtime;
use tower::{Layer, ServiceExt};
use tower_failover::{
    Dialect, FailoverLayer, Price, Provider, RateLimitLayer, RateLimits, RateLimitsRegistry, RequestContext,
    Requirements, Route, Statistics, Target,
    failover::{Adaptive, Cost, Latency, Order, Strategy, Weighted},
    rate_limit::RateLimitRegistry,
};

use crate::{
    cases::{ADDRESSED, BARE, Case, wide_limits},
    measure::{Run, Runnable},
    upstream::{Template, Upstream},
};

pub(crate) const LISTED: &str = "selection of 8: as listed";
pub(crate) const NAMES: [&str; 4] =
    ["selection of 8: weighted", "selection of 8: latency", "selection of 8: cost", "selection of 8: adaptive"];

pub(crate) const LIMITS: &str = "limit check, one of 8 targets, all limits set";

const TARGETS: usize = 8;

fn route() -> Route {
    let target = |place: usize| {
        let provider = Provider::new(format!("p{place}"), Dialect::OpenAiChat, "http://localhost").unwrap();
        Target::new(&provider, "m").with_price(Price::new(1.0 + place as f64, 4.0).unwrap())
    };
    Route::new("eight", (0..TARGETS).map(target)).unwrap()
}

pub(crate) fn cases() -> Vec<Case> {
    let case = |name, strategy: fn(&Route, &Statistics) -> Arc<dyn Strategy>| {
        let make = move || {
            let (route, statistics) = (route(), Statistics::default());
            let strategy = strategy(&route, &statistics);
            let needs = Requirements { input_tokens: 1_000, max_output_tokens: Some(300), ..Requirements::default() };
            let request = RequestContext::new().with_requirements(needs);
            Box::new(Selection { route, statistics, strategy, request, is_warm: false }) as Box<dyn Run>
        };
        Case::new(name, LISTED, make)
    };
    let [weighted, latency, cost, adaptive] = NAMES;
    let whole = |name, limits: bool| {
        let make = move || {
            let (route, statistics, registry) = (route(), Statistics::default(), RateLimitsRegistry::default());
            let mut headers = HeaderMap::new();
            headers.insert("x-ratelimit-limit-requests", 100.into());
            headers.insert("x-ratelimit-remaining-requests", 50.into());
            headers.insert("x-ratelimit-reset-requests", "7d".parse().unwrap());
            (0..TARGETS).for_each(|place| {
                registry.record(&format!("p{place}"), RateLimits::from_headers(&headers).unwrap());
            });
            let layer = FailoverLayer::new(&route).with_statistics(&statistics);
            let layer = if limits { layer.with_rate_limits(&registry) } else { layer };
            Box::new(layer.layer(Upstream::new()).runs(Template::plain())) as Box<dyn Run>
        };
        Case::new(name, BARE, make)
    };
    // A call takes from its target's limits and from its provider's, and gives back when its body ends.
    let limited = || {
        let limits =
            route().targets().iter().enumerate().fold(RateLimitRegistry::default(), |limits, (place, target)| {
                let limits = limits.with_target(target.id().as_str(), wide_limits());
                limits.with_provider(format!("p{place}"), wide_limits())
            });
        let last = route().targets()[TARGETS - 1].clone();
        let layer = RateLimitLayer::new(limits);
        Box::new(layer.layer(Upstream::new()).runs(Template::plain().to(last))) as Box<dyn Run>
    };
    vec![
        Case::new(LIMITS, ADDRESSED, limited),
        case(LISTED, |_, _| Arc::new(Listed)),
        case(weighted, |route, _| Arc::new(Weighted::new(route))),
        case(latency, |route, statistics| Arc::new(Latency::new(route, statistics))),
        case(cost, |route, statistics| Arc::new(Cost::new(route, statistics))),
        case(adaptive, |route, statistics| Arc::new(Adaptive::new(route, statistics))),
        whole("failover of 8, counted", false),
        whole("failover of 8, counted, by what is left of limits", true),
    ]
}

#[derive(Debug)]
struct Listed;

impl Strategy for Listed {
    fn order(&self, route: &Route, _: &RequestContext) -> Order {
        Order::as_listed(route)
    }
}

struct Selection {
    route: Route,
    statistics: Statistics,
    strategy: Arc<dyn Strategy>,
    request: RequestContext,
    is_warm: bool,
}

impl Selection {
    /// Has each target answer, so that something is known of it.
    fn warm_up(&self, runtime: &Runtime) {
        for _ in 0..100 {
            for target in self.route.targets() {
                let alone = Route::new("warm-up", [target.clone()]).unwrap();
                let layer = FailoverLayer::new(&alone).with_statistics(&self.statistics);
                let call = layer.layer(Upstream::new()).oneshot(Template::plain().request());
                assert!(runtime.block_on(call).unwrap().status().is_success());
            }
        }
    }
}

impl Run for Selection {
    fn run(&mut self, runtime: &Runtime, calls: u64) {
        if !std::mem::replace(&mut self.is_warm, true) {
            self.warm_up(runtime);
        }
        for _ in 0..calls {
            black_box(self.strategy.order(black_box(&self.route), black_box(&self.request)));
        }
    }

    fn future_bytes(&self) -> usize {
        0
    }
}
