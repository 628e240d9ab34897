//! What travels with a request: one pointer in its extensions, through which the layers meet.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use http::{Extensions, HeaderValue};
use tokio::time::Instant;
use tracing::{Span, span::Id};

use crate::{
    Attempt, AttemptLog, CacheOutcome, Dialect, Event, Fault, RequestOutline, Requirements, Target, TargetId, Usage,
    attempt::{AttemptIndex, Outcome, Phase},
    continuation::{Continuation, Form},
    observer::Observers,
    statistics::{Account, Call},
    trace,
    usage::{Worth, Written},
};

/// When a request must have been answered. Retries, failover and timeouts all end there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    /// So long from now.
    #[must_use]
    pub fn after(duration: Duration) -> Self {
        // A century stands for "never": further off, an `Instant` may overflow.
        const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
        Deadline(Instant::now() + duration.min(CENTURY))
    }

    /// The instant.
    #[must_use]
    pub fn instant(self) -> Instant {
        self.0
    }

    /// How long is left; zero once it is past.
    #[must_use]
    pub fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// Whether it is past.
    #[must_use]
    pub fn is_past(self) -> bool {
        self.0 <= Instant::now()
    }
}

/// The context of one request, in its extensions.
///
/// Failover puts one there for each attempt; a program that embeds single layers may do so itself, to name the
/// [`Target`] by which they keep their state, to set a [`Deadline`], or to read the [`AttemptLog`] afterwards: clones
/// share everything but the target.
///
/// ```
/// use std::time::Duration;
/// use tower_failover::{Deadline, RequestContext};
///
/// let context = RequestContext::new().with_deadline(Deadline::after(Duration::from_secs(30)));
/// let mut request = http::Request::new(());
/// request.extensions_mut().insert(context.clone());
/// // … call a service …
/// assert_eq!(context.attempts().sent(), 0);
/// ```
#[derive(Clone, Debug, Default)]
pub struct RequestContext {
    shared: Arc<Shared>,
    target: Option<Target>,
    attempt: Option<AttemptIndex>,
    last_resort: bool,
    form: Form,
    continuation: Option<Arc<Continuation>>,
    excluded: Option<Arc<[TargetId]>>,
}

#[derive(Debug, Default)]
struct Shared {
    observers: OnceLock<Observers>,
    /// Those of a layer further inside.
    inner_observers: OnceLock<Observers>,
    request_id: OnceLock<HeaderValue>,
    /// What the request is for, in OpenTelemetry's words.
    operation: OnceLock<&'static str>,
    /// The span of which those of attempts are parts; found when the first of them begins.
    span: OnceLock<Option<Id>>,
    dialect: OnceLock<Dialect>,
    deadline: OnceLock<Deadline>,
    /// Whether it is a gRPC call: every layer that may give up asks.
    grpc: AtomicU8,
    outline: OnceLock<RequestOutline>,
    /// What the caller needs besides what its body says.
    asked: OnceLock<Box<Requirements>>,
    requirements: OnceLock<Requirements>,
    /// How many tokens its input has, where that was counted.
    #[cfg(feature = "tokenizer")]
    counted: OnceLock<Option<crate::dialect::Counted>>,
    attempts: AttemptLog,
    /// Tells the request from every other one.
    nonce: OnceLock<[u64; 2]>,
    /// What the key that the client sent is called.
    client: OnceLock<Arc<str>>,
    /// Whose kept answers it may be given, where that is not said by the name.
    #[cfg(feature = "cache")]
    tenant: OnceLock<Arc<str>>,
    /// Where it is counted what it costs, besides at its targets.
    accounts: OnceLock<Accounts>,
    /// Where there is a cache: nothing is kept of it otherwise.
    cached: OnceLock<Box<Cached>>,
}

/// Who pays for a request. The gateway says it.
#[cfg_attr(not(feature = "gateway"), allow(dead_code))]
#[derive(Clone, Debug)]
pub(crate) struct Accounts {
    pub(crate) route: Arc<Account>,
    pub(crate) client: Option<Arc<Account>>,
}

/// What a cache did with a request.
#[cfg_attr(not(feature = "cache"), allow(dead_code))]
#[derive(Debug)]
struct Cached {
    outcome: CacheOutcome,
    /// What the answer had cost that it gave again.
    worth: OnceLock<Worth>,
}

