//! What the guards share: a call that was let through, or its refusal.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::{Request, Response};
use pin_project_lite::pin_project;

use crate::{Refusal, ResponseBody, body::Asker};

pin_project! {
    /// A call that a guard let through, or refused before the wire.
    #[derive(Debug)]
    pub(crate) struct Guarded<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = StateProjection]
    enum State<F> {
        Called { #[pin] future: F },
        Refused { refusal: Option<Refusal>, asker: Asker },
    }
}

impl<F> Guarded<F> {
    pub(crate) fn called(future: F) -> Self {
        Guarded { state: State::Called { future } }
    }

    pub(crate) fn refused<B>(refusal: Refusal, request: &Request<B>) -> Self {
        Guarded { state: State::Refused { refusal: Some(refusal), asker: Asker::of(request) } }
    }
}

impl<F, B, E> Future for Guarded<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<ResponseBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Called { future } => {
                future.poll(cx).map(|result| result.map(|response| response.map(ResponseBody::inner)))
            }
            StateProjection::Refused { refusal, asker } => match refusal.take() {
                Some(refusal) => Poll::Ready(Ok(asker.failure(refusal.into()))),
                None => Poll::Pending, // polled after it was ready
            },
        }
    }
}
