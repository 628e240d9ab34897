//! Metrics for the `metrics` facade.

mod observer;
mod target;

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use metrics::{
    Counter, Gauge, Histogram, Key, KeyName, Label, Level, Metadata, Recorder, SharedString, Unit, with_recorder,
};

pub use self::observer::MetricsObserver;
use self::target::TargetMetrics;
use super::names::{self, Metric, MetricKind};
use crate::{
    CircuitState, Event, Observer, RateLimitsRegistry, Route, Target, TargetId,
    circuit_breaker::CircuitRegistry,
    keyed::Keyed,
    shared_state::{Fleet, FleetHealth},
};

/// Counters, gauges and histograms of what happens to requests: [`Metric::ALL`]. Cheap to clone; clones share everything.
///
/// Each route has an [observer](Self::observer), which is given to the route's [`TelemetryLayer`](crate::TelemetryLayer):
///
/// ```
/// use tower_failover::{Route, Target, TelemetryLayer, telemetry::Metrics};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let route = Route::new("chat", [Target::named("primary"), Target::named("fallback")])?;
/// let metrics = Metrics::global(); // or `Metrics::new`, for a recorder that is not the whole process's
/// let telemetry = TelemetryLayer::new(&route).with_observer(metrics.observer(&route));
/// # let _ = telemetry;
/// # Ok(()) }
/// ```
///
/// How circuits and rate limits stand is asked for, not told: [`refresh`](Self::refresh) before each scrape.
#[derive(Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
}

struct Inner {
    recorder: Box<dyn Recorder + Send + Sync>,
    /// A target has its metrics once, however many routes it serves.
    targets: Keyed<TargetId, Arc<TargetMetrics>>,
    /// What says that something is there, so that it can be taken back.
    present: Mutex<HashMap<Series, Gauge>>,
}

impl Metrics {
    /// Metrics that are kept by that recorder.
    #[must_use]
    pub fn new(recorder: impl Recorder + Send + Sync + 'static) -> Self {
        let (targets, present) = Default::default();
        let metrics = Metrics { inner: Arc::new(Inner { recorder: Box::new(recorder), targets, present }) };
        metrics.describe();
        metrics.gauge(&names::BUILD_INFO, [env!("CARGO_PKG_VERSION").into()]).set(1.0);
        metrics
    }

    /// Metrics that are kept by the process's recorder, which has to be installed before: what is not kept from the beginning
    /// is not kept at all.
    #[must_use]
    pub fn global() -> Self {
        Self::new(Global)
    }

    /// Who is to be told of a route's requests. Makes the series of the route and its targets, so that they are there from the
    /// start.
    #[must_use]
    pub fn observer(&self, route: &Route) -> MetricsObserver {
        MetricsObserver::new(self.clone(), route.shared_name(), route.targets())
    }

    /// Who is to be told of requests that are for no route.
    #[must_use]
    pub fn observer_of_none(&self) -> MetricsObserver {
        MetricsObserver::new(self.clone(), "none".into(), &[])
    }

    /// Who is to be told of [checks](crate::health): an observer of the circuits' registry.
    #[must_use]
    pub fn observer_of_checks(&self) -> impl Observer + Clone + use<> {
        let metrics = self.clone();
        move |event: &Event| {
            if let Event::HealthChecked { target, fault, .. } = event {
                let outcome = fault.as_ref().map_or("answered", |fault| fault.kind().name());
                metrics
                    .counter(&names::HEALTH_CHECKS, [target.as_str().to_owned().into(), outcome.into()])
                    .increment(1);
            }
        }
    }

    /// Takes in how the circuits and the providers' limits stand now.
    pub fn refresh(&self, circuits: &CircuitRegistry, limits: &RateLimitsRegistry) {
        let targets = self.inner.targets.all();
        for (id, metrics) in targets.iter() {
            metrics.circuit.set(match circuits.state_of(id, metrics.provider.as_deref()) {
                _ if metrics.is_gone() => GONE,
                CircuitState::Closed => 0.0,
                CircuitState::HalfOpen => 1.0,
                CircuitState::Open => 2.0,
            });
        }
        for (provider, limits) in limits.snapshot() {
            let mut own = targets.values().filter(|metrics| metrics.provider.as_deref() == Some(&*provider)).peekable();
            if own.peek().is_none() || own.any(|metrics| !metrics.is_gone()) {
                self.gauge(&names::RATE_LIMIT_HEADROOM, [provider.into()]).set(limits.headroom());
            }
        }
    }

    /// Takes in how what replicas share does now.
    pub fn refresh_fleet(&self, fleet: &Fleet) {
        let FleetHealth { answers, answered, late, failed, skipped, .. } = fleet.health();
        self.gauge(&names::SHARED_STATE_UP, []).set(if answers { 1.0 } else { 0.0 });
        for (outcome, count) in [("answered", answered), ("late", late), ("failed", failed), ("skipped", skipped)] {
            self.counter(&names::SHARED_STATE_QUESTIONS, [outcome.into()]).absolute(count);
        }
    }

