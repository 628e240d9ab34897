use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::Full;
use tower_service::Service;

use super::{RecoveryBody, ResponseFuture};
use crate::BoxError;

/// A service whose streams are completed when they break off: see the [module](crate::recovery).
#[derive(Clone, Debug)]
pub struct Recovery<S> {
    inner: S,
    max_body: usize,
}

impl<S> Recovery<S> {
    pub(super) fn new(inner: S, max_body: usize) -> Self {
        Recovery { inner, max_body }
    }
}

impl<S, RequestBody, B> Service<Request<RequestBody>> for Recovery<S>
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>> + Clone,
    RequestBody: Body<Data = Bytes>,
    RequestBody::Error: Into<BoxError>,
{
    type Response = Response<RecoveryBody<S, B>>;
    type Error = S::Error;
    type Future = ResponseFuture<S, RequestBody>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        // A clone is polled when the body is there: readiness that is reserved here would be held by slow uploads.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<RequestBody>) -> Self::Future {
        ResponseFuture::new(request, self.inner.clone(), self.max_body)
    }
}
