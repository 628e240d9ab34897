use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderValue, Response, header, response::Parts};
use http_body::Body;
use pin_project_lite::pin_project;

use super::{Commit, Exchange, GuardedBody, body::Held, supervisor::Supervisor};
use crate::{
    BoxError, Credentials, Dialect, Fault, FaultKind, ResponseBody, UsageHandle,
    body::{Coding, Collect, Decoded, EventStream, IdleTimer, UnknownCoding, collect::CollectError},
    dialect::{self, Answer, StreamReader},
    provider::{classify, dispatch::Metered},
    trace,
};

/// How much of an error's body is read.
const MAX_ERROR: usize = 64 << 10;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream; charset=utf-8");

pin_project! {
    /// The response of a [`StreamGuard`](super::StreamGuard).
    #[derive(Debug)]
    pub struct StreamGuardFuture<F, B> {
        #[pin]
        state: State<F, B>,
        exchange: Exchange,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = StateProjection]
    enum State<F, B> {
        // `silence` bounds a stream that is let through when it is whole: nobody outside sees its first output.
        Waiting { #[pin] future: F, silence: Option<IdleTimer> },
        Holding { parts: Option<Parts>, body: Option<GuardedBody<B>>, dialect: Dialect },
        Collecting { parts: Option<Parts>, #[pin] body: Collect<Decoded<B>>, what: Collected },
    }
}

#[derive(Clone, Copy, Debug)]
enum Collected {
    Answer(Dialect),
    Error,
}

impl<F, B> StreamGuardFuture<F, B> {
    pub(super) fn new(future: F, exchange: Exchange) -> Self {
        let silence = exchange.is_held_whole().then(|| IdleTimer::new(exchange.settings.first_output));
        StreamGuardFuture { state: State::Waiting { future, silence }, exchange }
    }
}

impl<F, B, E> Future for StreamGuardFuture<F, B>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Output = Result<Response<ResponseBody<GuardedBody<B>>>, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let mut this = self.as_mut().project();
            match this.state.as_mut().project() {
                StateProjection::Waiting { future, silence } => {
                    let response = match (future.poll(cx), &mut *silence) {
                        (Poll::Ready(response), _) => response?,
                        (Poll::Pending, None) => return Poll::Pending,
                        (Poll::Pending, Some(silence)) => {
                            ready!(silence.poll_over(None, cx));
                            let message = format!("no answer within {:?}", silence.idle());
                            return Poll::Ready(Ok(this
                                .exchange
                                .asker
                                .failure(Fault::new(FaultKind::Timeout, message))));
                        }
                    };
                    let (mut parts, body) = response.into_parts();
                    this.exchange.note_rate_limits(&mut parts);
                    match next(&parts, this.exchange) {
                        Next::Pass => return Poll::Ready(Ok(pass(parts, body))),
                        Next::Fail(fault) => return Poll::Ready(Ok(this.exchange.asker.failure(fault))),
                        Next::Hold(dialect, coding) => {
                            if this.exchange.wants_json() {
                                Arc::make_mut(&mut this.exchange.settings).commit = Commit::Complete;
                            }
                            let reader = StreamReader::new(dialect, this.exchange.choices());
                            let supervisor = Supervisor::new(reader, &this.exchange.settings)
                                .with_credentials(this.exchange.credentials().cloned().unwrap_or_default())
                                .stripping_usage(parts.extensions.remove::<Metered>().is_some());
                            let usage = UsageHandle::default();
                            parts.extensions.insert(usage.clone());
                            let body = decoded(&mut parts, body, coding);
                            let first_output = this.exchange.settings.first_output;
                            let silence = silence.take().unwrap_or_else(|| IdleTimer::new(first_output));
                            let body = GuardedBody::watched(body, supervisor, this.exchange.clone(), usage, silence);
                            this.state.set(State::Holding { parts: Some(parts), body: Some(body), dialect });
                        }
                        Next::Collect(what, limit, coding) => {
                            let body = Collect::new(decoded(&mut parts, body, coding), limit);
                            this.state.set(State::Collecting { parts: Some(parts), body, what });
                        }
                    }
                }
                StateProjection::Holding { parts, body, dialect } => {
                    let Some(held) = body else { return Poll::Pending }; // polled after it was ready
                    let held = ready!(held.poll_held(cx));
                    let (Some(mut parts), Some(mut body)) = (parts.take(), body.take()) else { return Poll::Pending };
                    return Poll::Ready(Ok(match held {
                        Ok(Held::Stream) if this.exchange.wants_json() => {
                            unstreamed(parts, body.take_whole(), *dialect, this.exchange)
                        }
                        Ok(Held::Stream) => {
                            // The stream may end with an error, or lose an event that cannot be read.
                            parts.headers.remove(header::CONTENT_LENGTH);
                            Response::from_parts(parts, ResponseBody::inner(body))
                        }
                        Ok(Held::Json(json)) => answer(parts, Ok(json), *dialect, this.exchange),
                        Err(fault) => this.exchange.asker.failure(fault),
                    }));
                }
                StateProjection::Collecting { parts, body, what } => {
                    let body = ready!(body.poll(cx));
                    let Some(parts) = parts.take() else { return Poll::Pending }; // polled after it was ready
                    return Poll::Ready(Ok(match *what {
                        Collected::Answer(dialect) => answer(parts, body, dialect, this.exchange),
                        Collected::Error => error(parts, body, this.exchange),
                    }));
                }
            }
        }
    }
}

