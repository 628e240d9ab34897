//! What was asked, spent and saved: of a target, of a route, of a client.

use std::{
    fmt,
    sync::{
        Mutex, PoisonError, TryLockError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

#[cfg(feature = "cache")]
use crate::{CacheOutcome, usage::Worth};
use crate::{Cost, Usage};

/// How far back one may look, besides to the beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Period {
    /// The last five minutes, in slices of ten seconds.
    FiveMinutes,
    /// The last hour, in slices of two minutes.
    Hour,
    /// The last day, in slices of 48 minutes.
    Day,
}

impl Period {
    /// All of them, the shortest first.
    pub const ALL: [Period; 3] = [Period::FiveMinutes, Period::Hour, Period::Day];

    /// How long it is. What is counted is of no more than that, and of at most a thirtieth less.
    #[must_use]
    pub const fn duration(self) -> Duration {
        Duration::from_secs(self.ticks() * SLICES as u64 * TICK.as_secs())
    }

    /// Its name, as in `/status.json?window=1h`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Period::FiveMinutes => "5m",
            Period::Hour => "1h",
            Period::Day => "24h",
        }
    }

    /// How many ticks each of its slices has.
    const fn ticks(self) -> u64 {
        match self {
            Period::FiveMinutes => 1,
            Period::Hour => 12,
            Period::Day => 288,
        }
    }
}

/// What was asked and spent, and what that would have been without a cache.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Spending {
    /// Requests of clients that were let in, those that the cache answered included. The gateway counts them; of a target
    /// there are none.
    pub requests: u64,
    /// Tries that reached the wire.
    pub attempts: u64,
    /// The tokens of all tries, those that came to nothing included.
    pub usage: Usage,
    /// What they cost, where their targets have a price.
    pub cost: Cost,
    /// How much of that comes from estimated tokens.
    pub estimated_cost: Cost,
    /// How many of the tries cost something and came to nothing: they failed, another was faster, or their answer broke off.
    pub wasted_attempts: u64,
    /// The tokens of these.
    pub wasted: Usage,
    /// What these cost.
    pub wasted_cost: Cost,
    /// Requests that were answered with what was kept.
    pub cache_hits: u64,
    /// Requests that were answered with what was kept for too long, because nobody had a better answer.
    pub cache_stale: u64,
    /// Requests that were answered with the answer to another one that came at the same time.
    pub cache_collapsed: u64,
    /// Requests that the cache passed on.
    pub cache_misses: u64,
    /// The tokens that those answers had cost when they were made: nothing, the second time.
    pub saved: Usage,
    /// What they had cost.
    pub saved_cost: Cost,
}

/// Money is counted in millionths of a millionth of a dollar: whole ones, so that sums are the same in any order. There is
/// room for 18 million dollars.
const PER_DOLLAR: f64 = 1e12;

const REQUESTS: usize = 0;
const ATTEMPTS: usize = 1;
const COST: usize = 2;
const ESTIMATED: usize = 3;
const ESTIMATED_COST: usize = 4;
const WASTED_ATTEMPTS: usize = 5;
const WASTED_COST: usize = 6;
const SAVED_COST: usize = 7;
/// Four, in the order of [`Spending`].
const CACHE: usize = 8;
/// Five each: see [`tokens`].
const USAGE: usize = 12;
const WASTED: usize = 17;
const SAVED: usize = 22;
const COUNTS: usize = 27;

type Totals = [u64; COUNTS];

fn tokens(usage: &Usage) -> [u64; 5] {
    [usage.input, usage.cached_input, usage.cache_write_input, usage.output, usage.reasoning]
}

/// The shortest slice.
const TICK: Duration = Duration::from_secs(10);
/// How many slices each period has; the oldest is forgotten as a whole.
const SLICES: usize = 30;

/// What somebody was asked, spent and saved.
///
/// Counting is a few additions to totals that only grow, without a lock. How far they were when a slice of time began is
/// noted by whoever counts first in it, and what lies between two such notes is what a period's was.
pub(crate) struct Account {
    start: Instant,
    totals: [AtomicU64; COUNTS],
    /// The first tick whose beginning is not noted yet.
    next: AtomicU64,
    /// Nobody waits for it who counts. Nothing is kept for who was never asked.
    past: Mutex<Option<Box<Past>>>,
}

type Past = [[Mark; SLICES]; Period::ALL.len()];

/// How far everything was when a slice began.
#[derive(Clone, Copy)]
struct Mark {
    /// Which; one more than its number, so that there is a none.
    slice: u64,
    totals: Totals,
}

impl Default for Account {
    fn default() -> Self {
        let totals = std::array::from_fn(|_| AtomicU64::new(0));
        Account { start: Instant::now(), totals, next: AtomicU64::new(0), past: Mutex::default() }
    }
}

