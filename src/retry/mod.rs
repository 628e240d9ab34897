//! Tries the same target again when that may help.
//!
//! ```
//! use std::sync::atomic::{AtomicU32, Ordering};
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::Full;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_failover::retry::RetryLayer;
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! static CALLS: AtomicU32 = AtomicU32::new(0);
//! let service = ServiceBuilder::new().layer(RetryLayer::new()).service(service_fn(
//!     |_: Request<Full<Bytes>>| async {
//!         let status = if CALLS.fetch_add(1, Ordering::Relaxed) == 0 { 503 } else { 200 };
//!         Ok::<_, std::convert::Infallible>(Response::builder().status(status).body(Full::<Bytes>::default()).unwrap())
//!     },
//! ));
//!
//! assert_eq!(service.oneshot(Request::default()).await.unwrap().status(), 200);
//! assert_eq!(CALLS.load(Ordering::Relaxed), 2);
//! # }
//! ```
//!
//! Which failures are worth it is in the [fault table](crate::FaultKind::policy), unless the provider says so itself
//! ([`Fault::should_retry`](crate::Fault::should_retry)). Before each further try it waits for
//! as long as the provider asks (`Retry-After`), else with exponential backoff and full jitter (a random part of twice
//! the last bound: [why](https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/)). It does not wait
//! past the request's [`Deadline`](crate::Deadline), nor for longer than `max_retry_after`: failover has something
//! better to do then. A budget keeps retries a share of the traffic that reaches targets, so that an outage is not met with twice the
//! load; and a [last resort](crate::RequestContext::is_last_resort), which is let through an open circuit, is tried once.
//!
//! A failed response is dropped before the wait, and a refusal by a guard is never retried: where one follows a failure
//! of the wire, the wire's is returned.
//!
//! The request's body must be `Clone` (as `Full<Bytes>` is; failover makes it one). The first try uses the service that
//! was polled ready, each further one a clone.

mod backoff;
mod budget;
mod future;
mod layer;
mod service;

pub use backoff::Backoff;
pub use budget::RetryBudget;
pub use future::ResponseFuture;
pub use layer::RetryLayer;
pub use service::Retry;