/// What to do with a response, by its head.
enum Next {
    Pass,
    Hold(Dialect, Option<Coding>),
    Collect(Collected, usize, Option<Coding>),
    Fail(Fault),
}

fn next(parts: &Parts, exchange: &Exchange) -> Next {
    if parts.extensions.get::<Fault>().is_some() {
        return Next::Pass;
    }
    let coding = Coding::of(&parts.headers);
    if parts.status.is_client_error() || parts.status.is_server_error() {
        return match coding {
            Ok(coding) => Next::Collect(Collected::Error, MAX_ERROR, coding),
            // Of one that cannot be read nothing is passed on: it may echo our key.
            Err(UnknownCoding) => Next::Collect(Collected::Error, 0, None),
        };
    }
    let Some(dialect) = exchange.dialect else { return Next::Pass };
    if !parts.status.is_success() {
        let message = format!("the provider answered {} instead of an answer", parts.status);
        return Next::Fail(Fault::new(FaultKind::MalformedResponse, message));
    }
    let Ok(coding) = coding else {
        let message = "the provider compressed its answer, and in a way that cannot be read here";
        return Next::Fail(Fault::new(FaultKind::MalformedResponse, message));
    };
    let content_type = parts.headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let is = |kind: &[u8]| content_type.get(..kind.len()).is_some_and(|start| start.eq_ignore_ascii_case(kind));
    // Some servers do not say what they stream.
    if is(b"text/event-stream") || (exchange.streaming() && !is(b"application/json") && !is(b"text/html")) {
        return Next::Hold(dialect, coding);
    }
    Next::Collect(Collected::Answer(dialect), exchange.settings.max_answer, coding)
}

/// The body as it was before it was compressed, and headers that say so.
fn decoded<B>(parts: &mut Parts, body: B, coding: Option<Coding>) -> Decoded<B> {
    if coding.is_some() {
        parts.headers.remove(header::CONTENT_ENCODING);
        parts.headers.remove(header::CONTENT_LENGTH);
    }
    Decoded::new(body, coding)
}

fn pass<B>(parts: Parts, body: B) -> Response<ResponseBody<GuardedBody<B>>> {
    Response::from_parts(parts, ResponseBody::inner(GuardedBody::unwatched(body)))
}

/// A stream in the place of an answer in one piece: made one, for a client that expects JSON cannot read it.
fn unstreamed<B>(
    mut parts: Parts,
    stream: Bytes,
    dialect: Dialect,
    exchange: &Exchange,
) -> Response<ResponseBody<GuardedBody<B>>> {
    let mut events = EventStream::default();
    let json = dialect::as_answer(dialect, events.events(&stream).map(|(data, _)| data));
    let Some(json) = json else {
        let message = "the provider answered with a stream that cannot be made the JSON that was asked for";
        return exchange.asker.failure(Fault::new(FaultKind::MalformedResponse, message));
    };
    tracing::debug!("the provider sent a stream where JSON was asked for");
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(header::CONTENT_TYPE, JSON);
    answer(parts, Ok(json), dialect, exchange)
}

