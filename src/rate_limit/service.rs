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
    S: Service<Request<RequestBody>, Response = Response<B>> + Clone,
{
    type Response = Response<LimitedBody<ResponseBody<B>>>;
    type Error = S::Error;
    type Future = ResponseFuture<S, RequestBody>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<RequestBody>) -> Self::Future {
        let context = RequestContext::of(request.extensions());
        match self.limits.take(context) {
            Ok(held) => match self.limits.ask(context) {
                None => ResponseFuture::new(Guarded::called(self.inner.call(request)), held),
                Some(asking) => {
                    // The one that is ready is called, as soon as all replicas have room for it.
                    let clone = self.inner.clone();
                    ResponseFuture::asking(asking, std::mem::replace(&mut self.inner, clone), request, held)
                }
            },
            Err(refusal) => ResponseFuture::new(Guarded::refused(refusal, &request), [None, None]),
        }
    }
}
