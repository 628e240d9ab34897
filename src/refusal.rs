//! Why a layer of ours declined a call before the wire.

use std::{borrow::Cow, fmt, time::Duration};

use crate::Unmet;

/// Why a guard would not let an attempt through.
///
/// A guard answers with a response whose [`Fault`](crate::Fault) is [`Refused`](crate::FaultKind::Refused) and
/// carries one of these; failover then tries the next target. That is the whole protocol between guards and
/// failover, so a guard of your own is just one more layer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The target's circuit is open.
    CircuitOpen {
        /// When the circuit will admit a probe, from now on.
        retry_after: Duration,
        /// Whether waiting mends it (a target that failed), or not (a rejected key, an unknown model). Only a
        /// transient one may be passed as a last resort.
        transient: bool,
    },
    /// Somebody has [drained](crate::circuit_breaker::CircuitRegistry::drain) the target: it gets nothing until they say
    /// otherwise.
    Drained,
    /// The target cannot, or may not, serve what the request needs.
    Unmet(Unmet),
    /// A limit that we keep ourselves is used up.
    LimitReached {
        /// When there is room again, where known.
        retry_after: Option<Duration>,
    },
    /// A guard of one's own declined, for the reason that it gives: see [`Guarded`](crate::Guarded).
    Declined(Cow<'static, str>),
}

impl Refusal {
    /// How long the reason will last, where known.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Refusal::CircuitOpen { retry_after, .. } => Some(*retry_after),
            Refusal::Unmet(_) | Refusal::Drained | Refusal::Declined(_) => None,
            Refusal::LimitReached { retry_after } => *retry_after,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::CircuitOpen { .. } => f.write_str("the target's circuit is open"),
            Refusal::Drained => f.write_str("the target is drained"),
            Refusal::Unmet(unmet) => write!(f, "the target does not offer {unmet}"),
            Refusal::LimitReached { .. } => f.write_str("the target's own limit is used up"),
            Refusal::Declined(reason) => f.write_str(reason),
        }
    }
}
