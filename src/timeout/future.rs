use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::Response;
use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep_until};

use crate::{CircuitAdvice, Deadline, Fault, FaultKind, body::Asker, timeout::TimeoutBody};

/// How long a call may be silent.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeadBound {
    pub(super) bound: Duration,
    /// Whether that is as long as the settings say; the caller may have less patience.
    pub(super) in_full: bool,
    pub(super) deadline: Option<Deadline>,
}

impl HeadBound {
    /// The timer, and whether it gives the target all the time that the settings say.
    fn timer(&self) -> (Sleep, bool) {
        let bound = Deadline::after(self.bound);
        match self.deadline {
            Some(deadline) if deadline < bound => (sleep_until(deadline.instant()), false),
            _ => (sleep_until(bound.instant()), self.in_full),
        }
    }

    fn fault(&self, in_full: bool) -> Fault {
        let fault = match self.deadline {
            Some(deadline) if deadline.is_past() => Fault::new(FaultKind::Timeout, "no answer before the deadline"),
            _ => Fault::new(FaultKind::Timeout, format!("no answer within {:?}", self.bound)),
        };
        // Who was given less time than usual is not to blame for not making use of it.
        if in_full { fault } else { fault.with_circuit(CircuitAdvice::Neutral) }
    }
}

pin_project! {
    /// The response of a [`Timeout`](super::Timeout).
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        #[pin]
        inner: F,
        // Armed at the first poll that finds no answer: a call that is answered at once pays for no timer.
        #[pin]
        timer: Option<Sleep>,
        in_full: bool,
        bound: HeadBound,
        idle: Duration,
        asker: Asker,
    }
}

impl<F> ResponseFuture<F> {
    pub(super) fn new(inner: F, bound: HeadBound, idle: Duration, asker: Asker) -> Self {
        ResponseFuture { inner, timer: None, in_full: true, bound, idle, asker }
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<TimeoutBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Poll::Ready(result) = this.inner.poll(cx) {
            let deadline = this.bound.deadline;
            return Poll::Ready(
                result.map(|response| response.map(|body| TimeoutBody::new(body, *this.idle, deadline))),
            );
        }
        if this.timer.is_none() {
            let (timer, in_full) = this.bound.timer();
            *this.in_full = in_full;
            this.timer.set(Some(timer));
        }
        if let Some(timer) = this.timer.as_pin_mut() {
            ready!(timer.poll(cx));
        }
        let fault = this.bound.fault(*this.in_full);
        Poll::Ready(Ok(this.asker.failure(fault).map(TimeoutBody::over)))
    }
}
