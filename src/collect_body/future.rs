use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response, request::Parts};
use http_body::Body;
use http_body_util::Full;
use pin_project_lite::pin_project;
use tower::util::Oneshot;
use tower_service::Service;

use crate::{
    BoxError, ResponseBody,
    body::{Asker, Collect},
};

pin_project! {
    /// The response of a [`CollectBody`](super::CollectBody).
    pub struct ResponseFuture<S, RequestBody>
    where
        S: Service<Request<Full<Bytes>>>,
    {
        #[pin]
        state: State<S, RequestBody>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S, RequestBody>
    where
        S: Service<Request<Full<Bytes>>>,
    {
        Collecting { #[pin] body: Collect<RequestBody>, request: Option<(Parts, S)>, max_body: usize },
        Called { #[pin] call: Oneshot<S, Request<Full<Bytes>>> },
    }
}

impl<S, RequestBody> ResponseFuture<S, RequestBody>
where
    S: Service<Request<Full<Bytes>>>,
    RequestBody: Body<Data = Bytes>,
{
    pub(super) fn new(request: Request<RequestBody>, service: S, max_body: usize) -> Self {
        let (parts, body) = request.into_parts();
        let body = Collect::new(body, max_body);
        ResponseFuture { state: State::Collecting { body, request: Some((parts, service)), max_body } }
    }
}

impl<S, RequestBody, B> Future for ResponseFuture<S, RequestBody>
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>>,
    RequestBody: Body<Data = Bytes>,
    RequestBody::Error: Into<BoxError>,
{
    type Output = Result<Response<ResponseBody<B>>, S::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let mut this = self.as_mut().project();
            match this.state.as_mut().project() {
                StateProjection::Collecting { body, request, max_body } => {
                    let body = ready!(body.poll(cx));
                    let Some((parts, service)) = request.take() else { return Poll::Pending }; // polled after it was ready
                    match body {
                        Ok(body) => {
                            let call = Oneshot::new(service, Request::from_parts(parts, Full::new(body)));
                            this.state.set(State::Called { call });
                        }
                        Err(error) => {
                            let asker = Asker::new(&parts.headers, parts.extensions.get());
                            return Poll::Ready(Ok(asker.failure(error.into_fault(*max_body))));
                        }
                    }
                }
                StateProjection::Called { call } => {
                    return call.poll(cx).map(|result| result.map(|response| response.map(ResponseBody::inner)));
                }
            }
        }
    }
}

impl<S, RequestBody> fmt::Debug for ResponseFuture<S, RequestBody>
where
    S: Service<Request<Full<Bytes>>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
