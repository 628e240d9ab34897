//! What every layer promises, whatever else it does. A layer is one line in the list at the end.

#![allow(clippy::unwrap_used, clippy::expect_used)] // what fails here fails the test

#[path = "harness/scripted.rs"]
mod scripted;

use std::{convert::Infallible, future::Future, num::NonZeroU32, pin::pin, time::Duration};

use bytes::Bytes;
use futures_util::poll;
use http::{Request, Response};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use scripted::{Act, Scripted, trailers};
use tokio_test::{assert_pending, assert_ready, task};
use tower::{Layer, Service, ServiceExt};
use tower_failover::{
    BoxError, CapabilityFilterLayer, CatchErrorLayer, CircuitBreakerLayer, CollectBodyLayer, Dialect, Event,
    FailoverLayer, FailoverStack, Fault, FaultInjectionLayer, Provider, ProviderLayer, RateLimitLayer, RecoveryLayer,
    RequestContext, RequirementsLayer, RetryLayer, Route, Target, TelemetryLayer, TimeoutLayer,
    fault_injection::FaultSwitch,
    provider::{DispatchLayer, StreamGuardLayer},
    rate_limit::{Limits, RateLimitRegistry},
};

type TestRequest = Request<Full<Bytes>>;

/// What a layer makes of the scripted service: everything that hyper-util, axum, tonic and tower-http ask of a service.
trait Subject:
    Service<TestRequest, Response = Response<Self::Body>, Error = Infallible, Future: Send> + Clone + Send + Sync + 'static
{
    type Body: Body<Data = Bytes, Error = BoxError> + Default + Send + Sync + Unpin + 'static;
}

impl<S, B> Subject for S
where
    S: Service<TestRequest, Response = Response<B>, Error = Infallible, Future: Send> + Clone + Send + Sync + 'static,
    B: Body<Data = Bytes, Error = BoxError> + Default + Send + Sync + Unpin + 'static,
{
    type Body = B;
}

fn target(name: &str) -> Target {
    Target::new(&Provider::new(name, Dialect::OpenAiChat, "http://provider.test/v1").unwrap(), "model")
}

fn route() -> Route {
    Route::new("route", ["a", "b"].map(target)).unwrap()
}

fn request() -> TestRequest {
    let body = r#"{"model":"any","stream":true,"messages":[{"role":"user","content":"Hello!"}]}"#;
    let mut request = Request::post("/v1/chat/completions").body(Full::from(body)).unwrap();
    request.extensions_mut().insert(RequestContext::new().with_target(target("a")));
    request
}

