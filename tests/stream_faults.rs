//! Every fault of a stream at every point of it, for targets of each dialect and clients of their own and of another one:
//! what a client reads is all of an answer, or a beginning of one that ends with an error in its own words.
//!
//! `streams.rs` has the same for OpenAI's chat completions event by event.

#![allow(clippy::unwrap_used)] // what fails here fails the test

mod harness;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use harness::Served;
use http::Request;
use http_body_util::{BodyExt, Full};
use serde_json::{Value as Json, json};
use tower_failover::{
    Dialect,
    simulated::{SimulatedFault, SimulatedProvider, StreamFault, StreamPoint},
};

/// What both providers say.
const STORY: &str =
    "Am Morgen war der Hafen still. Die Fischer flickten schweigend ihre Netze, und die Möwen sahen ihnen zu.";

/// What a route does about streams that break: its name, and its settings.
const MODES: [(&str, &str); 3] =
    [("terminate", ""), ("complete", "commit = \"complete\""), ("resume", "stream_recovery = \"resume\"")];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Ask {
    Text,
    ToolCall,
    Structured,
    Reasoning,
}

impl Ask {
    const ALL: [Ask; 4] = [Ask::Text, Ask::ToolCall, Ask::Structured, Ask::Reasoning];

    fn points(self) -> &'static [StreamPoint] {
        use StreamPoint::*;
        match self {
            Ask::Text => &[BeforeOutput, AtFirstOutput, InText, AfterFinishReason],
            Ask::ToolCall => &[BeforeOutput, AtFirstOutput, InToolCall, AfterFinishReason],
            Ask::Structured => &[BeforeOutput, AtFirstOutput, InStructuredOutput, AfterFinishReason],
            Ask::Reasoning => &[BeforeOutput, AtFirstOutput, InReasoning, InText, AfterFinishReason],
        }
    }

    /// What a client of that dialect sends, and where to.
    fn request(self, dialect: Dialect, route: &str) -> (String, Json) {
        let hello = "Say something.";
        let schema = json!({"type": "object", "required": ["city", "days", "note"], "properties": {
            "city": {"type": "string"}, "days": {"type": "integer"}, "note": {"type": "string"},
        }, "additionalProperties": false});
        let (path, mut body, added) = match dialect {
            Dialect::OpenAiChat => (
                "/v1/chat/completions".to_owned(),
                json!({"model": route, "stream": true, "messages": [{"role": "user", "content": hello}]}),
                match self {
                    Ask::Text => json!({}),
                    Ask::ToolCall => {
                        json!({"tools": [{"type": "function", "function": {"name": "f", "parameters": schema}}]})
                    }
                    Ask::Structured => {
                        json!({"response_format": {"type": "json_schema", "json_schema": {"name": "w", "schema": schema}}})
                    }
                    Ask::Reasoning => json!({"reasoning_effort": "low"}),
                },
            ),
            Dialect::OpenAiResponses => (
                "/v1/responses".to_owned(),
                json!({"model": route, "stream": true, "input": hello}),
                match self {
                    Ask::Text => json!({}),
                    Ask::ToolCall => json!({"tools": [{"type": "function", "name": "f", "parameters": schema}]}),
                    Ask::Structured => {
                        json!({"text": {"format": {"type": "json_schema", "name": "w", "schema": schema}}})
                    }
                    Ask::Reasoning => json!({"reasoning": {"effort": "low", "summary": "auto"}}),
                },
            ),
            Dialect::AnthropicMessages => (
                "/v1/messages".to_owned(),
                json!({"model": route, "stream": true, "max_tokens": 4000, "messages": [{"role": "user", "content": hello}]}),
                match self {
                    Ask::Text => json!({}),
                    Ask::ToolCall => json!({"tools": [{"name": "f", "input_schema": schema}]}),
                    Ask::Structured => json!({"output_config": {"format": {"type": "json_schema", "schema": schema}}}),
                    Ask::Reasoning => json!({"thinking": {"type": "enabled", "budget_tokens": 1024}}),
                },
            ),
            _ => (
                format!("/v1beta/models/{route}:streamGenerateContent?alt=sse"),
                json!({"contents": [{"role": "user", "parts": [{"text": hello}]}]}),
                match self {
                    Ask::Text => json!({}),
                    Ask::ToolCall => {
                        json!({"tools": [{"functionDeclarations": [{"name": "f", "parametersJsonSchema": schema}]}]})
                    }
                    Ask::Structured => {
                        json!({"generationConfig": {"responseMimeType": "application/json", "responseJsonSchema": schema}})
                    }
                    Ask::Reasoning => {
                        json!({"generationConfig": {"thinkingConfig": {"includeThoughts": true, "thinkingBudget": 1024}}})
                    }
                },
            ),
        };
        body.as_object_mut().unwrap().extend(added.as_object().unwrap().clone());
        (path, body)
    }
}

