//! The circuits of all targets and providers.

use std::{
    fmt,
    future::Future,
    sync::{Arc, OnceLock, atomic::Ordering},
};

use crate::{
    Observer, Provider, Refusal, Target, TargetId,
    circuit_breaker::{
        CircuitRules, CircuitSettings, CircuitState,
        circuit::{Circuit, CircuitSnapshot, Listeners},
        exchange::{self, Exchange},
        permit::{Permit, Permits},
    },
    keyed::Keyed,
    observer::Observers,
    shared_state::Fleet,
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
    observers: Observers,
    targets: Keyed<TargetId, Circuits>,
    providers: Keyed<String, Arc<Circuit>>,
    /// The circuit of calls that are for no target: of a client or server with a single upstream.
    nameless: OnceLock<Circuits>,
    /// What other replicas say.
    exchange: Arc<Exchange>,
}

/// The circuits that a call has to pass.
#[derive(Clone)]
pub(super) struct Circuits {
    pub(super) target: Arc<Circuit>,
    pub(super) provider: Option<Arc<Circuit>>,
}

impl CircuitRegistry {
    /// Circuits that open by these rules: [`CircuitSettings`](super::CircuitSettings) for all, or [`CircuitRules`].
    pub fn new(rules: impl Into<CircuitRules>) -> Self {
        Self::build(rules.into(), Observers::default(), Arc::default())
    }

    /// A registry of the same rules that tells somebody, besides those that are told already, when a circuit opens, closes
    /// or half-opens: [`Event::CircuitChanged`](crate::Event::CircuitChanged). It knows no calls yet, so this is said before the
    /// registry is shared.
    #[must_use]
    pub fn with_observer(&self, observer: impl Observer) -> Self {
        let mut observers = self.inner.observers.clone();
        observers.add(observer);
        Self::build(self.inner.rules.clone(), observers, Arc::default())
    }

    fn build(rules: CircuitRules, observers: Observers, exchange: Arc<Exchange>) -> Self {
        let inner = Inner {
            rules,
            observers,
            exchange,
            targets: Keyed::default(),
            providers: Keyed::default(),
            nameless: OnceLock::new(),
        };
        CircuitRegistry { inner: Arc::new(inner) }
    }

    /// What calls of a target meet: the more closed of its circuit and its provider's. One that was never called is closed.
    #[must_use]
    pub fn state(&self, target: &Target) -> CircuitState {
        self.state_of(target.id(), target.provider().map(Provider::name))
    }

    /// The same by the names of a target and of its provider.
    pub(crate) fn state_of(&self, target: &TargetId, provider: Option<&str>) -> CircuitState {
        let own = self.inner.targets.all().get(target).map(|circuits| circuits.target.state());
        let providers = self.inner.providers.all();
        let provider = provider.and_then(|provider| providers.get(provider)).map(|it| it.state());
        own.max(provider).unwrap_or(CircuitState::Closed)
    }

    /// Every circuit that has been called, or set by hand, as it is now.
    #[must_use]
    pub fn snapshot(&self) -> Vec<CircuitSnapshot> {
        let (targets, providers) = (self.inner.targets.all(), self.inner.providers.all());
        let targets = targets.iter().map(|(id, circuits)| circuits.target.snapshot(Some(id.as_str()), None));
        let providers = providers.iter().map(|(name, circuit)| circuit.snapshot(None, Some(name)));
        let nameless = self.inner.nameless.get().map(|circuits| circuits.target.snapshot(None, None));
        let mut all: Vec<_> = targets.chain(providers).chain(nameless).collect();
        all.sort_by(|a, b| (&a.target, &a.provider).cmp(&(&b.target, &b.provider)));
        all
    }

    /// Opens a target's circuit for [`long_open`](super::CircuitSettings::long_open), after which a probe finds out how it is,
    /// as usual. A last resort passes it, and answers that have begun are not touched. One that is drained stays so.
    pub fn open(&self, target: &Target) {
        self.with_circuits(Some(target), |circuits| circuits.target.force_open());
    }

