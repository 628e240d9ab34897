use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::{BoxError, CircuitAdvice, Deadline, Fault, FaultKind, ResponseBody, body::IdleTimer};

pin_project! {
    /// A body that ends with an error when it is silent for too long or the deadline is past.
    pub struct TimeoutBody<B> {
        #[pin]
        inner: ResponseBody<B>,
        bounds: Option<Bounds>,
        failed: bool,
    }
}

/// The bounds of a body that still runs.
struct Bounds {
    idle: IdleTimer,
    deadline: Option<Deadline>,
}

impl Bounds {
    /// Ready once a bound is passed.
    fn poll_passed(&mut self, cx: &mut Context<'_>) -> Poll<Fault> {
        ready!(self.idle.poll_over(self.deadline, cx));
        Poll::Ready(if self.deadline.is_some_and(Deadline::is_past) {
            // However long an answer is, it is not its target's fault that the caller's time is over.
            Fault::new(FaultKind::Timeout, "the answer was not whole when its deadline passed")
                .with_circuit(CircuitAdvice::Neutral)
        } else {
            Fault::new(FaultKind::Timeout, format!("the answer paused for {:?}", self.idle.idle()))
        })
    }
}

impl<B> TimeoutBody<B> {
    pub(super) fn new(inner: B, idle: Duration, deadline: Option<Deadline>) -> Self {
        let bounds = Bounds { idle: IdleTimer::new(idle), deadline };
        TimeoutBody { inner: ResponseBody::inner(inner), bounds: Some(bounds), failed: false }
    }

    /// A failure of our own: it is all there.
    pub(super) fn over(inner: ResponseBody<B>) -> Self {
        TimeoutBody { inner, bounds: None, failed: false }
    }
}

impl<B: Default> Default for TimeoutBody<B> {
    fn default() -> Self {
        TimeoutBody::over(ResponseBody::default())
    }
}

impl<B> fmt::Debug for TimeoutBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimeoutBody").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<B> Body for TimeoutBody<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.project();
        if *this.failed {
            return Poll::Ready(None);
        }
        let Poll::Ready(frame) = this.inner.poll_frame(cx) else {
            let Some(bounds) = this.bounds else { return Poll::Pending };
            let fault = ready!(bounds.poll_passed(cx));
            *this.failed = true;
            return Poll::Ready(Some(Err(fault.into())));
        };
        if let Some(bounds) = this.bounds {
            bounds.idle.touch();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.failed || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.failed { SizeHint::with_exact(0) } else { self.inner.size_hint() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt, StreamBody};
    use tokio::time::{Instant, sleep};

    /// A body that sends a byte after each pause, then ends or hangs.
    fn paced(pauses: &'static [u64], ends: bool) -> impl Body<Data = Bytes, Error = std::convert::Infallible> + Unpin {
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            for pause in pauses {
                sleep(Duration::from_secs(*pause)).await;
                let _ = sender.send(Ok(Frame::data(Bytes::from_static(b"x"))));
            }
            if !ends {
                std::future::pending::<()>().await;
            }
        });
        StreamBody::new(tokio_stream::wrappers::UnboundedReceiverStream::new(receiver))
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_body_that_goes_on_is_not_cut() {
        let body = TimeoutBody::new(paced(&[50, 50, 59, 1], true), Duration::from_secs(60), None);
        assert_eq!(body.collect().await.unwrap().to_bytes(), "xxxx");
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_body_ends_with_a_fault_exactly_when_its_time_is_up() {
        let started = Instant::now();
        let mut body = TimeoutBody::new(paced(&[50], false), Duration::from_secs(60), None);
        assert!(body.frame().await.unwrap().is_ok());
        let error = body.frame().await.unwrap().unwrap_err();
        assert_eq!(Fault::find(&*error).unwrap().kind(), FaultKind::Timeout);
        assert_eq!(started.elapsed().as_secs(), 110);
        assert!(body.frame().await.is_none() && body.is_end_stream());
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_takes_its_time_is_no_pause_of_the_answer() {
        // Like a connection's, this body does nothing while nobody asks for it.
        let frames = futures_util::stream::unfold((), |()| async {
            sleep(Duration::from_secs(30)).await;
            Some((Ok::<_, std::convert::Infallible>(Frame::data(Bytes::from_static(b"x"))), ()))
        });
        let mut body = TimeoutBody::new(Box::pin(StreamBody::new(frames)), Duration::from_secs(60), None);
        for _ in 0..2 {
            sleep(Duration::from_secs(100)).await;
            assert!(body.frame().await.unwrap().is_ok());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_ends_a_body_that_never_pauses() {
        let deadline = Some(Deadline::after(Duration::from_secs(25)));
        let body = TimeoutBody::new(paced(&[10; 10], true), Duration::from_secs(60), deadline);
        let started = Instant::now();
        let error = body.collect().await.unwrap_err();
        assert!(error.to_string().contains("deadline"), "{error}");
        assert_eq!(started.elapsed().as_secs(), 25);
    }
}
