//! Every fault of a stream at every point of it, from the wire: what the client received and what each provider saw.

#![allow(clippy::unwrap_used)] // what fails here fails the test

mod harness;

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, future::join_all, stream};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::{Value, json};
use tower::{Layer, ServiceExt};
use tower_failover::{
    Dialect, FailoverStack, Fault, FaultKind, Provider, ProviderLayer, RateLimits, RateLimitsRegistry, RequestContext,
    Route, Target, UsageHandle,
    simulated::{Compressed, LineEnd, SimulatedFault, SimulatedProvider, StreamFault, StreamPoint, StreamStyle},
};

use harness::{QUICK, Served, post, send};

/// What the gateway does about streams that break.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    /// What has begun ends with an error.
    Terminate,
    /// Nothing is let through that is not whole.
    Complete,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ask {
    Text,
    ToolCall,
    Structured,
    Reasoning,
}

/// What a client received: the data of its events, and whether the stream ended cleanly.
#[derive(Debug, PartialEq)]
struct Received {
    events: Vec<Value>,
    clean: bool,
}

const SEVERAL_WORDS: &str = "Eins zwei drei vier fünf sechs.";

impl Mode {
    const ALL: [Mode; 2] = [Mode::Terminate, Mode::Complete];

    /// Timeouts that no test waits for long, nor meets by chance; moving megabytes takes a while.
    fn with_timeouts(self, fault: StreamFault) -> String {
        let patience = if fault == StreamFault::Oversized { "10s" } else { "400ms" };
        format!(
            "retry = {{ attempts = 1 }}\n\
             timeout = {{ first_output = \"{patience}\", idle = \"{patience}\", response = \"20s\", total = \"30s\" }}\n{}",
            self.settings()
        )
    }

    fn settings(self) -> &'static str {
        match self {
            Mode::Terminate => "",
            Mode::Complete => "commit = \"complete\"",
        }
    }

    /// What the client is to receive when the primary's stream breaks so, and whether the fallback answers.
    fn expects(self, cell: &Cell, primary: &[Value], fallback: &[Value]) -> (Received, bool) {
        let clean = |events: &[Value]| Received { events: events.to_vec(), clean: true };
        let before = cell.place(primary);
        match (cell.fault, cell.point) {
            // The event that cannot be read is one too many, and left out.
            (StreamFault::Malformed, _) => (clean(primary), false),
            // Nothing of the answer is missing; an error behind it is the provider's own affair.
            (StreamFault::Error, StreamPoint::AfterFinishReason) => {
                (clean(&[&primary[..before], &[json!({"error": null})]].concat()), false)
            }
            (_, StreamPoint::AfterFinishReason) => (clean(&primary[..before]), false),
            (_, StreamPoint::BeforeOutput) => (clean(fallback), true),
            _ if self == Mode::Complete => (clean(fallback), true),
            (fault, _) => {
                let error = json!({"error": match fault {
                    StreamFault::Cut | StreamFault::EndEarly => "stream_interrupted",
                    StreamFault::Stall | StreamFault::Pings => "timeout",
                    StreamFault::Error => "server_error",
                    _ => "malformed_response",
                }});
                (Received { events: [&primary[..before], &[error]].concat(), clean: false }, false)
            }
        }
    }
}

impl Ask {
    const ALL: [Ask; 4] = [Ask::Text, Ask::ToolCall, Ask::Structured, Ask::Reasoning];

    fn points(self) -> Vec<StreamPoint> {
        use StreamPoint::*;
        let own = match self {
            Ask::Text => vec![InText],
            Ask::ToolCall => vec![InToolCall],
            Ask::Structured => vec![InStructuredOutput],
            Ask::Reasoning => vec![InReasoning, InText],
        };
        [vec![BeforeOutput, AtFirstOutput], own, vec![AfterFinishReason]].concat()
    }

    fn request(self, model: &str) -> Value {
        let mut request = json!({
            "model": model, "stream": true, "stream_options": {"include_usage": true},
            "messages": [{"role": "user", "content": "Say something."}],
        });
        let schema = json!({"type": "object", "properties": {
            "city": {"type": "string"}, "days": {"type": "integer"}, "note": {"type": "string", "minLength": 40},
        }});
        match self {
            Ask::Text => {}
            Ask::ToolCall => {
                let function = json!({"name": "get_weather", "parameters": schema});
                request["tools"] = json!([{"type": "function", "function": function}]);
            }
            Ask::Structured => {
                let format = json!({"type": "json_schema", "json_schema": {"name": "w", "schema": schema}});
                request["response_format"] = format;
            }
            Ask::Reasoning => request["reasoning_effort"] = "low".into(),
        }
        request
    }
}

