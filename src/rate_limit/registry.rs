//! The limits of all targets and providers.

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, OnceLock},
};

use tokio::sync::OwnedSemaphorePermit;

use crate::{
    Provider, Refusal, RequestContext, Requirements, Target, TargetId,
    keyed::Keyed,
    rate_limit::limiter::{Limiter, Limits},
    shared_state::{Fleet, Portion, Taken},
};

/// The limits of all targets and providers, and what is used of them: share one between the routes that share targets.
///
/// Cheap to clone. Finding a limit takes no lock; a new target's first call adds one.
#[derive(Clone)]
pub struct RateLimitRegistry {
    inner: Arc<Inner>,
    fleet: Option<Fleet>,
}

#[derive(Default)]
struct Inner {
    default: Limits,
    by_target: HashMap<Box<str>, Limits>,
    /// Made when the registry is: there are few providers, and each target of one has to find the same.
    providers: HashMap<Box<str>, Arc<Limiter>>,
    targets: Keyed<TargetId, Found>,
    nameless: OnceLock<Found>,
}

impl Inner {
    fn limits_nothing(&self) -> bool {
        self.default.is_none() && self.by_target.is_empty() && self.providers.is_empty()
    }
}

/// The limits that a call has to keep.
type Found = [Option<Arc<Limiter>>; 2];

/// What a call holds while it runs.
pub(super) type Held = [Option<OwnedSemaphorePermit>; 2];

impl RateLimitRegistry {
    /// The same limits for each target, and for calls that are for none.
    #[must_use]
    pub fn new(default: Limits) -> Self {
        RateLimitRegistry { inner: Arc::new(Inner { default, ..Inner::default() }), fleet: None }
    }

    /// Keeps requests and tokens per minute together with the other replicas of a fleet, by the names of targets and providers.
    /// Calls at a time are each replica's own.
    ///
    /// A call that is within the limits here then takes its part of what all may have, for which it waits as long as the
    /// [fleet's timeout](Fleet::with_timeout) says at most; without an answer by then, it goes on.
    #[must_use]
    pub fn with_fleet(self, fleet: &Fleet) -> Self {
        RateLimitRegistry { fleet: Some(fleet.clone()), ..self }
    }

    /// Limits of a target's own, by its [`TargetId`], instead of the default.
    ///
    /// Makes a new registry: what was used so far is not counted in it.
    #[must_use]
    pub fn with_target(self, id: impl Into<Box<str>>, limits: Limits) -> Self {
        self.rebuilt(|inner| _ = inner.by_target.insert(id.into(), limits))
    }

    /// Limits that all targets of a provider share, beside their own.
    ///
    /// Makes a new registry: what was used so far is not counted in it.
    #[must_use]
    pub fn with_provider(self, name: impl Into<Box<str>>, limits: Limits) -> Self {
        self.rebuilt(|inner| {
            let limiter = Limiter::new(&limits).map(Arc::new);
            inner.providers.extend(limiter.map(|limiter| (name.into(), limiter)));
        })
    }

    /// These providers' limits in the place of those before: for a configuration that is read again. What was used of a limit
    /// that stays the same still counts.
    #[must_use]
    pub fn with_providers<N: Into<Box<str>>>(&self, providers: impl IntoIterator<Item = (N, Limits)>) -> Self {
        let Inner { default, by_target, providers: old, targets: old_targets, .. } = &*self.inner;
        let inner = Inner { default: *default, by_target: by_target.clone(), ..Inner::default() };
        let providers = providers.into_iter().filter_map(|(name, limits)| {
            let name = name.into();
            let same = old.get(&name).filter(|limiter| *limiter.limits() == limits).cloned();
            Some((name, same.or_else(|| Limiter::new(&limits).map(Arc::new))?))
        });
        let inner = Inner { providers: providers.collect(), ..inner };
        // Those without limits of their own find their provider's by themselves.
        for (id, [own, _]) in old_targets.all().iter().filter(|(_, [own, _])| own.is_some()) {
            let provider = id.as_str().split('/').next().and_then(|name| inner.providers.get(name).cloned());
            inner.targets.with(id, || [own.clone(), provider], |_| ());
        }
        RateLimitRegistry { inner: Arc::new(inner), fleet: self.fleet.clone() }
    }