    /// Takes back what was said of routes, targets and providers that are none of these any more, for a program whose routes
    /// have changed: each such gauge is "not a number" (NaN) from then on, so that nobody is alarmed by what is not there. What
    /// was counted stays.
    pub fn serve_only<'a>(&self, routes: impl Iterator<Item = &'a Route>) {
        let (mut targets, mut said) = (HashSet::new(), HashSet::new());
        for route in routes {
            for (position, target) in route.targets().iter().enumerate() {
                targets.insert(target.id());
                said.extend(target::presence(target));
                said.insert(observer::presence(route.name(), position, target));
            }
        }
        for (id, metrics) in self.inner.targets.all().iter() {
            metrics.set_gone(!targets.contains(id));
        }
        let mut present = self.inner.present.lock().unwrap_or_else(PoisonError::into_inner);
        present.retain(|series, gauge| {
            let stays = said.contains(series);
            if !stays {
                gauge.set(GONE);
            }
            stays
        });
    }

    /// Says that something is there, unless that is said already.
    fn say(&self, series: Series) {
        let mut present = self.inner.present.lock().unwrap_or_else(PoisonError::into_inner);
        present.entry(series).or_insert_with_key(|series| {
            let labels = series.labels.iter().map(|(name, value)| Label::new(*name, value.clone()));
            let key = Key::from_parts(series.name, labels.collect::<Vec<_>>());
            let gauge = self.inner.recorder.register_gauge(&key, &METADATA);
            gauge.set(1.0);
            gauge
        });
    }

    fn target(&self, target: &Target) -> Arc<TargetMetrics> {
        target::presence(target).for_each(|series| self.say(series));
        let metrics = self.inner.targets.with(target.id(), || Arc::new(TargetMetrics::new(self, target)), Arc::clone);
        // It may have been away.
        metrics.set_gone(false);
        metrics
    }

    fn describe(&self) {
        let recorder = &self.inner.recorder;
        for metric in Metric::ALL {
            let (name, description) =
                (KeyName::from_const_str(metric.name), SharedString::const_str(metric.description));
            match metric.kind {
                MetricKind::Counter => recorder.describe_counter(name, None, description),
                MetricKind::Gauge => recorder.describe_gauge(name, None, description),
                MetricKind::Histogram => recorder.describe_histogram(name, None, description),
            }
        }
    }

    fn counter<const N: usize>(&self, metric: &Metric, labels: [SharedString; N]) -> Counter {
        self.inner.recorder.register_counter(&key(metric, labels), &METADATA)
    }

    fn gauge<const N: usize>(&self, metric: &Metric, labels: [SharedString; N]) -> Gauge {
        self.inner.recorder.register_gauge(&key(metric, labels), &METADATA)
    }

    fn histogram<const N: usize>(&self, metric: &Metric, labels: [SharedString; N]) -> Histogram {
        self.inner.recorder.register_histogram(&key(metric, labels), &METADATA)
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("targets", &self.inner.targets).finish_non_exhaustive()
    }
}

/// What a gauge says of something that is not there any more.
const GONE: f64 = f64::NAN;

/// One that says that something is there.
#[derive(PartialEq, Eq, Hash)]
struct Series {
    name: &'static str,
    labels: Vec<(&'static str, String)>,
}

impl Series {
    fn new<const N: usize>(metric: &'static Metric, labels: [&str; N]) -> Self {
        debug_assert_eq!(metric.labels.len(), N, "{}", metric.name);
        let labels = metric.labels.iter().zip(labels).map(|(name, value)| (*name, value.to_owned()));
        Series { name: metric.name, labels: labels.collect() }
    }
}

const METADATA: Metadata<'static> = Metadata::new("tower_failover", Level::INFO, Some(module_path!()));

fn key<const N: usize>(metric: &Metric, labels: [SharedString; N]) -> Key {
    debug_assert_eq!(metric.labels.len(), N, "{}", metric.name);
    let labels = metric.labels.iter().zip(labels).map(|(name, value)| Label::new(*name, value));
    Key::from_parts(metric.name, labels.collect::<Vec<_>>())
}

/// The process's recorder.
struct Global;

impl Recorder for Global {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        with_recorder(|recorder| recorder.describe_counter(key, unit, description));
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        with_recorder(|recorder| recorder.describe_gauge(key, unit, description));
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        with_recorder(|recorder| recorder.describe_histogram(key, unit, description));
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        with_recorder(|recorder| recorder.register_counter(key, metadata))
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        with_recorder(|recorder| recorder.register_gauge(key, metadata))
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        with_recorder(|recorder| recorder.register_histogram(key, metadata))
    }
}
