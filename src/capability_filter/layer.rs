use tower_layer::Layer;

use crate::capability_filter::CapabilityFilter;

/// Keeps requests from targets that cannot or may not serve them: see the [module](crate::capability_filter).
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct CapabilityFilterLayer {}

impl CapabilityFilterLayer {
    /// The layer; it has no settings.
    #[must_use]
    pub const fn new() -> Self {
        CapabilityFilterLayer {}
    }
}

impl<S> Layer<S> for CapabilityFilterLayer {
    type Service = CapabilityFilter<S>;

    fn layer(&self, inner: S) -> CapabilityFilter<S> {
        CapabilityFilter::new(inner)
    }
}
