//! The body of an answer: a list of steps, so that each fault is a list too.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Sleep;

use super::server::Server;
use super::socket::Socket;

/// One step of an answer's body.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    /// Send this, in a write of its own.
    Send(Bytes),
    /// Then wait.
    Wait(Duration),
    /// Reset the connection.
    Reset,
    /// Say nothing more, for ever.
    Stall,
    /// Say this every so often, for ever.
    Repeat(Bytes, Duration),
}

/// The steps of a body, before it belongs to an exchange.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Steps {
    pub(super) steps: VecDeque<Step>,
    /// The length of the whole, where it is known and true.
    pub(super) length: Option<u64>,
}

impl Steps {
    /// All of it at once, with its length.
    pub(super) fn whole(body: impl Into<Bytes>) -> Self {
        let body = body.into();
        Self {
            length: Some(body.len() as u64),
            steps: if body.is_empty() { VecDeque::new() } else { [Step::Send(body)].into() },
        }
    }

    pub(super) fn send(&mut self, data: Bytes) {
        self.steps.push_back(Step::Send(data));
    }

    pub(super) fn wait(&mut self, time: Duration) {
        if !time.is_zero() {
            self.steps.push_back(Step::Wait(time));
        }
    }
}

/// One request and its answer. Dropped before [`finish`](Exchange::finish), it counts as left by the caller,
/// unless this side reset the connection.
#[derive(Debug)]
pub(super) struct Exchange {
    server: Arc<Server>,
    socket: Arc<Socket>,
    finished: bool,
}

impl Exchange {
    pub(super) fn new(server: Arc<Server>, socket: Arc<Socket>) -> Self {
        Self { server, socket, finished: false }
    }

    pub(super) fn reset(&self) {
        self.socket.reset();
    }

    fn finish(&mut self) {
        self.finished = true;
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if !self.finished && !self.socket.is_reset() {
            self.server.aborted.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A body that plays its steps.
#[derive(Debug)]
pub(super) struct Script {
    steps: VecDeque<Step>,
    length: Option<u64>,
    sleep: Option<Pin<Box<Sleep>>>,
    unflushed: bool,
    exchange: Exchange,
}

impl Script {
    pub(super) fn new(steps: Steps, mut exchange: Exchange) -> Self {
        if steps.length == Some(0) {
            // A body known to be empty is never polled.
            exchange.finish();
        }
        Self { steps: steps.steps, length: steps.length, sleep: None, unflushed: false, exchange }
    }
}

impl Body for Script {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        loop {
            if this.unflushed {
                // The server writes what it has when the body is pending. Without this pause it would gather
                // all that is ready into one write, and a reset would overtake what was sent before it.
                this.unflushed = false;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if let Some(sleep) = &mut this.sleep {
                ready!(sleep.as_mut().poll(cx));
                this.sleep = None;
            }
            match this.steps.pop_front() {
                Some(Step::Send(data)) => {
                    this.unflushed = true;
                    if this.steps.is_empty() {
                        // With a known length the end is not asked for.
                        this.exchange.finish();
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Step::Wait(time)) => this.sleep = Some(Box::pin(tokio::time::sleep(time))),
                Some(Step::Reset) => {
                    this.exchange.reset();
                    this.steps.push_front(Step::Stall);
                }
                Some(Step::Stall) => {
                    // Nothing wakes this but the end of the connection.
                    this.steps.push_front(Step::Stall);
                    return Poll::Pending;
                }
                Some(Step::Repeat(data, pause)) => {
                    let again = Step::Repeat(data.clone(), pause);
                    this.steps.extend([Step::Wait(pause), again]);
                    this.unflushed = true;
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                None => {
                    this.exchange.finish();
                    return Poll::Ready(None);
                }
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
