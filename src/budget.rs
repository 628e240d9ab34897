use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::window::{Counts, Window};

/// How far back the budget looks, and how many retries it always allows in that time: one failure on a quiet day is
/// worth a retry whatever its share.
const WINDOW: Duration = Duration::from_secs(10);
const ALWAYS: u64 = 10;

/// Keeps retries a share of the traffic. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    share: f64,
    /// First tries, and retries.
    window: Arc<Window>,
}

impl Budget {
    /// Retries may be that share of first tries in any 10 s; the first 10 in that time are always allowed.
    #[must_use]
    pub(crate) fn new(share: f64) -> Self {
        Budget { share, window: Arc::new(Window::new(WINDOW)) }
    }

    pub(crate) fn record(&self) {
        self.window.add(Instant::now(), Counts([1, 0, 0]));
    }

    /// Takes a retry out of the budget, if there is one left.
    pub(crate) fn withdraw(&self) -> bool {
        let now = Instant::now();
        let Counts([first_tries, retries, _]) = self.window.sum(now);
        let allowed = retries < ALWAYS || (retries as f64) < self.share * first_tries as f64;
        if allowed {
            self.window.add(now, Counts([0, 1, 0]));
        }
        allowed
    }
}

impl Default for Budget {
    /// A fifth of the traffic.
    fn default() -> Self {
        Budget::new(0.2)
    }
}
