//! One circuit: closed, open, half-open.
//!
//! While it is closed, a call reads one word and its verdict updates one or two: no lock. Everything else happens while
//! little traffic flows, under a mutex that is held for nanoseconds.
//!
//! Each change of state begins a new *epoch*. A permit remembers the epoch in which it was given, and a verdict from an
//! older one is ignored: what was admitted before an outage says nothing about how the target is now.

use std::{
    ops::{Deref, DerefMut},
    sync::{Arc, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    CircuitAdvice, CircuitState, Deadline, Event, Fault, FaultKind, Refusal,
    circuit_breaker::{
        CircuitSettings,
        exchange::Exchange,
        permit::{Permit, Role},
    },
    observer::Observers,
    shared_state,
    sync::{AtomicU32, AtomicU64, Mutex, MutexGuard, Ordering},
    window::{Counts, Window},
};

/// A circuit's state and the epoch that it began, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Word(u64);

impl Word {
    fn new(epoch: u64, state: CircuitState) -> Self {
        Word(epoch << 2 | state as u64)
    }

    fn state(self) -> CircuitState {
        match self.0 & 3 {
            0 => CircuitState::Closed,
            1 => CircuitState::HalfOpen,
            _ => CircuitState::Open,
        }
    }

    fn epoch(self) -> u64 {
        self.0 >> 2
    }
}

#[derive(Debug)]
pub(super) struct Circuit {
    settings: CircuitSettings,
    word: AtomicU64,
    /// Failures without a success between them.
    consecutive: AtomicU32,
    /// Calls, failures and slow calls.
    window: Window,
    /// How often it opened without a good call in between: each time it stays open longer.
    openings: AtomicU32,
    cooldown: Mutex<Cooldown>,
    listeners: Listeners,
}

/// Who is told when the circuit changes, and whose it is.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    observers: Observers,
    target: Option<Arc<str>>,
    provider: Option<Arc<str>>,
    /// Whoever tells other replicas.
    exchange: Option<Arc<Exchange>>,
}

impl Listeners {
    pub(super) fn new(observers: Observers, target: Option<&str>, provider: Option<&str>) -> Self {
        let (target, provider) = (target.map(Into::into), provider.map(Into::into));
        Listeners { observers, target, provider, exchange: None }
    }

    pub(super) fn with_exchange(self, exchange: &Arc<Exchange>) -> Self {
        Listeners { exchange: Some(exchange.clone()), ..self }
    }

    /// Something happened here that others should know.
    fn wake_exchange(&self) {
        self.exchange.iter().for_each(|exchange| exchange.wake());
    }
}

/// The cooldown, locked. Whoever listens is told of a change when it is unlocked again: an observer may ask the circuit how it
/// is.
struct Locked<'a> {
    // The order counts: this is dropped before the next.
    guard: MutexGuard<'a, Cooldown>,
    change: Change<'a>,
}

struct Change<'a> {
    circuit: &'a Circuit,
    before: Heard,
    after: Heard,
}

/// What listeners hear of: the state, and whether the circuit is drained.
type Heard = (CircuitState, bool);

/// A circuit when somebody looked at it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    epoch: u64,
    pub(super) state: CircuitState,
    /// Whether time alone mends it.
    pub(super) transient: bool,
    pub(super) drained: bool,
}

impl Deref for Locked<'_> {
    type Target = Cooldown;

    fn deref(&self) -> &Cooldown {
        &self.guard
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut Cooldown {
        &mut self.guard
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        self.change.after = (self.change.circuit.state(), self.guard.drained);
    }
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        let Listeners { observers, target, provider, .. } = &self.circuit.listeners;
        let ((state, drained), (state_before, drained_before)) = (self.after, self.before);
        if let (true, Some(target)) = (drained != drained_before, target) {
            tracing::info!(target = &**target, drained, "drain changed");
            observers.tell(|| Event::DrainChanged { target: target.clone(), drained });
        }
        if state != state_before {
            let (target_name, provider_name) = (target.as_deref(), provider.as_deref());
            tracing::info!(target = target_name, provider = provider_name, state = state.name(), "circuit changed");
            observers.tell(|| Event::CircuitChanged { target: target.clone(), provider: provider.clone(), state });
        }
    }
}

