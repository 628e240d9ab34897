//! What guards are made of: a call that was let through, or its refusal.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::{Request, Response};
use pin_project_lite::pin_project;

use crate::{Refusal, ResponseBody, body::Asker};

pin_project! {
    /// A call that a guard let through, or refused before the wire: the future of a guard of one's own.
    ///
    /// ```
    /// use std::task::{Context, Poll};
    ///
    /// use http::{Request, Response};
    /// use tower::Service;
    /// use tower_failover::{Guarded, Refusal, RequestContext, ResponseBody};
    ///
    /// /// Lets nothing through to targets that are tagged `paused`.
    /// #[derive(Clone)]
    /// struct SkipPaused<S>(S);
    ///
    /// impl<S, B, R> Service<Request<R>> for SkipPaused<S>
    /// where
    ///     S: Service<Request<R>, Response = Response<B>>,
    /// {
    ///     type Response = Response<ResponseBody<B>>;
    ///     type Error = S::Error;
    ///     type Future = Guarded<S::Future>;
    ///
    ///     fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
    ///         self.0.poll_ready(cx)
    ///     }
    ///
    ///     fn call(&mut self, request: Request<R>) -> Self::Future {
    ///         let target = RequestContext::of(request.extensions()).and_then(RequestContext::target);
    ///         if target.is_some_and(|target| target.tags().contains("paused")) {
    ///             return Guarded::refused(Refusal::Declined("the target is paused".into()), &request);
    ///         }
    ///         Guarded::called(self.0.call(request))
    ///     }
    /// }
    /// ```
    #[derive(Debug)]
    #[must_use = "futures do nothing unless they are polled"]
    pub struct Guarded<F> {
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
    /// The call goes on.
    pub fn called(future: F) -> Self {
        Guarded { state: State::Called { future } }
    }

    /// The call is refused; failover goes on to the next target. Whoever asked is told in its own words: in its dialect, or
    /// as gRPC.
    pub fn refused<B>(refusal: Refusal, request: &Request<B>) -> Self {
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
