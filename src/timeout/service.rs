use std::{
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response};
use tower_service::Service;

use crate::{
    RequestContext,
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

    /// How long the response may take.
    fn head_bound(&self, context: Option<&RequestContext>) -> Duration {
        let streaming = context.and_then(RequestContext::outline).is_some_and(|outline| outline.streaming());
        let mut bound = if streaming { self.settings.first_output } else { self.settings.response };
        if let Some(most) = context.and_then(RequestContext::asked).and_then(|asked| asked.max_time_to_first_output) {
            bound = bound.min(most);
        }
        bound
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
        let bound = self.head_bound(context);
        let deadline = context.and_then(RequestContext::deadline);
        let asker = Asker::of(&request);
        ResponseFuture::new(self.inner.call(request), bound, deadline, self.settings.idle, asker)
    }
}
