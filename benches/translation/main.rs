//! What it costs to translate: requests in MB/s, streams in events/s, on one core.
//!
//! ```sh
//! cargo bench --bench translation
//! ```
//!
//! A `TranslateLayer` stands over a service that answers at once, so that each figure is that of a hop: the request's copy and
//! headers, the layer's future and the answer's body are in it. Requests are chats of 16 KiB in each dialect, their answers of
//! a few words; streams have 1000 events of a word, each in a frame of its own, after a short request. Beside the pairs stands
//! what `serde_json` takes to read the same request as a `Value` and write it again, in the same rounds; and the same hop
//! where both ends speak one dialect. Figures are medians over the rounds.
//!
//! It prints whether the bars are met, and never fails because one is not. Without cargo's `--bench` one short round shows
//! that it works.

// A bench stops where a test would, and it measures real time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_types)]

use std::{
    convert::Infallible,
    future::{Ready, poll_fn, ready},
    hint::black_box,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Instant,
};

use bytes::Bytes;
use http::{HeaderValue, header};
use http_body::{Body, Frame};
use http_body_util::Full;
use tower::{Layer, Service};
use tower_failover::{Dialect, Provider, RequestContext, Target, provider::TranslateLayer};

const DIALECTS: [Dialect; 4] =
    [Dialect::OpenAiChat, Dialect::OpenAiResponses, Dialect::AnthropicMessages, Dialect::Gemini];
const EVENTS: usize = 1000;

/// Answers at once, with these frames.
#[derive(Clone)]
struct Upstream {
    frames: Arc<[Bytes]>,
    kind: &'static str,
}

struct Frames {
    frames: Arc<[Bytes]>,
    next: usize,
}

impl Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = self.frames.get(self.next).cloned();
        self.next += 1;
        Poll::Ready(frame.map(|frame| Ok(Frame::data(frame))))
    }
}

impl Service<http::Request<Full<Bytes>>> for Upstream {
    type Response = http::Response<Frames>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Full<Bytes>>) -> Self::Future {
        black_box(&request);
        let mut response = http::Response::new(Frames { frames: self.frames.clone(), next: 0 });
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(self.kind));
        ready(Ok(response))
    }
}

/// A conversation of so many bytes, more or less, in each dialect.
fn request(dialect: Dialect, bytes: usize, stream: bool) -> Bytes {
    let text = "The quick brown fox jumps over the lazy dog, and it says \\\"so\\\".\\n".repeat(10);
    let count = (bytes / (text.len() + 60)).max(1);
    let turns = |user: &str, model: &str, open: &str, close: &str| {
        let turn = |number| {
            let role = if number % 2 == 0 { user } else { model };
            format!("{{\"role\":\"{role}\",{open}\"{text}\"{close}}}")
        };
        // The user speaks last.
        (0..count | 1).map(turn).collect::<Vec<_>>().join(",")
    };
    let schema = r#"{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}"#;
    let body = match dialect {
        Dialect::OpenAiChat => format!(
            r#"{{"model":"m","stream":{stream},"temperature":0.5,"messages":[{}],"tools":[{{"type":"function","function":{{"name":"f","parameters":{schema}}}}}]}}"#,
            turns("user", "assistant", "\"content\":", "")
        ),
        Dialect::OpenAiResponses => format!(
            r#"{{"model":"m","stream":{stream},"temperature":0.5,"input":[{}],"tools":[{{"type":"function","name":"f","strict":false,"parameters":{schema}}}]}}"#,
            turns("user", "assistant", "\"content\":", "")
        ),
        Dialect::AnthropicMessages => format!(
            r#"{{"model":"m","stream":{stream},"max_tokens":100,"temperature":0.5,"messages":[{}],"tools":[{{"name":"f","input_schema":{schema}}}]}}"#,
            turns("user", "assistant", "\"content\":", "")
        ),
        _ => format!(
            r#"{{"contents":[{}],"generationConfig":{{"temperature":0.5}},"tools":[{{"functionDeclarations":[{{"name":"f","parametersJsonSchema":{schema}}}]}}]}}"#,
            turns("user", "model", "\"parts\":[{\"text\":", "}]")
        ),
    };
    body.into()
}

