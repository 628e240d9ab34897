//! From settings to layers.

use std::future::Future;

use super::{Config, Policy, RouteConfig, SharedStateSettings, StreamRecovery, strategy::Leads};
use crate::{
    FailoverStack, Observer, ProviderLayer, RateLimitsRegistry, RecoveryLayer, Statistics,
    cache::CacheStore,
    circuit_breaker::{CircuitRegistry, CircuitRules},
    failover::{FailoverLayer, Latencies},
    observer::Observers,
    provider::Commit,
    rate_limit::RateLimitRegistry,
    retry::{Backoff, RetryBudget, RetryLayer},
    shared_state::Fleet,
    timeout::TimeoutLayer,
};

impl Config {
    /// What the stacks of all routes are to share. Each call makes it anew.
    #[must_use]
    pub fn shared(&self) -> Shared {
        let limits = self
            .provider_limits
            .iter()
            .fold(RateLimitRegistry::default(), |limits, (name, most)| limits.with_provider(name.as_str(), *most));
        let fleet = self.fleet(None);
        Shared {
            circuits: CircuitRegistry::new(self.circuit_rules()),
            limits: self.limits_shared(limits, fleet.as_ref()),
            rate_limits: RateLimitsRegistry::default(),
            latencies: Latencies::default(),
            leads: Leads::default(),
            statistics: Statistics::default(),
            observers: Observers::default(),
            cache: self.cache_shared(self.cache_store(None), fleet.as_ref()),
            fleet: fleet.zip(self.shared_state.clone()),
        }
    }

    /// The same for a configuration that takes the place of another one: what the stacks of that one share and have learnt,
    /// as far as it is still there, by the names of targets and providers. Stacks of both may run side by side.
    #[must_use]
    pub fn shared_after(&self, before: &Shared) -> Shared {
        let fleet = self.fleet(Some(before));
        let limits = self.provider_limits.iter().map(|(name, most)| (name.as_str(), *most));
        Shared {
            circuits: before.circuits.with_rules(self.circuit_rules()),
            limits: self.limits_shared(before.limits.with_providers(limits), fleet.as_ref()),
            cache: self.cache_shared(self.cache_store(before.cache.as_ref()), fleet.as_ref()),
            fleet: fleet.zip(self.shared_state.clone()),
            leads: before.leads.kept(&self.routes),
            ..before.clone()
        }
    }

    fn limits_shared(&self, limits: RateLimitRegistry, fleet: Option<&Fleet>) -> RateLimitRegistry {
        match fleet.filter(|_| self.shared_state.as_ref().is_some_and(|settings| settings.limits)) {
            Some(fleet) => limits.with_fleet(fleet),
            None => limits.alone(),
        }
    }

    fn cache_shared(&self, store: Option<CacheStore>, fleet: Option<&Fleet>) -> Option<CacheStore> {
        match fleet.filter(|_| self.shared_state.as_ref().is_some_and(|settings| settings.cache)) {
            Some(fleet) => Some(store?.with_fleet(fleet)),
            None => Some(store?.alone()),
        }
    }

    fn circuit_rules(&self) -> CircuitRules {
        let rules = CircuitRules::from(self.default_breaker);
        let rules = self.breakers.iter().fold(rules, |rules, (id, settings)| rules.with_target(id.as_str(), *settings));
        let providers = self.provider_breakers.iter();
        providers.fold(rules, |rules, (name, settings)| rules.with_provider(name.as_str(), *settings))
    }
}

/// What the routes of a configuration share.
#[derive(Clone, Debug)]
pub struct Shared {
    /// The circuits of all targets and providers.
    pub circuits: CircuitRegistry,
    /// The limits of all providers.
    pub limits: RateLimitRegistry,
    /// What all providers say is left of theirs.
    pub rate_limits: RateLimitsRegistry,
    latencies: Latencies,
    /// Who leads where `adaptive` chooses.
    leads: Leads,
    /// What became of the calls of all routes and targets.
    pub statistics: Statistics,
    /// What answers are kept in, where a route keeps them.
    pub cache: Option<CacheStore>,
    /// What is shared with other replicas, and how.
    pub(super) fleet: Option<(Fleet, SharedStateSettings)>,
    observers: Observers,
}