/// What matters while the circuit is not closed.
#[derive(Debug)]
struct Cooldown {
    until: Instant,
    /// Whether time alone mends it: a rejected key stays rejected.
    transient: bool,
    probes: u32,
    /// When probes that have not been heard of are given up on.
    lease: Instant,
    last_resort: bool,
    /// Open until it is closed by hand, whoever asks.
    drained: bool,
    /// Which of the provider's keys were seen last.
    keys: u64,
    /// Until when it is open for what happened here; `None` where it is open only by what others say.
    own: Option<Instant>,
    /// Whether a person opened it, which is for nobody else to know.
    by_hand: bool,
    /// Whether somebody was refused since it opened.
    wanted: bool,
}

impl Cooldown {
    fn new(now: Instant) -> Self {
        let (probes, last_resort, drained, keys, own, by_hand, wanted) = Default::default();
        Cooldown { until: now, transient: true, probes, lease: now, last_resort, drained, keys, own, by_hand, wanted }
    }
}

impl Circuit {
    pub(super) fn new(settings: CircuitSettings) -> Self {
        let now = Instant::now();
        Circuit {
            window: Window::new(settings.window),
            settings,
            word: AtomicU64::new(Word::new(0, CircuitState::Closed).0),
            consecutive: AtomicU32::new(0),
            openings: AtomicU32::new(0),
            cooldown: Mutex::new(Cooldown::new(now)),
            listeners: Listeners::default(),
        }
    }

    /// The state as calls find it: an open circuit whose time is over admits a probe.
    pub(super) fn state(&self) -> CircuitState {
        self.word().state()
    }

    fn word(&self) -> Word {
        Word(self.word.load(Ordering::Acquire))
    }

    /// Begins a new epoch. Only with the cooldown locked, so that two changes cannot cross.
    fn change(&self, _locked: &mut Cooldown, state: CircuitState) -> u64 {
        let epoch = self.word().epoch() + 1;
        self.word.store(Word::new(epoch, state).0, Ordering::Release);
        epoch
    }

    /// Tells these of every change from now on.
    pub(super) fn with_listeners(mut self, listeners: Listeners) -> Self {
        self.listeners = listeners;
        self
    }

