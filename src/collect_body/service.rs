use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::Full;
use tower_service::Service;

use crate::{BoxError, ResponseBody, collect_body::ResponseFuture};

/// A service whose requests are whole before they get there: see the [module](crate::collect_body).
#[derive(Clone, Copy, Debug)]
pub struct CollectBody<S> {
    inner: S,
    max_body: usize,
}

impl<S> CollectBody<S> {
    pub(super) fn new(inner: S, max_body: usize) -> Self {
        CollectBody { inner, max_body }
    }
}

impl<S, RequestBody, B> Service<Request<RequestBody>> for CollectBody<S>
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>> + Clone,
    RequestBody: Body<Data = Bytes>,
    RequestBody::Error: Into<BoxError>,
{
    type Response = Response<ResponseBody<B>>;
    type Error = S::Error;
    type Future = ResponseFuture<S, RequestBody>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        // A clone is polled when the body is there: readiness that is reserved here would be held by slow uploads.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<RequestBody>) -> Self::Future {
        ResponseFuture::new(request, self.inner.clone(), self.max_body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Fault, FaultKind, collect_body::CollectBodyLayer};
    use http_body::Frame;
    use http_body_util::{BodyExt, StreamBody};
    use std::convert::Infallible;
    use tower::{Layer, ServiceExt, service_fn};

    /// Sends the pieces through the layer; gives back the status, the fault and what the inner service got.
    async fn send(pieces: &'static [Result<&'static str, &'static str>]) -> (u16, Option<Fault>, Bytes) {
        let echo = service_fn(|request: Request<Full<Bytes>>| async {
            assert_eq!(request.headers()["x-kept"], "yes");
            Ok::<_, Infallible>(Response::new(request.into_body()))
        });
        let frames = pieces.iter().map(|piece| match piece {
            Ok(piece) => Ok(Frame::data(Bytes::from_static(piece.as_bytes()))),
            Err(error) => Err(BoxError::from(*error)),
        });
        let body = StreamBody::new(tokio_stream::iter(frames));
        let request = Request::builder().header("x-kept", "yes").body(body).unwrap();
        let response = CollectBodyLayer::new().with_max_body(6).layer(echo).oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let fault = parts.extensions.get().cloned();
        (parts.status.as_u16(), fault, body.collect().await.unwrap().to_bytes())
    }

    #[tokio::test]
    async fn the_pieces_get_there_as_one() {
        assert_eq!(send(&[Ok("abc"), Ok(""), Ok("def")]).await, (200, None, "abcdef".into()));
        assert_eq!(send(&[]).await, (200, None, "".into()));
    }

    #[tokio::test]
    async fn one_byte_too_many_is_413_and_a_body_that_breaks_400() {
        let (status, fault, _) = send(&[Ok("abc"), Ok("defg")]).await;
        assert_eq!((status, fault.unwrap().kind()), (413, FaultKind::PayloadTooLarge));
        let (status, fault, _) = send(&[Ok("abc"), Err("cut")]).await;
        assert_eq!((status, fault.unwrap().kind()), (400, FaultKind::BadRequest));
    }
}
