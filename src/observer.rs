//! Who is told what happens to requests.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::mpsc;

use crate::{Cost, Fault, Outcome, RequestSummary, Target, TargetId, Usage};

/// Is told what happens: counts it, logs it, pages somebody.
///
/// It is called where the thing happens, so it should be quick; what takes longer reads from a [`channel`]. One that
/// panics is logged and disturbs nothing else. Any `Fn(&Event)` is one:
///
/// ```
/// use tower_failover::{Event, FailoverLayer, Route, Target};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let route = Route::new("chat", [Target::named("primary"), Target::named("fallback")])?;
/// let failover = FailoverLayer::new(&route).with_observer(|event: &Event| {
///     if let Event::FailedOver { from, to, fault, .. } = event {
///         println!("{} failed ({}), trying {}", from.id(), fault.kind(), to.id());
///     }
/// });
/// # let _ = failover;
/// # Ok(()) }
/// ```
pub trait Observer: Send + Sync + 'static {
    /// Takes note of an event.
    fn observe(&self, event: &Event);

    /// Whether it wants to hear of every attempt and every answer, or only of what is out of the ordinary: failovers, hedges,
    /// answers that break off, requests that fail, circuits that change. It may be told of the rest all the same, where
    /// others want it; where nobody does, a request that goes well tells nothing, and costs nothing. Asked when it is added.
    fn wants_every_attempt(&self) -> bool {
        true
    }
}

impl<F: Fn(&Event) + Send + Sync + 'static> Observer for F {
    fn observe(&self, event: &Event) {
        self(event);
    }
}

/// Something that happened. Cheap to clone.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A request came to a [`TelemetryLayer`](crate::TelemetryLayer).
    #[non_exhaustive]
    RequestStarted {
        /// The route's name.
        route: Arc<str>,
    },
    /// The answer to a request has begun, and is a stream of events.
    #[non_exhaustive]
    StreamStarted {
        /// The route's name.
        route: Arc<str>,
    },
    /// A request is over, its answer's body included: what a [`TelemetryLayer`](crate::TelemetryLayer) saw of it.
    #[non_exhaustive]
    RequestEnded {
        /// What became of it.
        summary: RequestSummary,
    },
    /// A try began: the first of a target, a retry, or a hedge.
    #[non_exhaustive]
    AttemptStarted {
        /// Whom it is for; `None` where a layer stands alone before a single upstream.
        target: Option<Target>,
    },
    /// A try ended: its answer began, it failed, a guard refused it, or it was given up on.
    #[non_exhaustive]
    AttemptEnded {
        /// Whom it was for.
        target: Option<Target>,
        /// How it ended.
        outcome: Outcome,
        /// How long it took until then.
        latency: Duration,
    },
    /// It is known what a try cost: its answer is whole or broke off, or it was given up on. Of a try that failed nothing may
    /// ever be known. That may be behind the end of its request: others may still read its answer, out of a cache.
    #[non_exhaustive]
    AttemptSpent {
        /// Whom it was for.
        target: Option<Target>,
        /// Its tokens.
        usage: Usage,
        /// What they cost; `None` where the target has no price.
        cost: Option<Cost>,
    },
    /// An answer that had begun broke off.
    #[non_exhaustive]
    Interrupted {
        /// Whose answer it was.
        target: Option<Target>,
        /// What broke it off.
        fault: Fault,
    },
    /// A target failed or was refused, and the next one is tried.
    #[non_exhaustive]
    FailedOver {
        /// The route's name.
        route: Arc<str>,
        /// Who failed.
        from: Target,
        /// Who is tried instead.
        to: Target,
        /// How it failed.
        fault: Fault,
    },
    /// A try failed, and the same target is tried again after a wait.
    #[non_exhaustive]
    Retried {
        /// Who failed.
        target: Option<Target>,
        /// How it failed.
        fault: Fault,
        /// How long to wait before the next try.
        wait: Duration,
    },
    /// An answer that had broken off is gone on with.
    #[non_exhaustive]
    Resumed {
        /// Who goes on with it.
        target: Option<Target>,
    },
    /// A target is slow, and another one is tried beside it.
    #[non_exhaustive]
    Hedged {
        /// The route's name.
        route: Arc<str>,
        /// Who has not answered yet.
        slow: Target,
        /// Who is tried as well.
        beside: Target,
    },
    /// A request got its answer, or the beginning of it.
    #[non_exhaustive]
    Answered {
        /// The route's name.
        route: Arc<str>,
        /// Who answered.
        target: Target,
    },
    /// A request failed: nothing that is permitted was left to try, or it was the request's own fault.
    #[non_exhaustive]
    Failed {
        /// The route's name.
        route: Arc<str>,
        /// What the client is told.
        fault: Fault,
    },
    /// A circuit opened, closed or half-opened.
    #[non_exhaustive]
    CircuitChanged {
        /// The target's name, for a target's circuit.
        target: Option<Arc<str>>,
        /// The provider's name, for a provider's.
        provider: Option<Arc<str>>,
        /// What it does with calls from now on.
        state: CircuitState,
    },
    /// A target was asked how it is, besides its calls: see [`health`](crate::health).
    #[non_exhaustive]
    HealthChecked {
        /// The target's name.
        target: TargetId,
        /// How it failed, if it did.
        fault: Option<Fault>,
        /// How long that took.
        latency: Duration,
    },
    /// Somebody [drained](crate::circuit_breaker::CircuitRegistry::drain) a target, or put it back.
    #[non_exhaustive]
    DrainChanged {
        /// The target's name.
        target: Arc<str>,
        /// Whether it is drained from now on.
        drained: bool,
    },
}

