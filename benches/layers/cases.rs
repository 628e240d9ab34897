//! The cases: a stack of layers each, over the same service.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    num::NonZeroU32,
    sync::Arc,
    time::Duration,
};

use tower::{
    BoxError, Layer, ServiceBuilder, ServiceExt,
    retry::{
        Policy,
        budget::{Budget, TpsBudget},
    },
};
use tower_failover::{
    Capabilities, CapabilityFilterLayer, CatchErrorLayer, CircuitBreakerLayer, CollectBodyLayer, Dialect,
    FailoverLayer, FailoverStack, FaultInjectionLayer, ProviderLayer, RateLimitLayer, RequirementsLayer, RetryLayer,
    Route, Statistics, Target, TimeoutLayer,
    fault_injection::FaultSwitch,
    provider::{DispatchLayer, StreamGuardLayer},
    rate_limit::{Limits, RateLimitRegistry},
};
use tower_resilience::{bulkhead, circuitbreaker, fallback, retry, timelimiter};

use crate::{
    listening,
    measure::{Run, Runnable},
    selection,
    upstream::{Request, Response, Streaming, Template, Upstream, restricted_target, targets},
};

pub(crate) const BARE: &str = "no layer";
pub(crate) const ADDRESSED: &str = "no layer, request with a context";
pub(crate) const STREAM: &str = "stream: no layer";
pub(crate) const TOWER_TIMEOUT: &str = "tower: timeout";
pub(crate) const TOWER_RETRY: &str = "tower: retry";
pub(crate) const TIMEOUT: &str = "timeout";
pub(crate) const RETRY: &str = "retry";
pub(crate) const CIRCUIT_BREAKER: &str = "circuit breaker";
pub(crate) const FIVE_LAYERS: &str = "failover, capability filter, retry, circuit breaker, timeout";
pub(crate) const STACK: &str = "failover stack";

const HALF_A_MINUTE: Duration = Duration::from_secs(30);

pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// The case from which differences are taken.
    pub(crate) base: &'static str,
    make: Box<dyn Fn() -> Box<dyn Run>>,
}

impl Case {
    pub(crate) fn new(name: &'static str, base: &'static str, make: impl Fn() -> Box<dyn Run> + 'static) -> Self {
        Case { name, base, make: Box::new(make) }
    }

    pub(crate) fn is_base(&self) -> bool {
        self.name == self.base
    }

    pub(crate) fn make(&self) -> Box<dyn Run> {
        (self.make)()
    }
}

