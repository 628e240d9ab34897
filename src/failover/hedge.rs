//! When another target is tried beside one that is slow.

use std::{sync::Arc, time::Duration};

use crate::{Target, TargetId, budget::Budget, keyed::Keyed, latency::LatencyWindow};

/// How long is waited where a target's own 95th percentile is meant and too few of its answers are known.
const UNKNOWN: Duration = Duration::from_secs(8);

/// Tries the next target beside one that has not answered in time: see [`FailoverLayer::with_hedge`].
///
/// The first output wins, and the others are cancelled at once, on the wire too. A failure never wins while another
/// target is still at it. By default two targets are tried at a time, and hedges are a tenth of all requests at most (the first ten in
/// any 10 s are always allowed): a provider that is slow as a whole is not asked twice as much for it.
///
/// [`FailoverLayer::with_hedge`]: super::FailoverLayer::with_hedge
#[derive(Clone, Debug)]
pub struct Hedge {
    after: After,
    width: usize,
    budget: Option<Arc<Budget>>,
}

#[derive(Clone, Debug)]
enum After {
    Fixed(Duration),
    /// The target's own 95th percentile.
    P95(Latencies),
}

/// How long the targets took lately.
pub(crate) type Latencies = Arc<Keyed<TargetId, Arc<LatencyWindow>>>;

impl Hedge {
    /// After so long without an answer.
    #[must_use]
    pub fn after(after: Duration) -> Self {
        Hedge { after: After::Fixed(after), width: 2, budget: Some(Arc::new(Budget::new(0.1))) }
    }

    /// After the time within which 95 of 100 answers of that target came in the last five minutes; while fewer than 20 are
    /// known, after 8 s.
    #[must_use]
    pub fn after_p95() -> Self {
        Hedge { after: After::P95(Arc::default()), ..Hedge::after(Duration::ZERO) }
    }

    /// So many targets at once, from the start; without a budget, since every request costs as much.
    #[must_use]
    pub fn race(width: usize) -> Self {
        Hedge { after: After::Fixed(Duration::ZERO), width: width.max(1), budget: None }
    }

    /// How many targets are tried at a time; 1 means no hedge.
    #[must_use]
    pub fn with_width(mut self, width: usize) -> Self {
        self.width = width.max(1);
        self
    }

    /// The largest share of hedges in all requests: 0 to 1.
    #[must_use]
    pub fn with_budget(mut self, share: f64) -> Self {
        self.budget = Some(Arc::new(Budget::new(share)));
        self
    }

    /// Learns from these, and they from it, where it goes by the targets' own latencies.
    #[cfg(feature = "config")]
    pub(crate) fn with_latencies(mut self, shared: &Latencies) -> Self {
        if let After::P95(latencies) = &mut self.after {
            *latencies = shared.clone();
        }
        self
    }

    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// Counts a request, of which hedges may be a share.
    pub(super) fn record_request(&self) {
        if let Some(budget) = &self.budget {
            budget.record();
        }
    }

    /// Takes a hedge out of the budget, if there is one left.
    pub(super) fn withdraw(&self) -> bool {
        self.budget.as_ref().is_none_or(|budget| budget.withdraw())
    }

    /// How long that target is waited for alone.
    pub(super) fn patience(&self, target: &Target) -> Duration {
        match &self.after {
            After::Fixed(after) => *after,
            After::P95(latencies) => {
                latencies.with(target.id(), Arc::default, |latency| latency.p95()).unwrap_or(UNKNOWN)
            }
        }
    }

    /// Takes note of how long a target took to answer, or was waited for when another one was faster.
    pub(super) fn record_latency(&self, target: &Target, latency: Duration) {
        if let After::P95(latencies) = &self.after {
            latencies.with(target.id(), Arc::default, |window| window.record(latency));
        }
    }
}
