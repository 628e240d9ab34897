//! Defects that others shipped, met and mended in public, each reproduced here through the public API. A name in the right
//! column that is not in this file is in the one that stands before it.
//!
//! | defect | where | test |
//! |---|---|---|
//! | **Circuit breakers** | | |
//! | A sliding window that never slides: after 1 000 good calls it takes as many bad ones | tower-resilience 0.14.0 | [`the_window_slides_after_a_thousand_successes`] |
//! | Shares are not looked at before the window is full | mcp-proxy 220 | [`shares_are_looked_at_long_before_the_window_is_full`] |
//! | A count that overflows, or a window that is not empty, after a long silence | linkerd2-proxy, comment in `success_rate.rs` | [`after_a_year_of_silence_the_window_is_empty`] |
//! | Half-open counts what was completed, not what was admitted | [tower-resilience 382], failsafe, [tower 855] | [`half_open_admits_no_more_than_its_probes_even_before_any_completes`] |
//! | A probe that is dropped never gives its permit back: six days open | [OmniRoute 13836], [nanobot 5764] | [`a_dropped_probe_gives_its_permit_back`] |
//! | Nor does one that is never heard of again | [OmniRoute 13849] | [`a_probe_that_is_never_heard_of_does_not_keep_the_circuit_open`] |
//! | Nor one that ends without a verdict | [agent-os 1605] | [`a_probe_that_is_refused_further_in_gives_its_permit_back`] |
//! | A 400 during a probe parks a healthy provider | [agent-os 1605] | [`a_client_error_during_a_probe_proves_alive`] |
//! | An old probe gives its permit to a new cycle, which then has one too many | tower-resilience, mended by a semaphore a cycle | [`an_old_probe_gives_no_permit_to_a_new_cycle`] |
//! | A result from before the outage closes the circuit | tower-resilience 0.14.0, [nv-redfish 211] | [`a_late_success_from_an_older_epoch_does_not_close_the_circuit`] |
//! | … or opens it | the same | [`a_late_failure_from_an_older_epoch_does_not_open_the_circuit`] |
//! | Success is noted with the head: a stream that dies in its body was a success | tower-resilience | [`a_stream_that_dies_in_its_body_is_a_failure`] |
//! | An error event in a 200 was a success | LLM routers | [`a_stream_that_begins_with_an_error_is_a_failure`] |
//! | A body that nobody read to its end was a success | linkerd2-proxy | `layers.rs`: `a_verdict_is_given_when_the_body_ends_or_breaks_and_not_when_it_is_dropped` |
//! | A call that streams for long was slow | our own, until it was modelled | [`a_long_stream_that_began_in_time_is_not_slow`] |
//! | A client that goes away is a failure, or a timeout of ours none | – | [`a_timeout_is_a_failure_and_a_client_that_leaves_is_not`] |
//! | A client's 4xx trips the circuit | linkerd website 2126 | [`client_errors_never_trip`] |
//! | A call waits for a lock, or in steps of 1 ms for its turn | tower-resilience | [`a_refusal_is_told_at_once`] |
//! | An open circuit is an error of `poll_ready`, which is final ([tower 43]) | [tower 855] | `layers.rs`: `an_open_circuit_refuses_without_calling_and_stays_ready` |
//! | One circuit for all targets | tower-resilience | [`targets_have_circuits_of_their_own`] |
//! | Each call of `layer()` has a state of its own | [axum 2582], [axum 2634] | [`state_is_shared_between_two_layer_calls`] |
//! | Errors nest, layer by layer | tower-resilience | [`the_error_type_stays_that_of_the_service`] |
//! | **Readiness** | | |
//! | A clone is called that was never polled | [tower-resilience 286], [tower-resilience 307], [tower 548] | `contract.rs`: `each_readiness_is_used_for_one_call` |
//! | … with the second try and those after it | [tower-resilience 362] | [`later_tries_are_polled_ready_too`] |
//! | What is never called reserves a place | [tower 472], [Zebra 1593], [Apollo router 1350] | [`standbys_reserve_nothing`] |
//! | One backend that is not ready blocks all | tower's `Steer` | `layers.rs`: `failover_is_ready_though_its_targets_are_not` |
//! | A retry queues behind an open circuit | linkerd2-proxy, which asks `now_or_never` | [`a_retry_does_not_queue_behind_an_open_circuit`] |
//! | One stalled backup queues every failover | tower-resilience | [`one_stalled_fallback_does_not_queue_others`] |
//! | **Retry and failover** | | |
//! | A body that cannot be sent again is retried empty | [octocrab 842] | [`a_streamed_body_is_sent_again_whole_and_once`] |
//! | … or is an error though nothing was retried | [reqwest-middleware 44] | the same |
//! | … or is sent twice in one | [linkerd2 15649] | the same |
//! | … or is not retried for want of a length | [linkerd2-proxy 1341] | the same |
//! | A body is collected without a bound before its size is looked at | [linkerd2-proxy 1039] | [`a_body_over_the_bound_is_not_read_on`] |
//! | The request is cloned for the last try as well | tower-resilience | [`the_last_try_is_not_cloned`] |
//! | A failed response, and its connection, is kept through the backoff | tower-resilience, reqwest-retry | [`the_failed_response_is_dropped_before_the_retry_sleeps`] |
//! | `Retry-After` is not heard of by whoever chooses the delay | [reqwest-middleware 146], [reqwest 925] | `layers.rs`: `retry_waits_as_long_as_it_is_asked_to_and_tries_again` |
//! | Tries multiply and nobody counts them | – | [`tries_of_all_targets_are_in_one_log`] |
//! | Headers and extensions of one attempt are in the next | reqwest-middleware, a TODO | [`no_attempt_sees_what_another_one_added`] |
//! | A key goes to another provider | tower-http, `filter_credentials.rs` | [`no_key_reaches_another_provider`] |
//! | A budget looks, and then takes | tower's `TpsBudget`, tower-resilience 370 | `src/budget.rs`: `threads_get_no_more_than_there_is_and_no_less` |
//! | **Bodies and time** | | |
//! | A timeout covers the head only | tower, tonic, tower-resilience 373 | [`the_body_timeout_covers_the_body`] |
//! | Head and body have the deadline each | tower-http's `DeadlineBody`: [tower-http 623] | [`the_deadline_is_granted_once`] |
//! | The bound on the head cuts a long stream | – | [`the_bound_on_the_head_does_not_cut_a_long_stream`] |
//! | An answer that is ready is lost to the timer | tower-http's `Timeout` | `layers.rs`: `an_answer_that_is_ready_is_never_thrown_away` |
//! | The end goes unnoticed when nobody polls past the last frame | [tower-http 687] | [`an_end_is_noticed_though_nobody_polls_past_the_last_frame`] |
//! | A peeked frame is lost; trailers are; an exact size is told that is wrong | [linkerd2-proxy 3947], [tower-http 546], [linkerd2 15414] | `contract.rs`: `bodies_keep_their_word` |
//! | A limit is counted anew for each clone | [axum 2582], [axum 2634] | [`a_limit_is_one_however_often_its_service_is_made_and_cloned`] |
//! | Services that are not `Sync` | [axum 2473] | `composability.rs`: `every_public_type_can_be_sent_and_shared` |
//!
//! `std`'s clock, with which none of this could be tested, is a defect as well: here time is paused, and what waits for a
//! minute takes none.
//!
//! [agent-os 1605]: https://github.com/use-agent-os/agent-os/pull/1605
//! [Apollo router 1350]: https://github.com/apollographql/router/pull/1350
//! [axum 2473]: https://github.com/tokio-rs/axum/pull/2473
//! [axum 2582]: https://github.com/tokio-rs/axum/issues/2582
//! [axum 2634]: https://github.com/tokio-rs/axum/issues/2634
//! [linkerd2 15414]: https://github.com/linkerd/linkerd2/issues/15414
//! [linkerd2 15649]: https://github.com/linkerd/linkerd2/issues/15649
//! [linkerd2-proxy 1039]: https://github.com/linkerd/linkerd2-proxy/pull/1039
//! [linkerd2-proxy 1341]: https://github.com/linkerd/linkerd2-proxy/pull/1341
//! [linkerd2-proxy 3947]: https://github.com/linkerd/linkerd2-proxy/pull/3947
//! [nanobot 5764]: https://github.com/HKUDS/nanobot/pull/5764
//! [nv-redfish 211]: https://github.com/dsx-ai-factory/nv-redfish/pull/211
//! [octocrab 842]: https://github.com/XAMPPRocky/octocrab/pull/842
//! [OmniRoute 13836]: https://github.com/diegosouzapw/OmniRoute/issues/13836
//! [OmniRoute 13849]: https://github.com/diegosouzapw/OmniRoute/pull/13849
//! [reqwest 925]: https://github.com/seanmonstar/reqwest/issues/925
//! [reqwest-middleware 44]: https://github.com/TrueLayer/reqwest-middleware/issues/44
//! [reqwest-middleware 146]: https://github.com/TrueLayer/reqwest-middleware/issues/146
//! [tower 43]: https://github.com/tower-rs/tower/issues/43
//! [tower 472]: https://github.com/tower-rs/tower/pull/472
//! [tower 548]: https://github.com/tower-rs/tower/pull/548
//! [tower 855]: https://github.com/tower-rs/tower/pull/855
//! [tower-http 546]: https://github.com/tower-rs/tower-http/issues/546
//! [tower-http 623]: https://github.com/tower-rs/tower-http/issues/623
//! [tower-http 687]: https://github.com/tower-rs/tower-http/pull/687
//! [tower-resilience 286]: https://github.com/joshrotenberg/tower-resilience/issues/286
//! [tower-resilience 307]: https://github.com/joshrotenberg/tower-resilience/pull/307
//! [tower-resilience 362]: https://github.com/joshrotenberg/tower-resilience/issues/362
//! [tower-resilience 382]: https://github.com/joshrotenberg/tower-resilience/issues/382
//! [Zebra 1593]: https://github.com/ZcashFoundation/zebra/issues/1593

