//! Keeps a request from a target that cannot, or may not, serve it.
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::Full;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_failover::{
//!     Ability, Capabilities, Fault, RequestContext, Requirements, Target, capability_filter::CapabilityFilterLayer,
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let service = ServiceBuilder::new().layer(CapabilityFilterLayer::new()).service(service_fn(
//!     |_: Request<Full<Bytes>>| async { Ok::<_, std::convert::Infallible>(Response::new(Full::<Bytes>::default())) },
//! ));
//!
//! let text_only = Target::named("text-only").with_capabilities(Capabilities::new().without(Ability::ImageInput));
//! let context = RequestContext::new().with_target(text_only);
//! let mut needs = Requirements::default();
//! needs.abilities.insert(Ability::ImageInput);
//! context.set_requirements(needs);
//!
//! let mut request = Request::new(Full::default());
//! request.extensions_mut().insert(context);
//! let refused = service.oneshot(request).await.unwrap();
//! assert_eq!(refused.extensions().get::<Fault>().unwrap().message(), "the target does not offer image_input");
//! # }
//! ```
//!
//! It compares the [`Requirements`](crate::Requirements) in the request's [`RequestContext`](crate::RequestContext) with
//! the [`Capabilities`](crate::Capabilities) and tags of its [`Target`](crate::Target); failover derives the former
//! from the body. A request without either passes. The refusal names every unmet need.
//!
//! A body is looked at closely only where a glance leaves a doubt: one with fewer bytes than the target's window has tokens, and without the
//! words for what the target lacks, is passed on at once. So a request that fits pays no more for a model of which much is known.

mod future;
mod glance;
mod layer;
mod service;

pub use future::ResponseFuture;
pub use layer::CapabilityFilterLayer;
pub use service::CapabilityFilter;
