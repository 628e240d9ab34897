//! How a shared state is asked: with patience, but not much.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::time::{Instant, timeout};

use super::{Answer, CircuitWord, Portion, SharedState, SharedValue, Taken, Unavailable};

/// How long a question on the way of a request waits.
const TIMEOUT: Duration = Duration::from_millis(25);
/// How long those in the background do.
const PATIENCE: Duration = Duration::from_secs(1);
/// After so many answers in a row that failed or were late, nobody asks for a while.
const MOST_FAILURES: u32 = 3;
/// For how long; then one asks.
const PAUSE: Duration = Duration::from_secs(1);
/// How long after they might have asked again it counts no more, for who reports, that requests had no answer.
const FORGOTTEN: Duration = Duration::from_secs(5);
/// How often requests may want a new connection, at most: their answers may be late only because the server is slow, which a new
/// one does not mend, and so would take it from the background, which can wait.
const RECONNECT: Duration = Duration::from_secs(10);

/// A replica's end of what a fleet shares: asks a [`SharedState`], waits only so long for it, and leaves it alone for a while
/// when it does not answer. Cheap to clone; clones share what they know of it.
#[derive(Clone)]
pub struct Fleet {
    inner: Arc<Inner>,
}

struct Inner {
    state: Arc<dyn SharedState>,
    replica: u64,
    timeout: Duration,
    began: Instant,
    requests: Side,
    background: Side,
    /// When requests last wanted a new connection, in milliseconds from the beginning on; 0 for never.
    reconnected: AtomicU64,
    answered: AtomicU64,
    late: AtomicU64,
    failed: AtomicU64,
    skipped: AtomicU64,
}

/// How it answers those who wait for so long. Each of both goes by itself: what is too slow for a request is not for circuits, and
/// what answers those may be too slow for requests.
#[derive(Default)]
struct Side {
    /// Failures without an answer between them.
    failures: AtomicU32,
    /// When the next one may ask, in milliseconds from the beginning on; 0 while it answers.
    resumes: AtomicU64,
}

impl Side {
    fn answers(&self) -> bool {
        self.resumes.load(Ordering::Relaxed) == 0
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Request,
    Background,
}

impl Fleet {
    /// A replica of the fleet that shares this.
    #[must_use]
    pub fn new(state: impl SharedState) -> Self {
        Self::build(Arc::new(state), TIMEOUT)
    }

    /// How long a request waits for an answer, at most; then it goes by what is known here. 25 ms by default.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self::build(self.inner.state.clone(), timeout)
    }

    fn build(state: Arc<dyn SharedState>, timeout: Duration) -> Self {
        let (answered, late, failed, skipped, reconnected) = Default::default();
        let inner = Inner {
            state,
            replica: fastrand::u64(..),
            timeout,
            began: Instant::now(),
            requests: Side::default(),
            background: Side::default(),
            reconnected,
            answered,
            late,
            failed,
            skipped,
        };
        Fleet { inner: Arc::new(inner) }
    }

    /// Who this is among the replicas: a number taken at random.
    #[must_use]
    pub fn replica(&self) -> u64 {
        self.inner.replica
    }

    /// How the shared state does, seen from here.
    #[must_use]
    pub fn health(&self) -> FleetHealth {
        let Inner { requests, background, answered, late, failed, skipped, .. } = &*self.inner;
        // Where no request has asked for a while, only the background knows.
        let resumes = requests.resumes.load(Ordering::Relaxed);
        let is_old = resumes.saturating_add(millis(FORGOTTEN)) <= self.inner.now();
        let answers = background.answers() && (requests.answers() || is_old);
        let [answered, late, failed, skipped] = [answered, late, failed, skipped].map(|it| it.load(Ordering::Relaxed));
        let failed = failed.saturating_add(self.inner.state.failed_puts());
        FleetHealth { answers, answered, late, failed, skipped }
    }

    /// The value of a key, if there is one and it comes in time.
    pub async fn get(&self, key: &str) -> Option<SharedValue> {
        self.ask(Who::Request, |state| state.get(key)).await.ok()?
    }

    /// Keeps a value, if that can be had without waiting.
    pub fn put(&self, key: &str, value: Bytes, time_to_live: Duration) {
        if self.inner.requests.answers() {
            self.inner.state.put(key, value, time_to_live);
        }
    }

    /// Takes all of these portions or none; `None` where nobody says so in time, and what is known here has to do.
    pub async fn take(&self, portions: &[Portion]) -> Option<Taken> {
        self.ask(Who::Request, |state| state.take(portions)).await.ok()
    }

    /// The same in the background.
    pub(crate) async fn take_patiently(&self, portion: Portion) -> Option<Taken> {
        self.ask(Who::Background, |state| state.take(&[portion])).await.ok()
    }

