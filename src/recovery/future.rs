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

use super::{RecoveryBody, answer, body::Question};
use crate::{
    BoxError, Dialect, RequestContext, ResponseBody,
    body::{Asker, Collect},
    dialect::{self, recovery::Remedy},
};

pin_project! {
    /// The response of a [`Recovery`](super::Recovery).
    pub struct ResponseFuture<S, RequestBody>
    where
        S: Service<Request<Full<Bytes>>>,
    {
        #[pin]
        state: State<S, RequestBody>,
        service: S,
        asker: Asker,
        max_body: usize,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S, RequestBody>
    where
        S: Service<Request<Full<Bytes>>>,
    {
        Collecting { #[pin] body: Collect<RequestBody>, parts: Option<Parts> },
        Calling { #[pin] call: Oneshot<S, Request<Full<Bytes>>>, question: Option<Box<Question>> },
    }
}

impl<S, RequestBody> ResponseFuture<S, RequestBody>
where
    S: Service<Request<Full<Bytes>>>,
    RequestBody: Body<Data = Bytes>,
{
    pub(super) fn new(request: Request<RequestBody>, service: S, max_body: usize) -> Self {
        let asker = Asker::of(&request);
        let (parts, body) = request.into_parts();
        let state = State::Collecting { body: Collect::new(body, max_body), parts: Some(parts) };
        ResponseFuture { state, service, asker, max_body }
    }
}

impl<S, RequestBody, B> Future for ResponseFuture<S, RequestBody>
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>> + Clone,
    RequestBody: Body<Data = Bytes>,
    RequestBody::Error: Into<BoxError>,
{
    type Output = Result<Response<RecoveryBody<S, B>>, S::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let mut this = self.as_mut().project();
            match this.state.as_mut().project() {
                StateProjection::Collecting { body, parts } => {
                    let collected = ready!(body.poll(cx)).map_err(|error| error.into_fault(*this.max_body));
                    let Some(mut parts) = parts.take() else { return Poll::Pending };
                    let question = collected.and_then(|body| Ok((Question::prepare(&mut parts, &body)?, body)));
                    let (question, body) = match question {
                        Ok(prepared) => prepared,
                        Err(fault) => {
                            let failure: Response<ResponseBody<B>> = this.asker.failure(fault);
                            return Poll::Ready(Ok(failure.map(RecoveryBody::passing)));
                        }
                    };
                    let call = Oneshot::new(this.service.clone(), Request::from_parts(parts, Full::new(body)));
                    this.state.set(State::Calling { call, question });
                }
                StateProjection::Calling { call, question } => {
                    let response = ready!(call.poll(cx))?.map(ResponseBody::inner);
                    let question = question.take().filter(|_| answer::is_stream(&response));
                    return Poll::Ready(Ok(match question {
                        None => response.map(RecoveryBody::passing),
                        Some(question) => {
                            response.map(|body| RecoveryBody::watching(body, this.service.clone(), question))
                        }
                    }));
                }
            }
        }
    }
}

impl Question {
    /// What has to be kept of a request to ask for the rest of its answer; `None` where that is no stream, or not one that can be
    /// gone on with. The request gets a context if it has none.
    fn prepare(parts: &mut Parts, body: &Bytes) -> Result<Option<Box<Question>>, crate::Fault> {
        let context = parts.extensions.remove::<RequestContext>().unwrap_or_default();
        let Some(dialect) = context.dialect().or_else(|| Dialect::from_path(parts.uri.path())) else {
            parts.extensions.insert(context);
            return Ok(None);
        };
        let context = dialect::describe(context, dialect, parts.uri.path(), body)?;
        parts.extensions.insert(context.clone());
        let streaming = context.outline().is_some_and(crate::RequestOutline::streaming);
        let known = streaming && dialect::recovery::remedy(dialect, body) != Remedy::None;
        Ok(known.then(|| Box::new(Question { parts: parts.clone(), body: body.clone(), context, dialect })))
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
