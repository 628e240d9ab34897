//! Their body, or ours where we give up.

use std::{
    fmt,
    pin::Pin,
    sync::OnceLock,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, header};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::{BoxError, Dialect, Fault, RequestContext, body::grpc, dialect};

pin_project! {
    /// The body of a layer's response: the inner service's, or the layer's own where it gives up.
    ///
    /// A layer that gives up answers with a failed response instead of an error, so that it never changes the
    /// service's error type. The failure's text is rendered only when somebody reads it: failover drops most of them.
    pub struct ResponseBody<B> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = KindProjection]
    enum Kind<B> {
        Inner { #[pin] body: B },
        Failure { failure: Box<Failure> },
        Whole { bytes: Option<Bytes> },
    }
}

struct Failure {
    fault: Fault,
    dialect: Dialect,
    rendered: OnceLock<Bytes>,
    read: bool,
}

impl Failure {
    fn text(&self) -> &Bytes {
        self.rendered.get_or_init(|| dialect::error_body(self.dialect, &self.fault))
    }
}

impl<B> ResponseBody<B> {
    /// The inner service's body, as it is.
    pub(crate) fn inner(body: B) -> Self {
        ResponseBody { kind: Kind::Inner { body } }
    }

    /// Bytes that were collected already.
    pub(crate) fn whole(bytes: Bytes) -> Self {
        ResponseBody { kind: Kind::Whole { bytes: Some(bytes).filter(|bytes| !bytes.is_empty()) } }
    }
}

/// How a failure is put to whoever asked: in which dialect, or as gRPC.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker {
    dialect: Dialect,
    grpc: bool,
}

impl Asker {
    pub(crate) fn of<B>(request: &http::Request<B>) -> Self {
        Self::new(request.headers(), RequestContext::of(request.extensions()))
    }

    pub(crate) fn new(headers: &HeaderMap, context: Option<&RequestContext>) -> Self {
        let grpc = || {
            let content_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
            content_type.is_some_and(|kind| kind.starts_with(b"application/grpc"))
        };
        Asker {
            dialect: context.and_then(RequestContext::dialect).unwrap_or(Dialect::OpenAiChat),
            grpc: context.map_or_else(grpc, |context| context.is_grpc(grpc)),
        }
    }

    /// Who speaks that dialect.
    #[cfg(feature = "gateway")]
    pub(crate) fn speaking(dialect: Dialect) -> Self {
        Asker { dialect, grpc: false }
    }

    /// The failed response: it carries the fault in its extensions.
    pub(crate) fn failure<B>(self, fault: Fault) -> Response<ResponseBody<B>> {
        let retry_after = fault.retry_after().map(|delay| delay.as_secs_f64().ceil() as u64);
        let kind = if self.grpc {
            Kind::Whole { bytes: None }
        } else {
            let failure =
                Failure { fault: fault.clone(), dialect: self.dialect, rendered: OnceLock::new(), read: false };
            Kind::Failure { failure: Box::new(failure) }
        };
        let mut response = Response::new(ResponseBody { kind });
        if self.grpc {
            // Trailers-only: the status stands in the head, which is also the end.
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            headers.insert("grpc-status", grpc::status(&fault));
            headers.insert("grpc-message", grpc::message(&fault));
            if let Some(delay) = fault.retry_after() {
                headers.insert("grpc-retry-pushback-ms", grpc::pushback(delay));
            }
        } else {
            *response.status_mut() = fault.response_status();
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            if let Some(seconds) = retry_after {
                headers.insert(header::RETRY_AFTER, seconds.into());
            }
        }
        response.extensions_mut().insert(fault);
        response
    }
}

impl<B: Default> Default for ResponseBody<B> {
    fn default() -> Self {
        ResponseBody::inner(B::default())
    }
}

impl<B> fmt::Debug for ResponseBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            Kind::Inner { .. } => "ResponseBody(inner)",
            Kind::Failure { .. } => "ResponseBody(failure)",
            Kind::Whole { .. } => "ResponseBody(whole)",
        })
    }
}

impl<B> Body for ResponseBody<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.project().kind.project() {
            KindProjection::Inner { body } => body.poll_frame(cx).map_err(Into::into),
            KindProjection::Failure { failure } if failure.read => Poll::Ready(None),
            KindProjection::Failure { failure } => {
                failure.read = true;
                Poll::Ready(Some(Ok(Frame::data(failure.text().clone()))))
            }
            KindProjection::Whole { bytes } => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Inner { body } => body.is_end_stream(),
            Kind::Failure { failure } => failure.read,
            Kind::Whole { bytes } => bytes.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Inner { body } => body.size_hint(),
            Kind::Failure { failure } if failure.read => SizeHint::with_exact(0),
            Kind::Failure { failure } => SizeHint::with_exact(failure.text().len() as u64),
            Kind::Whole { bytes } => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FaultKind;
    use http_body_util::{BodyExt, Full};
    use std::time::Duration;

    type TestBody = ResponseBody<Full<Bytes>>;

    #[tokio::test]
    async fn a_failure_carries_its_fault_and_says_its_size() {
        let fault = Fault::new(FaultKind::RateLimited, "slow down").with_retry_after(Duration::from_millis(1200));
        let response: Response<TestBody> = Asker::of(&http::Request::new(())).failure(fault.clone());
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()["retry-after"], "2");
        assert_eq!(response.extensions().get::<Fault>(), Some(&fault));
        let exact = response.body().size_hint().exact().unwrap();
        let text = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(text.len() as u64, exact);
        assert!(text.starts_with(b"{\"error\":{"));
    }

    #[tokio::test]
    async fn a_grpc_failure_is_trailers_only() {
        let request = http::Request::builder().header("content-type", "application/grpc+proto").body(()).unwrap();
        let fault = Fault::new(FaultKind::Timeout, "silent for 3 s").with_retry_after(Duration::from_millis(1200));
        let response: Response<TestBody> = Asker::of(&request).failure(fault);
        let header = |name: &str| response.headers()[name].to_str().unwrap();
        assert_eq!((response.status().as_u16(), header("content-type")), (200, "application/grpc"));
        assert_eq!((header("grpc-status"), header("grpc-message")), ("4", "silent for 3 s"));
        assert_eq!(header("grpc-retry-pushback-ms"), "1200");
        assert!(response.body().is_end_stream());
    }

    #[tokio::test]
    async fn an_inner_body_passes_with_its_trailers() {
        let trailers = HeaderMap::from_iter([(header::ETAG, HeaderValue::from_static("x"))]);
        let expected = trailers.clone();
        let inner = Full::new(Bytes::from_static(b"abc")).with_trailers(async move { Some(Ok(trailers)) });
        let collected = ResponseBody::inner(inner).collect().await.unwrap();
        assert_eq!(collected.trailers(), Some(&expected));
        assert_eq!(collected.to_bytes(), "abc");
    }
}
