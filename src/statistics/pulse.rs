//! How targets do at the moment: what a strategy reads with every request.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::record::TargetRecord;

/// The window is this many slices of that length; the oldest is forgotten as a whole.
const SLICES: u64 = 6;
const SLICE: Duration = Duration::from_secs(10);
/// The latest slices, for whoever must notice soon.
const FRESH: u64 = 2;
/// How often the window is summed up again.
const REFRESH_MILLIS: u64 = 100;
/// How long a refusal by its circuit is held against a target that nothing reached since: then a call finds out.
const REFUSED_FOR: Duration = Duration::from_secs(10);
/// How fast a peak is forgotten.
const PEAK_SECONDS: f32 = 10.0;
/// How fast what is usual changes.
const USUAL_SECONDS: f32 = 3_600.0;
/// So many answers count alike in what is usual; those behind them by the time that they stand for.
const FIRST: u32 = 100;
/// Nothing takes less, so that no time is ever zero.
const LEAST_SECONDS: f32 = 1e-6;

/// Answers in one piece, and streams: their times are not alike.
const WAYS: usize = 2;

const SUCCESSES: usize = 0;
const FAILURES: usize = 1;
/// For each way, how many answers there were and how many microseconds they took.
const ANSWERS: usize = 2;
const MICROS: usize = ANSWERS + WAYS;
/// How many answers told how long they were, and their tokens.
const MEASURED: usize = MICROS + WAYS;
const TOKENS: usize = MEASURED + 1;
const SUMS: usize = TOKENS + 1;

/// How a target does at the moment: cheap to read with every request, and to clone.
///
/// A [`Strategy`](crate::failover::Strategy) of one's own asks [`Statistics::pulses`](super::Statistics::pulses) for those of
/// its route once, when it is made. Latencies are those until an answer began, of `streaming` answers and of others apart.
/// Nothing is known of a target
/// that was not called since somebody first asked for its pulse, or not lately.
#[derive(Clone, Debug)]
pub struct Pulse(Arc<TargetRecord>);

impl Pulse {
    /// From now on, what becomes of the target's calls is kept for it.
    pub(super) fn of(record: Arc<TargetRecord>) -> Self {
        record.recent().watch();
        Pulse(record)
    }

    /// One that tells no more than the latencies that are kept anyway.
    pub(super) fn unwatched(record: Arc<TargetRecord>) -> Self {
        Pulse(record)
    }

    /// How many of its calls are under way.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.0.in_flight()
    }

    /// How many of its calls went well or failed in the last minute.
    #[must_use]
    pub fn calls(&self, now: Instant) -> u64 {
        self.minute(now).calls()
    }

    /// Which share of its calls went well in the last minute, 0 to 1.
    #[must_use]
    pub fn success_rate(&self, now: Instant) -> Option<f64> {
        self.minute(now).success_rate().map(f64::from)
    }

    /// How long its answers took in the last minute, on average.
    #[must_use]
    pub fn latency(&self, streaming: bool, now: Instant) -> Option<Duration> {
        duration(self.minute(now).latency(streaming)?)
    }

    /// The peak of how long its answers took lately: it rises at once, and falls over ten seconds (a peak-EWMA) to what is
    /// [usual](Self::usual_latency), so that a target that was slow once is tried again.
    #[must_use]
    pub fn peak_latency(&self, streaming: bool, now: Instant) -> Option<Duration> {
        duration(self.peak(streaming, now)?)
    }

    /// How long its answers usually take, as an average that changes over hours.
    #[must_use]
    pub fn usual_latency(&self, streaming: bool) -> Option<Duration> {
        duration(self.usual(streaming)?)
    }

    /// Within which time 95 of 100 answers came in the last five minutes; `None` while fewer than twenty are known.
    #[must_use]
    pub fn p95_latency(&self, streaming: bool) -> Option<Duration> {
        self.0.latencies(streaming).p95()
    }

    /// How many tokens its answers had in the last minute, on average.
    #[must_use]
    pub fn output_tokens(&self, now: Instant) -> Option<f64> {
        self.minute(now).output_tokens().map(f64::from)
    }

    /// Whether its circuit refused a call in the last ten seconds, and none reached it since: it would refuse the next one too.
    #[must_use]
    pub fn is_refused(&self, now: Instant) -> bool {
        self.0.recent().is_refused(now)
    }

    pub(crate) fn peak(&self, streaming: bool, now: Instant) -> Option<f32> {
        let pulse = self.0.recent();
        pulse.paces[usize::from(streaming)].peak_at(pulse.millis(now))
    }

    pub(crate) fn usual(&self, streaming: bool) -> Option<f32> {
        self.0.recent().paces[usize::from(streaming)].usual()
    }

    /// The last minute.
    pub(crate) fn minute(&self, now: Instant) -> Sums<'_> {
        Sums(self.0.recent().read(now, 0))
    }

    /// The last ten to twenty seconds.
    pub(crate) fn fresh(&self, now: Instant) -> Sums<'_> {
        Sums(self.0.recent().read(now, 1))
    }
}

