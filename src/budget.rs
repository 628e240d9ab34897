//! What may be done beside the traffic, as a share of it: retries, and calls that hedge others.

use std::time::Duration;

use tokio::time::Instant;

use crate::sync::{AtomicU64, Ordering};

/// How far back a budget looks, and how many withdrawals it always allows in that time: one failure on a quiet day is
/// worth a retry whatever its share.
const TURNS: u32 = if cfg!(all(test, failover_loom)) { 2 } else { 10 };
const TURN: Duration = Duration::from_secs(1);
const ALWAYS: u32 = if cfg!(all(test, failover_loom)) { 1 } else { 10 };

/// Allows a share of what was recorded in the last 10 s, and the first 10 in that time. It takes no lock, and however many
/// threads withdraw at once, they never get more than there is.
#[derive(Debug)]
pub(crate) struct Budget {
    share: f64,
    start: Instant,
    /// How many calls were recorded, by the turn in which.
    recorded: [AtomicU64; TURNS as usize],
    /// How many were ever withdrawn. To withdraw is to be the next to count this on: what was seen before holds, then.
    withdrawn: AtomicU64,
    /// Where that count stood in a turn, before the first withdrawal of it.
    marks: [AtomicU64; TURNS as usize],
}

/// A turn and a number that belongs to it, in one word. Turns come round in 136 years, and the count of all withdrawals as
/// well as often as it likes: only differences matter.
#[derive(Clone, Copy)]
struct Entry {
    turn: u32,
    number: u32,
}

impl Entry {
    fn read(word: u64) -> Self {
        Entry { turn: (word >> 32) as u32, number: word as u32 }
    }

    fn word(self) -> u64 {
        u64::from(self.turn) << 32 | u64::from(self.number)
    }

    fn is_within(self, turn: u32) -> bool {
        // A later turn than this thread's own counts too: the thread is late.
        self.turn.saturating_add(TURNS) > turn
    }
}

impl Budget {
    pub(crate) fn new(share: f64) -> Self {
        let none = || std::array::from_fn(|_| AtomicU64::new(0));
        Budget { share, start: Instant::now(), recorded: none(), withdrawn: AtomicU64::new(0), marks: none() }
    }

    /// Records a call of the traffic that withdrawals are to be a share of.
    pub(crate) fn record(&self) {
        let turn = self.turn();
        let update = |word| {
            let entry = Entry::read(word);
            let number = if entry.turn == turn { entry.number } else { 0 };
            // Where another turn has begun in its place, this one is over and of no weight any more.
            (entry.turn <= turn).then(|| Entry { turn, number: number.saturating_add(1) }.word())
        };
        let _ = place(&self.recorded, turn).fetch_update(Ordering::Relaxed, Ordering::Relaxed, update);
    }

    /// Takes one out of the budget, if there is one left.
    pub(crate) fn withdraw(&self) -> bool {
        loop {
            if let Some(allowed) = self.try_withdraw(self.turn()) {
                return allowed;
            }
        }
    }

    /// Decides by what it sees, unless that changes meanwhile: then it has decided nothing.
    fn try_withdraw(&self, turn: u32) -> Option<bool> {
        // Read before the marks: whoever has counted it on had set his mark by then.
        let withdrawn = self.withdrawn.load(Ordering::Acquire);
        self.mark(turn, withdrawn as u32);
        let marks = self.marks.iter().map(|mark| Entry::read(mark.load(Ordering::Acquire)));
        let since = |mark: Entry| (withdrawn as u32).wrapping_sub(mark.number);
        // A mark may be set late, after withdrawals of later turns, but never after those of its own: the earliest counts.
        let lately = marks.filter(|mark| mark.is_within(turn)).map(since).max().unwrap_or_default();
        let allowed = lately < ALWAYS || f64::from(lately) < self.share * self.recorded(turn) as f64;
        let next = withdrawn.wrapping_add(u64::from(allowed));
        self.withdrawn.compare_exchange(withdrawn, next, Ordering::AcqRel, Ordering::Relaxed).is_ok().then_some(allowed)
    }

    /// Notes where the count of withdrawals stands, if nobody has in this turn.
    fn mark(&self, turn: u32, withdrawn: u32) {
        let update = |word| (Entry::read(word).turn < turn).then(|| Entry { turn, number: withdrawn }.word());
        let _ = place(&self.marks, turn).fetch_update(Ordering::AcqRel, Ordering::Acquire, update);
    }

    fn recorded(&self, turn: u32) -> u64 {
        let entries = self.recorded.iter().map(|entry| Entry::read(entry.load(Ordering::Relaxed)));
        entries.filter(|entry| entry.is_within(turn)).map(|entry| u64::from(entry.number)).sum()
    }

    /// How many turns have begun since the start.
    fn turn(&self) -> u32 {
        (self.start.elapsed().as_nanos() / TURN.as_nanos()) as u32
    }
}

