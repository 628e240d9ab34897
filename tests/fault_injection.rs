//! Faults that are injected where the wire is: what the layers outside make of them.

#![allow(clippy::unwrap_used, clippy::expect_used)] // what fails here fails the test

use std::{
    convert::Infallible,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_failover::{
    Dialect, FailoverStack, Fault, FaultInjectionLayer, FaultKind, Outcome, Provider, ProviderLayer, RequestContext,
    RetryLayer, Route, Target,
    fault_injection::{FaultSwitch, InjectedFault, Injection},
};

const ANSWER: &str = r#"{"id":"x","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"Hello."},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#;
const STREAM: &str = concat!(
    "data: {\"id\":\"x\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hello.\"},\"finish_reason\":null}]}\n\n",
    "data: {\"id\":\"x\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
    "data: [DONE]\n\n",
);

/// A provider that answers, and counts whom it was asked for.
fn client(
    calls: &Arc<AtomicU32>,
) -> impl Service<
    Request<Full<Bytes>>,
    Response = Response<Full<Bytes>>,
    Error = Infallible,
    Future: Future<Output = Result<Response<Full<Bytes>>, Infallible>> + Send,
> + Clone
+ Send
+ Sync
+ 'static {
    let calls = calls.clone();
    service_fn(move |request: Request<Full<Bytes>>| {
        calls.fetch_add(1, Ordering::Relaxed);
        async move {
            let body = request.into_body().collect().await?.to_bytes();
            let streams = has(&body, b"\"stream\":true");
            let (kind, text) = if streams { ("text/event-stream", STREAM) } else { ("application/json", ANSWER) };
            Ok(Response::builder().header("content-type", kind).body(Full::from(text)).unwrap())
        }
    })
}

fn has(text: &[u8], what: &[u8]) -> bool {
    text.windows(what.len()).any(|window| window == what)
}

fn target(name: &str) -> Target {
    Target::new(&Provider::new(name, Dialect::OpenAiChat, "http://provider.test/v1").unwrap(), "m")
}

