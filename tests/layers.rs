//! The layers around services that are scripted: readiness, cancellation, time.

#![allow(clippy::unwrap_used, clippy::expect_used)] // what fails here fails the test

#[path = "harness/scripted.rs"]
mod scripted;

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use scripted::{Act, Scripted, TestBody, WHOLE};
use tokio::time::Instant;
use tower::{Layer, Service, ServiceBuilder, ServiceExt};
use tower_failover::{
    BoxError, CapabilityFilterLayer, CircuitBreakerLayer, Deadline, FailoverLayer, Fault, FaultKind, Outcome, Phase,
    RequestContext, RetryLayer, Route, Target, TimeoutLayer,
    circuit_breaker::{CircuitRegistry, CircuitSettings, CircuitState},
    retry::{Backoff, RetryBudget},
};

const SECOND: Duration = Duration::from_secs(1);

fn request() -> Request<Full<Bytes>> {
    Request::new(Full::new(Bytes::from_static(b"request")))
}

fn request_with(context: &RequestContext) -> Request<Full<Bytes>> {
    let mut request = request();
    request.extensions_mut().insert(context.clone());
    request
}

fn kind<B>(response: &Response<B>) -> Option<FaultKind> {
    response.extensions().get::<Fault>().map(Fault::kind)
}

async fn read<B>(response: Response<B>) -> Result<Bytes, String>
where
    B: Body<Data = Bytes, Error = BoxError>,
{
    response.into_body().collect().await.map(|body| body.to_bytes()).map_err(|error| error.to_string())
}

fn route(names: &[&str]) -> Route {
    Route::new("r", names.iter().map(|name| Target::named(name))).unwrap()
}

/// Polls a call once, so that it is under way, and then drops it.
async fn begin_and_drop<F: std::future::Future>(future: F) {
    let mut future = Box::pin(future);
    assert!(futures_util::poll!(&mut future).is_pending());
}

// --- retry

