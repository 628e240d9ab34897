use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response, request::Parts};
use http_body::Body;
use http_body_util::Full;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};
use tower::util::Oneshot;
use tower_service::Service;

use crate::{
    BoxError, Classify, Deadline, Fault, FaultKind, Outcome, RequestContext, RequestOutline, ResponseBody,
    body::{Asker, Collect},
    context::AttemptGuard,
    dialect,
    failover::{
        Hedge,
        layer::Policy,
        walk::{Next, Step, Walk},
    },
};

pin_project! {
    /// The response of a [`Failover`](super::Failover).
    pub struct ResponseFuture<S, RequestBody, C>
    where
        S: Service<Request<Full<Bytes>>>,
    {
        #[pin]
        state: State<S, RequestBody>,
        service: S,
        policy: Arc<Policy>,
        classifier: C,
        parts: Parts,
        asker: Asker,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S, RequestBody>
    where
        S: Service<Request<Full<Bytes>>>,
    {
        Collecting { #[pin] body: Collect<RequestBody> },
        Trying {
            #[pin]
            lead: Running<S>,
            // For the next hedge; or else over the waits that no layer inside can bound, such as for a client that is
            // not ready.
            #[pin]
            timer: Option<Sleep>,
            race: Race<S>,
        },
    }
}

/// What is tried, beside the lead.
struct Race<S>
where
    S: Service<Request<Full<Bytes>>>,
{
    walk: Walk,
    body: Bytes,
    /// Others that are tried as well: a request that is answered in time allocates none.
    rivals: Vec<Pin<Box<Running<S>>>>,
    /// When the latest attempt began, where there may be another beside it.
    latest: Option<(Instant, Next)>,
    /// A failure that is the answer, unless a rival has a better one.
    held: Option<Result<S::Response, S::Error>>,
}

pin_project! {
    /// An attempt that is on, or was.
    struct Running<S>
    where
        S: Service<Request<Full<Bytes>>>,
    {
        // `None` when it is over.
        #[pin]
        attempt: Option<Oneshot<S, Request<Full<Bytes>>>>,
        next: Next,
        entry: Option<AttemptGuard>,
    }
}

impl<S, RequestBody, C> ResponseFuture<S, RequestBody, C>
where
    S: Service<Request<Full<Bytes>>>,
    RequestBody: Body<Data = Bytes>,
{
    pub(super) fn new(request: Request<RequestBody>, service: S, policy: Arc<Policy>, classifier: C) -> Self {
        let asker = Asker::of(&request);
        let (parts, body) = request.into_parts();
        let state = State::Collecting { body: Collect::new(body, policy.max_body) };
        ResponseFuture { state, service, policy, classifier, parts, asker }
    }
}

impl<S, RequestBody, C, B> Future for ResponseFuture<S, RequestBody, C>
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>> + Clone,
    S::Error: 'static,
    C: Classify,
    RequestBody: Body<Data = Bytes>,
    RequestBody::Error: Into<BoxError>,
{
    type Output = Result<Response<ResponseBody<B>>, S::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let mut this = self.as_mut().project();
            match this.state.as_mut().project() {
                StateProjection::Collecting { body } => {
                    let body = match ready!(body.poll(cx)) {
                        Ok(body) => body,
                        Err(error) => {
                            return Poll::Ready(Ok(this.asker.failure(error.into_fault(this.policy.max_body))));
                        }
                    };
                    let context = match prepare(this.parts, &body, this.policy) {
                        Ok(context) => context,
                        Err(fault) => return Poll::Ready(Ok(this.asker.failure(fault))),
                    };
                    let mut walk = Walk::new(this.policy.clone(), context);
                    let Some(first) = walk.next() else {
                        return Poll::Ready(Ok(this.asker.failure(walk.nobody())));
                    };
                    let mut race = Race { walk, body, rivals: Vec::new(), latest: None, held: None };
                    if let Some(hedge) = &this.policy.hedge {
                        hedge.record_request();
                    }
                    let lead = race.start(first, this.parts, this.service, this.policy);
                    this.state.set(State::Trying { lead, timer: None, race });
                }
                StateProjection::Trying { mut lead, mut timer, race } => {
                    let Some((rival, result)) = race.poll_any(lead.as_mut(), cx) else {
                        let running = usize::from(lead.is_on()) + race.rivals.len();
                        let hedge_at = race.hedge_at(running, this.policy);
                        if hedge_at.is_some_and(|at| at <= Instant::now()) {
                            if let Some(next) = race.hedge(this.policy) {
                                let rival = race.start(next, this.parts, this.service, this.policy);
                                race.rivals.push(Box::pin(rival));
                            }
                            continue;
                        }
                        let until = race.walk.context().deadline().map(Deadline::instant);
                        let Some(at) = hedge_at.into_iter().chain(until).min() else { return Poll::Pending };
                        if timer.as_ref().as_pin_ref().is_none_or(|timer| timer.deadline() != at) {
                            timer.set(Some(sleep_until(at)));
                        }
                        if let Some(timer) = timer.as_mut().as_pin_mut() {
                            ready!(timer.poll(cx));
                        }
                        if until.is_none_or(|until| at < until) {
                            continue;
                        }
                        let late = Fault::new(FaultKind::Timeout, "no answer before the deadline");
                        let fault = race.out_of_time(lead.as_mut(), late);
                        return Poll::Ready(Ok(this.policy.fail(race.walk.context(), *this.asker, fault)));
                    };
                    let fault = this.classifier.classify(&result);
                    let ended = match rival {
                        None => lead.as_mut().end(fault.as_ref()),
                        Some(place) => race.rivals.swap_remove(place).as_mut().end(fault.as_ref()),
                    };
                    let Some(fault) = fault else {
                        this.policy.tell_answered(ended, race.walk.context());
                        // Now, not when whoever waits lets go of this future: a loser costs money while it runs.
                        lead.as_mut().stop();
                        race.rivals.clear();
                        let form = race.walk.context().continuation().map(|_| ended.form);
                        return Poll::Ready(result.map(|mut response| {
                            form.into_iter().for_each(|form| _ = response.extensions_mut().insert(form));
                            response.map(ResponseBody::inner)
                        }));
                    };
                    let others = lead.is_on() || !race.rivals.is_empty();
                    if race.held.is_some() && others {
                        continue;
                    }
                    if let Some(held) = race.held.take() {
                        this.policy.tell_failed(race.walk.context(), &fault);
                        return Poll::Ready(held.map(|response| response.map(ResponseBody::inner)));
                    }
                    let in_time = !race.walk.context().deadline().is_some_and(Deadline::is_past);
                    match race.walk.failed(ended, fault.clone(), in_time, others) {
                        Step::Try(next) => {
                            // Not kept while others are tried: it may hold a connection.
                            drop(result);
                            this.policy.tell_failed_over(race.walk.context(), ended, next, &fault);
                            let again = race.start(next, this.parts, this.service, this.policy);
                            match lead.is_on() {
                                false => lead.set(again),
                                true => race.rivals.push(Box::pin(again)),
                            }
                        }
                        Step::Wait => {}
                        Step::PassOn if others => race.held = Some(result),
                        Step::PassOn => {
                            this.policy.tell_failed(race.walk.context(), &fault);
                            return Poll::Ready(result.map(|response| response.map(ResponseBody::inner)));
                        }
                        Step::Fail(fault) => {
                            return Poll::Ready(Ok(this.policy.fail(race.walk.context(), *this.asker, fault)));
                        }
                    }
                }
            }
        }
    }
}

