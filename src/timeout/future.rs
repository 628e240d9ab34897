use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::Response;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};

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
        started: Instant,
        until: Instant,
        deadline: Option<Deadline>,
        idle: Duration,
        asker: Asker,
    }
}

impl<F> ResponseFuture<F> {
    pub(super) fn new(inner: F, until: Instant, deadline: Option<Deadline>, idle: Duration, asker: Asker) -> Self {
        ResponseFuture { inner, timer: None, started: Instant::now(), until, deadline, idle, asker }
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
            this.timer.set(Some(sleep_until(*this.until)));
        }
        if let Some(timer) = this.timer.as_pin_mut() {
            ready!(timer.poll(cx));
        }
        let silent = this.until.saturating_duration_since(*this.started);
        let fault = Fault::new(FaultKind::Timeout, format!("no answer within {silent:?}"));
        Poll::Ready(Ok(this.asker.failure(fault).map(TimeoutBody::over)))
    }
}
