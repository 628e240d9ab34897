//! Keeps within limits of our own, so that a provider need not enforce its.
//!
//! ```
//! use std::num::NonZeroU32;
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::Full;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_failover::rate_limit::{Limits, RateLimitLayer, RateLimitRegistry};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let mut limits = Limits::default();
//! limits.requests_per_minute = NonZeroU32::new(1);
//! let service = ServiceBuilder::new()
//!     .layer(RateLimitLayer::new(RateLimitRegistry::new(limits)))
//!     .service(service_fn(|_: Request<Full<Bytes>>| async {
//!         Ok::<_, std::convert::Infallible>(Response::new(Full::<Bytes>::default()))
//!     }));
//!
//! assert_eq!(service.clone().oneshot(Request::default()).await.unwrap().status(), 200);
//! let refused = service.oneshot(Request::default()).await.unwrap();
//! assert_eq!(refused.status(), 429);
//! assert_eq!(refused.headers()["retry-after"], "60");
//! # }
//! ```
//!
//! Limits belong to a [`Target`](crate::Target), to a [`Provider`](crate::Provider), or to both: requests and tokens per
//! minute, and calls at a time. A call over one of them is refused at once, before the wire, and failover goes on to the next
//! target; nobody waits. Rates are kept by [GCRA](https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm): a minute's
//! worth may be used in one go, and is given back evenly.
//!
//! A call takes the tokens that its input is estimated to have and the most that it asks to have answered, as providers
//! count them; a call is one at a time until its body has ended or is dropped. What a call that is then refused by another
//! limit has taken of a rate is not given back.

mod body;
mod future;
mod layer;
mod limiter;
mod registry;
mod service;

pub use body::LimitedBody;
pub use future::ResponseFuture;
pub use layer::RateLimitLayer;
#[cfg(feature = "gateway")]
pub(crate) use limiter::Limiter;
pub use limiter::Limits;
pub use registry::RateLimitRegistry;
#[cfg(feature = "gateway")]
pub(crate) use registry::{Asking, ask, tokens};
pub use service::RateLimit;
