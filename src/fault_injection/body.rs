use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::{BoxError, ResponseBody};

pin_project! {
    /// A body that may be cut: the inner one, or an injected failure's own.
    pub struct InjectedBody<B> {
        #[pin]
        inner: ResponseBody<B>,
        cut: Cut,
    }
}

#[derive(Clone, Copy, Debug)]
enum Cut {
    Never,
    After(u64),
    Happened,
}

impl<B> InjectedBody<B> {
    pub(super) fn new(inner: B, cut: Option<u64>) -> Self {
        InjectedBody { inner: ResponseBody::inner(inner), cut: cut.map_or(Cut::Never, Cut::After) }
    }

    /// A failure of our own: it is all there.
    pub(super) fn over(inner: ResponseBody<B>) -> Self {
        InjectedBody { inner, cut: Cut::Never }
    }
}

impl<B: Default> Default for InjectedBody<B> {
    fn default() -> Self {
        InjectedBody::over(ResponseBody::default())
    }
}

impl<B> fmt::Debug for InjectedBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InjectedBody").field("inner", &self.inner).field("cut", &self.cut).finish()
    }
}

impl<B> Body for InjectedBody<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.project();
        match this.cut {
            Cut::Never => this.inner.poll_frame(cx),
            Cut::Happened => Poll::Ready(None),
            Cut::After(0) => {
                *this.cut = Cut::Happened;
                let error = io::Error::new(io::ErrorKind::ConnectionReset, "injected: the connection was cut");
                Poll::Ready(Some(Err(error.into())))
            }
            Cut::After(left) => {
                let Some(frame) = ready!(this.inner.poll_frame(cx)?) else { return Poll::Ready(None) };
                Poll::Ready(Some(Ok(frame.map_data(|mut data| {
                    data.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= data.len() as u64;
                    data
                }))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self.cut {
            Cut::Never => self.inner.is_end_stream(),
            Cut::Happened => true,
            // The inner one may be at its end just where it is to be cut.
            Cut::After(left) => left > 0 && self.inner.is_end_stream(),
        }
    }

    /// What the whole body has: who cuts a connection does not change the length that was announced.
    fn size_hint(&self) -> SizeHint {
        match self.cut {
            Cut::Happened => SizeHint::with_exact(0),
            _ => self.inner.size_hint(),
        }
    }
}