fn duration(seconds: f32) -> Option<Duration> {
    Duration::try_from_secs_f32(seconds).ok()
}

/// What happened within a window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sums<'a>(&'a [AtomicU64; SUMS]);

impl Sums<'_> {
    fn sum(self, which: usize) -> u64 {
        self.0[which].load(Ordering::Relaxed)
    }

    fn mean(self, sum: usize, count: usize) -> Option<f32> {
        let count = self.sum(count);
        (count > 0).then(|| self.sum(sum) as f32 / count as f32)
    }

    pub(crate) fn calls(self) -> u64 {
        self.sum(SUCCESSES) + self.sum(FAILURES)
    }

    pub(crate) fn success_rate(self) -> Option<f32> {
        let calls = self.calls();
        (calls > 0).then(|| self.sum(SUCCESSES) as f32 / calls as f32)
    }

    pub(crate) fn answers(self, streaming: bool) -> u64 {
        self.sum(ANSWERS + usize::from(streaming))
    }

    /// In seconds.
    pub(crate) fn latency(self, streaming: bool) -> Option<f32> {
        let way = usize::from(streaming);
        self.mean(MICROS + way, ANSWERS + way).map(|micros| (micros / 1e6).max(LEAST_SECONDS))
    }

    pub(crate) fn output_tokens(self) -> Option<f32> {
        self.mean(TOKENS, MEASURED)
    }
}

/// What is kept of a target for its [`Pulse`]. It takes no lock; what is counted just as a slice is forgotten may be forgotten
/// with it, and what is read meanwhile may be a tenth of a second old.
#[derive(Debug)]
pub(super) struct Recent {
    /// Whether anybody reads it: where nobody does, a call costs no more for it.
    watched: AtomicBool,
    start: Instant,
    /// The millisecond, and one more, of the last call that its circuit refused, or 0 where one was sent since.
    refused: AtomicU32,
    ring: [Slice; SLICES as usize],
    paces: [Pace; WAYS],
    /// The tenth of a second for which the sums below hold.
    summed: AtomicU64,
    /// Of the whole window, and of the latest slices.
    sums: [[AtomicU64; SUMS]; 2],
}

#[derive(Debug)]
struct Slice {
    turn: AtomicU64,
    sums: [AtomicU64; SUMS],
}

fn zeros() -> [AtomicU64; SUMS] {
    std::array::from_fn(|_| AtomicU64::new(0))
}

impl Default for Recent {
    fn default() -> Self {
        Recent {
            watched: AtomicBool::new(false),
            start: Instant::now(),
            refused: AtomicU32::new(0),
            ring: std::array::from_fn(|_| Slice { turn: AtomicU64::new(0), sums: zeros() }),
            paces: Default::default(),
            summed: AtomicU64::new(0),
            sums: [zeros(), zeros()],
        }
    }
}

