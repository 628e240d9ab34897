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
    /// When the call began to wait for its answer; `None` while it has not: what is answered at once is not slow, and need
    /// not look at the clock.
    waiting_since: Option<Instant>,
    /// Whether the answer was slow to begin; `None` until it has begun.
    slow: Option<bool>,
}

impl Permit {
    pub(super) fn new(circuit: Arc<Circuit>, epoch: u64, role: Role) -> Self {
        Permit { circuit, epoch, role, waiting_since: None, slow: None }
    }

    fn is_slow(&self, now: impl FnOnce() -> Instant) -> bool {
        self.slow.unwrap_or_else(|| {
            self.waiting_since.is_some_and(|since| self.circuit.is_slow(now().saturating_duration_since(since)))
        })
    }

    /// The answer has begun: a probe has shown what it was sent to show, and other calls wait for its verdict when their
    /// body ends.
    pub(super) fn answering_at(&mut self, now: impl FnOnce() -> Instant) {
        self.slow = Some(self.is_slow(now));
        if matches!(self.role, Role::Ordinary | Role::Probation) {
            return;
        }
        if let Some(epoch) = self.circuit.recovered(self.epoch, self.role) {
            (self.epoch, self.role) = (epoch, Role::Probation);
        } else {
            self.role = Role::Ordinary;
        }
    }

    /// The answer is whole.
    pub(super) fn succeed_at(mut self, now: Instant) {
        self.answering_at(|| now);
        self.circuit.record(self.epoch, None, self.is_slow(|| now), now);
    }

    /// The call failed, or its answer broke off. What the fault says of the target is in the fault table.
    pub(super) fn fail_at(mut self, now: Instant, fault: &Fault) {
        match fault.policy().circuit {
            CircuitAdvice::ProvesAlive => return self.succeed_at(now),
            CircuitAdvice::Neutral => return,
            CircuitAdvice::Failure | CircuitAdvice::OpenLong => {}
        }
        match std::mem::replace(&mut self.role, Role::Ordinary) {
            Role::Ordinary => {
                self.circuit.record(self.epoch, Some(fault), self.is_slow(|| now), now);
            }
            role => self.circuit.relapsed(self.epoch, role, fault),
        }
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

    /// The answer is not there at once.
    pub(super) fn waiting(&mut self) {
        if self.target.waiting_since.is_none() {
            let now = Some(Instant::now());
            self.target.waiting_since = now;
            self.provider.iter_mut().for_each(|provider| provider.waiting_since = now);
        }
    }

    /// The answer has begun.
    pub(super) fn answering(&mut self) {
        // One look at the clock does for both.
        let now = self.target.waiting_since.map(|_| Instant::now());
        let now = || now.unwrap_or_else(Instant::now);
        self.target.answering_at(now);
        self.provider.iter_mut().for_each(|provider| provider.answering_at(now));
    }

    /// The answer is whole.
    pub(super) fn succeed(self) {
        let now = Instant::now();
        self.target.succeed_at(now);
        self.provider.into_iter().for_each(|provider| provider.succeed_at(now));
    }

    /// The call failed, or its answer broke off: a verdict on whom the fault table blames.
    pub(super) fn fail(self, fault: &Fault) {
        let now = Instant::now();
        match (fault.policy().scope, self.provider) {
            // A provider that cannot be reached, or will not know us, says nothing of the model behind it.
            (FaultScope::Provider, Some(provider)) => provider.fail_at(now, fault),
            (FaultScope::Provider, None) => self.target.fail_at(now, fault),
            (FaultScope::Target, provider) => {
                self.target.fail_at(now, fault);
                // Whatever the model did, a provider that put a status to it was there.
                provider.into_iter().filter(|_| fault.status().is_some()).for_each(|it| it.succeed_at(now));
            }
            (FaultScope::Nobody, _) => {}
        }
    }
}

/// Of one circuit, now.
#[cfg(test)]
impl Permit {
    pub(super) fn waiting(mut self) -> Self {
        self.waiting_since = Some(Instant::now());
        self
    }

    pub(super) fn is_of(&self, epoch: u64) -> bool {
        self.epoch == epoch
    }

    pub(super) fn is_probe_of(&self, epoch: u64) -> bool {
        self.role == Role::Probe && self.is_of(epoch)
    }

    pub(super) fn answering(&mut self) {
        self.answering_at(Instant::now);
    }

    pub(super) fn succeed(self) {
        self.succeed_at(Instant::now());
    }

    pub(super) fn fail(self, fault: &Fault) {
        self.fail_at(Instant::now(), fault);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::advance;

    use super::*;
    use crate::{FaultKind, circuit_breaker::CircuitSettings};

    const SLOW: Duration = Duration::from_secs(31);

    fn slow_calls(circuit: &Circuit) -> [u64; 2] {
        let snapshot = circuit.snapshot(None, None);
        [snapshot.calls, snapshot.slow_calls]
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_answer_that_began_at_once_is_not_slow() {
        let circuit = Arc::new(Circuit::new(CircuitSettings { window: 4 * SLOW, ..CircuitSettings::default() }));
        let [mut whole, mut broken] = [(); 2].map(|()| circuit.admit(false).unwrap().waiting());
        whole.answering();
        broken.answering();
        advance(SLOW).await;
        whole.succeed();
        broken.fail(&Fault::new(FaultKind::StreamInterrupted, "cut"));
        assert_eq!(slow_calls(&circuit), [2, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_slow_to_begin_stays_slow_when_it_ends() {
        let circuit = Arc::new(Circuit::new(CircuitSettings { window: 4 * SLOW, ..CircuitSettings::default() }));
        let mut permit = circuit.admit(false).unwrap().waiting();
        advance(SLOW).await;
        permit.answering();
        permit.succeed();
        circuit.admit(false).unwrap().succeed();
        assert_eq!(slow_calls(&circuit), [2, 1]);
    }
}