#[derive(Clone, Copy, Debug)]
struct Cell {
    ask: Ask,
    fault: StreamFault,
    point: StreamPoint,
}

impl Cell {
    fn all() -> Vec<Cell> {
        let mut cells = Vec::new();
        for ask in Ask::ALL {
            for point in ask.points() {
                // Seventeen megabytes: once for each point is enough.
                let faults =
                    StreamFault::ALL.iter().filter(|fault| **fault != StreamFault::Oversized || ask == Ask::Text);
                cells.extend(faults.map(|fault| Cell { ask, fault: *fault, point }));
            }
        }
        cells
    }

    /// How many of a healthy stream's events come before the fault.
    fn place(&self, events: &[Value]) -> usize {
        let outputs = |key: &str| {
            let delta = |event: &Value| event["choices"][0]["delta"][key].clone();
            let says = |value: Value| value.is_array() || value.as_str().is_some_and(|text| !text.is_empty());
            (0..events.len()).filter(|n| says(delta(&events[*n]))).collect::<Vec<_>>()
        };
        let middle = |key: &str| outputs(key)[outputs(key).len() / 2];
        let finish = events.iter().position(|event| event["choices"][0]["finish_reason"].is_string()).unwrap();
        match self.point {
            StreamPoint::BeforeOutput => 1,
            StreamPoint::AtFirstOutput => 2,
            StreamPoint::InText | StreamPoint::InStructuredOutput => middle("content"),
            StreamPoint::InToolCall => middle("tool_calls"),
            StreamPoint::InReasoning => middle("reasoning_content"),
            _ => finish + 1,
        }
    }
}

/// The data of the events, without what differs each time; of our own errors only the code.
fn events(text: &str) -> Vec<Value> {
    let text = text.trim_start_matches('\u{feff}').replace("\r\n", "\n").replace('\r', "\n");
    let blocks = text.split_terminator("\n\n");
    let data = blocks.filter_map(|block| {
        let lines: Vec<_> = block.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
        (!lines.is_empty()).then(|| lines.join("\n"))
    });
    let normalized = |data: String| {
        if data == "[DONE]" {
            return Value::from(data);
        }
        let mut event: Value = serde_json::from_str(&data).unwrap_or_else(|error| panic!("{error}: {data}"));
        if let Some(error) = event.get("error") {
            return json!({"error": error["code"]});
        }
        for key in ["id", "created"] {
            event.as_object_mut().unwrap().remove(key);
        }
        if let Some(call) = event.pointer_mut("/choices/0/delta/tool_calls/0").and_then(Value::as_object_mut) {
            call.remove("id");
        }
        event
    };
    data.map(normalized).collect()
}

async fn receive<B>(response: Response<B>) -> Received
where
    B: http_body::Body<Data = Bytes>,
{
    let mut body = std::pin::pin!(response.into_body());
    let mut bytes = Vec::new();
    let clean = loop {
        match body.frame().await {
            Some(Ok(frame)) => bytes.extend_from_slice(&frame.into_data().unwrap_or_default()),
            Some(Err(_)) => break false,
            None => break true,
        }
    };
    Received { events: events(std::str::from_utf8(&bytes).unwrap()), clean }
}

async fn provider(name: &str) -> SimulatedProvider {
    let builder = SimulatedProvider::builder(name).answer(format!("[{name}] {SEVERAL_WORDS}"));
    builder.start().await.unwrap()
}

/// What a provider streams when it is asked by nobody in between.
async fn healthy(provider: &SimulatedProvider, ask: Ask, model: &str) -> Vec<Value> {
    let request = Request::post(format!("{}/chat/completions", provider.base_url()));
    let received = receive(send(request.body(Full::new(ask.request(model).to_string().into())).unwrap()).await).await;
    assert!(received.clean);
    received.events
}

