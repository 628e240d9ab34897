//! What somebody who asks a target, besides its calls, may do to circuits.

use std::sync::Arc;

use super::{
    CircuitRegistry, CircuitState,
    circuit::{Circuit, Seen},
};
use crate::{CircuitAdvice, Fault, FaultScope, Target};

/// What an answer shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Evidence {
    /// That the provider is there: nothing of how the model does.
    Provider,
    /// That the model answers, and so all of it.
    Model,
}

/// The circuits of a target when a check of it begins. What happens to them meanwhile makes its finding worthless: it is about an
/// earlier time.
#[derive(Debug)]
pub(crate) struct Checkup {
    target: (Arc<Circuit>, Seen),
    provider: Option<(Arc<Circuit>, Seen)>,
}

impl CircuitRegistry {
    /// Looks at the circuits of a target.
    pub(crate) fn checkup(&self, target: &Target) -> Checkup {
        let see = |circuit: &Arc<Circuit>| (circuit.clone(), circuit.seen());
        self.with_circuits(Some(target), |circuits| Checkup {
            target: see(&circuits.target),
            provider: circuits.provider.as_ref().map(see),
        })
    }
}

impl Checkup {
    /// Whether the target is to get nothing, checks included.
    pub(crate) fn is_drained(&self) -> bool {
        self.target.1.drained
    }

    /// Whether an answer would change anything.
    pub(crate) fn would_help(&self, evidence: Evidence) -> bool {
        let provider = self.provider.as_ref().map(|(_, seen)| seen);
        match evidence {
            Evidence::Provider => provider.is_some_and(|seen| seen.state == CircuitState::Open && seen.transient),
            Evidence::Model => [Some(&self.target.1), provider].into_iter().flatten().any(is_not_closed),
        }
    }

    /// It was answered. That the model answers closes what is open. That the provider is there lets the next call find out
    /// whether its failures are over; a rejected key, an empty account or a model that fails it says nothing of.
    pub(crate) fn passed(&self, evidence: Evidence) {
        match evidence {
            Evidence::Provider => self.provider.iter().for_each(|(circuit, seen)| circuit.half_open_as_seen(seen)),
            Evidence::Model => {
                let all = std::iter::once(&self.target).chain(&self.provider);
                all.for_each(|(circuit, seen)| circuit.close_as_seen(seen));
            }
        }
    }

    /// Opens the circuit of whom the failure is to be blamed on, if it is closed.
    pub(crate) fn open(&self, evidence: Evidence, fault: &Fault) {
        self.blamed(evidence, fault).into_iter().for_each(|(circuit, seen)| circuit.open_as_seen(seen, fault));
    }

    /// Whether a failure is anybody's of whom this kind of check can tell.
    pub(crate) fn blames(&self, evidence: Evidence, fault: &Fault) -> bool {
        self.blamed(evidence, fault).is_some()
    }

    fn blamed(&self, evidence: Evidence, fault: &Fault) -> Option<&(Arc<Circuit>, Seen)> {
        let policy = fault.policy();
        if !matches!(policy.circuit, CircuitAdvice::Failure | CircuitAdvice::OpenLong) {
            return None;
        }
        match (policy.scope, evidence) {
            (FaultScope::Provider, _) => self.provider.as_ref().or(Some(&self.target)),
            (FaultScope::Target, Evidence::Model) => Some(&self.target),
            // A list that is not given says as little of a model as one that is.
            (FaultScope::Target, Evidence::Provider) | (FaultScope::Nobody, _) => None,
        }
    }
}

fn is_not_closed(seen: &Seen) -> bool {
    seen.state != CircuitState::Closed
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::advance;

    use super::*;
    use crate::{Dialect, FaultKind, Provider, circuit_breaker::CircuitSettings};

    fn target() -> Target {
        Target::new(&Provider::new("p", Dialect::OpenAiChat, "http://h").unwrap(), "m")
    }

    fn opened_by(kind: FaultKind) -> CircuitRegistry {
        let registry = CircuitRegistry::new(CircuitSettings { failures: 1, ..CircuitSettings::default() });
        registry.admit(Some(&target()), false).unwrap().fail(&Fault::new(kind, "x"));
        assert_eq!(registry.state(&target()), CircuitState::Open);
        registry
    }

    /// The state after a check that was answered.
    fn after(kind: FaultKind, evidence: Evidence) -> CircuitState {
        let registry = opened_by(kind);
        let checkup = registry.checkup(&target());
        let would_help = checkup.would_help(evidence);
        checkup.passed(evidence);
        assert_eq!(would_help, registry.state(&target()) != CircuitState::Open, "{kind} {evidence:?}");
        registry.state(&target())
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_of_models_speaks_only_for_a_provider_that_could_not_be_reached() {
        use CircuitState::{Closed, HalfOpen, Open};
        for (kind, listed) in [
            (FaultKind::Connect, HalfOpen),
            // They may be listed to whoever cannot pay.
            (FaultKind::QuotaExhausted, Open),
            (FaultKind::AuthFailed, Open),
            (FaultKind::Unavailable, Open),
            (FaultKind::NotFound, Open),
        ] {
            assert_eq!((after(kind, Evidence::Provider), after(kind, Evidence::Model)), (listed, Closed), "{kind}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_changed_since_a_check_began_is_not_judged_by_it() {
        let registry = opened_by(FaultKind::Unavailable);
        let early = registry.checkup(&target());
        advance(Duration::from_secs(6)).await;
        registry.admit(Some(&target()), false).unwrap().fail(&Fault::new(FaultKind::Unavailable, "again"));
        early.passed(Evidence::Model);
        assert_eq!(registry.state(&target()), CircuitState::Open);
        let (drained, well) = (registry.checkup(&target()), CircuitRegistry::default());
        registry.drain(&target());
        drained.passed(Evidence::Model);
        assert!(registry.checkup(&target()).is_drained() && !drained.is_drained());
        registry.checkup(&target()).passed(Evidence::Model);
        assert_eq!(registry.state(&target()), CircuitState::Open, "only by hand");
        assert!(!well.checkup(&target()).would_help(Evidence::Model), "there is nothing to mend");
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_opens_what_it_is_blamed_on_and_never_lengthens_what_is_open() {
        let fault = |kind| Fault::new(kind, "x");
        let registry = CircuitRegistry::default();
        let checkup = registry.checkup(&target());
        assert!(!checkup.blames(Evidence::Provider, &fault(FaultKind::Unavailable)));
        assert!(!checkup.blames(Evidence::Model, &fault(FaultKind::BadRequest)));
        assert!(checkup.blames(Evidence::Provider, &fault(FaultKind::Connect)));
        checkup.open(Evidence::Provider, &fault(FaultKind::Unavailable));
        assert_eq!(registry.state(&target()), CircuitState::Closed);
        checkup.open(Evidence::Model, &fault(FaultKind::Unavailable));
        assert_eq!(registry.state(&target()), CircuitState::Open);
        let open_for = || registry.snapshot().iter().filter_map(|circuit| circuit.open_for).max().unwrap();
        let before = open_for();
        advance(Duration::from_secs(1)).await;
        registry.checkup(&target()).open(Evidence::Model, &fault(FaultKind::Unavailable));
        assert_eq!(open_for(), before - Duration::from_secs(1));
    }
}
