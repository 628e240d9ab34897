//! The end of a stream that broke: said to the client before its connection ends.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::{BoxError, Dialect, Fault, dialect};

pin_project! {
    /// Puts an error event, in the client's dialect, before the unclean end of a stream.
    #[derive(Debug)]
    pub(super) struct TerminatedBody<B> {
        #[pin]
        inner: B,
        dialect: Dialect,
        // Whether the stream is an array instead of events.
        array: bool,
        ending: Ending,
    }
}

#[derive(Debug)]
enum Ending {
    NotYet,
    /// The event is with the server, which writes it to the socket when there is nothing more to be had at once.
    Flush(BoxError),
    Break(BoxError),
    Over,
}

impl<B> TerminatedBody<B> {
    pub(super) fn new(inner: B, dialect: Dialect, array: bool) -> Self {
        TerminatedBody { inner, dialect, array, ending: Ending::NotYet }
    }
}

impl<B> Body for TerminatedBody<B>
where
    B: Body<Data = Bytes, Error = BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.project();
        match std::mem::replace(this.ending, Ending::Over) {
            Ending::NotYet => {}
            Ending::Flush(error) => {
                *this.ending = Ending::Break(error);
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Ending::Break(error) => return Poll::Ready(Some(Err(error))),
            Ending::Over => return Poll::Ready(None),
        }
        *this.ending = Ending::NotYet;
        let sized = this.inner.size_hint().exact().is_some();
        match ready!(this.inner.poll_frame(cx)) {
            Some(Err(error)) if !sized => {
                let fault = Fault::from_error(&*error);
                let event = match *this.array {
                    // An element has come, or there would be nothing to break off.
                    true => [b",\r\n", &*dialect::error_body(*this.dialect, &fault), b"\r\n]"].concat().into(),
                    false => dialect::error_event(*this.dialect, &fault),
                };
                *this.ending = Ending::Flush(error);
                Poll::Ready(Some(Ok(Frame::data(event))))
            }
            frame => Poll::Ready(frame),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self.ending {
            Ending::NotYet => self.inner.is_end_stream(),
            Ending::Flush(_) | Ending::Break(_) => false,
            Ending::Over => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