impl RequestContext {
    /// An empty context: nothing is known of the request yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The context that a request carries.
    #[must_use]
    pub fn of(extensions: &Extensions) -> Option<&RequestContext> {
        extensions.get()
    }

    /// Says what the client speaks; without it, failover reads it off the path.
    #[must_use]
    pub fn with_dialect(self, dialect: Dialect) -> Self {
        let _ = self.shared.dialect.set(dialect);
        self
    }

    /// Sets when the request must have been answered; a second word does not count.
    #[must_use]
    pub fn with_deadline(self, deadline: Deadline) -> Self {
        let _ = self.shared.deadline.set(deadline);
        self
    }

    /// Says what the request needs beyond what its body shows: tags, languages, a latency budget.
    #[must_use]
    pub fn with_requirements(self, asked: Requirements) -> Self {
        let _ = self.shared.asked.set(Box::new(asked));
        self
    }

    /// Says what the request is called, to the client and in logs: it must hold no secret. A second word does not count.
    ///
    /// Towards providers the client's own `x-request-id` goes on as any other header does; this adds none.
    #[must_use]
    pub fn with_request_id(self, id: HeaderValue) -> Self {
        let _ = self.shared.request_id.set(id);
        self
    }

    /// Says who asks: a name that may stand in logs and metrics, never a key. A second word does not count.
    #[must_use]
    pub fn with_client(self, name: impl Into<Arc<str>>) -> Self {
        let _ = self.shared.client.set(name.into());
        self
    }

    /// Who asks, where that was said: the gateway says which of its keys was sent, by its name.
    #[must_use]
    pub fn client(&self) -> Option<&str> {
        self.shared.client.get().map(|name| &**name)
    }

    /// Says whose kept answers it may be given, where its client's name may be another's tomorrow.
    #[cfg(feature = "gateway")]
    pub(crate) fn with_tenant(self, tenant: Arc<str>) -> Self {
        let _ = self.shared.tenant.set(tenant);
        self
    }

    /// Whose kept answers it may be given.
    #[cfg(feature = "cache")]
    pub(crate) fn tenant(&self) -> Option<&str> {
        self.shared.tenant.get().map(|tenant| &**tenant).or_else(|| self.client())
    }

    /// Says where it is counted what the request costs. A second word does not count.
    #[cfg(feature = "gateway")]
    pub(crate) fn with_accounts(self, accounts: Accounts) -> Self {
        let _ = self.shared.accounts.set(accounts);
        self
    }

    /// Where it is counted what the client spends.
    pub(crate) fn client_account(&self) -> Option<Arc<Account>> {
        self.shared.accounts.get()?.client.clone()
    }

    #[cfg(feature = "cache")]
    fn accounts(&self) -> impl Iterator<Item = &Account> {
        let accounts = self.shared.accounts.get();
        accounts.into_iter().flat_map(|accounts| [Some(&*accounts.route), accounts.client.as_deref()]).flatten()
    }

    /// Records what a cache did with the request. The first word counts.
    #[cfg(feature = "cache")]
    pub(crate) fn cached(&self, outcome: CacheOutcome) {
        if self.shared.cached.set(Box::new(Cached { outcome, worth: OnceLock::new() })).is_ok() {
            let now = Instant::now();
            self.accounts().for_each(|account| account.cached(now, outcome));
        }
    }

    /// Records what the answer had cost that the cache gave again. The first word counts.
    #[cfg(feature = "cache")]
    pub(crate) fn saved(&self, worth: Worth) {
        if self.shared.cached.get().is_some_and(|cached| cached.worth.set(worth).is_ok()) {
            let now = Instant::now();
            self.accounts().for_each(|account| account.saved(now, &worth));
        }
    }

    /// What a cache did with the request, where there is one.
    pub(crate) fn cache_outcome(&self) -> Option<CacheOutcome> {
        self.shared.cached.get().map(|cached| cached.outcome)
    }

    /// What the answer had cost that a cache gave again.
    pub(crate) fn worth(&self) -> Option<Worth> {
        self.shared.cached.get()?.worth.get().copied()
    }

