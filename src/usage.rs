//! What an answer cost, in tokens.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use crate::Cost;

/// The tokens of one answer, as the provider counts them, or estimated where it does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// Tokens of the request, those that came from the provider's cache or went into it included.
    pub input: u64,
    /// How many of them came from the provider's cache.
    pub cached_input: u64,
    /// How many of them were put into the provider's cache, which some providers charge for.
    pub cache_write_input: u64,
    /// Tokens of the answer, reasoning included.
    pub output: u64,
    /// How many of them were reasoning.
    pub reasoning: u64,
    /// Whether the provider did not say, and this is [an estimate](crate::dialect#token-estimate).
    pub estimated: bool,
}

impl Usage {
    /// Both together.
    pub(crate) fn and(self, other: Usage) -> Usage {
        Usage {
            input: self.input + other.input,
            cached_input: self.cached_input + other.cached_input,
            cache_write_input: self.cache_write_input + other.cache_write_input,
            output: self.output + other.output,
            reasoning: self.reasoning + other.reasoning,
            estimated: self.estimated || other.estimated,
        }
    }
}

/// What an answer that is given again had cost.
#[cfg_attr(not(feature = "cache"), allow(dead_code))]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Worth {
    pub(crate) usage: Option<Usage>,
    pub(crate) cost: Option<Cost>,
}

/// The [`Usage`] of an answer, in the extensions of its response: known once the body has ended, broken off or been
/// dropped.
///
/// ```
/// use tower_failover::UsageHandle;
///
/// let response = http::Response::new(());
/// // After its body has been read:
/// if let Some(usage) = response.extensions().get::<UsageHandle>().and_then(UsageHandle::get) {
///     println!("{} tokens in, {} out", usage.input, usage.output);
/// }
/// ```
#[derive(Clone)]
pub struct UsageHandle(State);

#[derive(Clone)]
enum State {
    /// Of an answer that is all there.
    Settled(Option<Usage>),
    /// Of one whose body runs.
    Running(Arc<OnceLock<Usage>>),
}

impl UsageHandle {
    /// The usage; `None` while the body runs, and for an answer of which nothing is known.
    #[must_use]
    pub fn get(&self) -> Option<Usage> {
        match &self.0 {
            State::Settled(usage) => *usage,
            State::Running(usage) => usage.get().copied(),
        }
    }

    /// The usage of an answer that is all there.
    pub(crate) fn of(usage: Option<Usage>) -> Self {
        UsageHandle(State::Settled(usage))
    }

    /// Says what it was. The first word counts.
    pub(crate) fn fill(&self, usage: Usage) {
        if let State::Running(slot) = &self.0 {
            let _ = slot.set(usage);
        }
    }
}

impl Default for UsageHandle {
    fn default() -> Self {
        UsageHandle(State::Running(Arc::default()))
    }
}

impl fmt::Debug for UsageHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("UsageHandle").field(&self.get()).finish()
    }
}

/// One token for so many bytes of an answer's text: see the [module](crate::dialect#token-estimate).
pub(crate) const BYTES_PER_TOKEN: u64 = 4;

/// How much of an answer was seen, in bytes of its text: what an estimate is made from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Written {
    /// Everything, reasoning included.
    pub(crate) all: u64,
    pub(crate) reasoning: u64,
}

impl Written {
    /// What that probably was in tokens, for a request of so many.
    pub(crate) fn estimate(self, input: u64) -> Usage {
        Usage {
            input,
            cached_input: 0,
            cache_write_input: 0,
            output: self.all.div_ceil(BYTES_PER_TOKEN),
            reasoning: self.reasoning.div_ceil(BYTES_PER_TOKEN),
            estimated: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_share_what_is_filled_in_once() {
        let handle = UsageHandle::default();
        let clone = handle.clone();
        assert_eq!(clone.get(), None);
        handle.fill(Usage { input: 1, ..Usage::default() });
        handle.fill(Usage { input: 2, ..Usage::default() });
        assert_eq!(clone.get().unwrap().input, 1);
    }

    #[test]
    fn an_estimate_is_marked_and_rounds_up() {
        let usage = Written { all: 9, reasoning: 1 }.estimate(7);
        assert_eq!(usage, Usage { input: 7, output: 3, reasoning: 1, estimated: true, ..Usage::default() });
    }
}
