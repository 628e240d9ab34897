use std::{sync::Arc, time::Duration};

use tower_layer::Layer;

use crate::{FailoverAdvice, FaultKind, FaultKinds, Route, StatusClassifier, failover::Failover};

/// Walks a route's targets until one answers: see the [module](crate::failover).
#[derive(Clone, Debug)]
pub struct FailoverLayer<C = StatusClassifier> {
    policy: Arc<Policy>,
    classifier: C,
}

#[derive(Clone, Debug)]
pub(super) struct Policy {
    pub(super) route: Route,
    pub(super) failover_on: FaultKinds,
    pub(super) last_resort: bool,
    pub(super) total: Duration,
    pub(super) max_body: usize,
}

impl FailoverLayer {
    /// Fails over as the [fault table](FaultKind::policy) says, within 10 min in all, with bodies of up to 32 MiB.
    #[must_use]
    pub fn new(route: &Route) -> Self {
        let fails_over = |kind: &FaultKind| {
            matches!(kind.policy().failover, FailoverAdvice::Yes | FailoverAdvice::LargerContextWindow)
        };
        let policy = Policy {
            route: route.clone(),
            failover_on: FaultKind::ALL.iter().copied().filter(fails_over).collect(),
            last_resort: true,
            total: Duration::from_secs(600),
            max_body: 32 << 20,
        };
        FailoverLayer { policy: Arc::new(policy), classifier: StatusClassifier }
    }
}

impl<C> FailoverLayer<C> {
    /// Fails over on these kinds only. A context that was too long still goes to larger windows only; and a request that was
    /// translated for a target, which then calls it wrong, always goes on to the next.
    #[must_use]
    pub fn with_failover_on(mut self, kinds: FaultKinds) -> Self {
        Arc::make_mut(&mut self.policy).failover_on = kinds;
        self
    }

    /// Whether to try the target that recovers soonest when open circuits refuse all of them. Default: yes.
    #[must_use]
    pub fn with_last_resort(mut self, last_resort: bool) -> Self {
        Arc::make_mut(&mut self.policy).last_resort = last_resort;
        self
    }

    /// How long a request may take in all, where its context has no [`Deadline`](crate::Deadline).
    #[must_use]
    pub fn with_total(mut self, total: Duration) -> Self {
        Arc::make_mut(&mut self.policy).total = total;
        self
    }

    /// How many bytes a request's body may have; a longer one is answered with 413.
    #[must_use]
    pub fn with_max_body(mut self, bytes: usize) -> Self {
        Arc::make_mut(&mut self.policy).max_body = bytes;
        self
    }

    /// Tells failures from answers in another way.
    #[must_use]
    pub fn with_classifier<D>(self, classifier: D) -> FailoverLayer<D> {
        FailoverLayer { policy: self.policy, classifier }
    }
}

#[cfg(test)]
impl<C> FailoverLayer<C> {
    pub(super) fn policy(&self) -> Arc<Policy> {
        self.policy.clone()
    }
}

impl<S, C: Clone> Layer<S> for FailoverLayer<C> {
    type Service = Failover<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        Failover::new(inner, self.policy.clone(), self.classifier.clone())
    }
}
