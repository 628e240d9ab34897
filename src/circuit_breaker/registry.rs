//! The circuits of all targets and providers.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, OnceLock},
};

use arc_swap::ArcSwap;

use crate::{
    Provider, Target, TargetId,
    circuit_breaker::{
        CircuitRules, CircuitState,
        circuit::{Circuit, CircuitSnapshot},
        permit::Permits,
    },
};

/// The circuits of all targets and providers: share one between the routes that share targets, and they share what they
/// learn.
///
/// Cheap to clone. Finding a circuit takes no lock; a new target's first call adds one.
#[derive(Clone)]
pub struct CircuitRegistry {
    inner: Arc<Inner>,
}

struct Inner {
    rules: CircuitRules,
    targets: ArcSwap<HashMap<TargetId, Circuits>>,
    providers: ArcSwap<HashMap<Box<str>, Arc<Circuit>>>,
    /// The circuit of calls that are for no target: of a client or server with a single upstream.
    nameless: OnceLock<Arc<Circuit>>,
}

/// The circuits that a call has to pass.
#[derive(Clone)]
pub(super) struct Circuits {
    target: Arc<Circuit>,
    provider: Option<Arc<Circuit>>,
}

impl CircuitRegistry {
    /// Circuits that open by these rules: [`CircuitSettings`](super::CircuitSettings) for all, or [`CircuitRules`].
    pub fn new(rules: impl Into<CircuitRules>) -> Self {
        let inner = Inner {
            rules: rules.into(),
            targets: ArcSwap::default(),
            providers: ArcSwap::default(),
            nameless: OnceLock::new(),
        };
        CircuitRegistry { inner: Arc::new(inner) }
    }

    /// What calls of a target meet: the more closed of its circuit and its provider's. One that was never called is closed.
    #[must_use]
    pub fn state(&self, target: &Target) -> CircuitState {
        let targets = self.inner.targets.load();
        let own = targets.get(target.id()).map(|circuits| circuits.target.state());
        let provider = target.provider().and_then(|provider| self.provider(provider.name())).map(|it| it.state());
        own.max(provider).unwrap_or(CircuitState::Closed)
    }

    /// Every circuit that has been called, or set by hand, as it is now.
    #[must_use]
    pub fn snapshot(&self) -> Vec<CircuitSnapshot> {
        let targets = self.inner.targets.load();
        let providers = self.inner.providers.load();
        let targets = targets.iter().map(|(id, circuits)| circuits.target.snapshot(Some(id.as_str()), None));
        let providers = providers.iter().map(|(name, circuit)| circuit.snapshot(None, Some(name)));
        let nameless = self.inner.nameless.get().map(|circuit| circuit.snapshot(None, None));
        let mut all: Vec<_> = targets.chain(providers).chain(nameless).collect();
        all.sort_by(|a, b| (&a.target, &a.provider).cmp(&(&b.target, &b.provider)));
        all
    }

    /// Opens a target's circuit until it is [closed](Self::close) or [half-opened](Self::half_open) by hand. Not even a
    /// last resort passes it.
    pub fn open(&self, target: &Target) {
        self.circuits(Some(target)).target.force_open();
    }

    /// Closes the circuits of a target and of its provider, and forgets what opened them.
    pub fn close(&self, target: &Target) {
        let circuits = self.circuits(Some(target));
        circuits.target.force_closed();
        circuits.provider.into_iter().for_each(|circuit| circuit.force_closed());
    }

    /// Lets a target's next call find out how it is, whatever is left of a cooldown.
    pub fn half_open(&self, target: &Target) {
        let circuits = self.circuits(Some(target));
        circuits.target.force_half_open();
        circuits.provider.into_iter().for_each(|circuit| circuit.force_half_open());
    }

    /// Admits a call to a target, or to a single upstream, by all circuits that it has to pass.
    pub(super) fn admit(&self, target: Option<&Target>, last_resort: bool) -> Result<Permits, crate::Refusal> {
        let Circuits { target, provider } = self.circuits(target);
        let provider = provider.map(|circuit| circuit.admit(last_resort)).transpose()?;
        Ok(Permits::new(target.admit(last_resort)?, provider))
    }

