//! What telemetry costs: the stack with somebody who listens.

use std::sync::Arc;

use tokio::runtime::Runtime;
use tower::Layer;
use tower_failover::{FailoverStack, Route, TelemetryLayer};
use tracing::{Dispatch, Event, Metadata, Subscriber, span};

use crate::{
    cases::{Case, STACK},
    measure::{Run, Runnable},
    upstream::{Template, Upstream, targets},
};

pub(crate) const UNHEARD: &str = "failover stack, telemetry, nobody listens";
pub(crate) const TRACED: &str = "failover stack, telemetry, tracing at info";
#[cfg(feature = "metrics")]
pub(crate) const COUNTED: &str = "failover stack, telemetry, metrics";
#[cfg(feature = "metrics")]
pub(crate) const ALL: &str = "failover stack, telemetry, metrics and tracing at info";
#[cfg(feature = "metrics")]
pub(crate) const NAMES: &[&str] = &[UNHEARD, TRACED, COUNTED, ALL];
#[cfg(not(feature = "metrics"))]
pub(crate) const NAMES: &[&str] = &[UNHEARD, TRACED];

pub(crate) fn cases() -> Vec<Case> {
    let telemetry = || TelemetryLayer::new(&route());
    vec![
        case(UNHEARD, telemetry, false),
        case(TRACED, telemetry, true),
        #[cfg(feature = "metrics")]
        case(COUNTED, counted::telemetry, false),
        #[cfg(feature = "metrics")]
        case(ALL, counted::telemetry, true),
    ]
}

fn route() -> Route {
    Route::new("chat", targets()).unwrap()
}

fn case(name: &'static str, telemetry: fn() -> TelemetryLayer, traced: bool) -> Case {
    let make = move || {
        let stack = FailoverStack::new(&route()).layer(Upstream::new());
        let run = telemetry().layer(stack).runs(Template::plain());
        match traced {
            true => Box::new(Traced(run)) as Box<dyn Run>,
            false => Box::new(run),
        }
    };
    Case::new(name, STACK, make)
}

/// Runs with a subscriber that takes everything of level info and throws it away.
struct Traced<R>(R);

impl<R: Run> Run for Traced<R> {
    fn run(&mut self, runtime: &Runtime, calls: u64) {
        tracing::dispatcher::with_default(&Dispatch::new(Discards), || self.0.run(runtime, calls));
        // The other cases are to find nobody who listens.
        tracing::callsite::rebuild_interest_cache();
    }

    fn future_bytes(&self) -> usize {
        self.0.future_bytes()
    }
}

struct Discards;

impl Subscriber for Discards {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::INFO
    }

    fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
        Some(tracing::level_filters::LevelFilter::INFO)
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[cfg(feature = "metrics")]
mod counted {
    use super::{Arc, TelemetryLayer, route};
    use metrics::{
        Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
        atomics::AtomicU64,
    };
    use std::sync::atomic::Ordering;
    use tower_failover::telemetry::Metrics;

    pub(super) fn telemetry() -> TelemetryLayer {
        let route = route();
        TelemetryLayer::new(&route).with_observer(Metrics::new(Atomics).observer(&route))
    }

    /// The least that a recorder does.
    struct Atomics;

    struct Sum(AtomicU64);

    impl HistogramFn for Sum {
        fn record(&self, value: f64) {
            self.0.fetch_add(value.to_bits() & 0xff, Ordering::Relaxed);
        }
    }

    impl Recorder for Atomics {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
            Counter::from_arc(Arc::new(AtomicU64::new(0)))
        }

        fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::from_arc(Arc::new(AtomicU64::new(0)))
        }

        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::from_arc(Arc::new(Sum(AtomicU64::new(0))))
        }
    }
}
