//! Speaks to a provider: the innermost layer, around an HTTP client.
//!
//! ```no_run
//! use bytes::Bytes;
//! use http::Request;
//! use http_body_util::Full;
//! use hyper_util::{client::legacy::Client, rt::TokioExecutor};
//! use tower::{Layer, ServiceExt};
//! use tower_failover::{Credentials, Dialect, Provider, RequestContext, Target, provider::ProviderLayer};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let key = Credentials::api_key(Dialect::OpenAiChat, std::env::var("OPENAI_API_KEY")?.into())?;
//! let openai = Provider::new("openai", Dialect::OpenAiChat, "https://api.openai.com/v1")?.with_credentials(key);
//! # let connector = hyper_util::client::legacy::connect::HttpConnector::new();
//! let client = Client::builder(TokioExecutor::new()).build(connector); // bring your own TLS
//!
//! let mut request = Request::post("/v1/chat/completions").body(Full::new(Bytes::from_static(
//!     br#"{"model":"any","messages":[{"role":"user","content":"Hello!"}]}"#,
//! )))?;
//! let context = RequestContext::new().with_target(Target::new(&openai, "gpt-4o"));
//! request.extensions_mut().insert(context);
//! let response = ProviderLayer::new().layer(client).oneshot(request).await?;
//! # Ok(()) }
//! ```
//!
//! On the way out ([`Dispatch`]) the request goes to the URL of its [`Target`](crate::Target)'s provider; whatever proves
//! who the *client* is is taken out of it and the provider's own key put in; of the body only `model` changes.
//!
//! On the way back ([`StreamGuard`]) an error becomes a [`Fault`](crate::Fault) by the provider's own words, and an
//! answer is let through only when it has begun (a stream's first output) or is whole (JSON). So the layers outside need
//! to know nothing of streams: an overload that arrives as the first event of a 200 is a failed response like any other.
//!
//! A provider may have several keys ([`Rotate`]): one that it refuses or limits rests, and the next is used at once.
//!
//! Transport errors become failed responses too: above this layer the error is
//! [`Infallible`](std::convert::Infallible). What `http` calls a connection of its own making should not retry by itself
//! (hyper-util: `retry_canceled_requests(false)`), nor follow redirects.

mod classify;
mod dispatch;
mod idempotency;
mod layer;
mod rotate;
mod stream_guard;
mod translate;

pub use classify::{FaultRule, FaultRules};
pub use dispatch::{Dispatch, DispatchFuture, DispatchLayer};
pub use layer::ProviderLayer;
pub use rotate::{Rotate, RotateFuture, RotateLayer};
pub use stream_guard::{Commit, GuardedBody, StreamGuard, StreamGuardFuture, StreamGuardLayer};
#[cfg(feature = "gateway")]
pub(crate) use translate::rehearse;
pub use translate::{Translate, TranslateFuture, TranslateLayer, TranslatedBody};
