use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::Response;
use pin_project_lite::pin_project;

use crate::{Classify, Fault, ResponseBody, body::Asker};

pin_project! {
    /// The response of a [`CatchError`](super::CatchError).
    #[derive(Debug)]
    pub struct ResponseFuture<F, C> {
        #[pin]
        state: State<F>,
        asker: Asker,
        classifier: C,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = StateProjection]
    enum State<F> {
        Called { #[pin] future: F },
        Failed { fault: Option<Box<Fault>> },
    }
}

impl<F, C> ResponseFuture<F, C> {
    pub(super) fn called(future: F, asker: Asker, classifier: C) -> Self {
        ResponseFuture { state: State::Called { future }, asker, classifier }
    }

    /// Without a call: for a fault that was known before.
    pub(crate) fn failed(fault: Fault, asker: Asker, classifier: C) -> Self {
        ResponseFuture { state: State::Failed { fault: Some(fault.into()) }, asker, classifier }
    }
}

impl<F, C, B, E> Future for ResponseFuture<F, C>
where
    F: Future<Output = Result<Response<B>, E>>,
    C: Classify,
    E: 'static,
{
    type Output = Result<Response<ResponseBody<B>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let fault = match this.state.project() {
            StateProjection::Called { future } => match ready!(future.poll(cx)) {
                Ok(response) => return Poll::Ready(Ok(response.map(ResponseBody::inner))),
                Err(error) => this.classifier.classify_error(&error),
            },
            StateProjection::Failed { fault } => match fault.take() {
                Some(fault) => *fault,
                None => return Poll::Pending, // polled after it was ready
            },
        };
        Poll::Ready(Ok(this.asker.failure(fault)))
    }
}