async fn check(mode: Mode, cell: Cell) {
    let (primary, fallback) = (provider("primary").await, provider("fallback").await);
    let whole = [healthy(&primary, cell.ask, "model-p").await, healthy(&fallback, cell.ask, "model-f").await];
    [&primary, &fallback].iter().for_each(|provider| provider.clear());
    primary.set_fault(SimulatedFault::Stream { fault: cell.fault, at: cell.point });
    let settings = mode.with_timeouts(cell.fault);
    let served = Served::between(&primary.base_url(), &fallback.base_url(), &settings).await;
    let response = send(post(&served, cell.ask.request("chat").to_string())).await;
    assert_eq!(response.status(), 200, "{mode:?}, {cell:?}");
    let target = response.headers()["x-failover-target"].clone();
    let received = receive(response).await;
    let (expected, falls_back) = mode.expects(&cell, &whole[0], &whole[1]);
    assert_eq!(received, expected, "{mode:?}, {cell:?}");
    assert_eq!(target, if falls_back { "fallback/model-f" } else { "primary/model-p" }, "{mode:?}, {cell:?}");
    // No cell is a truncated success: what ends cleanly is all of one answer.
    if received.clean {
        assert!(
            received.events.iter().any(|event| event["choices"][0]["finish_reason"].is_string()),
            "{mode:?}, {cell:?}"
        );
    }
    let seen = [&primary, &fallback]
        .map(|provider| provider.received().iter().map(|request| request.json().unwrap()).collect::<Vec<_>>());
    let asked = [cell.ask.request("model-p"), cell.ask.request("model-f")];
    assert_eq!(seen[0], [asked[0].clone()], "{mode:?}, {cell:?}");
    assert_eq!(seen[1].as_slice(), if falls_back { &asked[1..] } else { &[] }, "{mode:?}, {cell:?}");
    // A connection on which nothing more is wanted is not kept.
    if matches!(cell.fault, StreamFault::Stall | StreamFault::Pings | StreamFault::Oversized) {
        harness_eventually(|| primary.aborted_count() == 1).await;
    }
}

async fn harness_eventually(condition: impl Fn() -> bool) {
    for _ in 0..400 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it did not come to pass");
}

#[tokio::test]
async fn every_fault_at_every_point_in_every_mode() {
    let cells = Mode::ALL.into_iter().flat_map(|mode| Cell::all().into_iter().map(move |cell| check(mode, cell)));
    // A few at a time: most of them wait for a timeout.
    let checked = stream::iter(cells).buffer_unordered(8).count().await;
    assert_eq!(checked, 2 * (6 * 17 + 4));
}

#[tokio::test]
async fn however_a_healthy_stream_is_written_the_client_reads_the_same() {
    let style = StreamStyle::default;
    let styles = [
        style().with_line_end(LineEnd::CrLf),
        style().with_line_end(LineEnd::Cr),
        style().with_byte_order_mark().with_comments().with_multi_line_data(),
        style().in_pieces_of(1),
        style().with_line_end(LineEnd::CrLf).with_multi_line_data().with_comments().in_pieces_of(7),
        style().compressed(Compressed::Gzip),
        style().compressed(Compressed::Deflate).in_pieces_of(3),
        style().unlabelled(),
    ];
    let checks = styles.into_iter().flat_map(|style| Ask::ALL.map(|ask| (style, ask)));
    join_all(checks.map(async |(style, ask)| {
        let primary = provider("primary").await;
        let expected = healthy(&primary, ask, "model-p").await;
        primary.set_style(style);
        for mode in Mode::ALL {
            // No fault: whatever time it takes byte by byte.
            let served = Served::between(&primary.base_url(), "http://127.0.0.1:9/v1", mode.settings()).await;
            let response = send(post(&served, ask.request("chat").to_string())).await;
            assert_eq!(response.status(), 200, "{style:?}, {ask:?}, {mode:?}");
            for gone in ["content-encoding", "content-length"] {
                assert!(response.headers().get(gone).is_none(), "{style:?}");
            }
            let received = receive(response).await;
            assert_eq!(received, Received { events: expected.clone(), clean: true }, "{style:?}, {ask:?}, {mode:?}");
        }
    }))
    .await;
}

