//! What became of calls lately: of each target and of each route, for a dashboard, or for a strategy of your own.
//!
//! ```
//! use tower_failover::{FailoverLayer, Route, Statistics, Target};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let route = Route::new("chat", [Target::named("primary"), Target::named("fallback")])?;
//! let statistics = Statistics::default();
//! let failover = FailoverLayer::new(&route).with_statistics(&statistics);
//! // … serve …
//! for target in statistics.targets() {
//!     println!("{}: {:?} of {} requests were answered", target.target, target.success_rate(), target.requests);
//! }
//! # let _ = failover;
//! # Ok(()) }
//! ```

mod account;
mod pulse;
mod ramp;
mod record;
mod slices;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

pub(crate) use self::account::Account;
pub(crate) use self::record::{Call, Recorder};
pub use self::{
    account::{Period, Spending},
    pulse::Pulse,
};
use self::{
    record::{RouteRecord, TargetRecord},
    slices::{SLICE, SLICES},
};
use tokio::time::Instant;

use crate::{Fault, FaultKind, Route, TargetId, keyed::Keyed, latency::LatencyWindow};

/// How far back statistics look.
pub const WINDOW: Duration = Duration::from_secs(SLICE.as_secs() * SLICES as u64);

/// What became of calls lately. Share one between the routes that share targets; cheap to clone, and clones share
/// everything.
///
/// Calls count without a lock and without looking anything up.
#[derive(Clone, Default)]
pub struct Statistics {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    targets: Keyed<TargetId, Arc<TargetRecord>>,
    routes: Keyed<String, Arc<RouteRecord>>,
}

impl Statistics {
    /// What became of the calls of every target of the routes that are counted, by name.
    #[must_use]
    pub fn targets(&self) -> Vec<TargetStatistics> {
        let mut targets: Vec<_> = self.inner.targets.all().iter().map(|(id, record)| record.read(id)).collect();
        targets.sort_by(|a, b| a.target.cmp(&b.target));
        targets
    }

    /// What became of the calls of a target; `None` of one that is on no route that is counted.
    #[must_use]
    pub fn target(&self, id: &TargetId) -> Option<TargetStatistics> {
        self.inner.targets.all().get(id).map(|record| record.read(id))
    }

    /// What became of the requests of a route; `None` of one that is not counted.
    #[must_use]
    pub fn route(&self, name: &str) -> Option<RouteStatistics> {
        self.inner.routes.all().get(name).map(|record| record.read(name))
    }

    /// What the calls of a target cost since the beginning, or within a period; `None` of one that is on no route that is
    /// counted.
    #[must_use]
    pub fn target_spending(&self, id: &TargetId, period: Option<Period>) -> Option<Spending> {
        self.inner.targets.all().get(id).map(|record| read(record.account(), period))
    }

    /// What the requests of a route cost since the beginning, or within a period; `None` of one that is not counted.
    #[must_use]
    pub fn route_spending(&self, name: &str, period: Option<Period>) -> Option<Spending> {
        self.inner.routes.all().get(name).map(|record| read(record.account(), period))
    }

    /// Hands over where it is counted what a target costs, if anywhere.
    #[cfg(feature = "gateway")]
    pub(crate) fn with_target_account<T>(&self, id: &TargetId, read: impl FnOnce(Option<&Account>) -> T) -> T {
        read(self.inner.targets.all().get(id).map(|record| record.account()))
    }

    /// Where it is counted what is asked of a route.
    #[cfg(feature = "gateway")]
    pub(crate) fn route_account(&self, name: &str) -> Arc<Account> {
        self.inner.routes.with(name, Arc::default, |record: &Arc<RouteRecord>| record.account().clone())
    }

    /// How a route's targets do at the moment, in its order: for strategies, which ask once and read with every request.
    #[must_use]
    pub fn pulses(&self, route: &Route) -> Vec<Pulse> {
        route.targets().iter().map(|target| Pulse::of(self.record(target.id()))).collect()
    }

    /// The same for whoever looks at their [p95](Pulse::p95_latency) only.
    pub(crate) fn latencies(&self, route: &Route) -> Vec<Pulse> {
        route.targets().iter().map(|target| Pulse::unwatched(self.record(target.id()))).collect()
    }

