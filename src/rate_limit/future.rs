use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::Response;
use pin_project_lite::pin_project;

use crate::{
    ResponseBody,
    guard::Guarded,
    rate_limit::{LimitedBody, registry::Held},
};

pin_project! {
    /// The response of a [`RateLimit`](super::RateLimit).
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        #[pin]
        inner: Guarded<F>,
        held: Held,
    }
}

impl<F> ResponseFuture<F> {
    pub(super) fn new(inner: Guarded<F>, held: Held) -> Self {
        ResponseFuture { inner, held }
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<LimitedBody<ResponseBody<B>>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = ready!(this.inner.poll(cx));
        let held = std::mem::take(this.held);
        Poll::Ready(result.map(|response| response.map(|body| LimitedBody::new(body, held))))
    }
}
