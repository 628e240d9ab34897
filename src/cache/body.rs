use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use sync_wrapper::SyncWrapper;
use tokio::time::{Sleep, sleep_until};

use super::flight::{BoxBody, Piece, Seat};
use crate::{BoxError, Deadline, Fault, FaultKind, RequestContext, ResponseBody};

pin_project! {
    /// The body of an answer: one that passes, one that several requests read together, or one that was kept.
    pub struct CacheBody<B> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = KindProjection]
    enum Kind<B> {
        Passing { #[pin] body: ResponseBody<B> },
        // Of a call that could have been shared.
        Boxed { body: SyncWrapper<BoxBody>, rest: Option<u64> },
        Shared { reader: Box<dyn Read + Send + Sync> },
        Kept { bytes: Option<Bytes>, sized: bool },
    }
}

impl<B> CacheBody<B> {
    /// A body that passes as it is.
    pub(crate) fn passing(body: ResponseBody<B>) -> Self {
        CacheBody { kind: Kind::Passing { body } }
    }

    pub(super) fn boxed(body: BoxBody) -> Self {
        let rest = body.size_hint().exact();
        CacheBody { kind: Kind::Boxed { body: SyncWrapper::new(body), rest } }
    }

    /// Bytes that were kept. Of a stream it is not said how long it is, as it was not when it ran.
    pub(super) fn kept(bytes: Bytes, sized: bool) -> Self {
        CacheBody { kind: Kind::Kept { bytes: Some(bytes).filter(|bytes| !bytes.is_empty()), sized } }
    }

    pub(super) fn shared<E: Send + 'static>(seat: Seat<E>, length: Option<u64>, context: &RequestContext) -> Self {
        // Whoever asked first is held to its deadline by the layers inside, and pays.
        let (deadline, saver) = match seat.is_first() {
            true => (None, None),
            false => (context.deadline(), Some(context.clone())),
        };
        CacheBody {
            kind: Kind::Shared { reader: Box::new(Reader { seat, rest: length, deadline, timer: None, saver }) },
        }
    }
}

/// Reads from a [`Seat`], whatever the error of its service.
trait Read {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, Fault>>>;
    fn is_over(&self) -> bool;
    /// How many bytes are to come, where that is known.
    fn rest(&self) -> Option<u64>;
}

struct Reader<E> {
    seat: Seat<E>,
    rest: Option<u64>,
    deadline: Option<Deadline>,
    timer: Option<Pin<Box<Sleep>>>,
    /// The context of a request that is answered with the answer to another one, until that is whole.
    saver: Option<RequestContext>,
}

impl<E: Send> Read for Reader<E> {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, Fault>>> {
        if let Poll::Ready(piece) = self.seat.poll_piece(cx) {
            if let (Some(rest), Some(Ok(Piece::Data(data)))) = (&mut self.rest, &piece) {
                *rest = rest.saturating_sub(data.len() as u64);
            }
            if let Some((worth, saver)) = self.saver.as_ref().and_then(|saver| Some((self.seat.worth()?, saver))) {
                saver.saved(worth);
                self.saver = None;
            }
            return Poll::Ready(piece);
        }
        let Some(deadline) = self.deadline else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline.instant())));
        timer
            .as_mut()
            .poll(cx)
            .map(|()| Some(Err(Fault::new(FaultKind::Timeout, "the answer was not whole when its deadline passed"))))
    }

    fn is_over(&self) -> bool {
        self.seat.is_over()
    }

    fn rest(&self) -> Option<u64> {
        self.rest
    }
}

impl<B> Body for CacheBody<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.project().kind.project() {
            KindProjection::Passing { body } => body.poll_frame(cx),
            KindProjection::Boxed { body, rest } => {
                let frame = ready!(Pin::new(body.get_mut()).poll_frame(cx));
                if let (Some(rest), Some(Ok(frame))) = (rest, &frame) {
                    *rest = rest.saturating_sub(frame.data_ref().map_or(0, |data| data.len() as u64));
                }
                Poll::Ready(frame)
            }
            KindProjection::Shared { reader } => reader.poll_piece(cx).map(|piece| {
                piece.map(|piece| match piece {
                    Ok(Piece::Data(data)) => Ok(Frame::data(data)),
                    Ok(Piece::Trailers(trailers)) => Ok(Frame::trailers(trailers)),
                    Err(fault) => Err(fault.into()),
                })
            }),
            KindProjection::Kept { bytes, .. } => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Passing { body } => body.is_end_stream(),
            Kind::Boxed { rest, .. } => *rest == Some(0),
            Kind::Shared { reader } => reader.is_over(),
            Kind::Kept { bytes, .. } => bytes.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Passing { body } => body.size_hint(),
            Kind::Boxed { rest, .. } => rest.map_or_else(SizeHint::default, SizeHint::with_exact),
            Kind::Shared { reader } => reader.rest().map_or_else(SizeHint::default, SizeHint::with_exact),
            Kind::Kept { bytes, sized: true } => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Kind::Kept { .. } => SizeHint::default(),
        }
    }
}

impl<B: Default> Default for CacheBody<B> {
    fn default() -> Self {
        CacheBody::passing(ResponseBody::default())
    }
}

impl<B> fmt::Debug for CacheBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            Kind::Passing { .. } => "CacheBody(passing)",
            Kind::Boxed { .. } => "CacheBody(boxed)",
            Kind::Shared { .. } => "CacheBody(shared)",
            Kind::Kept { .. } => "CacheBody(kept)",
        })
    }
}