    fn record(&self, id: &TargetId) -> Arc<TargetRecord> {
        self.inner.targets.with(id, Arc::default, Arc::clone)
    }

    /// Where what happens on a route is counted.
    pub(crate) fn recorder(&self, route: &Route) -> Recorder {
        let targets = route.targets().iter();
        let targets = targets.map(|target| self.record(target.id())).collect();
        Recorder::new(self.inner.routes.with(route.name(), Arc::default, Arc::clone), targets)
    }
}

/// What an account says of a period, or of all of its time.
pub(crate) fn read(account: &Account, period: Option<Period>) -> Spending {
    match period {
        Some(period) => account.lately(Instant::now(), period),
        None => account.total(),
    }
}

impl fmt::Debug for Statistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.inner.targets.all().keys()).finish()
    }
}

/// How many went well, and how many did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Those that were answered to the end, or are being answered.
    pub successes: u64,
    /// Those that failed, or whose answer broke off.
    pub failures: u64,
}

impl Tally {
    /// Which share went well, 0 to 1; `None` where there was none of either.
    #[must_use]
    pub fn success_rate(&self) -> Option<f64> {
        let all = self.successes + self.failures;
        (all > 0).then(|| self.successes as f64 / all as f64)
    }
}

/// The middle and the slow end of how long something took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quantiles {
    /// Within which time half of them came.
    pub p50: Option<Duration>,
    /// Within which time 95 of 100 came.
    pub p95: Option<Duration>,
}

impl Quantiles {
    fn of(window: &LatencyWindow) -> Self {
        let [p50, p95] = window.quantiles([0.5, 0.95]);
        Quantiles { p50, p95 }
    }
}

/// How a target failed last.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LastFault {
    /// How.
    pub fault: Fault,
    /// When.
    pub at: SystemTime,
}

/// What became of a target's calls within the [window](WINDOW), which are tries of requests: retries and hedges count too.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TargetStatistics {
    /// Whose they are.
    pub target: TargetId,
    /// How many there were; not those that a guard refused.
    pub requests: u64,
    /// How many went well. Those that were given up on, and those whose request was wrong, count as neither.
    pub tally: Tally,
    /// How many a guard refused: an open circuit, say.
    pub refusals: u64,
    /// How many failed in which way.
    pub faults: Vec<(FaultKind, u64)>,
    /// How many there were in the last minute.
    pub requests_per_minute: f64,
    /// How many are under way now, those whose stream runs among them.
    pub in_flight: u64,
    /// How long streams took to begin. At most a fifth too high.
    pub time_to_first_token: Quantiles,
    /// How long answers took that come in one piece. At most a fifth too high.
    pub response_time: Quantiles,
    /// How it failed last, however long ago.
    pub last_fault: Option<Arc<LastFault>>,
    /// The window in thirty slices, the latest last.
    pub history: Vec<Tally>,
    /// How many there were since the beginning.
    pub all_requests: u64,
    /// How many failed since the beginning.
    pub all_failures: u64,
}

impl TargetStatistics {
    /// Which share went well, 0 to 1; `None` where there was nothing to tell by.
    #[must_use]
    pub fn success_rate(&self) -> Option<f64> {
        self.tally.success_rate()
    }
}

/// What became of a route's requests within the [window](WINDOW), as its clients saw it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RouteStatistics {
    /// The route's name.
    pub route: Box<str>,
    /// How many there were.
    pub requests: u64,
    /// How many went well. Those that were wrong themselves count as neither.
    pub tally: Tally,
    /// How often the next target was tried.
    pub failovers: u64,
    /// How many there were in the last minute.
    pub requests_per_minute: f64,
    /// How many there were since the beginning.
    pub all_requests: u64,
    /// How many failed since the beginning. An answer that broke off is not among them.
    pub all_failures: u64,
    /// How often the next target was tried since the beginning.
    pub all_failovers: u64,
}

impl RouteStatistics {
    /// Which share went well, 0 to 1; `None` where there was nothing to tell by.
    #[must_use]
    pub fn success_rate(&self) -> Option<f64> {
        self.tally.success_rate()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use bytes::Bytes;
    use http::{Request, Response};
    use http_body_util::Full;
    use tokio::time::{advance, sleep};
    use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};

