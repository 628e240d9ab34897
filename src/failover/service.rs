use std::{
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::Full;
use tower_service::Service;

use crate::{
    BoxError, Classify, ResponseBody, StatusClassifier,
    failover::{ResponseFuture, layer::Policy},
};

/// A service that walks a route's targets: see the [module](crate::failover).
#[derive(Clone, Debug)]
pub struct Failover<S, C = StatusClassifier> {
    inner: S,
    policy: Arc<Policy>,
    classifier: C,
}

impl<S, C> Failover<S, C> {
    pub(super) fn new(inner: S, policy: Arc<Policy>, classifier: C) -> Self {
        Failover { inner, policy, classifier }
    }

    /// The answer to a request, which needs no service of its own: each attempt has a clone of the inner one.
    pub(crate) fn answer<RequestBody>(&self, request: Request<RequestBody>) -> ResponseFuture<S, RequestBody, C>
    where
        S: Service<Request<Full<Bytes>>> + Clone,
        C: Clone,
        RequestBody: Body<Data = Bytes>,
    {
        ResponseFuture::new(request, self.inner.clone(), self.policy.clone(), self.classifier.clone())
    }
}

impl<S, C, RequestBody, B> Service<Request<RequestBody>> for Failover<S, C>
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>> + Clone,
    S::Error: 'static,
    C: Classify,
    RequestBody: Body<Data = Bytes>,
    RequestBody::Error: Into<BoxError>,
{
    type Response = Response<ResponseBody<B>>;
    type Error = S::Error;
    type Future = ResponseFuture<S, RequestBody, C>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        // Each attempt polls a clone: readiness that is reserved here might never be used.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<RequestBody>) -> Self::Future {
        self.answer(request)
    }
}
