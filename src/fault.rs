//! One canonical failure, and the one table that says what each kind of it means.
//!
//! Whatever goes wrong (a refused connection, a 429, an error event inside a 200, a guard of our own that
//! declines) becomes a [`Fault`]. Its [`FaultKind`] has exactly one row in the table behind
//! [`FaultKind::policy`]; failover, retry and the circuit breaker read their defaults there and nowhere else.

use std::{any::Any, borrow::Cow, error::Error, fmt, time::Duration};

use http::StatusCode;

use crate::Refusal;

/// What a failure means for retry, failover and circuits. One row of the fault table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FaultPolicy {
    /// Whether the same target is worth another try.
    pub retry: RetryAdvice,
    /// Whether another target may be tried.
    pub failover: FailoverAdvice,
    /// What the target's circuit breaker makes of it.
    pub circuit: CircuitAdvice,
    /// What is at fault.
    pub scope: FaultScope,
}

/// Whether trying the same target again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RetryAdvice {
    /// Another try may well succeed.
    Yes,
    /// Another try succeeds once `retry_after` is over: worth it only when that is short.
    WhenRetryAfterIsShort,
    /// The same request to the same target fails again.
    No,
}

/// Whether trying another target can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FailoverAdvice {
    /// Another target may answer.
    Yes,
    /// Only a target with a larger (or unknown) context window may answer.
    LargerContextWindow,
    /// The request itself is at fault, unless we translated it: then the translation may be.
    WhenTranslated,
    /// No target would answer differently, or nobody waits for the answer.
    No,
}

/// What a failure says about the health of whoever failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CircuitAdvice {
    /// Counts as a failure.
    Failure,
    /// Opens the circuit at once, for the long opening: waiting seconds will not mend it.
    OpenLong,
    /// The target answered sensibly; it is alive.
    ProvesAlive,
    /// Says nothing: no verdict is recorded.
    Neutral,
}

/// What a failure is to be blamed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultScope {
    /// This model or deployment of the provider.
    Target,
    /// The provider's account or endpoint: every target of it is affected.
    Provider,
    /// Nobody: the call was declined or given up on our side.
    Nobody,
}

