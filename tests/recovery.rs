//! Streams that break off behind RecoveryLayer and FailoverLayer: what the client reads, and what each target was asked.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use serde_json::{Value, json};
use tower::{Layer, ServiceExt, service_fn};
use tower_failover::{BoxError, FailoverLayer, Fault, FaultKind, RecoveryLayer, RequestContext, Route, Target};

type Frames = Vec<Result<String, Fault>>;
type Script = Box<dyn Fn(&Value) -> Answer + Send + Sync>;

/// What a target does with a request.
enum Answer {
    Stream(Frames),
    Status(u16),
}

/// Targets by name, and what they were asked.
#[derive(Clone, Default)]
struct Targets {
    scripts: Arc<Mutex<HashMap<&'static str, VecDeque<Script>>>>,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
    names: Vec<&'static str>,
}

impl Targets {
    /// Adds a target's next answer.
    fn then(mut self, name: &'static str, script: impl Fn(&Value) -> Answer + Send + Sync + 'static) -> Self {
        self.scripts.lock().unwrap().entry(name).or_default().push_back(Box::new(script));
        if !self.names.contains(&name) {
            self.names.push(name);
        }
        self
    }

    async fn ask(&self, body: &Value) -> Reading {
        let targets = self.clone();
        let upstream = service_fn(move |request: Request<Full<Bytes>>| {
            let targets = targets.clone();
            async move {
                let context = RequestContext::of(request.extensions()).unwrap();
                let name = context.target().unwrap().id().to_string();
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let body: Value = serde_json::from_slice(&body).unwrap();
                let script = targets.scripts.lock().unwrap().get_mut(&*name).and_then(VecDeque::pop_front);
                let answer = script.map_or(Answer::Status(500), |script| script(&body));
                targets.asked.lock().unwrap().push((name, body));
                let (status, kind, frames) = match answer {
                    Answer::Status(status) => (status, "application/json", Vec::new()),
                    Answer::Stream(frames) => (200, "text/event-stream", frames),
                };
                let frames = frames.into_iter().map(|frame| match frame {
                    Ok(text) => Ok(Frame::data(Bytes::from(text))),
                    Err(fault) => Err(BoxError::from(fault)),
                });
                let body = StreamBody::new(tokio_stream::iter(frames));
                Ok::<_, Infallible>(Response::builder().status(status).header("content-type", kind).body(body).unwrap())
            }
        });
        let route = Route::new("r", self.names.iter().map(|name| Target::named(name))).unwrap();
        let service = RecoveryLayer::new().layer(FailoverLayer::new(&route).layer(upstream));
        let request = Request::post("/v1/chat/completions").body(Full::new(Bytes::from(body.to_string()))).unwrap();
        let mut body = service.oneshot(request).await.unwrap().into_body();
        let mut reading = Reading::default();
        let mut text = String::new();
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) => text.push_str(std::str::from_utf8(&frame.into_data().unwrap()).unwrap()),
                Err(error) => reading.error = Some(Fault::find(&*error).unwrap().kind()),
            }
        }
        let events = text.split("\n\n").filter_map(|event| event.strip_prefix("data: "));
        reading.events = events.map(str::to_owned).collect();
        reading
    }

    fn asked(&self) -> Vec<(String, Value)> {
        self.asked.lock().unwrap().clone()
    }
}

/// What a client reads.
#[derive(Debug, Default)]
struct Reading {
    events: Vec<String>,
    error: Option<FaultKind>,
}

impl Reading {
    fn chunks(&self) -> impl Iterator<Item = Value> {
        self.events.iter().filter(|event| *event != "[DONE]").map(|event| serde_json::from_str(event).unwrap())
    }

    fn text(&self) -> String {
        let text = |chunk: Value| chunk["choices"][0]["delta"]["content"].as_str().map(str::to_owned);
        self.chunks().filter_map(text).collect()
    }

    fn finish_reasons(&self) -> Vec<String> {
        let reason = |chunk: Value| chunk["choices"][0]["finish_reason"].as_str().map(str::to_owned);
        self.chunks().filter_map(reason).collect()
    }

