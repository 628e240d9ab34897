use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::Response;
use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep_until};

use crate::{Deadline, Fault, FaultKind, body::Asker, timeout::TimeoutBody};

pin_project! {
    /// The response of a [`Timeout`](super::Timeout).
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        #[pin]
        inner: F,
        // Armed at the first poll that finds no answer: a call that is answered at once pays for no timer.
        #[pin]
        timer: Option<Sleep>,
        bound: Duration,
        deadline: Option<Deadline>,
        idle: Duration,
        asker: Asker,
    }
}

impl<F> ResponseFuture<F> {
    pub(super) fn new(inner: F, bound: Duration, deadline: Option<Deadline>, idle: Duration, asker: Asker) -> Self {
        ResponseFuture { inner, timer: None, bound, deadline, idle, asker }
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
            return Poll::Ready(
                result.map(|response| response.map(|body| TimeoutBody::new(body, *this.idle, *this.deadline))),
            );
        }
        if this.timer.is_none() {
            let bound = Deadline::after(*this.bound);
            let until = this.deadline.map_or(bound, |deadline| deadline.min(bound));
            this.timer.set(Some(sleep_until(until.instant())));
        }
        if let Some(timer) = this.timer.as_pin_mut() {
            ready!(timer.poll(cx));
        }
        let fault = match this.deadline {
            Some(deadline) if deadline.is_past() => Fault::new(FaultKind::Timeout, "no answer before the deadline"),
            _ => Fault::new(FaultKind::Timeout, format!("no answer within {:?}", this.bound)),
        };
        Poll::Ready(Ok(this.asker.failure(fault).map(TimeoutBody::over)))
    }
}