macro_rules! fault_kinds {
    ($( $(#[$doc:meta])* $kind:ident $name:literal: $retry:ident, $failover:ident, $circuit:ident, $scope:ident; )*) => {
        /// The kinds of failure. Each has a row in the fault table: see [`FaultKind::policy`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum FaultKind { $( $(#[$doc])* $kind, )* }

        impl FaultKind {
            /// Every kind, in the order of the table.
            pub const ALL: &'static [FaultKind] = &[ $( FaultKind::$kind, )* ];

            /// The kind's stable name, as in configuration files, metrics and error bodies: `"rate_limited"`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $( FaultKind::$kind => $name, )* }
            }

            /// The kind's row in the fault table.
            #[must_use]
            pub const fn policy(self) -> FaultPolicy {
                match self { $( FaultKind::$kind => FaultPolicy {
                    retry: RetryAdvice::$retry,
                    failover: FailoverAdvice::$failover,
                    circuit: CircuitAdvice::$circuit,
                    scope: FaultScope::$scope,
                }, )* }
            }
        }
    };
}

// The fault table. Columns: retry the same target; fail over; circuit; whose fault.
fault_kinds! {
    /// The connection could not be made: the request never left us.
    Connect "connect": Yes, Yes, Failure, Provider;
    /// The request was sent, and the connection ended without an answer.
    ConnectionLost "connection_lost": Yes, Yes, Failure, Target;
    /// Too many requests or tokens for now.
    RateLimited "rate_limited": WhenRetryAfterIsShort, Yes, Failure, Target;
    /// The account's quota or balance is used up.
    QuotaExhausted "quota_exhausted": No, Yes, OpenLong, Provider;
    /// The provider says that it has more work than it can do.
    Overloaded "overloaded": Yes, Yes, Failure, Target;
    /// The provider failed inside (5xx).
    Unavailable "unavailable": Yes, Yes, Failure, Target;
    /// Nothing came in time.
    Timeout "timeout": No, Yes, Failure, Target;
    /// The answer broke off after it had begun.
    StreamInterrupted "stream_interrupted": No, Yes, Failure, Target;
    /// The answer is not what the API promises: truncated, empty, or not JSON at all.
    MalformedResponse "malformed_response": No, Yes, Failure, Target;
    /// The provider does not accept our key.
    AuthFailed "auth_failed": No, Yes, OpenLong, Provider;
    /// The provider knows our key and forbids what it asks.
    PermissionDenied "permission_denied": No, Yes, OpenLong, Provider;
    /// The provider does not have this model or deployment.
    NotFound "not_found": No, Yes, OpenLong, Target;
    /// The request is longer than the model's context window.
    ContextLengthExceeded "context_length_exceeded": No, LargerContextWindow, ProvesAlive, Target;
    /// The target lacks something that the request uses.
    Unsupported "unsupported": No, Yes, ProvesAlive, Target;
    /// The request is wrong.
    BadRequest "bad_request": No, WhenTranslated, ProvesAlive, Target;
    /// The request is too large to be accepted.
    PayloadTooLarge "payload_too_large": No, WhenTranslated, ProvesAlive, Target;
    /// The provider's safety filter declined the request or its answer.
    ContentFiltered "content_filtered": No, No, ProvesAlive, Target;
    /// A layer of ours declined before the wire: see [`Refusal`].
    Refused "refused": No, Yes, Neutral, Nobody;
    /// The caller went away.
    Cancelled "cancelled": No, No, Neutral, Nobody;
}

impl FaultKind {
    /// The kind with that [name](FaultKind::name).
    #[must_use]
    pub fn from_name(name: &str) -> Option<FaultKind> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }

    /// The kind that an HTTP status means when nothing more is known; `None` for a status that is no failure.
    #[must_use]
    pub fn from_status(status: StatusCode) -> Option<FaultKind> {
        Some(match status.as_u16() {
            0..400 => return None,
            401 => FaultKind::AuthFailed,
            402 => FaultKind::QuotaExhausted,
            403 => FaultKind::PermissionDenied,
            404 | 410 => FaultKind::NotFound,
            408 | 499 | 504 | 522 | 524 => FaultKind::Timeout,
            413 => FaultKind::PayloadTooLarge,
            429 => FaultKind::RateLimited,
            498 | 529 => FaultKind::Overloaded,
            400..500 => FaultKind::BadRequest,
            _ => FaultKind::Unavailable,
        })
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One failure, in the form that every layer understands.
///
/// It travels in the extensions of a failed response and, once an answer has begun, as the error of its body.
/// It never holds a credential: what a provider says is redacted before it gets here.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    kind: FaultKind,
    status: Option<StatusCode>,
    code: Option<Box<str>>,
    message: Cow<'static, str>,
    retry_after: Option<Duration>,
    should_retry: Option<bool>,
    refusal: Option<Refusal>,
    circuit: Option<CircuitAdvice>,
    unsent: bool,
    /// Told by an API that is not the client's.
    is_foreign: bool,
    /// The message is a provider's own words.
    is_quoted: bool,
}

impl Fault {
    /// A failure of that kind; `message` is for people and must not hold a secret.
    pub fn new(kind: FaultKind, message: impl Into<Cow<'static, str>>) -> Self {
        Fault {
            kind,
            status: None,
            code: None,
            message: message.into(),
            retry_after: None,
            should_retry: None,
            refusal: None,
            circuit: None,
            unsent: false,
            is_foreign: false,
            is_quoted: false,
        }
    }

    /// Adds the status that the provider answered with.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = Some(status);
        self
    }

    /// Adds the provider's own code or type for the failure, such as `"insufficient_quota"`.
    #[must_use]
    pub fn with_code(mut self, code: impl Into<Box<str>>) -> Self {
        self.code = Some(code.into());
        self
    }

    /// Adds how long the provider asks to be left alone.
    #[must_use]
    pub fn with_retry_after(mut self, retry_after: impl Into<Option<Duration>>) -> Self {
        self.retry_after = retry_after.into();
        self
    }

    /// Says what circuits are to make of this very failure, whatever the table says of its kind: a timeout that the caller
    /// asked for does not tell that a target is ill.
    #[must_use]
    pub fn with_circuit(mut self, circuit: CircuitAdvice) -> Self {
        self.circuit = Some(circuit);
        self
    }

    /// Says the same of more than whom it was said of.
    pub(crate) fn with_message(mut self, message: impl Into<Cow<'static, str>>) -> Self {
        self.message = message.into();
        self
    }

    /// Found before the wire, by whoever was to send the request: says nothing of the target.
    pub(crate) fn unsent(mut self) -> Self {
        self.unsent = true;
        self.with_circuit(CircuitAdvice::Neutral)
    }

    /// Told by an API that is not the client's, whose codes mean nothing there.
    pub(crate) fn foreign(mut self) -> Self {
        self.is_foreign = true;
        self
    }

    /// Told in a provider's own words.
    pub(crate) fn quoted(mut self) -> Self {
        self.is_quoted = true;
        self
    }

    /// Whether the request never left us.
    pub(crate) fn is_unsent(&self) -> bool {
        self.unsent || self.kind == FaultKind::Connect
    }

    /// Adds whether the provider says that the same request is worth another try, as OpenAI and Anthropic do in
    /// `x-should-retry`. For the same target it goes before the fault table's [`RetryAdvice`].
    #[must_use]
    pub fn with_should_retry(mut self, should_retry: impl Into<Option<bool>>) -> Self {
        self.should_retry = should_retry.into();
        self
    }

    /// What kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> FaultKind {
        self.kind
    }

    /// The row of the fault table for its kind, but for what was said of this very failure.
    #[must_use]
    pub fn policy(&self) -> FaultPolicy {
        let policy = self.kind.policy();
        FaultPolicy { circuit: self.circuit.unwrap_or(policy.circuit), ..policy }
    }

    /// The status that the provider answered with, if it answered.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        self.status
    }

    /// The provider's own code or type for the failure.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// What happened, for people.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What happened, for a log: the [message](Self::message), but for what a provider says of the request, in which it may
    /// repeat what its user wrote. What it says of our key, our account or its model's name is told.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        let is_of_the_account = self.kind.policy().circuit == CircuitAdvice::OpenLong;
        (!self.is_quoted || is_of_the_account).then_some(&*self.message)
    }

    /// How long the provider asks to be left alone.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Whether the provider says that the same request is worth another try, if it says so.
    #[must_use]
    pub fn should_retry(&self) -> Option<bool> {
        self.should_retry
    }

    /// Why a layer of ours declined, where it was one.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        self.refusal.as_ref()
    }

    /// The code that a client is told when this is what a request failed of.
    ///
    /// The name of what declined, or the code of a provider that speaks the client's dialect. Of whoever speaks another one
    /// the kind's name, always the same; only a fault of the request keeps what is said of it more closely.
    pub(crate) fn response_code(&self) -> &str {
        /// What providers call each wrong request, and so says nothing of this one.
        const GENERAL: [&str; 3] = ["invalid_request_error", "INVALID_ARGUMENT", "FAILED_PRECONDITION"];
        match (&self.refusal, self.kind, self.code()) {
            (Some(Refusal::Unmet(_)), ..) => "no_capable_target",
            (Some(Refusal::CircuitOpen { .. }), ..) => "circuit_open",
            (Some(Refusal::Drained), ..) => "target_drained",
            (Some(Refusal::LimitReached { .. }), ..) => "limit_reached",
            (Some(Refusal::Declined(_)), ..) => "declined",
            (None, _, Some(code)) if !self.is_foreign => code,
            (None, FaultKind::BadRequest, Some(code)) if !GENERAL.contains(&code) => code,
            (None, kind, _) => kind.name(),
        }
    }

    /// The status that a client is answered with when this is what a request failed of.
    ///
    /// A fault of the request keeps the provider's 4xx. A fault of a target never does: the client's own key and
    /// request were fine.
    #[must_use]
    pub fn response_status(&self) -> StatusCode {
        match self.kind {
            FaultKind::RateLimited | FaultKind::QuotaExhausted => StatusCode::TOO_MANY_REQUESTS,
            FaultKind::Timeout => StatusCode::GATEWAY_TIMEOUT,
            FaultKind::Connect
            | FaultKind::ConnectionLost
            | FaultKind::NotFound
            | FaultKind::AuthFailed
            | FaultKind::PermissionDenied => StatusCode::BAD_GATEWAY,
            FaultKind::ContextLengthExceeded
            | FaultKind::Unsupported
            | FaultKind::BadRequest
            | FaultKind::ContentFiltered => match self.status {
                Some(status) if status.is_client_error() => status,
                _ => StatusCode::BAD_REQUEST,
            },
            FaultKind::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            FaultKind::Overloaded
            | FaultKind::Unavailable
            | FaultKind::StreamInterrupted
            | FaultKind::MalformedResponse
            | FaultKind::Cancelled => StatusCode::SERVICE_UNAVAILABLE,
            FaultKind::Refused => match self.refusal {
                Some(Refusal::Unmet(_)) => StatusCode::BAD_REQUEST,
                Some(Refusal::LimitReached { .. }) => StatusCode::TOO_MANY_REQUESTS,
                Some(Refusal::CircuitOpen { .. } | Refusal::Drained | Refusal::Declined(_)) | None => {
                    StatusCode::SERVICE_UNAVAILABLE
                }
            },
        }
    }

    /// Finds the fault in an error or in its sources: axum and tonic wrap the errors of bodies.
    #[must_use]
    pub fn find<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Fault> {
        chain(error).find_map(|error| error.downcast_ref())
    }

    /// The fault that a transport's error means: [`FaultKind::Connect`] where the request surely never left,
    /// else [`FaultKind::ConnectionLost`].
    ///
    /// Takes any `'static` type, so that layers need not demand `Error` of the services they wrap; an error of
    /// hyper-util's client and a boxed error are looked into.
    #[must_use]
    pub fn from_transport<E: 'static>(error: &E) -> Fault {
        let error = error as &dyn Any;
        if let Some(error) = error.downcast_ref::<hyper_util::client::legacy::Error>() {
            return Fault::from_client(error);
        }
        if let Some(error) = error.downcast_ref::<crate::BoxError>() {
            return Fault::from_error(&**error);
        }
        if let Some(fault) = error.downcast_ref::<Fault>() {
            return fault.clone();
        }
        Fault::new(FaultKind::ConnectionLost, "the upstream service failed")
    }

    /// The fault that an error of a service or body means: the one inside it, or what its sources tell of the
    /// connection.
    #[must_use]
    pub fn from_error(error: &(dyn Error + 'static)) -> Fault {
        for error in chain(error) {
            if let Some(fault) = error.downcast_ref::<Fault>() {
                return fault.clone();
            }
            if let Some(error) = error.downcast_ref::<hyper_util::client::legacy::Error>() {
                return Fault::from_client(error);
            }
        }
        Fault::new(FaultKind::ConnectionLost, format!("connection lost{}", root_cause(error)))
    }

    fn from_client(error: &hyper_util::client::legacy::Error) -> Fault {
        let (kind, what) = if error.is_connect() {
            (FaultKind::Connect, "cannot connect")
        } else {
            (FaultKind::ConnectionLost, "connection lost")
        };
        Fault::new(kind, format!("{what}{}", root_cause(error)))
    }
}

