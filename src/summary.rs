//! What became of a request, when all is over.

use std::{fmt, sync::Arc, time::Duration};

use crate::{Attempt, AttemptLog, Cost, Fault, FaultKind, Phase, Refusal, RequestContext, Target, Usage};

/// How a request ended, as its client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RequestOutcome {
    /// It got its whole answer.
    Answered,
    /// It was itself at fault, or no target may serve it: another try would be no better.
    Rejected,
    /// No target could answer it.
    Failed,
    /// Its answer broke off, and nobody completed it.
    Interrupted,
    /// Its client went away before the answer was whole.
    Cancelled,
}

impl RequestOutcome {
    /// Every outcome.
    pub const ALL: [RequestOutcome; 5] = [
        RequestOutcome::Answered,
        RequestOutcome::Rejected,
        RequestOutcome::Failed,
        RequestOutcome::Interrupted,
        RequestOutcome::Cancelled,
    ];

    /// Its stable name, as in metrics and logs: `"answered"`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            RequestOutcome::Answered => "answered",
            RequestOutcome::Rejected => "rejected",
            RequestOutcome::Failed => "failed",
            RequestOutcome::Interrupted => "interrupted",
            RequestOutcome::Cancelled => "cancelled",
        }
    }

    /// How a request ended that was answered with that fault.
    #[must_use]
    pub fn of(fault: &Fault) -> Self {
        use FaultKind::{
            BadRequest, Cancelled, ContentFiltered, ContextLengthExceeded, PayloadTooLarge, Refused, Unsupported,
        };
        match fault.kind() {
            BadRequest | PayloadTooLarge | ContentFiltered | ContextLengthExceeded | Unsupported => Self::Rejected,
            Refused if matches!(fault.refusal(), Some(Refusal::Unmet(_))) => Self::Rejected,
            Cancelled => Self::Cancelled,
            _ => Self::Failed,
        }
    }
}

/// What a cache did with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CacheOutcome {
    /// It was answered with what was kept.
    Hit,
    /// It was answered with what was kept for too long, because nobody had a better answer.
    Stale,
    /// It was answered with the answer to another one that came at the same time.
    Collapsed,
    /// Nothing that is kept fits: it was passed on.
    Miss,
    /// Its client wants a new answer: it was passed on.
    Unwanted,
    /// It is none whose answer is kept: it was passed on.
    Bypass,
}

impl CacheOutcome {
    /// Every outcome.
    pub const ALL: [CacheOutcome; 6] = [
        CacheOutcome::Hit,
        CacheOutcome::Stale,
        CacheOutcome::Collapsed,
        CacheOutcome::Miss,
        CacheOutcome::Unwanted,
        CacheOutcome::Bypass,
    ];

    /// Its stable name, as in metrics and logs: `"hit"`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            CacheOutcome::Hit => "hit",
            CacheOutcome::Stale => "stale",
            CacheOutcome::Collapsed => "collapsed",
            CacheOutcome::Miss => "miss",
            CacheOutcome::Unwanted => "request",
            CacheOutcome::Bypass => "bypass",
        }
    }
}

/// What became of a request: told when its answer's body has ended, broken off or been dropped. Cheap to clone.
#[derive(Clone)]
pub struct RequestSummary(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) route: Arc<str>,
    pub(crate) context: RequestContext,
    pub(crate) outcome: RequestOutcome,
    pub(crate) fault: Option<Fault>,
    pub(crate) duration: Duration,
    pub(crate) time_to_first_output: Option<Duration>,
    pub(crate) streaming: bool,
}

impl RequestSummary {
    pub(crate) fn new(inner: Inner) -> Self {
        RequestSummary(Arc::new(inner))
    }

    /// The route's name.
    #[must_use]
    pub fn route(&self) -> &Arc<str> {
        &self.0.route
    }

    /// The request's id, where it has one.
    #[must_use]
    pub fn request_id(&self) -> Option<&str> {
        self.0.context.request_id()
    }

    /// How it ended.
    #[must_use]
    pub fn outcome(&self) -> RequestOutcome {
        self.0.outcome
    }

    /// What the client was told, where it was not answered, or what broke its answer off.
    #[must_use]
    pub fn fault(&self) -> Option<&Fault> {
        self.0.fault.as_ref()
    }

    pub(crate) fn context(&self) -> &RequestContext {
        &self.0.context
    }

    /// Everything that was tried.
    #[must_use]
    pub fn attempts(&self) -> &AttemptLog {
        self.0.context.attempts()
    }

    /// Who answered last; where nobody did, who was tried last of those that were reached.
    #[must_use]
    pub fn target(&self) -> Option<&Target> {
        let sent = |attempt: &&Attempt| attempt.phase() > Phase::NeverSent;
        let attempt = self.attempts().answered().or_else(|| self.attempts().iter().filter(sent).last());
        attempt.and_then(Attempt::target)
    }

    /// From the call until the end of its answer.
    #[must_use]
    pub fn duration(&self) -> Duration {
        self.0.duration
    }

    /// From the call until its answer began; `None` where it did not.
    #[must_use]
    pub fn time_to_first_output(&self) -> Option<Duration> {
        self.0.time_to_first_output
    }

    /// Whether the answer was a stream of events.
    #[must_use]
    pub fn streaming(&self) -> bool {
        self.0.streaming
    }

    /// The tokens of all attempts together, losers and broken answers included; estimated, if those of any are. `None` where
    /// nothing is known.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        self.attempts().iter().filter_map(Attempt::usage).reduce(Usage::and)
    }

    /// What all attempts cost together; `None` where no price is known.
    #[must_use]
    pub fn cost(&self) -> Option<Cost> {
        self.attempts().cost()
    }

    /// How much of that was for tries that [came to nothing](Attempt::is_wasted).
    #[must_use]
    pub fn wasted_cost(&self) -> Option<Cost> {
        self.attempts().iter().filter(|attempt| attempt.is_wasted()).filter_map(Attempt::cost).reduce(|a, b| a + b)
    }

    /// What a cache did with it; `None` where there is none.
    #[must_use]
    pub fn cache(&self) -> Option<CacheOutcome> {
        self.0.context.cache_outcome()
    }

    /// What an answer from a cache had cost when it was made, where that is known.
    #[must_use]
    pub fn saved_cost(&self) -> Option<Cost> {
        self.0.context.worth()?.cost
    }
}

impl fmt::Debug for RequestSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestSummary")
            .field("route", &self.route())
            .field("request_id", &self.request_id())
            .field("outcome", &self.outcome())
            .field("fault", &self.fault().map(Fault::kind))
            .field("duration", &self.duration())
            .field("cost", &self.cost())
            .finish_non_exhaustive()
    }
}
