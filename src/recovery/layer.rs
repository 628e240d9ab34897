use tower_layer::Layer;

use super::Recovery;

/// Completes streams that break off: see the [module](crate::recovery).
#[derive(Clone, Copy, Debug)]
pub struct RecoveryLayer {
    max_body: usize,
}

impl RecoveryLayer {
    /// For requests with bodies of up to 32 MiB.
    #[must_use]
    pub const fn new() -> Self {
        RecoveryLayer { max_body: 32 << 20 }
    }

    /// How many bytes a request's body may have; a longer one is answered with 413.
    #[must_use]
    pub const fn with_max_body(mut self, bytes: usize) -> Self {
        self.max_body = bytes;
        self
    }
}

impl Default for RecoveryLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for RecoveryLayer {
    type Service = Recovery<S>;

    fn layer(&self, inner: S) -> Recovery<S> {
        Recovery::new(inner, self.max_body)
    }
}
