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
use tokio::time::{Sleep, sleep_until};
use tower::util::Oneshot;
use tower_service::Service;

use crate::{
    BoxError, Classify, Deadline, Dialect, Fault, FaultKind, Outcome, RequestContext, ResponseBody,
    body::{Asker, Collect},
    context::AttemptGuard,
    dialect,
    failover::{
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
            attempt: Oneshot<S, Request<Full<Bytes>>>,
            // Over the waits that no layer inside can bound, such as for a client that is not ready.
            #[pin]
            deadline: Option<Sleep>,
            entry: Option<AttemptGuard>,
            walk: Walk,
            request: Collected,
        },
    }
}

/// A request that can be sent again and again.
struct Collected {
    body: Bytes,
    context: RequestContext,
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
                    let walk = Walk::new(this.policy.clone(), &context);
                    let request = Collected { body, context };
                    let first = Next { index: walk.current(), last_resort: false };
                    let (attempt, entry) = request.attempt(first, this.parts, this.service, this.policy);
                    this.state.set(State::Trying { attempt, deadline: None, entry: Some(entry), walk, request });
                }
                StateProjection::Trying { mut attempt, mut deadline, entry, walk, request } => {
                    let Poll::Ready(result) = attempt.as_mut().poll(cx) else {
                        let Some(until) = request.context.deadline() else { return Poll::Pending };
                        if deadline.is_none() {
                            deadline.set(Some(sleep_until(until.instant())));
                        }
                        if let Some(deadline) = deadline.as_pin_mut() {
                            ready!(deadline.poll(cx));
                        }
                        let late = Fault::new(FaultKind::Timeout, "no answer before the deadline");
                        entry.take().into_iter().for_each(|entry| entry.end(Outcome::Failed(late.clone())));
                        return Poll::Ready(Ok(this.asker.failure(walk.out_of_time(late))));
                    };
                    let fault = this.classifier.classify(&result);
                    if let Some(entry) = entry.take() {
                        entry.end(Outcome::of(fault.clone()));
                    }
                    let Some(fault) = fault else {
                        return Poll::Ready(result.map(|response| response.map(ResponseBody::inner)));
                    };
                    let from = walk.current();
                    let in_time = !request.context.deadline().is_some_and(Deadline::is_past);
                    match walk.failed(fault.clone(), in_time) {
                        Step::Try(next) => {
                            // Not kept while others are tried: it may hold a connection.
                            drop(result);
                            report(this.policy, from, next, &fault);
                            let (again, guard) = request.attempt(next, this.parts, this.service, this.policy);
                            *entry = Some(guard);
                            attempt.set(again);
                        }
                        Step::PassOn => return Poll::Ready(result.map(|response| response.map(ResponseBody::inner))),
                        Step::Fail(fault) => return Poll::Ready(Ok(this.asker.failure(fault))),
                    }
                }
            }
        }
    }
}

impl Collected {
    /// Begins the attempt of a target.
    fn attempt<S>(
        &self,
        next: Next,
        parts: &Parts,
        service: &S,
        policy: &Policy,
    ) -> (Oneshot<S, Request<Full<Bytes>>>, AttemptGuard)
    where
        S: Service<Request<Full<Bytes>>> + Clone,
    {
        let target = policy.route.targets()[next.index].clone();
        let context = self.context.attempt_for(target, next.last_resort);
        let entry = AttemptGuard::new(context.clone());
        let mut request = Request::from_parts(parts.clone(), Full::new(self.body.clone()));
        request.extensions_mut().insert(context);
        (Oneshot::new(service.clone(), request), entry)
    }
}

/// Takes the request's context out of its extensions, or makes one, and fills in what was not known before its body.
fn prepare(parts: &mut Parts, body: &Bytes, policy: &Policy) -> Result<RequestContext, Fault> {
    let context = parts.extensions.remove::<RequestContext>().unwrap_or_default();
    let context = context.with_deadline(Deadline::after(policy.total));
    match context.dialect().or_else(|| Dialect::from_path(parts.uri.path())) {
        None => Ok(context),
        Some(dialect) => dialect::describe(context, dialect, body),
    }
}

#[cold]
fn report(policy: &Policy, from: usize, next: Next, fault: &Fault) {
    use crate::CircuitAdvice::OpenLong;
    let [from, to] = [from, next.index].map(|index| policy.route.targets()[index].id());
    let (route, kind, last_resort) = (policy.route.name(), fault.kind().name(), next.last_resort);
    if fault.policy().circuit == OpenLong {
        // Waiting does not mend these: somebody has to look at the key, the balance or the model's name.
        tracing::error!(route, %from, %to, kind, reason = fault.message(), "failover: the target needs attention");
    } else {
        tracing::info!(route, %from, %to, kind, last_resort, reason = fault.message(), "failover");
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
