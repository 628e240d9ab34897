//! Lets an answer through when it has begun or is whole, and watches it from there on.

mod body;
mod future;
mod supervisor;

pub use body::GuardedBody;
pub use future::StreamGuardFuture;

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderName, Request, Response, response::Parts};
use http_body::Body;
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    Attempt, BoxError, CircuitAdvice, Credentials, Dialect, Fault, FaultKind, Provider, RateLimitsRegistry,
    RequestContext, ResponseBody, Target, Usage,
    body::{Asker, MAX_EVENT},
    credentials::PickedKey,
    provider::FaultRules,
    rate_limits,
    usage::Written,
};

/// Makes sure that what leaves it has begun to answer or is complete: the incoming half of a
/// [`ProviderLayer`](super::ProviderLayer).
///
/// - A stream is held back until its first output (text, a tool call, reasoning). What came before it is then forwarded
///   byte for byte. An error, an end or a cut before it becomes a failed response. With [`Commit::Complete`] it is held back
///   until it is whole, so that this goes for any break.
/// - Afterwards an error event, a cut, a pause without progress, or an end without a finish reason ends the body with the [`Fault`](crate::Fault) as
///   its error, never cleanly. No event waits for the next: only the beginning of one whose end has not come is kept.
/// - An event that cannot be read is a break too, for it may have been a piece of the answer, without which the others would
///   read as all of it. What has no brace (`keep-alive`, nothing at all) is no piece in any dialect: it is left out and
///   reported, and so is anything unreadable, and an error, behind the finish reason: nothing of the answer is missing then,
///   though a client that reads such an error would throw it away. (Usage that such an event tells is in the log.)
/// - An answer in one piece is collected and checked: truncated, empty or HTML is a fault, and so is an error in a 200.
/// - JSON where a stream was asked for is turned into the stream that says the same (some servers know no streams), for a
///   client that expects events cannot read it; unless it is an error, or not all there, which is a fault. Likewise a stream
///   where JSON was asked for, once it is whole.
/// - An answer that is compressed though it was asked not to be is decompressed: gzip and deflate always, Brotli and
///   Zstandard with the features `brotli` and `zstd`.
/// - An error's body is read (up to 64 KiB), classified by the provider's own words, and passed on with the fault.
/// - What the answer cost is in its extensions ([`UsageHandle`](crate::UsageHandle)) and in the [log](crate::Attempt::usage) when it ends; what
///   is left of the provider's limits ([`RateLimits`](crate::RateLimits)) at once.
///
/// # Memory
///
/// Of a stream at most 1 MiB is held before its first output (with [`Commit::Complete`], the longest answer, 32 MiB), and the
/// beginning of one event ([16 MiB](Self::with_max_event)); of an answer in one piece, the longest answer. What is longer is a
/// fault.
#[derive(Clone, Debug)]
pub struct StreamGuardLayer {
    max_answer: usize,
    max_event: usize,
    idle: Duration,
    commit: Commit,
    first_output: Duration,
    rules: FaultRules,
    rate_limits: Option<RateLimitsRegistry>,
}

/// When a stream is let through, and can no longer be answered by another target unseen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Commit {
    /// With its first output.
    #[default]
    FirstOutput,
    /// When it is whole: whatever breaks before is an ordinary failed response. The client waits for all of it, so that a
    /// [`TimeoutLayer`](crate::TimeoutLayer) around this should give the first output as long as a whole answer.
    Complete,
}

impl StreamGuardLayer {
    /// With answers in one piece of up to 32 MiB, and streams that pause for up to 60 s.
    #[must_use]
    pub const fn new() -> Self {
        StreamGuardLayer {
            max_answer: 32 << 20,
            max_event: MAX_EVENT,
            idle: Duration::from_secs(60),
            commit: Commit::FirstOutput,
            first_output: Duration::from_secs(60),
            rules: FaultRules::NONE,
            rate_limits: None,
        }
    }

    /// When a stream is let through. Default: with its first output.
    #[must_use]
    pub const fn with_commit(mut self, commit: Commit) -> Self {
        self.commit = commit;
        self
    }

    /// How many bytes one event of a stream may have; a longer one is a fault. Default: 16 MiB.
    #[must_use]
    pub const fn with_max_event(mut self, bytes: usize) -> Self {
        self.max_event = bytes;
        self
    }

    /// How long a stream that is let through [when it is whole](Commit::Complete) may be without its first output, from when it
    /// is asked for. Default: 60 s. Of one that is let through with that, a timeout around this can see it.
    #[must_use]
    pub const fn with_first_output(mut self, first_output: Duration) -> Self {
        self.first_output = first_output;
        self
    }

    /// Keeps what the providers' headers say of their rate limits where others can read it.
    #[must_use]
    pub fn with_rate_limits(mut self, registry: RateLimitsRegistry) -> Self {
        self.rate_limits = Some(registry);
        self
    }

    /// How many bytes an answer may have that is collected; a longer one is a fault.
    #[must_use]
    pub const fn with_max_answer(mut self, bytes: usize) -> Self {
        self.max_answer = bytes;
        self
    }

    /// How long a stream that has begun may go on without any progress. Keep-alives are none.
    #[must_use]
    pub const fn with_idle(mut self, idle: Duration) -> Self {
        self.idle = idle;
        self
    }

    /// Asks these rules what an error means before those that are built in.
    #[must_use]
    pub fn with_rules(mut self, rules: FaultRules) -> Self {
        self.rules = rules;
        self
    }
}

impl Default for StreamGuardLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for StreamGuardLayer {
    type Service = StreamGuard<S>;

