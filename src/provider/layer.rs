use std::time::Duration;

use tower_layer::Layer;

use crate::provider::{Dispatch, DispatchLayer, FaultRules, StreamGuard, StreamGuardLayer};

/// Speaks to a provider: see the [module](crate::provider).
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ProviderLayer {
    stream_guard: StreamGuardLayer,
}

impl ProviderLayer {
    /// The layer; whom it speaks to is in each request's [`Target`](crate::Target).
    #[must_use]
    pub const fn new() -> Self {
        ProviderLayer { stream_guard: StreamGuardLayer::new() }
    }

    /// How many bytes an answer in one piece may have. Default: 32 MiB.
    #[must_use]
    pub fn with_max_answer(mut self, bytes: usize) -> Self {
        self.stream_guard = self.stream_guard.with_max_answer(bytes);
        self
    }

    /// How long a stream that has begun may go on without any progress. Default: 60 s.
    #[must_use]
    pub fn with_idle(mut self, idle: Duration) -> Self {
        self.stream_guard = self.stream_guard.with_idle(idle);
        self
    }

    /// Asks these rules what an error means before those that are built in.
    #[must_use]
    pub fn with_rules(mut self, rules: FaultRules) -> Self {
        self.stream_guard = self.stream_guard.with_rules(rules);
        self
    }
}

impl<S> Layer<S> for ProviderLayer {
    type Service = StreamGuard<Dispatch<S>>;

    fn layer(&self, inner: S) -> Self::Service {
        self.stream_guard.layer(DispatchLayer::new().layer(inner))
    }
}
