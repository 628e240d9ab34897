use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::Response;
use http_body::Body;
use pin_project_lite::pin_project;

use crate::{
    Fault,
    telemetry::{TelemetryBody, record::Record},
};

pin_project! {
    /// The response of a [`Telemetry`](super::Telemetry).
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        // Before the record: what the call does when it is dropped is part of it.
        #[pin]
        inner: F,
        record: Option<Record>,
    }
}

impl<F> ResponseFuture<F> {
    pub(crate) fn new(inner: F, record: Record) -> Self {
        ResponseFuture { inner, record: Some(record) }
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body,
    E: 'static,
{
    type Output = Result<Response<TelemetryBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let inner = this.inner;
        let result = match this.record {
            Some(record) => ready!(record.within(|| inner.poll(cx))),
            None => ready!(inner.poll(cx)),
        };
        Poll::Ready(match (result, this.record.take()) {
            (Ok(response), Some(record)) => Ok(record.attach(response)),
            (Ok(response), None) => Ok(response.map(TelemetryBody::untold)),
            (Err(error), record) => {
                record.into_iter().for_each(|record| record.failed(Fault::from_transport(&error)));
                Err(error)
            }
        })
    }
}
