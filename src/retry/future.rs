use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep};
use tower::util::Oneshot;
use tower_service::Service;

use crate::{
    Classify, Event, Fault, FaultKind, Outcome, RequestContext, ResponseBody, RetryAdvice, body::Asker,
    context::AttemptGuard, retry::RetryLayer, trace,
};

pin_project! {
    /// The response of a [`Retry`](super::Retry).
    pub struct ResponseFuture<S, RequestBody, C>
    where
        S: Service<Request<RequestBody>>,
    {
        #[pin]
        state: State<S, RequestBody>,
        // For the next try, while there may be one.
        again: Option<(S, Request<RequestBody>)>,
        policy: Arc<RetryLayer<C>>,
        tries: u32,
        entry: Option<AttemptGuard>,
        asker: Asker,
        // What the wire answered before a refusal.
        failure: Option<Box<Fault>>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S, RequestBody>
    where
        S: Service<Request<RequestBody>>,
    {
        First { #[pin] future: S::Future },
        Waiting { #[pin] timer: Sleep },
        Again { #[pin] future: Oneshot<S, Request<RequestBody>> },
    }
}

impl<S, RequestBody, C> ResponseFuture<S, RequestBody, C>
where
    S: Service<Request<RequestBody>>,
{
    pub(super) fn new(
        first: S::Future,
        again: Option<(S, Request<RequestBody>)>,
        entry: Option<AttemptGuard>,
        asker: Asker,
        policy: Arc<RetryLayer<C>>,
    ) -> Self {
        let state = State::First { future: first };
        ResponseFuture { state, again, policy, tries: 1, entry, asker, failure: None }
    }
}

impl<S, RequestBody, C, B> Future for ResponseFuture<S, RequestBody, C>
where
    S: Service<Request<RequestBody>, Response = Response<B>> + Clone,
    S::Error: 'static,
    C: Classify,
    RequestBody: Clone,
{
    type Output = Result<Response<ResponseBody<B>>, S::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let mut this = self.as_mut().project();
            let within = this.entry.as_ref().and_then(AttemptGuard::enter);
            let result = match this.state.as_mut().project() {
                StateProjection::First { future } => ready!(future.poll(cx)),
                StateProjection::Again { future } => ready!(future.poll(cx)),
                StateProjection::Waiting { timer } => {
                    ready!(timer.poll(cx));
                    drop(within);
                    let Some((service, request)) = this.again.take() else { return Poll::Pending };
                    *this.tries += 1;
                    if *this.tries < this.policy.attempts {
                        *this.again = Some((service.clone(), request.clone()));
                    }
                    let mut next = request;
                    if let Some(context) = this.entry.as_ref().map(|entry| entry.context().another_try()) {
                        *this.entry = Some(AttemptGuard::new(context.clone()));
                        next.extensions_mut().insert(context);
                    }
                    this.state.set(State::Again { future: Oneshot::new(service, next) });
                    continue;
                }
            };
            drop(within);
            let fault = this.policy.classifier.classify(&result);
            if let Some(entry) = this.entry {
                entry.ended(Outcome::of(fault.clone()));
            }
            // What a guard refuses never reached the wire: it is no traffic that retries may be a share of.
            if *this.tries == 1 && this.again.is_some() && !fault.as_ref().is_some_and(is_refusal) {
                this.policy.budget.record_first_try();
            }
            let Some(fault) = fault else {
                return Poll::Ready(result.map(|response| response.map(ResponseBody::inner)));
            };
            if let (FaultKind::Refused, Some(earlier)) = (fault.kind(), this.failure.take()) {
                return Poll::Ready(Ok(this.asker.failure(*earlier)));
            }
            let context = this.entry.as_ref().map(AttemptGuard::context);
            match this.policy.wait(&fault, *this.tries, context) {
                Some(wait) if this.again.is_some() => {
                    // Not kept during the wait: it may hold a connection.
                    drop(result);
                    if let Some(context) = context {
                        tell(context, &fault, wait);
                    }
                    *this.failure = Some(fault.into());
                    this.state.set(State::Waiting { timer: sleep(wait) });
                }
                _ => return Poll::Ready(result.map(|response| response.map(ResponseBody::inner))),
            }
        }
    }
}

fn is_refusal(fault: &Fault) -> bool {
    fault.kind() == FaultKind::Refused
}

#[cold]
fn tell(context: &RequestContext, fault: &Fault, wait: Duration) {
    let target = context.target();
    tracing::info!(
        target = target.map(|target| target.id().as_str()),
        kind = fault.kind().name(),
        http.response.status_code = fault.status().map(|status| status.as_u16()),
        provider_code = fault.code().map(trace::shortened),
        wait = wait.as_secs_f64(),
        reason = fault.reason(),
        "retry"
    );
    context.observe(|| Event::Retried { target: target.cloned(), fault: fault.clone(), wait });
}

impl<C> RetryLayer<C> {
    /// How long to wait for the next try after that failure; `None` where there is none to be.
    fn wait(&self, fault: &Fault, tries: u32, context: Option<&RequestContext>) -> Option<Duration> {
        // The one try that open circuits let through is one: a retry would double what reaches targets that are all down.
        if tries >= self.attempts || context.is_some_and(RequestContext::is_last_resort) {
            return None;
        }
        let asked = fault.retry_after();
        let advice = match fault.should_retry() {
            // A layer of ours that declines does so again, whatever a provider says.
            _ if matches!(fault.kind(), FaultKind::Refused | FaultKind::Cancelled) => RetryAdvice::No,
            Some(true) => RetryAdvice::Yes,
            Some(false) => RetryAdvice::No,
            None => fault.policy().retry,
        };
        let worth_it = match advice {
            RetryAdvice::Yes => asked.is_none_or(|asked| asked <= self.max_retry_after),
            RetryAdvice::WhenRetryAfterIsShort => asked.is_some_and(|asked| asked <= self.max_retry_after),
            RetryAdvice::No => false,
        };
        let wait = asked.unwrap_or_else(|| self.backoff.wait(tries));
        let in_time = || {
            let deadline = context.and_then(RequestContext::deadline);
            deadline.is_none_or(|deadline| wait < deadline.remaining())
        };
        (worth_it && in_time() && self.budget.withdraw()).then_some(wait)
    }
}

impl<S, RequestBody, C> fmt::Debug for ResponseFuture<S, RequestBody, C>
where
    S: Service<Request<RequestBody>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").field("tries", &self.tries).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_provider_says_about_a_retry_goes_before_the_table() {
        let retried = |kind, should_retry: Option<bool>| {
            let fault = Fault::new(kind, "failed").with_should_retry(should_retry);
            RetryLayer::new().wait(&fault, 1, None).is_some()
        };
        assert!(retried(FaultKind::Overloaded, None) && !retried(FaultKind::Overloaded, Some(false)));
        assert!(!retried(FaultKind::BadRequest, None) && retried(FaultKind::BadRequest, Some(true)));
        // Without a hint how long to wait, too.
        assert!(!retried(FaultKind::RateLimited, None) && retried(FaultKind::RateLimited, Some(true)));
        assert!(!retried(FaultKind::Refused, Some(true)) && !retried(FaultKind::Cancelled, Some(true)));
        let patient = Fault::new(FaultKind::RateLimited, "").with_should_retry(true);
        assert_eq!(RetryLayer::new().wait(&patient.with_retry_after(Duration::from_secs(60)), 1, None), None);
    }
}