    pub(crate) async fn tell(&self, word: CircuitWord) -> Result<(), Unavailable> {
        self.ask(Who::Background, |state| state.tell(word)).await
    }

    pub(crate) async fn learn(&self) -> Result<Vec<CircuitWord>, Unavailable> {
        self.ask(Who::Background, |state| state.learn()).await
    }

    /// Asks, if it may be asked at all, and takes note of how that went.
    async fn ask<T>(&self, who: Who, question: impl FnOnce(&dyn SharedState) -> Answer<T>) -> Result<T, Unavailable> {
        if !self.inner.may_ask(who) {
            return Err(Unavailable::new("it did not answer of late"));
        }
        let patience = match who {
            Who::Request => self.inner.timeout,
            Who::Background => PATIENCE,
        };
        let answer = timeout(patience, question(&*self.inner.state)).await;
        self.inner.note(who, answer)
    }
}

impl Inner {
    fn side(&self, who: Who) -> &Side {
        match who {
            Who::Request => &self.requests,
            Who::Background => &self.background,
        }
    }

    /// Always while it answers; else one at a time, with a pause between them.
    fn may_ask(&self, who: Who) -> bool {
        let side = self.side(who);
        let resumes = side.resumes.load(Ordering::Relaxed);
        if resumes == 0 {
            return true;
        }
        let now = self.now();
        // Whoever is first puts off the others; if it goes away without having heard, the next one asks after the pause.
        let (next, order) = (now + millis(PAUSE), Ordering::Relaxed);
        let is_first = resumes <= now && side.resumes.compare_exchange(resumes, next, order, order).is_ok();
        self.skipped.fetch_add(u64::from(!is_first), Ordering::Relaxed);
        is_first
    }

    fn note<T, Late>(&self, who: Who, answer: Result<Result<T, Unavailable>, Late>) -> Result<T, Unavailable> {
        let (side, is_request) = (self.side(who), who == Who::Request);
        let (count, why) = match answer {
            Ok(Ok(answer)) => {
                self.answered.fetch_add(1, Ordering::Relaxed);
                if side.failures.load(Ordering::Relaxed) != 0 {
                    side.failures.store(0, Ordering::Relaxed);
                }
                if side.resumes.load(Ordering::Relaxed) != 0 && side.resumes.swap(0, Ordering::Relaxed) != 0 {
                    tracing::info!(requests = is_request, "the shared state answers again");
                }
                return Ok(answer);
            }
            Ok(Err(why)) => (&self.failed, why),
            Err(_) => (&self.late, Unavailable::new("its answers come too late")),
        };
        count.fetch_add(1, Ordering::Relaxed);
        let failures = side.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let is_down = side.resumes.load(Ordering::Relaxed) != 0;
        if failures >= MOST_FAILURES
            && !is_down
            && side.resumes.swap(self.now() + millis(PAUSE), Ordering::Relaxed) == 0
        {
            tracing::warn!(
                requests = is_request,
                error = %why,
                "the shared state does not answer: each replica goes by what it knows itself"
            );
        }
        // A connection that has lost its other end may never say so.
        let wants_another = failures % MOST_FAILURES == 0 || is_down;
        if wants_another && (!is_request || self.may_reconnect()) {
            self.state.reconnect();
        }
        Err(why)
    }

    /// Whether requests may want a new connection again.
    fn may_reconnect(&self) -> bool {
        let (now, last, order) = (self.now(), self.reconnected.load(Ordering::Relaxed), Ordering::Relaxed);
        let is_time = last == 0 || now.saturating_sub(last) >= millis(RECONNECT);
        is_time && self.reconnected.compare_exchange(last, now, order, order).is_ok()
    }

    /// Never 0.
    fn now(&self) -> u64 {
        millis(self.began.elapsed()) + 1
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 2)
}

impl fmt::Debug for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fleet")
            .field("timeout", &self.inner.timeout)
            .field("health", &self.health())
            .finish_non_exhaustive()
    }
}