async fn call<S: Subject>(service: &S) -> Response<S::Body> {
    match service.clone().oneshot(request()).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// Calls, and reads the answer to its end.
async fn exchange<S: Subject>(service: &S) -> (u16, Result<Bytes, BoxError>) {
    let response = call(service).await;
    let status = response.status().as_u16();
    (status, response.into_body().collect().await.map(|body| body.to_bytes()))
}

// --- readiness

async fn each_readiness_is_used_for_one_call<S: Subject>(inner: Scripted, service: S) {
    inner.now(Act::Answer(200));
    let mut ready = service.clone();
    ready.ready().await.unwrap();
    // A clone of a ready instance has not been polled: it must not take itself for ready.
    let (cold, mut again) = (ready.clone(), ready);
    assert_eq!(again.call(request()).await.unwrap().status(), 200);
    assert_eq!(cold.oneshot(request()).await.unwrap().status(), 200);
    assert_eq!(again.ready().await.unwrap().call(request()).await.unwrap().status(), 200);
    assert_eq!((inner.calls(), inner.reserved()), (3, 3));
}

async fn an_inner_service_that_is_not_ready_is_waited_for<S: Subject>(inner: Scripted, service: S) {
    inner.now(Act::Answer(200));
    inner.close();
    let mut first = service.clone();
    let mut response = task::spawn(async {
        first.ready().await.unwrap();
        first.call(request()).await.unwrap().status()
    });
    assert_pending!(response.poll());
    assert_eq!(inner.calls(), 0);
    inner.open();
    assert!(response.is_woken());
    assert_eq!(assert_ready!(response.poll()), 200);
}

// --- cancellation

/// When a call is given up on.
#[derive(Clone, Copy, Debug)]
enum Moment {
    BeforeFirstPoll,
    WhilePending,
    WithHead,
    AfterFirstFrame,
    BetweenFrames,
}

const MOMENTS: [Moment; 5] =
    [Moment::BeforeFirstPoll, Moment::WhilePending, Moment::WithHead, Moment::AfterFirstFrame, Moment::BetweenFrames];

/// Gives a call up. Says whether it got as far as it was meant to.
async fn give_up<S: Subject>(moment: Moment, inner: &Scripted, service: &S) -> bool {
    inner.now(if matches!(moment, Moment::WhilePending) { Act::Hang } else { Act::Stall });
    let mut service = service.clone();
    service.ready().await.unwrap();
    let mut call = pin!(service.call(request()));
    match moment {
        Moment::BeforeFirstPoll => true,
        Moment::WhilePending => poll!(call.as_mut()).is_pending() && inner.running() == 1,
        _ => {
            let response = call.await.unwrap();
            let got_there = response.status() == 200 && inner.running() == 1;
            let mut body = response.into_body();
            if matches!(moment, Moment::AfterFirstFrame | Moment::BetweenFrames) {
                assert!(body.frame().await.unwrap().is_ok());
            }
            if matches!(moment, Moment::BetweenFrames) {
                let pending = poll!(pin!(body.frame())).is_pending();
                return got_there && pending;
            }
            got_there
        }
    }
}

async fn a_call_that_is_dropped_leaves_nothing_behind<S: Subject>(inner: Scripted, service: S) {
    for moment in MOMENTS {
        for round in 0..20 {
            assert!(give_up(moment, &inner, &service).await, "{moment:?}, round {round}");
            assert_eq!(inner.running(), 0, "{moment:?}, round {round}: the inner call is dropped too");
        }
        inner.now(Act::Answer(200));
        assert_eq!(exchange(&service).await.0, 200, "{moment:?}: nothing is held");
    }
}

/// A guard that has just recovered lets few calls through: a dropped one must not be the last.
async fn a_call_that_is_dropped_after_an_outage_lets_the_next_one_through<S: Subject>(inner: Scripted, service: S) {
    for moment in MOMENTS {
        inner.now(Act::Answer(500));
        for _ in 0..20 {
            exchange(&service).await.1.unwrap();
        }
        tokio::time::advance(Duration::from_secs(3600)).await;
        for round in 0..3 {
            assert!(give_up(moment, &inner, &service).await, "{moment:?}, round {round}");
            assert_eq!(inner.running(), 0, "{moment:?}, round {round}");
        }
        inner.now(Act::Answer(200));
        assert_eq!(exchange(&service).await.0, 200, "{moment:?}");
    }
}

/// How many of some failing calls get through.
async fn failures_that_get_through<S: Subject>(inner: &Scripted, service: &S, moment: Option<Moment>) -> usize {
    let mut through = 0;
    for _ in 0..10 {
        if let Some(moment) = moment {
            give_up(moment, inner, service).await;
        }
        inner.now(Act::Answer(500));
        let before = inner.calls();
        exchange(service).await.1.unwrap();
        through += inner.calls() - before;
    }
    through
}

async fn a_call_that_is_dropped_is_no_verdict<S: Subject>(make: impl Fn(Scripted) -> S) {
    let through = async |moment| {
        let inner = Scripted::playing([]);
        failures_that_get_through(&inner, &make(inner.clone()), moment).await
    };
    let undisturbed = through(None).await;
    for moment in MOMENTS {
        assert_eq!(through(Some(moment)).await, undisturbed, "{moment:?}");
    }
}

// --- bodies

/// Reads a body to its end and holds it to what it said on the way.
async fn read_with_care<B>(mut body: B, what: Act) -> (Vec<u8>, Option<http::HeaderMap>, Option<BoxError>)
where
    B: Body<Data = Bytes, Error = BoxError> + Unpin,
{
    let (mut data, mut trailers, mut error) = (Vec::new(), None, None);
    let mut said = Vec::new();
    loop {
        said.push((data.len() as u64, body.size_hint(), body.is_end_stream()));
        match body.frame().await {
            Some(Ok(frame)) => {
                assert!(!said.last().unwrap().2, "{what:?}: a frame came after it had said that it was over");
                match frame.into_data() {
                    Ok(bytes) => data.extend_from_slice(&bytes),
                    Err(frame) => trailers = frame.into_trailers().ok(),
                }
            }
            Some(Err(broken)) => {
                assert!(error.replace(broken).is_none(), "{what:?}: it broke twice");
            }
            None => break,
        }
    }
    if error.is_none() {
        for (before, hint, _) in said {
            let rest = data.len() as u64 - before;
            let most = hint.upper().unwrap_or(u64::MAX);
            assert!((hint.lower()..=most).contains(&rest), "{what:?}: {rest} bytes came after {hint:?}");
        }
    }
    for _ in 0..3 {
        assert!(body.frame().await.is_none(), "{what:?}: it goes on after its end");
    }
    (data, trailers, error)
}

async fn bodies_keep_their_word<S: Subject>(inner: Scripted, service: S) {
    let acts = [Act::Answer(200), Act::Answer(400), Act::Stream, Act::Sized, Act::Empty, Act::OnlyTrailers, Act::Break];
    for act in acts {
        inner.now(act);
        let response = call(&service).await;
        // What is no answer of the provider's API has become a failed response of ours.
        let failed = response.extensions().get::<Fault>().is_some();
        let (data, end, error) = read_with_care(response.into_body(), act).await;
        assert_eq!(inner.running(), 0, "{act:?}");
        if failed {
            continue;
        }
        let said = String::from_utf8(data).unwrap();
        // A stream was asked for: who knows the API makes one of JSON.
        let made_a_stream = act == Act::Answer(200) && said.starts_with("data: ") && said.contains("\"whole\"");
        assert!(made_a_stream || said == act.data(), "{act:?}: {said}");
        let has_trailers = matches!(act, Act::Stream | Act::OnlyTrailers);
        assert_eq!(end, has_trailers.then(trailers), "{act:?}");
        assert_eq!(error.is_some(), act == Act::Break, "{act:?}");
        if let Some(error) = error {
            assert!(Fault::find(&*error).is_some(), "the fault is found in {error:?}");
        }
    }
}

async fn the_end_of_a_body_counts_once<S: Subject>(make: impl Fn(Scripted) -> S) {
    let through = async |carefully: bool| {
        let inner = Scripted::always(Act::Break);
        let service = make(inner.clone());
        for _ in 0..10 {
            let mut body = call(&service).await.into_body();
            while let Some(Ok(_)) = body.frame().await {}
            if carefully {
                // As some do: beyond the end.
                let _ = (body.frame().await, body.frame().await, body.is_end_stream());
            }
        }
        inner.calls()
    };
    assert_eq!(through(false).await, through(true).await);
}

fn a_default_body_is_empty<S: Subject>(_: &S) {
    let body = S::Body::default();
    assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(0), true));
}

