//! Failover for LLM providers, as a stack of [`tower`] layers over [`http::Request`] services.
//!
//! Every LLM provider fails: rate limits, overload, silent hangs, streams cut mid-answer, retired models. Put these layers
//! around the HTTP client that you have, and your callers do not notice:
//!
//! ```
//! use tower::ServiceBuilder;
//! use tower_failover::{
//!     CapabilityFilterLayer, CircuitBreakerLayer, Credentials, Dialect, FailoverLayer, Provider, ProviderLayer, RetryLayer,
//!     Route, Target, TimeoutLayer,
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let (openai_key, groq_key) = ("sk-1".into(), "gsk-2".into());
//! let openai = Provider::new("openai", Dialect::OpenAiChat, "https://api.openai.com/v1")?
//!     .with_credentials(Credentials::api_key(Dialect::OpenAiChat, openai_key)?);
//! let groq = Provider::new("groq", Dialect::OpenAiChat, "https://api.groq.com/openai/v1")?
//!     .with_credentials(Credentials::api_key(Dialect::OpenAiChat, groq_key)?);
//! let route = Route::new("chat", [Target::new(&openai, "gpt-4o"), Target::new(&groq, "llama-3.3-70b-versatile")])?;
//!
//! # let http_client = tower::service_fn(|_: http::Request<http_body_util::Full<bytes::Bytes>>| async {
//! #     Ok::<_, std::convert::Infallible>(http::Response::new(http_body_util::Full::<bytes::Bytes>::default()))
//! # });
//! let chat = ServiceBuilder::new()
//!     .layer(FailoverLayer::new(&route)) // the next target when one fails
//!     .layer(CapabilityFilterLayer::new()) // not one that cannot serve the request
//!     .layer(RetryLayer::new()) // the same one again, when that may help
//!     .layer(CircuitBreakerLayer::default()) // not one that keeps failing
//!     .layer(TimeoutLayer::new()) // not longer than is worth waiting
//!     .layer(ProviderLayer::new()) // credentials, model, errors, first output
//!     .service(http_client); // hyper-util's, or any `Service<http::Request<_>>`
//! # fn is_a_service<S: tower::Service<http::Request<http_body_util::Full<bytes::Bytes>>>>(_: S) {}
//! # is_a_service(chat);
//! # Ok(()) }
//! ```
//!
//! [`FailoverStack`] is the same in one layer. Each layer also stands alone: [`circuit_breaker`], [`retry`], [`timeout`] and
//! [`capability_filter`] on any HTTP client or server, [`failover`] around whatever serves several
//! [`Target`]s. Three more make that easy: [`collect_body`] gives [`retry`] a body that it can send again,
//! [`requirements_layer`] tells [`capability_filter`] what a request needs, and [`catch_error`] makes a client's error
//! `Infallible`. And [`fault_injection`] makes any of it fail on purpose.
//!
//! # How the layers talk
//!
//! They do not know each other. They meet in the vocabulary of this module:
//!
//! - The request carries a [`RequestContext`] in its extensions: the [`Target`] of this attempt, the [`Deadline`], what the
//!   request needs ([`Requirements`]), and the [`AttemptLog`].
//! - A failure is a response that carries a [`Fault`] in its extensions, so no layer changes the service's error type. What a
//!   [`FaultKind`] means is in one table: [`FaultKind::policy`].
//! - A guard that declines answers with a [`Refusal`] before the wire, and failover goes on to the next target. A guard of
//!   your own is one more layer; nothing else changes.
//!
//! # Features
//!
//! The layers need none. `simulated` has simulated providers with switchable faults, `config` the gateway's configuration
//! file, `gateway` the gateway itself (and both others), `cache` a layer that answers again what was answered before, `tokenizer` counts
//! tokens, where a model's tokenizer is public, instead of estimating them ([`dialect`](dialect#token-estimate)), `redis` is what the
//! replicas of a fleet share. Answers
//! that come compressed unasked are read if it is with gzip or deflate; with `brotli` and `zstd`, those too.
//!
//! [`tower`]: https://docs.rs/tower
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

