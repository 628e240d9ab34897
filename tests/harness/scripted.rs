//! A service that plays a script, and fails the test when it is called without having been polled ready.

// Each test binary uses its part, and what fails here fails the test.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body::{Body, Frame, SizeHint};
use tower::Service;
use tower_failover::{BoxError, Fault, FaultKind, Refusal};

/// An answer in one piece.
pub const WHOLE: &str = r#"{"choices":[{"message":{"content":"whole"},"finish_reason":"stop"}]}"#;
/// The first frame of a stream, and its last.
pub const FIRST: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"first\"}}]}\n\n";
pub const LAST: &str =
    "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";

/// What the scripted service does with a call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Act {
    /// Answers with [`WHOLE`].
    Answer(u16),
    RetryAfter(u16, u64),
    /// Answers as a guard does that declines.
    Refuse,
    Hang,
    /// Answers with [`FIRST`], then breaks.
    Break,
    /// Answers with [`FIRST`], then hangs.
    Stall,
    /// Answers with [`FIRST`] and [`LAST`], of a length that is not told, and trailers.
    Stream,
    /// Answers with [`FIRST`] and [`LAST`], and tells at each step how much is to come.
    Sized,
    /// Answers without a body.
    Empty,
    /// Answers with trailers only.
    OnlyTrailers,
}

impl Act {
    /// The data that a whole reading of its answer gives.
    pub fn data(self) -> String {
        match self {
            Act::Answer(_) | Act::RetryAfter(..) | Act::Refuse => WHOLE.to_owned(),
            Act::Break | Act::Stall => FIRST.to_owned(),
            Act::Stream | Act::Sized => [FIRST, LAST].concat(),
            Act::Hang | Act::Empty | Act::OnlyTrailers => String::new(),
        }
    }

    fn response(self, running: Running) -> Option<Response<TestBody>> {
        let data = |text: &'static str| Ok(Frame::data(Bytes::from_static(text.as_bytes())));
        let trailers = || Ok(Frame::trailers(trailers()));
        let broken = || Err(Fault::new(FaultKind::StreamInterrupted, "cut").into());
        let (frames, exact, hangs) = match self {
            Act::Answer(_) | Act::RetryAfter(..) | Act::Refuse => (vec![data(WHOLE)], true, false),
            Act::Hang => return None,
            Act::Break => (vec![data(FIRST), broken()], false, false),
            Act::Stall => (vec![data(FIRST)], false, true),
            Act::Stream => (vec![data(FIRST), data(LAST), trailers()], false, false),
            Act::Sized => (vec![data(FIRST), data(LAST)], true, false),
            Act::Empty => (vec![], true, false),
            Act::OnlyTrailers => (vec![trailers()], false, false),
        };
        let body = TestBody { frames: frames.into(), inexact: !exact, hangs, running: Some(running) };
        let mut response = Response::new(body);
        let streams = matches!(self, Act::Break | Act::Stall | Act::Stream | Act::Sized);
        let kind = if streams { "text/event-stream" } else { "application/json" };
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        match self {
            Act::Answer(status) | Act::RetryAfter(status, _) => *response.status_mut() = status.try_into().unwrap(),
            Act::Refuse => {
                *response.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
                let refusal = Refusal::CircuitOpen { retry_after: Duration::from_secs(1), transient: true };
                response.extensions_mut().insert(Fault::from(refusal));
            }
            _ => {}
        }
        if let Act::RetryAfter(_, seconds) = self {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        Some(response)
    }
}

/// What stands in the trailers of those that have some.
pub fn trailers() -> HeaderMap {
    HeaderMap::from_iter([(header::ETAG, HeaderValue::from_static("at-the-end"))])
}

/// A clone is unready, and every instance is ready for one call at a time.
pub struct Scripted {
    stage: Arc<Stage>,
    ready: bool,
}

#[derive(Default)]
struct Stage {
    script: Mutex<VecDeque<Act>>,
    always: Mutex<Option<Act>>,
    closed: AtomicBool,
    waiting: Mutex<Vec<Waker>>,
    reserved: AtomicUsize,
    calls: AtomicUsize,
    running: AtomicUsize,
}

impl Clone for Scripted {
    fn clone(&self) -> Self {
        Scripted { stage: self.stage.clone(), ready: false }
    }
}

impl Scripted {
    /// Does one after the other.
    pub fn playing(acts: impl IntoIterator<Item = Act>) -> Self {
        let stage = Stage { script: Mutex::new(acts.into_iter().collect()), ..Stage::default() };
        Scripted { stage: stage.into(), ready: false }
    }

    /// Does the same each time.
    pub fn always(act: Act) -> Self {
        let scripted = Self::playing([]);
        scripted.now(act);
        scripted
    }

    /// From now on does the same each time.
    pub fn now(&self, act: Act) {
        *self.stage.always.lock().unwrap() = Some(act);
    }

    /// Is not ready until it is opened again.
    pub fn close(&self) {
        self.stage.closed.store(true, Ordering::SeqCst);
    }

    pub fn open(&self) {
        self.stage.closed.store(false, Ordering::SeqCst);
        self.stage.waiting.lock().unwrap().drain(..).for_each(Waker::wake);
    }

    pub fn calls(&self) -> usize {
        self.stage.calls.load(Ordering::SeqCst)
    }

    /// How often an instance became ready for a call.
    pub fn reserved(&self) -> usize {
        self.stage.reserved.load(Ordering::SeqCst)
    }

    /// How many calls have neither failed nor ended with their body, nor been dropped.
    pub fn running(&self) -> usize {
        self.stage.running.load(Ordering::SeqCst)
    }
}

/// Counts as running until it is dropped.
struct Running(Arc<Stage>);

impl Running {
    fn new(stage: &Arc<Stage>) -> Self {
        stage.running.fetch_add(1, Ordering::SeqCst);
        Running(stage.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl<B: Send + 'static> Service<Request<B>> for Scripted {
    type Response = Response<TestBody>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        if self.stage.closed.load(Ordering::SeqCst) {
            self.stage.waiting.lock().unwrap().push(cx.waker().clone());
            return Poll::Pending;
        }
        if !std::mem::replace(&mut self.ready, true) {
            self.stage.reserved.fetch_add(1, Ordering::SeqCst);
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<B>) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "called without having been polled ready");
        self.stage.calls.fetch_add(1, Ordering::SeqCst);
        let next = self.stage.script.lock().unwrap().pop_front();
        let act = next.or(*self.stage.always.lock().unwrap()).expect("called more often than the script says");
        let running = Running::new(&self.stage);
        Box::pin(async move {
            match act {
                Act::Hang => {
                    let _running = running;
                    std::future::pending().await
                }
                act => Ok(act.response(running).unwrap()),
            }
        })
    }
}

/// A body of prepared frames.
#[derive(Default)]
pub struct TestBody {
    frames: VecDeque<Result<Frame<Bytes>, BoxError>>,
    inexact: bool,
    hangs: bool,
    running: Option<Running>,
}

impl Body for TestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        match this.frames.pop_front() {
            Some(frame) => Poll::Ready(Some(frame)),
            None if this.hangs => Poll::Pending,
            None => {
                this.running = None;
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        !self.inexact && self.frames.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        if self.inexact {
            return SizeHint::default();
        }
        let length = |frame: &Result<Frame<Bytes>, _>| frame.as_ref().ok()?.data_ref().map(Bytes::len);
        SizeHint::with_exact(self.frames.iter().filter_map(length).sum::<usize>() as u64)
    }
}
