use std::time::Duration;

use tower_layer::Layer;

use crate::timeout::Timeout;

/// Bounds how long a call may be silent: see the [module](crate::timeout).
#[derive(Clone, Copy, Debug)]
pub struct TimeoutLayer {
    pub(super) first_output: Duration,
    pub(super) response: Duration,
    pub(super) idle: Duration,
}

impl TimeoutLayer {
    /// 60 s until a stream's first output, 5 min until any other response, 60 s between two frames.
    #[must_use]
    pub const fn new() -> Self {
        TimeoutLayer {
            first_output: Duration::from_secs(60),
            response: Duration::from_secs(300),
            idle: Duration::from_secs(60),
        }
    }

    /// How long a request that asks for a stream may wait for its response.
    #[must_use]
    pub const fn with_first_output(mut self, duration: Duration) -> Self {
        self.first_output = duration;
        self
    }

    /// How long any other request may wait for its response.
    #[must_use]
    pub const fn with_response(mut self, duration: Duration) -> Self {
        self.response = duration;
        self
    }

    /// How long may pass between two frames of a body.
    #[must_use]
    pub const fn with_idle(mut self, duration: Duration) -> Self {
        self.idle = duration;
        self
    }
}

impl Default for TimeoutLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for TimeoutLayer {
    type Service = Timeout<S>;

    fn layer(&self, inner: S) -> Timeout<S> {
        Timeout::new(inner, *self)
    }
}
