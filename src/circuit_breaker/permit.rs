//! The right to make one call, and the verdict on it.

use std::sync::Arc;

use tokio::time::Instant;

use crate::{CircuitAdvice, Fault, FaultScope, circuit_breaker::circuit::Circuit};

/// How a call was admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// By a closed circuit.
    Ordinary,
    /// By a half-open one, to find out how the target is.
    Probe,
    /// By an open one, because no other target is left.
    LastResort,
    /// As a probe that has closed the circuit at its first output: should it break, the circuit opens again.
    Probation,
}

/// A circuit's right to make one call and to give one verdict on it. Dropped without one, it says nothing.
#[derive(Debug)]
pub(super) struct Permit {
    circuit: Arc<Circuit>,
    epoch: u64,
    role: Role,
    given: Instant,
    /// Whether its answer was slow to begin, once it has.
    slow: Option<bool>,
}

impl Permit {
    pub(super) fn new(circuit: Arc<Circuit>, epoch: u64, role: Role, given: Instant) -> Self {
        Permit { circuit, epoch, role, given, slow: None }
    }

    /// The answer has begun: a probe has shown what it was sent to show, and other calls wait for its verdict when their
    /// body ends.
    pub(super) fn answering(&mut self) {
        self.slow.get_or_insert_with(|| self.circuit.is_slow(self.given));
        if matches!(self.role, Role::Ordinary | Role::Probation) {
            return;
        }
        if let Some(epoch) = self.circuit.recovered(self.epoch, self.role) {
            (self.epoch, self.role) = (epoch, Role::Probation);
        } else {
            self.role = Role::Ordinary;
        }
    }

    /// Whether it took too long to begin; how long it goes on is no matter.
    fn is_slow(&self) -> bool {
        self.slow.unwrap_or_else(|| self.circuit.is_slow(self.given))
    }

    /// The answer is whole.
    pub(super) fn succeed(mut self) {
        self.answering();
        self.circuit.record(self.epoch, None, self.is_slow());
    }

    /// The call failed, or its answer broke off. What the fault says of the target is in the fault table.
    pub(super) fn fail(mut self, fault: &Fault) {
        match fault.policy().circuit {
            CircuitAdvice::ProvesAlive => return self.succeed(),
            CircuitAdvice::Neutral => return,
            CircuitAdvice::Failure | CircuitAdvice::OpenLong => {}
        }
        match std::mem::replace(&mut self.role, Role::Ordinary) {
            Role::Ordinary => {
                self.circuit.record(self.epoch, Some(fault), self.is_slow());
            }
            role => self.circuit.relapsed(self.epoch, role, fault),
        }
    }
}

#[cfg(test)]
impl Permit {
    pub(super) fn is_of(&self, epoch: u64) -> bool {
        self.epoch == epoch
    }

    pub(super) fn is_probe_of(&self, epoch: u64) -> bool {
        self.role == Role::Probe && self.is_of(epoch)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if matches!(self.role, Role::Probe | Role::LastResort) {
            self.circuit.release(self.epoch, self.role);
        }
    }
}

/// The permits of all circuits that a call passed.
#[derive(Debug)]
pub(super) struct Permits {
    target: Permit,
    provider: Option<Permit>,
}

impl Permits {
    pub(super) fn new(target: Permit, provider: Option<Permit>) -> Self {
        Permits { target, provider }
    }

    /// The answer has begun.
    pub(super) fn answering(&mut self) {
        self.target.answering();
        self.provider.iter_mut().for_each(Permit::answering);
    }

    /// The answer is whole.
    pub(super) fn succeed(self) {
        self.target.succeed();
        self.provider.into_iter().for_each(Permit::succeed);
    }

    /// The call failed, or its answer broke off: a verdict on whom the fault table blames.
    pub(super) fn fail(self, fault: &Fault) {
        match (fault.policy().scope, self.provider) {
            // A provider that cannot be reached, or will not know us, says nothing of the model behind it.
            (FaultScope::Provider, Some(provider)) => provider.fail(fault),
            (FaultScope::Provider, None) => self.target.fail(fault),
            (FaultScope::Target, provider) => {
                self.target.fail(fault);
                // Whatever the model did, a provider that put a status to it was there.
                provider.into_iter().filter(|_| fault.status().is_some()).for_each(Permit::succeed);
            }
            (FaultScope::Nobody, _) => {}
        }
    }
}