/// An error and its sources, the outermost first.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    // Through one reference only: a reference to an error is an error too, and outlives less.
    std::iter::successors(Some(error), |error| (*error).source())
}

/// `": <the innermost source>"`: the outer errors of an HTTP client only repeat that a request failed.
fn root_cause(error: &(dyn Error + 'static)) -> String {
    chain(error).last().map(|root| format!(": {root}")).unwrap_or_default()
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        let retry_after = refusal.retry_after();
        let mut fault = Fault::new(FaultKind::Refused, refusal.to_string()).with_retry_after(retry_after);
        fault.refusal = Some(refusal);
        fault
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.message)
    }
}

impl Error for Fault {}

/// A set of fault kinds: which of them a policy applies to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FaultKinds(u32);

impl FaultKinds {
    /// None of them.
    pub const NONE: FaultKinds = FaultKinds(0);

    /// Whether the set holds the kind.
    #[must_use]
    pub fn contains(self, kind: FaultKind) -> bool {
        self.0 & (1 << kind as u32) != 0
    }
}

impl FromIterator<FaultKind> for FaultKinds {
    fn from_iter<I: IntoIterator<Item = FaultKind>>(kinds: I) -> Self {
        FaultKinds(kinds.into_iter().fold(0, |set, kind| set | 1 << kind as u32))
    }
}

