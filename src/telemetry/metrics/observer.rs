use std::{fmt, sync::Arc};

use metrics::{Counter, Gauge, Histogram, SharedString};

use super::{Metrics, Series, names, target::Shared};
use crate::{CacheOutcome, Event, Observer, RequestOutcome, RequestSummary, Target};

/// Counts what happens to a route's requests: see [`Metrics::observer`].
pub struct MetricsObserver {
    metrics: Metrics,
    route: Arc<str>,
    /// In the order of [`RequestOutcome::ALL`].
    outcomes: [Counter; RequestOutcome::ALL.len()],
    /// In the order of [`CacheOutcome::ALL`].
    cache: [Counter; CacheOutcome::ALL.len()],
    in_flight: Gauge,
    streams: Gauge,
    duration: Histogram,
    targets: Vec<Known>,
}

/// One of the route's targets.
struct Known {
    metrics: Shared,
    cost: Histogram,
}

impl MetricsObserver {
    pub(super) fn new(metrics: Metrics, route: Arc<str>, targets: &[Target]) -> Self {
        let name = || SharedString::from(route.to_string());
        let known = |(position, target): (usize, &Target)| {
            let id = || SharedString::from(target.id().as_str().to_owned());
            metrics.say(presence(&route, position, target));
            Known { metrics: metrics.target(target), cost: metrics.histogram(&names::COST, [name(), id()]) }
        };
        let outcomes =
            RequestOutcome::ALL.map(|outcome| metrics.counter(&names::REQUESTS, [name(), outcome.name().into()]));
        MetricsObserver {
            outcomes,
            cache: CacheOutcome::ALL.map(|outcome| metrics.counter(&names::CACHE, [name(), outcome.name().into()])),
            in_flight: metrics.gauge(&names::REQUESTS_IN_FLIGHT, [name()]),
            streams: metrics.gauge(&names::STREAMS_OPEN, [name()]),
            duration: metrics.histogram(&names::REQUEST_DURATION, [name()]),
            targets: targets.iter().enumerate().map(known).collect(),
            route,
            metrics,
        }
    }

    /// A chain has few targets: looking at each is quicker than a hash of the name.
    fn target(&self, target: Option<&Target>) -> Option<&Known> {
        let id = target?.id();
        self.targets.iter().find(|known| known.metrics.id == *id)
    }

    fn ended(&self, summary: &RequestSummary) {
        let outcome = RequestOutcome::ALL.iter().position(|outcome| *outcome == summary.outcome());
        outcome.into_iter().for_each(|place| self.outcomes[place].increment(1));
        self.duration.record(summary.duration().as_secs_f64());
        self.in_flight.decrement(1.0);
        if summary.streaming() {
            self.streams.decrement(1.0);
        }
        if let Some(outcome) = summary.cache() {
            let place = CacheOutcome::ALL.iter().position(|known| *known == outcome);
            place.into_iter().for_each(|place| self.cache[place].increment(1));
        }
    }
}

/// What says that a target has that place of a route.
pub(super) fn presence(route: &str, position: usize, target: &Target) -> Series {
    Series::new(&names::ROUTE_TARGET_INFO, [route, target.id().as_str(), &position.to_string()])
}

impl Observer for MetricsObserver {
    fn observe(&self, event: &Event) {
        match event {
            Event::RequestStarted { .. } => self.in_flight.increment(1.0),
            Event::StreamStarted { .. } => self.streams.increment(1.0),
            Event::RequestEnded { summary } => self.ended(summary),
            Event::AttemptEnded { target, outcome, latency } => {
                if let Some(known) = self.target(target.as_ref()) {
                    known.metrics.ended(outcome, *latency);
                }
            }
            Event::AttemptSpent { target, usage, cost } => {
                if let Some(known) = self.target(target.as_ref()) {
                    known.metrics.spent(usage);
                    cost.iter().for_each(|cost| known.cost.record(cost.usd()));
                }
            }
            Event::Interrupted { target, fault } => {
                if let Some(known) = self.target(target.as_ref()) {
                    known.metrics.interrupted(&self.metrics, fault);
                }
            }
            Event::FailedOver { from, to, fault, .. } => {
                let id = |target: &Target| SharedString::from(target.id().as_str().to_owned());
                let labels = [id(from), id(to), fault.kind().name().into()];
                self.metrics.counter(&names::FAILOVERS, labels).increment(1);
            }
            Event::Retried { target, .. } => {
                self.target(target.as_ref()).into_iter().for_each(|known| known.metrics.retries.increment(1));
            }
            Event::Hedged { beside, .. } => {
                self.target(Some(beside)).into_iter().for_each(|known| known.metrics.hedges.increment(1));
            }
            Event::Resumed { target } => {
                self.target(target.as_ref()).into_iter().for_each(|known| known.metrics.recoveries.increment(1));
            }
            // How circuits stand is asked for, and the others are told of when they are over.
            _ => {}
        }
    }
}

impl fmt::Debug for MetricsObserver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetricsObserver").field("route", &self.route).finish_non_exhaustive()
    }
}
