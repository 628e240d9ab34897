//! The cache around a service in this process: who calls it, who reads its answer, and what is kept of it.

#![allow(clippy::unwrap_used)] // what fails here fails the test

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, future::BoxFuture, future::join_all, stream};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use tokio::time::{advance, sleep, timeout};
use tower::{Layer, ServiceExt, util::BoxCloneSyncService};
use tower_failover::{
    BoxError, CacheLayer, Deadline, Fault, FaultKind, RequestContext,
    cache::{CacheBody, CacheStore, KeyedRequest},
};

type UpstreamBody = UnsyncBoxBody<Bytes, BoxError>;
type Service = BoxCloneSyncService<Request<Full<Bytes>>, Response<CacheBody<UpstreamBody>>, Infallible>;

/// What the service does with a call.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Act {
    Answer,
    /// So many events, a second apart.
    Stream(usize),
    /// The same, then broken off.
    Broken(usize),
    Hang,
    Fail(FaultKind),
    CallTools,
    CutShort,
    Panic,
}

#[derive(Clone)]
struct Upstream {
    act: Arc<Mutex<Act>>,
    calls: Arc<AtomicUsize>,
    /// How many have neither ended nor been dropped.
    running: Arc<AtomicUsize>,
}

struct Running(Arc<AtomicUsize>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Upstream {
    fn new(act: Act) -> Self {
        Upstream { act: Arc::new(Mutex::new(act)), calls: Arc::default(), running: Arc::default() }
    }

    fn now(&self, act: Act) {
        *self.act.lock().unwrap() = act;
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }

    fn under(&self, layer: &CacheLayer) -> Service {
        let upstream = self.clone();
        BoxCloneSyncService::new(layer.layer(tower::service_fn(move |_| upstream.clone().answer())))
    }

    fn answer(self) -> BoxFuture<'static, Result<Response<UpstreamBody>, Infallible>> {
        Box::pin(async move {
            let act = *self.act.lock().unwrap();
            let call = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
            self.running.fetch_add(1, Ordering::SeqCst);
            let running = Running(self.running.clone());
            sleep(Duration::from_secs(1)).await;
            Ok(match act {
                Act::Answer => whole(call, "stop", ""),
                Act::CallTools => whole(call, "tool_calls", r#","tool_calls":[{"id":"t"}]"#),
                Act::CutShort => whole(call, "length", ""),
                Act::Stream(events) => events_of(call, events, false, running),
                Act::Broken(events) => events_of(call, events, true, running),
                Act::Hang => std::future::pending().await,
                Act::Panic => panic!("as the test says"),
                Act::Fail(kind) => {
                    let fault = Fault::new(kind, format!("failure {call}"));
                    let mut response = whole(call, "stop", "");
                    *response.status_mut() = fault.response_status();
                    response.extensions_mut().insert(fault);
                    response
                }
            })
        })
    }
}

fn whole(call: usize, reason: &str, more: &str) -> Response<UpstreamBody> {
    let body = format!(
        r#"{{"id":"answer-{call}","choices":[{{"index":0,"message":{{"role":"assistant","content":"Hello"{more}}},"finish_reason":"{reason}"}}],"usage":{{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}}}"#
    );
    Response::builder()
        .header("content-type", "application/json")
        .header("set-cookie", "session=1")
        .header("x-kept", "yes")
        .body(Full::new(Bytes::from(body)).map_err(|never| match never {}).boxed_unsync())
        .unwrap()
}

fn event(call: usize, delta: &str, reason: &str) -> String {
    format!(
        "data: {{\"id\":\"answer-{call}\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{{{delta}}},\"finish_reason\":{reason}}}]}}\n\n"
    )
}

fn events_of(call: usize, events: usize, breaks: bool, running: Running) -> Response<UpstreamBody> {
    let deltas = (0..events).map(move |at| Ok(event(call, &format!("\"content\":\"word {at} \""), "null")));
    let end = match breaks {
        true => Err(BoxError::from(Fault::new(FaultKind::StreamInterrupted, "cut"))),
        false => Ok(event(call, "", "\"stop\"") + "data: [DONE]\n\n"),
    };
    let frames = stream::iter(deltas.chain([end])).then(move |text| {
        let _running = &running;
        async move {
            sleep(Duration::from_secs(1)).await;
            text.map(|text| Frame::data(Bytes::from(text)))
        }
    });
    let body = StreamBody::new(frames).boxed_unsync();
    Response::builder().header("content-type", "text/event-stream").body(body).unwrap()
}

fn request(stream: bool) -> Request<Full<Bytes>> {
    let body = format!(r#"{{"model":"m","stream":{stream},"messages":[{{"role":"user","content":"Hello!"}}]}}"#);
    Request::post("/v1/chat/completions").body(Full::from(body)).unwrap()
}

fn with(name: &'static str, value: &str) -> Request<Full<Bytes>> {
    let mut request = request(false);
    request.headers_mut().insert(name, value.parse().unwrap());
    request
}

/// Status, `Cache-Status` and the body; a broken body ends with a word.
async fn ask(service: &Service, request: Request<Full<Bytes>>) -> (u16, String, String) {
    let response = service.clone().oneshot(request).await.unwrap();
    read(response).await
}

async fn read(response: Response<CacheBody<UpstreamBody>>) -> (u16, String, String) {
    let status = response.status().as_u16();
    let cache = response.headers().get("cache-status").map(|value| value.to_str().unwrap().to_owned());
    let mut body = response.into_body();
    let mut text = Vec::new();
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => text.extend_from_slice(frame.data_ref().unwrap()),
            Err(_) => text.extend_from_slice(b"BROKEN"),
        }
    }
    (status, cache.unwrap_or_default(), String::from_utf8(text).unwrap())
}

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn what_was_answered_is_answered_again_byte_for_byte_until_it_is_too_old() {
    let upstream = Upstream::new(Act::Answer);
    let service = upstream.under(&CacheLayer::new(MINUTE));
    let (status, cache, first) = ask(&service, request(false)).await;
    assert_eq!((status, &*cache), (200, "tower-failover; fwd=miss; fwd-status=200"));
    advance(Duration::from_secs(20)).await;
    let response = service.clone().oneshot(request(false)).await.unwrap();
    let headers = response.headers().clone();
    assert_eq!((&headers["age"], &headers["x-kept"]), (&"20".parse().unwrap(), &"yes".parse().unwrap()));
    assert!(!headers.contains_key("set-cookie"));
    let (_, cache, again) = read(response).await;
    assert_eq!((&*cache, again), ("tower-failover; hit; ttl=40", first.clone()));
    advance(Duration::from_secs(41)).await;
    let (_, cache, later) = ask(&service, request(false)).await;
    assert_eq!((&*cache, upstream.calls()), ("tower-failover; fwd=miss; fwd-status=200", 2));
    assert_ne!(later, first);
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_recorded_while_it_passes_and_told_again_in_either_form() {
    let upstream = Upstream::new(Act::Stream(3));
    let service = upstream.under(&CacheLayer::new(MINUTE));
    let mut asked = request(true);
    let usage = r#"{"stream_options":{"include_usage":true},"model":"m","stream":true,"messages":[{"role":"user","content":"Hello!"}]}"#;
    *asked.body_mut() = Full::from(usage);
    let (_, _, first) = ask(&service, asked.clone()).await;
    assert!(first.ends_with("data: [DONE]\n\n") && first.contains("word 2"), "{first}");
    let (_, cache, again) = ask(&service, asked).await;
    assert!(cache.contains("hit"));
    assert_eq!(again, first);
    let (_, cache, json) = ask(&service, request(false)).await;
    assert!(cache.contains("hit"), "{cache}");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["choices"][0]["message"]["content"], "word 0 word 1 word 2 ");
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn json_that_is_kept_answers_who_asks_for_a_stream() {
    let upstream = Upstream::new(Act::Answer);
    let service = upstream.under(&CacheLayer::new(MINUTE));
    ask(&service, request(false)).await;
    let response = service.clone().oneshot(request(true)).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let (_, cache, stream) = read(response).await;
    assert!(cache.contains("hit") && stream.contains("Hello") && stream.ends_with("data: [DONE]\n\n"), "{stream}");
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_requests_at_once_are_one_call() {
    let upstream = Upstream::new(Act::Stream(5));
    let service = upstream.under(&CacheLayer::new(MINUTE));
    let answers = join_all((0..1000).map(|_| ask(&service, request(true)))).await;
    assert_eq!(upstream.calls(), 1);
    let (_, _, first) = &answers[0];
    assert!(first.ends_with("data: [DONE]\n\n"));
    assert!(answers.iter().all(|(status, _, body)| *status == 200 && body == first));
    let collapsed = answers.iter().filter(|(_, cache, _)| cache.ends_with("; collapsed")).count();
    assert_eq!(collapsed, 999);
    assert_eq!(upstream.running(), 0);
}

#[tokio::test(start_paused = true)]
async fn whoever_asked_first_may_go_away_at_any_time() {
    for seconds in [0, 2, 4] {
        let upstream = Upstream::new(Act::Stream(5));
        let service = upstream.under(&CacheLayer::new(MINUTE));
        let first = tokio::spawn({
            let service = service.clone();
            async move { ask(&service, request(true)).await }
        });
        tokio::task::yield_now().await;
        let others: Vec<_> = (0..20)
            .map(|_| {
                let service = service.clone();
                tokio::spawn(async move { ask(&service, request(true)).await })
            })
            .collect();
        sleep(Duration::from_millis(seconds * 1000 + 500)).await;
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
        for other in others {
            let (status, _, body) = other.await.unwrap();
            assert!(status == 200 && body.contains("word 0") && body.ends_with("data: [DONE]\n\n"), "{body}");
        }
        assert_eq!((upstream.calls(), upstream.running()), (1, 0), "{seconds}");
        assert!(ask(&service, request(true)).await.1.contains("hit"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_nobody_waits_for_is_cancelled_and_another_one_is_made() {
    let upstream = Upstream::new(Act::Stream(5));
    let service = upstream.under(&CacheLayer::new(MINUTE));
    assert!(timeout(Duration::from_millis(2500), ask(&service, request(true))).await.is_err());
    assert_eq!((upstream.calls(), upstream.running()), (1, 0));
    assert!(ask(&service, request(true)).await.2.ends_with("data: [DONE]\n\n"));
    assert_eq!(upstream.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_fails_hands_over_and_poisons_nothing() {
    let upstream = Upstream::new(Act::Fail(FaultKind::Unavailable));
    let service = upstream.under(&CacheLayer::new(MINUTE));
    let asking = tokio::spawn({
        let service = service.clone();
        async move { join_all((0..100).map(|_| ask(&service, request(false)))).await }
    });
    sleep(Duration::from_millis(500)).await;
    upstream.now(Act::Answer);
    let answers = asking.await.unwrap();
    assert_eq!(answers.iter().filter(|(status, ..)| *status == 503).count(), 1);
    assert_eq!(answers.iter().filter(|(status, ..)| *status == 200).count(), 99);
    assert_eq!(upstream.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn calls_that_keep_failing_are_few_and_everybody_is_told() {
    let upstream = Upstream::new(Act::Fail(FaultKind::Unavailable));
    let service = upstream.under(&CacheLayer::new(MINUTE));
    let answers = join_all((0..100).map(|_| ask(&service, request(false)))).await;
    assert!(answers.iter().all(|(status, _, body)| *status == 503 && !body.is_empty()));
    assert_eq!(upstream.calls(), 3);
    upstream.now(Act::Answer);
    assert_eq!(ask(&service, request(false)).await.0, 200);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_is_broken_for_all_who_read_it_and_not_kept() {
    let upstream = Upstream::new(Act::Broken(2));
    let service = upstream.under(&CacheLayer::new(MINUTE));
    let answers = join_all((0..10).map(|_| ask(&service, request(true)))).await;
    assert!(answers.iter().all(|(_, _, body)| body.contains("word 1") && body.ends_with("BROKEN")));
    upstream.now(Act::Stream(2));
    assert!(ask(&service, request(true)).await.2.ends_with("data: [DONE]\n\n"));
    assert_eq!(upstream.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_bound_by_a_deadline_of_its_own() {
    let upstream = Upstream::new(Act::Hang);
    let service = upstream.under(&CacheLayer::new(MINUTE));
    let first = tokio::spawn({
        let service = service.clone();
        async move { ask(&service, request(false)).await }
    });
    tokio::task::yield_now().await;
    let mut hurried = request(false);
    let deadline = Deadline::after(Duration::from_secs(5));
    hurried.extensions_mut().insert(RequestContext::new().with_deadline(deadline));
    let began = tokio::time::Instant::now();
    assert_eq!(ask(&service, hurried).await.0, 504);
    assert_eq!((began.elapsed(), upstream.calls()), (Duration::from_secs(5), 1));
    assert!(!first.is_finished());
    first.abort();
}

#[tokio::test(start_paused = true)]
async fn a_call_that_panics_takes_nobody_with_it() {
    let upstream = Upstream::new(Act::Panic);
    let service = upstream.under(&CacheLayer::new(MINUTE));
    let asking: Vec<_> = (0..5)
        .map(|_| {
            let service = service.clone();
            tokio::spawn(async move { ask(&service, request(false)).await })
        })
        .collect();
    sleep(Duration::from_millis(500)).await;
    upstream.now(Act::Answer);
    let answers = join_all(asking).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_err()).count(), 1);
    assert!(answers.iter().filter_map(|answer| answer.as_ref().ok()).all(|(status, ..)| *status == 200));
    assert_eq!(upstream.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_stale_answer_is_the_last_resort_and_says_so() {
    let upstream = Upstream::new(Act::Answer);
    let service = upstream.under(&CacheLayer::new(MINUTE).with_stale_if_error(MINUTE * 60));
    let (_, _, first) = ask(&service, request(false)).await;
    advance(MINUTE * 2).await;
    for kind in [FaultKind::Unavailable, FaultKind::RateLimited, FaultKind::Timeout, FaultKind::AuthFailed] {
        upstream.now(Act::Fail(kind));
        let response = service.clone().oneshot(request(false)).await.unwrap();
        assert!(response.headers().contains_key("age"));
        let (status, cache, body) = read(response).await;
        assert_eq!((status, body), (200, first.clone()), "{kind}");
        assert!(cache.contains("fwd=stale; fwd-status=") && cache.ends_with("; detail=stale-if-error"), "{cache}");
    }
    // Those who wait for a call that fails get it as well, and make no other.
    let calls = upstream.calls();
    let answers = join_all((0..10).map(|_| ask(&service, request(false)))).await;
    assert!(answers.iter().all(|(status, _, body)| *status == 200 && *body == first));
    assert_eq!(upstream.calls(), calls + 1);
    // What is wrong with the request is no outage.
    upstream.now(Act::Fail(FaultKind::BadRequest));
    assert_eq!(ask(&service, request(false)).await.0, 400);
    // Who wants no old answer gets none.
    upstream.now(Act::Fail(FaultKind::Unavailable));
    assert_eq!(ask(&service, with("cache-control", "max-age=30")).await.0, 503);
    assert_eq!(ask(&service, with("cache-control", "no-cache")).await.0, 503);
    advance(MINUTE * 60).await;
    assert_eq!(ask(&service, request(false)).await.0, 503);
}

#[tokio::test(start_paused = true)]
async fn the_client_says_what_it_takes() {
    let upstream = Upstream::new(Act::Answer);
    let service = upstream.under(&CacheLayer::new(MINUTE));
    let (status, cache, _) = ask(&service, with("cache-control", "only-if-cached")).await;
    assert_eq!((status, &*cache, upstream.calls()), (504, "tower-failover; detail=only-if-cached", 0));
    let (_, cache, _) = ask(&service, with("cache-control", "no-store")).await;
    assert_eq!(&*cache, "tower-failover; fwd=bypass; fwd-status=200");
    let (_, cache, _) = ask(&service, with("cache-control", "no-cache")).await;
    assert_eq!((&*cache, upstream.calls()), ("tower-failover; fwd=request; fwd-status=200", 2));
    // Of that, the answer is kept; of no-store it was not.
    let (_, cache, body) = ask(&service, with("cache-control", "only-if-cached")).await;
    assert!(cache.contains("hit") && body.contains("answer-2"));
    advance(Duration::from_secs(20)).await;
    assert!(ask(&service, with("cache-control", "max-age=20")).await.1.contains("hit"));
    assert!(ask(&service, with("cache-control", "max-age=10")).await.2.contains("answer-3"));
}

#[tokio::test(start_paused = true)]
async fn what_failed_was_cut_short_or_calls_tools_is_not_kept() {
    for act in [Act::Fail(FaultKind::BadRequest), Act::CutShort, Act::CallTools] {
        let upstream = Upstream::new(act);
        let service = upstream.under(&CacheLayer::new(MINUTE));
        ask(&service, request(false)).await;
        ask(&service, request(false)).await;
        assert_eq!(upstream.calls(), 2, "{act:?}");
    }
    let upstream = Upstream::new(Act::CallTools);
    let service = upstream.under(&CacheLayer::new(MINUTE).with_tool_calls(true));
    ask(&service, request(false)).await;
    assert!(ask(&service, request(false)).await.2.contains("tool_calls"));
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn tenants_and_scopes_share_nothing() {
    let upstream = Upstream::new(Act::Answer);
    let store = CacheStore::new(1 << 20);
    let layer = CacheLayer::new(MINUTE).with_store(&store).with_scope("one");
    let service = upstream.under(&layer);
    let named = |name: &str| {
        let mut request = request(false);
        request.extensions_mut().insert(RequestContext::new().with_client(name));
        request
    };
    let requests = [request(false), named("a"), named("b"), with("authorization", "Bearer a"), with("x-api-key", "a")];
    for (before, request) in requests.iter().enumerate() {
        ask(&service, request.clone()).await;
        assert_eq!(upstream.calls(), before + 1);
        assert!(ask(&service, request.clone()).await.1.contains("hit"));
    }
    ask(&upstream.under(&layer.clone().with_scope("two")), request(false)).await;
    assert_eq!(upstream.calls(), 6);
    assert!(ask(&upstream.under(&layer), request(false)).await.1.contains("hit"));
    let by_header = |request: &KeyedRequest<'_>| format!("{:?}", request.headers().get("x-team"));
    let service = upstream.under(&layer.with_scope("three").with_tenant(by_header));
    ask(&service, named("a")).await;
    assert!(ask(&service, named("b")).await.1.contains("hit"));
    assert!(ask(&service, with("x-team", "c")).await.1.contains("miss"));
}

#[tokio::test(start_paused = true)]
async fn what_is_too_long_passes_and_is_not_kept() {
    let upstream = Upstream::new(Act::Stream(40));
    let service = upstream.under(&CacheLayer::new(MINUTE).with_max_entry(1000));
    let answers = join_all((0..3).map(|_| ask(&service, request(true)))).await;
    assert!(answers.iter().all(|(_, _, body)| body.contains("word 39") && body.ends_with("data: [DONE]\n\n")));
    assert_eq!(upstream.calls(), 1);
    ask(&service, request(true)).await;
    assert_eq!(upstream.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn those_who_read_a_long_answer_wait_for_the_slowest_of_them_until_it_goes_away() {
    let upstream = Upstream::new(Act::Stream(40));
    let service = upstream.under(&CacheLayer::new(MINUTE).with_max_entry(1000));
    let slow = service.clone().oneshot(request(true));
    let fast = service.clone().oneshot(request(true));
    let (slow, fast) = tokio::join!(slow, fast);
    let fast = tokio::spawn(read(fast.unwrap()));
    sleep(MINUTE * 2).await;
    assert!(!fast.is_finished());
    drop(slow);
    assert!(fast.await.unwrap().2.ends_with("data: [DONE]\n\n"));
    assert_eq!(upstream.calls(), 1);
}
