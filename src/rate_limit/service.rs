use std::task::{Context, Poll};

use http::{Request, Response};
use tower_service::Service;

use crate::{
    RequestContext, ResponseBody,
    guard::Guarded,
    rate_limit::{LimitedBody, RateLimitRegistry, ResponseFuture},
};

/// A service that is not asked for more than it may be: see the [module](crate::rate_limit).
#[derive(Clone, Debug)]
pub struct RateLimit<S> {
    inner: S,
    limits: RateLimitRegistry,
}

impl<S> RateLimit<S> {
    pub(super) fn new(inner: S, limits: RateLimitRegistry) -> Self {
        RateLimit { inner, limits }
    }
}

impl<S, RequestBody, B> Service<Request<RequestBody>> for RateLimit<S>
where
    S: Service<Request<RequestBody>, Response = Response<B>>,
{
    type Response = Response<LimitedBody<ResponseBody<B>>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<RequestBody>) -> Self::Future {
        match self.limits.take(RequestContext::of(request.extensions())) {
            Ok(held) => ResponseFuture::new(Guarded::called(self.inner.call(request)), held),
            Err(refusal) => ResponseFuture::new(Guarded::refused(refusal, &request), [None, None]),
        }
    }
}
