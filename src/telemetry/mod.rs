//! What happens to requests, told to `tracing`, to metrics and to [observers](crate::Observer).
//!
//! A [`TelemetryLayer`] goes around everything else. It gives each request a span, notes how the answer's body ends, and then
//! sums up the request in one event, `request ended`: route, target, attempts, outcome, latency, tokens, cost. The layers inside
//! add a span for each attempt, and events for failovers, retries, hedges, broken streams and circuits.
//!
//! ```
//! use tower::ServiceBuilder;
//! use tower_failover::{Dialect, Event, FailoverStack, Provider, Route, Target, TelemetryLayer};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let primary = Provider::new("primary", Dialect::OpenAiChat, "http://127.0.0.1:8001/v1")?;
//! let fallback = Provider::new("fallback", Dialect::OpenAiChat, "http://127.0.0.1:8002/v1")?;
//! let route = Route::new("chat", [Target::new(&primary, "gpt-4o"), Target::new(&fallback, "llama-3.3-70b")])?;
//! let telemetry = TelemetryLayer::new(&route).with_observer(|event: &Event| {
//!     if let Event::RequestEnded { summary, .. } = event {
//!         println!("{}: {} after {:?}", summary.route(), summary.outcome().name(), summary.duration());
//!     }
//! });
//!
//! # let http_client = tower::service_fn(|_: http::Request<http_body_util::Full<bytes::Bytes>>| async {
//! #     Ok::<_, std::convert::Infallible>(http::Response::new(http_body_util::Full::<bytes::Bytes>::default()))
//! # });
//! let chat = ServiceBuilder::new().layer(telemetry).layer(FailoverStack::new(&route)).service(http_client);
//! # fn is_a_service<S: tower::Service<http::Request<http_body_util::Full<bytes::Bytes>>>>(_: S) {}
//! # is_a_service(chat);
//! # Ok(()) }
//! ```
//!
//! Every span, event, field, metric and label is in one table, `docs/telemetry.md`, and stays as it is called there. Where
//! OpenTelemetry's conventions for generative AI have a name, it is theirs. Request spans and the summary are at level `info`,
//! spans and events of attempts at `debug`: see them with `RUST_LOG=tower_failover=debug`.
//!
//! None of it holds what a user wrote, what a model answered, a query string or a key. What a provider says in an error is
//! told only where it speaks of our account ([`Fault::reason`](crate::Fault::reason)): in its words about a request it may
//! repeat the request.
//!
//! # What it does not do
//!
//! It exports nothing: that is for a `tracing` subscriber (`tracing-opentelemetry`, say) and a recorder of the `metrics` facade.
//! It sees requests only that come to the layer: in the gateway, those whose path is one that generates.

mod body;
mod future;
mod layer;
#[cfg(feature = "metrics")]
mod metrics;
#[cfg(any(test, feature = "metrics"))]
pub(crate) mod names;
mod record;
mod service;

#[cfg(feature = "gateway")]
pub(crate) use self::record::Record;
pub use self::{body::TelemetryBody, future::ResponseFuture, layer::TelemetryLayer, service::Telemetry};
#[cfg(feature = "metrics")]
#[cfg_attr(docsrs, doc(cfg(feature = "metrics")))]
pub use self::{
    metrics::{Metrics, MetricsObserver},
    names::{Metric, MetricKind},
};
