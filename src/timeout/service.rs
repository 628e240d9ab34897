use std::task::{Context, Poll};

use http::{Request, Response};
use tokio::time::Instant;
use tower_service::Service;

use crate::{
    Deadline, RequestContext,
    body::Asker,
    timeout::{ResponseFuture, TimeoutBody, TimeoutLayer},
};

/// A service whose calls may not be silent for too long: see the [module](crate::timeout).
#[derive(Clone, Debug)]
pub struct Timeout<S> {
    inner: S,
    settings: TimeoutLayer,
}

impl<S> Timeout<S> {
    pub(super) fn new(inner: S, settings: TimeoutLayer) -> Self {
        Timeout { inner, settings }
    }

    /// When the response must have come.
    fn head_until(&self, context: Option<&RequestContext>) -> Instant {
        let streaming = context.and_then(RequestContext::outline).is_some_and(|outline| outline.streaming());
        let mut bound = if streaming { self.settings.first_output } else { self.settings.response };
        if let Some(most) = context.and_then(RequestContext::asked).and_then(|asked| asked.max_time_to_first_output) {
            bound = bound.min(most);
        }
        let until = Deadline::after(bound);
        context.and_then(RequestContext::deadline).map_or(until, |deadline| deadline.min(until)).instant()
    }
}

impl<S, RequestBody, B> Service<Request<RequestBody>> for Timeout<S>
where
    S: Service<Request<RequestBody>, Response = Response<B>>,
{
    type Response = Response<TimeoutBody<B>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<RequestBody>) -> Self::Future {
        let context = RequestContext::of(request.extensions());
        let until = self.head_until(context);
        let deadline = context.and_then(RequestContext::deadline);
        let asker = Asker::of(&request);
        ResponseFuture::new(self.inner.call(request), until, deadline, self.settings.idle, asker)
    }
}
