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
    BoxError, Classify, Fault, ResponseBody,
    body::Asker,
    circuit_breaker::{VerdictBody, circuit::Permit},
};

pin_project! {
    /// The response of a [`CircuitBreaker`](super::CircuitBreaker).
    #[derive(Debug)]
    pub struct ResponseFuture<F, C> {
        #[pin]
        state: State<F, C>,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = StateProjection]
    enum State<F, C> {
        // Dropped before its end, the permit says nothing: nobody waited to see how the call would end.
        Called { #[pin] future: F, permit: Option<Permit>, classifier: C },
        Refused { fault: Option<Box<Fault>>, asker: Asker },
    }
}

impl<F, C> ResponseFuture<F, C> {
    pub(super) fn called(future: F, permit: Permit, classifier: C) -> Self {
        ResponseFuture { state: State::Called { future, permit: Some(permit), classifier } }
    }

    pub(super) fn refused(fault: Fault, asker: Asker) -> Self {
        ResponseFuture { state: State::Refused { fault: Some(Box::new(fault)), asker } }
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
        match self.project().state.project() {
            StateProjection::Called { future, permit, classifier } => {
                let result = ready!(future.poll(cx));
                let mut permit = permit.take();
                if let Some(fault) = classifier.classify(&result) {
                    permit.take().into_iter().for_each(|permit| permit.fail(&fault));
                }
                permit.iter_mut().for_each(Permit::answering);
                Poll::Ready(
                    result.map(|response| response.map(|body| VerdictBody::new(ResponseBody::inner(body), permit))),
                )
            }
            StateProjection::Refused { fault, asker } => match fault.take() {
                Some(fault) => Poll::Ready(Ok(asker.failure(*fault).map(|body| VerdictBody::new(body, None)))),
                None => Poll::Pending, // polled after it was ready
            },
        }
    }
}
