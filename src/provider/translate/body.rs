use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::request::{self, Exchange};
use crate::{
    BoxError, Fault, FaultKind,
    body::{ArrayWriter, EventStream, Oversized},
    dialect::{json_scan::Malformed, translate::StreamTranslator},
};

pin_project! {
    /// A body of a [`Translate`](super::Translate): as it came, or event by event in the client's
    /// dialect.
    pub struct TranslatedBody<B> {
        #[pin]
        inner: B,
        translation: Option<Box<Translation>>,
    }
}

struct Translation {
    events: EventStream,
    /// `None` where the client speaks the provider's dialect, and only wants an array of what would be events.
    translator: Option<StreamTranslator>,
    array: Option<ArrayWriter>,
    exchange: Exchange,
    /// What broke the stream, to be told behind what came before.
    failure: Option<BoxError>,
    ended: bool,
}

impl<B> TranslatedBody<B> {
    pub(super) fn passing(inner: B) -> Self {
        TranslatedBody { inner, translation: None }
    }

    pub(super) fn translating(inner: B, exchange: Exchange) -> Self {
        let pair = exchange.pair;
        let translator = (pair.client != pair.provider).then(|| {
            let translator = StreamTranslator::new(pair.provider, pair.client, exchange.include_usage);
            let input = exchange.context.requirements().map_or(0, |needs| needs.input_tokens);
            translator.with_stops(exchange.stops(), input)
        });
        let array = exchange.array.then(ArrayWriter::default);
        let translation =
            Translation { events: EventStream::default(), translator, array, exchange, failure: None, ended: false };
        TranslatedBody { inner, translation: Some(Box::new(translation)) }
    }
}

impl Translation {
    /// The events that now are whole, as the client wants them.
    fn push(&mut self, frame: Bytes) -> Bytes {
        let whole = match self.events.push(frame) {
            Ok(whole) => whole,
            Err(Oversized) => {
                return self.fail(Vec::new(), "an event of the stream is too long to be translated".to_owned());
            }
        };
        let mut out = Vec::with_capacity(whole.len());
        self.read(&whole, &mut out)
    }

    fn read(&mut self, whole: &[u8], out: &mut Vec<u8>) -> Bytes {
        for (data, _) in self.events.events(whole) {
            let Some(translator) = &mut self.translator else {
                self.array.iter_mut().for_each(|array| array.element(&data, out));
                continue;
            };
            if let Err(Malformed { at }) = translator.event(&data, out) {
                let message = format!("an event of the stream cannot be translated: malformed at byte {at}");
                return self.fail(std::mem::take(out), message);
            }
            if translator.is_over() {
                // The provider goes on, but the client asked it not to: whoever polls this drops it now.
                self.finish(out);
                return self.told(std::mem::take(out), true);
            }
        }
        self.told(std::mem::take(out), false)
    }

    /// What was told, as an array if that is wanted.
    fn told(&mut self, events: Vec<u8>, is_end: bool) -> Bytes {
        let Some(array) = &mut self.array else { return events.into() };
        let mut out = match self.translator {
            None => events,
            Some(_) => {
                let mut out = Vec::with_capacity(events.len());
                for (data, _) in EventStream::default().events(&events) {
                    array.element(&data, &mut out);
                }
                out
            }
        };
        if is_end {
            array.end(&mut out);
        }
        out.into()
    }

    fn fail(&mut self, told: Vec<u8>, message: String) -> Bytes {
        self.failure = Some(Fault::new(FaultKind::MalformedResponse, message).into());
        self.told(told, false)
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        self.ended = true;
        if let Some(translator) = &mut self.translator {
            translator.end(out);
            request::note_of_answer(translator.losses(), &self.exchange);
        }
    }

    /// What is left to say when the answer is whole.
    fn end(&mut self) -> Bytes {
        let rest = self.events.finish();
        let mut out = Vec::new();
        let told = self.read(&rest, &mut out);
        if self.ended || self.failure.is_some() {
            return told;
        }
        self.finish(&mut out);
        [told, self.told(out, true)].concat().into()
    }
}

impl<B> Body for TranslatedBody<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut this = self.project();
        let Some(translation) = this.translation else {
            return this.inner.poll_frame(cx).map_err(Into::into);
        };
        loop {
            if let Some(error) = translation.failure.take() {
                translation.ended = true;
                return Poll::Ready(Some(Err(error)));
            }
            if translation.ended {
                return Poll::Ready(None);
            }
            let told = match ready!(this.inner.as_mut().poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        let told = translation.push(data);
                        if translation.failure.is_none() && !translation.ended {
                            // Even where it has nothing to tell yet (of a call that Gemini's clients get whole, say), lest
                            // whoever times the body takes that for silence.
                            return Poll::Ready(Some(Ok(Frame::data(told))));
                        }
                        told
                    }
                    // Trailers are the provider's, and behind everything that is told here.
                    Err(_) => continue,
                },
                Some(Err(error)) => {
                    let error = error.into();
                    translation.failure = Some(match (Fault::find(&*error), &translation.translator) {
                        (Some(fault), Some(_)) => fault.clone().foreign().into(),
                        _ => error,
                    });
                    continue;
                }
                None => translation.end(),
            };
            if !told.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(told))));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.translation {
            None => self.inner.is_end_stream(),
            Some(translation) => translation.ended && translation.failure.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.translation {
            None => self.inner.size_hint(),
            Some(_) => SizeHint::default(),
        }
    }
}

impl<B: Default> Default for TranslatedBody<B> {
    fn default() -> Self {
        Self::passing(B::default())
    }
}

impl<B: fmt::Debug> fmt::Debug for TranslatedBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TranslatedBody")
            .field("inner", &self.inner)
            .field("translating", &self.translation.is_some())
            .finish()
    }
}
