//! A body read to its end, up to a bound.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

use bytes::{Bytes, BytesMut};
use http_body::Body;
use http_body_util::Full;
use pin_project_lite::pin_project;

use crate::{BoxError, Fault, FaultKind};

pin_project! {
    /// Reads a body to its end; without a copy or an allocation where it comes in one piece.
    #[derive(Debug)]
    pub(crate) struct Collect<B> {
        #[pin]
        body: B,
        limit: usize,
        first: Bytes,
        rest: BytesMut,
    }
}

/// Why a body could not be collected.
#[derive(Debug)]
pub(crate) enum CollectError {
    /// It is longer than the bound.
    TooLong,
    /// It broke off.
    Body(BoxError),
}

impl CollectError {
    /// What a request fails of whose body this happened to.
    pub(crate) fn into_fault(self, limit: usize) -> Fault {
        let fault = match self {
            CollectError::TooLong => {
                Fault::new(FaultKind::PayloadTooLarge, format!("the request is longer than {limit} bytes"))
            }
            CollectError::Body(error) => match Fault::find(&*error) {
                Some(fault) => fault.clone(),
                None => Fault::new(FaultKind::BadRequest, "the request's body broke off"),
            },
        };
        fault.unsent()
    }
}

/// The bytes of a body that is all there.
pub(crate) fn whole(mut body: Full<Bytes>) -> Bytes {
    // `Full` is ready at once, whoever asks: there is nothing to be woken for.
    match Pin::new(&mut body).poll_frame(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
        _ => Bytes::new(),
    }
}

impl<B: Body<Data = Bytes>> Collect<B> {
    pub(crate) fn new(body: B, limit: usize) -> Self {
        Collect { body, limit, first: Bytes::new(), rest: BytesMut::new() }
    }
}

impl<B> Future for Collect<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Output = Result<Bytes, CollectError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if this.body.size_hint().lower() > *this.limit as u64 {
            return Poll::Ready(Err(CollectError::TooLong));
        }
        loop {
            // A body of one known piece is spared the poll that would only say that it is over.
            let over = this.body.is_end_stream() && !this.first.is_empty();
            let frame = if over { None } else { ready!(this.body.as_mut().poll_frame(cx)) };
            let Some(frame) = frame else {
                let whole = match this.rest.is_empty() {
                    true => std::mem::take(this.first),
                    false => std::mem::take(this.rest).freeze(),
                };
                return Poll::Ready(Ok(whole));
            };
            let frame = frame.map_err(|error| CollectError::Body(error.into()))?;
            let Ok(data) = frame.into_data() else { continue };
            let length = this.first.len().max(this.rest.len());
            if length + data.len() > *this.limit {
                return Poll::Ready(Err(CollectError::TooLong));
            }
            if length == 0 {
                *this.first = data;
            } else {
                if this.rest.is_empty() {
                    this.rest.extend_from_slice(this.first);
                }
                this.rest.extend_from_slice(&data);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::StreamBody;

    fn pieces(pieces: &'static [&'static str]) -> impl Body<Data = Bytes, Error = std::io::Error> {
        let frames = pieces.iter().map(|piece| Ok(http_body::Frame::data(Bytes::from_static(piece.as_bytes()))));
        StreamBody::new(tokio_stream::iter(frames))
    }

    #[tokio::test]
    async fn one_piece_is_not_copied() {
        let piece = Bytes::from_static(b"abc");
        let whole = Collect::new(Full::new(piece.clone()), 3).await.unwrap();
        assert_eq!(whole.as_ptr(), piece.as_ptr());
        assert_eq!(Collect::new(Full::new(Bytes::new()), 3).await.unwrap(), "");
    }

    #[tokio::test]
    async fn pieces_are_put_together_up_to_the_bound() {
        assert_eq!(Collect::new(pieces(&["a", "", "bc", "d"]), 4).await.unwrap(), "abcd");
        assert!(matches!(Collect::new(pieces(&["a", "bc", "d"]), 3).await, Err(CollectError::TooLong)));
        assert!(matches!(Collect::new(Full::new(Bytes::from_static(b"abcd")), 3).await, Err(CollectError::TooLong)));
    }
}