    fn circuits(&self, target: Option<&Target>) -> Circuits {
        let Some(target) = target else {
            let nameless = self.inner.nameless.get_or_init(|| Arc::new(Circuit::new(*self.inner.rules.general())));
            return Circuits { target: nameless.clone(), provider: None };
        };
        if let Some(circuits) = self.inner.targets.load().get(target.id()) {
            return circuits.clone();
        }
        self.add(target)
    }

    fn provider(&self, name: &str) -> Option<Arc<Circuit>> {
        self.inner.providers.load().get(name).cloned()
    }

    #[cold]
    fn add(&self, target: &Target) -> Circuits {
        let provider = target.provider().map(Provider::name).map(|name| {
            let new = Arc::new(Circuit::new(*self.inner.rules.of_provider(name)));
            insert(&self.inner.providers, name.into(), new)
        });
        let own = Arc::new(Circuit::new(*self.inner.rules.of_target(target.id())));
        insert(&self.inner.targets, target.id().clone(), Circuits { target: own, provider })
    }
}

/// Inserts a value unless another thread was first; returns the one that stands there.
fn insert<K: Clone + Eq + std::hash::Hash, V: Clone>(map: &ArcSwap<HashMap<K, V>>, key: K, value: V) -> V {
    map.rcu(|map| {
        let mut map = HashMap::clone(map);
        map.entry(key.clone()).or_insert_with(|| value.clone());
        map
    });
    map.load().get(&key).cloned().unwrap_or(value)
}

impl Default for CircuitRegistry {
    fn default() -> Self {
        Self::new(CircuitRules::default())
    }
}

impl fmt::Debug for CircuitRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.snapshot()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dialect, Fault, FaultKind, circuit_breaker::CircuitSettings};

    fn provider(name: &str) -> Provider {
        Provider::new(name, Dialect::OpenAiChat, "http://h").unwrap()
    }

    fn touchy() -> CircuitSettings {
        CircuitSettings { failures: 1, ..CircuitSettings::default() }
    }

    fn fail(registry: &CircuitRegistry, target: &Target, kind: FaultKind) {
        registry.admit(Some(target), false).unwrap().fail(&Fault::new(kind, "x"));
    }

    #[test]
    fn a_target_has_its_own_rules_and_clones_share_its_circuit() {
        let registry = CircuitRegistry::new(CircuitRules::default().with_target("a", touchy()));
        let (a, b) = (Target::named("a"), Target::named("b"));
        for target in [&a, &b] {
            fail(&registry.clone(), target, FaultKind::Unavailable);
        }
        assert_eq!((registry.state(&a), registry.state(&b)), (CircuitState::Open, CircuitState::Closed));
        assert!(registry.admit(Some(&Target::named("a")), false).is_err());
    }

    #[test]
    fn what_is_the_providers_fault_closes_all_of_its_targets() {
        let registry = CircuitRegistry::new(touchy());
        let (p, q) = (provider("p"), provider("q"));
        let targets = [Target::new(&p, "1"), Target::new(&p, "2"), Target::new(&q, "1")];
        fail(&registry, &targets[0], FaultKind::Unavailable);
        let states = |registry: &CircuitRegistry| targets.each_ref().map(|target| registry.state(target));
        use CircuitState::{Closed, Open};
        assert_eq!(states(&registry), [Open, Closed, Closed]);
        for kind in [FaultKind::Connect, FaultKind::AuthFailed, FaultKind::QuotaExhausted] {
            let registry = CircuitRegistry::new(touchy());
            fail(&registry, &targets[0], kind);
            assert_eq!(states(&registry)[..2], [Open, Open][..], "{kind}");
            assert!(registry.admit(Some(&targets[1]), false).is_err(), "{kind}");
            assert!(registry.admit(Some(&targets[2]), false).is_ok(), "{kind}");
        }
    }

    #[test]
    fn circuits_can_be_set_by_hand() {
        let registry = CircuitRegistry::default();
        let target = Target::new(&provider("p"), "m");
        registry.open(&target);
        assert!(registry.admit(Some(&target), true).is_err());
        registry.half_open(&target);
        let probe = registry.admit(Some(&target), false).unwrap();
        assert!(registry.admit(Some(&target), false).is_err());
        drop(probe);
        registry.close(&target);
        assert_eq!(registry.state(&target), CircuitState::Closed);
        let names: Vec<_> = registry.snapshot().into_iter().map(|it| (it.target, it.provider)).collect();
        assert_eq!(names, [(None, Some("p".into())), (Some("p/m".into()), None)]);
    }
}
