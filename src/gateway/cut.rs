//! The end of all streams, when a gateway that stops has waited for them long enough.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::access::Slots;
use crate::{BoxError, Fault, FaultKind};

pin_project! {
    /// A stream that breaks off when all streams have to end: within what tells of it, so that it is told as that, and not as
    /// a client that went away.
    #[derive(Debug)]
    pub(super) struct CutBody<B> {
        // `None` when it is cut: what it cost is known before anybody is told.
        #[pin]
        inner: Option<B>,
        // Which says when; none for a body that ends by itself.
        slots: Option<Slots>,
    }
}

impl<B> CutBody<B> {
    pub(super) fn new(inner: B, slots: Option<Slots>) -> Self {
        CutBody { inner: Some(inner), slots }
    }
}

impl<B: Body<Data = Bytes>> Body for CutBody<B>
where
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut this = self.project();
        let Some(inner) = this.inner.as_mut().as_pin_mut() else { return Poll::Ready(None) };
        // What is whole is in our hands already, and sent sooner than broken off.
        if this.slots.as_ref().is_some_and(Slots::are_cut) && inner.size_hint().exact().is_none() {
            this.inner.set(None);
            let stopped =
                Fault::new(FaultKind::StreamInterrupted, "the gateway was stopped before the answer was whole");
            return Poll::Ready(Some(Err(stopped.into())));
        }
        inner.poll_frame(cx).map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(SizeHint::default, Body::size_hint)
    }
}
