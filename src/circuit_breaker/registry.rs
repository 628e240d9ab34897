//! The circuits of all targets.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, OnceLock},
};

use arc_swap::ArcSwap;

use crate::{
    Target, TargetId,
    circuit_breaker::{CircuitSettings, CircuitState, circuit::Circuit},
};

/// The circuits of all targets: share one between the routes that share targets, and they share what they learn.
///
/// Cheap to clone. Finding a circuit takes no lock; a new target's first call adds one.
#[derive(Clone)]
pub struct CircuitRegistry {
    inner: Arc<Inner>,
}

struct Inner {
    default: CircuitSettings,
    by_target: HashMap<Box<str>, CircuitSettings>,
    circuits: ArcSwap<HashMap<TargetId, Arc<Circuit>>>,
    /// The circuit of calls that are for no target: of a client or server with a single upstream.
    nameless: OnceLock<Arc<Circuit>>,
}

impl CircuitRegistry {
    /// Circuits that all open by the same rules.
    #[must_use]
    pub fn new(settings: CircuitSettings) -> Self {
        Self::with_targets(settings, std::iter::empty::<(&str, _)>())
    }

    /// Circuits of which some, named by [`TargetId`], open by rules of their own.
    pub fn with_targets<I, S>(settings: CircuitSettings, by_target: I) -> Self
    where
        I: IntoIterator<Item = (S, CircuitSettings)>,
        S: Into<Box<str>>,
    {
        let by_target = by_target.into_iter().map(|(id, settings)| (id.into(), settings)).collect();
        let (circuits, nameless) = (ArcSwap::default(), OnceLock::new());
        CircuitRegistry { inner: Arc::new(Inner { default: settings, by_target, circuits, nameless }) }
    }

    /// The state of a target's circuit. One that was never called is closed.
    #[must_use]
    pub fn state(&self, target: &Target) -> CircuitState {
        self.inner.circuits.load().get(target.id()).map_or(CircuitState::Closed, |circuit| circuit.state())
    }

    pub(crate) fn circuit(&self, target: Option<&Target>) -> Arc<Circuit> {
        let Some(target) = target else {
            return self.inner.nameless.get_or_init(|| Arc::new(Circuit::new(self.inner.default))).clone();
        };
        if let Some(circuit) = self.inner.circuits.load().get(target.id()) {
            return circuit.clone();
        }
        self.add(target)
    }

    #[cold]
    fn add(&self, target: &Target) -> Arc<Circuit> {
        let settings = self.inner.by_target.get(target.id().as_str()).unwrap_or(&self.inner.default);
        let new = Arc::new(Circuit::new(*settings));
        self.inner.circuits.rcu(|circuits| {
            let mut circuits = HashMap::clone(circuits);
            circuits.entry(target.id().clone()).or_insert_with(|| new.clone());
            circuits
        });
        // Another thread may have been first: its circuit is the one that stands there.
        self.inner.circuits.load().get(target.id()).cloned().unwrap_or(new)
    }
}

impl Default for CircuitRegistry {
    fn default() -> Self {
        Self::new(CircuitSettings::default())
    }
}

impl fmt::Debug for CircuitRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let circuits = self.inner.circuits.load();
        f.debug_map().entries(circuits.iter().map(|(id, circuit)| (id, circuit.state()))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_has_one_circuit_and_its_own_rules() {
        let own = CircuitSettings { failures: 1, ..CircuitSettings::default() };
        let registry = CircuitRegistry::with_targets(CircuitSettings::default(), [("a", own)]);
        let (a, b) = (Target::named("a"), Target::named("b"));
        assert!(Arc::ptr_eq(&registry.circuit(Some(&a)), &registry.clone().circuit(Some(&Target::named("a")))));
        assert!(Arc::ptr_eq(&registry.circuit(None), &registry.circuit(None)));
        for target in [&a, &b] {
            let fault = crate::Fault::new(crate::FaultKind::Unavailable, "500");
            registry.circuit(Some(target)).admit(false).unwrap().fail(&fault);
        }
        assert_eq!((registry.state(&a), registry.state(&b)), (CircuitState::Open, CircuitState::Closed));
    }
}
