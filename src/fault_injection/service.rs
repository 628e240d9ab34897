use std::task::{Context, Poll};

use http::{Request, Response};
use tower_service::Service;

use crate::{
    RequestContext,
    fault_injection::{FaultSwitch, InjectedBody, InjectedFault, ResponseFuture, future::Failure},
};

/// A service whose calls fail when a switch says so: see the [module](crate::fault_injection).
#[derive(Clone, Debug)]
pub struct FaultInjection<S> {
    inner: S,
    switch: FaultSwitch,
}

impl<S> FaultInjection<S> {
    pub(super) fn new(inner: S, switch: FaultSwitch) -> Self {
        FaultInjection { inner, switch }
    }
}

impl<S, RequestBody, B> Service<Request<RequestBody>> for FaultInjection<S>
where
    S: Service<Request<RequestBody>, Response = Response<B>>,
{
    type Response = Response<InjectedBody<B>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<RequestBody>) -> Self::Future {
        if !self.switch.is_on() {
            return ResponseFuture::called(self.inner.call(request), None, None);
        }
        let target = RequestContext::of(request.extensions()).and_then(RequestContext::target);
        match self.switch.decide(target) {
            None => ResponseFuture::called(self.inner.call(request), None, None),
            Some(InjectedFault::Latency(latency)) => {
                ResponseFuture::called(self.inner.call(request), Some(latency), None)
            }
            Some(InjectedFault::Cut { after_bytes }) => {
                ResponseFuture::called(self.inner.call(request), None, Some(after_bytes))
            }
            Some(InjectedFault::Hang) => ResponseFuture::hanging(),
            Some(fault) => ResponseFuture::failed(Failure::new(fault, &request)),
        }
    }
}
