use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response, request::Parts};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use sync_wrapper::SyncWrapper;
use tower::util::Oneshot;
use tower_service::Service;

use super::{
    answer::{self, Answer, Misfit, Plan},
    seam::Asked,
};
use crate::{
    Attempt, BoxError, Dialect, Event, Fault, FaultKind, RequestContext, ResponseBody,
    body::EventStream,
    continuation::{Continuation, Form},
    dialect,
};

/// A body that, when it breaks off, is gone on with from another one.
pub struct RecoveryBody<S, B>
where
    S: Service<Request<Full<Bytes>>>,
{
    /// `None` while the rest is asked for.
    inner: Option<ResponseBody<B>>,
    watch: Option<Box<Watch<S>>>,
}

/// The request whose answer may have to be asked for again.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) parts: Parts,
    pub(super) body: Bytes,
    pub(super) context: RequestContext,
    pub(super) dialect: Dialect,
}

struct Watch<S>
where
    S: Service<Request<Full<Bytes>>>,
{
    service: S,
    question: Box<Question>,
    events: EventStream,
    answer: Answer,
    asking: Option<Asking<S>>,
    /// What broke the answer first: that is what the client is told, should the rest not come.
    broken: Option<Fault>,
    /// How often it broke.
    breaks: usize,
    ending: Ending,
}

/// How often one answer is gone on with. Failover tries no target twice; another service inside might, and for ever.
const MOST_BREAKS: usize = 8;

type Call<S> = Oneshot<S, Request<Full<Bytes>>>;

struct Asking<S>
where
    S: Service<Request<Full<Bytes>>>,
{
    // No more than `Send` is asked of the call; the body is `Sync` all the same, as some clients want bodies to be.
    call: SyncWrapper<Pin<Box<Call<S>>>>,
    /// How a target was asked that was asked in no other words.
    as_asked: Asked,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    NotYet,
    /// Once all is told that came before it.
    Cleanly,
    WithTheFault,
    Over,
}

impl<S, B> RecoveryBody<S, B>
where
    S: Service<Request<Full<Bytes>>>,
{
    /// A body that passes as it is.
    pub(crate) fn passing(inner: ResponseBody<B>) -> Self {
        RecoveryBody { inner: Some(inner), watch: None }
    }

    pub(super) fn watching(inner: ResponseBody<B>, service: S, question: Box<Question>) -> Self {
        let watch = Watch {
            service,
            answer: Answer::new(question.dialect),
            question,
            events: EventStream::default(),
            asking: None,
            broken: None,
            breaks: 0,
            ending: Ending::NotYet,
        };
        RecoveryBody { inner: Some(inner), watch: Some(Box::new(watch)) }
    }
}

