//! A circuit against a naive model: everything that happened is kept in lists, and counted anew whenever it is asked for.

use super::*;
use proptest::prelude::*;
use tokio::time::advance;

/// What a call fails of.
#[derive(Clone, Copy, Debug)]
enum Failure {
    Unavailable,
    Timeout,
    /// With the seconds that it asks to be left alone.
    Overloaded(u64),
    RateLimited(Option<u64>),
    QuotaExhausted(Option<u64>),
    AuthFailed,
    BadRequest,
    Cancelled,
}

impl Failure {
    fn fault(self) -> Fault {
        let (kind, seconds) = match self {
            Failure::Unavailable => (FaultKind::Unavailable, None),
            Failure::Timeout => (FaultKind::Timeout, None),
            Failure::Overloaded(seconds) => (FaultKind::Overloaded, Some(seconds)),
            Failure::RateLimited(seconds) => (FaultKind::RateLimited, seconds),
            Failure::QuotaExhausted(seconds) => (FaultKind::QuotaExhausted, seconds),
            Failure::AuthFailed => (FaultKind::AuthFailed, None),
            Failure::BadRequest => (FaultKind::BadRequest, None),
            Failure::Cancelled => (FaultKind::Cancelled, None),
        };
        Fault::new(kind, "failed").with_retry_after(seconds.map(Duration::from_secs))
    }
}

/// One thing that happens. Calls are named by a number, taken modulo how many are under way.
#[derive(Clone, Copy, Debug)]
enum Step {
    Wait(Duration),
    Admit {
        last_resort: bool,
    },
    /// So many calls, one after the other: each is answered, or each fails.
    Calls(u8, bool),
    Answering(usize),
    Succeed(usize),
    Fail(usize, Failure),
    Drop(usize),
    Open,
    Drain,
    Close,
    HalfOpen,
}

