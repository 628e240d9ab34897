use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::Response;
use pin_project_lite::pin_project;

use crate::{ResponseBody, guard::Guarded};

pin_project! {
    /// The response of a [`CapabilityFilter`](super::CapabilityFilter).
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        #[pin]
        inner: Guarded<F>,
    }
}

impl<F> ResponseFuture<F> {
    pub(super) fn new(inner: Guarded<F>) -> Self {
        ResponseFuture { inner }
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<ResponseBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().inner.poll(cx)
    }
}
