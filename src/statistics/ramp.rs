//! How fast a target's traffic may grow that is not its own.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

/// In each such time a target is given twice as many calls as in the one before, or so many.
const STEP: Duration = Duration::from_secs(5);
const LEAST: u64 = 10;

/// Calls of this step and of the one before, in one word: 24 bits of the step's number, and 20 of each count, which stay at
/// their greatest.
#[derive(Debug)]
pub(super) struct Ramp {
    start: Instant,
    word: AtomicU64,
}

const COUNT: u64 = (1 << 20) - 1;

impl Default for Ramp {
    fn default() -> Self {
        Ramp { start: Instant::now(), word: AtomicU64::new(0) }
    }
}

impl Ramp {
    /// Counts a call.
    pub(super) fn count(&self, now: Instant) {
        let step = self.step(now);
        let add = |word| {
            let [before, current] = counts(word, step);
            Some(step << 40 | before << 20 | (current + 1).min(COUNT))
        };
        let _ = self.word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// Whether it may be given another one.
    pub(super) fn has_room(&self, now: Instant) -> bool {
        let [before, current] = counts(self.word.load(Ordering::Relaxed), self.step(now));
        current < (2 * before).max(LEAST) || current == COUNT
    }

    fn step(&self, now: Instant) -> u64 {
        // It begins anew after years; then one step counts as if it were new.
        (now.saturating_duration_since(self.start).as_secs() / STEP.as_secs()) & 0xff_ffff
    }
}

/// Of the step before, and of that one.
fn counts(word: u64, step: u64) -> [u64; 2] {
    let (at, before, current) = (word >> 40, word >> 20 & COUNT, word & COUNT);
    match step.wrapping_sub(at) {
        0 => [before, current],
        1 => [current, 0],
        _ => [0, 0],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    /// How many of those that are offered at once it takes.
    fn taken(ramp: &Ramp, offered: u64) -> u64 {
        let now = Instant::now();
        (0..offered).filter(|_| ramp.has_room(now)).inspect(|_| ramp.count(now)).count() as u64
    }

    #[tokio::test(start_paused = true)]
    async fn calls_at_most_double_from_step_to_step() {
        let ramp = Ramp::default();
        for expected in [10, 20, 40, 80, 100, 100] {
            assert_eq!(taken(&ramp, 100), expected);
            advance(STEP).await;
        }
        advance(STEP).await;
        assert_eq!(taken(&ramp, 100), 10, "it was idle for a step");
    }

    #[tokio::test(start_paused = true)]
    async fn a_count_stays_at_its_greatest() {
        let ramp = Ramp { start: Instant::now(), word: AtomicU64::new(COUNT << 20 | COUNT) };
        assert!(ramp.has_room(Instant::now()));
        ramp.count(Instant::now());
        assert_eq!(ramp.word.load(Ordering::Relaxed), COUNT << 20 | COUNT);
    }
}
