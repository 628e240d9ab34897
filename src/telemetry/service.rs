use std::task::{Context, Poll};

use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

use crate::{
    RequestContext,
    telemetry::{ResponseFuture, TelemetryBody, TelemetryLayer, record::Record},
};

/// A service whose requests are told of: see the [module](crate::telemetry).
#[derive(Clone, Debug)]
pub struct Telemetry<S> {
    inner: S,
    layer: TelemetryLayer,
}

impl<S> Telemetry<S> {
    pub(super) fn new(inner: S, layer: TelemetryLayer) -> Self {
        Telemetry { inner, layer }
    }
}

impl<S, RequestBody, B> Service<Request<RequestBody>> for Telemetry<S>
where
    S: Service<Request<RequestBody>, Response = Response<B>>,
    S::Error: 'static,
    B: Body,
{
    type Response = Response<TelemetryBody<B>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<RequestBody>) -> Self::Future {
        let context = request.extensions_mut().get_or_insert_with(RequestContext::default).clone();
        let record = Record::begin(&self.layer, context, request.uri().path());
        let future = record.within(|| self.inner.call(request));
        ResponseFuture::new(future, record)
    }
}
