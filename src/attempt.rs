//! What was tried for a request, by whom it was answered, and how long it took.

use std::{fmt, time::Duration};

use tokio::time::Instant;
use tracing::Span;

use crate::{
    Cost, Fault, FaultKind, Target, Usage,
    statistics::Call,
    sync::{AtomicU8, OnceLock, Ordering},
    trace,
};

/// How far a try got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Phase {
    /// Nothing went over the wire: a guard declined, or the connection could not be made.
    NeverSent,
    /// The request was handed to the wire.
    Sent,
    /// An answer has begun.
    Answering,
}

/// How a try ended, as far as its caller could see when the answer began.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Outcome {
    /// It answered.
    Answered,
    /// It failed.
    Failed(Fault),
    /// A guard declined before the wire.
    Refused(Fault),
    /// It was given up on: the caller went away, or another try was faster.
    Cancelled,
}

impl Outcome {
    /// How a call ended that was classified so.
    pub(crate) fn of(fault: Option<Fault>) -> Self {
        match fault {
            None => Outcome::Answered,
            Some(fault) if fault.kind() == FaultKind::Refused => Outcome::Refused(fault),
            Some(fault) => Outcome::Failed(fault),
        }
    }

    /// Its stable name, as in metrics and logs: `"answered"`, `"cancelled"`, or the name of the fault's kind, which is
    /// `"refused"` where a guard declined.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Outcome::Answered => "answered",
            Outcome::Cancelled => "cancelled",
            Outcome::Failed(fault) | Outcome::Refused(fault) => fault.kind().name(),
        }
    }

    /// What failed, where something did.
    #[must_use]
    pub fn fault(&self) -> Option<&Fault> {
        match self {
            Outcome::Failed(fault) | Outcome::Refused(fault) => Some(fault),
            Outcome::Answered | Outcome::Cancelled => None,
        }
    }
}

/// That a try came to nothing, and that this was counted.
const WASTED: u8 = 1;
const COUNTED: u8 = 2;

/// Beyond the phases: all of the answer has come.
const WHOLE: u8 = Phase::Answering as u8 + 1;

/// One try: a target, when it began, how far it got and how it ended.
pub struct Attempt {
    target: Option<Target>,
    started: Instant,
    phase: AtomicU8,
    ended: OnceLock<(Outcome, Duration)>,
    // Boxed, because it is rare, and whatever is here is kept as long as the answer runs.
    interruption: OnceLock<Box<Fault>>,
    usage: OnceLock<Usage>,
    waste: AtomicU8,
    /// How many keys more than one were tried.
    more_keys: AtomicU8,
    /// Where it is counted, if anywhere.
    call: Option<Call>,
    request_losses: OnceLock<Box<[&'static str]>>,
    answer_losses: OnceLock<Box<[&'static str]>>,
    /// Disabled where nobody listens.
    span: Span,
}

impl Attempt {
    fn new(target: Option<Target>, call: Option<Call>, span: Span) -> Self {
        Attempt {
            target,
            started: Instant::now(),
            phase: AtomicU8::new(Phase::NeverSent as u8),
            ended: OnceLock::new(),
            interruption: OnceLock::new(),
            usage: OnceLock::new(),
            waste: AtomicU8::new(0),
            more_keys: AtomicU8::new(0),
            call,
            request_losses: OnceLock::new(),
            answer_losses: OnceLock::new(),
            span,
        }
    }

    /// The target; `None` where a layer stands alone before a single upstream.
    #[must_use]
    pub fn target(&self) -> Option<&Target> {
        self.target.as_ref()
    }

    /// When it began.
    #[must_use]
    pub fn started(&self) -> Instant {
        self.started
    }

    /// How far it got.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::NeverSent,
            1 => Phase::Sent,
            _ => Phase::Answering,
        }
    }

    /// How it ended; `None` while it runs.
    #[must_use]
    pub fn outcome(&self) -> Option<&Outcome> {
        self.ended.get().map(|(outcome, _)| outcome)
    }

    /// How long it took to begin to answer, to fail, or to be given up on; `None` while it runs.
    #[must_use]
    pub fn latency(&self) -> Option<Duration> {
        self.ended.get().map(|(_, latency)| *latency)
    }

