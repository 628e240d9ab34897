use std::{
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response};
use tower_service::Service;

use crate::{
    RequestContext,
    body::Asker,
    timeout::{ResponseFuture, TimeoutBody, TimeoutLayer, future::HeadBound},
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

    /// How long the response may take, and whether that is as long as the settings say.
    fn head_bound(&self, context: Option<&RequestContext>) -> (Duration, bool) {
        let streaming = context.and_then(RequestContext::outline).is_some_and(|outline| outline.streaming());
        if !streaming {
            return (self.settings.response, true);
        }
        let first_output = self.settings.first_output;
        match context.and_then(RequestContext::asked).and_then(|asked| asked.max_time_to_first_output) {
            Some(most) if most < first_output => (most, false),
            _ => (first_output, true),
        }
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
        let (bound, in_full) = self.head_bound(context);
        let deadline = context.and_then(RequestContext::deadline);
        let asker = Asker::of(&request);
        let bound = HeadBound { bound, in_full, deadline };
        ResponseFuture::new(self.inner.call(request), bound, self.settings.idle, asker)
    }
}
