use std::{
    convert::Infallible,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use tower_service::Service;

use crate::{Classify, Fault, ResponseBody, StatusClassifier, body::Asker, catch_error::ResponseFuture};

/// A service without errors: see the [module](crate::catch_error).
#[derive(Debug)]
pub struct CatchError<S, C = StatusClassifier> {
    inner: S,
    classifier: C,
    /// Why the inner service will never be ready: told by the next call, as this service has no error.
    unready: Option<Box<Fault>>,
}

impl<S, C> CatchError<S, C> {
    pub(crate) fn new(inner: S, classifier: C) -> Self {
        CatchError { inner, classifier, unready: None }
    }

    /// Calls for whoever it is that will read of a failure.
    pub(crate) fn call_for<R>(&mut self, asker: Asker, request: R) -> ResponseFuture<S::Future, C>
    where
        S: Service<R>,
        C: Clone,
    {
        match self.unready.take() {
            Some(fault) => ResponseFuture::failed(*fault, asker, self.classifier.clone()),
            None => ResponseFuture::called(self.inner.call(request), asker, self.classifier.clone()),
        }
    }
}

// By hand: a clone has not been polled, so it knows nothing of readiness.
impl<S: Clone, C: Clone> Clone for CatchError<S, C> {
    fn clone(&self) -> Self {
        CatchError::new(self.inner.clone(), self.classifier.clone())
    }
}

impl<S, C, RequestBody, B> Service<Request<RequestBody>> for CatchError<S, C>
where
    S: Service<Request<RequestBody>, Response = Response<B>>,
    S::Error: 'static,
    C: Classify,
{
    type Response = Response<ResponseBody<B>>;
    type Error = Infallible;
    type Future = ResponseFuture<S::Future, C>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        let ready = ready!(self.inner.poll_ready(cx));
        self.unready = ready.err().map(|error| self.classifier.classify_error(&error).into());
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<RequestBody>) -> Self::Future {
        self.call_for(Asker::of(&request), request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FaultKind, catch_error::CatchErrorLayer};
    use bytes::Bytes;
    use http::{Extensions, HeaderMap, StatusCode};
    use http_body_util::Full;
    use std::future::poll_fn;
    use tower::{Layer, ServiceExt, service_fn};

    #[derive(Clone)]
    struct Broken;

    impl Service<Request<Full<Bytes>>> for Broken {
        type Response = Response<Full<Bytes>>;
        type Error = std::fmt::Error;
        type Future = std::future::Ready<Result<Self::Response, Self::Error>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            Poll::Ready(Err(std::fmt::Error))
        }

        fn call(&mut self, _: Request<Full<Bytes>>) -> Self::Future {
            panic!("called though it was never ready")
        }
    }

    #[tokio::test]
    async fn a_service_that_is_never_ready_fails_each_call_and_a_clone_starts_anew() {
        let mut service = CatchErrorLayer::new().layer(Broken);
        poll_fn(|cx| Service::<Request<Full<Bytes>>>::poll_ready(&mut service, cx)).await.unwrap();
        assert!(service.unready.is_some() && service.clone().unready.is_none());
        let response = service.oneshot(Request::default()).await.unwrap();
        assert_eq!(response.extensions().get::<Fault>().unwrap().kind(), FaultKind::ConnectionLost);
    }

    #[tokio::test]
    async fn what_an_error_means_is_the_classifiers_to_say() {
        #[derive(Clone)]
        struct Overloads;
        impl Classify for Overloads {
            fn classify_head(&self, _: StatusCode, _: &HeaderMap, _: &Extensions) -> Option<Fault> {
                None
            }
            fn classify_error<E: 'static>(&self, _: &E) -> Fault {
                Fault::new(FaultKind::Overloaded, "shed")
            }
        }
        let failing = service_fn(|_: Request<Full<Bytes>>| async { Err::<Response<Full<Bytes>>, _>(std::fmt::Error) });
        let service = CatchErrorLayer::new().with_classifier(Overloads).layer(failing);
        let response = service.oneshot(Request::default()).await.unwrap();
        assert_eq!(response.status(), 503);
        assert_eq!(response.extensions().get::<Fault>().unwrap().kind(), FaultKind::Overloaded);
    }
}
