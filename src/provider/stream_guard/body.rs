use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::supervisor::{Progress, Supervisor};
use crate::{BoxError, Fault, FaultKind, RequestContext, body::IdleTimer};

/// A stream that is watched: it ends with an error unless its answer is whole.
#[derive(Debug, Default)]
pub struct GuardedBody<B> {
    inner: B,
    watch: Option<Box<Watch>>,
}

#[derive(Debug)]
pub(super) struct Watch {
    pub(super) supervisor: Supervisor,
    context: Option<RequestContext>,
    trailers: Option<HeaderMap>,
    progress: IdleTimer,
    upstream_ended: bool,
    over: bool,
}

/// How long a connection may take to end behind an answer that is whole: if it does, it can be used again.
const CONNECTION_END: Duration = Duration::from_millis(200);

impl<B> GuardedBody<B> {
    /// A body that passes as it is.
    pub(super) fn unwatched(inner: B) -> Self {
        GuardedBody { inner, watch: None }
    }

    pub(super) fn watched(inner: B, supervisor: Supervisor, context: Option<RequestContext>, idle: Duration) -> Self {
        let progress = IdleTimer::new(idle);
        let watch = Watch { supervisor, context, trailers: None, progress, upstream_ended: false, over: false };
        GuardedBody { inner, watch: Some(Box::new(watch)) }
    }
}

impl<B> GuardedBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    /// Waits until the answer has begun. Everything that came so far is kept.
    pub(super) fn poll_committed(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        let Some(watch) = &mut self.watch else { return Poll::Ready(Ok(())) };
        loop {
            // First: nothing of an answer that broke at once was seen by anybody yet.
            if let Some(fault) = watch.supervisor.take_failure() {
                return Poll::Ready(Err(fault));
            }
            if watch.supervisor.is_committed() {
                return Poll::Ready(Ok(()));
            }
            ready!(watch.poll_upstream(&mut self.inner, cx));
        }
    }
}

impl Watch {
    /// Hands one frame of the upstream to the supervisor.
    fn poll_upstream<B>(&mut self, inner: &mut B, cx: &mut Context<'_>) -> Poll<()>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Into<BoxError>,
    {
        match ready!(Pin::new(inner).poll_frame(cx)) {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    let was_over = self.supervisor.is_over();
                    let progress = self.supervisor.push(data);
                    if self.supervisor.is_over() && !was_over {
                        self.progress.tighten(CONNECTION_END);
                    } else if progress == Progress::Made {
                        self.progress.touch();
                    }
                }
                Err(frame) => self.trailers = frame.into_trailers().ok(),
            },
            Some(Err(error)) => {
                self.upstream_ended = true;
                self.supervisor.end(Some(Fault::from_error(&*error.into())));
            }
            None => {
                self.upstream_ended = true;
                self.supervisor.end(None);
            }
        }
        Poll::Ready(())
    }
}

impl<B> Body for GuardedBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let Some(watch) = &mut this.watch else { return Pin::new(&mut this.inner).poll_frame(cx).map_err(Into::into) };
        loop {
            if watch.over {
                return Poll::Ready(None);
            }
            if let Some(bytes) = watch.supervisor.take_ready() {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            if let Some(fault) = watch.supervisor.take_failure() {
                watch.over = true;
                if let Some(context) = &watch.context {
                    context.interrupted(&fault);
                }
                return Poll::Ready(Some(Err(fault.into())));
            }
            if watch.upstream_ended {
                watch.over = true;
                return Poll::Ready(watch.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))));
            }
            if watch.poll_upstream(&mut this.inner, cx).is_pending() {
                ready!(watch.progress.poll_over(None, cx));
                // Of an answer that is whole nothing is missed; of another, the rest.
                watch.upstream_ended = true;
                if !watch.supervisor.is_finished() {
                    let message = format!("the answer made no progress for {:?}", watch.progress.idle());
                    watch.supervisor.end(Some(Fault::new(FaultKind::Timeout, message)));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.watch {
            None => self.inner.is_end_stream(),
            Some(watch) => watch.over,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.watch {
            None => self.inner.size_hint(),
            Some(watch) if watch.over => SizeHint::with_exact(0),
            Some(_) => SizeHint::default(),
        }
    }
}
