//! Collects a request's body, so that it can be sent more than once.
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::{Full, StreamBody};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_failover::{RetryLayer, collect_body::CollectBodyLayer};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! # use std::sync::atomic::{AtomicU32, Ordering};
//! static CALLS: AtomicU32 = AtomicU32::new(0);
//! let service = ServiceBuilder::new()
//!     .layer(CollectBodyLayer::new())
//!     .layer(RetryLayer::new()) // needs a body that it can clone
//!     .service(service_fn(|_: Request<Full<Bytes>>| async {
//!         let status = if CALLS.fetch_add(1, Ordering::Relaxed) == 0 { 503 } else { 200 };
//!         Ok::<_, std::convert::Infallible>(Response::builder().status(status).body(Full::<Bytes>::default()).unwrap())
//!     }));
//!
//! // As servers give it: a body that can be read once.
//! let pieces = ["in ", "pieces"].map(|piece| Ok::<_, std::io::Error>(http_body::Frame::data(Bytes::from(piece))));
//! let request = Request::new(StreamBody::new(tokio_stream::iter(pieces)));
//! assert_eq!(service.oneshot(request).await.unwrap().status(), 200);
//! assert_eq!(CALLS.load(Ordering::Relaxed), 2);
//! # }
//! ```
//!
//! The inner service gets `Request<Full<Bytes>>`: axum's `Route` and tonic's `Routes` take that as well as their own
//! body; before a tonic `Channel`, put it back with `map_request`. [`FailoverLayer`](crate::FailoverLayer) collects by
//! itself and needs none of this.
//!
//! A body of more than 32 MiB ([`with_max_body`](CollectBodyLayer::with_max_body)) is answered with 413, one that breaks
//! off with 400; the inner service is not called then. A body in one piece is not copied.
//!
//! # What it does not do
//!
//! It keeps no trailers of the request (neither gRPC nor any LLM API has them), and does not serve requests whose
//! answer begins before they are whole, such as client streaming in gRPC.
//!
//! The service is always ready: a clone of the inner one is polled once the body is there, so that a slow upload does not
//! hold what others could use.

mod future;
mod layer;
mod service;

pub use future::ResponseFuture;
pub use layer::CollectBodyLayer;
pub use service::CollectBody;
