use std::sync::Arc;

use crate::budget::Budget;

/// Keeps retries a share of the traffic. Clones share it.
#[derive(Clone, Debug)]
pub struct RetryBudget(Arc<Budget>);

impl RetryBudget {
    /// Retries may be that share of the first tries that ended in the last 10 s, but for those that a guard refused; 10 in that time are
    /// always allowed.
    #[must_use]
    pub fn new(share: f64) -> Self {
        RetryBudget(Arc::new(Budget::new(share)))
    }

    pub(super) fn record_first_try(&self) {
        self.0.record();
    }

    /// Takes a retry out of the budget, if there is one left.
    pub(super) fn withdraw(&self) -> bool {
        self.0.withdraw()
    }
}

impl Default for RetryBudget {
    /// A fifth of the traffic.
    fn default() -> Self {
        RetryBudget::new(0.2)
    }
}