/// An answer in one piece: passed on as it is, if it is one, and as a stream if that was asked for.
fn answer<B>(
    mut parts: Parts,
    body: Result<Bytes, CollectError>,
    dialect: Dialect,
    exchange: &Exchange,
) -> Response<ResponseBody<B>> {
    let malformed = |message: &'static str| Fault::new(FaultKind::MalformedResponse, message);
    let fault = match body {
        Ok(body) => match dialect::answer(dialect, &body) {
            Answer::Whole(usage) => {
                let usage = usage.or_else(|| exchange.estimate(dialect::written(dialect, &body)));
                usage.into_iter().for_each(|usage| exchange.spend(usage));
                if trace::listens() {
                    exchange.attempt().into_iter().for_each(|attempt| _ = trace::answered_by(attempt.span(), &body));
                }
                parts.extensions.insert(UsageHandle::of(usage));
                if !exchange.streaming() {
                    return Response::from_parts(parts, ResponseBody::whole(body));
                }
                match dialect::as_stream(dialect, &body, exchange.wants_usage()) {
                    Some(stream) => {
                        tracing::debug!("the provider sent JSON where a stream was asked for");
                        parts.headers.remove(header::CONTENT_LENGTH);
                        parts.headers.insert(header::CONTENT_TYPE, EVENT_STREAM);
                        return Response::from_parts(parts, ResponseBody::whole(stream));
                    }
                    None => {
                        malformed("the provider answered with JSON that cannot be made the stream that was asked for")
                    }
                }
            }
            Answer::Error => {
                let none = Credentials::none();
                classify::in_band(&exchange.settings.rules, &body, exchange.credentials().unwrap_or(&none))
            }
            Answer::Malformed if body.is_empty() => malformed("the provider's answer is empty"),
            Answer::Malformed => malformed("the provider's answer is not JSON, or not all of it"),
        },
        Err(CollectError::TooLong) => malformed("the provider's answer is longer than is allowed here"),
        Err(CollectError::Body(error)) => match Fault::from_error(&*error) {
            fault if fault.kind() == FaultKind::MalformedResponse => fault,
            fault => Fault::new(FaultKind::StreamInterrupted, format!("the answer was cut: {}", fault.message())),
        },
    };
    exchange.asker.failure(fault)
}

/// An error: passed on as the provider put it, with the fault that it means and without our key.
fn error<B>(mut parts: Parts, body: Result<Bytes, CollectError>, exchange: &Exchange) -> Response<ResponseBody<B>> {
    let none = Credentials::none();
    let credentials = exchange.credentials().unwrap_or(&none);
    // An error whose text is too long or was cut still has a status.
    let whole = body.is_ok();
    let mut body = body.unwrap_or_default();
    let fault = classify::response(&exchange.settings.rules, parts.status, &parts.headers, &body, credentials);
    let fault = exchange.attribute(fault);
    let echoes = parts.headers.iter().filter(|(_, value)| credentials.are_in(value.as_bytes()));
    let echoes: Vec<_> = echoes.map(|(name, _)| name.clone()).collect();
    echoes.iter().for_each(|name| _ = parts.headers.remove(name));
    if let std::borrow::Cow::Owned(redacted) = credentials.redact(&String::from_utf8_lossy(&body)) {
        body = redacted.into();
        parts.headers.remove(header::CONTENT_LENGTH);
    }
    if !whole {
        parts.headers.remove(header::CONTENT_LENGTH);
        parts.headers.remove(header::CONTENT_ENCODING);
        body = dialect::error_body(exchange.dialect.unwrap_or(Dialect::OpenAiChat), &fault);
    }
    parts.extensions.insert(fault);
    Response::from_parts(parts, ResponseBody::whole(body))
}
