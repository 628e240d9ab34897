//! How long answers took lately, as a distribution.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

/// The window is this many slices of that length; the oldest is forgotten as a whole.
const SLICES: u64 = 5;
const SLICE: Duration = Duration::from_secs(60);
/// Buckets for each doubling of the time: a quantile is at most a fifth too high.
const PER_DOUBLING: u32 = 4;
/// From 1 ms to 2^18 ms, over four minutes; what is longer counts as that.
const DOUBLINGS: u32 = 18;
const BUCKETS: usize = (PER_DOUBLING * DOUBLINGS) as usize + 1;
/// With fewer answers, nothing is said about them.
const ENOUGH: u64 = 20;

/// How long answers took in the last five minutes. It takes no lock; an answer that comes just as a slice is forgotten may
/// be forgotten with it.
#[derive(Debug)]
pub(crate) struct LatencyWindow {
    start: Instant,
    slices: [Slice; SLICES as usize],
    /// The last answer to `quantile`, and until which second it holds: they are asked for with every request.
    cached: AtomicU64,
}

#[derive(Debug)]
struct Slice {
    turn: AtomicU64,
    counts: [AtomicU32; BUCKETS],
}

impl Default for LatencyWindow {
    fn default() -> Self {
        let slice = || Slice { turn: AtomicU64::new(0), counts: std::array::from_fn(|_| AtomicU32::new(0)) };
        LatencyWindow { start: Instant::now(), slices: std::array::from_fn(|_| slice()), cached: AtomicU64::new(0) }
    }
}

impl LatencyWindow {
    /// Adds how long an answer took; or, of one that was not waited for, how long it would at least have taken: without
    /// those, the distribution would know only the fast ones.
    pub(crate) fn record(&self, latency: Duration) {
        self.record_at(Instant::now(), latency);
    }

    /// The same, for whoever has looked at the clock already.
    pub(crate) fn record_at(&self, now: Instant, latency: Duration) {
        let turn = self.turn(now);
        let slice = &self.slices[(turn % SLICES) as usize];
        let seen = slice.turn.load(Ordering::Acquire);
        if seen != turn && slice.turn.compare_exchange(seen, turn, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            slice.counts.iter().for_each(|count| count.store(0, Ordering::Relaxed));
        }
        slice.counts[bucket(latency)].fetch_add(1, Ordering::Relaxed);
    }

    /// The time within which 95 of 100 answers came; `None` while there are not enough to tell. At most a second old.
    pub(crate) fn p95(&self) -> Option<Duration> {
        let second = self.start.elapsed().as_secs() as u32;
        let cached = self.cached.load(Ordering::Relaxed);
        let (until, millis) = ((cached >> 32) as u32, cached as u32);
        if until > second {
            return Some(Duration::from_millis(millis.into()));
        }
        let ([found], total) = self.look_up([0.95]);
        let found = found.filter(|_| total >= ENOUGH)?;
        let millis = u32::try_from(found.as_millis()).unwrap_or(u32::MAX);
        self.cached.store(u64::from(second + 1) << 32 | u64::from(millis), Ordering::Relaxed);
        Some(found)
    }

    /// The times within which these shares of the answers came; `None` where there was none. Of a few they say little, which
    /// whoever looks has to judge.
    pub(crate) fn quantiles<const N: usize>(&self, shares: [f64; N]) -> [Option<Duration>; N] {
        self.look_up(shares).0
    }

    /// The times, and the number of answers.
    fn look_up<const N: usize>(&self, shares: [f64; N]) -> ([Option<Duration>; N], u64) {
        let turn = self.turn(Instant::now());
        let mut sums = [0_u64; BUCKETS];
        for age in 0..SLICES.min(turn + 1) {
            let slice = &self.slices[((turn - age) % SLICES) as usize];
            if slice.turn.load(Ordering::Acquire) == turn - age {
                for (sum, count) in sums.iter_mut().zip(&slice.counts) {
                    *sum += u64::from(count.load(Ordering::Relaxed));
                }
            }
        }
        let total: u64 = sums.iter().sum();
        let find = |share: f64| {
            let rank = (total as f64 * share).ceil().max(1.0) as u64;
            let mut seen = 0;
            let bucket = sums.iter().position(|count| {
                seen += count;
                seen >= rank
            });
            bucket.map(upper_end)
        };
        (shares.map(find), total)
    }

    fn turn(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.start).as_secs() / SLICE.as_secs()
    }
}

fn bucket(latency: Duration) -> usize {
    let millis = latency.as_secs_f64() * 1_000.0;
    let place = if millis <= 1.0 { 0.0 } else { (millis.log2() * f64::from(PER_DOUBLING)).ceil() };
    (place as usize).min(BUCKETS - 1)
}

fn upper_end(bucket: usize) -> Duration {
    Duration::from_secs_f64((bucket as f64 / f64::from(PER_DOUBLING)).exp2() / 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_quantile_is_a_fifth_too_high_at_most_and_never_too_low() {
        let window = LatencyWindow::default();
        (1..=1_000).for_each(|millis| window.record(Duration::from_millis(millis)));
        let found = window.p95().unwrap();
        assert!((950..=1_140).contains(&found.as_millis()), "{found:?}");
        for millis in [0, 1, 2, 3, 999, 10_000, 200_000] {
            let latency = Duration::from_millis(millis);
            let end = upper_end(bucket(latency));
            assert!(end >= latency && end <= latency.mul_f64(1.2).max(Duration::from_millis(1)), "{millis}: {end:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_says_nothing_of_a_few_and_forgets_what_is_old() {
        let window = LatencyWindow::default();
        (0..19).for_each(|_| window.record(Duration::from_secs(1)));
        assert_eq!(window.p95(), None);
        window.record(Duration::from_secs(1));
        assert!(window.p95().is_some());
        tokio::time::advance(SLICE * 5).await;
        assert_eq!(window.p95(), None);
        (0..20).for_each(|_| window.record(Duration::from_millis(10)));
        assert!(window.p95().unwrap() < Duration::from_millis(13));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_may_take_for_ever() {
        let window = LatencyWindow::default();
        (0..20).for_each(|_| window.record(Duration::MAX));
        assert_eq!(window.p95(), Some(upper_end(BUCKETS - 1)));
    }
}
