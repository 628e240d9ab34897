//! `GET /metrics`, for Prometheus, and who is told what becomes of each route's requests.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use axum::{
    extract::State,
    http::{HeaderName, header},
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use super::{Gateway, Live, spending, status::Changes};
use crate::{
    Event, Observer, Route, TelemetryLayer,
    telemetry::{Metric, Metrics, names},
};

/// Prometheus' text format.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What the gateway keeps of its requests: its own, so that several gateways in one process do not mix.
#[derive(Clone, Debug)]
pub(super) struct Telemetry {
    metrics: Metrics,
    handle: Handle,
}

impl Telemetry {
    pub(super) fn new() -> Self {
        let builder = Metric::ALL.iter().filter(|metric| !metric.buckets.is_empty()).fold(
            PrometheusBuilder::new(),
            |builder, metric| {
                #[expect(clippy::expect_used, reason = "it refuses only a list of none, and those were left out")]
                builder.set_buckets_for_metric(Matcher::Full(metric.name.into()), metric.buckets).expect("has buckets")
            },
        );
        let recorder = builder.build_recorder();
        let handle = Handle(Arc::new((recorder.handle(), AtomicU32::new(0))));
        Telemetry { metrics: Metrics::new(recorder), handle }
    }

    /// What is around the stack of a route.
    pub(super) fn layer(&self, route: &Route) -> TelemetryLayer {
        let layer = TelemetryLayer::new(route).with_observer(self.metrics.observer(route));
        layer.with_observer(self.handle.clone())
    }

    /// The same for requests that no route is for.
    pub(super) fn layer_of_none(&self) -> TelemetryLayer {
        let layer = TelemetryLayer::named("none").with_observer(self.metrics.observer_of_none());
        // Theirs pile up too, and whoever has no key can have them.
        layer.with_observer(self.handle.clone())
    }

    /// Counts checks of targets.
    pub(super) fn of_checks(&self) -> impl Observer + use<> {
        self.metrics.observer_of_checks()
    }

    /// Tells of no other routes, and of no other targets, any more.
    pub(super) fn serve_only<'a>(&self, routes: impl Iterator<Item = &'a Route>) {
        self.metrics.serve_only(routes);
    }

    fn render(&self, live: &Live, changes: &Changes) -> String {
        let shared = &live.shared;
        self.metrics.refresh(&shared.circuits, &shared.rate_limits);
        shared.fleet().into_iter().for_each(|fleet| self.metrics.refresh_fleet(fleet));
        let text = self.handle.0.0.render();
        // What is no number is of a target that is gone.
        let is_known = |line: &&str| !line.trim_end().ends_with(" NaN");
        let mut text: String = text.split_inclusive('\n').filter(is_known).collect();
        text.push_str(&spending::render(live));
        let changes = changes.counts().map(|(outcome, count)| ([outcome], count as f64));
        spending::series(&mut text, &names::CONFIG_RELOADS, changes.into_iter());
        text
    }
}

/// The exporter keeps each sample of a histogram until somebody puts it into its bucket: that is done when it is asked, and every
/// so many requests, lest they pile up where nobody asks.
#[derive(Clone)]
struct Handle(Arc<(PrometheusHandle, AtomicU32)>);

/// How many requests leave their samples until they are put into buckets.
const UPKEEP_EVERY: u32 = 1024;

impl Observer for Handle {
    fn observe(&self, event: &Event) {
        let (handle, ended) = &*self.0;
        if matches!(event, Event::RequestEnded { .. }) && ended.fetch_add(1, Ordering::Relaxed) % UPKEEP_EVERY == 0 {
            handle.run_upkeep();
        }
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Handle")
    }
}

pub(super) async fn serve(State(gateway): State<Gateway>) -> ([(HeaderName, &'static str); 1], String) {
    (
        [(header::CONTENT_TYPE, CONTENT_TYPE)],
        gateway.inner.telemetry.render(&gateway.live(), &gateway.inner.status.changes),
    )
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use bytes::Bytes;
    use http::{Request, Response};
    use http_body_util::Full;
    use tower::{ServiceExt, service_fn};
    use tower_layer::Layer;

    use super::*;

    /// Whoever has no key can make as many of them as it likes, and nobody may ever ask for `/metrics`.
    #[tokio::test]
    async fn samples_of_requests_that_no_route_is_for_do_not_pile_up() {
        let telemetry = Telemetry::new();
        let inner = service_fn(|_: Request<()>| async { Ok::<_, Infallible>(Response::new(Full::<Bytes>::default())) });
        for _ in 0..3 {
            drop(telemetry.layer_of_none().layer(inner).oneshot(Request::new(())).await);
        }
        assert_eq!(telemetry.handle.0.1.load(Ordering::Relaxed), 3, "of each, the keeper of the samples is told");
    }
}
