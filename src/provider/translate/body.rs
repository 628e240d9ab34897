use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::request::{self, Exchange};
use crate::{BoxError, Fault, FaultKind, body::EventStream, dialect::translate::StreamTranslator};

pin_project! {
    /// A body of a [`Translate`](super::Translate): as it came, or event by event in the client's dialect.
    pub struct TranslatedBody<B> {
        #[pin]
        inner: B,
        translation: Option<Box<Translation>>,
    }
}

struct Translation {
    events: EventStream,
    translator: StreamTranslator,
    exchange: Exchange,
    ended: bool,
}

impl<B> TranslatedBody<B> {
    pub(super) fn passing(inner: B) -> Self {
        TranslatedBody { inner, translation: None }
    }

    pub(super) fn translating(inner: B, translator: StreamTranslator, exchange: Exchange) -> Self {
        let translation = Translation { events: EventStream::default(), translator, exchange, ended: false };
        TranslatedBody { inner, translation: Some(Box::new(translation)) }
    }
}

impl Translation {
    /// The events that now are whole, in the client's dialect.
    fn push(&mut self, frame: Bytes) -> Result<Bytes, Fault> {
        let malformed = |message: String| Fault::new(FaultKind::MalformedResponse, message);
        let whole = self.events.push(frame).map_err(|_| malformed("an event of the stream is too long".to_owned()))?;
        self.read(&whole)
    }

    fn read(&mut self, whole: &[u8]) -> Result<Bytes, Fault> {
        let mut out = Vec::with_capacity(whole.len());
        for (data, _) in self.events.events(whole) {
            self.translator.event(&data, &mut out).map_err(|error| {
                let message = format!("an event of the stream cannot be translated: malformed at byte {}", error.at);
                Fault::new(FaultKind::MalformedResponse, message)
            })?;
            if self.translator.is_over() {
                // The provider goes on, but the client asked it not to: whoever polls this drops it now.
                self.finish(&mut out);
                break;
            }
        }
        Ok(out.into())
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        self.ended = true;
        self.translator.end(out);
        request::note_of_answer(self.translator.losses(), &self.exchange);
    }

    /// What is left to say when the answer is whole.
    fn end(&mut self) -> Result<Bytes, Fault> {
        let rest = self.events.finish();
        let mut out = self.read(&rest)?.to_vec();
        if !self.ended {
            self.finish(&mut out);
        }
        Ok(out.into())
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
            if translation.ended {
                return Poll::Ready(None);
            }
            let told = match ready!(this.inner.as_mut().poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => translation.push(data),
                    // Trailers are the provider's, and behind everything that is told here.
                    Err(_) => continue,
                },
                Some(Err(error)) => {
                    translation.ended = true;
                    return Poll::Ready(Some(Err(error.into())));
                }
                None => translation.end(),
            };
            match told {
                Ok(told) if told.is_empty() => {}
                Ok(told) => return Poll::Ready(Some(Ok(Frame::data(told)))),
                Err(fault) => {
                    translation.ended = true;
                    return Poll::Ready(Some(Err(fault.into())));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.translation {
            None => self.inner.is_end_stream(),
            Some(translation) => translation.ended,
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