impl<S> Watch<S>
where
    S: Service<Request<Full<Bytes>>> + Clone,
{
    /// Takes in what the upstream sent; `Err` where that must not be told.
    fn read(&mut self, frame: Bytes) -> Result<(), Fault> {
        let oversized = |_| Fault::new(FaultKind::MalformedResponse, "an event of the stream has no end");
        let whole = self.events.push(frame).map_err(oversized)?;
        self.read_whole(&whole);
        Ok(())
    }

    fn read_whole(&mut self, whole: &Bytes) {
        if let Err(Misfit(why)) = self.answer.read(&mut self.events, whole) {
            self.give_up(why);
        }
    }

    fn give_up(&mut self, why: &str) {
        tracing::warn!(why, "a stream that broke off is not completed");
        self.ending = Ending::WithTheFault;
    }

    /// The upstream has ended the stream.
    fn ended(&mut self) {
        let rest = self.events.finish();
        if !rest.is_empty() {
            // Something may yet come behind it, which must not run into it.
            self.read_whole(&[&rest[..], b"\n\n"].concat().into());
        }
        if self.ending != Ending::NotYet {
            return;
        }
        if self.answer.ended() {
            self.ending = Ending::Cleanly;
        } else {
            self.broke(Fault::new(FaultKind::StreamInterrupted, "the stream ended before its answer was whole"));
        }
    }

    /// The stream broke: asks for the rest, if that can be.
    fn broke(&mut self, fault: Fault) {
        if self.answer.is_finished() {
            // What may still have come is no part of it.
            self.answer.terminate();
            self.ending = Ending::Cleanly;
            return;
        }
        // Half an event is nothing that anybody has seen.
        self.events = EventStream::default();
        tracing::debug!(kind = fault.kind().name(), reason = fault.reason(), "asking for the rest of a stream");
        self.broken.get_or_insert(fault);
        self.breaks += 1;
        if self.breaks > MOST_BREAKS {
            return self.give_up("it broke too often");
        }
        let Question { parts, body, context, dialect } = &mut *self.question;
        let Some(plan) = self.answer.broke(body) else {
            return self.give_up("what the client has of it cannot be gone on with");
        };
        let failed = context.attempts().answered().and_then(|attempt| Some(attempt.target()?.id().clone()));
        *context = std::mem::take(context).excluding(failed);
        let outlined = |body: Bytes| {
            let outline = dialect::outline(*dialect, parts.uri.path(), &body).and_then(Result::ok);
            (body, outline)
        };
        let (continuation, as_asked) = match plan {
            Plan::Rest(rest) => {
                (Continuation::new(outlined(rest.prefill), Some(outlined(rest.instruction))), Asked::Prefill)
            }
            Plan::Again => (Continuation::new(outlined(body.clone()), None), Asked::Again),
        };
        let mut request = Request::from_parts(parts.clone(), Full::new(continuation.body(Form::AsAsked).clone()));
        request.extensions_mut().insert(context.clone().continuing(continuation));
        let call = SyncWrapper::new(Box::pin(Oneshot::new(self.service.clone(), request)));
        self.asking = Some(Asking { call, as_asked });
    }

    /// Waits for who goes on.
    fn poll_asked<B>(&mut self, cx: &mut Context<'_>) -> Poll<Option<ResponseBody<B>>>
    where
        S: Service<Request<Full<Bytes>>, Response = Response<B>>,
    {
        let Some(asking) = &mut self.asking else { return Poll::Ready(None) };
        let result = ready!(asking.call.get_mut().as_mut().poll(cx));
        let as_asked = asking.as_asked;
        self.asking = None;
        let Ok(response) = result else {
            self.give_up("nobody answered who could go on");
            return Poll::Ready(None);
        };
        if !answer::is_stream(&response) {
            if let Some(fault) = response.extensions().get::<Fault>() {
                tracing::info!(
                    kind = fault.kind().name(),
                    reason = fault.reason(),
                    "nobody could be asked for the rest"
                );
            }
            self.give_up("nobody went on");
            return Poll::Ready(None);
        }
        let asked = match response.extensions().get::<Form>() {
            Some(Form::Instructed) => Asked::Instruction,
            _ => as_asked,
        };
        self.answer.resume(asked);
        let attempts = self.question.context.attempts();
        let target = attempts.answered().and_then(Attempt::target);
        tracing::info!(target = target.map(|target| target.id().as_str()), "a stream is gone on with");
        self.question.context.observe(|| Event::Resumed { target: target.cloned() });
        Poll::Ready(Some(ResponseBody::inner(response.into_body())))
    }
}

impl<S, B> Body for RecoveryBody<S, B>
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>> + Clone,
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let Some(watch) = &mut this.watch else {
            let Some(inner) = &mut this.inner else { return Poll::Ready(None) };
            return Pin::new(inner).poll_frame(cx);
        };
        loop {
            if let Some(bytes) = watch.answer.take_ready() {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            match watch.ending {
                Ending::NotYet => {}
                Ending::WithTheFault => {
                    this.inner = None;
                    watch.ending = Ending::Over;
                    return Poll::Ready(watch.broken.take().map(|fault| Err(fault.into())));
                }
                Ending::Cleanly | Ending::Over => {
                    watch.ending = Ending::Over;
                    return Poll::Ready(None);
                }
            }
            let Some(inner) = &mut this.inner else {
                this.inner = ready!(watch.poll_asked(cx));
                continue;
            };
            match ready!(Pin::new(inner).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        if let Err(fault) = watch.read(data) {
                            this.inner = None;
                            watch.broke(fault);
                        }
                    }
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                Some(Err(error)) => {
                    // Its connection is of no more use.
                    this.inner = None;
                    watch.broke(Fault::from_error(&*error));
                }
                None => {
                    this.inner = None;
                    watch.ended();
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match (&self.watch, &self.inner) {
            (Some(watch), _) => watch.ending == Ending::Over,
            (None, Some(inner)) => inner.is_end_stream(),
            (None, None) => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.watch, &self.inner) {
            (None, Some(inner)) => inner.size_hint(),
            (Some(watch), _) if watch.ending != Ending::Over => SizeHint::default(),
            _ => SizeHint::with_exact(0),
        }
    }
}

impl<S, B> Default for RecoveryBody<S, B>
where
    S: Service<Request<Full<Bytes>>>,
{
    fn default() -> Self {
        RecoveryBody { inner: None, watch: None }
    }
}

impl<S, B> fmt::Debug for RecoveryBody<S, B>
where
    S: Service<Request<Full<Bytes>>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecoveryBody").field("watching", &self.watch.is_some()).finish_non_exhaustive()
    }
}