fn answer(dialect: Dialect) -> Upstream {
    let body = match dialect {
        Dialect::OpenAiChat => {
            r#"{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}]}"#
        }
        Dialect::OpenAiResponses => {
            r#"{"id":"r","object":"response","created_at":1,"status":"completed","model":"m","output":[{"type":"message","id":"m","role":"assistant","status":"completed","content":[{"type":"output_text","text":"Hi","annotations":[]}]}]}"#
        }
        Dialect::AnthropicMessages => {
            r#"{"id":"m","type":"message","role":"assistant","model":"m","content":[{"type":"text","text":"Hi"}],"stop_reason":"end_turn","usage":{"input_tokens":5,"output_tokens":3}}"#
        }
        _ => {
            r#"{"responseId":"r","modelVersion":"m","candidates":[{"index":0,"content":{"role":"model","parts":[{"text":"Hi"}]},"finishReason":"STOP"}]}"#
        }
    };
    Upstream { frames: [Bytes::from_static(body.as_bytes())].into(), kind: "application/json" }
}

fn stream(dialect: Dialect) -> Upstream {
    let (first, each, last): (Vec<String>, String, Vec<String>) = match dialect {
        Dialect::OpenAiChat => {
            let chunk = |delta: &str, finish: &str| {
                format!(
                    r#"{{"id":"chatcmpl-CQ3yvMrYdGJx5wQ2PZs4NfWbK8HtU","object":"chat.completion.chunk","created":1760000000,"model":"gpt-4o-2024-08-06","choices":[{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{finish}}}]}}"#
                )
            };
            let last = vec![chunk("{}", "\"stop\""), "[DONE]".to_owned()];
            (vec![chunk(r#"{"role":"assistant","content":""}"#, "null")], chunk(r#"{"content":" word"}"#, "null"), last)
        }
        Dialect::OpenAiResponses => {
            let item = r#""item":{"type":"message","id":"m","role":"assistant","content":[]}"#;
            let response = |kind: &str, status: &str| {
                format!(
                    r#"{{"type":"response.{kind}","response":{{"id":"r","object":"response","created_at":1,"model":"m","status":"{status}","output":[]}}}}"#
                )
            };
            let each = r#"{"type":"response.output_text.delta","sequence_number":7,"item_id":"msg_68e0a2d2b7c8","output_index":0,"content_index":0,"delta":" word","logprobs":[]}"#;
            let first = vec![
                response("created", "in_progress"),
                format!(r#"{{"type":"response.output_item.added","output_index":0,{item}}}"#),
            ];
            let last = vec![
                format!(r#"{{"type":"response.output_item.done","output_index":0,{item}}}"#),
                response("completed", "completed"),
            ];
            (first, each.to_owned(), last)
        }
        Dialect::AnthropicMessages => (
            vec![
                r#"{"type":"message_start","message":{"id":"m","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"usage":{"input_tokens":5,"output_tokens":1}}}"#.to_owned(),
                r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#.to_owned(),
            ],
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" word"}}"#.to_owned(),
            vec![
                r#"{"type":"content_block_stop","index":0}"#.to_owned(),
                r#"{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":9}}"#.to_owned(),
                r#"{"type":"message_stop"}"#.to_owned(),
            ],
        ),
        _ => {
            let chunk = |text: &str, finish: &str| {
                format!(
                    r#"{{"candidates":[{{"content":{{"parts":[{{"text":"{text}"}}],"role":"model"}}{finish},"index":0}}],"usageMetadata":{{"promptTokenCount":5,"candidatesTokenCount":9,"totalTokenCount":14}},"modelVersion":"m","responseId":"r"}}"#
                )
            };
            (Vec::new(), chunk(" word", ""), vec![chunk("", r#","finishReason":"STOP""#)])
        }
    };
    let middle = std::iter::repeat_n(each, EVENTS - first.len() - last.len());
    let data = first.into_iter().chain(middle).chain(last);
    let frames = data.map(|data| Bytes::from(format!("data: {data}\n\n"))).collect();
    Upstream { frames, kind: "text/event-stream" }
}

/// One hop; returns how many bytes came back.
fn hop(from: Dialect, to: Dialect, body: &Bytes, upstream: &Upstream) -> usize {
    let provider = Provider::new("p", to, "https://p.example/v1").unwrap();
    let target = Target::new(&provider, "some-model");
    let path = match (from, upstream.kind) {
        (Dialect::OpenAiChat, _) => "/v1/chat/completions",
        (Dialect::OpenAiResponses, _) => "/v1/responses",
        (Dialect::AnthropicMessages, _) => "/v1/messages",
        (Dialect::Gemini, "application/json") => "/v1beta/models/m:generateContent",
        _ => "/v1beta/models/m:streamGenerateContent?alt=sse",
    };
    let mut request = http::Request::post(path).body(Full::new(body.clone())).unwrap();
    request.extensions_mut().insert(RequestContext::new().with_dialect(from).with_target(target));
    let mut service = TranslateLayer::new().layer(upstream.clone());
    let mut context = Context::from_waker(Waker::noop());
    let run = async {
        poll_fn(|context| service.poll_ready(context)).await.map_err(drop).unwrap();
        let response = service.call(request).await.map_err(drop).unwrap();
        let mut body = pin!(response.into_body());
        let mut bytes = 0;
        while let Some(frame) = poll_fn(|context| body.as_mut().poll_frame(context)).await {
            bytes += frame.map_err(drop).unwrap().into_data().map_or(0, |data| data.len());
        }
        bytes
    };
    match pin!(run).poll(&mut context) {
        Poll::Ready(bytes) => bytes,
        Poll::Pending => unreachable!("nothing here waits"),
    }
}

/// Seconds of one call, over so many.
fn time(calls: u32, mut call: impl FnMut()) -> f64 {
    let start = Instant::now();
    (0..calls).for_each(|_| call());
    start.elapsed().as_secs_f64() / f64::from(calls)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn main() {
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let (rounds, requests, streams) = if is_bench { (15, 300, 10) } else { (1, 2, 1) };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!("one thread of {cores} cores; medians of {rounds} rounds; bars: 300 MB/s of requests, 200 k events/s\n");
    println!("{:<42} {:>9} {:>9} {:>12}", "from → to", "MB/s", "µs", "k events/s");
    for from in DIALECTS {
        let (body, asked) = (request(from, 16 << 10, false), request(from, 200, true));
        let upstreams = DIALECTS.map(|to| (to, answer(to), stream(to)));
        let mut times = [const { (Vec::new(), Vec::new()) }; 4];
        let mut parsed = Vec::new();
        for _ in 0..rounds {
            parsed.push(time(requests, || {
                let value: serde_json::Value = serde_json::from_slice(black_box(&body)).unwrap();
                black_box(serde_json::to_vec(&value).unwrap());
            }));
            for ((to, answer, stream), (whole, streamed)) in upstreams.iter().zip(&mut times) {
                whole.push(time(requests, || assert!(hop(from, *to, &body, answer) > 0)));
                streamed.push(time(streams, || assert!(hop(from, *to, &asked, stream) > EVENTS)));
            }
        }
        let megabytes = body.len() as f64 / 1e6;
        let seconds = median(parsed);
        println!(
            "{:<42} {:>9.0} {:>9.1}",
            format!("{from}: serde_json, read and written"),
            megabytes / seconds,
            seconds * 1e6
        );
        for ((to, ..), (whole, streamed)) in upstreams.iter().zip(times) {
            let (whole, streamed) = (median(whole), median(streamed));
            let (speed, events) = (megabytes / whole, EVENTS as f64 / streamed / 1e3);
            let missed = if *to != from && (speed < 300.0 || events < 200.0) { "  below the bar" } else { "" };
            println!("{:<42} {speed:>9.0} {:>9.1} {events:>12.0}{missed}", format!("{from} → {to}"), whole * 1e6);
        }
    }
}
