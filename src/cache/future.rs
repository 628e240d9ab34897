use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, request::Parts};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};
use tower::util::Oneshot;
use tower_service::Service;

use super::{
    CacheBody,
    control::Control,
    entry::Entry,
    flight::{Arrival, Call, Flights, Recipe, Seat},
    key::KeyedRequest,
    layer::Policy,
    shape::{self, Shape},
    status::{self, Forward},
    store::Asking,
};
use crate::{
    BoxError, CacheOutcome, Deadline, Dialect, Fault, FaultKind, RequestContext, RequestOutcome,
    body::{Asker, Collect},
    dialect,
};

/// How many calls that others made may fail before whoever waited for them is told so.
const MOST_LOST: usize = 3;

pin_project! {
    /// The response of a [`Cache`](super::Cache).
    pub struct ResponseFuture<S, RequestBody>
    where
        S: Service<Request<Full<Bytes>>>,
    {
        #[pin]
        state: State<S, RequestBody>,
        service: S,
        policy: Arc<Policy>,
        flights: Flights<S::Error>,
        asker: Asker,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S, RequestBody>
    where
        S: Service<Request<Full<Bytes>>>,
    {
        Collecting { #[pin] body: Collect<RequestBody>, parts: Option<Parts> },
        // What is not to be kept.
        Passing { #[pin] call: Oneshot<S, Request<Full<Bytes>>> },
        // Somebody else may have kept it. `None` once that is known.
        Asking { asking: Asking, question: Option<Box<Question>> },
        // `None` once it is answered.
        Waiting { seat: Option<Seat<S::Error>>, question: Box<Question>, #[pin] timer: Option<Sleep> },
    }
}

/// A request whose answer may be kept, or be one that was.
struct Question {
    parts: Parts,
    body: Bytes,
    context: RequestContext,
    control: Control,
    recipe: Recipe,
    /// What another replica kept.
    shared: Option<Arc<Entry>>,
    /// An answer that is too old.
    stale: Option<Arc<Entry>>,
    /// How many calls that others made have failed.
    lost: usize,
}

impl<S, RequestBody> ResponseFuture<S, RequestBody>
where
    S: Service<Request<Full<Bytes>>>,
    RequestBody: Body<Data = Bytes>,
{
    pub(super) fn new(
        request: Request<RequestBody>,
        service: S,
        policy: Arc<Policy>,
        flights: Flights<S::Error>,
    ) -> Self {
        let asker = Asker::of(&request);
        let (parts, body) = request.into_parts();
        let state = State::Collecting { body: Collect::new(body, policy.max_body), parts: Some(parts) };
        ResponseFuture { state, service, policy, flights, asker }
    }
}

impl<S, RequestBody, B> Future for ResponseFuture<S, RequestBody>
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send + 'static,
    RequestBody: Body<Data = Bytes>,
    RequestBody::Error: Into<BoxError>,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Output = Result<Response<CacheBody<B>>, S::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let mut this = self.as_mut().project();
            match this.state.as_mut().project() {
                StateProjection::Collecting { body, parts } => {
                    let collected = ready!(body.poll(cx));
                    let Some(parts) = parts.take() else { return Poll::Pending };
                    let body = match collected {
                        Ok(body) => body,
                        Err(error) => {
                            return Poll::Ready(Ok(fail(*this.asker, error.into_fault(this.policy.max_body))));
                        }
                    };
                    let mut question = match Question::prepare(parts, body, this.policy) {
                        Ok(question) => question,
                        Err(request) => {
                            RequestContext::of(request.extensions()).into_iter().for_each(|context| {
                                context.cached(CacheOutcome::Bypass);
                            });
                            let call = Oneshot::new(this.service.clone(), *request);
                            this.state.set(State::Passing { call });
                            continue;
                        }
                    };
                    let asking = match this.policy.store.is_shared() {
                        true => match question.look() {
                            Some(hit) => return Poll::Ready(Ok(hit)),
                            None => question.ask(this.flights),
                        },
                        false => None,
                    };
                    match asking {
                        Some(asking) => {
                            let question = Some(question);
                            this.state.set(State::Asking { asking, question });
                        }
                        None => match question.begin(this.service, this.flights, *this.asker) {
                            Ok(seat) => this.state.set(State::Waiting { seat: Some(seat), question, timer: None }),
                            Err(answer) => return Poll::Ready(Ok(*answer)),
                        },
                    }
                }
                StateProjection::Asking { asking, question } => {
                    let shared = ready!(asking.as_mut().poll(cx));
                    let Some(mut question) = question.take() else { return Poll::Pending };
                    question.shared = shared;
                    match question.begin(this.service, this.flights, *this.asker) {
                        Ok(seat) => this.state.set(State::Waiting { seat: Some(seat), question, timer: None }),
                        Err(answer) => return Poll::Ready(Ok(*answer)),
                    }
                }
                StateProjection::Passing { call } => {
                    let mut response = ready!(call.poll(cx))?;
                    let code = response.status();
                    status::forwarded(response.headers_mut(), Forward::Bypass, code, false);
                    return Poll::Ready(Ok(response.map(|body| CacheBody::passing(crate::ResponseBody::inner(body)))));
                }
                StateProjection::Waiting { seat, question, mut timer } => {
                    let Some(waiting) = seat.as_mut() else { return Poll::Pending };
                    let Poll::Ready(arrival) = waiting.poll_arrival(cx) else {
                        let Some(deadline) = question.context.deadline() else { return Poll::Pending };
                        if timer.is_none() {
                            timer.set(Some(sleep_until(deadline.instant())));
                        }
                        let Some(timer) = timer.as_mut().as_pin_mut() else { return Poll::Pending };
                        ready!(timer.poll(cx));
                        *seat = None;
                        let late = Fault::new(FaultKind::Timeout, "no answer before the deadline");
                        return Poll::Ready(Ok(question.failed(*this.asker, late)));
                    };
                    let is_first = waiting.is_first();
                    match arrival {
                        Arrival::Answered { mut head, length } => {
                            let forward = question.forward();
                            status::forwarded(&mut head.headers, forward, head.status, !is_first);
                            question.context.cached(match is_first {
                                true => forward.outcome(),
                                false => CacheOutcome::Collapsed,
                            });
                            let body = seat.take().map(|seat| CacheBody::shared(seat, length, &question.context));
                            let Some(body) = body else { return Poll::Pending };
                            return Poll::Ready(Ok(Response::from_parts(head, body)));
                        }
                        Arrival::Failed(result) => {
                            *seat = None;
                            if let Some(stale) = question.stale_for(&result) {
                                return Poll::Ready(Ok(stale));
                            }
                            let mut response = result?;
                            let (code, forward) = (response.status(), question.forward());
                            question.context.cached(forward.outcome());
                            status::forwarded(response.headers_mut(), forward, code, false);
                            return Poll::Ready(Ok(response.map(CacheBody::boxed)));
                        }
                        Arrival::Lost(fault) => {
                            *seat = None;
                            question.lost += 1;
                            let is_late = question.context.deadline().is_some_and(Deadline::is_past);
                            let is_enough = question.lost >= MOST_LOST || is_late || question.has_stale();
                            if let Some(fault) = fault.filter(|_| is_enough) {
                                return Poll::Ready(Ok(question.failed(*this.asker, fault)));
                            }
                            match question.enter(this.service, this.flights) {
                                Ok(another) => *seat = Some(another),
                                Err(hit) => return Poll::Ready(Ok(*hit)),
                            }
                        }
                    }
                }
            }
        }
    }
}

impl Question {
    /// The request back, if its answer is not to be kept.
    fn prepare(
        mut parts: Parts,
        body: Bytes,
        policy: &Arc<Policy>,
    ) -> Result<Box<Question>, Box<Request<Full<Bytes>>>> {
        let mut context = parts.extensions.remove::<RequestContext>().unwrap_or_default();
        if let Some(total) = policy.total {
            context = context.with_deadline(Deadline::after(total));
        }
        let control = Control::of(&parts.headers);
        let dialect = context.dialect().or_else(|| Dialect::from_path(parts.uri.path()));
        let mut key = None;
        if let Some(dialect) = dialect.filter(|_| !control.no_store && parts.method == http::Method::POST) {
            // What cannot be read is refused further inside.
            if let Ok(described) = dialect::describe(context.clone(), dialect, parts.uri.path(), &body) {
                context = described;
                let request = KeyedRequest { parts: &parts, body: &body, context: &context, dialect };
                key = policy.key(&request).map(|key| (key, dialect));
            }
        }
        let shape = context.outline().map(|outline| Shape::asked(&parts.uri, outline));
        let (Some((key, dialect)), Some(shape)) = (key, shape) else {
            parts.extensions.insert(context);
            return Err(Box::new(Request::from_parts(parts, Full::new(body))));
        };
        let is_embeddings = parts.uri.path().ends_with("/embeddings");
        let recipe = Recipe { policy: policy.clone(), key, shape, dialect, is_embeddings, context: context.clone() };
        Ok(Box::new(Question { parts, body, context, control, recipe, shared: None, stale: None, lost: 0 }))
    }

    /// An answer that is kept and will do.
    fn look<B>(&mut self) -> Option<Response<CacheBody<B>>> {
        let own = self.recipe.policy.store.get(&self.recipe.key);
        // The store may have had no room for what was heard of.
        let entry = own.into_iter().chain(self.shared.clone()).max_by_key(|entry| entry.stored)?;
        let now = Instant::now();
        if !self.control.accepts(entry.age(now)) {
            return None;
        }
        if !entry.is_fresh(now) {
            self.stale = Some(entry).filter(|entry| entry.is_usable(now));
            return None;
        }
        let mut response = self.tell(&entry)?;
        self.context.cached(CacheOutcome::Hit);
        self.context.saved(entry.worth);
        status::hit(response.headers_mut(), &entry);
        Some(response)
    }

    /// What is kept, in the form that is asked for.
    fn tell<B>(&self, entry: &Entry) -> Option<Response<CacheBody<B>>> {
        let Recipe { dialect, shape, .. } = self.recipe;
        let body = shape::reshaped(dialect, entry.shape, &entry.body, shape)?;
        let mut response = Response::new(CacheBody::kept(body, shape == Shape::Whole));
        *response.status_mut() = entry.status;
        *response.headers_mut() = entry.headers.clone();
        if shape.content_type() != entry.shape.content_type() {
            let kind = http::HeaderValue::from_static(shape.content_type());
            response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
        }
        Some(response)
    }

    fn forward(&self) -> Forward {
        match (&self.stale, self.control.no_cache || self.control.max_age.is_some()) {
            (Some(_), _) => Forward::Stale,
            (None, true) => Forward::Request,
            (None, false) => Forward::Miss,
        }
    }

    /// Asks the other replicas, if there are any, unless the client wants no such answer or somebody calls already.
    fn ask<E>(&self, flights: &Flights<E>) -> Option<Asking> {
        let may_help = self.control.accepts(Duration::ZERO) && !flights.has(&self.recipe.place());
        may_help.then(|| self.recipe.policy.store.ask(self.recipe.key)).flatten()
    }

    /// A place in a call, or the answer for whoever wants none to be made.
    #[allow(clippy::type_complexity)]
    fn begin<S, B>(
        &mut self,
        service: &S,
        flights: &Flights<S::Error>,
        asker: Asker,
    ) -> Result<Seat<S::Error>, Box<Response<CacheBody<B>>>>
    where
        S: Service<Request<Full<Bytes>>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Send + 'static,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        if !self.control.only_if_cached {
            return self.enter(service, flights);
        }
        if let Some(hit) = self.look() {
            return Err(Box::new(hit));
        }
        let fault = Fault::new(FaultKind::Timeout, "no answer to this request is kept");
        let mut response = fail(asker, fault.with_code("only_if_cached").unsent());
        status::only_if_cached(response.headers_mut());
        self.context.cached(CacheOutcome::Miss);
        Err(Box::new(response))
    }

    /// A place in the call for such a request, or an answer that is kept.
    #[allow(clippy::type_complexity)]
    fn enter<S, B>(
        &mut self,
        service: &S,
        flights: &Flights<S::Error>,
    ) -> Result<Seat<S::Error>, Box<Response<CacheBody<B>>>>
    where
        S: Service<Request<Full<Bytes>>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Send + 'static,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        if let Some(hit) = self.look() {
            return Err(Box::new(hit));
        }
        let seat = self.board(service, flights);
        // The call before this one may have ended after the look, and before this one was made.
        match self.look().filter(|_| seat.is_first()) {
            Some(hit) => Err(Box::new(hit)),
            None => Ok(seat),
        }
    }

    /// A place in the call for such a request, which is made if there is none.
    fn board<S, B>(&self, service: &S, flights: &Flights<S::Error>) -> Seat<S::Error>
    where
        S: Service<Request<Full<Bytes>>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Send + 'static,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let call = || -> Call<S::Error> {
            let mut request = Request::from_parts(self.parts.clone(), Full::new(self.body.clone()));
            request.extensions_mut().insert(self.context.clone());
            let call = Oneshot::new(service.clone(), request);
            Box::pin(
                async move { call.await.map(|response| response.map(|body| body.map_err(Into::into).boxed_unsync())) },
            )
        };
        // Who does not want an answer of before does not want one whose call began before, either.
        match self.control.no_cache {
            true => Flights::board_alone(self.recipe.clone(), call()),
            false => flights.board(self.recipe.clone(), call),
        }
    }

    fn has_stale(&self) -> bool {
        self.stale.as_ref().is_some_and(|entry| entry.is_usable(Instant::now()))
    }

    /// An answer that is too old, in the place of a failure.
    fn stale<B>(&self, status: Option<StatusCode>) -> Option<Response<CacheBody<B>>> {
        let entry = self.stale.as_ref().filter(|_| self.has_stale())?;
        let mut response = self.tell(entry)?;
        self.context.cached(CacheOutcome::Stale);
        self.context.saved(entry.worth);
        tracing::info!(age = ?entry.age(Instant::now()), "a stale answer is given, for nobody has a better one");
        status::stale(response.headers_mut(), entry, status);
        Some(response)
    }

    fn stale_for<B, T, E>(&self, result: &Result<Response<T>, E>) -> Option<Response<CacheBody<B>>> {
        let status = result.as_ref().ok().map(Response::status);
        let is_theirs = match result {
            Err(_) => true,
            Ok(response) => match response.extensions().get::<Fault>() {
                Some(fault) => is_theirs(fault),
                None => response.status().is_server_error() || response.status() == StatusCode::TOO_MANY_REQUESTS,
            },
        };
        if is_theirs { self.stale(status) } else { None }
    }

    fn failed<B>(&self, asker: Asker, fault: Fault) -> Response<CacheBody<B>> {
        let status = fault.response_status();
        if let Some(stale) = is_theirs(&fault).then(|| self.stale(Some(status))).flatten() {
            return stale;
        }
        let mut response = fail(asker, fault);
        self.context.cached(self.forward().outcome());
        status::forwarded(response.headers_mut(), self.forward(), status, true);
        response
    }
}

/// Whether it is no fault of the request.
fn is_theirs(fault: &Fault) -> bool {
    RequestOutcome::of(fault) == RequestOutcome::Failed
}

fn fail<B>(asker: Asker, fault: Fault) -> Response<CacheBody<B>> {
    asker.failure(fault).map(CacheBody::passing)
}

impl<S, RequestBody> fmt::Debug for ResponseFuture<S, RequestBody>
where
    S: Service<Request<Full<Bytes>>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
