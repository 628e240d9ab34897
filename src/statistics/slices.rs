//! Counts of the last minutes, slice by slice.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

/// How many slices there are; the oldest is forgotten as a whole.
pub(super) const SLICES: usize = 30;
pub(super) const SLICE: Duration = Duration::from_secs(10);

/// So many counts for each slice of the last five minutes. It takes no lock; what is counted just as a slice is forgotten may
/// be forgotten with it.
#[derive(Debug)]
pub(super) struct Slices<const COUNTS: usize> {
    start: Instant,
    ring: [Slice<COUNTS>; SLICES],
}

#[derive(Debug)]
struct Slice<const COUNTS: usize> {
    turn: AtomicU64,
    counts: [AtomicU32; COUNTS],
}

impl<const COUNTS: usize> Default for Slices<COUNTS> {
    fn default() -> Self {
        let slice = |_| Slice { turn: AtomicU64::new(0), counts: std::array::from_fn(|_| AtomicU32::new(0)) };
        Slices { start: Instant::now(), ring: std::array::from_fn(slice) }
    }
}

impl<const COUNTS: usize> Slices<COUNTS> {
    /// Adds one to each of these counts.
    pub(super) fn count<const N: usize>(&self, now: Instant, which: [usize; N]) {
        let turn = self.turn(now);
        let slice = &self.ring[place(turn)];
        let seen = slice.turn.load(Ordering::Acquire);
        // Whoever read the clock long ago does not wipe out what others have counted since.
        if seen < turn && slice.turn.compare_exchange(seen, turn, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            slice.counts.iter().for_each(|count| count.store(0, Ordering::Relaxed));
        }
        which.iter().for_each(|which| _ = slice.counts[*which].fetch_add(1, Ordering::Relaxed));
    }

    /// The slices of the window that ends now, the latest first.
    pub(super) fn lately(&self, now: Instant) -> impl Iterator<Item = [u32; COUNTS]> {
        let turn = self.turn(now);
        (0..SLICES as u64).map(move |age| {
            let slice = turn.checked_sub(age).map(|turn| (turn, &self.ring[place(turn)]));
            let current = slice.filter(|(turn, slice)| slice.turn.load(Ordering::Acquire) == *turn);
            let read = |(_, slice): (u64, &Slice<COUNTS>)| {
                std::array::from_fn(|which| slice.counts[which].load(Ordering::Relaxed))
            };
            current.map_or([0; COUNTS], read)
        })
    }

    /// How much of the latest slice is over.
    pub(super) fn latest_length(&self, now: Instant) -> Duration {
        let nanos = now.saturating_duration_since(self.start).as_nanos() % SLICE.as_nanos();
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    fn turn(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.start).as_secs() / SLICE.as_secs()
    }
}

fn place(turn: u64) -> usize {
    (turn % SLICES as u64) as usize
}

/// All of them together.
pub(super) fn sum<const COUNTS: usize>(slices: impl Iterator<Item = [u32; COUNTS]>) -> [u64; COUNTS] {
    slices.fold([0; COUNTS], |sum, slice| std::array::from_fn(|which| sum[which] + u64::from(slice[which])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    #[tokio::test(start_paused = true)]
    async fn what_is_older_than_the_window_is_forgotten_slice_by_slice() {
        let slices = Slices::<2>::default();
        for turn in 0..100_u64 {
            slices.count(Instant::now(), [0]);
            assert_eq!(sum(slices.lately(Instant::now())), [(turn + 1).min(SLICES as u64), 0], "in slice {turn}");
            advance(SLICE).await;
        }
        advance(SLICE * 1_000).await;
        assert_eq!(sum(slices.lately(Instant::now())), [0, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_latest_slice_comes_first_and_a_late_thread_wipes_nothing_out() {
        let slices = Slices::<1>::default();
        let early = Instant::now();
        advance(SLICE * SLICES as u32).await;
        let now = Instant::now();
        slices.count(now, [0]);
        slices.count(early, [0]);
        assert_eq!(slices.lately(now).next(), Some([2]));
        advance(SLICE).await;
        assert_eq!(slices.lately(Instant::now()).take(2).collect::<Vec<_>>(), [[0], [2]]);
    }

    #[test]
    fn threads_lose_no_count() {
        let slices = Slices::<2>::default();
        let now = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1_000).for_each(|_| slices.count(now, [0, 1])));
            }
        });
        assert_eq!(sum(slices.lately(now)), [4_000, 4_000]);
    }
}
