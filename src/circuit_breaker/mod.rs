//! Keeps calls away from a target that fails, and finds out by single probes when it is back.
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::Full;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_failover::{Fault, Refusal, circuit_breaker::{CircuitBreakerLayer, CircuitRegistry, CircuitSettings}};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let mut settings = CircuitSettings::default();
//! settings.failures = 2;
//! let service = ServiceBuilder::new()
//!     .layer(CircuitBreakerLayer::new(CircuitRegistry::new(settings)))
//!     .service(service_fn(|_: Request<Full<Bytes>>| async {
//!         Ok::<_, std::convert::Infallible>(Response::builder().status(500).body(Full::<Bytes>::default()).unwrap())
//!     }));
//!
//! for _ in 0..2 {
//!     assert_eq!(service.clone().oneshot(Request::default()).await.unwrap().status(), 500);
//! }
//! let refused = service.oneshot(Request::default()).await.unwrap();
//! assert_eq!(refused.status(), 503);
//! let fault = refused.extensions().get::<Fault>().unwrap();
//! assert!(matches!(fault.refusal(), Some(Refusal::CircuitOpen { .. })));
//! # }
//! ```
//!
//! A circuit belongs to a [`Target`](crate::Target), the one in the request's
//! [`RequestContext`](crate::RequestContext), or to a [`Provider`](crate::Provider): an address that cannot be reached or a
//! rejected key concerns all of a provider's targets, a model that is overloaded only itself. Where a request is for no
//! target there is a single nameless one, so that the layer also works on a plain client or on a server. A circuit opens after failures in a row, on the share of failures or of slow calls in a
//! sliding window, or at once where a failure says so (a rejected key, a long `Retry-After`): see [`CircuitSettings`].
//! What counts as a failure is in the [fault table](crate::FaultKind::policy).
//!
//! While the circuit is closed a call gives one verdict, when its body ends or breaks. A probe closes the circuit when
//! its answer begins; should that answer break off, the circuit opens at once.
//!
//! An open circuit answers with a response that carries the refusal: `poll_ready` never fails because of it. A call that
//! is dropped says nothing about the target.

mod body;
mod checkup;
mod circuit;
mod exchange;
mod future;
mod layer;
mod permit;
mod registry;
mod service;
mod settings;

pub use crate::CircuitState;
pub use body::VerdictBody;
pub(crate) use checkup::Evidence;
pub use circuit::CircuitSnapshot;
pub use future::ResponseFuture;
pub use layer::CircuitBreakerLayer;
pub use registry::CircuitRegistry;
pub use service::CircuitBreaker;
pub use settings::{CircuitRules, CircuitSettings};
