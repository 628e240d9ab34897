use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, Ordering},
};

use metrics::{Counter, Gauge, Histogram, SharedString};

use super::{Metrics, Series, names};
use crate::{Fault, FaultKind, Outcome, Refusal, Target, TargetId, Usage};

/// What is kept of a target. Each series is looked up once: no label is hashed while requests are answered.
pub(super) struct TargetMetrics {
    // Its name and its provider's, and not the target: that would keep the provider's keys fresh for ever.
    pub(super) id: TargetId,
    pub(super) provider: Option<Box<str>>,
    /// Whether it is on no route any more.
    gone: AtomicBool,
    pub(super) circuit: Gauge,
    pub(super) retries: Counter,
    pub(super) hedges: Counter,
    pub(super) recoveries: Counter,
    answered: Counter,
    cancelled: Counter,
    /// By the kind of the fault, in the order of the table.
    failed: Vec<Counter>,
    interrupted: Vec<OnceLock<Counter>>,
    refused: [Counter; REASONS.len()],
    time_to_first_token: Histogram,
    tokens: [Counter; TOKENS.len()],
}

const REASONS: [&str; 4] = ["circuit_open", "unmet", "limit_reached", "other"];

type TokenKind = (&'static str, fn(&Usage) -> u64);

const TOKENS: [TokenKind; 5] = [
    ("input", |usage| usage.input),
    ("cached_input", |usage| usage.cached_input),
    ("cache_write_input", |usage| usage.cache_write_input),
    ("output", |usage| usage.output),
    ("reasoning", |usage| usage.reasoning),
];

impl TargetMetrics {
    pub(super) fn new(metrics: &Metrics, target: &Target) -> Self {
        let id = || SharedString::from(target.id().as_str().to_owned());
        let attempts = |outcome: &'static str| metrics.counter(&names::ATTEMPTS, [id(), outcome.into()]);
        let circuit = metrics.gauge(&names::CIRCUIT_STATE, [id()]);
        circuit.set(0.0);
        let kinds = FaultKind::ALL.iter();
        TargetMetrics {
            id: target.id().clone(),
            provider: target.provider().map(|provider| provider.name().into()),
            gone: AtomicBool::new(false),
            circuit,
            retries: metrics.counter(&names::RETRIES, [id()]),
            hedges: metrics.counter(&names::HEDGES, [id()]),
            recoveries: metrics.counter(&names::RECOVERIES, [id()]),
            answered: attempts("answered"),
            cancelled: attempts("cancelled"),
            failed: kinds.clone().map(|kind| attempts(kind.name())).collect(),
            interrupted: kinds.map(|kind| interruptions(metrics, target.id(), *kind)).collect(),
            refused: REASONS.map(|reason| metrics.counter(&names::REFUSALS, [id(), reason.into()])),
            time_to_first_token: metrics.histogram(&names::TIME_TO_FIRST_TOKEN, [id()]),
            tokens: TOKENS.map(|(kind, _)| metrics.counter(&names::TOKENS, [id(), kind.into()])),
        }
    }

    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    pub(super) fn set_gone(&self, gone: bool) {
        self.gone.store(gone, Ordering::Relaxed);
    }

    pub(super) fn ended(&self, outcome: &Outcome, latency: std::time::Duration) {
        match outcome {
            Outcome::Answered => {
                self.answered.increment(1);
                self.time_to_first_token.record(latency.as_secs_f64());
            }
            Outcome::Cancelled => self.cancelled.increment(1),
            Outcome::Failed(fault) => self.failed(fault.kind()),
            Outcome::Refused(fault) => {
                self.failed(FaultKind::Refused);
                let reason = match fault.refusal() {
                    Some(Refusal::CircuitOpen { .. }) => 0,
                    Some(Refusal::Unmet(_)) => 1,
                    Some(Refusal::LimitReached { .. }) => 2,
                    _ => 3,
                };
                self.refused[reason].increment(1);
            }
        }
    }

    fn failed(&self, kind: FaultKind) {
        self.failed[place(kind)].increment(1);
    }

    pub(super) fn interrupted(&self, metrics: &Metrics, fault: &Fault) {
        let kind = fault.kind();
        let new = || interruption(metrics, &self.id, kind);
        self.interrupted[place(kind)].get_or_init(new).increment(1);
    }

    pub(super) fn spent(&self, usage: &Usage) {
        for (counter, (_, of)) in self.tokens.iter().zip(TOKENS) {
            match of(usage) {
                0 => {}
                tokens => counter.increment(tokens),
            }
        }
    }
}

/// What says that a target is there, and how much of its provider's limits is left: nothing is known to be used up.
pub(super) fn presence(target: &Target) -> impl Iterator<Item = Series> {
    let provider = target.provider();
    let name = provider.map_or("", |provider| provider.name());
    let dialect = provider.map_or("", |provider| provider.dialect().name());
    let labels = [target.id().as_str(), name, target.model().unwrap_or("*"), dialect];
    let headroom = provider.map(|provider| Series::new(&names::RATE_LIMIT_HEADROOM, [provider.name()]));
    std::iter::once(Series::new(&names::TARGET_INFO, labels)).chain(headroom)
}

fn interruption(metrics: &Metrics, target: &TargetId, kind: FaultKind) -> Counter {
    let id = target.as_str().to_owned();
    metrics.counter(&names::STREAM_INTERRUPTIONS, [id.into(), kind.name().into()])
}

/// There from the start for what usually breaks answers off: of a series that begins with its first count, Prometheus sees no
/// increase. The others are seldom.
fn interruptions(metrics: &Metrics, target: &TargetId, kind: FaultKind) -> OnceLock<Counter> {
    use FaultKind::{ConnectionLost, MalformedResponse, Overloaded, StreamInterrupted, Timeout, Unavailable};
    let usual = [ConnectionLost, MalformedResponse, Overloaded, StreamInterrupted, Timeout, Unavailable];
    match usual.contains(&kind) {
        true => OnceLock::from(interruption(metrics, target, kind)),
        false => OnceLock::new(),
    }
}

/// The place of a kind in the table.
fn place(kind: FaultKind) -> usize {
    kind as usize
}

pub(super) type Shared = Arc<TargetMetrics>;
