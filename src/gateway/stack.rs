//! What serves a route.

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

use super::upstream::Upstream;
use crate::{
    FailoverService, RecoveryLayer, ResponseBody, TelemetryLayer,
    cache::{Cache, CacheBody},
    config::{RouteConfig, Shared},
    recovery::RecoveryBody,
};

/// What serves a route.
#[derive(Clone, Debug)]
pub(super) struct Stack {
    route: RouteService,
    /// What is around it, where answers are kept.
    cache: Option<Cache<RouteService>>,
    pub(super) telemetry: TelemetryLayer,
}

type FailoverBody = <<FailoverService<Upstream> as Service<Request<Full<Bytes>>>>::Response as IntoBody>::Body;
type RouteBody = RecoveryBody<FailoverService<Upstream>, FailoverBody>;
pub(super) type StackBody = CacheBody<RouteBody>;

/// Names the body of a response type.
pub(super) trait IntoBody {
    type Body;
}

impl<B> IntoBody for Response<B> {
    type Body = B;
}

/// An answer that is waited for.
pub(super) type Call<B> = Pin<Box<dyn Future<Output = Result<Response<B>, Infallible>> + Send>>;

impl Stack {
    pub(super) fn new(
        config: &RouteConfig,
        shared: &Shared,
        max_body: usize,
        client: &Upstream,
        telemetry: TelemetryLayer,
    ) -> Self {
        let route = RouteService {
            service: config.stack(shared, max_body).layer(client.clone()),
            recovery: config.recovery(max_body),
        };
        let cache = config.cache(shared, max_body).map(|cache| cache.layer(route.clone()));
        Stack { route, cache, telemetry }
    }

    /// Always ready, as all that it is made of.
    pub(super) fn call(&self, request: Request<Full<Bytes>>) -> Call<StackBody> {
        match &self.cache {
            Some(cache) => Box::pin(cache.clone().call(request)),
            None => self.route.answer(request, |body| CacheBody::passing(ResponseBody::inner(body))),
        }
    }
}

/// Failover, and what is around it where streams that break off are completed.
#[derive(Clone, Debug)]
struct RouteService {
    service: FailoverService<Upstream>,
    recovery: Option<RecoveryLayer>,
}

impl Service<Request<Full<Bytes>>> for RouteService {
    type Response = Response<RouteBody>;
    type Error = Infallible;
    type Future = Call<RouteBody>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        self.answer(request, |body| body)
    }
}

impl RouteService {
    fn answer<B: 'static>(&self, request: Request<Full<Bytes>>, wrap: fn(RouteBody) -> B) -> Call<B> {
        // Boxed, because it is the most of what serves a request by far, and hyper moves that about while it is set up.
        match self.recovery {
            Some(recovery) => {
                Box::pin(WithBody { call: recovery.layer(self.service.clone()).call(request), wrap: Some(wrap) })
            }
            None => {
                let passing = move |body| wrap(RecoveryBody::passing(ResponseBody::inner(body)));
                Box::pin(WithBody { call: self.service.answer(request), wrap: Some(passing) })
            }
        }
    }
}

pin_project! {
    /// A call whose answer has another body. By hand, because an async block keeps its call twice: as it was captured, and
    /// as it is polled.
    struct WithBody<F, W> {
        #[pin]
        call: F,
        wrap: Option<W>,
    }
}

impl<F, W, B, C, E> Future for WithBody<F, W>
where
    F: Future<Output = Result<Response<B>, E>>,
    W: FnOnce(B) -> C,
{
    type Output = Result<Response<C>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.call.poll(cx))?;
        match this.wrap.take() {
            Some(wrap) => Poll::Ready(Ok(response.map(wrap))),
            None => Poll::Pending,
        }
    }
}
