use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::{BoxError, Fault, circuit_breaker::permit::Permits};

pin_project! {
    /// A body whose end is the verdict on its call: whole, broken off, or (dropped before either) none.
    #[derive(Debug, Default)]
    pub struct VerdictBody<B> {
        #[pin]
        inner: B,
        verdict: Verdict,
    }
}

#[derive(Debug, Default)]
struct Verdict(Option<Permits>);

impl Verdict {
    fn succeed(&mut self) {
        self.0.take().into_iter().for_each(Permits::succeed);
    }

    fn fail(&mut self, fault: &Fault) {
        self.0.take().into_iter().for_each(|permits| permits.fail(fault));
    }
}

impl<B: Body> VerdictBody<B> {
    pub(super) fn new(inner: B, permits: Option<Permits>) -> Self {
        let mut verdict = Verdict(permits);
        // A body that is over before it begins is not polled by every server.
        if inner.is_end_stream() {
            verdict.succeed();
        }
        VerdictBody { inner, verdict }
    }
}

impl<B> Body for VerdictBody<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut this = self.project();
        match ready!(this.inner.as_mut().poll_frame(cx)) {
            Some(Ok(frame)) => {
                // Nor is a body polled again once it has said that it is over.
                if this.inner.is_end_stream() {
                    this.verdict.succeed();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                let error = error.into();
                this.verdict.fail(&Fault::from_error(&*error));
                Poll::Ready(Some(Err(error)))
            }
            None => {
                this.verdict.succeed();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
