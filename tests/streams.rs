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
    Dialect, FailoverLayer, FailoverStack, Fault, FaultKind, Outcome, Provider, ProviderLayer, RateLimits,
    RateLimitsRegistry, RecoveryLayer, RequestContext, Route, Target, UsageHandle,
    failover::Hedge,
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
    /// What has begun is completed by the fallback.
    Resume,
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

/// What both providers say where one is to complete the other's answer.
const STORY: &str = "Am Morgen war der Hafen still. Die Fischer flickten schweigend ihre Netze, und die Möwen, die nichts \
    Besseres zu tun hatten, sahen ihnen von der Mauer aus zu. Erst gegen Mittag läutete eine Glocke, drüben am anderen Ufer.";

impl Mode {
    const ALL: [Mode; 3] = [Mode::Terminate, Mode::Complete, Mode::Resume];

    /// Timeouts that no test waits for long, nor meets by chance; moving megabytes takes a while.
    fn with_timeouts(self, fault: StreamFault) -> String {
        let patience = if fault == StreamFault::Oversized { "10s" } else { "1500ms" };
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
            Mode::Resume => "stream_recovery = \"resume\"",
        }
    }

    async fn provider(self, name: &str) -> SimulatedProvider {
        match self {
            Mode::Resume => SimulatedProvider::builder(name).answer(STORY).start().await.unwrap(),
            _ => provider(name).await,
        }
    }

    /// What the client is to receive when the primary's stream breaks so, and who answers.
    async fn expects(self, cell: &Cell, primary: &[Value], fallback: &SimulatedProvider) -> Expected {
        let clean = |events: &[Value]| Received { events: events.to_vec(), clean: true };
        let of_the_primary = |received| Expected { received, target: "primary/model-p", fallback_saw: None };
        let before = cell.place(primary);
        match (cell.fault, cell.point) {
            // Nothing of the answer is missing: what cannot be read behind it, or is an error, is left out.
            (StreamFault::Malformed, StreamPoint::AfterFinishReason) => of_the_primary(clean(primary)),
            (StreamFault::Garbled, StreamPoint::AfterFinishReason) => {
                of_the_primary(clean(&[&primary[..before], &primary[before + 1..]].concat()))
            }
            (_, StreamPoint::AfterFinishReason) => {
                // Who completes what breaks sets the end that is missing, too.
                let end = if self == Mode::Resume { &[json!("[DONE]")][..] } else { &[] };
                of_the_primary(clean(&[&primary[..before], end].concat()))
            }
            (_, point) if self == Mode::Complete || point == StreamPoint::BeforeOutput => {
                let asked = cell.ask.request("model-f");
                let received = clean(&healthy(fallback, &asked).await);
                Expected { received, target: "fallback/model-f", fallback_saw: Some(asked) }
            }
            _ if self == Mode::Resume => {
                // Nobody is to see half a tool call.
                let begun = if cell.ask == Ask::ToolCall { &primary[..1] } else { &primary[..before] };
                let (asked, how) = cell.ask.rest_request(begun);
                let received = clean(&how.joined(begun, healthy(fallback, &asked).await));
                Expected { received, target: "primary/model-p", fallback_saw: Some(asked) }
            }
            (fault, _) => {
                let error = json!({"error": match fault {
                    StreamFault::Cut | StreamFault::EndEarly => "stream_interrupted",
                    StreamFault::Stall | StreamFault::Pings => "timeout",
                    StreamFault::Error => "server_error",
                    _ => "malformed_response",
                }});
                of_the_primary(Received { events: [&primary[..before], &[error]].concat(), clean: false })
            }
        }
    }
}

/// What is to be seen of a cell.
struct Expected {
    received: Received,
    target: &'static str,
    /// What the fallback is asked, if it is.
    fallback_saw: Option<Value>,
}

/// How the rest of an answer was asked for, by the text of which the client has so much.
#[derive(Clone, Debug)]
enum Rest {
    Again { delivered: String },
    Prefill { delivered: String },
    Instruction { delivered: String, instruction: String },
}

