use std::time::Duration;

use tower_layer::Layer;

use crate::{
    RateLimitsRegistry,
    provider::{
        Commit, Dispatch, DispatchLayer, FaultRules, Rotate, RotateLayer, StreamGuard, StreamGuardLayer, Translate,
        TranslateLayer,
    },
};

/// Speaks to a provider: see the [module](crate::provider).
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ProviderLayer {
    translate: TranslateLayer,
    stream_guard: StreamGuardLayer,
    dispatch: DispatchLayer,
}

impl ProviderLayer {
    /// The layer; whom it speaks to is in each request's [`Target`](crate::Target).
    #[must_use]
    pub const fn new() -> Self {
        ProviderLayer {
            translate: TranslateLayer::new(),
            stream_guard: StreamGuardLayer::new(),
            dispatch: DispatchLayer::new(),
        }
    }

    /// When a stream is let through. Default: with its first output.
    #[must_use]
    pub fn with_commit(mut self, commit: Commit) -> Self {
        self.stream_guard = self.stream_guard.with_commit(commit);
        self
    }

    /// How long a stream that is let through [when it is whole](Commit::Complete) may be without its first output. Default:
    /// 60 s.
    #[must_use]
    pub fn with_first_output(mut self, first_output: Duration) -> Self {
        self.stream_guard = self.stream_guard.with_first_output(first_output);
        self
    }

    /// Whether streams are asked for their usage that would tell none (`stream_options.include_usage`). The chunk that tells
    /// it is taken out again; that the others then say `"usage":null` is left. Default: no, and usage that is not told is
    /// estimated. Some servers refuse what they do not know.
    #[must_use]
    pub fn with_meter_streams(mut self, meter_streams: bool) -> Self {
        self.dispatch = self.dispatch.with_meter_streams(meter_streams);
        self
    }

    /// Keeps what the providers' headers say of their rate limits where others can read it.
    #[must_use]
    pub fn with_rate_limits(mut self, registry: RateLimitsRegistry) -> Self {
        self.stream_guard = self.stream_guard.with_rate_limits(registry);
        self
    }

    /// How many bytes one event of a stream may have. Default: 16 MiB.
    #[must_use]
    pub fn with_max_event(mut self, bytes: usize) -> Self {
        self.stream_guard = self.stream_guard.with_max_event(bytes);
        self
    }

    /// How many bytes an answer may have that is collected. Default: 32 MiB.
    #[must_use]
    pub fn with_max_answer(mut self, bytes: usize) -> Self {
        self.stream_guard = self.stream_guard.with_max_answer(bytes);
        self.translate = self.translate.with_max_answer(bytes);
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
    type Service = Translate<Rotate<StreamGuard<Dispatch<S>>>>;

    fn layer(&self, inner: S) -> Self::Service {
        self.translate.layer(RotateLayer::new().layer(self.stream_guard.layer(self.dispatch.layer(inner))))
    }
}
