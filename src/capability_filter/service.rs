use std::task::{Context, Poll};

use http::{Request, Response};
use tower_service::Service;

use crate::{
    Refusal, RequestContext, ResponseBody,
    capability_filter::{ResponseFuture, glance},
    guard::Guarded,
};

/// A service that is spared what its targets cannot serve: see the [module](crate::capability_filter).
#[derive(Clone, Debug)]
pub struct CapabilityFilter<S> {
    inner: S,
}

impl<S> CapabilityFilter<S> {
    pub(super) fn new(inner: S) -> Self {
        CapabilityFilter { inner }
    }
}

fn refusal(context: &RequestContext) -> Option<Refusal> {
    let target = context.target()?;
    let client = context.dialect();
    let translated =
        target.provider().is_some_and(|provider| client.is_some_and(|client| client != provider.dialect()));
    if target.capabilities().is_unrestricted() && !context.is_particular() && !translated {
        return None;
    }
    if !translated && glance::suffices(context, target) {
        return None;
    }
    let needs = context.requirements()?;
    let counted = context.counted_requirements(target, true);
    counted.as_ref().unwrap_or(needs).check_target(target, client).err().map(Refusal::Unmet)
}

impl<S, RequestBody, B> Service<Request<RequestBody>> for CapabilityFilter<S>
where
    S: Service<Request<RequestBody>, Response = Response<B>>,
{
    type Response = Response<ResponseBody<B>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<RequestBody>) -> Self::Future {
        match RequestContext::of(request.extensions()).and_then(refusal) {
            None => ResponseFuture::new(Guarded::called(self.inner.call(request))),
            Some(refusal) => ResponseFuture::new(Guarded::refused(refusal, &request)),
        }
    }
}