impl Rest {
    /// What the client is to read: its beginning, and the rest as the same answer.
    fn joined(&self, begun: &[Value], rest: Vec<Value>) -> Vec<Value> {
        let reasoned = !said(begun)[1].is_empty();
        let (mut seen, fewer, more) = match self {
            Rest::Again { delivered } => (delivered.len(), 0, 0),
            Rest::Prefill { delivered } => (0, tokens(delivered), tokens(delivered)),
            Rest::Instruction { delivered, instruction } => {
                (0, tokens(delivered) + tokens(instruction), tokens(delivered))
            }
        };
        let mut joined = begun.to_vec();
        // Behind the role.
        for mut event in rest.into_iter().skip(1) {
            if event == "[DONE]" {
                joined.push(event);
                continue;
            }
            event["model"] = begun[0]["model"].clone();
            if let Some(delta) = event.pointer_mut("/choices/0/delta") {
                if reasoned && delta["reasoning_content"].is_string() {
                    continue;
                }
                if let Some(text) = delta["content"].as_str().map(str::to_owned) {
                    let skipped = seen.min(text.len());
                    seen -= skipped;
                    delta["content"] = text[skipped..].into();
                    if text.len() == skipped {
                        continue;
                    }
                }
            }
            let mut count = |name: &str, change: &dyn Fn(u64) -> u64| {
                let tokens = event["usage"][name].as_u64();
                tokens.into_iter().for_each(|tokens| event["usage"][name] = change(tokens).into());
            };
            count("prompt_tokens", &|tokens| tokens - fewer);
            count("completion_tokens", &|tokens| tokens + more);
            count("total_tokens", &|tokens| tokens + more - fewer);
            joined.push(event);
        }
        joined
    }
}

/// The gateway's own estimate.
fn tokens(text: &str) -> u64 {
    text.len().div_ceil(4) as u64
}

/// The same events, whatever the pieces in which the text comes.
fn in_whole_texts(events: &[Value]) -> Vec<Value> {
    let mut whole: Vec<Value> = Vec::new();
    let says = |event: &Value| event["choices"][0]["delta"]["content"].as_str().is_some_and(|text| !text.is_empty());
    for event in events {
        let mut event = event.clone();
        if !says(&event) {
            whole.push(event);
            continue;
        }
        let mut finish = None;
        if event["choices"][0]["finish_reason"].is_string() {
            finish = Some(event.clone());
            event["choices"][0]["finish_reason"] = Value::Null;
        }
        match whole.last_mut() {
            Some(last) if says(last) => {
                let text = [&*last, &event].map(|event| event["choices"][0]["delta"]["content"].as_str().unwrap());
                let text = text.concat();
                event["choices"][0]["delta"]["content"] = text.into();
                assert_eq!(without_text(last), without_text(&event));
                *last = event;
            }
            _ => whole.push(event),
        }
        whole.extend(finish.as_ref().map(without_text));
    }
    whole
}

