//! Failures on purpose: what a provider's outage would do, done to a stack while it runs.
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::Full;
//! use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
//! use tower_failover::fault_injection::{FaultInjectionLayer, FaultSwitch, InjectedFault, Injection};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let faults = FaultSwitch::new();
//! let mut service = ServiceBuilder::new()
//!     .layer(FaultInjectionLayer::new(&faults))
//!     .service(service_fn(|_: Request<Full<Bytes>>| async {
//!         Ok::<_, std::convert::Infallible>(Response::new(Full::<Bytes>::default()))
//!     }));
//!
//! // Nothing is wrong until the switch says so, and it can be thrown at any time.
//! let response = service.ready().await.unwrap().call(Request::default()).await.unwrap();
//! assert_eq!(response.status(), 200);
//!
//! faults.inject(Injection::new(InjectedFault::Overloaded));
//! let response = service.ready().await.unwrap().call(Request::default()).await.unwrap();
//! assert_eq!(response.status(), 529);
//! assert_eq!(faults.injected(), 1);
//!
//! faults.clear();
//! let response = service.ready().await.unwrap().call(Request::default()).await.unwrap();
//! assert_eq!(response.status(), 200);
//! # }
//! ```
//!
//! The layer goes anywhere in a stack. Around the HTTP client, inside of
//! [`ProviderLayer`](crate::ProviderLayer), it stands for the wire: what is injected there is classified, retried, counted by
//! circuits and failed over as if a provider had done it, and the provider hears nothing of the calls that fail. An
//! [`Injection`] may be for one [`Target`](crate::Target) or all of a [`Provider`](crate::Provider); whom a call is for is
//! in its [`RequestContext`](crate::RequestContext).
//!
//! An error status is an ordinary response with that provider's kind of error in its body, and nothing in its extensions. A
//! connection that fails is a failed response that carries its [`Fault`](crate::Fault), for the service's error type stays
//! what it is.
//!
//! Which calls an injection hits that is not for all of them depends on the [seed](FaultSwitch::with_seed) and the order of
//! the calls only.
//!
//! # What it does not do
//!
//! It does not touch sockets: what a server sees of a broken connection is shown by the simulated providers (feature
//! `simulated`). Without an injection it costs the look at one flag.

mod body;
mod future;
mod injected_fault;
mod layer;
mod service;
mod switch;

pub use body::InjectedBody;
pub use future::ResponseFuture;
pub use injected_fault::{InjectedFault, ParseInjectedFaultError};
pub use layer::FaultInjectionLayer;
pub use service::FaultInjection;
pub use switch::{FaultSwitch, Injection};