    /// Records what this attempt cost.
    pub(crate) fn spend(&self, usage: Usage) {
        let Some(attempt) = self.attempt() else { return };
        if attempt.spend(usage) {
            let cost = attempt.cost();
            self.observe_routine(|| Event::AttemptSpent { target: self.target.clone(), usage, cost });
        }
    }

    /// Says which target this attempt is for.
    #[must_use]
    pub fn with_target(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }

    /// Says which targets are not to be tried, besides those that it said already: they have had their chance, say.
    #[must_use]
    pub fn excluding(mut self, targets: impl IntoIterator<Item = TargetId>) -> Self {
        let excluded = self.excluded.iter().flat_map(|excluded| excluded.iter().cloned());
        self.excluded = Some(excluded.chain(targets).collect());
        self
    }

    /// Whether that target is not to be tried.
    #[must_use]
    pub fn excludes(&self, target: &TargetId) -> bool {
        self.excluded.as_ref().is_some_and(|excluded| excluded.contains(target))
    }

    /// Makes this the context of a request for the rest of an answer that broke off.
    pub(crate) fn continuing(mut self, continuation: Continuation) -> Self {
        self.continuation = Some(Arc::new(continuation));
        self
    }

    /// What of an answer the request asks the rest of; `None` where it asks for a whole one.
    pub(crate) fn continuation(&self) -> Option<&Continuation> {
        self.continuation.as_deref()
    }

    /// Who is told what becomes of the request: those of an outermost layer, and of one further inside. A third word does
    /// not count.
    pub(crate) fn tell(&self, observers: &Observers) {
        if observers.is_empty() {
            return;
        }
        if let Err(observers) = self.shared.observers.set(observers.clone()) {
            // A request that is asked again, for the rest of an answer, passes the same layer again.
            if self.shared.observers.get().is_some_and(|outer| !outer.are(&observers)) {
                let _ = self.shared.inner_observers.set(observers);
            }
        }
    }

    /// Tells those who want to hear of what goes well, too.
    pub(crate) fn observe_routine(&self, event: impl FnOnce() -> Event) {
        let observers = [&self.shared.observers, &self.shared.inner_observers];
        if observers.into_iter().filter_map(OnceLock::get).any(Observers::want_routine) {
            self.observe(event);
        }
    }

    /// Tells those who are to be told.
    pub(crate) fn observe(&self, event: impl FnOnce() -> Event) {
        let Some(outer) = self.shared.observers.get() else { return };
        match self.shared.inner_observers.get() {
            None => outer.tell(event),
            Some(inner) => {
                let event = event();
                outer.tell(|| event.clone());
                inner.tell(|| event);
            }
        }
    }

    /// Whether anybody is to be told.
    pub(crate) fn is_observed(&self) -> bool {
        self.shared.observers.get().is_some()
    }

    /// Says what the request is for, where somebody listens.
    pub(crate) fn is_for(&self, path: &str) {
        if trace::listens() {
            let operation = trace::operation(self.dialect().or_else(|| Dialect::from_path(path)), path);
            operation.into_iter().for_each(|operation| _ = self.shared.operation.set(operation));
        }
    }

