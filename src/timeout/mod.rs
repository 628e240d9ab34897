//! Bounds on how long a call may be silent: until its answer begins, while it goes on, and in all.
//!
//! ```
//! use std::time::Duration;
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::Full;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_failover::{Fault, FaultKind, timeout::TimeoutLayer};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! let service = ServiceBuilder::new()
//!     .layer(TimeoutLayer::new().with_response(Duration::from_secs(30)))
//!     .service(service_fn(|_: Request<Full<Bytes>>| {
//!         std::future::pending::<Result<Response<Full<Bytes>>, std::convert::Infallible>>()
//!     }));
//!
//! let response = service.oneshot(Request::default()).await.unwrap();
//! assert_eq!(response.status(), 504);
//! assert_eq!(response.extensions().get::<Fault>().unwrap().kind(), FaultKind::Timeout);
//! # }
//! ```
//!
//! Which bound holds for the head depends on the request: `first_output` for one that asks for a stream (behind a
//! [`ProviderLayer`](crate::ProviderLayer) the response *is* the first output), `response` for any other. Afterwards
//! `idle` bounds the time between two frames of the body. Everything is clipped to the request's
//! [`Deadline`](crate::Deadline), body included.
//!
//! # Differences from `tower::timeout` and `tower_http::timeout`
//!
//! The bound on the head ends with the head, so a long stream is not cut; the body has bounds of its own. A late call is
//! answered with a failed response, and a late body ends with an error that holds the [`Fault`](crate::Fault): the
//! service's error type stays what it was. The inner service is polled before the timer: an answer that is ready is
//! never thrown away.

mod body;
mod future;
mod layer;
mod service;

pub use body::TimeoutBody;
pub use future::ResponseFuture;
pub use layer::TimeoutLayer;
pub use service::Timeout;
