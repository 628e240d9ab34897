//! The layers among tower-http's, on hyper-util's client, on reqwest, and in axum: compiled, and run over real sockets.
//! gRPC has a file of its own.

#![allow(clippy::unwrap_used, clippy::expect_used)] // what fails here fails the test

use std::{convert::Infallible, future::pending, net::SocketAddr, num::NonZeroU32, sync::Arc, time::Duration};

use axum::{Router, routing::post};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::{net::TcpListener, sync::Notify};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
use tower_failover::{
    Ability, BoxError, Capabilities, CapabilityFilterLayer, CatchErrorLayer, CircuitBreakerLayer, CollectBodyLayer,
    Credentials, Dialect, FailoverLayer, FailoverStack, Provider, ProviderLayer, RateLimitLayer, RequestContext,
    RequirementsLayer, RetryLayer, Route, Target, TimeoutLayer,
    circuit_breaker::{CircuitRegistry, CircuitSettings},
    rate_limit::{Limits, RateLimitRegistry},
    simulated::{SimulatedFault, SimulatedProvider},
};
use tower_http::{
    decompression::DecompressionLayer,
    limit::RequestBodyLimitLayer,
    request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer},
    set_header::SetRequestHeaderLayer,
    trace::TraceLayer,
};

/// Providers have an `x-request-id` of their own, which tower-http leaves as it is.
const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");

type HyperClient<B> = Client<HttpConnector, B>;

fn hyper_client<B>() -> HyperClient<B>
where
    B: Body + Send,
    B::Data: Send,
{
    Client::builder(TokioExecutor::new()).retry_canceled_requests(false).build_http()
}

/// Two providers, the first of them down, and the route that fails over from it.
async fn providers() -> ([SimulatedProvider; 2], Route) {
    let [primary, fallback] =
        [SimulatedProvider::start("primary").await.unwrap(), SimulatedProvider::start("fallback").await.unwrap()];
    primary.set_fault(SimulatedFault::Down);
    let target = |simulated: &SimulatedProvider| {
        let key = Credentials::api_key(Dialect::OpenAiChat, "sk-ours".into()).unwrap();
        let provider = Provider::new(simulated.name(), Dialect::OpenAiChat, &simulated.base_url()).unwrap();
        Target::new(&provider.with_credentials(key), "model")
    };
    let route = Route::new("chat", [target(&primary), target(&fallback)]).unwrap();
    ([primary, fallback], route)
}

