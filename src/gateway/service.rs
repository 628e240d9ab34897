//! What each connection is served with.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use axum::Router;
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::{body::Incoming, service::Service};
use pin_project_lite::pin_project;
use tower::util::ServiceExt;

use super::{
    Gateway,
    generate::{self, AnswerBody},
    headers,
};
use crate::BoxError;

/// The router, with a short way for what nearly every request is: a router boxes the call and both bodies for each of
/// its layers, which costs as much as all of failover.
#[derive(Clone, Debug)]
pub(super) struct GatewayService {
    gateway: Gateway,
    router: Router,
}

impl GatewayService {
    pub(super) fn new(gateway: Gateway) -> Self {
        GatewayService { router: gateway.router(), gateway }
    }
}

impl Service<Request<Incoming>> for GatewayService {
    type Response = Response<GatewayBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let dialect = generate::dialect_of(request.uri().path()).filter(|_| request.method() == Method::POST);
        if let Some(dialect) = dialect {
            let gateway = self.gateway.clone();
            // Made inside: made here, it would have a place in what is boxed before it is polled, and another one after.
            return Box::pin(async move {
                let answer = generate::generate(gateway, dialect, request).await;
                Ok(answer.map(|body| GatewayBody::Answer { body }))
            });
        }
        let request_id = headers::request_id(request.headers());
        let response = self.router.clone().oneshot(request);
        Box::pin(async {
            let mut response = response.await?;
            headers::name_request(response.headers_mut(), request_id);
            Ok(response.map(|body| GatewayBody::Other { body }))
        })
    }
}

pin_project! {
    /// What a client reads.
    #[derive(Debug)]
    #[project = GatewayBodyProjection]
    pub(super) enum GatewayBody {
        Answer { #[pin] body: AnswerBody },
        Other { #[pin] body: axum::body::Body },
    }
}

impl Body for GatewayBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.project() {
            GatewayBodyProjection::Answer { body } => body.poll_frame(cx),
            GatewayBodyProjection::Other { body } => body.poll_frame(cx).map_err(Into::into),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            GatewayBody::Answer { body } => body.is_end_stream(),
            GatewayBody::Other { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            GatewayBody::Answer { body } => body.size_hint(),
            GatewayBody::Other { body } => body.size_hint(),
        }
    }
}
