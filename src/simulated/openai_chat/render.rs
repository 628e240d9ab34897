//! An answer as a chat completion, whole or as its chunks.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::{DONE, event};
use crate::simulated::answer::{Answer, Asked, Ending, Events, Part, json_pieces, now, text_pieces, tokens};
use crate::simulated::server::Server;

const FINGERPRINT: &str = "fp_51a0a7ed00";

/// What all chunks of one answer have in common.
#[derive(Clone, Debug)]
pub(super) struct Stamp {
    id: String,
    created: u64,
    ending: Ending,
}

impl Stamp {
    pub(super) fn new(server: &Server, ending: Ending) -> Self {
        Self { id: format!("chatcmpl-{}", server.next_id()), created: now(), ending }
    }
}

pub(super) fn whole(asked: &Asked, answer: &Answer, stamp: &Stamp, server: &Server) -> Value {
    let mut message = json!({"role": "assistant", "content": null, "refusal": null, "annotations": []});
    match answer {
        Answer::Text(text) | Answer::Json(text) => message["content"] = Value::from(text.as_str()),
        Answer::Calls(calls) => {
            let call = |call: &crate::simulated::answer::Call| {
                json!({
                    "id": call_id(server),
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                })
            };
            message["tool_calls"] = calls.iter().map(call).collect();
        }
    }
    if let Some(reasoning) = asked.reasoning() {
        message["reasoning_content"] = reasoning.into();
    }
    json!({
        "id": stamp.id,
        "object": "chat.completion",
        "created": stamp.created,
        "model": asked.model,
        "choices": [{
            "index": 0,
            "message": message,
            "logprobs": null,
            "finish_reason": finish_reason(answer, &stamp.ending),
        }],
        "usage": usage(asked, answer),
        "service_tier": "default",
        "system_fingerprint": FINGERPRINT,
    })
}

pub(super) fn events(asked: &Asked, answer: &Answer, stamp: &Stamp, server: &Server) -> Events {
    let most = server.settings.chunks;
    let delta = |delta: Value| chunk(asked, stamp, delta, Value::Null);
    let mut events = Events::default();
    events.opening.push(delta(match answer {
        Answer::Text(_) | Answer::Json(_) => json!({"role": "assistant", "content": "", "refusal": null}),
        Answer::Calls(_) => json!({"role": "assistant", "content": null}),
    }));
    for piece in asked.reasoning().iter().flat_map(|reasoning| text_pieces(reasoning, most)) {
        events.output.push((Part::Reasoning, delta(json!({"reasoning_content": piece}))));
    }
    match answer {
        Answer::Text(_) | Answer::Json(_) => {
            let part = if matches!(answer, Answer::Json(_)) { Part::StructuredOutput } else { Part::Text };
            for piece in answer.text_pieces(most) {
                events.output.push((part, delta(json!({"content": piece}))));
            }
        }
        Answer::Calls(calls) => {
            let mut send = |call: Value| events.output.push((Part::ToolCall, delta(json!({"tool_calls": [call]}))));
            for (index, call) in calls.iter().enumerate() {
                send(json!({
                    "index": index,
                    "id": call_id(server),
                    "type": "function",
                    "function": {"name": call.name, "arguments": ""},
                }));
                for piece in json_pieces(&call.arguments, most) {
                    send(json!({"index": index, "function": {"arguments": piece}}));
                }
            }
        }
    }
    let finish = Value::from(finish_reason(answer, &stamp.ending));
    events.ending.push(chunk(asked, stamp, json!({}), finish));
    if asked.stream_usage {
        let mut last = envelope(asked, stamp);
        last.insert("choices".to_owned(), json!([]));
        last.insert("usage".to_owned(), usage(asked, answer));
        events.ending.push(event(&Value::Object(last)));
    }
    events.ending.push(Bytes::from_static(DONE));
    events
}

fn chunk(asked: &Asked, stamp: &Stamp, delta: Value, finish: Value) -> Bytes {
    let mut chunk = envelope(asked, stamp);
    let choice = json!({"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish});
    chunk.insert("choices".to_owned(), json!([choice]));
    if asked.stream_usage {
        chunk.insert("usage".to_owned(), Value::Null);
    }
    event(&Value::Object(chunk))
}

fn envelope(asked: &Asked, stamp: &Stamp) -> Map<String, Value> {
    let fields = [
        ("id", Value::from(stamp.id.as_str())),
        ("object", "chat.completion.chunk".into()),
        ("created", stamp.created.into()),
        ("model", asked.model.as_str().into()),
        ("service_tier", "default".into()),
        ("system_fingerprint", FINGERPRINT.into()),
    ];
    fields.map(|(name, value)| (name.to_owned(), value)).into_iter().collect()
}

fn call_id(server: &Server) -> String {
    format!("call_{}", server.next_id())
}

fn finish_reason(answer: &Answer, ending: &Ending) -> &'static str {
    match (answer, ending) {
        (Answer::Calls(_), _) => "tool_calls",
        (_, Ending::Length) => "length",
        (_, Ending::Whole | Ending::Stopped(_)) => "stop",
    }
}

fn usage(asked: &Asked, answer: &Answer) -> Value {
    let reasoning = asked.reasoning().map_or(0, |reasoning| tokens(&reasoning));
    let (prompt, completion) = (asked.prompt_tokens, answer.tokens() + reasoning);
    json!({
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    })
}