    /// What the request is for, where that was said.
    pub(crate) fn operation(&self) -> Option<&'static str> {
        self.shared.operation.get().copied()
    }

    /// What the request is called, where that was said.
    #[must_use]
    pub fn request_id(&self) -> Option<&str> {
        self.shared.request_id.get()?.to_str().ok()
    }

    pub(crate) fn with_outline(self, outline: RequestOutline) -> Self {
        let _ = self.shared.outline.set(outline);
        self
    }

    /// What the client speaks, where known.
    #[must_use]
    pub fn dialect(&self) -> Option<Dialect> {
        self.shared.dialect.get().copied()
    }

    /// Whether it is a gRPC call, by its headers as whoever asked first had them.
    pub(crate) fn is_grpc(&self, by_headers: impl FnOnce() -> bool) -> bool {
        const UNKNOWN: u8 = 0;
        const NO: u8 = 1;
        const YES: u8 = 2;
        // Whoever asks at the same time finds the same.
        match self.shared.grpc.load(Ordering::Relaxed) {
            UNKNOWN => {
                let is_grpc = by_headers();
                self.shared.grpc.store(if is_grpc { YES } else { NO }, Ordering::Relaxed);
                is_grpc
            }
            known => known == YES,
        }
    }

    /// What tells the request from every other one, the same for all of its attempts.
    pub(crate) fn nonce(&self) -> [u64; 2] {
        *self.shared.nonce.get_or_init(|| [fastrand::u64(..), fastrand::u64(..)])
    }

    /// When the request must have been answered, where there is such a time.
    #[must_use]
    pub fn deadline(&self) -> Option<Deadline> {
        self.shared.deadline.get().copied()
    }

    /// What its body says, where it was scanned.
    #[must_use]
    pub fn outline(&self) -> Option<&RequestOutline> {
        match &self.continuation {
            Some(continuation) => continuation.outline(self.form),
            None => self.shared.outline.get(),
        }
    }

    /// What the request needs: what was [set](Self::set_requirements), or else what its body and its caller say. That is
    /// derived when it is first asked for; `None` where there is nothing to derive it from.
    #[must_use]
    pub fn requirements(&self) -> Option<&Requirements> {
        let (asked, outline) = (self.asked(), self.outline());
        if let (Some(continuation), Some(outline)) = (&self.continuation, outline) {
            // Each of its forms has needs of its own, besides those of what it continues.
            return Some(continuation.requirements(self.form, || {
                let continued =
                    self.shared.requirements.get().map(|needs| Requirements { input_tokens: 0, ..needs.clone() });
                let mut needs = continued.or_else(|| asked.cloned()).unwrap_or_default();
                outline.add_requirements(&mut needs);
                needs
            }));
        }
        if asked.is_none() && outline.is_none() {
            return self.shared.requirements.get();
        }
        Some(self.shared.requirements.get_or_init(|| {
            let mut needs = asked.cloned().unwrap_or_default();
            outline.into_iter().for_each(|outline| outline.add_requirements(&mut needs));
            needs
        }))
    }

    /// Whether the request may need something that not every target has for sure, even one that is capable of everything:
    /// tags, say. What its body needs is not looked at.
    #[must_use]
    pub fn is_particular(&self) -> bool {
        self.asked().is_some() || self.shared.requirements.get().is_some()
    }

    /// What it needs of a target whose tokenizer is known: its input counted, and not estimated. `None` where the estimate has to
    /// do; and where `in_doubt` is said, where that is good enough to tell whether the target's window holds it.
    #[cfg(feature = "tokenizer")]
    pub(crate) fn counted_requirements(&self, target: &Target, in_doubt: bool) -> Option<Requirements> {
        let outline = self.shared.outline.get().filter(|_| self.continuation.is_none())?;
        let window = target.capabilities().context_window();
        if in_doubt && window.is_none_or(|window| outline.surely_fits(window)) {
            return None;
        }
        let needs = self.requirements().filter(|needs| needs.least_input_tokens.is_some())?;
        let model = target.known_model().filter(|model| model.uses_o200k_base())?;
        let count = || outline.count(self.dialect()?);
        let counted = (*self.shared.counted.get_or_init(count))?;
        let (input_tokens, least_input_tokens) = match counted.for_model(model) {
            (counted, true) => (counted, None),
            (counted, false) => (needs.input_tokens.max(counted), needs.least_input_tokens.max(Some(counted))),
        };
        Some(Requirements { input_tokens, least_input_tokens, ..needs.clone() })
    }

    /// Without the tokenizer, every number is an estimate.
    #[cfg(not(feature = "tokenizer"))]
    #[inline]
    pub(crate) fn counted_requirements(&self, _: &Target, _: bool) -> Option<Requirements> {
        None
    }

    /// Whether what it needs was derived already, or said.
    pub(crate) fn has_derived_requirements(&self) -> bool {
        self.shared.requirements.get().is_some()
    }

    /// What its caller needs beyond what its body shows.
    #[must_use]
    pub fn asked(&self) -> Option<&Requirements> {
        self.shared.asked.get().map(|asked| &**asked)
    }

    /// Says what it needs, whatever its body shows; a second word does not count.
    pub fn set_requirements(&self, requirements: Requirements) {
        let _ = self.shared.requirements.set(requirements);
    }

    /// Whom this attempt is for.
    #[must_use]
    pub fn target(&self) -> Option<&Target> {
        self.target.as_ref()
    }

    /// Whether guards should let this attempt pass a circuit that is only transiently open: no other target is
    /// left.
    #[must_use]
    pub fn is_last_resort(&self) -> bool {
        self.last_resort
    }

    /// Everything that was tried.
    #[must_use]
    pub fn attempts(&self) -> &AttemptLog {
        &self.shared.attempts
    }

    /// The entry of the log that this attempt writes to.
    pub(crate) fn attempt(&self) -> Option<&Attempt> {
        self.shared.attempts.get(self.attempt?)
    }

    /// Records that this attempt's request was handed to the wire.
    pub(crate) fn sent(&self) {
        if let Some(attempt) = self.attempt() {
            attempt.reached(Phase::Sent);
        }
    }

    /// Records what broke off the answer of this attempt.
    pub(crate) fn interrupted(&self, fault: &Fault) {
        let is_news = self.attempt().is_some_and(|attempt| attempt.interrupt(fault.clone()));
        if is_news {
            trace::interrupted(self.attempt().map(Attempt::span), self.target(), fault);
            self.observe(|| Event::Interrupted { target: self.target.clone(), fault: fault.clone() });
        }
    }

    /// The context of another target's attempt, with its own entry in the log.
    pub(crate) fn attempt_for(&self, target: Target, last_resort: bool, form: Form, call: Option<Call>) -> Self {
        let attempt = Some(self.start(Some(&target), last_resort, call));
        RequestContext {
            shared: self.shared.clone(),
            target: Some(target),
            attempt,
            last_resort,
            form,
            continuation: self.continuation.clone(),
            excluded: None,
        }
    }

    /// Records why a target is not tried in its turn. It may be tried later.
    pub(crate) fn passed_over(&self, target: &Target, why: Fault) {
        AttemptGuard::new(self.attempt_for(target.clone(), false, self.form, None)).end(Outcome::Refused(why));
    }

    /// The context of another try of the same target, with its own entry in the log.
    pub(crate) fn another_try(&self) -> Self {
        let call = self.attempt().and_then(Attempt::call).and_then(Call::again);
        RequestContext { attempt: Some(self.start(self.target.as_ref(), self.last_resort, call)), ..self.clone() }
    }

    fn start(&self, target: Option<&Target>, last_resort: bool, call: Option<Call>) -> AttemptIndex {
        self.observe_routine(|| Event::AttemptStarted { target: target.cloned() });
        let span = if trace::listens() { self.attempt_span(target, last_resort) } else { Span::none() };
        self.shared.attempts.start(target.cloned(), call, span)
    }

    #[cold]
    fn attempt_span(&self, target: Option<&Target>, last_resort: bool) -> Span {
        let asked = self.outline().and_then(RequestOutline::model);
        trace::attempt(&trace::Beginning {
            number: self.attempts().iter().count() + 1,
            target,
            operation: self.operation(),
            asked: asked.as_deref(),
            streaming: self.outline().is_some_and(RequestOutline::streaming),
            last_resort,
            parent: self.shared.span.get_or_init(|| Span::current().id()).clone(),
        })
    }

    fn end(&self, outcome: Outcome) {
        let Some(attempt) = self.attempt() else { return };
        if !attempt.end(outcome) {
            return;
        }
        if trace::listens() {
            let place = self.attempt.unwrap_or_default();
            let before = place.checked_sub(1).and_then(|before| self.shared.attempts.get(before));
            trace::ended(place + 1, attempt, before.and_then(Attempt::latency));
        }
        let Some(outcome) = attempt.outcome().filter(|_| self.is_observed()) else { return };
        self.observe_routine(|| Event::AttemptEnded {
            target: self.target.clone(),
            outcome: outcome.clone(),
            latency: attempt.latency().unwrap_or_default(),
        });
    }
}

