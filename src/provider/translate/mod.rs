//! Lets a target answer whose dialect the client does not speak.

mod body;
mod future;
mod request;

pub use body::TranslatedBody;
pub use future::TranslateFuture;

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::Full;
use tower_layer::Layer;
use tower_service::Service;

use crate::{BoxError, RequestContext, ResponseBody, Target, body::Asker, dialect::translate};

/// Translates requests into the dialect of their [`Target`]'s provider, and its answers back: the outermost part of a
/// [`ProviderLayer`](super::ProviderLayer).
///
/// - Where the client speaks the provider's dialect, nothing is touched, but for thoughts of other models that
///   its provider would refuse; and a Gemini stream that is to be an array is asked for as events, and made that array here.
/// - Otherwise the request, the answer, and a stream event by event go through one canonical form. No event waits for the
///   next, but for what the client's grammar forces (a block of Anthropic's ends before the next begins).
/// - Of the client's headers only those go along that mean the same in every API; a provider's error is told in the client's
///   dialect.
/// - What the provider's dialect has no word for is either a [requirement](crate::Need::Feature), which a
///   [`CapabilityFilterLayer`](crate::CapabilityFilterLayer) refuses before the wire, or left out and [logged](crate::Attempt::losses).
#[derive(Clone, Copy, Debug)]
pub struct TranslateLayer {
    max_answer: usize,
}

impl TranslateLayer {
    /// The layer; the dialects are the [context](RequestContext)'s and its target's.
    #[must_use]
    pub const fn new() -> Self {
        TranslateLayer { max_answer: 32 << 20 }
    }

    /// How many bytes an answer may have that is translated in one piece; a longer one is a fault. Default: 32 MiB.
    #[must_use]
    pub const fn with_max_answer(mut self, bytes: usize) -> Self {
        self.max_answer = bytes;
        self
    }
}

impl Default for TranslateLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for TranslateLayer {
    type Service = Translate<S>;

    fn layer(&self, inner: S) -> Translate<S> {
        Translate { inner, max_answer: self.max_answer }
    }
}

/// A service that speaks all dialects: see [`TranslateLayer`].
#[derive(Clone, Debug)]
pub struct Translate<S> {
    inner: S,
    max_answer: usize,
}

impl<S, B> Service<Request<Full<Bytes>>> for Translate<S>
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>, Error = Infallible>,
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Response = Response<ResponseBody<TranslatedBody<B>>>;
    type Error = Infallible;
    type Future = TranslateFuture<S::Future, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        let Some(pair) = Pair::of(&request) else {
            return TranslateFuture::passing(self.inner.call(request::without_foreign(request)));
        };
        let asker = Asker::of(&request);
        match request::translated(request, pair, self.max_answer) {
            Ok((request, exchange)) => TranslateFuture::translating(self.inner.call(request), exchange, asker),
            Err(fault) => TranslateFuture::failed(fault, asker),
        }
    }
}

/// The request as its target would get it. What it would not be told is noted in the log of attempts.
#[cfg(feature = "gateway")]
pub(crate) fn rehearse(request: Request<Full<Bytes>>) -> Result<Request<Full<Bytes>>, crate::Fault> {
    match Pair::of(&request) {
        None => Ok(request),
        Some(pair) => request::translated(request, pair, 0).map(|(request, _)| request),
    }
}

/// Who speaks what.
#[derive(Clone, Copy, Debug)]
struct Pair {
    client: crate::Dialect,
    provider: crate::Dialect,
}

impl Pair {
    /// `None` where there is nothing to translate.
    fn of<B>(request: &Request<B>) -> Option<Self> {
        let context = RequestContext::of(request.extensions())?;
        let provider = context.target().and_then(Target::provider)?.dialect();
        let client = crate::Dialect::from_path(request.uri().path())?;
        let pair = Pair { client, provider };
        (client != provider || translate::wants_array(request.uri())).then_some(pair)
    }
}
