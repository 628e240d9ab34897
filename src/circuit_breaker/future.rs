use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::Response;
use http_body::Body;
use pin_project_lite::pin_project;

use crate::{
    BoxError, Classify, ResponseBody,
    circuit_breaker::{VerdictBody, permit::Permits},
    guard::Guarded,
};

pin_project! {
    /// The response of a [`CircuitBreaker`](super::CircuitBreaker).
    #[derive(Debug)]
    pub struct ResponseFuture<F, C> {
        #[pin]
        inner: Guarded<F>,
        // Dropped before its end, they say nothing: nobody waited to see how the call would end.
        permits: Option<Permits>,
        classifier: C,
    }
}

impl<F, C> ResponseFuture<F, C> {
    pub(super) fn new(inner: Guarded<F>, permits: Option<Permits>, classifier: C) -> Self {
        ResponseFuture { inner, permits, classifier }
    }
}

impl<F, C, B, E> Future for ResponseFuture<F, C>
where
    F: Future<Output = Result<Response<B>, E>>,
    C: Classify,
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
    E: 'static,
{
    type Output = Result<Response<VerdictBody<ResponseBody<B>>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Poll::Ready(result) = this.inner.poll(cx) else {
            this.permits.iter_mut().for_each(Permits::waiting);
            return Poll::Pending;
        };
        let mut permits = this.permits.take();
        if permits.is_some() {
            match this.classifier.classify(&result) {
                Some(fault) => permits.take().into_iter().for_each(|permits| permits.fail(&fault)),
                None => permits.iter_mut().for_each(Permits::answering),
            }
        }
        Poll::Ready(result.map(|response| response.map(|body| VerdictBody::new(body, permits))))
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, time::Duration};

    use http::Request;
    use http_body_util::Full;
    use tower::{Layer, ServiceExt, service_fn};

    use super::*;
    use crate::{
        CircuitBreakerLayer,
        circuit_breaker::{CircuitRegistry, CircuitSettings},
    };

    #[tokio::test(start_paused = true)]
    async fn a_call_that_waits_long_for_its_answer_is_slow() {
        let settings = CircuitSettings { window: Duration::from_secs(300), ..CircuitSettings::default() };
        let circuits = CircuitRegistry::new(settings);
        let service =
            CircuitBreakerLayer::new(circuits.clone()).layer(service_fn(|request: Request<u64>| async move {
                tokio::time::sleep(Duration::from_secs(*request.body())).await;
                Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
            }));
        for seconds in [0, 29, 30, 31] {
            service.clone().oneshot(Request::new(seconds)).await.unwrap();
        }
        let snapshot = circuits.snapshot().remove(0);
        assert_eq!((snapshot.calls, snapshot.slow_calls), (4, 2));
    }
}
