//! What is counted while calls run.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwapOption;
use tokio::time::Instant;

use super::{
    Account, LastFault, Quantiles, Tally, TargetStatistics,
    pulse::Recent,
    ramp::Ramp,
    slices::{SLICE, Slices, sum},
};
use crate::{
    CircuitAdvice, Cost, Fault, FaultKind, Outcome, Refusal, RouteStatistics, TargetId, Usage, latency::LatencyWindow,
};

/// What the counts of a target are of; behind them are those of the kinds of faults.
const ANSWERED: usize = 0;
const FAILED: usize = 1;
/// The target was fine, and the request was not.
const DECLINED: usize = 2;
const REFUSED: usize = 3;
const CANCELLED: usize = 4;
/// Of those that were answered, the ones that broke off.
const INTERRUPTED: usize = 5;
const KINDS: usize = 6;
const TARGET_COUNTS: usize = KINDS + FaultKind::ALL.len();

/// What the counts of a route are of.
const ROUTE_ANSWERED: usize = 0;
const ROUTE_FAILED: usize = 1;
const ROUTE_DECLINED: usize = 2;
const ROUTE_FAILOVERS: usize = 3;
const ROUTE_INTERRUPTED: usize = 4;
/// Of those that were interrupted, the ones that another target went on with.
const ROUTE_MENDED: usize = 5;
const ROUTE_COUNTS: usize = 6;

#[derive(Debug, Default)]
pub(super) struct TargetRecord {
    counts: Slices<TARGET_COUNTS>,
    first_tokens: LatencyWindow,
    responses: LatencyWindow,
    recent: Recent,
    ramp: Ramp,
    in_flight: AtomicU64,
    requests: AtomicU64,
    failures: AtomicU64,
    last_fault: ArcSwapOption<LastFault>,
    account: Account,
}

impl TargetRecord {
    pub(super) fn account(&self) -> &Account {
        &self.account
    }

    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub(super) fn recent(&self) -> &Recent {
        &self.recent
    }

    pub(super) fn latencies(&self, streaming: bool) -> &LatencyWindow {
        if streaming { &self.first_tokens } else { &self.responses }
    }

    fn failed(&self, fault: &Fault) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        self.last_fault.store(Some(Arc::new(LastFault { fault: fault.clone(), at: SystemTime::now() })));
    }

    pub(super) fn read(&self, target: &TargetId) -> TargetStatistics {
        let now = Instant::now();
        let counts = sum(self.counts.lately(now));
        let requests_of = |counts: &[u64; TARGET_COUNTS]| {
            [ANSWERED, FAILED, DECLINED, CANCELLED].iter().map(|which| counts[*which]).sum::<u64>()
        };
        let tally = |counts: &[u64; TARGET_COUNTS]| Tally {
            successes: counts[ANSWERED].saturating_sub(counts[INTERRUPTED]),
            failures: counts[FAILED] + counts[INTERRUPTED],
        };
        let mut history: Vec<_> = self.counts.lately(now).map(|slice| tally(&slice.map(u64::from))).collect();
        history.reverse();
        let faults = FaultKind::ALL.iter().map(|kind| (*kind, counts[KINDS + *kind as usize]));
        TargetStatistics {
            target: target.clone(),
            requests: requests_of(&counts),
            tally: tally(&counts),
            refusals: counts[REFUSED],
            faults: faults.filter(|(_, count)| *count > 0).collect(),
            requests_per_minute: per_minute(&self.counts, now, requests_of),
            in_flight: self.in_flight(),
            time_to_first_token: Quantiles::of(&self.first_tokens),
            response_time: Quantiles::of(&self.responses),
            last_fault: self.last_fault.load_full(),
            history,
            all_requests: self.requests.load(Ordering::Relaxed),
            all_failures: self.failures.load(Ordering::Relaxed),
        }
    }
}

/// How many there were in the last minute, as the last slices that fit into one tell it.
fn per_minute<const COUNTS: usize>(slices: &Slices<COUNTS>, now: Instant, of: impl Fn(&[u64; COUNTS]) -> u64) -> f64 {
    const MINUTE: Duration = Duration::from_secs(60);
    let whole = (MINUTE.as_secs() / SLICE.as_secs()) as usize - 1;
    let length = SLICE * whole as u32 + slices.latest_length(now);
    of(&sum(slices.lately(now).take(whole + 1))) as f64 * MINUTE.as_secs_f64() / length.as_secs_f64()
}