    fn layer(&self, inner: S) -> StreamGuard<S> {
        StreamGuard { inner, settings: Arc::new(self.clone()) }
    }
}

/// A service whose answers have begun or are whole: see [`StreamGuardLayer`].
#[derive(Clone, Debug)]
pub struct StreamGuard<S> {
    inner: S,
    settings: Arc<StreamGuardLayer>,
}

impl<S, RequestBody, B> Service<Request<RequestBody>> for StreamGuard<S>
where
    S: Service<Request<RequestBody>, Response = Response<B>>,
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Response = Response<ResponseBody<GuardedBody<B>>>;
    type Error = S::Error;
    type Future = StreamGuardFuture<S::Future, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<RequestBody>) -> Self::Future {
        let exchange = Exchange::of(&request, self.settings.clone());
        StreamGuardFuture::new(self.inner.call(request), exchange)
    }
}

/// Headers by which a client picks one of a provider's accounts.
static ACCOUNT: [HeaderName; 2] =
    [HeaderName::from_static("openai-organization"), HeaderName::from_static("openai-project")];

/// What the guard knows of the exchange that it watches.
#[derive(Clone, Debug)]
struct Exchange {
    /// Whether the client picked the account.
    chose_account: bool,
    context: Option<RequestContext>,
    /// What the answer is written in; `None` for a call that generates nothing, such as a list of models.
    dialect: Option<Dialect>,
    asker: Asker,
    /// The place of the key that it is made with; `None` where that is one of several, and not known which.
    key: Option<usize>,
    settings: Arc<StreamGuardLayer>,
}

impl Exchange {
    fn of<B>(request: &Request<B>, settings: Arc<StreamGuardLayer>) -> Self {
        let context = RequestContext::of(request.extensions()).cloned();
        let target = context.as_ref().and_then(RequestContext::target);
        let provider_dialect = target.and_then(Target::provider).map(|provider| provider.dialect());
        let asked = Dialect::from_path(request.uri().path());
        let dialect = asked.map(|asked| provider_dialect.unwrap_or(asked));
        let chose_account = ACCOUNT.iter().any(|name| request.headers().contains_key(name));
        let asker = Asker::new(request.headers(), context.as_ref());
        let credentials = target.and_then(Target::provider).map(Provider::credentials);
        let key = match credentials.filter(|credentials| credentials.rotate()) {
            Some(credentials) => request.extensions().get::<PickedKey>().and_then(|key| credentials.place_of(key)),
            None => Some(0),
        };
        Exchange { chose_account, dialect, asker, context, key, settings }
    }

    /// How many answers the client asked for at once.
    fn choices(&self) -> u64 {
        let outline = self.context.as_ref().and_then(RequestContext::outline);
        outline.map_or(1, |outline| outline.choices())
    }

    /// Whether the client asked for a stream.
    fn streaming(&self) -> bool {
        let outline = self.context.as_ref().and_then(RequestContext::outline);
        outline.is_some_and(|outline| outline.streaming())
    }

    /// Whether the client asked for an answer in one piece.
    fn wants_json(&self) -> bool {
        let outline = self.context.as_ref().and_then(RequestContext::outline);
        outline.is_some_and(|outline| !outline.streaming())
    }

    /// Whether the answer is a stream that is let through when it is whole.
    fn is_held_whole(&self) -> bool {
        self.settings.commit == Commit::Complete && self.streaming()
    }

    /// Whether the client asked for a stream that tells its usage.
    fn wants_usage(&self) -> bool {
        let outline = self.context.as_ref().and_then(RequestContext::outline);
        outline.is_some_and(|outline| outline.wants_usage())
    }

    fn attempt(&self) -> Option<&Attempt> {
        self.context.as_ref()?.attempt()
    }

    /// What an answer of that length probably cost.
    fn estimate(&self, written: Written) -> Option<Usage> {
        let needs = self.context.as_ref().and_then(RequestContext::requirements);
        Some(written.estimate(needs.map_or(0, |needs| needs.input_tokens)))
    }

    /// Says in the log what the answer cost.
    fn spend(&self, usage: Usage) {
        self.context.iter().for_each(|context| context.spend(usage));
    }

    /// Keeps what the headers say of the target's limits.
    fn note_rate_limits(&self, parts: &mut Parts) {
        let Some(limits) = rate_limits::note(&parts.headers, &mut parts.extensions) else { return };
        let target = self.context.as_ref().and_then(RequestContext::target);
        // With which of several keys it was said must be known.
        if let (Some(registry), Some(target), Some(key)) = (&self.settings.rate_limits, target, self.key) {
            registry.record_of(target, key, limits);
        }
    }

    /// The fault, blamed on nobody where the client chose what it is about: its next choice, or another client's, may be fine.
    fn attribute(&self, fault: Fault) -> Fault {
        use FaultKind::{AuthFailed, NotFound, PermissionDenied};
        let target = self.context.as_ref().and_then(RequestContext::target);
        let chose_model = target.is_some_and(|target| target.provider().is_some() && target.model().is_none());
        match fault.kind() {
            // Nothing was to be generated: it is the path that is not there.
            NotFound if self.dialect.is_none() => fault.with_circuit(CircuitAdvice::ProvesAlive),
            NotFound | PermissionDenied if chose_model => fault.with_circuit(CircuitAdvice::ProvesAlive),
            AuthFailed | PermissionDenied if self.chose_account => fault.with_circuit(CircuitAdvice::ProvesAlive),
            _ => fault,
        }
    }

    /// Whose key an echo is redacted of.
    fn credentials(&self) -> Option<&Credentials> {
        Some(self.context.as_ref()?.target()?.provider()?.credentials())
    }
}
