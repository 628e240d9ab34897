use tower_layer::Layer;

use crate::{StatusClassifier, catch_error::CatchError};

/// Turns errors into failed responses: see the [module](crate::catch_error).
#[derive(Clone, Copy, Debug)]
pub struct CatchErrorLayer<C = StatusClassifier> {
    classifier: C,
}

impl CatchErrorLayer {
    /// With the faults that [`Fault::from_transport`](crate::Fault::from_transport) finds in errors.
    #[must_use]
    pub const fn new() -> Self {
        CatchErrorLayer { classifier: StatusClassifier }
    }
}

impl Default for CatchErrorLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<C> CatchErrorLayer<C> {
    /// Tells in another way what an error means.
    #[must_use]
    pub fn with_classifier<D>(self, classifier: D) -> CatchErrorLayer<D> {
        CatchErrorLayer { classifier }
    }
}

impl<S, C: Clone> Layer<S> for CatchErrorLayer<C> {
    type Service = CatchError<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        CatchError::new(inner, self.classifier.clone())
    }
}
