//! Completes a stream that breaks off after its beginning has reached the client.
//!
//! ```
//! use tower::ServiceBuilder;
//! use tower_failover::{Dialect, FailoverStack, Provider, RecoveryLayer, Route, Target};
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
//!     .layer(RecoveryLayer::new())
//!     .layer(FailoverStack::new(&route))
//!     .service(http_client);
//! # fn is_a_service<S: tower::Service<http::Request<http_body_util::Full<bytes::Bytes>>>>(_: S) {}
//! # is_a_service(chat);
//! # Ok(()) }
//! ```
//!
//! When an answer breaks off, the service inside (failover) is asked for the rest of it, without the target that failed: with
//! what the client has as the beginning of the assistant's turn (*prefill*), or, where a target takes none, as its turn with
//! an instruction to go on behind it. What comes back is compared before it is passed on:
//!
//! - It goes on where the answer broke off: that is passed on.
//! - It begins anew, or says the last words again: what the client has already is left out.
//! - It begins anew and goes another way, in other letters or other words, or with a preface: the stream ends with the error
//!   that broke it. So it does where it stays in doubt. Text is never doubled and never contradicted.
//!
//! Tool calls are held back until they are whole, so that no half of one is joined with another model's. Structured output is
//! asked for again from its beginning, and passed on only if that is, character by character, what the client has.
//! Reasoning is not told twice. Answers that cannot be told apart or gone on with (several at once, log probabilities, audio,
//! refusals) end with the error. To the client all of it is one answer: one id, one finish reason, one terminal event (set
//! behind an answer that broke between its finish reason and that), one usage (whose tokens are estimated where two answers share
//! them). Both attempts are in the [`AttemptLog`](crate::AttemptLog). An answer
//! that breaks again is gone on with likewise, up to eight times.
//!
//! What it does not do: hold back text. Where no client may ever see an answer end in an error, collect it whole instead, at the cost
//! of the time to its first token.

mod answer;
mod body;
mod future;
mod layer;
mod seam;
mod service;

pub use body::RecoveryBody;
pub use future::ResponseFuture;
pub use layer::RecoveryLayer;
pub use service::Recovery;
