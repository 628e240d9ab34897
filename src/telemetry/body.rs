use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::{BoxError, Fault, telemetry::record::Record};

pin_project! {
    /// The body of an answer, whose end is noted.
    #[derive(Debug)]
    pub struct TelemetryBody<B> {
        // Before the record: what the body cost is known when it is dropped.
        #[pin]
        inner: B,
        record: Option<Record>,
    }
}

impl<B> TelemetryBody<B> {
    pub(super) fn new(inner: B, record: Record) -> Self {
        TelemetryBody { inner, record: Some(record) }
    }

    pub(super) fn untold(inner: B) -> Self {
        TelemetryBody { inner, record: None }
    }
}

impl<B> Body for TelemetryBody<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        let mut this = self.project();
        let Some(record) = this.record.as_mut() else {
            return this.inner.poll_frame(cx).map_err(Into::into);
        };
        let frame = ready!(record.within(|| this.inner.as_mut().poll_frame(cx)));
        Poll::Ready(match frame {
            Some(Ok(frame)) => {
                // Nobody asks again for what is known to have ended.
                if this.inner.is_end_stream() {
                    record.ended();
                }
                Some(Ok(frame))
            }
            Some(Err(error)) => {
                let error = error.into();
                record.broke(Fault::from_error(&*error));
                Some(Err(error))
            }
            None => {
                record.ended();
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<B: Default> Default for TelemetryBody<B> {
    fn default() -> Self {
        TelemetryBody::untold(B::default())
    }
}