    /// Sends a target nothing any more, not even as a last resort, until its circuit is [closed](Self::close) by hand. Answers
    /// that have begun are finished.
    pub fn drain(&self, target: &Target) {
        self.with_circuits(Some(target), |circuits| circuits.target.drain());
    }

    /// Whether a target is [drained](Self::drain).
    #[must_use]
    pub fn is_drained(&self, target: &Target) -> bool {
        let targets = self.inner.targets.all();
        targets.get(target.id()).is_some_and(|circuits| circuits.target.snapshot(None, None).drained)
    }

    /// Closes the circuits of a target and of its provider, and forgets what opened them; ends a [drain](Self::drain).
    pub fn close(&self, target: &Target) {
        self.with_circuits(Some(target), |circuits| {
            circuits.target.force_closed();
            circuits.provider.iter().for_each(|circuit| circuit.force_closed());
        });
    }

    /// Lets a target's next call find out how it is, whatever is left of a cooldown. One that is drained stays so.
    pub fn half_open(&self, target: &Target) {
        self.with_circuits(Some(target), |circuits| {
            circuits.target.force_half_open();
            circuits.provider.iter().for_each(|circuit| circuit.force_half_open());
        });
    }

    /// Shares these circuits with the other replicas of a fleet, for as long as anybody has the registry. Nobody need wait for
    /// it: spawn it. Of several for one registry, or for those that [`with_rules`](Self::with_rules) makes of it, the last
    /// goes on.
    ///
    /// It tells the others at once which circuits have opened here for failures, and which have closed, and learns the same of
    /// theirs four times a second; no call waits for that. A circuit that is open elsewhere holds calls back here, as long as it does
    /// there; a last resort passes it as any other. Near the end of its time one replica that has calls for it takes the turn
    /// to probe, while the others hold on; when a probe is answered, all know. What happened here stands: a circuit
    /// that failed here waits for its own end and its own probe, whatever others say, and keeps it to itself once they have
    /// reached the target. Without an answer of the shared state each circuit goes by itself.
    ///
    /// What a person does ([`open`](Self::open), [`drain`](Self::drain)) stays here, but that a [`close`](Self::close) ends
    /// for all what was only heard.
    pub fn share(&self, fleet: &Fleet) -> impl Future<Output = ()> + Send + use<> {
        let (registry, exchange, fleet) = (Arc::downgrade(&self.inner), self.inner.exchange.clone(), fleet.clone());
        async move {
            let begun = exchange.begun.fetch_add(1, Ordering::Relaxed) + 1;
            exchange.first_tick().await;
            loop {
                let Some(inner) = registry.upgrade() else { return };
                if exchange.begun.load(Ordering::Relaxed) != begun {
                    return;
                }
                exchange.tick(&fleet, || CircuitRegistry { inner: inner.clone() }.named()).await;
                drop(inner);
                exchange.next_tick().await;
            }
        }
    }

    /// All circuits that others may know, by the names that they have among them.
    fn named(&self) -> Vec<(Arc<str>, Arc<Circuit>)> {
        let (targets, providers) = (self.inner.targets.all(), self.inner.providers.all());
        let targets = targets.iter().map(|(id, circuits)| (exchange::of_target(id.as_str()), circuits.target.clone()));
        let providers = providers.iter().map(|(name, circuit)| (exchange::of_provider(name), circuit.clone()));
        targets.chain(providers).collect()
    }

    /// Admits a call to a target, or to a single upstream, by all circuits that it has to pass.
    pub(super) fn admit(&self, target: Option<&Target>, last_resort: bool) -> Result<Permits, Refusal> {
        self.with_circuits(target, |circuits| {
            let provider = circuits.provider.as_ref().map(|circuit| {
                circuit.admit(last_resort).or_else(|refusal| readmit(circuit, target, last_resort, refusal))
            });
            let provider = provider.transpose()?;
            Ok(Permits::new(circuits.target.admit(last_resort)?, provider))
        })
    }

