use tower_layer::Layer;

use crate::{
    StatusClassifier,
    circuit_breaker::{CircuitBreaker, CircuitRegistry},
};

/// Keeps calls away from targets that fail: see the [module](crate::circuit_breaker).
#[derive(Clone, Debug)]
pub struct CircuitBreakerLayer<C = StatusClassifier> {
    circuits: CircuitRegistry,
    classifier: C,
}

impl CircuitBreakerLayer {
    /// With these circuits, which every service that the layer makes shares.
    #[must_use]
    pub fn new(circuits: CircuitRegistry) -> Self {
        CircuitBreakerLayer { circuits, classifier: StatusClassifier }
    }
}

// For this classifier only, or the type of `CircuitBreakerLayer::default()` could not be inferred.
impl Default for CircuitBreakerLayer {
    fn default() -> Self {
        Self::new(CircuitRegistry::default())
    }
}

impl<C> CircuitBreakerLayer<C> {
    /// Tells failures from answers in another way.
    #[must_use]
    pub fn with_classifier<D>(self, classifier: D) -> CircuitBreakerLayer<D> {
        CircuitBreakerLayer { circuits: self.circuits, classifier }
    }
}

impl<S, C: Clone> Layer<S> for CircuitBreakerLayer<C> {
    type Service = CircuitBreaker<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        CircuitBreaker::new(inner, self.circuits.clone(), self.classifier.clone())
    }
}
