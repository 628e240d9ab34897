use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::window::{Counts, Window};

/// How far back the budget looks, and how many retries it always allows in that time: one failure on a quiet day is
/// worth a retry whatever its share.
const WINDOW: Duration = Duration::from_secs(10);
const ALWAYS: u64 = 10;

/// Keeps retries a share of the traffic. Clones share it.
#[derive(Clone, Debug)]
pub struct RetryBudget {
    share: f64,
    /// First tries, and retries.
    window: Arc<Window>,
}

impl RetryBudget {
    /// Retries may be that share of first tries in any 10 s; the first 10 in that time are always allowed.
    #[must_use]
    pub fn new(share: f64) -> Self {
        RetryBudget { share, window: Arc::new(Window::new(WINDOW)) }
    }

    pub(super) fn record_first_try(&self) {
        self.window.add(Instant::now(), Counts([1, 0, 0]));
    }

    /// Takes a retry out of the budget, if there is one left.
    pub(super) fn withdraw(&self) -> bool {
        let now = Instant::now();
        let Counts([first_tries, retries, _]) = self.window.sum(now);
        let allowed = retries < ALWAYS || (retries as f64) < self.share * first_tries as f64;
        if allowed {
            self.window.add(now, Counts([0, 1, 0]));
        }
        allowed
    }
}

impl Default for RetryBudget {
    /// A fifth of the traffic.
    fn default() -> Self {
        RetryBudget::new(0.2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_few_are_always_allowed_and_then_a_share() {
        let budget = RetryBudget::default();
        let withdrawn = |budget: &RetryBudget| (0..1_000).take_while(|_| budget.withdraw()).count();
        assert_eq!(withdrawn(&budget), 10);
        (0..100).for_each(|_| budget.record_first_try());
        assert_eq!(withdrawn(&budget), 10);
        tokio::time::advance(WINDOW + Duration::from_secs(1)).await;
        assert_eq!(withdrawn(&budget), 10);
    }
}