/// How a shared state does, seen from one replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FleetHealth {
    /// Whether it answers, both those who wait for a request and those in the background; while it does not answer either, it is
    /// asked once a second by them.
    pub answers: bool,
    /// Questions that it answered in time.
    pub answered: u64,
    /// Those whose answer did not come in time.
    pub late: u64,
    /// Those that it could not answer, and values that it could not keep.
    pub failed: u64,
    /// Those that it was spared, for it had not answered of late.
    pub skipped: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared_state::InMemory;
    use std::sync::atomic::AtomicBool;
    use tokio::time::advance;

    /// One that can be stopped, and counts who asks.
    #[derive(Clone, Default)]
    struct Stoppable(Arc<(InMemory, AtomicBool, AtomicU32, AtomicU32)>);

    impl Stoppable {
        fn stop(&self, stopped: bool) {
            self.0.1.store(stopped, Ordering::Relaxed);
        }

        fn asked(&self) -> u32 {
            self.0.2.load(Ordering::Relaxed)
        }
    }

    impl SharedState for Stoppable {
        fn get(&self, key: &str) -> Answer<Option<SharedValue>> {
            self.0.2.fetch_add(1, Ordering::Relaxed);
            match self.0.1.load(Ordering::Relaxed) {
                true => Box::pin(std::future::pending()),
                false => self.0.0.get(key),
            }
        }

        fn put(&self, key: &str, value: Bytes, time_to_live: Duration) {
            self.0.0.put(key, value, time_to_live);
        }

        fn take(&self, portions: &[Portion]) -> Answer<Taken> {
            self.0.0.take(portions)
        }

        fn tell(&self, word: CircuitWord) -> Answer<()> {
            self.0.0.tell(word)
        }

        fn learn(&self) -> Answer<Vec<CircuitWord>> {
            self.0.0.learn()
        }

        fn reconnect(&self) {
            self.0.3.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_does_not_answer_is_waited_for_a_few_times_and_then_left_alone() {
        let state = Stoppable::default();
        let fleet = Fleet::new(state.clone());
        fleet.put("k", Bytes::from_static(b"v"), 60 * PATIENCE);
        state.stop(true);
        let began = Instant::now();
        for _ in 0..50 {
            assert_eq!(fleet.get("k").await, None);
        }
        assert_eq!((state.asked(), began.elapsed()), (3, 3 * TIMEOUT));
        assert_eq!(fleet.health(), FleetHealth { answers: false, answered: 0, late: 3, failed: 0, skipped: 47 });
        assert_eq!(state.0.3.load(Ordering::Relaxed), 1, "it is to connect anew");

        advance(PAUSE).await;
        for _ in 0..50 {
            assert_eq!(fleet.get("k").await, None);
        }
        assert_eq!(state.asked(), 4, "one asks after the pause");
        state.stop(false);
        advance(PAUSE).await;
        assert!(fleet.get("k").await.is_some() && fleet.get("k").await.is_some());
        assert!(fleet.health().answers);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_asks_first_after_the_pause_may_go_away() {
        let state = Stoppable::default();
        let fleet = Fleet::new(state.clone());
        state.stop(true);
        for _ in 0..3 {
            fleet.get("k").await;
        }
        state.stop(false);
        advance(PAUSE).await;
        drop(fleet.get("k"));
        let asked = std::pin::pin!(fleet.get("k"));
        drop(tokio::time::timeout(Duration::ZERO, asked).await);
        advance(2 * PAUSE).await;
        fleet.get("k").await;
        assert!(fleet.health().answers);
    }

    /// One that takes its time, and does what it is told.
    #[derive(Clone)]
    struct Slow(InMemory, Duration, Arc<AtomicU32>);

    fn later<T: Send + 'static>(time: Duration, answer: Answer<T>) -> Answer<T> {
        Box::pin(async move {
            tokio::time::sleep(time).await;
            answer.await
        })
    }

    impl SharedState for Slow {
        fn get(&self, key: &str) -> Answer<Option<SharedValue>> {
            later(self.1, self.0.get(key))
        }

        fn put(&self, _: &str, _: Bytes, _: Duration) {}

        fn take(&self, portions: &[Portion]) -> Answer<Taken> {
            later(self.1, self.0.take(portions))
        }

        fn tell(&self, word: CircuitWord) -> Answer<()> {
            later(self.1, self.0.tell(word))
        }

        fn learn(&self) -> Answer<Vec<CircuitWord>> {
            later(self.1, self.0.learn())
        }

        fn reconnect(&self) {
            self.2.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_too_slow_for_requests_goes_on_sharing_circuits_and_is_not_taken_for_well() {
        let state = Slow(InMemory::new(), 4 * TIMEOUT, Arc::default());
        let fleet = Fleet::new(state.clone());
        let began = Instant::now();
        while began.elapsed() < 9 * PAUSE {
            fleet.get("k").await;
            assert!(fleet.learn().await.is_ok());
        }
        let FleetHealth { answers, late, failed, .. } = fleet.health();
        assert!(!answers && failed == 0, "{fleet:?}");
        assert!((3..=3 + 9).contains(&late), "requests ask once a second: {fleet:?}");
        assert_eq!(state.2.load(Ordering::Relaxed), 1, "another connection is no faster");
        for _ in 0..10 {
            advance(PAUSE).await;
            assert!(fleet.learn().await.is_ok());
        }
        assert!(fleet.health().answers, "no request has asked any more");
    }
}