    /// These circuits, by other rules: for a configuration that is read again. A circuit whose settings stay the same is the
    /// same one; one whose settings change begins in the state of the old one.
    #[must_use]
    pub fn with_rules(&self, rules: impl Into<CircuitRules>) -> Self {
        let new = Self::build(rules.into(), self.inner.observers.clone(), self.inner.exchange.clone());
        let renewed = |circuit: &Arc<Circuit>, settings: &CircuitSettings| match circuit.settings() == settings {
            true => circuit.clone(),
            false => Arc::new(circuit.with_settings(*settings)),
        };
        for (name, circuit) in self.inner.providers.all().iter() {
            let circuit = renewed(circuit, new.inner.rules.of_provider(name));
            new.inner.providers.with(name, || circuit, |_| ());
        }
        for (id, circuits) in self.inner.targets.all().iter() {
            let target = renewed(&circuits.target, new.inner.rules.of_target(id));
            let provider = circuits.provider.as_ref().map(|old| {
                let name = old.provider_name().unwrap_or_default();
                new.inner.providers.with(name, || old.clone(), Arc::clone)
            });
            new.inner.targets.with(id, || Circuits { target, provider }, |_| ());
        }
        if let Some(circuits) = self.inner.nameless.get() {
            let target = renewed(&circuits.target, new.inner.rules.general());
            let _ = new.inner.nameless.set(Circuits { target, provider: None });
        }
        new
    }

    /// Tells whoever hears of circuits.
    pub(crate) fn tell(&self, event: impl FnOnce() -> crate::Event) {
        self.inner.observers.tell(event);
    }

    pub(super) fn with_circuits<T>(&self, target: Option<&Target>, read: impl FnOnce(&Circuits) -> T) -> T {
        let Inner { rules, observers, exchange, .. } = &*self.inner;
        let circuit = |settings: &CircuitSettings, target: Option<&str>, provider: Option<&str>| {
            let listeners = Listeners::new(observers.clone(), target, provider).with_exchange(exchange);
            let circuit = Circuit::new(*settings).with_listeners(listeners);
            // Others may know it already.
            exchange.introduce(&circuit, target, provider);
            Arc::new(circuit)
        };
        let Some(target) = target else {
            let new = || Circuits { target: circuit(rules.general(), None, None), provider: None };
            return read(self.inner.nameless.get_or_init(new));
        };
        let new = || Circuits {
            target: circuit(rules.of_target(target.id()), Some(target.id().as_str()), None),
            provider: target.provider().map(|provider| {
                let new = || {
                    let circuit = circuit(rules.of_provider(provider.name()), None, Some(provider.name()));
                    circuit.see_keys(provider.credentials().fingerprint());
                    circuit
                };
                self.inner.providers.with(provider.name(), new, Arc::clone)
            }),
        };
        self.inner.targets.with(target.id(), new, read)
    }
}

