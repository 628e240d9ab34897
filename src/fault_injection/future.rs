use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{HeaderMap, HeaderValue, Request, Response, header};
use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep};

use crate::{
    Dialect, Fault, FaultKind, RequestContext, ResponseBody, Target,
    body::Asker,
    dialect,
    fault_injection::{InjectedBody, InjectedFault},
};

pin_project! {
    /// The response of a [`FaultInjection`](super::FaultInjection).
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = StateProjection]
    enum State<F> {
        // Boxed, so that whoever injects nothing does not carry a timer about.
        Called { #[pin] future: F, delay: Option<Pin<Box<Sleep>>>, cut: Option<u64> },
        Failed { failure: Option<Box<Failure>> },
        Hanging,
    }
}

/// A failure that needs no call.
#[derive(Debug)]
pub(super) struct Failure {
    fault: InjectedFault,
    asker: Asker,
    /// In which the provider would word its error.
    dialect: Dialect,
}

impl Failure {
    pub(super) fn new<B>(fault: InjectedFault, request: &Request<B>) -> Self {
        let context = RequestContext::of(request.extensions());
        let provider = context.and_then(RequestContext::target).and_then(Target::provider);
        let dialect = provider.map(|provider| provider.dialect()).or_else(|| context?.dialect());
        Failure { fault, asker: Asker::of(request), dialect: dialect.unwrap_or(Dialect::OpenAiChat) }
    }

    fn response<B>(self) -> Response<InjectedBody<B>> {
        let fault = match (&self.fault, self.fault.status()) {
            (_, Some(status)) => {
                let kind = FaultKind::from_status(status).unwrap_or(FaultKind::Unavailable);
                let fault = Fault::new(kind, format!("injected: {}", self.fault)).with_status(status);
                let fault = match self.fault {
                    // As OpenAI has it: by a code of its own, a 503 would be taken for an overload.
                    InjectedFault::Unavailable | InjectedFault::ServerError => fault.with_code("server_error"),
                    _ => fault,
                };
                fault.with_retry_after(self.fault.retry_after())
            }
            (InjectedFault::Down, None) => Fault::new(FaultKind::Connect, "injected: the connection was refused"),
            (_, None) => Fault::new(FaultKind::ConnectionLost, "injected: the connection was reset"),
        };
        let mut response = self.asker.failure(fault.clone());
        let is_grpc = response.headers().contains_key("grpc-status");
        if let (Some(status), false) = (self.fault.status(), is_grpc) {
            // As the wire has it: a status, headers and a body, of which others are to find out what they mean.
            response.extensions_mut().remove::<Fault>();
            *response.status_mut() = status;
            tell_to_wait(response.headers_mut(), self.fault.retry_after());
            *response.body_mut() = ResponseBody::whole(dialect::error_body(self.dialect, &fault));
        }
        response.map(InjectedBody::over)
    }
}

fn tell_to_wait(headers: &mut HeaderMap, retry_after: Option<Duration>) {
    headers.remove(header::RETRY_AFTER);
    let Some(retry_after) = retry_after else { return };
    headers.insert(header::RETRY_AFTER, HeaderValue::from(retry_after.as_secs_f64().ceil() as u64));
    headers.insert("retry-after-ms", HeaderValue::from(u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX)));
}

impl<F> ResponseFuture<F> {
    /// A call whose answer begins later, or is cut.
    pub(super) fn called(future: F, delay: Option<Duration>, cut: Option<u64>) -> Self {
        let delay = delay.map(|delay| Box::pin(sleep(delay)));
        ResponseFuture { state: State::Called { future, delay, cut } }
    }

    pub(super) fn failed(failure: Failure) -> Self {
        ResponseFuture { state: State::Failed { failure: Some(Box::new(failure)) } }
    }

    pub(super) fn hanging() -> Self {
        ResponseFuture { state: State::Hanging }
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<InjectedBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Called { future, delay, cut } => {
                if let Some(timer) = delay {
                    ready!(timer.as_mut().poll(cx));
                    *delay = None;
                }
                let response = ready!(future.poll(cx))?;
                Poll::Ready(Ok(response.map(|body| InjectedBody::new(body, *cut))))
            }
            StateProjection::Failed { failure } => match failure.take() {
                Some(failure) => Poll::Ready(Ok(failure.response())),
                None => Poll::Pending, // polled after it was ready
            },
            // Nobody is told when it ends, because it does not.
            StateProjection::Hanging => Poll::Pending,
        }
    }
}