#[tokio::test]
async fn json_in_the_place_of_a_stream_becomes_the_stream_unless_it_is_an_error_or_half() {
    for label in [StreamStyle::default(), StreamStyle::default().unlabelled()] {
        for ask in Ask::ALL {
            let (primary, fallback) = (provider("primary").await, provider("fallback").await);
            let streamed = healthy(&primary, ask, "model-p").await;
            primary.set_style(label.as_json());
            let served = Served::between(&primary.base_url(), &fallback.base_url(), QUICK).await;
            let response = send(post(&served, ask.request("chat").to_string())).await;
            assert_eq!(response.headers()["content-type"], "text/event-stream; charset=utf-8");
            let received = receive(response).await;
            assert!(received.clean);
            assert_eq!(said(&received.events), said(&streamed), "{ask:?}");
            assert_eq!(received.events.last().unwrap(), "[DONE]");
            let usage = |events: &[Value]| events[events.len() - 2]["usage"].clone();
            assert_eq!(usage(&received.events), usage(&streamed));
            assert_eq!(fallback.request_count(), 0);
            for fault in [StreamFault::Error, StreamFault::EndEarly, StreamFault::Cut] {
                primary.set_fault(SimulatedFault::Stream { fault, at: StreamPoint::InText });
                let received = receive(send(post(&served, ask.request("chat").to_string())).await).await;
                let expected = healthy(&fallback, ask, "model-f").await;
                assert_eq!(received, Received { events: expected, clean: true }, "{fault}, {ask:?}");
            }
        }
    }
}

