//! Asks targets how they are, besides the calls that clients make. Off unless asked for: what calls meet is what counts, and they
//! tell for nothing.
//!
//! A check can end an outage early, when traffic is thin or a circuit opened for long. It is told apart what its answer shows:
//!
//! - [`HealthCheckKind::Model`] asks what the provider says of the model, which costs no tokens. An answer shows that the provider is
//!   there and no more: a model that is overloaded is still listed, and so it is to whoever has run out of credit. So it half-opens
//!   the *provider's* circuit, where that opened because it could not be reached; the next call finds out the rest.
//! - [`HealthCheckKind::Completion`] has the model say a few words, of at most 16 tokens, or give an embedding. An answer shows that calls
//!   are answered: it closes the circuits of the target and of its provider, whatever opened them.
//!
//! A check that fails changes nothing, unless [`open_after`](HealthCheck::with_open_after) says after how many in a row a closed circuit
//! opens. None makes an outage longer. Nobody is asked whose answer would change nothing: a target that is well, without `open_after`,
//! or one that is [drained](crate::circuit_breaker::CircuitRegistry::drain). Finding that a circuit has changed since the check began, it
//! does nothing.
//!
//! Checks go out as calls do, through a [`ProviderLayer`](crate::ProviderLayer) with the credentials that are theirs, but past retry,
//! failover, circuits and limits; they are in nobody's statistics, and in no metric but their own
//! ([`Event::HealthChecked`]).
//!
//! ```no_run
//! use std::time::Duration;
//! use tower_failover::{Dialect, Provider, Target, circuit_breaker::CircuitRegistry, health::{HealthCheck, HealthCheckKind}};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! # let connector = hyper_util::client::legacy::connect::HttpConnector::new();
//! # let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new()).build(connector);
//! let target = Target::new(&Provider::new("local", Dialect::OpenAiChat, "http://10.0.0.7:8000/v1")?, "llama-3.3-70b");
//! // The circuits that the target's calls pass.
//! let circuits = CircuitRegistry::default();
//! let check = HealthCheck::new(HealthCheckKind::Completion).with_interval(Duration::from_secs(20));
//! tokio::spawn(check.watch(target, circuits, client)); // until it is aborted
//! # Ok(()) }
//! ```

mod question;

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::Full;
use tokio::time::{Instant, sleep};
use tower_service::Service;

pub(crate) use self::question::Asked;
use crate::{
    BoxError, Event, Fault, FaultScope, Target,
    circuit_breaker::{CircuitRegistry, Evidence},
};

/// What a check asks, and so what its answer shows: see the [module](self).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum HealthCheckKind {
    /// What the provider says of the model, or its list of models where the target has none of its own. Costs no tokens.
    #[default]
    Model,
    /// A few words of the model. Costs some ten tokens of input and up to 16 of output each time.
    Completion,
}

impl HealthCheckKind {
    /// Its name, as in configuration files: `"model"`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            HealthCheckKind::Model => "model",
            HealthCheckKind::Completion => "completion",
        }
    }
}

/// How a target is asked how it is: see the [module](self).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    kind: HealthCheckKind,
    interval: Duration,
    timeout: Duration,
    open_after: Option<u32>,
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self::new(HealthCheckKind::default())
    }
}

impl HealthCheck {
    /// A check of that kind, every 30 seconds, with 5 seconds to answer in.
    #[must_use]
    pub const fn new(kind: HealthCheckKind) -> Self {
        let (interval, timeout) = (Duration::from_secs(30), Duration::from_secs(5));
        HealthCheck { kind, interval, timeout, open_after: None }
    }

    /// What it asks.
    #[must_use]
    pub const fn with_kind(mut self, kind: HealthCheckKind) -> Self {
        self.kind = kind;
        self
    }

    /// How often, give or take a sixth: many gateways should not ask at once. Counted from the end of the check before, so that
    /// a target is asked once at a time.
    #[must_use]
    pub const fn with_interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// How long an answer may take.
    #[must_use]
    pub const fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// After how many failures in a row a closed circuit opens. Without it checks open none, and a target that is well is not
    /// asked; with it, it is asked all the time. Default: none.
    #[must_use]
    pub const fn with_open_after(mut self, failures: Option<u32>) -> Self {
        self.open_after = failures;
        self
    }

    /// What it asks.
    #[must_use]
    pub const fn kind(&self) -> HealthCheckKind {
        self.kind
    }

    /// How often.
    #[must_use]
    pub const fn interval(&self) -> Duration {
        self.interval
    }

    /// How long an answer may take.
    #[must_use]
    pub const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// After how many failures in a row a closed circuit opens, if it does.
    #[must_use]
    pub const fn open_after(&self) -> Option<u32> {
        self.open_after
    }

    pub(crate) fn asks(&self, target: &Target) -> Asked {
        match self.kind {
            HealthCheckKind::Model => Asked::free_of(target),
            HealthCheckKind::Completion => Asked::of(target),
        }
    }

    /// Asks a target again and again, and tells the circuits that its calls pass. It never ends: spawn it, and abort it when
    /// the target is not used any more. `client` is what calls go to the provider with.
    pub async fn watch<S, B>(self, target: Target, circuits: CircuitRegistry, client: S)
    where
        S: Service<Request<Full<Bytes>>, Response = Response<B>> + Clone,
        S::Error: 'static,
        B: Body<Data = Bytes> + Unpin,
        B::Error: Into<BoxError>,
    {
        let asked = self.asks(&target);
        let evidence = if asked.is_of_model() { Evidence::Model } else { Evidence::Provider };
        let mut failures = 0;
        // Those that begin together do not stay together.
        sleep(self.interval.mul_f64(fastrand::f64())).await;
        loop {
            let checkup = circuits.checkup(&target);
            let is_of_use = self.open_after.is_some() || checkup.would_help(evidence);
            if is_of_use && !checkup.is_drained() {
                let began = Instant::now();
                let fault = asked.ask(&target, client.clone(), self.timeout).await;
                let latency = began.elapsed();
                circuits.tell(|| Event::HealthChecked { target: target.id().clone(), fault: fault.clone(), latency });
                match &fault {
                    None => checkup.passed(evidence),
                    Some(fault) if evidence == Evidence::Provider && is_from_provider(fault) => {
                        checkup.passed(evidence)
                    }
                    Some(_) => {}
                }
                failures = match fault {
                    Some(fault) if checkup.blames(evidence, &fault) => {
                        let is_enough = self.open_after.is_some_and(|most| failures + 1 >= most);
                        is_enough.then(|| checkup.open(evidence, &fault));
                        if is_enough { 0 } else { failures + 1 }
                    }
                    _ => 0,
                };
            }
            sleep(self.interval.mul_f64(5.0 / 6.0 + fastrand::f64() / 3.0)).await;
        }
    }
}

/// Whether somebody at the provider answered, if not what was asked: not every server tells of its models.
fn is_from_provider(fault: &Fault) -> bool {
    fault.status().is_some() && fault.policy().scope != FaultScope::Provider
}

#[cfg(test)]
mod tests;