    /// The same limits, kept by this replica for itself.
    #[cfg(feature = "config")]
    pub(crate) fn alone(self) -> Self {
        RateLimitRegistry { fleet: None, ..self }
    }

    fn rebuilt(self, change: impl FnOnce(&mut Inner)) -> Self {
        let Inner { default, by_target, providers, .. } = &*self.inner;
        let (by_target, providers) = (by_target.clone(), providers.clone());
        let mut inner = Inner { default: *default, by_target, providers, ..Inner::default() };
        change(&mut inner);
        RateLimitRegistry { inner: Arc::new(inner), fleet: self.fleet }
    }

    /// What a call that is within its limits here has to ask the others for, if anything.
    pub(super) fn ask(&self, context: Option<&RequestContext>) -> Option<Asking> {
        let fleet = self.fleet.as_ref().filter(|_| !self.inner.limits_nothing())?;
        let tokens = || context.and_then(RequestContext::requirements).map_or(0, tokens);
        let target = context.and_then(RequestContext::target);
        let portions = self.with_limiters(target, |[own, provider]| {
            let mut portions = Vec::new();
            if let Some(limiter) = provider {
                let name = target.and_then(Target::provider).map_or("", Provider::name);
                limiter.limits().portions(&format!("provider/{name}"), tokens, &mut portions);
            }
            if let Some(limiter) = own {
                let name = target.map_or("", |target| target.id().as_str());
                limiter.limits().portions(&format!("target/{name}"), tokens, &mut portions);
            }
            portions
        });
        ask(fleet, portions)
    }

    /// Takes what a call needs of all limits that it has to keep.
    pub(super) fn take(&self, context: Option<&RequestContext>) -> Result<Held, Refusal> {
        if self.inner.limits_nothing() {
            return Ok(Held::default());
        }
        let tokens = || context.and_then(RequestContext::requirements).map_or(0, tokens);
        let take = |limiter: &Option<Arc<Limiter>>| limiter.as_ref().map_or(Ok(None), |limiter| limiter.take(tokens));
        self.with_limiters(context.and_then(RequestContext::target), |[own, provider]| {
            Ok([take(provider)?, take(own)?])
        })
    }

    fn with_limiters<T>(&self, target: Option<&Target>, read: impl FnOnce(&Found) -> T) -> T {
        let inner = &self.inner;
        let limiter = |limits| Limiter::new(limits).map(Arc::new);
        let Some(target) = target else {
            return read(inner.nameless.get_or_init(|| [limiter(&inner.default), None]));
        };
        let new = || {
            let provider = target.provider().and_then(|provider| inner.providers.get(provider.name()).cloned());
            [limiter(inner.by_target.get(target.id().as_str()).unwrap_or(&inner.default)), provider]
        };
        inner.targets.with(target.id(), new, read)
    }
}

/// Whether all replicas together have room for a call.
pub(crate) type Asking = Pin<Box<dyn Future<Output = Result<(), Refusal>> + Send>>;

/// Takes these portions of what all replicas may have. Who gets no answer in time goes by what is known here.
pub(crate) fn ask(fleet: &Fleet, mut portions: Vec<Portion>) -> Option<Asking> {
    portions.retain(|portion| portion.amount > 0);
    if portions.is_empty() {
        return None;
    }
    let fleet = fleet.clone();
    Some(Box::pin(async move {
        match fleet.take(&portions).await {
            Some(Taken::Nothing { retry_after }) => Err(Refusal::LimitReached { retry_after: Some(retry_after) }),
            Some(Taken::All) | None => Ok(()),
        }
    }))
}

/// How many tokens a call takes, as providers count them: its input, and the most that it asks to have answered.
pub(crate) fn tokens(needs: &Requirements) -> u64 {
    needs.input_tokens.saturating_add(needs.max_output_tokens.unwrap_or(0))
}

