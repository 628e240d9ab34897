//! How long a body has kept its reader waiting.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

use crate::Deadline;

/// A bound on how long one waits for the next sign of life.
///
/// The time counts from when somebody first waits: whoever reads slowly is not kept waiting, and a body that is read while
/// it comes never looks at the clock.
pub(crate) struct IdleTimer {
    idle: Duration,
    waiting_since: Option<Instant>,
    // Boxed, so that bodies stay `Unpin`; made only for a body that lets one wait: most come whole.
    timer: Option<Pin<Box<Sleep>>>,
}

impl IdleTimer {
    pub(crate) fn new(idle: Duration) -> Self {
        IdleTimer { idle, waiting_since: None, timer: None }
    }

    /// The longest time that may pass.
    pub(crate) fn idle(&self) -> Duration {
        self.idle
    }

    /// A sign of life was seen just now.
    pub(crate) fn touch(&mut self) {
        self.waiting_since = None;
    }

    /// A sign of life was seen just now, and the next is to come sooner.
    pub(crate) fn tighten(&mut self, idle: Duration) {
        *self = IdleTimer::new(self.idle.min(idle));
    }

    /// Ready once the time, or the deadline, is over. The timer is set anew only when it rings, not for each sign of life.
    pub(crate) fn poll_over(&mut self, deadline: Option<Deadline>, cx: &mut Context<'_>) -> Poll<()> {
        let since = *self.waiting_since.get_or_insert_with(Instant::now);
        let until = since.checked_add(self.idle).unwrap_or_else(|| Deadline::after(self.idle).instant());
        let until = deadline.map_or(until, |deadline| deadline.instant().min(until));
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(until)));
        loop {
            ready!(timer.as_mut().poll(cx));
            if until <= Instant::now() {
                return Poll::Ready(());
            }
            timer.as_mut().reset(until);
        }
    }
}

impl fmt::Debug for IdleTimer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdleTimer").field("idle", &self.idle).finish_non_exhaustive()
    }
}