/// A second look at a provider that its circuit refuses: with a new key it is worth a try.
#[cold]
fn readmit(
    circuit: &Arc<Circuit>,
    target: Option<&Target>,
    last_resort: bool,
    refusal: Refusal,
) -> Result<Permit, Refusal> {
    let provider = target.and_then(Target::provider);
    match provider.is_some_and(|provider| circuit.see_keys(provider.credentials().fingerprint())) {
        true => circuit.admit(last_resort),
        false => Err(refusal),
    }
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
    use crate::{Dialect, Fault, FaultKind, Provider, circuit_breaker::CircuitSettings};

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
        assert!(registry.admit(Some(&target), false).is_err());
        registry.half_open(&target);
        let probe = registry.admit(Some(&target), false).unwrap();
        assert!(registry.admit(Some(&target), false).is_err());
        drop(probe);
        registry.drain(&target);
        assert!(registry.is_drained(&target) && registry.admit(Some(&target), true).is_err());
        registry.close(&target);
        assert!(!registry.is_drained(&target));
        assert_eq!(registry.state(&target), CircuitState::Closed);
        let names: Vec<_> = registry.snapshot().into_iter().map(|it| (it.target, it.provider)).collect();
        assert_eq!(names, [(None, Some("p".into())), (Some("p/m".into()), None)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_changed_key_ends_what_the_old_one_opened_and_not_what_a_person_did() {
        let registry = CircuitRegistry::default();
        let with_key = |key: &str| {
            let key = crate::Credentials::api_key(Dialect::OpenAiChat, key.into()).unwrap();
            Target::new(&provider("p").with_credentials(key), "m")
        };
        let (old, new) = (with_key("old"), with_key("new"));
        fail(&registry, &old, FaultKind::AuthFailed);
        assert!(registry.admit(Some(&old), true).is_err());
        assert!(registry.admit(Some(&with_key("old")), true).is_err(), "the same key, read again");
        let probe = registry.admit(Some(&new), false).unwrap();
        assert_eq!(registry.state(&new), CircuitState::HalfOpen);
        probe.fail(&Fault::new(FaultKind::AuthFailed, "x"));
        assert!(registry.admit(Some(&new), true).is_err(), "one probe for each new key");

        registry.close(&new);
        registry.drain(&new);
        assert!(registry.admit(Some(&old), true).is_err());
        // What no key mends goes on.
        let registry = CircuitRegistry::new(touchy());
        fail(&registry, &old, FaultKind::Connect);
        assert!(registry.admit(Some(&new), false).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn circuits_outlive_their_rules() {
        let (p, q) = (provider("p"), provider("q"));
        let targets = [Target::new(&p, "1"), Target::new(&p, "2"), Target::new(&q, "1")];
        let old = CircuitRegistry::new(CircuitRules::from(touchy()));
        fail(&old, &targets[0], FaultKind::Unavailable);
        fail(&old, &targets[2], FaultKind::Connect);
        let late = old.admit(Some(&targets[1]), false).unwrap();
        let slower = CircuitSettings { open: std::time::Duration::from_secs(9), ..touchy() };
        let new = old.with_rules(CircuitRules::from(touchy()).with_target("p/1", slower).with_provider("q", slower));
        use CircuitState::{Closed, Open};
        let states = || targets.each_ref().map(|target| new.state(target));
        assert_eq!(states(), [Open, Closed, Open]);
        assert!(new.admit(Some(&targets[2]), false).is_err());
        // A call that the old one admitted is judged where the settings are the same.
        late.fail(&Fault::new(FaultKind::Unavailable, "x"));
        assert_eq!(states(), [Open, Open, Open]);
        tokio::time::advance(std::time::Duration::from_secs(8)).await;
        assert!(new.admit(Some(&targets[0]), false).is_ok(), "a cooldown that runs keeps its length");
    }

    #[tokio::test(start_paused = true)]
    async fn observers_hear_of_every_change_and_may_ask_the_circuit_meanwhile() {
        let heard = Arc::new(std::sync::Mutex::new(Vec::new()));
        let drained = Arc::new(std::sync::Mutex::new(Vec::new()));
        let drains = drained.clone();
        let (log, asked) = (heard.clone(), Arc::new(OnceLock::<CircuitRegistry>::new()));
        let (asking, target) = (asked.clone(), Target::named("a"));
        let whom = target.clone();
        let registry = CircuitRegistry::default().with_observer(move |event: &crate::Event| {
            if let crate::Event::DrainChanged { target, drained } = event {
                drains.lock().unwrap().push((target.to_string(), *drained));
            }
            if let crate::Event::CircuitChanged { target, state, .. } = event {
                let found = asking.get().map(|registry| registry.state(&whom));
                log.lock().unwrap().push((target.as_deref().map(str::to_owned), *state, found));
            }
        });
        asked.set(registry.clone()).unwrap();
        registry.open(&target);
        registry.open(&target);
        registry.half_open(&target);
        registry.close(&target);
        use CircuitState::{Closed, HalfOpen, Open};
        let expected = [Open, HalfOpen, Closed].map(|state| (Some("a".to_owned()), state, Some(state)));
        assert_eq!(*heard.lock().unwrap(), expected);
        registry.open(&target);
        [(); 2].iter().for_each(|()| registry.drain(&target));
        registry.close(&target);
        assert_eq!(*drained.lock().unwrap(), [("a".to_owned(), true), ("a".to_owned(), false)]);
    }
}