    fn cooldown(&self) -> Locked<'_> {
        // Nothing panics while it is held; were it so, the plain numbers in it would still be good.
        let guard = self.cooldown.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = (self.state(), guard.drained);
        Locked { guard, change: Change { circuit: self, before: seen, after: seen } }
    }

    /// Admits a call or refuses it.
    pub(super) fn admit(self: &Arc<Self>, last_resort: bool) -> Result<Permit, Refusal> {
        let word = self.word();
        if word.state() == CircuitState::Closed {
            return Ok(Permit::new(self.clone(), word.epoch(), Role::Ordinary));
        }
        self.admit_guarded(last_resort)
    }

    #[cold]
    fn admit_guarded(self: &Arc<Self>, last_resort: bool) -> Result<Permit, Refusal> {
        let mut cooldown = self.cooldown();
        if cooldown.drained {
            return Err(Refusal::Drained);
        }
        let now = Instant::now();
        let permit = |epoch, role| Permit::new(self.clone(), epoch, role);
        match self.word().state() {
            CircuitState::Closed => return Ok(permit(self.word().epoch(), Role::Ordinary)),
            CircuitState::Open if cooldown.until <= now => {
                self.change(&mut cooldown, CircuitState::HalfOpen);
                cooldown.probes = 0;
            }
            CircuitState::HalfOpen if cooldown.probes > 0 && cooldown.lease <= now => {
                // Whoever had the permits is not heard of any more. A new epoch makes their late word worthless.
                self.change(&mut cooldown, CircuitState::HalfOpen);
                cooldown.probes = 0;
            }
            _ => {}
        }
        let word = self.word();
        if word.state() == CircuitState::HalfOpen && cooldown.probes < self.settings.probes.max(1) {
            cooldown.probes += 1;
            cooldown.lease = Deadline::after(self.settings.probe_lease()).instant();
            return Ok(permit(word.epoch(), Role::Probe));
        }
        // What is only heard of may be somebody else's network: there is no evidence here that a last resort is in vain.
        if last_resort && cooldown.transient && (!cooldown.last_resort || cooldown.own.is_none()) {
            cooldown.last_resort = true;
            return Ok(permit(word.epoch(), Role::LastResort));
        }
        cooldown.wanted = true;
        let end = if word.state() == CircuitState::HalfOpen { cooldown.lease } else { cooldown.until };
        let retry_after = end.saturating_duration_since(now);
        Err(Refusal::CircuitOpen { retry_after, transient: cooldown.transient })
    }

    /// Whether a call is slow that takes so long to begin to answer.
    pub(super) fn is_slow(&self, latency: Duration) -> bool {
        latency >= self.settings.slow_call
    }

    fn opening(&self, fault: &Fault) -> Option<Opening> {
        match fault.policy().circuit {
            CircuitAdvice::OpenLong => {
                Some(Opening { at_least: fault.retry_after().max(Some(self.settings.long_open)), transient: false })
            }
            CircuitAdvice::Failure => Some(Opening { at_least: self.long_retry_after(fault), transient: true }),
            _ => None,
        }
    }

    fn long_retry_after(&self, fault: &Fault) -> Option<Duration> {
        fault.retry_after().filter(|retry_after| *retry_after > self.settings.max_retry_after)
    }

    /// A verdict on a call that was admitted while the circuit was closed.
    pub(super) fn record(&self, epoch: u64, failure: Option<&Fault>, slow: bool, now: Instant) {
        if self.word() != Word::new(epoch, CircuitState::Closed) {
            return;
        }
        self.window.add(now, Counts([1, u64::from(failure.is_some()), u64::from(slow)]));
        let Some(fault) = failure else {
            // Reads before it writes: a word that all healthy calls wrote to would travel between their cores.
            for count in [&self.consecutive, &self.openings] {
                if count.load(Ordering::Relaxed) != 0 {
                    count.store(0, Ordering::Relaxed);
                }
            }
            if slow && self.settings.is_too_slow(self.window.sum(now)) {
                self.open(epoch, Opening { at_least: None, transient: true });
            }
            return;
        };
        let Some(opening) = self.opening(fault) else { return };
        let consecutive = self.consecutive.fetch_add(1, Ordering::Relaxed) + 1;
        let at_once = !opening.transient || (fault.kind() == FaultKind::RateLimited && opening.at_least.is_some());
        if at_once
            || consecutive >= self.settings.failures
            || self.settings.fails_too_often(self.window.sum(now))
            || (slow && self.settings.is_too_slow(self.window.sum(now)))
        {
            self.open(epoch, opening);
        }
    }

    /// A probe, or a last resort, was answered: closes the circuit. Returns the epoch that begins, or nothing when the word
    /// comes too late.
    pub(super) fn recovered(&self, epoch: u64, role: Role) -> Option<u64> {
        let mut cooldown = self.cooldown();
        self.release_locked(&mut cooldown, epoch, role);
        (self.word().epoch() == epoch).then(|| self.close_locked(&mut cooldown))
    }

    /// A probe, a last resort, or a call on probation failed: opens the circuit again, unless the word comes too late.
    pub(super) fn relapsed(&self, epoch: u64, role: Role, fault: &Fault) {
        let mut cooldown = self.cooldown();
        self.release_locked(&mut cooldown, epoch, role);
        if self.word().epoch() == epoch {
            if let Some(opening) = self.opening(fault) {
                self.open_locked(&mut cooldown, opening);
            }
        }
    }

    /// Gives back what a permit holds.
    pub(super) fn release(&self, epoch: u64, role: Role) {
        self.release_locked(&mut self.cooldown(), epoch, role);
    }

    fn release_locked(&self, cooldown: &mut Cooldown, epoch: u64, role: Role) {
        match role {
            Role::Probe if self.word().epoch() == epoch => cooldown.probes = cooldown.probes.saturating_sub(1),
            Role::LastResort => cooldown.last_resort = false,
            _ => {}
        }
    }

    /// Opens the circuit for as long as a failure does that waiting does not mend. It is no failure, though: nothing counts
    /// it, and a last resort may pass.
    pub(super) fn force_open(&self) {
        let mut cooldown = self.cooldown();
        if !cooldown.drained {
            let until = Deadline::after(self.settings.long_open).instant().max(cooldown.until);
            *cooldown = Cooldown { until, probes: 0, own: Some(until), by_hand: true, wanted: false, ..*cooldown };
            self.change(&mut cooldown, CircuitState::Open);
        }
    }

    /// Lets nobody pass any more until it is closed by hand.
    pub(super) fn drain(&self) {
        let mut cooldown = self.cooldown();
        let until = Deadline::after(Duration::MAX).instant();
        *cooldown = Cooldown { until, transient: false, probes: 0, drained: true, ..*cooldown };
        self.change(&mut cooldown, CircuitState::Open);
    }

    /// Says which keys the provider has now. Where they are others than before, a circuit that opened for long, which is what
    /// a rejected or exhausted key does, admits a probe; says whether it was that.
    pub(super) fn see_keys(&self, keys: u64) -> bool {
        let mut cooldown = self.cooldown();
        let changed = std::mem::replace(&mut cooldown.keys, keys) != keys;
        let ends = changed && !cooldown.transient && !cooldown.drained && self.state() == CircuitState::Open;
        if ends {
            let now = Instant::now();
            *cooldown = Cooldown { until: now, own: Some(now), transient: true, probes: 0, ..*cooldown };
            self.change(&mut cooldown, CircuitState::HalfOpen);
        }
        ends
    }

    /// A circuit with other settings, in the state that this one is in.
    pub(super) fn with_settings(&self, settings: CircuitSettings) -> Self {
        let listeners = Listeners {
            observers: self.listeners.observers.clone(),
            target: self.listeners.target.clone(),
            provider: self.listeners.provider.clone(),
            exchange: self.listeners.exchange.clone(),
        };
        let new = Circuit::new(settings).with_listeners(listeners);
        let old = self.cooldown();
        let state = self.state();
        if state != CircuitState::Closed {
            // Whoever holds a permit of the old one has no say in this.
            let mut cooldown = new.cooldown();
            *cooldown = Cooldown { probes: 0, last_resort: false, ..*old };
            // Nobody is to be told of a change: there is none.
            cooldown.change.before = (state, old.drained);
            new.change(&mut cooldown, state);
        }
        new.cooldown().keys = old.keys;
        for (new, old) in [(&new.consecutive, &self.consecutive), (&new.openings, &self.openings)] {
            new.store(old.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        drop(old);
        new
    }

    /// Whose circuit it is, where it is a provider's.
    pub(super) fn provider_name(&self) -> Option<&str> {
        self.listeners.provider.as_deref()
    }

    pub(super) fn settings(&self) -> &CircuitSettings {
        &self.settings
    }

    /// Closes the circuit and forgets what opened it.
    pub(super) fn force_closed(&self) {
        let mut cooldown = self.cooldown();
        self.openings.store(0, Ordering::Relaxed);
        self.close_locked(&mut cooldown);
    }

    /// Half-opens the circuit, unless it is closed or drained.
    pub(super) fn force_half_open(&self) {
        let mut cooldown = self.cooldown();
        if self.word().state() != CircuitState::Closed && !cooldown.drained {
            let now = Instant::now();
            *cooldown = Cooldown { until: now, own: Some(now), transient: true, probes: 0, ..*cooldown };
            self.change(&mut cooldown, CircuitState::HalfOpen);
        }
    }

    /// The epoch that it is in, and whether it is open only until waiting mends it.
    pub(super) fn seen(&self) -> Seen {
        let cooldown = self.cooldown();
        Seen {
            epoch: self.word().epoch(),
            state: self.state(),
            transient: cooldown.transient,
            drained: cooldown.drained,
        }
    }

    /// Closes the circuit: somebody else found out that calls are answered. Nothing where it is drained, or is not as it was
    /// seen any more.
    pub(super) fn close_as_seen(&self, seen: &Seen) {
        let mut cooldown = self.cooldown();
        if self.is_as(seen) && seen.state != CircuitState::Closed && !cooldown.drained {
            self.close_locked(&mut cooldown);
        }
    }

    /// Lets the next call find out how it is, where time alone would mend it. Nothing where it is not as it was seen any more.
    pub(super) fn half_open_as_seen(&self, seen: &Seen) {
        let mut cooldown = self.cooldown();
        if self.is_as(seen) && seen.state == CircuitState::Open && cooldown.transient && !cooldown.drained {
            *cooldown = Cooldown { until: Instant::now(), probes: 0, ..*cooldown };
            self.change(&mut cooldown, CircuitState::HalfOpen);
        }
    }

    /// Opens a closed circuit. Nothing where it is not as it was seen any more.
    pub(super) fn open_as_seen(&self, seen: &Seen, fault: &Fault) {
        let mut cooldown = self.cooldown();
        if let (true, CircuitState::Closed, Some(opening)) = (self.is_as(seen), seen.state, self.opening(fault)) {
            self.open_locked(&mut cooldown, opening);
        }
    }

    fn is_as(&self, seen: &Seen) -> bool {
        self.word() == Word::new(seen.epoch, seen.state)
    }

    /// How the circuit is now.
    pub(super) fn snapshot(&self, target: Option<&str>, provider: Option<&str>) -> CircuitSnapshot {
        let now = Instant::now();
        let Counts([calls, failures, slow_calls]) = self.window.sum(now);
        let state = self.state();
        let (until, drained) = match state {
            CircuitState::Open => {
                let cooldown = self.cooldown();
                (Some(cooldown.until).filter(|_| !cooldown.drained), cooldown.drained)
            }
            _ => (None, false),
        };
        CircuitSnapshot {
            target: target.map(Into::into),
            provider: provider.map(Into::into),
            state,
            open_for: until.map(|until| until.saturating_duration_since(now)),
            drained,
            consecutive_failures: self.consecutive.load(Ordering::Relaxed),
            calls,
            failures,
            slow_calls,
        }
    }

    /// Opens the circuit, if it still is in that epoch.
    fn open(&self, epoch: u64, opening: Opening) {
        let mut cooldown = self.cooldown();
        if self.word().epoch() == epoch {
            self.open_locked(&mut cooldown, opening);
        }
    }

    fn open_locked(&self, cooldown: &mut Cooldown, opening: Opening) {
        let openings = self.openings.fetch_add(1, Ordering::Relaxed);
        let length = self.settings.open_for(openings).max(opening.at_least.unwrap_or_default());
        // A cooldown that runs is never shortened.
        let until = Deadline::after(length).instant().max(cooldown.until);
        let (transient, own) = (opening.transient, Some(until));
        let (probes, by_hand, wanted) = (0, false, false);
        *cooldown = Cooldown { until, transient, probes, own, by_hand, wanted, ..*cooldown };
        self.listeners.wake_exchange();
        self.change(cooldown, CircuitState::Open);
    }

    /// Closes the circuit; returns the epoch that begins.
    fn close_locked(&self, cooldown: &mut Cooldown) -> u64 {
        cooldown.until = Instant::now();
        cooldown.transient = true;
        cooldown.drained = false;
        cooldown.own = None;
        self.consecutive.store(0, Ordering::Relaxed);
        self.window.clear();
        self.listeners.wake_exchange();
        self.change(cooldown, CircuitState::Closed)
    }
}

/// What other replicas say of the circuit, and what they are told of it.
impl Circuit {
    /// Holds calls back as well, for as long as another replica does. While a probe finds out here, its word counts.
    pub(super) fn learn_opening(&self, opening: &shared_state::Opening) {
        let mut cooldown = self.cooldown();
        let state = self.state();
        let is_probing = state == CircuitState::HalfOpen && cooldown.probes > 0 && cooldown.lease > Instant::now();
        // What waiting does not mend, in what was said or here, is that replica's own affair.
        let is_own_affair = !opening.transient || (state == CircuitState::Open && !cooldown.transient);
        if cooldown.drained || is_probing || is_own_affair {
            return;
        }
        self.openings.fetch_max(opening.openings, Ordering::Relaxed);
        let until = Deadline::after(opening.remaining).instant();
        if state == CircuitState::Open {
            cooldown.until = cooldown.until.max(until);
            return;
        }
        let (transient, probes, wanted) = (opening.transient, 0, false);
        *cooldown = Cooldown { until, transient, probes, wanted, ..*cooldown };
        self.change(&mut cooldown, CircuitState::Open);
    }

    /// Another replica reached the target. What was only heard is forgotten; what happened here stands: its cooldown goes on
    /// to its end, and then a probe finds out.
    pub(super) fn learn_closing(&self) {
        let mut cooldown = self.cooldown();
        if self.state() != CircuitState::Open || cooldown.drained {
            return;
        }
        match cooldown.own {
            Some(own) => cooldown.until = own,
            None => {
                cooldown.until = Instant::now();
                cooldown.transient = true;
                // What the window holds of calls from here stays.
                self.change(&mut cooldown, CircuitState::Closed);
            }
        }
    }

    /// Holds back the next probe for so long from now on: it is somebody else's turn.
    pub(super) fn hold(&self, time: Duration) {
        let mut cooldown = self.cooldown();
        // What waiting does not mend is nobody else's affair; it may have become that since.
        if self.state() == CircuitState::Open && !cooldown.drained && cooldown.transient {
            cooldown.until = cooldown.until.max(Deadline::after(time).instant());
        }
    }

    /// Those who were refused did not come back.
    pub(super) fn forget_wanted(&self) {
        self.cooldown().wanted = false;
    }

    /// How it stands, for others.
    pub(super) fn standing(&self) -> Standing {
        if self.state() == CircuitState::Closed {
            return Standing::Closed;
        }
        let cooldown = self.cooldown();
        let (now, openings) = (Instant::now(), self.openings.load(Ordering::Relaxed));
        let left = |until: Instant| until.saturating_duration_since(now);
        match self.state() {
            CircuitState::Closed => Standing::Closed,
            _ if cooldown.drained || cooldown.by_hand => Standing::ByHand,
            CircuitState::HalfOpen => Standing::HalfOpen,
            CircuitState::Open => Standing::Open {
                epoch: self.word().epoch(),
                left: left(cooldown.until),
                own: cooldown.own.map(|own| shared_state::Opening {
                    remaining: left(own),
                    transient: cooldown.transient,
                    openings,
                }),
                wanted: cooldown.wanted,
                again: self.settings.open_for(openings),
            },
        }
    }
}

/// How a circuit stands, for other replicas.
#[derive(Debug)]
pub(super) enum Standing {
    Closed,
    HalfOpen,
    /// A person opened it.
    ByHand,
    Open {
        epoch: u64,
        /// For how much longer.
        left: Duration,
        /// What happened here that opened it, if it was not others who said so.
        own: Option<shared_state::Opening>,
        /// Whether somebody was refused since.
        wanted: bool,
        /// For how long it would open again, if the next probe failed.
        again: Duration,
    },
}

struct Opening {
    at_least: Option<Duration>,
    transient: bool,
}

/// A circuit at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CircuitSnapshot {
    /// The target's name, for a target's circuit.
    pub target: Option<Box<str>>,
    /// The provider's name, for a provider's. A circuit of neither is that of a single upstream.
    pub provider: Option<Box<str>>,
    /// What it does with calls.
    pub state: CircuitState,
    /// How much longer it stays open, where it is and time will end it: at zero, the next call is a probe.
    pub open_for: Option<Duration>,
    /// Whether it is open until it is [closed](super::CircuitRegistry::close) by hand.
    pub drained: bool,
    /// Failures without a success between them.
    pub consecutive_failures: u32,
    /// Calls in the window that were judged.
    pub calls: u64,
    /// Those of them that failed.
    pub failures: u64,
    /// Those of them that were slow.
    pub slow_calls: u64,
}

