use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderValue, Response, header, response::Parts};
use http_body::Body;
use pin_project_lite::pin_project;

use super::{
    TranslatedBody,
    request::{self, Exchange},
};
use crate::{
    BoxError, Fault, FaultKind, ResponseBody,
    body::{Asker, Collect, collect::CollectError},
    dialect::{canonical::Losses, translate},
};

pin_project! {
    /// The response of a [`Translate`](super::Translate).
    pub struct TranslateFuture<F, B> {
        #[pin]
        state: State<F, B>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F, B> {
        Passing { #[pin] future: F },
        Failed { fault: Option<Fault>, asker: Asker },
        Waiting { #[pin] future: F, exchange: Box<Exchange>, asker: Asker },
        Collecting { parts: Option<Box<Parts>>, #[pin] body: Collect<B>, exchange: Box<Exchange>, asker: Asker },
    }
}

impl<F, B> TranslateFuture<F, B> {
    pub(super) fn passing(future: F) -> Self {
        TranslateFuture { state: State::Passing { future } }
    }

    pub(super) fn failed(fault: Fault, asker: Asker) -> Self {
        TranslateFuture { state: State::Failed { fault: Some(fault), asker } }
    }

    pub(super) fn translating(future: F, exchange: Exchange, asker: Asker) -> Self {
        TranslateFuture { state: State::Waiting { future, exchange: Box::new(exchange), asker } }
    }
}

impl<F, B> Future for TranslateFuture<F, B>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Output = Result<Response<ResponseBody<TranslatedBody<B>>>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let mut this = self.as_mut().project();
            let next = match this.state.as_mut().project() {
                StateProjection::Passing { future } => {
                    let response = ready!(future.poll(cx))?;
                    return Poll::Ready(Ok(response.map(|body| ResponseBody::inner(TranslatedBody::passing(body)))));
                }
                StateProjection::Failed { fault, asker } => {
                    let Some(fault) = fault.take() else { return Poll::Pending }; // polled after it was ready
                    return Poll::Ready(Ok(asker.failure(fault)));
                }
                StateProjection::Waiting { future, exchange, asker } => {
                    let (mut parts, body) = ready!(future.poll(cx))?.into_parts();
                    let fault = parts.extensions.get::<Fault>();
                    if fault.is_some() && exchange.pair.client == exchange.pair.provider {
                        let body = ResponseBody::inner(TranslatedBody::passing(body));
                        return Poll::Ready(Ok(Response::from_parts(parts, body)));
                    }
                    if let Some(fault) = fault.cloned() {
                        return Poll::Ready(Ok(failure(parts, fault.foreign(), *asker)));
                    }
                    if exchange.streaming {
                        let kind = if exchange.array { "application/json" } else { "text/event-stream; charset=utf-8" };
                        retype(&mut parts, kind);
                        let body = TranslatedBody::translating(body, (**exchange).clone());
                        return Poll::Ready(Ok(Response::from_parts(parts, ResponseBody::inner(body))));
                    }
                    State::Collecting {
                        parts: Some(Box::new(parts)),
                        body: Collect::new(body, exchange.max_answer),
                        exchange: exchange.clone(),
                        asker: *asker,
                    }
                }
                StateProjection::Collecting { parts, body, exchange, asker } => {
                    let body = ready!(body.poll(cx));
                    let Some(parts) = parts.take() else { return Poll::Pending }; // polled after it was ready
                    return Poll::Ready(Ok(answer(*parts, body, exchange, *asker)));
                }
            };
            this.state.set(next);
        }
    }
}

fn answer<B>(
    mut parts: Parts,
    body: Result<Bytes, CollectError>,
    exchange: &Exchange,
    asker: Asker,
) -> Response<ResponseBody<B>> {
    let body = match body {
        Ok(body) => body,
        Err(CollectError::TooLong) => {
            let fault = Fault::new(FaultKind::MalformedResponse, "the provider's answer is too long");
            return failure(parts, fault, asker);
        }
        Err(CollectError::Body(error)) => return failure(parts, Fault::from_error(&*error).foreign(), asker),
    };
    let pair = exchange.pair;
    let mut losses = Losses::default();
    let decoded = std::str::from_utf8(&body).ok().and_then(|text| translate::decode_answer(pair.provider, text).ok());
    let Some(mut decoded) = decoded else {
        let fault = Fault::new(FaultKind::MalformedResponse, "the provider's answer cannot be translated");
        return failure(parts, fault, asker);
    };
    exchange.stops().iter().for_each(|stops| stops.cut(&mut decoded));
    let written = translate::encode_answer(pair.client, &decoded, &mut losses);
    request::note_of_answer(&losses, exchange);
    retype(&mut parts, "application/json");
    Response::from_parts(parts, ResponseBody::whole(written.into()))
}

/// A failure in the client's words, with the headers that came with the provider's.
fn failure<B>(parts: Parts, fault: Fault, asker: Asker) -> Response<ResponseBody<B>> {
    let mut response = asker.failure(fault);
    for (name, value) in &parts.headers {
        let ours = [header::CONTENT_TYPE, header::CONTENT_LENGTH, header::CONTENT_ENCODING, header::RETRY_AFTER];
        if !ours.contains(name) {
            response.headers_mut().append(name, value.clone());
        }
    }
    // What the layers below left there for those above.
    let failed = std::mem::take(response.extensions_mut());
    *response.extensions_mut() = parts.extensions;
    response.extensions_mut().extend(failed);
    response
}

fn retype(parts: &mut Parts, content_type: &'static str) {
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
}

impl<F, B> std::fmt::Debug for TranslateFuture<F, B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TranslateFuture").finish_non_exhaustive()
    }
}
