use std::time::Duration;

/// How long to wait before the next try: exponential, with full jitter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    base: Duration,
    max: Duration,
}

impl Backoff {
    /// A random wait of up to `base` before the second try, up to twice that before the third, and so on up to `max`.
    #[must_use]
    pub const fn new(base: Duration, max: Duration) -> Self {
        Backoff { base, max }
    }

    /// The longest wait after so many tries.
    fn bound(&self, tries: u32) -> Duration {
        self.base.saturating_mul(2_u32.saturating_pow(tries.saturating_sub(1))).min(self.max)
    }

    /// A wait after so many tries.
    pub(super) fn wait(&self, tries: u32) -> Duration {
        let seconds = self.bound(tries).as_secs_f64() * fastrand::f64();
        Duration::try_from_secs_f64(seconds).unwrap_or(self.max)
    }
}

impl Default for Backoff {
    /// From 250 ms up to 5 s.
    fn default() -> Self {
        Backoff::new(Duration::from_millis(250), Duration::from_secs(5))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_double_up_to_the_most_and_waits_stay_below_them() {
        let backoff = Backoff::default();
        let bounds: Vec<_> = (1..8).map(|tries| backoff.bound(tries).as_millis()).collect();
        assert_eq!(bounds, [250, 500, 1000, 2000, 4000, 5000, 5000]);
        assert!((0..1_000).all(|_| backoff.wait(2) <= Duration::from_millis(500)));
        assert!(Backoff::new(Duration::MAX, Duration::MAX).wait(u32::MAX) <= Duration::MAX);
    }
}