/// The error of bodies: as in `tower` and `axum`.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

mod attempt;
mod body;
mod budget;
#[cfg(feature = "cache")]
#[cfg_attr(docsrs, doc(cfg(feature = "cache")))]
pub mod cache;
pub mod capability_filter;
pub mod catch_error;
pub mod circuit_breaker;
mod classify;
pub mod collect_body;
#[cfg(feature = "config")]
#[cfg_attr(docsrs, doc(cfg(feature = "config")))]
pub mod config;
mod context;
mod continuation;
mod credentials;
pub mod dialect;
pub mod failover;
mod fault;
pub mod fault_injection;
mod feature;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(feature = "gateway")]
#[cfg_attr(docsrs, doc(cfg(feature = "gateway")))]
pub mod gateway;
mod guard;
pub mod health;
mod keyed;
mod latency;
mod models;
pub mod observer;
mod outline;
mod price;
pub mod provider;
pub mod rate_limit;
mod rate_limits;
pub mod recovery;
mod refusal;
mod requirements;
pub mod requirements_layer;
pub mod retry;
mod retry_after;
pub mod shared_state;
#[cfg(feature = "simulated")]
#[cfg_attr(docsrs, doc(cfg(feature = "simulated")))]
pub mod simulated;
mod stack;
pub mod statistics;
mod summary;
mod sync;
mod target;
pub mod telemetry;
pub mod timeout;
mod trace;
mod usage;
mod variant;
mod window;

pub use attempt::{Attempt, AttemptLog, Outcome, Phase};
pub use body::ResponseBody;
#[cfg(feature = "cache")]
#[cfg_attr(docsrs, doc(cfg(feature = "cache")))]
pub use cache::CacheLayer;
pub use capability_filter::CapabilityFilterLayer;
pub use catch_error::CatchErrorLayer;
pub use circuit_breaker::CircuitBreakerLayer;
pub use classify::{Classify, GrpcClassifier, StatusClassifier};
pub use collect_body::CollectBodyLayer;
pub use context::{Deadline, RequestContext};
pub use credentials::{CredentialSource, Credentials, FetchedKey, InvalidCredentials};
pub use failover::FailoverLayer;
pub use fault::{CircuitAdvice, FailoverAdvice, Fault, FaultKind, FaultKinds, FaultPolicy, FaultScope, RetryAdvice};
pub use fault_injection::FaultInjectionLayer;
pub use feature::{Feature, Features};
pub use guard::Guarded;
pub use models::{KnownModel, known_models};
pub use observer::{CircuitState, Event, Observer};
pub use outline::RequestOutline;
pub use price::{Cost, InvalidPrice, Price};
pub use provider::ProviderLayer;
pub use rate_limit::RateLimitLayer;
pub use rate_limits::{RateLimits, RateLimitsRegistry, RateWindow};
pub use recovery::RecoveryLayer;
pub use refusal::Refusal;
pub use requirements::{Abilities, Ability, Capabilities, Need, Requirements, Unmet};
pub use requirements_layer::RequirementsLayer;
pub use retry::RetryLayer;
pub use stack::{FailoverService, FailoverStack};
pub use statistics::{RouteStatistics, Statistics, TargetStatistics};
pub use summary::{CacheOutcome, RequestOutcome, RequestSummary};
pub use target::{Dialect, InvalidBaseUrl, InvalidRoute, Provider, Route, Target, TargetId};
pub use telemetry::TelemetryLayer;
pub use timeout::TimeoutLayer;
pub use usage::{Usage, UsageHandle};
pub use variant::{KeyHeader, Variant};

/// The guides' code.
#[cfg(doctest)]
#[doc = include_str!("../docs/own-layer.md")]
struct OwnLayerGuide;

#[cfg(doctest)]
#[doc = include_str!("../docs/routing.md")]
struct RoutingGuide;

#[cfg(all(doctest, feature = "cache"))]
#[doc = include_str!("../docs/cache.md")]
struct CacheGuide;