#[tokio::test(start_paused = true)]
async fn retry_waits_as_long_as_it_is_asked_to_and_tries_again() {
    let inner = Scripted::playing([Act::RetryAfter(429, 2), Act::RetryAfter(503, 1), Act::Answer(200)]);
    let service = RetryLayer::new().with_attempts(5).layer(inner.clone());
    let started = Instant::now();
    assert_eq!(service.oneshot(request()).await.unwrap().status(), 200);
    assert_eq!((inner.calls(), started.elapsed()), (3, 3 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn retry_gives_up_when_it_is_asked_to_wait_for_too_long_or_cannot_help() {
    for act in [Act::RetryAfter(429, 3), Act::Answer(429), Act::RetryAfter(503, 3), Act::Answer(400), Act::Answer(401)]
    {
        let inner = Scripted::playing([act]);
        let response = RetryLayer::new().layer(inner.clone()).oneshot(request()).await.unwrap();
        assert!(response.status().as_u16() >= 400);
        assert_eq!(read(response).await.unwrap(), WHOLE, "the response itself is passed on");
        assert_eq!(inner.calls(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn retry_backs_off_at_random_within_its_bounds() {
    let inner = Scripted::playing(vec![Act::Answer(500); 4]);
    let backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(150));
    let service = RetryLayer::new().with_attempts(4).with_backoff(backoff).layer(inner.clone());
    let started = Instant::now();
    assert_eq!(service.oneshot(request()).await.unwrap().status(), 500);
    assert_eq!(inner.calls(), 4);
    assert!(started.elapsed() <= Duration::from_millis(403), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn retry_does_not_wait_past_the_deadline() {
    let inner = Scripted::playing([Act::RetryAfter(503, 2)]);
    let context = RequestContext::new().with_deadline(Deadline::after(SECOND));
    let service = RetryLayer::new().layer(inner.clone());
    assert_eq!(service.oneshot(request_with(&context)).await.unwrap().status(), 503);
    assert_eq!(inner.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn retry_tells_what_the_wire_said_and_not_the_refusal_that_came_after() {
    let inner = Scripted::playing([Act::Answer(500), Act::Refuse]);
    let response = RetryLayer::new().layer(inner.clone()).oneshot(request()).await.unwrap();
    assert_eq!(kind(&response), Some(FaultKind::Unavailable));
    let inner = Scripted::playing([Act::Refuse]);
    let response = RetryLayer::new().layer(inner.clone()).oneshot(request()).await.unwrap();
    assert_eq!((kind(&response), inner.calls()), (Some(FaultKind::Refused), 1));
}

#[tokio::test(start_paused = true)]
async fn retries_stay_within_their_budget() {
    let inner = Scripted::playing(vec![Act::Answer(500); 200]);
    let service = RetryLayer::new().with_budget(RetryBudget::new(0.2)).layer(inner.clone());
    for _ in 0..100 {
        // Without jitter's wait: time stands still between calls, so all of it is one window.
        let _ = service.clone().oneshot(request()).await.unwrap();
    }
    let retries = inner.calls() - 100;
    assert!((10..=60).contains(&retries), "{retries}");
}

#[tokio::test(start_paused = true)]
async fn what_a_guard_refused_is_no_traffic_that_retries_may_be_a_share_of() {
    let refused = (0..100).map(|_| Act::Refuse);
    let inner = Scripted::playing(refused.chain((0..40).map(|_| Act::Answer(500))).collect::<Vec<_>>());
    let service = RetryLayer::new().with_budget(RetryBudget::new(0.2)).layer(inner.clone());
    for _ in 0..120 {
        let _ = service.clone().oneshot(request()).await.unwrap();
    }
    assert_eq!(inner.calls(), 100 + 20 + 10, "those that are always allowed");
}

#[tokio::test(start_paused = true)]
async fn each_try_is_in_the_log() {
    let inner = Scripted::playing([Act::Answer(503), Act::Answer(200)]);
    let context = RequestContext::new();
    RetryLayer::new().layer(inner).oneshot(request_with(&context)).await.unwrap();
    let outcomes: Vec<_> = context.attempts().iter().map(|attempt| attempt.outcome().unwrap().clone()).collect();
    assert!(
        matches!(&outcomes[..], [Outcome::Failed(fault), Outcome::Answered] if fault.kind() == FaultKind::Unavailable)
    );
    assert_eq!(context.attempts().sent(), 2);
}

// --- circuit breaker

fn breaker(failures: u32) -> (CircuitBreakerLayer, CircuitRegistry) {
    let mut settings = CircuitSettings::default();
    settings.failures = failures;
    settings.jitter = 0.0;
    let circuits = CircuitRegistry::new(settings);
    (CircuitBreakerLayer::new(circuits.clone()), circuits)
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_refuses_without_calling_and_stays_ready() {
    let (layer, circuits) = breaker(2);
    let inner = Scripted::playing(vec![Act::Answer(500); 2]);
    let target = Target::named("t");
    let context = RequestContext::new().with_target(target.clone());
    let service = layer.layer(inner.clone());
    for _ in 0..2 {
        service.clone().oneshot(request_with(&context)).await.unwrap();
    }
    assert_eq!(circuits.state(&target), CircuitState::Open);
    let refused = service.clone().oneshot(request_with(&context)).await.unwrap();
    assert_eq!((refused.status().as_u16(), kind(&refused), inner.calls()), (503, Some(FaultKind::Refused), 2));
    assert_eq!(refused.headers()["retry-after"], "5");
}

#[tokio::test(start_paused = true)]
async fn a_verdict_is_given_when_the_body_ends_or_breaks_and_not_when_it_is_dropped() {
    let (layer, circuits) = breaker(1);
    let target = Target::named("t");
    let context = RequestContext::new().with_target(target.clone());
    let inner = Scripted::playing([Act::Hang, Act::Break, Act::Break]);
    let service = layer.layer(inner.clone());
    begin_and_drop(service.clone().oneshot(request_with(&RequestContext::new()))).await;
    let unread = service.clone().oneshot(request_with(&context)).await.unwrap();
    drop(unread);
    assert_eq!(circuits.state(&target), CircuitState::Closed);
    assert!(read(service.clone().oneshot(request_with(&context)).await.unwrap()).await.is_err());
    assert_eq!(circuits.state(&target), CircuitState::Open);
    assert_eq!(inner.running(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_given_up_on_leaves_the_way_to_the_next() {
    let (layer, circuits) = breaker(1);
    let target = Target::named("t");
    let context = RequestContext::new().with_target(target.clone());
    let service = layer.layer(Scripted::playing([Act::Answer(500), Act::Hang, Act::Answer(200)]));
    service.clone().oneshot(request_with(&context)).await.unwrap();
    tokio::time::advance(5 * SECOND).await;
    begin_and_drop(service.clone().oneshot(request_with(&context))).await;
    assert_eq!(circuits.state(&target), CircuitState::HalfOpen);
    assert_eq!(service.oneshot(request_with(&context)).await.unwrap().status(), 200);
    assert_eq!(circuits.state(&target), CircuitState::Closed);
}

// --- timeout

#[tokio::test(start_paused = true)]
async fn a_silent_call_is_given_up_on_exactly_when_its_time_is_up() {
    let inner = Scripted::playing([Act::Hang, Act::Hang]);
    let service = TimeoutLayer::new().with_response(10 * SECOND).layer(inner.clone());
    let started = Instant::now();
    let response = service.clone().oneshot(request()).await.unwrap();
    assert_eq!((response.status().as_u16(), kind(&response)), (504, Some(FaultKind::Timeout)));
    assert_eq!((started.elapsed(), inner.running()), (10 * SECOND, 0));

    let context = RequestContext::new().with_deadline(Deadline::after(3 * SECOND));
    let started = Instant::now();
    service.oneshot(request_with(&context)).await.unwrap();
    assert_eq!(started.elapsed(), 3 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_stalls_ends_with_a_fault() {
    let service = TimeoutLayer::new().with_idle(7 * SECOND).layer(Scripted::playing([Act::Stall]));
    let started = Instant::now();
    let error = read(service.oneshot(request()).await.unwrap()).await.unwrap_err();
    assert!(error.contains("paused"), "{error}");
    assert_eq!(started.elapsed(), 7 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_ready_is_never_thrown_away() {
    let service = TimeoutLayer::new().with_response(Duration::ZERO).layer(Scripted::playing([Act::Answer(200)]));
    assert_eq!(service.oneshot(request()).await.unwrap().status(), 200);
}

// --- failover

#[tokio::test(start_paused = true)]
async fn failover_tries_each_target_once_with_the_same_body() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let record = seen.clone();
    let inner = tower::service_fn(move |request: Request<Full<Bytes>>| {
        let target = RequestContext::of(request.extensions()).unwrap().target().unwrap().id().to_string();
        let seen = record.clone();
        async move {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            seen.lock().unwrap().push((target, body));
            Ok::<_, Infallible>(Response::builder().status(500).body(Full::<Bytes>::default()).unwrap())
        }
    });
    let context = RequestContext::new();
    let service = FailoverLayer::new(&route(&["a", "b", "c"])).layer(inner);
    let response = service.oneshot(request_with(&context)).await.unwrap();
    assert_eq!(kind(&response), Some(FaultKind::Unavailable));
    let body = Bytes::from_static(b"request");
    let expected: Vec<_> = ["a", "b", "c"].map(|name| (name.to_owned(), body.clone())).into();
    assert_eq!(*seen.lock().unwrap(), expected);
    assert!(context.attempts().iter().all(|attempt| attempt.phase() == Phase::Sent));
}

#[tokio::test(start_paused = true)]
async fn failover_that_is_dropped_cancels_its_attempt() {
    let inner = Scripted::playing([Act::Answer(500), Act::Hang]);
    let context = RequestContext::new();
    let service = FailoverLayer::new(&route(&["a", "b"])).layer(inner.clone());
    begin_and_drop(service.oneshot(request_with(&context))).await;
    assert_eq!((inner.calls(), inner.running()), (2, 0));
    assert_eq!(context.attempts().iter().last().unwrap().outcome(), Some(&Outcome::Cancelled));
}

#[tokio::test(start_paused = true)]
async fn failover_stops_at_the_deadline() {
    let inner = Scripted::playing([Act::Hang]);
    let service = ServiceBuilder::new()
        .layer(FailoverLayer::new(&route(&["a", "b"])).with_total(4 * SECOND))
        .layer(TimeoutLayer::new())
        .service(inner.clone());
    let started = Instant::now();
    let response = service.oneshot(request()).await.unwrap();
    assert_eq!((response.status().as_u16(), started.elapsed(), inner.calls()), (504, 4 * SECOND, 1));
}

#[tokio::test(start_paused = true)]
async fn a_target_that_was_left_too_little_time_is_not_blamed() {
    let (breaker, circuits) = breaker(1);
    let route = route(&["a", "b"]);
    let service = ServiceBuilder::new()
        .layer(FailoverLayer::new(&route).with_total(12 * SECOND))
        .layer(breaker)
        .layer(TimeoutLayer::new().with_response(10 * SECOND))
        .service(Scripted::playing([Act::Hang, Act::Hang]));
    let started = Instant::now();
    assert_eq!(service.oneshot(request()).await.unwrap().status(), 504);
    assert_eq!(started.elapsed(), 12 * SECOND);
    let states: Vec<_> = route.targets().iter().map(|target| circuits.state(target)).collect();
    assert_eq!(states, [CircuitState::Open, CircuitState::Closed]);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_cannot_be_sent_proves_nobody_alive() {
    let provider = tower_failover::Provider::new("p", tower_failover::Dialect::OpenAiChat, "http://h").unwrap();
    let target = Target::new(&provider, "m");
    let circuits = CircuitRegistry::default();
    circuits.open(&target);
    circuits.half_open(&target);
    let service = tower_failover::FailoverStack::new(&Route::new("r", [target.clone()]).unwrap())
        .with_circuits(circuits.clone())
        .layer(Scripted::playing([]));
    let context = RequestContext::new().with_dialect(tower_failover::Dialect::OpenAiChat);
    let mut bad = request_with(&context);
    *bad.body_mut() = Full::new(Bytes::from_static(b"[1]"));
    assert_eq!(service.oneshot(bad).await.unwrap().status(), 400);
    assert_eq!((circuits.state(&target), context.attempts().sent()), (CircuitState::HalfOpen, 0));
}

#[tokio::test(start_paused = true)]
async fn a_path_that_is_not_there_closes_no_model() {
    let provider = tower_failover::Provider::new("p", tower_failover::Dialect::OpenAiChat, "http://h").unwrap();
    let target = Target::new(&provider, "m");
    let circuits = CircuitRegistry::default();
    for (path, state) in [("/favicon.ico", CircuitState::Closed), ("/v1/chat/completions", CircuitState::Open)] {
        let service = tower_failover::FailoverStack::new(&Route::new("r", [target.clone()]).unwrap())
            .with_circuits(circuits.clone())
            .layer(Scripted::playing([Act::Answer(404)]));
        let mut request = request();
        *request.uri_mut() = path.parse().unwrap();
        *request.body_mut() = Full::new(Bytes::from_static(b"{}"));
        assert_eq!(service.oneshot(request).await.unwrap().status(), 502);
        assert_eq!(circuits.state(&target), state, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_deadline_holds_though_nothing_inside_is_ready_or_keeps_it() {
    let service = FailoverLayer::new(&route(&["a", "b"])).with_total(5 * SECOND).layer(Scripted::playing([Act::Hang]));
    let started = Instant::now();
    assert_eq!(service.oneshot(request()).await.unwrap().status(), 504);
    let service = FailoverLayer::new(&route(&["a"])).with_total(5 * SECOND).layer(Never);
    assert_eq!(service.oneshot(request()).await.unwrap().status(), 504);
    assert_eq!(started.elapsed(), 10 * SECOND);
}

/// A service that is never ready.
#[derive(Clone)]
struct Never;

impl Service<Request<Full<Bytes>>> for Never {
    type Response = Response<TestBody>;
    type Error = Infallible;
    type Future = std::future::Pending<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Pending
    }

    fn call(&mut self, _: Request<Full<Bytes>>) -> Self::Future {
        panic!("called without being ready")
    }
}

#[tokio::test(start_paused = true)]
async fn failover_is_ready_though_its_targets_are_not() {
    let mut service = FailoverLayer::new(&route(&["a"])).layer(Never);
    let ready = ServiceExt::<Request<Full<Bytes>>>::ready(&mut service);
    assert!(futures_util::poll!(Box::pin(ready)).is_ready());
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_too_long_is_refused_before_any_target() {
    let inner = Scripted::playing([]);
    let service = FailoverLayer::new(&route(&["a"])).with_max_body(6).layer(inner.clone());
    let response = service.oneshot(request()).await.unwrap();
    assert_eq!((response.status().as_u16(), kind(&response)), (413, Some(FaultKind::PayloadTooLarge)));
    assert_eq!(inner.calls(), 0);
}

// --- together

#[tokio::test(start_paused = true)]
async fn all_circuits_open_is_answered_by_the_last_resort() {
    let (breaker, circuits) = breaker(1);
    let inner = Scripted::playing([Act::Answer(500), Act::Answer(500), Act::Answer(200)]);
    let route = route(&["a", "b"]);
    let service = ServiceBuilder::new()
        .layer(FailoverLayer::new(&route))
        .layer(CapabilityFilterLayer::new())
        .layer(RetryLayer::new().with_attempts(1))
        .layer(breaker)
        .layer(TimeoutLayer::new())
        .service(inner.clone());
    assert_eq!(service.clone().oneshot(request()).await.unwrap().status(), 503);
    assert!(route.targets().iter().all(|target| circuits.state(target) == CircuitState::Open));
    assert_eq!(service.oneshot(request()).await.unwrap().status(), 200);
    assert_eq!(inner.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_last_resort_is_tried_once() {
    let (breaker, _) = breaker(1);
    let inner = Scripted::playing(vec![Act::Answer(500); 4]);
    let service = ServiceBuilder::new()
        .layer(FailoverLayer::new(&route(&["a", "b"])))
        .layer(RetryLayer::new())
        .layer(breaker)
        .service(inner.clone());
    for calls in [2, 3, 4] {
        assert_eq!(service.clone().oneshot(request()).await.unwrap().status(), 503);
        assert_eq!(inner.calls(), calls);
    }
}

#[test]
fn everything_can_be_shared_and_sent() {
    fn check<T: Clone + Send + Sync + 'static>(_: T) {}
    let route = route(&["a"]);
    check(FailoverLayer::new(&route));
    check(CapabilityFilterLayer::new());
    check(RetryLayer::new());
    check(CircuitBreakerLayer::default());
    check(TimeoutLayer::new());
    check(tower_failover::ProviderLayer::new());
    check(tower_failover::FailoverStack::new(&route));
    check(RequestContext::new());
    check(Fault::new(FaultKind::Timeout, ""));
}