impl Recent {
    /// From now on somebody reads it.
    pub(super) fn watch(&self) {
        self.watched.store(true, Ordering::Relaxed);
    }

    fn is_watched(&self) -> bool {
        self.watched.load(Ordering::Relaxed)
    }

    /// It answered after so long.
    pub(super) fn answered(&self, now: Instant, streaming: bool, latency: Duration) {
        if !self.is_watched() {
            return;
        }
        let way = usize::from(streaming);
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.add(now, [(SUCCESSES, 1), (ANSWERS + way, 1), (MICROS + way, micros)]);
        self.paces[way].observe(self.millis(now), latency.as_secs_f32());
    }

    pub(super) fn failed(&self, now: Instant) {
        if self.is_watched() {
            self.add(now, [(FAILURES, 1)]);
        }
    }

    /// Its circuit refused a call.
    pub(super) fn refused(&self, now: Instant) {
        self.refused.store(self.millis(now).saturating_add(1), Ordering::Relaxed);
    }

    /// A call reached it.
    pub(super) fn reached(&self) {
        if self.refused.load(Ordering::Relaxed) != 0 {
            self.refused.store(0, Ordering::Relaxed);
        }
    }

    fn is_refused(&self, now: Instant) -> bool {
        let refused = self.refused.load(Ordering::Relaxed);
        refused != 0 && u128::from((self.millis(now) + 1).wrapping_sub(refused)) < REFUSED_FOR.as_millis()
    }

    /// An answer that went well until then broke off: it counts as both.
    pub(super) fn interrupted(&self, now: Instant) {
        self.failed(now);
    }

    /// It was waited for so long in vain.
    pub(super) fn given_up(&self, now: Instant, streaming: bool, waited: Duration) {
        // It would have taken longer: no news where others took longer still.
        self.paces[usize::from(streaming)].at_least(self.millis(now), waited.as_secs_f32());
    }

    /// An answer had so many tokens.
    pub(super) fn measured(&self, tokens: u64) {
        if self.is_watched() {
            self.add(Instant::now(), [(MEASURED, 1), (TOKENS, tokens)]);
        }
    }

    fn millis(&self, now: Instant) -> u32 {
        // It begins anew after 49 days, when one more decay is taken for none at all.
        now.saturating_duration_since(self.start).as_millis() as u32
    }

    fn turn(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.start).as_secs() / SLICE.as_secs()
    }

    fn add<const N: usize>(&self, now: Instant, what: [(usize, u64); N]) {
        let turn = self.turn(now);
        let slice = &self.ring[(turn % SLICES) as usize];
        let seen = slice.turn.load(Ordering::Acquire);
        // Whoever read the clock long ago does not wipe out what others have counted since.
        if seen < turn && slice.turn.compare_exchange(seen, turn, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            slice.sums.iter().for_each(|sum| sum.store(0, Ordering::Relaxed));
        }
        what.iter().for_each(|(which, amount)| _ = slice.sums[*which].fetch_add(*amount, Ordering::Relaxed));
    }

    fn read(&self, now: Instant, which: usize) -> &[AtomicU64; SUMS] {
        let tenth = now.saturating_duration_since(self.start).as_millis() as u64 / REFRESH_MILLIS + 1;
        let summed = self.summed.load(Ordering::Relaxed);
        if summed < tenth && self.summed.compare_exchange(summed, tenth, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            self.sum_up(self.turn(now));
        }
        &self.sums[which]
    }

    #[cold]
    fn sum_up(&self, turn: u64) {
        let mut totals = [[0_u64; SUMS]; 2];
        for age in 0..SLICES.min(turn + 1) {
            let slice = &self.ring[((turn - age) % SLICES) as usize];
            if slice.turn.load(Ordering::Acquire) != turn - age {
                continue;
            }
            for (which, sum) in slice.sums.iter().enumerate() {
                let sum = sum.load(Ordering::Relaxed);
                totals[0][which] = totals[0][which].saturating_add(sum);
                if age < FRESH {
                    totals[1][which] = totals[1][which].saturating_add(sum);
                }
            }
        }
        for (sums, totals) in self.sums.iter().zip(totals) {
            sums.iter().zip(totals).for_each(|(sum, total)| sum.store(total, Ordering::Relaxed));
        }
    }
}

