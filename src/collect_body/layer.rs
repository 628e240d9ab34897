use tower_layer::Layer;

use crate::collect_body::CollectBody;

/// Collects the request's body before it calls: see the [module](crate::collect_body).
#[derive(Clone, Copy, Debug)]
pub struct CollectBodyLayer {
    max_body: usize,
}

impl CollectBodyLayer {
    /// Bodies of up to 32 MiB.
    #[must_use]
    pub const fn new() -> Self {
        CollectBodyLayer { max_body: 32 << 20 }
    }

    /// How many bytes a request's body may have; a longer one is answered with 413.
    #[must_use]
    pub const fn with_max_body(mut self, bytes: usize) -> Self {
        self.max_body = bytes;
        self
    }
}

impl Default for CollectBodyLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for CollectBodyLayer {
    type Service = CollectBody<S>;

    fn layer(&self, inner: S) -> CollectBody<S> {
        CollectBody::new(inner, self.max_body)
    }
}