/// A layer over the service, called with requests as clients send them.
fn case<L>(name: &'static str, layer: L) -> Case
where
    L: Layer<Upstream> + 'static,
    L::Service: Runnable,
{
    let make = move || Box::new(layer.layer(Upstream::new()).runs(Template::plain())) as Box<dyn Run>;
    Case { name, base: BARE, make: Box::new(make) }
}

/// A layer over the service that streams.
fn streamed<L>(name: &'static str, layer: L) -> Case
where
    L: Layer<Streaming> + 'static,
    L::Service: Runnable,
{
    let make = move || Box::new(layer.layer(Streaming::new()).runs(Template::streamed())) as Box<dyn Run>;
    Case { name, base: STREAM, make: Box::new(make) }
}

/// A layer over the service, called with requests as failover sends them.
fn addressed<L>(name: &'static str, layer: L) -> Case
where
    L: Layer<Upstream> + 'static,
    L::Service: Runnable,
{
    let make = move || {
        let [target, _] = targets();
        Box::new(layer.layer(Upstream::new()).runs(Template::addressed(target))) as Box<dyn Run>
    };
    Case { name, base: ADDRESSED, make: Box::new(make) }
}

pub(crate) fn all() -> Vec<Case> {
    let [own, towers, resilience] = [own(), towers(), resilience()];
    let bare = case(BARE, tower::layer::util::Identity::new());
    let with_context = addressed(ADDRESSED, tower::layer::util::Identity::new());
    let stream = streamed(STREAM, tower::layer::util::Identity::new());
    let own = own.into_iter().chain(cached()).chain(listening::cases()).chain(selection::cases());
    [bare, with_context, stream].into_iter().chain(own).chain(towers).chain(resilience).collect()
}

fn own() -> Vec<Case> {
    let route = Route::new("chat", targets()).unwrap();
    let five = {
        let route = route.clone();
        tower::layer::layer_fn(move |upstream| {
            ServiceBuilder::new()
                .layer(FailoverLayer::new(&route))
                .layer(CapabilityFilterLayer::new())
                .layer(RetryLayer::new())
                .layer(CircuitBreakerLayer::default())
                .layer(TimeoutLayer::new())
                .service(upstream)
        })
    };
    let counted = FailoverLayer::new(&route).with_statistics(&Statistics::default());
    let restricted = || {
        let layers = ServiceBuilder::new().layer(RequirementsLayer::new()).layer(CapabilityFilterLayer::new());
        Box::new(layers.service(Upstream::new()).runs(Template::addressed(restricted_target()))) as Box<dyn Run>
    };
    let checked = |name, length, make: fn() -> Target| {
        let layers = move || {
            let layers = ServiceBuilder::new().layer(RequirementsLayer::new()).layer(CapabilityFilterLayer::new());
            Box::new(layers.service(Upstream::new()).runs(Template::talk(length).to(make()))) as Box<dyn Run>
        };
        Case { name, base: ADDRESSED, make: Box::new(layers) }
    };
    let unknown = || targets()[0].clone();
    let known = || targets()[0].clone().with_known_capabilities();
    // Longer in bytes than the window is in tokens: only a close look says that it fits.
    let narrow = || targets()[0].clone().with_capabilities(Capabilities::new().with_context_window(32_000));
    let tiny = || targets()[0].clone().with_capabilities(Capabilities::new().with_context_window(1_000));
    vec![
        checked("requirements, model unknown, 1 KiB", 1 << 10, unknown),
        checked("requirements, model of the table, 1 KiB", 1 << 10, known),
        checked("requirements, model unknown, 100 KiB", 100 << 10, unknown),
        checked("requirements, model of the table, 100 KiB", 100 << 10, known),
        checked("requirements, all looked at, 1 KiB", 1 << 10, tiny),
        checked("requirements, all looked at, 100 KiB", 100 << 10, narrow),
        case(TIMEOUT, TimeoutLayer::new()),
        addressed("timeout, with a context", TimeoutLayer::new()),
        case(RETRY, RetryLayer::new()),
        addressed("retry, with a context", RetryLayer::new()),
        case(CIRCUIT_BREAKER, CircuitBreakerLayer::default()),
        addressed("circuit breaker, of target and provider", CircuitBreakerLayer::default()),
        case("rate limit, none set", RateLimitLayer::default()),
        case("rate limit, all set", RateLimitLayer::new(RateLimitRegistry::new(wide_limits()))),
        addressed("rate limit, none set for the target", RateLimitLayer::default()),
        case("fault injection, nothing injected", FaultInjectionLayer::new(&FaultSwitch::new())),
        addressed("capability filter", CapabilityFilterLayer::new()),
        case("requirements", RequirementsLayer::new().with_dialect(Dialect::OpenAiChat)),
        Case { name: "requirements, capability filter that looks", base: ADDRESSED, make: Box::new(restricted) },
        case("collect body", CollectBodyLayer::new()),
        case("catch error", CatchErrorLayer::new()),
        case("stream guard", StreamGuardLayer::new()),
        addressed("dispatch", DispatchLayer::new()),
        addressed("provider (stream guard, dispatch)", ProviderLayer::new()),
        case("failover", FailoverLayer::new(&route)),
        case("failover, counted", FailoverLayer::new(&route).with_statistics(&Statistics::default())),
        case(FIVE_LAYERS, five),
        case(STACK, FailoverStack::new(&route)),
        case("failover stack, counted", FailoverStack::new(&route).with_failover(counted)),
        streamed("stream: stream guard", StreamGuardLayer::new()),
        streamed("stream: failover stack", FailoverStack::new(&route)),
    ]
}

/// Every request but the first is a hit.
#[cfg(feature = "cache")]
fn cached() -> Vec<Case> {
    let layer = || tower_failover::CacheLayer::new(Duration::from_secs(3600));
    let never = |_: &tower_failover::cache::KeyedRequest<'_>| None;
    vec![
        case("cache, a hit", layer()),
        case("cache, not kept", layer().with_key(never)),
        streamed("stream: cache, a hit", layer()),
    ]
}

#[cfg(not(feature = "cache"))]
fn cached() -> Vec<Case> {
    Vec::new()
}

/// Limits that are counted and never reached.
pub(crate) fn wide_limits() -> Limits {
    let mut limits = Limits::default();
    limits.requests_per_minute = Some(NonZeroU32::MAX);
    limits.tokens_per_minute = Some(NonZeroU32::MAX);
    limits.max_concurrency = NonZeroU32::new(1024);
    limits
}

fn towers() -> Vec<Case> {
    vec![
        case(TOWER_TIMEOUT, tower::timeout::TimeoutLayer::new(HALF_A_MINUTE)),
        case(TOWER_RETRY, tower::retry::RetryLayer::new(TwoTries { again: 1, budget: None })),
        // This crate's retry always has one.
        case(
            "tower: retry with a budget",
            tower::retry::RetryLayer::new(TwoTries { again: 1, budget: Some(Arc::new(TpsBudget::default())) }),
        ),
        case("tower: concurrency limit", tower::limit::ConcurrencyLimitLayer::new(1024)),
        case("tower: filter", tower::filter::FilterLayer::new(Ok::<Request, BoxError>)),
    ]
}

/// As the documentation of `tower::retry` has it: each call is tried again once if it fails.
#[derive(Clone)]
struct TwoTries {
    again: u32,
    budget: Option<Arc<TpsBudget>>,
}

impl<E> Policy<Request, Response, E> for TwoTries {
    type Future = Ready<()>;

    fn retry(&mut self, _: &mut Request, result: &mut Result<Response, E>) -> Option<Ready<()>> {
        let failed = !matches!(result, Ok(response) if !response.status().is_server_error());
        if !failed {
            self.budget.iter().for_each(|budget| budget.deposit());
            return None;
        }
        if self.again == 0 || !self.budget.as_ref().is_none_or(|budget| budget.withdraw()) {
            return None;
        }
        self.again -= 1;
        Some(ready(()))
    }

    fn clone_request(&mut self, request: &Request) -> Option<Request> {
        Some(request.clone())
    }
}

fn resilience() -> Vec<Case> {
    vec![
        case("tower-resilience: time limiter", time_limiter()),
        case("tower-resilience: retry", retry_layer::<Infallible>()),
        case("tower-resilience: circuit breaker", circuit_breaker()),
        case("tower-resilience: bulkhead", bulkhead()),
        case(
            "tower-resilience: fallback",
            fallback::FallbackLayer::<Request, Response, Infallible>::value(Response::default()),
        ),
        case(
            "tower-resilience: fallback, retry, circuit breaker, time limiter, bulkhead",
            tower::layer::layer_fn(|upstream| {
                let service = time_limiter().layer(bulkhead().layer(upstream));
                let service = service.map_err(|error| -> Told { Told(error.to_string()) });
                let service = circuit_breaker().layer(service).map_err(|error| Told(error.to_string()));
                let service = retry_layer().layer(service);
                let fallback = fallback::FallbackLayer::<Request, Response, Told>::value(Response::default());
                fallback.layer(service)
            }),
        ),
    ]
}

/// An error that can be cloned, as retry and fallback want it.
#[derive(Clone, Debug)]
struct Told(String);

impl std::fmt::Display for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Told {}

fn time_limiter() -> timelimiter::TimeLimiterLayer<timelimiter::FixedTimeout> {
    timelimiter::TimeLimiterLayer::builder().timeout_duration(HALF_A_MINUTE).build()
}

fn retry_layer<E>() -> retry::RetryLayer<Request, Response, E> {
    let two_tries = retry::RetryLayer::builder().max_attempts(2);
    two_tries.exponential_backoff(Duration::from_millis(250)).build()
}

fn circuit_breaker() -> circuitbreaker::CircuitBreakerLayer<circuitbreaker::DefaultClassifier> {
    circuitbreaker::CircuitBreakerLayer::builder().build().unwrap()
}

fn bulkhead() -> bulkhead::BulkheadLayer {
    bulkhead::BulkheadLayer::builder().max_concurrent_calls(1024).build().unwrap()
}
