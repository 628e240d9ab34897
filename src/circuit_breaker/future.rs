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
    circuit_breaker::{VerdictBody, circuit::Permit},
    guard::Guarded,
};

pin_project! {
    /// The response of a [`CircuitBreaker`](super::CircuitBreaker).
    #[derive(Debug)]
    pub struct ResponseFuture<F, C> {
        #[pin]
        inner: Guarded<F>,
        // Dropped before its end, the permit says nothing: nobody waited to see how the call would end.
        permit: Option<Permit>,
        classifier: C,
    }
}

impl<F, C> ResponseFuture<F, C> {
    pub(super) fn new(inner: Guarded<F>, permit: Option<Permit>, classifier: C) -> Self {
        ResponseFuture { inner, permit, classifier }
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
        let mut permit = this.permit.take();
        if permit.is_some() {
            match this.classifier.classify(&result) {
                Some(fault) => permit.take().into_iter().for_each(|permit| permit.fail(&fault)),
                None => permit.iter_mut().for_each(Permit::answering),
            }
        }
        Poll::Ready(result.map(|response| response.map(|body| VerdictBody::new(body, permit))))
    }
}