fn failure() -> impl Strategy<Value = Failure> {
    prop_oneof![
        6 => Just(Failure::Unavailable),
        2 => Just(Failure::Timeout),
        1 => (0..90_u64).prop_map(Failure::Overloaded),
        2 => prop::option::of(0..90_u64).prop_map(Failure::RateLimited),
        1 => prop::option::of(0..2_000_u64).prop_map(Failure::QuotaExhausted),
        1 => Just(Failure::AuthFailed),
        2 => Just(Failure::BadRequest),
        1 => Just(Failure::Cancelled),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let milliseconds = |range: std::ops::Range<u64>| range.prop_map(|it| Step::Wait(Duration::from_millis(it)));
    let step = prop_oneof![
        4 => milliseconds(0..3_000),
        4 => milliseconds(3_000..40_000),
        1 => milliseconds(40_000..1_000_000),
        12 => any::<bool>().prop_map(|last_resort| Step::Admit { last_resort }),
        4 => (1..12_u8, any::<bool>()).prop_map(|(calls, good)| Step::Calls(calls, good)),
        4 => any::<usize>().prop_map(Step::Answering),
        4 => any::<usize>().prop_map(Step::Succeed),
        8 => (any::<usize>(), failure()).prop_map(|(call, failure)| Step::Fail(call, failure)),
        4 => any::<usize>().prop_map(Step::Drop),
        1 => prop_oneof![Just(Step::Open), Just(Step::Drain), Just(Step::Close), Just(Step::HalfOpen)],
    ];
    prop::collection::vec(step, 1..80)
}

fn settings() -> impl Strategy<Value = CircuitSettings> {
    let shares = (prop_oneof![Just(0.5), Just(0.0), Just(1.0), Just(2.0)], prop_oneof![Just(1.0), Just(0.3)]);
    (1..6_u32, 0..3_u32, shares, 1..12_u32).prop_map(|(failures, probes, (failure_rate, slow_rate), min_calls)| {
        CircuitSettings { failures, probes, failure_rate, slow_rate, min_calls, jitter: 0.0, ..Default::default() }
    })
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Why {
    Ordinary,
    Probe,
    LastResort,
    Probation,
}

/// A call under way.
#[derive(Clone, Copy, Debug)]
struct Call {
    era: u32,
    why: Why,
    admitted: Duration,
    /// Whether it was slow to answer, once it has.
    slow: Option<bool>,
}

#[derive(Clone, Copy, Debug)]
struct Verdict {
    at: Duration,
    failed: bool,
    slow: bool,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Closed,
    Open,
    HalfOpen,
}

/// The circuit as the documents tell of it.
struct Model {
    settings: CircuitSettings,
    now: Duration,
    state: State,
    /// Counted up with each change of state.
    era: u32,
    /// Those on calls of this closed era, or of the last one.
    verdicts: Vec<Verdict>,
    /// When it opened, since the last good verdict on an ordinary call.
    opened: Vec<Duration>,
    until: Duration,
    transient: bool,
    drained: bool,
    last_probe: Duration,
    calls: Vec<Call>,
}

impl Model {
    fn new(settings: CircuitSettings) -> Self {
        Model {
            settings,
            now: Duration::ZERO,
            state: State::Closed,
            era: 0,
            verdicts: Vec::new(),
            opened: Vec::new(),
            until: Duration::ZERO,
            transient: true,
            drained: false,
            last_probe: Duration::ZERO,
            calls: Vec::new(),
        }
    }

    fn change(&mut self, state: State) {
        self.state = state;
        self.era += 1;
    }

    fn probes(&self) -> usize {
        self.calls.iter().filter(|call| call.why == Why::Probe && call.era == self.era).count()
    }

    /// The time between a probe and the end of everybody's patience with it.
    fn lease(&self) -> Duration {
        2 * self.settings.max_open
    }

    fn admit(&mut self, last_resort: bool) -> Result<(), (Duration, bool)> {
        let lost = self.probes() > 0 && self.now >= self.last_probe + self.lease();
        match self.state {
            State::Open if self.now >= self.until => self.change(State::HalfOpen),
            State::HalfOpen if lost => self.change(State::HalfOpen),
            _ => {}
        }
        let last_resort_is_under_way = self.calls.iter().any(|call| call.why == Why::LastResort);
        let why = match self.state {
            State::Closed => Why::Ordinary,
            State::HalfOpen if self.probes() < self.settings.probes.max(1) as usize => Why::Probe,
            _ if last_resort && self.transient && !last_resort_is_under_way => Why::LastResort,
            State::HalfOpen => return Err(((self.last_probe + self.lease()).saturating_sub(self.now), self.transient)),
            State::Open => return Err((self.until.saturating_sub(self.now), self.transient)),
        };
        if why == Why::Probe {
            self.last_probe = self.now;
        }
        self.calls.push(Call { era: self.era, why, admitted: self.now, slow: None });
        Ok(())
    }

    fn is_slow(&self, call: Call) -> bool {
        call.slow.unwrap_or(self.now - call.admitted >= self.settings.slow_call)
    }

    fn answering(&self, call: Call) -> (Call, bool) {
        let slow = Some(self.is_slow(call));
        match call.why {
            Why::Probe | Why::LastResort if call.era == self.era => {
                (Call { era: self.era + 1, why: Why::Probation, slow, ..call }, true)
            }
            Why::Probe | Why::LastResort => (Call { why: Why::Ordinary, slow, ..call }, false),
            Why::Ordinary | Why::Probation => (Call { slow, ..call }, false),
        }
    }

    fn close(&mut self) {
        self.verdicts.clear();
        self.until = self.now;
        self.transient = true;
        self.change(State::Closed);
    }

    fn succeed(&mut self, call: Call) {
        let (call, closes) = self.answering(call);
        if closes {
            self.close();
        }
        if matches!(self.state, State::Closed) && call.era == self.era {
            self.verdicts.push(Verdict { at: self.now, failed: false, slow: self.is_slow(call) });
            self.opened.clear();
            if self.is_slow(call) && self.too_slow() {
                self.open(Duration::ZERO, true);
            }
        }
    }

    fn fail(&mut self, call: Call, failure: Failure) {
        let asked = failure.fault().retry_after().unwrap_or_default();
        let long = if asked > self.settings.max_retry_after { asked } else { Duration::ZERO };
        let (at_once, at_least, transient) = match failure {
            Failure::Cancelled => return,
            Failure::BadRequest => return self.succeed(call),
            Failure::QuotaExhausted(_) | Failure::AuthFailed => (true, asked.max(self.settings.long_open), false),
            Failure::RateLimited(_) => (long > Duration::ZERO, long, true),
            Failure::Unavailable | Failure::Timeout | Failure::Overloaded(_) => (false, long, true),
        };
        if call.era != self.era {
            return;
        }
        if call.why != Why::Ordinary {
            return self.open(at_least, transient);
        }
        let slow = self.is_slow(call);
        self.verdicts.push(Verdict { at: self.now, failed: true, slow });
        let trips = self.consecutive() >= self.settings.failures || self.fails_too_often();
        if at_once || trips || (slow && self.too_slow()) {
            self.open(at_least, transient);
        }
    }

    fn open(&mut self, at_least: Duration, transient: bool) {
        let doubled = (0..self.opened.len().min(10)).fold(self.settings.open, |length, _| 2 * length);
        let length = doubled.min(self.settings.max_open).max(at_least);
        self.until = self.until.max(self.now + length);
        self.transient = transient;
        self.opened.push(self.now);
        self.change(State::Open);
    }

    fn consecutive(&self) -> u32 {
        self.verdicts.iter().rev().take_while(|verdict| verdict.failed).count() as u32
    }

    /// The window slides by tenths.
    fn lately(&self) -> Vec<Verdict> {
        let tenth = |at: Duration| at.as_nanos() / (self.settings.window.as_nanos() / 10);
        self.verdicts.iter().copied().filter(|verdict| tenth(verdict.at) + 10 > tenth(self.now)).collect()
    }

    fn counts(&self) -> [u64; 3] {
        let lately = self.lately();
        let count = |what: fn(&Verdict) -> bool| lately.iter().filter(|verdict| what(verdict)).count() as u64;
        [count(|_| true), count(|verdict| verdict.failed), count(|verdict| verdict.slow)]
    }

    fn fails_too_often(&self) -> bool {
        let [calls, failures, _] = self.counts();
        calls >= u64::from(self.settings.min_calls) && failures as f64 / calls as f64 >= self.settings.failure_rate
    }

    fn too_slow(&self) -> bool {
        let [calls, _, slow] = self.counts();
        calls >= u64::from(self.settings.min_calls) && slow as f64 / calls as f64 >= self.settings.slow_rate
    }
}

/// The circuit and its model, to which the same things happen.
struct Pair {
    circuit: Arc<Circuit>,
    permits: Vec<Permit>,
    model: Model,
}

impl Pair {
    fn admit(&mut self, last_resort: bool) -> Result<(), TestCaseError> {
        let refused = match self.circuit.admit(last_resort).map(Permit::waiting) {
            Ok(permit) => {
                self.permits.push(permit);
                Ok(())
            }
            Err(Refusal::CircuitOpen { retry_after, transient }) => Err((retry_after, transient)),
            Err(Refusal::Drained) => {
                prop_assert!(self.model.drained);
                return Ok(());
            }
            Err(other) => panic!("{other:?}"),
        };
        prop_assert_eq!(refused, self.model.admit(last_resort));
        Ok(())
    }

    fn take(&mut self, call: usize) -> Option<(Permit, Call)> {
        let index = call.checked_rem(self.permits.len())?;
        Some((self.permits.swap_remove(index), self.model.calls.swap_remove(index)))
    }

    async fn perform(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Wait(time) => {
                advance(time).await;
                self.model.now += time;
            }
            Step::Admit { last_resort } => self.admit(last_resort)?,
            Step::Calls(calls, good) => {
                for _ in 0..calls {
                    let under_way = self.permits.len();
                    self.admit(false)?;
                    if self.permits.len() > under_way {
                        let (permit, call) = (self.permits.pop().unwrap(), self.model.calls.pop().unwrap());
                        if good {
                            permit.succeed();
                            self.model.succeed(call);
                        } else {
                            permit.fail(&Failure::Unavailable.fault());
                            self.model.fail(call, Failure::Unavailable);
                        }
                        self.agree()?;
                    }
                }
            }
            Step::Answering(call) => {
                if let Some((mut permit, call)) = self.take(call) {
                    permit.answering();
                    let (call, closes) = self.model.answering(call);
                    if closes {
                        self.model.close();
                    }
                    self.permits.push(permit);
                    self.model.calls.push(call);
                }
            }
            Step::Succeed(call) => {
                if let Some((permit, call)) = self.take(call) {
                    permit.succeed();
                    self.model.succeed(call);
                }
            }
            Step::Fail(call, failure) => {
                if let Some((permit, call)) = self.take(call) {
                    permit.fail(&failure.fault());
                    self.model.fail(call, failure);
                }
            }
            Step::Drop(call) => drop(self.take(call)),
            Step::Open => {
                self.circuit.force_open();
                if !self.model.drained {
                    self.model.until = self.model.until.max(self.model.now + self.model.settings.long_open);
                    self.model.change(State::Open);
                }
            }
            Step::Drain => {
                self.circuit.drain();
                self.model.drained = true;
                self.model.until = self.model.now + Duration::from_secs(100 * 365 * 24 * 60 * 60);
                self.model.transient = false;
                self.model.change(State::Open);
            }
            Step::Close => {
                self.circuit.force_closed();
                self.model.opened.clear();
                self.model.drained = false;
                self.model.close();
            }
            Step::HalfOpen => {
                self.circuit.force_half_open();
                if !matches!(self.model.state, State::Closed) && !self.model.drained {
                    (self.model.until, self.model.transient) = (self.model.now, true);
                    self.model.change(State::HalfOpen);
                }
            }
        }
        self.agree()
    }

    fn agree(&self) -> Result<(), TestCaseError> {
        let (snapshot, model) = (self.circuit.snapshot(None, None), &self.model);
        let (state, open_for) = match model.state {
            State::Closed => (CircuitState::Closed, None),
            State::HalfOpen => (CircuitState::HalfOpen, None),
            State::Open if model.drained => (CircuitState::Open, None),
            State::Open => (CircuitState::Open, Some(model.until.saturating_sub(model.now))),
        };
        prop_assert_eq!((snapshot.state, snapshot.open_for, snapshot.drained), (state, open_for, model.drained));
        prop_assert_eq!(snapshot.consecutive_failures, model.consecutive());
        prop_assert_eq!([snapshot.calls, snapshot.failures, snapshot.slow_calls], model.counts());
        Ok(())
    }

    /// What holds whatever the model says: of probes there are never too many at once.
    fn probes_are_few(&self) -> Result<(), TestCaseError> {
        let word = self.circuit.word();
        let is_probe = |permit: &&Permit| permit.is_probe_of(word.epoch());
        let probes = self.permits.iter().filter(is_probe).count();
        prop_assert!(probes <= self.circuit.settings.probes.max(1) as usize, "{} probes", probes);
        prop_assert!(probes == 0 || word.state() == CircuitState::HalfOpen);
        Ok(())
    }
}

fn run<F: Future<Output = Result<(), TestCaseError>>>(test: F) -> Result<(), TestCaseError> {
    tokio_test::block_on(async {
        tokio::time::pause();
        test.await
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_circuit_does_what_its_model_does(settings in settings(), steps in steps()) {
        run(async {
            let circuit = Arc::new(Circuit::new(settings));
            let mut pair = Pair { circuit, permits: Vec::new(), model: Model::new(settings) };
            for step in steps {
                let (was, until, era) = (pair.circuit.state(), pair.circuit.cooldown().until, pair.model.era);
                pair.perform(step).await?;
                pair.probes_are_few()?;
                let by_hand = matches!(step, Step::Open | Step::Drain | Step::Close | Step::HalfOpen);
                // An answer that was good but slow closes it and opens it anew, which is another cooldown.
                let was_closed = pair.model.era > era + 1;
                if (was, pair.circuit.state()) == (CircuitState::Open, CircuitState::Open) && !by_hand && !was_closed {
                    prop_assert!(pair.circuit.cooldown().until >= until, "a cooldown became shorter");
                }
            }
            Ok(())
        })?;
    }

    #[test]
    fn a_circuit_admits_again_in_the_end_whatever_became_of_all_permits(
        settings in settings(),
        steps in steps(),
        lost in any::<bool>(),
    ) {
        run(async {
            let circuit = Arc::new(Circuit::new(settings));
            let mut pair = Pair { circuit, permits: Vec::new(), model: Model::new(settings) };
            for step in steps {
                // Drained, it stays so.
                if !matches!(step, Step::Drain) {
                    pair.perform(step).await?;
                }
            }
            // Never heard of again, or given back in a heap.
            let kept = if lost { std::mem::take(&mut pair.permits) } else { Vec::new() };
            pair.permits.clear();
            advance(Duration::from_secs(2_000)).await;
            let places = settings.probes.max(1) as usize;
            let mut admitted: Vec<_> = (0..places).map_while(|_| pair.circuit.admit(false).ok()).collect();
            prop_assert_eq!(admitted.len(), places, "a probe's place is lost");
            admitted.pop().unwrap().succeed();
            drop(kept);
            prop_assert_eq!(pair.circuit.state(), CircuitState::Closed);
            Ok(())
        })?;
    }
}