impl<S> Race<S>
where
    S: Service<Request<Full<Bytes>>>,
{
    /// Begins the attempt of a target.
    fn start(&mut self, next: Next, parts: &Parts, service: &S, policy: &Policy) -> Running<S>
    where
        S: Clone,
    {
        let target = policy.route.targets()[next.index].clone();
        let context = self.walk.context();
        let streaming = || context.outline().is_some_and(RequestOutline::streaming);
        let call = policy
            .statistics
            .as_ref()
            .and_then(|statistics| statistics.call_for(next.index, streaming(), context.client_account()));
        let context = context.attempt_for(target, next.last_resort, next.form, call);
        let body = context.continuation().map_or(&self.body, |continuation| continuation.body(next.form));
        let mut request = Request::from_parts(parts.clone(), Full::new(body.clone()));
        request.extensions_mut().insert(context.clone());
        self.latest = policy.hedge.as_ref().map(|_| (Instant::now(), next));
        let attempt = Some(Oneshot::new(service.clone(), request));
        Running { attempt, next, entry: Some(AttemptGuard::new(context)) }
    }

    /// The first attempt that is over, by its place among the rivals (`None` for the lead), and its result.
    #[allow(clippy::type_complexity)]
    fn poll_any(
        &mut self,
        lead: Pin<&mut Running<S>>,
        cx: &mut Context<'_>,
    ) -> Option<(Option<usize>, Result<S::Response, S::Error>)> {
        if let Poll::Ready(result) = lead.poll(cx) {
            return Some((None, result));
        }
        self.rivals.iter_mut().enumerate().find_map(|(place, rival)| match rival.as_mut().poll(cx) {
            Poll::Ready(result) => Some((Some(place), result)),
            Poll::Pending => None,
        })
    }

    /// When the next target is tried beside those that are slow.
    fn hedge_at(&self, running: usize, policy: &Policy) -> Option<Instant> {
        let (hedge, (since, slow)) = (policy.hedge.as_ref()?, self.latest?);
        if running >= hedge.width() || self.held.is_some() || self.walk.peek().is_none() {
            return None;
        }
        Some(since + hedge.patience(policy.target(slow)))
    }

    /// Takes the target that is to be tried beside those that are slow, if the budget has it.
    fn hedge(&mut self, policy: &Policy) -> Option<Next> {
        // Asked once: what is refused now is not asked for again with every poll.
        let (_, slow) = self.latest.take()?;
        self.walk.peek().filter(|_| policy.hedge.as_ref().is_some_and(Hedge::withdraw))?;
        let next = self.walk.next()?;
        policy.tell_hedged(self.walk.context(), slow, next);
        Some(next)
    }

    /// Gives up on all that are tried.
    fn out_of_time(&mut self, lead: Pin<&mut Running<S>>, late: Fault) -> Fault {
        let lead = lead.is_on().then(|| lead.end(Some(&late)));
        let rivals = self.rivals.drain(..).map(|mut rival| rival.as_mut().end(Some(&late)));
        self.walk.out_of_time(lead.into_iter().chain(rivals), late.clone())
    }
}

