//! The usual composition of the layers, as one.

use tower_layer::Layer;

use crate::{
    Route,
    capability_filter::{CapabilityFilter, CapabilityFilterLayer},
    circuit_breaker::{CircuitBreaker, CircuitBreakerLayer, CircuitRegistry},
    failover::{Failover, FailoverLayer},
    provider::{Dispatch, ProviderLayer, Rotate, StreamGuard, Translate},
    rate_limit::{RateLimit, RateLimitLayer, RateLimitRegistry},
    retry::{Retry, RetryLayer},
    timeout::{Timeout, TimeoutLayer},
};

/// All layers in the order that works: failover, capability filter, retry, circuit breaker, rate limit,
/// timeout, provider.
///
/// Around an HTTP client it is a service that answers from whichever of a route's targets can:
///
/// ```
/// use tower::ServiceBuilder;
/// use tower_failover::{Dialect, FailoverStack, Provider, Route, Target};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let primary = Provider::new("primary", Dialect::OpenAiChat, "http://127.0.0.1:8001/v1")?;
/// let fallback = Provider::new("fallback", Dialect::OpenAiChat, "http://127.0.0.1:8002/v1")?;
/// let route = Route::new("chat", [Target::new(&primary, "gpt-4o"), Target::new(&fallback, "llama-3.3-70b")])?;
///
/// # let http_client = tower::service_fn(|_: http::Request<http_body_util::Full<bytes::Bytes>>| async {
/// #     Ok::<_, std::convert::Infallible>(http::Response::new(http_body_util::Full::<bytes::Bytes>::default()))
/// # });
/// let chat = ServiceBuilder::new().layer(FailoverStack::new(&route)).service(http_client);
/// # let _ = chat;
/// # Ok(()) }
/// ```
///
/// That is short for
///
/// ```text
/// ServiceBuilder::new()
///     .layer(FailoverLayer::new(&route))
///     .layer(CapabilityFilterLayer::new())
///     .layer(RetryLayer::new())
///     .layer(CircuitBreakerLayer::new(circuits))
///     .layer(RateLimitLayer::new(limits))
///     .layer(TimeoutLayer::new())
///     .layer(ProviderLayer::new())
///     .service(http_client)
/// ```
///
/// Routes that share targets should share a [`CircuitRegistry`] and a [`RateLimitRegistry`]: see
/// [`with_circuits`](Self::with_circuits) and [`with_limits`](Self::with_limits).
#[derive(Clone, Debug)]
pub struct FailoverStack {
    failover: FailoverLayer,
    retry: RetryLayer,
    breaker: CircuitBreakerLayer,
    limits: RateLimitLayer,
    timeout: TimeoutLayer,
    provider: ProviderLayer,
}

/// What a [`FailoverStack`] makes of a client.
pub type FailoverService<S> =
    Failover<CapabilityFilter<Retry<CircuitBreaker<RateLimit<Timeout<Translate<Rotate<StreamGuard<Dispatch<S>>>>>>>>>>;

impl FailoverStack {
    /// For a route, with every layer's defaults.
    #[must_use]
    pub fn new(route: &Route) -> Self {
        FailoverStack {
            failover: FailoverLayer::new(route),
            retry: RetryLayer::new(),
            breaker: CircuitBreakerLayer::default(),
            limits: RateLimitLayer::default(),
            timeout: TimeoutLayer::new(),
            provider: ProviderLayer::new(),
        }
    }

    /// Replaces the failover layer.
    #[must_use]
    pub fn with_failover(mut self, failover: FailoverLayer) -> Self {
        self.failover = failover;
        self
    }

    /// Replaces the retry layer.
    #[must_use]
    pub fn with_retry(mut self, retry: RetryLayer) -> Self {
        self.retry = retry;
        self
    }

    /// Keeps the circuits in a registry that others may share.
    #[must_use]
    pub fn with_circuits(mut self, circuits: CircuitRegistry) -> Self {
        self.breaker = CircuitBreakerLayer::new(circuits);
        self
    }

    /// Keeps within limits whose registry others may share. Without it there are none.
    #[must_use]
    pub fn with_limits(mut self, limits: RateLimitRegistry) -> Self {
        self.limits = RateLimitLayer::new(limits);
        self
    }

    /// Replaces the timeout layer.
    #[must_use]
    pub fn with_timeout(mut self, timeout: TimeoutLayer) -> Self {
        self.timeout = timeout;
        self
    }

    /// The places of the route's targets, in the order in which that request tries them.
    #[cfg(feature = "gateway")]
    pub(crate) fn order(&self, request: &crate::RequestContext) -> Vec<usize> {
        self.failover.order(request)
    }

    /// Replaces the provider layer.
    #[must_use]
    pub fn with_provider(mut self, provider: ProviderLayer) -> Self {
        self.provider = provider;
        self
    }
}

impl<S> Layer<S> for FailoverStack {
    type Service = FailoverService<S>;

    fn layer(&self, client: S) -> Self::Service {
        let client = self.limits.layer(self.timeout.layer(self.provider.layer(client)));
        let client = self.breaker.layer(client);
        self.failover.layer(CapabilityFilterLayer::new().layer(self.retry.layer(client)))
    }
}
