use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::{BoxError, rate_limit::registry::Held};

pin_project! {
    /// A body that counts as a call at a time until it has ended or is dropped.
    #[derive(Debug, Default)]
    pub struct LimitedBody<B> {
        #[pin]
        inner: B,
        held: Held,
    }
}

impl<B> LimitedBody<B> {
    pub(super) fn new(inner: B, held: Held) -> Self {
        LimitedBody { inner, held }
    }
}

impl<B> Body for LimitedBody<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut this = self.project();
        let frame = ready!(this.inner.as_mut().poll_frame(cx));
        // Given back at the end, not when whoever reads the body gets round to dropping it.
        if !matches!(frame, Some(Ok(_))) || this.inner.is_end_stream() {
            *this.held = Held::default();
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
