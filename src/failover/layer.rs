use std::{sync::Arc, time::Duration};

use tower_layer::Layer;

use crate::{
    FailoverAdvice, FaultKind, FaultKinds, Observer, RateLimitsRegistry, Route, Statistics, StatusClassifier,
    failover::{Failover, Hedge, Strategy, outlook::Outlook},
    observer::Observers,
    statistics::Recorder,
};

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
    pub(super) ramp: bool,
    pub(super) total: Duration,
    pub(super) max_body: usize,
    /// `None`: as the route lists them.
    pub(super) strategy: Option<Arc<dyn Strategy>>,
    pub(super) hedge: Option<Hedge>,
    pub(super) observers: Observers,
    pub(super) statistics: Option<Recorder>,
    pub(super) outlook: Outlook,
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
            ramp: false,
            total: Duration::from_secs(600),
            max_body: 32 << 20,
            strategy: None,
            hedge: None,
            observers: Observers::default(),
            statistics: None,
            outlook: Outlook::default(),
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

    /// Whether a fallback that suddenly gets the requests of another is given them little by little: in each five seconds twice
    /// as many calls as in the five before, or ten. What is beyond goes to the targets behind it, and to it all the same when
    /// those fail or there are none: no request is refused for it. Needs [statistics](Self::with_statistics). Default: no.
    #[must_use]
    pub fn with_ramp(mut self, ramp: bool) -> Self {
        Arc::make_mut(&mut self.policy).ramp = ramp;
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

    /// In which order the targets are tried. Default: as the route lists them.
    #[must_use]
    pub fn with_strategy(mut self, strategy: impl Strategy) -> Self {
        Arc::make_mut(&mut self.policy).strategy = Some(Arc::new(strategy));
        self
    }

    /// Tries another target beside one that is slow. Default: not.
    #[must_use]
    pub fn with_hedge(mut self, hedge: Hedge) -> Self {
        Arc::make_mut(&mut self.policy).hedge = Some(hedge);
        self
    }

    /// Tells somebody, besides those that are told already, what becomes of requests and their attempts.
    #[must_use]
    pub fn with_observer(mut self, observer: impl Observer) -> Self {
        Arc::make_mut(&mut self.policy).observers.add(observer);
        self
    }

    #[cfg(feature = "config")]
    pub(crate) fn with_observers(mut self, observers: &Observers) -> Self {
        Arc::make_mut(&mut self.policy).observers.add_all(observers);
        self
    }

    /// Counts what becomes of requests and their attempts. Routes that share targets share one.
    ///
    /// A request that says how long its first output
    /// [may take](crate::Requirements::max_time_to_first_output) then tries those targets last that lately missed that with
    /// more than 5 of 100 streams.
    #[must_use]
    pub fn with_statistics(mut self, statistics: &Statistics) -> Self {
        let recorder = statistics.recorder(&self.policy.route);
        let policy = Arc::make_mut(&mut self.policy);
        policy.statistics = Some(recorder);
        policy.outlook.watch_latencies(&policy.route, statistics);
        self
    }

    /// Tries the targets last whose providers say that nearly nothing is left of their rate limits, less than 5 of 100, before
    /// they refuse; until the limits are said to be full again. Default: not.
    #[must_use]
    pub fn with_rate_limits(mut self, limits: &RateLimitsRegistry) -> Self {
        let policy = Arc::make_mut(&mut self.policy);
        policy.outlook.watch_limits(&policy.route, limits);
        self
    }

    /// The places of the route's targets, in the order in which that request tries them.
    #[cfg(feature = "gateway")]
    pub(crate) fn order(&self, request: &crate::RequestContext) -> Vec<usize> {
        let Policy { route, strategy, .. } = &*self.policy;
        let order = match strategy {
            None => crate::failover::Order::as_listed(route),
            Some(strategy) => strategy.order(route, request),
        };
        (0..order.len()).filter_map(|rank| order.get(rank)).collect()
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
