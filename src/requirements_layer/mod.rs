//! Finds out what a request needs, for the layers inside.
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::Full;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_failover::{
//!     Ability, Capabilities, CapabilityFilterLayer, CollectBodyLayer, Fault, RequestContext, Target,
//!     requirements_layer::RequirementsLayer,
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! // Failover does this itself; here there is but one target, which the layer names.
//! let text_only = Target::named("text-only").with_capabilities(Capabilities::new().without(Ability::Tools));
//! let service = ServiceBuilder::new()
//!     .layer(CollectBodyLayer::new())
//!     .layer(RequirementsLayer::new().with_target(text_only))
//!     .layer(CapabilityFilterLayer::new())
//!     .service(service_fn(|_: Request<Full<Bytes>>| async {
//!         Ok::<_, std::convert::Infallible>(Response::new(Full::<Bytes>::default()))
//!     }));
//!
//! let body = r#"{"model":"any","messages":[],"tools":[{"type":"function","function":{"name":"f"}}]}"#;
//! let request = Request::post("/v1/chat/completions").body(Full::<Bytes>::from(body)).unwrap();
//! let refused = service.oneshot(request).await.unwrap();
//! assert_eq!(refused.status(), 400);
//! assert_eq!(refused.extensions().get::<Fault>().unwrap().message(), "the target does not offer tools");
//! # }
//! ```
//!
//! It puts the [outline](crate::RequestOutline) of the body, from which [`Requirements`](crate::Requirements) are derived,
//! into the request's [`RequestContext`](crate::RequestContext), and makes one where there is none. What the program asked
//! for besides ([`RequestContext::with_requirements`](crate::RequestContext::with_requirements)) is added to what the body
//! says. The [`CapabilityFilterLayer`](crate::CapabilityFilterLayer), the [`RateLimitLayer`](crate::RateLimitLayer) (how
//! many tokens?) and the [`TimeoutLayer`](crate::TimeoutLayer) (is it to be a stream?) read it there.
//!
//! The dialect is what the context says, else what the path ends in (`/chat/completions`), else that of
//! [`with_dialect`](RequirementsLayer::with_dialect). A body that cannot be read needs nothing: it is not this layer's to
//! refuse it.
//!
//! The request's body must be whole: [`CollectBodyLayer`](crate::CollectBodyLayer) makes it so.

mod layer;
mod service;

pub use layer::RequirementsLayer;
pub use service::WithRequirements;