/// What a circuit does with calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum CircuitState {
    /// Lets them through.
    Closed,
    /// Lets a few through, to find out whether the target has recovered.
    HalfOpen,
    /// Refuses them.
    Open,
}

impl CircuitState {
    /// Its stable name, as in logs and `/status.json`: `"half_open"`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            CircuitState::Closed => "closed",
            CircuitState::HalfOpen => "half_open",
            CircuitState::Open => "open",
        }
    }
}

/// Everybody who is told. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Observers {
    all: Option<Arc<[Arc<dyn Observer>]>>,
    /// Whether any of them wants to hear of what goes well.
    routine: bool,
}

impl Observers {
    pub(crate) fn add(&mut self, observer: impl Observer) {
        self.add_all(&Observers {
            routine: observer.wants_every_attempt(),
            all: Some([Arc::new(observer) as _].into()),
        });
    }

    pub(crate) fn add_all(&mut self, more: &Observers) {
        let all = [&self.all, &more.all].into_iter().flatten().flat_map(|observers| observers.iter().cloned());
        let all: Arc<[_]> = all.collect();
        *self = Observers { all: (!all.is_empty()).then_some(all), routine: self.routine || more.routine };
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_none()
    }

    /// Whether anybody wants to hear of what goes well.
    pub(crate) fn want_routine(&self) -> bool {
        self.routine
    }

    /// Whether those are the same.
    pub(crate) fn are(&self, others: &Observers) -> bool {
        match (&self.all, &others.all) {
            (Some(own), Some(others)) => Arc::ptr_eq(own, others),
            (own, others) => own.is_none() && others.is_none(),
        }
    }

    /// Tells everybody. The event is put together only if somebody listens.
    pub(crate) fn tell(&self, event: impl FnOnce() -> Event) {
        if let Some(observers) = &self.all {
            tell_all(observers, &event());
        }
    }
}

#[cold]
fn tell_all(observers: &[Arc<dyn Observer>], event: &Event) {
    for observer in observers {
        // While this thread unwinds already, a second panic might take the process down.
        if std::thread::panicking() {
            return;
        }
        if catch_unwind(AssertUnwindSafe(|| observer.observe(event))).is_err() {
            tracing::error!(?event, "an observer panicked");
        }
    }
}

impl fmt::Debug for Observers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Observers({})", self.all.as_ref().map_or(0, |observers| observers.len()))
    }
}

/// An observer that hands events to a task of yours: for what must wait, such as writing to a database.
///
/// At most `capacity` events wait for it. While that many do, further ones are
/// [counted](ChannelObserver::missed) and lost: no request waits for an observer.
///
/// # Panics
///
/// If `capacity` is zero.
#[must_use]
pub fn channel(capacity: usize) -> (ChannelObserver, mpsc::Receiver<Event>) {
    let (sender, receiver) = mpsc::channel(capacity);
    (ChannelObserver { sender, missed: Arc::default() }, receiver)
}

/// The observing end of a [`channel`]. Clones share it.
#[derive(Clone, Debug)]
pub struct ChannelObserver {
    sender: mpsc::Sender<Event>,
    missed: Arc<AtomicU64>,
}

impl ChannelObserver {
    /// How many events were lost because too many waited.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }
}

impl Observer for ChannelObserver {
    fn observe(&self, event: &Event) {
        if self.sender.try_send(event.clone()).is_err() {
            self.missed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started() -> Event {
        Event::AttemptStarted { target: None }
    }

    #[test]
    fn one_that_panics_keeps_nobody_from_being_told() {
        let (counter, mut events) = channel(8);
        let mut observers = Observers::default();
        observers.add(|_: &Event| panic!("a bug of theirs"));
        observers.add(counter);
        observers.tell(started);
        assert!(matches!(events.try_recv(), Ok(Event::AttemptStarted { .. })));
    }

    #[test]
    fn a_full_channel_loses_events_and_says_how_many() {
        let (observer, mut events) = channel(2);
        (0..5).for_each(|_| observer.observe(&started()));
        assert_eq!(observer.missed(), 3);
        assert_eq!(std::iter::from_fn(|| events.try_recv().ok()).count(), 2);
        observer.observe(&started());
        assert_eq!(observer.missed(), 3);
    }

    #[test]
    fn nobody_listening_costs_no_event() {
        Observers::default().tell(|| unreachable!("nobody asked"));
    }

    #[test]
    fn what_goes_well_is_told_only_where_somebody_wants_to_hear_it() {
        struct OnlyTrouble(ChannelObserver);

        impl Observer for OnlyTrouble {
            fn observe(&self, event: &Event) {
                self.0.observe(event);
            }

            fn wants_every_attempt(&self) -> bool {
                false
            }
        }

        let (heard, mut events) = channel(8);
        let mut observers = Observers::default();
        observers.add(OnlyTrouble(heard));
        assert!(!observers.want_routine());
        observers.tell(started);
        assert!(events.try_recv().is_ok());
        observers.add(|_: &Event| {});
        assert!(observers.want_routine(), "now it is told along with another");
    }
}