#![allow(clippy::unwrap_used, clippy::expect_used)] // what fails here fails the test

#[path = "harness/scripted.rs"]
mod scripted;

use std::{
    convert::Infallible,
    io,
    num::NonZeroU32,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture, poll};
use http::{HeaderValue, Request, Response, header};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full, StreamBody};
use scripted::{Act, Scripted, TestBody};
use tokio::time::{Instant, advance, sleep};
use tokio_stream::StreamExt as _;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_failover::{
    BoxError, CircuitBreakerLayer, CollectBodyLayer, Credentials, Deadline, Dialect, FailoverLayer, FailoverStack,
    Fault, FaultKind, Provider, ProviderLayer, RateLimitLayer, RequestContext, RetryLayer, Route, Target, TimeoutLayer,
    circuit_breaker::{CircuitRegistry, CircuitSettings, CircuitState},
    rate_limit::{Limits, RateLimitRegistry},
    retry::Backoff,
};

const SECOND: Duration = Duration::from_secs(1);

type TestRequest = Request<Full<Bytes>>;

/// A request for a target.
fn to(name: &str) -> TestRequest {
    with(&RequestContext::new().with_target(Target::named(name)))
}

fn with(context: &RequestContext) -> TestRequest {
    let mut request = Request::post("/v1/chat/completions").body(Full::from("{}")).unwrap();
    request.extensions_mut().insert(context.clone());
    request
}