fn request(context: &RequestContext, stream: bool) -> Request<Full<Bytes>> {
    let body = format!(r#"{{"model":"m","stream":{stream},"messages":[{{"role":"user","content":"Hello!"}}]}}"#);
    let mut request = Request::post("/v1/chat/completions").body(Full::from(body)).unwrap();
    request.extensions_mut().insert(context.clone());
    request
}

/// What one provider's answer is taken for, if that is injected where its wire is.
async fn seen(fault: InjectedFault, stream: bool) -> (u16, Option<Fault>, u32) {
    let (faults, calls) = (FaultSwitch::new(), Arc::default());
    faults.inject(Injection::new(fault));
    let service = ProviderLayer::new().layer(FaultInjectionLayer::new(&faults).layer(client(&calls)));
    let context = RequestContext::new().with_target(target("p"));
    let response = service.oneshot(request(&context, stream)).await.unwrap();
    let (parts, body) = response.into_parts();
    let broken = body.collect().await.err().and_then(|error| Fault::find(&*error).cloned());
    (parts.status.as_u16(), parts.extensions.get::<Fault>().cloned().or(broken), calls.load(Ordering::Relaxed))
}

#[tokio::test(start_paused = true)]
async fn each_fault_is_taken_for_what_a_provider_would_have_done() {
    for (name, kind) in [
        ("down", FaultKind::Connect),
        ("reset", FaultKind::ConnectionLost),
        ("rate-limited", FaultKind::RateLimited),
        ("overloaded", FaultKind::Overloaded),
        ("unavailable", FaultKind::Unavailable),
        ("server-error", FaultKind::Unavailable),
        ("unauthorized", FaultKind::AuthFailed),
        ("status:403", FaultKind::PermissionDenied),
        ("status:404", FaultKind::NotFound),
        ("cut", FaultKind::StreamInterrupted),
        ("cut:20", FaultKind::StreamInterrupted),
    ] {
        for stream in [false, true] {
            let fault: InjectedFault = name.parse().unwrap();
            let reaches = u32::from(fault.reaches_the_provider());
            let (status, seen, calls) = seen(fault, stream).await;
            assert_eq!(seen.as_ref().map(Fault::kind), Some(kind), "{name}, stream {stream}: {seen:?}");
            assert!(status >= 400, "{name}: {status}");
            assert_eq!(calls, reaches, "{name}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn how_long_to_wait_is_told_to_the_millisecond() {
    let (status, fault, _) = seen("rate-limited:1500ms".parse().unwrap(), false).await;
    assert_eq!((status, fault.unwrap().retry_after()), (429, Some(Duration::from_millis(1500))));
}

#[tokio::test(start_paused = true)]
async fn latency_is_added_and_silence_lasts() {
    let began = Instant::now();
    let (status, fault, calls) = seen(InjectedFault::Latency(Duration::from_secs(3)), true).await;
    assert_eq!((status, fault, calls, began.elapsed().as_secs()), (200, None, 1, 3));
    let silent = seen(InjectedFault::Hang, true);
    assert!(tokio::time::timeout(Duration::from_secs(3600), silent).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_cut_behind_its_first_output_breaks_off() {
    let first = STREAM.find("\n\n").unwrap() as u64 + 2;
    let (status, fault, _) = seen(InjectedFault::Cut { after_bytes: first }, true).await;
    assert_eq!(status, 200, "its beginning was passed on");
    assert_eq!(fault.unwrap().kind(), FaultKind::StreamInterrupted);
    let (_, fault, _) = seen(InjectedFault::Cut { after_bytes: 1 << 20 }, true).await;
    assert_eq!(fault, None, "it is shorter than that");
}

#[tokio::test(start_paused = true)]
async fn a_target_that_is_taken_away_is_failed_over_and_only_that_one() {
    let (faults, calls) = (FaultSwitch::new(), Arc::default());
    let route = Route::new("chat", [target("a"), target("b")]).unwrap();
    let stack = FailoverStack::new(&route).with_retry(RetryLayer::new().with_attempts(1));
    let mut service = stack.layer(FaultInjectionLayer::new(&faults).layer(client(&calls)));
    let mut answered_by = async || {
        let context = RequestContext::new();
        let request = request(&context, false);
        let response =
            ServiceExt::<Request<Full<Bytes>>>::ready(&mut service).await.unwrap().call(request).await.unwrap();
        assert_eq!(response.status(), 200);
        context.attempts().answered().unwrap().target().unwrap().id().to_string()
    };
    assert_eq!(answered_by().await, "a/m");
    faults.inject(Injection::new(InjectedFault::Down).of_target("a/m"));
    assert_eq!(answered_by().await, "b/m");
    faults.clear();
    assert_eq!(answered_by().await, "a/m");
    faults.inject(Injection::new(InjectedFault::Unavailable).of_provider("a"));
    assert_eq!(answered_by().await, "b/m");
    assert_eq!((faults.injected(), calls.load(Ordering::Relaxed)), (2, 4));
}

#[tokio::test(start_paused = true)]
async fn a_refused_connection_counts_as_never_sent() {
    let (faults, calls) = (FaultSwitch::new(), Arc::default());
    faults.inject(Injection::new(InjectedFault::Down));
    let route = Route::new("chat", [target("a")]).unwrap();
    let stack = FailoverStack::new(&route).with_retry(RetryLayer::new().with_attempts(1));
    let context = RequestContext::new();
    let service = stack.layer(FaultInjectionLayer::new(&faults).layer(client(&calls)));
    let response = service.oneshot(request(&context, false)).await.unwrap();
    assert_eq!(response.status(), 502);
    assert_eq!(context.attempts().sent(), 0);
    assert!(matches!(context.attempts().iter().next().unwrap().outcome(), Some(Outcome::Failed(_))));
}

#[tokio::test(start_paused = true)]
async fn a_grpc_call_fails_as_grpc_does() {
    let faults = FaultSwitch::new();
    faults.inject(Injection::new(InjectedFault::Unavailable));
    let service = FaultInjectionLayer::new(&faults).layer(client(&Arc::default()));
    let request = Request::post("/x").header("content-type", "application/grpc").body(Full::default()).unwrap();
    let response = service.oneshot(request).await.unwrap();
    assert_eq!((response.status().as_u16(), &response.headers()["grpc-status"]), (200, &"14".parse().unwrap()));
}