    /// What broke the answer off after it had begun, if anything did.
    #[must_use]
    pub fn interruption(&self) -> Option<&Fault> {
        self.interruption.get().map(|fault| &**fault)
    }

    /// What it cost; `None` while its answer runs, and where nothing is known of it. Of one that was cancelled before it answered,
    /// an estimate of its input; of one whose answer broke off, of what came of it.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        self.usage.get().copied()
    }

    /// What it cost in money; `None` while that is not [known in tokens](Self::usage), and where its target has no
    /// [price](Target::price).
    #[must_use]
    pub fn cost(&self) -> Option<Cost> {
        Some(self.target()?.price()?.cost(&self.usage()?))
    }

    /// Whether it came to nothing: it failed, it was given up on because another try had answered, or its answer broke off
    /// (whether or not another one completed it). Not because its client went away.
    #[must_use]
    pub fn is_wasted(&self) -> bool {
        self.waste.load(Ordering::Relaxed) & WASTED != 0
    }

    /// Records that it came to nothing.
    pub(crate) fn wasted(&self) {
        self.waste.fetch_or(WASTED, Ordering::AcqRel);
        self.count_waste();
    }

    /// Whichever is known last, that it was in vain or what it cost: then it is counted.
    fn count_waste(&self) {
        let (Some(call), Some(usage)) = (&self.call, self.usage.get()) else { return };
        if self.is_wasted() && self.waste.fetch_or(COUNTED, Ordering::AcqRel) & COUNTED == 0 {
            call.wasted(usage, self.cost());
        }
    }

    /// How many requests of it reached the wire: one for each key that was tried.
    fn sent(&self) -> usize {
        usize::from(self.more_keys.load(Ordering::Relaxed)) + usize::from(self.phase() > Phase::NeverSent)
    }

    /// Records that it goes on with another key, which nobody else learns of.
    pub(crate) fn goes_on_with_another_key(&self) {
        self.more_keys.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether all of its answer has come, as far as the provider says. Its client may still be reading it.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.phase.load(Ordering::Relaxed) == WHOLE
    }

    /// The span in which it is made.
    pub(crate) fn span(&self) -> &Span {
        &self.span
    }

    /// Records that all of its answer has come.
    pub(crate) fn became_whole(&self) {
        self.phase.fetch_max(WHOLE, Ordering::Relaxed);
    }

    /// What of the request or the answer could not be said in the other's dialect, by the names of the documentation's
    /// table of losses; nothing where nobody translated.
    pub fn losses(&self) -> impl Iterator<Item = &'static str> {
        [&self.request_losses, &self.answer_losses].into_iter().flat_map(|lost| lost.get()).flatten().copied()
    }

    /// Records what could not be said: of the request first, then of the answer.
    pub(crate) fn lost(&self, names: &[&'static str]) {
        if let Err(names) = self.request_losses.set(names.into()) {
            let _ = self.answer_losses.set(names);
        }
    }

    /// Records what it cost. The first word counts; whether this was it.
    pub(crate) fn spend(&self, usage: Usage) -> bool {
        if self.usage.set(usage).is_err() {
            return false;
        }
        self.call.iter().for_each(|call| call.charged(&usage, self.cost()));
        self.count_waste();
        if !self.span.is_disabled() {
            trace::spent(self, &usage);
        }
        true
    }

    /// Records that it got at least that far.
    pub(crate) fn reached(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::Relaxed);
    }

    /// Records how it ended. The first word counts; whether this was it.
    pub(crate) fn end(&self, outcome: Outcome) -> bool {
        let never_sent = matches!(&outcome, Outcome::Failed(fault) if fault.is_unsent());
        let reached = match &outcome {
            Outcome::Answered => Phase::Answering,
            Outcome::Failed(_) => Phase::Sent,
            Outcome::Refused(_) | Outcome::Cancelled => Phase::NeverSent,
        };
        let now = Instant::now();
        let latency = now.saturating_duration_since(self.started);
        if self.ended.set((outcome, latency)).is_err() {
            return false;
        }
        if never_sent {
            // It was handed to a client that then could not connect.
            self.phase.store(Phase::NeverSent as u8, Ordering::Relaxed);
        } else {
            self.reached(reached);
        }
        if let (Some(call), Some(outcome)) = (&self.call, self.outcome()) {
            call.ended(outcome, self.phase() > Phase::NeverSent, now, latency);
        }
        if matches!(self.outcome(), Some(Outcome::Failed(_))) {
            self.wasted();
        }
        true
    }

    /// Where it is counted.
    pub(crate) fn call(&self) -> Option<&Call> {
        self.call.as_ref()
    }

    /// Records what broke the answer off. The first word counts; whether this was it.
    pub(crate) fn interrupt(&self, fault: Fault) -> bool {
        let is_news = self.interruption.set(Box::new(fault)).is_ok();
        if let (true, Some(call), Some(fault)) = (is_news, &self.call, self.interruption()) {
            call.interrupted(fault);
        }
        if self.interruption().is_some_and(|fault| fault.kind() != FaultKind::Cancelled) {
            self.wasted();
        }
        is_news
    }
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempt")
            .field("target", &self.target.as_ref().map(Target::id))
            .field("phase", &self.phase())
            .field("outcome", &self.outcome())
            .field("latency", &self.latency())
            .field("interruption", &self.interruption())
            .field("usage", &self.usage())
            .finish()
    }
}