/// How long answers take, as two moving averages. Each stands in one word, with the millisecond that it is of; zero where
/// there was no answer.
#[derive(Debug, Default)]
struct Pace {
    peak: AtomicU64,
    usual: AtomicU64,
    seen: AtomicU32,
}

impl Pace {
    fn observe(&self, millis: u32, seconds: f32) {
        let seconds = seconds.max(LEAST_SECONDS);
        let seen = self.seen.load(Ordering::Relaxed);
        if seen < FIRST {
            self.seen.fetch_add(1, Ordering::Relaxed);
        }
        update(
            &self.usual,
            millis,
            |was, age| {
                let weight = if seen < FIRST { 1.0 / (seen + 1) as f32 } else { 1.0 - (-age / USUAL_SECONDS).exp() };
                // What is far off is not what is usual, however long it is.
                let capped = if seen < FIRST { seconds } else { seconds.min(2.0 * was) };
                was + (capped - was) * weight
            },
            seconds,
        );
        update(
            &self.peak,
            millis,
            |was, age| {
                if seconds > was { seconds } else { seconds + (was - seconds) * (-age / PEAK_SECONDS).exp() }
            },
            seconds,
        );
    }

    fn at_least(&self, millis: u32, seconds: f32) {
        if self.peak_at(millis).is_some_and(|peak| peak < seconds) {
            update(&self.peak, millis, |was, _| seconds.max(was), seconds);
        }
    }

    fn usual(&self) -> Option<f32> {
        unpack(self.usual.load(Ordering::Relaxed)).map(|(_, seconds)| seconds)
    }

    fn peak_at(&self, millis: u32) -> Option<f32> {
        let (at, peak) = unpack(self.peak.load(Ordering::Relaxed))?;
        let usual = self.usual().unwrap_or(peak);
        Some(usual + (peak - usual) * (-age(at, millis) / PEAK_SECONDS).exp())
    }
}

fn update(average: &AtomicU64, millis: u32, next: impl Fn(f32, f32) -> f32, first: f32) {
    let step = |word| {
        let (at, seconds) = match unpack(word) {
            None => (millis, first),
            Some((at, was)) => (millis.max(at), next(was, age(at, millis))),
        };
        Some(u64::from(at) << 32 | u64::from(seconds.to_bits()))
    };
    let _ = average.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step);
}

fn unpack(word: u64) -> Option<(u32, f32)> {
    (word != 0).then(|| ((word >> 32) as u32, f32::from_bits(word as u32)))
}

