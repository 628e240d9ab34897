use std::time::Duration;

use tower_layer::Layer;

use crate::{
    StatusClassifier,
    retry::{Backoff, Retry, RetryBudget},
};

/// Tries the same target again when that may help: see the [module](crate::retry).
#[derive(Clone, Debug)]
pub struct RetryLayer<C = StatusClassifier> {
    pub(super) attempts: u32,
    pub(super) backoff: Backoff,
    pub(super) max_retry_after: Duration,
    pub(super) budget: RetryBudget,
    pub(super) classifier: C,
}

impl RetryLayer {
    /// Two tries in all, [`Backoff::default`], waits of up to 2 s for a provider that asks for them, and
    /// [`RetryBudget::default`].
    #[must_use]
    pub fn new() -> Self {
        RetryLayer {
            attempts: 2,
            backoff: Backoff::default(),
            max_retry_after: Duration::from_secs(2),
            budget: RetryBudget::default(),
            classifier: StatusClassifier,
        }
    }
}

impl Default for RetryLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<C> RetryLayer<C> {
    /// How many tries one target gets, the first one included: 1 is no retry, 0 is the same.
    #[must_use]
    pub fn with_attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// How long to wait where the provider does not say.
    #[must_use]
    pub fn with_backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Does not retry a target that asks to be left alone for longer.
    #[must_use]
    pub fn with_max_retry_after(mut self, max_retry_after: Duration) -> Self {
        self.max_retry_after = max_retry_after;
        self
    }

    /// Which share of the traffic retries may be.
    #[must_use]
    pub fn with_budget(mut self, budget: RetryBudget) -> Self {
        self.budget = budget;
        self
    }

    /// Tells failures from answers in another way.
    #[must_use]
    pub fn with_classifier<D>(self, classifier: D) -> RetryLayer<D> {
        let RetryLayer { attempts, backoff, max_retry_after, budget, .. } = self;
        RetryLayer { attempts, backoff, max_retry_after, budget, classifier }
    }
}

impl<S, C: Clone> Layer<S> for RetryLayer<C> {
    type Service = Retry<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        Retry::new(inner, self.clone())
    }
}