/// Every try of one request, in the order in which they began. It only grows, may do so after the answer has
/// begun, and takes no lock.
#[derive(Default)]
pub struct AttemptLog {
    // Nearly every request has one try: it costs no allocation.
    first: OnceLock<Attempt>,
    more: OnceLock<Box<Node>>,
}

struct Node {
    attempt: Attempt,
    next: OnceLock<Box<Node>>,
}

/// Which entry of a log.
pub(crate) type AttemptIndex = usize;

impl AttemptLog {
    /// Every try, the earliest first.
    pub fn iter(&self) -> impl Iterator<Item = &Attempt> {
        let more = std::iter::successors(self.more.get(), |node| node.next.get()).map(|node| &node.attempt);
        self.first.get().into_iter().chain(more)
    }

    /// How many tries reached the wire, retries and those with another key of the same provider included.
    #[must_use]
    pub fn sent(&self) -> usize {
        self.iter().map(Attempt::sent).sum()
    }

    /// The latest try that answered.
    #[must_use]
    pub fn answered(&self) -> Option<&Attempt> {
        self.iter().filter(|attempt| matches!(attempt.outcome(), Some(Outcome::Answered))).last()
    }

    /// The latest try that answered, and whose answer did not break off.
    pub(crate) fn unbroken(&self) -> Option<&Attempt> {
        let answered = |attempt: &&Attempt| matches!(attempt.outcome(), Some(Outcome::Answered));
        self.iter().filter(answered).filter(|attempt| attempt.interruption().is_none()).last()
    }

    /// What all of them cost, losers and broken answers included; `None` where no cost is known.
    #[must_use]
    pub fn cost(&self) -> Option<Cost> {
        self.iter().filter_map(Attempt::cost).reduce(|sum, cost| sum + cost)
    }

    pub(crate) fn get(&self, index: AttemptIndex) -> Option<&Attempt> {
        self.iter().nth(index)
    }

    pub(crate) fn start(&self, target: Option<Target>, call: Option<Call>, span: Span) -> AttemptIndex {
        let attempt = match self.first.set(Attempt::new(target, call, span)) {
            Ok(()) => return 0,
            Err(attempt) => attempt,
        };
        let mut node = Box::new(Node { attempt, next: OnceLock::new() });
        let mut index = 1;
        let mut end = &self.more;
        loop {
            node = match end.set(node) {
                Ok(()) => return index,
                Err(node) => node,
            };
            index += 1;
            if let Some(taken) = end.get() {
                end = &taken.next;
            }
        }
    }
}

