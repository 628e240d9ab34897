//! Counts of what happened lately.

use std::time::Duration;

use tokio::time::Instant;

use crate::sync::{AtomicU64, Ordering};

/// How many buckets a window has: it slides in steps of a tenth.
const BUCKETS: u64 = if cfg!(all(test, failover_loom)) { 2 } else { 10 };
/// Bits of one count, and the most that it holds.
const COUNT_BITS: u32 = 14;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;
/// Bits left for telling a bucket's turn from an earlier one: of 3 s each, they come round in 145 days.
const TURN_MASK: u64 = (1 << (64 - 3 * COUNT_BITS)) - 1;
/// By how much a thread may be late and be known to be: ten rounds of the ring.
const LATE: u64 = 10 * BUCKETS;

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
            // Whoever comes so late that the window has slid past him does not wipe out what others have counted since.
            (!is_later(word, turn)).then(|| pack(turn, std::array::from_fn(|index| counts.0[index] + more.0[index])))
        };
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

/// Whether a bucket has counted in a later turn.
fn is_later(word: u64, turn: u64) -> bool {
    let ahead = turn_of(word).wrapping_sub(turn) & TURN_MASK;
    counts_of(word) != Counts::default() && (1..=LATE).contains(&ahead)
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
    use proptest::prelude::*;

    /// Counts added so many nanoseconds after the one before, by a thread that read its clock so many before that.
    fn additions() -> impl Strategy<Value = Vec<(u64, u64, [u64; 3])>> {
        let pause = prop_oneof![4 => 0..250_u64, 1 => 0..3_000_u64, 1 => Just(0)];
        let late = prop_oneof![4 => Just(0), 1 => 0..2_500_u64];
        prop::collection::vec((pause, late, prop::array::uniform3(0..4_u64)), 1..120)
    }

    proptest! {
        #[test]
        fn it_sums_up_what_a_list_of_all_that_was_added_would(additions in additions(), length in 10..1_500_u64) {
            let window = Window::new(Duration::from_nanos(length));
            let bucket = length / 10;
            let (mut now, mut all) = (0, Vec::new());
            for (pause, late, counts) in additions {
                now += pause;
                let then = now.saturating_sub(late % (9 * BUCKETS * bucket));
                window.add(window.start + Duration::from_nanos(then), Counts(counts));
                all.push((then / bucket, counts));
                let lately = all.iter().filter(|(turn, _)| turn + 10 > now / bucket);
                let expected = lately.fold([0; 3], |sum, (_, counts)| std::array::from_fn(|i| sum[i] + counts[i]));
                prop_assert_eq!(window.sum(window.start + Duration::from_nanos(now)), Counts(expected));
            }
        }
    }

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

/// Under a model checker a window has two buckets.
#[cfg(all(test, failover_loom))]
mod loom {
    use super::*;
    use ::loom::thread;
    use std::sync::Arc;

    const TURN: Duration = Duration::from_secs(500);

    fn window() -> Arc<Window> {
        Arc::new(Window::new(2 * TURN))
    }

    fn adding(window: &Arc<Window>, turns: &'static [u32]) -> thread::JoinHandle<()> {
        let window = window.clone();
        thread::spawn(move || turns.iter().for_each(|turn| window.add(window.start + *turn * TURN, Counts([1, 0, 1]))))
    }

    #[test]
    fn no_count_is_lost_or_doubled() {
        ::loom::model(|| {
            let window = window();
            let threads = [adding(&window, &[1, 2]), adding(&window, &[2, 2])];
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            assert_eq!(window.sum(window.start + 2 * TURN), Counts([4, 0, 4]));
            assert_eq!(window.sum(window.start + 3 * TURN), Counts([3, 0, 3]));
        });
    }

    #[test]
    fn whoever_comes_too_late_wipes_nothing_out() {
        ::loom::model(|| {
            let window = window();
            let threads = [adding(&window, &[1]), adding(&window, &[3, 3])];
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            assert_eq!(window.sum(window.start + 3 * TURN), Counts([2, 0, 2]));
        });
    }

    #[test]
    fn a_sum_taken_meanwhile_is_of_whole_additions() {
        ::loom::model(|| {
            let window = window();
            let thread = adding(&window, &[2, 3]);
            let Counts([first, none, last]) = window.sum(window.start + 3 * TURN);
            assert!(first <= 2 && none == 0 && last == first);
            thread.join().unwrap();
        });
    }
}
