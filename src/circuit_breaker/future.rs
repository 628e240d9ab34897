use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::Response;
use http_body::Body;
use pin_project_lite::pin_project;

use crate::{
    BoxError, Classify, ResponseBody,
    circuit_breaker::{VerdictBody, permit::Permits},
    guard::Guarded,
};

pin_project! {
    /// The response of a [`CircuitBreaker`](super::CircuitBreaker).
    #[derive(Debug)]
    pub struct ResponseFuture<F, C> {
        #[pin]
        inner: Guarded<F>,
        // Dropped before its end, they say nothing: nobody waited to see how the call would end.
        permits: Option<Permits>,
        classifier: C,
    }
}

impl<F, C> ResponseFuture<F, C> {
    pub(super) fn new(inner: Guarded<F>, permits: Option<Permits>, classifier: C) -> Self {
        ResponseFuture { inner, permits, classifier }
    }
}

impl<F, C, B, E> Future for ResponseFuture<F, C>
where
    F: Future<Output = Result<Response<B>, E>>,
    C: Classify,
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
    E: 'static,
{
    type Output = Result<Response<VerdictBody<ResponseBody<B>>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = ready!(this.inner.poll(cx));
        let mut permits = this.permits.take();
        if permits.is_some() {
            match this.classifier.classify(&result) {
                Some(fault) => permits.take().into_iter().for_each(|permits| permits.fail(&fault)),
                None => permits.iter_mut().for_each(Permits::answering),
            }
        }
        Poll::Ready(result.map(|response| response.map(|body| VerdictBody::new(body, permits))))
    }
}
