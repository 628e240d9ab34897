//! Failover for LLM providers, as a stack of [`tower`] layers over [`http::Request`] services.
//!
//! [`tower`]: https://docs.rs/tower
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

/// The error of bodies: as in `tower` and `axum`.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

mod attempt;
mod body;
pub mod capability_filter;
pub mod circuit_breaker;
mod classify;
#[cfg(feature = "config")]
#[cfg_attr(docsrs, doc(cfg(feature = "config")))]
pub mod config;
mod context;
mod credentials;
pub mod dialect;
pub mod failover;
mod fault;
#[cfg(feature = "gateway")]
#[cfg_attr(docsrs, doc(cfg(feature = "gateway")))]
pub mod gateway;
mod guard;
mod outline;
pub mod provider;
mod refusal;
mod requirements;
pub mod retry;
mod retry_after;
#[cfg(feature = "simulated")]
#[cfg_attr(docsrs, doc(cfg(feature = "simulated")))]
pub mod simulated;
mod stack;
mod target;
pub mod timeout;
mod window;

pub use attempt::{Attempt, AttemptLog, Outcome, Phase};
pub use body::ResponseBody;
pub use classify::{Classify, StatusClassifier};
pub use context::{Deadline, RequestContext};
pub use credentials::{Credentials, InvalidCredentials};
pub use fault::{CircuitAdvice, FailoverAdvice, Fault, FaultKind, FaultKinds, FaultPolicy, FaultScope, RetryAdvice};
pub use outline::RequestOutline;
pub use refusal::Refusal;
pub use requirements::{Abilities, Ability, Capabilities, Need, Requirements, Unmet};
pub use stack::{FailoverService, FailoverStack};
pub use target::{Dialect, InvalidBaseUrl, InvalidRoute, Provider, Route, Target, TargetId};