impl Shared {
    /// Tells somebody what happens to circuits, and of the checks of targets.
    #[cfg(feature = "gateway")]
    pub(crate) fn with_observer_of_circuits(mut self, observer: impl Observer) -> Self {
        self.circuits = self.circuits.with_observer(observer);
        self
    }

    /// This replica's end of what is shared with others, if anything is.
    #[must_use]
    pub fn fleet(&self) -> Option<&Fleet> {
        self.fleet.as_ref().map(|(fleet, _)| fleet)
    }

    /// The same where limits are shared.
    #[cfg(feature = "gateway")]
    pub(crate) fn fleet_of_limits(&self) -> Option<&Fleet> {
        self.fleet.as_ref().filter(|(_, settings)| settings.limits).map(|(fleet, _)| fleet)
    }

    /// Tells other replicas of open circuits, and learns of theirs, as long as these circuits are in use; `None` where that is
    /// not wanted. Nobody need wait for it: spawn it. See [`CircuitRegistry::share`].
    #[must_use]
    pub fn share_circuits(&self) -> Option<impl Future<Output = ()> + Send + use<>> {
        let (fleet, _) = self.fleet.as_ref().filter(|(_, settings)| settings.circuits)?;
        Some(self.circuits.share(fleet))
    }

    /// Tells somebody, besides those that are told already, what happens to requests and to circuits. The circuits know no
    /// calls yet, and stacks that were made before are not heard of: this is said before the first.
    #[must_use]
    pub fn with_observer(mut self, observer: impl Observer + Clone) -> Self {
        self.circuits = self.circuits.with_observer(observer.clone());
        self.observers.add(observer);
        self
    }
}

impl RouteConfig {
    /// The layer that completes streams which break off, to be put around [`stack`](Self::stack), where the route says
    /// so.
    #[must_use]
    pub fn recovery(&self, max_body: usize) -> Option<RecoveryLayer> {
        let resumes = self.policy.stream_recovery == StreamRecovery::Resume;
        resumes.then(|| RecoveryLayer::new().with_max_body(max_body))
    }

    /// The layers that serve the route, to be put around an HTTP client. `max_body` is [`Config::max_body`].
    #[must_use]
    pub fn stack(&self, shared: &Shared, max_body: usize) -> FailoverStack {
        let Policy { choice, failover_on, last_resort, ramp, commit, meter_streams, timeout, retry, .. } = &self.policy;
        // The first that is seen of a stream that is committed when complete is all of it.
        let first_output = match commit {
            Commit::Complete => timeout.response,
            _ => timeout.first_output,
        };
        let provider = ProviderLayer::new()
            .with_first_output(timeout.first_output)
            .with_idle(timeout.idle)
            .with_commit(*commit)
            .with_meter_streams(*meter_streams)
            .with_rate_limits(shared.rate_limits.clone());
        let failover = FailoverLayer::new(&self.route)
            .with_failover_on(*failover_on)
            .with_last_resort(*last_resort)
            .with_ramp(*ramp)
            .with_total(timeout.total)
            .with_max_body(max_body)
            .with_statistics(&shared.statistics)
            .with_rate_limits(&shared.rate_limits)
            .with_observers(&shared.observers);
        let failover = choice.apply(failover, &self.route, &shared.statistics, &shared.latencies, &shared.leads);
        let retry = RetryLayer::new()
            .with_attempts(retry.attempts)
            .with_backoff(Backoff::new(retry.base_delay, retry.max_delay))
            .with_max_retry_after(retry.max_retry_after)
            .with_budget(RetryBudget::new(retry.budget));
        let timeout =
            TimeoutLayer::new().with_first_output(first_output).with_response(timeout.response).with_idle(timeout.idle);
        FailoverStack::new(&self.route)
            .with_provider(provider)
            .with_failover(failover)
            .with_retry(retry)
            .with_circuits(shared.circuits.clone())
            .with_limits(shared.limits.clone())
            .with_timeout(timeout)
    }
}