#[cfg(all(test, failover_loom))]
mod loom;
#[cfg(test)]
mod model;

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    const SECOND: Duration = Duration::from_secs(1);

    fn circuit() -> Arc<Circuit> {
        Arc::new(Circuit::new(CircuitSettings { failures: 3, jitter: 0.0, ..CircuitSettings::default() }))
    }

    fn unavailable() -> Fault {
        Fault::new(FaultKind::Unavailable, "500")
    }

    fn fail(circuit: &Arc<Circuit>, times: usize) {
        (0..times).for_each(|_| circuit.admit(false).unwrap().fail(&unavailable()));
    }

    fn retry_after(circuit: &Arc<Circuit>) -> Duration {
        circuit.admit(false).unwrap_err().retry_after().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn opens_after_consecutive_failures_and_success_between_them_resets() {
        let circuit = circuit();
        fail(&circuit, 2);
        circuit.admit(false).unwrap().succeed();
        fail(&circuit, 2);
        assert_eq!(circuit.state(), CircuitState::Closed);
        fail(&circuit, 1);
        assert_eq!(circuit.state(), CircuitState::Open);
        assert_eq!(retry_after(&circuit), 5 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn opened_by_hand_it_half_opens_in_time_and_a_last_resort_passes() {
        let circuit = circuit();
        circuit.force_open();
        assert_eq!(retry_after(&circuit), 600 * SECOND);
        drop(circuit.admit(true).unwrap());
        advance(600 * SECOND).await;
        circuit.admit(false).unwrap().fail(&unavailable());
        assert_eq!(retry_after(&circuit), 5 * SECOND, "by hand is no failure: cooldowns begin with the shortest");
    }

    #[tokio::test(start_paused = true)]
    async fn drained_it_admits_nobody_until_it_is_closed() {
        let circuit = circuit();
        let under_way = circuit.admit(false).unwrap();
        circuit.drain();
        under_way.succeed();
        circuit.force_open();
        circuit.force_half_open();
        advance(1_000_000 * SECOND).await;
        assert!(matches!(circuit.admit(true), Err(Refusal::Drained)));
        let snapshot = circuit.snapshot(None, None);
        assert_eq!((snapshot.state, snapshot.drained, snapshot.open_for), (CircuitState::Open, true, None));
        circuit.force_closed();
        circuit.admit(false).unwrap().succeed();
        assert!(!circuit.snapshot(None, None).drained);
    }

    #[tokio::test(start_paused = true)]
    async fn half_open_admits_one_probe_whose_success_closes() {
        let circuit = circuit();
        fail(&circuit, 3);
        advance(5 * SECOND).await;
        let mut probe = circuit.admit(false).unwrap();
        assert!(circuit.admit(false).is_err());
        probe.answering();
        assert_eq!(circuit.state(), CircuitState::Closed);
        probe.succeed();
        circuit.admit(false).unwrap().succeed();
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_breaks_after_it_closed_the_circuit_opens_it_at_once_and_for_longer() {
        let circuit = circuit();
        fail(&circuit, 3);
        advance(5 * SECOND).await;
        let mut probe = circuit.admit(false).unwrap();
        probe.answering();
        probe.fail(&Fault::new(FaultKind::StreamInterrupted, "cut"));
        assert_eq!(retry_after(&circuit), 10 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn cooldowns_double_up_to_the_most_and_start_over_after_a_good_call() {
        let circuit = circuit();
        fail(&circuit, 3);
        for expected in [5, 10, 20, 30, 30] {
            assert_eq!(retry_after(&circuit), expected * SECOND);
            advance(expected * SECOND).await;
            fail(&circuit, 1);
        }
        advance(30 * SECOND).await;
        circuit.admit(false).unwrap().succeed();
        fail(&circuit, 3);
        assert_eq!(retry_after(&circuit), 5 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_probe_gives_its_permit_back_and_says_nothing() {
        let circuit = circuit();
        fail(&circuit, 3);
        advance(5 * SECOND).await;
        drop(circuit.admit(false).unwrap());
        assert_eq!(circuit.state(), CircuitState::HalfOpen);
        circuit.admit(false).unwrap().succeed();
        assert_eq!(circuit.state(), CircuitState::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_is_not_heard_of_loses_its_lease_and_its_say() {
        let circuit = circuit();
        fail(&circuit, 3);
        advance(5 * SECOND).await;
        let lost = circuit.admit(false).unwrap();
        advance(circuit.settings.probe_lease()).await;
        let probe = circuit.admit(false).unwrap();
        lost.fail(&unavailable());
        assert_eq!(circuit.state(), CircuitState::HalfOpen);
        assert!(circuit.admit(false).is_err(), "the lost probe must not give back the new one's permit");
        probe.succeed();
        assert_eq!(circuit.state(), CircuitState::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn late_words_from_an_older_epoch_are_ignored() {
        let circuit = circuit();
        let (good, bad) = (circuit.admit(false).unwrap(), circuit.admit(false).unwrap());
        fail(&circuit, 3);
        advance(5 * SECOND).await;
        let probe = circuit.admit(false).unwrap();
        good.succeed();
        assert_eq!(circuit.state(), CircuitState::HalfOpen);
        probe.succeed();
        bad.fail(&unavailable());
        fail(&circuit, 2);
        assert_eq!(circuit.state(), CircuitState::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn what_proves_alive_closes_and_what_is_neutral_does_not() {
        let circuit = circuit();
        fail(&circuit, 3);
        advance(5 * SECOND).await;
        circuit.admit(false).unwrap().fail(&Fault::new(FaultKind::Cancelled, "gone"));
        assert_eq!(circuit.state(), CircuitState::HalfOpen);
        circuit.admit(false).unwrap().fail(&Fault::new(FaultKind::BadRequest, "400"));
        assert_eq!(circuit.state(), CircuitState::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn a_rejected_key_opens_at_once_for_long_even_for_the_last_resort() {
        let circuit = circuit();
        circuit.admit(false).unwrap().fail(&Fault::new(FaultKind::AuthFailed, "401"));
        assert_eq!(retry_after(&circuit), 600 * SECOND);
        assert!(circuit.admit(true).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_retry_after_opens_at_once_for_that_long() {
        let circuit = circuit();
        let limited = |seconds| Fault::new(FaultKind::RateLimited, "429").with_retry_after(seconds * SECOND);
        circuit.admit(false).unwrap().fail(&limited(2));
        assert_eq!(circuit.state(), CircuitState::Closed);
        circuit.admit(false).unwrap().fail(&limited(45));
        assert_eq!(retry_after(&circuit), 45 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn one_last_resort_at_a_time_passes_an_open_circuit() {
        let circuit = circuit();
        fail(&circuit, 3);
        let last = circuit.admit(true).unwrap();
        assert!(circuit.admit(true).is_err());
        drop(last);
        circuit.admit(true).unwrap().succeed();
        assert_eq!(circuit.state(), CircuitState::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn a_last_resort_that_fails_does_not_shorten_the_cooldown() {
        let circuit = circuit();
        fail(&circuit, 3);
        circuit.admit(true).unwrap().fail(&unavailable());
        assert_eq!(retry_after(&circuit), 10 * SECOND);
        circuit.admit(true).unwrap().fail(&Fault::new(FaultKind::RateLimited, "429").with_retry_after(SECOND));
        assert!(retry_after(&circuit) >= 10 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn opens_on_the_failure_rate_of_the_window_however_much_went_well_before_it() {
        let settings = CircuitSettings { failures: 1_000_000, ..CircuitSettings::default() };
        let circuit = Arc::new(Circuit::new(settings));
        (0..1_000).for_each(|_| circuit.admit(false).unwrap().succeed());
        advance(31 * SECOND).await;
        (0..5).for_each(|_| circuit.admit(false).unwrap().succeed());
        fail(&circuit, 4);
        assert_eq!(circuit.state(), CircuitState::Closed);
        fail(&circuit, 1);
        assert_eq!(circuit.state(), CircuitState::Open);
    }

    #[tokio::test(start_paused = true)]
    async fn opens_when_every_call_is_slow() {
        let circuit = circuit();
        let permits: Vec<_> = (0..10).map(|_| circuit.admit(false).unwrap().waiting()).collect();
        advance(31 * SECOND).await;
        permits.into_iter().for_each(Permit::succeed);
        assert_eq!(circuit.state(), CircuitState::Open);
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_answer_that_began_in_time_is_not_slow() {
        let circuit = circuit();
        let mut permits: Vec<_> = (0..10).map(|_| circuit.admit(false).unwrap()).collect();
        permits.iter_mut().for_each(Permit::answering);
        advance(120 * SECOND).await;
        permits.into_iter().for_each(Permit::succeed);
        assert_eq!(circuit.state(), CircuitState::Closed);
        assert_eq!(circuit.snapshot(None, None).slow_calls, 0);
    }
}
