//! Turns a service's errors into failed responses, so that its error becomes `Infallible`.
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::Full;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_failover::{Fault, FaultKind, catch_error::CatchErrorLayer};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let service = ServiceBuilder::new().layer(CatchErrorLayer::new()).service(service_fn(
//!     |_: Request<Full<Bytes>>| async { Err::<Response<Full<Bytes>>, _>(std::io::Error::other("reset")) },
//! ));
//!
//! let response = match service.oneshot(Request::default()).await {
//!     Ok(response) => response,
//!     Err(never) => match never {}, // its type has no values
//! };
//! assert_eq!(response.status(), 502);
//! assert_eq!(response.extensions().get::<Fault>().unwrap().kind(), FaultKind::ConnectionLost);
//! # }
//! ```
//!
//! A client's transport errors then look like every other failure to the layers outside, and the service fits where only
//! `Infallible` does: `axum::Router::route_service`, without a `HandleErrorLayer`. What an error means is the
//! [classifier](crate::Classify::classify_error)'s to say; by default an error of hyper-util's client, a boxed error
//! and a [`Fault`](crate::Fault) are looked into, anything else is a lost connection.
//!
//! An error of `poll_ready` becomes the answer to the next call: the inner service is not called then.
//!
//! # Differences from `axum::error_handling`
//!
//! The inner service is polled for readiness, not taken as always ready; and the response carries the fault, so that
//! [`FailoverLayer`](crate::FailoverLayer) and the others know what happened. [`ProviderLayer`](crate::ProviderLayer)
//! contains this layer.

mod future;
mod layer;
mod service;

pub use future::ResponseFuture;
pub use layer::CatchErrorLayer;
pub use service::CatchError;