    use super::*;
    use crate::{FailoverLayer, RequestContext, RetryLayer, Target};

    type Call = Request<Full<Bytes>>;

    fn route() -> Route {
        Route::new("chat", ["a", "b"].map(Target::named)).unwrap()
    }

    fn target(request: &Call) -> String {
        RequestContext::of(request.extensions()).unwrap().target().unwrap().id().to_string()
    }

    fn of(statistics: &Statistics, id: &str) -> TargetStatistics {
        statistics.target(Target::named(id).id()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn every_try_counts_for_its_target_and_the_request_for_its_route() {
        let statistics = Statistics::default();
        let service = ServiceBuilder::new()
            .layer(FailoverLayer::new(&route()).with_statistics(&statistics))
            .layer(RetryLayer::new().with_attempts(2))
            .service(service_fn(|request: Call| async move {
                sleep(Duration::from_millis(100)).await;
                let status = if target(&request) == "a" { 500 } else { 200 };
                Ok::<_, Infallible>(Response::builder().status(status).body(Full::<Bytes>::default()).unwrap())
            }));
        for _ in 0..3 {
            assert_eq!(service.clone().oneshot(Call::default()).await.unwrap().status(), 200);
        }
        let (a, b) = (of(&statistics, "a"), of(&statistics, "b"));
        assert_eq!((a.requests, a.tally, a.success_rate()), (6, Tally { successes: 0, failures: 6 }, Some(0.0)));
        assert_eq!((b.requests, b.tally, b.success_rate()), (3, Tally { successes: 3, failures: 0 }, Some(1.0)));
        assert_eq!(a.faults, [(FaultKind::Unavailable, 6)]);
        assert_eq!(a.last_fault.unwrap().fault.status(), Some(http::StatusCode::INTERNAL_SERVER_ERROR));
        assert!(b.last_fault.is_none());
        let took = b.response_time.p50.unwrap().as_millis();
        assert!((100..=120).contains(&took), "{took}");
        assert_eq!(b.time_to_first_token, Quantiles::default());
        let route = statistics.route("chat").unwrap();
        assert_eq!((route.requests, route.failovers, route.success_rate()), (3, 3, Some(1.0)));
        advance(WINDOW).await;
        let a = of(&statistics, "a");
        assert_eq!((a.requests, a.success_rate(), a.all_requests, a.all_failures), (0, None, 6, 6));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_under_way_is_in_flight_until_it_is_over_or_dropped() {
        let statistics = Statistics::default();
        let service = FailoverLayer::new(&route()).with_statistics(&statistics).layer(service_fn(|_: Call| async {
            sleep(Duration::from_secs(1)).await;
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
        }));
        let calls: Vec<_> = (0..3).map(|_| tokio::spawn(service.clone().oneshot(Call::default()))).collect();
        sleep(Duration::from_millis(500)).await;
        assert_eq!(of(&statistics, "a").in_flight, 3);
        calls[0].abort();
        sleep(Duration::from_millis(100)).await;
        assert_eq!(of(&statistics, "a").in_flight, 2);
        for call in calls.into_iter().skip(1) {
            call.await.unwrap().unwrap();
        }
        let a = of(&statistics, "a");
        assert_eq!((a.in_flight, a.tally.successes), (0, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_is_that_of_the_last_minute() {
        let statistics = Statistics::default();
        let service = FailoverLayer::new(&route())
            .with_statistics(&statistics)
            .layer(service_fn(|_: Call| async { Ok::<_, Infallible>(Response::new(Full::<Bytes>::default())) }));
        for second in 0..200 {
            // One a second at first, two a second then.
            for _ in 0..1 + second / 100 {
                service.clone().oneshot(Call::default()).await.unwrap();
            }
            advance(Duration::from_secs(1)).await;
        }
        let rates = [of(&statistics, "a").requests_per_minute, statistics.route("chat").unwrap().requests_per_minute];
        rates.iter().for_each(|rate| assert!((110.0..130.0).contains(rate), "{rate}"));
        advance(Duration::from_secs(100)).await;
        assert_eq!(of(&statistics, "a").requests_per_minute, 0.0);
    }
}
