//! Streams that are translated, at their provider's own pace.

#![allow(clippy::unwrap_used)] // what fails here fails the test

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use tower::{Layer, ServiceExt, service_fn};
use tower_failover::{Dialect, FailoverStack, Provider, Route, Target};

/// A provider's events, each after so many seconds.
async fn asked(dialect: Dialect, path: &str, request: Value, events: Vec<(u64, String)>) -> (String, Duration) {
    let client = service_fn(move |_: Request<Full<Bytes>>| {
        let events = futures_util::stream::unfold(events.clone().into_iter(), async |mut events| {
            let (pause, event) = events.next()?;
            sleep(Duration::from_secs(pause)).await;
            Some((Ok::<_, Infallible>(Frame::data(Bytes::from(event))), events))
        });
        let response = Response::builder().header("content-type", "text/event-stream");
        std::future::ready(Ok::<_, Infallible>(response.body(StreamBody::new(Box::pin(events))).unwrap()))
    });
    let provider = Provider::new("p", dialect, "http://127.0.0.1:9").unwrap();
    let route = Route::new("r", [Target::new(&provider, "m")]).unwrap();
    let service = FailoverStack::new(&route).layer(client);
    let began = Instant::now();
    let request = Request::post(path).body(Full::new(Bytes::from(request.to_string()))).unwrap();
    let body = service.oneshot(request).await.unwrap().into_body();
    let told = body.collect().await.unwrap_or_else(|error| panic!("after {:?}: {error}", began.elapsed()));
    (String::from_utf8(told.to_bytes().to_vec()).unwrap(), began.elapsed())
}

fn event(kind: &str, mut data: Value) -> String {
    data["type"] = kind.into();
    format!("event: {kind}\ndata: {data}\n\n")
}

fn begun() -> String {
    let usage = json!({"input_tokens": 1, "output_tokens": 1});
    event(
        "message_start",
        json!({"message": {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": [], "usage": usage}}),
    )
}

fn ended(reason: &str) -> Vec<(u64, String)> {
    let delta = json!({"delta": {"stop_reason": reason}, "usage": {"output_tokens": 9}});
    vec![(1, event("message_delta", delta)), (0, event("message_stop", json!({})))]
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_told_whole_may_take_longer_than_a_stream_may_be_silent() {
    let mut events = vec![
        (0, begun()),
        (0, event("content_block_start", json!({"index": 0, "content_block": {"type": "text", "text": ""}}))),
        (0, event("content_block_delta", json!({"index": 0, "delta": {"type": "text_delta", "text": "So: "}}))),
        (0, event("content_block_stop", json!({"index": 0}))),
        (
            0,
            event(
                "content_block_start",
                json!({"index": 1, "content_block": {"type": "tool_use", "id": "t", "name": "f", "input": {}}}),
            ),
        ),
    ];
    for piece in [r#"{"a""#, r#":"#, r#" [1"#, r#", 2]"#, r#"}"#] {
        let delta = json!({"index": 1, "delta": {"type": "input_json_delta", "partial_json": piece}});
        events.push((50, event("content_block_delta", delta)));
    }
    events.push((0, event("content_block_stop", json!({"index": 1}))));
    events.extend(ended("tool_use"));
    let request = json!({"contents": [{"role": "user", "parts": [{"text": "x"}]}], "tools": [{"functionDeclarations": [{"name": "f"}]}]});
    let path = "/v1beta/models/r:streamGenerateContent?alt=sse";
    let (told, took) = asked(Dialect::AnthropicMessages, path, request, events).await;
    assert_eq!(took.as_secs(), 251);
    assert!(told.contains(r#""args":{"a": [1, 2]}"#) || told.contains(r#""args":{"a":[1,2]}"#), "{told}");
}

#[tokio::test(start_paused = true)]
async fn an_end_that_is_held_back_until_the_provider_is_done_is_no_silence() {
    let text =
        |text: &str| event("content_block_delta", json!({"index": 0, "delta": {"type": "text_delta", "text": text}}));
    let mut events = vec![
        (0, begun()),
        (0, event("content_block_start", json!({"index": 0, "content_block": {"type": "text", "text": ""}}))),
        (0, text("Hi")),
        (58, event("message_delta", json!({"delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}}))),
    ];
    // Behind the reason for its end there is nothing but signs of life.
    events.extend((0..100).map(|_| (1, event("ping", json!({})))));
    let request = json!({"contents": [{"role": "user", "parts": [{"text": "x"}]}]});
    let path = "/v1beta/models/r:streamGenerateContent?alt=sse";
    let (told, took) = asked(Dialect::AnthropicMessages, path, request, events).await;
    assert!(told.contains(r#""finishReason":"STOP""#), "{told}");
    assert!(took.as_secs() < 70, "{took:?}");
}