impl Account {
    /// A request of a client was let in.
    #[cfg(feature = "gateway")]
    pub(crate) fn requested(&self, now: Instant) {
        self.add(now, [(REQUESTS, 1)]);
    }

    /// A try that reached the wire began to answer, failed, or was given up on.
    pub(crate) fn attempted(&self, now: Instant) {
        self.add(now, [(ATTEMPTS, 1)]);
    }

    /// A try cost so much.
    pub(crate) fn spent(&self, now: Instant, usage: &Usage, cost: Option<Cost>) {
        let cost = cost.map_or(0, units);
        let estimated = u64::from(usage.estimated);
        self.add(now, [(COST, cost), (ESTIMATED, estimated), (ESTIMATED_COST, cost * estimated)]);
        self.add_usage(USAGE, usage);
    }

    /// A try that cost so much came to nothing.
    pub(crate) fn wasted(&self, now: Instant, usage: &Usage, cost: Option<Cost>) {
        self.add(now, [(WASTED_ATTEMPTS, 1), (WASTED_COST, cost.map_or(0, units))]);
        self.add_usage(WASTED, usage);
    }

    /// A cache did that with a request.
    #[cfg(feature = "cache")]
    pub(crate) fn cached(&self, now: Instant, outcome: CacheOutcome) {
        let place = match outcome {
            CacheOutcome::Hit => 0,
            CacheOutcome::Stale => 1,
            CacheOutcome::Collapsed => 2,
            CacheOutcome::Miss | CacheOutcome::Unwanted => 3,
            CacheOutcome::Bypass => return,
        };
        self.add(now, [(CACHE + place, 1)]);
    }

    /// An answer was given that had cost so much before.
    #[cfg(feature = "cache")]
    pub(crate) fn saved(&self, now: Instant, worth: &Worth) {
        self.add(now, [(SAVED_COST, worth.cost.map_or(0, units))]);
        worth.usage.iter().for_each(|usage| self.add_usage(SAVED, usage));
    }

    /// Everything since the beginning.
    pub(crate) fn total(&self) -> Spending {
        Spending::of(&self.now())
    }

    /// What was of late.
    pub(crate) fn lately(&self, now: Instant, period: Period) -> Spending {
        let slice = self.tick(now) / period.ticks();
        let oldest = slice.saturating_sub(SLICES as u64 - 1);
        let past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        let totals = self.now();
        let Some(past) = &*past else { return Spending::default() };
        let marks = past[period as usize].iter().filter(|mark| mark.slice > oldest && mark.slice <= slice + 1);
        // Nothing was counted in the slices before the first that is noted.
        let before = marks.min_by_key(|mark| mark.slice).map_or(totals, |mark| mark.totals);
        Spending::of(&std::array::from_fn(|which| totals[which].saturating_sub(before[which])))
    }

    fn now(&self) -> Totals {
        std::array::from_fn(|which| self.totals[which].load(Ordering::Relaxed))
    }

