//! Several keys of one account: what one is refused, another may have.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    Attempt, CircuitAdvice, Credentials, Fault, FaultKind, RequestContext, ResponseBody, Target, body::Asker,
    credentials::PickedKey,
};

/// Uses the keys of a provider that has [several](Credentials::rotating) in turn: a part of a
/// [`ProviderLayer`](super::ProviderLayer).
///
/// A key that the provider rejects ([`AuthFailed`](crate::FaultKind::AuthFailed),
/// [`PermissionDenied`](crate::FaultKind::PermissionDenied)) or limits ([`RateLimited`](crate::FaultKind::RateLimited), for its
/// `Retry-After`), or that has nothing left ([`QuotaExhausted`](crate::FaultKind::QuotaExhausted)) rests alone. While another
/// one is fit, the same attempt goes on with that at once: no layer around this one learns of it. When all of them rest, the
/// failure is passed on. Each key is tried once at the most for one attempt.
///
/// Calls for a provider that has one key, or none, pass untouched.
#[derive(Clone, Copy, Debug, Default)]
pub struct RotateLayer(());

impl RotateLayer {
    /// The layer; the keys are those of each request's [`Target`].
    #[must_use]
    pub const fn new() -> Self {
        RotateLayer(())
    }
}

impl<S> Layer<S> for RotateLayer {
    type Service = Rotate<S>;

    fn layer(&self, inner: S) -> Rotate<S> {
        Rotate { inner }
    }
}

/// A service that uses keys in turn: see [`RotateLayer`].
#[derive(Clone, Debug)]
pub struct Rotate<S> {
    inner: S,
}

impl<S, B> Service<Request<Full<Bytes>>> for Rotate<S>
where
    S: Service<Request<Full<Bytes>>, Response = Response<ResponseBody<B>>, Error = Infallible> + Clone,
{
    type Response = S::Response;
    type Error = Infallible;
    type Future = RotateFuture<S>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Full<Bytes>>) -> Self::Future {
        let Some((target, key)) = first(&request) else {
            return RotateFuture { state: State::Calling { future: self.inner.call(request) }, spare: None };
        };
        // The clone has not been polled: it is, before it is called.
        let service = self.inner.clone();
        request.extensions_mut().insert(key.clone());
        let spare = Box::new(Spare { service, request: request.clone(), target, tried: vec![key] });
        RotateFuture { state: State::Calling { future: self.inner.call(request) }, spare: Some(spare) }
    }
}

/// The first key to try, where there are several.
fn first(request: &Request<Full<Bytes>>) -> Option<(Target, PickedKey)> {
    let target = RequestContext::of(request.extensions())?.target()?;
    let credentials = target.provider()?.credentials();
    if !credentials.rotate() {
        return None;
    }
    Some((target.clone(), credentials.pick(&[])?))
}

/// What another try takes.
#[derive(Debug)]
struct Spare<S> {
    service: S,
    request: Request<Full<Bytes>>,
    target: Target,
    tried: Vec<PickedKey>,
}

impl<S> Spare<S> {
    fn credentials(&self) -> Option<&Credentials> {
        Some(self.target.provider()?.credentials())
    }

    /// Whether to try again, after that response; the request then has another key.
    fn goes_on<B>(&mut self, response: &mut Response<ResponseBody<B>>) -> bool {
        let Some(key) = self.tried.last() else { return false };
        let Some(fault) = response.extensions().get::<Fault>() else {
            key.praise();
            return false;
        };
        // What the client chose, such as its model, is not the key's fault.
        let is_ours = matches!(fault.policy().circuit, CircuitAdvice::Failure | CircuitAdvice::OpenLong);
        if !is_ours || !key.blame(fault) {
            return false;
        }
        let (kind, rest) = (fault.kind(), key.rest());
        let next = self.credentials().and_then(|credentials| credentials.pick(&self.tried));
        let provider = self.target.provider().map(|provider| provider.name());
        tracing::warn!(provider, %kind, ?rest, another = next.is_some(), "a key rests");
        match next {
            Some(next) => {
                self.request.extensions_mut().insert(next.clone());
                self.tried.push(next);
                let attempt = RequestContext::of(self.request.extensions()).and_then(RequestContext::attempt);
                attempt.into_iter().for_each(Attempt::goes_on_with_another_key);
                true
            }
            None => {
                self.surface(response);
                false
            }
        }
    }