/// What a client reads of a stream, each kind in one piece.
#[derive(Clone, Debug, Default, PartialEq)]
struct Read {
    text: String,
    thoughts: String,
    arguments: String,
    finish: String,
    /// Whether the last event is an error in the client's words.
    error: bool,
    /// Whether the stream ends without a break of its connection.
    clean: bool,
}

impl Read {
    fn of(dialect: Dialect, stream: &str, clean: bool) -> Read {
        let mut read = Read { clean, ..Read::default() };
        for data in stream.lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim) {
            if data == "[DONE]" {
                continue;
            }
            let event: Json = serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {data}"));
            read.error = event["type"] == "error" || event["error"].is_object() || event["type"] == "response.failed";
            match dialect {
                Dialect::OpenAiChat => read.chat(&event["choices"][0]),
                Dialect::OpenAiResponses => read.responses(&event),
                Dialect::AnthropicMessages => read.messages(&event),
                _ => read.gemini(&event["candidates"][0]),
            }
        }
        read
    }

    fn chat(&mut self, choice: &Json) {
        let delta = &choice["delta"];
        self.text += delta["content"].as_str().unwrap_or_default();
        self.thoughts += delta["reasoning_content"].as_str().unwrap_or_default();
        self.arguments += delta["tool_calls"][0]["function"]["arguments"].as_str().unwrap_or_default();
        self.finish += choice["finish_reason"].as_str().unwrap_or_default();
    }

    fn responses(&mut self, event: &Json) {
        let delta = event["delta"].as_str().unwrap_or_default();
        match event["type"].as_str().unwrap() {
            "response.output_text.delta" => self.text += delta,
            "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" => self.thoughts += delta,
            "response.function_call_arguments.delta" => self.arguments += delta,
            "response.completed" => self.finish += "completed",
            _ => {}
        }
    }

    fn messages(&mut self, event: &Json) {
        let delta = &event["delta"];
        self.text += delta["text"].as_str().unwrap_or_default();
        self.thoughts += delta["thinking"].as_str().unwrap_or_default();
        self.arguments += delta["partial_json"].as_str().unwrap_or_default();
        self.finish += delta["stop_reason"].as_str().unwrap_or_default();
    }

    fn gemini(&mut self, candidate: &Json) {
        for part in candidate["content"]["parts"].as_array().into_iter().flatten() {
            let text = part["text"].as_str().unwrap_or_default();
            if part["thought"] == true { &mut self.thoughts } else { &mut self.text }.push_str(text);
            if part["functionCall"].is_object() {
                self.arguments += &part["functionCall"]["args"].to_string();
            }
        }
        self.finish += candidate["finishReason"].as_str().unwrap_or_default();
    }

    /// Whether it may be the beginning of that.
    fn begins(&self, whole: &Read) -> bool {
        whole.text.starts_with(&self.text)
            && whole.thoughts.starts_with(&self.thoughts)
            && whole.arguments.starts_with(&self.arguments)
    }
}

async fn read(served: &Served, client: Dialect, path: &str, body: &Json) -> Read {
    let request = Request::post(served.url(path)).header("anthropic-version", "2023-06-01");
    let response = harness::send(request.body(Full::new(Bytes::from(body.to_string()))).unwrap()).await;
    let (head, mut body) = response.into_parts();
    let mut all = Vec::new();
    let clean = loop {
        match body.frame().await {
            Some(Ok(frame)) => all.extend(frame.into_data().unwrap_or_default()),
            Some(Err(_)) => break false,
            None => break true,
        }
    };
    let stream = String::from_utf8(all).unwrap();
    assert_eq!(head.status, 200, "{client} {path}: {stream}");
    Read::of(client, &stream, clean)
}

/// A client of one dialect before a primary and a fallback of another.
struct Pair {
    client: Dialect,
    target: Dialect,
}

