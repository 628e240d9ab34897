use tower_layer::Layer;

use crate::rate_limit::{RateLimit, RateLimitRegistry};

/// Keeps within limits of our own: see the [module](crate::rate_limit).
#[derive(Clone, Debug, Default)]
pub struct RateLimitLayer {
    limits: RateLimitRegistry,
}

impl RateLimitLayer {
    /// With these limits, which every service that the layer makes shares.
    #[must_use]
    pub fn new(limits: RateLimitRegistry) -> Self {
        RateLimitLayer { limits }
    }
}

impl<S> Layer<S> for RateLimitLayer {
    type Service = RateLimit<S>;

    fn layer(&self, inner: S) -> RateLimit<S> {
        RateLimit::new(inner, self.limits.clone())
    }
}