/// All that a stream says, each kind in one piece.
fn said(events: &[Value]) -> [String; 5] {
    let delta = |pointer: &str| -> String {
        events.iter().filter_map(|event| event.pointer(&format!("/choices/0{pointer}"))?.as_str()).collect()
    };
    [
        delta("/delta/content"),
        delta("/delta/reasoning_content"),
        delta("/delta/tool_calls/0/function/name"),
        delta("/delta/tool_calls/0/function/arguments"),
        delta("/finish_reason"),
    ]
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed_by_the_provider_before_and_after_the_first_output() {
    for mode in Mode::ALL {
        for fault in ["slow-first-token:1h", "stall:2", "silent"] {
            let (primary, fallback) = (provider("primary").await, provider("fallback").await);
            primary.set_fault(fault.parse().unwrap());
            // Long enough for nothing but the client's leaving to end it.
            let settings = format!("retry = {{ attempts = 1 }}\n{}", mode.settings());
            let served = Served::between(&primary.base_url(), &fallback.base_url(), &settings).await;
            let mut asking = Box::pin(send(post(&served, Ask::Text.request("chat").to_string())));
            let early = tokio::time::timeout(Duration::from_millis(100), &mut asking).await;
            assert_eq!(early.is_ok(), mode == Mode::Terminate && fault == "stall:2");
            harness_eventually(|| primary.request_count() == 1).await;
            assert_eq!(primary.aborted_count(), 0);
            drop((early, asking));
            harness_eventually(|| primary.aborted_count() == 1).await;
            assert_eq!(fallback.request_count(), 0, "{mode:?}, {fault}");
        }
    }
}

/// One target, in a stack of its own.
struct Stack {
    provider: SimulatedProvider,
    layer: ProviderLayer,
    limits: RateLimitsRegistry,
}

impl Stack {
    async fn new(layer: ProviderLayer) -> Stack {
        let limits = RateLimitsRegistry::default();
        Stack { provider: provider("p").await, layer: layer.with_rate_limits(limits.clone()), limits }
    }

    async fn call(&self, request: Value) -> (Response<impl http_body::Body<Data = Bytes> + use<>>, RequestContext) {
        let provider = Provider::new("p", Dialect::OpenAiChat, &self.provider.base_url()).unwrap();
        let route = Route::new("r", [Target::new(&provider, "m")]).unwrap();
        let client = Client::builder(TokioExecutor::new()).build::<_, Full<Bytes>>(HttpConnector::new());
        let service = FailoverStack::new(&route).with_provider(self.layer.clone()).layer(client);
        let context = RequestContext::new();
        let mut request =
            Request::post("/v1/chat/completions").body(Full::new(Bytes::from(request.to_string()))).unwrap();
        request.extensions_mut().insert(context.clone());
        (service.oneshot(request).await.unwrap(), context)
    }
}

fn without_options(ask: Ask) -> Value {
    let mut request = ask.request("m");
    request.as_object_mut().unwrap().remove("stream_options");
    request
}

#[tokio::test]
async fn usage_is_told_when_the_body_has_ended_and_the_limits_at_once() {
    let stack = Stack::new(ProviderLayer::new()).await;
    let (response, context) = stack.call(Ask::Reasoning.request("m")).await;
    let limits = *response.extensions().get::<RateLimits>().unwrap();
    assert_eq!((limits.requests.unwrap().remaining, limits.tokens.unwrap().limit), (9_999, Some(2_000_000)));
    assert_eq!(stack.limits.latest("p"), Some(limits));
    let usage = response.extensions().get::<UsageHandle>().unwrap().clone();
    assert_eq!(usage.get(), None);
    let received = receive(response).await;
    let told = &received.events[received.events.len() - 2]["usage"];
    let usage = usage.get().unwrap();
    assert_eq!(
        (json!(usage.input), json!(usage.output)),
        (told["prompt_tokens"].clone(), told["completion_tokens"].clone())
    );
    assert_eq!(json!(usage.reasoning), told["completion_tokens_details"]["reasoning_tokens"]);
    assert!(!usage.estimated && usage.reasoning > 0);
    assert_eq!(context.attempts().answered().unwrap().usage(), Some(usage));

    let mut whole = Ask::Text.request("m");
    whole["stream"] = false.into();
    let (response, context) = stack.call(whole).await;
    let usage = response.extensions().get::<UsageHandle>().unwrap().get().unwrap();
    assert_eq!(context.attempts().answered().unwrap().usage(), Some(usage));
    assert!(!usage.estimated && usage.output > 0);
}

#[tokio::test]
async fn usage_that_nobody_tells_is_estimated_for_whole_broken_and_left_streams() {
    let stack = Stack::new(ProviderLayer::new()).await;
    for fault in ["none", "cut:3", "stall:3"] {
        stack.provider.set_fault(fault.parse().unwrap());
        let (response, context) = stack.call(without_options(Ask::Text)).await;
        let usage = response.extensions().get::<UsageHandle>().unwrap().clone();
        if fault == "stall:3" {
            // The client has read three words, and goes.
            let mut body = Box::pin(response.into_body());
            for _ in 0..4 {
                body.frame().await.unwrap().ok().unwrap();
            }
            drop(body);
        } else {
            receive(response).await;
        }
        let usage = usage.get().unwrap();
        assert!(usage.estimated && usage.input > 0, "{fault}: {usage:?}");
        let said = if fault == "none" { format!("[p] {SEVERAL_WORDS}") } else { "[p] Eins zwei".to_owned() };
        assert_eq!(usage.output, said.len().div_ceil(4) as u64, "{fault}");
        assert_eq!(context.attempts().answered().unwrap().usage(), Some(usage));
    }
}

#[tokio::test]
async fn metered_streams_tell_their_usage_and_the_client_reads_what_it_asked_for() {
    let stack = Stack::new(ProviderLayer::new().with_meter_streams(true)).await;
    let expected = {
        let plain = Stack::new(ProviderLayer::new()).await;
        receive(plain.call(without_options(Ask::Text)).await.0).await
    };
    let (response, _) = stack.call(without_options(Ask::Text)).await;
    let usage = response.extensions().get::<UsageHandle>().unwrap().clone();
    let mut received = receive(response).await;
    assert_eq!(stack.provider.received()[0].json().unwrap()["stream_options"], json!({"include_usage": true}));
    for event in received.events.iter_mut().filter_map(Value::as_object_mut) {
        // What OpenAI adds to every other chunk then.
        assert_eq!(event.remove("usage"), Some(Value::Null));
    }
    assert_eq!(received, expected);
    assert!(!usage.get().unwrap().estimated);
    // Who asks for it keeps it.
    let (response, _) = stack.call(Ask::Text.request("m")).await;
    let received = receive(response).await;
    assert!(received.events[received.events.len() - 2]["usage"].is_object());
}

#[tokio::test]
async fn an_answer_is_as_long_as_is_allowed_when_it_is_held_whole() {
    use tower_failover::provider::Commit;
    let layer = ProviderLayer::new().with_commit(Commit::Complete).with_max_answer(1000);
    let stack = Stack::new(layer).await;
    let (response, _) = stack.call(Ask::Text.request("m")).await;
    assert_eq!(response.extensions().get::<Fault>().map(Fault::kind), Some(FaultKind::MalformedResponse));
    harness_eventually(|| stack.provider.aborted_count() <= 1).await;
}