impl<S> Running<S>
where
    S: Service<Request<Full<Bytes>>>,
{
    fn is_on(&self) -> bool {
        self.attempt.is_some()
    }

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<S::Response, S::Error>> {
        let this = self.project();
        let Some(attempt) = this.attempt.as_pin_mut() else { return Poll::Pending };
        let _within = this.entry.as_ref().and_then(AttemptGuard::enter);
        attempt.poll(cx)
    }

    /// Records how it ended.
    fn end(self: Pin<&mut Self>, fault: Option<&Fault>) -> Next {
        let mut this = self.project();
        this.attempt.set(None);
        if let Some(entry) = this.entry.take() {
            entry.end(Outcome::of(fault.cloned()));
        }
        *this.next
    }

    /// Gives it up, if it is on.
    fn stop(self: Pin<&mut Self>) {
        let mut this = self.project();
        this.attempt.set(None);
        *this.entry = None;
    }
}

/// Takes the request's context out of its extensions, or makes one, and fills in what was not known before its body.
fn prepare(parts: &mut Parts, body: &Bytes, policy: &Policy) -> Result<RequestContext, Fault> {
    let context = parts.extensions.remove::<RequestContext>().unwrap_or_default();
    let context = context.with_deadline(Deadline::after(policy.total));
    context.tell(&policy.observers);
    context.is_for(parts.uri.path());
    match context.dialect().or_else(|| dialect::of_path(parts.uri.path())) {
        None => Ok(context),
        Some(dialect) => dialect::describe(context, dialect, parts.uri.path(), body),
    }
}

impl<S, RequestBody, C> fmt::Debug for ResponseFuture<S, RequestBody, C>
where
    S: Service<Request<Full<Bytes>>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").field("route", &self.policy.route.name()).finish_non_exhaustive()
    }
}
