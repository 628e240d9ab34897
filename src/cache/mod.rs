//! Answers that were given before, for requests that are the same.
//!
//! ```
//! use std::time::Duration;
//! use tower::ServiceBuilder;
//! use tower_failover::{CacheLayer, Dialect, FailoverStack, Provider, Route, Target};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let primary = Provider::new("primary", Dialect::OpenAiChat, "http://127.0.0.1:8001/v1")?;
//! let fallback = Provider::new("fallback", Dialect::OpenAiChat, "http://127.0.0.1:8002/v1")?;
//! let route = Route::new("chat", [Target::new(&primary, "gpt-4o"), Target::new(&fallback, "llama-3.3-70b")])?;
//!
//! # let http_client = tower::service_fn(|_: http::Request<http_body_util::Full<bytes::Bytes>>| async {
//! #     Ok::<_, std::convert::Infallible>(http::Response::new(http_body_util::Full::<bytes::Bytes>::default()))
//! # });
//! let chat = ServiceBuilder::new()
//!     .layer(CacheLayer::new(Duration::from_secs(600)).with_stale_if_error(Duration::from_secs(3600)))
//!     .layer(FailoverStack::new(&route))
//!     .service(http_client);
//! # fn is_a_service<S: tower::Service<http::Request<http_body_util::Full<bytes::Bytes>>>>(_: S) {}
//! # is_a_service(chat);
//! # Ok(()) }
//! ```
//!
//! - **The same** is what a [`CacheKey`] says. [`ExactMatch`], the usual one, looks at all that the body says but what cannot
//!   change the answer; the order of members and white space do not matter. A model that samples would answer the same
//!   request in other words each time: whoever caches gives that up, whatever the temperature.
//! - **Tenants share nothing.** A tenant is the client that [`RequestContext::client`](crate::RequestContext::client) names,
//!   or else the credentials that the request carries, or what [a function](CacheLayer::with_tenant) says.
//! - **Requests that come at the same time** are one call, whose answer all of them read as it comes. Whoever asked first may go
//!   away: the call goes on as long as anybody waits for it, polled by those who do; no task is spawned. Fails it, so one of
//!   those who wait calls again, at most a few times.
//! - **Streams** are recorded while they pass, and told again byte for byte. Who asks for JSON where a stream was recorded, or the
//!   other way round, gets it in that form where it can be put so.
//! - **Stale answers** are the last resort: with [`with_stale_if_error`](CacheLayer::with_stale_if_error) one that is too old is
//!   given where no target can answer.
//! - **Clients decide**, by `Cache-Control`: `no-store`, `no-cache`, `max-age`, `only-if-cached`. `Cache-Status`
//!   ([RFC 9211](https://www.rfc-editor.org/rfc/rfc9211)) and `Age` tell them what they got.
//!
//! Never kept is what failed, what was cut short (by a limit of tokens too), and what calls tools unless
//! [that is asked for](CacheLayer::with_tool_calls).
//!
//! What is kept is bounded by a [`CacheStore`], which several layers may share, and what is recorded by
//! [`with_max_entry`](CacheLayer::with_max_entry): a longer answer passes, and is not kept. Requests that read such an answer together
//! then wait for the slowest of them.
//!
//! What it does not do: find requests that are alike but not the same; look at what providers say in `Cache-Control`.
//! Two services that [`layer`](tower_layer::Layer::layer) made share their store, but not the calls that run.

mod body;
mod canonical;
mod control;
mod entry;
mod flight;
mod future;
mod key;
mod layer;
mod service;
mod shape;
mod status;
mod store;
mod verdict;

pub use body::CacheBody;
pub use future::ResponseFuture;
pub use key::{CacheKey, ExactMatch, Key, KeyBuilder, KeyedRequest};
pub use layer::CacheLayer;
pub use service::Cache;
pub use store::CacheStore;
