use tower_layer::Layer;

use crate::fault_injection::{FaultInjection, FaultSwitch};

/// Makes calls fail when its switch says so: see the [module](crate::fault_injection).
#[derive(Clone, Debug)]
pub struct FaultInjectionLayer {
    switch: FaultSwitch,
}

impl FaultInjectionLayer {
    /// A layer that this switch works on, like every other one that was made with it.
    #[must_use]
    pub fn new(switch: &FaultSwitch) -> Self {
        FaultInjectionLayer { switch: switch.clone() }
    }
}

impl<S> Layer<S> for FaultInjectionLayer {
    type Service = FaultInjection<S>;

    fn layer(&self, inner: S) -> FaultInjection<S> {
        FaultInjection::new(inner, self.switch.clone())
    }
}
