use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_service::Service;

use crate::{
    ResponseBody,
    guard::Guarded,
    rate_limit::{
        LimitedBody,
        registry::{Asking, Held},
    },
};

pin_project! {
    /// The response of a [`RateLimit`](super::RateLimit).
    pub struct ResponseFuture<S, RequestBody>
    where
        S: Service<Request<RequestBody>>,
    {
        #[pin]
        state: State<S::Future, S, RequestBody>,
        held: Held,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F, S, RequestBody> {
        Called { #[pin] call: Guarded<F> },
        // `None` once it is called.
        Asking { asking: Asking, waiting: Option<Box<(S, Request<RequestBody>)>> },
    }
}

impl<S, RequestBody> ResponseFuture<S, RequestBody>
where
    S: Service<Request<RequestBody>>,
{
    pub(super) fn new(call: Guarded<S::Future>, held: Held) -> Self {
        ResponseFuture { state: State::Called { call }, held }
    }

    /// The service is called once the others have room for it.
    pub(super) fn asking(asking: Asking, service: S, request: Request<RequestBody>, held: Held) -> Self {
        let waiting = Some(Box::new((service, request)));
        ResponseFuture { state: State::Asking { asking, waiting }, held }
    }
}

impl<S, RequestBody, B> Future for ResponseFuture<S, RequestBody>
where
    S: Service<Request<RequestBody>, Response = Response<B>>,
{
    type Output = Result<Response<LimitedBody<ResponseBody<B>>>, S::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let mut this = self.as_mut().project();
            match this.state.as_mut().project() {
                StateProjection::Called { call } => {
                    let result = ready!(call.poll(cx));
                    let held = std::mem::take(this.held);
                    return Poll::Ready(result.map(|response| response.map(|body| LimitedBody::new(body, held))));
                }
                StateProjection::Asking { asking, waiting } => {
                    let answer = ready!(asking.as_mut().poll(cx));
                    let Some(waiting) = waiting.take() else { return Poll::Pending };
                    let (mut service, request) = *waiting;
                    let call = match answer {
                        Ok(()) => Guarded::called(service.call(request)),
                        Err(refusal) => {
                            *this.held = Held::default();
                            Guarded::refused(refusal, &request)
                        }
                    };
                    this.state.set(State::Called { call });
                }
            }
        }
    }
}

impl<S, RequestBody> fmt::Debug for ResponseFuture<S, RequestBody>
where
    S: Service<Request<RequestBody>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