impl Pair {
    /// A gateway of a cell's own, so that its primary can be as broken as the cell says.
    async fn serve(&self, primary: &SimulatedProvider, fallback: &SimulatedProvider) -> Served {
        let mut toml = "[defaults]\nretry = { attempts = 1 }\n\
            timeout = { first_output = \"1500ms\", idle = \"1500ms\", response = \"10s\", total = \"20s\" }\n"
            .to_owned();
        for (name, provider) in [("primary", primary), ("fallback", fallback)] {
            let (dialect, base_url) = (self.target, provider.base_url());
            let base_url = match dialect {
                Dialect::OpenAiChat | Dialect::OpenAiResponses => &*base_url,
                _ => base_url.trim_end_matches("/v1"),
            };
            toml += &format!("[providers.{name}]\ndialect = \"{dialect}\"\nbase_url = \"{base_url}\"\n");
        }
        for (mode, settings) in MODES {
            toml += &format!(
                "[routes.{mode}]\n{settings}\ntargets = [{{ provider = \"primary\", model = \"p\" }}, \
                 {{ provider = \"fallback\", model = \"f\" }}]\n"
            );
        }
        Served::with_config(&toml).await
    }

    async fn check(&self, mode: &str, ask: Ask, fault: StreamFault, at: StreamPoint) {
        let what = format!("{} of {}, {mode}, {ask:?}, {fault}@{at}", self.client, self.target);
        let start = |name| SimulatedProvider::builder(name).answer(STORY).start();
        let (primary, fallback) = (start("primary").await.unwrap(), start("fallback").await.unwrap());
        let served = self.serve(&primary, &fallback).await;
        let (path, body) = ask.request(self.client, mode);
        let whole = read(&served, self.client, &path, &body).await;
        assert!(whole.clean && !whole.error && !whole.finish.is_empty(), "{what}: {whole:?}");
        assert!([&whole.text, &whole.arguments].iter().any(|said| said.len() > 20), "{what}: {whole:?}");
        assert_eq!(fallback.request_count(), 0, "{what}");

        // Gemini tells a call in one event, and what was thought only to those who ask for it, as no chat client can.
        let whole_call = at == StreamPoint::InToolCall && self.target == Dialect::Gemini;
        if whole_call || (at == StreamPoint::InReasoning && whole.thoughts.is_empty()) {
            return;
        }
        primary.set_fault(SimulatedFault::Stream { fault, at });
        let told = read(&served, self.client, &path, &body).await;
        assert_eq!(primary.request_count(), 2, "{what}");
        let begun = !matches!(at, StreamPoint::BeforeOutput | StreamPoint::AfterFinishReason);
        if mode == "terminate" && begun {
            assert!(told.begins(&whole), "{what}: {told:?} is no beginning of {whole:?}");
            assert!(!told.clean && told.error && told.finish.is_empty(), "{what}: {told:?}");
            assert_eq!(fallback.request_count(), 0, "{what}");
        } else {
            // What was thought is not thought again by whoever completes an answer.
            let told = if begun { Read { thoughts: whole.thoughts.clone(), ..told } } else { told };
            assert_eq!(told, whole, "{what}");
            assert_eq!(fallback.request_count() > 0, at != StreamPoint::AfterFinishReason, "{what}");
        }
    }
}

#[tokio::test]
async fn every_fault_at_every_point_in_every_mode_for_targets_of_every_dialect() {
    let mut pairs = Vec::new();
    for (place, target) in Dialect::ALL.iter().enumerate() {
        let other = Dialect::ALL[(place + 1) % Dialect::ALL.len()];
        pairs.extend([*target, other].map(|client| Pair { client, target: *target }));
    }
    let mut cells = Vec::new();
    for pair in &pairs {
        // What becomes of streams that are held or completed does not depend on whether they are translated.
        let modes = if pair.client == pair.target { &MODES[..] } else { &MODES[..1] };
        for (mode, _) in modes {
            for ask in Ask::ALL {
                for at in ask.points() {
                    // Seventeen megabytes of one event are the same to all of them.
                    let faults = StreamFault::ALL.iter().filter(|fault| **fault != StreamFault::Oversized);
                    cells.extend(faults.map(|fault| pair.check(mode, ask, *fault, *at)));
                }
            }
        }
    }
    // A few at a time: many of them wait for a timeout.
    let checked = stream::iter(cells).buffer_unordered(24).count().await;
    assert_eq!(checked, (4 * 3 + 4) * 17 * 7);
}