/// Ends an attempt in the log: as cancelled, if nobody says otherwise before it is dropped.
#[derive(Debug)]
pub(crate) struct AttemptGuard(RequestContext);

impl AttemptGuard {
    pub(crate) fn new(context: RequestContext) -> Self {
        AttemptGuard(context)
    }

    /// The context of the attempt.
    pub(crate) fn context(&self) -> &RequestContext {
        &self.0
    }

    /// Within the attempt's span until what this returns is dropped, where somebody listens.
    pub(crate) fn enter(&self) -> Option<tracing::span::Entered<'_>> {
        if !trace::listens() {
            return None;
        }
        self.0.attempt().map(|attempt| attempt.span().enter())
    }

    pub(crate) fn end(self, outcome: Outcome) {
        self.ended(outcome);
    }

    /// Ends it for whoever still needs its context.
    pub(crate) fn ended(&self, outcome: Outcome) {
        // Another layer may have been first: its word counts, and the clock need not be asked for this one.
        let Some(attempt) = self.0.attempt().filter(|attempt| attempt.outcome().is_none()) else { return };
        if outcome == Outcome::Cancelled && attempt.phase() > Phase::NeverSent {
            // It is paid for all the same, as far as anybody knows.
            let needs = self.0.requirements();
            needs.into_iter().for_each(|needs| self.0.spend(Written::default().estimate(needs.input_tokens)));
        }
        let given_up = outcome == Outcome::Cancelled;
        self.0.end(outcome);
        if given_up && self.0.attempts().unbroken().is_some() {
            // Another one answered before it.
            attempt.wasted();
        }
    }
}

