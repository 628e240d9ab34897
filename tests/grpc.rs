//! The layers around a tonic client and on a tonic server, with real calls over real sockets.

#![allow(clippy::unwrap_used, clippy::expect_used)] // what fails here fails the test

use std::{future::pending, net::SocketAddr, num::NonZeroU32, pin::Pin, time::Duration};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use tokio_stream::{Stream, StreamExt};
use tonic::{
    Code, Response, Status,
    body::Body,
    transport::{Channel, Server, server::TcpIncoming},
};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_client::HealthClient,
    health_server::{Health, HealthServer},
};
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};
use tower_failover::{
    CapabilityFilterLayer, CatchErrorLayer, CircuitBreakerLayer, CollectBodyLayer, FailoverLayer, Fault, FaultKind,
    RateLimitLayer, RequestContext, RetryLayer, Route, Target, TimeoutLayer,
    circuit_breaker::{CircuitRegistry, CircuitSettings},
    rate_limit::{Limits, RateLimitRegistry},
};
use tower_http::{set_header::SetRequestHeaderLayer, trace::TraceLayer};

const SHORT: Duration = Duration::from_millis(200);

/// A health service that does what the name says that it is asked for, and puts its number in the answer.
#[derive(Clone, Copy)]
struct Numbered(i32);

fn message(status: i32) -> Result<HealthCheckResponse, Status> {
    Ok(HealthCheckResponse { status })
}

