use tower_layer::Layer;

use crate::{Dialect, Target, requirements_layer::WithRequirements};

/// Finds out what a request needs: see the [module](crate::requirements_layer).
#[derive(Clone, Debug, Default)]
pub struct RequirementsLayer {
    pub(super) dialect: Option<Dialect>,
    pub(super) target: Option<Target>,
}

impl RequirementsLayer {
    /// For requests whose context or path says what they are written in.
    #[must_use]
    pub const fn new() -> Self {
        RequirementsLayer { dialect: None, target: None }
    }

    /// For requests of which neither context nor path says what they are written in.
    #[must_use]
    pub const fn with_dialect(mut self, dialect: Dialect) -> Self {
        self.dialect = Some(dialect);
        self
    }

    /// Names the target of requests that are for none yet: whom the needs are compared with.
    #[must_use]
    pub fn with_target(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }
}

impl<S> Layer<S> for RequirementsLayer {
    type Service = WithRequirements<S>;

    fn layer(&self, inner: S) -> WithRequirements<S> {
        WithRequirements::new(inner, self.clone())
    }
}
