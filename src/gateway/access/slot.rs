//! How many requests are served at once, and what each holds until its answer has ended.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::sync::OwnedSemaphorePermit;

use crate::{BoxError, Fault, FaultKind};

/// How many requests are being answered, and whether they may be.
#[derive(Clone, Debug, Default)]
pub(in crate::gateway) struct Slots {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    taken: AtomicUsize,
    cut: AtomicBool,
}

impl Slots {
    /// A place among at most so many, until what is given is dropped.
    pub(in crate::gateway) fn take(&self, most: usize) -> Result<Held, Fault> {
        let before = self.shared.taken.fetch_add(1, Ordering::Relaxed);
        let held = Held { slots: self.clone(), _call: None };
        match before < most {
            true => Ok(held),
            false => Err(Fault::new(FaultKind::Overloaded, "the gateway serves as many requests as it can")
                .with_code("too_many_requests_at_once")
                .with_retry_after(Duration::from_secs(1))
                .unsent()),
        }
    }

    /// Ends all streams, each when it is polled next.
    pub(in crate::gateway) fn cut(&self) {
        self.shared.cut.store(true, Ordering::Relaxed);
    }

    pub(in crate::gateway) fn are_cut(&self) -> bool {
        self.shared.cut.load(Ordering::Relaxed)
    }
}

/// What a request holds while it is served.
#[derive(Debug)]
pub(in crate::gateway) struct Held {
    slots: Slots,
    /// One of the calls at a time that the client's key allows.
    _call: Option<OwnedSemaphorePermit>,
}

impl Held {
    pub(in crate::gateway) fn and(mut self, call: Option<OwnedSemaphorePermit>) -> Self {
        self._call = call;
        self
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.slots.shared.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

pin_project! {
    /// A body, and what is held until it has ended or is dropped.
    #[derive(Debug)]
    pub(in crate::gateway) struct HeldBody<B> {
        #[pin]
        inner: B,
        held: Option<Held>,
    }
}

impl<B> HeldBody<B> {
    pub(in crate::gateway) fn new(inner: B, held: Option<Held>) -> Self {
        HeldBody { inner, held }
    }
}

impl<B: Body<Data = Bytes, Error = BoxError>> Body for HeldBody<B> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.project();
        let frame = this.inner.poll_frame(cx);
        if let Poll::Ready(None | Some(Err(_))) = &frame {
            *this.held = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_once_it_is_dropped() {
        let slots = Slots::default();
        let (first, second) = (slots.take(2), slots.take(2));
        let refused = slots.take(2).unwrap_err();
        assert_eq!((refused.response_status().as_u16(), refused.retry_after()), (503, Some(Duration::from_secs(1))));
        drop(first);
        let third = slots.take(2);
        assert!(third.is_ok() && slots.take(2).is_err());
        drop((second, third));
        assert_eq!(slots.shared.taken.load(Ordering::Relaxed), 0);
    }
}