fn kind<B>(response: &Response<B>) -> Option<FaultKind> {
    response.extensions().get::<Fault>().map(Fault::kind)
}

fn named_route(names: &[&str]) -> Route {
    Route::new("route", names.iter().map(|name| Target::named(name))).unwrap()
}

/// A scripted service behind circuits without jitter.
struct Guarded {
    inner: Scripted,
    circuits: CircuitRegistry,
    layer: CircuitBreakerLayer,
}

impl Guarded {
    fn new(change: impl FnOnce(&mut CircuitSettings)) -> Self {
        let mut settings = CircuitSettings::default();
        settings.jitter = 0.0;
        change(&mut settings);
        let circuits = CircuitRegistry::new(settings);
        let layer = CircuitBreakerLayer::new(circuits.clone());
        Guarded { inner: Scripted::playing([]), circuits, layer }
    }

    /// Calls for target `t`, and reads no more than the head.
    async fn head(&self, act: Act) -> Response<impl Body<Data = Bytes, Error = BoxError> + Unpin + use<>> {
        self.inner.now(act);
        self.layer.layer(self.inner.clone()).oneshot(to("t")).await.unwrap()
    }

    /// Calls, and reads all there is.
    async fn call(&self, act: Act) -> Option<FaultKind> {
        let response = self.head(act).await;
        let kind = kind(&response);
        let _ = response.into_body().collect().await;
        kind
    }

    async fn calls(&self, act: Act, times: usize) {
        for _ in 0..times {
            self.call(act).await;
        }
    }

    /// A call that is under way until it is dropped.
    fn hanging(&self) -> BoxFuture<'static, ()> {
        self.inner.now(Act::Hang);
        let mut call = self.layer.layer(self.inner.clone()).oneshot(to("t")).map(drop).boxed();
        assert!((&mut call).now_or_never().is_none());
        call
    }

    fn state(&self) -> CircuitState {
        self.circuits.state(&Target::named("t"))
    }

    /// Opens by five failures, and waits until a probe is due.
    async fn break_and_wait(&self) {
        self.calls(Act::Answer(500), 5).await;
        assert_eq!(self.state(), CircuitState::Open);
        advance(30 * SECOND).await;
    }
}

// --- circuit breakers

#[tokio::test(start_paused = true)]
async fn the_window_slides_after_a_thousand_successes() {
    let guarded = Guarded::new(|settings| settings.failures = 1_000_000);
    guarded.calls(Act::Answer(200), 1_000).await;
    advance(31 * SECOND).await;
    guarded.calls(Act::Answer(500), 10).await;
    assert_eq!(guarded.state(), CircuitState::Open, "by the share of failures");
    let guarded = Guarded::new(|_| {});
    guarded.calls(Act::Answer(200), 1_000).await;
    guarded.calls(Act::Answer(500), 5).await;
    assert_eq!(guarded.state(), CircuitState::Open, "by failures in a row, before it has slid");
}