#[derive(Debug, Default)]
pub(super) struct RouteRecord {
    counts: Slices<ROUTE_COUNTS>,
    requests: AtomicU64,
    failures: AtomicU64,
    failovers: AtomicU64,
    /// Shared with whoever counts requests that get no further than a cache.
    account: Arc<Account>,
}

impl RouteRecord {
    pub(super) fn account(&self) -> &Arc<Account> {
        &self.account
    }

    pub(super) fn read(&self, route: &str) -> RouteStatistics {
        let now = Instant::now();
        let counts = sum(self.counts.lately(now));
        let requests_of = |counts: &[u64; ROUTE_COUNTS]| {
            [ROUTE_ANSWERED, ROUTE_FAILED, ROUTE_DECLINED].iter().map(|which| counts[*which]).sum::<u64>()
        };
        let broken = counts[ROUTE_INTERRUPTED].saturating_sub(counts[ROUTE_MENDED]);
        RouteStatistics {
            route: route.into(),
            requests: requests_of(&counts),
            tally: Tally {
                successes: counts[ROUTE_ANSWERED].saturating_sub(broken),
                failures: counts[ROUTE_FAILED] + broken,
            },
            failovers: counts[ROUTE_FAILOVERS],
            requests_per_minute: per_minute(&self.counts, now, requests_of),
            all_requests: self.requests.load(Ordering::Relaxed),
            all_failures: self.failures.load(Ordering::Relaxed),
            all_failovers: self.failovers.load(Ordering::Relaxed),
        }
    }
}

/// Where what happens on a route is counted. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Recorder(Arc<Records>);

#[derive(Debug)]
struct Records {
    route: Arc<RouteRecord>,
    /// In the order of the route's targets.
    targets: Box<[Arc<TargetRecord>]>,
}

impl Recorder {
    pub(super) fn new(route: Arc<RouteRecord>, targets: Box<[Arc<TargetRecord>]>) -> Self {
        Recorder(Arc::new(Records { route, targets }))
    }

    /// A call of the target at that place of the route begins.
    #[cfg(test)]
    pub(crate) fn call(&self, place: usize, streaming: bool) -> Option<Call> {
        self.call_for(place, streaming, None)
    }

    /// The same, and what it costs is counted for a client, too.
    pub(crate) fn call_for(&self, place: usize, streaming: bool, client: Option<Arc<Account>>) -> Option<Call> {
        let target = self.0.targets.get(place)?;
        target.in_flight.fetch_add(1, Ordering::Relaxed);
        Some(Call { records: self.0.clone(), place, streaming, client, left: AtomicBool::new(false) })
    }

    /// Counts towards how fast the target's traffic grows.
    pub(crate) fn ramp(&self, place: usize) {
        self.0.targets.get(place).into_iter().for_each(|target| target.ramp.count(Instant::now()));
    }

    /// Whether the target may be given a call that was meant for another.
    pub(crate) fn has_room(&self, place: usize) -> bool {
        self.0.targets.get(place).is_none_or(|target| target.ramp.has_room(Instant::now()))
    }

    /// A request was answered; or `continued`: the rest of an answer that had broken off.
    pub(crate) fn answered(&self, now: Instant, continued: bool) {
        let route = &self.0.route;
        if !continued {
            route.requests.fetch_add(1, Ordering::Relaxed);
        }
        route.counts.count(now, [if continued { ROUTE_MENDED } else { ROUTE_ANSWERED }]);
    }

    /// A request failed. That the rest of an answer could not be had is no news: that it broke off has been counted.
    pub(crate) fn failed(&self, fault: &Fault, continued: bool) {
        if continued {
            return;
        }
        let route = &self.0.route;
        route.requests.fetch_add(1, Ordering::Relaxed);
        let status = fault.response_status();
        // What is wrong with the request itself is the client's affair.
        let is_ours = status.is_server_error() || status == http::StatusCode::TOO_MANY_REQUESTS;
        if is_ours {
            route.failures.fetch_add(1, Ordering::Relaxed);
        }
        route.counts.count(Instant::now(), [if is_ours { ROUTE_FAILED } else { ROUTE_DECLINED }]);
    }