impl fmt::Debug for FaultKinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(FaultKind::ALL.iter().filter(|kind| self.contains(**kind))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_told_no_code_of_another_api() {
        for (kind, code) in [
            (FaultKind::ContextLengthExceeded, "invalid_request_error"),
            (FaultKind::ContextLengthExceeded, "INVALID_ARGUMENT"),
            (FaultKind::RateLimited, "rate_limit_exceeded"),
            (FaultKind::AuthFailed, "invalid_api_key"),
            (FaultKind::BadRequest, "invalid_request_error"),
        ] {
            let fault = Fault::new(kind, "x").with_code(code);
            assert_eq!(fault.response_code(), code);
            let fault = fault.foreign();
            assert_eq!(fault.response_code(), kind.name(), "{code}");
            assert_eq!(fault.code(), Some(code));
        }
        let wrong = Fault::new(FaultKind::BadRequest, "x").with_code("decimal_above_max_value").foreign();
        assert_eq!(wrong.response_code(), "decimal_above_max_value");
    }

    #[test]
    fn names_are_unique_and_found_again() {
        for kind in FaultKind::ALL {
            assert_eq!(FaultKind::from_name(kind.name()), Some(*kind));
        }
        assert!(FaultKind::ALL.len() < 32, "FaultKinds is a u32");
        assert_eq!(FaultKind::from_name("nonsense"), None);
    }

    #[test]
    fn only_what_the_design_retries_is_retried() {
        let retried: Vec<_> = FaultKind::ALL.iter().filter(|kind| kind.policy().retry != RetryAdvice::No).collect();
        use FaultKind::*;
        assert_eq!(retried, [&Connect, &ConnectionLost, &RateLimited, &Overloaded, &Unavailable]);
    }

    #[test]
    fn statuses_without_more_knowledge() {
        assert_eq!(FaultKind::from_status(StatusCode::OK), None);
        assert_eq!(FaultKind::from_status(StatusCode::FOUND), None);
        assert_eq!(FaultKind::from_status(StatusCode::TOO_MANY_REQUESTS), Some(FaultKind::RateLimited));
        assert_eq!(FaultKind::from_status(StatusCode::IM_A_TEAPOT), Some(FaultKind::BadRequest));
        assert_eq!(FaultKind::from_status(StatusCode::BAD_GATEWAY), Some(FaultKind::Unavailable));
    }

    #[test]
    fn a_wrapped_fault_is_found() {
        #[derive(Debug)]
        struct Wrapper(Fault);
        impl fmt::Display for Wrapper {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("wrapped")
            }
        }
        impl Error for Wrapper {
            fn source(&self) -> Option<&(dyn Error + 'static)> {
                Some(&self.0)
            }
        }
        let fault = Fault::new(FaultKind::Timeout, "silent");
        assert_eq!(Fault::find(&Wrapper(fault.clone())), Some(&fault));
        let boxed: crate::BoxError = Box::new(Wrapper(fault.clone()));
        assert_eq!(Fault::from_transport(&boxed), fault);
    }

    #[test]
    fn sets_hold_what_was_put_in() {
        let set: FaultKinds = [FaultKind::Connect, FaultKind::Cancelled].into_iter().collect();
        assert!(set.contains(FaultKind::Connect) && set.contains(FaultKind::Cancelled));
        assert!(!set.contains(FaultKind::Timeout));
        assert_eq!(format!("{set:?}"), "{Connect, Cancelled}");
    }
}