    #[track_caller]
    fn assert_complete(&self, text: &str) {
        assert_eq!((self.text().as_str(), self.error), (text, None));
        assert_eq!(self.finish_reasons(), ["stop"]);
        assert_eq!(self.events.last().unwrap(), "[DONE]");
        let ids: std::collections::BTreeSet<_> = self.chunks().map(|chunk| chunk["id"].to_string()).collect();
        assert_eq!(ids.len(), 1, "one answer has one id");
        let roles = self.chunks().filter(|chunk| chunk["choices"][0]["delta"].get("role").is_some()).count();
        assert_eq!(roles, 1);
    }
}

const STORY: &str = "The harbour was quiet that morning. The fishermen mended their nets in silence, and the gulls, \
    who had nothing better to do, watched them from the wall.";

fn chunk(id: &str, delta: &Value, finish_reason: Option<&str>) -> String {
    let choice = json!({"index": 0, "delta": delta, "finish_reason": finish_reason});
    format!("data: {}\n\n", json!({"id": id, "model": format!("model-{id}"), "created": 1, "choices": [choice]}))
}

fn role(id: &str) -> Result<String, Fault> {
    Ok(chunk(id, &json!({"role": "assistant", "content": ""}), None))
}

/// The text in chunks of so many characters.
fn text(id: &str, text: &str, size: usize) -> Frames {
    let chars: Vec<_> = text.chars().collect();
    chars.chunks(size).map(|piece| Ok(chunk(id, &json!({"content": String::from_iter(piece)}), None))).collect()
}

fn delta(id: &str, delta: Value) -> Frames {
    vec![Ok(chunk(id, &delta, None))]
}

fn cut() -> Frames {
    vec![Err(Fault::new(FaultKind::StreamInterrupted, "cut"))]
}

fn end(id: &str) -> Frames {
    vec![Ok(chunk(id, &json!({}), Some("stop"))), Ok("data: [DONE]\n\n".to_owned())]
}

fn stream(id: &str, parts: impl IntoIterator<Item = Frames>) -> Answer {
    Answer::Stream(std::iter::once(role(id)).chain(parts.into_iter().flatten()).collect())
}

/// A target whose stream breaks after so many characters of the story.
fn breaks(id: &'static str, from: usize, to: usize) -> impl Fn(&Value) -> Answer {
    move |_| stream(id, [text(id, &STORY[from..to], 7), cut()])
}

/// A target that says that.
fn says(id: &'static str, what: String) -> impl Fn(&Value) -> Answer {
    move |_| stream(id, [text(id, &what, 5), end(id)])
}

fn request() -> Value {
    json!({"model": "m", "stream": true, "messages": [{"role": "user", "content": "A story, please."}]})
}