    fn tick(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.start).as_secs() / TICK.as_secs()
    }

    fn add<const N: usize>(&self, now: Instant, counts: [(usize, u64); N]) {
        let tick = self.tick(now);
        if self.next.load(Ordering::Relaxed) <= tick {
            self.note(tick);
        }
        counts.into_iter().for_each(|(which, count)| self.increase(which, count));
    }

    fn add_usage(&self, first: usize, usage: &Usage) {
        tokens(usage).into_iter().enumerate().for_each(|(which, count)| self.increase(first + which, count));
    }

    fn increase(&self, which: usize, count: u64) {
        if count > 0 {
            self.totals[which].fetch_add(count, Ordering::Relaxed);
        }
    }

    /// Notes how far everything is at the beginning of a tick. Whoever counts while another does it may be counted with the
    /// slice before.
    #[cold]
    fn note(&self, tick: u64) {
        let mut past = match self.past.try_lock() {
            Ok(past) => past,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        if self.next.load(Ordering::Relaxed) > tick {
            return;
        }
        let totals = self.now();
        let past = past.get_or_insert_with(|| Box::new([[Mark { slice: 0, totals }; SLICES]; Period::ALL.len()]));
        for period in Period::ALL {
            let slice = tick / period.ticks();
            let mark = &mut past[period as usize][(slice % SLICES as u64) as usize];
            if mark.slice != slice + 1 {
                *mark = Mark { slice: slice + 1, totals };
            }
        }
        self.next.store(tick + 1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("total", &self.total()).finish_non_exhaustive()
    }
}

impl Spending {
    fn of(totals: &Totals) -> Self {
        let estimated = totals[ESTIMATED] > 0;
        let usage = |first: usize, estimated| Usage {
            input: totals[first],
            cached_input: totals[first + 1],
            cache_write_input: totals[first + 2],
            output: totals[first + 3],
            reasoning: totals[first + 4],
            estimated,
        };
        let cost = |which: usize, estimated| Cost::new(totals[which] as f64 / PER_DOLLAR, estimated);
        Spending {
            requests: totals[REQUESTS],
            attempts: totals[ATTEMPTS],
            usage: usage(USAGE, estimated),
            cost: cost(COST, totals[ESTIMATED_COST] > 0),
            estimated_cost: cost(ESTIMATED_COST, totals[ESTIMATED_COST] > 0),
            wasted_attempts: totals[WASTED_ATTEMPTS],
            wasted: usage(WASTED, estimated && totals[WASTED_ATTEMPTS] > 0),
            wasted_cost: cost(WASTED_COST, totals[ESTIMATED_COST] > 0 && totals[WASTED_COST] > 0),
            cache_hits: totals[CACHE],
            cache_stale: totals[CACHE + 1],
            cache_collapsed: totals[CACHE + 2],
            cache_misses: totals[CACHE + 3],
            saved: usage(SAVED, false),
            saved_cost: cost(SAVED_COST, false),
        }
    }
}

fn units(cost: Cost) -> u64 {
    // A million dollars at the most, where a price makes no sense: sums have room for some of those.
    (cost.usd().min(1e6) * PER_DOLLAR).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Price;
    use tokio::time::advance;

    fn usage(input: u64, output: u64) -> Usage {
        Usage { input, output, ..Usage::default() }
    }

    fn input(account: &Account) -> [u64; 4] {
        let [five, hour, day] = Period::ALL.map(|period| account.lately(Instant::now(), period).usage.input);
        [five, hour, day, account.total().usage.input]
    }

    #[tokio::test(start_paused = true)]
    async fn each_period_forgets_slice_by_slice_and_the_total_never() {
        let account = Account::default();
        assert_eq!(input(&account), [0; 4]);
        account.spent(Instant::now(), &usage(7, 1), None);
        assert_eq!(input(&account), [7; 4]);
        advance(Period::FiveMinutes.duration() - TICK).await;
        account.spent(Instant::now(), &usage(100, 1), None);
        assert_eq!(input(&account), [107; 4], "the oldest slice is still there");
        advance(TICK).await;
        assert_eq!(input(&account), [100, 107, 107, 107]);
        advance(Period::Hour.duration()).await;
        assert_eq!(input(&account), [0, 0, 107, 107]);
        account.spent(Instant::now(), &usage(1_000, 1), None);
        assert_eq!(input(&account), [1_000, 1_000, 1_107, 1_107]);
        advance(Period::Day.duration()).await;
        assert_eq!(input(&account), [0, 0, 0, 1_107]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_period_tells_what_came_within_it_however_it_was_spread() {
        let account = Account::default();
        let mut came = Vec::new();
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..5_000 {
            let tokens = random.u64(1..100);
            account.spent(Instant::now(), &usage(tokens, 0), None);
            came.push((Instant::now(), tokens));
            advance(Duration::from_secs(random.u64(0..40))).await;
        }
        for (period, found) in Period::ALL.into_iter().zip(input(&account)) {
            let slice = TICK.as_secs() * period.ticks();
            let number = |at: Instant| (at - account.start).as_secs() / slice;
            let oldest = number(Instant::now()).saturating_sub(SLICES as u64 - 1);
            let expected: u64 = came.iter().filter(|(at, _)| number(*at) >= oldest).map(|(_, tokens)| tokens).sum();
            assert_eq!(found, expected, "{period:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn money_adds_up_to_the_last_digit() {
        let account = Account::default();
        let price = Price::new(0.15, 0.6).unwrap().with_cached_input(0.075).unwrap();
        for _ in 0..1_000_000 {
            let usage = Usage { cached_input: 1, ..usage(3, 1) };
            account.spent(Instant::now(), &usage, Some(price.cost(&usage)));
        }
        let total = account.total();
        assert_eq!(total.cost.usd(), 2.0 * 0.15 + 0.075 + 0.6);
        assert!(!total.cost.is_estimated() && total.estimated_cost.usd() == 0.0);
        let guessed = Usage { estimated: true, ..usage(1_000_000, 0) };
        account.spent(Instant::now(), &guessed, Some(price.cost(&guessed)));
        assert_eq!((account.total().cost.is_estimated(), account.total().estimated_cost.usd()), (true, 0.15));
    }

    #[test]
    fn threads_lose_no_count() {
        let account = Account::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|_| account.spent(Instant::now(), &usage(2, 3), None)));
            }
        });
        assert_eq!(account.total().usage, usage(80_000, 120_000));
        assert_eq!(account.lately(Instant::now(), Period::Day).usage, usage(80_000, 120_000));
    }
}
