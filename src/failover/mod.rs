//! Walks a route's targets until one answers.
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::Full;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_failover::{RequestContext, Route, Target, failover::FailoverLayer};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let route = Route::new("answers", [Target::named("primary"), Target::named("fallback")]).unwrap();
//! let service = ServiceBuilder::new().layer(FailoverLayer::new(&route)).service(service_fn(
//!     |request: Request<Full<Bytes>>| async move {
//!         let target = RequestContext::of(request.extensions()).unwrap().target().unwrap();
//!         let status = if target.id().as_str() == "primary" { 503 } else { 200 };
//!         Ok::<_, std::convert::Infallible>(Response::builder().status(status).body(Full::<Bytes>::default()).unwrap())
//!     },
//! ));
//!
//! let context = RequestContext::new();
//! let mut request = Request::new(Full::<Bytes>::default());
//! request.extensions_mut().insert(context.clone());
//! assert_eq!(service.oneshot(request).await.unwrap().status(), 200);
//! assert_eq!(context.attempts().answered().unwrap().target().unwrap().id().as_str(), "fallback");
//! # }
//! ```
//!
//! The request's body is collected once, up to a bound, and sent to one target after the other in the route's order; none
//! is tried twice for one answer. Each attempt carries its [`Target`](crate::Target) in a
//! [`RequestContext`](crate::RequestContext); the layers inside keep their state by it. Whether a failure leads to the
//! next target is in the [fault table](crate::FaultKind::policy); a refusal by a guard always does.
//!
//! Another [`Strategy`] than the route's order may be given, [`Weighted`] say; and a [`Hedge`] tries the next target beside one
//! that is slow.
//!
//! When no target is left, the one of those that open circuits refused that recovers soonest is tried as a last resort. When nothing worked,
//! the answer is the failure of the most preferred target that reached the wire, with the soonest `Retry-After` that any
//! of them gave; a failure that is the request's own fault is passed on as the provider said it.
//!
//! The service below need not be ready for targets that are never tried: this one is always ready, and each attempt
//! polls a clone of its own.

mod future;
mod hedge;
mod layer;
mod outlook;
mod report;
mod service;
mod strategy;
mod walk;
#[cfg(test)]
mod walk_model;

pub use future::ResponseFuture;
pub use hedge::Hedge;
#[cfg(feature = "config")]
pub(crate) use hedge::Latencies;
pub use layer::FailoverLayer;
pub use service::Failover;
pub use strategy::{Adaptive, Cost, Latency, Order, Strategy, Weighted};
