use std::{
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use tower_service::Service;

use crate::{
    Classify, RequestContext, ResponseBody, StatusClassifier,
    body::Asker,
    context::AttemptGuard,
    retry::{ResponseFuture, RetryLayer},
};

/// A service that tries again: see the [module](crate::retry).
#[derive(Clone, Debug)]
pub struct Retry<S, C = StatusClassifier> {
    inner: S,
    policy: Arc<RetryLayer<C>>,
}

impl<S, C> Retry<S, C> {
    pub(super) fn new(inner: S, policy: RetryLayer<C>) -> Self {
        Retry { inner, policy: policy.into() }
    }
}

impl<S, C, RequestBody, B> Service<Request<RequestBody>> for Retry<S, C>
where
    S: Service<Request<RequestBody>, Response = Response<B>> + Clone,
    S::Error: 'static,
    C: Classify,
    RequestBody: Clone,
{
    type Response = Response<ResponseBody<B>>;
    type Error = S::Error;
    type Future = ResponseFuture<S, RequestBody, C>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<RequestBody>) -> Self::Future {
        // A try that nobody outside has entered in the log is entered here.
        if let Some(context) = request.extensions_mut().get_mut::<RequestContext>() {
            if context.attempt().is_none() {
                *context = context.another_try();
            }
        }
        let context = request.extensions().get::<RequestContext>().cloned();
        let again = (self.policy.attempts > 1).then(|| (self.inner.clone(), copy(&mut request, context.is_some())));
        let asker = Asker::new(request.headers(), context.as_ref());
        // The instance that was polled ready makes the first call; the clone is polled before each further one.
        let first = self.inner.call(request);
        ResponseFuture::new(first, again, context.map(AttemptGuard::new), asker, self.policy.clone())
    }
}

/// The request, to be sent again; without its context, if that is all there is in its extensions: each try gets its own.
fn copy<B: Clone>(request: &mut Request<B>, has_context: bool) -> Request<B> {
    let extensions = std::mem::take(request.extensions_mut());
    let mut copy = request.clone();
    if extensions.len() > usize::from(has_context) {
        *copy.extensions_mut() = extensions.clone();
    }
    *request.extensions_mut() = extensions;
    copy
}
