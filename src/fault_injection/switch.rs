//! What is injected, and when: the handle by which a layer is told while it runs.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use arc_swap::ArcSwap;

use crate::{Target, fault_injection::InjectedFault};

/// A fault, whom it hits and how often.
#[derive(Clone, Debug, PartialEq)]
pub struct Injection {
    fault: InjectedFault,
    whom: Whom,
    probability: f64,
}

#[derive(Clone, Debug, PartialEq)]
enum Whom {
    Everybody,
    Target(Box<str>),
    Provider(Box<str>),
}

impl Injection {
    /// For every call, whomever it is for.
    #[must_use]
    pub fn new(fault: InjectedFault) -> Self {
        Injection { fault, whom: Whom::Everybody, probability: 1.0 }
    }

    /// Only for calls of the target with that [id](crate::TargetId).
    #[must_use]
    pub fn of_target(mut self, id: impl Into<Box<str>>) -> Self {
        self.whom = Whom::Target(id.into());
        self
    }

    /// Only for calls of the targets of the provider with that name.
    #[must_use]
    pub fn of_provider(mut self, name: impl Into<Box<str>>) -> Self {
        self.whom = Whom::Provider(name.into());
        self
    }

    /// Only for that share of the calls, from 0 to 1; what is outside of that is taken as the nearer of both.
    #[must_use]
    pub fn with_probability(mut self, share: f64) -> Self {
        self.probability = if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) };
        self
    }

    fn is_for(&self, target: Option<&Target>) -> bool {
        match &self.whom {
            Whom::Everybody => true,
            Whom::Target(id) => target.is_some_and(|target| target.id().as_str() == &**id),
            Whom::Provider(name) => {
                target.and_then(Target::provider).is_some_and(|provider| provider.name() == &**name)
            }
        }
    }
}

/// Says what a [`FaultInjectionLayer`](super::FaultInjectionLayer) injects, from now on. Cheap to clone; clones work on the
/// same layers.
#[derive(Clone, Debug)]
pub struct FaultSwitch {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Whether there is any injection: all that is looked at while there is none.
    on: AtomicBool,
    injections: ArcSwap<Vec<Injection>>,
    seed: u64,
    /// How many dice were thrown.
    draws: AtomicU64,
    injected: AtomicU64,
}

impl FaultSwitch {
    /// Nothing is injected yet.
    #[must_use]
    pub fn new() -> Self {
        Self::with_seed(0)
    }

    /// Of injections that are for a share of the calls, the seed says which calls those are: the same ones each time, if the
    /// calls come in the same order.
    #[must_use]
    pub fn with_seed(seed: u64) -> Self {
        FaultSwitch {
            inner: Arc::new(Inner {
                on: AtomicBool::new(false),
                injections: ArcSwap::default(),
                seed,
                draws: AtomicU64::new(0),
                injected: AtomicU64::new(0),
            }),
        }
    }

    /// Adds an injection. A call meets the first one that is for it and, where it is for a share of the calls, hits it.
    pub fn inject(&self, injection: Injection) {
        self.inner.injections.rcu(|injections| {
            let mut more = Vec::clone(injections);
            more.push(injection.clone());
            more
        });
        self.inner.on.store(true, Ordering::Release);
    }

    /// Ends all injections. Calls that were hit already, and bodies that are to be cut, fail all the same.
    pub fn clear(&self) {
        self.inner.on.store(false, Ordering::Release);
        self.inner.injections.store(Arc::default());
    }

    /// How many calls were hit.
    #[must_use]
    pub fn injected(&self) -> u64 {
        self.inner.injected.load(Ordering::Relaxed)
    }

    pub(super) fn is_on(&self) -> bool {
        self.inner.on.load(Ordering::Relaxed)
    }

    /// What happens to a call of that target.
    pub(super) fn decide(&self, target: Option<&Target>) -> Option<InjectedFault> {
        let injections = self.inner.injections.load();
        let hit = |injection: &&Injection| injection.is_for(target) && self.hits(injection.probability);
        let fault = injections.iter().find(hit)?.fault.clone();
        self.inner.injected.fetch_add(1, Ordering::Relaxed);
        Some(fault)
    }

    fn hits(&self, probability: f64) -> bool {
        if probability >= 1.0 {
            return true;
        }
        let draw = self.inner.draws.fetch_add(1, Ordering::Relaxed);
        // The upper 53 bits, which are all that a share has.
        let share = (mixed(self.inner.seed, draw) >> 11) as f64 / (1_u64 << 53) as f64;
        share < probability
    }
}

impl Default for FaultSwitch {
    fn default() -> Self {
        Self::new()
    }
}

/// The number at that place of the seed's sequence: SplitMix64, which can be asked for any of them.
fn mixed(seed: u64, place: u64) -> u64 {
    let mut mixed = seed.wrapping_add(place.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dialect, Provider};

    fn target(provider: &str, model: &str) -> Target {
        Target::new(&Provider::new(provider, Dialect::OpenAiChat, "http://h").unwrap(), model)
    }

    #[test]
    fn an_injection_hits_only_whom_it_is_for() {
        let switch = FaultSwitch::new();
        switch.inject(Injection::new(InjectedFault::Hang).of_target("p/m"));
        switch.inject(Injection::new(InjectedFault::Down).of_provider("q"));
        assert_eq!(switch.decide(Some(&target("p", "m"))), Some(InjectedFault::Hang));
        assert_eq!(switch.decide(Some(&target("p", "n"))), None);
        assert_eq!(switch.decide(Some(&target("q", "n"))), Some(InjectedFault::Down));
        assert_eq!(switch.decide(None), None);
        switch.inject(Injection::new(InjectedFault::Reset));
        assert_eq!(switch.decide(None), Some(InjectedFault::Reset));
        assert_eq!(switch.injected(), 3);
        switch.clear();
        assert!(!switch.is_on());
        assert_eq!(switch.decide(None), None);
    }

    #[test]
    fn a_share_of_the_calls_is_that_share_and_the_same_calls_for_the_same_seed() {
        let hits = |seed, share| {
            let switch = FaultSwitch::with_seed(seed);
            switch.inject(Injection::new(InjectedFault::Down).with_probability(share));
            (0..2000).map(|_| switch.decide(None).is_some()).collect::<Vec<_>>()
        };
        let count = |hits: &[bool]| hits.iter().filter(|hit| **hit).count();
        assert_eq!(hits(7, 0.3), hits(7, 0.3));
        assert_ne!(hits(7, 0.3), hits(8, 0.3));
        assert!((500..700).contains(&count(&hits(7, 0.3))), "{}", count(&hits(7, 0.3)));
        assert_eq!([0.0, 1.0, f64::NAN, -1.0].map(|share| count(&hits(1, share))), [0, 2000, 0, 0]);
    }
}