impl Drop for AttemptGuard {
    fn drop(&mut self) {
        self.ended(Outcome::Cancelled);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_on_who_asks_counts() {
        let context = RequestContext::new();
        assert_eq!((context.request_id(), context.client()), (None, None));
        let context = context.with_request_id(HeaderValue::from_static("one")).with_client("team-a");
        let again = context.clone().with_request_id(HeaderValue::from_static("two")).with_client("team-b");
        assert_eq!((again.request_id(), context.client()), (Some("one"), Some("team-a")));
        let strange = HeaderValue::from_bytes(b"\xff").unwrap();
        assert_eq!(RequestContext::new().with_request_id(strange).request_id(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_however_far_off_does_not_overflow() {
        assert!(!Deadline::after(Duration::MAX).is_past());
        let soon = Deadline::after(Duration::from_secs(1));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(soon.is_past());
        assert_eq!(soon.remaining(), Duration::ZERO);
    }

    #[test]
    fn attempts_share_everything_but_their_target() {
        let request = RequestContext::new().with_dialect(Dialect::OpenAiChat);
        let attempt = request.attempt_for(Target::named("a"), false, Form::AsAsked, None);
        let again = attempt.another_try();
        drop(AttemptGuard::new(attempt.clone()));
        AttemptGuard::new(again.clone()).end(Outcome::Answered);
        assert_eq!(again.dialect(), Some(Dialect::OpenAiChat));
        assert_eq!(again.target().unwrap().id().as_str(), "a");
        let outcomes: Vec<_> = request.attempts().iter().map(|attempt| attempt.outcome().unwrap().clone()).collect();
        assert_eq!(outcomes, [Outcome::Cancelled, Outcome::Answered]);
        assert!(request.target().is_none());
    }

    #[test]
    fn each_form_of_a_continuation_has_its_own_needs() {
        let outlined = |messages: &'static str| {
            let body = bytes::Bytes::from(format!(r#"{{"model":"m","max_tokens":9,"messages":[{messages}]}}"#));
            let outline = crate::dialect::outline(Dialect::AnthropicMessages, "/v1/messages", &body).unwrap().unwrap();
            (body, outline)
        };
        let (_, asked) = outlined(r#"{"role":"user","content":"A question of some length?"}"#);
        let request = RequestContext::new().with_dialect(Dialect::AnthropicMessages).with_outline(asked);
        let before = request.requirements().unwrap().clone();
        let prefill = outlined(r#"{"role":"user","content":"?"},{"role":"assistant","content":"So"}"#);
        let instruction = outlined(
            r#"{"role":"user","content":"?"},{"role":"assistant","content":"So"},{"role":"user","content":"Go on."}"#,
        );
        let some = |(body, outline)| (body, Some(outline));
        let context = request.clone().continuing(Continuation::new(some(prefill), Some(some(instruction))));
        let needs = |form| context.attempt_for(Target::named("a"), false, form, None).requirements().unwrap().clone();
        let (begun, instructed) = (needs(Form::AsAsked), needs(Form::Instructed));
        assert!(begun.features.contains(crate::Feature::Prefill));
        assert!(!instructed.features.contains(crate::Feature::Prefill));
        assert!(instructed.input_tokens <= before.input_tokens, "{instructed:?}, {before:?}");
        assert_eq!(request.requirements(), Some(&before));
    }
}