/// In seconds.
fn age(at: u32, millis: u32) -> f32 {
    millis.saturating_sub(at) as f32 / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    fn pulse() -> Pulse {
        Pulse::of(Arc::default())
    }

    fn answered(pulse: &Pulse, millis: u64) {
        pulse.0.recent().answered(Instant::now(), true, Duration::from_millis(millis));
    }

    fn millis(found: Option<Duration>) -> u128 {
        (found.unwrap() + Duration::from_micros(500)).as_millis()
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_known_of_a_target_that_was_never_called() {
        let (pulse, now) = (pulse(), Instant::now());
        assert_eq!((pulse.in_flight(), pulse.calls(now), pulse.success_rate(now)), (0, 0, None));
        assert_eq!(
            (pulse.latency(true, now), pulse.peak_latency(true, now), pulse.usual_latency(true)),
            (None, None, None)
        );
        assert_eq!((pulse.p95_latency(true), pulse.output_tokens(now)), (None, None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_peak_rises_at_once_and_falls_to_what_is_usual() {
        let pulse = pulse();
        for _ in 0..1_000 {
            answered(&pulse, 500);
            advance(Duration::from_millis(200)).await;
        }
        answered(&pulse, 4_000);
        assert_eq!(millis(pulse.peak_latency(true, Instant::now())), 4_000);
        advance(Duration::from_secs(10)).await;
        let soon = millis(pulse.peak_latency(true, Instant::now()));
        assert!((1_600..2_000).contains(&soon), "{soon}");
        advance(Duration::from_secs(120)).await;
        let (late, usual) = (millis(pulse.peak_latency(true, Instant::now())), millis(pulse.usual_latency(true)));
        assert!((500..505).contains(&late) && late == usual, "{late}, {usual}");
        assert_eq!(pulse.peak_latency(false, Instant::now()), None, "answers in one piece are another matter");
    }

    #[tokio::test(start_paused = true)]
    async fn ten_slow_minutes_do_not_become_what_is_usual_and_hours_do() {
        let pulse = pulse();
        (0..200).for_each(|_| answered(&pulse, 500));
        let slow_minutes = async |minutes: u64| {
            for _ in 0..minutes * 60 {
                answered(&pulse, 5_000);
                advance(Duration::from_secs(1)).await;
            }
            millis(pulse.usual_latency(true))
        };
        let after_ten = slow_minutes(10).await;
        assert!((500..650).contains(&after_ten), "{after_ten}");
        let after_hours = slow_minutes(600).await;
        assert!(after_hours > 4_500, "{after_hours}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_window_is_the_last_minute_and_its_fresh_part_less() {
        let (pulse, recent) = (pulse(), |pulse: &Pulse| pulse.0.clone());
        for _ in 0..30 {
            answered(&pulse, 100);
            recent(&pulse).recent().failed(Instant::now());
            recent(&pulse).recent().measured(40);
        }
        advance(Duration::from_secs(30)).await;
        answered(&pulse, 400);
        let now = Instant::now();
        assert_eq!((pulse.calls(now), pulse.fresh(now).calls()), (61, 1));
        assert_eq!(pulse.output_tokens(now), Some(40.0));
        assert_eq!(pulse.success_rate(now).map(|rate| (rate * 61.0).round()), Some(31.0));
        assert_eq!(millis(pulse.latency(true, now)), 110, "30 of 100 and one of 400");
        advance(Duration::from_secs(40)).await;
        assert_eq!(pulse.calls(Instant::now()), 1);
        advance(Duration::from_secs(60)).await;
        assert_eq!((pulse.calls(Instant::now()), pulse.success_rate(Instant::now())), (0, None));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_is_given_up_on_would_have_taken_longer() {
        let pulse = pulse();
        pulse.0.recent().given_up(Instant::now(), true, Duration::from_secs(9));
        assert_eq!(pulse.peak_latency(true, Instant::now()), None, "of nobody that never answered");
        answered(&pulse, 500);
        pulse.0.recent().given_up(Instant::now(), true, Duration::from_secs(9));
        pulse.0.recent().given_up(Instant::now(), true, Duration::from_secs(2));
        assert_eq!(millis(pulse.peak_latency(true, Instant::now())), 9_000);
        assert_eq!(millis(pulse.usual_latency(true)), 500);
    }

    #[tokio::test(start_paused = true)]
    async fn times_without_bounds_disturb_nothing() {
        let pulse = pulse();
        for latency in [Duration::ZERO, Duration::MAX, Duration::ZERO] {
            pulse.0.recent().answered(Instant::now(), true, latency);
        }
        advance(Duration::from_secs(5)).await;
        let (peak, usual) = (pulse.peak(true, Instant::now()).unwrap(), pulse.usual(true).unwrap());
        assert!(peak.is_finite() && peak > 0.0 && usual.is_finite() && usual > 0.0, "{peak}, {usual}");
    }
}