    /// All keys rest. Where another one than the last is fit again long before that, the failure is that the account is busy
    /// until then: a rejected key says nothing of the others, and must not keep the circuit open for as long as it rests.
    fn surface<B>(&self, response: &mut Response<ResponseBody<B>>) {
        let soonest = self.credentials().map(Credentials::shortest_rest).unwrap_or_default();
        let last = self.tried.last().map(PickedKey::rest).unwrap_or_default();
        if last / 2 <= soonest {
            return;
        }
        let message = "one of the provider's keys was refused, and the others rest";
        let busy = Fault::new(FaultKind::RateLimited, message).with_retry_after(soonest);
        *response = Asker::of(&self.request).failure(busy);
    }
}

pin_project! {
    /// The response of a [`Rotate`].
    pub struct RotateFuture<S: Service<Request<Full<Bytes>>>> {
        #[pin]
        state: State<S::Future>,
        // `None` where there is nothing to choose from.
        spare: Option<Box<Spare<S>>>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F> {
        Calling { #[pin] future: F },
        Readying,
    }
}

impl<S, B> Future for RotateFuture<S>
where
    S: Service<Request<Full<Bytes>>, Response = Response<ResponseBody<B>>, Error = Infallible>,
{
    type Output = Result<Response<ResponseBody<B>>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let mut this = self.as_mut().project();
            match (this.state.as_mut().project(), this.spare.as_mut()) {
                (StateProjection::Calling { future }, None) => return future.poll(cx),
                (StateProjection::Calling { future }, Some(spare)) => {
                    let mut response = ready!(future.poll(cx))?;
                    if !spare.goes_on(&mut response) {
                        return Poll::Ready(Ok(response));
                    }
                    // The failed response, and its connection, is gone before the next is asked for.
                    drop(response);
                    this.state.set(State::Readying);
                }
                (StateProjection::Readying, Some(spare)) => {
                    ready!(spare.service.poll_ready(cx))?;
                    let future = spare.service.call(spare.request.clone());
                    this.state.set(State::Calling { future });
                }
                (StateProjection::Readying, None) => return Poll::Pending, // there is no way here
            }
        }
    }
}

impl<S: Service<Request<Full<Bytes>>>> std::fmt::Debug for RotateFuture<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RotateFuture").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dialect, KeyHeader, Provider};
    use tower::ServiceExt;

    /// Refuses the first keys that it is shown, and must have been polled ready for each call.
    #[derive(Debug, Default)]
    struct Strict {
        is_ready: bool,
        calls: std::sync::Arc<std::sync::atomic::AtomicUsize>,
        refuses: usize,
    }

    // By hand: a clone has not been polled.
    impl Clone for Strict {
        fn clone(&self) -> Self {
            Strict { is_ready: false, calls: self.calls.clone(), refuses: self.refuses }
        }
    }

    impl Service<Request<Full<Bytes>>> for Strict {
        type Response = Response<ResponseBody<Full<Bytes>>>;
        type Error = Infallible;
        type Future = std::future::Ready<Result<Self::Response, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            self.is_ready = true;
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
            assert!(std::mem::take(&mut self.is_ready), "called without having been polled ready");
            assert!(request.extensions().get::<PickedKey>().is_some());
            let before = self.calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            std::future::ready(Ok(match before < self.refuses {
                true => Asker::of(&request).failure(Fault::new(FaultKind::AuthFailed, "no")),
                false => Response::default(),
            }))
        }
    }

    async fn ask(refuses: usize) -> (usize, Option<FaultKind>) {
        let keys = Credentials::rotating(KeyHeader::Bearer, ["a", "b", "c"].map(Into::into)).unwrap();
        let provider = Provider::new("p", Dialect::OpenAiChat, "http://h/v1").unwrap().with_credentials(keys);
        let mut request = Request::new(Full::default());
        request.extensions_mut().insert(RequestContext::new().with_target(Target::new(&provider, "m")));
        let inner = Strict { refuses, ..Strict::default() };
        let calls = inner.calls.clone();
        let response = RotateLayer::new().layer(inner).oneshot(request).await.unwrap();
        let fault = response.extensions().get::<Fault>().map(Fault::kind);
        (calls.load(std::sync::atomic::Ordering::Relaxed), fault)
    }

    #[tokio::test(start_paused = true)]
    async fn each_try_is_one_call_of_a_service_that_is_ready_and_each_key_has_one() {
        assert_eq!(ask(0).await, (1, None));
        assert_eq!(ask(2).await, (3, None));
        assert_eq!(ask(9).await, (3, Some(FaultKind::AuthFailed)));
    }
}
