//! Counts of what happened lately.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

/// How many buckets a window has: it slides in steps of a tenth.
const BUCKETS: u64 = 10;
/// Bits of one count, and the most that it holds.
const COUNT_BITS: u32 = 14;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;
/// Bits left for telling a bucket's turn from an earlier one: of 3 s each, they come round in 145 days.
const TURN_MASK: u64 = (1 << (64 - 3 * COUNT_BITS)) - 1;

/// Three counts that are kept together. What they count is the owner's business.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts(pub(crate) [u64; 3]);

/// A window over the last so many seconds, in a ring of buckets with exact counts. It takes no lock: a bucket, with
/// the turn of the ring it belongs to, is one word.
#[derive(Debug)]
pub(crate) struct Window {
    start: Instant,
    bucket_nanos: u64,
    buckets: [AtomicU64; BUCKETS as usize],
}

impl Window {
    pub(crate) fn new(length: Duration) -> Self {
        let nanos = u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
        Window {
            start: Instant::now(),
            bucket_nanos: (nanos / BUCKETS).max(1),
            buckets: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    /// Adds to the counts of now.
    pub(crate) fn add(&self, now: Instant, more: Counts) {
        let turn = self.turn(now);
        let bucket = &self.buckets[(turn % BUCKETS) as usize];
        let update = |word| {
            let counts = if turn_of(word) == turn & TURN_MASK { counts_of(word) } else { Counts::default() };
            Some(pack(turn, std::array::from_fn(|index| counts.0[index] + more.0[index])))
        };
        // The closure never declines, so this cannot fail.
        let _ = bucket.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update);
    }

    /// The counts of the window that ends now.
    pub(crate) fn sum(&self, now: Instant) -> Counts {
        let turn = self.turn(now);
        let mut sum = Counts::default();
        for age in 0..BUCKETS.min(turn + 1) {
            let expected = turn - age;
            let word = self.buckets[(expected % BUCKETS) as usize].load(Ordering::Relaxed);
            if turn_of(word) == expected & TURN_MASK {
                let counts = counts_of(word);
                sum = Counts(std::array::from_fn(|index| sum.0[index] + counts.0[index]));
            }
        }
        sum
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        self.buckets.iter().for_each(|bucket| bucket.store(0, Ordering::Relaxed));
    }

    /// How many buckets have begun since the start.
    fn turn(&self, now: Instant) -> u64 {
        let nanos = u64::try_from(now.saturating_duration_since(self.start).as_nanos()).unwrap_or(u64::MAX);
        nanos / self.bucket_nanos
    }
}

fn turn_of(word: u64) -> u64 {
    word >> (3 * COUNT_BITS)
}

fn counts_of(word: u64) -> Counts {
    Counts(std::array::from_fn(|index| (word >> (index as u32 * COUNT_BITS)) & COUNT_MAX))
}

fn pack(turn: u64, mut counts: [u64; 3]) -> u64 {
    // A bucket that is full is halved as a whole: shares, which are what is asked for, stay what they were.
    while counts.iter().any(|count| *count > COUNT_MAX) {
        counts.iter_mut().for_each(|count| *count /= 2);
    }
    let packed = counts.iter().enumerate().fold(0, |word, (index, count)| word | count << (index as u32 * COUNT_BITS));
    packed | (turn & TURN_MASK) << (3 * COUNT_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_older_than_the_window_is_forgotten_bucket_by_bucket() {
        let window = Window::new(Duration::from_secs(10));
        for second in 0..25 {
            window.add(Instant::now(), Counts([1, second % 2, 0]));
            let sum = window.sum(Instant::now());
            assert_eq!(sum.0[0], (second + 1).min(10), "at second {second}");
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        tokio::time::advance(Duration::from_secs(1_000_000)).await;
        assert_eq!(window.sum(Instant::now()), Counts::default());
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_bucket_keeps_its_shares() {
        let window = Window::new(Duration::from_secs(10));
        for index in 0..100_000_u64 {
            window.add(Instant::now(), Counts([1, u64::from(index % 4 == 0), 0]));
        }
        let [calls, quarter, none] = window.sum(Instant::now()).0;
        let share = quarter as f64 / calls as f64;
        assert!((0.24..0.26).contains(&share) && none == 0, "{share}");
    }

    #[test]
    fn threads_lose_no_count() {
        let window = Window::new(Duration::from_secs(10_000));
        let now = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1_000).for_each(|_| window.add(now, Counts([1, 0, 1]))));
            }
        });
        assert_eq!(window.sum(now), Counts([4_000, 0, 4_000]));
    }
}
