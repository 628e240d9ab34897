use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::Full;
use tower_service::Service;

use super::{CacheBody, ResponseFuture, flight::Flights, layer::Policy};
use crate::BoxError;

/// A service that answers again what was answered before: see the [module](crate::cache). Clones share the calls that run.
pub struct Cache<S>
where
    S: Service<Request<Full<Bytes>>>,
{
    inner: S,
    policy: Arc<Policy>,
    flights: Flights<S::Error>,
}

impl<S> Cache<S>
where
    S: Service<Request<Full<Bytes>>>,
{
    pub(super) fn new(inner: S, policy: Arc<Policy>) -> Self {
        Cache { inner, policy, flights: Flights::default() }
    }
}

impl<S> Clone for Cache<S>
where
    S: Service<Request<Full<Bytes>>> + Clone,
{
    fn clone(&self) -> Self {
        Cache { inner: self.inner.clone(), policy: self.policy.clone(), flights: self.flights.clone() }
    }
}

impl<S> fmt::Debug for Cache<S>
where
    S: Service<Request<Full<Bytes>>> + fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("inner", &self.inner).field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl<S, RequestBody, B> Service<Request<RequestBody>> for Cache<S>
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send + 'static,
    RequestBody: Body<Data = Bytes>,
    RequestBody::Error: Into<BoxError>,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<CacheBody<B>>;
    type Error = S::Error;
    type Future = ResponseFuture<S, RequestBody>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        // A clone is polled for what has to be called: readiness that is reserved here might never be used.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<RequestBody>) -> Self::Future {
        ResponseFuture::new(request, self.inner.clone(), self.policy.clone(), self.flights.clone())
    }
}