impl Default for RateLimitRegistry {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

impl fmt::Debug for RateLimitRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { default, by_target, .. } = &*self.inner;
        f.debug_struct("RateLimitRegistry")
            .field("default", default)
            .field("targets", by_target)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dialect, shared_state::InMemory};
    use std::num::NonZeroU32;

    fn limits(requests: u32) -> Limits {
        Limits { requests_per_minute: NonZeroU32::new(requests), ..Limits::default() }
    }

    fn taken(registry: &RateLimitRegistry, target: Option<&Target>) -> usize {
        let context = RequestContext::new();
        let context = target.map_or(context.clone(), |target| context.with_target(target.clone()));
        (0..100).take_while(|_| registry.take(Some(&context)).is_ok()).count()
    }

    #[tokio::test(start_paused = true)]
    async fn targets_have_their_own_limits_and_share_their_providers() {
        let provider = Provider::new("p", Dialect::OpenAiChat, "http://h").unwrap();
        let (a, b) = (Target::new(&provider, "a"), Target::new(&provider, "b"));
        let registry = RateLimitRegistry::default().with_provider("p", limits(5)).with_target("p/a", limits(3));
        assert_eq!(taken(&registry.clone(), Some(&a)), 3);
        // The fourth of `a` took one of the provider's too before its own limit refused it.
        assert_eq!(taken(&registry, Some(&b)), 1);
        assert_eq!(taken(&registry, Some(&Target::named("other"))), 100);
        assert_eq!(taken(&RateLimitRegistry::new(limits(2)), None), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_used_of_a_limit_outlives_a_new_configuration() {
        let provider = |name: &str| Provider::new(name, Dialect::OpenAiChat, "http://h").unwrap();
        let targets = ["p", "q", "r"].map(|name| Target::new(&provider(name), "a"));
        let old = RateLimitRegistry::default().with_provider("p", limits(5)).with_provider("q", limits(5));
        targets.iter().for_each(|target| _ = old.take(Some(&RequestContext::new().with_target(target.clone()))));
        let new = old.with_providers([("p", limits(5)), ("q", limits(3)), ("r", limits(2))]);
        assert_eq!(targets.each_ref().map(|target| taken(&new, Some(target))), [4, 3, 2]);
        let none = new.with_providers::<Box<str>>([]);
        assert_eq!(taken(&none, Some(&targets[0])), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_are_those_of_the_request() {
        let limits = Limits { tokens_per_minute: NonZeroU32::new(100), ..Limits::default() };
        let registry = RateLimitRegistry::new(limits);
        let context = RequestContext::new();
        let needs = Requirements { input_tokens: 30, max_output_tokens: Some(20), ..Requirements::default() };
        context.set_requirements(needs);
        assert_eq!((0..9).take_while(|_| registry.take(Some(&context)).is_ok()).count(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn replicas_keep_a_limit_together() {
        let state = InMemory::new();
        let [a, b] = [(); 2].map(|()| {
            let limits = Limits { tokens_per_minute: NonZeroU32::new(600), ..limits(60) };
            RateLimitRegistry::default().with_provider("p", limits).with_fleet(&Fleet::new(state.clone()))
        });
        let target = Target::new(&Provider::new("p", Dialect::OpenAiChat, "http://h").unwrap(), "m");
        let context = RequestContext::new().with_target(target);
        context.set_requirements(Requirements { input_tokens: 1, ..Requirements::default() });
        let mut passed = 0;
        for second in 0..600_u32 {
            for registry in if second % 3 == 0 { [&a, &b] } else { [&b, &b] } {
                let is_within = registry.take(Some(&context)).is_ok();
                passed += u32::from(is_within && registry.ask(Some(&context)).unwrap().await.is_ok());
            }
            tokio::time::advance(std::time::Duration::from_secs(1)).await;
        }
        // A minute's worth at once, and what ten minutes give back.
        assert!((656..=660).contains(&passed), "{passed}");
        assert!(a.ask(None).is_none(), "what has no limit asks nobody");
    }
}