    /// A target failed or was refused, and the next one is tried.
    pub(crate) fn failed_over(&self) {
        self.0.route.failovers.fetch_add(1, Ordering::Relaxed);
        self.0.route.counts.count(Instant::now(), [ROUTE_FAILOVERS]);
    }
}

/// One try of a target, from its beginning until its answer is over.
#[derive(Debug)]
pub(crate) struct Call {
    records: Arc<Records>,
    place: usize,
    streaming: bool,
    /// Who asks, where that is counted.
    client: Option<Arc<Account>>,
    /// Whether it is over.
    left: AtomicBool,
}

impl Call {
    fn target(&self) -> &TargetRecord {
        // `Recorder::call` found it there.
        &self.records.targets[self.place]
    }

    /// Another try of the same target begins.
    pub(crate) fn again(&self) -> Option<Call> {
        Recorder(self.records.clone()).call_for(self.place, self.streaming, self.client.clone())
    }

    /// The answer began, or there is none.
    pub(crate) fn ended(&self, outcome: &Outcome, was_sent: bool, now: Instant, latency: Duration) {
        let target = self.target();
        if was_sent {
            target.recent.reached();
            self.accounts().for_each(|account| account.attempted(now));
        }
        let sent = |counts: usize| {
            target.requests.fetch_add(1, Ordering::Relaxed);
            counts
        };
        match outcome {
            Outcome::Answered => {
                target.counts.count(now, [sent(ANSWERED)]);
                target.recent.answered(now, self.streaming, latency);
                return target.latencies(self.streaming).record_at(now, latency);
            }
            Outcome::Failed(fault) => {
                let is_failure = matches!(fault.policy().circuit, CircuitAdvice::Failure | CircuitAdvice::OpenLong);
                let which = if is_failure { FAILED } else { DECLINED };
                target.counts.count(now, [sent(which), KINDS + fault.kind() as usize]);
                if is_failure {
                    target.recent.failed(now);
                    target.failed(fault);
                }
                if fault.kind() == FaultKind::Timeout {
                    // It would have taken longer still. Without those, a budget that is always missed would never be seen to be.
                    target.latencies(self.streaming).record_at(now, latency);
                }
            }
            Outcome::Refused(fault) => {
                if matches!(fault.refusal(), Some(Refusal::CircuitOpen { .. } | Refusal::Drained)) {
                    target.recent.refused(now);
                }
                target.counts.count(now, [REFUSED]);
            }
            Outcome::Cancelled if was_sent => {
                target.counts.count(now, [sent(CANCELLED)]);
                target.recent.given_up(now, self.streaming, latency);
            }
            Outcome::Cancelled => {}
        }
        self.leave();
    }

    /// The answer broke off.
    pub(crate) fn interrupted(&self, fault: &Fault) {
        let (now, target) = (Instant::now(), self.target());
        if fault.kind() != FaultKind::Cancelled {
            target.counts.count(now, [INTERRUPTED, KINDS + fault.kind() as usize]);
            target.recent.interrupted(now);
            target.failed(fault);
            self.records.route.counts.count(now, [ROUTE_INTERRUPTED]);
        }
        self.leave();
    }

    /// Everybody whose it is.
    fn accounts(&self) -> impl Iterator<Item = &Account> {
        let route = &*self.records.route.account;
        [&self.target().account, route].into_iter().chain(self.client.as_deref())
    }

    /// What it cost came to nothing.
    pub(crate) fn wasted(&self, usage: &Usage, cost: Option<Cost>) {
        let now = Instant::now();
        self.accounts().for_each(|account| account.wasted(now, usage, cost));
    }

    /// It cost so much.
    pub(crate) fn charged(&self, usage: &Usage, cost: Option<Cost>) {
        let now = Instant::now();
        self.accounts().for_each(|account| account.spent(now, usage, cost));
        self.spent(usage);
    }

    /// The answer was so long, as far as it came.
    pub(crate) fn spent(&self, usage: &Usage) {
        // One that was cancelled before it began says nothing of how long answers are.
        if usage.output > 0 {
            self.target().recent.measured(usage.output);
        }
    }

    fn leave(&self) {
        if !self.left.swap(true, Ordering::Relaxed) {
            self.target().in_flight.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.leave();
    }
}