fn chat(uri: &str, stream: bool) -> Request<Full<Bytes>> {
    let body = format!(r#"{{"model":"m","stream":{stream},"messages":[{{"role":"user","content":"Hello!"}}]}}"#);
    let request = Request::post(uri).header("content-type", "application/json");
    request.body(body.into()).unwrap()
}

async fn text<B>(body: B) -> String
where
    B: Body,
    B::Error: std::fmt::Debug,
{
    String::from_utf8(body.collect().await.unwrap().to_bytes().into()).unwrap()
}

/// Asks for an answer in one piece and for a stream, and checks both.
async fn both_ways<S, B>(service: S)
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>> + Clone,
    S::Error: std::fmt::Debug,
    B: Body,
    B::Error: std::fmt::Debug,
{
    for stream in [false, true] {
        let response = service.clone().oneshot(chat("/v1/chat/completions", stream)).await.unwrap();
        assert_eq!(response.status(), 200);
        let answer = text(response.into_body()).await;
        assert!(answer.contains("fallback"), "{answer}");
        assert_eq!(answer.trim_end().ends_with("data: [DONE]"), stream, "{answer}");
    }
}

async fn serve(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

#[tokio::test]
async fn around_hyper_utils_client_with_tower_http_outside_and_inside() {
    let ([_, fallback], route) = providers().await;
    let service = ServiceBuilder::new()
        .layer(SetRequestIdLayer::new(CORRELATION_ID, MakeRequestUuid))
        .layer(TraceLayer::new_for_http())
        .layer(PropagateRequestIdLayer::new(CORRELATION_ID))
        .layer(RequestBodyLimitLayer::new(1 << 20))
        .layer(FailoverLayer::new(&route))
        .layer(TraceLayer::new_for_http())
        .layer(CapabilityFilterLayer::new())
        .layer(RetryLayer::new().with_attempts(1))
        .layer(CircuitBreakerLayer::default())
        .layer(RateLimitLayer::default())
        .layer(TimeoutLayer::new())
        .layer(ProviderLayer::new())
        .layer(DecompressionLayer::new())
        .layer(SetRequestHeaderLayer::overriding(header::USER_AGENT, HeaderValue::from_static("composed")))
        .service(hyper_client::<Full<Bytes>>());
    both_ways(service.clone()).await;
    let response = service.oneshot(chat("/v1/chat/completions", false)).await.unwrap();
    let received = fallback.received();
    assert_eq!(response.headers()[CORRELATION_ID], received[2].header(CORRELATION_ID.as_str()).unwrap());
    assert!(received.iter().all(|request| request.header("user-agent") == Some("composed")));
}

#[tokio::test]
async fn in_one_layer_around_hyper_utils_client() {
    let (_providers, route) = providers().await;
    let stack = FailoverStack::new(&route).with_retry(RetryLayer::new().with_attempts(1));
    both_ways(ServiceBuilder::new().layer(TraceLayer::new_for_http()).layer(stack).service(hyper_client())).await;
}

#[tokio::test]
async fn around_reqwest() {
    let (_providers, route) = providers().await;
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let service = ServiceBuilder::new()
        .layer(FailoverStack::new(&route).with_retry(RetryLayer::new().with_attempts(1)))
        .map_request(|request: Request<Full<Bytes>>| request.map(reqwest::Body::wrap))
        .service(service_fn(move |request: Request<reqwest::Body>| {
            let client = client.clone();
            async move {
                let request = reqwest::Request::try_from(request)?;
                client.execute(request).await.map(Response::<reqwest::Body>::from)
            }
        }));
    both_ways(service).await;
}

#[tokio::test]
async fn as_a_route_and_as_the_fallback_of_an_axum_router() {
    let (_providers, route) = providers().await;
    let stack = FailoverStack::new(&route).with_retry(RetryLayer::new().with_attempts(1));
    let stack = ServiceBuilder::new().layer(stack).service(hyper_client::<Full<Bytes>>());
    let routed = Router::new()
        .route_service("/v1/chat/completions", stack.clone())
        .nest_service("/nested", stack.clone())
        .layer(TraceLayer::new_for_http())
        .layer(TimeoutLayer::new());
    let fallback = Router::new().route("/healthz", post(|| async {})).fallback_service(stack);
    let (routed, fallback) = (serve(routed).await, serve(fallback).await);
    for (address, path) in [(routed, "/v1"), (routed, "/nested/v1"), (fallback, "/v1")] {
        let absolute = move |mut request: Request<Full<Bytes>>| {
            *request.uri_mut() = format!("http://{address}{path}/chat/completions").parse().unwrap();
            request
        };
        both_ways(ServiceBuilder::new().map_request(absolute).service(hyper_client())).await;
    }
}

/// The routes of a server with our layers around them.
fn guarded_routes(gate: Arc<Notify>) -> Router {
    let mut settings = CircuitSettings::default();
    settings.failures = 2;
    let mut limits = Limits::default();
    limits.max_concurrency = NonZeroU32::new(8);
    let text_only = Target::named("text-only").with_capabilities(Capabilities::new().without(Ability::Tools));
    let flaky = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let stream = move || {
        let gate = gate.clone();
        async move {
            let frames = async_frames(gate);
            Response::new(axum::body::Body::new(StreamBody::new(frames)))
        }
    };
    Router::new()
        .route("/echo", post(|body: Bytes| async { body }))
        .route("/stream", post(stream))
        .route("/slow", post(pending::<()>))
        .route(
            "/failing",
            post(|| async { StatusCode::INTERNAL_SERVER_ERROR })
                .layer(CircuitBreakerLayer::new(CircuitRegistry::new(settings))),
        )
        .route(
            "/flaky",
            post(move |body: Bytes| async move {
                match flaky.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
                    0 => Err(StatusCode::SERVICE_UNAVAILABLE),
                    _ => Ok(body),
                }
            })
            .layer(ServiceBuilder::new().layer(CollectBodyLayer::new().with_max_body(100)).layer(RetryLayer::new())),
        )
        .route(
            "/chat/completions",
            post(|body: Bytes| async { body }).layer(
                ServiceBuilder::new()
                    .layer(CollectBodyLayer::new())
                    .layer(RequirementsLayer::new().with_target(text_only))
                    .layer(CapabilityFilterLayer::new()),
            ),
        )
        .layer(TimeoutLayer::new().with_response(Duration::from_millis(300)))
        .layer(RateLimitLayer::new(RateLimitRegistry::new(limits)))
        .layer(CircuitBreakerLayer::default())
        .layer(CapabilityFilterLayer::new())
        .layer(CatchErrorLayer::new())
        .layer(RequestBodyLimitLayer::new(1 << 20))
        .layer(PropagateRequestIdLayer::x_request_id())
        .layer(TraceLayer::new_for_http())
}

/// A frame at once, and another when the gate is opened.
fn async_frames(gate: Arc<Notify>) -> impl tokio_stream::Stream<Item = Result<Frame<Bytes>, Infallible>> {
    use tokio_stream::StreamExt;
    let data = |text: &'static str| Ok(Frame::data(Bytes::from_static(text.as_bytes())));
    tokio_stream::iter([data("first")]).chain(futures_util::stream::once(async move {
        gate.notified().await;
        data("second")
    }))
}

#[tokio::test]
async fn around_the_routes_of_an_axum_server() {
    let gate = Arc::new(Notify::new());
    let address = serve(guarded_routes(gate.clone())).await;
    let client = hyper_client::<Full<Bytes>>();
    let ask = async |path: &str, body: &'static str| {
        let request = Request::post(format!("http://{address}{path}")).header("x-request-id", "id-1");
        client.request(request.body(Full::from(body)).unwrap()).await.unwrap()
    };

    let echoed = ask("/echo", "hello").await;
    assert_eq!((echoed.status().as_u16(), &echoed.headers()["x-request-id"]), (200, &"id-1".parse().unwrap()));
    assert_eq!(text(echoed.into_body()).await, "hello");

    // No frame waits for the next.
    let mut body = ask("/stream", "").await.into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "first");
    gate.notify_one();
    assert_eq!(text(body).await, "second");

    let slow = ask("/slow", "").await;
    assert_eq!(slow.status(), 504);
    assert!(text(slow.into_body()).await.contains("no answer within 300ms"));

    assert_eq!(text(ask("/flaky", "sent twice").await.into_body()).await, "sent twice");
    let long = Box::leak("x".repeat(101).into_boxed_str());
    assert_eq!(ask("/flaky", long).await.status(), 413);

    let with_tools = r#"{"messages":[],"tools":[{"type":"function","function":{"name":"f"}}]}"#;
    let refused = ask("/chat/completions", with_tools).await;
    assert_eq!(refused.status(), 400);
    assert!(text(refused.into_body()).await.contains("tools"));
    assert_eq!(ask("/chat/completions", r#"{"messages":[]}"#).await.status(), 200);

    let statuses = [ask("/failing", "").await, ask("/failing", "").await, ask("/failing", "").await];
    assert_eq!(statuses.map(|response| response.status().as_u16()), [500, 500, 503]);
    assert_eq!(ask("/echo", "others are served").await.status(), 200);
}

/// The catch-error layer makes a client's error `Infallible`, which is what axum asks of a service.
#[tokio::test]
async fn a_plain_client_behind_an_axum_route() {
    let ([primary, _], _) = providers().await;
    let nobody = primary.address();
    let client = ServiceBuilder::new()
        .layer(TimeoutLayer::new())
        .layer(CircuitBreakerLayer::default())
        .layer(CatchErrorLayer::new())
        .map_request(move |mut request: Request<axum::body::Body>| {
            *request.uri_mut() = format!("http://{nobody}/").parse().unwrap();
            request
        })
        .service(hyper_client::<axum::body::Body>());
    let router = Router::new().route_service("/", client);
    let response = router.oneshot(Request::get("/").body(axum::body::Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.status(), 502);
}

#[test]
fn every_public_type_can_be_sent_and_shared() {
    use tower_failover as ours;

    fn value<T: Send + Sync + Clone + 'static>() {}
    fn held<T: Send + Sync + 'static>() {}
    /// A future need not be shared.
    fn sent<T: Send>() {}

    type Inner = HyperClient<Full<Bytes>>;
    type InnerFuture = <Inner as Service<Request<Full<Bytes>>>>::Future;
    type InnerBody = hyper::body::Incoming;
    type Classifier = ours::StatusClassifier;

    value::<ours::Abilities>();
    value::<ours::Ability>();
    held::<ours::Attempt>();
    held::<ours::AttemptLog>();
    held::<BoxError>();
    value::<Capabilities>();
    value::<ours::CircuitAdvice>();
    value::<Credentials>();
    value::<ours::Deadline>();
    value::<Dialect>();
    value::<ours::FailoverAdvice>();
    value::<ours::Fault>();
    value::<ours::FaultKind>();
    value::<ours::FaultKinds>();
    value::<ours::FaultPolicy>();
    value::<ours::FaultScope>();
    value::<ours::InvalidBaseUrl>();
    held::<ours::InvalidCredentials>();
    value::<ours::InvalidRoute>();
    value::<ours::Need>();
    value::<ours::Outcome>();
    value::<ours::Phase>();
    value::<Provider>();
    value::<ours::Refusal>();
    value::<RequestContext>();
    value::<ours::RequestOutline>();
    value::<ours::Requirements>();
    held::<ours::ResponseBody<InnerBody>>();
    value::<ours::RetryAdvice>();
    value::<Route>();
    value::<Classifier>();
    value::<Target>();
    value::<ours::TargetId>();
    value::<ours::Unmet>();

    value::<CapabilityFilterLayer>();
    value::<ours::capability_filter::CapabilityFilter<Inner>>();
    sent::<ours::capability_filter::ResponseFuture<InnerFuture>>();

    value::<CatchErrorLayer>();
    value::<ours::catch_error::CatchError<Inner>>();
    sent::<ours::catch_error::ResponseFuture<InnerFuture, Classifier>>();

    value::<CircuitBreakerLayer>();
    value::<CircuitRegistry>();
    value::<ours::circuit_breaker::CircuitRules>();
    value::<CircuitSettings>();
    held::<ours::circuit_breaker::CircuitSnapshot>();
    value::<ours::circuit_breaker::CircuitState>();
    value::<ours::circuit_breaker::CircuitBreaker<Inner>>();
    held::<ours::circuit_breaker::VerdictBody<InnerBody>>();
    sent::<ours::circuit_breaker::ResponseFuture<InnerFuture, Classifier>>();

    value::<CollectBodyLayer>();
    value::<ours::collect_body::CollectBody<Inner>>();
    sent::<ours::collect_body::ResponseFuture<Inner, axum::body::Body>>();

    value::<FailoverLayer>();
    value::<FailoverStack>();
    value::<ours::FailoverService<Inner>>();
    value::<ours::failover::Failover<Inner>>();
    sent::<ours::failover::ResponseFuture<Inner, axum::body::Body, Classifier>>();

    value::<ProviderLayer>();
    value::<ours::provider::Dispatch<Inner>>();
    value::<ours::provider::DispatchLayer>();
    sent::<ours::provider::DispatchFuture<InnerFuture>>();
    held::<ours::provider::GuardedBody<InnerBody>>();
    value::<ours::provider::StreamGuard<Inner>>();
    value::<ours::provider::StreamGuardLayer>();
    sent::<ours::provider::StreamGuardFuture<InnerFuture, InnerBody>>();

    value::<RateLimitLayer>();
    value::<RateLimitRegistry>();
    value::<Limits>();
    value::<ours::rate_limit::RateLimit<Inner>>();
    held::<ours::rate_limit::LimitedBody<InnerBody>>();
    sent::<ours::rate_limit::ResponseFuture<Inner, Full<Bytes>>>();

    value::<RequirementsLayer>();
    value::<ours::requirements_layer::WithRequirements<Inner>>();

    value::<RetryLayer>();
    value::<ours::retry::Backoff>();
    value::<ours::retry::RetryBudget>();
    value::<ours::retry::Retry<Inner>>();
    sent::<ours::retry::ResponseFuture<Inner, Full<Bytes>, Classifier>>();

    value::<ours::shared_state::Fleet>();
    value::<ours::shared_state::InMemory>();

    value::<TimeoutLayer>();
    value::<ours::timeout::Timeout<Inner>>();
    held::<ours::timeout::TimeoutBody<InnerBody>>();
    sent::<ours::timeout::ResponseFuture<InnerFuture>>();

    value::<SimulatedProvider>();
    value::<SimulatedFault>();
    value::<ours::simulated::SimulatedProviderBuilder>();
    held::<ours::simulated::ParseFaultError>();
    value::<ours::simulated::ReceivedRequest>();
}