fn without_text(event: &Value) -> Value {
    let mut event = event.clone();
    event["choices"][0]["delta"].as_object_mut().unwrap().remove("content");
    event
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

    /// How the fallback is asked for the rest of what began so: with a prefill where text is gone on with, otherwise for all
    /// of it.
    fn rest_request(self, begun: &[Value]) -> (Value, Rest) {
        let mut request = self.request("model-f");
        let [delivered, ..] = said(begun);
        if delivered.is_empty() || self == Ask::Structured {
            return (request, Rest::Again { delivered });
        }
        let begun = json!({"role": "assistant", "content": delivered.trim_end()});
        request["messages"].as_array_mut().unwrap().push(begun);
        (request, Rest::Prefill { delivered })
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
    let mut first = None;
    let normalized = |data: String| {
        if data == "[DONE]" {
            return Value::from(data);
        }
        let mut event: Value = serde_json::from_str(&data).unwrap_or_else(|error| panic!("{error}: {data}"));
        if let Some(error) = event.get("error") {
            return json!({"error": error["code"]});
        }
        // One answer has one identity, whatever it is.
        let identity = ["id", "created"].map(|key| event.as_object_mut().unwrap().remove(key));
        event["first_ones_identity"] = (*first.get_or_insert_with(|| identity.clone()) == identity).into();
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
async fn healthy(provider: &SimulatedProvider, asked: &Value) -> Vec<Value> {
    let request = Request::post(format!("{}/chat/completions", provider.base_url()));
    let received = receive(send(request.body(Full::new(asked.to_string().into())).unwrap()).await).await;
    assert!(received.clean);
    received.events
}

async fn check(mode: Mode, cell: Cell) {
    let (primary, fallback) = (mode.provider("primary").await, mode.provider("fallback").await);
    let whole = healthy(&primary, &cell.ask.request("model-p")).await;
    let expected = mode.expects(&cell, &whole, &fallback).await;
    [&primary, &fallback].iter().for_each(|provider| provider.clear());
    primary.set_fault(SimulatedFault::Stream { fault: cell.fault, at: cell.point });
    let settings = mode.with_timeouts(cell.fault);
    let served = Served::between(&primary.base_url(), &fallback.base_url(), &settings).await;
    let response = send(post(&served, cell.ask.request("chat").to_string())).await;
    assert_eq!(response.status(), 200, "{mode:?}, {cell:?}");
    let target = response.headers()["x-failover-target"].clone();
    let mut received = receive(response).await;
    if mode == Mode::Resume && expected.received != received {
        // Where the two join, text that was held back comes in larger pieces.
        received.events = in_whole_texts(&received.events);
        let expected = Received { events: in_whole_texts(&expected.received.events), ..expected.received };
        assert_eq!(received, expected, "{mode:?}, {cell:?}");
    } else {
        assert_eq!(received, expected.received, "{mode:?}, {cell:?}");
    }
    assert_eq!(target, expected.target, "{mode:?}, {cell:?}");
    // No cell is a truncated success: what ends cleanly is all of one answer, and so is every answer that is completed.
    assert!(received.clean || mode == Mode::Terminate, "{mode:?}, {cell:?}");
    if received.clean {
        assert_is_whole(&received.events, &whole, &format!("{mode:?}, {cell:?}"));
    }
    let seen = [&primary, &fallback].map(asked);
    assert_eq!(seen[0], [cell.ask.request("model-p")], "{mode:?}, {cell:?}");
    assert_eq!(seen[1], expected.fallback_saw.into_iter().collect::<Vec<_>>(), "{mode:?}, {cell:?}");
    // A connection on which nothing more is wanted is not kept.
    if matches!(cell.fault, StreamFault::Stall | StreamFault::Pings | StreamFault::Oversized) {
        harness_eventually(|| primary.aborted_count() == 1).await;
    }
}

/// How the fallback goes on, and how many of the story's pieces the client has by then.
#[derive(Clone, Copy, Debug)]
struct Resumption {
    how: &'static str,
    refuses_prefill: bool,
    delivered: usize,
}

async fn check_resumption(resumption: Resumption) {
    let Resumption { how, refuses_prefill, delivered } = resumption;
    let (primary, fallback) = (Mode::Resume.provider("primary").await, Mode::Resume.provider("fallback").await);
    let whole = healthy(&primary, &Ask::Text.request("model-p")).await;
    let begun = &whole[..=delivered];
    let [text, ..] = said(begun);
    let (prefilled, mut rest) = Ask::Text.rest_request(begun);
    let mut expected_of_fallback = vec![prefilled.clone()];
    primary.set_fault(SimulatedFault::Cut { after_chunks: delivered });
    fallback.set_prefill_refused(refuses_prefill);
    fallback.set_continuation(how.parse().unwrap());
    let settings = Mode::Resume.with_timeouts(StreamFault::Cut);
    let served = Served::between(&primary.base_url(), &fallback.base_url(), &settings).await;
    [&primary, &fallback].iter().for_each(|provider| provider.clear());
    let received = receive(send(post(&served, Ask::Text.request("chat").to_string())).await).await;
    let seen = [&primary, &fallback].map(asked);
    // What the fallback says to whoever asks it directly.
    let latest = seen[1].last().unwrap().clone();
    let raw = healthy(&fallback, &latest).await;
    if refuses_prefill {
        let instruction = latest["messages"][2]["content"].as_str().unwrap().to_owned();
        let mut instructed = prefilled;
        let turn = json!({"role": "user", "content": instruction});
        instructed["messages"].as_array_mut().unwrap().push(turn);
        expected_of_fallback.push(instructed);
        rest = Rest::Instruction { delivered: text.clone(), instruction };
    }
    assert_eq!((&seen[0], &seen[1]), (&vec![Ask::Text.request("model-p")], &expected_of_fallback), "{resumption:?}");
    let [said_by_fallback, ..] = said(&raw);
    let [said_to_client, ..] = said(&received.events);
    let restarts = said_by_fallback.starts_with(&text) && text.len() >= 3;
    if how == "exact" {
        let expected = in_whole_texts(&rest.joined(begun, raw));
        assert_eq!((in_whole_texts(&received.events), received.clean), (expected, true), "{resumption:?}");
    } else if restarts
        || (STORY.ends_with(&said_by_fallback) && said_by_fallback.len() + text.len() >= STORY.len() + 24)
    {
        // It said something again, which is left out; all that comes behind it is its own.
        let all = if restarts { &*said_by_fallback } else { STORY };
        assert_eq!((&*said_to_client, received.clean), (all, true), "{resumption:?}");
        let others = |events: &[Value]| -> Vec<Value> {
            let mut events = in_whole_texts(events);
            events
                .iter_mut()
                .filter_map(|event| event.get_mut("usage"))
                .for_each(|usage| *usage = usage.is_object().into());
            events
                .iter_mut()
                .filter_map(|event| event.pointer_mut("/choices/0/delta/content"))
                .for_each(|text| *text = json!("…"));
            events
        };
        assert_eq!(others(&received.events), others(&whole), "{resumption:?}");
    } else {
        let expected = [begun, &[json!({"error": "stream_interrupted"})]].concat();
        assert_eq!((received.events, received.clean), (expected, false), "{resumption:?}");
    }
}

#[tokio::test]
async fn however_the_fallback_goes_on_nothing_is_told_twice_nor_otherwise() {
    let mut resumptions = Vec::new();
    for how in ["exact", "restart", "overlap:30", "overlap:60", "paraphrase", "preface", "change-case"] {
        for refuses_prefill in [false, true] {
            resumptions.extend([1, 2, 9, 25].map(|delivered| Resumption { how, refuses_prefill, delivered }));
        }
    }
    let checked = stream::iter(resumptions.into_iter().map(check_resumption)).buffer_unordered(8).count().await;
    assert_eq!(checked, 7 * 2 * 4);
}

/// What a provider was asked.
fn asked(provider: &SimulatedProvider) -> Vec<Value> {
    provider.received().iter().map(|request| request.json().unwrap()).collect()
}

/// All of the answer, once: it says what a healthy one says (but for who says it), and has one finish reason.
#[track_caller]
fn assert_is_whole(events: &[Value], healthy: &[Value], what: &str) {
    let says = |events: &[Value]| {
        let [text, _, name, arguments, finish] = said(events);
        [text.replace("[fallback]", "[primary]"), name, arguments, finish]
    };
    assert_eq!(says(events), says(healthy), "{what}");
    assert!(events.iter().filter(|event| **event == "[DONE]").count() <= 1, "{what}");
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
    assert_eq!(checked, 3 * (7 * 17 + 4));
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
        let expected = healthy(&primary, &ask.request("model-p")).await;
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
            let streamed = healthy(&primary, &ask.request("model-p")).await;
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
                let expected = healthy(&fallback, &ask.request("model-f")).await;
                assert_eq!(received, Received { events: expected, clean: true }, "{fault}, {ask:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_stream_in_the_place_of_json_becomes_the_json_unless_it_breaks() {
    for ask in Ask::ALL {
        let (primary, fallback) = (provider("primary").await, provider("fallback").await);
        let served = Served::between(&primary.base_url(), &fallback.base_url(), QUICK).await;
        let mut request = ask.request("chat");
        request["stream"] = false.into();
        let answer = async || {
            let (head, body) = harness::ask(post(&served, request.to_string())).await;
            assert_eq!(
                (head.status.as_u16(), &head.headers["content-type"]),
                (200, &"application/json".parse().unwrap())
            );
            let mut answer: Value = serde_json::from_slice(&body).unwrap();
            // The simulated provider tells no usage in a stream that was not to tell it, nor what no delta has.
            ["id", "created", "usage"].iter().for_each(|key| _ = answer.as_object_mut().unwrap().remove(*key));
            let message = answer["choices"][0]["message"].as_object_mut().unwrap();
            ["refusal", "annotations"].iter().for_each(|key| _ = message.remove(*key));
            if let Some(call) = message.get_mut("tool_calls") {
                call[0]["id"] = "call".into();
            }
            answer
        };
        let expected = answer().await;
        primary.set_style(StreamStyle::default().as_events().with_line_end(LineEnd::CrLf).in_pieces_of(100));
        assert_eq!(answer().await, expected, "{ask:?}");
        assert_eq!(fallback.request_count(), 0);
        for fault in [
            "cut:1",
            "end-early:1",
            "stall:1",
            "error-mid-stream:1",
            "error-first-event",
            "stream:garbled@at-first-output",
        ] {
            primary.set_fault(fault.parse().unwrap());
            let mut answer = answer().await;
            assert_eq!(answer["model"], "model-f", "{fault}, {ask:?}");
            answer["model"] = "model-p".into();
            let text = &mut answer["choices"][0]["message"]["content"];
            *text = text.as_str().map(|text| text.replace("[fallback]", "[primary]")).into();
            assert_eq!(answer, expected, "{fault}, {ask:?}");
        }
    }
}

#[tokio::test]
async fn silence_is_as_bounded_when_the_answer_is_held_whole() {
    // Before the head, and behind it.
    for fault in ["silent", "slow-first-token:1h"] {
        let (primary, fallback) = (provider("primary").await, provider("fallback").await);
        primary.set_fault(fault.parse().unwrap());
        let settings = Mode::Complete.with_timeouts(StreamFault::Stall);
        let served = Served::between(&primary.base_url(), &fallback.base_url(), &settings).await;
        let began = tokio::time::Instant::now();
        let received = receive(send(post(&served, Ask::Text.request("chat").to_string())).await).await;
        assert_eq!(received.events, healthy(&fallback, &Ask::Text.request("model-f")).await, "{fault}");
        let took = began.elapsed();
        assert!((Duration::from_millis(400)..Duration::from_secs(5)).contains(&took), "{fault}: {took:?}");
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
            assert_eq!(early.is_ok(), mode != Mode::Complete && fault == "stall:2");
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

/// Two targets, in a stack with recovery around it; gives back the log of one request.
async fn tried(providers: [&SimulatedProvider; 2], hedge: Option<Duration>) -> (Received, RequestContext) {
    let targets = ["primary", "fallback"].into_iter().zip(providers).map(|(name, provider)| {
        Target::new(&Provider::new(name, Dialect::OpenAiChat, &provider.base_url()).unwrap(), "m")
    });
    let route = Route::new("r", targets).unwrap();
    let failover = FailoverLayer::new(&route);
    let failover = match hedge {
        Some(after) => failover.with_hedge(Hedge::after(after)),
        None => failover,
    };
    let client = Client::builder(TokioExecutor::new()).build::<_, Full<Bytes>>(HttpConnector::new());
    let service = RecoveryLayer::new().layer(FailoverStack::new(&route).with_failover(failover).layer(client));
    let context = RequestContext::new();
    let asked = Ask::Text.request("m").to_string();
    let mut request = Request::post("/v1/chat/completions").body(Full::new(Bytes::from(asked))).unwrap();
    request.extensions_mut().insert(context.clone());
    (receive(service.oneshot(request).await.unwrap()).await, context)
}

#[tokio::test]
async fn what_a_broken_half_and_a_loser_cost_is_in_the_log() {
    let (primary, fallback) = (Mode::Resume.provider("primary").await, Mode::Resume.provider("fallback").await);
    primary.set_fault("cut:9".parse().unwrap());
    let (received, context) = tried([&primary, &fallback], None).await;
    assert_eq!((&*said(&received.events)[0], received.clean), (STORY, true));
    let attempts: Vec<_> = context.attempts().iter().collect();
    let [half, rest] = attempts[..] else { panic!("{attempts:?}") };
    let delivered: String = STORY.split_inclusive(' ').take(9).collect();
    let cost = half.usage().unwrap();
    assert!(cost.estimated && cost.input > 0 && half.interruption().is_some(), "{half:?}");
    assert_eq!(cost.output, tokens(delivered.trim_end()));
    assert!(rest.usage().is_some_and(|usage| !usage.estimated && usage.output > 0), "{rest:?}");

    primary.set_fault("slow-first-token:1h".parse().unwrap());
    let (received, context) = tried([&primary, &fallback], Some(Duration::from_millis(50))).await;
    assert!(received.clean);
    let attempts: Vec<_> = context.attempts().iter().collect();
    let [loser, winner] = attempts[..] else { panic!("{attempts:?}") };
    assert_eq!(loser.outcome(), Some(&Outcome::Cancelled));
    let cost = loser.usage().unwrap();
    assert!(cost.estimated && cost.input > 0 && cost.output == 0, "{loser:?}");
    assert!(winner.usage().is_some_and(|usage| !usage.estimated), "{winner:?}");
}

#[tokio::test]
async fn every_body_has_its_own_idempotency_key_and_every_try_of_it_the_same() {
    let (primary, fallback) = (Mode::Resume.provider("primary").await, Mode::Resume.provider("fallback").await);
    let settings = "stream_recovery = \"resume\"\nretry = { attempts = 2, base_delay = \"1ms\" }\nbreaker = { failures = 1000, min_calls = 1000 }";
    let served = Served::between(&primary.base_url(), &fallback.base_url(), settings).await;
    let keys = |provider: &SimulatedProvider| -> Vec<String> {
        let keys = provider.received().into_iter().map(|request| request.header("idempotency-key").unwrap().to_owned());
        keys.collect()
    };
    for own in [None, Some("mine")] {
        [&primary, &fallback].iter().for_each(|provider| provider.clear());
        let asked = || {
            let mut request = post(&served, Ask::Text.request("chat").to_string());
            own.into_iter().for_each(|own| _ = request.headers_mut().insert("idempotency-key", own.parse().unwrap()));
            request
        };
        primary.set_fault("overloaded".parse().unwrap());
        assert!(receive(send(asked()).await).await.clean);
        primary.set_fault("cut:9".parse().unwrap());
        assert!(receive(send(asked()).await).await.clean);
        let (primarys, fallbacks) = (keys(&primary), keys(&fallback));
        assert_eq!((primarys.len(), fallbacks.len()), (3, 2));
        assert_eq!(primarys[0], primarys[1], "a retry");
        assert_ne!(primarys[0], fallbacks[0], "another model");
        assert_ne!(fallbacks[0], fallbacks[1], "the rest of an answer");
        // The client's next request is known again only by its own key.
        assert_eq!(primarys[1] == primarys[2], own.is_some());
        if let Some(own) = own {
            assert!(primarys.iter().chain(&fallbacks).all(|key| key.starts_with(own) && key != own));
        }
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
