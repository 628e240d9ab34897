use std::sync::Arc;

use tower_layer::Layer;

use crate::{Observer, Route, observer::Observers, telemetry::Telemetry};

/// Tells what becomes of requests: see the [module](crate::telemetry).
#[derive(Clone, Debug)]
pub struct TelemetryLayer {
    pub(super) route: Arc<str>,
    pub(super) observers: Observers,
}

impl TelemetryLayer {
    /// For the requests of a route.
    #[must_use]
    pub fn new(route: &Route) -> Self {
        Self::named(route.shared_name())
    }

    /// For requests that are for no [`Route`]: of a client with a single upstream, say. The name is told to metrics, so it must
    /// not come from a request.
    #[must_use]
    pub fn named(route: impl Into<Arc<str>>) -> Self {
        TelemetryLayer { route: route.into(), observers: Observers::default() }
    }

    /// Tells somebody, besides those that are told already, of requests, and of everything that the layers inside do for them.
    /// Whoever is told here need not be told by a layer inside as well.
    #[must_use]
    pub fn with_observer(mut self, observer: impl Observer) -> Self {
        self.observers.add(observer);
        self
    }
}

impl<S> Layer<S> for TelemetryLayer {
    type Service = Telemetry<S>;

    fn layer(&self, inner: S) -> Telemetry<S> {
        Telemetry::new(inner, self.clone())
    }
}