#[tokio::test]
async fn a_cut_story_is_told_to_its_end() {
    for at in [3, 20, 71, STORY.len()] {
        let targets = Targets::default().then("a", breaks("a", 0, at)).then("b", move |asked| {
            let begun = asked["messages"][1]["content"].as_str().unwrap();
            stream("b", [text("b", &STORY[begun.len()..], 4), end("b")])
        });
        targets.ask(&request()).await.assert_complete(STORY);
        let asked = targets.asked();
        assert_eq!(asked.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(asked[1].1["messages"][1], json!({"role": "assistant", "content": STORY[..at].trim_end()}));
    }
}

#[tokio::test]
async fn a_target_that_takes_no_prefill_gets_an_instruction() {
    let targets = Targets::default()
        .then("a", breaks("a", 0, 40))
        .then("b", |_| Answer::Status(400))
        .then("b", says("b", STORY[40..].to_owned()));
    targets.ask(&request()).await.assert_complete(STORY);
    let asked = targets.asked();
    assert_eq!(asked.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["a", "b", "b"]);
    let messages = asked[2].1["messages"].as_array().unwrap();
    assert_eq!((messages.len(), &messages[1]["content"]), (3, &json!(STORY[..40].trim_end())));
}

#[tokio::test]
async fn whoever_begins_anew_or_repeats_is_trimmed() {
    for from in [0, 20] {
        let targets = Targets::default().then("a", breaks("a", 0, 60)).then("b", says("b", STORY[from..].to_owned()));
        targets.ask(&request()).await.assert_complete(STORY);
    }
}

#[tokio::test]
async fn what_does_not_fit_ends_with_the_error_that_broke_the_stream() {
    let misfits = [
        STORY.to_uppercase(),
        format!("Sure, continuing: {}", &STORY[60..]),
        STORY.replace("quiet", "loud").replace("nets", "sails"),
        "That morning the harbour was quiet; in silence fishermen mended their nets, watched by gulls.".to_owned(),
    ];
    for misfit in misfits {
        let targets = Targets::default().then("a", breaks("a", 0, 60)).then("b", says("b", misfit.clone()));
        let reading = targets.ask(&request()).await;
        assert_eq!(
            (reading.text().as_str(), reading.error),
            (&STORY[..60], Some(FaultKind::StreamInterrupted)),
            "{misfit}"
        );
        assert!(reading.finish_reasons().is_empty());
    }
}

#[tokio::test]
async fn a_second_break_is_recovered_likewise_and_nobody_is_asked_twice() {
    let targets = Targets::default()
        .then("a", breaks("a", 0, 40))
        .then("b", breaks("b", 39, 130))
        .then("c", says("c", STORY[130..].to_owned()));
    targets.ask(&request()).await.assert_complete(STORY);
    assert_eq!(targets.asked()[2].1["messages"][1]["content"], STORY[..130].trim_end());
}

#[tokio::test]
async fn when_nobody_is_left_the_first_break_is_told() {
    for script in [400, 401, 500] {
        let targets = Targets::default()
            .then("a", breaks("a", 0, 40))
            .then("b", move |_| Answer::Status(script))
            .then("b", move |_| Answer::Status(script));
        let reading = targets.ask(&request()).await;
        assert_eq!((reading.text().as_str(), reading.error), (&STORY[..40], Some(FaultKind::StreamInterrupted)));
    }
}

#[tokio::test]
async fn half_a_tool_call_is_never_seen() {
    let call = |id: &'static str, arguments: &str| {
        delta(id, json!({"tool_calls": [{"index": 0, "id": id, "function": {"name": "f", "arguments": arguments}}]}))
    };
    let targets = Targets::default()
        .then("a", move |_| stream("a", [text("a", "Let me look. ", 4), call("a", "{\"ci"), cut()]))
        .then("b", move |_| stream("b", [call("b", "{\"city\":"), call("b", "\"Rome\"}"), end("b")]));
    let reading = targets.ask(&request()).await;
    reading.assert_complete("Let me look. ");
    let calls: Vec<_> = reading
        .chunks()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["tool_calls"][0]["id"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(calls, ["b", "b"]);
    // Nothing was delivered at all: all of it is asked for again, as the client asked it.
    let targets = Targets::default()
        .then("a", move |_| stream("a", [call("a", "{\"ci"), cut()]))
        .then("b", move |_| stream("b", [call("b", "{}"), end("b")]));
    targets.ask(&request()).await.assert_complete("");
    assert_eq!(targets.asked()[1].1, request());
}

#[tokio::test]
async fn structured_output_is_only_gone_on_with_by_the_same() {
    let mut request = request();
    request["response_format"] = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": {}}});
    for (again, expected) in [(r#"{"city":"Paris"}"#, Ok(())), (r#"{"city":"Rome"}"#, Err(())), (r#"aris"}"#, Err(()))]
    {
        let targets = Targets::default()
            .then("a", |_| stream("a", [text("a", r#"{"city":"P"#, 3), cut()]))
            .then("b", says("b", again.to_owned()));
        let reading = targets.ask(&request).await;
        assert_eq!(targets.asked()[1].1, request, "asked again as it was");
        match expected {
            Ok(()) => reading.assert_complete(again),
            Err(()) => assert_eq!(
                (reading.text().as_str(), reading.error),
                (r#"{"city":"P"#, Some(FaultKind::StreamInterrupted))
            ),
        }
    }
}

#[tokio::test]
async fn reasoning_is_not_told_twice_nor_as_text() {
    let thinks = |id: &'static str, thought: &str| delta(id, json!({"reasoning_content": thought}));
    let targets = Targets::default()
        .then("a", move |_| stream("a", [thinks("a", "Hm, "), cut()]))
        .then("b", move |_| stream("b", [thinks("b", "Well, "), text("b", STORY, 9), end("b")]));
    let reading = targets.ask(&request()).await;
    reading.assert_complete(STORY);
    let thoughts: String = reading
        .chunks()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["reasoning_content"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(thoughts, "Hm, ");
    assert_eq!(targets.asked()[1].1, request());
}

#[tokio::test]
async fn several_answers_log_probabilities_and_audio_end_with_the_error() {
    for (key, value) in [("n", json!(2)), ("logprobs", json!(true)), ("modalities", json!(["text", "audio"]))] {
        let mut request = request();
        request[key] = value;
        let targets = Targets::default().then("a", breaks("a", 0, 40)).then("b", says("b", STORY[40..].to_owned()));
        let reading = targets.ask(&request).await;
        assert_eq!((reading.error, targets.asked().len()), (Some(FaultKind::StreamInterrupted), 1), "{key}");
    }
}

#[tokio::test]
async fn one_whole_answer_does_not_make_the_other_one_whole() {
    let second =
        || Ok(format!("data: {}\n\n", json!({"id": "a", "choices": [{"index": 1, "delta": {"content": "Half"}}]})));
    for asked in [json!(2), Value::Null] {
        let mut request = request();
        request["n"] = asked;
        let targets = Targets::default()
            .then("a", move |_| stream("a", [text("a", STORY, 7), vec![second(), end("a").remove(0)], cut()]))
            .then("b", says("b", STORY.to_owned()));
        let reading = targets.ask(&request).await;
        assert_eq!((reading.error, targets.asked().len()), (Some(FaultKind::StreamInterrupted), 1));
        assert_ne!(reading.events.last().unwrap(), "[DONE]");
    }
}

#[tokio::test]
async fn what_is_whole_needs_no_rest() {
    let without_done = |_: &Value| stream("a", [text("a", STORY, 7), vec![end("a").remove(0)], cut()]);
    let targets = Targets::default().then("a", without_done).then("b", says("b", String::new()));
    let reading = targets.ask(&request()).await;
    assert_eq!((reading.text().as_str(), reading.error, targets.asked().len()), (STORY, None, 1));
    assert_eq!(reading.events.last().unwrap(), "[DONE]");
}

#[tokio::test]
async fn usage_counts_the_answer_once() {
    let usage = |prompt: u64, completion: u64| {
        let usage =
            json!({"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion});
        vec![Ok(format!("data: {}\n\n", json!({"id": "b", "choices": [], "usage": usage})))]
    };
    let targets = Targets::default().then("a", breaks("a", 0, 40)).then("b", move |_| {
        stream("b", [text("b", &STORY[40..], 9), vec![end("b").remove(0)], usage(60, 25), vec![end("b").remove(1)]])
    });
    let reading = targets.ask(&request()).await;
    reading.assert_complete(STORY);
    let told = reading.chunks().last().unwrap()["usage"].clone();
    assert_eq!(told, json!({"prompt_tokens": 50, "completion_tokens": 35, "total_tokens": 85}));
}

#[tokio::test]
async fn a_request_that_is_no_stream_passes_as_it_is() {
    let mut request = request();
    request["stream"] = json!(false);
    let targets = Targets::default().then("a", breaks("a", 0, 40)).then("b", says("b", String::new()));
    let reading = targets.ask(&request).await;
    assert_eq!((reading.error, targets.asked().len()), (Some(FaultKind::StreamInterrupted), 1));
}