#[tonic::async_trait]
impl Health for Numbered {
    async fn check(
        &self,
        request: tonic::Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        match &*request.get_ref().service {
            "hang" => pending().await,
            "fail" => Err(Status::unavailable("out of order")),
            "wrong" => Err(Status::invalid_argument("no such thing")),
            "unavailable-on-1" if self.0 == 1 => Err(Status::unavailable("out of order")),
            _ => message(self.0).map(Response::new),
        }
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(&self, request: tonic::Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let two = tokio_stream::iter([message(self.0), message(self.0)]);
        Ok(Response::new(match &*request.get_ref().service {
            "break" => Box::pin(two.chain(tokio_stream::once(Err(Status::data_loss("lost"))))),
            "stall" => Box::pin(two.chain(tokio_stream::pending())),
            "unavailable-on-1" if self.0 == 1 => return Err(Status::unavailable("out of order")),
            _ => Box::pin(two),
        }))
    }
}

fn asking(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

/// Binds a port and serves on it with a server whose layers the caller chose.
macro_rules! serve {
    ($server:expr, $number:expr) => {{
        let incoming = TcpIncoming::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let address = incoming.local_addr().unwrap();
        let router = $server.add_service(HealthServer::new(Numbered($number)));
        tokio::spawn(async move { router.serve_with_incoming(incoming).await });
        address
    }};
}

fn channel(address: SocketAddr) -> Channel {
    Channel::from_shared(format!("http://{address}")).unwrap().connect_lazy()
}

/// What a streaming call gives: its messages, and how it ended.
async fn collect(mut stream: tonic::Streaming<HealthCheckResponse>) -> (Vec<i32>, Result<(), Status>) {
    let mut messages = Vec::new();
    loop {
        match stream.message().await {
            Ok(Some(message)) => messages.push(message.status),
            Ok(None) => return (messages, Ok(())),
            Err(status) => return (messages, Err(status)),
        }
    }
}

// --- clients

#[tokio::test]
async fn layers_that_leave_the_body_alone_stand_on_a_channel() {
    let address = serve!(Server::builder(), 1);
    let service = ServiceBuilder::new()
        .layer(TraceLayer::new_for_grpc())
        .layer(CapabilityFilterLayer::new())
        .layer(CircuitBreakerLayer::default())
        .layer(RateLimitLayer::default())
        .layer(TimeoutLayer::new())
        .layer(CatchErrorLayer::new())
        .layer(SetRequestHeaderLayer::overriding(http::header::USER_AGENT, http::HeaderValue::from_static("composed")))
        .service(channel(address));
    let mut client = HealthClient::new(service);
    assert_eq!(client.check(asking("")).await.unwrap().into_inner().status, 1);
    let (messages, end) = collect(client.watch(asking("")).await.unwrap().into_inner()).await;
    assert_eq!((messages, end.is_ok()), (vec![1, 1], true));
    // Trailers pass.
    let (messages, end) = collect(client.watch(asking("break")).await.unwrap().into_inner()).await;
    let status = end.unwrap_err();
    assert_eq!((messages, status.code(), status.message()), (vec![1, 1], Code::DataLoss, "lost"));
    // And so does a failure of the server's own.
    assert_eq!(client.check(asking("wrong")).await.unwrap_err().message(), "no such thing");
}

/// An interceptor asks for a body that has a default (which tower-http's `TraceLayer` does not give).
#[tokio::test]
async fn an_interceptor_stands_around_our_layers() {
    let address = serve!(Server::builder(), 1);
    let service = ServiceBuilder::new()
        .layer(CircuitBreakerLayer::default())
        .layer(RateLimitLayer::default())
        .layer(TimeoutLayer::new())
        .layer(CatchErrorLayer::new())
        .service(channel(address));
    let declines = |request: tonic::Request<()>| match request.metadata().get("x-declined") {
        Some(_) => Err(Status::permission_denied("declined")),
        None => Ok(request),
    };
    let mut client = HealthClient::with_interceptor(service, declines);
    assert_eq!(client.check(asking("")).await.unwrap().into_inner().status, 1);
    let mut declined = tonic::Request::new(asking(""));
    declined.metadata_mut().insert("x-declined", "yes".parse().unwrap());
    assert_eq!(client.check(declined).await.unwrap_err().code(), Code::PermissionDenied);
}

/// Two channels under the names of their targets, for layers that collect the request.
fn channels(
    primary: SocketAddr,
    fallback: SocketAddr,
) -> impl tower::Service<
    Request<Full<Bytes>>,
    Response = http::Response<Body>,
    Error = tonic::transport::Error,
    Future: Send,
> + Clone
+ Send
+ Sync {
    let (primary, fallback) = (channel(primary), channel(fallback));
    service_fn(move |request: Request<Full<Bytes>>| {
        let target = RequestContext::of(request.extensions()).and_then(RequestContext::target);
        let primary_is_meant = target.is_some_and(|target| target.id().as_str() == "primary");
        let channel = if primary_is_meant { primary.clone() } else { fallback.clone() };
        channel.oneshot(request.map(Body::new))
    })
}

#[tokio::test]
async fn failover_between_two_channels() {
    let (primary, fallback) = (serve!(Server::builder(), 1), serve!(Server::builder(), 2));
    let route = Route::new("health", [Target::named("primary"), Target::named("fallback")]).unwrap();
    let service = ServiceBuilder::new()
        .layer(TraceLayer::new_for_grpc())
        .layer(FailoverLayer::new(&route))
        .layer(CapabilityFilterLayer::new())
        .layer(RetryLayer::new().with_attempts(1))
        .layer(CircuitBreakerLayer::default())
        .layer(TimeoutLayer::new())
        .layer(CatchErrorLayer::new())
        .service(channels(primary, fallback));
    let mut client = HealthClient::new(service);
    assert_eq!(client.check(asking("")).await.unwrap().into_inner().status, 1);
    assert_eq!(client.check(asking("unavailable-on-1")).await.unwrap().into_inner().status, 2);
    let (messages, end) = collect(client.watch(asking("unavailable-on-1")).await.unwrap().into_inner()).await;
    assert_eq!((messages, end.is_ok()), (vec![2, 2], true));
    // A fault of the request's is told as the server put it.
    let wrong = client.check(asking("wrong")).await.unwrap_err();
    assert_eq!((wrong.code(), wrong.message()), (Code::InvalidArgument, "no such thing"));
    // When all have failed: what the first one said, with the code that says to try again.
    let failed = client.check(asking("fail")).await.unwrap_err();
    assert_eq!((failed.code(), failed.message()), (Code::Unavailable, "out of order"));
}

#[tokio::test]
async fn failover_from_a_server_that_is_not_there() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let fallback = serve!(Server::builder(), 2);
    let route = Route::new("health", [Target::named("primary"), Target::named("fallback")]).unwrap();
    // Without `CatchErrorLayer` too: failover reads errors.
    let mut client = HealthClient::new(FailoverLayer::new(&route).layer(channels(nobody, fallback)));
    assert_eq!(client.check(asking("")).await.unwrap().into_inner().status, 2);

    let mut client = HealthClient::new(ServiceBuilder::new().layer(CatchErrorLayer::new()).service(channel(nobody)));
    assert_eq!(client.check(asking("")).await.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn retry_stands_on_a_channel_with_collect_body() {
    let address = serve!(Server::builder(), 1);
    let service = ServiceBuilder::new()
        .layer(CollectBodyLayer::new())
        .layer(RetryLayer::new())
        .map_request(|request: Request<Full<Bytes>>| request.map(Body::new))
        .service(channel(address));
    let mut client = HealthClient::new(service);
    assert_eq!(client.check(asking("")).await.unwrap().into_inner().status, 1);
    assert_eq!(client.check(asking("fail")).await.unwrap_err().message(), "out of order");
}

#[tokio::test]
async fn a_client_that_waits_for_too_long_is_told_so() {
    let address = serve!(Server::builder(), 1);
    let layer = TimeoutLayer::new().with_response(SHORT).with_idle(SHORT);
    let mut client = HealthClient::new(layer.layer(channel(address)));
    let late = client.check(asking("hang")).await.unwrap_err();
    assert_eq!((late.code(), late.message()), (Code::DeadlineExceeded, "no answer within 200ms"));
    // Once the answer has begun, what ends it is an error of the body, with the fault in it.
    let (messages, end) = collect(client.watch(asking("stall")).await.unwrap().into_inner()).await;
    assert_eq!(messages, [1, 1]);
    assert_eq!(Fault::find(&end.unwrap_err()).unwrap().kind(), FaultKind::Timeout);
}

// --- servers

#[tokio::test]
async fn around_the_services_of_a_server() {
    let mut server = Server::builder()
        .layer(TraceLayer::new_for_grpc())
        .layer(CapabilityFilterLayer::new())
        .layer(CircuitBreakerLayer::default())
        .layer(RateLimitLayer::default())
        .layer(TimeoutLayer::new())
        .layer(CatchErrorLayer::new())
        .layer(CollectBodyLayer::new())
        .layer(RetryLayer::new());
    let mut client = HealthClient::new(channel(serve!(server, 1)));
    assert_eq!(client.check(asking("")).await.unwrap().into_inner().status, 1);
    let (messages, end) = collect(client.watch(asking("")).await.unwrap().into_inner()).await;
    assert_eq!((messages, end.is_ok()), (vec![1, 1], true));
    let (messages, end) = collect(client.watch(asking("break")).await.unwrap().into_inner()).await;
    assert_eq!((messages, end.unwrap_err().code()), (vec![1, 1], Code::DataLoss));
}

#[tokio::test]
async fn a_servers_own_failures_have_the_right_status_and_a_message() {
    let timeout = TimeoutLayer::new().with_response(SHORT).with_idle(SHORT);
    let mut client = HealthClient::new(channel(serve!(Server::builder().layer(timeout), 1)));
    let late = client.check(asking("hang")).await.unwrap_err();
    assert_eq!((late.code(), late.message()), (Code::DeadlineExceeded, "no answer within 200ms"));
    let (messages, end) = collect(client.watch(asking("stall")).await.unwrap().into_inner()).await;
    assert_eq!(messages, [1, 1]);
    // What is committed at the head cannot get another status: the stream is reset, so that nobody takes it for whole.
    assert_eq!(end.unwrap_err().code(), Code::Internal);

    let mut settings = CircuitSettings::default();
    settings.failures = 1;
    let breaker = CircuitBreakerLayer::new(CircuitRegistry::new(settings));
    let mut client = HealthClient::new(channel(serve!(Server::builder().layer(breaker), 1)));
    assert_eq!(client.check(asking("fail")).await.unwrap_err().message(), "out of order");
    let refused = client.check(asking("")).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::Unavailable, "the target's circuit is open"));
    let pushback: u64 = refused.metadata().get("grpc-retry-pushback-ms").unwrap().to_str().unwrap().parse().unwrap();
    assert!((4_000..=5_500).contains(&pushback), "{pushback}");

    let mut limits = Limits::default();
    limits.requests_per_minute = NonZeroU32::new(1);
    let limit = RateLimitLayer::new(RateLimitRegistry::new(limits));
    let mut client = HealthClient::new(channel(serve!(Server::builder().layer(limit), 1)));
    client.check(asking("")).await.unwrap();
    assert_eq!(client.check(asking("")).await.unwrap_err().code(), Code::ResourceExhausted);

    let collect = CollectBodyLayer::new().with_max_body(50);
    let mut client = HealthClient::new(channel(serve!(Server::builder().layer(collect), 1)));
    client.check(asking("short")).await.unwrap();
    let long = client.check(asking(&"x".repeat(60))).await.unwrap_err();
    assert_eq!((long.code(), long.message()), (Code::ResourceExhausted, "the request is longer than 50 bytes"));
}
