use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

use crate::{
    BoxError, Classify, RequestContext, ResponseBody, StatusClassifier,
    circuit_breaker::{CircuitRegistry, ResponseFuture, VerdictBody},
    guard::Guarded,
};

/// A service behind circuits: see the [module](crate::circuit_breaker).
#[derive(Clone, Debug)]
pub struct CircuitBreaker<S, C = StatusClassifier> {
    inner: S,
    circuits: CircuitRegistry,
    classifier: C,
}

impl<S, C> CircuitBreaker<S, C> {
    pub(crate) fn new(inner: S, circuits: CircuitRegistry, classifier: C) -> Self {
        CircuitBreaker { inner, circuits, classifier }
    }
}

impl<S, C, RequestBody, B> Service<Request<RequestBody>> for CircuitBreaker<S, C>
where
    S: Service<Request<RequestBody>, Response = Response<B>>,
    S::Error: 'static,
    C: Classify,
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Response = Response<VerdictBody<ResponseBody<B>>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, C>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<RequestBody>) -> Self::Future {
        let context = RequestContext::of(request.extensions());
        let last_resort = context.is_some_and(RequestContext::is_last_resort);
        match self.circuits.admit(context.and_then(RequestContext::target), last_resort) {
            Ok(permits) => {
                let call = Guarded::called(self.inner.call(request));
                ResponseFuture::new(call, Some(permits), self.classifier.clone())
            }
            Err(refusal) => ResponseFuture::new(Guarded::refused(refusal, &request), None, self.classifier.clone()),
        }
    }
}