// --- the layers

fn can_be_shared<T: Clone + Send + Sync + 'static>(_: T) {}

fn sendable<F: Future + Send>(future: F) -> F {
    future
}

macro_rules! contract {
    ($($(#[$condition:meta])? $name:ident: $layer:expr;)*) => {$(
        $(#[$condition])?
        mod $name {
            use super::*;

            fn make(inner: Scripted) -> impl Subject {
                $layer.layer(inner)
            }

            fn subject() -> (Scripted, impl Subject) {
                let inner = Scripted::playing([]);
                (inner.clone(), make(inner))
            }

            #[test]
            fn can_be_shared() {
                super::can_be_shared($layer);
                super::a_default_body_is_empty(&make(Scripted::playing([])));
            }

            #[tokio::test(start_paused = true)]
            async fn each_readiness_is_used_for_one_call() {
                let (inner, service) = subject();
                sendable(super::each_readiness_is_used_for_one_call(inner, service)).await;
            }

            #[tokio::test(start_paused = true)]
            async fn an_inner_service_that_is_not_ready_is_waited_for() {
                let (inner, service) = subject();
                super::an_inner_service_that_is_not_ready_is_waited_for(inner, service).await;
            }

            #[tokio::test(start_paused = true)]
            async fn a_call_that_is_dropped_leaves_nothing_behind() {
                let (inner, service) = subject();
                super::a_call_that_is_dropped_leaves_nothing_behind(inner, service).await;
            }

            #[tokio::test(start_paused = true)]
            async fn a_call_that_is_dropped_after_an_outage_lets_the_next_one_through() {
                let (inner, service) = subject();
                super::a_call_that_is_dropped_after_an_outage_lets_the_next_one_through(inner, service).await;
            }

            #[tokio::test(start_paused = true)]
            async fn a_call_that_is_dropped_is_no_verdict() {
                super::a_call_that_is_dropped_is_no_verdict(make).await;
            }

            #[tokio::test(start_paused = true)]
            async fn bodies_keep_their_word() {
                let (inner, service) = subject();
                super::bodies_keep_their_word(inner, service).await;
            }

            #[tokio::test(start_paused = true)]
            async fn the_end_of_a_body_counts_once() {
                super::the_end_of_a_body_counts_once(make).await;
            }
        }
    )*};
}

/// One call at a time: whoever keeps a permit shows.
fn one_at_a_time() -> RateLimitRegistry {
    let mut limits = Limits::default();
    limits.max_concurrency = NonZeroU32::new(1);
    RateLimitRegistry::new(limits)
}

contract! {
    // What is kept is too old at once: each call is to reach the service.
    #[cfg(feature = "cache")]
    cache: tower_failover::CacheLayer::new(Duration::ZERO);
    capability_filter: CapabilityFilterLayer::new();
    catch_error: CatchErrorLayer::new();
    circuit_breaker: CircuitBreakerLayer::default();
    collect_body: CollectBodyLayer::new();
    dispatch: DispatchLayer::new();
    failover: FailoverLayer::new(&route());
    fault_injection: FaultInjectionLayer::new(&FaultSwitch::new());
    provider: ProviderLayer::new();
    rate_limit: RateLimitLayer::new(one_at_a_time());
    recovery: RecoveryLayer::new();
    requirements: RequirementsLayer::new();
    retry: RetryLayer::new();
    // A retry's jitter would let time pass, and circuits with it; a last resort whose head came has shown all it was to show.
    stack: FailoverStack::new(&route())
        .with_limits(one_at_a_time())
        .with_retry(RetryLayer::new().with_attempts(1))
        .with_failover(FailoverLayer::new(&route()).with_last_resort(false));
    stream_guard: StreamGuardLayer::new();
    telemetry: TelemetryLayer::new(&route()).with_observer(|_: &Event| {});
    timeout: TimeoutLayer::new();
}