#[tokio::test(start_paused = true)]
async fn shares_are_looked_at_long_before_the_window_is_full() {
    let guarded = Guarded::new(|settings| settings.failures = 1_000_000);
    for _ in 0..4 {
        guarded.calls(Act::Answer(200), 1).await;
        guarded.calls(Act::Answer(500), 1).await;
    }
    guarded.calls(Act::Answer(500), 1).await;
    assert_eq!(guarded.state(), CircuitState::Closed, "nine calls are too few");
    guarded.calls(Act::Answer(500), 1).await;
    assert_eq!(guarded.state(), CircuitState::Open);
}

#[tokio::test(start_paused = true)]
async fn after_a_year_of_silence_the_window_is_empty() {
    let guarded = Guarded::new(|settings| settings.failures = 1_000_000);
    guarded.calls(Act::Answer(200), 4).await;
    guarded.calls(Act::Answer(500), 3).await;
    advance(365 * 24 * 3600 * SECOND).await;
    let snapshot = &guarded.circuits.snapshot()[0];
    assert_eq!((snapshot.calls, snapshot.failures), (0, 0));
    guarded.calls(Act::Answer(500), 9).await;
    assert_eq!(guarded.state(), CircuitState::Closed);
    guarded.calls(Act::Answer(500), 1).await;
    assert_eq!(guarded.state(), CircuitState::Open);
}