fn place(ring: &[AtomicU64; TURNS as usize], turn: u32) -> &AtomicU64 {
    &ring[(turn % TURNS) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokio::time::advance;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Record(u32),
        Withdraw(u32),
        Wait(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => (1..40_u32).prop_map(Step::Record),
            4 => (1..15_u32).prop_map(Step::Withdraw),
            3 => (0..4_000_u64).prop_map(Step::Wait),
            1 => (8_000..25_000_u64).prop_map(Step::Wait),
        ];
        prop::collection::vec(step, 1..60)
    }

    /// Everything that happened, and when: what is asked of it is counted anew each time.
    #[derive(Default)]
    struct Model {
        recorded: Vec<u64>,
        withdrawn: Vec<u64>,
    }

    impl Model {
        fn withdraw(&mut self, share: f64, second: u64) -> bool {
            let lately = |times: &[u64]| times.iter().filter(|time| **time + 10 > second).count();
            let (recorded, withdrawn) = (lately(&self.recorded), lately(&self.withdrawn));
            let allowed = withdrawn < 10 || (withdrawn as f64) < share * recorded as f64;
            if allowed {
                self.withdrawn.push(second);
            }
            allowed
        }
    }

    proptest! {
        #[test]
        fn it_allows_what_a_list_of_all_that_happened_would(steps in steps(), share in 0.0..1.5_f64) {
            tokio_test::block_on(async {
                tokio::time::pause();
                let (budget, mut model) = (Budget::new(share), Model::default());
                for step in steps {
                    let second = budget.start.elapsed().as_secs();
                    match step {
                        Step::Record(times) => (0..times).for_each(|_| {
                            budget.record();
                            model.recorded.push(second);
                        }),
                        Step::Withdraw(times) => {
                            for _ in 0..times {
                                prop_assert_eq!(budget.withdraw(), model.withdraw(share, second));
                            }
                        }
                        Step::Wait(milliseconds) => advance(Duration::from_millis(milliseconds)).await,
                    }
                }
                Ok(())
            })?;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_are_always_allowed_and_then_a_share() {
        let budget = Budget::new(0.2);
        let withdrawn = || (0..1_000).take_while(|_| budget.withdraw()).count();
        assert_eq!(withdrawn(), 10);
        (0..100).for_each(|_| budget.record());
        assert_eq!(withdrawn(), 10);
        advance(Duration::from_secs(11)).await;
        assert_eq!(withdrawn(), 10);
    }

    #[test]
    fn threads_get_no_more_than_there_is_and_no_less() {
        for _ in 0..500 {
            let budget = Budget::new(0.5);
            (0..40).for_each(|_| budget.record());
            let barrier = std::sync::Barrier::new(4);
            let withdraw = || {
                barrier.wait();
                (0..20).filter(|_| budget.withdraw()).count()
            };
            let withdrawn: usize = std::thread::scope(|scope| {
                let threads = [(); 4].map(|()| scope.spawn(withdraw));
                threads.into_iter().map(|thread| thread.join().unwrap()).sum()
            });
            assert_eq!(withdrawn, 20);
        }
    }
}

/// Under a model checker the budget looks back two turns, and allows one withdrawal in them whatever its share.
#[cfg(all(test, failover_loom))]
mod loom {
    use super::*;
    use std::sync::Arc;

    /// Withdrawals in threads of their own, in these turns; how many were allowed.
    fn withdraw(budget: &Arc<Budget>, turns: &[u32]) -> u32 {
        let threads: Vec<_> = turns
            .iter()
            .map(|&turn| {
                let budget = budget.clone();
                ::loom::thread::spawn(move || {
                    loop {
                        if let Some(allowed) = budget.try_withdraw(turn) {
                            return u32::from(allowed);
                        }
                    }
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    }

    #[test]
    fn the_last_one_is_withdrawn_once() {
        ::loom::model(|| {
            let budget = Arc::new(Budget::new(0.0));
            assert_eq!(withdraw(&budget, &[3, 3]), 1);
        });
    }

    #[test]
    fn at_the_turn_of_a_turn_too() {
        ::loom::model(|| {
            let budget = Arc::new(Budget::new(0.0));
            assert_eq!(withdraw(&budget, &[3, 4]), 1);
            assert_eq!(budget.try_withdraw(4), Some(false), "it looks back so far");
            assert_eq!(budget.try_withdraw(6), Some(true), "and no further");
        });
    }

    #[test]
    fn by_three_at_once_too() {
        let mut model = ::loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let budget = Arc::new(Budget::new(0.0));
            assert_eq!(withdraw(&budget, &[3, 4, 3]), 1);
        });
    }

    #[test]
    fn what_is_recorded_meanwhile_is_never_lost_and_withdrawn_no_more_than_once() {
        ::loom::model(|| {
            let budget = Arc::new(Budget::new(1.0));
            assert_eq!(budget.try_withdraw(0), Some(true));
            let recording = {
                let budget = budget.clone();
                ::loom::thread::spawn(move || (0..2).for_each(|_| budget.record()))
            };
            let meanwhile = withdraw(&budget, &[0]);
            recording.join().unwrap();
            let rest = (0..5).filter(|_| budget.try_withdraw(0) == Some(true)).count() as u32;
            assert_eq!(1 + meanwhile + rest, 2);
        });
    }
}