impl fmt::Debug for AttemptLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_keep_their_order_and_only_those_on_the_wire_count() {
        let log = AttemptLog::default();
        for name in ["a", "unreachable", "b", "c"] {
            let index = log.start(Some(Target::named(name)), None, Span::none());
            let attempt = log.get(index).unwrap();
            match name {
                "a" => _ = attempt.end(Outcome::Refused(Fault::new(FaultKind::Refused, "open"))),
                "unreachable" => {
                    attempt.reached(Phase::Sent);
                    assert!(attempt.end(Outcome::Failed(Fault::new(FaultKind::Connect, "refused"))));
                }
                "b" => {
                    attempt.reached(Phase::Sent);
                    attempt.end(Outcome::Failed(Fault::new(FaultKind::Timeout, "silent")));
                }
                _ => _ = attempt.end(Outcome::Answered),
            }
        }
        let names: Vec<_> = log.iter().map(|attempt| attempt.target().unwrap().id().to_string()).collect();
        assert_eq!(names, ["a", "unreachable", "b", "c"]);
        assert_eq!(log.sent(), 2);
        assert_eq!(log.answered().unwrap().target().unwrap().id().as_str(), "c");
    }

    #[test]
    fn the_first_word_about_an_end_counts() {
        let log = AttemptLog::default();
        let attempt = log.get(log.start(None, None, Span::none())).unwrap();
        assert_eq!(attempt.outcome(), None);
        assert!(attempt.end(Outcome::Cancelled) && !attempt.end(Outcome::Answered));
        assert_eq!(attempt.outcome(), Some(&Outcome::Cancelled));
    }

    #[test]
    fn threads_that_race_all_get_an_entry() {
        let log = AttemptLog::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..100).for_each(|_| _ = log.start(None, None, Span::none())));
            }
        });
        assert_eq!(log.iter().count(), 400);
    }
}

/// In every order in which threads can meet; `OnceLock` is the one of [`sync`](crate::sync).
#[cfg(all(test, failover_loom))]
mod loom {
    use super::*;
    use ::loom::thread;
    use std::sync::Arc;

    fn index(log: &AttemptLog, name: &str) -> AttemptIndex {
        log.start(Some(Target::named(name)), None, Span::none())
    }

    fn name(log: &AttemptLog, index: AttemptIndex) -> String {
        log.get(index).unwrap().target().unwrap().id().to_string()
    }

    #[test]
    fn each_try_gets_an_entry_of_its_own_and_keeps_it() {
        ::loom::model(|| {
            let log = Arc::new(AttemptLog::default());
            let other = thread::spawn({
                let log = log.clone();
                move || {
                    let places = [index(&log, "a"), index(&log, "b")];
                    assert_eq!([name(&log, places[0]), name(&log, places[1])], ["a", "b"]);
                    places
                }
            });
            let place = index(&log, "c");
            assert_eq!(name(&log, place), "c");
            let [a, b] = other.join().unwrap();
            assert!(a < b, "in the order in which they began");
            let mut places = [a, b, place];
            places.sort_unstable();
            assert_eq!(places, [0, 1, 2]);
            assert_eq!(log.iter().count(), 3);
        });
    }

    #[test]
    fn whoever_reads_meanwhile_sees_whole_tries_without_gaps() {
        ::loom::model(|| {
            let log = Arc::new(AttemptLog::default());
            let writing = thread::spawn({
                let log = log.clone();
                move || ["a", "b"].map(|name| index(&log, name))
            });
            let names: Vec<_> = log.iter().map(|attempt| attempt.target().unwrap().id().to_string()).collect();
            assert!(["a", "b"].starts_with(&names.iter().map(String::as_str).collect::<Vec<_>>()), "{names:?}");
            writing.join().unwrap();
        });
    }

    #[test]
    fn one_word_about_an_end_counts() {
        ::loom::model(|| {
            let log = Arc::new(AttemptLog::default());
            let place = log.start(None, None, Span::none());
            let cancelling = thread::spawn({
                let log = log.clone();
                move || {
                    log.get(place).unwrap().end(Outcome::Cancelled);
                    log.get(place).unwrap().outcome().cloned()
                }
            });
            let attempt = log.get(place).unwrap();
            attempt.end(Outcome::Answered);
            let told = attempt.outcome().cloned();
            assert_eq!(cancelling.join().unwrap(), told, "both read the same");
            assert_eq!(attempt.phase() == Phase::Answering, told == Some(Outcome::Answered));
        });
    }
}