#[tokio::test(start_paused = true)]
async fn half_open_admits_no_more_than_its_probes_even_before_any_completes() {
    for probes in [1, 2, 3] {
        let guarded = Guarded::new(|settings| settings.probes = probes);
        guarded.break_and_wait().await;
        let before = guarded.inner.calls();
        let hanging: Vec<_> = (0..probes).map(|_| guarded.hanging()).collect();
        for _ in 0..10 {
            assert_eq!(guarded.call(Act::Answer(200)).await, Some(FaultKind::Refused));
        }
        assert_eq!((guarded.inner.calls() - before, hanging.len()), (probes as usize, probes as usize));
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_probe_gives_its_permit_back() {
    let guarded = Guarded::new(|_| {});
    guarded.break_and_wait().await;
    for _ in 0..10 {
        drop(guarded.hanging());
        assert_eq!(guarded.state(), CircuitState::HalfOpen);
    }
    assert_eq!(guarded.call(Act::Answer(200)).await, None);
    assert_eq!(guarded.state(), CircuitState::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_never_heard_of_does_not_keep_the_circuit_open() {
    let guarded = Guarded::new(|_| {});
    guarded.break_and_wait().await;
    let lost = guarded.hanging();
    assert_eq!(guarded.call(Act::Answer(200)).await, Some(FaultKind::Refused));
    advance(60 * SECOND).await;
    assert_eq!(guarded.call(Act::Answer(200)).await, None);
    assert_eq!(guarded.state(), CircuitState::Closed);
    drop(lost);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_refused_further_in_gives_its_permit_back() {
    let guarded = Guarded::new(|_| {});
    guarded.break_and_wait().await;
    let before = guarded.inner.calls();
    for _ in 0..10 {
        assert_eq!(guarded.call(Act::Refuse).await, Some(FaultKind::Refused));
    }
    assert_eq!((guarded.inner.calls() - before, guarded.state()), (10, CircuitState::HalfOpen));
    assert_eq!(guarded.call(Act::Answer(200)).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_client_error_during_a_probe_proves_alive() {
    for status in [400, 409, 413, 422] {
        let guarded = Guarded::new(|_| {});
        guarded.break_and_wait().await;
        guarded.call(Act::Answer(status)).await;
        assert_eq!(guarded.state(), CircuitState::Closed, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_old_probe_gives_no_permit_to_a_new_cycle() {
    let guarded = Guarded::new(|_| {});
    guarded.break_and_wait().await;
    let old = guarded.hanging();
    advance(60 * SECOND).await;
    let new = guarded.hanging();
    drop(old);
    assert_eq!(guarded.call(Act::Answer(200)).await, Some(FaultKind::Refused), "the new probe has the only permit");
    drop(new);
    assert_eq!(guarded.call(Act::Answer(200)).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_late_success_from_an_older_epoch_does_not_close_the_circuit() {
    let guarded = Guarded::new(|_| {});
    let late = guarded.head(Act::Stream).await;
    guarded.break_and_wait().await;
    let probe = guarded.hanging();
    late.into_body().collect().await.unwrap();
    assert_eq!(guarded.state(), CircuitState::HalfOpen, "it was admitted before the outage");
    drop(probe);
}

#[tokio::test(start_paused = true)]
async fn a_late_failure_from_an_older_epoch_does_not_open_the_circuit() {
    let guarded = Guarded::new(|settings| settings.failures = 1);
    let late = guarded.head(Act::Break).await;
    guarded.calls(Act::Answer(500), 1).await;
    advance(30 * SECOND).await;
    guarded.calls(Act::Answer(200), 1).await;
    assert!(late.into_body().collect().await.is_err());
    assert_eq!(guarded.state(), CircuitState::Closed, "it was admitted before the outage");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_dies_in_its_body_is_a_failure() {
    let guarded = Guarded::new(|_| {});
    for calls in 1..=5 {
        assert_eq!(guarded.state(), CircuitState::Closed, "before call {calls}");
        assert_eq!(guarded.call(Act::Break).await, None, "its head is good");
    }
    assert_eq!(guarded.state(), CircuitState::Open);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_begins_with_an_error_is_a_failure() {
    let guarded = Guarded::new(|settings| settings.failures = 1);
    let provider = Provider::new("p", Dialect::OpenAiChat, "http://provider.test/v1").unwrap();
    let target = Target::new(&provider, "m");
    let service = ServiceBuilder::new().layer(guarded.layer.clone()).layer(ProviderLayer::new()).service(service_fn(
        |_: TestRequest| async {
            let error = r#"{"error":{"message":"The server is overloaded","type":"server_error"}}"#;
            let body = Full::<Bytes>::from(format!("data: {error}\n\n"));
            let mut response = Response::new(body);
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
            Ok::<_, Infallible>(response)
        },
    ));
    let mut request = with(&RequestContext::new().with_target(target.clone()));
    *request.body_mut() = Full::from(r#"{"model":"m","stream":true,"messages":[]}"#);
    let response = service.oneshot(request).await.unwrap();
    assert!(kind(&response).is_some(), "{}", response.status());
    assert_eq!(guarded.circuits.state(&target), CircuitState::Open);
}

#[tokio::test(start_paused = true)]
async fn a_long_stream_that_began_in_time_is_not_slow() {
    let guarded = Guarded::new(|_| {});
    let mut streams = Vec::new();
    for _ in 0..20 {
        streams.push(guarded.head(Act::Stream).await.into_body());
    }
    advance(120 * SECOND).await;
    for stream in streams {
        stream.collect().await.unwrap();
    }
    assert_eq!((guarded.state(), guarded.circuits.snapshot()[0].slow_calls), (CircuitState::Closed, 0));
}

#[tokio::test(start_paused = true)]
async fn a_timeout_is_a_failure_and_a_client_that_leaves_is_not() {
    let guarded = Guarded::new(|settings| settings.failures = 1);
    for _ in 0..20 {
        drop(guarded.hanging());
    }
    assert_eq!(guarded.state(), CircuitState::Closed);
    guarded.inner.now(Act::Hang);
    let timeout = TimeoutLayer::new().with_response(SECOND);
    let service = ServiceBuilder::new().layer(guarded.layer.clone()).layer(timeout).service(guarded.inner.clone());
    assert_eq!(service.oneshot(to("t")).await.unwrap().status(), 504);
    assert_eq!(guarded.state(), CircuitState::Open);
}

#[tokio::test(start_paused = true)]
async fn client_errors_never_trip() {
    for status in [400, 405, 409, 413, 415, 422] {
        let guarded = Guarded::new(|_| {});
        guarded.calls(Act::Answer(status), 50).await;
        assert_eq!((guarded.state(), guarded.inner.calls()), (CircuitState::Closed, 50), "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_told_at_once() {
    let guarded = Guarded::new(|_| {});
    guarded.calls(Act::Answer(500), 5).await;
    let refused = || guarded.call(Act::Answer(200)).now_or_never();
    assert_eq!(refused(), Some(Some(FaultKind::Refused)), "open");
    advance(30 * SECOND).await;
    let probe = guarded.hanging();
    assert_eq!(refused(), Some(Some(FaultKind::Refused)), "half-open, and full");
    drop(probe);
}

#[tokio::test(start_paused = true)]
async fn targets_have_circuits_of_their_own() {
    let guarded = Guarded::new(|_| {});
    guarded.calls(Act::Answer(500), 5).await;
    let other = guarded.layer.layer(Scripted::always(Act::Answer(200))).oneshot(to("other")).await.unwrap();
    assert_eq!((other.status().as_u16(), guarded.state()), (200, CircuitState::Open));
}

#[tokio::test(start_paused = true)]
async fn state_is_shared_between_two_layer_calls() {
    let layer = CircuitBreakerLayer::default();
    let (bad, good) = (Scripted::always(Act::Answer(500)), Scripted::always(Act::Answer(200)));
    let [first, second] = [layer.layer(bad), layer.clone().layer(good.clone())];
    for _ in 0..5 {
        first.clone().oneshot(to("t")).await.unwrap();
    }
    let refused = second.oneshot(to("t")).await.unwrap();
    assert_eq!((kind(&refused), good.calls()), (Some(FaultKind::Refused), 0));
}

#[tokio::test(start_paused = true)]
async fn the_error_type_stays_that_of_the_service() {
    fn keeps<S: Service<TestRequest, Error = io::Error>>(service: S) -> S {
        service
    }
    let service = ServiceBuilder::new()
        .layer(FailoverLayer::new(&named_route(&["a"])))
        .layer(RetryLayer::new().with_attempts(1))
        .layer(CircuitBreakerLayer::default())
        .layer(RateLimitLayer::new(RateLimitRegistry::new(Limits::default())))
        .layer(TimeoutLayer::new())
        .service(service_fn(|_: TestRequest| async {
            Err::<Response<TestBody>, _>(io::Error::new(io::ErrorKind::ConnectionReset, "reset"))
        }));
    let answer = keeps(service).oneshot(to("a")).await;
    // When nobody answers, the failure is a response.
    assert_eq!(answer.map(|response| kind(&response)).unwrap(), Some(FaultKind::ConnectionLost));
}

// --- readiness

#[tokio::test(start_paused = true)]
async fn later_tries_are_polled_ready_too() {
    // It panics when it is called without.
    let inner = Scripted::always(Act::Answer(503));
    let service = RetryLayer::new().with_attempts(5).layer(inner.clone());
    service.oneshot(to("t")).await.unwrap();
    assert_eq!((inner.calls(), inner.reserved()), (5, 5));
}

#[tokio::test(start_paused = true)]
async fn standbys_reserve_nothing() {
    let inner = Scripted::always(Act::Answer(200));
    let mut service = FailoverLayer::new(&named_route(&["a", "b", "c"])).layer(inner.clone());
    ServiceExt::<TestRequest>::ready(&mut service).await.unwrap();
    assert_eq!(inner.reserved(), 0, "ready, and not called");
    service.call(to("any")).await.unwrap();
    assert_eq!((inner.calls(), inner.reserved()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_retry_does_not_queue_behind_an_open_circuit() {
    let guarded = Guarded::new(|settings| settings.failures = 1);
    guarded.inner.now(Act::Answer(500));
    let retry = RetryLayer::new().with_backoff(Backoff::new(SECOND, SECOND));
    let service = ServiceBuilder::new().layer(retry).layer(guarded.layer.clone()).service(guarded.inner.clone());
    let started = Instant::now();
    let response = service.oneshot(to("t")).await.unwrap();
    assert_eq!((kind(&response), guarded.inner.calls()), (Some(FaultKind::Unavailable), 1));
    assert!(
        started.elapsed() <= SECOND + Duration::from_millis(1),
        "{:?}: no longer than the backoff",
        started.elapsed()
    );
}

/// Its primary fails and its fallback answers, but one instance, whichever is first polled when it is told so, never
/// becomes ready.
#[derive(Default)]
struct StallsOnce {
    next: Arc<AtomicBool>,
    stalled: bool,
}

impl Clone for StallsOnce {
    fn clone(&self) -> Self {
        StallsOnce { next: self.next.clone(), stalled: false }
    }
}

impl Service<TestRequest> for StallsOnce {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.stalled |= self.next.swap(false, Ordering::SeqCst);
        if self.stalled { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    fn call(&mut self, request: TestRequest) -> Self::Future {
        let target = RequestContext::of(request.extensions()).unwrap().target().unwrap().id().to_string();
        let next = self.next.clone();
        async move {
            let mut response = Response::new(Full::default());
            if target == "primary" {
                *response.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
                next.store(request.headers().contains_key("x-stall"), Ordering::SeqCst);
            }
            Ok(response)
        }
        .boxed()
    }
}

#[tokio::test(start_paused = true)]
async fn one_stalled_fallback_does_not_queue_others() {
    let service = FailoverLayer::new(&named_route(&["primary", "fallback"])).layer(StallsOnce::default());
    let mut unlucky = to("any");
    unlucky.headers_mut().insert("x-stall", HeaderValue::from_static("yes"));
    let mut stalled = pin!(service.clone().oneshot(unlucky));
    assert!(poll!(stalled.as_mut()).is_pending());
    for _ in 0..100 {
        let answer = service.clone().oneshot(to("any")).now_or_never();
        assert_eq!(answer.expect("it waits for nobody").unwrap().status(), 200);
    }
    assert!(poll!(stalled).is_pending());
}

// --- retry and failover

/// A body in frames, of a length that nobody tells.
fn streamed(
    frames: impl IntoIterator<Item = &'static str, IntoIter: Send + 'static>,
) -> impl Body<Data = Bytes, Error = Infallible> + Send {
    StreamBody::new(tokio_stream::iter(frames).map(|text| Ok(Frame::data(Bytes::from_static(text.as_bytes())))))
}

#[tokio::test(start_paused = true)]
async fn a_streamed_body_is_sent_again_whole_and_once() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let record = seen.clone();
    let service = ServiceBuilder::new()
        .layer(CollectBodyLayer::new())
        .layer(RetryLayer::new().with_attempts(3))
        .service(service_fn(move |request: TestRequest| {
            let seen = record.clone();
            async move {
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let mut seen = seen.lock().unwrap();
                seen.push(String::from_utf8(body.into()).unwrap());
                let status = if seen.len() < 3 { 503 } else { 200 };
                Ok::<_, Infallible>(Response::builder().status(status).body(Full::<Bytes>::default()).unwrap())
            }
        }));
    let request = Request::new(streamed(["one ", "two ", "", "three"]));
    assert_eq!(service.oneshot(request).await.unwrap().status(), 200);
    assert_eq!(*seen.lock().unwrap(), ["one two three"; 3]);
}

#[tokio::test(start_paused = true)]
async fn a_body_over_the_bound_is_not_read_on() {
    let read = Arc::new(AtomicUsize::new(0));
    let endless = std::iter::repeat("0123456789").inspect({
        let read = read.clone();
        move |_| _ = read.fetch_add(1, Ordering::SeqCst)
    });
    let inner = Scripted::playing([]);
    let service = FailoverLayer::new(&named_route(&["a"])).with_max_body(100).layer(inner.clone());
    let response = service.oneshot(Request::new(streamed(endless))).await.unwrap();
    assert_eq!((response.status().as_u16(), inner.calls()), (413, 0));
    assert_eq!(read.load(Ordering::SeqCst), 11, "one frame tells that it is too much");
}

/// Counts how often it is cloned.
#[derive(Default)]
struct Counted(Arc<AtomicUsize>);

impl Clone for Counted {
    fn clone(&self) -> Self {
        self.0.fetch_add(1, Ordering::SeqCst);
        Counted(self.0.clone())
    }
}

impl Body for Counted {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(None)
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_try_is_not_cloned() {
    for tries in [1, 2, 5] {
        let body = Counted::default();
        let clones = body.0.clone();
        let service = RetryLayer::new().with_attempts(tries).layer(Scripted::always(Act::Answer(503)));
        service.oneshot(Request::new(body)).await.unwrap();
        assert_eq!(clones.load(Ordering::SeqCst), tries as usize - 1);
    }
}

#[tokio::test(start_paused = true)]
async fn the_failed_response_is_dropped_before_the_retry_sleeps() {
    let inner = Scripted::playing([Act::RetryAfter(503, 2), Act::Answer(200)]);
    let mut call = pin!(RetryLayer::new().layer(inner.clone()).oneshot(to("t")));
    assert!(poll!(call.as_mut()).is_pending());
    assert_eq!((inner.calls(), inner.running()), (1, 0), "its body is gone");
    assert_eq!(call.await.unwrap().status(), 200);
}

#[tokio::test(start_paused = true)]
async fn tries_of_all_targets_are_in_one_log() {
    let context = RequestContext::new();
    let service = ServiceBuilder::new()
        .layer(FailoverLayer::new(&named_route(&["a", "b"])))
        .layer(RetryLayer::new().with_attempts(3))
        .service(Scripted::always(Act::Answer(503)));
    service.oneshot(with(&context)).await.unwrap();
    let log: Vec<_> = context.attempts().iter().map(|try_| try_.target().unwrap().id().to_string()).collect();
    assert_eq!(log, ["a", "a", "a", "b", "b", "b"]);
}

#[tokio::test(start_paused = true)]
async fn no_attempt_sees_what_another_one_added() {
    #[derive(Clone)]
    struct Added;

    let clean = Arc::new(AtomicUsize::new(0));
    let count = clean.clone();
    let service = ServiceBuilder::new()
        .layer(FailoverLayer::new(&named_route(&["a", "b"])))
        .layer(RetryLayer::new().with_attempts(2))
        .map_request(move |mut request: TestRequest| {
            let added = request.headers_mut().insert("x-added", HeaderValue::from_static("yes"));
            let extension = request.extensions_mut().insert(Added);
            count.fetch_add(usize::from(added.is_none() && extension.is_none()), Ordering::SeqCst);
            request
        })
        .service(Scripted::always(Act::Answer(503)));
    service.oneshot(to("any")).await.unwrap();
    assert_eq!(clean.load(Ordering::SeqCst), 4);
}

#[tokio::test(start_paused = true)]
async fn no_key_reaches_another_provider() {
    let target = |name: &str| {
        let key = Credentials::api_key(Dialect::OpenAiChat, format!("sk-{name}").into()).unwrap();
        let provider = Provider::new(name, Dialect::OpenAiChat, &format!("http://{name}.test/v1")).unwrap();
        Target::new(&provider.with_credentials(key), "m")
    };
    let seen = Arc::new(Mutex::new(Vec::new()));
    let record = seen.clone();
    let service = FailoverStack::new(&Route::new("route", ["a", "b"].map(target)).unwrap())
        .with_retry(RetryLayer::new().with_attempts(1))
        .layer(service_fn(move |request: TestRequest| {
            let keys: Vec<_> = request.headers().get_all(header::AUTHORIZATION).iter().cloned().collect();
            record.lock().unwrap().push((request.uri().host().unwrap().to_owned(), keys));
            async { Ok::<_, Infallible>(Response::builder().status(503).body(Full::<Bytes>::default()).unwrap()) }
        }));
    let mut request = to("any");
    request.headers_mut().insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer client"));
    service.oneshot(request).await.unwrap();
    let bearer = |name| vec![HeaderValue::from_str(&format!("Bearer sk-{name}")).unwrap()];
    assert_eq!(*seen.lock().unwrap(), [("a.test".to_owned(), bearer("a")), ("b.test".to_owned(), bearer("b"))]);
}

// --- bodies and time

#[tokio::test(start_paused = true)]
async fn the_body_timeout_covers_the_body() {
    let service = TimeoutLayer::new().with_idle(7 * SECOND).layer(Scripted::always(Act::Stall));
    let started = Instant::now();
    let response = service.oneshot(to("t")).await.unwrap();
    assert_eq!((response.status().as_u16(), started.elapsed()), (200, Duration::ZERO));
    let error = response.into_body().collect().await.map(drop).unwrap_err();
    assert_eq!(Fault::find(&*error).map(Fault::kind), Some(FaultKind::Timeout));
    assert_eq!(started.elapsed(), 7 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_is_granted_once() {
    let service = ServiceBuilder::new()
        .layer(TimeoutLayer::new())
        .map_future(|call| async {
            sleep(3 * SECOND).await;
            call.await
        })
        .service(Scripted::always(Act::Stall));
    let context = RequestContext::new().with_deadline(Deadline::after(4 * SECOND));
    let started = Instant::now();
    let response = service.oneshot(with(&context)).await.unwrap();
    assert_eq!(started.elapsed(), 3 * SECOND);
    assert!(response.into_body().collect().await.is_err());
    assert_eq!(started.elapsed(), 4 * SECOND, "and not four for the body again");
}

#[tokio::test(start_paused = true)]
async fn the_bound_on_the_head_does_not_cut_a_long_stream() {
    let bounds = TimeoutLayer::new().with_response(2 * SECOND).with_first_output(2 * SECOND);
    let service = bounds.layer(service_fn(|_: TestRequest| async {
        let slow = tokio_stream::iter(0..600).then(|_| async {
            sleep(SECOND).await;
            Ok::<_, Infallible>(Frame::data(Bytes::from_static(b".")))
        });
        Ok::<_, Infallible>(Response::new(StreamBody::new(Box::pin(slow))))
    }));
    let started = Instant::now();
    let body = service.oneshot(to("t")).await.unwrap().into_body().collect().await.unwrap();
    assert_eq!((body.to_bytes().len(), started.elapsed()), (600, 600 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn an_end_is_noticed_though_nobody_polls_past_the_last_frame() {
    let guarded = Guarded::new(|_| {});
    guarded.calls(Act::Answer(500), 4).await;
    let mut body = guarded.head(Act::Sized).await.into_body();
    while !body.is_end_stream() {
        body.frame().await.unwrap().unwrap();
    }
    // Kept: it is its last frame that counts, not that it is dropped.
    guarded.calls(Act::Answer(500), 4).await;
    assert_eq!(guarded.state(), CircuitState::Closed, "there was a success between them");
    drop(body);
}

#[tokio::test(start_paused = true)]
async fn a_limit_is_one_however_often_its_service_is_made_and_cloned() {
    let mut limits = Limits::default();
    limits.max_concurrency = NonZeroU32::new(1);
    let layer = RateLimitLayer::new(RateLimitRegistry::new(limits));
    let inner = Scripted::always(Act::Hang);
    let first = layer.layer(inner.clone());
    let mut running = pin!(first.clone().oneshot(to("t")));
    assert!(poll!(running.as_mut()).is_pending());
    for service in [first.clone(), layer.layer(inner.clone()), layer.clone().layer(inner.clone())] {
        assert_eq!(kind(&service.oneshot(to("t")).await.unwrap()), Some(FaultKind::Refused));
    }
    assert_eq!(inner.calls(), 1);
}
